//! Traffic through the router that does not notice what happens to the daemon.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};

use super::machine::{As, Suite};
use super::package::{DEB, Router};

/// The floating IPs of the web server.
const FLOATING: [&str; 2] = ["203.0.113.20", "2001:db8::20"];

/// The client outside.
const OUTSIDE: [&str; 2] = ["203.0.113.9", "2001:db8::9"];

/// A host that talks to another until it is told to stop: a connection and a
/// flow of datagrams for each address, of which nothing may be lost.
#[derive(Debug)]
struct Talk {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Talk {
    fn begin(router: &Router, from: &str, to: [&str; 2]) -> Self {
        let [v4, v6] = to;
        let script = format!("exec ip netns exec {from} python3 /srv/talk.py {v4} {v6}");
        let mut child = router
            .command(As::Root, &script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("nsenter is installed");
        let output = child.stdout.take().expect("it is piped");
        let mut talk = Talk {
            child,
            said: BufReader::new(output).lines(),
        };
        assert_eq!(talk.line(), "talking");
        talk
    }

    fn line(&mut self) -> String {
        let line = self.said.next().expect("it ended early");
        line.expect("it is text")
    }

    /// Ends it; nothing was lost.
    #[track_caller]
    fn end(mut self) {
        drop(self.child.stdin.take());
        let line = self.line();
        let (rounds, rest) = line.split_once(' ').expect("it counts first");
        assert_eq!(rest, "rounds, 0 lost, 0 retransmitted", "of {rounds}");
        assert!(rounds.parse::<u32>().is_ok_and(|rounds| rounds > 100));
        assert!(self.child.wait().is_ok_and(|status| status.success()));
    }
}

/// Restarts, stops, kills and upgrades the daemon while both sides talk.
fn nothing_is_lost(suite: Suite) {
    let router = Router::new(suite);
    for (name, script) in [
        ("echo.py", include_str!("hosts/echo.py")),
        ("talk.py", include_str!("hosts/talk.py")),
    ] {
        router.write(&format!("/srv/{name}"), script);
    }
    for host in ["client", "web"] {
        router.run(&format!(
            "systemd-run --quiet ip netns exec {host} python3 /srv/echo.py"
        ));
        router.eventually(
            "its service listens",
            &format!("ip netns exec {host} ss -Hltu sport = 7 | grep -c . | grep -qx 2"),
        );
    }
    for (floating, fixed) in FLOATING.iter().zip(["10.66.0.11", "fd66::11"]) {
        router.run(&format!("ipfloater associate {floating} {fixed}"));
    }

    let talks = [
        Talk::begin(&router, "client", FLOATING),
        Talk::begin(&router, "web", OUTSIDE),
    ];
    let started = || router.run("systemctl show --value -p MainPID ipfloaterd");
    let mut daemons = vec![started()];
    for what in [
        "systemctl restart ipfloaterd",
        "systemctl stop ipfloaterd 2>&1 && sleep 0.5 && systemctl start ipfloaterd",
        // The service manager starts it again.
        "systemctl kill --signal=KILL ipfloaterd",
        // As an upgrade does, with the same scripts.
        &format!("apt-get -qq install --reinstall {DEB}"),
    ] {
        router.run(what);
        router.eventually(
            "the daemon is back",
            "systemctl is-active ipfloaterd && ipfloater status",
        );
        daemons.push(started());
    }
    for talk in talks {
        talk.end();
    }
    daemons.sort();
    daemons.dedup();
    assert_eq!(daemons.len(), 5, "each time another one: {daemons:?}");
    router.run(&format!(
        "ipfloater list | grep -q '{}.*10.66.0.11.*active'",
        FLOATING[0]
    ));
}

#[test]
fn traffic_on_trixie_does_not_notice_restart_crash_and_upgrade() {
    nothing_is_lost(Suite::Trixie);
}

#[test]
fn traffic_on_bookworm_does_not_notice_restart_crash_and_upgrade() {
    nothing_is_lost(Suite::Bookworm);
}
