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

use std::net::IpAddr;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Instant;

use nix::unistd::getuid;

use crate::model::{
    Actor, Allocation, Change, Event, EventKind, FixedIp, FloatingIp, PoolName, Revision, Sequence,
    Site, State, Uid,
};
use crate::request::{Allocate, Associate, Disassociate, Release, Request};

mod limit;

pub use limit::{ALL_USERS, PER_USER, WINDOW};
use limit::{Limit, Verdict};

/// The kind of record, in `journalctl MESSAGE_ID=`.
pub const MESSAGE_ID: &str = "d70f6f89712d4708b52fdcabcd258fdd";

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
    /// Who asked, and by which way.
    pub actor: Actor,
    /// Which caller that was: a unique name on the bus, or `pid:` and a number.
    pub caller: Option<String>,
    /// The commit.
    pub revision: Option<Revision>,
    /// The event in the daemon's own log.
    pub sequence: Option<Sequence>,
    /// [`GRANTED`], [`UNCHANGED`], [`DENIED`], or the name of a refusal.
    pub outcome: &'static str,
    /// All of it in words.
    pub sentence: String,
}

/// It was done.
pub const GRANTED: &str = "granted";

/// It already was as asked.
pub const UNCHANGED: &str = "unchanged";

/// The caller may not.
pub const DENIED: &str = "denied";

impl Entry {
    /// A record of what is about no address.
    #[must_use]
    pub fn new(verb: &'static str, actor: Actor, outcome: &'static str, sentence: String) -> Self {
        Self {
            verb,
            floating: None,
            fixed: None,
            previous: None,
            pool: None,
            owner: None,
            actor,
            caller: None,
            revision: None,
            sequence: None,
            outcome,
            sentence,
        }
    }

    /// The same, with the process that asked.
    #[must_use]
    pub fn called_by(self, caller: &str) -> Self {
        Self {
            caller: Some(caller.to_owned()),
            ..self
        }
    }

    /// A change, of an address that is, or was, allocated like this.
    #[must_use]
    pub fn change(event: &Event, change: &Change, allocation: Option<&Allocation>) -> Self {
        let (what, fixed, previous) = words(change);
        let by = event.actor.uid;
        Self {
            floating: Some(change.floating()),
            fixed,
            previous,
            pool: allocation.map(|allocation| allocation.pool.clone()),
            owner: allocation.map(|allocation| allocation.owner),
            revision: event.revision,
            sequence: Some(event.sequence),
            ..Self::new(
                EventKind::Changed(change.clone()).verb(),
                event.actor,
                GRANTED,
                format!("{what} by uid {by}"),
            )
        }
    }

    /// A request that came to nothing, with the addresses that it is about as
    /// they are now.
    #[must_use]
    pub fn request(
        state: &State,
        site: &Site,
        request: &Request,
        actor: Actor,
        outcome: &'static str,
        sentence: String,
    ) -> Self {
        let (floating, fixed, pool) = match request {
            Request::Allocate(Allocate { floating, pool, .. }) => (*floating, None, pool.clone()),
            Request::Associate(Associate {
                floating,
                fixed,
                pool,
                ..
            }) => {
                let floating = floating.or_else(|| state.floating_of(*fixed));
                (floating, Some(*fixed), pool.clone())
            }
            Request::Disassociate(Disassociate { address })
            | Request::Release(Release { address }) => {
                let (floating, fixed) = either(state, site, *address);
                (floating, fixed, None)
            }
        };
        let allocation = floating.and_then(|floating| state.allocation(floating));
        let home = floating.and_then(|floating| site.pool_of(floating));
        let pool = allocation
            .map(|allocation| allocation.pool.clone())
            .or(pool)
            .or_else(|| home.map(|pool| pool.name.clone()));
        let holder = allocation
            .and_then(|allocation| allocation.association)
            .map(|association| association.fixed);
        Self {
            floating,
            fixed: fixed.or(holder),
            previous: holder.filter(|holder| fixed.is_some_and(|fixed| fixed != *holder)),
            pool,
            owner: allocation.map(|allocation| allocation.owner),
            ..Self::new(request.verb(), actor, outcome, sentence)
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
        let uid = self.actor.uid;
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
            actor: Actor { uid, via },
            caller,
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
                    caller,
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
        Change::Disassociate { floating, previous } => (
            format!("{floating} disassociated from {previous}"),
            None,
            Some(*previous),
        ),
        Change::Release { floating, previous } => (format!("{floating} released"), None, *previous),
    }
}

/// What an address is that may be a floating IP or a host's. One that is in no
/// pool is recorded as what it was taken for.
fn either(state: &State, site: &Site, address: IpAddr) -> (Option<FloatingIp>, Option<FixedIp>) {
    let floating = FloatingIp::new(address).ok();
    let fixed = FixedIp::new(address).ok();
    let is_floating = |floating: &FloatingIp| {
        state.allocation(*floating).is_some() || site.pool_of(*floating).is_some()
    };
    if floating.as_ref().is_some_and(is_floating) {
        return (floating, None);
    }
    match fixed.and_then(|fixed| state.floating_of(fixed)) {
        Some(of_host) => (Some(of_host), fixed),
        None if site.is_private(address) => (None, fixed),
        None => (floating, None),
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
    use crate::model::{Timestamp, Via};

    const ACTOR: Actor = Actor {
        uid: 1000,
        via: Via::Dbus,
    };

    #[test]
    fn the_caller_is_named_when_it_is_known() {
        let sentence = "denied: no".to_owned();
        let entry = Entry {
            caller: Some(":1.42".to_owned()),
            ..Entry::new("history", ACTOR, DENIED, sentence)
        };
        assert_eq!(
            entries(|| entry.emit()),
            [format!(
                "PRIORITY=4\n\
                 SYSLOG_IDENTIFIER=ipfloaterd\n\
                 CODE_FILE=src/audit/mod.rs\n\
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
            actor: ACTOR,
            kind: EventKind::Changed(change.clone()),
        };
        let entry = Entry::change(&event, &change, None).not_done("StoreFailed");
        assert_eq!(
            entries(|| entry.emit()),
            [format!(
                "PRIORITY=5\n\
                 SYSLOG_IDENTIFIER=ipfloaterd\n\
                 CODE_FILE=src/audit/mod.rs\n\
                 MESSAGE_ID={MESSAGE_ID}\n\
                 IPFLOATER_VERB=allocate\n\
                 IPFLOATER_FLOATING_IP=203.0.113.7\n\
                 IPFLOATER_UID=1000\n\
                 IPFLOATER_VIA=dbus\n\
                 IPFLOATER_OUTCOME=StoreFailed\n\
                 MESSAGE=not done: 203.0.113.7 of pool default allocated to uid 1000 by uid 1000\n"
            )]
        );
    }
}
