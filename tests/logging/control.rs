//! Altering the log while the daemon runs, over both buses.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::daemon::{Daemon, LOG_CONTROL, NOBODY, Start};

const WORDS: [&str; 8] = [
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
];

fn quoted(word: &str) -> Result<String, String> {
    Ok(format!("s \"{word}\""))
}

/// Whether a change, and what only a developer wants to know, are in the log.
fn logs(daemon: &Daemon) -> (bool, bool) {
    daemon.journal.rest();
    daemon
        .call("Allocate", json!({"floating_ip": "198.51.100.10"}))
        .unwrap();
    daemon
        .call("Release", json!({"address": "198.51.100.10"}))
        .unwrap();
    let seen = daemon.journal.rest();
    let priorities: Vec<_> = seen.iter().map(|record| &*record["PRIORITY"]).collect();
    (priorities.contains(&"5"), priorities.contains(&"7"))
}

#[test]
fn root_alters_the_level_over_both_buses_and_it_holds_at_once() {
    let daemon = Daemon::start();
    assert_eq!(daemon.get("LogLevel"), quoted("info"));
    assert_eq!(logs(&daemon), (true, false));
    for (number, word) in WORDS.iter().enumerate() {
        daemon.set_as(0, "LogLevel", word).unwrap();
        assert_eq!(daemon.get("LogLevel"), quoted(word));
        let seen = logs(&daemon);
        assert_eq!(seen, (number >= 5, number >= 7), "{word}");
    }
    for (number, word) in WORDS.iter().enumerate() {
        let level = json!({"level": number});
        let answer = daemon.varlink_as(0, "io.systemd.service.SetLogLevel", level);
        assert_eq!(answer, json!({"parameters": {}}), "{word}");
        assert_eq!(daemon.get("LogLevel"), quoted(word));
    }
}

#[test]
fn what_was_altered_by_whom_is_in_the_log_even_when_it_ends_there() {
    let daemon = Daemon::start();
    daemon.set_as(0, "LogLevel", "crit").unwrap();
    let record = daemon.journal.audit();
    assert_eq!(
        record["MESSAGE"],
        "log level set from info to crit by uid 0"
    );
    assert_eq!(record["IPFLOATER_VERB"], "set-log-level");
    assert_eq!(record["IPFLOATER_OUTCOME"], "granted");
    assert_eq!(record["IPFLOATER_VIA"], "dbus");
    daemon.set_as(0, "LogLevel", "debug").unwrap();
    let record = daemon.journal.audit();
    assert_eq!(
        record["MESSAGE"],
        "log level set from crit to debug by uid 0"
    );
}

#[test]
fn nobody_else_alters_the_log_or_reads_the_environment() {
    let daemon = Daemon::start();
    for (property, value) in [("LogLevel", "debug"), ("LogTarget", "console")] {
        let error = daemon.set_as(NOBODY, property, value).unwrap_err();
        assert!(error.contains("Access denied"), "{error}");
        let record = daemon.journal.audit();
        assert_eq!(record["IPFLOATER_VERB"], "set-log-level");
        assert_eq!(record["IPFLOATER_OUTCOME"], "denied");
        assert_eq!(record["IPFLOATER_UID"], "65534");
    }
    for (method, parameters) in [
        ("SetLogLevel", json!({"level": 7})),
        ("GetEnvironment", json!({})),
    ] {
        let method = format!("io.systemd.service.{method}");
        let answer = daemon.varlink_as(NOBODY, &method, parameters);
        let error = "org.varlink.service.PermissionDenied";
        assert_eq!(answer["error"], error);
        assert_eq!(daemon.journal.audit()["IPFLOATER_OUTCOME"], "denied");
    }
    assert_eq!(daemon.get("LogLevel"), quoted("info"));
    assert_eq!(daemon.get("LogTarget"), quoted("journal"));

    // Reading harms nobody, and neither does being asked whether one is there.
    let get = [&["get-property"][..], &LOG_CONTROL, &["LogLevel"]].concat();
    assert_eq!(daemon.busctl_as(NOBODY, &get), quoted("info"));
    let pong = daemon.varlink_as(NOBODY, "io.systemd.service.Ping", json!({}));
    assert_eq!(pong, json!({"parameters": {}}));
}

#[test]
fn a_level_that_is_none_is_refused() {
    let daemon = Daemon::start();
    for wrong in [
        "",
        "Debug",
        "warn",
        "7",
        "trace",
        "debug\u{1b}[2J",
        "info,zbus=trace",
    ] {
        let error = daemon.set_as(0, "LogLevel", wrong).unwrap_err();
        assert!(error.contains("there is no log level"), "{error}");
        assert!(!error.contains('\u{1b}'), "{error:?}");
    }
    for wrong in [
        json!({"level": 8}),
        json!({"level": -1}),
        json!({"level": 1e30}),
        json!({"level": "debug"}),
        json!({"level": null}),
        json!({}),
    ] {
        let answer = daemon.varlink_as(0, "io.systemd.service.SetLogLevel", wrong);
        assert_eq!(
            answer,
            json!({
                "error": "org.varlink.service.InvalidParameter",
                "parameters": {"parameter": "level"},
            })
        );
    }
    let answer = daemon.varlink_as(0, "io.systemd.service.Ping", json!({"x": 1}));
    assert_eq!(answer["parameters"]["parameter"], "x");
    let answer = daemon.varlink_as(0, "io.systemd.service.Reexecute", json!({}));
    assert_eq!(answer["error"], "org.varlink.service.MethodNotFound");
    assert_eq!(daemon.get("LogLevel"), quoted("info"));
}

#[test]
fn the_log_goes_to_stderr_and_back_to_the_journal() {
    let daemon = Daemon::start();
    assert_eq!(daemon.get("LogTarget"), quoted("journal"));
    assert_eq!(daemon.get("SyslogIdentifier"), quoted("ipfloaterd"));
    assert_eq!(daemon.stderr(), "");

    daemon.set_as(0, "LogTarget", "console").unwrap();
    assert_eq!(daemon.get("LogTarget"), quoted("console"));
    daemon
        .journal
        .find("log goes to console, no longer to journal");
    daemon.call("Allocate", json!({})).unwrap();
    assert_eq!(daemon.journal.rest(), []);
    let said = daemon.stderr();
    let lines: Vec<_> = said.lines().collect();
    // The journal reads stderr line by line, and takes the priority off.
    assert!(lines[0].starts_with("<5>log goes to console"), "{said}");
    assert!(lines[1].starts_with("<5>198.51.100.10 of pool"), "{said}");
    assert!(lines[1].contains(" outcome=granted"), "{said}");

    daemon.set_as(0, "LogTarget", "auto").unwrap();
    assert_eq!(daemon.get("LogTarget"), quoted("journal"));
    daemon.journal.find("log goes to journal");

    for wrong in ["kmsg", "syslog", "null", "", "Journal", "/etc/passwd"] {
        let error = daemon.set_as(0, "LogTarget", wrong).unwrap_err();
        assert!(error.contains("the log cannot go to"), "{error}");
    }
    std::fs::remove_file(daemon.directory.path().join("journal/socket")).unwrap();
    daemon.set_as(0, "LogTarget", "console").unwrap();
    let error = daemon.set_as(0, "LogTarget", "journal").unwrap_err();
    assert!(error.contains("the journal cannot be reached"), "{error}");
    assert_eq!(daemon.get("LogTarget"), quoted("console"));
}

#[test]
fn the_environment_is_told_to_root() {
    let environment = vec![("SECRET", "of the administrator")];
    let daemon = Daemon::start_with(Start {
        environment,
        no_bus: true,
        ..Start::default()
    });
    let answer = daemon.varlink_as(0, "io.systemd.service.GetEnvironment", Value::Null);
    let variables = answer["parameters"]["environment"].as_array().unwrap();
    assert!(variables.contains(&json!("SECRET=of the administrator")));
}

#[test]
fn the_variable_sets_the_level_at_the_start() {
    for (variable, level) in [
        ("debug", "debug"),
        ("error", "err"),
        ("off", "emerg"),
        ("warn,ipfloater::audit=info", "info"),
    ] {
        let daemon = Daemon::start_with(Start {
            environment: vec![("IPFLOATER_LOG", variable)],
            ..Start::default()
        });
        assert_eq!(daemon.get("LogLevel"), quoted(level), "{variable}");
    }
}

/// The members of an interface, with type, access and annotation.
fn members(xml: &str) -> BTreeMap<String, String> {
    let (_, interface) = xml
        .split_once("<interface name=\"org.freedesktop.LogControl1\">")
        .unwrap();
    let (interface, _) = interface.split_once("</interface>").unwrap();
    let mut members = BTreeMap::new();
    let mut rest = interface;
    while let Some((_, property)) = rest.split_once("<property ") {
        let (property, after) = property.split_once("</property>").unwrap();
        let value = |key: &str| {
            let (_, value) = property.split_once(&format!("{key}=\"")).unwrap();
            value.split_once('"').unwrap().0.to_owned()
        };
        let (_, annotation) = property.split_once("EmitsChangedSignal\" ").unwrap();
        let changes = annotation.split('"').nth(1).unwrap();
        let kind = format!("{} {} {changes}", value("type"), value("access"));
        members.insert(value("name"), kind);
        rest = after;
    }
    members
}

#[test]
fn the_bus_shows_what_the_interface_file_says() {
    let daemon = Daemon::start();
    let introspect = [
        "introspect",
        "--xml-interface",
        LOG_CONTROL[0],
        LOG_CONTROL[1],
    ];
    let shown = daemon.busctl_as(NOBODY, &introspect).unwrap();
    let file = include_str!("../../interfaces/org.freedesktop.LogControl1.xml");
    let members = members(file);
    assert_eq!(members.len(), 3);
    assert_eq!(members, self::members(&shown));
}
