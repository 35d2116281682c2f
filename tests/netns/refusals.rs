//! Requests that cannot be granted: one line that says why, and nothing done.

use ipfloater::model::Family;

use super::daemon::Start;
use super::lab::{Lab, floating};
use super::talk::{Tcp, saw};

/// What is asked, and a word that the answer must have.
const REFUSED: &[(&str, &str)] = &[
    ("associate 198.51.100.99 10.0.1.12", "pool"),
    ("associate 2001:db8::99 fd00:1::12", "pool"),
    ("associate 198.51.100.12 192.0.2.12", "private"),
    ("associate 2001:db8::12 2001:db8:1::12", "private"),
    ("associate 198.51.100.12 fd00:1::12", "famil"),
    ("associate 2001:db8::12 10.0.1.12", "famil"),
    ("associate 224.0.0.1 10.0.1.12", "multicast"),
    ("associate 198.51.100.12 224.0.0.1", "multicast"),
    ("associate 2001:db8::12 ff02::1", "multicast"),
    ("associate 198.51.100.12 127.0.0.1", "loopback"),
    ("associate 2001:db8::12 ::1", "loopback"),
    ("associate 198.51.100.12 255.255.255.255", "broadcast"),
    ("associate 198.51.100.12 10.0.1.255", "broadcast"),
    ("associate 198.51.100.12 10.0.1.0", "network"),
    ("associate 198.51.100.12 10.0.1.1", "router"),
    ("associate 2001:db8::12 fd00:1::1", "router"),
    ("associate 198.51.100.12 10.0.1.012", "zero"),
    ("associate 198.51.100.012 10.0.1.12", "zero"),
    ("associate 198.51.100.12 ::ffff:10.0.1.12", "IPv4"),
    ("associate 198.51.100.12 10.0.1.11", "198.51.100.10"),
    ("associate 2001:db8::12 fd00:1::11", "2001:db8::10"),
    ("associate 198.51.100.10 10.0.1.12", "10.0.1.11"),
    ("associate 2001:db8::10 fd00:1::12", "fd00:1::11"),
    ("allocate 198.51.100.99", "pool"),
    ("release 198.51.100.99", "pool"),
    ("disassociate 198.51.100.99", "pool"),
    ("disassociate 10.0.1.12", "10.0.1.12"),
    ("show 198.51.100", "198.51.100"),
];

#[test]
fn a_request_that_cannot_be_granted_is_refused_in_one_line_and_changes_nothing() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
    }
    let state = || {
        (
            daemon.json("list"),
            lab.router.program("nft list table inet ipfloater"),
            presence(&lab),
        )
    };
    let before = state();
    for (asked, word) in REFUSED {
        let output = daemon.ipfloater(asked);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{asked}: was granted");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{asked}");
        assert_eq!(said.trim_end().lines().count(), 1, "{asked}: {said}");
        assert!(
            said.to_lowercase().contains(&word.to_lowercase()),
            "{asked}: says nothing of {word}: {said}"
        );
        assert_eq!(state(), before, "{asked}");
    }
    for family in Family::BOTH {
        let (floating, outside) = (floating(family, 10), lab.outside.address(family));
        assert_eq!(lab.outside.ask(Tcp, floating), saw(&lab.host_a, outside));
    }
}

#[test]
fn a_pool_that_does_not_fit_the_router_is_refused_at_start_in_one_line() {
    let lab = Lab::new();
    // A network that the uplink is not on yet: by this address the router is.
    lab.router
        .ip("address flush dev wan0 scope global\naddress add 198.51.100.15/24 dev wan0");
    let said = lab
        .try_start(Start {
            configuration: "OUTSIDE_INTERFACE = wan0",
            ..Start::PLAIN
        })
        .expect_err("the router uses 198.51.100.15");
    assert!(
        said.contains("198.51.100.15") && said.contains("wan0"),
        "{said}"
    );
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    assert_eq!(lab.router.program("nft list ruleset"), "");
}

/// What the router answers for, as the kernel has it.
fn presence(lab: &Lab) -> String {
    lab.router.program("ip route show table local proto 245")
        + &lab.router.program("ip -6 address show dev wan0")
}
