//! What the daemon may do, as the kernel says of each of its threads, and whose
//! its files are.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ipfloater::model::Family;

use super::daemon::{Daemon, Start};
use super::lab::{Lab, floating};
use super::namespace::eventually;
use super::nobody::NOBODY;
use super::talk::{Tcp, saw};

/// CAP_NET_ADMIN is 12, CAP_NET_RAW 13 (capability.h).
const NET_ADMIN: &str = "0000000000001000";
const NET_ADMIN_AND_RAW: &str = "0000000000003000";
const NONE: &str = "0000000000000000";

/// What proc_pid_status(5) has about rights.
const FIELDS: [&str; 9] = [
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
];

/// The rights of each thread of a daemon, by its name.
fn rights(daemon: &Daemon) -> BTreeMap<String, Vec<String>> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("it runs");
    let statuses = tasks.map(|task| {
        let path = task.expect("it is listed").path().join("status");
        let text = std::fs::read_to_string(path).expect("no thread ends meanwhile");
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|line| line.strip_prefix(':'));
            let words = value.expect("the kernel has it").split_whitespace();
            words.collect::<Vec<_>>().join(" ")
        };
        (field("Name"), FIELDS.map(field).to_vec())
    });
    statuses.collect()
}

/// Asserts that every thread has these rights, and those that do the work are
/// among them.
fn assert_rights(daemon: &Daemon, user: &str, bounding: &str) {
    let id = format!("{user} {user} {user} {user}");
    let expected = [
        &id, &id, "", NONE, NET_ADMIN, NET_ADMIN, bounding, NONE, "1",
    ];
    // A thread that has just begun has not got its name yet.
    eventually("all threads run", || {
        let rights = rights(daemon);
        let workers = ["ipfloaterd", "controller", "cutter", "announce", "watch"];
        workers.iter().all(|name| rights.contains_key(*name))
    });
    for (thread, found) in rights(daemon) {
        assert_eq!(found, expected, "{thread}: {FIELDS:?}");
    }
    let said = format!("running as uid {user}");
    let log = daemon.log();
    let line = log.lines().rfind(|line| line.contains(&said));
    let line = line.unwrap_or_else(|| panic!("it says so: {log}"));
    assert!(line.ends_with(", with CAP_NET_ADMIN"), "{line}");
}

/// Asserts that connections have the file descriptors that the machine gives.
fn assert_descriptors(daemon: &Daemon) {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid()));
    let limits = limits.expect("it runs");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let words: Vec<_> = line
        .expect("the kernel has it")
        .split_whitespace()
        .collect();
    let [soft, hard] = [3, 4].map(|at| words[at].parse::<u64>().expect("a number"));
    assert_eq!(soft, hard.min(65_536), "{limits}");
}

/// Asserts that it still does all that it is for.
fn assert_works(lab: &Lab, daemon: &Daemon) {
    for family in Family::BOTH {
        let (address, outside) = (floating(family, 10), lab.outside.address(family));
        daemon.associate(address, &lab.host_a);
        assert_eq!(lab.outside.ask(Tcp, address), saw(&lab.host_a, outside));
        daemon.reassociate(address, &lab.host_b);
        assert_eq!(lab.outside.ask(Tcp, address), saw(&lab.host_b, outside));
        assert_eq!(lab.host_b.ask(Tcp, outside), saw(&lab.outside, address));
    }
    assert_eq!(daemon.json("status")["problems"], serde_json::json!([]));
}

#[test]
fn started_by_root_every_thread_is_an_ordinary_user_with_one_capability() {
    let lab = Lab::new();
    let daemon = lab.start();
    assert_rights(&daemon, NOBODY, NONE);
    assert_works(&lab, &daemon);
    assert_rights(&daemon, NOBODY, NONE);
    assert_descriptors(&daemon);
}

#[test]
fn started_as_systemd_does_every_thread_has_one_capability_and_hands_none_on() {
    let lab = Lab::new();
    let mut daemon = lab.start_with(Start::BY_SYSTEMD);
    // Without CAP_SETPCAP the bounding set stays; no_new_privs makes it moot.
    assert_rights(&daemon, NOBODY, NET_ADMIN_AND_RAW);
    assert_works(&lab, &daemon);
    assert_rights(&daemon, NOBODY, NET_ADMIN_AND_RAW);
    daemon.stop();
    assert!(!daemon.directory().join("run/org.ipfloater").exists());
}

#[test]
fn who_wants_it_to_stay_root_gets_a_root_with_one_capability() {
    let lab = Lab::new();
    let daemon = lab.start_with(Start {
        user: "root",
        ..Start::PLAIN
    });
    assert_rights(&daemon, "0", NONE);
    assert_works(&lab, &daemon);
}

/// Who has the directories of a daemon and everything in them: `state/…: uid`.
fn owners(daemon: &Daemon) -> BTreeMap<String, u32> {
    let mut owners = BTreeMap::new();
    for name in ["state", "run"] {
        let directory = daemon.directory().join(name);
        let owner = |path: &Path| std::fs::symlink_metadata(path).expect("it is there").uid();
        owners.insert(name.to_owned(), owner(&directory));
        for entry in std::fs::read_dir(&directory).expect("root may read it") {
            let path = entry.expect("it is listed").path();
            let file = path.file_name().expect("it has one").to_string_lossy();
            owners.insert(format!("{name}/{file}"), owner(&path));
        }
    }
    owners
}

#[test]
fn what_a_root_daemon_left_is_handed_over_and_systemd_can_go_on_with_it() {
    let lab = Lab::new();
    let mut daemon = lab.start_with(Start {
        user: "root",
        ..Start::PLAIN
    });
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
    }
    // A killed one leaves its socket and the files beside the database.
    daemon.kill();
    let left = owners(&daemon);
    for file in [
        "state/ipfloater.db",
        "state/ipfloater.db-wal",
        "state/ipfloater.db-shm",
        "state/ipfloater.lock",
        "run/org.ipfloater",
        "run/org.ipfloater.lock",
    ] {
        assert_eq!(left.get(file), Some(&0), "{file}: {left:?}");
    }
    let nobody: u32 = NOBODY.parse().expect("a constant");
    for start in [Start::PLAIN, Start::BY_SYSTEMD, Start::PLAIN] {
        daemon.start_as(&lab.router, start);
        let files = owners(&daemon);
        assert!(files.values().all(|owner| *owner == nobody), "{files:?}");
        for family in Family::BOTH {
            let address = floating(family, 10);
            assert_eq!(daemon.state(address), "active");
            daemon.disassociate(address);
            daemon.associate(address, &lab.host_a);
        }
        daemon.stop();
        assert!(!daemon.directory().join("run/org.ipfloater").exists());
        let files = owners(&daemon);
        assert!(files.values().all(|owner| *owner == nobody), "{files:?}");
    }
}
