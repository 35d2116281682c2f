//! Whom a floating IP must never lead to: nobody while it is free, and never
//! the router's own services.

use std::io::ErrorKind;
use std::net::IpAddr;

use ipfloater::model::Family;

use super::daemon::{Daemon, Start};
use super::lab::{Lab, floating};
use super::talk::{Tcp, Transport, saw};

/// Makes outside send packets for an address to the router without asking who
/// has it, as the provider of a routed prefix does.
fn route_to_router(lab: &Lab, address: IpAddr) {
    let router = lab.router.address(Family::of(address));
    lab.outside
        .ip(&format!("route replace {address} via {router}"));
}

/// Asserts that the address answers to nobody, even when packets for it come.
fn assert_silent(lab: &Lab, address: IpAddr) {
    assert_eq!(
        lab.outside.hardware_address_of(address),
        None,
        "{address} is answered for on the link"
    );
    route_to_router(lab, address);
    for client in [&lab.outside, &lab.far] {
        for transport in Transport::BOTH {
            let answer = client.ask_briefly(transport, address);
            assert_eq!(
                answer,
                Err(ErrorKind::TimedOut),
                "{} {transport:?} {address}",
                client.name
            );
        }
        assert!(
            client.ping_briefly(address).is_err(),
            "{} {address}",
            client.name
        );
    }
}

#[test]
fn a_free_address_answers_to_nobody() {
    let lab = Lab::new();
    let _daemon = lab.start();
    let service = lab.router.serve();
    for family in Family::BOTH {
        assert_silent(&lab, floating(family, 20));
    }
    assert_eq!(service.heard(), []);
}

#[test]
fn an_address_that_is_only_allocated_answers_to_nobody() {
    let lab = Lab::new();
    let daemon = lab.start();
    let service = lab.router.serve();
    for family in Family::BOTH {
        let address = floating(family, 20);
        daemon.order(&format!("allocate {address}"));
        assert_eq!(daemon.state(address), "allocated");
        assert_silent(&lab, address);
    }
    assert_eq!(service.heard(), []);
}

#[test]
fn an_address_falls_silent_when_it_is_disassociated_or_released() {
    let lab = Lab::new();
    let daemon = lab.start();
    let service = lab.router.serve();
    for family in Family::BOTH {
        for (address, untie) in [
            (
                floating(family, 10),
                Daemon::disassociate as fn(&Daemon, IpAddr),
            ),
            (floating(family, 11), Daemon::release),
        ] {
            daemon.associate(address, &lab.host_a);
            assert!(
                lab.outside.hardware_address_of(address).is_some(),
                "{address} is associated"
            );
            assert_eq!(
                lab.outside.ask(Tcp, address),
                saw(&lab.host_a, lab.outside.address(family))
            );
            untie(&daemon, address);
            assert_silent(&lab, address);
        }
    }
    assert_eq!(service.heard(), []);
}

#[test]
fn a_service_of_the_router_is_not_reached_through_an_associated_address() {
    let mut lab = Lab::new();
    let daemon = lab.start();
    let service = lab.router.serve();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        daemon.associate(floating, &lab.host_a);
        for client in [&lab.outside, &lab.host_a, &lab.host_b, &lab.host_c] {
            for transport in Transport::BOTH {
                let answer = client.ask(transport, floating).expect("the host answers");
                assert!(
                    answer.starts_with("host_a saw"),
                    "{}: {answer}",
                    client.name
                );
            }
        }
    }
    assert_eq!(service.heard(), []);

    // What the host does not listen to does not fall through to the router.
    lab.host_a.close();
    for family in Family::BOTH {
        for client in [&lab.outside, &lab.host_b] {
            let answer = client.ask(Tcp, floating(family, 10));
            assert_eq!(answer, Err(ErrorKind::ConnectionRefused), "{}", client.name);
        }
    }
    assert_eq!(service.heard(), []);
}

#[test]
fn a_service_of_the_router_is_not_reached_through_an_address_that_the_administrator_configured() {
    let lab = Lab::new();
    for number in [10, 20] {
        lab.router.ip(&format!(
            "address add 198.51.100.{number}/32 dev wan0
             address add 2001:db8::{number}/128 dev wan0 nodad"
        ));
    }
    let daemon = lab.start();
    let service = lab.router.serve();
    for family in Family::BOTH {
        let (associated, free) = (floating(family, 10), floating(family, 20));
        daemon.associate(associated, &lab.host_a);
        let own = lab.outside.address(family);
        for transport in Transport::BOTH {
            assert_eq!(
                lab.outside.ask(transport, associated),
                saw(&lab.host_a, own)
            );
            let answer = lab
                .router
                .ask(transport, associated)
                .expect("the host answers");
            assert!(answer.starts_with("host_a saw"), "{answer}");
            assert_eq!(
                lab.outside.ask_briefly(transport, free),
                Err(ErrorKind::TimedOut)
            );
            assert!(lab.host_b.ask_briefly(transport, free).is_err());
        }
        assert!(lab.outside.ping_briefly(free).is_err());
    }
    assert_eq!(service.heard(), []);
}

#[test]
fn with_free_addresses_left_open_the_router_keeps_what_it_serves_on_them() {
    let lab = Lab::new();
    let configuration = "BLOCK_PUBLIC_IPS = False";
    let daemon = lab.start_with(Start {
        configuration,
        ..Start::PLAIN
    });
    lab.router
        .ip("address add 198.51.100.20/32 dev wan0\naddress add 2001:db8::20/128 dev wan0 nodad");
    let _service = lab.router.serve();
    for family in Family::BOTH {
        let (associated, open) = (floating(family, 10), floating(family, 20));
        daemon.associate(associated, &lab.host_a);
        let own = lab.outside.address(family);
        assert_eq!(lab.outside.ask(Tcp, associated), saw(&lab.host_a, own));
        assert_eq!(lab.outside.ask(Tcp, open), saw(&lab.router, own));
    }
}
