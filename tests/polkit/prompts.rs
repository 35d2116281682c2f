//! A prompt that stays open for long: it delays nobody else, ends with its
//! caller, and what changed meanwhile counts.

use std::fs::DirEntry;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::daemon::{Daemon, NOBODY};
use crate::stand_in::{PATIENCE, Says};

/// A call by either way that waits for a password.
type Call = fn(&Daemon) -> Command;

const ASSOCIATE: [Call; 2] = [
    |daemon| daemon.terminal(NOBODY, "associate 198.51.100.10 10.0.0.5"),
    |daemon| {
        let arguments = ["ssa{sv}", "198.51.100.10", "10.0.0.5", "0"];
        daemon.busctl(NOBODY, "Associate", &arguments)
    },
];

/// A daemon, and a call of an owner that waits for a password.
fn waiting(call: Call) -> (Daemon, Child) {
    let daemon = Daemon::start(Says::Challenge, Says::Later);
    daemon.root(&format!("allocate 198.51.100.10 --owner {NOBODY}"));
    let child = call(&daemon).spawn().unwrap();
    daemon.polkit.prompt();
    (daemon, child)
}

#[test]
fn a_prompt_that_stays_open_delays_nobody_else() {
    for call in ASSOCIATE {
        let (daemon, child) = waiting(call);
        let started = Instant::now();
        daemon.root("allocate 198.51.100.11");
        daemon.root("associate 198.51.100.11 10.0.0.9");
        daemon.root("status");
        // The same user is refused at once, and not after the prompt.
        let (refused, _) = daemon.json(NOBODY, "allocate");
        assert_eq!(
            refused["error"]["name"],
            "InteractiveAuthenticationRequired"
        );
        assert!(started.elapsed() < Duration::from_secs(10));
        daemon.polkit.go_on();
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{done:?}");
        let (shown, _) = daemon.json(0, "show 198.51.100.10");
        assert_eq!(shown["address"]["fixed_address"], "10.0.0.5");
    }
}

#[test]
fn hanging_up_takes_the_question_back() {
    for call in ASSOCIATE {
        let (daemon, mut child) = waiting(call);
        child.kill().unwrap();
        child.wait().unwrap();
        daemon.polkit.is_cancelled(&daemon.polkit.prompt());
        let (shown, _) = daemon.json(0, "show 198.51.100.10");
        assert_eq!(shown["address"]["state"], "allocated");
    }
}

#[test]
fn an_address_that_got_another_owner_meanwhile_is_not_altered() {
    for call in ASSOCIATE {
        let (daemon, child) = waiting(call);
        daemon.root("release 198.51.100.10");
        daemon.root("allocate 198.51.100.10 --owner 1234");
        daemon.polkit.go_on();
        let refused = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&[refused.stdout, refused.stderr].concat()).into_owned();
        assert!(!refused.status.success(), "{said}");
        assert!(
            said.contains("OwnerChanged") || said.contains("owner"),
            "{said}"
        );
        let (shown, _) = daemon.json(0, "show 198.51.100.10");
        assert_eq!(shown["address"]["owner"], 1234);
        assert_eq!(shown["address"]["state"], "allocated");
    }
}

/// A terminal that stays after the command line has gone, as a shell's does, and
/// no signal that the terminal sends.
#[test]
fn an_agent_ends_with_the_command_line_however_that_ends() {
    let daemon = Daemon::start(Says::Challenge, Says::Later);
    let mut shell = daemon
        .terminal(NOBODY, "allocate; sleep 60")
        .spawn()
        .unwrap();
    let question = daemon.polkit.prompt();
    let pid = daemon.polkit.agents()[0];
    assert!(has_agent(pid), "the agent of {pid} is there");
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
    daemon.polkit.is_cancelled(&question);
    let deadline = Instant::now() + PATIENCE;
    while has_agent(pid) {
        assert!(Instant::now() < deadline, "the agent of {pid} stays");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(shell.try_wait().unwrap().is_none(), "the terminal stays");
    shell.kill().unwrap();
    shell.wait().unwrap();
}

/// Whether an agent asks on behalf of the process.
fn has_agent(pid: u32) -> bool {
    let wanted = format!("pkttyagent\0--process\0{pid}\0");
    let is_agent = |entry: DirEntry| {
        // Processes come and go meanwhile.
        std::fs::read_to_string(entry.path().join("cmdline"))
            .is_ok_and(|line| line.starts_with(&wanted))
    };
    std::fs::read_dir("/proc").unwrap().flatten().any(is_agent)
}
