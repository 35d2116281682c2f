//! Whom the daemon becomes, and whose its files are: root starts it, and must
//! do no harm with what the daemon's user may have put in its way.
//!
//! Each in a network namespace of its own: a daemon that does start alters
//! nothing of the machine's.

use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use crate::nobody::{NOBODY, give_to_nobody, open_to_nobody};
use crate::starts::{as_nobody, complaint};
use crate::{CONFIGURATION, command, command_in};

/// The daemon's command in new network and mount namespaces, where `/etc/passwd`
/// has these lines.
fn among(users: &str, directory: &TempDir, daemon: &Command) -> Command {
    let passwd = directory.path().join("passwd");
    std::fs::write(&passwd, users).expect("the directory is ours");
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "sh", "-c"]);
    command.arg("mount --bind \"$0\" /etc/passwd && exec \"$@\"");
    command.arg(passwd).arg(daemon.get_program());
    command.args(daemon.get_args());
    command
}

const ROOT: &str = "root:x:0:0:root:/root:/bin/sh\n";

#[test]
fn without_its_user_it_says_how_to_make_one() {
    let directory = TempDir::new().unwrap();
    let daemon = command(&directory, CONFIGURATION);
    let said = complaint(&mut among(ROOT, &directory, &daemon));
    for words in ["there is no user ipfloater", "systemd-sysusers", "--user"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(
        !directory.path().join("state").exists(),
        "nothing is half done"
    );

    let mut daemon = command(&directory, CONFIGURATION);
    daemon.args(["--user", "no-such-user"]);
    let said = complaint(&mut among(ROOT, &directory, &daemon));
    assert!(
        said.contains("--user no-such-user: there is no such user"),
        "{said}"
    );
}

#[test]
fn with_its_user_it_becomes_that_one() {
    let directory = TempDir::new().unwrap();
    open_to_nobody(directory.path());
    let users = format!("{ROOT}ipfloater:x:{NOBODY}:65531::/:/usr/sbin/nologin\n");
    let daemon = command(&directory, CONFIGURATION);
    let log = directory.path().join("log");
    let mut child = among(&users, &directory, &daemon)
        .args(["--no-dbus"])
        .stderr(File::create(&log).unwrap())
        .spawn()
        .expect("unshare is installed");
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    eventually("it is ready", || said().contains(" ready"));
    let expected = format!("running as uid {NOBODY} (ipfloater), gid 65531, with CAP_NET_ADMIN");
    assert!(said().contains(&expected), "{}", said());
    let store = std::fs::metadata(directory.path().join("state/ipfloater.db")).unwrap();
    assert_eq!(
        (store.uid().to_string().as_str(), store.gid()),
        (NOBODY, 65_531)
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn who_is_not_root_can_only_be_oneself() {
    let directory = TempDir::new().unwrap();
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    for somebody in ["root", "0", "65530:65530", "65534:7"] {
        let mut daemon = command(&directory, CONFIGURATION);
        daemon.args(["--simulate", "--user", somebody]);
        let said = complaint(&mut as_nobody(&daemon));
        let expected = format!("--user {somebody}: ipfloaterd was started as uid 65534, gid 65534");
        assert!(said.contains(&expected), "{said}");
    }
    // Oneself: it goes on to what is wrong after that.
    std::fs::create_dir(directory.path().join("state")).unwrap();
    let mut daemon = command(&directory, CONFIGURATION);
    daemon.args(["--simulate", "--user", "65534"]);
    let said = complaint(&mut as_nobody(&daemon));
    assert!(
        said.contains("state/ipfloater.lock: Permission denied"),
        "{said}"
    );
}

/// What root must not give away, in a place that the daemon's user does not own.
struct Treasure {
    directory: TempDir,
}

impl Treasure {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("shadow"), "secret").unwrap();
        Self { directory }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("shadow")
    }

    fn assert_whole(&self, what: &str) {
        let found = std::fs::metadata(self.path()).unwrap();
        assert_eq!((found.uid(), found.gid()), (0, 0), "{what}");
        assert_eq!(
            std::fs::read_to_string(self.path()).unwrap(),
            "secret",
            "{what}"
        );
    }
}

fn tree(directory: &Path) -> Vec<(String, u32, u32)> {
    let mut entries = vec![directory.to_owned()];
    let inside = std::fs::read_dir(directory).unwrap();
    entries.extend(inside.map(|entry| entry.unwrap().path()));
    let look = |path: &std::path::PathBuf| {
        let found = std::fs::symlink_metadata(path).unwrap();
        (path.display().to_string(), found.uid(), found.mode())
    };
    let mut tree: Vec<_> = entries.iter().map(look).collect();
    tree.sort();
    tree
}

type Trap = fn(&Path, &Path) -> std::io::Result<()>;

#[test]
fn what_lies_in_place_of_a_file_of_ours_is_named_and_not_given_away() {
    let traps: [(&str, &str, Trap); 6] = [
        ("ipfloater.db", "a symbolic link", |treasure, at| {
            symlink(treasure, at)
        }),
        ("ipfloater.db-wal", "a symbolic link", |treasure, at| {
            symlink(treasure, at)
        }),
        ("ipfloater.db", "several names", |treasure, at| {
            std::fs::hard_link(treasure, at)
        }),
        ("ipfloater.db", "a directory", |_, at| {
            std::fs::create_dir(at)
        }),
        ("ipfloater.db", "neither a file nor a socket", |_, at| {
            mkfifo(at, Mode::S_IRWXU).map_err(Into::into)
        }),
        ("ipfloater.lock", "symbolic links", |treasure, at| {
            symlink(treasure, at)
        }),
    ];
    // The directory may be the user's own, or that of another user before.
    for owner in [0, 65_530, 65_531] {
        for (name, found, set) in &traps {
            let directory = TempDir::new().unwrap();
            open_to_nobody(directory.path());
            let treasure = Treasure::new();
            let state = directory.path().join("state");
            std::fs::create_dir(&state).unwrap();
            set(&treasure.path(), &state.join(name)).unwrap();
            std::os::unix::fs::chown(&state, Some(owner), Some(owner)).unwrap();
            let before = tree(&state);
            let mut daemon = command(&directory, CONFIGURATION);
            let said = complaint(daemon.args(["--simulate", "--user", NOBODY]));
            let what = format!("{name}, {found}, of {owner}: {said}");
            assert!(said.contains(name) && said.contains(found), "{what}");
            treasure.assert_whole(&what);
            let mut after = tree(&state);
            after.retain(|(path, ..)| {
                !path.ends_with("ipfloater.lock") || *name == "ipfloater.lock"
            });
            assert_eq!(after, before, "{what}");
        }
    }
}

#[test]
fn a_directory_of_others_is_refused_and_left_alone() {
    let directory = TempDir::new().unwrap();
    open_to_nobody(directory.path());
    let [state, run] = ["state", "run"].map(|name| directory.path().join(name));
    let start = || {
        let mut daemon = command_in(&directory, CONFIGURATION, &state, &run);
        complaint(daemon.args(["--simulate", "--user", NOBODY]))
    };
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("passwd"), "").unwrap();
    let before = tree(&state);
    let said = start();
    assert!(
        said.contains("state cannot be handed over") && said.contains("it also holds passwd"),
        "{said}"
    );
    assert_eq!(tree(&state), before);

    std::fs::remove_file(state.join("passwd")).unwrap();
    std::fs::set_permissions(&state, Permissions::from_mode(0o1777)).unwrap();
    let before = tree(&state);
    let said = start();
    assert!(said.contains("sticky bit"), "{said}");
    assert_eq!(tree(&state), before);

    std::fs::remove_dir(&state).unwrap();
    let elsewhere = directory.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, &state).unwrap();
    let said = start();
    assert!(
        said.contains("state (a symbolic link is not followed"),
        "{said}"
    );
    assert_eq!(tree(&elsewhere).len(), 1);

    // What is the user's already may hold anything.
    std::fs::remove_file(&state).unwrap();
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("notes"), "mine").unwrap();
    give_to_nobody(&state);
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
    let said = start();
    assert!(
        said.contains("uid 65530, gid 65530 cannot write to the directory")
            && said.contains("all above it"),
        "{said}"
    );
    assert_eq!(std::fs::metadata(state.join("notes")).unwrap().uid(), 0);
}

#[test]
fn it_ends_with_whoever_started_it_when_that_was_asked_for() {
    let directory = TempDir::new().unwrap();
    open_to_nobody(directory.path());
    let state = directory.path().join("state");
    let mut daemon = command_in(&directory, CONFIGURATION, &state, &state);
    daemon.args(["--simulate", "--no-dbus", "--user", NOBODY]);
    // The signal comes when the thread that forked ends (prctl(2)).
    let mut child = std::thread::scope(|scope| {
        let starter = scope.spawn(|| {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL"]);
            command.arg(daemon.get_program()).args(daemon.get_args());
            let child = command
                .stderr(Stdio::null())
                .spawn()
                .expect("setpriv is installed");
            let socket = state.join("org.ipfloater");
            eventually("it answers", || {
                std::os::unix::net::UnixStream::connect(&socket).is_ok()
            });
            child
        });
        starter.join().unwrap()
    });
    eventually("it ends", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().signal(), Some(9));
}

fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
