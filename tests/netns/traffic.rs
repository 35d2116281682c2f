//! What goes through floating IPs: counted to the packet, held to a rate, and let
//! in only from where it may come.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};

use ipfloater::model::{Family, Rate};
use serde_json::Value;

use super::craft::{UDP, datagram};
use super::daemon::{Daemon, Start};
use super::lab::{Host, Lab, floating};
use super::namespace::{BRIEFLY, PATIENCE};
use super::service::PORT;
use super::talk::{Tcp, Transport, Udp, saw};

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
fn metrics_tell_what_was_counted_and_what_was_done() {
    let lab = Lab::new();
    let daemon = lab.start_with(Start {
        hidden: Some("table-owner"),
        ..Start::PLAIN
    });
    let told = |name: &str| -> f64 {
        let text = daemon.order("metrics");
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("{name}: {text}"));
        value.parse().expect("it is a number")
    };
    for family in Family::BOTH {
        let [here, gone] = [10, 11].map(|number| floating(family, number));
        let traffic = |what: &str, direction: &str| {
            told(&format!(
                "ipfloater_address_{what}_total{{floating_ip=\"{here}\",direction=\"{direction}\"}}"
            ))
        };
        daemon.associate(here, &lab.host_a);
        let before = is_counted(
            &lab,
            &daemon,
            SocketAddr::new(here, 4000),
            &lab.host_a,
            4000,
        );
        let metered = || {
            [
                ("packets", "in"),
                ("bytes", "in"),
                ("packets", "out"),
                ("bytes", "out"),
            ]
            .map(|(what, direction)| traffic(what, direction) as u64)
        };
        assert_eq!(metered(), before);
        let after = is_counted_outbound(&lab, &daemon, &lab.host_a, here);
        assert_eq!(metered(), after);
        assert!(after[2] > before[2]);

        // Ending flows is done by the real kernel, and takes time.
        let moves = told("ipfloater_kernel_duration_seconds_count{operation=\"cut\"}");
        daemon.reassociate(here, &lab.host_b);
        let cut = told("ipfloater_kernel_duration_seconds_count{operation=\"cut\"}");
        assert!(cut > moves, "{moves} {cut}");
        daemon.associate(gone, &lab.host_c);
        daemon.release(gone);
        let text = daemon.order("metrics");
        assert!(!text.contains(&format!("floating_ip=\"{gone}\"")), "{text}");
    }
    let associated = "ipfloater_operations_total{verb=\"associate\",outcome=\"granted\"}";
    assert_eq!(told(associated), 6.0);
    let released = "ipfloater_operations_total{verb=\"release\",outcome=\"granted\"}";
    assert_eq!(told(released), 2.0);
    let in_state = |state: &str| {
        ["ipv4", "ipv6"].map(|family| {
            let pool = format!("pool=\"default\",family=\"{family}\"");
            told(&format!("ipfloater_addresses{{{pool},state=\"{state}\"}}"))
        })
    };
    assert_eq!(in_state("active"), [1.0, 1.0]);
    assert!(told("ipfloater_kernel_duration_seconds_sum{operation=\"transact\"}") > 0.0);

    // Somebody else's edit is put right, and that is counted.
    assert_eq!(told("ipfloater_repairs_total"), 0.0);
    lab.router.nft("flush chain inet ipfloater outbound");
    super::namespace::eventually("the edit is put right", || {
        told("ipfloater_repairs_total") == 1.0
    });
    assert_eq!(told("ipfloater_events_total{verb=\"repair\"}"), 1.0);
    let looked = "ipfloater_reconciliations_total{extent=\"everything\",outcome=\"done\"}";
    assert!(told(looked) >= 1.0);

    // An interface that is down keeps addresses from being in force.
    assert_eq!(told("ipfloater_degraded"), 0.0);
    lab.router.ip("link set wan0 down");
    super::namespace::eventually("they wait", || in_state("pending") == [1.0, 1.0]);
    assert_eq!(told("ipfloater_degraded"), 1.0);
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
    assert!(words.contains("COUNTERS = yes"), "{words}");
    let table = lab.router.program("nft list table inet ipfloater");
    assert!(!table.contains("counted"), "{table}");
}

/// What iperf3 measures from one host to an address, on average after its first
/// seconds, in which what may pass at once has passed: bits a second that arrived.
fn measured(client: &Host, server: &Host, to: IpAddr, options: &str) -> f64 {
    let mut serving = Command::new("iperf3");
    serving.args(["-s", "-1", "--json"]);
    serving.stdout(Stdio::null()).stderr(Stdio::null());
    let mut serving = server.start(serving);
    let listens = || {
        let listening = server.program("ss -Hltn sport = :5201");
        !listening.is_empty()
    };
    super::namespace::eventually("iperf3 listens", listens);
    let line = format!("timeout 25 iperf3 -c {to} -t 6 -O 2 --json --get-server-output {options}");
    let told = client.try_program(&line, "");
    let _ = serving.kill();
    serving.wait().expect("it has ended");
    // What the two ends tell each other is held to the rate as well, and may come
    // too late.
    let Ok(told) = told else {
        return 0.0;
    };
    let answer: Value = serde_json::from_str(&told).expect("it is JSON");
    // Who received knows what arrived.
    let receiver = match options.contains("-R") {
        true => &answer,
        false => &answer["server_output_json"],
    };
    let intervals = receiver["intervals"].as_array().into_iter().flatten();
    let rates: Vec<_> = intervals
        .map(|interval| &interval["sum"])
        .filter(|sum| sum["omitted"] == false && sum["seconds"].as_f64() > Some(0.5))
        .filter_map(|sum| sum["bits_per_second"].as_f64())
        .collect();
    assert!(rates.len() >= 4, "{answer}");
    // The first one after those left out may lack a part of what arrived in it.
    rates[1..].iter().sum::<f64>() / (rates.len() - 1) as f64
}

/// Bytes of a datagram that iperf3 sends, and with headers.
const DATAGRAM: f64 = 1_200.0;

#[test]
fn a_rate_is_held_in_each_direction_for_udp_within_5_percent_and_for_tcp_within_10() {
    let lab = Lab::new();
    let daemon = lab.start();
    for (family, rate, udp, reverse) in [
        (Family::V4, "10M", true, ""),
        (Family::V4, "100M", false, "-R"),
        (Family::V6, "100M", true, "-R"),
        (Family::V6, "10M", false, ""),
    ] {
        let address = floating(family, 10);
        daemon.associate(address, &lab.host_a);
        let (limited, other) = match reverse {
            "" => ("in", "out"),
            _ => ("out", "in"),
        };
        daemon.order(&format!(
            "set {address} --rate-{limited} {rate} --rate-{other} none"
        ));
        let bits = rate.parse::<Rate>().expect("it is a rate").bits() as f64;
        let what = format!("{family} {limited} {rate}, UDP: {udp}");
        let (options, share, within) = if udp {
            // What the receiver's own socket loses is not the router's doing.
            let options = format!("{reverse} -u -l {DATAGRAM} -b {}", 2.0 * bits);
            let share = DATAGRAM / (DATAGRAM + headers(family) as f64);
            (options, share, 0.05)
        } else {
            (reverse.to_owned(), 1.0, 0.10)
        };
        // On a machine that is busy with other things, too little is sent.
        let ratio = (0..5)
            .map(|_| measured(&lab.far, &lab.host_a, address, &options) / share / bits)
            .inspect(|ratio| println!("{what}: {ratio:.3}"))
            .find(|ratio| (ratio - 1.0).abs() <= within);
        assert!(ratio.is_some(), "{what}");
    }
}

#[test]
fn a_host_that_begins_a_flow_for_each_packet_is_held_to_its_rate() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let address = floating(family, 10);
        daemon.associate(address, &lab.host_a);
        daemon.order(&format!("set {address} --rate-out 80k"));
        let (from, to) = (lab.host_a.address(family), lab.far.address(family));
        // A second's worth is 10,000 bytes, and 65,536 may pass beyond it.
        for port in 10_000..10_400 {
            let ends = [(from, port), (to, 9)].map(|(ip, port)| SocketAddr::new(ip, port));
            let payload = datagram(ends[0], ends[1], &"x".repeat(1_000));
            lab.host_a.send_packet(from, to, UDP, &payload);
        }
        let [_, _, packets, bytes] = daemon.counters(address);
        assert!(
            (60..120).contains(&packets),
            "{packets} packets, {bytes} bytes"
        );
    }
}

#[test]
fn a_rate_is_altered_and_taken_away_under_flows_that_go_on() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let address = floating(family, 10);
        daemon.associate(address, &lab.host_a);
        let far = lab.far.address(family);
        let flows = Transport::BOTH.map(|transport| {
            let mut conversation = lab
                .far
                .converse(transport, address)
                .expect("it is answered");
            let answer = conversation.say();
            assert_eq!(answer, saw(&lab.host_a, far));
            (conversation.keep_talking(), answer)
        });
        for options in [
            "--rate-in 50M --rate-out 50M",
            "--rate-in 20M",
            "--rate-out 1G",
            "--rate-in none",
            "--rate-in 0 --rate-out none",
        ] {
            daemon.order(&format!("set {address} {options}"));
            flows.iter().for_each(|(flow, _)| flow.wait_for_more(20));
        }
        for (flow, answer) in flows {
            flow.end().assert_whole(&answer, "a flow under rates");
        }
        let table = lab.router.program("nft list table inet ipfloater");
        assert!(!table.contains("@limited"), "the rules are gone: {table}");
        // Nobody else pays for it, nor counts otherwise.
        is_counted(
            &lab,
            &daemon,
            SocketAddr::new(address, 4000),
            &lab.host_a,
            4000,
        );
    }
}

#[test]
fn rates_and_sources_are_in_force_after_a_restart_and_an_edit() {
    let lab = Lab::new();
    let mut daemon = lab.start_with(Start {
        hidden: Some("table-owner"),
        ..Start::PLAIN
    });
    for family in Family::BOTH {
        let address = floating(family, 10);
        daemon.associate(address, &lab.host_a);
        let outside = lab.outside.address(family);
        let options = format!("--rate-in 20M --rate-out 30M --allow {outside}");
        daemon.order(&format!("set {address} {options}"));
    }
    let table = || {
        let table = lab.router.program("nft list table inet ipfloater");
        let kept = |line: &&str| !line.contains("flags owner") && !line.contains("counter packets");
        let mut chains: Vec<_> = table.split("\n\n").map(str::to_owned).collect();
        // A chain that was made later is listed later.
        chains.sort();
        let lines = chains.iter().flat_map(|chain| chain.lines()).filter(kept);
        let lines: Vec<_> = lines.filter(|line| line.trim().len() > 1).collect();
        lines.join("\n")
    };
    let right = table();
    assert!(
        right.contains("limit rate over 2500000 bytes/second"),
        "{right}"
    );
    daemon.stop();
    daemon.start(&lab.router);
    assert_eq!(table(), right, "after a restart");
    assert!(
        daemon.log().contains("corrected=0 rebuilt=false"),
        "{}",
        daemon.log()
    );
    for edit in [
        "flush set inet ipfloater allowed4",
        "flush set inet ipfloater filtered6",
        "flush set inet ipfloater limited_in4",
        "flush chain inet ipfloater by_source",
        "flush chain inet ipfloater nat_prerouting",
        "add element inet ipfloater allowed6 { 2001:db8::10 . ::/0 }",
        "delete table inet ipfloater",
    ] {
        let repairs = daemon.repairs();
        lab.router.nft(edit);
        super::namespace::eventually("the edit is put right", || daemon.repairs() > repairs);
        assert_eq!(table(), right, "after {edit}");
    }
}

#[test]
fn only_the_allowed_sources_reach_a_floating_ip_from_outside() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let [whole, ports] = [10, 11].map(|number| floating(family, number));
        let (far, outside) = (lab.far.address(family), lab.outside.address(family));
        daemon.associate(whole, &lab.host_a);
        let from = SocketAddr::new(ports, 8080);
        let to = SocketAddr::new(lab.host_b.address(family), PORT);
        daemon.order(&format!("forward {from} {to}"));
        for address in [whole, ports] {
            daemon.order(&format!("set {address} --allow {outside}"));
        }
        for transport in Transport::BOTH {
            assert_eq!(lab.outside.ask(transport, whole), saw(&lab.host_a, outside));
            let answer = lab.far.ask_briefly(transport, whole);
            assert!(answer.is_err(), "{answer:?}");
            // What the host itself begins is answered, to whomever it speaks.
            assert_eq!(lab.host_a.ask(transport, far), saw(&lab.far, whole));
        }
        assert!(lab.far.ping_briefly(whole).is_err());
        assert_eq!(lab.outside.ping(whole), Ok(whole));
        let answer = lab.outside.ask_port(Tcp, ports, 8080);
        assert_eq!(answer, saw(&lab.host_b, outside));
        let answer = lab.far.ask_port_briefly(Tcp, ports, 8080);
        assert!(answer.is_err(), "{answer:?}");
        // The filter is for what comes from outside.
        assert_eq!(
            lab.host_c.ask(Tcp, whole),
            saw(&lab.host_a, lab.router_towards(&lab.host_a, family))
        );
        assert_eq!(lab.host_a.ping(whole), Ok(whole));
        assert_eq!(lab.router.ping(whole), Ok(whole));
        // A prefix, and then everybody.
        let prefix = match family {
            Family::V4 => "203.0.113.0/24",
            Family::V6 => "2001:db8:f::/48",
        };
        daemon.order(&format!("set {whole} --allow {prefix}"));
        assert_eq!(lab.far.ask(Udp, whole), saw(&lab.host_a, far));
        assert!(lab.outside.ask_briefly(Udp, whole).is_err());
        daemon.order(&format!("set {whole} --allow-all"));
        assert_eq!(lab.outside.ask(Udp, whole), saw(&lab.host_a, outside));
        daemon.order(&format!("set {ports} --allow-all"));
        let table = lab.router.program("nft list table inet ipfloater");
        assert!(!table.contains("@filtered"), "the rules are gone: {table}");
    }
}

#[test]
fn flows_from_sources_that_are_allowed_no_longer_have_ended_before_the_answer() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let address = floating(family, 10);
        daemon.associate(address, &lab.host_a);
        let (far, outside) = (lab.far.address(family), lab.outside.address(family));
        let begin = |client: &Host, to: IpAddr| {
            let mut flow = client.converse(Tcp, to).expect("it is answered");
            flow.say().expect("it is answered");
            flow.with_patience(BRIEFLY)
        };
        let mut cut = begin(&lab.far, address);
        let mut allowed = begin(&lab.outside, address);
        let mut own = begin(&lab.host_a, far);
        let mut inside = begin(&lab.host_c, address);
        daemon.order(&format!("set {address} --allow {outside}"));
        let entries = lab.router.program("conntrack -L");
        let of_far = |line: &&str| {
            line.contains(&format!("src={far} dst={address} sport="))
                && line.find("src=") == line.find(&format!("src={far} dst="))
        };
        let left: Vec<_> = entries.lines().filter(of_far).collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(cut.say().is_err(), "{family}");
        assert_eq!(allowed.say(), saw(&lab.host_a, outside), "{family}");
        assert_eq!(own.say(), saw(&lab.far, address), "{family}");
        assert!(inside.say().is_ok(), "{family}");
    }
}

#[test]
fn what_cannot_be_a_rate_or_a_source_is_refused_by_its_field() {
    let lab = Lab::new();
    let daemon = lab.start();
    let address = floating(Family::V4, 10);
    daemon.associate(address, &lab.host_a);
    for (options, words) in [
        (
            "--rate-in 7k",
            "a rate is 8000 to 100000000000 bits a second",
        ),
        (
            "--rate-out 1T",
            "a rate is 8000 to 100000000000 bits a second",
        ),
        (
            "--allow 2001:db8::/32",
            "2001:db8::/32 is not IPv4, as 198.51.100.10 is",
        ),
        ("--allow nobody", "--allow: \"nobody\" is no prefix"),
        ("--allow 192.0.2.0/33", "\"192.0.2.0/33\" is no prefix"),
    ] {
        let refused = daemon.ipfloater(&format!("set {address} {options}"));
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success() && told.contains(words),
            "{options}: {told}"
        );
    }
    let many: String = (0..65)
        .map(|number| format!(" --allow 192.0.2.{}", 2 * number))
        .collect();
    let refused = daemon.ipfloater(&format!("set {address}{many}"));
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("at most 64 prefixes"), "{told}");
}

#[test]
fn the_busiest_addresses_are_watched_live() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let (busy, idle) = (floating(family, 10), floating(family, 11));
        daemon.associate(busy, &lab.host_a);
        daemon.associate(idle, &lab.host_b);
        let flow = lab
            .far
            .converse(Udp, busy)
            .expect("a socket")
            .keep_talking();
        flow.wait_for_more(5);
        let seen = daemon.json("top -d 1 -n 1");
        let rows = seen["addresses"].as_array().expect("addresses");
        assert_eq!(rows.len(), 1, "{seen}");
        assert_eq!(rows[0]["floating_ip"], busy.to_string());
        for part in ["bits_in", "bits_out", "packets_in", "packets_out"] {
            assert!(
                rows[0][part].as_u64().is_some_and(|rate| rate > 0),
                "{seen}"
            );
        }
        let told = daemon.order("top -d 1 -n 1");
        assert!(told.starts_with("1 address with traffic; in "), "{told}");
        assert!(told.contains(&busy.to_string()), "{told}");
        assert!(!told.contains(&idle.to_string()), "{told}");
        drop(flow.end());
        daemon.release(busy);
        daemon.release(idle);
    }
}
