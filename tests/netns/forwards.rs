//! Ports of a floating IP that lead to hosts of their own.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipfloater::model::Family;

use super::craft::{SCTP, sctp_init, sctp_init_ack};
use super::daemon::{Daemon, Start};
use super::lab::{Host, Lab, floating};
use super::namespace::{BRIEFLY, eventually};
use super::service::PORT;
use super::talk::{Tcp, Transport, Udp, saw};

/// An address with ports, as the command line takes it.
fn end(address: IpAddr, ports: impl std::fmt::Display) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}:{ports}"),
        IpAddr::V6(address) => format!("[{address}]:{ports}"),
    }
}

fn name(transport: Transport) -> &'static str {
    match transport {
        Tcp => "tcp",
        Udp => "udp",
    }
}

impl Daemon {
    /// Leads ports of a floating IP to those of a host from one on.
    pub(super) fn forward(
        &self,
        floating: IpAddr,
        ports: &str,
        transport: Transport,
        host: &Host,
        port: u16,
        more: &str,
    ) -> String {
        let from = end(floating, format!("{ports}/{}", name(transport)));
        let to = end(host.address(Family::of(floating)), port);
        self.order(&format!("forward {from} {to} {more}"))
    }

    pub(super) fn unforward(&self, floating: IpAddr, ports: &str, transport: Transport) -> String {
        let from = end(floating, format!("{ports}/{}", name(transport)));
        self.order(&format!("unforward {from}"))
    }
}

/// What is forwarded in most tests: ports of the floating IP, where they lead,
/// and which of them comes out at the service of the host.
struct Row {
    transport: Transport,
    ports: &'static str,
    to: u16,
    service: u16,
}

/// A port to another, a port to the same, a range to the same ports, and a range
/// to others.
fn rows() -> Vec<Row> {
    let row = |transport, ports, to, service| Row {
        transport,
        ports,
        to,
        service,
    };
    Transport::BOTH
        .into_iter()
        .flat_map(|transport| {
            [
                row(transport, "8080", PORT, 8080),
                row(transport, "7", PORT, PORT),
                row(transport, "5-205", 5, PORT),
                row(transport, "9000-9200", PORT - 2, 9002),
            ]
        })
        .collect()
}

#[test]
fn every_kind_of_forward_leads_to_its_host_with_and_without_association() {
    let lab = Lab::new();
    let daemon = lab.start();
    for (family, tied) in Family::BOTH
        .map(|family| [(family, false), (family, true)])
        .concat()
    {
        let floating = floating(family, 10);
        let (far, outside) = (lab.far.address(family), lab.outside.address(family));
        if tied {
            daemon.associate(floating, &lab.host_a);
        }
        for Row {
            transport,
            ports,
            to,
            service,
        } in rows()
        {
            let what = format!("{ports}/{transport:?} {family}, associated: {tied}");
            daemon.forward(floating, ports, transport, &lab.host_b, to, "");
            for (client, own) in [(&lab.far, far), (&lab.outside, outside)] {
                let answer = client.ask_port(transport, floating, service);
                assert_eq!(answer, saw(&lab.host_b, own), "{what}");
            }
            // The rest is the host's that has the address, or nobody's.
            if tied {
                if service != PORT {
                    let answer = lab.far.ask(transport, floating);
                    assert_eq!(answer, saw(&lab.host_a, far), "{what}");
                }
                assert_eq!(lab.far.ping(floating), Ok(floating), "{what}");
                let answer = lab.host_a.ask(transport, far);
                assert_eq!(answer, saw(&lab.far, floating), "{what}");
            } else {
                assert!(lab.far.ping_briefly(floating).is_err(), "{what}");
                let other = if service == PORT { 8080 } else { PORT };
                let answer = lab.far.ask_port_briefly(transport, floating, other);
                assert!(answer.is_err(), "{what}: {answer:?}");
            }
            daemon.unforward(floating, ports, transport);
        }
        if tied {
            for transport in Transport::BOTH {
                assert_eq!(lab.far.ask(transport, floating), saw(&lab.host_a, far));
            }
        }
        daemon.release(floating);
    }
}

#[test]
fn one_address_leads_to_several_hosts_and_says_so() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        let far = lab.far.address(family);
        daemon.associate(floating, &lab.host_a);
        daemon.forward(floating, "8080", Tcp, &lab.host_b, PORT, "");
        daemon.forward(floating, "8080", Udp, &lab.host_c, PORT, "");
        daemon.forward(floating, "9000-9009", Tcp, &lab.host_c, PORT, "");
        assert_eq!(lab.far.ask_port(Tcp, floating, 8080), saw(&lab.host_b, far));
        assert_eq!(lab.far.ask_port(Udp, floating, 8080), saw(&lab.host_c, far));
        assert_eq!(lab.far.ask_port(Tcp, floating, 9000), saw(&lab.host_c, far));
        assert_eq!(lab.far.ask(Tcp, floating), saw(&lab.host_a, far));

        let shown = daemon.show(floating);
        let forwards = shown["forwards"].as_array().expect("there are some");
        let ports: Vec<_> = forwards.iter().map(|forward| &forward["ports"]).collect();
        assert_eq!(ports, ["8080", "9000-9009", "8080"], "{shown}");
        let line = daemon.order(&format!("show {floating}"));
        let to = end(lab.host_b.address(family), PORT);
        assert!(
            line.contains(&format!("Forwards: 8080/tcp to {to}")),
            "{line}"
        );
        let list = daemon.order("list");
        let fixed = lab.host_a.address(family);
        assert!(list.contains(&format!("{fixed} +3")), "{list}");

        // Every part of it goes with the address.
        daemon.release(floating);
        assert_eq!(daemon.state(floating), "free");
        assert!(lab.far.ask_port_briefly(Tcp, floating, 8080).is_err());
    }
}

#[test]
fn sctp_is_forwarded_there_and_back() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        for (number, ports, to, from, service) in [
            (10, "3868", 3869, 3868, 3869),
            (11, "3868", 3868, 3868, 3868),
            (12, "3000-3200", 3000, 3100, 3100),
            (13, "3000-3200", 4000, 3100, 4100),
        ] {
            let floating = floating(family, number);
            let host = lab.host_b.address(family);
            daemon.order(&format!(
                "forward {} {}",
                end(floating, format!("{ports}/sctp")),
                end(host, to)
            ));
            let far = lab.far.address(family);
            let (at_host, at_client) = (lab.host_b.sniff(), lab.far.sniff());
            let (client, server) = (SocketAddr::new(far, 40_000), SocketAddr::new(host, service));
            let init = sctp_init(client, SocketAddr::new(floating, from));
            lab.far.send_packet(far, floating, SCTP, &init);
            let arrived = at_host.wait_for("the INIT arrives", |packet| packet.protocol == SCTP);
            assert_eq!((arrived.source, arrived.destination), (far, host));
            assert_eq!(arrived.payload[..4], sctp_init(client, server)[..4]);
            // Its checksum, over the ports alone, was put right.
            assert_eq!(arrived.payload, sctp_init(client, server));

            let ack = sctp_init_ack(server, client);
            lab.host_b.send_packet(host, far, SCTP, &ack);
            let answered = at_client.wait_for("the answer arrives", |packet| {
                packet.incoming && packet.protocol == SCTP
            });
            assert_eq!(answered.source, floating);
            assert_eq!(
                answered.payload,
                sctp_init_ack(SocketAddr::new(floating, from), client)
            );
            daemon.release(floating);
        }
    }
}

#[test]
fn a_host_with_only_forwards_leaves_as_it_would_or_as_the_address() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let (floating, other) = (floating(family, 10), floating(family, 11));
        let (host, far) = (lab.host_b.address(family), lab.far.address(family));
        daemon.forward(floating, "8080", Tcp, &lab.host_b, PORT, "");
        let mut before = lab.host_b.converse(Udp, far).expect("a flow");
        assert_eq!(before.say(), saw(&lab.far, host), "not translated by us");

        // Said later, of the same forward.
        daemon.forward(
            floating,
            "8080",
            Tcp,
            &lab.host_b,
            PORT,
            "--outbound floating",
        );
        for transport in Transport::BOTH {
            assert_eq!(lab.host_b.ask(transport, far), saw(&lab.far, floating));
        }
        assert_eq!(before.say(), saw(&lab.far, floating), "begun before");
        assert_eq!(lab.far.ask_port(Tcp, floating, 8080), saw(&lab.host_b, far));

        // It leaves as one address only, and its own goes before.
        let clash = daemon.ipfloater(&format!(
            "forward {} {} --outbound floating",
            end(other, 80),
            end(host, 80)
        ));
        let said = String::from_utf8_lossy(&clash.stderr).into_owned();
        assert!(
            said.contains(&format!("leaves as {floating} already")),
            "{said}"
        );
        daemon.associate(other, &lab.host_b);
        assert_eq!(before.say(), saw(&lab.far, other));
        daemon.disassociate(other);
        assert_eq!(before.say(), saw(&lab.far, floating));

        daemon.unforward(floating, "8080", Tcp);
        assert_eq!(before.say(), saw(&lab.far, host));
        daemon.release(floating);
        daemon.release(other);
    }
}

#[test]
fn inside_hosts_and_the_router_reach_a_forward_and_a_host_reaches_itself() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let (floating, own) = (floating(family, 10), floating(family, 12));
        let ports = [("8080", PORT, 8080), ("5-205", 5, PORT)];
        daemon.associate(own, &lab.host_c);
        for transport in Transport::BOTH {
            for (ports, to, service) in ports {
                daemon.forward(floating, ports, transport, &lab.host_b, to, "");
                let router = lab.router_towards(&lab.host_b, family);
                for (client, seen) in [
                    (&lab.host_a, router),
                    (&lab.host_b, router),
                    (&lab.host_c, own),
                ] {
                    assert_eq!(
                        client.ask_port(transport, floating, service),
                        saw(&lab.host_b, seen),
                        "{} {transport:?} {ports}",
                        client.name
                    );
                }
                let answer = lab.router.ask_port(transport, floating, service);
                let answer = answer.expect("the router is answered");
                assert!(answer.starts_with("host_b saw "), "{answer}");
                daemon.unforward(floating, ports, transport);
            }
            // One that leaves as the address reaches itself as the address.
            daemon.forward(
                floating,
                "8080",
                transport,
                &lab.host_b,
                PORT,
                "--outbound floating",
            );
            assert_eq!(
                lab.host_b.ask_port(transport, floating, 8080),
                saw(&lab.host_b, floating)
            );
            daemon.unforward(floating, "8080", transport);
        }
        daemon.release(floating);
        daemon.release(own);
    }
}

#[test]
fn a_moved_forward_has_left_its_former_host_when_the_command_returns() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        let outside = lab.outside.address(family);
        daemon.associate(floating, &lab.host_c);
        let mut whole = lab.outside.converse(Udp, floating).expect("a flow");
        assert_eq!(whole.say(), saw(&lab.host_c, outside));
        for (ports, to, service) in [("8080", PORT, 8080), ("5-205", 5, PORT), ("9-19", 7, 9)] {
            for transport in Transport::BOTH {
                daemon.forward(floating, ports, transport, &lab.host_a, to, "");
            }
            let mut datagrams = lab
                .outside
                .converse_port(Udp, floating, service)
                .expect("a flow");
            let mut lines = lab
                .outside
                .converse_port(Tcp, floating, service)
                .expect("a connection");
            assert_eq!(datagrams.say(), saw(&lab.host_a, outside));
            assert_eq!(lines.say(), saw(&lab.host_a, outside));
            for transport in Transport::BOTH {
                daemon.forward(floating, ports, transport, &lab.host_b, to, "--reassociate");
            }
            assert_eq!(datagrams.say(), saw(&lab.host_b, outside), "{ports}");
            assert!(lines.say().is_err(), "{ports}: the connection ends");

            // And when it is gone, the rest of the address has these flows.
            for transport in Transport::BOTH {
                daemon.unforward(floating, ports, transport);
            }
            let mut late = datagrams.with_patience(Duration::from_millis(300));
            match service {
                PORT => assert_eq!(late.say(), saw(&lab.host_c, outside), "{ports}"),
                _ => assert!(late.say().is_err(), "{ports}"),
            }
            assert_eq!(whole.say(), saw(&lab.host_c, outside));
        }
        daemon.release(floating);
    }
}

#[test]
fn a_flow_that_began_before_its_port_was_forwarded_goes_over_and_others_stay() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        let far = lab.far.address(family);
        daemon.associate(floating, &lab.host_a);
        daemon.forward(floating, "8080", Tcp, &lab.host_c, PORT, "");
        let mut whole = lab.far.converse(Udp, floating).expect("a flow");
        let mut lines = lab.far.converse(Tcp, floating).expect("a connection");
        let mut forwarded = lab
            .far
            .converse_port(Tcp, floating, 8080)
            .expect("a connection");
        assert_eq!(whole.say(), saw(&lab.host_a, far));
        assert_eq!(lines.say(), saw(&lab.host_a, far));
        assert_eq!(forwarded.say(), saw(&lab.host_c, far));

        daemon.forward(floating, "7", Udp, &lab.host_b, PORT, "");
        assert_eq!(whole.say(), saw(&lab.host_b, far));
        assert_eq!(lines.say(), saw(&lab.host_a, far), "another protocol");
        assert_eq!(forwarded.say(), saw(&lab.host_c, far), "another forward");

        // Nor does the host of the rest matter to forwards.
        daemon.reassociate(floating, &lab.host_b);
        assert_eq!(forwarded.say(), saw(&lab.host_c, far));
        daemon.disassociate(floating);
        assert_eq!(forwarded.say(), saw(&lab.host_c, far));
        assert_eq!(whole.say(), saw(&lab.host_b, far));
        daemon.release(floating);
    }
}

#[test]
fn an_address_with_only_forwards_is_answered_for_and_closed_but_for_these() {
    for configuration in ["", "BLOCK_PUBLIC_IPS = false"] {
        let lab = Lab::new();
        let daemon = lab.start_with(Start {
            configuration,
            ..Start::PLAIN
        });
        let service = lab.router.serve();
        for family in Family::BOTH {
            let floating = floating(family, 10);
            assert_eq!(lab.outside.hardware_address_of(floating), None);
            daemon.forward(floating, "8080", Tcp, &lab.host_b, PORT, "");
            assert_eq!(daemon.state(floating), "active");
            assert!(lab.outside.hardware_address_of(floating).is_some());
            for client in [&lab.outside, &lab.far, &lab.host_a] {
                for transport in Transport::BOTH {
                    let answer = client.ask_briefly(transport, floating);
                    assert!(
                        answer.is_err(),
                        "{configuration} {}: {answer:?}",
                        client.name
                    );
                }
                assert!(client.ping_briefly(floating).is_err(), "{}", client.name);
            }
            daemon.unforward(floating, "8080", Tcp);
            assert_eq!(daemon.state(floating), "allocated");
            assert_eq!(lab.outside.hardware_address_of(floating), None);
        }
        assert_eq!(service.heard(), [], "{configuration}");
    }
}

#[test]
fn two_hundred_ports_come_and_go_and_no_packet_notices() {
    let lab = Lab::new();
    let daemon = lab.start();
    let mut flows = Vec::new();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        let far = lab.far.address(family);
        daemon.associate(floating, &lab.host_a);
        daemon.forward(floating, "8080", Tcp, &lab.host_b, PORT, "");
        let through = lab.far.converse_port(Tcp, floating, 8080).expect("a flow");
        flows.push((through.keep_talking(), saw(&lab.host_b, far)));
        for transport in Transport::BOTH {
            let whole = lab.far.converse(transport, floating).expect("a flow");
            flows.push((whole.keep_talking(), saw(&lab.host_a, far)));
            let out = lab.host_a.converse(transport, far).expect("a flow");
            flows.push((out.keep_talking(), saw(&lab.far, floating)));
        }
    }
    for family in Family::BOTH {
        for (ports, to) in [("20000-20199", 20_000), ("20000-20199", 30_000)] {
            for _ in 0..5 {
                daemon.forward(floating(family, 10), ports, Udp, &lab.host_c, to, "");
                daemon.unforward(floating(family, 10), ports, Udp);
            }
        }
    }
    for (flow, answer) in flows {
        flow.wait_for_more(5);
        flow.end().assert_whole(&answer, "while ports come and go");
    }
}

#[test]
fn forwards_outlive_restarts_and_crashes_without_the_loss_of_a_packet() {
    let lab = Lab::new();
    let mut daemon = lab.start();
    let mut flows = Vec::new();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        let far = lab.far.address(family);
        for transport in Transport::BOTH {
            daemon.forward(floating, "8080", transport, &lab.host_b, PORT, "");
            daemon.forward(
                floating,
                "5-205",
                transport,
                &lab.host_c,
                5,
                "--outbound floating",
            );
            let single = lab.far.converse_port(transport, floating, 8080);
            let range = lab.far.converse(transport, floating);
            let out = lab.host_c.converse(transport, far);
            for (flow, answer) in [
                (single, saw(&lab.host_b, far)),
                (range, saw(&lab.host_c, far)),
                (out, saw(&lab.far, floating)),
            ] {
                flows.push((flow.expect("a flow").keep_talking(), answer));
            }
        }
    }
    let shown = Family::BOTH.map(|family| daemon.show(floating(family, 10)));
    for end in [Daemon::stop as fn(&mut Daemon), Daemon::kill] {
        end(&mut daemon);
        flows.iter().for_each(|(flow, _)| flow.wait_for_more(5));
        daemon.start(&lab.router);
        flows.iter().for_each(|(flow, _)| flow.wait_for_more(5));
        assert!(daemon.log().contains("corrected=0"), "{}", daemon.log());
        assert_eq!(
            Family::BOTH.map(|family| daemon.show(floating(family, 10))),
            shown
        );
    }
    assert_eq!(daemon.repairs(), 0);
    for (flow, answer) in flows {
        flow.end().assert_whole(&answer, "over restarts");
    }
}

#[test]
fn what_others_flush_or_remove_is_put_back() {
    let lab = Lab::new();
    let daemon = lab.start_with(Start {
        hidden: Some("table-owner"),
        ..Start::PLAIN
    });
    for family in Family::BOTH {
        let floating = floating(family, 10);
        daemon.forward(floating, "8080", Tcp, &lab.host_b, PORT, "");
        daemon.forward(floating, "5-205", Udp, &lab.host_c, 5, "");
    }
    for command in [
        "flush ruleset",
        "delete element inet ipfloater forward4 { 198.51.100.10 . tcp . 8080 }",
        "flush map inet ipfloater forward_range6",
        "flush chain inet ipfloater by_port",
    ] {
        let repairs = daemon.repairs();
        lab.router.nft(command);
        eventually("it is noticed", || daemon.repairs() > repairs);
        for family in Family::BOTH {
            let (floating, far) = (floating(family, 10), lab.far.address(family));
            assert_eq!(lab.far.ask_port(Tcp, floating, 8080), saw(&lab.host_b, far));
            assert_eq!(lab.far.ask(Udp, floating), saw(&lab.host_c, far));
        }
    }
}

#[test]
fn what_was_altered_while_the_daemon_was_away_is_corrected_with_its_flows() {
    let lab = Lab::new();
    let mut daemon = lab.start();
    for family in Family::BOTH {
        daemon.forward(floating(family, 10), "8080", Udp, &lab.host_b, PORT, "");
    }
    daemon.stop();
    let mut flows = Vec::new();
    for family in Family::BOTH {
        let (floating, host_a) = (floating(family, 10), lab.host_a.address(family));
        let (version, port) = match family {
            Family::V4 => (4, format!("{host_a} . 7")),
            Family::V6 => (6, format!("{host_a} . 7")),
        };
        let key = format!("{floating} . udp . 8080");
        lab.router.nft(&format!(
            "delete element inet ipfloater forward{version} {{ {key} }}"
        ));
        lab.router.nft(&format!(
            "add element inet ipfloater forward{version} {{ {key} : {port} }}"
        ));
        let mut flow = lab.far.converse_port(Udp, floating, 8080).expect("a flow");
        let far = lab.far.address(family);
        assert_eq!(flow.say(), saw(&lab.host_a, far), "led astray");
        // An answer may be lost when the flow is ended.
        flows.push((flow.with_patience(BRIEFLY), saw(&lab.host_b, far)));
    }
    daemon.start(&lab.router);
    for (flow, answer) in &mut flows {
        eventually("the flow goes where it should", || flow.say() == *answer);
    }
}

#[test]
fn what_clashes_is_refused_and_names_the_other() {
    let lab = Lab::new();
    let daemon = lab.start();
    let (floating, host) = ("198.51.100.10", "10.0.1.12");
    daemon.order(&format!("forward {floating}:8000-8010/tcp {host}"));
    for (line, words) in [
        (
            format!("forward {floating}:8010-8020/tcp {host}"),
            "198.51.100.10 forwards 8000-8010/tcp -> 10.0.1.12:8000; `ipfloater unforward 198.51.100.10:8000-8010/tcp` removes that forward",
        ),
        (
            format!("forward {floating}:8000-8010/tcp 10.0.1.11"),
            "198.51.100.10 forwards 8000-8010/tcp -> 10.0.1.12:8000 already; --reassociate",
        ),
        (
            format!("unforward {floating}:8005"),
            "forwards 8000-8010/tcp",
        ),
        (
            format!("forward {floating}:65000-65535 {host}:65001"),
            "beyond 65535",
        ),
        (
            format!("forward {floating}:0 {host}"),
            "the port is 1 to 65535",
        ),
        (
            format!("forward {floating}:80/icmp {host}"),
            "tcp, udp or sctp",
        ),
        (format!("forward {floating}:80 192.0.2.1"), "private ranges"),
        (format!("forward {floating}:80 10.0.1.1"), "router's own"),
        (format!("forward {floating}:80 fd00:1::11"), "famil"),
        ("forward 192.0.2.1:80 10.0.1.12".to_owned(), "in no pool"),
    ] {
        let output = daemon.ipfloater(&line);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains(words),
            "{line}: {said}"
        );
    }
    let clash = daemon.ipfloater(&format!("unforward {floating}:8005"));
    assert_eq!(clash.status.code(), Some(6), "something else has it");
    let again = daemon.order(&format!("forward {floating}:8000-8010/tcp {host}"));
    assert!(again.contains("already"), "{again}");
    let absent = daemon.order(&format!("unforward {floating}:80"));
    assert!(absent.contains("does not forward 80/tcp"), "{absent}");
}

#[test]
fn what_leads_to_a_host_is_found_and_ended_by_its_address() {
    let lab = Lab::new();
    let daemon = lab.start();
    let [first, second, third] = [10, 11, 12].map(|last| floating(Family::V4, last));
    let host = lab.host_a.address(Family::V4);
    daemon.forward(first, "80", Tcp, &lab.host_a, PORT, "");
    daemon.forward(first, "81", Tcp, &lab.host_b, PORT, "");
    let far = lab.far.address(Family::V4);
    assert_eq!(lab.far.ask_port(Tcp, first, 80), saw(&lab.host_a, far));
    let listed = || {
        let listed = daemon.json(&format!("list --fixed {host}"));
        let addresses = listed["addresses"].as_array().expect("a list").clone();
        let floating = |address: &serde_json::Value| address["floating_ip"].clone();
        addresses.iter().map(floating).collect::<Vec<_>>()
    };
    assert_eq!(listed(), [first.to_string()]);
    assert_eq!(
        daemon.json(&format!("show {host}"))["address"]["floating_ip"],
        first.to_string()
    );
    daemon.forward(second, "8000-8010", Udp, &lab.host_a, PORT, "");
    assert_eq!(listed(), [first.to_string(), second.to_string()]);
    let told = daemon.ipfloater(&format!("show {host}"));
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(
        told.contains(&format!("ports of {first}, {second} lead to it")),
        "{told}"
    );
    daemon.order(&format!("associate {third} {host}"));
    assert_eq!(listed().len(), 3);
    assert_eq!(
        daemon.json(&format!("show {host}"))["address"]["floating_ip"],
        third.to_string()
    );

    let told = daemon.order(&format!("releaseip {host} --dry-run"));
    assert!(told.contains("80"), "{told}");
    assert_eq!(listed().len(), 3, "nothing was done");
    assert_eq!(
        daemon.order(&format!("releaseip {host}")),
        format!(
            "Released the redirection from IP {third}\n\
             Released the redirection from IP {first}:80/tcp\n\
             Released the redirection from IP {second}:8000-8010/udp\n"
        )
    );
    assert!(listed().is_empty());
    assert!(lab.far.ask_port(Tcp, first, 80).is_err(), "nobody answers");
    assert_eq!(
        lab.far.ask_port(Tcp, first, 81),
        saw(&lab.host_b, far),
        "the other host's goes on"
    );
    // As the next machine of that address gets none of it.
    let told = daemon.ipfloater(&format!("releaseip {host}"));
    assert_eq!(told.status.code(), Some(5), "{told:?}");

    daemon.forward(first, "80", Tcp, &lab.host_a, PORT, "");
    let told = daemon.order(&format!("releaseip {host}"));
    assert_eq!(
        told,
        format!("Released the redirection from IP {first}:80/tcp\n")
    );
    assert!(lab.far.ask_port(Tcp, first, 80).is_err(), "nobody answers");
}
