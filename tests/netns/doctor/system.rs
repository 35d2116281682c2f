//! What else of the system has to do with it.

use std::process::Output;

use ipfloater::model::Family;

use super::super::bus::PrivateBus;
use super::super::daemon::Start;
use super::super::lab::{Plan, floating};
use super::super::namespace::eventually;
use super::super::talk::Udp;
use super::daemon::script;
use super::nothing::Polkit;
use super::{Clinic, findings, only, report, text};

impl Clinic {
    /// What is printed in the router, with a variable set.
    fn with_variable(&self, name: &str, value: &str) -> Output {
        let mut command = self.command("", "--json");
        command.env(name, value);
        self.lab
            .router
            .run(|| command.output().expect("it was built"))
    }
}

/// The limit is the machine's, and not a test's to lower: another one is put in its
/// place for the doctor alone.
#[test]
fn a_conntrack_table_that_is_full() {
    let clinic = Clinic::new();
    clinic.lacks("conntrack-full");
    for _ in 0..50 {
        let answer = clinic.lab.far.ask(Udp, floating(Family::V4, 10));
        answer.expect("it is answered");
    }
    let path = "/proc/sys/net/netfilter/nf_conntrack_";
    let count = clinic.shell(&format!("cat {path}count"));
    let count: u64 = count.trim().parse().expect("a number");
    for (most, severity) in [
        (count / 2, Some("error")),
        (count + 2, Some("warning")),
        (2 * count, None),
        (0, None),
    ] {
        let limit = script(&most.to_string());
        let script = script(&format!(
            "mount --bind {} {path}max\nexec \"$@\"",
            limit.path().display()
        ));
        let under = format!("unshare --mount sh -e {}", script.path().display());
        let mut command = clinic.command(&under, "--json");
        let output = clinic
            .lab
            .router
            .run(|| command.output().expect("it was built"));
        let found = findings(&output, "conntrack-full");
        let severities: Vec<_> = found.iter().map(|found| text(found, "severity")).collect();
        assert_eq!(severities, Vec::from_iter(severity), "{most} of {count}");
        if let [found] = found.as_slice() {
            let remedy = format!("sysctl -w net.netfilter.nf_conntrack_max={}", 2 * most);
            assert_eq!(text(found, "remedy"), remedy);
        }
    }
}

/// The store has an event of tomorrow.
#[test]
fn a_clock_that_went_back() {
    let mut clinic = Clinic::new();
    clinic.lacks("clock");
    clinic.daemon.stop();
    let store = clinic.daemon.directory().join("state/ipfloater.db");
    let store = rusqlite::Connection::open(store).expect("it is there");
    let altered = store.execute("UPDATE event SET at = at + 86400", []);
    assert!(altered.expect("it is a store") > 0);
    drop(store);
    clinic.daemon.start(&clinic.lab.router);
    let finding = clinic.finding("clock");
    assert_eq!(finding["severity"], "warning");
    assert!(
        text(&finding, "what").starts_with("the clock is 86"),
        "{finding}"
    );
}

#[test]
fn a_bus_that_is_not_there_or_lacks_somebody() {
    let clinic = Clinic::new();
    clinic.finding("bus-absent");
    clinic.lacks("polkit-absent");
    clinic.lacks("not-on-bus");
    let on = |bus: &PrivateBus| clinic.with_variable("DBUS_SYSTEM_BUS_ADDRESS", &bus.address());

    let bus = PrivateBus::start();
    let output = on(&bus);
    assert_eq!(findings(&output, "bus-absent").len(), 0);
    only(&output, "polkit-absent");
    assert_eq!(output.status.code(), Some(1));

    let bus = PrivateBus::start_with_real_polkit();
    let _polkit = Polkit::start(&bus.address());
    eventually("polkit answers", || {
        findings(&on(&bus), "polkit-absent").is_empty()
    });
    let output = on(&bus);
    let finding = only(&output, "not-on-bus");
    assert_eq!(finding["severity"], "note");
    assert_eq!(output.status.code(), Some(0), "{:#}", report(&output));
}

#[test]
fn a_kernel_that_lacks_something() {
    let clinic = Clinic::new();
    clinic.lacks("old-kernel");
    for (hidden, lacks) in [
        (
            "table-owner",
            "this kernel lacks tables that only their owner may alter (Linux 6.9)",
        ),
        (
            "conntrack-filter",
            "this kernel lacks deleting flows by a filter",
        ),
    ] {
        let output = clinic.with_variable("IPFLOATER_HIDE_FEATURES", hidden);
        assert_eq!(text(&only(&output, "old-kernel"), "what"), lacks);
    }
}

/// Of the sockets that it opens one after the other is refused as a kernel without
/// nf_tables refuses that of nf_tables.
#[test]
fn a_kernel_without_nf_tables() {
    let clinic = Clinic::new();
    clinic.lacks("no-nftables");
    let is_found = |number: u32| {
        let under = format!(
            "strace -f -qq -o /dev/null -e inject=socket:error=EPROTONOSUPPORT:when={number}"
        );
        let mut command = clinic.command(&under, "--json");
        let output = clinic
            .lab
            .router
            .run(|| command.output().expect("strace is here"));
        !findings(&output, "no-nftables").is_empty()
    };
    assert!((1..30).any(is_found));
}

#[test]
fn tables_of_legacy_iptables() {
    let clinic = Clinic::new();
    let finding = clinic.ail("iptables-legacy", |lab| {
        lab.router.program("iptables-legacy -t nat -L");
    });
    assert_eq!(
        text(&finding, "what"),
        "there are tables of iptables-legacy (nat)"
    );
    let saved = clinic.shell(text(&finding, "remedy"));
    assert!(saved.contains("*nat"), "{saved}");
}

/// As after a boot that brought saved rules and addresses back: they lead somewhere
/// what the daemon gave to nobody.
#[test]
fn what_the_original_left() {
    let start = Start {
        configuration: "BLOCK_PUBLIC_IPS = no",
        ..Start::PLAIN
    };
    let clinic = Clinic::with(Plan::default(), start);
    clinic.lacks("original-left");
    let saved = "*nat
:ipfloater-PREROUTING - [0:0]
:ipfl-rule-ab12ef-PREROUTING - [0:0]
-A PREROUTING -j ipfloater-PREROUTING
-A ipfloater-PREROUTING -j ipfl-rule-ab12ef-PREROUTING
-A ipfl-rule-ab12ef-PREROUTING -d 198.51.100.12/32 -j DNAT --to-destination 10.0.1.11
COMMIT
";
    let router = &clinic.lab.router;
    let restored = router.try_program("iptables-nft-restore --noflush", saved);
    restored.unwrap_or_else(|error| panic!("{error}"));
    router.ip("address add 198.51.100.12/32 dev wan0");
    let ask = || clinic.lab.far.ask_briefly(Udp, floating(Family::V4, 12));
    assert!(ask().is_ok(), "the chain leads to a host");

    let found = clinic.finding("original-left");
    let expected = "the original IP Floater left ipfl-rule-ab12ef-*, ipfloater-PREROUTING, \
                    198.51.100.12 on wan0";
    assert_eq!(text(&found, "what"), expected);
    let remedy = text(&found, "remedy");
    let order = remedy.strip_prefix("ipfloater ").expect("it is ours");
    router.run(|| clinic.daemon.order(order));
    clinic.lacks("original-left");
    assert!(ask().is_err(), "nobody has it");
    clinic.passes(Family::V4);
}
