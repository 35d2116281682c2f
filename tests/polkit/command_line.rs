//! The command line of an unprivileged user: by varlink, and by itself over the
//! bus where varlink does not tell the daemon who calls.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::daemon::{Daemon, NOBODY};
use crate::stand_in::Says;

#[test]
fn a_user_is_answered_the_same_by_varlink_and_over_the_bus() {
    let new = Daemon::start(Says::Yes, Says::No);
    let old = Daemon::start_on_an_old_kernel(Says::Yes, Says::No);
    let (mut verbs, mut done) = (BTreeSet::new(), BTreeSet::new());
    for arguments in [
        "allocate",
        "allocate 198.51.100.10",
        "allocate --pool none",
        "allocate 198.51.100.15 --owner 1234",
        "associate 198.51.100.10 10.0.0.5",
        "associate 198.51.100.10 10.0.0.6",
        "associate 198.51.100.10 10.0.0.6 --reassociate",
        "associate 10.0.0.7",
        "associate 198.51.100.11 10.0.0.6 --reassociate",
        "associate 198.51.100.11 192.0.2.1",
        "associate fd00::7",
        "getip 10.0.0.7",
        "redirect 198.51.100.12 10.0.0.8",
        "associate 010.0.0.1",
        "forward 198.51.100.13:8080-8083 10.0.0.9:80",
        "forward 198.51.100.13:8081 10.0.0.10",
        "forward 198.51.100.13:53/udp 10.0.0.10 --outbound floating",
        "unforward 198.51.100.13:8081",
        "unforward 198.51.100.13:53/udp",
        "set 198.51.100.13 --label dns --tag b --tag a --description words --protect",
        "set 198.51.100.13 --untag a --clear-tags --tag c --label=",
        "set 198.51.100.13 --label a/b",
        "release 198.51.100.13",
        "allocate --count 2 --label pair --tag x",
        "disassociate 10.0.0.6",
        "disassociate 10.0.0.6",
        "release 198.51.100.15",
        "release 198.51.100.10",
        "release 192.0.2.1",
        "history -n 3",
        "history -n 0",
        "permissions",
        "permissions 10.0.0.7",
        "show 10.0.0.7",
        "show 198.51.100.13",
        "status",
    ] {
        let (by_varlink, over_the_bus) = (new.json(NOBODY, arguments), old.json(NOBODY, arguments));
        let verb = arguments.split(' ').next();
        verbs.insert(verb);
        if by_varlink.1 == 0 {
            done.insert(verb);
        }
        assert_eq!(alike(by_varlink), alike(over_the_bus), "{arguments}");
    }
    assert_eq!(verbs, done, "each verb succeeded at least once");
    let kinds = |daemon: &Daemon, kind: &str| {
        let asked = daemon.polkit.asked();
        !asked.is_empty() && asked.iter().all(|asked| asked.kind == kind)
    };
    assert!(kinds(&new, "unix-process"));
    assert!(kinds(&old, "system-bus-name"));
}

/// Without what differs from one daemon to the other, and by which way it came.
fn alike((mut answer, exit): (Value, i32)) -> (Value, i32) {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|key, _| {
                    !matches!(key.as_str(), "at" | "via" | "resting_until") && !key.ends_with("_at")
                });
                fields.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut answer);
    (answer, exit)
}

#[test]
fn a_refusal_has_the_same_name_and_code_on_both_ways_and_says_what_to_do() {
    let new = Daemon::start(Says::No, Says::No);
    let old = Daemon::start_on_an_old_kernel(Says::No, Says::No);
    for (says, name, remedy) in [
        (Says::No, "PermissionDenied", "`ipfloater permissions`"),
        (Says::Error, "PermissionDenied", "; only root may"),
        (
            Says::Challenge,
            "InteractiveAuthenticationRequired",
            "use sudo",
        ),
    ] {
        for daemon in [&new, &old] {
            daemon.polkit.say(says, Says::Yes);
            let (answer, exit) = daemon.json(NOBODY, "allocate");
            assert_eq!(
                (&answer["error"]["name"], exit),
                (&name.into(), 4),
                "{says:?}: {answer}"
            );
            let message = answer["error"]["message"].as_str().unwrap();
            assert!(message.contains(remedy), "{message}");
            // That would not be answered either.
            let permissions = message.contains("`ipfloater permissions`");
            assert_eq!(permissions, says == Says::No, "{message}");
            // Nobody is there to type, so nobody is asked.
            assert!(daemon.polkit.asked().iter().all(|asked| !asked.interactive));
        }
    }
}

#[test]
fn a_call_never_reaches_another_daemon_than_the_socket_does() {
    let (old, other) = (
        Daemon::start_on_an_old_kernel(Says::Yes, Says::No),
        Daemon::start(Says::Yes, Says::No),
    );
    let refused = old.ipfloater_on(&other.bus, NOBODY, "allocate");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(
        said.contains("the one on the system bus is another"),
        "{said}"
    );
    let (listed, _) = other.json(0, "list");
    assert_eq!(listed["addresses"], serde_json::json!([]));
}

#[test]
fn a_daemon_that_is_not_on_the_bus_is_not_reached_there() {
    let old = Daemon::start_with(&["--no-dbus"], "peer-pidfd", Says::Yes, Says::No);
    let (answer, exit) = old.json(NOBODY, "allocate");
    assert_eq!(exit, 3, "{answer}");
}

/// On a terminal the real agent of polkit is started for the process that calls,
/// and polkit is asked with interaction only once it knows the agent.
#[test]
fn on_a_terminal_an_agent_is_there_before_polkit_may_prompt() {
    for daemon in [
        Daemon::start(Says::Challenge, Says::Yes),
        Daemon::start_on_an_old_kernel(Says::Challenge, Says::Yes),
    ] {
        let refused = on_a_terminal(&daemon, "--no-ask-password allocate");
        assert!(refused.contains("use sudo"), "{refused}");
        assert!(daemon.polkit.agents().is_empty());
        let said = on_a_terminal(&daemon, "allocate");
        assert!(said.contains("Allocated 198.51.100.10"), "{said}");
        assert_eq!(daemon.polkit.agents().len(), 1, "{said}");
        let asked = daemon.polkit.asked();
        assert!(asked.last().unwrap().interactive, "{asked:?}");
    }
}

/// What a user sees who has a terminal.
fn on_a_terminal(daemon: &Daemon, arguments: &str) -> String {
    let output = daemon.terminal(NOBODY, arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}
