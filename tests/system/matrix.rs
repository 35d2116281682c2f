//! Who may call what: every method and every property that can be set, by
//! everybody, over both buses, with the real polkit.
//!
//! The rows are checked against the interface files: a method without a row
//! fails the test.

use std::collections::BTreeSet;

use super::machine::{As, Machine, Suite};
use super::package::Router;

const MANAGER: &str = include_str!("../../interfaces/org.ipfloater.Manager.xml");
const LOG_CONTROL: &str = include_str!("../../interfaces/org.freedesktop.LogControl1.xml");
const VARLINK: &str = include_str!("../../interfaces/org.ipfloater.varlink");
const SYSTEMD: &str = include_str!("../../interfaces/io.systemd.service.varlink");

/// What a call comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It is answered.
    Granted,
    /// Somebody would have to authenticate.
    Authenticate,
    /// It is refused, and no password helps.
    Denied,
}

use Outcome::{Authenticate, Denied, Granted};

/// Those who call, as the columns of the table: nobody in particular; alice, who
/// owns 203.0.113.20; bob, who owns another address; carol, whose group may help
/// itself by the sample rule; root.
const COLUMNS: [&str; 5] = ["nobody", "alice", "bob", "carol", "root"];

/// Everybody may.
const ALL: [Outcome; 5] = [Granted; 5];

/// Only root may, without a password.
const ROOT: [Outcome; 5] = [
    Authenticate,
    Authenticate,
    Authenticate,
    Authenticate,
    Granted,
];

/// Only root may, whatever the rules are.
const NOBODY_ELSE: [Outcome; 5] = [Denied, Denied, Denied, Denied, Granted];

/// The owner may, and root.
const OWNER: [Outcome; 5] = [Authenticate, Granted, Authenticate, Authenticate, Granted];

/// The members of the group may, and root.
const GROUP: [Outcome; 5] = [Authenticate, Authenticate, Authenticate, Granted, Granted];

/// A method or a property, how it is called over each bus, and what comes of it
/// for each caller. A row that alters something is called on the same state each
/// time.
struct Row {
    name: &'static str,
    dbus: Option<&'static str>,
    varlink: Option<&'static str>,
    alters: bool,
    outcomes: [Outcome; 5],
}

const fn reads(
    name: &'static str,
    dbus: &'static str,
    varlink: &'static str,
    outcomes: [Outcome; 5],
) -> Row {
    Row {
        name,
        dbus: Some(dbus),
        varlink: Some(varlink),
        alters: false,
        outcomes,
    }
}

const fn alters(
    name: &'static str,
    dbus: &'static str,
    varlink: &'static str,
    outcomes: [Outcome; 5],
) -> Row {
    Row {
        alters: true,
        ..reads(name, dbus, varlink, outcomes)
    }
}

const fn only_varlink(name: &'static str, varlink: &'static str, outcomes: [Outcome; 5]) -> Row {
    Row {
        dbus: None,
        ..reads(name, "", varlink, outcomes)
    }
}

const fn property(name: &'static str, value: &'static str, outcomes: [Outcome; 5]) -> Row {
    Row {
        varlink: None,
        ..reads(name, value, "", outcomes)
    }
}

/// The table. What is called concerns alice's address, or takes a free one.
const ROWS: [Row; 26] = [
    alters("Allocate", "a{sv} 0", "{}", GROUP),
    alters(
        "Associate",
        "ssa{sv} 203.0.113.20 10.66.0.12 1 reassociate b true",
        r#"{"floating_ip":"203.0.113.20","fixed_address":"10.66.0.12","reassociate":true}"#,
        ROOT,
    ),
    alters(
        "Forward",
        "ssssa{sv} 203.0.113.20 tcp 8080 10.66.0.12 0",
        r#"{"floating_ip":"203.0.113.20","protocol":"tcp","ports":"8080","fixed_address":"10.66.0.12"}"#,
        ROOT,
    ),
    alters(
        "Unforward",
        "sssa{sv} 203.0.113.20 udp 53 0",
        r#"{"floating_ip":"203.0.113.20","protocol":"udp","ports":"53"}"#,
        OWNER,
    ),
    alters(
        "Disassociate",
        "sa{sv} 203.0.113.20 0",
        r#"{"address":"203.0.113.20"}"#,
        OWNER,
    ),
    alters(
        "Update",
        "sa{sv} 203.0.113.20 1 label s web",
        r#"{"address":"203.0.113.20","label":"web"}"#,
        ROOT,
    ),
    alters(
        "Release",
        "sa{sv} 203.0.113.20 0",
        r#"{"address":"203.0.113.20"}"#,
        OWNER,
    ),
    alters(
        "Confirm",
        "sa{sv} 203.0.113.22 0",
        r#"{"address":"203.0.113.22"}"#,
        ROOT,
    ),
    alters(
        "Revert",
        "sa{sv} 203.0.113.22 0",
        r#"{"address":"203.0.113.22"}"#,
        ROOT,
    ),
    alters("Reload", "a{sv} 0", "{}", ROOT),
    reads("List", "a{sv} 0", "{}", ALL),
    reads(
        "Describe",
        "sa{sv} 203.0.113.20 0",
        r#"{"address":"203.0.113.20"}"#,
        ALL,
    ),
    reads("GetCounters", "a{sv} 0", "{}", ALL),
    reads("GetMetrics", "a{sv} 0", "{}", ALL),
    reads("ListPools", "a{sv} 0", "{}", ALL),
    reads("GetStatus", "a{sv} 0", "{}", ALL),
    reads("GetPermissions", "a{sv} 0", "{}", ALL),
    reads("History", "a{sv} 0", "{}", ROOT),
    // These are properties on the bus.
    only_varlink("GetVersion", "{}", ALL),
    // The signal Changed on the bus.
    only_varlink("Monitor", "{}", ALL),
    only_varlink("Ping", "{}", ALL),
    only_varlink("SetLogLevel", r#"{"level":6}"#, ROOT),
    only_varlink("GetEnvironment", "{}", NOBODY_ELSE),
    property("LogLevel", "s info", ROOT),
    property("LogTarget", "s journal", ROOT),
    // What a group's own address is decided by.
    alters(
        "Associate",
        "ssa{sv} '' 10.66.0.12 0",
        r#"{"fixed_address":"10.66.0.12"}"#,
        GROUP,
    ),
];

/// Makes the state that every row begins with.
const RESET: &str = r#"
    set -e
    manager='org.ipfloater /org/ipfloater org.ipfloater.Manager'
    ipfloater confirm 203.0.113.22 >/dev/null 2>&1 || true
    for address in $(ipfloater list | awk 'NR > 1 { print $1 }'); do
        ipfloater release $address >/dev/null
    done
    allocate() {
        busctl --quiet call $manager Allocate 'a{sv}' 2 floating_ip s $1 owner u $(id -u $2)
    }
    allocate 203.0.113.20 alice
    allocate 203.0.113.21 bob
    allocate 203.0.113.22 alice
    busctl --quiet call $manager Associate 'ssa{sv}' 203.0.113.22 10.66.0.13 1 confirm u 3600
    busctl --quiet call $manager Associate 'ssa{sv}' 203.0.113.20 10.66.0.11 0
    busctl --quiet call $manager Forward 'ssssa{sv}' 203.0.113.20 udp 53 10.66.0.11 0
"#;

/// A command line that calls a row.
fn command(row: &Row, bus: &str) -> Option<String> {
    let socket = "/run/ipfloater/org.ipfloater";
    match bus {
        "D-Bus" => {
            let arguments = row.dbus?;
            let quoted = arguments.replacen("a{sv}", "'a{sv}'", 1);
            let quoted = quoted
                .replace("ss'a{sv}'", "'ssa{sv}'")
                .replace("s'a{sv}'", "'sa{sv}'");
            Some(if row.varlink.is_some() {
                format!(
                    "busctl --quiet call org.ipfloater /org/ipfloater org.ipfloater.Manager {} {quoted}",
                    row.name
                )
            } else {
                format!(
                    "busctl set-property org.ipfloater /org/freedesktop/LogControl1 \
                     org.freedesktop.LogControl1 {} {quoted}",
                    row.name
                )
            })
        }
        _ => {
            let parameters = row.varlink?;
            let interface = if SYSTEMD.contains(&format!("method {}(", row.name)) {
                "io.systemd.service"
            } else {
                "org.ipfloater"
            };
            let more = match row.name {
                "Monitor" => "--more",
                _ => "",
            };
            let call = format!(
                "varlinkctl call {more} {socket} {interface}.{} '{parameters}'",
                row.name
            );
            Some(match row.name {
                // It never ends by itself; its first reply is the answer.
                "Monitor" => format!("timeout 10 {call} 2>&1 | head -n 3 | grep -v ^Method"),
                _ => call,
            })
        }
    }
}

fn outcome(machine: &Machine, caller: &str, command: &str) -> Outcome {
    let script = match caller {
        "root" => command.to_owned(),
        user => {
            // As a service of that user would: no session, nobody to ask.
            let quoted = command.replace('\'', r"'\''");
            format!(
                "setpriv --reuid={user} --regid=$(id -g {user}) --init-groups --inh-caps=-all \
                 sh -c '{quoted}'"
            )
        }
    };
    let output = machine.attempt_as(As::Root, &script);
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    match output.status.success() {
        true => Granted,
        false if said.contains("takes authentication by the polkit action") => Authenticate,
        false if said.contains("InteractiveAuthenticationRequired") => Authenticate,
        false if said.contains("org.varlink.service.PermissionDenied") => Denied,
        false => panic!("{caller}: {command}: {said}"),
    }
}

/// The names behind a word of an interface file.
fn members(interface: &str, before: &str, after: char) -> BTreeSet<String> {
    let starts = interface.match_indices(before);
    let names = starts.map(|(at, _)| &interface[at + before.len()..]);
    names
        .filter_map(|name| Some(name.split_once(after)?.0.to_owned()))
        .collect()
}

#[test]
fn every_method_and_settable_property_has_a_row() {
    let rows = |of: fn(&Row) -> Option<&'static str>| -> BTreeSet<String> {
        let rows = ROWS.iter().filter(|row| of(row).is_some());
        rows.map(|row| row.name.to_owned()).collect()
    };
    let settable = |xml: &str| {
        members(xml, "<property ", '>')
            .into_iter()
            .filter(|property| {
                property.contains("access=\"readwrite\"") || property.contains("access=\"write\"")
            })
            .filter_map(|property| Some(property.split('"').nth(1)?.to_owned()))
            .collect::<BTreeSet<_>>()
    };
    let mut on_the_bus = members(MANAGER, "<method name=\"", '"');
    on_the_bus.extend(settable(MANAGER));
    on_the_bus.extend(members(LOG_CONTROL, "<method name=\"", '"'));
    on_the_bus.extend(settable(LOG_CONTROL));
    assert_eq!(rows(|row| row.dbus), on_the_bus);

    let mut by_varlink = members(VARLINK, "\nmethod ", '(');
    by_varlink.extend(members(SYSTEMD, "\nmethod ", '('));
    assert_eq!(rows(|row| row.varlink), by_varlink);
}

#[test]
fn everybody_may_what_the_table_says_and_nothing_else() {
    let router = Router::new(Suite::Trixie);
    router.run(
        "groupadd --system ipfloater-users; useradd --create-home --groups ipfloater-users carol",
    );
    router.write_rules(include_str!("../../polkit/ipfloater.rules"));
    let mut wrong = Vec::new();
    for row in &ROWS {
        for bus in ["D-Bus", "varlink"] {
            let Some(command) = command(row, bus) else {
                continue;
            };
            router.run(RESET);
            for (caller, expected) in COLUMNS.into_iter().zip(row.outcomes) {
                let found = outcome(&router, caller, &command);
                if found != expected {
                    wrong.push(format!("{} by {caller} over {bus}: {found:?}", row.name));
                }
                if row.alters && found == Granted {
                    router.run(RESET);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
