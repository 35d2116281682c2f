//! Answers of more than one reply.

use serde_json::{Value, json};

use crate::stand_in::{Daemon, full, repairs};

#[test]
fn a_long_list_streams_page_by_page_until_all_is_said() {
    let daemon = Daemon::with(full(2_500));
    let mut caller = daemon.connect();
    caller.tell(&json!({"method": "org.ipfloater.List", "more": true}));
    let mut addresses = Vec::new();
    let mut pages = 0;
    loop {
        let reply = caller.hear().unwrap();
        pages += 1;
        let page = reply["parameters"]["addresses"].as_array().unwrap();
        addresses.extend(page.iter().map(|address| address["floating_ip"].clone()));
        if reply.get("continues") != Some(&Value::Bool(true)) {
            break;
        }
    }
    assert_eq!(pages, 3);
    assert_eq!(addresses.len(), 2_500);
    addresses.dedup();
    assert_eq!(addresses.len(), 2_500);
    // The connection is free again.
    let version = caller.call(&json!({"method": "org.ipfloater.GetVersion"}));
    assert!(version["parameters"]["version"].is_string());
}

#[test]
fn a_call_that_could_stream_does_not_when_it_is_not_asked_to() {
    let daemon = Daemon::with(full(2_500));
    let mut caller = daemon.connect();
    let reply = caller.call(&json!({"method": "org.ipfloater.List", "more": false}));
    assert_eq!(reply.get("continues"), None);
    assert!(reply["parameters"]["next"].is_string());
    let once = caller.call(&json!({"method": "org.ipfloater.GetVersion", "more": true}));
    assert_eq!(once.get("continues"), None);
}

#[test]
fn a_monitor_tells_the_state_first_and_then_each_change_once() {
    let daemon = Daemon::with(full(1_500));
    let mut watcher = daemon.connect();
    watcher.tell(&json!({"method": "org.ipfloater.Monitor", "more": true}));
    for (ready, count) in [(false, 1_000), (true, 500)] {
        let reply = watcher.hear().unwrap();
        let state = &reply["parameters"];
        assert_eq!(state["addresses"].as_array().unwrap().len(), count);
        assert_eq!(state["ready"], ready);
        assert_eq!(
            (&state["revision"], &state["sequence"]),
            (&json!(7), &json!(9))
        );
        assert_eq!(reply["continues"], true);
    }

    // What the state includes may be published again, and is not told twice.
    for published in repairs(8, 2) {
        daemon.events.send(published).unwrap();
    }
    let mut caller = daemon.connect();
    caller.call(&json!({
        "method": "org.ipfloater.Associate",
        "parameters": {"fixed_address": "10.9.9.9"},
    }));
    let uid = nix::unistd::getuid().as_raw();
    for expected in [
        json!({
            "sequence": 10, "revision": 8, "ready": true,
            "event": {
                "verb": "allocate", "at": 1_700_000_000, "floating_ip": "203.0.113.0",
                "state": "active", "uid": uid, "via": "varlink",
            },
        }),
        json!({
            "sequence": 11, "revision": 8, "ready": true,
            "event": {
                "verb": "associate", "at": 1_700_000_000, "floating_ip": "203.0.113.0",
                "state": "active", "uid": uid, "via": "varlink", "fixed_address": "10.9.9.9",
            },
        }),
    ] {
        assert_eq!(
            watcher.hear().unwrap(),
            json!({"continues": true, "parameters": expected})
        );
    }
}

#[test]
fn a_monitor_of_nothing_is_ready_at_once() {
    let daemon = Daemon::start();
    let mut watcher = daemon.connect();
    watcher.tell(&json!({"method": "org.ipfloater.Monitor", "more": true}));
    assert_eq!(
        watcher.hear().unwrap()["parameters"],
        json!({"sequence": 0, "revision": 0, "ready": true, "addresses": []})
    );
}

#[test]
fn a_monitor_goes_on_after_an_event_without_telling_any_twice_or_missing_one() {
    let daemon = Daemon::start();
    let mut caller = daemon.connect();
    let mut change = |method: &str, parameters: Value| {
        let method = format!("org.ipfloater.{method}");
        caller.call(&json!({"method": method, "parameters": parameters}))
    };
    // More than the log gives at once.
    for _ in 0..600 {
        change("Allocate", json!({"floating_ip": "203.0.113.0"}));
        change("Release", json!({"address": "203.0.113.0"}));
    }
    for after in [0, 1, 700, 1_199, 1_200] {
        let mut watcher = daemon.connect();
        let parameters = json!({"after": after});
        watcher.tell(&json!({
            "method": "org.ipfloater.Monitor", "more": true, "parameters": parameters,
        }));
        for expected in after + 1..=1_200 {
            let reply = watcher.hear().unwrap();
            assert_eq!(reply["continues"], true);
            assert_eq!(reply["parameters"]["sequence"], expected, "after {after}");
            assert_eq!(reply["parameters"]["ready"], true);
            assert!(reply["parameters"]["event"]["verb"].is_string());
            assert!(reply["parameters"].get("addresses").is_none());
        }
        if after == 1_200 {
            change("Allocate", json!({"floating_ip": "203.0.113.0"}));
            let told = watcher.hear().unwrap();
            assert_eq!(told["parameters"]["sequence"], 1_201);
            assert_eq!(told["parameters"]["event"]["state"], "allocated");
        }
    }
}

#[test]
fn a_monitor_that_wants_to_go_on_where_the_log_does_not_begin_is_told_where_it_does() {
    let daemon = Daemon::start();
    let mut caller = daemon.connect();
    for after in [1, 99] {
        for (method, more) in [("Monitor", true), ("History", false)] {
            let reply = caller.call(&json!({
                "method": format!("org.ipfloater.{method}"), "more": more,
                "parameters": {"after": after},
            }));
            assert_eq!(reply["error"], "org.ipfloater.SequenceGone", "{reply}");
            assert_eq!(reply["parameters"]["first"], 1);
            assert_eq!(reply["parameters"]["last"], 0);
        }
    }
    for after in [json!(-1), json!("1"), json!(1.5)] {
        let reply = caller.call(&json!({
            "method": "org.ipfloater.Monitor", "more": true, "parameters": {"after": after},
        }));
        assert_eq!(
            reply["error"], "org.varlink.service.InvalidParameter",
            "{reply}"
        );
    }
}

#[test]
fn history_since_an_event_begins_with_the_earliest() {
    let daemon = Daemon::start();
    let mut caller = daemon.connect();
    for host in 1..=5 {
        caller.call(&json!({
            "method": "org.ipfloater.Associate",
            "parameters": {"fixed_address": format!("10.9.9.{host}")},
        }));
    }
    let mut sequences = |parameters: Value| -> Vec<u64> {
        let reply = caller.call(&json!({
            "method": "org.ipfloater.History", "parameters": parameters,
        }));
        let events = reply["parameters"]["events"].as_array().unwrap().clone();
        events
            .iter()
            .map(|event| event["sequence"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(sequences(json!({"limit": 3})), [10, 9, 8]);
    assert_eq!(sequences(json!({"after": 0, "limit": 3})), [1, 2, 3]);
    assert_eq!(sequences(json!({"after": 7})), [8, 9, 10]);
    assert_eq!(sequences(json!({"after": 7, "before": 9})), [8]);
    assert_eq!(sequences(json!({"after": 10})), [] as [u64; 0]);
}
