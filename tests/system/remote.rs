//! `ipfloater-remote` as a unit: what docs/remote.md says, with whose rights, and
//! what the sandbox leaves.

use super::documents::follow;
use super::machine::Suite;
use super::package::Router;
use super::ssh;

const PAGE: &str = include_str!("../../docs/remote.md");

fn does_what_the_page_says(suite: Suite) {
    let router = Router::new(suite);
    assert_eq!(
        router.run("systemctl is-enabled ipfloater-remote.socket || true"),
        "disabled\n"
    );
    ssh::open(&router);
    follow(&router, PAGE);
    assert_eq!(
        router.run("ps -o user:30= -C ipfloater-remote"),
        "ipfloater-remote\n"
    );
    // The certificate is revoked by now; another one has the same rights and no more.
    let deny = "cd /root/ca && openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=other -addext extendedKeyUsage=clientAuth \
         -keyout ~/.config/ipfloater/client.key -out other.csr &&
         openssl x509 -req -in other.csr -CA ca.pem -CAkey ca.key -set_serial 77 -copy_extensions copy -out ~/.config/ipfloater/client.pem";
    router.run(deny);
    router.run("ipfloater allocate 203.0.113.26");
    let near = "ip netns exec client ipfloater -i 203.0.113.1";
    let refused = router.attempt(&format!("{near} release 203.0.113.26"));
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    router.run(&format!("{near} release 203.0.113.25"));
    let refused = router.attempt(&format!("{near} reload"));
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");

    // The instance has another user, and trusts others.
    let refused = router.attempt(&format!("{near} -p 7001 list"));
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert_eq!(
        router.run("ps -o user:30= -C ipfloater-remote | sort"),
        "ipfloater-remote\nipfloater-remote-web\n"
    );

    // Wrong files: the reload says so, and it goes on.
    router.run("echo nothing >/etc/ipfloater-remote/clients.pem");
    assert!(
        !router
            .attempt("systemctl reload ipfloater-remote")
            .status
            .success()
    );
    router.run(&format!("{near} list"));
    router.run("install -m 640 -g ipfloater-remote /root/ca/ca.pem /etc/ipfloater-remote/clients.pem && systemctl reload ipfloater-remote");

    // It comes back after a crash, and the daemon need not be there before it.
    router.run("systemctl kill --signal=KILL ipfloater-remote.service");
    router.eventually("it serves again", &format!("{near} list"));
    router.run("systemctl restart ipfloaterd");
    router.run(&format!("{near} list"));

    for unit in ["ipfloater-remote.service", "ipfloater-remote@web.service"] {
        let verified = router.run(&format!(
            "systemd-analyze verify {unit} {} 2>&1 | grep -i ipfloat; true",
            unit.replace(".service", ".socket")
        ));
        assert_eq!(verified, "", "{suite:?}");
        let output = router.attempt(&format!("systemd-analyze security --threshold=12 {unit}"));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let faults: Vec<_> = said.lines().filter(|line| !line.contains('✓')).collect();
        assert!(output.status.success(), "{suite:?}: {faults:#?}");
        println!("{suite:?}: {}", faults.last().copied().unwrap_or_default());
    }
    let threads = router.run("cat /proc/$(pidof ipfloater-remote | cut -d' ' -f1)/task/*/status");
    for line in threads.lines().filter(|line| line.starts_with("Cap")) {
        assert!(line.ends_with("0000000000000000"), "{line}");
    }
    let weight = "systemctl show --value -p CPUWeight ipfloater-remote.service";
    assert_eq!(router.run(weight), "20\n");
    is_turned_off(&router, near);
}

/// What fails comes back, what is turned off is off, and what is removed is gone.
fn is_turned_off(router: &Router, near: &str) {
    router.run(
        "for often in 1 2 3 4 5 6 7 8; do
             systemctl kill --signal=KILL ipfloater-remote.service; sleep 1.2
         done",
    );
    router.eventually("it serves again", &format!("{near} list"));

    let runs = |unit: &str| {
        let state = router.attempt(&format!("systemctl is-active {unit}"));
        String::from_utf8_lossy(&state.stdout).trim().to_owned()
    };
    router.run("systemctl stop ipfloater-remote.socket");
    assert_eq!(runs("ipfloater-remote.service"), "inactive");
    let refused = router.attempt(&format!("{near} list"));
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    router.run("systemctl start ipfloater-remote.socket");
    router.run(&format!("{near} list"));

    router.attempt(&format!("{near} -p 7001 list"));
    assert_eq!(runs("ipfloater-remote@web.service"), "active");
    router.run("apt-get -qq remove ipfloater");
    assert_eq!(runs("ipfloater-remote@web.socket"), "inactive");
    assert_eq!(
        router.run("ss -Htln 'sport = 7000 or sport = 7001'; pidof ipfloater-remote; true"),
        ""
    );
}

#[test]
fn on_trixie_a_router_is_reached_as_the_page_says() {
    does_what_the_page_says(Suite::Trixie);
}

#[test]
fn on_bookworm_a_router_is_reached_as_the_page_says() {
    does_what_the_page_says(Suite::Bookworm);
}

/// Enabled without certificates, it says at once what is missing.
#[test]
fn certificates_that_are_missing_are_said_when_it_is_enabled() {
    let router = Router::new(Suite::Trixie);
    assert!(
        !router
            .attempt("systemctl enable --now ipfloater-remote.socket")
            .status
            .success()
    );
    let log = router.run("journalctl -o cat -u ipfloater-remote.socket");
    assert!(
        log.contains("cannot read /etc/ipfloater-remote/server.pem"),
        "{log}"
    );
    assert!(log.contains("ipfloater-remote(8)"), "{log}");
}
