//! Changes that are undone unless they are confirmed, under traffic.

use std::time::{Duration, Instant};

use ipfloater::model::Family;

use super::lab::{Lab, floating};
use super::namespace::BRIEFLY;
use super::talk::{Tcp, Transport, Udp, saw};

#[test]
fn a_move_that_nobody_confirms_goes_back_and_the_flows_with_it() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let (floating, displaced) = (floating(family, 10), floating(family, 11));
        let [a, b] = [&lab.host_a, &lab.host_b].map(|host| host.address(family));
        let outside = lab.outside.address(family);
        daemon.associate(floating, &lab.host_a);
        daemon.associate(displaced, &lab.host_b);
        let before = [floating, displaced].map(|address| daemon.show(address));

        let begun = Instant::now();
        let moved = daemon.order(&format!(
            "associate {floating} {b} --reassociate --confirm 4s"
        ));
        assert!(moved.contains("Associated"), "{moved}");
        let mut flow = lab.outside.converse(Udp, floating).expect("a socket");
        let mut connection = lab.outside.converse(Tcp, floating).expect("a connection");
        assert_eq!(flow.say(), saw(&lab.host_b, outside));
        assert_eq!(connection.say(), saw(&lab.host_b, outside));
        for line in [
            format!("associate {floating} {a} --reassociate"),
            format!("release {displaced}"),
            format!("disassociate {b}"),
        ] {
            let refused = daemon.ipfloater(&line);
            assert_eq!(refused.status.code(), Some(6), "{line}: {refused:?}");
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(said.contains("is not confirmed"), "{said}");
        }
        let shown = daemon.show(displaced);
        assert!(shown["unconfirmed_until"].is_i64(), "{shown}");

        // An answer may be lost when the flow is ended.
        let mut flow = flow.with_patience(BRIEFLY);
        while flow.say() != saw(&lab.host_a, outside) {
            assert!(begun.elapsed() < Duration::from_secs(30), "it stays");
            std::thread::sleep(Duration::from_millis(20));
        }
        let lasted = begun.elapsed();
        assert!(
            lasted > Duration::from_millis(3_900) && lasted < Duration::from_secs(15),
            "{family}: {lasted:?}"
        );
        assert!(connection.say().is_err(), "host_a knows nothing of it");
        for transport in Transport::BOTH {
            let answer = lab.outside.ask(transport, floating);
            assert_eq!(answer, saw(&lab.host_a, outside));
            let answer = lab.outside.ask(transport, displaced);
            assert_eq!(answer, saw(&lab.host_b, outside));
            let as_whom = lab.host_a.ask(transport, outside);
            assert_eq!(as_whom, saw(&lab.outside, floating));
            let as_whom = lab.host_b.ask(transport, outside);
            assert_eq!(as_whom, saw(&lab.outside, displaced));
        }
        // To the second since when they are associated.
        let after = [floating, displaced].map(|address| daemon.show(address));
        assert_eq!(after, before);
        let history = daemon.json(&format!("history {floating} -n 1"));
        assert_eq!(history["events"][0]["verb"], "revert");
        assert_eq!(history["events"][0]["via"], "daemon");
    }
}

#[test]
fn what_is_confirmed_over_the_address_itself_stays() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        let b = lab.host_b.address(family);
        let outside = lab.outside.address(family);
        daemon.associate(floating, &lab.host_a);
        daemon.order(&format!(
            "associate {floating} {b} --reassociate --confirm 5s"
        ));
        assert_eq!(lab.outside.ask(Udp, floating), saw(&lab.host_b, outside));
        let said = daemon.order(&format!("confirm {floating}"));
        assert_eq!(said, format!("The change of {floating} stays\n"));
        std::thread::sleep(Duration::from_millis(7_500));
        assert_eq!(lab.outside.ask(Udp, floating), saw(&lab.host_b, outside));
        let late = daemon.ipfloater(&format!("confirm {floating}"));
        assert_eq!(late.status.code(), Some(5), "{late:?}");

        daemon.order(&format!("release {floating} --confirm 1h"));
        assert!(lab.outside.ping_briefly(floating).is_err());
        let said = daemon.order(&format!("revert {floating}"));
        let expected =
            format!("The change of {floating} is undone; it is associated with {b} again\n");
        assert_eq!(said, expected);
        assert_eq!(lab.outside.ask(Udp, floating), saw(&lab.host_b, outside));
    }
}

#[test]
fn a_release_that_nobody_could_confirm_is_undone_by_the_next_start() {
    let lab = Lab::new();
    let mut daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        daemon.associate(floating, &lab.host_a);
        daemon.order(&format!("release {floating} --confirm 6s"));
    }
    daemon.kill();
    std::thread::sleep(Duration::from_millis(6_100));
    for family in Family::BOTH {
        assert!(lab.outside.ping_briefly(floating(family, 10)).is_err());
    }
    daemon.start(&lab.router);
    for family in Family::BOTH {
        let floating = floating(family, 10);
        let answer = lab.outside.ask(Transport::BOTH[0], floating);
        assert_eq!(answer, saw(&lab.host_a, lab.outside.address(family)));
    }
}

#[test]
fn a_configuration_that_nobody_confirms_goes() {
    let lab = Lab::new();
    let mut daemon = lab.start();
    let table = || lab.router.program("nft list table inet ipfloater");
    daemon.associate(floating(Family::V4, 10), &lab.host_a);
    let before = table();
    daemon.configure("[POOL more]\nIP_POOL = 198.51.100.40-198.51.100.49");
    daemon.order("reload --confirm 3s");
    assert_ne!(table(), before);
    assert_eq!(daemon.ipfloater("reload").status.code(), Some(6));
    super::namespace::eventually("the former one is back", || table() == before);
    assert_eq!(daemon.ipfloater("confirm").status.code(), Some(5));
    daemon.order("reload --confirm 3s");
    daemon.order("confirm");
    std::thread::sleep(Duration::from_millis(5_500));
    assert_ne!(table(), before);
}
