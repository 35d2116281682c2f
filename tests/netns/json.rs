//! What every verb prints with `--json`, held against the schema that is published.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use clap::CommandFactory;
use ipfloater::cli::Arguments;
use jsonschema::Validator;
use serde_json::{Value, json};

use super::daemon::{Daemon, Start};
use super::lab::Lab;
use super::talk::Udp;

const SCHEMA: &str = include_str!("../../interfaces/ipfloater.schema.json");

/// The schema of one thing in it, which takes nothing that it does not name: what
/// is published lets readers pass over what is added, and we are to publish it.
fn validator(name: &str) -> Validator {
    fn close(schema: &mut Value) {
        if schema["properties"].is_object() {
            schema["additionalProperties"] = false.into();
        }
        match schema {
            Value::Object(parts) => parts.values_mut().for_each(close),
            Value::Array(parts) => parts.iter_mut().for_each(close),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut schema: Value = serde_json::from_str(SCHEMA).expect("it is JSON");
    assert!(schema["$defs"][name].is_object(), "{name} is not in it");
    schema["anyOf"] = json!([{"$ref": format!("#/$defs/{name}")}]);
    close(&mut schema);
    jsonschema::validator_for(&schema).expect("it is a schema")
}

/// A line that was printed, which is as the schema says.
pub(super) fn hold(line: &str, printed: &str, name: &str) -> Value {
    let value: Value =
        serde_json::from_str(printed).unwrap_or_else(|error| panic!("{line}: {error}: {printed}"));
    let complaints: Vec<_> = validator(name)
        .iter_errors(&value)
        .map(|error| error.to_string())
        .collect();
    assert!(complaints.is_empty(), "{line}: {complaints:#?}: {printed}");
    value
}

/// Runs verbs, and remembers which.
struct Runner<'a> {
    lab: &'a Lab,
    daemon: &'a Daemon,
    tried: BTreeSet<String>,
}

impl Runner<'_> {
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ipfloater"));
        command
            .arg("--json")
            .arg("--socket")
            .arg(self.daemon.directory().join("run/org.ipfloater"))
            .args(line.split_whitespace())
            // No bus is needed, and that of this machine is none of ours.
            .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent");
        command
    }

    fn verb(line: &str) -> &str {
        line.split(' ').next().expect("a line has a verb")
    }

    /// What it prints when it succeeds, or `doctor` finds something.
    fn answer(&mut self, line: &str) -> Value {
        let verb = Self::verb(line);
        let mut command = self.command(line);
        let output = self.lab.router.run(|| command.output());
        let output = output.expect("ipfloater was built");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() || verb == "doctor",
            "{line}: {printed}"
        );
        self.tried.insert(verb.to_owned());
        let mut last = None;
        for printed in printed.lines() {
            last = Some(hold(line, printed, &format!("verb-{verb}")));
        }
        last.unwrap_or_else(|| panic!("{line} says nothing"))
    }

    /// The error that it prints, its last line, whose code is that of its end.
    fn error(&self, line: &str, name: &str, code: i32) {
        let mut command = self.command(line);
        let output = self.lab.router.run(|| command.output());
        let output = output.expect("ipfloater was built");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = printed.lines().last().unwrap_or_default();
        let error = hold(line, last, "error");
        assert_eq!(error["error"]["name"], name, "{line}: {printed}");
        assert_eq!(error["error"]["exit_code"], code, "{line}: {printed}");
        assert_eq!(output.status.code(), Some(code), "{line}: {printed}");
    }

    /// The first lines of what goes on until it is ended.
    fn first(&mut self, line: &str, lines: usize) {
        let mut command = self.command(line);
        command.stdout(Stdio::piped());
        let mut child = self
            .lab
            .router
            .run(|| command.spawn())
            .expect("it was built");
        let mut printed = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        for _ in 0..lines {
            let printed = printed.next().expect("there is more").expect("it is text");
            hold(line, &printed, &format!("verb-{}", Self::verb(line)));
        }
        self.tried.insert(Self::verb(line).to_owned());
        child.kill().expect("it goes on");
        child.wait().expect("it was killed");
    }
}

#[test]
fn every_verb_prints_what_the_schema_says() {
    let lab = Lab::new();
    // How an address goes with a hardware address.
    let directory = tempfile::tempdir().expect("there is room for files");
    super::nobody::open_to_nobody(directory.path());
    let file = directory.path().join("pool");
    std::fs::write(&file, "198.51.100.30 60:60:00:00:00:01\n").expect("a file can be written");
    let configuration = format!(
        "IP_POOL_FILE = {}\n\
         [POOL second]\nIP_POOL = 203.0.113.1\nOUTSIDE_INTERFACE = wan0\nPROBE = no\n\
         [USER 65531]\nQUOTA = 1",
        file.display()
    );
    let daemon = lab.start_with(Start {
        configuration: configuration.leak(),
        ..Start::PLAIN
    });
    let mut runner = Runner {
        lab: &lab,
        daemon: &daemon,
        tried: BTreeSet::new(),
    };
    let run = &mut runner;
    for line in [
        "version",
        "ippool",
        "arp 60:60:00:00:00:01",
        "status",
        "list",
        "associate 10.0.1.11 --dry-run",
        "getip 10.0.1.11",
        "redirect 198.51.100.11 10.0.1.12",
        "associate 198.51.100.11 10.0.2.13 --reassociate --keep-established --for 1h",
        "associate fd00:1::11",
        "allocate --count 2 --label web --tag a --tag b --protect",
        "allocate --pool second --owner 65531 --for 1d",
        "forward 198.51.100.12:5000-5009/udp 10.0.1.12:6000 --outbound floating",
        "forward [2001:db8::11]:443 fd00:1::12 --dry-run",
        "set 198.51.100.10 --description words --rate-in 10M --rate-out 10M --allow 0.0.0.0/0",
        "unforward 198.51.100.12:5000-5009/udp --confirm 60s",
        "revert 198.51.100.12",
        "unforward 198.51.100.12:5000-5009/udp --confirm 60s",
        "confirm 198.51.100.12 --dry-run",
        "confirm 198.51.100.12",
        "forward 198.51.100.12:53/udp 10.0.1.12",
        "disassociate 198.51.100.11",
        "release 198.51.100.11",
        "show 198.51.100.10",
        "show 198.51.100.11",
        "show 198.51.100.12",
        "show 198.51.100.20",
        "list",
        "counters",
        "counters 198.51.100.10",
        "metrics",
        "permissions",
        "permissions 198.51.100.10",
        "history",
        "history 198.51.100.10 -n 2",
        "reload --dry-run",
        "reload",
        "status",
        "ippool",
        "doctor",
        "doctor 198.51.100.10",
        "import --clear-only",
        "releaseip 198.51.100.10",
    ] {
        run.answer(line);
    }
    // What passes.
    let answer = run.answer("getip 10.0.1.11");
    let floating = answer["address"]["floating_ip"].as_str();
    let floating = floating.expect("it has one");
    let flow = lab
        .far
        .converse(Udp, floating.parse().expect("it is an address"));
    let flow = flow.expect("a socket").keep_talking();
    flow.wait_for_more(5);
    let busy = run.answer("top -d 1 -n 2");
    assert!(busy["addresses"][0]["bits_in"].as_u64() > Some(0), "{busy}");
    drop(flow.end());
    run.first("monitor", 1);
    run.first("monitor --since 1", 5);
    let taken = &*format!("associate {floating} 10.0.1.12");
    let owned = &*format!("allocate {floating} --owner 65531");
    let confirmed = &*format!("confirm {floating}");
    for (line, name, code) in [
        ("show 1.2.3", "InvalidAddress", 2),
        ("show 192.0.2.1", "NotInPool", 5),
        ("associate 192.0.2.77", "OutsidePrivateRanges", 2),
        ("associate 10.0.1.0", "NotAHost", 2),
        ("associate 2001:db8::12 10.0.1.12", "WrongFamily", 2),
        ("associate 198.51.100.2 10.0.1.12", "NotInPool", 5),
        ("associate 198.51.100.20 10.0.1.11", "TargetInUse", 6),
        (taken, "AlreadyAssociated", 6),
        (owned, "AlreadyAllocated", 6),
        ("allocate --pool third", "NoSuchPool", 5),
        ("allocate --pool second", "PoolExhausted", 7),
        ("allocate --count 99", "InvalidArgument", 2),
        ("set 198.51.100.20 --label x", "NotAllocated", 5),
        ("show 10.0.1.77", "NotAssociated", 5),
        (confirmed, "NothingUnconfirmed", 5),
        ("monitor --since 99999", "SequenceGone", 5),
        ("associate", "Usage", 2),
    ] {
        run.error(line, name, code);
    }
    let command = Arguments::command();
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    for verb in verbs.map(clap::Command::get_name) {
        assert!(run.tried.contains(verb), "{verb} was not tried");
    }
}
