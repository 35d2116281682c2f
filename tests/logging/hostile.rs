//! Nothing that came from a caller or the configuration reaches a log as it came.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::net::UnixStream;

use serde_json::json;

use crate::daemon::{Daemon, Start};
use crate::journal::Fields;

/// Moves the cursor, clears the screen, forges a field and a line, ends text,
/// turns the direction of writing, and is not short.
fn hostile() -> String {
    let text = "\u{1b}]0;x\u{7}\u{1b}[2J\u{9b}31m\nPRIORITY=0\r\nMESSAGE_ID=1\u{202e}\0\u{8}\u{7f}";
    text.to_owned() + &"A".repeat(10_000)
}

/// Says whatever can be said to the daemon, right and wrong.
fn provoke(daemon: &Daemon) {
    let hostile = hostile();
    for method in [
        "Allocate",
        "Associate",
        "Disassociate",
        "Release",
        "List",
        "Describe",
    ] {
        for field in ["floating_ip", "fixed_address", "address", "pool", &hostile] {
            let mut parameters = json!({"fixed_address": "10.0.0.5"});
            parameters[field] = hostile.clone().into();
            let _ = daemon.call(method, parameters);
        }
    }
    let _ = daemon.call(&hostile, json!({}));
    for message in [
        format!("{hostile}\0"),
        json!({"method": hostile, "parameters": {}}).to_string() + "\0",
        json!({"method": "io.systemd.service.SetLogLevel", "parameters": {"level": hostile}})
            .to_string()
            + "\0",
    ] {
        let mut caller = UnixStream::connect(daemon.socket()).unwrap();
        let _ = caller.write_all(message.as_bytes());
        let _ = caller.read(&mut [0; 1024]);
    }
    // An argument of a program cannot hold a zero.
    let word = hostile.replace('\0', "");
    let manager = ["org.ipfloater", "/org/ipfloater", "org.ipfloater.Manager"];
    for call in [
        ["Release", "sa{sv}", &word, "0"].as_slice(),
        &["Allocate", "a{sv}", "1", "pool", "s", &word],
        &["Allocate", "a{sv}", "1", &word, "s", "x"],
    ] {
        let call = [&["call"][..], &manager, call].concat();
        daemon.busctl_as(0, &call).unwrap_err();
    }
    for property in ["LogLevel", "LogTarget"] {
        daemon.set_as(0, property, &word).unwrap_err();
    }
    // A sign of life, so that the log is known to be complete.
    daemon.call("Allocate", json!({})).unwrap();
}

fn harmful(text: &str) -> Option<char> {
    let bidi = |c: char| matches!(c, '\u{202a}'..='\u{202e}');
    text.chars()
        .find(|c| (c.is_control() && *c != '\n') || bidi(*c))
}

#[test]
fn the_journal_gets_no_control_character_and_no_forged_field_whatever_callers_send() {
    let daemon = Daemon::start_with(Start {
        environment: vec![("IPFLOATER_LOG", "trace")],
        ..Start::default()
    });
    // What waits for its turn is kept meanwhile: nobody reads here yet.
    provoke(&daemon);
    let records: Vec<Fields> = std::iter::from_fn(|| daemon.journal.next())
        .scan(false, |over, record| {
            let next = (!*over).then(|| record.clone());
            *over = record["MESSAGE"].contains("of pool default allocated");
            next
        })
        .collect();
    assert!(records.len() > 50, "{}", records.len());
    let text = format!("{records:?}");
    assert!(
        text.contains("]0;x"),
        "something hostile got as far as the log"
    );
    for record in &records {
        for (name, value) in record {
            assert_eq!(harmful(value), None, "{name}={value:?}");
            assert!(!value.contains('\n') && value.len() < 80_000, "{name}");
        }
        assert_ne!(record["PRIORITY"], "0");
        assert_ne!(record.get("MESSAGE_ID").map(String::as_str), Some("1"));
    }
    assert_eq!(daemon.stderr(), "");
}

#[test]
fn stderr_gets_no_control_character_and_no_colour_when_it_is_no_terminal() {
    let mut file = tempfile::tempfile().unwrap();
    let daemon = Daemon::start_with(Start {
        environment: vec![("IPFLOATER_LOG", "trace")],
        stderr: Some(File::try_clone(&file).unwrap().into()),
        ..Start::default()
    });
    provoke(&daemon);
    assert_eq!(daemon.journal.rest(), Vec::<Fields>::new());
    drop(daemon);
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert!(text.contains("of pool default allocated") && text.contains("]0;x"));
    assert_eq!(harmful(&text), None);
    for line in text.lines() {
        let (time, _) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.starts_with("20"), "{line}");
    }
}

#[test]
fn the_name_of_a_file_and_the_environment_are_written_out() {
    let daemon = Daemon::start_with(Start {
        file: Some("\u{1b}[2J\nPRIORITY=0\n\u{9b}1m\u{202e}.conf"),
        environment: vec![("IPFLOATER_LOG", "\u{1b}[2J\nPRIORITY=0\u{9b}=")],
        no_bus: true,
        ..Start::default()
    });
    let records = daemon.journal.rest();
    let warnings: Vec<_> = records
        .iter()
        .filter(|record| record["PRIORITY"] == "4")
        .map(|record| &record["MESSAGE"])
        .collect();
    assert_eq!(
        warnings[0],
        r#"IPFLOATER_LOG="\u{1b}[2J\nPRIORITY=0\u{9b}=" is passed over: invalid filter directive"#
    );
    assert!(
        warnings[1].contains(r"/\u{1b}[2J\nPRIORITY=0\n\u{9b}1m\u{202e}.conf, line 4: REST_PORT")
    );
    for record in &records {
        let values = record.values().find_map(|value| harmful(value));
        assert_eq!(values, None, "{record:#?}");
    }
}
