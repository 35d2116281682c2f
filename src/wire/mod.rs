//! The messages, shared by servers and clients.
//!
//! One vocabulary for both buses and for `--json`: a varlink struct is one of
//! these in JSON, a D-Bus `a{sv}` has the same names as keys. Absent is absent:
//! a field that does not apply is left out, never null or empty.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod address;
mod changed;
mod event;
mod varlink;

pub use address::{Address, ForwardInfo};
pub use changed::{Changed, EffectInfo, Settled};
pub use event::EventInfo;
pub use varlink::{
    Counted, Described, Details, Events, Listed, Metrics, Monitored, Notice, Pools, Version,
};

use crate::control::{self, Snapshot};
use crate::kernel::Traffic;
use crate::model::{AddressRange, FixedIp, FloatingIp, Label, PendingReason, Pool, PoolName};
use crate::reload::Reread;

/// The version of the interfaces. It grows when something is added; nothing is
/// ever taken away.
pub const API_VERSION: u32 = 1;

/// Which addresses a list is to have. All that are named must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Of this pool.
    pub pool: Option<PoolName>,
    /// In this state; `free` is refused, because a pool of IPv6 has too many.
    pub state: Option<String>,
    /// Of this owner.
    pub owner: Option<u32>,
    /// Of this host, or with ports that lead to it.
    pub fixed_address: Option<FixedIp>,
    /// With this name.
    pub label: Option<Label>,
    /// With this tag.
    pub tag: Option<Label>,
}

impl Filter {
    /// Whether an address passes.
    #[must_use]
    pub fn admits(&self, address: &Address) -> bool {
        let Filter {
            pool,
            state,
            owner,
            fixed_address,
            label,
            tag,
        } = self;
        pool.as_ref()
            .is_none_or(|pool| address.pool.as_ref() == Some(pool))
            && state.as_ref().is_none_or(|state| address.state == *state)
            && owner.is_none_or(|owner| address.owner == Some(owner))
            && fixed_address.is_none_or(|fixed| address.leads_to(fixed))
            && (label.is_none() || address.label == *label)
            && tag.as_ref().is_none_or(|tag| address.tags.contains(tag))
    }
}

/// What went through one floating IP between the outside and hosts, since it was
/// allocated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// The address.
    pub floating_ip: FloatingIp,
    /// How many packets came in.
    pub packets_in: u64,
    /// How many bytes those had, from the IP header on.
    pub bytes_in: u64,
    /// How many packets went out.
    pub packets_out: u64,
    /// How many bytes those had.
    pub bytes_out: u64,
}

impl From<(FloatingIp, Traffic)> for Counters {
    fn from((floating_ip, traffic): (FloatingIp, Traffic)) -> Self {
        let Traffic { incoming, outgoing } = traffic;
        Counters {
            floating_ip,
            packets_in: countable(incoming.packets),
            bytes_in: countable(incoming.bytes),
            packets_out: countable(outgoing.packets),
            bytes_out: countable(outgoing.bytes),
        }
    }
}

/// One pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolInfo {
    /// Its name.
    pub name: PoolName,
    /// Its addresses: single ones, and ranges as `FIRST-LAST`.
    pub addresses: Vec<String>,
    /// Its outside interface; absent when the default route tells.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub interface: Option<String>,
    /// Whether the provider routes the addresses to the router.
    pub routed: bool,
    /// How many addresses it has.
    pub size: u64,
    /// How many of them are allocated.
    pub allocated: u64,
    /// How many of them are associated.
    pub associated: u64,
    /// Which address goes with which hardware address, where IP_POOL_FILE says.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub hardware_addresses: BTreeMap<String, FloatingIp>,
}

impl PoolInfo {
    /// Its addresses as ranges.
    pub fn ranges(&self) -> impl Iterator<Item = AddressRange> {
        self.addresses.iter().filter_map(|text| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            AddressRange::new(first.parse().ok()?, last.parse().ok()?).ok()
        })
    }

    /// Whether the address is one of the pool's.
    #[must_use]
    pub fn contains(&self, floating: FloatingIp) -> bool {
        self.ranges().any(|range| range.contains(floating.ip()))
    }

    /// All pools, in the order of the configuration.
    #[must_use]
    pub fn all(snapshot: &Snapshot) -> Vec<Self> {
        let mut counts = std::collections::HashMap::<&PoolName, (u64, u64)>::new();
        for (_, allocation) in snapshot.state.allocations() {
            let (allocated, associated) = counts.entry(&allocation.pool).or_default();
            *allocated += 1;
            *associated += u64::from(allocation.association.is_some());
        }
        let info = |pool: &Pool| {
            let (allocated, associated) = counts.get(&pool.name).copied().unwrap_or_default();
            PoolInfo {
                name: pool.name.clone(),
                addresses: pool.ranges.iter().map(ToString::to_string).collect(),
                interface: pool.interface.as_ref().map(ToString::to_string),
                routed: pool.routed,
                size: countable(pool.size()),
                allocated,
                associated,
                hardware_addresses: pool
                    .hardware_addresses
                    .iter()
                    .map(|(mac, floating)| (mac.to_string(), *floating))
                    .collect(),
            }
        };
        snapshot.site.pools.iter().map(info).collect()
    }
}

/// A count that every client can read: JSON readers agree on integers up to
/// 2^63-1 only.
fn countable(count: u64) -> u64 {
    count.min(i64::MAX as u64)
}

/// How the daemon is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// `running`, or `degraded` when there are problems.
    pub state: String,
    /// The version of the daemon.
    pub version: String,
    /// How many commits there have been.
    pub revision: u64,
    /// The last event.
    pub sequence: u64,
    /// How many addresses the pools have.
    pub size: u64,
    /// How many are allocated.
    pub allocated: u64,
    /// How many are associated.
    pub associated: u64,
    /// How many of those are not in force.
    pub pending: u64,
    /// The outside interfaces in use.
    pub outside: Vec<String>,
    /// What is wrong, a line each, with the remedy.
    pub problems: Vec<String>,
    /// What an administrator should know although it works.
    pub warnings: Vec<String>,
    /// How often somebody else's edit of what is ours was put right.
    pub repairs: u64,
    /// Whether this is a kernel in memory.
    pub simulated: bool,
}

impl Status {
    /// How the daemon is, by a snapshot.
    #[must_use]
    pub fn new(snapshot: &Snapshot) -> Self {
        let health = &snapshot.health;
        // That the neighbours are being asked is no trouble, and over in a moment.
        let is_trouble = |reason: &PendingReason| !matches!(reason, PendingReason::Probing(_));
        let degraded = !health.problems.is_empty() || snapshot.pending.values().any(is_trouble);
        Status {
            state: if degraded { "degraded" } else { "running" }.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: snapshot.state.revision().0,
            sequence: snapshot.state.sequence().0,
            size: countable(
                snapshot
                    .site
                    .pools
                    .iter()
                    .fold(0, |sum, pool| pool.size().saturating_add(sum)),
            ),
            allocated: snapshot.state.allocated() as u64,
            associated: snapshot.state.associated() as u64,
            pending: snapshot.pending.size() as u64,
            outside: snapshot.outside.iter().map(ToString::to_string).collect(),
            problems: health.problems.clone(),
            warnings: health.warnings.clone(),
            repairs: health.repairs,
            simulated: snapshot.simulated,
        }
    }
}

/// What a configuration that was read again came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Whether anything is new; false when it says what it said before.
    pub changed: bool,
    /// What is new, a line each.
    pub news: Vec<String>,
    /// The files that were read, in the order of their precedence.
    pub files: Vec<String>,
    /// What the administrator should know although it is no error.
    pub warnings: Vec<String>,
    /// The event of it, or the current one when nothing is new.
    pub sequence: u64,
    /// Until when it is to be confirmed, or else is undone, in seconds since 1970
    /// UTC; absent when it is not on trial.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unconfirmed_until: Option<i64>,
    /// Present and true of a dry run: nothing was altered.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub dry_run: bool,
    /// Of a dry run: what would be done.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub effects: Vec<EffectInfo>,
}

impl From<Reread> for Reloaded {
    fn from(reread: Reread) -> Self {
        let Reread {
            reloaded:
                control::Reloaded {
                    news,
                    sequence,
                    unconfirmed,
                    effects,
                },
            files,
            warnings,
        } = reread;
        Reloaded {
            changed: !news.is_empty(),
            news,
            files: files
                .iter()
                .map(|file| file.display().to_string())
                .collect(),
            warnings,
            sequence: sequence.0,
            unconfirmed_until: unconfirmed.map(|until| until.0),
            dry_run: effects.is_some(),
            effects: effects.into_iter().flatten().map(Into::into).collect(),
        }
    }
}

/// What a user may do with one verb.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// The verb.
    pub verb: String,
    /// `own` for one's own and free addresses, `any` for those of others.
    pub scope: String,
    /// The polkit action that decides.
    pub action: String,
    /// `yes`, `no`, or `authentication` when somebody has to authenticate.
    pub permission: String,
}

/// What a user may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permissions {
    /// By verb.
    pub permissions: Vec<Permission>,
    /// How many addresses the user has.
    pub allocated: u32,
    /// How many the user may have; absent where there is no limit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub quota: Option<u32>,
    /// The prefixes that the user may associate addresses with; absent where
    /// there is no limit but that of the private ranges.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub permitted_ranges: Option<Vec<String>>,
}
