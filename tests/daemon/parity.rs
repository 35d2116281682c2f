//! The same request has the same outcome on both buses, and is refused in the
//! same words.

use ipfloater::client::ClientError;
use serde_json::{Map, Value, json};

use crate::Daemon;

/// A request as either bus wants it.
struct Step {
    varlink: (&'static str, Value),
    dbus: &'static [&'static str],
}

fn steps() -> Vec<Step> {
    let step = |method, parameters, dbus| Step {
        varlink: (method, parameters),
        dbus,
    };
    vec![
        step("Allocate", json!({}), &["Allocate", "a{sv}", "0"]),
        step(
            "Allocate",
            json!({"floating_ip": "198.51.100.10"}),
            &[
                "Allocate",
                "a{sv}",
                "1",
                "floating_ip",
                "s",
                "198.51.100.10",
            ],
        ),
        step(
            "Allocate",
            json!({"pool": "none"}),
            &["Allocate", "a{sv}", "1", "pool", "s", "none"],
        ),
        step(
            "Associate",
            json!({"fixed_address": "10.0.0.5"}),
            &["Associate", "ssa{sv}", "", "10.0.0.5", "0"],
        ),
        step(
            "Associate",
            json!({"floating_ip": "198.51.100.11", "fixed_address": "10.0.0.6"}),
            &["Associate", "ssa{sv}", "198.51.100.11", "10.0.0.6", "0"],
        ),
        step(
            "Associate",
            json!({"floating_ip": "198.51.100.11", "fixed_address": "10.0.0.6", "reassociate": true}),
            &[
                "Associate",
                "ssa{sv}",
                "198.51.100.11",
                "10.0.0.6",
                "1",
                "reassociate",
                "b",
                "true",
            ],
        ),
        step(
            "Associate",
            json!({"floating_ip": "198.51.100.12", "fixed_address": "10.0.0.6"}),
            &["Associate", "ssa{sv}", "198.51.100.12", "10.0.0.6", "0"],
        ),
        step(
            "Associate",
            json!({"floating_ip": "198.51.100.12", "fixed_address": "fd00::6"}),
            &["Associate", "ssa{sv}", "198.51.100.12", "fd00::6", "0"],
        ),
        step(
            "Associate",
            json!({"fixed_address": "fd00::6"}),
            &["Associate", "ssa{sv}", "", "fd00::6", "0"],
        ),
        step(
            "Associate",
            json!({"fixed_address": "10.0.0.1"}),
            &["Associate", "ssa{sv}", "", "10.0.0.1", "0"],
        ),
        step(
            "Associate",
            json!({"fixed_address": "192.0.2.77"}),
            &["Associate", "ssa{sv}", "", "192.0.2.77", "0"],
        ),
        step(
            "Associate",
            json!({"fixed_address": "010.0.0.1"}),
            &["Associate", "ssa{sv}", "", "010.0.0.1", "0"],
        ),
        step(
            "Associate",
            json!({"floating_ip": "192.0.2.9", "fixed_address": "10.0.0.9"}),
            &["Associate", "ssa{sv}", "192.0.2.9", "10.0.0.9", "0"],
        ),
        step(
            "Describe",
            json!({"address": "10.0.0.6"}),
            &["Describe", "sa{sv}", "10.0.0.6", "0"],
        ),
        step(
            "Describe",
            json!({"address": "198.51.100.13"}),
            &["Describe", "sa{sv}", "198.51.100.13", "0"],
        ),
        step(
            "Describe",
            json!({"address": "10.0.0.99"}),
            &["Describe", "sa{sv}", "10.0.0.99", "0"],
        ),
        step(
            "Forward",
            json!({
                "floating_ip": "198.51.100.11", "protocol": "tcp", "ports": "8080",
                "fixed_address": "10.0.0.7", "fixed_port": 80, "outbound": "floating",
            }),
            &[
                "Forward",
                "ssssa{sv}",
                "198.51.100.11",
                "tcp",
                "8080",
                "10.0.0.7",
                "2",
                "fixed_port",
                "u",
                "80",
                "outbound",
                "s",
                "floating",
            ],
        ),
        step(
            "Forward",
            json!({
                "floating_ip": "198.51.100.11", "protocol": "tcp", "ports": "8000-8100",
                "fixed_address": "10.0.0.7",
            }),
            &[
                "Forward",
                "ssssa{sv}",
                "198.51.100.11",
                "tcp",
                "8000-8100",
                "10.0.0.7",
                "0",
            ],
        ),
        step(
            "Forward",
            json!({
                "floating_ip": "198.51.100.11", "protocol": "icmp", "ports": "8",
                "fixed_address": "10.0.0.7",
            }),
            &[
                "Forward",
                "ssssa{sv}",
                "198.51.100.11",
                "icmp",
                "8",
                "10.0.0.7",
                "0",
            ],
        ),
        step(
            "Forward",
            json!({
                "floating_ip": "198.51.100.12", "protocol": "udp", "ports": "53",
                "fixed_address": "10.0.0.7", "outbound": "floating",
            }),
            &[
                "Forward",
                "ssssa{sv}",
                "198.51.100.12",
                "udp",
                "53",
                "10.0.0.7",
                "1",
                "outbound",
                "s",
                "floating",
            ],
        ),
        step(
            "Unforward",
            json!({"floating_ip": "198.51.100.11", "protocol": "tcp", "ports": "8080-8081"}),
            &[
                "Unforward",
                "sssa{sv}",
                "198.51.100.11",
                "tcp",
                "8080-8081",
                "0",
            ],
        ),
        step(
            "Unforward",
            json!({"floating_ip": "198.51.100.11", "protocol": "tcp", "ports": "8080"}),
            &["Unforward", "sssa{sv}", "198.51.100.11", "tcp", "8080", "0"],
        ),
        step(
            "Associate",
            json!({
                "floating_ip": "198.51.100.11", "fixed_address": "10.0.0.8",
                "reassociate": true, "dry_run": true,
            }),
            &[
                "Associate",
                "ssa{sv}",
                "198.51.100.11",
                "10.0.0.8",
                "2",
                "reassociate",
                "b",
                "true",
                "dry_run",
                "b",
                "true",
            ],
        ),
        step(
            "Release",
            json!({"address": "10.0.0.6", "dry_run": true}),
            &["Release", "sa{sv}", "10.0.0.6", "1", "dry_run", "b", "true"],
        ),
        step(
            "Associate",
            json!({"floating_ip": "198.51.100.12", "fixed_address": "10.0.0.9", "expires_in": 3600}),
            &[
                "Associate",
                "ssa{sv}",
                "198.51.100.12",
                "10.0.0.9",
                "1",
                "expires_in",
                "u",
                "3600",
            ],
        ),
        step(
            "Allocate",
            json!({"floating_ip": "198.51.100.10", "expires_in": 315360001}),
            &[
                "Allocate",
                "a{sv}",
                "2",
                "floating_ip",
                "s",
                "198.51.100.10",
                "expires_in",
                "u",
                "315360001",
            ],
        ),
        step(
            "Disassociate",
            json!({"address": "10.0.0.6"}),
            &["Disassociate", "sa{sv}", "10.0.0.6", "0"],
        ),
        step(
            "Disassociate",
            json!({"address": "10.0.0.6"}),
            &["Disassociate", "sa{sv}", "10.0.0.6", "0"],
        ),
        step(
            "Disassociate",
            json!({"address": "198.51.100.11"}),
            &["Disassociate", "sa{sv}", "198.51.100.11", "0"],
        ),
        step(
            "Release",
            json!({"address": "198.51.100.11"}),
            &["Release", "sa{sv}", "198.51.100.11", "0"],
        ),
        step(
            "Release",
            json!({"address": "198.51.100.11"}),
            &["Release", "sa{sv}", "198.51.100.11", "0"],
        ),
        step(
            "Release",
            json!({"address": "192.0.2.1"}),
            &["Release", "sa{sv}", "192.0.2.1", "0"],
        ),
        step(
            "Update",
            json!({"address": "198.51.100.10", "label": "web", "description": "Büro: \"a, b\"",
                "tags": ["b", "a"], "protected": true}),
            &[
                "Update",
                "sa{sv}",
                "198.51.100.10",
                "4",
                "label",
                "s",
                "web",
                "description",
                "s",
                "Büro: \"a, b\"",
                "tags",
                "as",
                "2",
                "b",
                "a",
                "protected",
                "b",
                "true",
            ],
        ),
        step(
            "Update",
            json!({"address": "198.51.100.10", "label": "", "add_tags": ["c"], "remove_tags": ["a", "z"]}),
            &[
                "Update",
                "sa{sv}",
                "198.51.100.10",
                "3",
                "label",
                "s",
                "",
                "add_tags",
                "as",
                "1",
                "c",
                "remove_tags",
                "as",
                "2",
                "a",
                "z",
            ],
        ),
        step(
            "Update",
            json!({"address": "198.51.100.10"}),
            &["Update", "sa{sv}", "198.51.100.10", "0"],
        ),
        step(
            "Update",
            json!({"address": "198.51.100.10", "rate_in": 10_000_000, "rate_out": 0,
                "allowed_sources": ["192.0.2.9/24", "203.0.113.9"]}),
            &[
                "Update",
                "sa{sv}",
                "198.51.100.10",
                "3",
                "rate_in",
                "t",
                "10000000",
                "rate_out",
                "t",
                "0",
                "allowed_sources",
                "as",
                "2",
                "192.0.2.9/24",
                "203.0.113.9",
            ],
        ),
        step(
            "Update",
            json!({"address": "198.51.100.10", "rate_out": 7}),
            &[
                "Update",
                "sa{sv}",
                "198.51.100.10",
                "1",
                "rate_out",
                "t",
                "7",
            ],
        ),
        step(
            "Update",
            json!({"address": "198.51.100.10", "allowed_sources": ["2001:db8::/32"]}),
            &[
                "Update",
                "sa{sv}",
                "198.51.100.10",
                "1",
                "allowed_sources",
                "as",
                "1",
                "2001:db8::/32",
            ],
        ),
        step(
            "Update",
            json!({"address": "198.51.100.10", "allowed_sources": []}),
            &[
                "Update",
                "sa{sv}",
                "198.51.100.10",
                "1",
                "allowed_sources",
                "as",
                "0",
            ],
        ),
        step(
            "Update",
            json!({"address": "198.51.100.10", "label": "two words"}),
            &[
                "Update",
                "sa{sv}",
                "198.51.100.10",
                "1",
                "label",
                "s",
                "two words",
            ],
        ),
        step(
            "Update",
            json!({"address": "198.51.100.10", "description": "a\nb"}),
            &[
                "Update",
                "sa{sv}",
                "198.51.100.10",
                "1",
                "description",
                "s",
                "a\nb",
            ],
        ),
        step(
            "Update",
            json!({"address": "198.51.100.10", "tags": ["a/b"]}),
            &[
                "Update",
                "sa{sv}",
                "198.51.100.10",
                "1",
                "tags",
                "as",
                "1",
                "a/b",
            ],
        ),
        step(
            "Update",
            json!({"address": "198.51.100.13", "protected": true}),
            &[
                "Update",
                "sa{sv}",
                "198.51.100.13",
                "1",
                "protected",
                "b",
                "true",
            ],
        ),
        step(
            "Release",
            json!({"address": "198.51.100.10"}),
            &["Release", "sa{sv}", "198.51.100.10", "0"],
        ),
        step(
            "Allocate",
            json!({"count": 65}),
            &["Allocate", "a{sv}", "1", "count", "u", "65"],
        ),
        step(
            "Allocate",
            json!({"count": 0}),
            &["Allocate", "a{sv}", "1", "count", "u", "0"],
        ),
        step(
            "Allocate",
            json!({"count": 5}),
            &["Allocate", "a{sv}", "1", "count", "u", "5"],
        ),
        step(
            "Allocate",
            json!({"count": 2, "label": "pair", "tags": ["x"]}),
            &[
                "Allocate", "a{sv}", "3", "count", "u", "2", "label", "s", "pair", "tags", "as",
                "1", "x",
            ],
        ),
        step(
            "Associate",
            json!({
                "floating_ip": "198.51.100.12", "fixed_address": "10.0.0.10",
                "reassociate": true, "confirm": 3600,
            }),
            &[
                "Associate",
                "ssa{sv}",
                "198.51.100.12",
                "10.0.0.10",
                "2",
                "reassociate",
                "b",
                "true",
                "confirm",
                "u",
                "3600",
            ],
        ),
        step(
            "Release",
            json!({"address": "10.0.0.10", "confirm": 86401}),
            &[
                "Release",
                "sa{sv}",
                "10.0.0.10",
                "1",
                "confirm",
                "u",
                "86401",
            ],
        ),
        step(
            "Revert",
            json!({"address": "198.51.100.12", "dry_run": true}),
            &[
                "Revert",
                "sa{sv}",
                "198.51.100.12",
                "1",
                "dry_run",
                "b",
                "true",
            ],
        ),
        step(
            "Revert",
            json!({"address": "198.51.100.12"}),
            &["Revert", "sa{sv}", "198.51.100.12", "0"],
        ),
        step(
            "Confirm",
            json!({"address": "198.51.100.12"}),
            &["Confirm", "sa{sv}", "198.51.100.12", "0"],
        ),
        step(
            "Release",
            json!({"address": "198.51.100.12", "confirm": 60}),
            &[
                "Release",
                "sa{sv}",
                "198.51.100.12",
                "1",
                "confirm",
                "u",
                "60",
            ],
        ),
        step(
            "Confirm",
            json!({"address": "198.51.100.12"}),
            &["Confirm", "sa{sv}", "198.51.100.12", "0"],
        ),
        step("Confirm", json!({}), &["Confirm", "sa{sv}", "", "0"]),
        step("GetStatus", json!({}), &["GetStatus", "a{sv}", "0"]),
    ]
}

#[test]
fn a_request_means_and_fails_the_same_on_both_buses() {
    let (by_varlink, by_dbus) = (Daemon::start(), Daemon::start());
    let mut client = by_varlink.client();
    for Step {
        varlink: (method, parameters),
        dbus,
    } in steps()
    {
        let left = match client.call::<Value>(method, parameters.clone()) {
            Ok(answer) => flat(answer.json),
            Err(error) => Value::String(said(&error)),
        };
        let output = by_dbus.busctl(dbus);
        let right = if output.status.success() {
            let json: Value = serde_json::from_slice(&output.stdout).expect("busctl prints JSON");
            flat(plain(json["data"][0].clone()))
        } else {
            let said = String::from_utf8_lossy(&output.stderr);
            Value::String(said.trim().trim_start_matches("Call failed: ").to_owned())
        };
        assert_eq!(
            left, right,
            "{method} {parameters} by varlink, and {dbus:?}"
        );
    }
}

/// What the daemon said, before the command line gave it its own words.
fn said(error: &ClientError) -> String {
    let message = match error {
        ClientError::Refused(refused) => refused.parameters["message"].as_str(),
        _ => None,
    };
    message.map_or_else(|| error.to_string(), str::to_owned)
}

/// D-Bus has the fields of the address beside the others, varlink below them;
/// times differ from one daemon to the other.
fn flat(value: Value) -> Value {
    let Value::Object(fields) = value else {
        return value;
    };
    let mut all = Map::new();
    for (key, value) in fields {
        match value {
            Value::Object(inner) if key == "address" => all.extend(inner),
            Value::Array(items) => {
                all.insert(key, items.into_iter().map(flat).collect());
            }
            value => drop(all.insert(key, value)),
        }
    }
    all.retain(|key, _| {
        !key.ends_with("_at") && key != "resting_until" && key != "unconfirmed_until"
    });
    Value::Object(all)
}

/// What busctl prints, without the types.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(mut fields) if fields.contains_key("type") && fields.contains_key("data") => {
            plain(fields.remove("data").expect("it was there"))
        }
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, value)| (key, plain(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(plain).collect(),
        other => other,
    }
}
