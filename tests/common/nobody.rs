//! The user that the tests' daemons run as: nobody's.
#![allow(dead_code, reason = "each test crate uses a part of it")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// In no list of users, and not to be: Debian Policy 9.2.2 reserves 65000 to
/// 65533, and systemd's users come and go from 61184 to 65519 (DynamicUser=). A
/// test may not add a user to the machine.
pub(crate) const NOBODY: &str = "65530";

/// Gives a file or directory to the daemon's user.
pub(crate) fn give_to_nobody(path: &Path) {
    let id = Some(NOBODY.parse().expect("a constant"));
    std::os::unix::fs::chown(path, id, id).expect("these tests need root");
}

/// Lets the daemon's user through a directory that was made for its files:
/// temporary ones are open to who made them only.
pub(crate) fn open_to_nobody(directory: &Path) {
    std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755))
        .expect("the directory is ours");
}
