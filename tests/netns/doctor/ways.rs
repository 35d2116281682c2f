//! Interfaces, routes and neighbours.

use ipfloater::model::Family;
use serde_json::Value;

use super::super::daemon::Start;
use super::super::lab::{Lab, Plan, floating};
use super::super::namespace::eventually;
use super::super::talk::{Udp, saw};
use super::{Clinic, findings, text};

/// A second uplink of the router, by which its own packets leave.
fn second_uplink(lab: &Lab) {
    lab.outside.ip(&format!(
        "link add eth1 type veth peer name wan1 netns {}
         address add 192.0.2.1/24 dev eth1
         link set eth1 up",
        lab.router.path()
    ));
    lab.router.ip("address add 192.0.2.2/24 dev wan1
         link set wan1 up
         route replace default via 192.0.2.1");
}

#[test]
fn forwarding_that_is_off() {
    let clinic = Clinic::new();
    for (family, setting) in [
        (Family::V4, "net.ipv4.ip_forward=0"),
        (Family::V4, "net.ipv4.conf.wan0.forwarding=0"),
        (Family::V6, "net.ipv6.conf.all.forwarding=0"),
    ] {
        let finding = clinic.ail("forwarding-off", |lab| lab.router.sysctl(setting));
        assert_eq!(finding["severity"], "error");
        assert!(text(&finding, "what").starts_with(&family.to_string()));
        clinic.is_closed(family);
        clinic.mend("forwarding-off");
        clinic.passes(family);
    }
}

#[test]
fn no_default_route_that_shows_the_outside_interface() {
    let clinic = Clinic::new();
    clinic.lacks("no-outside-interface");
    // One family's shows it for the other.
    clinic.shell("ip -6 route delete default via 2001:db8::1");
    clinic.lacks("no-outside-interface");
    clinic.shell("ip route delete default via 198.51.100.1");
    let found = clinic.all("no-outside-interface");
    let remedies: Vec<_> = found.iter().map(|found| text(found, "remedy")).collect();
    let add = "route add default via GATEWAY";
    assert_eq!(remedies, [format!("ip {add}"), format!("ip -6 {add}")]);
    clinic.is_closed(Family::V4);
    clinic.shell("ip route add default via 198.51.100.1");
    clinic.lacks("no-outside-interface");
    clinic.shell("ip -6 route add default via 2001:db8::1");
    eventually("the daemon noticed", || clinic.all("pending").is_empty());
    for family in Family::BOTH {
        clinic.passes(family);
    }
}

#[test]
fn an_outside_interface_that_is_not_there() {
    let clinic = Clinic::named();
    clinic.lacks("pending");
    clinic.ail("interface-missing", Lab::unplug);
    eventually("the daemon noticed", || {
        let pending = clinic.all("pending");
        // Four addresses for one reason are told of at once.
        pending.len() == 1 && text(&pending[0], "what").starts_with("4 addresses are pending")
    });
    clinic.lab.plug();
    clinic.lacks("interface-missing");
    eventually("the daemon noticed", || clinic.all("pending").is_empty());
}

#[test]
fn interfaces_that_are_down() {
    let clinic = Clinic::named();
    let finding = clinic.ail("interface-down", |lab| lab.router.ip("link set wan0 down"));
    assert_eq!(text(&finding, "what"), "the outside interface wan0 is down");
    clinic.is_closed(Family::V4);
    // The routes went with it.
    clinic.mend("interface-down");
    clinic.shell("ip route add default via 198.51.100.1");
    eventually("the daemon noticed", || clinic.all("pending").is_empty());
    clinic.passes(Family::V4);
}

#[test]
fn interfaces_without_carrier() {
    let clinic = Clinic::named();
    let finding = clinic.ail("no-carrier", |lab| {
        lab.outside.ip("link set eth0 down");
        eventually("the carrier is gone", || {
            lab.router
                .program("ip link show wan0")
                .contains("NO-CARRIER")
        });
    });
    assert_eq!(
        text(&finding, "what"),
        "the outside interface wan0 has no carrier"
    );
    clinic.shell(text(&finding, "remedy"));
    clinic.lab.outside.ip("link set eth0 up");
    eventually("the carrier is back", || {
        clinic.all("no-carrier").is_empty()
    });

    clinic.lab.host_c.ip("link set eth0 down");
    eventually("the carrier is gone", || {
        let found = clinic.all("no-carrier");
        found.len() == 1 && text(&found[0], "what") == "the inside interface lan1 has no carrier"
    });
}

#[test]
fn a_reverse_path_filter() {
    let clinic = Clinic::named();
    second_uplink(&clinic.lab);
    let asks = || {
        let Lab { far, .. } = &clinic.lab;
        far.ask_briefly(Udp, floating(Family::V4, 10))
    };
    let finding = clinic.ail("rp-filter", |lab| {
        lab.router.sysctl("net.ipv4.conf.wan0.rp_filter=1");
    });
    assert!(asks().is_err());
    assert!(text(&finding, "why").ends_with("the way back to the internet is by wan1"));
    clinic.mend("rp-filter");
    assert_eq!(asks(), saw(&clinic.lab.host_a, clinic.lab.far.v4.into()));
}

#[test]
fn a_router_that_is_set_not_to_answer() {
    for (setting, paths) in [
        ("net.ipv4.conf.all.arp_ignore=1", 1),
        ("net.ipv4.conf.wan0.arp_ignore=2", 1),
        (
            "net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.wan0.arp_ignore=8",
            2,
        ),
    ] {
        let clinic = Clinic::new();
        let Clinic { lab, .. } = &clinic;
        // Which is not one that it looks at.
        lab.router.sysctl("net.ipv4.conf.lan0.arp_ignore=8");
        let finding = clinic.ail("arp-ignore", |lab| lab.router.sysctl(setting));
        assert_eq!(finding["severity"], "error");
        assert_eq!(
            text(&finding, "remedy").split("; ").count(),
            paths,
            "{finding}"
        );
        let asked = floating(Family::V4, 10);
        // Until then it is announced.
        eventually("nobody answers", || {
            lab.outside.hardware_address_of(asked).is_none()
        });
        clinic.mend("arp-ignore");
        assert!(lab.outside.hardware_address_of(asked).is_some());
    }
}

#[test]
fn an_address_that_was_tried_in_vain() {
    let clinic = Clinic::new();
    let Clinic { lab, .. } = &clinic;
    let about = |address: &str| findings(&clinic.run(&format!("--json {address}")), "no-answers");
    for family in Family::BOTH {
        let address = floating(family, 10).to_string();
        assert_eq!(about(&address), Vec::<Value>::new());
        // Its answers go another way: the router is not its gateway.
        let host = lab.host_a.address(family);
        let [router, elsewhere] = match family {
            Family::V4 => ["ip route replace default via 10.0.1.1", "10.0.1.12"],
            Family::V6 => ["ip -6 route replace default via fd00:1::1", "fd00:1::12"],
        };
        let (replace, _) = router.rsplit_once(' ').expect("a constant");
        lab.host_a.program(&format!("{replace} {elsewhere}"));
        clinic.is_closed(family);
        let found = about(&address);
        assert_eq!(found.len(), 1, "{host}: {found:?}");
        assert_eq!(found[0]["severity"], "warning");
        assert!(text(&found[0], "what").ends_with("its host answered none"));
        let shown = clinic.shell(text(&found[0], "remedy"));
        assert!(shown.contains("UNREPLIED"), "{shown}");
        lab.host_a.program(router);
        clinic.passes(family);
        assert_eq!(about(&address), Vec::<Value>::new());
    }
}

/// The provider sends what is for the address elsewhere.
#[test]
fn an_address_that_the_provider_does_not_bring() {
    let clinic = Clinic::new();
    let Clinic { lab, .. } = &clinic;
    lab.outside.ip("route add blackhole 198.51.100.10/32");
    clinic.is_closed_out(Family::V4);
    let found = findings(&clinic.run("--json 198.51.100.10"), "no-answers");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(text(&found[0], "what").ends_with("from 198.51.100.10 none was answered"));
    lab.outside.ip("route delete blackhole 198.51.100.10/32");
    clinic.passes(Family::V4);
    assert_eq!(
        findings(&clinic.run("--json 198.51.100.10"), "no-answers").len(),
        0
    );
}

#[test]
fn hosts_without_a_route() {
    let clinic = Clinic::new();
    for (family, first, network, remedy, cure) in [
        (
            Family::V4,
            "route replace unreachable 10.0.1.11",
            "there is no route to 10.0.1.11: No route to host",
            "ip route add 10.0.1.11 dev INTERFACE",
            "ip route delete unreachable 10.0.1.11",
        ),
        (
            Family::V4,
            "route delete 10.0.1.0/24",
            "the route to 10.0.1.11 leads outside, by wan0",
            "ip route add 10.0.1.11 dev INTERFACE",
            "ip route add 10.0.1.11 dev lan0",
        ),
        (
            Family::V6,
            "route replace blackhole fd00:1::11",
            "there is no route to fd00:1::11: Invalid argument",
            "ip route add fd00:1::11 dev INTERFACE",
            "ip route delete blackhole fd00:1::11",
        ),
    ] {
        let finding = clinic.ail("no-route", |lab| lab.router.ip(first));
        assert_eq!(finding["address"], floating(family, 10).to_string());
        assert_eq!(text(&finding, "what"), network);
        assert_eq!(text(&finding, "remedy"), remedy);
        clinic.is_closed(family);
        clinic.shell(cure);
        clinic.lacks("no-route");
        clinic.passes(family);
    }
    clinic.shell("ip address add 10.0.1.11/32 dev lan0");
    let finding = clinic.finding("no-route");
    assert_eq!(
        text(&finding, "what"),
        "10.0.1.11 is an address of the router itself"
    );
    assert!(clinic.shell(text(&finding, "remedy")).contains("lan0"));
}

#[test]
fn hosts_whose_packets_find_no_way_outside() {
    let clinic = Clinic::named();
    for (family, route) in [
        (Family::V4, "default via 198.51.100.1"),
        (Family::V6, "default via 2001:db8::1"),
    ] {
        clinic.lacks("no-route-out");
        clinic.shell(&format!("ip route delete {route}"));
        let found = clinic.all("no-route-out");
        assert_eq!(found.len(), 2, "those of host_a and host_c: {found:?}");
        let remedy = text(&found[0], "remedy");
        let to = if family == Family::V6 { "-6 " } else { "" };
        assert_eq!(remedy, format!("ip {to}route add default via GATEWAY"));
        clinic.is_closed_out(family);
        clinic.shell(&format!("ip route add {route}"));
        clinic.lacks("no-route-out");
        clinic.passes(family);
    }
}

#[test]
fn hosts_whose_packets_leave_by_another_interface() {
    let clinic = Clinic::named();
    clinic.lacks("leaves-elsewhere");
    second_uplink(&clinic.lab);
    let found = clinic.all("leaves-elsewhere");
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(
        text(&found[0], "what"),
        "what 10.0.1.11 sends leaves by wan1, which is no outside interface"
    );
    assert!(clinic.shell(text(&found[0], "remedy")).contains("wan1"));
    let Lab { far, host_a, .. } = &clinic.lab;
    let answer = host_a.ask_briefly(Udp, far.v4.into());
    assert_ne!(answer, saw(far, floating(Family::V4, 10)));
    clinic.shell("ip route replace default via 198.51.100.1");
    clinic.lacks("leaves-elsewhere");
    clinic.passes(Family::V4);
}

/// The daemon leads them out by the uplink of their pool, whatever the default
/// route says.
#[test]
fn hosts_whose_packets_leave_by_the_uplink_of_their_pool() {
    let clinic = Clinic::named();
    second_uplink(&clinic.lab);
    clinic.lacks("no-route-out");
    clinic.shell(
        "ip route replace default via 192.0.2.1 metric 100
         ip route add default via 198.51.100.1 metric 200
         ip route delete default via 192.0.2.1 metric 0",
    );
    eventually("the daemon noticed", || {
        clinic.all("leaves-elsewhere").is_empty()
    });
    for id in ["no-route", "no-route-out", "not-forwarded", "pending"] {
        clinic.lacks(id);
    }
    clinic.passes(Family::V4);
    let shown = clinic.shell("ip route get 198.41.0.4");
    assert!(shown.contains("wan1"), "the router itself: {shown}");
}

#[test]
fn a_rule_that_forbids_the_way() {
    let clinic = Clinic::new();
    for (family, to) in [(Family::V4, "10.0.1.11"), (Family::V6, "fd00:1::11")] {
        let which = if family == Family::V6 { "-6 " } else { "" };
        clinic.lacks("not-forwarded");
        clinic.shell(&format!("ip {which}rule add iif wan0 to {to} prohibit"));
        let finding = clinic.finding("not-forwarded");
        assert_eq!(finding["address"], floating(family, 10).to_string());
        clinic.is_closed(family);
        let shown = clinic.shell(text(&finding, "remedy"));
        assert!(shown.contains("prohibit"), "{shown}");
        clinic.shell(&format!("ip {which}rule delete iif wan0 to {to} prohibit"));
        clinic.lacks("not-forwarded");
        clinic.passes(family);
    }
}

#[test]
fn a_host_that_does_not_answer() {
    let clinic = Clinic::new();
    for (family, fixed) in [(Family::V4, "10.0.1.99"), (Family::V6, "fd00:1::99")] {
        let address = floating(family, 12);
        clinic.daemon.order(&format!("associate {address} {fixed}"));
        // Nobody has sent it anything, and nobody is asked about all addresses.
        clinic.lacks("no-neighbour");
        let output = clinic.run(&format!("--json {address}"));
        let found = findings(&output, "no-neighbour");
        assert_eq!(found.len(), 1, "{output:?}");
        let what = format!("{fixed} does not answer on lan0");
        assert_eq!(text(&found[0], "what"), what);
        let shown = clinic.shell(text(&found[0], "remedy"));
        assert!(shown.contains("FAILED"), "{shown}");
        // The kernel knows now.
        assert_eq!(text(&clinic.finding("no-neighbour"), "what"), what);
        let prefix = if family == Family::V6 {
            "64 nodad"
        } else {
            "24"
        };
        clinic
            .lab
            .host_b
            .ip(&format!("address add {fixed}/{prefix} dev eth0"));
        eventually("it answers", || {
            let output = clinic.run(&format!("--json {address}"));
            findings(&output, "no-neighbour").is_empty()
        });
        clinic.lacks("no-neighbour");
        clinic.lab.far.ping_briefly(address).expect("it answers");
    }
}

#[test]
fn an_inside_that_takes_longer_packets() {
    let clinic = Clinic::new();
    clinic.lacks("mtu");
    clinic.lab.router.ip("link set wan0 mtu 1400");
    let found = clinic.all("mtu");
    let whats: Vec<_> = found.iter().map(|found| text(found, "what")).collect();
    assert_eq!(
        whats,
        [
            "packets on lan0 may have 1500 bytes, on wan0 only 1400",
            "packets on lan1 may have 1500 bytes, on wan0 only 1400"
        ]
    );
    for finding in &found {
        assert_eq!(finding["severity"], "note");
        clinic.shell(text(finding, "remedy"));
    }
    clinic.lacks("mtu");
    clinic.passes(Family::V4);
}

#[test]
fn a_bridge_that_shows_its_packets() {
    let plan = Plan {
        bridge_in_router: true,
    };
    let clinic = Clinic::with(plan, Start::PLAIN);
    for family in Family::BOTH {
        let Lab { host_a, .. } = &clinic.lab;
        let floating = floating(family, 10);
        let mine = format!("their {family} floating IPs");
        let found = clinic.all("bridge-netfilter");
        let found = found
            .iter()
            .find(|found| text(found, "what").contains(&mine));
        let remedy = text(found.expect("it is found"), "remedy");
        assert!(host_a.ask_briefly(Udp, floating).is_err());
        clinic.shell(remedy);
        assert_eq!(host_a.ask(Udp, floating), saw(host_a, floating));
    }
    clinic.lacks("bridge-netfilter");
}

/// What is printed can be copied, whatever an interface is called.
#[test]
fn names_that_a_shell_would_take_for_something_else() {
    let clinic = Clinic::named();
    let name = "lan$(id);'1";
    clinic.lab.router.run(|| {
        let renamed = std::process::Command::new("ip")
            .args(["link", "set", "lan1", "name", name])
            .status();
        assert!(renamed.expect("it is there").success());
    });
    clinic.lab.router.ip("link set wan0 mtu 1400");
    let found = clinic.all("mtu");
    let found = found
        .iter()
        .find(|found| text(found, "what").contains(name))
        .expect("it is found");
    clinic.shell(text(found, "remedy"));
    assert!(clinic.shell("ip -o link show").contains("lan$(id);'1@"));
    let left = clinic.all("mtu");
    assert_eq!(left.len(), 1, "{left:?}");
}
