//! Why a call has no answer.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Place;
use super::words::reworded;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody can be reached there.
    #[error("cannot reach ipfloaterd on {place}: {source}{}", remedy(.place, .source))]
    Unreachable {
        /// Where it was sought.
        place: Place,
        /// Why.
        source: io::Error,
    },
    /// The daemon hung up before it answered.
    #[error(
        "ipfloaterd on {0} closed the connection; it may have stopped, or this user may have too many connections"
    )]
    Closed(Place),
    /// The daemon did not answer in time; whether it will still do what it was
    /// asked is unknown.
    #[error(
        "ipfloaterd on {0} does not answer; if it was to alter something, `ipfloater status` \
         tells later whether it did"
    )]
    Silent(Place),
    /// The answer is longer than any of the interface.
    #[error("what listens on {0} is no ipfloaterd: its answer has no end")]
    TooLong(Place),
    /// One side does not trust the other.
    #[error("cannot speak to ipfloater-remote on {place}: {why}")]
    Distrust {
        /// Where it is.
        place: Place,
        /// Why.
        why: String,
    },
    /// A certificate or key of ours cannot be used.
    #[error(
        "{}: {why}; to reach another host a directory (--certificates) has to hold client.pem, \
         client.key and ca.pem, or use -H", .file.display()
    )]
    Certificate {
        /// Which file.
        file: PathBuf,
        /// Why not.
        why: String,
    },
    /// Reading or writing failed.
    #[error("cannot speak to ipfloaterd on {place}: {source}")]
    Broken {
        /// Where it was sought.
        place: Place,
        /// Why.
        source: io::Error,
    },
    /// What listens there does not speak varlink.
    #[error("what listens on {place} is no ipfloaterd: {source}")]
    Misunderstood {
        /// Where it was sought.
        place: Place,
        /// Why.
        source: Box<varlink::Error>,
    },
    /// The answer is none of the interface that this client knows.
    #[error("ipfloaterd on {place} answered something else than expected: {source}")]
    Unexpected {
        /// Where it was sought.
        place: Place,
        /// Why.
        source: serde_json::Error,
    },
    /// The system bus, over which the call had to go, does not carry it.
    #[error("cannot call org.ipfloater on the system bus: {0}")]
    Bus(#[source] Box<zbus::Error>),
    /// The daemon did not answer over the system bus in time.
    #[error(
        "org.ipfloater does not answer on the system bus; if it was to alter something, \
         `ipfloater status` tells later whether it did"
    )]
    BusSilent,
    /// The call had to go over the system bus, and there is another daemon.
    #[error(
        "this ipfloaterd cannot tell safely who calls by varlink, and the one on the system bus \
         is another; use sudo"
    )]
    OtherDaemon,
    /// The daemon answered by an error.
    #[error(transparent)]
    Refused(Refused),
}

impl ClientError {
    /// Whether the daemon tells this user nothing.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, ClientError::OtherDaemon)
            || matches!(
                self.refusal(),
                Some("PermissionDenied" | super::INTERACTION_REQUIRED | "CallerUnidentified")
            )
    }

    /// The name of the error that the daemon answered with, if it answered.
    pub(super) fn refusal(&self) -> Option<&str> {
        match self {
            ClientError::Refused(refused) => Some(&refused.name),
            ClientError::Unreachable { .. }
            | ClientError::Closed(_)
            | ClientError::Silent(_)
            | ClientError::TooLong(_)
            | ClientError::Distrust { .. }
            | ClientError::Certificate { .. }
            | ClientError::Broken { .. }
            | ClientError::Misunderstood { .. }
            | ClientError::Unexpected { .. }
            | ClientError::Bus(_)
            | ClientError::OtherDaemon
            | ClientError::BusSilent => None,
        }
    }
}

/// How the message of a denial ends that no rule decided about.
const ONLY_ROOT: &str = "; only root may";

/// An error that the daemon answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its name, without the interface.
    pub name: String,
    /// What it says about itself.
    pub parameters: Value,
}

impl Refused {
    /// An error by its full name and its parameters.
    pub(super) fn new(error: &str, parameters: Value) -> Self {
        let name = error.rsplit_once('.').map_or(error, |(_, name)| name);
        Self {
            name: name.to_owned(),
            parameters,
        }
    }

    /// Its name with that of the interface, as the daemon gives it.
    #[must_use]
    pub fn full_name(&self) -> String {
        let interface = match self.name.as_str() {
            "PermissionDenied"
            | "InvalidParameter"
            | "MethodNotFound"
            | "InterfaceNotFound"
            | "MethodNotImplemented"
            | "ExpectedMore" => "org.varlink.service",
            super::INTERACTION_REQUIRED => "io.systemd",
            _ => "org.ipfloater",
        };
        format!("{interface}.{}", self.name)
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name)?.as_str()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Ours say it themselves; the standard errors have a message on D-Bus
        // only, and no remedy.
        let message = self.parameter("message");
        match self.name.as_str() {
            // Nobody could be asked, then not for what one may do, either.
            "PermissionDenied" if message.is_some_and(|said| said.ends_with(ONLY_ROOT)) => {
                f.write_str(message.unwrap_or_default())
            }
            "PermissionDenied" => write!(
                f,
                "{}; `ipfloater permissions` tells what you may do and which rule of the \
                 administrator decides",
                message.unwrap_or("permission denied")
            ),
            super::INTERACTION_REQUIRED => write!(
                f,
                "{}, and nobody can be asked here; call from a terminal, or use sudo",
                message.unwrap_or("an administrator has to authenticate for that")
            ),
            name if message.is_some() => f.write_str(&reworded(name, message.unwrap_or_default())),
            "InvalidParameter" => {
                let parameter = self.parameter("parameter").unwrap_or("a parameter");
                write!(f, "{parameter} does not hold what it should")
            }
            "MethodNotFound" | "InterfaceNotFound" => {
                f.write_str("the daemon is older than this client and cannot do that")
            }
            other => write!(f, "the daemon answered {other}"),
        }
    }
}

impl std::error::Error for Refused {}

fn remedy(place: &Place, source: &io::Error) -> String {
    let socket = match place {
        Place::Socket(socket) => socket,
        Place::Remote { .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
            return "; start it there (systemctl enable --now ipfloater-remote.socket)".to_owned();
        }
        Place::Remote { .. } => return String::new(),
    };
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            if socket == Path::new(super::DEFAULT_SOCKET) {
                "; start it (systemctl start ipfloaterd), or name its socket with --socket"
                    .to_owned()
            } else {
                "; start it, or name its socket with --socket or $IPFLOATER_SOCKET".to_owned()
            }
        }
        io::ErrorKind::PermissionDenied => "; use sudo".to_owned(),
        _ => String::new(),
    }
}
