//! One daemon at a time: a locked file in each directory that a daemon has to
//! itself.
//!
//! The lock goes with the process that took it, however that ends (flock(2)),
//! so a file without a lock means nothing. Taken by root in directories that
//! belong to somebody else: a link or a FIFO in its place is not followed, nor
//! waited for.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

/// A file that nobody else locks as long as this lives.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock, and makes the file if need be. `WouldBlock` says that
    /// somebody has it.
    pub fn take(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        Self::of(&options, path)
    }

    /// Takes the lock, if the file is there, and makes nothing.
    pub fn take_existing(path: &Path) -> io::Result<Option<Self>> {
        match Self::of(OpenOptions::new().read(true), path) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn of(options: &OpenOptions, path: &Path) -> io::Result<Self> {
        let mut options = options.clone();
        let file = options.custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path)?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock);
        // EWOULDBLOCK becomes `WouldBlock`.
        Ok(Self {
            _file: file.map_err(|(_, errno)| errno)?,
        })
    }
}
