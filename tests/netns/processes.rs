//! What the daemon does to the system around it, seen from outside.

use ipfloater::model::Family;

use super::daemon::Start;
use super::lab::{Lab, floating};
use super::namespace::eventually;
use super::talk::{Tcp, saw};

#[test]
fn the_daemon_runs_no_other_program() {
    let lab = Lab::new();
    // -D keeps the daemon our child and makes strace its grandchild.
    let under = "strace -D -f -o {}/trace -e trace=execve,execveat,fork,vfork,clone,clone3";
    let mut daemon = lab.start_with(Start {
        under,
        ..Start::PLAIN
    });
    for family in Family::BOTH {
        let address = floating(family, 10);
        daemon.order(&format!("allocate {address}"));
        daemon.associate(address, &lab.host_a);
        daemon.reassociate(address, &lab.host_b);
        assert_eq!(
            lab.outside.ask(Tcp, address),
            saw(&lab.host_b, lab.outside.address(family))
        );
        daemon.disassociate(address);
        daemon.release(address);
    }
    daemon.stop();

    let trace = || std::fs::read_to_string(daemon.directory().join("trace")).unwrap_or_default();
    eventually("strace has written all", || {
        trace().contains("+++ exited with 0 +++")
    });
    let trace = trace();
    let calls = |name: &str| {
        trace
            .lines()
            .filter(|line| line.contains(&format!(" {name}(")))
            .count()
    };
    assert_eq!(calls("execve"), 1, "only its own start: {trace}");
    assert_eq!(
        calls("execveat") + calls("fork") + calls("vfork"),
        0,
        "{trace}"
    );
    let processes = trace
        .lines()
        .filter(|line| line.contains(" clone") && !line.contains("CLONE_THREAD"));
    let processes: Vec<_> = processes.filter(|line| !line.contains("resumed")).collect();
    assert_eq!(processes, [""; 0], "threads only");
    assert!(
        calls("clone3") + calls("clone") > 0,
        "strace has seen the threads: {trace}"
    );
}
