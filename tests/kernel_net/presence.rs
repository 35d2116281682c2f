//! Who answers for an address on the outside link, and who is told.

use std::collections::HashMap;
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use ipfloater::kernel::{Announcer, Kernel, Neighbours, PacketNeighbours};
use ipfloater::model::{Announcing, FloatingIp};

use super::namespace::eventually;
use super::{Lab, floating_ips};

/// What the neighbour outside knows of an address: `… lladdr … STALE` or the
/// like, `… FAILED` when nobody answered.
fn known_outside(lab: &Lab, floating: FloatingIp) -> String {
    lab.outside
        .program(&format!("ip neigh show to {floating} dev eth0"))
}

/// The neighbour outside forgets everything, and asks who has the address.
fn ask_outside(lab: &Lab, floating: FloatingIp) -> String {
    lab.outside.ip("neigh flush dev eth0 nud all");
    lab.outside.run(|| {
        let any = if floating.ip().is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any).expect("a port is free");
        socket
            .send_to(b"anybody there?", (floating.ip(), 9))
            .expect("the packet waits for the answer");
    });
    let mut known = String::new();
    eventually("the neighbour has got an answer or given up", || {
        known = known_outside(lab, floating);
        known.contains("lladdr") || known.contains("FAILED")
    });
    known
}

fn mac(lab: &Lab) -> String {
    let mac = lab.link().mac.expect("a veth has an Ethernet address");
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[test]
fn an_address_is_answered_for_until_it_is_withdrawn() {
    let lab = Lab::new();
    let mut kernel = lab.kernel();
    let router = mac(&lab);
    for floating in floating_ips() {
        let known = ask_outside(&lab, floating);
        assert!(known.contains("FAILED"), "nobody has it yet: {known}");
    }
    let on_wan = lab.on_wan();
    for again in ["at first", "again"] {
        let refused = kernel.present(&on_wan);
        assert!(refused.is_empty(), "{again}: {refused:?}");
    }
    for floating in floating_ips() {
        let known = ask_outside(&lab, floating);
        assert!(known.contains(&router), "the router has it: {known}");
    }
    for again in ["at first", "again"] {
        let refused = kernel.withdraw(&on_wan);
        assert!(refused.is_empty(), "{again}: {refused:?}");
    }
    for floating in floating_ips() {
        let known = ask_outside(&lab, floating);
        assert!(known.contains("FAILED"), "nobody has it again: {known}");
    }
}

#[test]
fn a_fresh_start_recognises_what_an_earlier_one_presented() {
    let lab = Lab::new();
    let on_wan = lab.on_wan();
    assert!(lab.kernel().present(&on_wan).is_empty());

    let observed = lab.kernel().observe_links().expect("links can be listed");

    assert_eq!(observed.presence, HashMap::from(on_wan));
    for (floating, _) in on_wan {
        assert!(
            !observed.surroundings.is_router(floating.ip()),
            "{floating} is not the router's own"
        );
    }
}

#[test]
fn an_address_of_somebody_else_stays_when_ours_goes() {
    let lab = Lab::new();
    let [(floating, index), _] = lab.on_wan();
    lab.router
        .ip("route add local 198.51.100.10/32 dev lo table local proto 77");
    let mut kernel = lab.kernel();

    assert!(kernel.present(&[(floating, index)]).is_empty());
    let observed = kernel.observe_links().expect("links can be listed");
    assert_eq!(observed.presence.get(&floating), Some(&index));

    assert!(kernel.withdraw(&[(floating, index)]).is_empty());
    let left = lab
        .router
        .program("ip route show table local 198.51.100.10");
    assert!(
        left.contains("proto 77") && left.lines().count() == 1,
        "{left}"
    );
}

#[test]
fn the_router_never_speaks_with_a_floating_ip_of_its_own_accord() {
    let lab = Lab::new();
    assert!(lab.kernel().present(&lab.on_wan()).is_empty());
    for (to, own) in [
        ("198.51.100.1", "198.51.100.2"),
        ("2001:db8::1", "2001:db8::2"),
    ] {
        let route = lab.router.program(&format!("ip route get {to}"));
        assert!(route.contains(&format!("src {own} ")), "{route}");
    }
}

#[test]
fn an_interface_that_goes_down_loses_its_ipv6_address_and_takes_it_again() {
    let lab = Lab::new();
    let (on_wan, router) = (lab.on_wan(), mac(&lab));
    let mut kernel = lab.kernel();
    assert!(kernel.present(&on_wan).is_empty());
    lab.router.ip("link set wan0 down");
    let observed = kernel.observe_links().expect("links can be listed");
    // A local route goes with the interface only, not with its being up.
    assert_eq!(observed.presence, HashMap::from([on_wan[0]]));

    assert!(kernel.present(&on_wan).is_empty());
    lab.router.ip("link set wan0 up");
    let observed = kernel.observe_links().expect("links can be listed");
    assert_eq!(observed.presence, HashMap::from(on_wan));
    for floating in floating_ips() {
        let known = ask_outside(&lab, floating);
        assert!(known.contains(&router), "the router has it: {known}");
    }
}

#[test]
fn an_interface_that_is_gone_refuses_and_has_nothing_to_withdraw() {
    let lab = Lab::new();
    let on_wan = lab.on_wan();
    let mut kernel = lab.kernel();
    lab.router.ip("link del wan0");
    let errors = kernel.present(&on_wan);
    let errnos: Vec<_> = errors.iter().map(|(_, error)| error.errno()).collect();
    assert_eq!(errnos, [Some(nix::libc::ENODEV); 2], "{errors:?}");
    let errors = kernel.withdraw(&on_wan);
    assert!(errors.is_empty(), "what is gone is gone: {errors:?}");
}

#[test]
fn all_default_routes_are_seen_with_their_gateways() {
    let lab = Lab::new();
    lab.router.ip("link add lan0 type bridge\n\
         link set lan0 up\n\
         route add default metric 50 proto 77 dev lan0\n\
         route add unreachable default metric 1\n\
         route add default metric 20 nexthop via 198.51.100.1 dev wan0 nexthop via 198.51.100.3 dev wan0\n\
         route add default via 2001:db8::1 dev wan0\n\
         route add default via 198.51.100.9 dev wan0 table 100");

    let observed = lab.kernel().observe_links().expect("links can be listed");

    let wan = Some("wan0".parse().expect("a constant"));
    assert_eq!(observed.default_route4, wan);
    assert_eq!(observed.default_route6, wan);
    let mut gateways = observed.surroundings.gateways;
    gateways.sort();
    let expected = ["198.51.100.1", "198.51.100.3", "2001:db8::1"];
    assert_eq!(
        gateways,
        expected.map(|text| text.parse::<IpAddr>().expect("a constant"))
    );
}

/// The outside believes that another machine has both addresses.
fn mislead_outside(lab: &Lab) {
    for floating in floating_ips() {
        lab.outside.ip(&format!(
            "neigh replace {floating} lladdr 02:00:00:00:00:99 nud stale dev eth0"
        ));
    }
}

#[test]
fn a_neighbour_that_remembers_another_machine_is_corrected() {
    let lab = Lab::new();
    let (link, router) = (lab.link(), mac(&lab));
    let mut neighbours = lab.router.run(PacketNeighbours::open).expect("root may");
    mislead_outside(&lab);
    // Linux ignores another change for a second (locktime, arp(7)).
    std::thread::sleep(Duration::from_millis(1_100));
    for floating in floating_ips() {
        neighbours
            .announce(floating, &link)
            .expect("the link is up");
        eventually("the neighbour heeds one announcement", || {
            known_outside(&lab, floating).contains(&router)
        });
    }
}

#[test]
fn a_neighbour_that_must_not_believe_the_first_announcement_believes_a_later_one() {
    let lab = Lab::new();
    let (link, router) = (lab.link(), mac(&lab));
    let neighbours = lab.router.run(PacketNeighbours::open).expect("root may");
    let announcer = Announcer::start(Box::new(neighbours)).expect("a thread starts");
    mislead_outside(&lab);
    let begun = Instant::now();
    for floating in floating_ips() {
        announcer.announce(floating, &link, Announcing::default());
    }
    for floating in floating_ips() {
        eventually("the neighbour heeds an announcement", || {
            known_outside(&lab, floating).contains(&router)
        });
    }
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "three rounds are over long before"
    );
}

#[test]
fn nothing_is_announced_once_an_address_is_withdrawn() {
    let lab = Lab::new();
    let link = lab.link();
    let neighbours = lab.router.run(PacketNeighbours::open).expect("root may");
    let announcer = Announcer::start(Box::new(neighbours)).expect("a thread starts");
    for floating in floating_ips() {
        announcer.announce(floating, &link, Announcing::default());
        announcer.withdraw(floating);
    }
    std::thread::sleep(Duration::from_millis(100));
    mislead_outside(&lab);
    // Longer than all rounds.
    std::thread::sleep(Duration::from_millis(3_500));
    for floating in floating_ips() {
        let known = known_outside(&lab, floating);
        assert!(known.contains("02:00:00:00:00:99"), "{known}");
    }
}
