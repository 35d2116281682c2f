//! Other machines on the outside link that have, or say that they have, an
//! address of the pool.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipfloater::dataplane::{IfIndex, Link};
use ipfloater::kernel::{Neighbours, PacketNeighbours};
use ipfloater::model::{Family, HardwareAddress};
use nix::net::if_::if_nametoindex;

use super::daemon::{Daemon, Start};
use super::lab::{Host, Lab, floating};
use super::namespace::{BRIEFLY, eventually};
use super::sniffer::{Packet, Seen, Sniffer};
use super::talk::{Tcp, saw};

/// The daemon as it is when its configuration does not say otherwise.
const ASKS: Start = Start {
    configuration: "PROBE = yes",
    ..Start::PLAIN
};

/// How often somebody was asked about an address by one who has none himself: an
/// ARP probe (RFC 5227 2.1.1), or a solicitation from nobody (RFC 4862 5.4.2).
fn probes(sniffer: &Sniffer, address: IpAddr) -> usize {
    let is_probe = |seen: &Seen| match (seen, address) {
        (
            Seen::Arp {
                operation: 1,
                sender,
                target,
                ..
            },
            IpAddr::V4(address),
        ) => *sender == Ipv4Addr::UNSPECIFIED && *target == address,
        (Seen::Ip(packet), IpAddr::V6(address)) => {
            packet.incoming
                && packet.is_icmp(0xff, 135)
                && packet.source.is_unspecified()
                && packet.payload[8..24] == address.octets()
        }
        (Seen::Arp { .. }, _) | (Seen::Ip(_), IpAddr::V4(_)) => false,
    };
    sniffer.seen().iter().filter(|seen| is_probe(seen)).count()
}

/// How often this hardware address was told for an address.
fn claims(sniffer: &Sniffer, address: IpAddr, by: HardwareAddress) -> usize {
    let told = |packet: &Packet| packet.payload.get(26..32) == Some(&by.0[..]);
    let is_claim = |seen: &Seen| match (seen, address) {
        (
            Seen::Arp {
                sender, hardware, ..
            },
            IpAddr::V4(address),
        ) => *sender == address && *hardware == by.0,
        (Seen::Ip(packet), IpAddr::V6(address)) => {
            packet.is_icmp(0xff, 136) && packet.payload[8..24] == address.octets() && told(packet)
        }
        (Seen::Arp { .. }, _) | (Seen::Ip(_), IpAddr::V4(_)) => false,
    };
    sniffer.seen().iter().filter(|seen| is_claim(seen)).count()
}

/// An interface of a host, as somebody who announces on it needs it.
fn link(host: &Host, interface: &str) -> Link {
    let shown = host.program(&format!("ip -o link show {interface}"));
    let mut words = shown.split_whitespace();
    let mac = words
        .by_ref()
        .skip_while(|word| *word != "link/ether")
        .nth(1);
    let mac: HardwareAddress = mac.and_then(|mac| mac.parse().ok()).expect("it has one");
    Link {
        index: IfIndex(host.run(|| if_nametoindex(interface)).expect("it is there")),
        up: true,
        carrier: true,
        mac: Some(mac.0),
    }
}

fn hardware_address(link: &Link) -> HardwareAddress {
    HardwareAddress(link.mac.expect("it is Ethernet"))
}

fn with_prefix(address: IpAddr) -> String {
    match address {
        IpAddr::V4(_) => format!("{address}/32"),
        IpAddr::V6(_) => format!("{address}/128"),
    }
}

/// How many conflicts over an address the log has.
fn conflicts(daemon: &Daemon, address: IpAddr) -> usize {
    let history = daemon.json(&format!("history {address} -n 1000"));
    let events = history["events"].as_array().expect("there are events");
    let conflicts = events.iter().filter(|event| event["verb"] == "conflict");
    conflicts.count()
}

#[test]
fn an_address_is_asked_about_before_it_is_taken_and_the_call_does_not_wait() {
    let lab = Lab::new();
    let daemon = lab.start_with(ASKS);
    let router = hardware_address(&link(&lab.router, "wan0"));
    for family in Family::BOTH {
        let address = floating(family, 10);
        let sniffer = lab.outside.sniff();
        let fixed = lab.host_a.address(family);
        let changed = daemon.json(&format!("associate {address} {fixed} --no-wait"));
        assert_eq!(changed["address"]["state"], "pending", "{changed}");
        let reason = changed["address"]["reason"].as_str().unwrap_or_default();
        assert!(
            reason.starts_with("probing whether somebody else has"),
            "{reason}"
        );
        assert_eq!(claims(&sniffer, address, router), 0);
        assert_eq!(daemon.json("status")["state"], "running");
        eventually("it is active", || daemon.state(address) == "active");
        eventually("it is announced", || claims(&sniffer, address, router) > 0);
        assert_eq!(probes(&sniffer, address), 3);
        let outside = lab.outside.address(family);
        assert_eq!(lab.outside.ask(Tcp, address), saw(&lab.host_a, outside));
        assert_eq!(lab.host_a.ask(Tcp, outside), saw(&lab.outside, address));
    }
}

#[test]
fn who_does_not_say_otherwise_gets_an_address_that_works() {
    let lab = Lab::new();
    let daemon = lab.start_with(ASKS);
    for family in Family::BOTH {
        let address = floating(family, 10);
        let fixed = lab.host_a.address(family);
        let changed = daemon.json(&format!("associate {address} {fixed}"));
        assert_eq!(changed["address"]["state"], "active", "{changed}");
        let outside = lab.outside.address(family);
        assert_eq!(lab.outside.ask(Tcp, address), saw(&lab.host_a, outside));
    }
}

#[test]
fn an_address_that_another_machine_has_is_left_to_it_until_it_is_free() {
    let lab = Lab::new();
    let rival = lab.rival();
    let by = hardware_address(&link(&rival, "eth0")).to_string();
    let daemon = lab.start_with(ASKS);
    for family in Family::BOTH {
        let address = floating(family, 10);
        let outside = lab.outside.address(family);
        let with_prefix = with_prefix(address);
        let nodad = if address.is_ipv6() { " nodad" } else { "" };
        rival.ip(&format!("address add {with_prefix} dev eth0{nodad}"));
        let order = format!("associate {address} {}", lab.host_a.address(family));
        let output = daemon.ipfloater(&order);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "it is decided: {said}");
        assert!(said.contains(&by), "it says who has it: {said}");
        let shown = daemon.show(address);
        assert_eq!(shown["state"], "pending", "{shown}");
        assert!(
            shown["reason"]
                .as_str()
                .is_some_and(|why| why.contains(&by)),
            "{shown}"
        );
        let status = daemon.json("status");
        assert_eq!(status["state"], "degraded");
        let problems = status["problems"].to_string();
        assert!(
            problems.contains(&address.to_string()) && problems.contains(&by),
            "{problems}"
        );
        assert_eq!(conflicts(&daemon, address), 1);
        // The router does not answer for it (and a machine behind a macvlan is
        // silent towards the host of that), and its host does not leave as it.
        assert_eq!(lab.outside.hardware_address_of(address), None);
        let own = lab.host_a.address(family);
        assert_eq!(lab.host_a.ask(Tcp, outside), saw(&lab.outside, own));

        rival.ip(&format!("address delete {with_prefix} dev eth0"));
        daemon.order(&order);
        assert_eq!(daemon.state(address), "active");
        assert_eq!(lab.outside.ask(Tcp, address), saw(&lab.host_a, outside));
        assert_eq!(lab.host_a.ask(Tcp, outside), saw(&lab.outside, address));
        assert_eq!(conflicts(&daemon, address), 1);
    }
    assert_eq!(daemon.json("status")["state"], "running");
}

#[test]
fn an_address_that_another_machine_is_about_to_take_is_left_to_it() {
    let lab = Lab::new();
    let rival = lab.rival();
    let link_of_rival = link(&rival, "eth0");
    let by = hardware_address(&link_of_rival).to_string();
    // Long enough for a busy machine to ask in between.
    let daemon = lab.start_with(Start {
        configuration: "PROBE = 5",
        ..Start::PLAIN
    });
    let mut prober = rival.run(PacketNeighbours::open).expect("root may");
    for family in Family::BOTH {
        let address = floating(family, 10);
        let fixed = lab.host_a.address(family);
        daemon.order(&format!("associate {address} {fixed} --no-wait"));
        let wanted = address.to_string().parse().expect("it is a floating IP");
        eventually("it is known", || {
            let asked = prober.probe(wanted, &link_of_rival);
            asked.expect("the link is up");
            conflicts(&daemon, address) > 0
        });
        let shown = daemon.show(address);
        assert!(
            shown["reason"]
                .as_str()
                .is_some_and(|why| why.contains(&by)),
            "{shown}"
        );
    }
}

#[test]
fn what_another_machine_has_is_taken_once_nobody_is_to_be_asked_any_more() {
    let lab = Lab::new();
    let rival = lab.rival();
    let mut daemon = lab.start_with(ASKS);
    for family in Family::BOTH {
        let address = floating(family, 10);
        let nodad = if address.is_ipv6() { " nodad" } else { "" };
        rival.ip(&format!(
            "address add {} dev eth0{nodad}",
            with_prefix(address)
        ));
        daemon.associate(address, &lab.host_a);
        assert_eq!(daemon.state(address), "pending");
    }
    daemon.configure("PROBE = no");
    daemon.hang_up();
    for family in Family::BOTH {
        let address = floating(family, 10);
        eventually("it is active", || daemon.state(address) == "active");
        let outside = lab.outside.address(family);
        assert_eq!(lab.outside.ask(Tcp, address), saw(&lab.host_a, outside));
        assert_eq!(lab.host_a.ask(Tcp, outside), saw(&lab.outside, address));
    }
    assert_eq!(daemon.json("status")["state"], "running");
}

#[test]
fn a_link_that_comes_back_is_a_reason_to_ask_again() {
    let lab = Lab::new();
    let rival = lab.rival();
    let daemon = lab.start_with(ASKS);
    let address = floating(Family::V4, 10);
    rival.ip(&format!("address add {address}/32 dev eth0"));
    daemon.associate(address, &lab.host_a);
    assert_eq!(daemon.state(address), "pending");
    rival.ip(&format!("address delete {address}/32 dev eth0"));
    lab.outside.ip("link set eth0 down");
    std::thread::sleep(BRIEFLY);
    lab.outside.ip("link set eth0 up");
    // Long before the pause of half a minute is over.
    eventually("it is active", || daemon.state(address) == "active");
}

#[test]
fn an_address_waits_for_carrier_before_anybody_is_asked() {
    let lab = Lab::new();
    let daemon = lab.start_with(ASKS);
    lab.outside.ip("link set eth0 down");
    for family in Family::BOTH {
        let address = floating(family, 10);
        let fixed = lab.host_a.address(family);
        eventually("the router has seen it", || {
            daemon.order(&format!("associate {address} {fixed} --no-wait"));
            let shown = daemon.show(address);
            let reason = shown["reason"].as_str().unwrap_or_default();
            reason.contains("wan0 has no carrier")
        });
    }
    // Longer than asking takes.
    std::thread::sleep(Duration::from_millis(1_500));
    for family in Family::BOTH {
        assert_eq!(daemon.state(floating(family, 10)), "pending");
    }
    let sniffer = lab.outside.sniff();
    lab.outside
        .ip("link set eth0 up\naddress replace 2001:db8::1/64 dev eth0 nodad");
    for family in Family::BOTH {
        let address = floating(family, 10);
        eventually("it is active", || daemon.state(address) == "active");
        assert!(probes(&sniffer, address) > 0);
    }
}

#[test]
fn who_claims_an_address_of_ours_is_reported_once_and_not_fought() {
    let lab = Lab::new();
    let rival = lab.rival();
    let link_of_rival = link(&rival, "eth0");
    let by = hardware_address(&link_of_rival);
    let router = hardware_address(&link(&lab.router, "wan0"));
    let daemon = lab.start_with(ASKS);
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
    }
    // All that taking an address brings has been said.
    std::thread::sleep(Duration::from_secs(4));
    let mut claimant = rival.run(PacketNeighbours::open).expect("root may");
    for family in Family::BOTH {
        let address = floating(family, 10);
        let sniffer = lab.outside.sniff();
        let claimed = address.to_string().parse().expect("it is a floating IP");
        for _ in 0..20 {
            let announced = claimant.announce(claimed, &link_of_rival);
            announced.expect("the link is up");
        }
        eventually("it is reported", || {
            let problems = daemon.json("status")["problems"].to_string();
            problems.contains(&format!("{address} ({by})"))
        });
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(conflicts(&daemon, address), 1);
        assert!(claims(&sniffer, address, by) >= 20);
        assert_eq!(claims(&sniffer, address, router), 0, "nobody is fought");
        assert_eq!(daemon.state(address), "active");
    }
}

#[test]
fn what_is_ours_already_is_not_asked_about_when_it_moves_and_after_a_restart() {
    let lab = Lab::new();
    let mut daemon = lab.start_with(ASKS);
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
    }
    let sniffer = lab.outside.sniff();
    let assert_not_asked = |daemon: &Daemon, host: &Host| {
        for family in Family::BOTH {
            let address = floating(family, 10);
            assert_eq!(daemon.state(address), "active");
            assert_eq!(probes(&sniffer, address), 0);
            let outside = lab.outside.address(family);
            assert_eq!(lab.outside.ask(Tcp, address), saw(host, outside));
        }
    };
    for family in Family::BOTH {
        let (address, fixed) = (floating(family, 10), lab.host_b.address(family));
        let order = format!("associate {address} {fixed} --reassociate --no-wait");
        assert_eq!(daemon.json(&order)["address"]["state"], "active");
    }
    assert_not_asked(&daemon, &lab.host_b);
    daemon.stop();
    daemon.start(&lab.router);
    assert_not_asked(&daemon, &lab.host_b);
    daemon.kill();
    daemon.start(&lab.router);
    assert_not_asked(&daemon, &lab.host_b);
    // The kernel removes IPv6 addresses when a link goes down.
    lab.router.ip("link set wan0 down");
    std::thread::sleep(BRIEFLY);
    lab.router.ip(
        "link set wan0 up\naddress replace 2001:db8::2/64 dev wan0 nodad\n\
         route replace default via 198.51.100.1\nroute replace default via 2001:db8::1",
    );
    for family in Family::BOTH {
        eventually("it is back", || {
            daemon.state(floating(family, 10)) == "active"
        });
    }
    assert_not_asked(&daemon, &lab.host_b);
}

#[test]
fn what_was_being_asked_about_when_the_daemon_died_is_asked_about_by_the_next_one() {
    let lab = Lab::new();
    let rival = lab.rival();
    let mut daemon = lab.start_with(ASKS);
    for family in Family::BOTH {
        let address = floating(family, 10);
        let nodad = if address.is_ipv6() { " nodad" } else { "" };
        rival.ip(&format!(
            "address add {} dev eth0{nodad}",
            with_prefix(address)
        ));
        let fixed = lab.host_a.address(family);
        daemon.order(&format!("associate {address} {fixed} --no-wait"));
    }
    daemon.kill();
    daemon.start(&lab.router);
    for family in Family::BOTH {
        let address = floating(family, 10);
        eventually("it is found", || conflicts(&daemon, address) > 0);
        assert_eq!(daemon.state(address), "pending");
    }
}
