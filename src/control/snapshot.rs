//! What is true at one moment, for readers.

use std::collections::BTreeSet;
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use crate::kernel::Features;
use crate::model::{
    Allocation, FloatingIp, InterfaceName, PendingReason, Resting, Site, State, Timestamp,
};

/// The state of one floating IP, as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressState {
    /// Nobody owns it.
    Free,
    /// Somebody owns it, and it leads to no host.
    Allocated,
    /// It should lead to a host, and the reason why it is not so yet.
    Pending(PendingReason),
    /// It leads to a host, or ports of it do.
    Active,
}

impl AddressState {
    /// The word that all fronts use.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            AddressState::Free => "free",
            AddressState::Allocated => "allocated",
            AddressState::Pending(_) => "pending",
            AddressState::Active => "active",
        }
    }
}

/// How the daemon is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What is wrong, a line each, with the remedy; empty when all is well.
    pub problems: Vec<String>,
    /// What an administrator should know although it works.
    pub warnings: Vec<String>,
    /// How often somebody else's edit of what is ours was put right.
    pub repairs: u64,
}

/// What is true at one moment. Cheap to copy, and never changes: whoever lists
/// a hundred thousand addresses lists those of one revision.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Everything desired.
    pub state: State,
    /// The associations that are not in force.
    pub pending: RedBlackTreeMapSync<FloatingIp, PendingReason>,
    /// The configuration.
    pub site: Arc<Site>,
    /// The outside interfaces in use.
    pub outside: BTreeSet<InterfaceName>,
    /// How the daemon is.
    pub health: Arc<Health>,
    /// What the kernel can do.
    pub features: Features,
    /// Whether this is a kernel in memory.
    pub simulated: bool,
}

impl Snapshot {
    /// The state of an address.
    #[must_use]
    pub fn state_of(&self, floating: FloatingIp) -> AddressState {
        match self.state.allocation(floating) {
            None => AddressState::Free,
            Some(allocation) => self.state_with(floating, allocation),
        }
    }

    /// The state of an address whose allocation is at hand.
    #[must_use]
    pub fn state_with(&self, floating: FloatingIp, allocation: &Allocation) -> AddressState {
        match (allocation.is_in_use(), self.pending.get(&floating)) {
            (false, _) => AddressState::Allocated,
            (true, Some(reason)) => AddressState::Pending(reason.clone()),
            (true, None) => AddressState::Active,
        }
    }

    /// For whom a free address is kept, and until when.
    #[must_use]
    pub fn resting(&self, floating: FloatingIp, now: Timestamp) -> Option<Resting> {
        let resting = self.state.resting().get(floating)?;
        resting.is_on(now, self.site.rest).then_some(resting)
    }

    /// Whether the configuration no longer has the address in a pool.
    #[must_use]
    pub fn is_orphan(&self, floating: FloatingIp) -> bool {
        self.site.pool_of(floating).is_none()
    }
}
