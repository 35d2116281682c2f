//! ipfloaterd in the router, started as a user starts it, and ipfloater.

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::lab::{Host, Lab};
use super::namespace::eventually;
use super::nobody::{NOBODY, give_to_nobody, open_to_nobody};

/// What a daemon is started with, besides its directories.
#[derive(Clone, Debug)]
pub(super) struct Start {
    /// Further lines of its configuration.
    pub(super) configuration: &'static str,
    /// Kernel features that it must not see.
    pub(super) hidden: Option<&'static str>,
    /// A program that runs it, with arguments; `{}` is the daemon's directory.
    pub(super) under: &'static str,
    /// Its `--user`.
    pub(super) user: &'static str,
    /// The system bus that it is on; `None` for `--no-dbus`.
    pub(super) bus: Option<&'static str>,
}

impl Start {
    /// The usual one.
    pub(super) const PLAIN: Start = Start {
        configuration: "",
        hidden: None,
        under: "",
        user: NOBODY,
        bus: None,
    };

    /// As systemd does with `User=`, `AmbientCapabilities=`,
    /// `CapabilityBoundingSet=` and `NoNewPrivileges=`.
    pub(super) const BY_SYSTEMD: Start = Start {
        under: "setpriv --reuid 65530 --regid 65530 --clear-groups --no-new-privs \
                --inh-caps -all,+net_admin,+net_raw --ambient-caps -all,+net_admin,+net_raw \
                --bounding-set -all,+net_admin,+net_raw --pdeathsig KILL",
        ..Start::PLAIN
    };
}

/// A daemon in a lab's router, running or not.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Option<Child>,
    directory: TempDir,
    start: Start,
}

impl Lab {
    /// Starts the daemon in the router.
    pub(super) fn start(&self) -> Daemon {
        self.start_with(Start::PLAIN)
    }

    /// Starts the daemon in the router in some special way.
    pub(super) fn start_with(&self, start: Start) -> Daemon {
        let started = self.try_start(start);
        started.unwrap_or_else(|error| panic!("ipfloaterd does not start: {error}"))
    }

    /// Starts the daemon in the router, or returns what it has logged when it
    /// ends at once.
    pub(super) fn try_start(&self, start: Start) -> Result<Daemon, String> {
        let directory =
            TempDir::with_prefix("ipfloater-").expect("there is a directory for temporary files");
        open_to_nobody(directory.path());
        if start.under == Start::BY_SYSTEMD.under {
            // StateDirectory= and RuntimeDirectory=
            for name in ["state", "run"] {
                let path = directory.path().join(name);
                std::fs::create_dir(&path).expect("the directory is ours");
                give_to_nobody(&path);
            }
        }
        let mut daemon = Daemon {
            child: None,
            directory,
            start,
        };
        daemon.configure(daemon.start.configuration);
        daemon.try_start(&self.router)?;
        Ok(daemon)
    }
}

impl Daemon {
    /// Starts it, with the state of the last time if there was one, and waits
    /// until it answers.
    pub(super) fn start(&mut self, router: &Host) {
        let started = self.try_start(router);
        started.unwrap_or_else(|error| panic!("ipfloaterd does not start: {error}"));
    }

    /// Writes its configuration, with further lines, which a daemon that runs
    /// does not look at until it is told to.
    pub(super) fn configure(&mut self, further: &'static str) {
        self.start.configuration = further;
        // Asking takes a second for every address; the tests of it say so.
        let asks = further.contains("PROBE");
        let probe = if asks { "" } else { "PROBE = no" };
        let configuration = format!(
            "[IPFLOATER]\n\
             IP_POOL = 198.51.100.10-198.51.100.29, 2001:db8::10-2001:db8::29\n\
             PRIVATE_IP_RANGES = 10.0.1.0/24, 10.0.2.0/24, fd00:1::/64, fd00:2::/64\n\
             {probe}\n\
             {further}\n"
        );
        let file = self.directory().join("ipfloaterd.conf");
        std::fs::write(file, configuration).expect("a file can be written");
    }

    /// Sends it SIGHUP.
    pub(super) fn hang_up(&self) {
        let child = self.child.as_ref().expect("it is running");
        let pid = i32::try_from(child.id()).expect("a pid is positive");
        kill(Pid::from_raw(pid), Signal::SIGHUP).expect("our child can be signalled");
    }

    /// Starts it in another way than before.
    pub(super) fn start_as(&mut self, router: &Host, start: Start) {
        self.start = start;
        self.start(router);
    }

    /// Starts it again, or returns what it has logged when it ends at once.
    pub(super) fn try_start(&mut self, router: &Host) -> Result<(), String> {
        let directory = self.directory();
        let log = File::options()
            .create(true)
            .append(true)
            .open(directory.join("log"));
        let log = log.expect("a file can be written");
        // setpriv(1) takes the daemon along when the tests are killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        let under = self
            .start
            .under
            .replace("{}", &directory.display().to_string());
        command.args(under.split_whitespace());
        command
            .arg(env!("CARGO_BIN_EXE_ipfloaterd"))
            .arg("--config")
            .arg(directory.join("ipfloaterd.conf"))
            .arg("--state-directory")
            .arg(directory.join("state"))
            .arg("--runtime-directory")
            .arg(directory.join("run"))
            .args(["--user", self.start.user])
            .stdout(log.try_clone().expect("a descriptor can be copied"))
            .stderr(log);
        match self.start.bus {
            Some(bus) => command.env("DBUS_SYSTEM_BUS_ADDRESS", bus),
            None => command.arg("--no-dbus"),
        };
        if let Some(hidden) = self.start.hidden {
            command.env("IPFLOATER_HIDE_FEATURES", hidden);
        }
        self.child = Some(router.start(command));
        let mut ended = None;
        eventually("ipfloaterd is ready", || {
            let child = self.child.as_mut().expect("it was started");
            ended = child.try_wait().expect("a child can be waited for");
            ended.is_some() || self.ipfloater("status").status.success()
        });
        match ended {
            None => Ok(()),
            Some(status) => {
                assert!(!status.success(), "it was not told to end");
                self.child = None;
                Err(self.log())
            }
        }
    }

    /// Its process, or that of strace(1) if it runs under that.
    pub(super) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it is running").id()
    }

    /// `ipfloaterd --teardown` with its directories.
    pub(super) fn tear_down(&self, router: &Host) -> Output {
        let directory = self.directory();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ipfloaterd"));
        command.arg("--teardown");
        for (option, name) in [
            ("--config", "ipfloaterd.conf"),
            ("--state-directory", "state"),
            ("--runtime-directory", "run"),
        ] {
            command.arg(option).arg(directory.join(name));
        }
        router.run(|| command.output().expect("the daemon was built"))
    }

    /// Where its files are.
    pub(super) fn directory(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// What it has logged.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.directory().join("log")).unwrap_or_default()
    }

    /// Stops it as a service manager does, and waits for its end.
    pub(super) fn stop(&mut self) {
        self.end(Signal::SIGTERM);
    }

    /// Kills it.
    pub(super) fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    fn end(&mut self, signal: Signal) {
        let mut child = self.child.take().expect("it is running");
        let pid = i32::try_from(child.id()).expect("a pid is positive");
        kill(Pid::from_raw(pid), signal).expect("our child can be signalled");
        eventually("ipfloaterd ends", || {
            child
                .try_wait()
                .expect("a child can be waited for")
                .is_some()
        });
        if signal == Signal::SIGTERM {
            let status = child
                .try_wait()
                .expect("a child can be waited for")
                .expect("it has ended");
            assert!(
                status.success(),
                "ipfloaterd ended with {status}: {}",
                self.log()
            );
        }
    }

    /// Runs `ipfloater` with arguments, by words.
    pub(super) fn ipfloater(&self, line: &str) -> Output {
        let socket = self.directory().join("run/org.ipfloater");
        Command::new(env!("CARGO_BIN_EXE_ipfloater"))
            .arg("--socket")
            .arg(Path::new(&socket))
            .args(line.split_whitespace())
            .output()
            .expect("ipfloater can be started")
    }

    /// Runs an `ipfloater` that must succeed, and returns what it printed.
    pub(super) fn order(&self, line: &str) -> String {
        let output = self.ipfloater(line);
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "ipfloater {line}: {}: {stdout}{stderr}",
            output.status
        );
        stdout
    }

    /// Runs an `ipfloater` with `--json`.
    pub(super) fn json(&self, line: &str) -> Value {
        let text = self.order(&format!("{line} --json"));
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("ipfloater {line}: {error}: {text}"))
    }

    /// Ties a floating IP to a host.
    pub(super) fn associate(&self, floating: IpAddr, host: &Host) {
        let fixed = host.address(ipfloater::model::Family::of(floating));
        self.order(&format!("associate {floating} {fixed}"));
    }

    /// Ties a floating IP to another host.
    pub(super) fn reassociate(&self, floating: IpAddr, host: &Host) {
        let fixed = host.address(ipfloater::model::Family::of(floating));
        self.order(&format!("associate {floating} {fixed} --reassociate"));
    }

    /// Unties a floating IP.
    pub(super) fn disassociate(&self, floating: IpAddr) {
        self.order(&format!("disassociate {floating}"));
    }

    /// Gives a floating IP back to its pool.
    pub(super) fn release(&self, floating: IpAddr) {
        self.order(&format!("release {floating}"));
    }

    /// All that is known of an address.
    pub(super) fn show(&self, address: IpAddr) -> Value {
        self.json(&format!("show {address}"))["address"].take()
    }

    /// The state of an address: `free`, `allocated`, `pending` or `active`.
    pub(super) fn state(&self, address: IpAddr) -> String {
        let shown = self.show(address);
        let state = shown["state"].as_str();
        state.unwrap_or_else(|| panic!("{shown}")).to_owned()
    }

    /// How often it has put right what somebody else altered.
    pub(super) fn repairs(&self) -> u64 {
        let status = self.json("status");
        status["repairs"]
            .as_u64()
            .unwrap_or_else(|| panic!("{status}"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("ipfloaterd logged:\n{}", self.log());
        }
    }
}
