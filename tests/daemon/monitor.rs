//! `ipfloater monitor` while the daemon comes and goes.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use ipfloater::client::{Answer, Client};
use ipfloater::wire::{Changed, Status};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{CONFIGURATION, command};

/// A daemon without buses but varlink, whose state outlives it.
struct Lasting {
    directory: TempDir,
    child: Child,
}

impl Lasting {
    fn start() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let child = Self::spawn(&directory);
        let lasting = Self { directory, child };
        lasting.client();
        lasting
    }

    fn spawn(directory: &TempDir) -> Child {
        command(directory, CONFIGURATION)
            .args(["--simulate", "--no-dbus"])
            .stderr(Stdio::null())
            .spawn()
            .expect("the daemon was built")
    }

    fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    fn client(&self) -> Client {
        let socket = self.directory.path().join("run/org.ipfloater");
        for _ in 0..2_000 {
            if let Ok(client) = Client::connect(&socket) {
                return client;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the daemon does not listen");
    }

    fn associate(&self, fixed: &str) -> u64 {
        let asked = json!({"fixed_address": fixed});
        let answer: Answer<Changed> = self.client().call("Associate", asked).expect("root may");
        answer.message.sequence
    }

    /// A monitor: what it prints as events, and its process.
    fn monitor(&self, arguments: &[&str]) -> (Child, Receiver<Value>) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ipfloater"))
            .arg("--socket")
            .arg(self.directory.path().join("run/org.ipfloater"))
            .args(["monitor", "--json"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program was built");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let (sender, told) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).expect("it is JSON"));
            }
        });
        (child, told)
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn next(told: &Receiver<Value>) -> Value {
    let patience = Duration::from_secs(20);
    told.recv_timeout(patience).expect("something is told")
}

/// What a monitor that is ended has remarked.
fn remarks(mut monitor: Child) -> String {
    monitor.kill().expect("it is our child");
    let mut said = String::new();
    let mut stderr = monitor.stderr.take().expect("it is piped");
    stderr.read_to_string(&mut said).expect("it is text");
    monitor.wait().expect("it is our child");
    said
}

#[test]
fn a_monitor_goes_on_after_a_restart_and_tells_each_event_once() {
    let mut daemon = Lasting::start();
    daemon.associate("10.0.0.5");
    let (monitor, told) = daemon.monitor(&[]);
    let state = next(&told);
    assert_eq!(state["addresses"].as_array().map(Vec::len), Some(1));
    let mut last = state["sequence"].as_u64().expect("it is a number");
    for host in ["10.0.0.6", "10.0.0.7", "10.0.0.8"] {
        let until = daemon.associate(host);
        for sequence in last + 1..=until {
            let event = next(&told);
            assert_eq!(event["sequence"], sequence, "{event}");
            assert!(event["event"]["verb"].is_string(), "{event}");
        }
        last = until;
        // Killed, not stopped: it says nothing at its end.
        daemon.kill();
        daemon.child = Lasting::spawn(&daemon.directory);
        daemon.client();
    }
    let until = daemon.associate("10.0.0.5");
    assert_eq!(until, last, "it is so already");
    daemon
        .client()
        .call::<Changed>("Release", json!({"address": "10.0.0.5"}))
        .expect("root may");
    assert_eq!(next(&told)["sequence"], last + 1);
    let said = remarks(monitor);
    assert!(said.contains("waiting for it"), "{said}");
    assert!(
        said.contains(&format!("going on after event {last}")),
        "{said}"
    );
}

#[test]
fn a_monitor_since_an_event_tells_what_happened_without_it() {
    let daemon = Lasting::start();
    daemon.associate("10.0.0.5");
    let until = daemon.associate("10.0.0.6");
    let (monitor, told) = daemon.monitor(&["--since", "1"]);
    for sequence in 2..=until {
        let event = next(&told);
        assert_eq!(event["sequence"], sequence);
        assert_eq!(event["event"]["via"], "varlink");
        assert!(event.get("addresses").is_none());
    }
    drop(remarks(monitor));

    let status: Answer<Status> = daemon
        .client()
        .call("GetStatus", Value::Null)
        .expect("root may");
    let after = (status.message.sequence + 1).to_string();
    let (mut refused, told) = daemon.monitor(&["--since", &after]);
    let error = next(&told);
    assert_eq!(error["error"]["name"], "SequenceGone", "{error}");
    assert_eq!(refused.wait().expect("it is our child").code(), Some(5));
}

/// A monitor that is read only when somebody wants to.
struct Slow(BufReader<UnixStream>);

impl Slow {
    fn call(daemon: &Lasting, parameters: &Value) -> Self {
        drop(daemon.client());
        let socket = daemon.directory.path().join("run/org.ipfloater");
        let mut stream = UnixStream::connect(socket).expect("the daemon listens");
        let call = json!({
            "method": "org.ipfloater.Monitor", "more": true, "parameters": parameters,
        });
        write!(stream, "{call}\0").expect("the daemon reads");
        Self(BufReader::new(stream))
    }

    fn hear(&mut self) -> Value {
        let mut message = Vec::new();
        self.0.read_until(0, &mut message).expect("it can be read");
        message.pop();
        serde_json::from_slice(&message).expect("it is JSON")
    }
}

#[test]
fn a_monitor_that_lost_events_is_told_and_goes_on_without_a_gap() {
    let daemon = Lasting::start();
    let mut slow = Slow::call(&daemon, &json!({}));
    assert_eq!(slow.hear()["parameters"]["ready"], true);
    // More than wait for a subscriber and fit into a socket, two a turn, and in
    // less time than one reply may take to be read.
    const EACH: usize = 750;
    std::thread::scope(|scope| {
        for last in 10..=13 {
            let mut client = daemon.client();
            scope.spawn(move || {
                let address = format!("198.51.100.{last}");
                for _ in 0..EACH {
                    let asked = json!({"floating_ip": address});
                    let _: Answer<Changed> = client.call("Allocate", asked).expect("root may");
                    let asked = json!({"address": address});
                    let _: Answer<Changed> = client.call("Release", asked).expect("root may");
                }
            });
        }
    });
    let mut told = 0;
    let end = loop {
        let reply = slow.hear();
        if reply["error"].is_string() {
            break reply;
        }
        told += 1;
        assert_eq!(reply["parameters"]["sequence"], told);
    };
    assert_eq!(end["error"], "org.ipfloater.Overflow", "{end}");
    assert_eq!(end["parameters"]["sequence"], told);

    let mut again = Slow::call(&daemon, &json!({"after": told}));
    for sequence in told + 1..=EACH * 4 * 2 {
        let reply = again.hear();
        assert_eq!(reply["parameters"]["sequence"], sequence, "{reply}");
    }
    let sequence = daemon.associate("10.0.0.5");
    for expected in sequence - 1..=sequence {
        assert_eq!(again.hear()["parameters"]["sequence"], expected);
    }
}
