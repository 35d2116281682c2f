//! What goes through floating IPs: counted to the packet, held to a rate, and let
//! in only from where it may come.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use ipfloater::model::Family;

use super::daemon::{Daemon, Start};
use super::lab::{Host, Lab, floating};
use super::namespace::PATIENCE;

/// What `ipfloater counters` tells of an address: packets and bytes in, packets
/// and bytes out.
type Counted = [u64; 4];

/// Headers of IP and UDP.
fn headers(family: Family) -> u64 {
    match family {
        Family::V4 => 28,
        Family::V6 => 48,
    }
}

impl Daemon {
    fn counters(&self, floating: IpAddr) -> Counted {
        let answer = self.json(&format!("counters {floating}"));
        let row = &answer["counters"][0];
        ["packets_in", "bytes_in", "packets_out", "bytes_out"]
            .map(|field| row[field].as_u64().unwrap_or_else(|| panic!("{answer}")))
    }

    fn forward_to(&self, floating: IpAddr, port: u16, host: &Host, to: u16, more: &str) {
        let from = SocketAddr::new(floating, port);
        let to = SocketAddr::new(host.address(Family::of(floating)), to);
        self.order(&format!("forward {from}/udp {to} {more}"));
    }
}

/// A socket of a host, on a port of its own.
fn socket(host: &Host, family: Family, port: u16) -> UdpSocket {
    let any: IpAddr = match family {
        Family::V4 => [0; 4].into(),
        Family::V6 => [0; 16].into(),
    };
    host.run(|| {
        let socket = UdpSocket::bind((any, port)).expect("the port is free");
        socket
            .set_read_timeout(Some(PATIENCE))
            .expect("it can wait");
        socket
    })
}

/// Sends so many datagrams of so many bytes, and waits for all of them on the
/// other side; returns where they came from.
fn send(from: &UdpSocket, to: SocketAddr, at: &UdpSocket, many: u64, bytes: u64) -> SocketAddr {
    let mut source = None;
    for _ in 0..many {
        from.send_to(&vec![b'x'; bytes as usize], to)
            .expect("there is a route");
        let mut buffer = [0; 2_000];
        let (length, sender) = at.recv_from(&mut buffer).expect("it arrives");
        assert_eq!(length as u64, bytes);
        source = Some(sender);
    }
    source.expect("something was sent")
}

/// What an exchange came to, added to what was counted before.
fn plus(before: Counted, family: Family, incoming: [u64; 2], outgoing: [u64; 2]) -> Counted {
    let size = |[many, bytes]: [u64; 2]| many * (bytes + headers(family));
    let [packets_in, bytes_in, packets_out, bytes_out] = before;
    [
        packets_in + incoming[0],
        bytes_in + size(incoming),
        packets_out + outgoing[0],
        bytes_out + size(outgoing),
    ]
}

/// From outside to a port of a floating IP and back; the counters say exactly
/// that, and are returned.
fn is_counted(lab: &Lab, daemon: &Daemon, to: SocketAddr, host: &Host, port: u16) -> Counted {
    let family = Family::of(to.ip());
    let before = daemon.counters(to.ip());
    let (client, server) = (socket(&lab.far, family, 0), socket(host, family, port));
    let source = send(&client, to, &server, 20, 100);
    let answered = send(&server, source, &client, 7, 33);
    assert_eq!(answered, to, "it is the floating IP that answers");
    let after = plus(before, family, [20, 100], [7, 33]);
    assert_eq!(daemon.counters(to.ip()), after, "{to}");
    after
}

/// From a host to the outside, as a floating IP, and back.
fn is_counted_outbound(lab: &Lab, daemon: &Daemon, host: &Host, floating: IpAddr) -> Counted {
    let family = Family::of(floating);
    let before = daemon.counters(floating);
    let (client, server) = (socket(host, family, 0), socket(&lab.far, family, 0));
    let port = server.local_addr().expect("it is bound").port();
    let to = SocketAddr::new(lab.far.address(family), port);
    let source = send(&client, to, &server, 11, 200);
    assert_eq!(source.ip(), floating, "it leaves as the floating IP");
    send(&server, source, &client, 3, 1_000);
    let after = plus(before, family, [3, 1_000], [11, 200]);
    assert_eq!(daemon.counters(floating), after, "{floating}");
    after
}

#[test]
fn every_packet_and_byte_is_counted_for_its_address_and_direction() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let [whole, ports, other, leaving] = [10, 11, 12, 13].map(|n| floating(family, n));
        daemon.associate(whole, &lab.host_a);
        // Two hosts have ports of one address, and one of them another as well.
        daemon.forward_to(ports, 8080, &lab.host_b, 80, "");
        daemon.forward_to(ports, 8081, &lab.host_a, 81, "");
        daemon.associate(other, &lab.host_b);
        daemon.forward_to(leaving, 90, &lab.host_c, 90, "--outbound floating");
        for address in [whole, ports, other, leaving] {
            assert_eq!(daemon.counters(address), [0; 4], "{address}");
        }
        is_counted(
            &lab,
            &daemon,
            SocketAddr::new(whole, 4000),
            &lab.host_a,
            4000,
        );
        is_counted(&lab, &daemon, SocketAddr::new(ports, 8080), &lab.host_b, 80);
        is_counted(&lab, &daemon, SocketAddr::new(ports, 8081), &lab.host_a, 81);
        is_counted(
            &lab,
            &daemon,
            SocketAddr::new(other, 4000),
            &lab.host_b,
            4000,
        );
        is_counted(&lab, &daemon, SocketAddr::new(leaving, 90), &lab.host_c, 90);
        is_counted_outbound(&lab, &daemon, &lab.host_a, whole);
        is_counted_outbound(&lab, &daemon, &lab.host_b, other);
        is_counted_outbound(&lab, &daemon, &lab.host_c, leaving);
        // Each flow was counted for its own address, and for no other.
        let size = headers(family);
        let both = |[packets, bytes]: [u64; 2]| [packets, packets * (bytes + size)];
        let [a, b] = both([20, 100]);
        let [c, d] = both([7, 33]);
        assert_eq!(daemon.counters(ports), [2 * a, 2 * b, 2 * c, 2 * d]);
        // An echo is counted as the packets that it is.
        let before = daemon.counters(whole);
        assert_eq!(lab.far.ping(whole), Ok(whole));
        let echo = 56 + size;
        let [e, f, g, h] = before;
        assert_eq!(daemon.counters(whole), [e + 1, f + echo, g + 1, h + echo]);
    }
}

#[test]
fn an_icmp_error_is_counted_with_the_flow_that_it_is_about() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        daemon.associate(floating, &lab.host_a);
        // Nobody is at the port, and the host says so.
        let client = socket(&lab.far, family, 0);
        client.connect((floating, 4999)).expect("there is a route");
        client.send(&[b'x'; 10]).expect("it is sent");
        let refused = client.recv(&mut [0; 10]).expect_err("nobody answers");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        let size = 10 + headers(family);
        // The error repeats the packet: RFC 792, RFC 4443 3.1.
        let error = headers(family) + size;
        assert_eq!(daemon.counters(floating), [1, size, 1, error], "{family}");
    }
}

#[test]
fn what_goes_from_host_to_host_is_no_traffic_with_the_outside() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let [one, two] = [10, 11].map(|number| floating(family, number));
        daemon.associate(one, &lab.host_a);
        daemon.associate(two, &lab.host_c);
        for (host, other) in [(&lab.host_a, &lab.host_c), (&lab.host_b, &lab.host_c)] {
            let (client, server) = (socket(host, family, 0), socket(other, family, 4000));
            let source = send(&client, SocketAddr::new(two, 4000), &server, 5, 50);
            send(&server, source, &client, 5, 50);
        }
        let router = socket(&lab.router, family, 0);
        let server = socket(&lab.host_c, family, 4001);
        let source = send(&router, SocketAddr::new(two, 4001), &server, 5, 50);
        send(&server, source, &router, 5, 50);
        for address in [one, two] {
            assert_eq!(daemon.counters(address), [0; 4], "{address}");
        }
        is_counted(&lab, &daemon, SocketAddr::new(two, 4000), &lab.host_c, 4000);
    }
}

#[test]
fn counters_go_on_over_moves_restarts_edits_and_reloads_and_end_with_a_release() {
    let lab = Lab::new();
    let mut daemon = lab.start_with(Start {
        hidden: Some("table-owner"),
        ..Start::PLAIN
    });
    let both = Family::BOTH.map(|family| floating(family, 10));
    for address in both {
        daemon.associate(address, &lab.host_a);
    }
    let check = |daemon: &Daemon, host: &Host, what: &str| {
        for address in both {
            let before = daemon.counters(address);
            let after = is_counted(&lab, daemon, SocketAddr::new(address, 4000), host, 4000);
            assert_ne!(before, after, "{what}");
        }
    };
    let told = |daemon: &Daemon| both.map(|address| daemon.counters(address));
    check(&daemon, &lab.host_a, "at first");
    let seen = told(&daemon);
    for address in both {
        daemon.reassociate(address, &lab.host_b);
    }
    assert_eq!(told(&daemon), seen, "a move");
    check(&daemon, &lab.host_b, "moved");

    let seen = told(&daemon);
    daemon.stop();
    daemon.start(&lab.router);
    assert_eq!(told(&daemon), seen, "a restart");
    check(&daemon, &lab.host_b, "restarted");

    let (seen, repairs) = (told(&daemon), daemon.repairs());
    lab.router.nft("flush chain inet ipfloater outbound");
    super::namespace::eventually("the edit is put right", || daemon.repairs() > repairs);
    assert_eq!(told(&daemon), seen, "a chain that was emptied");
    check(&daemon, &lab.host_b, "put right");

    // More addresses than the table was made for: it is made anew.
    let seen = told(&daemon);
    daemon.configure("[POOL more]\nIP_POOL = 192.0.2.0/24, 198.18.0.0/19\nROUTED = yes\n");
    daemon.order("reload");
    assert_eq!(told(&daemon), seen, "a table that was built anew");
    check(&daemon, &lab.host_b, "built anew");

    for address in both {
        daemon.release(address);
        let listed = daemon.json(&format!("counters {address}"));
        assert_eq!(listed["counters"], serde_json::json!([]));
        daemon.associate(address, &lab.host_c);
        assert_eq!(daemon.counters(address), [0; 4], "after its release");
    }
    check(&daemon, &lab.host_c, "given out again");
}

#[test]
fn without_counters_nothing_is_counted_and_whoever_asks_is_told_why() {
    let lab = Lab::new();
    let daemon = lab.start_with(Start {
        configuration: "COUNTERS = false\n",
        ..Start::PLAIN
    });
    let floating = floating(Family::V4, 10);
    daemon.associate(floating, &lab.host_a);
    assert_eq!(lab.far.ping(floating), Ok(floating));
    let refused = daemon.ipfloater("counters");
    assert!(!refused.status.success());
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("COUNTERS = true"), "{words}");
    let table = lab.router.program("nft list table inet ipfloater");
    assert!(!table.contains("counted"), "{table}");
}
