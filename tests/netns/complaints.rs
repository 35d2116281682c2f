//! What users of other systems suffered, each as a test named after the report.
//!
//! docs/complaints.md tells what each was about. Where a scenario is tested more
//! thoroughly elsewhere, here is the short form that the report asked for.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use ipfloater::model::Family;

use super::daemon::{Daemon, Start};
use super::lab::{Host, Lab, Plan, floating};
use super::namespace::{BRIEFLY, eventually};
use super::service::PORT;
use super::sniffer::{Packet, Seen, Sniffer};
use super::talk::{Conversation, Tcp, Transport, Udp, saw};
use super::uplinks::{NAMED_GATEWAY, second};

/// A lab with a daemon.
fn begin() -> (Lab, Daemon) {
    let lab = Lab::new();
    let daemon = lab.start();
    (lab, daemon)
}

/// A flow that was answered once.
fn flow(from: &Host, transport: Transport, to: IpAddr) -> Conversation {
    let mut flow = from.converse(transport, to).expect("it can begin");
    flow.say().expect("it is answered");
    flow
}

/// The router forgets all that the kernel held of ours, as at a reboot.
fn forget(lab: &Lab) {
    lab.router.nft("flush ruleset");
    lab.router.ip("route flush proto 245 table local");
    for family in Family::BOTH {
        let _ = lab.router.try_program(
            &format!("ip address delete {} dev wan0", floating(family, 10)),
            "",
        );
    }
}

#[test]
fn grycap_ipfloater_5_a_host_is_seen_outside_with_its_public_address() {
    let (lab, daemon) = begin();
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
        for transport in Transport::BOTH {
            let answer = lab.host_a.ask(transport, lab.far.address(family));
            assert_eq!(answer, saw(&lab.far, floating(family, 10)));
        }
    }
}

#[test]
fn ossn_0020_disassociating_ends_open_sessions() {
    let (lab, daemon) = begin();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        daemon.associate(floating, &lab.host_a);
        let [datagrams, lines] = Transport::BOTH.map(|it| flow(&lab.far, it, floating));
        daemon.disassociate(floating);
        for open in [datagrams, lines] {
            let mut open = open.with_patience(BRIEFLY);
            assert_eq!(open.say(), Err(ErrorKind::TimedOut));
        }
    }
}

#[test]
fn kube_ovn_1919_what_the_host_began_ends_with_the_association() {
    let (lab, daemon) = begin();
    for family in Family::BOTH {
        let (floating, far) = (floating(family, 10), lab.far.address(family));
        daemon.associate(floating, &lab.host_a);
        let [datagrams, lines] = Transport::BOTH.map(|it| flow(&lab.host_a, it, far));
        daemon.disassociate(floating);
        for open in [datagrams, lines] {
            let mut open = open.with_patience(BRIEFLY);
            assert_ne!(open.say(), saw(&lab.far, floating));
        }
    }
}

#[test]
fn kubernetes_65228_flows_are_found_by_the_address_that_the_client_used() {
    let (lab, daemon) = begin();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        daemon.associate(floating, &lab.host_a);
        // From outside, from the LAN, from the router: each is another tuple.
        let clients = [&lab.far, &lab.host_c, &lab.router];
        let flows = clients.map(|client| (client, flow(client, Udp, floating)));
        daemon.reassociate(floating, &lab.host_b);
        for (client, mut flow) in flows {
            let answer = flow.say().expect("the new host answers");
            assert!(
                answer.starts_with("host_b saw "),
                "{}: {answer}",
                client.name
            );
        }
        daemon.release(floating);
    }
}

#[test]
fn kube_vip_777_flows_of_other_addresses_are_spared() {
    let (lab, daemon) = begin();
    for family in Family::BOTH {
        let (held, other) = (floating(family, 10), floating(family, 11));
        let (outside, far) = (lab.outside.address(family), lab.far.address(family));
        daemon.associate(held, &lab.host_a);
        daemon.associate(other, &lab.host_b);
        let asked = flow(&lab.outside, Tcp, held).keep_talking();
        let begun = flow(&lab.host_a, Tcp, far).keep_talking();
        daemon.reassociate(other, &lab.host_c);
        daemon.release(other);
        asked.wait_for_more(10);
        begun.wait_for_more(10);
        asked
            .end()
            .assert_whole(&saw(&lab.host_a, outside), "asked");
        begun.end().assert_whole(&saw(&lab.far, held), "begun");
    }
}

#[test]
fn moby_53384_datagrams_to_a_forwarded_port_follow_it() {
    let (lab, daemon) = begin();
    for family in Family::BOTH {
        let (floating, far) = (floating(family, 10), lab.far.address(family));
        // The port of the host is another than the one that the client knows.
        daemon.forward(floating, "5353", Udp, &lab.host_a, PORT, "");
        let mut open = lab
            .far
            .converse_port(Udp, floating, 5353)
            .expect("a socket");
        assert_eq!(open.say(), saw(&lab.host_a, far));
        daemon.forward(floating, "5353", Udp, &lab.host_b, PORT, "--reassociate");
        assert_eq!(open.say(), saw(&lab.host_b, far));
    }
}

#[test]
fn start9_4046_and_kube_ovn_4193_flows_from_before_are_taken_up() {
    let (lab, daemon) = begin();
    for family in Family::BOTH {
        let (floating, outside) = (floating(family, 10), lab.outside.address(family));
        let mut open = flow(&lab.host_a, Udp, outside).with_patience(BRIEFLY);
        daemon.associate(floating, &lab.host_a);
        eventually("it leaves with the floating IP", || {
            open.say() == saw(&lab.outside, floating)
        });
    }
}

#[test]
fn netavark_1362_datagrams_find_the_right_host_after_a_restart() {
    let (lab, mut daemon) = begin();
    for family in Family::BOTH {
        let (floating, far) = (floating(family, 10), lab.far.address(family));
        daemon.associate(floating, &lab.host_a);
        let open = flow(&lab.far, Udp, floating);
        daemon.kill();
        // What conntrack remembers is of before; what is true is another host.
        lab.router.nft(&format!(
            "delete element inet ipfloater floating_to_fixed{0} {{ {floating} }}
             add element inet ipfloater floating_to_fixed{0} {{ {floating} : {1} }}",
            if floating.is_ipv4() { 4 } else { 6 },
            lab.host_b.address(family),
        ));
        let strayed = flow(&lab.far, Udp, floating);
        daemon.start(&lab.router);
        for open in [open, strayed] {
            // An answer may be lost when the flow is ended.
            let mut open = open.with_patience(BRIEFLY);
            eventually("it reaches the host that has the address", || {
                open.say() == saw(&lab.host_a, far)
            });
        }
        daemon.release(floating);
    }
}

#[test]
fn kube_ovn_3815_unbound_from_one_host_and_bound_to_another_it_is_reached() {
    let (lab, daemon) = begin();
    for family in Family::BOTH {
        let (floating, far) = (floating(family, 10), lab.far.address(family));
        for host in [&lab.host_a, &lab.host_b, &lab.host_c, &lab.host_a] {
            daemon.associate(floating, host);
            for transport in Transport::BOTH {
                assert_eq!(lab.far.ask(transport, floating), saw(host, far));
                assert_eq!(host.ask(transport, far), saw(&lab.far, floating));
            }
            daemon.disassociate(floating);
        }
    }
}

/// The ARP announcements of an address: requests and replies.
fn announcements(sniffer: &Sniffer, address: IpAddr) -> [usize; 2] {
    [1, 2].map(|wanted| {
        let seen = sniffer.seen().into_iter();
        let is_one = |seen: &Seen| match seen {
            Seen::Arp {
                operation,
                sender,
                target,
                ..
            } => *operation == wanted && IpAddr::from(*sender) == address && sender == target,
            Seen::Ip(_) => false,
        };
        seen.filter(is_one).count()
    })
}

/// Unsolicited neighbour advertisements of an address (RFC 4861 7.2.6).
fn is_advertisement(packet: &Packet, address: IpAddr) -> bool {
    let IpAddr::V6(address) = address else {
        return false;
    };
    packet.is_icmp(0xff, 136) && packet.payload[8..24] == address.octets()
}

fn is_announced(sniffer: &Sniffer, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => announcements(sniffer, address)
            .iter()
            .all(|count| *count > 0),
        IpAddr::V6(_) => {
            let like = |packet: &Packet| is_advertisement(packet, address);
            !sniffer.packets(like).is_empty()
        }
    }
}

#[test]
fn metallb_172_and_123_an_address_is_announced_as_request_and_as_reply_and_again() {
    let (lab, daemon) = begin();
    let sniffer = lab.outside.sniff();
    let address = floating(Family::V4, 10);
    daemon.associate(address, &lab.host_a);
    eventually("both kinds", || announcements(&sniffer, address) >= [1, 1]);
    // Linux heeds one a second at most (`locktime`, arp(7)).
    std::thread::sleep(Duration::from_millis(1_100));
    eventually("both again", || announcements(&sniffer, address) >= [2, 2]);
}

#[test]
fn metallb_2910_and_1761_an_address_is_announced_for_ever_when_that_is_wanted() {
    let lab = Lab::new();
    let daemon = lab.start_with(Start {
        configuration: "ANNOUNCE_REFRESH = 10",
        ..Start::PLAIN
    });
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
    }
    // All that is said when an address is new.
    std::thread::sleep(Duration::from_secs(4));
    let sniffer = lab.outside.sniff();
    for family in Family::BOTH {
        let address = floating(family, 10);
        eventually("it is announced", || is_announced(&sniffer, address));
    }
}

#[test]
fn ovn_kubernetes_6553_who_released_an_address_no_longer_answers_for_it() {
    let (lab, mut daemon) = begin();
    for family in Family::BOTH {
        let (released, held) = (floating(family, 10), floating(family, 11));
        daemon.associate(released, &lab.host_a);
        daemon.associate(held, &lab.host_b);
        assert!(lab.outside.hardware_address_of(released).is_some());
        daemon.release(released);
        assert_eq!(lab.outside.hardware_address_of(released), None);
    }
    // Without the daemon what is held stays, until it is told to go.
    daemon.stop();
    for family in Family::BOTH {
        let held = floating(family, 11);
        assert!(lab.outside.hardware_address_of(held).is_some());
    }
    let output = daemon.tear_down(&lab.router);
    assert!(output.status.success(), "{output:?}");
    for family in Family::BOTH {
        assert_eq!(lab.outside.hardware_address_of(floating(family, 11)), None);
    }
}

#[test]
fn vip_manager_12_an_address_on_a_link_that_is_down_is_announced_when_it_comes_up() {
    let (lab, daemon) = begin();
    lab.outside.ip("link set eth0 down");
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
    }
    let sniffer = lab.outside.sniff();
    lab.outside.ip("link set eth0 up");
    for family in Family::BOTH {
        let what = format!("{family} is announced");
        eventually(&what, || is_announced(&sniffer, floating(family, 10)));
    }
}

#[test]
fn kube_ovn_4690_and_antrea_5117_addresses_are_announced_after_a_restart() {
    let (lab, mut daemon) = begin();
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
    }
    for end in [Daemon::stop as fn(&mut Daemon), Daemon::kill] {
        end(&mut daemon);
        let sniffer = lab.outside.sniff();
        daemon.start(&lab.router);
        for family in Family::BOTH {
            let what = format!("{family} is announced");
            eventually(&what, || is_announced(&sniffer, floating(family, 10)));
        }
    }
}

#[test]
fn incus_1965_and_moby_8519_a_forwarded_host_can_leave_with_the_address() {
    let (lab, daemon) = begin();
    for family in Family::BOTH {
        let (floating, far) = (floating(family, 10), lab.far.address(family));
        daemon.forward(
            floating,
            "8080",
            Tcp,
            &lab.host_a,
            PORT,
            "--outbound floating",
        );
        assert_eq!(lab.far.ask_port(Tcp, floating, 8080), saw(&lab.host_a, far));
        for transport in Transport::BOTH {
            assert_eq!(lab.host_a.ask(transport, far), saw(&lab.far, floating));
        }
    }
}

#[test]
fn incus_1175_one_apps_265_kube_ovn_3950_and_dpservice_815_hairpin() {
    for bridge_in_router in [false, true] {
        let lab = Lab::planned(Plan { bridge_in_router });
        if bridge_in_router {
            // docs/ruleset.md: what br_netfilter needs.
            lab.router.program("bridge link set dev port_a hairpin on");
        }
        let daemon = lab.start();
        for family in Family::BOTH {
            let (a, b) = (floating(family, 10), floating(family, 11));
            daemon.associate(a, &lab.host_a);
            daemon.associate(b, &lab.host_b);
            assert_eq!(lab.host_a.ask(Tcp, a), saw(&lab.host_a, a), "itself");
            assert_eq!(lab.host_a.ask(Tcp, b), saw(&lab.host_b, a), "one LAN");
            let router = lab.router_towards(&lab.host_a, family);
            assert_eq!(lab.host_c.ask(Tcp, a), saw(&lab.host_a, router), "two LANs");
        }
    }
}

#[test]
fn kube_ovn_5029_3241_and_4987_rules_are_there_after_a_reboot() {
    let (lab, mut daemon) = begin();
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
    }
    daemon.kill();
    forget(&lab);
    daemon.start(&lab.router);
    for family in Family::BOTH {
        let (floating, outside) = (floating(family, 10), lab.outside.address(family));
        assert_eq!(lab.outside.ask(Tcp, floating), saw(&lab.host_a, outside));
        assert_eq!(lab.host_a.ask(Tcp, outside), saw(&lab.outside, floating));
    }
}

#[test]
fn cloudstack_14184_what_goes_to_another_site_keeps_its_source() {
    let lab = Lab::new();
    let daemon = lab.start_with(Start {
        configuration: "NEVER_TRANSLATE = 203.0.113.0/24, 2001:db8:f::/48",
        ..Start::PLAIN
    });
    for family in Family::BOTH {
        let floating = floating(family, 10);
        let (host, far) = (lab.host_a.address(family), lab.far.address(family));
        let outside = lab.outside.address(family);
        daemon.associate(floating, &lab.host_a);
        for transport in Transport::BOTH {
            assert_eq!(lab.host_a.ask(transport, far), saw(&lab.far, host));
            assert_eq!(
                lab.host_a.ask(transport, outside),
                saw(&lab.outside, floating)
            );
            // From there the host is reached by its own address, and by the other.
            assert_eq!(lab.far.ask(transport, host), saw(&lab.host_a, far));
            assert_eq!(lab.far.ask(transport, floating), saw(&lab.host_a, far));
        }
        assert_eq!(lab.host_a.ping(far), Ok(far));
    }
}

#[test]
fn firewall4_93_and_opnsense_7531_answers_leave_by_the_provider_they_came_from() {
    let lab = Lab::new();
    let _second = lab.second_provider();
    let daemon = lab.start_with(NAMED_GATEWAY);
    for family in Family::BOTH {
        let (address, far) = (second(family, 10), lab.far.address(family));
        daemon.associate(address, &lab.host_b);
        for transport in Transport::BOTH {
            assert_eq!(lab.far.ask(transport, address), saw(&lab.host_b, far));
            assert_eq!(lab.host_b.ask(transport, far), saw(&lab.far, address));
        }
    }
}

#[test]
fn cloudstack_5824_a_released_address_leaves_nothing_on_the_router() {
    let (lab, daemon) = begin();
    let traces = || {
        [
            "ip -o address",
            "ip route show table all",
            "nft list table inet ipfloater",
        ]
        .map(|program| lab.router.program(program))
        .concat()
    };
    let before = traces();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        daemon.associate(floating, &lab.host_a);
        daemon.forward(floating, "8000-8010", Tcp, &lab.host_b, 9000, "");
        assert!(traces().contains(&floating.to_string()));
        daemon.release(floating);
    }
    eventually("all is as before", || traces() == before);
}

#[test]
fn kube_ovn_5115_and_6412_many_changes_at_once_leave_no_rule_behind() {
    let (lab, daemon) = begin();
    std::thread::scope(|scope| {
        for number in 10..18 {
            let (daemon, lab) = (&daemon, &lab);
            scope.spawn(move || {
                for host in [&lab.host_a, &lab.host_b, &lab.host_c]
                    .into_iter()
                    .cycle()
                    .take(6)
                {
                    for family in Family::BOTH {
                        let floating = floating(family, number);
                        let fixed = host.address(family);
                        // Who is refused because of another is fine.
                        let _ = daemon
                            .ipfloater(&format!("associate {floating} {fixed} --reassociate"));
                    }
                }
                for family in Family::BOTH {
                    daemon.release(floating(family, number));
                }
            });
        }
    });
    let table = lab.router.program("nft list table inet ipfloater");
    for host in [&lab.host_a, &lab.host_b, &lab.host_c] {
        for family in Family::BOTH {
            let fixed = host.address(family).to_string();
            assert!(!table.contains(&fixed), "{fixed} is still in {table}");
        }
    }
}

#[test]
fn nixpkgs_286584_netavark_230_and_firewalld_863_who_flushes_all_rules_is_put_right() {
    let lab = Lab::new();
    let daemon = lab.start_with(Start {
        hidden: Some("table-owner"),
        ..Start::PLAIN
    });
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
    }
    lab.router.nft("flush ruleset");
    for family in Family::BOTH {
        let outside = lab.outside.address(family);
        eventually("it works again", || {
            lab.outside.ask_briefly(Udp, floating(family, 10)) == saw(&lab.host_a, outside)
        });
    }
    eventually("it is counted", || daemon.repairs() > 0);
}

#[test]
fn moby_14288_and_19017_two_hundred_ports_are_one_range() {
    let (lab, daemon) = begin();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        let elements = |table: &str| table.matches(&floating.to_string()).count();
        let map = format!("forward_range{}", if floating.is_ipv4() { 4 } else { 6 });
        let list = || {
            lab.router
                .program(&format!("nft list map inet ipfloater {map}"))
        };
        let before = elements(&list());
        daemon.forward(floating, "20000-20199", Udp, &lab.host_a, 20_000, "");
        assert_eq!(elements(&list()) - before, 1);
        daemon.unforward(floating, "20000-20199", Udp);
        assert_eq!(elements(&list()), before);
    }
}

#[test]
fn moby_46026_and_docker_roadmap_157_the_host_sees_the_clients_own_address() {
    let (lab, daemon) = begin();
    for family in Family::BOTH {
        let (whole, ports) = (floating(family, 10), floating(family, 11));
        daemon.associate(whole, &lab.host_a);
        daemon.forward(ports, "8080", Tcp, &lab.host_b, PORT, "");
        for client in [&lab.far, &lab.outside] {
            let own = client.address(family);
            assert_eq!(client.ask(Tcp, whole), saw(&lab.host_a, own));
            assert_eq!(client.ask_port(Tcp, ports, 8080), saw(&lab.host_b, own));
        }
    }
}

#[test]
fn kube_vip_865_no_packet_leaves_with_another_source_while_the_daemon_starts() {
    let (lab, mut daemon) = begin();
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
    }
    for _ in 0..3 {
        daemon.kill();
        let flows = Family::BOTH.map(|family| {
            let to = lab.outside.address(family);
            (family, flow(&lab.host_a, Udp, to).keep_talking())
        });
        daemon.start(&lab.router);
        for family in Family::BOTH {
            let to = lab.outside.address(family);
            let answer = lab.host_a.ask(Udp, to);
            assert_eq!(answer, saw(&lab.outside, floating(family, 10)));
        }
        for (family, flow) in flows {
            flow.wait_for_more(5);
            let answer = saw(&lab.outside, floating(family, 10));
            flow.end().assert_whole(&answer, "while the daemon starts");
        }
    }
}

#[test]
fn osism_testbed_737_an_ipv6_address_floats_as_an_ipv4_address_does() {
    let (lab, daemon) = begin();
    let (floating, far) = (floating(Family::V6, 10), lab.far.address(Family::V6));
    daemon.associate(floating, &lab.host_a);
    assert_eq!(lab.far.ask(Tcp, floating), saw(&lab.host_a, far));
    assert_eq!(lab.host_a.ask(Tcp, far), saw(&lab.far, floating));
    assert_eq!(lab.far.ping(floating), Ok(floating));
    daemon.reassociate(floating, &lab.host_c);
    assert_eq!(lab.far.ask(Tcp, floating), saw(&lab.host_c, far));
}

/// The document and the tests name each other.
#[test]
fn every_report_in_the_document_has_its_test_here() {
    let document = include_str!("../../docs/complaints.md");
    let code = include_str!("complaints.rs");
    let rows = document.lines().filter(|line| line.ends_with("` |"));
    let named: BTreeSet<_> = rows.filter_map(|row| row.rsplit('`').nth(1)).collect();
    let tests = code.split("#[test]\nfn ").skip(1);
    let tests = tests.filter_map(|test| test.split("()").next());
    let mut tests: BTreeSet<_> = tests.collect();
    assert!(tests.remove("every_report_in_the_document_has_its_test_here"));
    assert_eq!(named, tests);
}
