//! The listening socket: given by the service manager, or made by us.
//!
//! Ours is `org.ipfloater` in the runtime directory. A locked file beside it
//! says whether the daemon that made it still lives: the lock goes with its
//! process, however that ends, so a socket without a lock is a leftover and is
//! replaced.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::INTERFACE;
use crate::lock::Lock;

/// The locked file beside the socket.
const LOCK: &str = "org.ipfloater.lock";

/// There is no socket to listen on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another daemon lives and holds it.
    #[error(
        "another ipfloaterd holds the socket {}; stop that one, or give this one another --runtime-directory",
        .0.display()
    )]
    Held(PathBuf),
    /// Something else is in its place.
    #[error("{} is there and is no socket; remove it", .0.display())]
    NotASocket(PathBuf),
    /// The file beside it cannot be locked.
    #[error("cannot lock {}: {source}; does its directory exist, and may this user write to it?", .path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be made.
    #[error("cannot listen on the socket {}: {source}", .path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What the service manager gave is not what it should be.
    #[error(
        "the service manager gave a varlink socket (LISTEN_FDS) that cannot be used: {0}; it should be a listening Unix stream socket"
    )]
    Given(#[source] io::Error),
}

/// The right to listen: a socket that was given, or the lock of one that is to
/// be made.
#[derive(Debug)]
pub enum Claim {
    /// The service manager gave it.
    Given(UnixListener),
    /// It is to be made here, and no other daemon has it.
    Ours(PathBuf, Lock),
}

/// A listening socket. One that we made is removed when this is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    made: Option<Made>,
}

#[derive(Debug)]
struct Made {
    path: PathBuf,
    _lock: Lock,
}

impl Socket {
    /// The socket for [`super::serve`]. To be called inside the runtime.
    pub fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        tokio::net::UnixListener::from_std(listener)
    }

    /// Where we made it; absent when it was given.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.made.as_ref().map(|made| made.path.as_path())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(made) = &self.made {
            // The lock is still held: this is our socket and nobody else's. A
            // leftover would only be replaced by the next daemon.
            let _ = fs::remove_file(&made.path);
        }
    }
}

/// The socket that the service manager gave, or else the right to make
/// `org.ipfloater` in the runtime directory.
pub fn claim(runtime_directory: &Path, given: Option<OwnedFd>) -> Result<Claim, BindError> {
    let Some(given) = given else {
        return claim_ours(runtime_directory);
    };
    let listener = UnixListener::from(given);
    // It fails for a socket of another family.
    listener.local_addr().map_err(BindError::Given)?;
    Ok(Claim::Given(listener))
}

/// The locked file that says whether a daemon has the socket of a runtime
/// directory.
#[must_use]
pub fn lock_of(runtime_directory: &Path) -> PathBuf {
    runtime_directory.join(LOCK)
}

/// Whether a file of this name in a runtime directory is ours.
#[must_use]
pub fn owns(name: &OsStr) -> bool {
    name == INTERFACE || name == LOCK
}

impl Claim {
    /// Listens. The socket belongs to whom the process belongs to now.
    pub fn listen(self) -> Result<Socket, BindError> {
        match self {
            Claim::Given(listener) => Ok(Socket {
                listener,
                made: None,
            }),
            Claim::Ours(path, lock) => make(path, lock),
        }
    }
}

fn claim_ours(runtime_directory: &Path) -> Result<Claim, BindError> {
    let path = runtime_directory.join(INTERFACE);
    let lock = lock_of(runtime_directory);
    match Lock::take(&lock) {
        Ok(lock) => Ok(Claim::Ours(path, lock)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(BindError::Held(path)),
        Err(source) => Err(BindError::Lock { path: lock, source }),
    }
}

fn make(path: PathBuf, lock: Lock) -> Result<Socket, BindError> {
    let listen = |source| BindError::Listen {
        path: path.clone(),
        source,
    };
    match fs::symlink_metadata(&path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(&path).map_err(listen)?,
        Ok(_) => return Err(BindError::NotASocket(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(listen(error)),
    }
    let listener = UnixListener::bind(&path).map_err(listen)?;
    // Everybody may connect (connect(2) wants write permission); who may do
    // what is decided call by call.
    fs::set_permissions(&path, Permissions::from_mode(0o666)).map_err(listen)?;
    Ok(Socket {
        listener,
        made: Some(Made { path, _lock: lock }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn bind(runtime_directory: &Path) -> Result<Socket, BindError> {
        claim_ours(runtime_directory)?.listen()
    }

    #[test]
    fn a_socket_that_a_live_daemon_holds_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let first = bind(directory.path()).unwrap();
        let second = bind(directory.path()).unwrap_err();
        let path = directory.path().join("org.ipfloater");
        assert!(matches!(&second, BindError::Held(held) if *held == path));
        assert!(second.to_string().contains("--runtime-directory"));
        assert!(UnixStream::connect(first.path().unwrap()).is_ok());
    }

    #[test]
    fn a_socket_that_a_dead_daemon_left_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("org.ipfloater");
        drop(UnixListener::bind(&path).unwrap());
        assert!(UnixStream::connect(&path).is_err());

        let socket = bind(directory.path()).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666);

        drop(socket);
        assert!(!path.exists());
        assert!(bind(directory.path()).is_ok());
    }

    #[test]
    fn what_is_no_socket_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("org.ipfloater");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(
            bind(directory.path()),
            Err(BindError::NotASocket(_))
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let error = bind(Path::new("/nonexistent/run")).unwrap_err().to_string();
        assert!(
            error.contains("/nonexistent/run/org.ipfloater.lock"),
            "{error}"
        );
    }
}
