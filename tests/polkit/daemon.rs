//! `ipfloaterd --simulate` on a bus with the stand-in, and how users call it.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::bus::PrivateBus;
use crate::stand_in::{PATIENCE, Says, StandIn};

/// uid 65534 is `nobody` everywhere.
pub(crate) const NOBODY: u32 = 65_534;

const CONFIGURATION: &str = "[IPFLOATER]\n\
     IP_POOL = 198.51.100.10-198.51.100.17, 2001:db8::10-2001:db8::11\n\
     PRIVATE_IP_RANGES = 10.0.0.0/16, fd00::/64\n\
     PROBE = no\n";

pub(crate) struct Daemon {
    child: Child,
    directory: TempDir,
    pub(crate) polkit: StandIn,
    pub(crate) bus: PrivateBus,
}

impl Daemon {
    /// One that knows by varlink who calls.
    pub(crate) fn start(quietly: Says, prompted: Says) -> Self {
        Self::start_with(&[], "", quietly, prompted)
    }

    /// One on a kernel before 6.5.
    pub(crate) fn start_on_an_old_kernel(quietly: Says, prompted: Says) -> Self {
        Self::start_with(&[], "peer-pidfd", quietly, prompted)
    }

    pub(crate) fn start_with(
        options: &[&str],
        hidden: &str,
        quietly: Says,
        prompted: Says,
    ) -> Self {
        let directory = TempDir::new().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let bus = PrivateBus::start_with_polkit();
        let polkit = StandIn::start(&bus, quietly, prompted);
        let [config, state, run] =
            ["ipfloaterd.conf", "state", "run"].map(|name| directory.path().join(name));
        std::fs::write(&config, CONFIGURATION).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_ipfloaterd"))
            .arg("--simulate")
            .args(options)
            .arg("--config")
            .arg(config)
            .arg("--state-directory")
            .arg(state)
            .arg("--runtime-directory")
            .arg(run)
            .env("DBUS_SYSTEM_BUS_ADDRESS", bus.address())
            .env("IPFLOATER_HIDE_FEATURES", hidden)
            .stderr(Stdio::null())
            .spawn()
            .expect("the daemon was built");
        let daemon = Daemon {
            child,
            directory,
            polkit,
            bus,
        };
        let deadline = Instant::now() + PATIENCE;
        while !daemon.is_up(options) {
            assert!(Instant::now() < deadline, "the daemon does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    fn is_up(&self, options: &[&str]) -> bool {
        let on_the_bus = options.contains(&"--no-dbus")
            || self
                .busctl(0, "GetStatus", &["a{sv}", "0"])
                .output()
                .unwrap()
                .status
                .success();
        on_the_bus && self.ipfloater(0, "version").status.success()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("run/org.ipfloater")
    }

    /// The command line, without a terminal.
    pub(crate) fn ipfloater(&self, uid: u32, arguments: &str) -> Output {
        self.ipfloater_on(&self.bus, uid, arguments)
    }

    /// The same with another system bus.
    pub(crate) fn ipfloater_on(&self, bus: &PrivateBus, uid: u32, arguments: &str) -> Output {
        by(uid, env!("CARGO_BIN_EXE_ipfloater"))
            .args(arguments.split_whitespace())
            .env("IPFLOATER_SOCKET", self.socket())
            .env("DBUS_SYSTEM_BUS_ADDRESS", bus.address())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Root does this, and it succeeds.
    #[track_caller]
    pub(crate) fn root(&self, arguments: &str) {
        let done = self.ipfloater(0, arguments);
        assert!(done.status.success(), "{arguments}: {done:?}");
    }

    /// What a user is answered, as JSON, and the exit code.
    #[track_caller]
    pub(crate) fn json(&self, uid: u32, arguments: &str) -> (Value, i32) {
        let output = self.ipfloater(uid, &format!("--json {arguments}"));
        let json = serde_json::from_slice(&output.stdout);
        let json = json.unwrap_or_else(|error| panic!("{arguments}: {error}: {output:?}"));
        (json, output.status.code().unwrap())
    }

    /// A call on the bus that waits while somebody authenticates.
    pub(crate) fn busctl(&self, uid: u32, method: &str, arguments: &[&str]) -> Command {
        let mut command = by(uid, "busctl");
        command
            .arg(format!("--address={}", self.bus.address()))
            .args([
                "--allow-interactive-authorization=yes",
                "--timeout=60",
                "--json=short",
            ])
            .args([
                "call",
                "org.ipfloater",
                "/org/ipfloater",
                "org.ipfloater.Manager",
                method,
            ])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The command line on a terminal.
    pub(crate) fn terminal(&self, uid: u32, arguments: &str) -> Command {
        let line = format!("{} {arguments}", env!("CARGO_BIN_EXE_ipfloater"));
        // Whoever runs the tests may have told them to outlive a terminal (nohup).
        let mut command = by(uid, "env");
        command
            .args(["--default-signal=HUP", "script"])
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env("IPFLOATER_SOCKET", self.socket())
            .env("DBUS_SYSTEM_BUS_ADDRESS", self.bus.address())
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that a user runs. Needs root.
pub(crate) fn by(uid: u32, program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args([format!("--reuid={uid}"), format!("--regid={uid}")])
        .args(["--clear-groups", program]);
    command
}
