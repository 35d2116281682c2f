//! The buses, with the tools that users have: busctl, varlinkctl.

use super::machine::{As, Suite};
use super::package::Router;

const MANAGER: &str = "org.ipfloater /org/ipfloater org.ipfloater.Manager";
const SOCKET: &str = "/run/ipfloater/org.ipfloater";

/// A daemon that was stopped is started by whoever calls.
fn is_activated(suite: Suite) {
    let router = Router::new(suite);
    let mut calls = vec![
        format!("busctl call {MANAGER} GetStatus 'a{{sv}}' 0"),
        "ipfloater status".to_owned(),
    ];
    if suite == Suite::Trixie {
        calls.push(format!(
            "varlinkctl call {SOCKET} org.ipfloater.GetStatus '{{}}'"
        ));
    }
    for call in calls {
        router.run("systemctl stop ipfloaterd.service 2>&1");
        assert!(!router.attempt("pidof ipfloaterd").status.success());
        router.run_as(As::User("bob"), &call);
        router.run("systemctl is-active ipfloaterd.service");
    }

    // Not while the administrator disabled it.
    router.run("systemctl disable --now ipfloaterd.service ipfloaterd.socket 2>&1");
    let output = router.attempt(&format!("busctl call {MANAGER} GetStatus 'a{{sv}}' 0"));
    assert!(!output.status.success() && !router.attempt("pidof ipfloaterd").status.success());
    assert!(
        !router
            .attempt(&format!("test -e {SOCKET}"))
            .status
            .success()
    );
}

#[test]
fn on_trixie_a_call_starts_the_daemon() {
    is_activated(Suite::Trixie);
}

#[test]
fn on_bookworm_a_call_starts_the_daemon() {
    is_activated(Suite::Bookworm);
}

#[test]
fn varlinkctl_drives_the_daemon() {
    let router = Router::new(Suite::Trixie);
    let interface = "/usr/share/ipfloater/org.ipfloater.varlink";
    router.run(&format!("varlinkctl validate-idl {interface}"));
    let formatted = |source: &str| router.run(&format!("varlinkctl {source}"));
    let introspected = formatted(&format!("introspect {SOCKET} org.ipfloater"));
    assert!(introspected.contains("method Associate"), "{introspected}");
    assert!(formatted(&format!("info {SOCKET}")).contains("org.ipfloater"));
    // Where other programs look for interfaces.
    let listed = formatted("list-interfaces /run/varlink/registry/org.ipfloater");
    assert!(
        listed.lines().any(|line| line == "org.ipfloater"),
        "{listed}"
    );

    // What is so, and then what happens.
    let mut monitor = router.converse(
        As::User("bob"),
        &format!("varlinkctl call --more --json=short {SOCKET} org.ipfloater.Monitor '{{}}'"),
    );
    monitor.hear("{");
    let reply = formatted(&format!(
        "call --json=short {SOCKET} org.ipfloater.Associate '{{\"fixed_address\":\"10.66.0.11\"}}'"
    ));
    assert!(
        reply.contains("\"floating_ip\":\"203.0.113.20\""),
        "{reply}"
    );
    monitor.hear("203.0.113.20");

    let refused = router.attempt(&format!(
        "varlinkctl call {SOCKET} org.ipfloater.Associate '{{\"fixed_address\":\"192.0.2.1\"}}' 2>&1"
    ));
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(
        !refused.status.success() && said.contains("org.ipfloater."),
        "{said}"
    );
}
