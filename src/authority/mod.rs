//! May this subject do this?
//!
//! The controller accepts only an [`Authorized`] value, which only this module
//! makes. Until polkit is asked, changes are for uid 0 and for the daemon's own
//! user: closed, never open.

use nix::unistd::getuid;

use crate::model::{Actor, Uid, Via};
use crate::request::Request;

/// Who asks, as the transport established it: never by what a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The caller's user id, by the bus daemon or by SO_PEERCRED.
    pub uid: Uid,
    /// The way by which the caller came.
    pub via: Via,
}

/// A request that its subject may make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorized<R> {
    request: R,
    actor: Actor,
}

impl<R> Authorized<R> {
    /// The request.
    pub fn request(&self) -> &R {
        &self.request
    }

    /// Who makes it.
    pub fn actor(&self) -> Actor {
        self.actor
    }
}

/// The subject may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("user {uid} may not {verb}; only root and the daemon's own user may yet")]
pub struct Denied {
    /// Who asked.
    pub uid: Uid,
    /// For what.
    pub verb: &'static str,
}

/// Decides who may do what.
#[derive(Clone, Copy, Debug)]
pub struct Authority {
    own: Uid,
}

impl Authority {
    /// The authority of this process: root and its own user may.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self {
            own: getuid().as_raw(),
        }
    }

    /// Whether the subject may make the request.
    pub fn authorize(
        &self,
        subject: Subject,
        request: Request,
    ) -> Result<Authorized<Request>, Denied> {
        let Subject { uid, via } = subject;
        self.trusts(uid, request.verb())?;
        Ok(Authorized {
            request,
            actor: Actor { uid, via },
        })
    }

    /// Whether the subject may read who changed what.
    pub fn may_read_history(&self, subject: Subject) -> Result<(), Denied> {
        self.trusts(subject.uid, "read the history")
    }

    /// Whether the subject may alter the log, and see what else an administrator
    /// sees of the running process.
    pub fn may_set_log_level(&self, subject: Subject) -> Result<(), Denied> {
        self.trusts(subject.uid, "alter the log")
    }

    fn trusts(&self, uid: Uid, verb: &'static str) -> Result<(), Denied> {
        if uid == 0 || uid == self.own {
            Ok(())
        } else {
            Err(Denied { uid, verb })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Allocate;

    #[test]
    fn a_user_who_is_neither_root_nor_the_daemons_is_refused() {
        let authority = Authority { own: 990 };
        let request = Request::Allocate(Allocate::default());
        for (uid, allowed) in [(0, true), (990, true), (1000, false), (u32::MAX, false)] {
            let subject = Subject {
                uid,
                via: Via::Varlink,
            };
            assert_eq!(
                authority.authorize(subject, request.clone()).is_ok(),
                allowed,
                "{uid}"
            );
            assert_eq!(
                authority.may_read_history(subject).is_ok(),
                allowed,
                "{uid}"
            );
            assert_eq!(
                authority.may_set_log_level(subject).is_ok(),
                allowed,
                "{uid}"
            );
        }
    }
}
