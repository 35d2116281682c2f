//! What systemd's own ambient capabilities leave, the watchdog, and the end of
//! everything: the unit as it is installed, in a Debian as it boots.

use std::time::Duration;

use super::machine::Suite;
use super::package::Router;

/// The rights of every thread, a line for each that differs.
const RIGHTS: &str = "
    cd /proc/$(pidof ipfloaterd)/task
    for thread in *; do
        grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs):' $thread/status | tr -s '\\t \\n' ' '
        echo
    done | sed 's/ *$//' | sort | uniq";

const CALL: &str = "busctl --auto-start=no call org.ipfloater /org/ipfloater org.ipfloater.Manager";

fn holds(suite: Suite) {
    let router = Router::new(suite);

    let id = router.run("id -u ipfloater");
    let id = id.trim();
    let rights = router.run(RIGHTS);
    let expected = format!(
        "Uid: {id} {id} {id} {id} Gid: {id} {id} {id} {id} Groups: {id} \
         CapInh: 0000000000000000 CapPrm: 0000000000001000 CapEff: 0000000000001000 \
         CapBnd: 0000000000001000 CapAmb: 0000000000000000 NoNewPrivs: 1\n"
    );
    assert_eq!(rights, expected);
    let threads = router.run("ls /proc/$(pidof ipfloaterd)/task | wc -l");
    assert!(
        threads.trim().parse::<u32>().expect("a number") > 4,
        "{threads}"
    );

    // Ready means that the name is there.
    for _ in 0..3 {
        router.run(&format!(
            "systemctl reset-failed && systemctl restart ipfloaterd && {CALL} GetStatus 'a{{sv}}' 0"
        ));
    }
    let status = "systemctl show --property StatusText ipfloaterd";
    let told =
        |count| format!("StatusText={count} of 10 addresses of IPv4 and 0 of IPv6 associated");
    assert_eq!(router.run(status).trim(), told(0));
    router.run(&format!("{CALL} Associate 'ssa{{sv}}' '' 10.66.0.11 0"));
    router.eventually(
        "the status is told",
        &format!("{status} | grep -qx '{}'", told(1)),
    );

    // One that answers is left alone, one that does not is restarted.
    router.write(
        "/etc/systemd/system/ipfloaterd.service.d/watchdog.conf",
        "[Service]\nWatchdogSec=2s\n",
    );
    router.run("systemctl daemon-reload && systemctl reset-failed && systemctl restart ipfloaterd");
    let restarts = "systemctl show --property NRestarts --value ipfloaterd";
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(router.run(restarts).trim(), "0");
    router.run("kill -STOP $(pidof ipfloaterd)");
    let works = format!(
        "test $({restarts}) = 1 && systemctl is-active ipfloaterd && {CALL} GetStatus 'a{{sv}}' 0"
    );
    router.eventually("it is restarted", &works);
    router.run("journalctl --no-pager -u ipfloaterd | grep -q 'Watchdog timeout'");
    let ping = "ip netns exec client ping -c 1 -W 2 203.0.113.20";
    router.run(ping);

    // Root by hand, then systemd again: nothing is left that is root's.
    router.run(
        "systemctl stop ipfloaterd.socket ipfloaterd.service
         timeout --preserve-status 3 ipfloaterd 2>/tmp/log || { cat /tmp/log; exit 1; }
         grep 'running as uid [1-9][0-9]* (ipfloater), .* with CAP_NET_ADMIN$' /tmp/log || { cat /tmp/log; exit 1; }
         ! find /var/lib/ipfloater /run/ipfloater ! -user ipfloater | grep .
         systemctl start ipfloaterd.socket ipfloaterd.service",
    );
    router.run(ping);

    let refused = router.attempt("ipfloaterd --teardown");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("ipfloaterd is running"),
        "{said}"
    );
    router.run(ping);
    router.run("systemctl stop ipfloaterd.socket ipfloaterd.service");
    router.run(ping);
    router.run(
        "ipfloaterd --teardown
         test -z \"$(nft list tables; ip route show table all proto 245; ip -6 address show deprecated)\"
         ! conntrack -L 2>/dev/null | grep -F 203.0.113.20
         ! find /var/lib/ipfloater /run/ipfloater ! -user ipfloater | grep .",
    );
    assert!(!router.attempt(ping).status.success(), "nobody answers");
    router.run("systemctl start ipfloaterd.socket ipfloaterd.service");
    router.run(ping);
}

#[test]
fn on_trixie_the_unit_holds_what_it_promises() {
    holds(Suite::Trixie);
}

#[test]
fn on_bookworm_the_unit_holds_what_it_promises() {
    holds(Suite::Bookworm);
}
