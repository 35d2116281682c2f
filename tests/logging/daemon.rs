//! The daemon on a kernel in memory, with a bus and a journal of its own.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ipfloater::client::Client;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::bus::PrivateBus;
use crate::journal::Journal;

/// Long enough for a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// uid 65534 is `nobody` everywhere.
pub(crate) const NOBODY: u32 = 65_534;

const CONFIGURATION: &str = "[IPFLOATER]\n\
     IP_POOL = 198.51.100.10-198.51.100.13\n\
     PRIVATE_IP_RANGES = 10.0.0.0/16\n\
     REST_PORT = 7003\n\
     PROBE = no\n\
     RELEASED_ADDRESS_REST = 0\n";

/// How the daemon is started.
#[derive(Default)]
pub(crate) struct Start {
    /// The name of the configuration's file, instead of a usual one.
    pub(crate) file: Option<&'static str>,
    /// Further variables.
    pub(crate) environment: Vec<(&'static str, &'static str)>,
    /// Without a bus.
    pub(crate) no_bus: bool,
    /// Where stderr goes, instead of to the journal's file.
    pub(crate) stderr: Option<Stdio>,
}

/// A running daemon.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    pub(crate) journal: Journal,
    pub(crate) directory: TempDir,
    bus: Option<PrivateBus>,
}

impl Daemon {
    /// One whose stderr is the journal's, as if systemd had started it.
    pub(crate) fn start() -> Self {
        Self::start_with(Start::default())
    }

    pub(crate) fn start_with(start: Start) -> Self {
        assert!(nix::unistd::getuid().is_root(), "this test needs root");
        let directory = TempDir::new().expect("a temporary directory");
        let place = |name: &str| directory.path().join(name);
        // Other users have to reach the socket in it.
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::create_dir(place("journal")).unwrap();
        let journal = Journal::in_directory(&place("journal"));
        let file = place(start.file.unwrap_or("ipfloaterd.conf"));
        std::fs::write(&file, CONFIGURATION).unwrap();
        let stream = File::create(place("stderr")).unwrap();
        let number = stream.metadata().unwrap();
        let bus = (!start.no_bus).then(PrivateBus::start);

        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-ec"])
            .arg(
                "mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/journal; \
                 mount --bind \"$0\" /run/systemd/journal; exec \"$@\"",
            )
            .arg(place("journal"))
            .args([env!("CARGO_BIN_EXE_ipfloaterd"), "--simulate"])
            .arg("--config")
            .arg(file)
            .arg("--state-directory")
            .arg(place("state"))
            .arg("--runtime-directory")
            .arg(place("run"))
            .env_remove("IPFLOATER_LOG")
            .env(
                "JOURNAL_STREAM",
                format!("{}:{}", number.dev(), number.ino()),
            )
            .envs(start.environment)
            .stderr(start.stderr.unwrap_or_else(|| stream.into()));
        match &bus {
            Some(bus) => command.env("DBUS_SYSTEM_BUS_ADDRESS", bus.address()),
            None => command.arg("--no-dbus"),
        };
        let daemon = Daemon {
            child: command.spawn().expect("unshare is installed"),
            journal,
            directory,
            bus,
        };
        daemon.client();
        if daemon.bus.is_some() {
            until("it is on the bus", || daemon.get("LogLevel").ok());
        }
        daemon
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("run/org.ipfloater")
    }

    pub(crate) fn client(&self) -> Client {
        until("it listens", || Client::connect(&self.socket()).ok())
    }

    /// Has something done, and returns what the daemon says.
    pub(crate) fn call(&self, method: &str, parameters: Value) -> Result<Value, String> {
        let answer = self.client().call::<Value>(method, parameters);
        answer
            .map(|answer| answer.json)
            .map_err(|error| error.to_string())
    }

    /// A varlink call of any interface by any user.
    pub(crate) fn varlink_as(&self, uid: u32, method: &str, parameters: Value) -> Value {
        let call = serde_json::json!({"method": method, "parameters": parameters});
        let output = as_user(uid, "/usr/bin/python3")
            .args(["-c", CALLER])
            .arg(self.socket())
            .arg(call.to_string())
            .output()
            .expect("python is installed");
        let complaint = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{complaint}"))
    }

    /// A call of the bus by any user, as busctl does it.
    pub(crate) fn busctl_as(&self, uid: u32, arguments: &[&str]) -> Result<String, String> {
        let bus = self.bus.as_ref().expect("it was started with a bus");
        let output = as_user(uid, "busctl")
            .arg(format!("--address={}", bus.address()))
            .args(arguments)
            .output()
            .expect("busctl is installed");
        let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }

    /// A property of the log.
    pub(crate) fn get(&self, property: &str) -> Result<String, String> {
        let get = [&["get-property"][..], &LOG_CONTROL, &[property]].concat();
        self.busctl_as(0, &get)
    }

    /// Sets a property of the log.
    pub(crate) fn set_as(&self, uid: u32, property: &str, value: &str) -> Result<String, String> {
        let set = [
            &["set-property"][..],
            &LOG_CONTROL,
            &[property, "s", "--", value],
        ];
        self.busctl_as(uid, &set.concat())
    }

    /// What went to stderr, when that is the journal's.
    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("stderr")).unwrap()
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let process = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(process, Signal::SIGTERM).expect("it is our child");
        until("it stops", || self.child.try_wait().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) const LOG_CONTROL: [&str; 3] = [
    "org.ipfloater",
    "/org/freedesktop/LogControl1",
    "org.freedesktop.LogControl1",
];

/// Sends one message, and prints the reply.
const CALLER: &str = "
import socket, sys
caller = socket.socket(socket.AF_UNIX)
caller.settimeout(20)
caller.connect(sys.argv[1])
caller.sendall(sys.argv[2].encode() + b'\\0')
reply = b''
while not reply.endswith(b'\\0'):
    reply += caller.recv(65536) or sys.exit('it hung up')
sys.stdout.buffer.write(reply[:-1])
";

fn as_user(uid: u32, program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args([format!("--reuid={uid}"), format!("--regid={uid}")])
        .args(["--clear-groups", program]);
    command
}

pub(crate) fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(result) = done() {
            return result;
        }
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(10));
    }
}
