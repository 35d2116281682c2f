//! Why the command line did not do what it was asked.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::Exit;
use crate::client::{ClientError, Refused};
use crate::import::ImportError;
use crate::model::{FloatingIp, HardwareAddress, NoHardwareAddress};

/// Why it did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The daemon did not do it, or was not reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The original's words for a host that gets no address.
    #[error("Could not obtain a redirection (server responded: {0})")]
    NoRedirection(Refused),
    /// The original's words for an address that is not released.
    #[error("Could not release the redirection from IP {address} (server responded: {why})")]
    NotReleased {
        /// The address that was to be released.
        address: String,
        /// Why not.
        why: Refused,
    },
    /// The original's words for a daemon that does not answer.
    #[error("Could not contact the server: {0}")]
    NoContact(ClientError),
    /// The same where the version of the daemon should stand.
    #[error("Could not contact server: {0}")]
    NoVersion(ClientError),
    /// The original's words for a hardware address that goes with no address.
    #[error("Failed to get the ip address for {0}: IP_POOL_FILE gives it none")]
    NoAddressFor(HardwareAddress),
    /// The same for what is no hardware address.
    #[error("Failed to get the ip address for {text:?}: {why}")]
    NoHardwareAddress {
        /// What was given.
        text: String,
        /// What would be right.
        why: NoHardwareAddress,
    },
    /// What looks at the host itself was to be done from afar.
    #[error("{verb} looks at the router itself, and is done there: `ipfloater -H {host} {verb}`")]
    OnlyThere {
        /// What.
        verb: &'static str,
        /// Where.
        host: String,
    },
    /// The host of `-H` cannot be one.
    #[error(
        "--host takes a host, as ssh takes one: router, user@router or ssh://user@router:port; {0:?} is none"
    )]
    NoHost(String),
    /// An argument that another host is to be told.
    #[error("the argument {0:?} is no text in UTF-8, and cannot be told to another host")]
    NotText(OsString),
    /// There is no ssh.
    #[error("ssh cannot be started: {0}; it is in the package openssh-client")]
    NoSsh(io::Error),
    /// ssh did not get there.
    #[error("ssh did not get to {0}, or lost it; `ssh {0} true` has to work")]
    NotThere(String),
    /// Nobody there knows the program.
    #[error("there is no ipfloater to be run on {0}; install the package there")]
    NotInstalled(String),
    /// The owner in a filter is nobody.
    #[error("there is no user {0}; --owner takes the name or number of one")]
    NoSuchUser(String),
    /// Ports of several addresses lead to a host that has none itself.
    #[error(
        "{host} has no floating IP; ports of {} lead to it: `ipfloater list --fixed {host}`",
        .floating.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    Several {
        /// The host.
        host: String,
        /// The addresses.
        floating: Vec<FloatingIp>,
    },
    /// The original was not taken over.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A file cannot be written.
    #[error("cannot write {}: {why}; its directory has to be writable", .file.display())]
    NotWritten {
        /// Which.
        file: PathBuf,
        /// Why not.
        why: io::Error,
    },
    /// What was to be told cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// How the program ends.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Failure::Client(error) | Failure::NoContact(error) | Failure::NoVersion(error) => {
                error.into()
            }
            Failure::NoRedirection(refused) | Failure::NotReleased { why: refused, .. } => {
                refused.into()
            }
            Failure::NoAddressFor(_) | Failure::Several { .. } => Exit::NotFound,
            Failure::NoHardwareAddress { .. }
            | Failure::OnlyThere { .. }
            | Failure::NoHost(_)
            | Failure::NotText(_)
            | Failure::NoSuchUser(_) => Exit::Usage,
            Failure::NoSsh(_) | Failure::NotThere(_) | Failure::NotInstalled(_) => {
                Exit::Unreachable
            }
            Failure::Import(error) => match error {
                ImportError::NotRoot => Exit::Denied,
                ImportError::Configuration(_)
                | ImportError::NoSqlite(_)
                | ImportError::NoWholePath(_) => Exit::Usage,
                ImportError::NoDatabase(_) => Exit::NotFound,
                ImportError::Client(error) | ImportError::Interrupted { source: error, .. } => {
                    error.into()
                }
                ImportError::Database(_)
                | ImportError::Kernel(_)
                | ImportError::NotCleared(_)
                | ImportError::Obstructed(_)
                | ImportError::Bad { .. }
                | ImportError::NotInForce { .. }
                | ImportError::NotInForceAgain { .. } => Exit::Failed,
            },
            Failure::NotWritten { .. } | Failure::Output(_) => Exit::Failed,
        }
    }

    /// For programs: its name, what is said of it, and how the program ends.
    #[must_use]
    pub fn as_json(&self) -> Value {
        let exit = self.exit() as u8;
        json!({"name": self.name(), "message": self.to_string(), "exit_code": exit})
    }

    /// A name for programs: that of the interface's error when it is one.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Failure::Client(error)
            | Failure::NoContact(error)
            | Failure::NoVersion(error)
            | Failure::Import(
                ImportError::Client(error) | ImportError::Interrupted { source: error, .. },
            ) => match error {
                ClientError::Unreachable { .. } => "Unreachable",
                ClientError::Closed(_) => "Closed",
                ClientError::Silent(_) => "Silent",
                ClientError::BusSilent => "Silent",
                ClientError::Broken { .. } | ClientError::Bus(_) => "Broken",
                ClientError::Misunderstood { .. }
                | ClientError::Unexpected { .. }
                | ClientError::TooLong(_) => "Misunderstood",
                ClientError::Distrust { .. } => "Distrust",
                ClientError::Certificate { .. } => "Certificate",
                ClientError::OtherDaemon => "CallerUnidentified",
                ClientError::Refused(refused) => &refused.name,
            },
            Failure::NoRedirection(refused) | Failure::NotReleased { why: refused, .. } => {
                &refused.name
            }
            Failure::NoAddressFor(_) => "NotFound",
            Failure::Several { .. } => "NotAssociated",
            Failure::NoHardwareAddress { .. }
            | Failure::OnlyThere { .. }
            | Failure::NoHost(_)
            | Failure::NotText(_)
            | Failure::NoSuchUser(_) => "Usage",
            Failure::NoSsh(_) | Failure::NotThere(_) | Failure::NotInstalled(_) => "Unreachable",
            Failure::Import(
                ImportError::NotRoot
                | ImportError::Configuration(_)
                | ImportError::NoSqlite(_)
                | ImportError::NoWholePath(_)
                | ImportError::NoDatabase(_)
                | ImportError::Database(_)
                | ImportError::Kernel(_)
                | ImportError::NotCleared(_)
                | ImportError::Obstructed(_)
                | ImportError::Bad { .. }
                | ImportError::NotInForce { .. }
                | ImportError::NotInForceAgain { .. },
            ) => "NotTakenOver",
            Failure::NotWritten { .. } | Failure::Output(_) => "Output",
        }
        .to_owned()
    }
}
