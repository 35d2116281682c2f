//! What polkit decides, as users meet it: refused, allowed by a rule, asked for
//! a password; and who tries to be somebody else.

use std::time::{Duration, Instant};

use super::machine::{As, Machine, Suite};
use super::package::Router;

const MANAGER: &str = "org.ipfloater /org/ipfloater org.ipfloater.Manager";
const SOCKET: &str = "/run/ipfloater/org.ipfloater";

/// What a script says that fails.
#[track_caller]
fn refused(machine: &Machine, who: As, script: &str) -> String {
    let output = machine.attempt_as(who, script);
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{who:?}: {script}: {said}");
    said.into_owned()
}

fn associate(fixed: &str) -> String {
    format!("busctl --quiet call {MANAGER} Associate 'ssa{{sv}}' '' {fixed} 0")
}

fn by_varlink(method: &str, parameters: &str) -> String {
    format!("varlinkctl call {SOCKET} org.ipfloater.{method} '{parameters}'")
}

/// A rule whose condition is JavaScript over `action` and `subject`.
fn rule(condition: &str) -> String {
    format!(
        "polkit.addRule(function (action, subject) {{\n    if ({condition}) {{\n        \
         return polkit.Result.YES;\n    }}\n}});\n"
    )
}

#[test]
fn a_user_is_refused_until_a_rule_says_otherwise() {
    let router = Router::new(Suite::Trixie);
    let alice = As::User("alice");
    for call in [
        associate("10.66.0.11"),
        by_varlink("Allocate", "{}"),
        by_varlink("History", "{}"),
        "ipfloater getip 10.66.0.11".to_owned(),
    ] {
        let said = refused(&router, alice, &call);
        assert!(
            said.to_lowercase().contains("authenticat"),
            "{call}: {said}"
        );
    }
    assert_eq!(router.run("ipfloater list --json"), "{\"addresses\":[]}\n");

    router.write_rules(&rule(
        "subject.user == 'alice' && /^org.ipfloater.(allocate|associate)-own$/.test(action.id)",
    ));
    router.run_as(alice, &associate("10.66.0.11"));
    router.run_as(alice, "ipfloater getip 10.66.0.12");
    // What is hers she may give up; what she may do is no rule for others.
    router.run_as(alice, "ipfloater releaseip 10.66.0.12");
    refused(&router, As::User("bob"), &associate("10.66.0.13"));
    refused(&router, As::User("bob"), "ipfloater releaseip 10.66.0.11");

    // Of her address others see that it is taken, and she what for.
    let listed = |who| router.run_as(who, "ipfloater list --json");
    assert!(listed(alice).contains("10.66.0.11"));
    let seen = listed(As::User("bob"));
    assert!(
        seen.contains("203.0.113.20") && seen.contains("active"),
        "{seen}"
    );
    assert!(
        !seen.contains("10.66.0.11") && !seen.contains("owner"),
        "{seen}"
    );
    let asked = refused(&router, As::User("bob"), "ipfloater show 10.66.0.11");
    assert!(!asked.contains("203.0.113.20"), "{asked}");
}

#[test]
fn a_rule_can_answer_from_the_details() {
    let router = Router::new(Suite::Trixie);
    router.write_rules(&rule(
        "action.id.indexOf('org.ipfloater.') == 0 && subject.user == 'alice' \
         && action.lookup('floating_ip') == '203.0.113.21' && action.lookup('pool') == 'default' \
         && action.lookup('owner') == String(subject.uid !== undefined ? subject.uid : action.lookup('owner')) \
         && ['allocate', 'associate'].indexOf(action.lookup('verb')) >= 0 \
         && ['none', '10.66.0.11'].indexOf(action.lookup('fixed_address')) >= 0",
    ));
    let alice = As::User("alice");
    let tie = |floating: &str, fixed: &str| {
        by_varlink(
            "Associate",
            &format!(r#"{{"floating_ip":"{floating}","fixed_address":"{fixed}"}}"#),
        )
    };
    refused(&router, alice, &tie("203.0.113.22", "10.66.0.11"));
    refused(&router, alice, &tie("203.0.113.21", "10.66.0.12"));
    router.run_as(alice, &tie("203.0.113.21", "10.66.0.11"));
}

#[test]
fn quotas_and_ranges_hold_for_those_who_help_themselves() {
    let router = Router::new(Suite::Trixie);
    router.write_rules(&rule("/-own$/.test(action.id)"));
    router.run("groupadd --force staff-of-ours; gpasswd --add bob staff-of-ours >/dev/null");
    router.write(
        "/etc/ipfloaterd.conf.d/50-limits.conf",
        "[IPFLOATER]\nQUOTA = 1\nPERMITTED_IP_RANGES = 10.66.0.0/28\n\
         [GROUP staff-of-ours]\nQUOTA = 2\nPERMITTED_IP_RANGES = 10.66.0.0/24\n",
    );
    router.run("systemctl reload ipfloaterd");
    let get = |user: &'static str, fixed: &str| {
        let output = router.attempt_as(As::User(user), &format!("ipfloater getip {fixed}"));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert_eq!(get("alice", "10.66.0.11"), "");
    assert!(get("alice", "10.66.0.12").contains("may have 1 floating IP"));
    assert_eq!(get("bob", "10.66.0.21"), "");
    assert_eq!(get("bob", "10.66.0.22"), "");
    assert!(get("bob", "10.66.0.23").contains("may have 2 floating IP"));
    router.run_as(As::User("alice"), "ipfloater releaseip 10.66.0.11");
    assert!(get("alice", "10.66.0.17").contains("PERMITTED_IP_RANGES"));
    // root has none.
    router.run("for host in 31 32 33; do ipfloater getip 10.66.0.$host; done");
}

#[test]
fn a_prompt_names_the_addresses_and_waits_beside_everything_else() {
    let router = Router::new(Suite::Trixie);
    let call = "ipfloater associate 203.0.113.21 10.66.0.11";
    let mut asked = router.converse(As::Seated("alice"), call);
    asked.hear("take a floating IP (203.0.113.21, pool: default)");
    asked.hear_next("Password: ");

    // Nobody waits for her.
    let begun = Instant::now();
    router.run("ipfloater getip 10.66.0.12 && ipfloater releaseip 10.66.0.12");
    router.run_as(As::User("bob"), "ipfloater status");
    assert!(begun.elapsed() < Duration::from_secs(20));

    asked.type_line("admin");
    asked.hear("associate a floating IP (203.0.113.21) with 10.66.0.11");
    asked.hear_next("Password: ");
    asked.type_line("admin");
    let (status, said) = asked.end();
    assert!(status.success(), "{said}");
    let shown = router.run("ipfloater show 10.66.0.11");
    assert!(
        shown.contains("alice") && shown.contains("203.0.113.21"),
        "{shown}"
    );

    // A wrong password changes nothing.
    let mut asked = router.converse(As::Seated("bob"), "ipfloater release 203.0.113.21");
    asked.hear("owner: ");
    asked.hear("Password: ");
    asked.type_line("wrong");
    let (status, said) = asked.end();
    assert!(!status.success(), "{said}");
    assert_eq!(router.run("ipfloater show 10.66.0.11"), shown);
}

#[test]
fn nobody_becomes_somebody_else() {
    let router = Router::new(Suite::Trixie);
    // Connects, has the call sent by a child, and becomes a setuid program: by
    // its number the process that polkit looks at belongs to root.
    router.write(
        "/srv/exec.py",
        r#"import os, socket, time
peer = socket.socket(socket.AF_UNIX)
peer.connect("/run/ipfloater/org.ipfloater")
if os.fork() == 0:
    time.sleep(1)
    peer.sendall(b'{"method":"org.ipfloater.Allocate"}\0')
    with open("/tmp/answer", "wb") as answer:
        answer.write(peer.recv(4096))
    os._exit(0)
os.execv("/usr/bin/passwd", ["passwd"])
"#,
    );
    let alice = As::User("alice");
    let mut passwd = router.converse(alice, "python3 /srv/exec.py");
    passwd.hear("Current password: ");
    router.eventually(
        "an answer",
        "grep -q '\"error\":\"io.systemd.InteractiveAuthenticationRequired\"' /tmp/answer",
    );
    passwd.type_line("alice");
    passwd.hear("New password: ");

    // Root in a user namespace of her own.
    let said = refused(
        &router,
        alice,
        &format!(
            "unshare --user --map-root-user {}",
            by_varlink("Allocate", "{}")
        ),
    );
    assert!(said.contains("InteractiveAuthenticationRequired"), "{said}");
    refused(
        &router,
        alice,
        &format!("unshare --user --map-root-user {}", associate("10.66.0.11")),
    );
    assert_eq!(router.run("ipfloater list --json"), "{\"addresses\":[]}\n");
}

#[test]
fn a_text_that_would_show_in_a_prompt_is_refused_before_anybody_is_asked() {
    let router = Router::new(Suite::Trixie);
    for (method, parameters) in [
        ("Allocate", r#"{"pool":"a\nb"}"#),
        ("Allocate", r#"{"pool":"$(id)"}"#),
        ("Allocate", r#"{"pool":"\u001b[31mred"}"#),
        (
            "Allocate",
            r#"{"floating_ip":"203.0.113.20\n203.0.113.21"}"#,
        ),
        ("Associate", r#"{"fixed_address":"10.66.0.11$(id)"}"#),
        ("Release", r#"{"address":"\u001b]0;x\u0007"}"#),
    ] {
        let said = refused(&router, As::User("alice"), &by_varlink(method, parameters));
        assert!(
            said.contains("org.ipfloater.Invalid"),
            "{parameters}: {said}"
        );
    }
    let journal = router.run("journalctl --boot --output=cat");
    assert!(
        !journal.contains('\u{1b}') && !journal.contains("$(id)"),
        "{journal}"
    );
}

/// Without a polkit that answers root works, and everybody else is told no soon.
#[test]
fn a_polkit_that_is_away_hangs_or_is_broken_refuses_users_and_not_root() {
    let router = Router::new(Suite::Trixie);
    router.write_rules(&rule("/^org.ipfloater/.test(action.id)"));
    let alice = As::User("alice");
    let both = |what: &str| {
        for call in [associate("10.66.0.11"), by_varlink("Allocate", "{}")] {
            let begun = Instant::now();
            refused(&router, alice, &call);
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(25), "{what}: {call}: {took:?}");
        }
        let begun = Instant::now();
        router.run("ipfloater getip 10.66.0.14 && ipfloater releaseip 10.66.0.14");
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
    };
    let again = |what: &str| {
        router.eventually(what, "systemctl is-active polkit");
        router.run_as(
            alice,
            "ipfloater getip 10.66.0.11 && ipfloater releaseip 10.66.0.11",
        );
    };
    again("as it should be");

    router.run("systemctl mask --now polkit");
    both("masked");
    router.run("systemctl unmask polkit && systemctl start polkit");
    again("unmasked");

    router.run("systemctl kill --signal=STOP polkit");
    both("hung");
    router.run("systemctl kill --signal=CONT polkit");
    again("woken");

    let policy = "/usr/share/polkit-1/actions/org.ipfloater.policy";
    router.run(&format!(
        "cp {policy} /srv/policy && sed -i 's|<policyconfig>|<policy|' {policy}"
    ));
    router.run("systemctl restart polkit");
    both("a policy with an error");
    router.run(&format!(
        "cp /srv/policy {policy} && systemctl restart polkit"
    ));
    again("mended");
}

#[test]
fn a_polkit_that_is_restarted_while_it_asks_is_asked_again_and_no_more() {
    let router = Router::new(Suite::Trixie);
    let mut asked = router.converse(As::Seated("alice"), "ipfloater getip 10.66.0.11");
    asked.hear("Password: ");
    router.run("systemctl restart polkit");
    // The new polkit may not know the agent, and then nobody is asked again; or
    // it does, and the prompt that is still open is answered to nobody.
    asked.try_to_type("admin");
    let (status, said) = asked.end();
    assert!(!status.success(), "{said}");
    assert_eq!(router.run("ipfloater list --json"), "{\"addresses\":[]}\n");
    // The daemon has found the new one.
    let mut asked = router.converse(As::Seated("alice"), "ipfloater getip 10.66.0.11");
    for _ in 0..2 {
        asked.hear_next("Password: ");
        asked.type_line("admin");
    }
    let (status, said) = asked.end();
    assert!(status.success(), "{said}");
}

#[test]
fn every_action_is_known_to_polkit() {
    let router = Router::new(Suite::Trixie);
    for action in ipfloater::authority::Action::ALL {
        let id = action.id();
        let known = router.run(&format!("pkaction --verbose --action-id {id}"));
        assert!(known.contains("unix-user:ipfloater"), "{known}");
    }
}

/// Debian 12: a polkit that takes no pidfd, and no varlinkctl.
#[test]
fn on_bookworm_a_user_is_served_over_the_bus() {
    let router = Router::new(Suite::Bookworm);
    let alice = As::User("alice");
    let said = refused(&router, alice, &associate("10.66.0.11"));
    assert!(said.contains("org.ipfloater.allocate-own"), "{said}");
    refused(&router, alice, "ipfloater getip 10.66.0.11");
    // By varlink she may read.
    router.run_as(alice, "ipfloater status && ipfloater ippool");

    let rules = rule("/-own$/.test(action.id)");
    router.write_rules(&rules);
    router.run_as(alice, &associate("10.66.0.11"));
    // And the command line goes over the bus by itself.
    let got = router.run_as(alice, "ipfloater getip 10.66.0.12");
    assert!(got.contains("203.0.113.21"), "{got}");
    let via = router.run("ipfloater history -n 1 --json");
    assert!(via.contains("\"via\":\"dbus\""), "{via}");
    router.run_as(alice, "ipfloater releaseip 10.66.0.12");

    let mut asked = router.converse(As::Seated("bob"), "ipfloater releaseip 10.66.0.11");
    asked.hear("Password: ");
    asked.type_line("admin");
    let (status, said) = asked.end();
    assert!(status.success(), "{said}");
}
