//! `systemctl reload`: all of the configuration or nothing of it, and who asked
//! is told.

use super::machine::Suite;
use super::package::Router;

fn reloads(suite: Suite) {
    let router = Router::new(suite);
    let daemon = router.run("pidof ipfloaterd");
    router.run("ipfloater associate 203.0.113.20 10.66.0.11");
    let knows = |address: &str| {
        let listed = router.run("ipfloater ippool");
        listed.lines().any(|line| line.contains(address))
    };
    assert!(!knows("203.0.113.30"));

    let fragment = "/etc/ipfloaterd.conf.d/more.conf";
    let with = |pool: &str| format!("[IPFLOATER]\nIP_POOL = {pool}\n");
    router.write(fragment, with("203.0.113.20, 203.0.113.30"));
    router.run("systemctl reload ipfloaterd");
    assert!(knows("203.0.113.30") && !knows("203.0.113.21"));

    router.write(fragment, with("203.0.113.31, 203.0.113.300"));
    let output = router.attempt("systemctl reload ipfloaterd");
    assert!(!output.status.success());
    let log = router.run("journalctl --no-pager -o cat -u ipfloaterd.service");
    assert!(
        log.contains("203.0.113.300") && log.contains(fragment),
        "{log}"
    );
    assert!(knows("203.0.113.30") && !knows("203.0.113.31"));
    router.run("systemctl is-active ipfloaterd");

    assert_eq!(router.run("pidof ipfloaterd"), daemon);
    router.run("ip netns exec client ping -c 1 -W 2 203.0.113.20");
}

#[test]
fn on_trixie_a_reload_takes_all_of_the_configuration_or_nothing() {
    reloads(Suite::Trixie);
}

#[test]
fn on_bookworm_a_reload_takes_all_of_the_configuration_or_nothing() {
    reloads(Suite::Bookworm);
}
