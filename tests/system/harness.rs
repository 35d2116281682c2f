//! What the other tests take for granted of a box.

use std::process::Command;

use super::machine::{self, As, Machine, Suite};

fn users_and_terminals(suite: Suite) {
    let machine = Machine::boot(suite);
    let session =
        "loginctl show-session $XDG_SESSION_ID -p Active -p Remote -p Seat --value | xargs";
    assert_eq!(
        machine.run_as(As::Seated("alice"), session),
        "seat0 no yes\n"
    );
    assert_eq!(machine.run_as(As::Remote("bob"), session), "no yes\n");
    assert_eq!(
        machine.run_as(As::User("bob"), "id -un; echo ${XDG_SESSION_ID-none}"),
        "bob\nnone\n"
    );

    let mut asked = machine.converse(As::Seated("alice"), "systemctl daemon-reload");
    asked.hear("Password: ");
    asked.type_line("admin");
    let (status, said) = asked.end();
    assert!(status.success(), "{said}");
}

#[test]
fn bookworm_has_sessions_and_asks_for_passwords() {
    users_and_terminals(Suite::Bookworm);
}

#[test]
fn trixie_has_sessions_and_asks_for_passwords() {
    users_and_terminals(Suite::Trixie);
}

/// A box is held by a pipe, of which the kernel closes the end of a process that
/// dies.
#[test]
fn a_killed_test_leaves_no_box() {
    let (held, holder) = std::io::pipe().expect("a pipe can be made");
    let mut test = Command::new("sleep")
        .arg("600")
        .stdout(holder)
        .spawn()
        .expect("sleep is installed");
    let mut supervisor = machine::boot(Suite::Trixie, held);
    let [cgroup, console] = supervisor.paths();
    machine::eventually("it boots", || {
        cgroup.join("payload/init.scope").exists() && console.exists()
    });

    test.kill().expect("it is ours");
    test.wait().expect("it was started");

    machine::eventually("nothing is left", || !cgroup.exists() && !console.exists());
    assert!(supervisor.0.wait().is_ok_and(|status| status.success()));
}
