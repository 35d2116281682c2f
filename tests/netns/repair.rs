//! Somebody else alters what is ours, and it is put right.

use ipfloater::model::Family;

use super::daemon::{Daemon, Start};
use super::lab::{Lab, floating};
use super::namespace::{BRIEFLY, eventually};
use super::talk::{Tcp, Transport, Udp, saw};

/// As on a kernel where everybody may alter our table (before Linux 6.9).
const UNPROTECTED: Start = Start {
    hidden: Some("table-owner"),
    ..Start::PLAIN
};

/// Waits until both directions work, of both families, and a free address is
/// closed.
fn eventually_works(lab: &Lab, what: &str) {
    for family in Family::BOTH {
        let (held, outside) = (floating(family, 10), lab.outside.address(family));
        for transport in Transport::BOTH {
            eventually(&format!("{what}: inbound {family} {transport:?}"), || {
                lab.outside.ask_briefly(transport, held) == saw(&lab.host_a, outside)
            });
            eventually(&format!("{what}: outbound {family} {transport:?}"), || {
                lab.host_a.ask_briefly(transport, outside) == saw(&lab.outside, held)
            });
        }
        eventually(&format!("{what}: answered for"), || {
            lab.outside.hardware_address_of(held).is_some()
        });
    }
}

fn associate_both(lab: &Lab, daemon: &Daemon) {
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
    }
}

#[test]
fn flushing_all_tables_does_not_concern_ours() {
    let lab = Lab::new();
    lab.router.nft("add table inet other");
    let daemon = lab.start();
    associate_both(&lab, &daemon);
    let mut flows = Vec::new();
    for family in Family::BOTH {
        let (floating, outside) = (floating(family, 10), lab.outside.address(family));
        for transport in Transport::BOTH {
            let inbound = lab
                .outside
                .converse(transport, floating)
                .expect("a flow")
                .keep_talking();
            let outbound = lab
                .host_a
                .converse(transport, outside)
                .expect("a flow")
                .keep_talking();
            flows.push((inbound, saw(&lab.host_a, outside)));
            flows.push((outbound, saw(&lab.outside, floating)));
        }
    }
    for _ in 0..5 {
        lab.router.nft("flush ruleset");
        flows.iter().for_each(|(flow, _)| flow.wait_for_more(10));
    }
    let tables = lab.router.program("nft list tables");
    assert!(!tables.contains("other"), "it was flushed: {tables}");
    for (flow, answer) in flows {
        flow.end().assert_whole(&answer, "while others flush");
    }
    for command in [
        "delete table inet ipfloater",
        "flush chain inet ipfloater to_fixed",
    ] {
        let refused = lab.router.try_nft(command).expect_err("the table is owned");
        assert!(refused.contains("Operation not permitted"), "{refused}");
    }
    assert_eq!(daemon.repairs(), 0);
}

/// Alters an unprotected table and waits until it is right again. Whoever
/// alters it more than five times in twenty seconds is answered more slowly, so
/// the edits are spread over tests.
fn assert_put_right(edits: &[&str]) {
    let lab = Lab::new();
    let daemon = lab.start_with(UNPROTECTED);
    associate_both(&lab, &daemon);
    eventually_works(&lab, "to begin with");
    for edit in edits {
        let repairs = daemon.repairs();
        lab.router.nft(edit);
        eventually(&format!("{edit}: is noticed"), || {
            daemon.repairs() > repairs
        });
        eventually_works(&lab, edit);
    }
    let service = lab.router.serve();
    for family in Family::BOTH {
        let answer = lab.host_b.ask_briefly(Udp, floating(family, 20));
        assert!(answer.is_err(), "free addresses are closed");
    }
    assert_eq!(service.heard(), []);
}

#[test]
fn an_unprotected_table_that_is_flushed_or_deleted_comes_back() {
    assert_put_right(&[
        "flush ruleset",
        "delete table inet ipfloater",
        "flush table inet ipfloater",
    ]);
}

#[test]
fn chains_and_rules_that_somebody_alters_are_put_right() {
    assert_put_right(&[
        "delete chain inet ipfloater nat_prerouting",
        "flush chain inet ipfloater to_floating",
        "insert rule inet ipfloater to_fixed drop",
    ]);
}

#[test]
fn elements_that_somebody_deletes_come_back() {
    assert_put_right(&[
        "delete element inet ipfloater floating_to_fixed4 { 198.51.100.10 }",
        "delete element inet ipfloater fixed_to_floating6 { fd00:1::11 }",
        "flush set inet ipfloater outside",
        "flush set inet ipfloater pool4\nflush set inet ipfloater pool6",
    ]);
}

#[test]
fn an_element_that_somebody_adds_is_taken_away() {
    let lab = Lab::new();
    let daemon = lab.start_with(UNPROTECTED);
    associate_both(&lab, &daemon);
    let repairs = daemon.repairs();
    lab.router.nft(
        "add element inet ipfloater floating_to_fixed4 { 198.51.100.20 : 10.0.1.12 }
         add element inet ipfloater floating_to_fixed6 { 2001:db8::20 : fd00:1::12 }",
    );
    eventually("it is noticed", || daemon.repairs() > repairs);
    for family in Family::BOTH {
        let free = floating(family, 20);
        assert!(lab.host_c.ask_briefly(Udp, free).is_err(), "{free}");
    }
    eventually_works(&lab, "the others are as they were");
}

#[test]
fn routes_and_addresses_that_somebody_deletes_come_back() {
    let lab = Lab::new();
    let daemon = lab.start();
    associate_both(&lab, &daemon);
    for command in [
        "route delete local 198.51.100.10 dev wan0 table local",
        "address delete 2001:db8::10/128 dev wan0",
        "route flush table local proto 245",
    ] {
        let repairs = daemon.repairs();
        lab.router.ip(command);
        eventually(command, || daemon.repairs() > repairs);
        eventually_works(&lab, command);
    }
}

#[test]
fn an_interface_that_goes_down_and_up_again_takes_the_addresses_up_again() {
    let lab = Lab::new();
    let daemon = lab.start();
    associate_both(&lab, &daemon);
    for _ in 0..2 {
        lab.router.ip("link set wan0 down");
        for family in Family::BOTH {
            eventually("it is pending", || {
                daemon.state(floating(family, 10)) == "pending"
            });
        }
        lab.router.ip("link set wan0 up
             address replace 2001:db8::2/64 dev wan0 nodad
             route replace default via 198.51.100.1
             route replace default via 2001:db8::1");
        for family in Family::BOTH {
            eventually("it is active", || {
                daemon.state(floating(family, 10)) == "active"
            });
        }
        eventually_works(&lab, "the interface is up again");
    }
    assert_eq!(
        daemon.repairs(),
        0,
        "an interface that goes down is nobody's edit"
    );
}

#[test]
fn an_interface_that_is_replaced_takes_the_addresses_up_again() {
    let lab = Lab::new();
    let daemon = lab.start();
    associate_both(&lab, &daemon);
    lab.unplug();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        eventually("it is pending", || daemon.state(floating) == "pending");
        // What can be decided without an interface is decided.
        let other = super::lab::floating(family, 12);
        daemon.associate(other, &lab.host_c);
        assert_eq!(daemon.state(other), "pending");
    }
    lab.plug();
    eventually_works(&lab, "there is another interface");
    for family in Family::BOTH {
        let (other, far) = (floating(family, 12), lab.far.address(family));
        eventually("it is active", || daemon.state(other) == "active");
        assert_eq!(lab.far.ask(Tcp, other), saw(&lab.host_c, far));
    }
}

#[test]
fn a_default_route_that_is_renewed_cuts_nothing() {
    let lab = Lab::new();
    let daemon = lab.start();
    associate_both(&lab, &daemon);
    let mut flows = Vec::new();
    for family in Family::BOTH {
        let outside = lab.outside.address(family);
        let inbound = lab
            .outside
            .converse(Udp, floating(family, 10))
            .expect("a flow")
            .keep_talking();
        flows.push((inbound, saw(&lab.host_a, outside)));
    }
    for _ in 0..3 {
        lab.router
            .ip("route delete default via 198.51.100.1\nroute delete default via 2001:db8::1");
        std::thread::sleep(BRIEFLY);
        lab.router
            .ip("route add default via 198.51.100.1\nroute add default via 2001:db8::1");
        flows.iter().for_each(|(flow, _)| flow.wait_for_more(10));
    }
    for (flow, answer) in flows {
        flow.end()
            .assert_whole(&answer, "while the default route is renewed");
    }
    for family in Family::BOTH {
        eventually("it is active", || {
            daemon.state(floating(family, 10)) == "active"
        });
    }
}
