//! `ipfloater` as a person or a script runs it.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use ipfloater::cli::Arguments;
use ipfloater::model::{Allocation, PoolName, Revision, Sequence, State, Timestamp};
use serde_json::{Value, json};

use crate::stand_in::{Daemon, full};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ipfloater");

fn ipfloater(daemon: &Daemon, arguments: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(arguments.split_whitespace())
        .env("IPFLOATER_SOCKET", daemon.socket());
    command
}

/// What it printed, what it complained of, and its exit code.
fn seen(output: Output) -> (String, String, i32) {
    (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
        output.status.code().unwrap(),
    )
}

fn run(daemon: &Daemon, arguments: &str) -> (String, String, i32) {
    seen(ipfloater(daemon, arguments).output().unwrap())
}

#[test]
fn the_originals_verbs_say_the_originals_words() {
    let daemon = Daemon::start();
    let version = env!("CARGO_PKG_VERSION");
    let rule = "-".repeat(40);
    let mut pool: Vec<_> = (0..16).map(|last| format!("203.0.113.{last}")).collect();
    pool.push("2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".to_owned());
    let pool = format!("IP Pool:\n{rule}\n{}\n", pool.join(", "));
    let versions = format!("Client version: {version}\nServer version: {version}\n");
    for (arguments, printed) in [
        (
            "getip 10.0.0.5",
            "Public IP obtained: 203.0.113.0 -> 10.0.0.5\n",
        ),
        (
            "getip 10.0.0.5",
            "Public IP obtained: 203.0.113.0 -> 10.0.0.5\n",
        ),
        (
            "redirect 203.0.113.7 10.0.0.6",
            "Public IP obtained: 203.0.113.7 -> 10.0.0.6\n",
        ),
        (
            "-i 127.0.0.1 -p 7000 redirect 203.0.113.7 10.0.0.6",
            "Public IP obtained: 203.0.113.7 -> 10.0.0.6\n",
        ),
        // The daemon has no port; whichever the original had means this host.
        (
            "--server-ip localhost --server-port 8080 redirect 203.0.113.7 10.0.0.6",
            "Public IP obtained: 203.0.113.7 -> 10.0.0.6\n",
        ),
        (
            "releaseip 10.0.0.5",
            "Released the redirection from IP 203.0.113.0\n",
        ),
        (
            "releaseip 203.0.113.0",
            "Released the redirection from IP 203.0.113.0\n",
        ),
        ("version", &versions),
        ("arp 60:60:00:00:0A:01", "203.0.113.4\n"),
    ] {
        let expected = (printed.to_owned(), String::new(), 0);
        assert_eq!(run(&daemon, arguments), expected, "{arguments}");
    }
    assert!(run(&daemon, "ippool").0.starts_with(&pool));

    let (status, _, _) = run(&daemon, "status");
    let (health, table) = status.split_once("\n\n").unwrap();
    let heading = format!("Table of redirections:\n{rule}\n");
    let rows = table.strip_prefix(&heading).unwrap();
    let rows: Vec<_> = rows.lines().collect();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words(rows[0]), "REDIRECTION STATE IN OUT OWNER AGE");
    // Scripts look for the beginning.
    assert!(
        rows[1].starts_with("203.0.113.7 -> 10.0.0.6  active  "),
        "{rows:?}"
    );
    assert!(
        words(rows[1]).starts_with("203.0.113.7 -> 10.0.0.6 active - - root "),
        "{rows:?}"
    );
    assert_eq!(rows.len(), 2);
    assert_eq!(
        health,
        format!(
            "ipfloaterd {version} is degraded, simulated: 1 of 16 IPv4 \
             and 0 IPv6 addresses allocated, 1 associated\n  \
             problem: the disk is \\u{{1b}}[2Jfull; make room"
        )
    );
}

#[test]
fn status_has_the_originals_line_for_each_port() {
    let daemon = Daemon::start();
    for arguments in [
        "forward 203.0.113.8:80 10.0.0.9:8080",
        "forward 203.0.113.8:53/udp 10.0.0.9",
        "forward 203.0.113.8:9000-9002/udp 10.0.0.9:7000",
        "associate 203.0.113.8 10.0.0.7",
        "forward [2001:db8::8]:80/TCP fd00::9",
        // As status prints it.
        "show [2001:db8::8]",
    ] {
        assert_eq!(run(&daemon, arguments).2, 0, "{arguments}");
    }
    let (status, _, _) = run(&daemon, "status --no-legend");
    assert_eq!(
        status
            .lines()
            .map(|line| line.split("  ").next().unwrap_or_default())
            .collect::<Vec<_>>(),
        [
            "203.0.113.8 -> 10.0.0.7",
            "203.0.113.8:80 -> 10.0.0.9:8080",
            "203.0.113.8:53/udp -> 10.0.0.9:53",
            "203.0.113.8:9000-9002/udp -> 10.0.0.9:7000-7002",
            "[2001:db8::8]:80 -> [fd00::9]:80",
        ]
    );
}

const NOWHERE: &str = "203.0.113.99 is in no pool; `ipfloater ippool` lists what is";

#[test]
fn what_may_be_done_with_an_address_is_about_addresses() {
    let daemon = Daemon::start();
    let verbs = |arguments: &str| -> Vec<String> {
        let (printed, _, code) = run(&daemon, &format!("permissions {arguments} --no-legend"));
        assert_eq!(code, 0, "{arguments}");
        let words = printed.lines().map(|line| line.split(' ').next());
        words.map(|word| word.unwrap().to_owned()).collect()
    };
    assert!(verbs("").contains(&"reload".to_owned()));
    // A host without a floating IP may get one.
    for address in ["203.0.113.7", "10.0.0.77"] {
        let verbs = verbs(address);
        assert!(verbs.contains(&"associate".to_owned()), "{verbs:?}");
        for other in ["reload", "set-log-level"] {
            assert!(!verbs.contains(&other.to_owned()), "{verbs:?}");
        }
    }
}

#[test]
fn a_pool_that_is_gone_is_listed_by_while_it_has_addresses() {
    let gone: PoolName = "gone".parse().unwrap();
    let allocation = Allocation::new(gone, 0, Timestamp(1));
    let orphan = "198.51.100.7".parse().unwrap();
    let state = State::load(Revision(1), Sequence(1), [(orphan, allocation)]);
    let daemon = Daemon::with(state);
    for arguments in [
        "list --pool gone",
        "list --pool huge",
        "permissions 198.51.100.7",
        "history 198.51.100.7",
    ] {
        let (_, complaint, code) = run(&daemon, arguments);
        assert_eq!((complaint.as_str(), code), ("", 0), "{arguments}");
    }
}

#[test]
fn a_refusal_is_one_line_with_a_remedy_and_a_code_of_its_own() {
    let daemon = Daemon::start();
    run(&daemon, "redirect 203.0.113.7 10.0.0.6");
    for (arguments, complaint, code) in [
        (
            "redirect 203.0.113.7 10.0.0.5",
            "Could not obtain a redirection (server responded: 203.0.113.7 is associated with 10.0.0.6; --reassociate moves it)",
            6,
        ),
        (
            "releaseip 192.0.2.1",
            "Could not release the redirection from IP 192.0.2.1 (server responded: 192.0.2.1 is in no pool; `ipfloater ippool` lists what is)",
            5,
        ),
        (
            "associate 1.2.3",
            "\"1.2.3\" cannot be used: it is not an IPv4 or IPv6 address (leading zeros, prefixes and zones are not accepted)",
            2,
        ),
        ("show 10.0.0.77", "10.0.0.77 has no floating IP", 5),
        ("show 203.0.113.99", NOWHERE, 5),
        ("permissions 203.0.113.99", NOWHERE, 5),
        ("history 203.0.113.99", NOWHERE, 5),
        ("history 10.0.0.77", "10.0.0.77 has no floating IP", 5),
        (
            "list --pool nope",
            "there is no pool nope; `ipfloater ippool` lists them",
            5,
        ),
        ("allocate --count 65", "--count takes 1 to 64", 2),
        ("history -n 1001", "--lines takes 1 to 1000", 2),
        (
            "disassociate 203.0.113.7 --confirm 2d",
            "--confirm takes 1 to 86400 seconds, which are a day",
            2,
        ),
        (
            "unforward 203.0.113.7:0",
            "the port is 1 to 65535, or a range such as 8000-8010",
            2,
        ),
        (
            "allocate 203.0.113.7",
            "203.0.113.7 is allocated already; name no address to get a free one",
            6,
        ),
        (
            "list --state free",
            "--state: free addresses are not listed, because a pool of IPv6 has too many; `ipfloater status` tells how many are taken",
            2,
        ),
        (
            "list --owner nobody-at-all",
            "there is no user nobody-at-all; --owner takes the name or number of one",
            2,
        ),
        (
            "arp 60:60:00:00:0a:02",
            "Failed to get the ip address for 60:60:00:00:0a:02: IP_POOL_FILE gives it none",
            5,
        ),
        (
            "arp 606000000a02",
            "Failed to get the ip address for 60:60:00:00:0a:02: IP_POOL_FILE gives it none",
            5,
        ),
        (
            "arp +0:60:00:00:0a:02",
            "Failed to get the ip address for \"+0:60:00:00:0a:02\": a hardware address is six pairs of hexadecimal digits, with colons between or none",
            2,
        ),
        (
            "status -i 192.0.2.9 --certificates /nonexistent",
            "Could not contact the server: /nonexistent/client.pem: No such file or directory (os error 2); \
             to reach another host a directory (--certificates) has to hold client.pem, client.key and ca.pem, or use -H",
            2,
        ),
    ] {
        let expected = (String::new(), format!("{complaint}\n"), code);
        assert_eq!(run(&daemon, arguments), expected, "{arguments}");
    }
    assert_eq!(run(&daemon, "frobnicate").2, 2);
}

#[test]
fn the_interfaces_verbs_say_what_they_did() {
    let daemon = Daemon::start();
    for (arguments, printed) in [
        ("allocate", "Allocated 203.0.113.0 from pool default\n"),
        (
            "allocate 203.0.113.9 --pool default",
            "Allocated 203.0.113.9 from pool default\n",
        ),
        (
            "associate 203.0.113.9 10.0.0.5",
            "Associated 203.0.113.9 with 10.0.0.5\n",
        ),
        (
            "associate 10.0.0.5",
            "203.0.113.9 is associated with 10.0.0.5 already\n",
        ),
        (
            "associate 203.0.113.9 10.0.0.6 --reassociate",
            "Associated 203.0.113.9 with 10.0.0.6, taken from 10.0.0.5\n",
        ),
        (
            "disassociate 10.0.0.6",
            "Disassociated 203.0.113.9 from 10.0.0.6\n",
        ),
        (
            "disassociate 203.0.113.9",
            "203.0.113.9 is associated with no host\n",
        ),
        ("release 203.0.113.9", "Released 203.0.113.9\n"),
        ("release 203.0.113.9", "203.0.113.9 is free already\n"),
        (
            "show 203.0.113.9",
            "  Floating IP: 203.0.113.9\n        State: free\n         Pool: default\n",
        ),
    ] {
        let expected = (printed.to_owned(), String::new(), 0);
        assert_eq!(run(&daemon, arguments), expected, "{arguments}");
    }
    let (listed, _, _) = run(&daemon, "list");
    let mut lines = listed.lines();
    assert!(lines.next().unwrap().starts_with("FLOATING IP"));
    assert!(lines.next().unwrap().starts_with("203.0.113.0  -"));
    assert_eq!(lines.next(), None);
    let (bare, _, _) = run(&daemon, "list --no-legend");
    assert_eq!(bare.lines().count(), 1);
    let (history, _, _) = run(&daemon, "history -n 3 203.0.113.9");
    assert_eq!(history.lines().count(), 4);
    assert!(history.contains("release"));
}

#[test]
fn json_is_the_daemons_answer_or_an_error_with_its_name_and_code() {
    let daemon = Daemon::start();
    let parsed = |arguments: &str| -> (Value, i32) {
        let (printed, complaint, code) = run(&daemon, arguments);
        assert_eq!(complaint, "", "{arguments}");
        assert!(!printed.contains('\u{1b}'), "{arguments}");
        (serde_json::from_str(&printed).unwrap(), code)
    };
    let (got, _) = parsed("getip 10.0.0.5 --json");
    assert_eq!(got["address"]["floating_ip"], "203.0.113.0");
    assert_eq!(parsed("status --json").0["simulated"], true);
    assert_eq!(parsed("version --json").0["api_version"], 1);
    assert_eq!(parsed("ippool --json").0["pools"][0]["name"], "default");
    assert_eq!(
        parsed("list --json").0["addresses"],
        json!([got["address"]])
    );
    assert_eq!(parsed("show 10.0.0.5 --json").0["address"], got["address"]);
    assert_eq!(
        parsed("show 10.0.0.77 --json"),
        (
            json!({"error": {"name": "NotAssociated", "message": "10.0.0.77 has no floating IP", "exit_code": 5}}),
            5
        )
    );
    let (usage, code) = parsed("frobnicate --json");
    assert_eq!((&usage["error"]["name"], code), (&json!("Usage"), 2));
}

#[test]
fn a_daemon_that_is_not_there_is_named_with_the_remedy() {
    let mut daemon = Daemon::start();
    daemon.stop();
    let socket = daemon.socket();
    let (printed, complaint, code) = run(&daemon, "list");
    assert_eq!((printed.as_str(), code), ("", 3));
    assert_eq!(complaint.lines().count(), 1);
    assert!(complaint.contains(socket.to_str().unwrap()), "{complaint}");
    assert!(complaint.contains("start it"), "{complaint}");

    let (printed, complaint, code) = run(&daemon, "version");
    let ours = format!("Client version: {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((printed, code), (ours, 3));
    assert!(complaint.starts_with("Could not contact server: "));
}

#[test]
fn a_user_who_may_not_is_told_and_may_still_look() {
    if !nix::unistd::getuid().is_root() {
        eprintln!("passed over: only root can become another user");
        return;
    }
    let daemon = Daemon::start();
    run(&daemon, "getip 10.0.0.5");
    // Where the program lies, other users may have no way.
    let place = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let program = place.path().join("ipfloater");
    std::fs::copy(PROGRAM, &program).unwrap();
    let nobody = |arguments: &str| {
        let mut command = Command::new(&program);
        command
            .args(arguments.split_whitespace())
            .env("IPFLOATER_SOCKET", daemon.socket())
            .uid(65_534)
            .gid(65_534);
        seen(command.output().unwrap())
    };
    for arguments in [
        "allocate",
        "associate 10.0.0.6",
        "disassociate 10.0.0.5",
        "release 10.0.0.5",
        "history",
    ] {
        let (printed, _, code) = nobody(arguments);
        assert_eq!((printed.as_str(), code), ("", 4), "{arguments}");
    }
    for arguments in ["status", "list", "show 203.0.113.0", "ippool", "version"] {
        assert_eq!(nobody(arguments).2, 0, "{arguments}");
    }
    assert!(run(&daemon, "list").0.contains("10.0.0.5"));

    // What happens is for everybody, who did it is not; nor is it later, for who
    // was not there.
    let mut watching = Command::new(&program)
        .args(["monitor", "--json", "--since", "0"])
        .env("IPFLOATER_SOCKET", daemon.socket())
        .uid(65_534)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let told: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(
        told,
        json!({
            "sequence": 1, "revision": 1, "ready": true,
            "event": {
                "verb": "allocate", "at": 1_700_000_000, "floating_ip": "203.0.113.0",
                "state": "allocated",
            },
        })
    );
    watching.kill().unwrap();
    watching.wait().unwrap();
    let mut watching = Command::new(&program)
        .args(["monitor", "--json"])
        .env("IPFLOATER_SOCKET", daemon.socket())
        .uid(65_534)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("\"ready\":true"));
    run(&daemon, "release 10.0.0.5");
    let told: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(
        told["event"],
        json!({"verb": "release", "at": 1_700_000_000, "floating_ip": "203.0.113.0", "state": "free"})
    );
    watching.kill().unwrap();
    watching.wait().unwrap();
}

#[test]
fn monitor_prints_what_is_so_and_each_change_as_it_happens() {
    let daemon = Daemon::start();
    run(&daemon, "getip 10.0.0.5");
    let mut watching = ipfloater(&daemon, "monitor")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert!(next().starts_with("FLOATING IP"));
    assert!(next().starts_with("203.0.113.0"));
    run(&daemon, "disassociate 10.0.0.5");
    let line = next();
    assert!(
        line.starts_with("2023-11-14 22:13:20Z disassociate 203.0.113.0 allocated 10.0.0.5 -> by "),
        "{line}"
    );
    watching.kill().unwrap();
    watching.wait().unwrap();
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let daemon = Daemon::with(full(3_000));
    let mut listing = ipfloater(&daemon, "list")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(listing.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    let (_, complaint, code) = seen(listing.wait_with_output().unwrap());
    assert!(first.starts_with("FLOATING IP"));
    assert_eq!((complaint.as_str(), code), ("", 0));
}

#[test]
fn the_short_help_is_one_screen_that_has_every_verb() {
    let help = |arguments: &[&str]| seen(Command::new(PROGRAM).args(arguments).output().unwrap());
    let (screen, _, code) = help(&["-h"]);
    assert_eq!(code, 0);
    assert!(screen.lines().count() <= 24, "{screen}");
    assert!(screen.lines().all(|line| line.len() <= 80), "{screen}");
    let command = <Arguments as clap::CommandFactory>::command();
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let named = screen
            .split_whitespace()
            .any(|word| word == verb.get_name());
        assert!(named, "{}", verb.get_name());
    }
    assert_eq!(help(&["--json", "-h"]), (screen.clone(), String::new(), 0));
    // Nothing was asked for.
    assert_eq!(help(&[]), (String::new(), screen, 2));
    // That of a verb is its own.
    let (of_verb, _, _) = help(&["show", "-h"]);
    assert!(of_verb.contains("Usage: ipfloater show"), "{of_verb}");
}

#[test]
fn the_help_lists_every_exit_code() {
    let output = Command::new(PROGRAM).arg("--help").output().unwrap();
    let (help, _, code) = seen(output);
    assert_eq!(code, 0);
    for number in 0..=8 {
        assert!(help.contains(&format!("\n  {number}  ")), "{number}");
    }
}

#[test]
fn what_is_noted_of_an_address_is_set_found_and_shown() {
    let daemon = Daemon::start();
    run(&daemon, "allocate 203.0.113.7");
    run(&daemon, "allocate 203.0.113.8");
    let mut words = ipfloater(&daemon, "set 203.0.113.7 --description");
    words.arg("B\u{fc}ro; \u{2068}not\u{2069} raw");
    let (_, complaint, code) = seen(words.output().unwrap());
    let why = "--description takes at most 255 bytes of text on one line\n";
    assert_eq!((complaint.as_str(), code), (why, 2));
    let mut words = ipfloater(&daemon, "set 203.0.113.7 --description");
    words.arg("B\u{fc}ro; \"2\"");
    assert_eq!(
        seen(words.output().unwrap()).0,
        "203.0.113.7 description: B\u{fc}ro; \"2\"\n"
    );
    for (arguments, printed) in [
        (
            "set 203.0.113.7 --label web --tag b --tag a --protect",
            "203.0.113.7 label: web, description: B\u{fc}ro; \"2\", tags: a b, \
             protected: from being released\n",
        ),
        (
            "set 203.0.113.7 --untag a --tag c --unprotect",
            "203.0.113.7 label: web, description: B\u{fc}ro; \"2\", tags: b c\n",
        ),
        (
            "--no-legend list --label web",
            "203.0.113.7  -  allocated  default  root  web\n",
        ),
        (
            "--no-legend list --tag c",
            "203.0.113.7  -  allocated  default  root  web\n",
        ),
        ("--no-legend list --tag a", ""),
        (
            "set 203.0.113.7 --clear-tags --tag only --label= --description=",
            "203.0.113.7 tags: only\n",
        ),
        (
            "set 203.0.113.7 --clear-tags",
            "203.0.113.7 has nothing noted of it any more\n",
        ),
    ] {
        let (said, complaint, code) = run(&daemon, arguments);
        assert_eq!(
            (said.as_str(), code),
            (printed, 0),
            "{arguments}: {complaint}"
        );
    }
    let (_, complaint, code) = run(&daemon, "set 203.0.113.7");
    assert_eq!(code, 2, "{complaint}");
    let (_, complaint, code) = run(&daemon, "set 203.0.113.7 --protect --unprotect");
    assert_eq!(code, 2, "{complaint}");
    let (_, complaint, code) = run(&daemon, "set 203.0.113.9 --protect");
    let why = "203.0.113.9 is allocated to nobody; allocate it first\n";
    assert_eq!((complaint.as_str(), code), (why, 5));
}

/// What a shell is offered for the last of these words.
fn offered(daemon: &Daemon, words: &[&str]) -> Vec<String> {
    let mut command = ipfloater(daemon, "--");
    command
        .arg("ipfloater")
        .args(words)
        .env("COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", words.len().to_string());
    let (printed, complained, exit) = seen(command.output().unwrap());
    assert_eq!((complained.as_str(), exit), ("", 0), "{words:?}");
    printed.lines().map(str::to_owned).collect()
}

#[test]
fn a_shell_is_offered_what_the_daemon_has() {
    let daemon = Daemon::start();
    run(&daemon, "associate 203.0.113.7 10.0.0.5");
    run(&daemon, "allocate 203.0.113.8");
    assert_eq!(
        offered(&daemon, &["show", "2"]),
        ["203.0.113.7", "203.0.113.8"]
    );
    assert_eq!(offered(&daemon, &["show", "10."]), ["10.0.0.5"]);
    assert_eq!(
        offered(&daemon, &["redirect", "203.0.113.8", "1"]),
        ["10.0.0.5"]
    );
    run(&daemon, "forward 203.0.113.8:53/udp 10.0.0.6");
    assert_eq!(
        offered(&daemon, &["forward", "203.0.113.8"]),
        ["203.0.113.8:"]
    );
    assert_eq!(
        offered(&daemon, &["unforward", "2"]),
        ["203.0.113.8:53/udp"]
    );
    // What another router has is not known here; this one the original's users name.
    assert!(offered(&daemon, &["-H", "router", "show", "2"]).is_empty());
    assert!(offered(&daemon, &["-i", "192.0.2.1", "show", "2"]).is_empty());
    assert!(!offered(&daemon, &["-i", "127.0.0.1", "show", "2"]).is_empty());
    // Free ones where one may be taken.
    let free = offered(&daemon, &["allocate", "203."]);
    assert_eq!(free[..2], ["203.0.113.0", "203.0.113.1"], "{free:?}");
    let either = offered(&daemon, &["associate", ""]);
    for word in ["10.0.0.5", "203.0.113.7", "203.0.113.0"] {
        assert!(either.iter().any(|each| each == word), "{word}: {either:?}");
    }
    assert_eq!(
        offered(&daemon, &["list", "--state", ""]),
        ["allocated", "pending", "active"]
    );
    run(&daemon, "set 203.0.113.8 --label mail --tag prod");
    assert_eq!(offered(&daemon, &["list", "--label", ""]), ["mail"]);
    assert_eq!(
        offered(&daemon, &["set", "203.0.113.8", "--untag", "p"]),
        ["prod"]
    );
    assert!(offered(&daemon, &["confirm", "2"]).is_empty());
    assert_eq!(
        offered(&daemon, &["allocate", "--pool", ""]),
        ["default", "huge"]
    );
    assert_eq!(
        offered(&daemon, &["rel"]),
        ["releaseip", "release", "reload"]
    );
    // Without a daemon the words of the program are left, and nobody waits.
    let socket = daemon.socket().to_owned();
    drop(daemon);
    let mut command = Command::new(PROGRAM);
    command
        .args(["--", "ipfloater", "show", ""])
        .env("IPFLOATER_SOCKET", socket)
        .env("COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", "2");
    let (printed, complained, exit) = seen(command.output().unwrap());
    assert_eq!((complained.as_str(), exit), ("", 0));
    assert!(!printed.contains("203.0.113"), "{printed}");
}

#[test]
fn shells_read_a_script_that_asks_this_program() {
    for (shell, says) in [
        ("bash", "complete -o bashdefault"),
        ("zsh", "#compdef ipfloater"),
        ("fish", "--command ipfloater"),
    ] {
        let output = Command::new(PROGRAM).args(["completion", shell]).output();
        let (printed, _, exit) = seen(output.unwrap());
        assert_eq!(exit, 0);
        assert!(printed.contains(says), "{shell}: {printed}");
    }
}

#[test]
fn a_quiet_one_says_only_what_went_wrong() {
    let daemon = Daemon::start();
    let silent = (String::new(), String::new(), 0);
    assert_eq!(run(&daemon, "-q associate 203.0.113.7 10.0.0.5"), silent);
    assert_eq!(run(&daemon, "status --quiet"), silent);
    let (printed, complained, exit) = run(&daemon, "-q show 192.0.2.99");
    assert_eq!((printed.as_str(), exit), ("", 5));
    assert_eq!(complained.lines().count(), 1, "{complained}");
    // JSON is what a program asked for.
    assert!(run(&daemon, "-q --json status").0.starts_with('{'));
}

/// What it prints on a terminal of so many columns.
fn on_a_terminal(daemon: &Daemon, arguments: &str, columns: u32, variable: (&str, &str)) -> String {
    let line = format!("stty cols {columns}; {PROGRAM} {arguments}");
    let mut command = Command::new("script");
    command
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env("IPFLOATER_SOCKET", daemon.socket())
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR")
        .env(variable.0, variable.1)
        .stdin(Stdio::null());
    let (printed, _, exit) = seen(command.output().unwrap());
    assert_eq!(exit, 0, "{printed}");
    printed
}

#[test]
fn a_table_has_colours_only_on_a_terminal_that_wants_them() {
    let daemon = Daemon::start();
    run(&daemon, "associate 203.0.113.7 10.0.0.5");
    for variable in [("NO_COLOR", "1"), ("TERM", "dumb"), ("TERM", "")] {
        for view in ["list", "status", "top -d 1 -n 1"] {
            let plain = on_a_terminal(&daemon, view, 80, variable);
            assert!(
                !plain.contains('\x1b') || view.starts_with("top") && variable.0 == "NO_COLOR",
                "{plain:?}"
            );
        }
    }
    let coloured = on_a_terminal(&daemon, "list", 80, ("NO_COLOR", ""));
    // Green of the terminal's own palette.
    assert!(coloured.contains("\x1b[38;5;2mactive"), "{coloured:?}");
    assert!(!run(&daemon, "list").0.contains('\x1b'));
}

#[test]
fn a_terminal_that_does_not_know_its_width_breaks_no_line() {
    let daemon = Daemon::start();
    run(&daemon, "associate 203.0.113.7 10.0.0.5");
    let printed = on_a_terminal(&daemon, "status", 0, ("NO_COLOR", "1"));
    assert!(
        printed.contains("203.0.113.7 -> 10.0.0.5  active"),
        "{printed:?}"
    );
}

#[test]
fn a_mistake_is_said_in_a_line_with_where_to_look() {
    let daemon = Daemon::start();
    for (arguments, said) in [
        (
            "show",
            "the following required arguments were not provided: <ADDRESS>; see `ipfloater show --help`",
        ),
        (
            "completion tcsh",
            "invalid value 'tcsh' for '<SHELL>' [possible values: bash, elvish, fish, powershell, zsh]; a similar value exists: 'zsh'",
        ),
        (
            "set 203.0.113.7 --confirm 5s --label x",
            "unexpected argument '--confirm' found; see `ipfloater set --help`",
        ),
        (
            "lst",
            "unrecognized subcommand 'lst'; a similar subcommand exists: 'list'; see `ipfloater --help`",
        ),
    ] {
        let (printed, complained, exit) = run(&daemon, arguments);
        assert_eq!((printed.as_str(), exit), ("", 2), "{arguments}");
        assert_eq!(complained, format!("{said}\n"), "{arguments}");
        let (printed, _, exit) = run(&daemon, &format!("--json {arguments}"));
        assert_eq!(exit, 2, "{arguments}");
        let error: Value = serde_json::from_str(&printed).expect("it is JSON");
        assert_eq!(error["error"]["message"], said, "{arguments}");
    }
    // The same twice is no mistake, and neither is a socket named by a variable.
    assert_eq!(run(&daemon, "--json --json list").2, 0);
    let (printed, complained, exit) = run(&daemon, "");
    assert_eq!((printed.as_str(), exit), ("", 2));
    assert!(
        complained.starts_with("Gives public addresses"),
        "{complained}"
    );
}

/// A daemon that accepts, and says nothing for a while.
#[test]
fn who_waits_is_told_what_for() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("org.ipfloater");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let _silent = std::thread::spawn(move || {
        let (caller, _) = listener.accept().unwrap();
        std::thread::sleep(std::time::Duration::from_secs(3));
        drop(caller);
    });
    // On a terminal, of which standard error is one as well.
    let line = format!("{PROGRAM} --socket {} version", socket.display());
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    let (printed, _, exit) = seen(command.stdin(Stdio::null()).output().unwrap());
    assert_eq!(exit, 3, "{printed}");
    let waiting = format!("Waiting for ipfloaterd on {} …", socket.display());
    assert!(printed.contains(&waiting), "{printed}");
}
