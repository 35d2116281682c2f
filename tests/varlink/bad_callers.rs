//! What callers must not get away with, and who must not notice.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::stand_in::{Daemon, full, repairs};

const VERSION: &[u8] = b"{\"method\":\"org.ipfloater.GetVersion\"}\0";

#[test]
fn what_cannot_be_answered_ends_its_connection_and_no_other() {
    let daemon = Daemon::start();
    let mut other = daemon.connect();
    let deep = format!(
        "{{\"method\":\"org.ipfloater.List\",\"parameters\":{{\"filter\":{}1{}}}}}\0",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let long_name = format!("{{\"method\":\"{}\"}}\0", "x".repeat(70_000));
    for bytes in [
        b"\0".as_slice(),
        b"hello\0",
        b"{\"method\":\0",
        b"[]\0",
        b"{}\0",
        b"null\0",
        b"{\"method\":null}\0",
        b"{\"method\":\"\xff\xfe\"}\0",
        b"\xef\xbb\xbf{\"method\":\"org.ipfloater.GetVersion\"}\0",
        b"{\"method\":\"org.ipfloater.GetVersion\",\"id\":1}\0",
        b"{\"method\":\"org.ipfloater.GetVersion\",\"more\":\"true\"}\0",
        b"{\"method\":\"org.ipfloater.GetVersion\",\"oneway\":1}\0",
        b"{\"method\":\"org.ipfloater.GetVersion\",\"more\":true,\"oneway\":true}\0",
        b"{\"method\":\"org.ipfloater.GetVersion\",\"more\":true,\"upgrade\":true}\0",
        b"{\"method\":\"org.ipfloater.GetVersion\",\"parameters\":[]}\0",
        b"{\"method\":\"org.ipfloater.GetVersion\"}{}\0",
        deep.as_bytes(),
        long_name.as_bytes(),
    ] {
        let mut caller = daemon.connect();
        caller.send(bytes);
        // What follows must not be answered either.
        caller.send(VERSION);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]);
        assert_eq!(caller.hear(), None, "{shown}");
        other.send(VERSION);
        assert!(other.hear().is_some(), "{shown}");
    }
}

#[test]
fn a_message_may_have_64_kib_and_not_one_byte_more() {
    let daemon = Daemon::start();
    let message = |length: usize| {
        let mut message = VERSION[..VERSION.len() - 1].to_vec();
        message.resize(length, b' ');
        message.push(0);
        message
    };
    let mut caller = daemon.connect();
    caller.send(&message(65_536));
    assert!(caller.hear().is_some());
    caller.send(&message(65_537));
    assert_eq!(caller.hear(), None);

    // Without an end, nobody waits for one.
    let mut caller = daemon.connect();
    caller.send(&vec![b' '; 1_000_000]);
    assert_eq!(caller.hear(), None);
}

#[test]
fn a_message_that_is_begun_has_ten_seconds_and_an_idle_connection_all_the_time() {
    let daemon = Daemon::start();
    let mut idle = daemon.connect();
    let mut slow = daemon.connect();
    let begun = Instant::now();
    // A byte a second does not buy more time.
    for byte in b"{\"metho" {
        slow.send(&[*byte]);
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(slow.hear(), None);
    let took = begun.elapsed();
    assert!((9..13).contains(&took.as_secs()), "{took:?}");
    idle.send(VERSION);
    assert!(idle.hear().is_some());
}

#[test]
fn a_message_may_come_in_pieces() {
    let daemon = Daemon::start();
    let mut caller = daemon.connect();
    for piece in VERSION.chunks(7) {
        caller.send(piece);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(caller.hear().is_some());
}

#[test]
fn a_monitor_that_does_not_read_loses_events_and_is_told() {
    let daemon = Daemon::start();
    let mut slow = daemon.connect();
    slow.tell(&json!({"method": "org.ipfloater.Monitor", "more": true}));
    assert_eq!(slow.hear().unwrap()["parameters"]["ready"], true);
    for published in repairs(1, 20_000) {
        let _ = daemon.events.send(published);
    }
    // Others are served meanwhile.
    let mut other = daemon.connect();
    let asked = Instant::now();
    other.send(VERSION);
    assert!(other.hear().is_some());
    assert!(asked.elapsed() < Duration::from_secs(2));

    let mut told = 0;
    let end = loop {
        let reply = slow.hear().expect("an error before the end");
        if reply.get("error").is_some() {
            break reply;
        }
        told += 1;
        assert_eq!(reply["parameters"]["sequence"], told);
    };
    assert_eq!(end["error"], "org.ipfloater.Overflow");
    assert_eq!(end["parameters"]["sequence"], told);
    assert_eq!(end.get("continues"), None);
    assert!(told < 20_000);
}

#[test]
fn a_list_that_nobody_reads_is_given_up_after_ten_seconds() {
    let daemon = Daemon::with(full(20_000));
    let mut caller = daemon.connect();
    caller.tell(&json!({"method": "org.ipfloater.List", "more": true}));
    std::thread::sleep(Duration::from_secs(11));
    // What the socket held can still be read, and then it ends.
    let mut last = None;
    while let Some(reply) = caller.hear() {
        last = Some(reply);
    }
    assert_eq!(last.unwrap()["continues"], true, "the last page never came");
}

#[test]
fn a_caller_who_hangs_up_is_forgotten() {
    let daemon = Daemon::start();
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let mut caller = daemon.connect();
            caller.tell(&json!({"method": "org.ipfloater.Monitor", "more": true}));
            assert!(caller.hear().is_some());
            caller
        })
        .collect();
    assert_eq!(daemon.events.receiver_count(), 20);
    drop(callers);
    let gone = || daemon.events.receiver_count() == 0;
    assert!(within(Duration::from_secs(5), gone));
}

#[test]
fn what_is_called_during_a_stream_waits_and_too_much_of_it_ends_the_connection() {
    let daemon = Daemon::start();
    let mut caller = daemon.connect();
    caller.tell(&json!({"method": "org.ipfloater.Monitor", "more": true}));
    assert!(caller.hear().is_some());
    for _ in 0..3_000 {
        caller.send(VERSION);
    }
    assert_eq!(caller.hear(), None);
    assert!(within(Duration::from_secs(5), || {
        daemon.events.receiver_count() == 0
    }));
}

#[test]
fn descriptors_that_a_caller_attaches_are_closed() {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use std::io::IoSlice;
    use std::os::fd::AsRawFd;

    let daemon = Daemon::start();
    let stream = std::os::unix::net::UnixStream::connect(daemon.socket()).unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let passed = [writer.as_raw_fd()];
    sendmsg::<()>(
        stream.as_raw_fd(),
        &[IoSlice::new(VERSION)],
        &[ControlMessage::ScmRights(&passed)],
        MsgFlags::empty(),
        None,
    )
    .unwrap();
    drop(writer);
    // The pipe ends when no copy of its writing end is left.
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut rest).unwrap();
    assert!(rest.is_empty());
}

#[test]
fn a_stopping_daemon_ends_streams_with_the_reason() {
    let mut daemon = Daemon::start();
    let mut caller = daemon.connect();
    caller.tell(&json!({"method": "org.ipfloater.Monitor", "more": true}));
    assert!(caller.hear().is_some());
    let begun = Instant::now();
    daemon.stop();
    assert!(begun.elapsed() < Duration::from_secs(2));
    let end = caller.hear().unwrap();
    assert_eq!(end["error"], "org.ipfloater.Stopping");
    assert_eq!(caller.hear(), None);
}

#[test]
fn half_a_connection_still_gets_its_answers() {
    let daemon = Daemon::start();
    let mut stream = std::os::unix::net::UnixStream::connect(daemon.socket()).unwrap();
    stream.write_all(VERSION).unwrap();
    stream.write_all(VERSION).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answers = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answers).unwrap();
    let answers: Vec<Value> = answers
        .split_terminator('\0')
        .map(|answer| serde_json::from_str(answer).unwrap())
        .collect();
    assert_eq!(answers.len(), 2);
}

fn within(time: Duration, condition: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < time {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
