//! The views, on terminals of 80 and 160 columns, of a router with traffic.

use std::process::{Command, Stdio};

use ipfloater::model::Family;

use super::daemon::{Daemon, Start};
use super::lab::Lab;
use super::namespace::eventually;
use super::talk::Udp;

/// An IPv6 address as long as they get, and its pool.
const LONG: &str = "2001:db8:1111:2222:3333:4444:5555:6661";
const LONG_POOL: &str = "[POOL long]\n\
     IP_POOL = 2001:db8:1111:2222:3333:4444:5555:6660/124\n\
     OUTSIDE_INTERFACE = wan0\n\
     PROBE = no";
const LONG_HOST: &str = "fd00:1::1111:2222:3333:4444";

/// As long as a label gets.
const LABEL: &str = "a-label-of-sixty-three-characters-which-is-as-long-as-they-get-x";

/// The lines that `ipfloater` prints on a terminal of so many columns.
fn lines(lab: &Lab, daemon: &Daemon, arguments: &str, columns: usize) -> Vec<String> {
    let program = env!("CARGO_BIN_EXE_ipfloater");
    let socket = daemon.directory().join("run/org.ipfloater");
    let line = format!(
        "stty cols {columns} rows 40; {} {program} --socket {} {arguments}",
        // It goes on until it is interrupted.
        if arguments.starts_with("monitor") {
            "timeout --foreground --signal INT 1"
        } else {
            ""
        },
        socket.display()
    );
    let mut command = Command::new("script");
    command
        .args(["--quiet", "--command", &line, "/dev/null"])
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm-256color")
        .env("NO_COLOR", "1")
        .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
        .stdin(Stdio::null());
    let output = lab.router.run(|| command.output());
    let output = output.expect("script(1) is there");
    let text = String::from_utf8_lossy(&output.stdout).replace("\x1b[H\x1b[2J", "");
    let lines = text.lines().map(|line| line.trim_end().to_owned());
    lines.collect()
}

/// No line of a table is wider than the terminal, and each of these words stands in one line.
fn fits(view: &str, lines: &[String], columns: usize, whole: &[&str]) {
    let text = lines.join("\n");
    for line in lines {
        let width = line.chars().count();
        assert!(
            width <= columns,
            "{view}: {width} of {columns}: {line}\n{text}"
        );
    }
    for word in whole {
        assert!(
            lines.iter().any(|line| line.contains(word)),
            "{view} at {columns}: {word} is not in\n{text}"
        );
    }
}

#[test]
fn the_views_fit_a_terminal() {
    let lab = Lab::new();
    let daemon = lab.start_with(Start {
        configuration: LONG_POOL,
        ..Start::PLAIN
    });
    let (v4, v6) = ("198.51.100.10", "2001:db8::10");
    for (floating, family) in [(v4, Family::V4), (v6, Family::V6)] {
        let floating = floating.parse().expect("a constant");
        daemon.associate(floating, &lab.host_a);
        let host = lab.host_b.address(family);
        let forward = match family {
            Family::V4 => format!("forward {floating}:50000-50199/udp {host}:40000"),
            Family::V6 => format!("forward [{floating}]:443 {host}"),
        };
        daemon.order(&forward);
    }
    daemon.order("allocate 198.51.100.11");
    // What fits 80 columns does it in columns.
    for view in ["status", "list", "counters", "ippool", "permissions"] {
        let lines = lines(&lab, &daemon, view, 80);
        fits(view, &lines, 80, &[]);
        let headings = lines
            .iter()
            .filter(|line| line.contains("STATE") || line.contains("IN ") || line.contains("SIZE"));
        assert!(
            view == "permissions" || headings.count() == 1,
            "{view}: {}",
            lines.join("\n")
        );
    }
    daemon.order(&format!("associate {LONG} {LONG_HOST}"));
    daemon.order(&format!(
        "forward [{LONG}]:50000-50199/udp {LONG_HOST}:40000"
    ));
    daemon.order(&format!("set {LONG} --label {}", &LABEL[..63]));
    let flow = lab.far.converse(Udp, v4.parse().expect("a constant"));
    let flow = flow.expect("a socket").keep_talking();
    for columns in [80, 160] {
        let lines = lines(&lab, &daemon, "top -d 1 -n 1", columns);
        fits("top", &lines, columns, &["1 address with traffic", v4]);
    }
    drop(flow.end());
    lab.router.ip("link set wan0 down");
    eventually("an address waits", || {
        daemon.state(v4.parse().expect("a constant")) == "pending"
    });
    for columns in [80, 160] {
        for (view, whole) in [
            ("status", &[v4, v6, LONG, LONG_HOST, "10.0.1.11"][..]),
            ("list", &[v4, v6, LONG, LONG_HOST, &LABEL[..63]]),
            ("list --no-legend", &[v4, LONG, LONG_HOST]),
            ("counters", &[v4, v6, LONG]),
            ("ippool", &["default", "long"]),
            ("history", &[v4, LONG, LONG_HOST, &LABEL[..63]]),
            ("permissions", &["org.ipfloater.allocate-own"]),
        ] {
            let lines = lines(&lab, &daemon, view, columns);
            fits(view, &lines, columns, whole);
        }
        // Lines of words, which the terminal breaks.
        for (view, word) in [
            (&*format!("show {LONG}"), LONG_HOST),
            ("monitor", LONG_HOST),
            ("doctor", v4),
        ] {
            let lines = lines(&lab, &daemon, view, columns);
            assert!(
                lines.iter().any(|line| line.contains(word)),
                "{view}: {}",
                lines.join("\n")
            );
        }
    }
}
