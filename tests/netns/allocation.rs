//! Several addresses at once, addresses that rest, and those that are protected.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipfloater::model::Family;
use serde_json::Value;

use super::daemon::{Daemon, Start};
use super::lab::{Lab, floating};
use super::talk::{Transport, saw};

/// Somebody who is not root.
const OWNER: u32 = 65_534;

/// As many addresses as both ranges of the pool have: .10 to .29, ::10 to ::29.
const POOL: usize = 20 + 0x1a;

impl Daemon {
    /// Takes an address for somebody, or says by which code it is refused.
    fn take(&self, line: &str) -> Result<Value, i32> {
        let output = self.ipfloater(&format!("allocate {line} --json"));
        match output.status.code() {
            Some(0) => Ok(serde_json::from_slice(&output.stdout).expect("it is JSON")),
            code => Err(code.expect("it ended by itself")),
        }
    }
}

/// The addresses of an answer.
fn addresses(answer: &Value) -> BTreeSet<IpAddr> {
    let rows = answer["addresses"].as_array().expect("there are several");
    rows.iter()
        .map(|row| row["floating_ip"].as_str().unwrap().parse().unwrap())
        .collect()
}

#[test]
fn a_released_address_rests_across_a_restart_and_goes_back_to_its_last_owner() {
    let lab = Lab::new();
    let mut daemon = lab.start();
    let both = Family::BOTH.map(|family| floating(family, 10));
    for floating in both {
        daemon.order(&format!("allocate {floating} --owner {OWNER}"));
        daemon.associate(floating, &lab.host_a);
        assert!(lab.outside.ping(floating).is_ok());
        daemon.release(floating);
        assert!(lab.outside.ping_briefly(floating).is_err());
    }
    let before = both.map(|floating| daemon.show(floating));
    daemon.kill();
    daemon.start(&lab.router);
    for (floating, before) in both.into_iter().zip(before) {
        assert_eq!(daemon.show(floating), before);
        assert_eq!(before["state"], "free");
        assert_eq!(before["last_owner"], OWNER);
        assert!(before["resting_until"].is_i64(), "{before}");
    }

    let revision = |answer: &Value| answer["revision"].as_u64().unwrap();
    let then = revision(&daemon.json("status"));
    assert_eq!(daemon.take(&format!("--count {}", POOL - 1)), Err(7));
    assert_eq!(revision(&daemon.json("status")), then);
    let rest = daemon.take(&format!("--count {}", POOL - 2)).unwrap();
    assert_eq!(revision(&rest), then + 1, "one commit");
    let taken = addresses(&rest);
    assert_eq!(taken.len(), POOL - 2);
    assert!(both.iter().all(|floating| !taken.contains(floating)));
    assert_eq!(daemon.take(""), Err(7));

    for floating in both {
        daemon.take(&format!("{floating} --owner {OWNER}")).unwrap();
        daemon.associate(floating, &lab.host_a);
        let outside = lab.outside.address(Family::of(floating));
        for transport in Transport::BOTH {
            let answer = lab.outside.ask(transport, floating);
            assert_eq!(answer, saw(&lab.host_a, outside));
        }
        assert!(daemon.show(floating)["resting_until"].is_null());
    }
}

#[test]
fn an_address_has_rested_enough_after_the_time_that_is_configured() {
    let lab = Lab::new();
    let daemon = lab.start_with(Start {
        configuration: "RELEASED_ADDRESS_REST = 3s",
        ..Start::PLAIN
    });
    let both = Family::BOTH.map(|family| floating(family, 10));
    for floating in both {
        daemon.order(&format!("allocate {floating} --owner {OWNER}"));
    }
    daemon.take(&format!("--count {}", POOL - 2)).unwrap();
    for floating in both {
        daemon.release(floating);
        let released = Instant::now();
        assert_eq!(daemon.take(""), Err(7));
        let given = loop {
            match daemon.take("") {
                Ok(given) => break given,
                Err(code) => assert_eq!(code, 7),
            }
            assert!(released.elapsed() < Duration::from_secs(20), "it rests");
            std::thread::sleep(Duration::from_millis(50));
        };
        // Whole seconds of the wall clock: the end is at most one early.
        assert!(released.elapsed() > Duration::from_millis(1_900));
        assert_eq!(given["address"]["floating_ip"], floating.to_string());
        daemon.associate(floating, &lab.host_b);
        assert!(lab.outside.ping(floating).is_ok());
    }
}

#[test]
fn what_is_protected_and_noted_stays_so_across_a_restart_and_is_found() {
    let lab = Lab::new();
    let mut daemon = lab.start();
    for family in Family::BOTH {
        let (floating, host) = (floating(family, 10), &lab.host_a);
        let fixed = host.address(family);
        daemon.associate(floating, host);
        daemon.order(&format!("set {fixed} --label web --tag {family} --protect"));
        daemon.kill();
        daemon.start(&lab.router);
        for refused in [format!("release {floating}"), format!("releaseip {fixed}")] {
            assert_eq!(daemon.ipfloater(&refused).status.code(), Some(6));
        }
        assert!(lab.outside.ping(floating).is_ok());
        let found = daemon.json(&format!("list --label web --tag {family}"));
        let found = found["addresses"].as_array().unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0]["floating_ip"], floating.to_string());
        assert_eq!(found[0]["protected"], true);

        daemon.reassociate(floating, &lab.host_b);
        assert!(lab.outside.ping(floating).is_ok());
        daemon.disassociate(floating);
        assert_eq!(daemon.state(floating), "allocated");
        daemon.order(&format!("set {floating} --unprotect"));
        daemon.release(floating);
        let history = daemon.json(&format!("history {floating} -n 2"));
        assert_eq!(history["events"][0]["verb"], "release");
        assert_eq!(history["events"][1]["verb"], "update");
        assert_eq!(history["events"][1]["reason"], "unprotected");
    }
}
