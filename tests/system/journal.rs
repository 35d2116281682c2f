//! The audit record in a real journal, and the log level by systemctl.

use super::machine::{As, Suite};
use super::package::Router;

fn record(suite: Suite) {
    let router = Router::new(suite);
    router.run("ipfloater getip 10.66.0.11 && ipfloater releaseip 10.66.0.11");
    let manager = "org.ipfloater /org/ipfloater org.ipfloater.Manager";
    let alice = format!("busctl call {manager} Associate 'ssa{{sv}}' 203.0.113.20 10.66.0.12 0");
    assert!(
        !router
            .attempt_as(As::User("alice"), &alice)
            .status
            .success()
    );

    // By its address: what root did, and what alice wanted.
    let column = |field: &str| {
        let script = format!(
            "journalctl --sync
             journalctl --quiet IPFLOATER_FLOATING_IP=203.0.113.20 --output=cat --output-fields={field}"
        );
        router.run(&script).replace('\n', " ")
    };
    assert_eq!(
        column("IPFLOATER_VERB"),
        "allocate associate release associate "
    );
    assert_eq!(
        column("IPFLOATER_OUTCOME"),
        "granted granted granted denied "
    );
    assert_eq!(column("IPFLOATER_UID"), "0 0 0 1000 ");
    assert_eq!(column("IPFLOATER_FIXED_ADDRESS"), "10.66.0.11 10.66.0.12 ");
    let of_kind = router.run(&format!(
        "journalctl --quiet MESSAGE_ID={} --output=cat | wc -l",
        ipfloater::audit::MESSAGE_ID
    ));
    assert_eq!(of_kind, "4\n");
    // It is nobody else's to read.
    let seen = router.attempt_as(
        As::User("alice"),
        "journalctl --quiet IPFLOATER_FLOATING_IP=203.0.113.20",
    );
    assert_eq!(String::from_utf8_lossy(&seen.stdout), "");

    let level = "systemctl service-log-level ipfloaterd.service";
    assert_eq!(router.run(level), "info\n");
    router.run(&format!("{level} debug"));
    assert_eq!(router.run(level), "debug\n");
    router.run("ipfloater status");
    router.run("journalctl --sync; journalctl --quiet --unit=ipfloaterd --priority=debug..debug | grep -q .");
    let refused = router.attempt_as(As::User("alice"), &format!("{level} emerg"));
    assert!(!refused.status.success());
    assert_eq!(router.run(level), "debug\n");
    assert_eq!(
        router.run("systemctl service-log-target ipfloaterd.service"),
        "journal\n"
    );
}

#[test]
fn on_trixie_who_did_what_is_found_by_the_address() {
    record(Suite::Trixie);
}

#[test]
fn on_bookworm_who_did_what_is_found_by_the_address() {
    record(Suite::Bookworm);
}
