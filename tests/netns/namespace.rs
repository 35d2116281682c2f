//! One network namespace, threads and programs in it.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};

/// The most that a test waits for what must happen. The machine may be slow.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// How long a test waits for what must not happen.
pub(super) const BRIEFLY: Duration = Duration::from_millis(400);

/// Waits until something is so.
pub(super) fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} in vain: {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A network namespace. It ends when the last socket, thread or program in it
/// and this value are gone.
#[derive(Debug)]
pub(super) struct Namespace {
    file: File,
}

impl Namespace {
    /// A new one, in which only `lo` is there, and up.
    pub(super) fn new() -> Self {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).map(|()| File::open("/proc/thread-self/ns/net"))
        });
        let file = made.join().expect("unshare does not panic");
        let file = file.unwrap_or_else(|error| {
            panic!("a network namespace cannot be made ({error}); these tests need root")
        });
        let namespace = Self {
            file: file.expect("a thread can open its own namespace"),
        };
        namespace.ip("link set lo up");
        namespace
    }

    /// A path by which ip(8) and nsenter(1) find it.
    pub(super) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    fn enter(file: &File) {
        setns(file, CloneFlags::CLONE_NEWNET).expect("these tests need root");
    }

    /// Runs code in it. Sockets that the code makes stay in it.
    pub(super) fn run<T: Send>(&self, code: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                Self::enter(&self.file);
                code()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a program in it, given by words, and returns what it printed, or
    /// else what it complained about.
    pub(super) fn try_program(&self, line: &str, input: &str) -> Result<String, String> {
        let output = self.run(|| {
            let mut words = line.split(' ');
            let mut child = Command::new(words.next().expect("a program has a name"))
                .args(words)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap_or_else(|error| panic!("{line}: {error}"));
            let mut stdin = child.stdin.take().expect("it is piped");
            // A program that has failed already reads nothing.
            let _ = stdin.write_all(input.as_bytes());
            drop(stdin);
            child.wait_with_output().expect("a child can be waited for")
        });
        let Output {
            status,
            stdout,
            stderr,
        } = output;
        if status.success() {
            Ok(String::from_utf8_lossy(&stdout).into_owned())
        } else {
            Err(format!(
                "{line}\n{input}: {status}: {}",
                String::from_utf8_lossy(&stderr)
            ))
        }
    }

    /// Runs a program that must succeed.
    pub(super) fn program(&self, line: &str) -> String {
        self.try_program(line, "")
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// `ip …`; several commands on lines of their own are one batch.
    pub(super) fn ip(&self, commands: &str) {
        self.try_program("ip -batch -", commands)
            .unwrap_or_else(|error| panic!("{error}"));
    }

    /// `nft …`; several commands may stand on lines of their own.
    pub(super) fn nft(&self, commands: &str) {
        self.try_nft(commands)
            .unwrap_or_else(|error| panic!("{error}"));
    }

    /// `nft …`, which may fail.
    pub(super) fn try_nft(&self, commands: &str) -> Result<String, String> {
        self.try_program("nft -f -", commands)
    }

    /// Writes sysctls: `net.ipv4.ip_forward=1`, by words.
    pub(super) fn sysctl(&self, settings: &str) {
        self.run(|| {
            for setting in settings.split_whitespace() {
                let (name, value) = setting.split_once('=').expect("a setting has a value");
                let path = format!("/proc/sys/{}", name.replace('.', "/"));
                std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
            }
        });
    }

    /// Starts a program in it that is killed when the test process ends,
    /// however that comes about.
    pub(super) fn start(&self, mut command: Command) -> Child {
        let file = self.file.try_clone().expect("a descriptor can be copied");
        let (answer, answered) = channel();
        let job = move || {
            Self::enter(&file);
            let _ = answer.send(command.spawn());
        };
        starter()
            .lock()
            .expect("nobody panics with it")
            .send(Box::new(job))
            .expect("the thread never ends");
        answered
            .recv()
            .expect("the thread answers")
            .expect("the program can be started")
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// The thread that starts what has to outlive the test's own thread: a parent
/// death signal (prctl(2)) comes when the *thread* that forked has ended.
fn starter() -> &'static Mutex<Sender<Job>> {
    static STARTER: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    STARTER.get_or_init(|| {
        let (sender, jobs) = channel::<Job>();
        std::thread::spawn(move || jobs.into_iter().for_each(|job| job()));
        Mutex::new(sender)
    })
}
