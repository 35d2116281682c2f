//! `ipfloater import`: what the original IP Floater had goes on, and what it left
//! is gone.

use std::path::PathBuf;
use std::process::{Command, Output};

use ipfloater::model::Family;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::daemon::{Daemon, Start};
use super::json::hold;
use super::lab::{Lab, floating};
use super::nobody::NOBODY;
use super::original::{Backend, ROWS, addresses, id_of, is_the_originals, leave};
use super::talk::{Tcp, Transport, Udp, saw};

/// A daemon that lets the original go on beside it: it does not close what it has
/// given to nobody yet, and answers for an address as soon as the router does not.
const BESIDE: Start = Start {
    configuration: "BLOCK_PUBLIC_IPS = no\nPROBE = no",
    ..Start::PLAIN
};

/// The same, but for asking the neighbours first.
const ASKS: Start = Start {
    configuration: "BLOCK_PUBLIC_IPS = no\nPROBE = yes",
    ..Start::PLAIN
};

impl Daemon {
    /// Writes a database of the original with these rows.
    fn original(&self, rows: &str) -> PathBuf {
        let path = self.directory().join("original.db");
        let _ = std::fs::remove_file(&path);
        let database = Connection::open(&path).expect("a file can be written");
        database
            .execute_batch(&format!(
                "CREATE TABLE endpoint (id, public_ip, public_port, private_ip, private_port, timestamp);
                 INSERT INTO endpoint VALUES {rows}"
            ))
            .expect("it is SQL");
        path
    }

    /// `ipfloater import` in the router.
    fn import(&self, lab: &Lab, options: &str) -> Output {
        let path = self.directory().join("original.db");
        let line = format!("import --database {} {options}", path.display());
        lab.router.run(|| self.ipfloater(&line))
    }

    /// An import that must succeed, and what it printed.
    fn imported(&self, lab: &Lab, options: &str) -> String {
        let output = self.import(lab, options);
        let (code, said) = said(&output);
        assert_eq!(code, Some(0), "{said}");
        said
    }
}

fn said(output: &Output) -> (Option<i32>, String) {
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    (output.status.code(), said.concat())
}

/// What there is that an import could alter.
fn all(lab: &Lab, daemon: &Daemon) -> (Vec<String>, Vec<String>, Vec<String>, Value) {
    (
        Backend::Nft.rules(lab),
        Backend::Legacy.rules(lab),
        addresses(lab),
        daemon.json("list"),
    )
}

fn assert_reached(lab: &Lab, what: &str) {
    let (whole, port) = (floating(Family::V4, 10), floating(Family::V4, 11));
    let far = lab.far.address(Family::V4);
    for transport in Transport::BOTH {
        let answer = lab.far.ask(transport, whole);
        assert_eq!(answer, saw(&lab.host_a, far), "{what}");
    }
    let answer = lab.far.ask_port(Tcp, port, 8080);
    assert_eq!(answer, saw(&lab.host_b, far), "{what}");
}

/// From the running original to this program, with flows that notice nothing.
fn takes_over(backend: Backend) {
    let lab = Lab::new();
    if !backend.is_there(&lab) {
        return;
    }
    leave(&lab, backend);
    assert_reached(&lab, "the original");
    let others = backend.others(&lab);
    let (whole, port) = (floating(Family::V4, 10), floating(Family::V4, 11));
    let flows = [
        lab.far.converse(Udp, whole),
        lab.far.converse(Tcp, whole),
        lab.far.converse_port(Tcp, port, 8080),
        lab.host_a.converse(Tcp, lab.far.address(Family::V4)),
    ]
    .map(|flow| {
        let mut flow = flow.expect("the original lets it through");
        let answer = flow.say();
        let id = id_of(&lab, flow.local());
        assert!(id.is_some(), "conntrack knows it");
        (flow.local(), id, answer, flow.keep_talking())
    });

    let mut daemon = lab.start_with(BESIDE);
    let database = daemon.original(ROWS);
    assert_reached(&lab, "both run");
    let before = all(&lab, &daemon);
    let told = daemon.imported(&lab, "");
    for line in [
        &format!("In {}:", database.display()),
        "take over 198.51.100.10 -> 10.0.1.11",
        "take over 198.51.100.11:8080 -> 10.0.1.12:7",
        "take 198.51.100.10 off wan0",
        "take 198.51.100.12 off wan0",
        &format!(
            "Nothing was done. `ipfloater import --database {} --apply` does it.",
            database.display()
        ),
    ] {
        assert!(told.contains(line), "no {line:?} in {told}");
    }
    for other in ["mine", "198.51.100.40", "198.51.100.14", "198.51.100.15"] {
        assert!(!told.contains(other), "{other} in {told}");
    }
    assert_eq!(all(&lab, &daemon), before, "it only looked");

    let told = daemon.imported(&lab, "--apply");
    assert!(told.contains("2 redirections taken over"), "{told}");
    assert!(told.contains("3 addresses removed"), "{told}");
    assert!(told.contains("11 chains"), "{told}");
    assert_eq!(backend.rules(&lab), others, "the rules of others stay");
    let counted = lab.router.program(&format!("{}-save -c", backend.name()));
    assert!(counted.contains("[5:300] -A mine -j RETURN"), "{counted}");
    assert_eq!(
        addresses(&lab),
        [
            "lo 127.0.0.1/8",
            "wan0 198.51.100.2/24",
            "wan0 198.51.100.40/32",
            "wan0 198.51.100.14/24",
            "lan0 10.0.1.1/24",
            "lan1 10.0.2.1/24",
            "lan1 198.51.100.15/32",
        ],
    );
    let router = lab
        .outside
        .hardware_address_of(lab.router.address(Family::V4));
    assert!(router.is_some(), "the router answers");
    for floating in [whole, port] {
        assert_eq!(lab.outside.hardware_address_of(floating), router);
    }
    assert_reached(&lab, "this program");
    let outside = lab.outside.address(Family::V4);
    assert_eq!(lab.host_a.ask(Tcp, outside), saw(&lab.outside, whole));
    for (number, (local, id, answer, flow)) in flows.into_iter().enumerate() {
        let what = format!("{backend:?}: flow {number}");
        flow.wait_for_more(20);
        assert_eq!(id_of(&lab, local), id, "{what} is another by now");
        flow.end().assert_whole(&answer, &what);
    }

    let before = all(&lab, &daemon);
    let told = daemon.imported(&lab, "--apply");
    for line in [
        "there already: 198.51.100.10 -> 10.0.1.11",
        "there already: 198.51.100.11:8080 -> 10.0.1.12:7",
        "In the kernel, of the original:\n  nothing\n",
        "Done: 0 redirections taken over, 0 chains and 0 addresses removed.",
    ] {
        assert!(told.contains(line), "no {line:?} in {told}");
    }
    assert_eq!(all(&lab, &daemon), before, "once more is harmless");
    let told = daemon.imported(&lab, "--dry-run");
    assert!(told.ends_with("There is nothing to do.\n"), "{told}");
    assert_eq!(daemon.repairs(), 0, "nothing of ours was touched");

    daemon.configure("");
    daemon.order("reload");
    assert_reached(&lab, "what is given to nobody is closed");
}

#[test]
fn what_the_original_had_with_iptables_nft_goes_on_and_what_it_left_goes() {
    takes_over(Backend::Nft);
}

#[test]
fn what_the_original_had_with_iptables_legacy_goes_on_and_what_it_left_goes() {
    takes_over(Backend::Legacy);
}

#[test]
fn one_row_that_cannot_be_refuses_all_unless_it_is_left_out() {
    let lab = Lab::new();
    leave(&lab, Backend::Nft);
    let daemon = lab.start_with(BESIDE);
    // Of no pool, no host of ours, a port to a whole address, no address, a name
    // that would write on the terminal, two for one address, two for one host.
    daemon.original(&format!(
        "{ROWS},
        ('000001', '192.0.2.99', 0, '10.0.1.12', 0, 1),
        ('000002', '198.51.100.16', 0, '10.9.9.9', 0, 1),
        ('000003', '198.51.100.17', 22, '10.0.1.12', 0, 1),
        ('000004', NULL, 0, 10.5, 0, 1),
        ('000005', 'a' || char(27) || '[2J', 0, '10.0.1.12', 0, 1),
        ('000006', '198.51.100.10', 0, '10.0.1.12', 0, 1),
        ('000007', '198.51.100.18', 0, '10.0.1.11', 0, 1),
        ('000008', '198.51.100.11', 8081, '10.0.1.12', 65536, 1)"
    ));
    let before = all(&lab, &daemon);
    for options in ["", "--apply"] {
        let (code, told) = said(&daemon.import(&lab, options));
        assert_eq!(code, Some(1), "{told}");
        for line in [
            "192.0.2.99 -> 10.0.1.12: 192.0.2.99 is in no pool",
            "198.51.100.16 -> 10.9.9.9: 10.9.9.9",
            "\"198.51.100.17\":22 -> \"10.0.1.12\":0: it leads a port to a whole address",
            "NULL:0 -> 10.5:0: public_ip cannot be used: it is not an IPv4 address",
            "\"a\\u{1b}[2J\":0 -> \"10.0.1.12\":0: public_ip cannot be used",
            "198.51.100.10 -> 10.0.1.12: what is in force instead is 198.51.100.10 -> 10.0.1.11",
            "198.51.100.18 -> 10.0.1.11: what is in force instead is 198.51.100.10 -> 10.0.1.11",
            "\"198.51.100.11\":8081 -> \"10.0.1.12\":65536: private_port is no port",
            "8 of 10 redirections cannot be taken over, so nothing was done",
            "--skip-bad",
        ] {
            assert!(told.contains(line), "no {line:?} in {told}");
        }
        assert_eq!(all(&lab, &daemon), before, "{options}");
    }
    assert_reached(&lab, "the original");
    let output = daemon.import(&lab, "--apply --json");
    assert_eq!(output.status.code(), Some(1));
    let told = hold(
        "import",
        &String::from_utf8_lossy(&output.stdout),
        "verb-import",
    );
    assert_eq!(told["error"]["name"], "NotTakenOver", "{told}");
    assert_eq!(told["error"]["exit_code"], 1, "{told}");

    let printed = daemon.imported(&lab, "--skip-bad --json");
    let told = hold("import", &printed, "verb-import");
    assert_eq!(told["applied"], false, "{told}");
    assert_eq!(all(&lab, &daemon), before, "it only looked");
    let printed = daemon.imported(&lab, "--skip-bad --apply --json");
    let told = hold("import", &printed, "verb-import");
    assert_eq!(told["applied"], true, "{told}");
    assert_eq!(told["rules"], 5, "{told}");
    assert_eq!(
        told["addresses"],
        json!([
            {"address": "198.51.100.10", "interface": "wan0"},
            {"address": "198.51.100.11", "interface": "wan0"},
            {"address": "198.51.100.12", "interface": "wan0"},
        ])
    );
    let with_fate = |fate: &str| {
        let findings = told["redirections"].as_array().expect("it is a list");
        findings.iter().filter(|row| row["fate"] == fate).count()
    };
    assert_eq!((with_fate("new"), with_fate("bad")), (2, 8), "{told}");
    assert_eq!(daemon.json("status")["allocated"], 2);
    assert_reached(&lab, "this program");
    assert!(
        !Backend::Nft
            .rules(&lab)
            .iter()
            .any(|rule| is_the_originals(rule))
    );
}

#[test]
fn nothing_is_cleared_before_all_is_in_force() {
    let lab = Lab::new();
    leave(&lab, Backend::Nft);
    let rival = lab.rival();
    rival.ip("address add 198.51.100.10/32 dev eth0");
    // What the router has already, nobody is asked about.
    lab.router.ip("address delete 198.51.100.10/32 dev wan0");
    let daemon = lab.start_with(ASKS);
    daemon.original(ROWS);
    let (rules, had) = (Backend::Nft.rules(&lab), addresses(&lab));
    let (code, told) = said(&daemon.import(&lab, "--apply"));
    assert_eq!(code, Some(1), "{told}");
    let why = "nothing was cleared, because 198.51.100.10 is not in force";
    assert!(told.contains(why), "{told}");
    assert_eq!(Backend::Nft.rules(&lab), rules);
    assert_eq!(addresses(&lab), had);

    rival.ip("address delete 198.51.100.10/32 dev eth0");
    daemon.order("associate 198.51.100.10 10.0.1.11");
    super::namespace::eventually("it is asked again", || {
        daemon.state(floating(Family::V4, 10)) == "active"
    });
    let told = daemon.imported(&lab, "--apply");
    assert!(told.contains("2 addresses removed"), "{told}");
    // The neighbours were asked about this one when the router had it no more.
    assert_eq!(daemon.state(floating(Family::V4, 11)), "active");
    assert_reached(&lab, "this program");
}

#[test]
fn what_is_no_database_of_the_original_is_refused() {
    let lab = Lab::new();
    let daemon = lab.start();
    leave(&lab, Backend::Nft);
    let file = |name: &str, content: &[u8]| {
        let path = daemon.directory().join(name);
        std::fs::write(&path, content).expect("a file can be written");
        path
    };
    let empty = file("empty.db", b"");
    let text = file(
        "text.db",
        b"This is not a database, and it is long enough to tell.\n",
    );
    let store = daemon.directory().join("state/ipfloater.db");
    let none = daemon.directory().join("none.db");
    let directory = daemon.directory();
    let before = all(&lab, &daemon);
    for (path, why) in [
        (&empty, "has no table endpoint"),
        (&text, "is not a database"),
        (&store, "is the store of ipfloaterd"),
        (&none, "No such file"),
        (&directory, "is not a file"),
    ] {
        let line = format!("import --apply --database {}", path.display());
        let (code, told) = said(&lab.router.run(|| daemon.ipfloater(&line)));
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains(why), "no {why:?} in {told}");
        assert!(told.contains(&path.display().to_string()), "{told}");
    }
    assert_eq!(all(&lab, &daemon), before);

    // Who had none, or has lost it.
    let told = lab
        .router
        .run(|| daemon.order("import --apply --clear-only"));
    assert!(told.contains("0 redirections taken over"), "{told}");
    assert!(
        !Backend::Nft
            .rules(&lab)
            .iter()
            .any(|rule| is_the_originals(rule))
    );
}

#[test]
fn the_configuration_tells_where_the_database_is() {
    let lab = Lab::new();
    let daemon = lab.start();
    let database = daemon.original(ROWS);
    let file = daemon.directory().join("original.conf");
    let import = |line: &str| {
        std::fs::write(&file, format!("[IPFLOATER]\n{line}\n")).expect("a file can be written");
        let line = format!("import --config {}", file.display());
        said(&lab.router.run(|| daemon.ipfloater(&line)))
    };
    let (code, told) = import(&format!("DB = sqlite://{}", database.display()));
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains("take over 198.51.100.10 -> 10.0.1.11"),
        "{told}"
    );
    // What is in the usual place may be an old one.
    let (code, told) = import("DB = sqlite:///nowhere/floater.db");
    assert_eq!(code, Some(5), "{told}");
    let line = "there is no /nowhere/floater.db, where the database of the original should be";
    assert!(told.contains(line) && told.contains("--database"), "{told}");
    let (code, told) = import("DB = sqlite://floater.db");
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("no whole path"), "{told}");
    let line = format!("import --database sqlite://{}", database.display());
    let (code, told) = said(&lab.router.run(|| daemon.ipfloater(&line)));
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = import("DB = mysql://user@host/floaters");
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("names no file of SQLite"), "{told}");
    assert!(daemon.json("list")["addresses"] == json!([]));
}

#[test]
fn only_root_takes_over() {
    let lab = Lab::new();
    let daemon = lab.start();
    let socket = daemon.directory().join("run/org.ipfloater");
    let told = lab.router.try_program(
        &format!(
            "setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups {} --socket {} import",
            env!("CARGO_BIN_EXE_ipfloater"),
            socket.display()
        ),
        "",
    );
    let error = told.expect_err("a user may not");
    assert!(error.contains("takes root"), "{error}");
    assert!(error.contains("exit status: 4"), "{error}");
}

#[test]
fn the_original_has_to_end_before() {
    let lab = Lab::new();
    leave(&lab, Backend::Nft);
    let daemon = lab.start_with(BESIDE);
    daemon.original(ROWS);
    let before = all(&lab, &daemon);
    let original = || {
        // setpriv(1) takes it along when the tests are killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "python3"]);
        // As a script that is called ipfloaterdaemon.
        let script = daemon.directory().join("ipfloaterdaemon");
        std::fs::write(&script, "import time; time.sleep(600)").expect("a file can be written");
        command.arg(script);
        command
    };
    // One in another network namespace is another router's.
    let mut elsewhere = lab.host_a.start(original());
    assert!(!daemon.imported(&lab, "").contains("still runs"));
    let mut here = lab.router.start(original());
    let process = format!("process {}", here.id());
    super::namespace::eventually("python has begun", || {
        daemon.imported(&lab, "").contains(&process)
    });
    let (code, told) = said(&daemon.import(&lab, "--apply"));
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("`kill -KILL"), "{told}");
    assert_eq!(all(&lab, &daemon), before);

    here.kill().expect("it is ours");
    here.wait().expect("it was started");
    let told = daemon.imported(&lab, "--apply");
    assert!(told.contains("2 redirections taken over"), "{told}");
    elsewhere.kill().expect("it is ours");
    elsewhere.wait().expect("it was started");
}

#[test]
fn what_would_not_come_into_force_is_not_taken_over_at_all() {
    let lab = Lab::new();
    leave(&lab, Backend::Nft);
    // Which is the outside interface nobody can tell then.
    lab.router.ip("route delete default via 198.51.100.1
         route delete default via 2001:db8::1
         route add 203.0.113.0/24 via 198.51.100.1");
    let daemon = lab.start_with(BESIDE);
    daemon.original(ROWS);
    let before = all(&lab, &daemon);
    let told = daemon.imported(&lab, "");
    for line in [
        "take over 198.51.100.10 -> 10.0.1.11; it waits, because no default route",
        "--apply` would not do it either: 198.51.100.10 would not come into force: no default route",
    ] {
        assert!(told.contains(line), "no {line:?} in {told}");
    }
    let (code, told) = said(&daemon.import(&lab, "--apply"));
    assert_eq!(code, Some(1), "{told}");
    let why = "nothing was done, because 198.51.100.10 would not come into force: no default route";
    assert!(told.contains(why), "{told}");
    assert_eq!(all(&lab, &daemon), before);
}

#[test]
fn a_redirection_that_is_in_no_row_is_not_cut() {
    let lab = Lab::new();
    leave(&lab, Backend::Nft);
    let daemon = lab.start_with(BESIDE);
    daemon.original(ROWS);
    let database = Connection::open(daemon.directory().join("original.db"));
    let database = database.expect("it was made");
    let sql = |sql: &str| {
        let done = database.execute_batch(sql);
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    };
    let before = all(&lab, &daemon);
    for (alteration, ids) in [
        ("DELETE FROM endpoint WHERE id = 'cd34aa'", vec!["cd34aa"]),
        ("DELETE FROM endpoint", vec!["ab12ef", "cd34aa"]),
    ] {
        sql(alteration);
        for options in ["", "--apply"] {
            let (code, told) = said(&daemon.import(&lab, options));
            assert_eq!(code, Some(1), "{told}");
            for id in &ids {
                let line = format!(
                    "cannot be taken over: ipfl-rule-{id}: these chains redirect, and no row of \
                     the database is theirs; `iptables-nft-save -t nat | grep ipfl-rule-{id}`"
                );
                assert!(told.contains(&line), "no {line:?} in {told}");
            }
            assert!(told.contains("nothing was done"), "{told}");
            assert_eq!(all(&lab, &daemon), before, "{alteration}");
        }
    }
    assert_reached(&lab, "the original");

    // Of two rows for one address the one whose chains are there is the one.
    sql("INSERT INTO endpoint VALUES
        ('000001', '198.51.100.10', 0, '10.0.1.12', 0, 1),
        ('ab12ef', '198.51.100.10', 0, '10.0.1.11', 0, 1),
        ('cd34aa', '198.51.100.11', 8080, '10.0.1.12', 7, 1)");
    let told = daemon.imported(&lab, "--apply --skip-bad");
    let line = "left out: 198.51.100.10 -> 10.0.1.12: what is in force instead is 198.51.100.10 -> 10.0.1.11";
    assert!(told.contains(line), "{told}");
    assert_reached(&lab, "this program");
}

#[test]
fn what_is_in_force_and_in_no_row_goes_when_that_is_said() {
    let lab = Lab::new();
    leave(&lab, Backend::Nft);
    let daemon = lab.start_with(BESIDE);
    daemon.original("(1, '198.51.100.10', 0, '10.0.1.11', 0, 1)");
    let told = daemon.imported(&lab, "--apply --skip-bad");
    assert!(told.contains("left out: ipfl-rule-cd34aa"), "{told}");
    let rules = Backend::Nft.rules(&lab);
    assert!(
        !rules.iter().any(|rule| is_the_originals(rule)),
        "{rules:?}"
    );
}

#[test]
fn chains_of_an_older_release_go_as_well() {
    let lab = Lab::new();
    let old = "*nat
:rule-ab12ef34-PREROUTING - [0:0]
:rule-ab12ef34-OUTPUT - [0:0]
:rule-ab12ef34-POSTROUTING - [0:0]
:rule-00000000-OUTPUT - [0:0]
-A PREROUTING -j rule-ab12ef34-PREROUTING
-A OUTPUT -j rule-ab12ef34-OUTPUT
-A POSTROUTING -j rule-ab12ef34-POSTROUTING
-A rule-ab12ef34-PREROUTING -d 198.51.100.10/32 -j DNAT --to-destination 10.0.1.11
-A rule-ab12ef34-OUTPUT -d 198.51.100.10/32 -j DNAT --to-destination 10.0.1.11
-A rule-ab12ef34-POSTROUTING -s 10.0.1.11/32 -j SNAT --to-source 198.51.100.10
COMMIT
";
    for backend in [Backend::Nft, Backend::Legacy] {
        if backend.is_there(&lab) {
            let restore = format!("{}-restore --noflush", backend.name());
            let restored = lab.router.try_program(&restore, old);
            restored.unwrap_or_else(|error| panic!("{error}"));
        }
    }
    let daemon = lab.start_with(BESIDE);
    daemon.original("('ab12ef34', '198.51.100.10', 0, '10.0.1.12', 0, 1)");
    daemon.imported(&lab, "--apply");
    // As the database has it, and not any more as the chains had it.
    let far = lab.far.address(Family::V4);
    let answer = lab.far.ask(Tcp, floating(Family::V4, 10));
    assert_eq!(answer, saw(&lab.host_b, far));
    for backend in [Backend::Nft, Backend::Legacy] {
        if backend.is_there(&lab) {
            let rules = backend.rules(&lab).concat();
            assert!(!rules.contains("rule-ab12ef34"), "{rules}");
            assert!(rules.contains("rule-00000000-OUTPUT"), "{rules}");
        }
    }
}

#[test]
fn no_route_goes_with_an_address() {
    let lab = Lab::new();
    leave(&lab, Backend::Nft);
    // As some have made a router begin as an address of the pool.
    lab.router
        .ip("route replace default via 198.51.100.1 src 198.51.100.10
         route add 203.0.113.0/24 via 198.51.100.1 src 198.51.100.11 table 77 metric 9");
    let daemon = lab.start_with(BESIDE);
    daemon.original(ROWS);
    let before = all(&lab, &daemon);
    for (route, source) in [
        ("default via 198.51.100.1 dev wan0", "198.51.100.10"),
        (
            "203.0.113.0/24 via 198.51.100.1 dev wan0 metric 9 table 77",
            "198.51.100.11",
        ),
    ] {
        let told = daemon.imported(&lab, "");
        let line = format!("with {source} the route {route} would go");
        assert!(told.contains(&line), "no {line:?} in {told}");
        let (code, told) = said(&daemon.import(&lab, "--apply"));
        assert_eq!(code, Some(1), "{told}");
        let remedy = format!("`ip route replace {route}`");
        assert!(told.contains(&remedy), "no {remedy:?} in {told}");
        assert_eq!(all(&lab, &daemon), before, "nothing was done");
        lab.router.ip(&format!("route replace {route}"));
    }
    let told = daemon.imported(&lab, "--apply");
    assert!(told.contains("3 addresses removed"), "{told}");
    for (table, begin) in [("main", "default via"), ("77", "203.0.113.0/24 via")] {
        let routes = lab
            .router
            .program(&format!("ip -4 route show table {table}"));
        let there = routes.lines().find(|line| line.starts_with(begin));
        assert!(there.is_some_and(|it| !it.contains("src")), "{routes}");
    }
    assert_reached(&lab, "this program");
}

#[test]
fn what_cannot_be_cleared_is_told_when_all_is_taken_over() {
    let lab = Lab::new();
    leave(&lab, Backend::Nft);
    // A map leads to a chain of the original, and so it cannot go; others' chains have
    // rules that do, and lose them.
    let rule = "ip nat mine ip saddr vmap { 192.0.2.50 : jump ipfl-rule-ab12ef-OUTPUT }";
    lab.router.program(&format!("nft add rule {rule}"));
    lab.router
        .program("iptables-nft -t nat -A ipfl-rule-mine -j ipfloater-OUTPUT");
    let daemon = lab.start_with(BESIDE);
    daemon.original(ROWS);
    let told = daemon.imported(&lab, "");
    let line = "of which chains of others have some: ipfl-rule-mine of table nat";
    assert!(told.contains(line), "{told}");
    let rules = Backend::Nft.rules(&lab);
    let (code, told) = said(&daemon.import(&lab, "--apply"));
    assert_eq!(code, Some(1), "{told}");
    for line in [
        "all is taken over and in force, but not all that the original left is cleared",
        "busy",
        "run it again",
    ] {
        assert!(told.contains(line), "no {line:?} in {told}");
    }
    assert_eq!(Backend::Nft.rules(&lab), rules, "all or nothing");
    assert_eq!(
        daemon.json("list")["addresses"].as_array().map(Vec::len),
        Some(2)
    );
    assert_reached(&lab, "both");

    lab.router.program("nft flush chain ip nat mine");
    let told = daemon.imported(&lab, "--apply");
    assert!(told.contains("11 chains"), "{told}");
    assert_reached(&lab, "this program");
    assert_eq!(daemon.repairs(), 0);
}
