//! A log that nobody reads stalls nothing.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::daemon::{Daemon, Start, until};

/// A journald that hangs holds up nobody for longer than this.
const SOON: Duration = Duration::from_secs(5);

/// So many changes, two of each.
fn change(daemon: &Daemon, count: usize) {
    let mut client = daemon.client();
    for _ in 0..count / 2 {
        for (method, parameters) in [
            ("Allocate", json!({"floating_ip": "198.51.100.10"})),
            ("Release", json!({"address": "198.51.100.10"})),
        ] {
            client
                .call::<serde_json::Value>(method, parameters)
                .expect("it is answered");
        }
    }
}

/// More changes than the queue of a datagram socket takes: 10 by default, and
/// systemd sets 512.
fn many() -> usize {
    let queue = std::fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").unwrap();
    (queue.trim().parse::<usize>().unwrap() + 101) / 2 * 2
}

#[test]
fn a_journal_that_hangs_stalls_neither_requests_nor_the_end_and_loses_nothing() {
    let mut daemon = Daemon::start_with(Start {
        no_bus: true,
        ..Start::default()
    });
    let many = many();
    change(&daemon, many);

    // It reads again: all of it comes, in order, without another word.
    let sequences = |records: &mut dyn Iterator<Item = crate::journal::Fields>| -> Vec<usize> {
        records
            .filter_map(|record| record.get("IPFLOATER_SEQUENCE")?.parse().ok())
            .collect()
    };
    let journal = &daemon.journal;
    let mut records = std::iter::from_fn(|| journal.next());
    let first = sequences(&mut records.by_ref().take(many + 3));
    assert!(first.len() >= many - 1, "{}", first.len());
    let rest = sequences(&mut journal.rest().into_iter());
    let all = [first, rest].concat();
    assert_eq!(all, (1..=many).collect::<Vec<_>>());

    // And it hangs once more, when the daemon is to stop.
    change(&daemon, many);
    let begin = Instant::now();
    assert!(daemon.stop().success());
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}

#[test]
fn a_journal_that_hangs_from_the_start_stalls_nothing() {
    // With so many words before the first thread, its queue is full by then.
    let mut daemon = Daemon::start_with(Start {
        environment: vec![("IPFLOATER_LOG", "trace")],
        ..Start::default()
    });
    change(&daemon, 100);
    let begin = Instant::now();
    assert!(daemon.stop().success());
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}

#[test]
fn what_does_not_fit_is_counted_and_told() {
    let daemon = Daemon::start_with(Start {
        environment: vec![("IPFLOATER_LOG", "debug")],
        no_bus: true,
        ..Start::default()
    });
    // Each fails and leaves a record of more than eight kilobytes; four
    // megabytes may wait.
    let calls = 1_000;
    let parameters = json!({"x".repeat(10_000): 1});
    let mut client = daemon.client();
    for _ in 0..calls {
        client
            .call::<serde_json::Value>("GetStatus", parameters.clone())
            .expect_err("there is no such parameter");
    }
    let mut came = 0;
    let lost: usize = loop {
        let record = daemon.journal.next().expect("a record of what is missing");
        if let Some(lost) = record.get("IPFLOATER_LOST") {
            assert_eq!(record["PRIORITY"], "4");
            break lost.parse().unwrap();
        }
        came += usize::from(record["MESSAGE"].contains("a call failed"));
    };
    assert!(lost > 0 && came > 100, "{came} came");
    assert_eq!(came + lost, calls);
    daemon.call("Allocate", json!({})).unwrap();
    assert_eq!(daemon.journal.audit()["IPFLOATER_VERB"], "allocate");
}

#[test]
fn a_journal_that_was_restarted_is_found_again() {
    let mut daemon = Daemon::start_with(Start {
        no_bus: true,
        ..Start::default()
    });
    daemon.journal.rest();
    daemon.journal.restart();
    change(&daemon, 2);
    assert_eq!(daemon.journal.audit()["IPFLOATER_VERB"], "allocate");
}

#[test]
fn a_journal_that_is_away_for_a_while_gets_what_was_said_meanwhile() {
    let mut daemon = Daemon::start_with(Start {
        no_bus: true,
        ..Start::default()
    });
    daemon.journal.rest();
    let socket = daemon.directory.path().join("journal/socket");
    std::fs::rename(&socket, socket.with_extension("away")).unwrap();
    change(&daemon, 2);
    std::fs::rename(socket.with_extension("away"), &socket).unwrap();
    daemon.journal.restart();
    assert_eq!(daemon.journal.audit()["IPFLOATER_VERB"], "allocate");
    assert_eq!(daemon.journal.audit()["IPFLOATER_VERB"], "release");
}

#[test]
fn a_pipe_that_nobody_reads_stalls_nothing_and_gets_whole_lines() {
    let mut daemon = Daemon::start_with(Start {
        stderr: Some(Stdio::piped()),
        no_bus: true,
        ..Start::default()
    });
    let mut pipe = daemon.child.stderr.take().unwrap();
    // A pipe takes 64 KiB (pipe(7)), and a line has more than 200 bytes.
    let many = 400;
    change(&daemon, many);
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    });
    let begin = Instant::now();
    assert!(daemon.stop().success());
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    let text = reader.join().unwrap();
    let granted = text.lines().filter(|line| line.contains("outcome=granted"));
    assert_eq!(granted.count(), many, "{}", text.len());
    assert!(text.lines().last().unwrap().contains("stopping"));
}

#[test]
fn a_stderr_that_is_closed_on_the_other_side_ends_nothing() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let daemon = Daemon::start_with(Start {
        stderr: Some(std::os::fd::OwnedFd::from(theirs).into()),
        no_bus: true,
        ..Start::default()
    });
    drop(ours);
    change(&daemon, 10);
}

#[test]
fn a_variable_that_is_inherited_does_not_hide_the_log_in_the_journal() {
    // JOURNAL_STREAM is set, and names another file than stderr.
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let daemon = Daemon::start_with(Start {
        stderr: Some(std::os::fd::OwnedFd::from(theirs).into()),
        no_bus: true,
        ..Start::default()
    });
    let mut chunk = [0; 4_096];
    let said = until("it says something", || {
        let length = ours.read(&mut chunk).ok()?;
        let text = String::from_utf8_lossy(&chunk[..length]).into_owned();
        text.contains(" INFO ").then_some(text)
    });
    assert!(!said.contains('\u{1b}'), "no colours: {said:?}");
    assert_eq!(daemon.journal.rest(), []);
}
