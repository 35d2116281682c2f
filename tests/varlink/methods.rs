//! Every method and every error, one call and one reply at a time.

use serde_json::{Value, json};

use crate::stand_in::{Daemon, full};

fn method(name: &str, parameters: Value) -> Value {
    json!({"method": format!("org.ipfloater.{name}"), "parameters": parameters})
}

#[test]
fn an_address_goes_from_its_pool_to_a_host_and_back() {
    let daemon = Daemon::start();
    let mut caller = daemon.connect();
    let host = json!({"fixed_address": "10.0.0.5"});
    let got = caller.call(&method("Associate", host.clone()));
    assert_eq!(
        got["parameters"],
        json!({
            "address": {
                "floating_ip": "203.0.113.0",
                "pool": "default",
                "state": "active",
                "fixed_address": "10.0.0.5",
                "owner": nix::unistd::getuid().as_raw(),
                "allocated_at": 1_700_000_000,
                "associated_at": 1_700_000_000,
            },
            "changed": true,
            "revision": 1,
            "sequence": 2,
        })
    );
    let again = caller.call(&method("Associate", host));
    assert_eq!(again["parameters"]["changed"], false);
    assert_eq!(again["parameters"]["address"], got["parameters"]["address"]);

    let by_host = caller.call(&method("Describe", json!({"address": "10.0.0.5"})));
    assert_eq!(
        by_host["parameters"]["address"],
        got["parameters"]["address"]
    );

    let untied = caller.call(&method("Disassociate", json!({"address": "10.0.0.5"})));
    assert_eq!(untied["parameters"]["address"]["state"], "allocated");
    assert_eq!(untied["parameters"]["previous_fixed_address"], "10.0.0.5");

    let given_back = caller.call(&method("Release", json!({"address": "203.0.113.0"})));
    assert_eq!(
        given_back["parameters"]["address"],
        json!({"floating_ip": "203.0.113.0", "pool": "default", "state": "free"})
    );
    let events = caller.call(&method(
        "History",
        json!({"address": "203.0.113.0", "limit": 2}),
    ));
    let events = events["parameters"]["events"].as_array().unwrap().clone();
    let verbs: Vec<_> = events.iter().map(|event| &event["verb"]).collect();
    assert_eq!(verbs, ["release", "disassociate"]);
    assert_eq!(events[0]["via"], "varlink");
    let before = json!({"before": events[1]["sequence"]});
    let earlier = caller.call(&method("History", before));
    assert_eq!(earlier["parameters"]["events"][0]["verb"], "associate");
}

#[test]
fn every_wrong_call_gets_the_error_that_the_interface_names() {
    let daemon = Daemon::start();
    let mut caller = daemon.connect();
    caller.call(&method("Associate", json!({"fixed_address": "10.0.0.5"})));
    let invalid = |parameter: &str| {
        (
            "org.varlink.service.InvalidParameter",
            json!({"parameter": parameter}),
        )
    };
    for (name, parameters, (error, details)) in [
        ("Allocate", json!({"colour": "red"}), invalid("colour")),
        ("Allocate", json!({"pool": 7}), invalid("pool")),
        (
            "Allocate",
            json!({"floating_ip": true}),
            invalid("floating_ip"),
        ),
        ("Associate", json!({}), invalid("fixed_address")),
        (
            "Associate",
            json!({"fixed_address": null}),
            invalid("fixed_address"),
        ),
        (
            "Associate",
            json!({"fixed_address": "10.0.0.6", "reassociate": "yes"}),
            invalid("reassociate"),
        ),
        ("List", json!({"limit": 1.5}), invalid("limit")),
        (
            "List",
            json!({"limit": 18_446_744_073_709_551_615_u64}),
            invalid("limit"),
        ),
        ("List", json!({"filter": []}), invalid("filter")),
        (
            "List",
            json!({"filter": {"colour": "red"}}),
            invalid("filter.colour"),
        ),
        (
            "List",
            json!({"filter": {"owner": -1}}),
            invalid("filter.owner"),
        ),
        ("History", json!({"before": -1}), invalid("before")),
        ("GetStatus", json!({"x": 1}), invalid("x")),
        (
            "Monitor",
            json!({}),
            ("org.varlink.service.ExpectedMore", Value::Null),
        ),
        (
            "Frobnicate",
            json!({"x": 1}),
            (
                "org.varlink.service.MethodNotFound",
                json!({"method": "org.ipfloater.Frobnicate"}),
            ),
        ),
        (
            "Associate",
            json!({"fixed_address": "010.0.0.1"}),
            (
                "org.ipfloater.InvalidAddress",
                json!({
                    "field": "fixed_address",
                    "value": "010.0.0.1",
                    "message": "fixed_address: \"010.0.0.1\" cannot be used: it is not an IPv4 or IPv6 address (leading zeros, prefixes and zones are not accepted)",
                }),
            ),
        ),
        (
            "List",
            json!({"limit": 0}),
            (
                "org.ipfloater.InvalidArgument",
                json!({"field": "limit", "message": "limit: it is 1 to 1000"}),
            ),
        ),
        (
            "Describe",
            json!({"address": "10.0.0.6"}),
            (
                "org.ipfloater.NotAssociated",
                json!({"address": "10.0.0.6", "message": "10.0.0.6 has no floating IP"}),
            ),
        ),
        (
            "Release",
            json!({"address": "192.0.2.1"}),
            (
                "org.ipfloater.NotInPool",
                json!({
                    "address": "192.0.2.1",
                    "message": "192.0.2.1 is in no pool; `ipfloater ippool` lists what is",
                }),
            ),
        ),
        (
            "Associate",
            json!({"fixed_address": "10.0.0.6", "floating_ip": "203.0.113.0"}),
            (
                "org.ipfloater.AlreadyAssociated",
                json!({
                    "floating_ip": "203.0.113.0",
                    "fixed_address": "10.0.0.5",
                    "message": "203.0.113.0 is associated with 10.0.0.5; reassociate moves it",
                }),
            ),
        ),
    ] {
        let mut expected = json!({"error": error});
        if !details.is_null() {
            expected["parameters"] = details;
        }
        let call = method(name, parameters);
        assert_eq!(caller.call(&call), expected, "{call}");
    }
}

#[test]
fn a_parameter_given_twice_is_refused_by_name() {
    let daemon = Daemon::start();
    let mut caller = daemon.connect();
    caller.send(
        b"{\"method\":\"org.ipfloater.Describe\",\"parameters\":{\"address\":\"10.0.0.1\",\"address\":\"10.0.0.2\"}}\0",
    );
    assert_eq!(
        caller.hear().unwrap(),
        json!({"error": "org.varlink.service.InvalidParameter", "parameters": {"parameter": "address"}})
    );
}

#[test]
fn parameters_that_are_absent_null_or_empty_are_the_same() {
    let daemon = Daemon::start();
    let mut caller = daemon.connect();
    let absent = caller.call(&json!({"method": "org.ipfloater.ListPools"}));
    let null = caller.call(&json!({"method": "org.ipfloater.ListPools", "parameters": null}));
    let empty = caller.call(&json!({"method": "org.ipfloater.ListPools", "parameters": {}}));
    assert_eq!(absent, null);
    assert_eq!(absent, empty);
    assert_eq!(absent["parameters"]["pools"][1]["size"], i64::MAX);
}

#[test]
fn the_service_describes_itself() {
    let daemon = Daemon::start();
    let mut caller = daemon.connect();
    let info = caller.call(&json!({"method": "org.varlink.service.GetInfo"}));
    let interfaces = ["org.ipfloater", "io.systemd.service", "org.varlink.service"];
    assert_eq!(info["parameters"]["interfaces"], json!(interfaces));
    assert_eq!(info["parameters"]["version"], env!("CARGO_PKG_VERSION"));
    for interface in interfaces {
        let description = caller.call(&json!({
            "method": "org.varlink.service.GetInterfaceDescription",
            "parameters": {"interface": interface},
        }));
        let file = format!(
            "{}/interfaces/{interface}.varlink",
            env!("CARGO_MANIFEST_DIR")
        );
        let file = std::fs::read_to_string(file).unwrap();
        assert_eq!(description["parameters"]["description"], file);
    }
    for (interface, method) in [
        ("org.example", "org.varlink.service.GetInterfaceDescription"),
        ("org.example", "org.example.Method"),
    ] {
        let reply = caller.call(&json!({
            "method": method,
            "parameters": {"interface": interface},
        }));
        assert_eq!(
            reply,
            json!({
                "error": "org.varlink.service.InterfaceNotFound",
                "parameters": {"interface": interface},
            })
        );
    }
}

/// The fields of a declaration, and whether each may be absent.
fn described(declaration: &str) -> Vec<(String, bool)> {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/interfaces/org.ipfloater.varlink"
    );
    let text = std::fs::read_to_string(file).unwrap();
    let (_, rest) = text.split_once(declaration).expect(declaration);
    let body = rest.split_once("\n)").unwrap().0;
    // The reply of a method comes after its arrow.
    let reply = rest
        .split_once(") -> (")
        .filter(|_| declaration.starts_with("method"));
    let body = reply.map_or(body, |(_, reply)| reply.split_once("\n)").unwrap().0);
    body.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(": "))
        .map(|(name, kind)| (name.to_owned(), kind.starts_with('?')))
        .collect()
}

#[test]
fn replies_have_the_fields_that_the_interface_describes() {
    let daemon = Daemon::start();
    let mut caller = daemon.connect();
    let mut reply = |name: &str, parameters: Value| {
        caller.call(&method(name, parameters))["parameters"].clone()
    };
    let made = reply("Associate", json!({"fixed_address": "10.0.0.5"}));
    let untied = reply("Disassociate", json!({"address": "10.0.0.5"}));
    let pools = reply("ListPools", json!({}))["pools"].clone();
    let events = reply("History", json!({}))["events"].clone();
    for (declaration, message) in [
        ("method Associate(", made.clone()),
        ("method Disassociate(", untied),
        ("type Address (", made["address"].clone()),
        ("method GetStatus(", reply("GetStatus", json!({}))),
        ("method GetVersion(", reply("GetVersion", json!({}))),
        ("method List(", reply("List", json!({"limit": 1}))),
        ("type Pool (", pools[0].clone()),
        ("type Pool (", pools[1].clone()),
        ("type Event (", events[0].clone()),
        ("type Event (", events[1].clone()),
    ] {
        let fields = described(declaration);
        for name in message.as_object().unwrap().keys() {
            let known = fields.iter().any(|(field, _)| field == name);
            assert!(known, "{declaration} has no {name}");
        }
        for (field, may_be_absent) in fields {
            let there = message.get(&field).is_some_and(|value| !value.is_null());
            assert!(there || may_be_absent, "{declaration} lacks {field}");
        }
    }
}

#[test]
fn an_upgrade_is_refused_and_the_connection_goes_on() {
    let daemon = Daemon::start();
    let mut caller = daemon.connect();
    let refused = caller.call(&json!({"method": "org.ipfloater.GetVersion", "upgrade": true}));
    assert_eq!(refused["error"], "org.varlink.service.MethodNotImplemented");
    let version = caller.call(&json!({"method": "org.ipfloater.GetVersion"}));
    assert_eq!(version["parameters"]["api_version"], 1);
}

#[test]
fn calls_sent_at_once_are_answered_in_order_and_oneway_ones_not_at_all() {
    let daemon = Daemon::start();
    let mut caller = daemon.connect();
    let hosts = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"];
    for (place, host) in hosts.iter().enumerate() {
        let mut call = method("Associate", json!({"fixed_address": host}));
        call["oneway"] = (place % 2 == 1).into();
        caller.tell(&call);
    }
    caller.tell(&json!({"method": "org.example.Nothing", "oneway": true}));
    caller.tell(&json!({"method": "org.ipfloater.GetStatus"}));
    for host in ["10.0.0.1", "10.0.0.3"] {
        let reply = caller.hear().unwrap();
        assert_eq!(reply["parameters"]["address"]["fixed_address"], host);
    }
    // The silent ones were carried out all the same.
    assert_eq!(caller.hear().unwrap()["parameters"]["associated"], 4);
}

#[test]
fn a_list_is_filtered_and_comes_in_pages() {
    let daemon = Daemon::with(full(25));
    let mut caller = daemon.connect();
    let first = caller.call(&method("List", json!({"limit": 10})));
    assert_eq!(
        first["parameters"]["addresses"].as_array().unwrap().len(),
        10
    );
    assert_eq!(first["parameters"]["next"], "198.0.0.9");
    let last = caller.call(&method("List", json!({"limit": 15, "after": "198.0.0.9"})));
    assert_eq!(
        last["parameters"]["addresses"].as_array().unwrap().len(),
        15
    );
    assert_eq!(last["parameters"].get("next"), None);

    for (filter, count) in [
        (json!({"owner": 1000}), 25),
        (json!({"owner": 1001}), 0),
        (json!({"state": "active", "pool": "default"}), 25),
        (json!({"state": "pending"}), 0),
        (json!({"fixed_address": "10.0.0.7"}), 1),
        (json!({"fixed_address": "10.0.0.7", "pool": "huge"}), 0),
        (json!(null), 25),
    ] {
        let listed = caller.call(&method("List", json!({"filter": filter})));
        let listed = listed["parameters"]["addresses"].as_array().unwrap().len();
        assert_eq!(listed, count, "{filter}");
    }
    let free = caller.call(&method("List", json!({"filter": {"state": "free"}})));
    assert_eq!(free["error"], "org.ipfloater.InvalidArgument");
}
