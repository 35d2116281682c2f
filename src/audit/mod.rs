//! The audit record: who asked for what, and what became of it.
//!
//! One for every change, for every request that changed nothing, and for every
//! refusal and denial. In the journal the fields have public names, which are
//! described in ipfloaterd(8), and all of the records have one [`MESSAGE_ID`].
//! What could not be understood was no request, and leaves no record.
//!
//! Whoever may not fill the log: of what a user other than root gets refused,
//! so many are recorded and the rest is counted ([`PER_USER`]). Changes are
//! always recorded.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Instant;

use nix::unistd::getuid;

use crate::model::{
    Actor, Allocation, Change, Event, FixedIp, FloatingIp, PoolName, Revision, Sequence, Site,
    State, Uid,
};
use crate::plan;
use crate::request::{Disassociate, Refusal, Release, Request, Update};

mod limit;

pub use limit::{ALL_USERS, PER_USER, WINDOW};
use limit::{Limit, Verdict};

/// The kind of record, in `journalctl MESSAGE_ID=`.
pub const MESSAGE_ID: &str = "d70f6f89712d4708b52fdcabcd258fdd";

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The user, and the way.
    pub actor: Actor,
    /// The process: its unique name on the bus, or `pid:` and its number.
    pub caller: Arc<str>,
}

/// One record. What is `None` does not appear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What was asked for.
    pub verb: &'static str,
    /// The floating IP that it was about.
    pub floating: Option<FloatingIp>,
    /// The host that it has since, or would have.
    pub fixed: Option<FixedIp>,
    /// The host that it had before.
    pub previous: Option<FixedIp>,
    /// The pool that it is of.
    pub pool: Option<PoolName>,
    /// Whose it is, or was until it was released.
    pub owner: Option<Uid>,
    /// Who asked.
    pub who: Who,
    /// The commit.
    pub revision: Option<Revision>,
    /// The event in the daemon's own log.
    pub sequence: Option<Sequence>,
    /// [`GRANTED`], [`UNCHANGED`], [`DRY_RUN`], [`DENIED`], or the name of a
    /// refusal.
    pub outcome: &'static str,
    /// All of it in words.
    pub sentence: String,
}

/// It was done.
pub const GRANTED: &str = "granted";

/// It already was as asked.
pub const UNCHANGED: &str = "unchanged";

/// It was not to be done: a dry run.
pub const DRY_RUN: &str = "dry-run";

/// The caller may not.
pub const DENIED: &str = "denied";

impl Entry {
    /// A record of what is about no address.
    #[must_use]
    pub fn new(verb: &'static str, who: &Who, outcome: &'static str, sentence: String) -> Self {
        Self {
            verb,
            floating: None,
            fixed: None,
            previous: None,
            pool: None,
            owner: None,
            who: who.clone(),
            revision: None,
            sequence: None,
            outcome,
            sentence,
        }
    }

    /// A change, of an address that is, or was, allocated like this.
    #[must_use]
    pub fn change(
        event: &Event,
        change: &Change,
        allocation: Option<&Allocation>,
        who: &Who,
    ) -> Self {
        let (what, fixed, previous) = words(change);
        let sentence = format!("{what} by uid {}", who.actor.uid);
        Self {
            floating: Some(change.floating()),
            fixed,
            previous,
            pool: allocation.map(|allocation| allocation.pool.clone()),
            owner: allocation.map(|allocation| allocation.owner),
            revision: event.revision,
            sequence: Some(event.sequence),
            ..Self::new(event.kind.verb(), who, GRANTED, sentence)
        }
    }

    /// A request for what already is.
    #[must_use]
    pub fn unchanged(
        state: &State,
        site: &Site,
        request: &Request,
        who: &Who,
        floating: FloatingIp,
    ) -> Self {
        let sentence = format!("{floating} already is as asked by uid {}", who.actor.uid);
        Self {
            floating: Some(floating),
            ..Self::request(state, site, request, who, UNCHANGED, sentence)
        }
    }

    /// A request that was only to be tried, and would be granted.
    #[must_use]
    pub fn dry_run(
        state: &State,
        site: &Site,
        request: &Request,
        who: &Who,
        floating: FloatingIp,
    ) -> Self {
        let (verb, uid) = (request.verb(), who.actor.uid);
        let sentence = format!("dry run: {verb} of {floating} by uid {uid}");
        Self {
            floating: Some(floating),
            ..Self::request(state, site, request, who, DRY_RUN, sentence)
        }
    }

    /// A request that was refused.
    #[must_use]
    pub fn refusal(
        state: &State,
        site: &Site,
        request: &Request,
        who: &Who,
        refusal: &Refusal,
    ) -> Self {
        let (verb, uid) = (request.verb(), who.actor.uid);
        let sentence = format!("{verb} refused to uid {uid}: {refusal}");
        Self::request(state, site, request, who, refusal.name(), sentence)
    }

    /// A request that was denied.
    #[must_use]
    pub fn denial(
        state: &State,
        site: &Site,
        request: &Request,
        who: &Who,
        denied: &impl fmt::Display,
    ) -> Self {
        let entry = Self::request(state, site, request, who, DENIED, String::new());
        let about = entry.floating.map(FloatingIp::ip);
        let about = about.or(entry.fixed.map(FixedIp::ip));
        let about = about.map_or_else(String::new, |address| format!(" for {address}"));
        Self {
            sentence: format!("denied{about}: {denied}"),
            ..entry
        }
    }

    /// A request that came to nothing, with the addresses that it is about as
    /// they are now.
    fn request(
        state: &State,
        site: &Site,
        request: &Request,
        who: &Who,
        outcome: &'static str,
        sentence: String,
    ) -> Self {
        let concern = plan::concern(state, site, who.actor.uid, request);
        let (floating, fixed) = match request {
            Request::Disassociate(Disassociate { address })
            | Request::Update(Update { address, .. })
            | Request::Release(Release { address })
                if concern.floating.is_none() =>
            {
                unknown(site, *address)
            }
            Request::Allocate(_)
            | Request::Associate(_)
            | Request::Disassociate(_)
            | Request::Forward(_)
            | Request::Unforward(_)
            | Request::Update(_)
            | Request::Release(_) => (concern.floating, concern.fixed),
        };
        let allocation = floating.and_then(|floating| state.allocation(floating));
        let holder = allocation
            .and_then(|allocation| allocation.association)
            .map(|association| association.fixed);
        Self {
            floating,
            fixed: fixed.or(holder),
            previous: holder.filter(|holder| fixed.is_some_and(|fixed| fixed != *holder)),
            pool: concern.pool,
            owner: allocation.map(|allocation| allocation.owner),
            ..Self::new(request.verb(), who, outcome, sentence)
        }
    }

    /// The same when it was granted, and then was not done.
    #[must_use]
    pub fn not_done(self, outcome: &'static str) -> Self {
        Self {
            revision: None,
            sequence: None,
            outcome,
            sentence: format!("not done: {}", self.sentence),
            ..self
        }
    }

    /// Writes the record, unless its user has had too many.
    pub fn write(&self) {
        let uid = self.who.actor.uid;
        let now = Instant::now();
        let verdict = if self.outcome == GRANTED || is_trusted(uid) {
            Verdict::Write
        } else {
            let mut limit = LIMIT.lock().unwrap_or_else(PoisonError::into_inner);
            for (uid, count) in limit.turn(now) {
                match uid {
                    Some(uid) => tracing::warn!(
                        message_id = MESSAGE_ID,
                        uid,
                        suppressed = count,
                        "{count} refusals and denials of uid {uid} were not recorded"
                    ),
                    None => tracing::warn!(
                        message_id = MESSAGE_ID,
                        suppressed = count,
                        "{count} refusals and denials of several users were not recorded"
                    ),
                }
            }
            limit.count(uid)
        };
        match verdict {
            Verdict::Write => self.emit(),
            Verdict::WriteLast => {
                self.emit();
                tracing::warn!(
                    message_id = MESSAGE_ID,
                    uid,
                    "too many refusals and denials of uid {uid}: more are counted, and not recorded, for {} s",
                    WINDOW.as_secs()
                );
            }
            Verdict::Count => {}
        }
    }

    fn emit(&self) {
        let Entry {
            verb,
            floating,
            fixed,
            previous,
            pool,
            owner,
            who:
                Who {
                    actor: Actor { uid, via },
                    caller,
                },
            revision,
            sequence,
            outcome,
            sentence,
        } = self;
        macro_rules! record {
            ($level:ident) => {
                tracing::$level!(
                    message_id = MESSAGE_ID,
                    verb,
                    floating_ip = floating.map(tracing::field::display),
                    fixed_address = fixed.map(tracing::field::display),
                    previous_fixed_address = previous.map(tracing::field::display),
                    pool = pool.as_ref().map(tracing::field::display),
                    owner,
                    uid,
                    caller = &**caller,
                    via = via.as_str(),
                    revision = revision.map(|revision| revision.0),
                    sequence = sequence.map(|sequence| sequence.0),
                    outcome,
                    "{sentence}"
                )
            };
        }
        if *outcome == DENIED {
            record!(warn);
        } else {
            record!(info);
        }
    }
}

/// A change in words.
#[must_use]
pub fn in_words(change: &Change) -> String {
    words(change).0
}

/// A change in words, with the host that has the address since and the one that
/// had it before.
fn words(change: &Change) -> (String, Option<FixedIp>, Option<FixedIp>) {
    match change {
        Change::Allocate {
            floating,
            pool,
            owner,
        } => (
            format!("{floating} of pool {pool} allocated to uid {owner}"),
            None,
            None,
        ),
        Change::Associate {
            floating,
            fixed,
            previous: None,
        } => (
            format!("{floating} associated with {fixed}"),
            Some(*fixed),
            None,
        ),
        Change::Associate {
            floating,
            fixed,
            previous: Some(previous),
        } => (
            format!("{floating} moved from {previous} to {fixed}"),
            Some(*fixed),
            Some(*previous),
        ),
        Change::Keep { floating, hosts } => {
            let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
            let hosts = hosts.join(", ");
            (
                format!("{floating} keeps the established flows of {hosts}"),
                None,
                None,
            )
        }
        Change::SetEnd {
            floating,
            of,
            at: Some(at),
        } => (format!("the {of} of {floating} ends {at}"), None, None),
        Change::SetEnd {
            floating,
            of,
            at: None,
        } => (format!("the {of} of {floating} has no end"), None, None),
        Change::Disassociate { floating, previous } => (
            format!("{floating} disassociated from {previous}"),
            None,
            Some(*previous),
        ),
        Change::Forward {
            floating,
            forward,
            previous: None,
        } => (
            format!("{floating} forwards {forward}"),
            Some(forward.fixed()),
            None,
        ),
        Change::Forward {
            floating,
            forward,
            previous: Some(previous),
        } => (
            format!("{floating} forwards {forward}, no longer to {previous}"),
            Some(forward.fixed()),
            Some(*previous),
        ),
        Change::Unforward { floating, forward } => (
            format!("{floating} no longer forwards {forward}"),
            None,
            Some(forward.fixed()),
        ),
        Change::Update {
            floating,
            before,
            after,
        } => (
            format!("{floating} updated: {}", after.news(before)),
            None,
            None,
        ),
        Change::Release {
            floating,
            previous,
            resting_until,
        } => {
            let rests = resting_until.map_or_else(String::new, |until| {
                format!(", kept for its owner until {until}")
            });
            (format!("{floating} released{rests}"), None, *previous)
        }
    }
}

/// What an address was taken for that is no floating IP and has none.
fn unknown(site: &Site, address: IpAddr) -> (Option<FloatingIp>, Option<FixedIp>) {
    if site.is_private(address) {
        (None, FixedIp::new(address).ok())
    } else {
        (FloatingIp::new(address).ok(), None)
    }
}

/// Whether the user may fill the log.
fn is_trusted(uid: Uid) -> bool {
    uid == 0 || uid == getuid().as_raw()
}

static LIMIT: LazyLock<Mutex<Limit>> = LazyLock::new(|| Mutex::new(Limit::new(Instant::now())));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::tests::entries;
    use crate::model::{EventKind, Timestamp, Via};

    fn somebody() -> Who {
        Who {
            actor: Actor {
                uid: 1000,
                via: Via::Dbus,
            },
            caller: ":1.42".into(),
        }
    }

    #[test]
    fn what_is_about_no_address_has_none_in_its_record() {
        let sentence = "denied: no".to_owned();
        let entry = Entry::new("history", &somebody(), DENIED, sentence);
        assert_eq!(
            entries(|| entry.emit()),
            [format!(
                "PRIORITY=4\n\
                 MESSAGE_ID={MESSAGE_ID}\n\
                 IPFLOATER_VERB=history\n\
                 IPFLOATER_UID=1000\n\
                 IPFLOATER_CALLER=:1.42\n\
                 IPFLOATER_VIA=dbus\n\
                 IPFLOATER_OUTCOME=denied\n\
                 MESSAGE=denied: no\n"
            )]
        );
    }

    #[test]
    fn a_change_that_the_store_did_not_take_is_no_change() {
        let change = Change::Allocate {
            floating: "203.0.113.7".parse().unwrap(),
            pool: PoolName::default_pool(),
            owner: 1000,
        };
        let event = Event {
            sequence: Sequence(5),
            revision: Some(Revision(3)),
            at: Timestamp(0),
            actor: somebody().actor,
            kind: EventKind::Changed(change.clone()),
        };
        let entry = Entry::change(&event, &change, None, &somebody()).not_done("StoreFailed");
        assert_eq!(
            entries(|| entry.emit()),
            [format!(
                "PRIORITY=5\n\
                 MESSAGE_ID={MESSAGE_ID}\n\
                 IPFLOATER_VERB=allocate\n\
                 IPFLOATER_FLOATING_IP=203.0.113.7\n\
                 IPFLOATER_UID=1000\n\
                 IPFLOATER_CALLER=:1.42\n\
                 IPFLOATER_VIA=dbus\n\
                 IPFLOATER_OUTCOME=StoreFailed\n\
                 MESSAGE=not done: 203.0.113.7 of pool default allocated to uid 1000 by uid 1000\n"
            )]
        );
    }
}
