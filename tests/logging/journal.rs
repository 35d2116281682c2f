//! A journal of our own: a socket that takes datagrams in the native protocol.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A record, by field. The journal may have several values of one; the daemon
/// never sends that.
pub(crate) type Fields = BTreeMap<String, String>;

/// The socket in a directory, which becomes `/run/systemd/journal`.
pub(crate) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    pub(crate) fn in_directory(directory: &Path) -> Self {
        let path = directory.join("socket");
        Journal {
            socket: listen(&path),
            path,
        }
    }

    /// As after a restart of systemd-journald.socket: the same path, another
    /// socket.
    pub(crate) fn restart(&mut self) {
        fs::remove_file(&self.path).expect("it is ours");
        self.socket = listen(&self.path);
    }

    /// The next record, if there is one in time.
    pub(crate) fn next(&self) -> Option<Fields> {
        let mut datagram = vec![0; 256 * 1024];
        loop {
            let length = self.socket.recv(&mut datagram).ok()?;
            // A datagram without fields asks whether somebody listens.
            if length > 0 {
                return Some(fields(&datagram[..length]));
            }
        }
    }

    /// The next record whose message contains this.
    pub(crate) fn find(&self, message: &str) -> Fields {
        let mut seen = Vec::new();
        while let Some(record) = self.next() {
            if record["MESSAGE"].contains(message) {
                return record;
            }
            seen.push(record);
        }
        panic!("no record says {message:?}: {seen:#?}");
    }

    /// The next audit record, without what differs from build to build.
    pub(crate) fn audit(&self) -> Fields {
        loop {
            let mut record = self.next().expect("a record of what was asked for");
            if record.get("MESSAGE_ID").map(String::as_str) == Some(ipfloater::audit::MESSAGE_ID) {
                assert!(record.remove("CODE_LINE").is_some());
                return record;
            }
        }
    }

    /// What comes until nothing comes for a while.
    pub(crate) fn rest(&self) -> Vec<Fields> {
        let timeout = |socket: &UnixDatagram, time| socket.set_read_timeout(Some(time));
        timeout(&self.socket, Duration::from_millis(500)).unwrap();
        let rest = std::iter::from_fn(|| self.next()).collect();
        timeout(&self.socket, PATIENCE).unwrap();
        rest
    }
}

/// Long enough for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(20);

fn listen(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).expect("a socket");
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).expect("it is ours");
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// `NAME=value` and a newline; or the name, a newline, the length of the value
/// in 64 bits, the value, and a newline.
fn fields(mut datagram: &[u8]) -> Fields {
    let mut fields = Fields::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    while !datagram.is_empty() {
        let end = datagram.iter().position(|byte| *byte == b'\n').unwrap();
        let line = text(&datagram[..end]);
        datagram = &datagram[end + 1..];
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => {
                let (length, rest) = datagram.split_first_chunk::<8>().expect("a length");
                let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
                assert_eq!(rest[length], b'\n');
                let value = text(&rest[..length]);
                datagram = &rest[length + 1..];
                (line, value)
            }
        };
        // systemd.journal-fields(7): what starts otherwise is thrown away.
        assert!(name.starts_with(|c: char| c.is_ascii_uppercase()), "{name}");
        let allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        assert!(name.chars().all(allowed) && name.len() <= 64, "{name}");
        let again = fields.insert(name, value);
        assert_eq!(again, None, "a field twice: {fields:#?}");
    }
    fields
}
