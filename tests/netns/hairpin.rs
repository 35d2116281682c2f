//! Inside hosts that reach a floating IP.

use ipfloater::model::Family;

use super::lab::{Lab, floating};
use super::talk::{Transport, saw};

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
            let router = lab.router_towards(host, family);
            for transport in Transport::BOTH {
                assert_eq!(lab.router.ask(transport, floating), saw(host, router));
            }
            assert_eq!(lab.router.ping(floating), Ok(floating));
        }
    }
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
