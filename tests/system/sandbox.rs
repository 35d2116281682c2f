//! What the unit leaves the daemon, as systemd measures it and as it is felt.

use super::machine::Suite;
use super::package::Router;

/// The most that systemd may say against a unit, in tenths, by both systemds: for
/// the daemon half of what systemd-networkd has, for the others next to nothing.
const EXPOSURES: [(&str, u32); 4] = [
    ("ipfloaterd.service", 14),
    ("ipfloater-metrics.service", 4),
    ("ipfloater-remote.service", 4),
    ("ipfloater-remote@one.service", 4),
];

#[test]
fn the_exposure_of_every_service_is_low() {
    for suite in [Suite::Trixie, Suite::Bookworm] {
        let router = Router::new(suite);
        let units = router.run("ls /usr/lib/systemd/system | grep ipfloat | grep service");
        assert_eq!(units.lines().count(), EXPOSURES.len(), "{units}");
        // As docs/remote.md says: each instance has a port.
        router.run("mkdir -p /etc/systemd/system/ipfloater-remote@one.socket.d");
        router.write(
            "/etc/systemd/system/ipfloater-remote@one.socket.d/port.conf",
            "[Socket]\nListenStream=7001\n",
        );
        router.run("systemctl daemon-reload");
        for (unit, most) in EXPOSURES {
            let verified = router.run(&format!(
                "systemd-analyze verify {unit} 2>&1 | grep -i ipfloat; true"
            ));
            assert_eq!(verified, "", "{suite:?}");
            let analyze = format!("systemd-analyze security --threshold={most} {unit}");
            let output = router.attempt(&analyze);
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let faults: Vec<_> = said.lines().filter(|line| !line.contains('✓')).collect();
            assert!(output.status.success(), "{suite:?}: {faults:#?}");
            println!("{suite:?}: {}", faults.last().copied().unwrap_or_default());
        }
    }
}

/// The filter of system calls refuses with EPERM, which the daemon might take for
/// an answer. Here it kills instead, and whatever users do is done.
fn no_system_call_is_missed(suite: Suite) {
    let router = Router::new(suite);
    router.write(
        "/etc/systemd/system/ipfloaterd.service.d/kill.conf",
        "[Service]\nSystemCallErrorNumber=kill\nRestart=no\n",
    );
    router.run("systemctl daemon-reload && systemctl restart ipfloaterd");
    let daemon = router.run("pidof ipfloaterd");
    router.run(
        "set -e
         ipfloater getip 10.66.0.11
         ipfloater getip fd66::11
         ipfloater allocate
         ipfloater associate 203.0.113.21 10.66.0.11 --reassociate
         ipfloater show 203.0.113.21
         ip netns exec client ping -c 1 203.0.113.21
         ipfloater disassociate 203.0.113.21
         ipfloater release 203.0.113.21
         ipfloater history
         ipfloater status
         busctl introspect org.ipfloater /org/ipfloater
         ip link set wan0 down; ip link set wan0 up
         ip link add other0 type bridge; ip link set other0 up; ip link del other0
         systemctl restart dbus; sleep 1",
    );
    router.eventually(
        "it is on the bus again",
        "busctl call org.ipfloater /org/ipfloater org.ipfloater.Manager GetStatus 'a{sv}' 0",
    );
    assert_eq!(router.run("pidof ipfloaterd"), daemon);
    let log = router.run("journalctl --no-pager -o cat -u ipfloaterd");
    for bad in ["SYS", "ermission denied", "not permitted"] {
        assert!(!log.contains(bad), "{log}");
    }
    router.run("systemctl stop ipfloaterd.socket ipfloaterd.service");
    assert_eq!(
        router.run("systemctl show --value -p Result ipfloaterd.service"),
        "success\n"
    );
}

#[test]
fn no_system_call_is_missed_on_trixie() {
    no_system_call_is_missed(Suite::Trixie);
}

#[test]
fn no_system_call_is_missed_on_bookworm() {
    no_system_call_is_missed(Suite::Bookworm);
}

/// The daemon cannot open the packet sockets itself: it got them, and neighbours
/// learn of an address that nobody asked for. Also after restarts, when systemd
/// has some already.
#[test]
fn an_address_is_announced_without_the_capability_that_this_takes() {
    let router = Router::new(Suite::Bookworm);
    for _ in 0..2 {
        router.run("systemctl restart ipfloaterd");
    }
    let kept = "systemctl show --value -p NFileDescriptorStore ipfloaterd";
    assert_eq!(router.run(kept), "2\n");

    // Linux adds a neighbour for a gratuitous ARP only if told to (arp_accept).
    router.run("ip netns exec client sysctl -qw net.ipv4.conf.eth0.arp_accept=1");
    let known = "ip -n client neighbour show 203.0.113.20";
    assert_eq!(router.run(known), "");
    router.run("ipfloater getip 10.66.0.11");
    router.eventually("it is announced", &format!("{known} | grep lladdr"));
}

/// Inside the sandbox the daemon hears who has an address, too.
#[test]
fn what_another_machine_has_is_noticed_without_the_capability_that_this_takes() {
    let router = Router::new(Suite::Trixie);
    router.write(
        "/etc/ipfloaterd.conf.d/probe.conf",
        "[IPFLOATER]\nPROBE = yes\n",
    );
    router.run("systemctl reload ipfloaterd");
    let mac = router.run("ip netns exec client cat /sys/class/net/eth0/address");
    for (floating, prefix, fixed) in [
        ("203.0.113.21", "32", "10.66.0.11"),
        ("2001:db8::21", "128", "fd66::11"),
    ] {
        let nodad = if prefix == "128" { " nodad" } else { "" };
        router.run(&format!(
            "ip -n client address add {floating}/{prefix} dev eth0{nodad}"
        ));
        router.run(&format!("ipfloater associate {floating} {fixed}"));
        let shown = router.run(&format!("ipfloater show {floating}"));
        assert!(shown.contains("pending"), "{shown}");
        assert!(shown.contains(mac.trim()), "{shown}");
    }
}
