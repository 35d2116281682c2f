//! The daemon, its addresses, and what a user may.

use std::io::Write;

use ipfloater::model::Family;
use tempfile::NamedTempFile;

use super::super::daemon::Start;
use super::super::lab::{Lab, Plan, floating};
use super::super::namespace::eventually;
use super::super::talk::Udp;
use super::super::talk::saw;
use super::{Clinic, findings, only, report, text};

/// A script that does something before it runs a program.
pub(super) fn script(text: &str) -> NamedTempFile {
    let mut script = NamedTempFile::new().expect("there is a directory for temporary files");
    script.write_all(text.as_bytes()).expect("it is ours");
    script
}

#[test]
fn a_daemon_that_is_not_there() {
    let mut clinic = Clinic::new();
    clinic.lacks("daemon-unreachable");
    clinic.daemon.stop();
    let finding = clinic.finding("daemon-unreachable");
    assert_eq!(text(&finding, "remedy"), "systemctl start ipfloaterd");
    for arguments in ["", "--json", "198.51.100.10"] {
        assert_eq!(clinic.run(arguments).status.code(), Some(3));
    }
    // What can be seen without it is.
    clinic.lab.router.nft(
        "table inet fw { chain forward { type filter hook forward priority 0; policy drop; }; }",
    );
    clinic.lab.router.sysctl("net.ipv4.ip_forward=0");
    clinic.finding("forwarding-off");
    assert_eq!(clinic.all("forward-drop").len(), 2);
    clinic.passes_after_start();
}

impl Clinic {
    fn passes_after_start(mut self) {
        for id in ["forwarding-off", "forward-drop"] {
            for found in self.all(id) {
                self.shell(text(&found, "remedy"));
            }
        }
        self.daemon.start(&self.lab.router);
        for found in self.all("forward-drop") {
            self.shell(text(&found, "remedy"));
        }
        self.passes(Family::V4);
    }
}

#[test]
fn a_configuration_that_is_not_there() {
    let mut clinic = Clinic::new();
    clinic.daemon.stop();
    for (made, is_found) in [
        ("", true),
        ("touch /etc/ipfloaterd.conf", false),
        (
            "mkdir /etc/ipfloaterd.conf.d; touch /etc/ipfloaterd.conf.d/a.conf",
            false,
        ),
    ] {
        let script = script(&format!("mount -t tmpfs none /etc\n{made}\nexec \"$@\""));
        let under = format!("unshare --mount sh -e {}", script.path().display());
        let mut command = clinic.command(&under, "--json");
        let output = command.output().expect("it was built");
        let found = findings(&output, "no-configuration");
        assert_eq!(found.len(), usize::from(is_found), "{made}: {output:?}");
    }
}

#[test]
fn a_configuration_with_which_it_does_not_start() {
    let mut clinic = Clinic::new();
    clinic.daemon.stop();
    for (written, said) in [
        ("[IPFLOATER]\nIP_POOOL = 198.51.100.10\n", "line 2"),
        ("[IPFLOATER]\nIP_POOL = 198.51.100.2\n", "198.51.100.2"),
        ("[IPFLOATER]\nIP_POOL = 198.51.100.10\n", ""),
    ] {
        let script = script(&format!(
            "mount -t tmpfs none /etc\ncat >/etc/ipfloaterd.conf <<END\n{written}END\nexec \"$@\""
        ));
        let under = format!("unshare --mount sh -e {}", script.path().display());
        let mut command = clinic.command(&under, "--json");
        let router = &clinic.lab.router;
        let output = router.run(|| command.output().expect("it was built"));
        let found = findings(&output, "configuration-invalid");
        assert_eq!(
            found.len(),
            usize::from(!said.is_empty()),
            "{written}: {output:?}"
        );
        for found in found {
            assert!(text(&found, "what").contains(said), "{found}");
        }
    }
}

#[test]
fn a_daemon_on_a_kernel_in_memory() {
    let script = script("exec \"$@\" --simulate");
    let under: &'static str = format!("sh {}", script.path().display()).leak();
    let start = Start {
        under,
        user: "root",
        ..Start::PLAIN
    };
    let clinic = Clinic::with(Plan::default(), start);
    let finding = clinic.finding("simulated");
    assert_eq!(finding["severity"], "error");
    Clinic::new().lacks("simulated");
}

#[test]
fn another_network_namespace_than_the_daemon_s() {
    let clinic = Clinic::new();
    clinic.lacks("table-missing");
    let mut command = clinic.command("", "--json");
    let output = clinic
        .lab
        .host_b
        .run(|| command.output().expect("it was built"));
    only(&output, "table-missing");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn an_address_that_another_machine_has() {
    let start = Start {
        configuration: "PROBE = yes",
        ..Start::PLAIN
    };
    let clinic = Clinic::with(Plan::default(), start);
    clinic.lacks("address-elsewhere");
    let rival = clinic.lab.rival();
    rival.ip("address add 198.51.100.12/32 dev eth0");
    clinic.daemon.order("associate 198.51.100.12 10.0.1.12");
    for arguments in ["--json", "--json 198.51.100.12"] {
        let finding = only(&clinic.run(arguments), "address-elsewhere");
        assert_eq!(finding["address"], "198.51.100.12");
        assert!(text(&finding, "what").starts_with("another machine has 198.51.100.12: "));
    }
    // It has nothing to do with another address.
    let output = clinic.run("--json 198.51.100.10");
    assert_eq!(findings(&output, "address-elsewhere").len(), 0);
    rival.ip("address delete 198.51.100.12/32 dev eth0");
    clinic
        .daemon
        .order("associate 198.51.100.12 10.0.1.12 --reassociate");
    eventually("it is taken", || clinic.all("address-elsewhere").is_empty());
    let Lab { far, host_b, .. } = &clinic.lab;
    assert_eq!(
        far.ask(Udp, floating(Family::V4, 12)),
        saw(host_b, far.v4.into())
    );
}

/// It came later, or nobody asked before the address was taken, and it says nothing
/// until it is asked.
#[test]
fn an_address_that_another_machine_has_in_silence() {
    let clinic = Clinic::new();
    let rival = clinic.lab.rival();
    for (address, family) in [("198.51.100.10", Family::V4), ("2001:db8::11", Family::V6)] {
        clinic.lacks("address-elsewhere");
        let bits = if family == Family::V4 { 32 } else { 128 };
        rival.ip(&format!("address add {address}/{bits} dev eth0 nodad"));
        for arguments in ["--json".to_owned(), format!("--json {address}")] {
            let finding = only(&clinic.run(&arguments), "address-elsewhere");
            assert_eq!(finding["address"], address);
            let what = format!("another machine has {address}: ");
            assert!(text(&finding, "what").starts_with(&what), "{finding}");
        }
        rival.ip(&format!("address delete {address}/{bits} dev eth0"));
        eventually("nobody has it", || {
            clinic.all("address-elsewhere").is_empty()
        });
    }
}

#[test]
fn an_address_without_a_host() {
    let clinic = Clinic::new();
    let free = clinic.run("--json 198.51.100.12");
    let finding = only(&free, "not-associated");
    let remedy = "ipfloater associate 198.51.100.12 FIXED";
    assert_eq!(text(&finding, "remedy"), remedy);
    assert_eq!(free.status.code(), Some(1));
    clinic.daemon.order("associate 198.51.100.12 10.0.1.12");
    let output = clinic.run("--json 198.51.100.12");
    assert_eq!(findings(&output, "not-associated").len(), 0);
    clinic.daemon.order("allocate 198.51.100.13");
    only(&clinic.run("--json 198.51.100.13"), "not-associated");
    clinic.daemon.order("forward 198.51.100.13:80 10.0.1.12:7");
    let output = clinic.run("--json 198.51.100.13");
    assert_eq!(findings(&output, "not-associated").len(), 0);
    // Of all addresses most are free.
    clinic.lacks("not-associated");
}

#[test]
fn an_address_that_is_not_for_everybody() {
    let clinic = Clinic::new();
    let output = || clinic.run("--json 198.51.100.10");
    assert_eq!(findings(&output(), "sources-limited").len(), 0);
    clinic
        .daemon
        .order("set 198.51.100.10 --allow 192.0.2.0/24");
    clinic.is_closed(Family::V4);
    let finding = only(&output(), "sources-limited");
    assert_eq!(
        text(&finding, "what"),
        "only 192.0.2.0/24 may reach 198.51.100.10"
    );
    assert_eq!(text(&finding, "remedy"), "ipfloater show 198.51.100.10");
    clinic.daemon.order("set 198.51.100.10 --allow-all");
    assert_eq!(findings(&output(), "sources-limited").len(), 0);
}

#[test]
fn an_address_that_is_refused() {
    let clinic = Clinic::new();
    for (address, code, said) in [("192.0.2.1", 5, "192.0.2.1"), ("nonsense", 2, "nonsense")] {
        let output = clinic.run(address);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(said), "{stderr}");
    }
}

#[test]
fn what_the_daemon_says_of_itself() {
    let clinic = Clinic::new();
    clinic.lacks("daemon-problem");
    clinic.lacks("daemon-warning");
    // There is no such bus.
    let start = Start {
        bus: Some("unix:path=/nonexistent"),
        configuration: "[POOL empty]",
        ..Start::PLAIN
    };
    let clinic = Clinic::with(Plan::default(), start);
    eventually("it noticed", || !clinic.all("daemon-problem").is_empty());
    let problem = clinic.finding("daemon-problem");
    assert!(text(&problem, "what").starts_with("the system bus cannot be reached"));
    let warning = clinic.finding("daemon-warning");
    assert_eq!(warning["severity"], "note");
    assert!(text(&warning, "what").starts_with("pool empty has no address"));
}

#[test]
fn somebody_who_may_do_nothing() {
    let clinic = Clinic::new();
    clinic.lacks("not-permitted");
    clinic.lacks("not-looked-at");
    let mut command = clinic.command(
        "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all",
        "--json",
    );
    let output = clinic
        .lab
        .router
        .run(|| command.output().expect("it was built"));
    only(&output, "not-permitted");
    let unseen = findings(&output, "not-looked-at");
    let unseen: Vec<_> = unseen.iter().map(|found| text(found, "what")).collect();
    assert!(unseen[0].starts_with("tables of "), "{unseen:?}");
    assert!(unseen[1].starts_with("tables of "), "{unseen:?}");
    // What anybody may see is seen.
    clinic.lab.router.sysctl("net.ipv4.ip_forward=0");
    let output = clinic
        .lab
        .router
        .run(|| command.output().expect("it was built"));
    only(&output, "forwarding-off");
}

#[test]
fn what_people_read() {
    let clinic = Clinic::new();
    clinic.lab.router.sysctl("net.ipv6.conf.all.forwarding=0");
    let output = clinic.run("");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout);
    let finding = "error: forwarding-off: IPv6 forwarding is off: net.ipv6.conf.all.forwarding is 0\n    \
                   without it the router passes nothing on\n    \
                   # sysctl -w net.ipv6.conf.all.forwarding=1\n";
    assert!(said.starts_with(finding), "{said}");
    assert!(said.ends_with("1 error, 1 warning, 0 notes\n"), "{said}");
    let json = report(&clinic.run("--json"));
    assert_eq!(
        [&json["errors"], &json["warnings"], &json["notes"]],
        [1, 1, 0]
    );
}
