//! `ipfloater doctor`: what stops traffic is found, and what it says mends it.
//!
//! A test makes a fault, sees that packets are lost, sees the finding, does what its
//! remedy says, and sees packets pass and the finding gone. A healthy router
//! has none ([`nothing`]), and none has a finding before its fault is made.

use std::path::Path;
use std::process::{Command, Output};

use ipfloater::doctor::Id;
use ipfloater::model::Family;
use serde_json::Value;

use super::daemon::{Daemon, Start};
use super::lab::{Lab, Plan, floating};
use super::talk::{Tcp, Transport, Udp, saw};

mod daemon;
mod nothing;
mod system;
mod tables;
mod ways;

/// A lab whose host_a has the floating IPs that end in 10, and host_c in 11.
struct Clinic {
    lab: Lab,
    daemon: Daemon,
}

impl Clinic {
    fn new() -> Self {
        Self::with(Plan::default(), Start::PLAIN)
    }

    /// Whose pools name the outside interface.
    fn named() -> Self {
        let start = Start {
            configuration: "OUTSIDE_INTERFACE = wan0",
            ..Start::PLAIN
        };
        Self::with(Plan::default(), start)
    }

    fn with(plan: Plan, start: Start) -> Self {
        let lab = Lab::planned(plan);
        let daemon = lab.start_with(start);
        for family in Family::BOTH {
            daemon.associate(floating(family, 10), &lab.host_a);
            daemon.associate(floating(family, 11), &lab.host_c);
        }
        Self { lab, daemon }
    }

    /// `ipfloater doctor`, with arguments by words, behind the words of a program
    /// that runs it; to be run somewhere.
    fn command(&self, under: &str, arguments: &str) -> Command {
        let socket = self.daemon.directory().join("run/org.ipfloater");
        let mut words = under.split_whitespace().map(str::to_owned);
        let program = env!("CARGO_BIN_EXE_ipfloater").to_owned();
        let mut command = match words.next() {
            None => Command::new(program),
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(program);
                command
            }
        };
        command
            .arg("--socket")
            .arg(Path::new(&socket))
            .arg("doctor");
        command.args(arguments.split_whitespace());
        // No bus, unless a test has one.
        command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent");
        command
    }

    /// Runs it in the router.
    fn run(&self, arguments: &str) -> Output {
        let mut command = self.command("", arguments);
        self.lab
            .router
            .run(|| command.output().expect("it was built"))
    }

    /// The findings of one kind in the router.
    fn all(&self, id: &str) -> Vec<Value> {
        findings(&self.run("--json"), id)
    }

    /// The only finding of a kind.
    #[track_caller]
    fn finding(&self, id: &str) -> Value {
        only(&self.run("--json"), id)
    }

    #[track_caller]
    fn lacks(&self, id: &str) {
        assert_eq!(self.all(id), Vec::<Value>::new());
    }

    /// Makes a fault, which alone is what makes the finding, and returns that.
    #[track_caller]
    fn ail(&self, id: &str, fault: impl FnOnce(&Lab)) -> Value {
        self.lacks(id);
        fault(&self.lab);
        self.finding(id)
    }

    /// Does what the finding says, and it is gone.
    #[track_caller]
    fn mend(&self, id: &str) {
        self.shell(text(&self.finding(id), "remedy"));
        self.lacks(id);
    }

    /// Runs commands in the router as somebody who copies them.
    #[track_caller]
    fn shell(&self, line: &str) -> String {
        let output = self.lab.router.run(|| {
            let mut shell = Command::new("sh");
            shell
                .args(["-e", "-c", line])
                .output()
                .expect("it is there")
        });
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Packets pass, begun at either end.
    #[track_caller]
    fn passes(&self, family: Family) {
        let Lab { far, host_a, .. } = &self.lab;
        let floating = floating(family, 10);
        for transport in Transport::BOTH {
            let answer = far.ask(transport, floating);
            assert_eq!(answer, saw(host_a, far.address(family)), "in, {family}");
            let answer = host_a.ask(transport, far.address(family));
            assert_eq!(answer, saw(far, floating), "out, {family}");
        }
    }

    /// Nobody outside gets an answer from a host.
    #[track_caller]
    fn is_closed(&self, family: Family) {
        let answer = self.lab.far.ask_briefly(Udp, floating(family, 10));
        assert!(answer.is_err(), "{family}: {answer:?}");
    }

    /// No host gets an answer from outside.
    #[track_caller]
    fn is_closed_out(&self, family: Family) {
        let Lab { far, host_a, .. } = &self.lab;
        let answer = host_a.ask_briefly(Tcp, far.address(family));
        assert!(answer.is_err(), "{family}: {answer:?}");
    }
}

/// What `--json` printed.
#[track_caller]
fn report(output: &Output) -> Value {
    let printed = String::from_utf8_lossy(&output.stdout);
    super::json::hold("doctor", printed.trim_end(), "verb-doctor")
}

#[track_caller]
fn findings(output: &Output, id: &str) -> Vec<Value> {
    let known = Id::ALL.iter().any(|each| each.as_str() == id);
    assert!(known, "{id} is no finding");
    let report = report(output);
    let all = report["findings"].as_array().expect("it is a list");
    let those = all.iter().filter(|finding| finding["id"] == id);
    those.cloned().collect()
}

#[track_caller]
fn only(output: &Output, id: &str) -> Value {
    match findings(output, id).as_slice() {
        [finding] => finding.clone(),
        other => panic!("{id}: {other:?} of {:#}", report(output)),
    }
}

#[track_caller]
fn text<'a>(finding: &'a Value, field: &str) -> &'a str {
    let text = finding[field].as_str();
    text.unwrap_or_else(|| panic!("{field} of {finding}"))
}

/// Every finding is made by a test here.
#[test]
fn each_finding_has_a_test() {
    let tests = [
        include_str!("doctor/daemon.rs"),
        include_str!("doctor/system.rs"),
        include_str!("doctor/tables.rs"),
        include_str!("doctor/ways.rs"),
    ];
    for id in Id::ALL {
        let written = format!("\"{}\"", id.as_str());
        let tested = tests.iter().any(|test| test.contains(&written));
        assert!(tested, "no test makes {written}");
    }
}
