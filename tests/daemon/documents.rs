//! The commands that documents name for those of other programs: each is run, and
//! works.

use std::process::Command;

use crate::Daemon;

/// What the documents speak of: their addresses, and a file with a hardware
/// address.
fn daemon(directory: &tempfile::TempDir) -> Daemon {
    let file = directory.path().join("pool");
    std::fs::write(&file, "216.58.211.228 60:60:00:00:00:01\n").expect("the directory is ours");
    let configuration = format!(
        "[IPFLOATER]\n\
         IP_POOL = 216.58.211.227, 203.0.113.0/24\n\
         IP_POOL_FILE = {}\n\
         PRIVATE_IP_RANGES = 10.0.0.0/24, 192.168.1.1/24\n\
         PROBE = no\n",
        file.display()
    );
    Daemon::with(&configuration)
}

/// The commands in the tables of a document.
fn commands(document: &str) -> Vec<&str> {
    let rows = document.lines().filter(|line| line.starts_with("| "));
    let quoted = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    quoted
        .filter(|text| text.starts_with("ipfloater "))
        .collect()
}

/// The words of a command, as a shell makes them.
fn words(command: &str) -> Vec<String> {
    let parts = command.split('"').enumerate();
    parts
        .flat_map(|(index, part)| match index % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .skip(1)
        .collect()
}

impl Daemon {
    fn ipfloater(&self, line: &str) -> Result<(), String> {
        let output = Command::new(env!("CARGO_BIN_EXE_ipfloater"))
            .arg("--socket")
            .arg(self.socket())
            .args(words(&line.replace("bob", "root")))
            .output()
            .expect("the program was built");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        match output.status.success() {
            true => Ok(()),
            false => Err(said),
        }
    }
}

/// Runs the commands, each after `before` has made what it speaks of.
fn run_all(document: &str, before: &[&str], at_least: usize) {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let daemon = daemon(&directory);
    let commands = commands(document);
    assert!(commands.len() >= at_least, "{commands:?}");
    for line in commands {
        for before in before {
            let made = daemon.ipfloater(before);
            assert_eq!(made, Ok(()), "{before}, before {line}");
        }
        assert_eq!(daemon.ipfloater(line), Ok(()), "{line}");
    }
}

#[test]
fn what_stands_for_openstack_and_ec2_works() {
    run_all(
        include_str!("../../docs/moving-from-openstack.md"),
        &[
            "ipfloater associate 203.0.113.7 10.0.0.5 --reassociate",
            "ipfloater set 203.0.113.7 --unprotect",
            "ipfloater forward 203.0.113.8:2222/tcp 10.0.0.5:22 --reassociate",
        ],
        40,
    );
}

#[test]
fn what_stands_for_the_original_works() {
    run_all(
        include_str!("../../docs/moving-from-ipfloater.md"),
        &[
            "ipfloater redirect 216.58.211.227 192.168.1.40 --reassociate",
            "ipfloater forward 216.58.211.228:80 192.168.1.32:8080 --reassociate",
        ],
        15,
    );
}
