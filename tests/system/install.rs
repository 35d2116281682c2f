//! Installing, with and without a configuration; after a reboot; removing.

use std::collections::BTreeSet;
use std::process::Command;

use super::machine::{As, Machine, Suite};
use super::package::{Router, bring_package, configure, install, surround};

const MANAGER: &str = "org.ipfloater /org/ipfloater org.ipfloater.Manager";

/// What is ours in the kernel, and what would be seen of it.
const IN_THE_KERNEL: &str = "nft list tables | grep ipfloater; \
     ip -4 route show table local proto 245; ip -6 -o address show | grep -F 2001:db8::2; \
     conntrack --dump 2>/dev/null | grep -E '203\\.0\\.113\\.2|2001:db8::2'; true";

/// All files, and what is in those that are read at start. Left out is what
/// changes by itself: logs, caches, transient units, the lists of dpkg but for
/// what they say of us, and the copies that useradd(8) keeps of its last files.
const FILES: &str = "find / /run -xdev \\
     \\( -path /proc -o -path /sys -o -path /tmp -o -path /var/tmp -o -path /var/log \\
        -o -path /var/cache -o -path /run/systemd -o -path /run/user -o -path /var/lib/systemd/timers \\
        -o -path '/var/lib/dpkg/*-old' -o -path /var/lib/apt \\) -prune -o -print | sort; \\
     find /etc -type f ! -name '*-' | sort | xargs md5sum; \\
     getent passwd; getent group; systemctl list-unit-files --no-legend | grep -v transient | sort; dpkg --list | sort";

/// Whoever installs first and configures then sees no failed unit, and is told.
fn waits_for_its_configuration(suite: Suite) {
    let machine = Machine::boot(suite);
    surround(&machine);
    bring_package(&machine);
    let said = install(&machine);
    assert!(
        said.contains("/etc/default/ipfloaterd.conf") && said.contains("IP_POOL"),
        "{said}"
    );
    assert_eq!(machine.run("systemctl is-system-running"), "running\n");
    let status = machine.attempt("systemctl status ipfloaterd.service");
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    for told in [
        "inactive (dead)",
        "ConditionPathExists",
        "/etc/ipfloaterd.conf",
    ] {
        assert!(status.contains(told), "{status}");
    }
    machine.reboot();
    assert_eq!(
        machine.run("systemctl is-enabled ipfloaterd.service ipfloaterd.socket"),
        "enabled\nenabled\n"
    );
    surround(&machine);

    machine.run("cp /etc/default/ipfloaterd.conf /etc/ipfloaterd.conf");
    configure(&machine);
    machine.run("systemctl start ipfloaterd");
    machine.run("ipfloater getip 10.66.0.11");
}

#[test]
fn on_trixie_it_waits_for_its_configuration() {
    waits_for_its_configuration(Suite::Trixie);
}

#[test]
fn on_bookworm_it_waits_for_its_configuration() {
    waits_for_its_configuration(Suite::Bookworm);
}

/// Installed with a configuration it runs, is called over the bus, runs again
/// after a boot and remembers.
fn runs(suite: Suite) {
    let router = Router::new(suite);
    let reply = router.run(&format!(
        "busctl call {MANAGER} Associate 'ssa{{sv}}' '' 10.66.0.11 0"
    ));
    assert!(
        reply.contains("\"floating_ip\" s \"203.0.113.20\"")
            && reply.contains("\"state\" s \"active\""),
        "{reply}"
    );
    router.run("ip netns exec client ping -c 1 -W 2 203.0.113.20");
    assert_eq!(router.run("ps -o user:20= -C ipfloaterd"), "ipfloater\n");

    router.reboot();
    surround(&router);
    router.eventually(
        "it is active again",
        "ipfloater show 203.0.113.20 | grep -q active",
    );
    router.run("ip netns exec client ping -c 1 -W 2 203.0.113.20");
}

#[test]
fn on_trixie_it_is_called_over_the_bus_and_comes_back_after_a_boot() {
    runs(Suite::Trixie);
}

#[test]
fn on_bookworm_it_is_called_over_the_bus_and_comes_back_after_a_boot() {
    runs(Suite::Bookworm);
}

/// Removing ends floating IPs and keeps what is known; installing again brings
/// them back; purging leaves nothing.
fn goes(suite: Suite) {
    let machine = Machine::boot(suite);
    surround(&machine);
    bring_package(&machine);
    let (files, kernel) = (machine.run(FILES), machine.run(IN_THE_KERNEL));
    assert_eq!(kernel, "");

    configure(&machine);
    install(&machine);
    let used = "ip netns exec client ping -c 1 -W 2 203.0.113.20 && \
                ip netns exec client ping -c 1 -W 2 2001:db8::20";
    machine.run("ipfloater getip 10.66.0.11 && ipfloater getip fd66::11");
    machine.run(used);

    machine.run("apt-get -qq remove ipfloater");
    assert_eq!(machine.run(IN_THE_KERNEL), "");
    assert!(!machine.attempt(used).status.success());
    machine.run("test -e /var/lib/ipfloater/ipfloater.db -a -e /etc/ipfloaterd.conf");

    install(&machine);
    machine.run(used);
    machine.write(
        "/etc/ipfloaterd.conf.d/guard.conf",
        "[IPFLOATER]\nGUARD_FORWARD = no\n",
    );
    machine.run("systemctl restart ipfloaterd && systemctl disable ipfloaterd.socket");
    machine.run("systemctl enable --now ipfloater-metrics.timer");
    machine.eventually(
        "numbers are written",
        "test -s /var/lib/prometheus/node-exporter/ipfloater.prom",
    );

    machine.run("apt-get -qq purge ipfloater");
    assert_eq!(machine.run(IN_THE_KERNEL), "");
    let left = machine.run(FILES);
    let [before, after] = [&files, &left].map(|all| all.lines().collect::<BTreeSet<_>>());
    let changed: Vec<_> = before.symmetric_difference(&after).collect();
    assert!(changed.is_empty(), "{changed:#?}");
    assert_eq!(machine.run("systemctl is-system-running"), "running\n");
}

#[test]
fn on_trixie_a_purge_leaves_nothing() {
    goes(Suite::Trixie);
}

#[test]
fn on_bookworm_a_purge_leaves_nothing() {
    goes(Suite::Bookworm);
}

/// Where links in what is installed lead, and pages that units and manual pages name:
/// those that are not there.
const DEAD: &str = r#"
    cd /usr/share/doc/ipfloater
    for page in *.md examples/*.md; do
        grep -oE '\]\([^)]*\)' $page | grep -v '://' | sed -e 's/^](//' -e 's/[#)].*//' |
        while read -r target; do
            case $target in
                '') continue ;;
                /*) ;;
                *) target=$(dirname $page)/$target ;;
            esac
            test -e $target || echo $page: $target
        done
    done
    { cat *.md examples/*.md /usr/lib/systemd/system/ipfloater*; zcat /usr/share/man/man*/*ipfloater*; } |
    grep -oE '/usr/share/(doc/)?ipfloater/[-A-Za-z/._]*[a-z]' | sort -u |
    while read -r named; do
        test -e $named || echo $named
    done"#;

#[test]
fn no_link_of_an_installed_page_is_dead() {
    let machine = Machine::boot(Suite::Trixie);
    bring_package(&machine);
    install(&machine);
    let links =
        machine.run("cat /usr/share/doc/ipfloater/*.md | grep -oE '\\]\\([^)]*\\)' | wc -l");
    assert!(
        links.trim().parse::<u32>().is_ok_and(|links| links > 60),
        "{links}"
    );
    assert_eq!(machine.run(DEAD), "");
}

/// The commands of the README after these words, in a block for a shell.
fn of_the_readme(after: &str) -> &'static str {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once(after).expect("it says so");
    let (_, block) = rest.split_once("```sh\n").expect("a block follows");
    block.split_once("```").expect("it ends").0
}

/// Without the package: `make install`, what the README says after it, and the end.
#[test]
fn what_make_install_puts_there_runs_and_can_be_undone() {
    let stage = tempfile::TempDir::new().expect("a temporary directory");
    let archive = stage.path().join("installed.tar");
    let made = Command::new("bash")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("STAGE", stage.path().join("root"))
        .env("ARCHIVE", &archive)
        .arg("-ec")
        .arg(
            "make install DESTDIR=$STAGE PROFILE=dev
             strip $STAGE/usr/sbin/* $STAGE/usr/bin/*
             tar -C $STAGE --owner=0 --group=0 -cf $ARCHIVE .",
        )
        .output()
        .expect("bash is installed");
    assert!(made.status.success(), "{made:?}");
    let machine = Machine::boot(Suite::Trixie);
    surround(&machine);
    machine.write("/srv/installed.tar", std::fs::read(archive).unwrap());
    let unpack = "mkdir -p $1 && tar -C $1 --no-overwrite-dir --keep-directory-symlink -xf /srv/installed.tar";
    machine.run(&unpack.replace("$1", "/"));
    machine.run(of_the_readme("After it, once:"));
    configure(&machine);
    machine.run("systemctl enable --now ipfloaterd.socket ipfloaterd");
    machine.run("ipfloater getip 10.66.0.11");
    machine.run("ip netns exec client ping -c 1 -W 2 203.0.113.20");

    let undo = of_the_readme("To undo it:");
    let again = "make install DESTDIR=/tmp/installed >/dev/null";
    assert!(undo.contains(again));
    let undo = undo.replace(again, &unpack.replace("$1", "/tmp/installed"));
    machine.run(&format!("set -e\n{undo}"));
    assert_eq!(machine.run(IN_THE_KERNEL), "");
    let left = "find /etc /usr /var/lib -xdev -name '*ipfloater*' ! -name ipfloater-test ! -type d; getent passwd | grep ipfloater; true";
    assert_eq!(machine.run(left), "");
    assert_eq!(machine.run("systemctl is-system-running"), "running\n");
}

/// The lintian of each release, in the release.
#[test]
fn lintian_has_no_objection() {
    for suite in [Suite::Trixie, Suite::Bookworm] {
        let machine = Machine::boot(suite);
        bring_package(&machine);
        machine.run("chmod a+r /srv/ipfloater.deb");
        let said = machine.run_as(
            As::User("bob"),
            "lintian --fail-on error,warning --info /srv/ipfloater.deb",
        );
        assert_eq!(said, "", "{suite:?}");
    }
}
