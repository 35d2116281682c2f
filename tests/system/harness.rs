//! What the other tests take for granted of a box.

use super::machine::{As, Machine, Suite};

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
    asked.answer("Password: ", "admin");
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
