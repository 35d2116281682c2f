//! One alteration of the state, and the record that is kept of it.

use std::fmt;

use super::{
    Allocation, Attributes, FixedIp, FloatingIp, Forward, HardwareAddress, Lease, PendingReason,
    PoolName, Revision, Sequence, Timestamp, Trial, Uid,
};

/// One alteration of the state. [`super::State::with`] applies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A free address gets an owner.
    Allocate {
        /// The address.
        floating: FloatingIp,
        /// The pool it came from.
        pool: PoolName,
        /// Who owns it from now on.
        owner: Uid,
    },
    /// An allocated address is tied to a host.
    Associate {
        /// The address.
        floating: FloatingIp,
        /// The host that has it from now on.
        fixed: FixedIp,
        /// The host that had it until now.
        previous: Option<FixedIp>,
    },
    /// Flows from before an association go on until they end by themselves.
    Keep {
        /// The address.
        floating: FloatingIp,
        /// Whose: the hosts that had it, and the one that has it since.
        hosts: Vec<FixedIp>,
    },
    /// An allocation or association gets an end, another one, or none.
    SetEnd {
        /// The address.
        floating: FloatingIp,
        /// The end of what.
        of: Lease,
        /// When, or never.
        at: Option<Timestamp>,
    },
    /// An address is untied from its host and stays allocated.
    Disassociate {
        /// The address.
        floating: FloatingIp,
        /// The host that had it until now.
        previous: FixedIp,
    },
    /// Ports of an allocated address lead to a host from now on.
    Forward {
        /// The address.
        floating: FloatingIp,
        /// Which ports, and where to.
        forward: Forward,
        /// The host that these ports led to until now.
        previous: Option<FixedIp>,
    },
    /// Ports of an address lead nowhere of their own any more.
    Unforward {
        /// The address.
        floating: FloatingIp,
        /// Which ports, and where they led.
        forward: Forward,
    },
    /// Something else is noted of an allocated address.
    Update {
        /// The address.
        floating: FloatingIp,
        /// What was noted until now.
        before: Box<Attributes>,
        /// What is noted from now on.
        after: Box<Attributes>,
    },
    /// An address, without any forwards, goes back to its pool.
    Release {
        /// The address.
        floating: FloatingIp,
        /// The host that had it until now.
        previous: Option<FixedIp>,
        /// Until when it is kept for its last owner, if it is.
        resting_until: Option<Timestamp>,
    },
    /// What was just altered is undone unless it is confirmed.
    Try {
        /// The address.
        floating: FloatingIp,
        /// Until when, and what it gets back.
        trial: Box<Trial>,
    },
    /// What was altered stays.
    Confirm {
        /// The address.
        floating: FloatingIp,
    },
    /// What was altered is undone: the address gets back all that it had.
    Restore {
        /// The address.
        floating: FloatingIp,
        /// What it gets back; `None` is free.
        former: Option<Box<Allocation>>,
        /// The host that had it until now.
        previous: Option<FixedIp>,
    },
}

impl Change {
    /// The floating IP that is altered.
    #[must_use]
    pub fn floating(&self) -> FloatingIp {
        match self {
            Change::Allocate { floating, .. }
            | Change::Associate { floating, .. }
            | Change::Keep { floating, .. }
            | Change::SetEnd { floating, .. }
            | Change::Disassociate { floating, .. }
            | Change::Forward { floating, .. }
            | Change::Unforward { floating, .. }
            | Change::Update { floating, .. }
            | Change::Release { floating, .. }
            | Change::Try { floating, .. }
            | Change::Confirm { floating }
            | Change::Restore { floating, .. } => *floating,
        }
    }
}

/// By which way a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// The system bus.
    Dbus,
    /// The varlink socket.
    Varlink,
    /// The daemon itself, for what nobody asked for.
    Daemon,
}

impl Via {
    /// The word that the store and the log use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Via::Dbus => "dbus",
            Via::Varlink => "varlink",
            Via::Daemon => "daemon",
        }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who asked, and by which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The caller's user id.
    pub uid: Uid,
    /// The way.
    pub via: Via,
}

/// What happened, as the log keeps it and subscribers are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A request altered the state.
    Changed(Change),
    /// An allocation or association is over; what that alters follows.
    Expired {
        /// Its address.
        floating: FloatingIp,
        /// What is over.
        of: Lease,
    },
    /// An association that waited is in force.
    Activated {
        /// Its address.
        floating: FloatingIp,
    },
    /// An association that should be in force is not, or no longer.
    Deferred {
        /// Its address.
        floating: FloatingIp,
        /// What it waits for.
        reason: PendingReason,
    },
    /// Another machine on the outside link has the address, or says so.
    Conflict {
        /// The address.
        floating: FloatingIp,
        /// Who.
        by: HardwareAddress,
    },
    /// The configuration was read again and is another.
    Reloaded {
        /// What is new, in words for a person.
        what: String,
    },
    /// Somebody else altered what is ours in the kernel, and it was put right.
    Repaired {
        /// What was found and done, in words for a person.
        what: String,
    },
}

impl EventKind {
    /// The words that [`EventKind::verb`] can return.
    pub const VERBS: [&str; 18] = [
        "allocate",
        "associate",
        "keep",
        "set-end",
        "disassociate",
        "forward",
        "unforward",
        "update",
        "release",
        "try",
        "confirm",
        "revert",
        "expire",
        "activate",
        "defer",
        "conflict",
        "reload",
        "repair",
    ];

    /// The word that the store and both buses use.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            EventKind::Changed(Change::Allocate { .. }) => "allocate",
            EventKind::Changed(Change::Associate { .. }) => "associate",
            EventKind::Changed(Change::Keep { .. }) => "keep",
            EventKind::Changed(Change::SetEnd { .. }) => "set-end",
            EventKind::Changed(Change::Disassociate { .. }) => "disassociate",
            EventKind::Changed(Change::Forward { .. }) => "forward",
            EventKind::Changed(Change::Unforward { .. }) => "unforward",
            EventKind::Changed(Change::Update { .. }) => "update",
            EventKind::Changed(Change::Release { .. }) => "release",
            EventKind::Changed(Change::Try { .. }) => "try",
            EventKind::Changed(Change::Confirm { .. }) => "confirm",
            EventKind::Changed(Change::Restore { .. }) => "revert",
            EventKind::Expired { .. } => "expire",
            EventKind::Activated { .. } => "activate",
            EventKind::Deferred { .. } => "defer",
            EventKind::Conflict { .. } => "conflict",
            EventKind::Reloaded { .. } => "reload",
            EventKind::Repaired { .. } => "repair",
        }
    }

    /// The floating IP it is about; `None` for what concerns all of them.
    #[must_use]
    pub fn floating(&self) -> Option<FloatingIp> {
        match self {
            EventKind::Changed(change) => Some(change.floating()),
            EventKind::Expired { floating, .. }
            | EventKind::Activated { floating }
            | EventKind::Deferred { floating, .. }
            | EventKind::Conflict { floating, .. } => Some(*floating),
            EventKind::Reloaded { .. } | EventKind::Repaired { .. } => None,
        }
    }
}

/// One line of the event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place in the log; never reused.
    pub sequence: Sequence,
    /// The commit it belongs to; `None` for what follows no commit.
    pub revision: Option<Revision>,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What.
    pub kind: EventKind,
}

/// A line of the event log with what is kept beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The event.
    pub event: Event,
    /// Whose the address was; `None` for what concerns no single one, and for
    /// what a version recorded that did not keep it.
    pub owner: Option<Uid>,
}
