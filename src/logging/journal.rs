//! The journal's native protocol: a datagram a record, a line a field.
//!
//! A layer of our own rather than that of tracing-journald, which sends on a
//! blocking socket: a journald that hangs would stop the daemon at its eleventh
//! record, SIGTERM included (net.unix.max_dgram_qlen is 10; systemd sets 512).
//! Nor can values be made harmless on their way through it.

use std::fmt::Write;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::sys::socket::{setsockopt, sockopt};

use super::IDENTIFIER;
use super::outlet::{Offer, Sink};
use super::record::Record;

/// Where journald listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// How much may lie in the kernel.
const SEND_BUFFER: usize = 8 * 1024 * 1024;

/// The way to journald. It is found by its path for each record, so that one
/// that was restarted is found again.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        // As sd_journal_send(3) does: what lies in the queue of a journald that
        // hangs counts against our buffer, and the default is full after some 170
        // records of its 512. Without the capability the default has to do.
        let _ = setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER);
        Ok(Self {
            socket,
            path: path.to_owned(),
        })
    }

    /// Whether somebody listens, by a record without fields, which journald
    /// passes over.
    pub(super) fn probe(&self) -> io::Result<()> {
        match self.socket.send_to(&[], &self.path) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

impl Sink for Journal {
    fn offer(&self, record: &[u8]) -> Offer {
        match self.socket.send_to(record, &self.path) {
            Ok(_) => Offer::Taken,
            Err(error) => match error.kind() {
                // Its queue is full; or it is not there, and may be back soon.
                ErrorKind::WouldBlock
                | ErrorKind::Interrupted
                | ErrorKind::NotFound
                | ErrorKind::ConnectionRefused => Offer::Later,
                _ => Offer::Never,
            },
        }
    }

    fn gap(&self, lost: u64) -> Vec<u8> {
        let mut entry = String::new();
        let message = format!("{lost} records of the log are missing here: the journal took none");
        field(&mut entry, "PRIORITY", 4);
        field(&mut entry, "SYSLOG_IDENTIFIER", IDENTIFIER);
        field(&mut entry, "IPFLOATER_LOST", lost);
        field(&mut entry, "MESSAGE", message);
        entry.into_bytes()
    }
}

/// A record as a datagram. Values hold no newline, so every field is a line.
pub(super) fn entry(record: &Record) -> Vec<u8> {
    let mut entry = String::with_capacity(512);
    field(&mut entry, "PRIORITY", record.priority);
    field(&mut entry, "SYSLOG_IDENTIFIER", IDENTIFIER);
    if let Some((file, line)) = record.place {
        field(&mut entry, "CODE_FILE", file);
        field(&mut entry, "CODE_LINE", line);
    }
    if let Some(id) = &record.message_id {
        field(&mut entry, "MESSAGE_ID", id);
    }
    if record.is_ours {
        for (name, value) in &record.fields {
            field(&mut entry, &public(name), value);
        }
    }
    if record.is_audit {
        field(&mut entry, "MESSAGE", &record.message);
    } else {
        field(&mut entry, "MESSAGE", record.line());
    }
    entry.into_bytes()
}

/// `floating_ip` is `IPFLOATER_FLOATING_IP` to others.
fn public(name: &str) -> String {
    let name = name.replace('.', "_").to_ascii_uppercase();
    format!("IPFLOATER_{name}")
}

fn field(entry: &mut String, name: &str, value: impl std::fmt::Display) {
    writeln!(entry, "{name}={value}").expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::tests::entries;

    #[test]
    fn our_fields_have_public_names_and_absent_ones_none() {
        let entries = entries(|| {
            tracing::warn!(
                uid = 1000,
                floating_ip = None::<&str>,
                error = "no space",
                "stopped"
            );
        });
        assert_eq!(
            entries,
            ["PRIORITY=4\n\
              SYSLOG_IDENTIFIER=ipfloaterd\n\
              CODE_FILE=src/logging/journal.rs\n\
              IPFLOATER_UID=1000\n\
              IPFLOATER_ERROR=no space\n\
              MESSAGE=stopped uid=1000 error=\"no space\"\n"]
        );
    }

    #[test]
    fn the_fields_of_others_cannot_be_taken_for_ours() {
        let entries = entries(|| tracing::error!(target: "zbus", uid = 0, "hm"));
        assert_eq!(
            entries,
            ["PRIORITY=3\n\
              SYSLOG_IDENTIFIER=ipfloaterd\n\
              CODE_FILE=src/logging/journal.rs\n\
              MESSAGE=hm uid=0\n"]
        );
    }

    #[test]
    fn no_value_becomes_a_field_of_its_own() {
        let entries = entries(|| {
            tracing::info!(name = "x\nMESSAGE_ID=1\n\u{8}\0", "a\n_UID=0\nb");
        });
        let names = entries[0]
            .lines()
            .map(|line| line.split_once('=').unwrap().0);
        assert_eq!(
            names.collect::<Vec<_>>(),
            [
                "PRIORITY",
                "SYSLOG_IDENTIFIER",
                "CODE_FILE",
                "IPFLOATER_NAME",
                "MESSAGE"
            ]
        );
        assert!(entries[0].contains("\nIPFLOATER_NAME=x\\nMESSAGE_ID=1\\n\\u{8}\\u{0}\n"));
    }

    #[test]
    fn a_journal_that_takes_nothing_is_left_at_once_and_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journal = Journal::at(&path).unwrap();
        assert_eq!(journal.probe().unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(journal.offer(b"A=1\n"), Offer::Later, "it may come yet");

        let hung = UnixDatagram::bind(&path).unwrap();
        let taken = (0..10_000).take_while(|_| journal.offer(b"A=1\n") == Offer::Taken);
        assert!(taken.count() < 10_000, "its queue ends");
        assert!(journal.probe().is_ok(), "it is there");
        drop(hung);
        assert_eq!(journal.offer(b"A=1\n"), Offer::Later, "nobody listens");

        std::fs::remove_file(&path).unwrap();
        let other = UnixDatagram::bind(&path).unwrap();
        assert_eq!(journal.offer(b"A=2\n"), Offer::Taken);
        let mut datagram = [0; 16];
        assert_eq!(other.recv(&mut datagram).unwrap(), 4);
        assert_eq!(
            journal.offer(&vec![b'x'; 16 << 20]),
            Offer::Never,
            "no datagram is that long"
        );
    }
}
