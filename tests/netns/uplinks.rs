//! Two providers: what leaves as a floating IP leaves by the provider of its pool.

use std::net::IpAddr;

use ipfloater::model::Family;

use super::daemon::{Daemon, Start};
use super::lab::{Host, Lab, floating};
use super::namespace::eventually;
use super::service::PORT;
use super::talk::{Tcp, Transport, Udp, saw};

/// A second pool, on the second provider's link.
const TWO_POOLS: Start = Start {
    configuration: "[POOL second]
IP_POOL = 192.0.2.10-192.0.2.29, 2001:db8:2::10-2001:db8:2::29
OUTSIDE_INTERFACE = wan1
PROBE = no",
    ..Start::PLAIN
};

/// The same, and its next hops are in the configuration.
pub(super) const NAMED_GATEWAY: Start = Start {
    configuration: "[POOL second]
IP_POOL = 192.0.2.10-192.0.2.29, 2001:db8:2::10-2001:db8:2::29
OUTSIDE_INTERFACE = wan1
GATEWAY = 192.0.2.1, 2001:db8:2::1
PROBE = no",
    ..Start::PLAIN
};

/// The default routes of the second provider, as a client of DHCP and router
/// advertisements make them: behind those of the first.
const SECOND_DEFAULT: &str = "route add default via 192.0.2.1 metric 2048
    route add default via 2001:db8:2::1 metric 2048";

/// The floating IP of the second pool with that last number.
pub(super) fn second(family: Family, number: u8) -> IpAddr {
    let text = match family {
        Family::V4 => format!("192.0.2.{number}"),
        Family::V6 => format!("2001:db8:2::{number}"),
    };
    text.parse().expect("it is an address")
}

/// Two providers, and the router has a default route to either.
fn two_providers() -> (Lab, Host) {
    let lab = Lab::new();
    let second = lab.second_provider();
    lab.router.ip(SECOND_DEFAULT);
    (lab, second)
}

/// A host of each pool: host_a of the first, host_b of the second.
fn tie(lab: &Lab, daemon: &Daemon, family: Family) {
    daemon.associate(floating(family, 10), &lab.host_a);
    daemon.associate(second(family, 10), &lab.host_b);
}

/// Both hosts are reached from afar and reach there, each as its floating IP.
fn assert_both_reach_far(lab: &Lab, family: Family) {
    let far = lab.far.address(family);
    for (host, floating) in [
        (&lab.host_a, floating(family, 10)),
        (&lab.host_b, second(family, 10)),
    ] {
        for transport in Transport::BOTH {
            assert_eq!(
                lab.far.ask(transport, floating),
                saw(host, far),
                "{floating}"
            );
            assert_eq!(
                host.ask(transport, far),
                saw(&lab.far, floating),
                "{floating}"
            );
        }
        assert_eq!(lab.far.ping(floating), Ok(floating));
        assert_eq!(host.ping(far), Ok(far));
    }
}

/// The routing rules and the tables of uplinks.
fn routing(lab: &Lab) -> String {
    let all = [
        "-4 rule",
        "-6 rule",
        "-4 route show table all",
        "-6 route show table all",
    ];
    let shown = all.map(|what| lab.router.program(&format!("ip {what}")));
    let lines = shown.iter().flat_map(|text| text.lines());
    let ours = lines.filter(|line| line.contains("proto 245") && !line.starts_with("local"));
    ours.map(|line| format!("{line}\n")).collect()
}

#[test]
fn what_is_answered_and_what_a_host_begins_leaves_by_its_provider() {
    for start in [TWO_POOLS, NAMED_GATEWAY] {
        let (lab, _second) = two_providers();
        if start.configuration == NAMED_GATEWAY.configuration {
            lab.router.ip(&SECOND_DEFAULT.replace("add", "delete"));
        }
        let daemon = lab.start_with(start);
        for family in Family::BOTH {
            tie(&lab, &daemon, family);
            assert_both_reach_far(&lab, family);
        }
    }
}

/// How a router may know its way out by the second provider, besides by a
/// default route with a higher metric.
#[test]
fn the_way_out_is_found_however_the_router_knows_it() {
    for (what, orders, start) in [
        (
            "one route with two hops",
            "route delete default
             -6 route delete default
             route add default nexthop via 198.51.100.1 dev wan0 nexthop via 192.0.2.1 dev wan1
             -6 route add default nexthop via 2001:db8::1 dev wan0 nexthop via 2001:db8:2::1 dev wan1",
            TWO_POOLS,
        ),
        (
            "nexthop objects",
            "nexthop add id 7 via 192.0.2.1 dev wan1
             nexthop add id 8 via 2001:db8:2::1 dev wan1
             route add default nhid 7 metric 2048
             -6 route add default nhid 8 metric 2048",
            TWO_POOLS,
        ),
        (
            "a link with one other end, which answers for all",
            "route add default dev wan1 metric 2048
             -6 route add default via fe80::1 dev wan1 metric 2048",
            TWO_POOLS,
        ),
        (
            "next hops of the configuration, out of the networks of the link",
            "",
            Start {
                configuration: "[POOL second]
IP_POOL = 192.0.2.10-192.0.2.29, 2001:db8:2::10-2001:db8:2::29
OUTSIDE_INTERFACE = wan1
GATEWAY = 198.18.7.1, fe80::1
PROBE = no",
                ..Start::PLAIN
            },
        ),
    ] {
        let lab = Lab::new();
        let provider = lab.second_provider();
        provider.ip("address add fe80::1/64 dev eth0 nodad
            address add 198.18.7.1/32 dev eth0");
        provider.sysctl("net.ipv4.conf.eth0.proxy_arp=1 net.ipv4.conf.eth0.arp_ignore=0");
        for order in orders.lines() {
            lab.router.program(&format!("ip {}", order.trim()));
        }
        println!("{what}");
        let daemon = lab.start_with(start);
        for family in Family::BOTH {
            tie(&lab, &daemon, family);
            assert_both_reach_far(&lab, family);
        }
    }
}

#[test]
fn an_uplink_whose_interface_comes_anew_is_led_to_again() {
    let (lab, provider) = two_providers();
    let daemon = lab.start_with(NAMED_GATEWAY);
    for family in Family::BOTH {
        tie(&lab, &daemon, family);
    }
    provider.ip("link delete eth0");
    for family in Family::BOTH {
        eventually("it waits", || daemon.state(second(family, 10)) == "pending");
    }
    provider.ip(&format!(
        "link add eth0 index 210 type veth peer name wan1 netns {}
         address add 192.0.2.1/24 dev eth0
         address add 2001:db8:2::1/64 dev eth0 nodad
         link set eth0 up",
        lab.router.path()
    ));
    lab.router.ip("address add 192.0.2.2/24 dev wan1
         address add 2001:db8:2::2/64 dev wan1 nodad
         link set wan1 up");
    for family in Family::BOTH {
        eventually("it is back", || {
            daemon.state(second(family, 10)) == "active"
        });
        let far = lab.far.address(family);
        eventually("and reached", || {
            lab.far.ask_briefly(Udp, second(family, 10)) == saw(&lab.host_b, far)
        });
        assert_both_reach_far(&lab, family);
    }
}

#[test]
fn a_host_with_forwards_from_both_providers_answers_by_the_one_it_was_asked_by() {
    let (lab, _second) = two_providers();
    let daemon = lab.start_with(TWO_POOLS);
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
        daemon.forward(second(family, 11), "8080", Tcp, &lab.host_a, PORT, "");
        let far = lab.far.address(family);
        for _ in 0..3 {
            let by_second = lab.far.ask_port(Tcp, second(family, 11), 8080);
            assert_eq!(by_second, saw(&lab.host_a, far));
            let by_first = lab.far.ask(Tcp, floating(family, 10));
            assert_eq!(by_first, saw(&lab.host_a, far));
            // What it begins itself is the first's.
            let begun = lab.host_a.ask(Tcp, far);
            assert_eq!(begun, saw(&lab.far, floating(family, 10)));
        }
    }
}

#[test]
fn an_address_of_the_other_provider_takes_over_and_the_flows_it_keeps_stay() {
    let (lab, _second) = two_providers();
    let daemon = lab.start_with(TWO_POOLS);
    for family in Family::BOTH {
        let far = lab.far.address(family);
        tie(&lab, &daemon, family);
        let flow = lab
            .far
            .converse(Tcp, second(family, 10))
            .expect("it can begin");
        let flow = flow.keep_talking();
        flow.wait_for_more(5);
        let (to, fixed) = (second(family, 10), lab.host_c.address(family));
        daemon.order(&format!(
            "associate {to} {fixed} --reassociate --keep-established"
        ));
        // Whoever asks anew reaches the new host, and both are answered for.
        assert_eq!(lab.far.ask(Tcp, to), saw(&lab.host_c, far));
        assert_eq!(lab.host_c.ask(Udp, far), saw(&lab.far, to));
        flow.wait_for_more(10);
        let report = flow.end();
        report.assert_whole(&saw(&lab.host_b, far), "begun before");
        // host_a changes from the first provider to the second.
        daemon.disassociate(floating(family, 10));
        daemon.associate(second(family, 11), &lab.host_a);
        assert_eq!(lab.host_a.ask(Tcp, far), saw(&lab.far, second(family, 11)));
        assert_eq!(lab.far.ask(Udp, second(family, 11)), saw(&lab.host_a, far));
    }
}

#[test]
fn a_provider_that_fails_is_not_replaced_by_the_other() {
    let (lab, provider) = two_providers();
    let daemon = lab.start_with(TWO_POOLS);
    for family in Family::BOTH {
        tie(&lab, &daemon, family);
    }
    // The kernel takes the routes of an interface with it, and the addresses of
    // IPv6.
    lab.router.ip("link set wan1 down");
    for family in Family::BOTH {
        let address = second(family, 10);
        eventually("it waits", || daemon.state(address) == "pending");
        let sniffer = lab.outside.sniff();
        let mut flow = lab
            .host_b
            .converse(Udp, lab.far.address(family))
            .expect("a socket");
        let _ = flow.mention();
        // What comes after it has come, and nothing before.
        assert!(lab.host_a.ask(Udp, lab.far.address(family)).is_ok());
        let strayed = sniffer.packets(|packet| packet.says(&flow.tag()));
        assert_eq!(strayed, [], "it left by the other provider");
    }
    lab.router.ip("link set wan1 up
        address replace 2001:db8:2::2/64 dev wan1 nodad");
    eventually("the link is there", || {
        provider
            .ping_briefly("192.0.2.2".parse().expect("a constant"))
            .is_ok()
    });
    for family in Family::BOTH {
        let address = second(family, 10);
        eventually("it waits for a route", || {
            daemon.show(address)["reason"]
                .to_string()
                .contains("no default route leads out")
        });
    }
    lab.router.ip(SECOND_DEFAULT);
    for family in Family::BOTH {
        eventually("it is back", || {
            daemon.state(second(family, 10)) == "active"
        });
        assert_both_reach_far(&lab, family);
    }
}

#[test]
fn a_lease_that_is_renewed_cuts_nothing() {
    let (lab, _second) = two_providers();
    let daemon = lab.start_with(TWO_POOLS);
    for family in Family::BOTH {
        tie(&lab, &daemon, family);
        let flow = lab.far.converse(Udp, second(family, 10)).expect("a socket");
        let flow = flow.keep_talking();
        flow.wait_for_more(5);
        let route = SECOND_DEFAULT
            .lines()
            .nth(usize::from(family == Family::V6));
        let route = route.expect("there is one of each family");
        lab.router.ip(&route.replace("add", "delete"));
        flow.wait_for_more(50);
        lab.router.ip(route);
        flow.wait_for_more(10);
        let far = lab.far.address(family);
        flow.end().assert_whole(&saw(&lab.host_b, far), "meanwhile");
    }
}

#[test]
fn flows_go_on_while_the_daemon_is_away_and_comes_back() {
    let (lab, _second) = two_providers();
    let mut daemon = lab.start_with(TWO_POOLS);
    for family in Family::BOTH {
        tie(&lab, &daemon, family);
        let far = lab.far.address(family);
        let asked = lab
            .far
            .converse(Tcp, second(family, 10))
            .expect("it can begin");
        let begun = lab.host_b.converse(Tcp, far).expect("it can begin");
        let flows = [asked, begun].map(|flow| flow.keep_talking());
        let before = routing(&lab);
        daemon.kill();
        flows.iter().for_each(|flow| flow.wait_for_more(10));
        daemon.start(&lab.router);
        daemon.stop();
        daemon.start(&lab.router);
        flows.iter().for_each(|flow| flow.wait_for_more(10));
        assert_eq!(routing(&lab), before);
        let answers = [saw(&lab.host_b, far), saw(&lab.far, second(family, 10))];
        for (flow, answer) in flows.into_iter().zip(answers) {
            flow.end().assert_whole(&answer, "over the restart");
        }
    }
}

#[test]
fn rules_and_routes_that_somebody_takes_away_are_put_back() {
    let (lab, _second) = two_providers();
    let daemon = lab.start_with(TWO_POOLS);
    for family in Family::BOTH {
        tie(&lab, &daemon, family);
    }
    let whole = routing(&lab);
    for family in ["-4", "-6"] {
        for edit in [
            "rule delete pref 24500",
            "rule delete pref 24501",
            "route flush table 24501",
            "rule add pref 24501 fwmark 0x5 table 7 protocol 245",
        ] {
            let repairs = daemon.repairs();
            lab.router.program(&format!("ip {family} {edit}"));
            eventually("it is put right", || routing(&lab) == whole);
            if !edit.starts_with("rule add") {
                eventually("it is counted", || daemon.repairs() > repairs);
            }
        }
    }
    for family in Family::BOTH {
        assert_both_reach_far(&lab, family);
    }
}

#[test]
fn rules_routes_and_bits_of_others_are_left_alone() {
    let (lab, _second) = two_providers();
    // Somebody else's rule with our preference, and somebody else's marks.
    lab.router.ip("rule add pref 24501 fwmark 0x77 table 77");
    let others = || lab.router.program("ip rule show fwmark 0x77");
    let before = others();
    lab.router.nft(
        "table inet marks {
           counter kept {
           }
           counter lost {
           }
           chain before {
             type filter hook prerouting priority raw
             meta mark set 0x21
           }
           chain behind {
             type filter hook postrouting priority 300
             oifname wan1 iifname lan0 meta mark and 0xffffff == 0x21 counter name kept
             oifname wan1 iifname lan0 meta mark and 0xffffff != 0x21 counter name lost
           }
         }",
    );
    let mut daemon = lab.start_with(TWO_POOLS);
    for family in Family::BOTH {
        tie(&lab, &daemon, family);
        assert_both_reach_far(&lab, family);
    }
    let counter = |name: &str| {
        lab.router
            .program(&format!("nft list counter inet marks {name}"))
    };
    assert!(
        !counter("kept").contains("packets 0 "),
        "{}",
        counter("kept")
    );
    assert!(!counter("lost").contains("bytes 0 ") || counter("lost").contains("packets 0 "));
    daemon.stop();
    let torn_down = daemon.tear_down(&lab.router);
    let said = String::from_utf8_lossy(&torn_down.stdout).into_owned();
    assert!(torn_down.status.success(), "{said}");
    assert!(said.contains("routing rules"), "{said}");
    assert_eq!(routing(&lab), "");
    assert_eq!(others(), before);
}

#[test]
fn what_the_main_table_knows_better_goes_there() {
    // A network behind a VPN, of which only the router has a route: here, far by
    // the first provider.
    let (lab, _second) = two_providers();
    for family in Family::BOTH {
        let (far, prefix, via) = match family {
            Family::V4 => (lab.far.address(family), 32, "198.51.100.1"),
            Family::V6 => (lab.far.address(family), 128, "2001:db8::1"),
        };
        lab.router
            .ip(&format!("route add {far}/{prefix} via {via}"));
    }
    let daemon = lab.start_with(TWO_POOLS);
    for family in Family::BOTH {
        daemon.associate(second(family, 10), &lab.host_b);
        let sniffer = lab.outside.sniff();
        let mut flow = lab
            .host_b
            .converse(Udp, lab.far.address(family))
            .expect("a socket");
        let _ = flow.mention();
        sniffer.wait_for("it goes by the route", |packet| {
            packet.source == second(family, 10) && packet.says(&flow.tag())
        });
        // From LAN to LAN nothing is altered.
        let (from, to) = (lab.host_b.address(family), lab.host_c.address(family));
        assert_eq!(lab.host_b.ask(Udp, to), saw(&lab.host_c, from));
        // And from inside to the address of the other provider.
        daemon.associate(floating(family, 10), &lab.host_a);
        assert!(lab.host_b.ask(Tcp, floating(family, 10)).is_ok());
        assert!(lab.host_a.ask(Tcp, second(family, 10)).is_ok());
    }
}

#[test]
fn what_is_never_translated_takes_the_way_of_the_router() {
    let (lab, _second) = two_providers();
    let daemon = lab.start_with(Start {
        configuration: "NEVER_TRANSLATE = 203.0.113.0/24, 2001:db8:f::/48
[POOL second]
IP_POOL = 192.0.2.10-192.0.2.29, 2001:db8:2::10-2001:db8:2::29
OUTSIDE_INTERFACE = wan1
PROBE = no",
        ..Start::PLAIN
    });
    for family in Family::BOTH {
        daemon.associate(second(family, 10), &lab.host_b);
        let sniffer = lab.outside.sniff();
        let mut flow = lab
            .host_b
            .converse(Udp, lab.far.address(family))
            .expect("a socket");
        for _ in 0..3 {
            let _ = flow.mention();
            sniffer.wait_for("it leaves as it is", |packet| {
                packet.source == lab.host_b.address(family) && packet.says(&flow.tag())
            });
        }
    }
}

#[test]
fn a_strict_reverse_path_filter_passes_what_it_should_with_src_valid_mark() {
    let (lab, _second) = two_providers();
    lab.router.sysctl(
        "net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.wan0.rp_filter=1 net.ipv4.conf.wan1.rp_filter=1 \
         net.ipv4.conf.all.src_valid_mark=1",
    );
    let daemon = lab.start_with(TWO_POOLS);
    tie(&lab, &daemon, Family::V4);
    assert_both_reach_far(&lab, Family::V4);
}

#[test]
fn with_one_provider_there_are_no_marks_rules_or_routes() {
    let lab = Lab::new();
    let mut daemon = lab.start_with(Start {
        configuration: "OUTSIDE_INTERFACE = wan0",
        ..Start::PLAIN
    });
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
    }
    let chains = || lab.router.program("nft list table inet ipfloater");
    assert_eq!(routing(&lab), "");
    assert!(!chains().contains("meta mark"), "{}", chains());
    // They come with a second one, and go with it.
    let _second = lab.second_provider();
    lab.router.ip(SECOND_DEFAULT);
    let one = daemon.directory().join("ipfloaterd.conf");
    let one = std::fs::read_to_string(one).expect("it was written");
    assert!(one.contains("OUTSIDE_INTERFACE = wan0"));
    daemon.configure(TWO_POOLS.configuration);
    daemon.order("reload");
    for family in Family::BOTH {
        daemon.associate(second(family, 10), &lab.host_b);
        assert_both_reach_far(&lab, family);
        daemon.release(second(family, 10));
    }
    assert!(chains().contains("meta mark"));
    daemon.configure("OUTSIDE_INTERFACE = wan0");
    daemon.order("reload");
    assert_eq!(routing(&lab), "");
    assert!(!chains().contains("meta mark"), "{}", chains());
    for family in Family::BOTH {
        let far = lab.far.address(family);
        assert_eq!(
            lab.host_a.ask(Tcp, far),
            saw(&lab.far, floating(family, 10))
        );
        assert!(lab.host_b.ask_briefly(Udp, far).is_err());
    }
}

#[test]
fn where_no_way_out_is_known_the_log_says_so_once_and_the_main_table_decides() {
    let lab = Lab::new();
    let _second = lab.second_provider();
    let daemon = lab.start_with(TWO_POOLS);
    let told = "default route leads out by wan1";
    for family in Family::BOTH {
        daemon.associate(second(family, 10), &lab.host_b);
        assert_eq!(daemon.state(second(family, 10)), "active");
        let sniffer = lab.outside.sniff();
        let far = lab.far.address(family);
        let mut flow = lab.host_b.converse(Udp, far).expect("a socket");
        let _ = flow.mention();
        sniffer.wait_for("it leaves by the default route", |packet| {
            packet.source == second(family, 10) && packet.says(&flow.tag())
        });
    }
    let routing = routing(&lab);
    assert!(
        !routing.contains("24502") && !routing.contains("wan1"),
        "{routing}"
    );
    assert_eq!(daemon.log().matches(told).count(), 2, "{}", daemon.log());
}

#[test]
fn a_gateway_that_the_kernel_refuses_is_named_and_tried_again() {
    let lab = Lab::new();
    let _second = lab.second_provider();
    // One's own address is nobody to hand packets to.
    let mut daemon = lab.start_with(Start {
        configuration: "[POOL second]
IP_POOL = 192.0.2.10-192.0.2.29, 2001:db8:2::10-2001:db8:2::29
OUTSIDE_INTERFACE = wan1
GATEWAY = 192.0.2.2, 2001:db8:2::1
PROBE = no",
        ..Start::PLAIN
    });
    let problems = |daemon: &Daemon| daemon.json("status")["problems"].to_string();
    let named = problems(&daemon);
    assert!(
        named.contains("ip route add default via 192.0.2.2"),
        "{named}"
    );
    // Everything else is served meanwhile, and it is no less true then.
    daemon.associate(floating(Family::V4, 10), &lab.host_a);
    assert_eq!(problems(&daemon), named);
    daemon.order(&format!(
        "associate {} {}",
        second(Family::V4, 10),
        lab.host_b.v4
    ));
    assert_eq!(daemon.state(second(Family::V4, 10)), "pending");
    daemon.configure(NAMED_GATEWAY.configuration);
    daemon.order("reload");
    eventually("all is well", || problems(&daemon) == "[]");
    eventually("it is in force", || {
        daemon.state(second(Family::V4, 10)) == "active"
    });
    assert_both_reach_far(&lab, Family::V4);
}
