//! examples/, each as it stands there, in a Debian with the package.

use super::machine::{As, Suite};
use super::package::Router;

/// An example, by its name under `examples/`.
fn example(name: &str) -> String {
    let path = format!("{}/examples/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Puts examples where they can be run.
fn bring(router: &Router, names: &[&str]) {
    for name in names {
        let (_, file) = name.rsplit_once('/').expect("it is in a directory");
        router.write(&format!("/srv/{file}"), example(name));
        router.run(&format!("chmod 755 /srv/{file}"));
    }
}

/// What a command that fails says.
#[track_caller]
fn refused(router: &Router, who: As, script: &str) -> String {
    let output = router.attempt_as(who, script);
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{who:?}: {script}: {said}");
    said.into_owned()
}

#[test]
fn rules_for_a_group_and_for_one_user_and_range() {
    let router = Router::new(Suite::Trixie);
    let alice = As::User("alice");
    refused(&router, alice, "ipfloater associate 10.66.0.11");
    router.write_rules(include_str!("../../polkit/ipfloater.rules"));
    router.run("groupadd --system ipfloater-users; gpasswd --add alice ipfloater-users >/dev/null");
    router.run_as(alice, "ipfloater associate 203.0.113.20 10.66.0.11");
    router.run_as(alice, "ipfloater releaseip 10.66.0.11");
    refused(&router, As::User("bob"), "ipfloater associate 10.66.0.11");

    // bob plays deploy.
    let rules = example("polkit/50-ipfloater-range.rules");
    assert!(rules.contains("\"deploy\""));
    router.write_rules(&rules.replace("\"deploy\"", "\"bob\""));
    let bob = As::User("bob");
    router.run_as(bob, "ipfloater associate 203.0.113.25 10.66.0.11");
    refused(&router, bob, "ipfloater associate 203.0.113.23 10.66.0.12");
    refused(&router, bob, "ipfloater associate 203.0.113.26 10.67.0.12");
    router.run_as(bob, "ipfloater release 203.0.113.25");
    refused(
        &router,
        alice,
        "ipfloater associate 203.0.113.24 10.66.0.11",
    );
}

#[test]
fn a_unit_moves_everybodys_addresses_by_a_script_over_busctl() {
    let router = Router::new(Suite::Trixie);
    router.write_rules(&example("polkit/50-ipfloater-unit.rules"));
    bring(&router, &["shell/failover.sh"]);
    router.run("ipfloater associate 203.0.113.20 10.66.0.11 --owner alice");
    // Who may ping without a capability (icmp(7)).
    router.run("sysctl -qw net.ipv4.ping_group_range='0 2147483647'");
    let unit = |name: &str, hosts: &str| {
        format!(
            "systemd-run --quiet --wait --pipe --collect --unit {name} --uid bob -p NoNewPrivileges=yes \
             /srv/failover.sh 203.0.113.20 {hosts}"
        )
    };
    // The first one is nobody; 10.66.0.1 is the router, and no host.
    let said = refused(&router, As::Root, &unit("failover", "10.66.0.99 10.66.0.1"));
    assert!(said.contains("router"), "{said}");
    router.run("ip -n web address add 10.66.0.12/24 dev eth0");
    let said = router.run(&unit("failover", "10.66.0.99 10.66.0.12"));
    assert_eq!(said, "203.0.113.20 is with 10.66.0.12\n");
    assert!(
        router
            .run("ipfloater show 203.0.113.20")
            .contains("10.66.0.12")
    );
    // What is not in force is not said to be.
    router.run("ip link set wan0 down");
    let said = router.run(&unit("failover", "10.66.0.11"));
    assert_eq!(
        said,
        "203.0.113.20 goes to 10.66.0.11, and is not in force yet\n"
    );
    // Another unit of the same user may not.
    refused(&router, As::Root, &unit("other", "10.66.0.12"));
}

#[test]
fn a_client_in_python_and_a_script_over_varlinkctl() {
    let router = Router::new(Suite::Trixie);
    bring(&router, &["python/dbus_client.py", "shell/who-has-what.sh"]);
    let move_it = |host: &str| format!("/srv/dbus_client.py 203.0.113.20 {host}");
    let said = router.run(&move_it("10.66.0.11"));
    assert_eq!(said, "203.0.113.20 is now with 10.66.0.11, active\n");
    let said = router.run(&move_it("10.66.0.11"));
    assert_eq!(said, "203.0.113.20 was already with 10.66.0.11, active\n");
    let said = refused(&router, As::Root, &move_it("192.0.2.1"));
    assert!(said.starts_with("org.ipfloater.Error."), "{said}");
    router.run("ipfloater allocate 2001:db8::20 --owner alice");
    assert_eq!(
        router.run("/srv/who-has-what.sh"),
        "203.0.113.20\tactive\t10.66.0.11\t0\n2001:db8::20\tallocated\t-\t1000\n"
    );
}

#[test]
fn drop_ins_for_systemd() {
    let router = Router::new(Suite::Trixie);
    for name in ["10-after-uplink.conf", "20-memory.conf"] {
        let content = example(&format!("systemd/{name}"));
        let path = format!("/etc/systemd/system/ipfloaterd.service.d/{name}");
        router.write(&path, content);
    }
    router.run("systemctl daemon-reload; systemctl restart ipfloaterd");
    let said = router.run("systemctl show -P MemoryMax -P After ipfloaterd.service");
    assert!(said.contains("209715200"), "{said}");
    assert!(said.contains("network-online.target"), "{said}");
    let said = router.run("systemd-analyze verify ipfloaterd.service 2>&1");
    assert!(!said.contains("ipfloater"), "{said}");
}
