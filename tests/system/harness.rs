//! What the other tests take for granted of a box.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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

/// Not a test: what [`a_killed_test_leaves_no_box`] kills.
#[test]
#[ignore = "boots a box and waits to be killed; another test runs it"]
fn boots_a_box_and_waits() {
    let machine = Machine::boot(Suite::Trixie);
    println!("\nbooted {}", machine.place());
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn a_killed_test_leaves_no_box() {
    let mut test = Command::new(std::env::current_exe().expect("we are running"))
        .args("--exact --ignored --nocapture harness::boots_a_box_and_waits".split(' '))
        .stdout(Stdio::piped())
        .spawn()
        .expect("it is this very program");
    let output = BufReader::new(test.stdout.take().expect("it is piped"));
    let cgroup = output
        .lines()
        .find_map(|line| line.ok()?.strip_prefix("booted ").map(PathBuf::from))
        .expect("it boots");
    let files = std::env::temp_dir().join(cgroup.file_name().expect("it has a name"));
    assert!(cgroup.exists() && files.exists());

    test.kill().expect("it is ours");
    test.wait().expect("it was started");

    let deadline = Instant::now() + Duration::from_secs(20);
    let is_there = |path: &Path| path.exists();
    while is_there(&cgroup) || is_there(&files) {
        assert!(Instant::now() < deadline, "{}", cgroup.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}
