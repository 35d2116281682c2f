//! A floating IP that changes hands while it is used.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ipfloater::model::Family;

use super::craft::{UDP, datagram};
use super::daemon::Daemon;
use super::lab::{Host, Lab, floating};
use super::namespace::{BRIEFLY, eventually};
use super::service::PORT;
use super::talk::{Tcp, Transport, Udp, saw};

#[test]
fn a_moved_address_has_left_its_former_host_when_the_command_returns() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        daemon.associate(floating, &lab.host_a);
        let outside = lab.outside.address(family);
        let mut datagrams = lab
            .outside
            .converse(Udp, floating)
            .expect("a socket can be made");
        let mut lines = lab.outside.converse(Tcp, floating).expect("a connection");
        assert_eq!(datagrams.say(), saw(&lab.host_a, outside));
        assert_eq!(lines.say(), saw(&lab.host_a, outside));

        daemon.reassociate(floating, &lab.host_b);

        assert_eq!(
            datagrams.say(),
            saw(&lab.host_b, outside),
            "the flow of datagrams goes to the new host"
        );
        // The new host knows nothing of the connection and resets it.
        assert_eq!(lines.say(), Err(ErrorKind::ConnectionReset));
        for transport in Transport::BOTH {
            assert_eq!(
                lab.outside.ask(transport, floating),
                saw(&lab.host_b, outside)
            );
        }
        daemon.release(floating);
    }
}

#[test]
fn the_former_host_sends_nothing_more_with_the_address() {
    let lab = Lab::new();
    let daemon = lab.start();
    for (family, take) in Family::BOTH.into_iter().flat_map(|family| {
        [
            move_to_b as fn(&Daemon, IpAddr, &Lab),
            disassociate,
            release,
        ]
        .map(|take| (family, take))
    }) {
        let floating = floating(family, 10);
        daemon.associate(floating, &lab.host_a);
        let (host, outside) = (lab.host_a.address(family), lab.outside.address(family));
        let mut asked = lab
            .outside
            .converse(Udp, floating)
            .expect("a socket can be made");
        let mut datagrams = lab
            .host_a
            .converse(Udp, outside)
            .expect("a socket can be made");
        let mut lines = lab.host_a.converse(Tcp, outside).expect("a connection");
        assert_eq!(asked.say(), saw(&lab.host_a, outside));
        assert_eq!(datagrams.say(), saw(&lab.outside, floating));
        assert_eq!(lines.say(), saw(&lab.outside, floating));

        take(&daemon, floating, &lab);

        let sniffer = lab.outside.sniff();
        // What it began itself leaves as from any host without floating IP.
        assert_eq!(datagrams.say(), saw(&lab.outside, host));
        assert!(lines.say().is_err(), "the connection ends");
        // What it was asked, it answers in vain.
        let (from, to) = (
            SocketAddr::new(host, PORT),
            SocketAddr::new(outside, asked.local().port()),
        );
        lab.host_a
            .send_packet(host, outside, UDP, &datagram(from, to, "a late answer"));
        sniffer.wait_for("the late answer is seen", |packet| {
            packet.says("a late answer")
        });
        let stale = sniffer.packets(|packet| {
            packet.source == floating && (packet.says("a late answer") || packet.says(&lines.tag()))
        });
        assert_eq!(stale, [], "{family}");
        let _ = daemon.ipfloater(&format!("release {floating}"));
    }
}

fn move_to_b(daemon: &Daemon, floating: IpAddr, lab: &Lab) {
    daemon.reassociate(floating, &lab.host_b);
}

fn disassociate(daemon: &Daemon, floating: IpAddr, _: &Lab) {
    daemon.disassociate(floating);
}

fn release(daemon: &Daemon, floating: IpAddr, _: &Lab) {
    daemon.release(floating);
}

#[test]
fn flows_into_an_address_end_when_it_is_disassociated_or_released() {
    let lab = Lab::new();
    let daemon = lab.start();
    let service = lab.router.serve();
    for family in Family::BOTH {
        for take in [disassociate as fn(&Daemon, IpAddr, &Lab), release] {
            let floating = floating(family, 10);
            daemon.associate(floating, &lab.host_a);
            let outside = lab.outside.address(family);
            let mut datagrams = lab
                .outside
                .converse(Udp, floating)
                .expect("a socket can be made");
            let mut lines = lab.outside.converse(Tcp, floating).expect("a connection");
            assert_eq!(datagrams.say(), saw(&lab.host_a, outside));
            assert_eq!(lines.say(), saw(&lab.host_a, outside));

            take(&daemon, floating, &lab);

            for mut conversation in [datagrams, lines] {
                let tag = conversation.tag();
                let heard = lab.host_a.service().heard().len();
                conversation = conversation.with_patience(BRIEFLY);
                assert_eq!(conversation.say(), Err(ErrorKind::TimedOut), "{tag}");
                assert_eq!(lab.host_a.service().heard().len(), heard);
            }
        }
    }
    assert_eq!(service.heard(), []);
}

#[test]
fn flows_of_other_addresses_go_on_when_one_is_associated_moved_or_released() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let (kept, other) = (floating(family, 10), floating(family, 11));
        daemon.associate(kept, &lab.host_a);
        let outside = lab.outside.address(family);
        let flow = lab
            .outside
            .converse(Tcp, kept)
            .expect("a connection")
            .keep_talking();
        // A flow that is cut may be picked up again, but as another entry.
        let entry = || {
            let listed = lab.router.program(match family {
                Family::V4 => "conntrack -L -o id -f ipv4 -p tcp --orig-dst 198.51.100.10",
                Family::V6 => "conntrack -L -o id -f ipv6 -p tcp --orig-dst 2001:db8::10",
            });
            let id = listed
                .split_whitespace()
                .find(|word| word.starts_with("id="));
            id.expect("the flow is there").to_owned()
        };
        let before = entry();
        daemon.associate(other, &lab.host_b);
        daemon.reassociate(other, &lab.host_c);
        daemon.disassociate(other);
        daemon.release(other);
        flow.wait_for_more(20);
        assert_eq!(entry(), before);
        flow.end()
            .assert_whole(&saw(&lab.host_a, outside), "while another address moves");
    }
}

#[test]
fn flows_that_a_host_began_before_its_association_are_taken_up() {
    let lab = Lab::new();
    lab.router.nft(
        "table inet other {
           chain postrouting {
             type nat hook postrouting priority srcnat
             oifname wan0 masquerade
           }
         }",
    );
    let daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        let outside = lab.outside.address(family);
        let mut datagrams = lab
            .host_a
            .converse(Udp, outside)
            .expect("a socket can be made");
        assert_eq!(
            datagrams.say(),
            saw(&lab.outside, lab.router.address(family))
        );
        let mut inside = lab
            .host_a
            .converse(Tcp, lab.host_c.address(family))
            .expect("a connection");
        assert!(inside.say().is_ok());
        let inside = inside.keep_talking();

        daemon.associate(floating, &lab.host_a);

        // An answer may be lost when the flow is taken up.
        let mut datagrams = datagrams.with_patience(BRIEFLY);
        eventually("the flow leaves with the floating IP", || {
            datagrams.say() == saw(&lab.outside, floating)
        });
        inside.wait_for_more(20);
        let report = inside.end();
        report.assert_whole(
            &saw(&lab.host_c, lab.host_a.address(family)),
            "from LAN to LAN",
        );
    }
}

#[test]
fn an_answer_under_way_does_not_keep_a_flow_from_before_the_association() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        let (host, outside) = (lab.host_a.address(family), lab.outside.address(family));
        let open = lab.host_a.converse(Udp, outside);
        let mut open = open.expect("a socket").with_patience(BRIEFLY);
        eventually("outside hears the host itself", || {
            open.say() == saw(&lab.outside, host)
        });

        daemon.associate(floating, &lab.host_a);

        // They come when the flow has ended, and begin one from outside.
        let (from, to) = (
            SocketAddr::new(outside, PORT),
            SocketAddr::new(host, open.local().port()),
        );
        for _ in 0..25 {
            let late = datagram(from, to, "a late answer");
            lab.outside.send_packet(outside, host, UDP, &late);
            std::thread::sleep(Duration::from_millis(20));
        }
        eventually("the flow leaves with the floating IP", || {
            open.say() == saw(&lab.outside, floating)
        });
    }
}

#[test]
fn a_displaced_address_stays_allocated_and_falls_silent() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let (first, second) = (floating(family, 10), floating(family, 11));
        daemon.associate(first, &lab.host_a);
        daemon.associate(second, &lab.host_b);
        daemon.reassociate(first, &lab.host_b);
        assert_eq!(daemon.state(second), "allocated");
        let outside = lab.outside.address(family);
        for transport in Transport::BOTH {
            assert_eq!(lab.outside.ask(transport, first), saw(&lab.host_b, outside));
            assert!(lab.outside.ask_briefly(transport, second).is_err());
            assert_eq!(lab.host_b.ask(transport, outside), saw(&lab.outside, first));
            assert_eq!(
                lab.host_a.ask(transport, outside),
                saw(&lab.outside, lab.host_a.address(family))
            );
        }
    }
}

/// How often an address is moved to and fro.
const MOVES: usize = 200;

#[test]
fn while_an_address_is_moved_to_and_fro_every_new_flow_reaches_one_of_its_hosts() {
    let lab = Lab::new();
    let daemon = lab.start();
    let floating = Family::BOTH.map(|family| floating(family, 10));
    for address in floating {
        daemon.associate(address, &lab.host_a);
    }
    let stop = AtomicBool::new(false);
    let tags = std::thread::scope(|scope| {
        let clients = floating.map(|address| {
            let (lab, stop) = (&lab, &stop);
            scope.spawn(move || {
                let mut tags = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let mut flow = lab
                        .outside
                        .converse(Udp, address)
                        .expect("a socket can be made");
                    flow.mention().expect("a datagram can be sent");
                    tags.push(flow.tag());
                    std::thread::sleep(Duration::from_millis(1));
                }
                tags
            })
        });
        for (_, host) in (0..MOVES / 2).zip([&lab.host_b, &lab.host_a].into_iter().cycle()) {
            for address in floating {
                daemon.reassociate(address, host);
            }
        }
        stop.store(true, Ordering::Relaxed);
        clients
            .map(|client| client.join().expect("it does not panic"))
            .concat()
    });
    assert!(tags.len() > MOVES, "only {} flows", tags.len());
    // The last may still be on its way.
    std::thread::sleep(BRIEFLY);
    let heard = [&lab.host_a, &lab.host_b].map(|host| {
        let heard = host.service().heard().into_iter();
        let tag = |text: String| text.split_once('>').map(|(tag, _)| format!("{tag}>"));
        heard
            .filter_map(|heard| tag(heard.text))
            .collect::<Vec<_>>()
    });
    let times = |tag: &String| heard.iter().flatten().filter(|other| *other == tag).count();
    let odd: Vec<_> = tags
        .iter()
        .map(|tag| (tag, times(tag)))
        .filter(|(_, times)| *times != 1)
        .collect();
    assert_eq!(
        odd,
        [],
        "of {} flows these were not heard exactly once",
        tags.len()
    );
    assert!(
        heard.iter().all(|heard| !heard.is_empty()),
        "both hosts had their share"
    );
}

#[test]
fn with_keep_established_flows_stay_where_they_are_and_only_new_ones_follow() {
    let lab = Lab::new();
    let mut daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        daemon.associate(floating, &lab.host_a);
        let outside = lab.outside.address(family);
        let to_a = saw(&lab.host_a, outside);
        let as_floating = saw(&lab.outside, floating);
        let converse = |host: &Host, transport, to| {
            let mut flow = host.converse(transport, to).expect("it can begin");
            flow.say().expect("it is answered");
            flow
        };
        let mut asked =
            Transport::BOTH.map(|transport| converse(&lab.outside, transport, floating));
        let mut begun = Transport::BOTH.map(|transport| converse(&lab.host_a, transport, outside));
        let mut before = converse(&lab.host_b, Tcp, outside);
        let host_b = lab.host_b.address(family);

        daemon.order(&format!(
            "associate {floating} {host_b} --reassociate --keep-established"
        ));

        let mut go_on = || {
            for flow in &mut asked {
                assert_eq!(flow.say(), to_a, "{family}: asked");
            }
            for flow in &mut begun {
                assert_eq!(flow.say(), as_floating, "{family}: begun");
            }
            let router_or_host = saw(&lab.outside, host_b);
            assert_eq!(before.say(), router_or_host, "{family}: begun before");
            for transport in Transport::BOTH {
                assert_eq!(
                    lab.outside.ask(transport, floating),
                    saw(&lab.host_b, outside)
                );
                assert_eq!(lab.host_b.ask(transport, outside), as_floating);
            }
        };
        go_on();
        let kept = daemon.show(floating)["kept_hosts"].clone();
        let both = [lab.host_a.address(family), host_b].map(|host| host.to_string());
        assert_eq!(kept, serde_json::json!(both));

        // Who starts looks at all flows, and ends what disagrees.
        daemon.stop();
        daemon.start(&lab.router);
        go_on();

        daemon.reassociate(floating, &lab.host_c);
        assert_eq!(
            asked[0].say(),
            saw(&lab.host_c, outside),
            "datagrams follow"
        );
        assert_eq!(asked[1].say(), Err(ErrorKind::ConnectionReset));
        let [datagrams, lines] = &mut begun;
        assert_ne!(datagrams.say(), as_floating);
        assert!(lines.say().is_err());
        assert!(daemon.show(floating).get("kept_hosts").is_none());
        daemon.release(floating);
    }
}
