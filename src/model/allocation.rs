//! A floating IP that somebody owns, and what hangs on it.

use serde::{Deserialize, Serialize};

use super::{Attributes, FixedIp, Forward, Forwards, Lease, PoolName, Timestamp, Uid};

/// That a floating IP is tied to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Association {
    /// The host.
    pub fixed: FixedIp,
    /// Since when.
    pub since: Timestamp,
}

/// A floating IP that somebody owns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// The pool it came from, which the configuration may no longer have.
    pub pool: PoolName,
    /// Who owns it.
    pub owner: Uid,
    /// Since when.
    pub allocated: Timestamp,
    /// The host that has it, if any.
    pub association: Option<Association>,
    /// The ports that lead to hosts of their own.
    pub forwards: Forwards,
    /// The hosts whose flows from before the association go on until they end
    /// by themselves: those that had the address, and the one that has it.
    pub kept: Vec<FixedIp>,
    /// What is noted of it.
    pub attributes: Attributes,
    /// When it is released by itself.
    pub expires: Option<Timestamp>,
    /// When it is untied by itself.
    pub association_expires: Option<Timestamp>,
}

impl Allocation {
    /// An address that leads nowhere yet.
    #[must_use]
    pub fn new(pool: PoolName, owner: Uid, allocated: Timestamp) -> Self {
        Self {
            pool,
            owner,
            allocated,
            association: None,
            forwards: Forwards::default(),
            kept: Vec::new(),
            attributes: Attributes::default(),
            expires: None,
            association_expires: None,
        }
    }

    /// When the allocation or the association is over by itself.
    #[must_use]
    pub fn end(&self, of: Lease) -> Option<Timestamp> {
        match of {
            Lease::Allocation => self.expires,
            Lease::Association => self.association_expires,
        }
    }

    /// The same, ending so many seconds later.
    #[must_use]
    pub(super) fn ending_later_by(mut self, seconds: i64) -> Self {
        for end in [&mut self.expires, &mut self.association_expires] {
            *end = end.map(|end| end.later_by(seconds));
        }
        self
    }

    /// Whether packets to the address lead anywhere.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.association.is_some() || !self.forwards.is_empty()
    }
}

/// How much of the kernel's maps the forwards of one family take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// Ports that are forwarded one by one: single ones, and those of ranges
    /// that lead to other ports.
    pub ports: u32,
    /// Ranges that lead to the same ports.
    pub ranges: u32,
}

impl Forwarded {
    /// What one forward takes.
    #[must_use]
    pub fn by(forward: &Forward) -> Self {
        if forward.ports().count() > 1 && forward.keeps_ports() {
            Self {
                ports: 0,
                ranges: 1,
            }
        } else {
            Self {
                ports: forward.ports().count(),
                ranges: 0,
            }
        }
    }
}
