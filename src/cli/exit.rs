//! Exit codes: public, documented in the help, the same in `--json`.

use crate::client::{ClientError, Refused};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It is as was asked.
    Ok = 0,
    /// It failed or was refused for a reason that has no code of its own.
    Failed = 1,
    /// The command line or a value in it is wrong.
    Usage = 2,
    /// The daemon cannot be reached, or does not answer.
    Unreachable = 3,
    /// This user may not.
    Denied = 4,
    /// There is no such address, pool or association.
    NotFound = 5,
    /// The address or the host is in use.
    Conflict = 6,
    /// No free address is left, or a limit is reached.
    Exhausted = 7,
    /// The daemon is too busy or stopping, or its store failed; nothing changed.
    Busy = 8,
}

/// The part of the help that lists them.
pub(super) const HELP: &str = "\
Exit codes:
  0  it is as was asked
  1  failed or refused
  2  the command line or a value in it is wrong
  3  the daemon cannot be reached, or does not answer
  4  this user may not do that
  5  no such address, pool or association
  6  the address or the host is in use
  7  no free address is left, or a limit is reached
  8  the daemon is busy or stopping, or its store failed; nothing was changed";

impl Exit {
    /// That of an `ipfloater` which ended with this code.
    #[must_use]
    pub fn from_code(code: i32) -> Self {
        let all = [
            Exit::Ok,
            Exit::Usage,
            Exit::Unreachable,
            Exit::Denied,
            Exit::NotFound,
            Exit::Conflict,
            Exit::Exhausted,
            Exit::Busy,
        ];
        let exit = all.into_iter().find(|exit| *exit as i32 == code);
        exit.unwrap_or(Exit::Failed)
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        std::process::ExitCode::from(exit as u8)
    }
}

impl From<&ClientError> for Exit {
    fn from(error: &ClientError) -> Self {
        match error {
            ClientError::Unreachable { .. }
            | ClientError::Closed(_)
            | ClientError::Silent(_)
            | ClientError::Bus(_)
            | ClientError::BusSilent
            | ClientError::Broken { .. } => Exit::Unreachable,
            ClientError::Misunderstood { .. }
            | ClientError::Unexpected { .. }
            | ClientError::TooLong(_) => Exit::Failed,
            ClientError::Distrust { .. } => Exit::Unreachable,
            ClientError::Certificate { .. } => Exit::Usage,
            ClientError::OtherDaemon => Exit::Denied,
            ClientError::Refused(refused) => refused.into(),
        }
    }
}

impl From<&Refused> for Exit {
    fn from(refused: &Refused) -> Self {
        by_name(&refused.name)
    }
}

fn by_name(error: &str) -> Exit {
    let found = ERRORS.iter().find(|(_, names)| names.contains(&error));
    // One that a newer daemon knows.
    found.map_or(Exit::Failed, |(exit, _)| *exit)
}

/// How the program ends for each error of the interface, and for those of varlink
/// and systemd that it refers to.
const ERRORS: [(Exit, &[&str]); 7] = [
    (Exit::Failed, &["CountersOff", "KernelFailed", "Overflow"]),
    (
        Exit::Usage,
        &[
            "ConfigurationInvalid",
            "InvalidAddress",
            "InvalidArgument",
            "InvalidParameter",
            "NotAHost",
            "OutsidePrivateRanges",
            "RouterAddress",
            "WrongFamily",
        ],
    ),
    (
        Exit::Denied,
        &[
            "CallerUnidentified",
            "InteractiveAuthenticationRequired",
            "OutsidePermittedRanges",
            "PermissionDenied",
        ],
    ),
    (
        Exit::NotFound,
        &[
            "NoSuchPool",
            "NotAllocated",
            "NotAssociated",
            "NotInPool",
            "NothingUnconfirmed",
            "SequenceGone",
        ],
    ),
    (
        Exit::Conflict,
        &[
            "AddressResting",
            "AlreadyAllocated",
            "AlreadyAssociated",
            "ForwardClash",
            "OutboundClash",
            "OwnerChanged",
            "Protected",
            "TargetInUse",
            "Unconfirmed",
        ],
    ),
    (
        Exit::Exhausted,
        &[
            "ForwardLimitReached",
            "LimitReached",
            "PoolExhausted",
            "QuotaExceeded",
            "SourceLimitReached",
        ],
    ),
    (Exit::Busy, &["Busy", "Stopping", "StoreFailed"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_the_interface_has_one_code() {
        let interface = include_str!("../../interfaces/org.ipfloater.varlink");
        let errors = interface.lines().filter_map(|line| {
            let (name, _) = line.strip_prefix("error ")?.split_once(' ')?;
            Some(name)
        });
        let mut count = 0;
        for error in errors {
            let codes = ERRORS.iter().filter(|(_, names)| names.contains(&error));
            assert_eq!(codes.count(), 1, "{error}");
            count += 1;
        }
        assert!(count > 30, "{count}");
        assert_eq!(by_name("OfTheFuture"), Exit::Failed);
    }
}
