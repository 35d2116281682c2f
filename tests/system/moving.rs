//! From the original IP Floater to this one, by the commands of
//! docs/moving-from-ipfloater.md.

use rusqlite::Connection;

use super::machine::{Machine, Suite};
use super::package::{DEB, bring_package, surround};

const DOCUMENT: &str = include_str!("../../docs/moving-from-ipfloater.md");

/// A configuration of the original, as its template had the lines.
const CONFIGURATION: &str = "[IPFLOATER]\n\
     # A comma separated list\n\
     IP_POOL = 203.0.113.20,203.0.113.21\n\
     PRIVATE_IP_RANGES=10.66.0.1/24\n\
     LISTEN_IP = 127.0.0.1\n\
     LISTEN_PORT = 7000\n\
     REST_IP = 127.0.0.1\n\
     REST_PORT = 7003\n\
     REMOVE_AT_BOOT = True\n\
     BLOCK_PUBLIC_IPS = True\n\
     DB = sqlite:///var/lib/ipfloater/ipfloater.db\n";

/// What the original leaves: its programs, its process, its rules, and a pool
/// address on the outside interface.
const ORIGINAL: &str = r#"
    set -e
    for file in /usr/local/bin/ipfloater /usr/local/bin/ipfloaterd /usr/local/bin/ipfloaterdaemon; do
        printf '#!/bin/sh\nsleep 3600\n' >$file
        chmod +x $file
    done
    printf '#!/bin/sh\n### BEGIN INIT INFO\n# Provides: ipfloaterd\n# Required-Start: $remote_fs\n# Required-Stop: $remote_fs\n# Default-Start: 2 3 4 5\n# Default-Stop: 0 1 6\n### END INIT INFO\n' >/etc/init.d/ipfloaterd
    chmod +x /etc/init.d/ipfloaterd
    update-rc.d ipfloaterd defaults
    systemd-run --quiet /usr/local/bin/ipfloaterdaemon
    ip address add 203.0.113.20/32 dev wan0
    ip route add default via 203.0.113.9
    nft -f - <<'END'
    table ip nat {
        chain ipfl-rule-5f3a9c-PREROUTING { ip daddr 203.0.113.20 counter dnat to 10.66.0.11; }
        chain ipfl-rule-5f3a9c-OUTPUT { ip daddr 203.0.113.20 counter dnat to 10.66.0.11; }
        chain ipfl-rule-5f3a9c-POSTROUTING { ip saddr 10.66.0.11 counter snat to 203.0.113.20; }
        chain ipfloater-PREROUTING { counter jump ipfl-rule-5f3a9c-PREROUTING; }
        chain ipfloater-OUTPUT { counter jump ipfl-rule-5f3a9c-OUTPUT; }
        chain ipfloater-POSTROUTING { ct status != dnat counter accept; counter jump ipfl-rule-5f3a9c-POSTROUTING; }
        chain PREROUTING { type nat hook prerouting priority dstnat; counter jump ipfloater-PREROUTING; }
        chain OUTPUT { type nat hook output priority -100; counter jump ipfloater-OUTPUT; }
        chain POSTROUTING { type nat hook postrouting priority srcnat; counter jump ipfloater-POSTROUTING; oifname "nowhere" masquerade; }
    }
    table ip filter {
        chain ipfloater-INPUT { ip daddr 203.0.113.20 counter drop; }
        chain ipfloater-FORWARD { ip daddr 203.0.113.20 counter accept; }
        chain INPUT { type filter hook input priority filter; counter jump ipfloater-INPUT; }
        chain FORWARD { type filter hook forward priority filter; counter jump ipfloater-FORWARD; }
    }
END
    ip netns exec client ping -c 1 -W 2 203.0.113.20"#;

/// The commands of the section, in their order: lines of code that do not show
/// what is printed.
fn commands() -> Vec<&'static str> {
    let section = DOCUMENT
        .split("\n## ")
        .find(|text| text.starts_with("Five"));
    let lines = section.expect("it is there").lines();
    let code = lines.filter_map(|line| line.strip_prefix("    "));
    code.filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()))
        .collect()
}

fn database() -> Vec<u8> {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let path = directory.path().join("original.db");
    Connection::open(&path)
        .and_then(|database| {
            database.execute_batch(
                "CREATE TABLE endpoint (id, public_ip, public_port, private_ip, private_port, timestamp);
                 INSERT INTO endpoint VALUES ('5f3a9c', '203.0.113.20', 0, '10.66.0.11', 0, 1500000000)",
            )
        })
        .expect("it is SQL");
    std::fs::read(path).expect("it was written")
}

/// Another configuration, of which nobody wants anything.
const TEMPLATE: &str = "[IPFLOATER]\nIP_POOL = 203.0.113.99\n";

/// After each command the floating IP leads to its host. The configuration is one
/// of those that the original read; what is in /etc/default came first there, and
/// was overridden.
fn moves(suite: Suite, configuration: &str) {
    let machine = Machine::boot(suite);
    surround(&machine);
    bring_package(&machine);
    machine.run("mkdir -p /etc/ipfloater");
    machine.write("/etc/default/ipfloaterd.conf", TEMPLATE);
    machine.write(configuration, CONFIGURATION);
    machine.write("/var/lib/ipfloater/ipfloater.db", database());
    machine.run(ORIGINAL);
    // Somebody saved the rules once; iptables-persistent stands in for itself.
    let persistent = "mkdir -p /etc/iptables && echo ':ipfl-rule-5f3a9c-OUTPUT - [0:0]' >/etc/iptables/rules.v4
        printf '#!/bin/sh\\nnft list ruleset >/etc/iptables/rules.v4\\n' >/usr/sbin/netfilter-persistent
        chmod +x /usr/sbin/netfilter-persistent";
    machine.run(persistent);
    // The client pings all the while.
    machine.run(
        "systemd-run --quiet --unit=pings sh -c \
         'exec ip netns exec client ping -i 0.02 203.0.113.20 >/run/pings 2>&1'",
    );

    let commands = commands();
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        let package = match command.starts_with("apt ") {
            true => format!("-q {DEB} 2>&1"),
            false => DEB.to_owned(),
        };
        let said = machine.run(&command.replace("./ipfloater_*.deb", &package));
        let is_told = said.contains("203.0.113.20 -> 10.66.0.11");
        assert!(is_told || command != "ipfloater status", "{said}");
        machine.run("ip netns exec client ping -c 1 -W 2 203.0.113.20");
    }

    machine.run("systemctl kill --signal INT pings");
    machine.eventually("ping ends", "! systemctl is-active pings");
    let pings = machine.run("cat /run/pings");
    let counted = pings
        .lines()
        .find(|line| line.contains("packets transmitted"));
    let counted = counted.unwrap_or_else(|| panic!("{pings}"));
    assert!(counted.contains(" 0% packet loss"), "{counted}");
    assert_eq!(
        machine.run("command -v ipfloater; command -v ipfloaterd"),
        "/usr/bin/ipfloater\n/usr/sbin/ipfloaterd\n"
    );
    let rest = "grep ipfl-rule /etc/iptables/rules.v4; nft list ruleset | grep -e ipfloater- -e ipfl-rule; ip -4 -o address show dev wan0 | grep -F 203.0.113.20; \
         pgrep -f '[i]pfloaterdaemon'; ls /etc/rc?.d | grep ipfloater; true";
    assert_eq!(machine.run(rest), "");
    assert!(
        machine
            .run("nft list chain ip nat POSTROUTING")
            .contains("nowhere")
    );
    machine.reboot();
    surround(&machine);
    machine.run("ip route add default via 203.0.113.9");
    machine.eventually(
        "it is there after a boot",
        "ip netns exec client ping -c 1 -W 1 203.0.113.20",
    );
}

#[test]
fn on_trixie_the_original_is_left_behind_by_the_commands_of_the_document() {
    moves(Suite::Trixie, "/etc/ipfloaterd.conf");
}

#[test]
fn on_bookworm_the_original_is_left_behind_by_the_commands_of_the_document() {
    moves(Suite::Bookworm, "/etc/ipfloater/ipfloaterd.conf");
}
