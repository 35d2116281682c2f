//! A booted Debian: its own systemd, bus, polkit, journal, users and network.
//!
//! `rootfs.sh` makes the file system once, `boot.sh` boots it in a second and
//! holds the box for as long as its standard input is open. That end is ours,
//! so the box goes when this process does, however it ends.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::conversation::Conversation;

/// How long anything may take that a test waits for. A boot takes a second; on a
/// loaded machine, with another suite beside it, ten.
const PATIENCE: Duration = Duration::from_secs(60);

/// The Debian releases that we promise to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suite {
    /// Debian 12: systemd 252, polkit 122, no varlinkctl.
    Bookworm,
    /// Debian 13: systemd 257, polkit 126.
    Trixie,
}

impl Suite {
    fn rootfs(self) -> &'static str {
        static BOOKWORM: LazyLock<String> = LazyLock::new(|| rootfs("bookworm"));
        static TRIXIE: LazyLock<String> = LazyLock::new(|| rootfs("trixie"));
        match self {
            Suite::Bookworm => &BOOKWORM,
            Suite::Trixie => &TRIXIE,
        }
    }
}

/// Who does something. The password of each user is the user's name; `admin` is
/// an administrator to polkit, `alice` and `bob` are nobody special.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "a part of the vocabulary, whoever uses it first")]
pub(super) enum As<'a> {
    /// The superuser.
    Root,
    /// A user without a session, as a service is.
    User(&'a str),
    /// A user logged in from afar: to polkit an inactive, remote session.
    Remote(&'a str),
    /// A user who sits at the machine: to polkit an active, local session.
    Seated(&'a str),
}

/// A booted Debian.
#[derive(Debug)]
pub(super) struct Machine {
    suite: Suite,
    cgroup: PathBuf,
    console: PathBuf,
    supervisor: Child,
}

impl Machine {
    /// Boots one that has nothing of ours.
    pub(super) fn boot(suite: Suite) -> Self {
        let mut supervisor = boot(suite, Stdio::piped());
        let [cgroup, console] = supervisor.paths();
        let machine = Machine {
            suite,
            cgroup,
            console,
            supervisor: supervisor.0,
        };
        machine.wait_until_up();
        machine
    }

    /// Which Debian it is.
    pub(super) fn suite(&self) -> Suite {
        self.suite
    }

    /// Has root run a shell script, and returns what it said. It must succeed.
    #[track_caller]
    pub(super) fn run(&self, script: &str) -> String {
        self.run_as(As::Root, script)
    }

    /// Has somebody run a shell script, and returns what it said. It must succeed.
    #[track_caller]
    pub(super) fn run_as(&self, who: As, script: &str) -> String {
        let output = self.attempt_as(who, script);
        assert!(
            output.status.success(),
            "{who:?} in {:?}: {script}\n{}{}",
            self.suite,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Has root run a shell script that may fail.
    pub(super) fn attempt(&self, script: &str) -> Output {
        self.attempt_as(As::Root, script)
    }

    /// Has somebody run a shell script that may fail.
    pub(super) fn attempt_as(&self, who: As, script: &str) -> Output {
        self.command(who, script)
            .output()
            .expect("nsenter is installed")
    }

    /// Has somebody begin a shell script, and talks to it over a terminal.
    pub(super) fn converse(&self, who: As, script: &str) -> Conversation {
        Conversation::start(self.command_on("--pty", who, script))
    }

    /// Waits until a shell script of root's succeeds.
    #[track_caller]
    pub(super) fn eventually(&self, what: &str, script: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.attempt(script);
            if output.status.success() {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{what}: {}{}\n{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr),
                self.run("journalctl --no-pager --boot --lines 40")
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Writes a file in the box.
    pub(super) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let script = format!("mkdir -p $(dirname {path}) && cat >{path}");
        let mut child = self
            .command(As::Root, &script)
            .stdin(Stdio::piped())
            .spawn()
            .expect("nsenter is installed");
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin
            .write_all(content.as_ref())
            .expect("the box reads what it is sent");
        drop(stdin);
        assert!(child.wait().expect("it was started").success(), "{path}");
    }

    /// Writes a file of polkit rules and waits until polkitd has read it: it
    /// looks at the directory, and says nothing that could be waited for.
    #[allow(dead_code, reason = "for those who test what polkit decides")]
    pub(super) fn write_rules(&self, rules: &str) {
        self.write("/etc/polkit-1/rules.d/10-test.rules", rules);
        self.run("chmod a+rX -R /etc/polkit-1/rules.d && systemctl restart polkit");
    }

    /// Restarts it; its files stay.
    pub(super) fn reboot(&self) {
        let before = self.leader().expect("it is up");
        self.attempt("systemctl reboot");
        eventually("it goes down", || self.leader() != Some(before));
        self.wait_until_up();
    }

    /// A shell script to be run, as a unit of its own.
    pub(super) fn command(&self, who: As, script: &str) -> Command {
        self.command_on("--pipe", who, script)
    }

    fn command_on(&self, input_and_output: &str, who: As, script: &str) -> Command {
        let mut command = self.enter();
        command.args(
            "systemd-run --quiet --wait --collect --service-type=exec -p LogLevelMax=notice \
             -E LANG=C.UTF-8 -E SYSTEMD_PAGER= -E SYSTEMD_COLORS=0 -E DEBIAN_FRONTEND=noninteractive"
                .split_whitespace(),
        );
        command.arg(input_and_output);
        let session = |command: &mut Command, user: &str| {
            command.arg(format!("--uid={user}"));
            command.args("-p PAMName=ipfloater-test -p WorkingDirectory=~".split(' '));
            command.args("-E XDG_SESSION_TYPE=tty".split(' '));
        };
        match who {
            As::Root => {
                command.args("-E HOME=/root -p WorkingDirectory=/root".split(' '));
            }
            As::User(user) => {
                command.arg(format!("--uid={user}"));
                command.args("-p WorkingDirectory=~".split(' '));
            }
            As::Remote(user) => session(&mut command, user),
            As::Seated(user) => {
                session(&mut command, user);
                command.args("-E XDG_SEAT=seat0".split(' '));
            }
        }
        // systemd replaces variables, and $$ by $.
        command.args(["--", "/bin/sh", "-c", &script.replace('$', "$$")]);
        command.stdin(Stdio::null());
        command
    }

    /// The beginning of a command line that is run in the box, outside of any unit.
    fn enter(&self) -> Command {
        let leader = self.leader().unwrap_or_else(|| {
            panic!("a box is not there: {}", self.console());
        });
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={leader}"));
        command.args(
            "--mount --uts --ipc --net --pid --cgroup --root --wd -- env -i \
             PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
                .split_whitespace(),
        );
        command
    }

    /// Its process 1, by our number: the first to move into its `init.scope`.
    fn leader(&self) -> Option<u32> {
        let scope = self.cgroup.join("payload/init.scope/cgroup.procs");
        fs::read_to_string(scope).ok()?.lines().next()?.parse().ok()
    }

    fn wait_until_up(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = String::new();
        while state != "running" {
            assert!(
                Instant::now() < deadline && state != "degraded",
                "a box of {:?} is {state:?}, not up: {}",
                self.suite,
                self.console()
            );
            std::thread::sleep(Duration::from_millis(50));
            if self.leader().is_some() {
                let output = self
                    .enter()
                    .args(["systemctl", "is-system-running"])
                    .output();
                let output = output.expect("nsenter is installed").stdout;
                state = String::from_utf8_lossy(&output).trim_end().to_owned();
            }
        }
    }

    fn console(&self) -> String {
        fs::read_to_string(&self.console).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let ended = self.supervisor.wait();
        if !std::thread::panicking() {
            assert!(ended.is_ok_and(|status| status.success()), "a box remains");
        }
    }
}

/// What holds a box.
#[derive(Debug)]
pub(super) struct Supervisor(pub(super) Child);

impl Supervisor {
    /// The cgroup directory of the box, and the file of what its console said.
    pub(super) fn paths(&mut self) -> [PathBuf; 2] {
        let output = self.0.stdout.take().expect("it is piped, and read once");
        let mut lines = BufReader::new(output).lines();
        [(); 2].map(|()| {
            let line = lines.next().expect("bash says why not");
            line.expect("it is text").into()
        })
    }
}

/// Begins to boot a box, which lasts as long as the other end of its input.
pub(super) fn boot(suite: Suite, input: impl Into<Stdio>) -> Supervisor {
    let supervisor = script("boot.sh")
        .arg(suite.rootfs())
        .stdin(input)
        .stdout(Stdio::piped())
        .spawn();
    Supervisor(supervisor.expect("bash is installed"))
}

/// Waits until something holds.
#[track_caller]
pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn rootfs(suite: &str) -> String {
    let output = script("rootfs.sh")
        .arg(suite)
        .stderr(Stdio::inherit())
        .output()
        .expect("bash is installed");
    assert!(
        output.status.success(),
        "there is no Debian {suite} to boot (`make test` installs what making it takes)"
    );
    String::from_utf8(output.stdout)
        .expect("it is a path")
        .trim_end()
        .to_owned()
}

fn script(name: &str) -> Command {
    assert!(
        nix::unistd::geteuid().is_root(),
        "the system tests boot Debian, and need root"
    );
    let mut command = Command::new(
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/system")
            .join(name),
    );
    command.stdin(Stdio::null());
    command
}
