//! Who asks, as the transport established it: never by what a message says.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zbus::names::OwnedUniqueName;

use crate::audit::Who;
use crate::model::{Actor, Uid, Via};

/// Who asks.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The caller's user id: by the bus daemon, or by SO_PEERCRED, as it was
    /// when the caller connected.
    pub uid: Uid,
    /// Where the caller is.
    pub origin: Origin,
}

/// Where a caller is, in the way that polkit can look at safely: a process id
/// alone may be another process by the time somebody looks (CVE-2013-4288).
#[derive(Clone, Debug)]
pub enum Origin {
    /// On the system bus.
    Bus {
        /// Its unique name there.
        name: OwnedUniqueName,
        /// Which bus that is: its id, which is another after a restart.
        bus: Arc<str>,
    },
    /// At the other end of the varlink socket.
    Peer {
        /// Its process id when it connected, for the log only.
        pid: i32,
        /// The process itself; absent where the kernel does not tell
        /// (SO_PEERPIDFD, Linux 6.5).
        process: Option<Arc<OwnedFd>>,
    },
}

impl Subject {
    /// The same, as the store and the log keep it.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor {
            uid: self.uid,
            via: match self.origin {
                Origin::Bus { .. } => Via::Dbus,
                Origin::Peer { .. } => Via::Varlink,
            },
        }
    }

    /// The same with the caller's name, for the audit record.
    #[must_use]
    pub fn who(&self) -> Who {
        Who {
            actor: self.actor(),
            caller: self.origin.to_string().into(),
        }
    }

    /// Whether the process that connected has not ended; of callers on the bus
    /// the bus knows.
    pub(super) fn lives(&self) -> bool {
        match &self.origin {
            Origin::Bus { .. } | Origin::Peer { process: None, .. } => true,
            Origin::Peer {
                process: Some(process),
                ..
            } => {
                // A pidfd is readable once its process has ended (pidfd_open(2)).
                let mut ended = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
                matches!(poll(&mut ended, PollTimeout::ZERO), Ok(0))
            }
        }
    }
}

/// The caller as the audit record names it.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Bus { name, .. } => name.fmt(f),
            Origin::Peer { pid, .. } => write!(f, "pid:{pid}"),
        }
    }
}
