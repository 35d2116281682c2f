//! Packets that pass by address translation: those that conntrack calls
//! invalid, and those that somebody's notrack kept from it.

use std::net::{IpAddr, SocketAddr};

use ipfloater::model::Family;

use super::craft::{ACK, FIN, PSH, RST, SYN, TCP, UDP, URG, datagram, segment};
use super::lab::{Host, Lab, floating};
use super::service::PORT;
use super::sniffer::{Packet, Sniffer};
use super::talk::{Tcp, Udp, saw};

/// Flags that no connection begins with, or that no segment has.
const BOGUS: [(&str, u8); 5] = [
    ("reset", RST),
    ("reset, acknowledged", RST | ACK),
    ("xmas tree", FIN | PSH | URG),
    ("nothing", 0),
    ("begin and end", SYN | FIN),
];

/// Sends segments that are invalid: by their flags, or by a wrong checksum
/// (nf_conntrack_checksum).
fn send_bogus(from: &Host, source: IpAddr, to: IpAddr) {
    for (port, (_, flags)) in (41_000..).zip(BOGUS) {
        let (source, to) = (SocketAddr::new(source, port), SocketAddr::new(to, PORT));
        from.send_packet(source.ip(), to.ip(), TCP, &segment(source, to, flags, ""));
        let mut broken = segment(source, to, SYN, "");
        broken[16] ^= 0xff;
        from.send_packet(source.ip(), to.ip(), TCP, &broken);
    }
}

fn is_tcp_of(address: IpAddr) -> impl Fn(&Packet) -> bool {
    move |packet| {
        packet.protocol == TCP && (packet.source == address || packet.destination == address)
    }
}

/// Waits until what was sent before has arrived, if it arrives at all: a later
/// packet has overtaken it only by chance.
fn settle(client: &Host, to: IpAddr) {
    assert!(client.ping(to).is_ok());
    std::thread::sleep(std::time::Duration::from_millis(100));
}

#[test]
fn bogus_packets_of_a_host_do_not_leave_with_its_private_address() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
        let (host, outside) = (lab.host_a.address(family), lab.outside.address(family));
        let sniffer = lab.outside.sniff();
        send_bogus(&lab.host_a, host, outside);
        settle(&lab.host_a, outside);
        assert_eq!(sniffer.packets(is_tcp_of(host)), [], "{family}");
        // Nor those of one that only forwards lead to, while they do.
        let host = lab.host_c.address(family);
        let port = SocketAddr::new(floating(family, 11), 8080);
        let to = SocketAddr::new(host, PORT);
        daemon.order(&format!("forward {port} {to}"));
        send_bogus(&lab.host_c, host, outside);
        settle(&lab.host_c, outside);
        assert_eq!(sniffer.packets(is_tcp_of(host)), [], "{family}");
        daemon.order(&format!("unforward {port}"));
        send_bogus(&lab.host_c, host, outside);
        sniffer.wait_for("a bogus packet passes", is_tcp_of(host));
        // Those of a host without floating IP are none of our business.
        send_bogus(&lab.host_b, lab.host_b.address(family), outside);
        sniffer.wait_for(
            "a bogus packet passes",
            is_tcp_of(lab.host_b.address(family)),
        );
    }
}

/// A flow that is valid in every respect but its source.
#[test]
fn a_host_cannot_borrow_an_address_of_the_pool() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
        let outside = lab.outside.address(family);
        let sniffer = lab.outside.sniff();
        // Its own, another host's, and one that nobody has.
        for (sender, number) in [(&lab.host_a, 10), (&lab.host_b, 10), (&lab.host_b, 20)] {
            let source = floating(family, number);
            let (from, to) = (
                SocketAddr::new(source, 41_000),
                SocketAddr::new(outside, PORT),
            );
            sender.send_packet(source, outside, UDP, &datagram(from, to, "borrowed"));
            sender.send_packet(source, outside, TCP, &segment(from, to, SYN, ""));
        }
        settle(&lab.host_b, outside);
        let borrowed = |packet: &Packet| {
            packet.incoming
                && (packet.protocol == TCP || packet.says("borrowed"))
                && [10, 20]
                    .map(|number| floating(family, number))
                    .contains(&packet.source)
        };
        assert_eq!(sniffer.packets(borrowed), [], "{family}");
        // The router may have such an address, and sends from it.
        let own = floating(family, 21);
        let length = if family == Family::V4 { 32 } else { 128 };
        lab.router.ip(&format!("address add {own}/{length} dev lo"));
        let (from, to) = (SocketAddr::new(own, 41_000), SocketAddr::new(outside, PORT));
        lab.router
            .send_packet(own, outside, UDP, &datagram(from, to, "borrowed"));
        sniffer.wait_for("the router's own", |packet| {
            packet.source == own && packet.says("borrowed")
        });
    }
}

#[test]
fn bogus_packets_between_lans_are_left_alone() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
        let (host, to) = (lab.host_a.address(family), lab.host_c.address(family));
        let sniffer = lab.host_c.sniff();
        send_bogus(&lab.host_a, host, to);
        sniffer.wait_for("a bogus packet passes", is_tcp_of(host));
    }
}

#[test]
fn bogus_packets_for_a_floating_ip_reach_neither_the_router_nor_the_host() {
    let lab = Lab::new();
    let daemon = lab.start();
    let service = lab.router.serve();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        daemon.associate(floating, &lab.host_a);
        let (at_host, at_client) = (lab.host_a.sniff(), lab.outside.sniff());
        let own = lab.outside.address(family);
        send_bogus(&lab.outside, own, floating);
        settle(&lab.outside, floating);
        assert_eq!(at_host.packets(is_tcp_of(own)), [], "{family}: at the host");
        let answers = at_client.packets(|packet| packet.incoming && is_tcp_of(floating)(packet));
        assert_eq!(answers, [], "{family}: answers");
    }
    assert_eq!(service.heard(), []);
}

/// Somebody who keeps conntrack from everything.
fn notrack(lab: &Lab) {
    lab.router.nft(
        "table inet untracked {
           chain prerouting { type filter hook prerouting priority raw; notrack; }
           chain output { type filter hook output priority raw; notrack; }
         }",
    );
}

#[test]
fn untracked_packets_for_a_floating_ip_reach_no_service_of_the_router() {
    let lab = Lab::new();
    let daemon = lab.start();
    let service = lab.router.serve();
    notrack(&lab);
    for family in Family::BOTH {
        let floating = floating(family, 10);
        daemon.associate(floating, &lab.host_a);
        for transport in [Udp, Tcp] {
            assert!(
                lab.outside.ask_briefly(transport, floating).is_err(),
                "{family} {transport:?}"
            );
            assert!(
                lab.host_b.ask_briefly(transport, floating).is_err(),
                "{family} {transport:?} inside"
            );
        }
        // The address is still resolved: neighbour discovery is never tracked.
        assert!(lab.outside.hardware_address_of(floating).is_some());
    }
    assert_eq!(service.heard(), []);
}

#[test]
fn untracked_packets_of_a_host_do_not_leave_with_its_private_address() {
    let lab = Lab::new();
    let daemon = lab.start();
    notrack(&lab);
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
        let outside = lab.outside.address(family);
        let sniffer = lab.outside.sniff();
        for transport in [Udp, Tcp] {
            assert!(
                lab.host_a.ask_briefly(transport, outside).is_err(),
                "{family} {transport:?}"
            );
        }
        assert_silent_from(&sniffer, lab.host_a.address(family));
        // Others still pass as they did.
        assert_eq!(
            lab.host_b.ask(Udp, outside),
            saw(&lab.outside, lab.host_b.address(family))
        );
    }
}

fn assert_silent_from(sniffer: &Sniffer, source: IpAddr) {
    assert_eq!(sniffer.packets(|packet| packet.source == source), []);
}

#[test]
fn bogus_packets_that_pretend_to_come_from_a_floating_ip_do_not_leave() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let (held, free) = (floating(family, 10), floating(family, 20));
        daemon.associate(held, &lab.host_a);
        let outside = lab.outside.address(family);
        let sniffer = lab.outside.sniff();
        for source in [held, free] {
            send_bogus(&lab.host_b, source, outside);
        }
        settle(&lab.host_b, outside);
        assert_eq!(sniffer.packets(is_tcp_of(held)), [], "{family}");
        assert_eq!(sniffer.packets(is_tcp_of(free)), [], "{family}");
    }
}
