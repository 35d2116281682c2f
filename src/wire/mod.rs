//! The messages, shared by servers and clients.
//!
//! One vocabulary for both buses and for `--json`: a varlink struct is one of
//! these in JSON, a D-Bus `a{sv}` has the same names as keys. Absent is absent:
//! a field that does not apply is left out, never null or empty.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

mod varlink;

pub use varlink::{Counted, Described, Details, Events, Listed, Monitored, Notice, Pools, Version};

use crate::control::{self, AddressState, Snapshot};
use crate::kernel::Traffic;
use crate::model::{
    Allocation, Attributes, Description, Event, EventKind, FixedIp, FloatingIp, Forward, Label,
    Lease, Outbound, Pool, PoolName, Port, Protocol, Rate, Resting, Sources,
};
use crate::reload::Reread;
use crate::request::{Effect, Outcome};

/// The version of the interfaces. It grows when something is added; nothing is
/// ever taken away.
pub const API_VERSION: u32 = 1;

/// One floating IP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address.
    pub floating_ip: FloatingIp,
    /// Its pool; absent for an address that is in none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pool: Option<PoolName>,
    /// `free`, `allocated`, `pending` or `active`.
    pub state: String,
    /// What a pending association waits for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// The host that has it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fixed_address: Option<FixedIp>,
    /// The uid of its owner.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub owner: Option<u32>,
    /// Since when it is allocated, in seconds since 1970 UTC.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub allocated_at: Option<i64>,
    /// Since when it is associated, in seconds since 1970 UTC.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub associated_at: Option<i64>,
    /// When it is released by itself, in seconds since 1970 UTC; absent for never.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<i64>,
    /// When it is untied by itself, in seconds since 1970 UTC; absent for never.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub association_expires_at: Option<i64>,
    /// The ports that lead to hosts of their own; absent when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub forwards: Vec<ForwardInfo>,
    /// The hosts whose flows from before the association go on until they end by
    /// themselves; absent when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub kept_hosts: Vec<FixedIp>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub label: Option<Label>,
    /// What it is for, in somebody's words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub description: Option<Description>,
    /// What it is found by; absent when there are none.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub tags: BTreeSet<Label>,
    /// Present and true when it may not be released.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub protected: bool,
    /// How many bits a second may come in; absent where there is no limit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rate_in: Option<Rate>,
    /// How many bits a second may go out; absent where there is no limit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rate_out: Option<Rate>,
    /// The prefixes that may reach it from outside; absent when everybody may.
    #[serde(skip_serializing_if = "Sources::is_everybody", default)]
    pub allowed_sources: Sources,
    /// Of a free one: until when it is kept for its last owner, in seconds since
    /// 1970 UTC.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resting_until: Option<i64>,
    /// Of a free one that is kept for somebody: the uid of its last owner.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_owner: Option<u32>,
    /// Present and true when the configuration no longer has it in a pool.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub orphaned: bool,
}

impl Address {
    /// An address as the snapshot has it.
    #[must_use]
    pub fn new(snapshot: &Snapshot, floating: FloatingIp) -> Self {
        Self::with(snapshot, floating, snapshot.state.allocation(floating))
    }

    /// The same, when its allocation is at hand.
    #[must_use]
    pub fn with(
        snapshot: &Snapshot,
        floating: FloatingIp,
        allocation: Option<&Allocation>,
    ) -> Self {
        let state = match allocation {
            None => AddressState::Free,
            Some(allocation) => snapshot.state_with(floating, allocation),
        };
        Self::build(
            floating,
            allocation,
            &state,
            snapshot.site.pool_of(floating),
        )
    }

    /// The same, when it is kept for its last owner.
    #[must_use]
    pub fn resting(self, resting: Option<Resting>) -> Self {
        Self {
            resting_until: resting.map(|resting| resting.until.0),
            last_owner: resting.map(|resting| resting.owner),
            ..self
        }
    }

    /// The same, without what is its owner's alone: who has it, since when, for
    /// which host, and what is noted of it.
    #[must_use]
    pub fn redacted(self) -> Self {
        Self {
            reason: None,
            fixed_address: None,
            owner: None,
            allocated_at: None,
            associated_at: None,
            expires_at: None,
            association_expires_at: None,
            forwards: Vec::new(),
            kept_hosts: Vec::new(),
            label: None,
            description: None,
            tags: BTreeSet::new(),
            protected: false,
            rate_in: None,
            rate_out: None,
            allowed_sources: Sources::default(),
            last_owner: None,
            ..self
        }
    }

    fn build(
        floating: FloatingIp,
        allocation: Option<&Allocation>,
        state: &AddressState,
        pool: Option<&Pool>,
    ) -> Self {
        let association = allocation.and_then(|allocation| allocation.association);
        let Attributes {
            label,
            description,
            tags,
            protected,
            rate_in,
            rate_out,
            allowed_sources,
        } = allocation.map_or_else(Attributes::default, |allocation| {
            allocation.attributes.clone()
        });
        let end = |of| allocation.and_then(|allocation| Some(allocation.end(of)?.0));
        let pool_name = allocation
            .map(|allocation| &allocation.pool)
            .or(pool.map(|pool| &pool.name));
        Address {
            floating_ip: floating,
            pool: pool_name.cloned(),
            state: state.as_str().to_owned(),
            reason: match state {
                AddressState::Pending(reason) => Some(reason.to_string()),
                AddressState::Free | AddressState::Allocated | AddressState::Active => None,
            },
            fixed_address: association.map(|association| association.fixed),
            owner: allocation.map(|allocation| allocation.owner),
            allocated_at: allocation.map(|allocation| allocation.allocated.0),
            associated_at: association.map(|association| association.since.0),
            expires_at: end(Lease::Allocation),
            association_expires_at: end(Lease::Association),
            forwards: allocation
                .into_iter()
                .flat_map(|allocation| allocation.forwards.iter())
                .map(ForwardInfo::from)
                .collect(),
            kept_hosts: allocation.map_or_else(Vec::new, |allocation| allocation.kept.clone()),
            label,
            description,
            tags,
            protected,
            rate_in,
            rate_out,
            allowed_sources,
            resting_until: None,
            last_owner: None,
            orphaned: allocation.is_some() && pool.is_none(),
        }
    }
}

/// Ports of a floating IP, and where they lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardInfo {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: Protocol,
    /// The ports of the floating IP: one, or `FIRST-LAST`.
    pub ports: String,
    /// The host.
    pub fixed_address: FixedIp,
    /// The port of the host that the first one leads to; the others follow.
    pub fixed_port: Port,
    /// What the host leaves as when it begins a flow itself and has no floating
    /// IP of its own.
    pub outbound: Outbound,
}

impl From<&Forward> for ForwardInfo {
    fn from(forward: &Forward) -> Self {
        ForwardInfo {
            protocol: forward.protocol(),
            ports: forward.ports().to_string(),
            fixed_address: forward.fixed(),
            fixed_port: forward.fixed_port(),
            outbound: forward.outbound(),
        }
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The address as it is now.
    pub address: Address,
    /// All addresses that were taken, that one first, when a count was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub addresses: Vec<Address>,
    /// Whether anything was altered; false when it already was as asked.
    pub changed: bool,
    /// The host that had the address before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous_fixed_address: Option<FixedIp>,
    /// The floating IP that the host had before; it stays allocated.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub displaced_floating_ip: Option<FloatingIp>,
    /// The commit that made it so, or the current one.
    pub revision: u64,
    /// The last event of it, or the current one.
    pub sequence: u64,
    /// Present and true of a dry run: nothing was altered, and `address` and
    /// `changed` are what they would be.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub dry_run: bool,
    /// Of a dry run: what would be done.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub effects: Vec<EffectInfo>,
}

/// One thing that a change would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectInfo {
    /// To what: `store`, `kernel`, `address` or `flows`.
    pub kind: String,
    /// What, in a line.
    pub text: String,
}

impl From<Effect> for EffectInfo {
    fn from(effect: Effect) -> Self {
        let Effect { kind, text } = effect;
        EffectInfo {
            kind: kind.as_str().to_owned(),
            text,
        }
    }
}

impl Changed {
    /// The message for an outcome.
    #[must_use]
    pub fn new(snapshot: &Snapshot, outcome: Outcome) -> Self {
        let Outcome {
            floating,
            all,
            changed,
            allocation,
            resting,
            pending,
            previous,
            displaced,
            revision,
            sequence,
            effects,
        } = outcome;
        let state = match (&allocation, pending) {
            (None, _) => AddressState::Free,
            (Some(allocation), _) if !allocation.is_in_use() => AddressState::Allocated,
            (Some(_), Some(reason)) => AddressState::Pending(reason),
            (Some(_), None) => AddressState::Active,
        };
        let build = |floating, allocation: Option<&Allocation>, state| {
            let pool = snapshot.site.pool_of(floating);
            Address::build(floating, allocation, state, pool)
        };
        let all = all.iter();
        Changed {
            address: build(floating, allocation.as_ref(), &state).resting(resting),
            // What is taken several at a time leads nowhere yet.
            addresses: all
                .map(|(floating, allocation)| {
                    build(*floating, Some(allocation), &AddressState::Allocated)
                })
                .collect(),
            changed,
            previous_fixed_address: previous,
            displaced_floating_ip: displaced,
            revision: revision.0,
            sequence: sequence.0,
            dry_run: effects.is_some(),
            effects: effects.into_iter().flatten().map(Into::into).collect(),
        }
    }
}

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
    /// Of this host.
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
            && fixed_address.is_none_or(|fixed| address.fixed_address == Some(fixed))
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
}

impl PoolInfo {
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
        let degraded = !health.problems.is_empty() || !snapshot.pending.is_empty();
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

/// One line of the event log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventInfo {
    /// Its place in the log.
    pub sequence: u64,
    /// The commit it belongs to; absent for what follows no commit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revision: Option<u64>,
    /// When, in seconds since 1970 UTC.
    pub at: i64,
    /// Who: a uid.
    pub uid: u32,
    /// By which way: `dbus`, `varlink` or `daemon`.
    pub via: String,
    /// What: `allocate`, `associate`, `disassociate`, `forward`, `unforward`,
    /// `update`, `release`, `keep`, `set-end`, `expire`, `activate`, `defer`,
    /// `conflict`, `reload` or `repair`.
    pub verb: String,
    /// The address it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub floating_ip: Option<FloatingIp>,
    /// The host that has it since.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fixed_address: Option<FixedIp>,
    /// The host that had it before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous_fixed_address: Option<FixedIp>,
    /// What an association waits for, what was updated or repaired, or what is
    /// new in the configuration.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// The ports that lead somewhere since, or no longer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub forward: Option<ForwardInfo>,
}

impl From<&Event> for EventInfo {
    fn from(event: &Event) -> Self {
        use crate::model::Change;
        let Event {
            sequence,
            revision,
            at,
            actor,
            kind,
        } = event;
        let (fixed, previous, reason) = match kind {
            EventKind::Changed(Change::Allocate { .. }) | EventKind::Activated { .. } => {
                (None, None, None)
            }
            EventKind::Changed(Change::Associate {
                fixed, previous, ..
            }) => (Some(*fixed), *previous, None),
            EventKind::Changed(Change::Keep { .. }) => (None, None, None),
            EventKind::Changed(Change::SetEnd { of, at, .. }) => {
                let at = at.map_or_else(|| "has no end".to_owned(), |at| format!("ends {at}"));
                (None, None, Some(format!("the {of} {at}")))
            }
            EventKind::Expired { of, .. } => (None, None, Some(format!("the {of} is over"))),
            EventKind::Changed(Change::Disassociate { previous, .. }) => {
                (None, Some(*previous), None)
            }
            EventKind::Changed(Change::Forward {
                forward, previous, ..
            }) => (Some(forward.fixed()), *previous, None),
            EventKind::Changed(Change::Unforward { forward, .. }) => {
                (None, Some(forward.fixed()), None)
            }
            EventKind::Changed(Change::Update { before, after, .. }) => {
                (None, None, Some(after.news(before)))
            }
            EventKind::Changed(Change::Release { previous, .. }) => (None, *previous, None),
            EventKind::Deferred { reason, .. } => (None, None, Some(reason.to_string())),
            EventKind::Conflict { floating, by } => {
                let reason = format!("another machine has {floating}: {by}");
                (None, None, Some(reason))
            }
            EventKind::Reloaded { what } | EventKind::Repaired { what } => {
                (None, None, Some(what.clone()))
            }
        };
        let forward = match kind {
            EventKind::Changed(
                Change::Forward { forward, .. } | Change::Unforward { forward, .. },
            ) => Some(forward.into()),
            EventKind::Changed(
                Change::Allocate { .. }
                | Change::Associate { .. }
                | Change::Keep { .. }
                | Change::SetEnd { .. }
                | Change::Disassociate { .. }
                | Change::Update { .. }
                | Change::Release { .. },
            )
            | EventKind::Expired { .. }
            | EventKind::Activated { .. }
            | EventKind::Deferred { .. }
            | EventKind::Conflict { .. }
            | EventKind::Reloaded { .. }
            | EventKind::Repaired { .. } => None,
        };
        EventInfo {
            sequence: sequence.0,
            revision: revision.map(|revision| revision.0),
            at: at.0,
            uid: actor.uid,
            via: actor.via.as_str().to_owned(),
            verb: kind.verb().to_owned(),
            floating_ip: kind.floating(),
            fixed_address: fixed,
            previous_fixed_address: previous,
            reason,
            forward,
        }
    }
}
