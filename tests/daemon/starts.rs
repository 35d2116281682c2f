//! Starts that must fail: one clear line that names the thing and the remedy,
//! and nothing left behind.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tempfile::TempDir;

use crate::{CONFIGURATION, Daemon, command, command_in};

/// The one line with which a start failed.
pub(crate) fn complaint(command: &mut Command) -> String {
    let output = command
        .args(["--no-dbus"])
        .output()
        .expect("the daemon was built");
    let said = String::from_utf8(output.stderr).expect("it is text");
    assert_eq!(output.status.code(), Some(1), "{said}");
    let errors: Vec<_> = said.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(errors.len(), 1, "one line: {said}");
    errors[0].to_owned()
}

#[test]
fn a_configuration_that_is_not_there_or_not_readable_is_named() {
    let directory = TempDir::new().unwrap();
    let mut missing = command(&directory, CONFIGURATION);
    std::fs::remove_file(directory.path().join("ipfloaterd.conf")).unwrap();
    let said = complaint(missing.arg("--simulate"));
    assert!(
        said.contains("ipfloaterd.conf; copy /etc/default/ipfloaterd.conf"),
        "{said}"
    );
    assert!(
        !directory.path().join("state").exists(),
        "nothing is half done"
    );

    let said =
        complaint(command(&directory, "[IPFLOATER]\nIP_POL = 198.51.100.1\n").arg("--simulate"));
    assert!(
        said.contains("there is no key IP_POL; did you mean IP_POOL?"),
        "{said}"
    );

    // Root may read everything, so somebody else has to try.
    let mut unreadable = command(&directory, CONFIGURATION);
    let config = directory.path().join("ipfloaterd.conf");
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&config, PermissionsExt::from_mode(0o600)).unwrap();
    let said = complaint(&mut as_nobody(unreadable.arg("--simulate")));
    assert!(
        said.contains("ipfloaterd.conf: Permission denied"),
        "{said}"
    );
}

#[test]
fn a_socket_and_a_state_directory_that_another_daemon_holds_are_named() {
    let running = Daemon::start();
    let other = TempDir::new().unwrap();
    let [state, run] = ["state", "run"].map(|name| running.directory.path().join(name));
    let ours = other.path().join("ours");
    let said = complaint(command_in(&other, CONFIGURATION, &ours, &run).arg("--simulate"));
    assert!(
        said.contains("org.ipfloater") && said.contains("another"),
        "{said}"
    );
    let said = complaint(command_in(&other, CONFIGURATION, &state, &ours).arg("--simulate"));
    assert!(
        said.contains("another ipfloaterd uses") && said.contains("--state-directory"),
        "{said}"
    );
    running.client();
}

#[test]
fn a_missing_capability_is_named() {
    let directory = TempDir::new().unwrap();
    let start = command(&directory, CONFIGURATION);
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let said = complaint(&mut as_nobody(&start));
    assert!(
        said.contains("CAP_NET_ADMIN is missing") && said.contains("--simulate"),
        "{said}"
    );
    assert!(
        !directory.path().join("state").exists(),
        "nothing is half done"
    );
}

/// The same command as the user nobody, who has no capability. Needs root.
pub(crate) fn as_nobody(command: &Command) -> Command {
    assert!(
        nix::unistd::getuid().is_root(),
        "this test needs root to become somebody else"
    );
    let mut other = Command::new("setpriv");
    other
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(command.get_program());
    other.args(command.get_args());
    other
}
