//! Inside hosts that reach a floating IP.

use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use ipfloater::model::Family;

use super::lab::{Lab, floating};
use super::namespace::eventually;
use super::talk::{Tcp, Transport, Udp, saw};

#[test]
fn a_host_with_a_floating_ip_is_seen_with_it_by_the_host_behind_another() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let hosts = [(10, &lab.host_a), (11, &lab.host_b), (12, &lab.host_c)];
        for (number, host) in hosts {
            daemon.associate(floating(family, number), host);
        }
        // On one LAN and across two, there and back.
        for (from, client) in hosts {
            for (to, server) in hosts {
                let (own, to) = (floating(family, from), floating(family, to));
                for transport in Transport::BOTH {
                    let what = format!("{transport:?} from {} to {to}", client.name);
                    assert_eq!(client.ask(transport, to), saw(server, own), "{what}");
                }
                assert_eq!(client.ping(to), Ok(to));
            }
        }
    }
}

#[test]
fn a_host_reaches_itself_by_its_own_floating_ip() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        daemon.associate(floating, &lab.host_a);
        for transport in Transport::BOTH {
            assert_eq!(
                lab.host_a.ask(transport, floating),
                saw(&lab.host_a, floating)
            );
        }
        assert_eq!(lab.host_a.ping(floating), Ok(floating));
    }
}

#[test]
fn a_host_without_a_floating_ip_is_seen_with_the_routers_address() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        daemon.associate(floating, &lab.host_a);
        let router = lab.router_towards(&lab.host_a, family);
        for client in [&lab.host_b, &lab.host_c] {
            for transport in Transport::BOTH {
                assert_eq!(
                    client.ask(transport, floating),
                    saw(&lab.host_a, router),
                    "{}",
                    client.name
                );
            }
            assert_eq!(client.ping(floating), Ok(floating));
        }
    }
}

#[test]
fn the_router_itself_reaches_a_floating_ip() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        for (number, host) in [(10, &lab.host_a), (12, &lab.host_c)] {
            let floating = floating(family, number);
            daemon.associate(floating, host);
            // The kernel makes an IPv6 address work a moment after it took it.
            assert!(lab.outside.hardware_address_of(floating).is_some());
            let router = lab.router_towards(host, family);
            for transport in Transport::BOTH {
                assert_eq!(lab.router.ask(transport, floating), saw(host, router));
            }
            assert_eq!(lab.router.ping(floating), Ok(floating));
        }
    }
}

#[test]
fn a_flow_that_begins_as_soon_as_an_address_is_associated_goes_on() {
    let lab = Lab::new();
    let daemon = lab.start();
    // Among many flows it takes a while to find those that are to end.
    occupy_conntrack(&lab, 60_000);
    for (family, _) in Family::BOTH.into_iter().cycle().zip(0..10) {
        let floating = floating(family, 10);
        let said = std::thread::scope(|scope| {
            let client = scope.spawn(|| talk_at_once(&lab, floating));
            daemon.associate(floating, &lab.host_a);
            client.join().expect("it does not panic")
        });
        let router = lab.router_towards(&lab.host_a, family);
        assert_eq!(said, saw(&lab.host_a, router));
        daemon.release(floating);
    }
}

/// Asks until there is an answer, then begins a connection at once and says
/// much.
fn talk_at_once(lab: &Lab, floating: IpAddr) -> Result<String, ErrorKind> {
    eventually("the address is associated", || {
        let flow = lab.host_c.converse(Udp, floating);
        let flow = flow.expect("a socket can be made");
        flow.with_patience(Duration::from_millis(10)).say().is_ok()
    });
    let mut connection = lab.host_c.converse(Tcp, floating)?;
    for _ in 0..20 {
        connection.say_long(500_000)?;
    }
    connection.say()
}

/// Gives the router so many flows to keep, which nobody ever answers.
fn occupy_conntrack(lab: &Lab, flows: u16) {
    lab.outside.ip("route add blackhole 192.0.2.0/24");
    lab.host_b.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("there is a free port");
        for port in 1..=flows {
            socket
                .send_to(b"", ("192.0.2.1", port))
                .expect("there is a route");
        }
    });
    let kept = || {
        lab.router
            .run(|| std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count"))
    };
    eventually("the router keeps the flows", || {
        kept().is_ok_and(|count| {
            count
                .trim()
                .parse::<u16>()
                .is_ok_and(|count| count > flows / 2)
        })
    });
}

#[test]
fn inside_hosts_reach_a_free_address_no_more_than_others_do() {
    let lab = Lab::new();
    let daemon = lab.start();
    let service = lab.router.serve();
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
        let free = floating(family, 20);
        for client in [&lab.host_a, &lab.host_b, &lab.host_c] {
            for transport in Transport::BOTH {
                assert!(
                    client.ask_briefly(transport, free).is_err(),
                    "{} {transport:?}",
                    client.name
                );
            }
            assert!(client.ping_briefly(free).is_err());
        }
    }
    assert_eq!(service.heard(), []);
}
