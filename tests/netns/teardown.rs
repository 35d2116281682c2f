//! `ipfloaterd --teardown`: nothing of ours is left, and everything else is.

use std::process::Output;

use ipfloater::model::Family;

use super::daemon::{Daemon, Start};
use super::lab::{Lab, floating};
use super::talk::{Tcp, Transport, saw};

/// What the router's kernel has of ours, as the administrator's tools say.
fn traces(lab: &Lab) -> Vec<String> {
    let tables = lab.router.program("nft list tables");
    let routes = lab.router.program("ip -4 route show table all proto 245");
    // ip(8) of Debian 12 does not know the protocol of an address.
    let addresses = lab.router.program("ip -oneline -6 address show deprecated");
    let ours = tables.lines().filter(|line| line.contains("ipfloater"));
    let ours = ours.chain(routes.lines()).chain(addresses.lines());
    let mut traces: Vec<_> = ours.map(str::to_owned).collect();
    traces.extend(flows(lab).into_iter().filter(|flow| is_of_the_pool(flow)));
    traces
}

fn flows(lab: &Lab) -> Vec<String> {
    let list = |family| lab.router.program(&format!("conntrack -L -f {family}"));
    let both = list("ipv4") + &list("ipv6");
    both.lines().map(str::to_owned).collect()
}

/// Whether one end of a flow is 198.51.100.10 to 29 or 2001:db8::10 to 29.
fn is_of_the_pool(flow: &str) -> bool {
    flow.split_whitespace().any(|word| {
        let number = ["src=", "dst="].iter().find_map(|end| {
            let address = word.strip_prefix(end)?;
            let last = address.strip_prefix("198.51.100.");
            last.or_else(|| address.strip_prefix("2001:db8::"))
        });
        number
            .and_then(|number| number.parse().ok())
            .is_some_and(|number: u32| (10..=29).contains(&number))
    })
}

/// A daemon with an association of each family, and flows through them.
fn busy_daemon(lab: &Lab, start: Start) -> Daemon {
    let daemon = lab.start_with(start);
    for family in Family::BOTH {
        let (address, outside) = (floating(family, 10), lab.outside.address(family));
        daemon.associate(address, &lab.host_a);
        for transport in Transport::BOTH {
            assert_eq!(
                lab.outside.ask(transport, address),
                saw(&lab.host_a, outside)
            );
            assert_eq!(
                lab.host_a.ask(transport, outside),
                saw(&lab.outside, address)
            );
            let inside = lab.host_c.address(family);
            assert!(lab.host_a.ask(transport, inside).is_ok());
        }
    }
    daemon
}

fn said(output: &Output) -> (bool, String, String) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    (output.status.success(), stdout, stderr)
}

#[test]
fn a_teardown_leaves_nothing_of_ours_and_everything_else() {
    let lab = Lab::new();
    // Somebody else's: a table, a pool address, a route, and flows.
    lab.router.nft("add table inet mine");
    lab.router.ip("address add 198.51.100.20/32 dev wan0
         address add 2001:db8::20/128 dev wan0 nodad
         route add local 198.51.100.21 dev wan0 table local");
    let others = || {
        lab.router.program("nft list table inet mine")
            + &lab.router.program("ip address show dev wan0")
            + &lab.router.program("ip route show table local")
    };
    let before = others();
    let mut daemon = busy_daemon(&lab, Start::PLAIN);
    daemon.stop();
    assert!(
        traces(&lab).len() > 10,
        "stopping has left it: {:?}",
        traces(&lab)
    );
    let inside = || {
        flows(&lab)
            .iter()
            .filter(|flow| !is_of_the_pool(flow))
            .count()
    };
    let flows_inside = inside();
    assert!(flows_inside > 0);

    let (good, stdout, stderr) = said(&daemon.tear_down(&lab.router));
    assert!(good && stderr.is_empty(), "{stdout}{stderr}");
    for line in [
        "removed table inet ipfloater",
        "removed 1 local routes of protocol 245",
        "removed 1 addresses of protocol 245",
        "translated flows",
        "restores what 2 addresses lead to",
    ] {
        assert!(stdout.contains(line), "{line}: {stdout}");
    }
    assert_eq!(traces(&lab), [""; 0]);
    assert_eq!(others(), before);
    assert_eq!(inside(), flows_inside);

    let (good, stdout, stderr) = said(&daemon.tear_down(&lab.router));
    assert!(good && stderr.is_empty(), "again: {stdout}{stderr}");
    assert!(
        stdout.starts_with("there is nothing of ipfloater in the kernel"),
        "{stdout}"
    );

    daemon.start(&lab.router);
    for family in Family::BOTH {
        let (address, outside) = (floating(family, 10), lab.outside.address(family));
        assert_eq!(lab.outside.ask(Tcp, address), saw(&lab.host_a, outside));
    }
}

#[test]
fn a_teardown_needs_neither_configuration_nor_store_nor_a_newer_kernel() {
    for hidden in [None, Some("table-owner,conntrack-filter,map-keys")] {
        let lab = Lab::new();
        let start = Start {
            hidden,
            ..Start::PLAIN
        };
        let mut daemon = busy_daemon(&lab, start);
        daemon.kill();
        let directory = daemon.directory();
        std::fs::remove_file(directory.join("ipfloaterd.conf")).expect("it was there");
        for name in ["state", "run"] {
            std::fs::remove_dir_all(directory.join(name)).expect("it was there");
        }
        let (good, stdout, stderr) = said(&daemon.tear_down(&lab.router));
        assert!(good && stderr.is_empty(), "{stdout}{stderr}");
        assert!(stdout.contains("the configuration is not used"), "{stdout}");
        assert_eq!(traces(&lab), [""; 0]);
        assert!(!directory.join("state").exists(), "nothing is made either");
    }
}

#[test]
fn what_a_teardown_could_not_do_is_said_and_the_rest_is_done() {
    let lab = Lab::new();
    let mut daemon = busy_daemon(&lab, Start::PLAIN);
    daemon.stop();
    let store = daemon.directory().join("state/ipfloater.db");
    std::fs::write(&store, "no database").expect("root may");
    let (good, stdout, stderr) = said(&daemon.tear_down(&lab.router));
    assert!(!good, "{stdout}{stderr}");
    assert!(
        stderr.contains("could not be done: the store in") && stderr.lines().count() == 1,
        "{stderr}"
    );
    assert!(stdout.contains("removed table inet ipfloater"), "{stdout}");
    assert_eq!(traces(&lab), [""; 0]);
    assert_eq!(std::fs::read(&store).expect("it is there"), b"no database");
}

/// Takes away what tells the addresses, but not their flows.
fn forget(lab: &Lab) {
    lab.router.nft("flush ruleset");
    lab.router.ip("route flush proto 245 table local
         address delete 2001:db8::10/128 dev wan0");
}

#[test]
fn with_the_table_gone_the_store_and_the_configuration_say_whose_flows_end() {
    let lab = Lab::new();
    let mut daemon = busy_daemon(&lab, Start::PLAIN);
    daemon.stop();
    forget(&lab);
    for (file, text) in [
        // The store alone knows the addresses, then the configuration alone.
        (
            "ipfloaterd.conf",
            Some("[IPFLOATER]\nIP_POOL = 192.0.2.1\n"),
        ),
        ("state/ipfloater.db", None),
    ] {
        let path = daemon.directory().join(file);
        let kept = std::fs::read(&path).expect("it is there");
        match text {
            Some(text) => std::fs::write(&path, text).expect("the directory is ours"),
            None => std::fs::remove_file(&path).expect("the directory is ours"),
        }
        let (good, stdout, stderr) = said(&daemon.tear_down(&lab.router));
        assert!(good && stderr.is_empty(), "{stdout}{stderr}");
        assert!(stdout.contains("translated flows"), "{file}: {stdout}");
        assert_eq!(traces(&lab), [""; 0], "{file}");
        if text.is_some() {
            std::fs::write(&path, kept).expect("the directory is ours");
            daemon.start(&lab.router);
            for family in Family::BOTH {
                let (address, outside) = (floating(family, 10), lab.outside.address(family));
                assert_eq!(lab.outside.ask(Tcp, address), saw(&lab.host_a, outside));
            }
            daemon.stop();
            forget(&lab);
        }
    }
}

#[test]
fn while_a_daemon_runs_a_teardown_is_refused_and_changes_nothing() {
    let lab = Lab::new();
    let daemon = busy_daemon(&lab, Start::PLAIN);
    let shape = || {
        lab.router.program("nft list table inet ipfloater")
            + &lab.router.program("ip route show table local")
            + &lab.router.program("ip address show dev wan0")
    };
    let before = shape();
    let (good, stdout, stderr) = said(&daemon.tear_down(&lab.router));
    assert!(!good && stdout.is_empty(), "{stdout}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains("nothing was removed: ipfloaterd is running and holds ")
            && stderr.contains("systemctl stop"),
        "{stderr}"
    );
    assert_eq!(shape(), before);

    // With other directories only the kernel knows of the other one.
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ipfloaterd"));
    command.args(["--teardown", "--state-directory", "/nonexistent"]);
    command.args(["--runtime-directory", "/nonexistent"]);
    let output = lab
        .router
        .run(|| command.output().expect("the daemon was built"));
    let (good, stdout, stderr) = said(&output);
    assert!(!good && stdout.is_empty(), "{stdout}");
    assert!(
        stderr.contains("nothing was removed") && stderr.contains("another ipfloaterd is running"),
        "{stderr}"
    );
    assert_eq!(shape(), before);
    for family in Family::BOTH {
        let outside = lab.outside.address(family);
        assert_eq!(
            lab.outside.ask(Tcp, floating(family, 10)),
            saw(&lab.host_a, outside)
        );
    }
}
