//! What the service manager hears: a socket of ours stands for systemd's.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ipfloater::client::Client;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bus::PrivateBus;
use crate::nobody::{NOBODY, open_to_nobody};
use crate::{CONFIGURATION, command};

/// The most that a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A service manager with one service.
struct Supervised {
    child: Child,
    directory: TempDir,
    socket: UnixDatagram,
    started: Instant,
}

impl Supervised {
    fn start(bus: &str, watchdog: Option<Duration>, user: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        open_to_nobody(directory.path());
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("the directory is ours");
        let everybody = PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(&path, everybody).expect("it is ours");
        let mut command = command(&directory, CONFIGURATION);
        command
            .args(["--simulate", "--user", user])
            .env("NOTIFY_SOCKET", &path)
            .env("DBUS_SYSTEM_BUS_ADDRESS", bus)
            .stderr(Stdio::null());
        if let Some(interval) = watchdog {
            command.env("WATCHDOG_USEC", interval.as_micros().to_string());
        }
        Self {
            child: command.spawn().expect("the daemon was built"),
            directory,
            socket,
            started: Instant::now(),
        }
    }

    /// The next message, if one comes within so long.
    fn hears(&self, within: Duration) -> Option<String> {
        self.socket
            .set_read_timeout(Some(within))
            .expect("it is not zero");
        let mut buffer = [0; 4096];
        match self.socket.recv(&mut buffer) {
            Ok(length) => Some(String::from_utf8(buffer[..length].to_vec()).expect("it is text")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits for a message that has this line, and returns it.
    fn waits_for(&self, line: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let message = self.hears(PATIENCE).unwrap_or_default();
            if message.lines().any(|found| found == line) {
                return message;
            }
        }
        panic!("{line} does not come");
    }

    fn client(&self) -> Client {
        let socket = self.directory.path().join("run/org.ipfloater");
        Client::connect(&socket).expect("it is ready")
    }

    fn associate(&self, host: &str) {
        let answer = self
            .client()
            .call::<Value>("Associate", json!({ "fixed_address": host }));
        answer.expect("there is a free address");
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid is positive");
        kill(Pid::from_raw(pid), signal).expect("it is our child");
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn version(bus: &PrivateBus) -> Output {
    Command::new("busctl")
        .arg(format!("--address={}", bus.address()))
        .args(["--auto-start=no", "call", "org.ipfloater"])
        .args(["/org/ipfloater", "org.ipfloater.Manager"])
        .args(["GetStatus", "a{sv}", "0"])
        .output()
        .expect("busctl is installed")
}

#[test]
fn who_waited_for_ready_can_call_on_both_buses_at_once() {
    let bus = PrivateBus::start();
    let daemon = Supervised::start(&bus.address(), None, "root");
    let first = daemon.hears(PATIENCE).expect("it says that it is ready");
    let said: Vec<_> = first.lines().collect();
    assert_eq!(
        said,
        [
            "READY=1",
            "STATUS=0 of 4 addresses of IPv4 and 0 of IPv6 associated"
        ]
    );
    let output = version(&bus);
    assert!(output.status.success(), "{output:?}");
    daemon.associate("10.0.0.5");
    daemon.waits_for("STATUS=1 of 4 addresses of IPv4 and 0 of IPv6 associated");
    daemon.signal(Signal::SIGTERM);
    daemon.waits_for("STOPPING=1");
}

#[test]
fn a_bus_that_refuses_or_is_not_there_delays_no_start() {
    let bus = PrivateBus::start();
    // The policy gives the name to root and to ipfloater.
    for (address, user) in [
        (bus.address().as_str(), NOBODY),
        ("unix:path=/nonexistent/bus", "root"),
    ] {
        let daemon = Supervised::start(address, None, user);
        daemon.waits_for("READY=1");
        let waited = daemon.started.elapsed();
        assert!(waited < Duration::from_secs(4), "{address}: {waited:?}");
        daemon.associate("10.0.0.5");
        let status = daemon.client().call::<Value>("GetStatus", json!({}));
        let status = status.expect("it answers").json;
        assert!(status["problems"][0].is_string(), "{address}: {status}");
        daemon.waits_for_status_with("degraded: ");
    }
}

impl Supervised {
    fn waits_for_status_with(&self, word: &str) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let message = self.hears(PATIENCE).unwrap_or_default();
            if message.starts_with("STATUS=") && message.contains(word) {
                return;
            }
        }
        panic!("no status says {word}");
    }
}

#[test]
fn a_bus_that_does_not_answer_delays_the_start_for_a_while_only() {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("bus");
    let _silent = UnixListener::bind(&path).expect("the directory is ours");
    let address = format!("unix:path={}", path.display());
    let daemon = Supervised::start(&address, None, "root");
    daemon.waits_for("READY=1");
    let waited = daemon.started.elapsed();
    assert!(waited >= Duration::from_secs(5), "{waited:?}");
    assert!(
        waited < Duration::from_secs(30),
        "the bus has 5 s: {waited:?}"
    );
    daemon.associate("10.0.0.5");

    // Who waits can be told to stop.
    let mut daemon = Supervised::start(&address, None, "root");
    let socket = daemon.directory.path().join("run/org.ipfloater");
    while Client::connect(&socket).is_err() {
        assert!(daemon.started.elapsed() < PATIENCE, "it does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    // It listens to signals a moment later.
    std::thread::sleep(Duration::from_millis(200));
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.child.wait().expect("it is our child").success());
    let waited = daemon.started.elapsed();
    assert!(waited < Duration::from_secs(5), "{waited:?}");
}

#[test]
fn the_watchdog_hears_of_a_controller_that_works_and_not_of_one_that_is_stuck() {
    let interval = Duration::from_millis(600);
    let bus = "unix:path=/nonexistent/bus";
    let daemon = Supervised::start(bus, Some(interval), "root");
    daemon.waits_for("READY=1");
    let before = Instant::now();
    for _ in 0..6 {
        daemon.waits_for("WATCHDOG=1");
    }
    let took = before.elapsed();
    assert!(took >= interval, "three times in the interval: {took:?}");

    // A store that somebody holds: the commit waits, up to 5 s.
    let store = daemon.directory.path().join("state/ipfloater.db");
    let store = rusqlite::Connection::open(store).expect("root may");
    store.execute_batch("BEGIN IMMEDIATE").expect("it is free");
    std::thread::scope(|scope| {
        scope.spawn(|| daemon.associate("10.0.0.5"));
        let client = daemon.client();
        drop(client);
        // What was on its way.
        std::thread::sleep(interval);
        while daemon.hears(Duration::from_millis(1)).is_some() {}
        let mut message = daemon.hears(interval * 3);
        while message
            .as_ref()
            .is_some_and(|text| !text.contains("WATCHDOG"))
        {
            message = daemon.hears(interval * 3);
        }
        assert_eq!(message, None, "a stuck controller is not alive");
        store.execute_batch("ROLLBACK").expect("it is open");
    });
    daemon.waits_for("WATCHDOG=1");
}

#[test]
fn without_a_watchdog_nobody_is_told_that_we_live() {
    for (name, value) in [("WATCHDOG_PID", "1"), ("WATCHDOG_USEC", "")] {
        let directory = TempDir::new().expect("a temporary directory");
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("the directory is ours");
        let child = command(&directory, CONFIGURATION)
            .args(["--simulate", "--no-dbus"])
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "100000")
            .env(name, value)
            .stderr(Stdio::null())
            .spawn()
            .expect("the daemon was built");
        let daemon = Supervised {
            child,
            directory,
            socket,
            started: Instant::now(),
        };
        daemon.waits_for("READY=1");
        assert_eq!(daemon.hears(Duration::from_millis(500)), None, "{name}");
    }
}
