//! Reading the configuration again under traffic.

use ipfloater::model::Family;

use super::daemon::{Daemon, Start};
use super::lab::{Lab, floating};
use super::restart::{Traffic, associate_both};
use super::talk::{Udp, saw};

fn news(daemon: &Daemon) -> Vec<String> {
    let answer = daemon.json("reload");
    let news = answer["news"].as_array().expect("a list");
    news.iter()
        .map(|line| line.as_str().expect("a text").to_owned())
        .collect()
}

#[test]
fn a_reload_loses_not_one_packet_whatever_is_new() {
    let lab = Lab::new();
    let mut daemon = lab.start();
    associate_both(&lab, &daemon);
    let traffic = Traffic::begin(&lab);
    for (further, expected) in [
        ("", &[][..]),
        // A set is altered.
        (
            "[POOL more]\nIP_POOL = 192.0.2.128-192.0.2.131\n",
            &["pool more is new"],
        ),
        // Rules go, and come back.
        (
            "GUARD_FORWARD = no\nBLOCK_PUBLIC_IPS = no\n",
            &[
                "pool more is gone; its addresses go on until they are released",
                "GUARD_FORWARD is another",
                "BLOCK_PUBLIC_IPS is another",
            ],
        ),
        (
            "",
            &["GUARD_FORWARD is another", "BLOCK_PUBLIC_IPS is another"],
        ),
        // The maps must become larger, and with them the table is made anew.
        (
            "[POOL large]\nIP_POOL = 192.0.64.0/20\n",
            &["pool large is new"],
        ),
        (
            "QUOTA = 3\n",
            &[
                "pool large is gone; its addresses go on until they are released",
                "quotas or permitted ranges are others",
            ],
        ),
    ] {
        daemon.configure(further);
        assert_eq!(news(&daemon), expected, "{further}");
        traffic.goes_on();
    }
    traffic.assert_whole();
}

#[test]
fn a_pool_that_is_new_works_and_one_that_is_gone_goes_on_until_it_is_released() {
    let lab = Lab::new();
    let mut daemon = lab.start();
    daemon.configure("[POOL more]\nIP_POOL = 198.51.100.40-198.51.100.41, 2001:db8::40\n");
    news(&daemon);
    for family in Family::BOTH {
        let (address, outside) = (floating(family, 40), lab.outside.address(family));
        daemon.associate(address, &lab.host_a);
        assert_eq!(lab.outside.ask(Udp, address), saw(&lab.host_a, outside));
        assert_eq!(lab.host_a.ask(Udp, outside), saw(&lab.outside, address));
    }
    let free = floating(Family::V4, 41);
    assert!(lab.host_b.ask_briefly(Udp, free).is_err());

    daemon.configure("");
    news(&daemon);
    for family in Family::BOTH {
        let (address, outside) = (floating(family, 40), lab.outside.address(family));
        assert_eq!(lab.outside.ask(Udp, address), saw(&lab.host_a, outside));
        assert_eq!(lab.host_a.ask(Udp, outside), saw(&lab.outside, address));
        assert_eq!(daemon.show(address)["orphaned"], true);
        daemon.release(address);
        assert!(lab.outside.ask_briefly(Udp, address).is_err());
        let again = daemon.ipfloater(&format!(
            "associate {address} {}",
            lab.host_a.address(family)
        ));
        assert!(!again.status.success(), "it is in no pool");
    }
}

#[test]
fn a_configuration_that_is_wrong_alters_nothing_and_is_the_answer() {
    let lab = Lab::new();
    let mut daemon = lab.start();
    associate_both(&lab, &daemon);
    let before = (lab.router.try_nft("list ruleset"), daemon.json("ippool"));
    for (further, complaint) in [
        ("GUARD = no\n", "there is no key GUARD"),
        ("GUARD_FORWARD = perhaps\n", "write yes or no"),
        (
            "[POOL other]\nIP_POOL = 198.51.100.10\n",
            "an address belongs to one pool",
        ),
        // It is right by itself and does not fit the router.
        ("[POOL other]\nIP_POOL = 198.51.100.1\n", "198.51.100.1"),
        ("[POOL other\n", "line"),
    ] {
        daemon.configure(further);
        let output = daemon.ipfloater("reload");
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{further}: {complained}");
        assert!(complained.contains(complaint), "{further}: {complained}");
        let after = (lab.router.try_nft("list ruleset"), daemon.json("ippool"));
        assert_eq!(after, before, "{further}");
    }
    // And what is mended is taken.
    daemon.configure("GUARD_FORWARD = no\n");
    assert_eq!(news(&daemon), ["GUARD_FORWARD is another"]);
}

#[test]
fn an_outside_interface_that_is_another_takes_the_addresses_along() {
    let lab = Lab::new();
    let mut daemon = lab.start_with(Start {
        configuration: "OUTSIDE_INTERFACE = elsewhere\n",
        ..Start::PLAIN
    });
    associate_both(&lab, &daemon);
    for family in Family::BOTH {
        assert_eq!(daemon.state(floating(family, 10)), "pending");
        assert!(lab.outside.ask_briefly(Udp, floating(family, 10)).is_err());
    }
    daemon.configure("OUTSIDE_INTERFACE = wan0\n");
    assert_eq!(
        news(&daemon),
        ["pool default is another: the outside interface"]
    );
    for family in Family::BOTH {
        let outside = lab.outside.address(family);
        assert_eq!(daemon.state(floating(family, 10)), "active");
        assert_eq!(
            lab.outside.ask(Udp, floating(family, 10)),
            saw(&lab.host_a, outside)
        );
    }
}

#[test]
fn a_hangup_is_a_reload_and_a_wrong_file_is_in_the_log() {
    let lab = Lab::new();
    let mut daemon = lab.start();
    daemon.configure("[POOL more]\nIP_POOL = 192.0.2.128-192.0.2.131\n");
    daemon.hang_up();
    super::namespace::eventually("the pool is there", || {
        daemon.order("ippool").contains("192.0.2.128")
    });
    daemon.configure("NONSENSE = 1\n");
    daemon.hang_up();
    super::namespace::eventually("it is in the log", || {
        daemon.log().contains("there is no key NONSENSE")
    });
    let events = daemon.order("history");
    assert!(events.contains("reload"), "{events}");
}
