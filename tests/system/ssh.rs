//! `ipfloater -H`: a router told what to do from another host, over ssh.

use super::machine::{As, Suite};
use super::package::Router;

/// The host outside, from which the router is a ssh away, and the user there.
const NEAR: &str = "ip netns exec client ipfloater -H alice@203.0.113.1";

/// Has sshd of the router know a key of the client's.
pub(super) fn open(router: &Router) {
    router.run(
        "mkdir -p /run/sshd ~/.ssh ~alice/.ssh
         ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519
         cp ~/.ssh/id_ed25519.pub ~alice/.ssh/authorized_keys
         chown -R alice: ~alice/.ssh
         chmod go-w ~alice ~alice/.ssh
         systemctl unmask --quiet ssh.service
         systemctl start ssh.service
         ssh-keyscan 203.0.113.1 2>/dev/null >~/.ssh/known_hosts",
    );
}

/// What a command prints, errors as well, and what it ends with.
fn ends(router: &Router, script: &str) -> (String, i32) {
    let output = router.attempt(script);
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (said.into_owned(), output.status.code().expect("it ended"))
}

fn over_ssh(suite: Suite) {
    let router = Router::new(suite);
    open(&router);

    // It is alice who asks, whoever is here.
    let (said, exit) = ends(&router, &format!("{NEAR} associate 10.66.0.11"));
    assert_eq!(exit, 4, "{said}");
    let (said, exit) = ends(&router, &format!("{NEAR} --json associate 10.66.0.11"));
    assert_eq!(exit, 4, "{said}");
    assert!(said.contains(r#""exit_code":4"#), "{said}");
    router.write_rules(include_str!("../../polkit/ipfloater.rules"));
    router.run("groupadd --system ipfloater-users; gpasswd --add alice ipfloater-users >/dev/null");
    router.run(&format!("{NEAR} associate 203.0.113.20 10.66.0.11"));
    router.run("ip netns exec client ping -c 1 -W 2 203.0.113.20");
    let shown = router.run("ipfloater show 203.0.113.20 --json | jq .address.owner; id -u alice");
    let ids: Vec<_> = shown.lines().collect();
    assert_eq!(ids[0], ids[1]);

    // Words stay as they are, whatever a shell would make of them.
    let label = r#"it's $(id) "x" \ *; exit 9"#;
    router.write("/srv/label", label);
    router.run(&format!(
        "{NEAR} set 203.0.113.20 --description \"$(cat /srv/label)\""
    ));
    let kept = router.run("ipfloater show 203.0.113.20 --json | jq -r .address.description");
    assert_eq!(kept.trim_end(), label);

    // A loop goes on with what it reads.
    let looped = format!(
        "printf 'a\\nb\\n' | while read -r each; do {NEAR} version >/dev/null; echo $each; done"
    );
    assert_eq!(router.run(&looped), "a\nb\n");

    // Other verbs: what is looked at is the router's.
    for verb in ["status", "list --json", "top --views 1 --interval 1"] {
        let said = router.run(&format!("{NEAR} {verb}"));
        assert!(
            verb.starts_with("top") || said.contains("203.0.113.20"),
            "{verb}: {said}"
        );
    }
    let (said, _) = ends(&router, &format!("{NEAR} doctor 203.0.113.20"));
    assert!(!said.contains("table-missing"), "{said}");
}

#[test]
fn a_router_is_told_what_to_do_over_ssh_on_trixie() {
    over_ssh(Suite::Trixie);
}

#[test]
fn a_router_is_told_what_to_do_over_ssh_on_bookworm() {
    over_ssh(Suite::Bookworm);
}

/// The far side asks for an administrator's password, on the terminal here.
#[test]
fn a_prompt_of_the_far_side_appears_here() {
    let router = Router::new(Suite::Trixie);
    open(&router);
    let mut terminal = router.converse(As::Root, &format!("{NEAR} allocate"));
    terminal.hear("Password: ");
    terminal.type_line("admin");
    terminal.hear_next("AUTHENTICATION COMPLETE");
    terminal.hear("203.0.113.2");
}

#[test]
fn a_router_that_ssh_does_not_reach() {
    let router = Router::new(Suite::Trixie);
    open(&router);
    // Nothing stays there when who watched is gone.
    router.run(&format!(
        "systemd-run --quiet --unit=watch sh -c '{NEAR} monitor >/run/watched'"
    ));
    router.eventually("it watches", "pgrep -u alice -f 'here.*monitor'");
    router.run("ipfloater allocate 203.0.113.25");
    router.eventually("it is told", "grep 203.0.113.25 /run/watched");
    router.run("systemctl kill --signal=KILL watch");
    router.eventually("it ends there", "! pgrep -u alice -f 'here.*monitor'");

    let near = "ip netns exec client /srv/ipfloater --no-ask-password -H alice@203.0.113.1 version";
    router.run("mv /usr/bin/ipfloater /srv");
    let (said, exit) = ends(&router, near);
    assert_eq!(exit, 3, "{said}");
    assert!(
        said.contains("no ipfloater to be run on alice@203.0.113.1"),
        "{said}"
    );
    router.run("mv /srv/ipfloater /usr/bin && cp /usr/bin/ipfloater /srv");
    router.run(near);

    // Nobody is asked whether an unknown key is right.
    router.run("mv ~/.ssh/known_hosts /srv");
    let (said, exit) = ends(&router, near);
    assert_eq!(exit, 3, "{said}");
    assert!(said.contains("Host key verification failed"), "{said}");
    router.run("mv /srv/known_hosts ~/.ssh && systemctl stop ssh.service");
    let (said, exit) = ends(&router, near);
    assert_eq!(exit, 3, "{said}");
    assert!(
        said.contains("ssh did not get to alice@203.0.113.1"),
        "{said}"
    );
    let (said, exit) = ends(&router, &format!("{near} --json"));
    assert_eq!(exit, 3, "{said}");
    assert!(said.contains(r#""name":"Unreachable""#), "{said}");
}

/// Also on a terminal ssh says that the key of the router is another.
#[test]
fn a_router_with_another_key_raises_the_alarm_on_a_terminal() {
    let router = Router::new(Suite::Trixie);
    open(&router);
    router.run("rm /etc/ssh/ssh_host_*_key && ssh-keygen -A && systemctl restart ssh.service");
    let mut terminal = router.converse(As::Root, &format!("{NEAR} version"));
    terminal.hear("REMOTE HOST IDENTIFICATION HAS CHANGED");
    terminal.hear("ssh did not get to");
}
