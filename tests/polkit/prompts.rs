//! A prompt that stays open for long: it delays nobody else, ends with its
//! caller, and what changed meanwhile counts.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, NOBODY};
use crate::stand_in::Says;

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
