//! The store under what happens to a machine: a process that is killed while it
//! commits, and a disk that is full. Both need a process of their own, which is
//! this program again, told by an environment variable what to do.
#![allow(
    clippy::disallowed_types,
    reason = "a test may start programs; the daemon may not"
)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ipfloater::model::{
    Actor, Change, Event, EventKind, FloatingIp, PoolName, State, Timestamp, Via,
};
use ipfloater::store::{SqliteStore, Store, StoreError};
use tempfile::TempDir;

/// The state directory of a child that commits until it is killed.
const COMMITS_IN: &str = "IPFLOATER_TEST_COMMITS_IN";

/// The state directory of a child on a small file system of its own.
const FILLS: &str = "IPFLOATER_TEST_FILLS";

/// One more address allocated, and the state after it.
fn one_more(state: &State) -> (Vec<Event>, State) {
    let host = u32::try_from(state.allocated()).expect("the test is short");
    let floating = std::net::Ipv4Addr::from_bits(u32::from_be_bytes([100, 64, 0, 1]) + host);
    let change = Change::Allocate {
        floating: FloatingIp::new(floating.into()).expect("the address is usable"),
        pool: PoolName::default_pool(),
        owner: 1000,
    };
    step(state, change)
}

fn step(state: &State, change: Change) -> (Vec<Event>, State) {
    let after = state.clone().with(&change, Timestamp(1)).committed();
    let event = Event {
        sequence: after.sequence(),
        revision: Some(after.revision()),
        at: Timestamp(1),
        actor: Actor {
            uid: 0,
            via: Via::Varlink,
        },
        kind: EventKind::Changed(change),
    };
    (vec![event], after)
}

/// Says a word on standard output, past the test harness, which would keep it.
fn say(word: impl std::fmt::Display) {
    let mut output = fs::OpenOptions::new()
        .write(true)
        .open("/proc/self/fd/1")
        .expect("standard output is a pipe");
    writeln!(output, "said {word}").expect("the parent listens");
}

/// What a child says, a word a line; the harness's own lines are passed over,
/// and the last one if it was killed in the middle of it.
fn words(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let mut output = BufReader::new(child.stdout.take().expect("it was piped"));
    let lines = std::iter::from_fn(move || {
        let mut line = String::new();
        output.read_line(&mut line).ok()?;
        Some(line.strip_suffix('\n')?.to_owned())
    });
    lines.filter_map(|line| Some(line.split_once("said ")?.1.to_owned()))
}

fn this_program(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program is a file"));
    command.args(["--exact", test, "--nocapture"]);
    command
}

#[test]
fn a_process_that_is_killed_while_it_commits_loses_nothing_it_answered() {
    if let Some(directory) = std::env::var_os(COMMITS_IN) {
        let mut store = SqliteStore::open(Path::new(&directory)).unwrap();
        let mut state = store.load().unwrap();
        loop {
            let (events, after) = one_more(&state);
            store.commit(state.revision(), &events).unwrap();
            state = after;
            say(state.revision());
        }
    }

    let directory = TempDir::new().unwrap();
    let mut answered = 0;
    for round in 0..12 {
        let mut child =
            this_program("a_process_that_is_killed_while_it_commits_loses_nothing_it_answered")
                .env(COMMITS_IN, directory.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
        let mut said = words(&mut child);
        let first: u64 = said.next().expect("it commits").parse().unwrap();
        assert!(first > answered, "round {round} began again at {first}");
        std::thread::sleep(Duration::from_millis(7 + 13 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        answered = said
            .last()
            .map_or(first, |last| last.parse().expect("it says revisions"));

        let mut store = SqliteStore::open(directory.path()).unwrap();
        let state = store.load().unwrap();
        // The one that it was killed in may have been committed, too.
        assert!(
            (answered..=answered + 1).contains(&state.revision().0),
            "round {round}: {answered} were answered, {} are there",
            state.revision()
        );
        // Each commit was one address and one event, all or nothing.
        assert_eq!(state.allocated() as u64, state.revision().0);
        assert_eq!(state.sequence().0, state.revision().0);
        let last = store.history(None, None, 1).unwrap();
        assert_eq!(last[0].sequence, state.sequence());
    }
}

#[test]
fn a_full_disk_refuses_changes_until_there_is_room_again() {
    if let Some(directory) = std::env::var_os(FILLS) {
        fill(Path::new(&directory));
        return;
    }
    assert!(
        nix::unistd::getuid().is_root(),
        "this test needs root, who alone mounts a small file system"
    );
    let directory = TempDir::new().unwrap();
    // In a mount namespace of its own: nobody else sees it, and it goes with
    // the process.
    let mut child = Command::new("unshare")
        .args(["--mount", "sh", "-c"])
        .arg("mount -t tmpfs -o size=1m none \"$0\" && exec \"$@\"")
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_full_disk_refuses_changes_until_there_is_room_again",
        ])
        .arg("--nocapture")
        .env(FILLS, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said: Vec<_> = words(&mut child).collect();
    assert!(child.wait().unwrap().success());
    assert_eq!(said, ["refused", "unchanged", "goes on"]);
}

/// Commits until the file system is full, makes room, and commits again.
fn fill(directory: &Path) {
    let mut store = SqliteStore::open(directory).unwrap();
    let mut state = State::default();
    let ballast = directory.join("ballast");
    fs::write(&ballast, vec![0; 512 << 10]).unwrap();
    let error = loop {
        let (events, after) = one_more(&state);
        match store.commit(state.revision(), &events) {
            Ok(()) => state = after,
            Err(error) => break error,
        }
    };
    match error {
        StoreError::Access { source, .. }
            if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) =>
        {
            say("refused");
        }
        other => panic!("{other:?}"),
    }
    let unchanged = |found: State| {
        found.revision() == state.revision()
            && found.sequence() == state.sequence()
            && found.allocations().eq(state.allocations())
    };
    assert!(unchanged(store.load().unwrap()));
    drop(store);
    let mut store = SqliteStore::open(directory).unwrap();
    assert!(unchanged(store.load().unwrap()));
    say("unchanged");

    fs::remove_file(ballast).unwrap();
    let (events, after) = one_more(&state);
    store.commit(state.revision(), &events).unwrap();
    assert_eq!(store.load().unwrap().revision(), after.revision());
    say("goes on");
}
