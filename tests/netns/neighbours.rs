//! The outside link: who answers for an address there, and who is told.

use std::net::IpAddr;

use ipfloater::model::Family;

use super::daemon::Start;
use super::lab::{Lab, floating};
use super::namespace::{BRIEFLY, eventually};
use super::sniffer::{Packet, Seen, Sniffer};
use super::talk::{Tcp, saw};

/// An IPv4 address is announced as ARP request and reply (RFC 5227 3), since
/// some neighbours heed only the one and some only the other.
fn arp_announcements(sniffer: &Sniffer, address: IpAddr) -> [usize; 2] {
    [1, 2].map(|wanted| {
        let seen = sniffer.seen().into_iter();
        let announces = |seen: &Seen| match seen {
            Seen::Arp {
                operation,
                sender,
                target,
                ..
            } => *operation == wanted && address == IpAddr::from(*sender) && sender == target,
            Seen::Ip(_) => false,
        };
        seen.filter(announces).count()
    })
}

/// An unsolicited neighbour advertisement (RFC 4861 7.2.6): to all nodes, not
/// solicited, overriding, with the router flag unset or set.
fn is_announcement(packet: &Packet, address: IpAddr) -> bool {
    let IpAddr::V6(address) = address else {
        return false;
    };
    let all_nodes: IpAddr = "ff02::1".parse().expect("a constant");
    packet.incoming
        && packet.is_icmp(0xff, 136)
        && packet.destination == all_nodes
        && packet.payload[4] & 0x60 == 0x20
        && packet.payload[8..24] == address.octets()
}

/// Waits until an address is announced.
fn assert_announced(sniffer: &Sniffer, address: IpAddr, times: usize) {
    eventually(
        &format!("{address} is announced {times} times"),
        || match address {
            IpAddr::V4(_) => arp_announcements(sniffer, address)
                .iter()
                .all(|count| *count >= times),
            IpAddr::V6(_) => {
                sniffer
                    .packets(|packet| is_announcement(packet, address))
                    .len()
                    >= times
            }
        },
    );
}

#[test]
fn an_associated_address_is_answered_for_with_the_routers_hardware_address() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let router = lab.outside.hardware_address_of(lab.router.address(family));
        assert!(router.is_some());
        daemon.associate(floating(family, 10), &lab.host_a);
        assert_eq!(
            lab.outside.hardware_address_of(floating(family, 10)),
            router
        );
        assert_eq!(lab.outside.hardware_address_of(floating(family, 20)), None);
    }
}

#[test]
fn an_address_is_announced_when_it_is_associated_and_again_a_little_later() {
    let lab = Lab::new();
    let daemon = lab.start();
    let sniffer = lab.outside.sniff();
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
        // The first may be lost, as anything on a link.
        assert_announced(&sniffer, floating(family, 10), 2);
    }
}

#[test]
fn neighbours_that_remember_another_router_learn_of_the_new_one() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let address = floating(family, 10);
        lab.outside.ip(&format!(
            "neighbour replace {address} lladdr 02:00:00:00:00:99 dev eth0 nud stale"
        ));
        daemon.associate(address, &lab.host_a);
        eventually("the neighbour has learnt", || {
            let entry = lab
                .outside
                .program(&format!("ip neighbour show to {address} dev eth0"));
            !entry.contains("02:00:00:00:00:99")
        });
        let outside = lab.outside.address(family);
        assert_eq!(lab.outside.ask(Tcp, address), saw(&lab.host_a, outside));
    }
}

#[test]
fn addresses_are_announced_again_when_the_link_comes_back_and_after_a_restart() {
    let lab = Lab::new();
    let mut daemon = lab.start();
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
    }
    let assert_all_announced = |sniffer: &Sniffer| {
        for family in Family::BOTH {
            assert_announced(sniffer, floating(family, 10), 1);
        }
    };
    let sniffer = lab.outside.sniff();
    assert_all_announced(&sniffer);
    // All that an association brings has been said.
    std::thread::sleep(std::time::Duration::from_secs(5));

    lab.outside.ip("link set eth0 down");
    eventually("the router sees it", || {
        let link = lab.router.program("ip link show wan0");
        link.contains("NO-CARRIER")
    });
    std::thread::sleep(BRIEFLY);
    let sniffer = lab.outside.sniff();
    lab.outside
        .ip("link set eth0 up\naddress replace 2001:db8::1/64 dev eth0 nodad");
    assert_all_announced(&sniffer);

    daemon.stop();
    let sniffer = lab.outside.sniff();
    daemon.start(&lab.router);
    assert_all_announced(&sniffer);
}

#[test]
fn what_was_associated_without_carrier_is_announced_when_there_is_some() {
    let lab = Lab::new();
    let daemon = lab.start();
    lab.outside.ip("link set eth0 down");
    eventually("the router sees it", || {
        let link = lab.router.program("ip link show wan0");
        link.contains("NO-CARRIER")
    });
    std::thread::sleep(BRIEFLY);
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
    }
    // Longer than all rounds.
    std::thread::sleep(std::time::Duration::from_secs(4));
    let sniffer = lab.outside.sniff();
    lab.outside
        .ip("link set eth0 up\naddress replace 2001:db8::1/64 dev eth0 nodad");
    for family in Family::BOTH {
        assert_announced(&sniffer, floating(family, 10), 2);
    }
}

#[test]
fn an_address_is_announced_no_more_once_it_is_free() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let address = floating(family, 10);
        daemon.associate(address, &lab.host_a);
        daemon.release(address);
        let sniffer = lab.outside.sniff();
        // Longer than the pause between two announcements.
        std::thread::sleep(std::time::Duration::from_secs(3));
        assert_eq!(arp_announcements(&sniffer, address), [0, 0]);
        assert_eq!(
            sniffer.packets(|packet| is_announcement(packet, address)),
            []
        );
    }
}

#[test]
fn an_association_waits_for_an_interface_that_is_not_there_yet() {
    let lab = Lab::new();
    lab.unplug();
    let daemon = lab.start_with(Start {
        configuration: "OUTSIDE_INTERFACE = wan0",
        ..Start::PLAIN
    });
    for family in Family::BOTH {
        let address = floating(family, 10);
        let output = daemon.ipfloater(&format!(
            "associate {address} {}",
            lab.host_a.address(family)
        ));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "it is decided: {said}");
        assert!(said.contains("wan0"), "it says what it waits for: {said}");
        let shown = daemon.show(address);
        assert_eq!(shown["state"], "pending");
        assert!(
            shown["reason"]
                .as_str()
                .is_some_and(|reason| reason.contains("wan0")),
            "{shown}"
        );
    }
    assert_eq!(daemon.json("status")["state"], "degraded");
    lab.plug();
    for family in Family::BOTH {
        let address = floating(family, 10);
        eventually("it is active", || daemon.state(address) == "active");
        let outside = lab.outside.address(family);
        assert_eq!(lab.outside.ask(Tcp, address), saw(&lab.host_a, outside));
        assert_eq!(lab.host_a.ask(Tcp, outside), saw(&lab.outside, address));
    }
    eventually("it is well", || daemon.json("status")["state"] == "running");
}

#[test]
fn an_address_that_the_administrator_configured_is_kept_with_a_warning() {
    let lab = Lab::new();
    lab.router
        .ip("address add 198.51.100.10/32 dev wan0\naddress add 2001:db8::10/128 dev wan0 nodad");
    let mut daemon = lab.start();
    for family in Family::BOTH {
        let address = floating(family, 10);
        let warnings = daemon.json("status")["warnings"].to_string();
        assert!(warnings.contains(&address.to_string()), "{warnings}");
        daemon.associate(address, &lab.host_a);
        let outside = lab.outside.address(family);
        assert_eq!(lab.outside.ask(Tcp, address), saw(&lab.host_a, outside));
        daemon.release(address);
    }
    daemon.stop();
    let addresses = lab.router.program("ip address show dev wan0");
    assert!(addresses.contains("198.51.100.10/32"), "{addresses}");
    assert!(addresses.contains("2001:db8::10/128"), "{addresses}");
}
