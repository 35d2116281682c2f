//! The daemon as a user starts it, on a kernel in memory: both buses against
//! each other, a varlink client of somebody else's, and starts that must fail.
#![allow(
    clippy::disallowed_types,
    reason = "a test may start programs; the daemon may not"
)]

#[path = "../dbus/bus.rs"]
mod bus;
mod documents;
mod metrics;
mod monitor;
#[path = "../common/nobody.rs"]
mod nobody;
mod notify;
mod parity;
mod starts;
mod status;
mod users;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bus::PrivateBus;
use ipfloater::client::Client;
use tempfile::TempDir;

/// A pool of each family, in the simulated router's documentation networks.
const CONFIGURATION: &str = "[IPFLOATER]\n\
     IP_POOL = 198.51.100.10-198.51.100.13, 2001:db8::10-2001:db8::11\n\
     PRIVATE_IP_RANGES = 10.0.0.0/16, fd00::/64\n\
     PROBE = no\n";

/// A running `ipfloaterd --simulate`, with a system bus of its own.
struct Daemon {
    child: Child,
    directory: TempDir,
    bus: PrivateBus,
}

impl Daemon {
    fn start() -> Self {
        Self::with(CONFIGURATION)
    }

    fn with(configuration: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let bus = PrivateBus::start();
        let child = command(&directory, configuration)
            .arg("--simulate")
            .env("DBUS_SYSTEM_BUS_ADDRESS", bus.address())
            .stderr(Stdio::null())
            .spawn()
            .expect("the daemon was built");
        let daemon = Daemon {
            child,
            directory,
            bus,
        };
        daemon.client();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !daemon.busctl(&["GetStatus", "a{sv}", "0"]).status.success() {
            assert!(Instant::now() < deadline, "the daemon is not on the bus");
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("run/org.ipfloater")
    }

    fn client(&self) -> Client {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match Client::connect(&self.socket()) {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Calls a method of the manager.
    fn busctl(&self, call: &[&str]) -> Output {
        let address = format!("--address={}", self.bus.address());
        let place = [
            "call",
            "org.ipfloater",
            "/org/ipfloater",
            "org.ipfloater.Manager",
        ];
        Command::new("busctl")
            .args(["--json=short", &address])
            .args(place)
            .args(call)
            .output()
            .expect("busctl is installed")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The daemon's command line, in a directory of its own.
fn command(directory: &TempDir, configuration: &str) -> Command {
    let [state, run] = ["state", "run"].map(|name| directory.path().join(name));
    command_in(directory, configuration, &state, &run)
}

/// The same with other directories.
fn command_in(directory: &TempDir, configuration: &str, state: &Path, run: &Path) -> Command {
    let config = directory.path().join("ipfloaterd.conf");
    std::fs::write(&config, configuration).expect("the directory is ours");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ipfloaterd"));
    command.arg("--config").arg(config);
    command
        .arg("--state-directory")
        .arg(state)
        .arg("--runtime-directory")
        .arg(run);
    command
}

/// The example for people to copy does what it says.
#[test]
fn the_example_in_python_moves_an_address_by_varlink() {
    let daemon = Daemon::start();
    let python = std::env::var("IPFLOATER_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let example = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples/python/varlink_client.py"
    );
    let run = |arguments: [&str; 2]| {
        let mut command = Command::new(&python);
        command.arg(example).args(arguments).arg(daemon.socket());
        let output = command.output().expect("python is installed");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8(said).expect("it is text"),
        )
    };
    let (exit, said) = run(["198.51.100.10", "10.0.0.5"]);
    assert_eq!(exit, Some(0), "{said}");
    assert!(said.starts_with("198.51.100.10 -> 10.0.0.5, "), "{said}");
    let (exit, said) = run(["198.51.100.10", "10.0.0.6"]);
    assert_eq!(exit, Some(0), "{said}");
    assert!(said.contains("\n  198.51.100.10 "), "{said}");
    assert!(said.trim_end().ends_with(": 10.0.0.6"), "{said}");
    let (exit, said) = run(["192.0.2.1", "10.0.0.6"]);
    assert_eq!(exit, Some(1), "{said}");
    assert!(said.starts_with("org.ipfloater."), "{said}");
}

/// A client that others wrote understands the daemon: the one of PyPI.
/// `make test` installs it and says where.
#[test]
fn the_varlink_client_of_python_drives_the_daemon() {
    let daemon = Daemon::start();
    let python = std::env::var("IPFLOATER_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(&python)
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/clients/varlink_client.py"
        ))
        .arg(daemon.socket())
        .arg("10.0.0.77")
        .output()
        .expect("python is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{python} (`make test` gives it varlink): {said}{complained}"
    );
}
