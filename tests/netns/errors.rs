//! ICMP errors, path MTU and fragments: what carries no port, or not all of it.

use std::io::ErrorKind;
use std::net::IpAddr;

use ipfloater::model::Family;

use super::craft::{UDP, datagram};
use super::lab::{Host, Lab, floating};
use super::namespace::{BRIEFLY, PATIENCE, eventually};
use super::sniffer::{Packet, ip};
use super::talk::{Tcp, Transport, Udp, saw};

/// A port that nobody listens on.
const CLOSED: u16 = 9;

/// The packet that an ICMP error quotes: after eight bytes (RFC 792, RFC 4443).
fn quoted(error: &Packet) -> Packet {
    ip(false, &error.payload[8..]).expect("an error quotes a packet")
}

/// Sends datagrams to a closed port until the socket is told so.
fn is_refused(client: &Host, to: IpAddr) -> ErrorKind {
    client.run(|| {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = std::net::UdpSocket::bind(any).expect("there is a free port");
        socket.connect((to, CLOSED)).expect("there is a route");
        socket
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout can be set");
        socket
            .send(b"anybody there?")
            .expect("a datagram can be sent");
        socket
            .recv(&mut [0; 100])
            .expect_err("nobody answers")
            .kind()
    })
}

#[test]
fn a_closed_port_is_reported_to_the_client_as_if_the_floating_ip_had_said_so() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        daemon.associate(floating, &lab.host_a);
        for client in [&lab.outside, &lab.far, &lab.host_b, &lab.host_c] {
            let sniffer = client.sniff();
            assert_eq!(
                is_refused(client, floating),
                ErrorKind::ConnectionRefused,
                "{}",
                client.name
            );
            let error = sniffer.wait_for("an error arrives", |packet| {
                packet.incoming && packet.is_icmp(3, 1)
            });
            let quoted = quoted(&error);
            assert_eq!(error.source, floating);
            assert_eq!(
                (quoted.source, quoted.destination),
                (client.address(family), floating)
            );
        }
    }
}

#[test]
fn a_closed_port_outside_is_reported_to_the_host() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
        let sniffer = lab.host_a.sniff();
        let far = lab.far.address(family);
        assert_eq!(is_refused(&lab.host_a, far), ErrorKind::ConnectionRefused);
        let error = sniffer.wait_for("an error arrives", |packet| {
            packet.incoming && packet.is_icmp(3, 1)
        });
        let quoted = quoted(&error);
        assert_eq!(error.destination, lab.host_a.address(family));
        assert_eq!(
            (quoted.source, quoted.destination),
            (lab.host_a.address(family), far)
        );
    }
}

#[test]
fn a_traceroute_works_in_both_directions() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        daemon.associate(floating, &lab.host_a);
        let (host, far) = (lab.host_a.address(family), lab.far.address(family));
        // The routers on the way: two of them, then the host itself.
        for (client, own, to) in [(&lab.far, far, floating), (&lab.host_a, host, far)] {
            let sniffer = client.sniff();
            for hops in [1, 2] {
                let port = 33434 + u16::from(hops);
                client.send_with_hops(own, to, port, hops);
                let what = format!("{family}: hop {hops} of {} to {to} answers", client.name);
                let error = sniffer.wait_for(&what, |packet| {
                    packet.incoming
                        && packet.is_icmp(11, 3)
                        && quoted(packet).payload[2..4] == port.to_be_bytes()
                });
                let quoted = quoted(&error);
                assert_eq!((quoted.source, quoted.destination), (own, to), "hop {hops}");
            }
            let port = 33437;
            client.send_with_hops(own, to, port, 3);
            let error = sniffer.wait_for("the end answers", |packet| {
                packet.incoming && packet.is_icmp(3, 1)
            });
            assert_eq!(error.source, to);
        }
    }
}

#[test]
fn a_lan_with_smaller_packets_is_told_to_the_client() {
    let lab = Lab::new();
    // Both ends: veth drops what is too long for the receiver (`dev_forward_skb`).
    lab.router.ip("link set lan1 mtu 1400");
    lab.host_c.ip("link set eth0 mtu 1400");
    let daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 12);
        daemon.associate(floating, &lab.host_c);
        for client in [&lab.far, &lab.host_a] {
            assert_finds_path(client, &lab.host_c, floating);
        }
    }
}

#[test]
fn a_way_outside_with_smaller_packets_is_told_to_the_host() {
    let lab = Lab::new();
    // The gateway's error is addressed to the floating IP.
    lab.outside.ip("link set far0 mtu 1400");
    lab.far.ip("link set eth0 mtu 1400");
    let daemon = lab.start();
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
        assert_finds_path(&lab.host_a, &lab.far, lab.far.address(family));
    }
}

#[test]
fn an_outside_link_with_smaller_packets_is_told_to_both_sides() {
    let lab = Lab::new();
    lab.router.ip("link set wan0 mtu 1400");
    lab.outside.ip("link set eth0 mtu 1400");
    let daemon = lab.start();
    for family in Family::BOTH {
        // Two of them: who answers has learnt the path as well.
        let (first, second) = (floating(family, 10), floating(family, 11));
        daemon.associate(first, &lab.host_a);
        daemon.associate(second, &lab.host_b);
        assert_finds_path(&lab.host_a, &lab.far, lab.far.address(family));
        assert_finds_path(&lab.far, &lab.host_b, second);
    }
}

/// The smaller packets of these tests.
const MTU: u16 = 1_400;

/// Asserts that a client which may not fragment learns the path's MTU, and that
/// what it says then arrives whole.
fn assert_finds_path(client: &Host, server: &Host, to: IpAddr) {
    let sniffer = client.sniff();
    let conversation = client.converse(Udp, to).expect("a socket can be made");
    let mut conversation = conversation.with_patience(BRIEFLY);
    // 1 472 bytes fill an IPv4 packet of 1 500, 1 452 one of IPv6. It is lost.
    let _ = conversation.say_long(1_440);
    let error = sniffer.wait_for("the MTU is told", |packet| {
        packet.incoming && packet.is_icmp(3, 2)
    });
    assert_eq!(&error.payload[6..8], MTU.to_be_bytes(), "{to}");
    assert_eq!(quoted(&error).destination, to);
    // Now it goes in fragments; the first answer may have to learn that as well.
    let by_server = |answer: String| answer.starts_with(server.name);
    eventually("what is said arrives", || {
        conversation.say_long(1_440).is_ok_and(by_server)
    });

    let mut conversation = client.converse(Tcp, to).expect("a connection");
    let answer = conversation
        .say_long(100_000)
        .expect("segments fit the path");
    assert!(answer.starts_with(server.name), "{answer}");
}

#[test]
fn fragments_arrive_in_both_directions() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        daemon.associate(floating, &lab.host_a);
        let far = lab.far.address(family);
        for bytes in [4_000, 8_000] {
            let mut inbound = lab
                .far
                .converse(Udp, floating)
                .expect("a socket can be made");
            assert_eq!(
                inbound.say_long(bytes),
                saw(&lab.host_a, far),
                "{bytes} bytes inbound"
            );
            let mut outbound = lab.host_a.converse(Udp, far).expect("a socket can be made");
            assert_eq!(
                outbound.say_long(bytes),
                saw(&lab.far, floating),
                "{bytes} bytes outbound"
            );
            let mut hairpin = lab
                .host_b
                .converse(Udp, floating)
                .expect("a socket can be made");
            let router = lab.router_towards(&lab.host_a, family);
            assert_eq!(
                hairpin.say_long(bytes),
                saw(&lab.host_a, router),
                "{bytes} bytes inside"
            );
        }
        assert_eq!(lab.far.ping_long(floating, 4_000), Ok(floating));
        assert_eq!(lab.host_a.ping_long(far, 4_000), Ok(far));
    }
}

#[test]
fn much_goes_through_a_connection_in_both_directions() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        daemon.associate(floating, &lab.host_a);
        let far = lab.far.address(family);
        for (client, to, answer) in [
            (&lab.far, floating, saw(&lab.host_a, far)),
            (&lab.host_a, far, saw(&lab.far, floating)),
        ] {
            let mut conversation = client.converse(Transport::Tcp, to).expect("a connection");
            assert_eq!(conversation.say_long(2_000_000), answer);
        }
    }
}

impl Host {
    /// Sends a datagram that may pass so many hops, as traceroute does.
    fn send_with_hops(&self, source: IpAddr, to: IpAddr, port: u16, hops: u8) {
        let (from, target) = ((source, 40_000).into(), (to, port).into());
        let payload = datagram(from, target, "how far?");
        self.send_packet_with_hops(source, to, UDP, hops, &payload);
    }
}
