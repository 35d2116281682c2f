//! What people look at: the health in a line, and what becomes of each address.

use crate::Daemon;

impl Daemon {
    fn say(&self, arguments: &str) -> String {
        let output = self.ask(arguments);
        assert!(output.status.success(), "{arguments}: {output:?}");
        String::from_utf8(output.stdout).expect("it is text")
    }
}

/// How many columns each line has.
fn columns(printed: &str) -> Vec<usize> {
    let count = |line: &str| {
        line.split("  ")
            .filter(|cell| !cell.trim().is_empty())
            .count()
    };
    printed.lines().map(count).collect()
}

#[test]
fn status_tells_what_will_become_of_an_address_by_itself() {
    let daemon = Daemon::start();
    daemon.say("associate 198.51.100.10 10.0.0.5 --confirm 10m --for 2h --no-wait");
    let printed = daemon.say("status");
    assert!(printed.contains(", 1 unconfirmed\n"), "{printed}");
    let row = printed.lines().last().unwrap_or_default();
    assert!(row.contains("  undone at 20"), "{row}");
    assert!(row.contains("Z unless confirmed; ends at 20"), "{row}");
}

#[test]
fn status_has_as_many_columns_in_each_line_of_a_pipe() {
    let daemon = Daemon::start();
    daemon.say("associate 198.51.100.10 10.0.0.5 --no-wait");
    daemon.say("forward 198.51.100.10:8080-8082 10.0.0.6:80 --no-wait");
    daemon.say("allocate 198.51.100.11 --for 2h");
    let printed = daemon.say("status --no-legend");
    assert_eq!(columns(&printed), [7; 3], "{printed}");
    daemon.say("release 198.51.100.11");
    let printed = daemon.say("status --no-legend");
    assert_eq!(columns(&printed), [6; 2], "{printed}");
}

#[test]
fn the_health_counts_each_family_and_what_has_no_place() {
    let daemon = Daemon::start();
    daemon.say("associate 198.51.100.10 10.0.0.5 --no-wait");
    daemon.say("forward 198.51.100.11:80 10.0.0.6 --no-wait");
    daemon.say("allocate 2001:db8::10");
    let printed = daemon.say("status");
    let health = printed.lines().next().unwrap_or_default();
    assert!(
        health.contains("2 of 4 IPv4 and 1 of 2 IPv6 addresses allocated, 1 associated, 1 with port forwards only"),
        "{health}"
    );
}

#[test]
fn what_nobody_asked_for_is_the_daemons() {
    let daemon = Daemon::start();
    daemon.say("associate 198.51.100.10 10.0.0.5 --confirm 1s --no-wait");
    let begun = std::time::Instant::now();
    let undone = loop {
        let history = daemon.say("history 198.51.100.10");
        if let Some(line) = history.lines().find(|line| line.contains(" revert ")) {
            break line.to_owned();
        }
        assert!(begun.elapsed().as_secs() < 30, "{history}");
    };
    assert!(undone.contains(" daemon "), "{undone}");
    let asked = daemon.say("history 198.51.100.10");
    assert!(
        asked
            .lines()
            .any(|line| line.contains(" associate ") && line.contains(" root "))
    );
}
