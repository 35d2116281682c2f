//! What `ipfloater metrics` tells is what happened.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use serde_json::Value;

use crate::Daemon;

impl Daemon {
    pub(crate) fn ask(&self, arguments: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_ipfloater"))
            .arg("--socket")
            .arg(self.socket())
            .args(arguments.split_whitespace())
            .env("DBUS_SYSTEM_BUS_ADDRESS", self.bus.address())
            .output()
            .expect("the program was built")
    }

    fn metrics(&self, arguments: &str) -> String {
        let output = self.ask(&format!("metrics {arguments}"));
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("it is text")
    }

    fn numbers(&self) -> BTreeMap<String, f64> {
        numbers(&self.metrics(""))
    }
}

/// The samples of a text, by name and labels.
fn numbers(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let numbers = samples.map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a sample has a value");
        (name.to_owned(), value.parse().expect("it is a number"))
    });
    numbers.collect()
}

#[track_caller]
fn grew(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>, name: &str, by: f64) {
    let of = |numbers: &BTreeMap<String, f64>| numbers.get(name).copied();
    let after = of(after).unwrap_or_else(|| panic!("{name} is not told"));
    assert_eq!(after - of(before).unwrap_or_default(), by, "{name}");
}

#[test]
fn what_was_asked_is_counted_by_verb_and_outcome() {
    let daemon = Daemon::start();
    let before = daemon.numbers();
    for (order, exit) in [
        ("associate 198.51.100.10 10.0.0.5", 0),
        ("associate 198.51.100.10 10.0.0.5", 0),
        ("associate 198.51.100.10 10.0.0.6", 6),
        ("associate 2001:db8::10 fd00::5", 0),
        ("allocate 198.51.100.11", 0),
        ("allocate 192.0.2.1", 5),
        ("release 198.51.100.10 --dry-run", 0),
        ("disassociate 198.51.100.10", 0),
        ("reload", 0),
    ] {
        let done = daemon.ask(&format!("{order} --no-wait"));
        assert_eq!(done.status.code(), Some(exit), "{order}: {done:?}");
    }
    let after = daemon.numbers();
    for (verb, outcome, times) in [
        ("associate", "granted", 2.0),
        ("associate", "unchanged", 1.0),
        ("associate", "AlreadyAssociated", 1.0),
        ("allocate", "granted", 1.0),
        ("allocate", "NotInPool", 1.0),
        ("release", "granted", 0.0),
        ("release", "dry-run", 1.0),
        ("disassociate", "granted", 1.0),
        ("reload", "unchanged", 1.0),
    ] {
        let name = format!("ipfloater_operations_total{{verb=\"{verb}\",outcome=\"{outcome}\"}}");
        grew(&before, &after, &name, times);
    }
    for (name, by) in [
        // Everything above, each once; the four that altered something.
        ("ipfloater_operation_duration_seconds_count", 9.0),
        (
            "ipfloater_operation_duration_seconds_bucket{le=\"+Inf\"}",
            9.0,
        ),
        ("ipfloater_commit_duration_seconds_count", 4.0),
        ("ipfloater_revision", 4.0),
        (
            "ipfloater_reconciliations_total{extent=\"request\",outcome=\"done\"}",
            4.0,
        ),
        // Allocated and associated by one call, twice; once more allocated.
        ("ipfloater_events_total{verb=\"allocate\"}", 3.0),
        ("ipfloater_events_total{verb=\"associate\"}", 2.0),
        ("ipfloater_events_total{verb=\"disassociate\"}", 1.0),
        ("ipfloater_sequence", 6.0),
        ("ipfloater_requests_waiting", 0.0),
        ("ipfloater_queue_length", 0.0),
        ("ipfloater_commit_errors_total", 0.0),
    ] {
        grew(&before, &after, name, by);
    }
    let pool = |family: &str| {
        ["free", "resting", "allocated", "pending", "active"].map(|state| {
            let pool = format!("pool=\"default\",family=\"{family}\"");
            after[&format!("ipfloater_addresses{{{pool},state=\"{state}\"}}")]
        })
    };
    assert_eq!(pool("ipv4"), [2.0, 0.0, 2.0, 0.0, 0.0]);
    assert_eq!(pool("ipv6"), [1.0, 0.0, 0.0, 0.0, 1.0]);
    assert!(after["ipfloater_uptime_seconds"] > before["ipfloater_uptime_seconds"]);

    // Given back it rests, and the pool has it still.
    assert!(daemon.ask("release 198.51.100.11").status.success());
    let after = daemon.numbers();
    assert_eq!(
        after["ipfloater_addresses{pool=\"default\",family=\"ipv4\",state=\"resting\"}"],
        1.0
    );
    assert_eq!(
        after["ipfloater_addresses{pool=\"default\",family=\"ipv4\",state=\"free\"}"],
        2.0
    );
}

#[test]
fn both_buses_tell_the_same_families_and_refuse_another_format() {
    let daemon = Daemon::start();
    let families = |text: &str| -> Vec<String> {
        let types = text.lines().filter(|line| line.starts_with("# TYPE "));
        types.map(str::to_owned).collect()
    };
    for format in ["openmetrics", "prometheus"] {
        let told = daemon.busctl(&["GetMetrics", "a{sv}", "1", "format", "s", format]);
        let told: Value = serde_json::from_slice(&told.stdout).expect("busctl prints JSON");
        let told = told["data"][0].as_str().expect("it is a text").to_owned();
        let printed = daemon.metrics(&format!("--no-addresses --format {format}"));
        assert_eq!(families(&told), families(&printed));
        assert_eq!(printed.ends_with("# EOF\n"), format == "openmetrics");
        assert!(!told.contains("# EOF"));
        assert_eq!(told.contains("# UNIT"), format == "openmetrics");
        assert!(!families(&told).is_empty());
    }
    let refused = daemon.busctl(&["GetMetrics", "a{sv}", "1", "format", "s", "xml"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("openmetrics or prometheus"), "{said}");
    let refused = daemon
        .client()
        .call::<Value>("GetMetrics", serde_json::json!({"format": "xml"}))
        .expect_err("there is no such format");
    assert!(refused.to_string().contains("openmetrics or prometheus"));
    assert_eq!(daemon.ask("metrics --format xml").status.code(), Some(2));
}

#[test]
fn a_file_is_replaced_at_once_and_can_be_read_by_others() {
    let daemon = Daemon::start();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("ipfloater.prom");
    std::fs::write(&file, "old").expect("the directory is ours");
    // Whoever reads the old one goes on reading that.
    let old = std::fs::File::open(&file).expect("it is there");
    let order = format!("--format prometheus --output {}", file.display());
    assert_eq!(daemon.metrics(&order), "");
    assert_eq!(std::io::read_to_string(old).expect("it is open"), "old");
    let text = std::fs::read_to_string(&file).expect("it is there");
    assert!(text.contains("# TYPE ipfloater_operations_total counter\n"));
    let mode = std::fs::metadata(&file).expect("it is there").permissions();
    assert_eq!(mode.mode() & 0o444, 0o444);
    let left = std::fs::read_dir(directory.path()).expect("it is ours");
    assert_eq!(left.count(), 1);

    let nowhere = daemon.ask("metrics --output /nonexistent/ipfloater.prom");
    assert_eq!(nowhere.status.code(), Some(1));
    let said = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert!(said.contains("/nonexistent/ipfloater.prom"), "{said}");
}
