//! One floating IP, as the messages of both buses have it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::control::{AddressState, Snapshot};
use crate::model::{
    Allocation, Attributes, Description, FixedIp, FloatingIp, Forward, Label, Lease, Outbound,
    Pool, PoolName, Port, Protocol, Rate, Resting, Sources,
};

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
    /// Until when its last change is to be confirmed, or else is undone, in
    /// seconds since 1970 UTC; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unconfirmed_until: Option<i64>,
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
        let trial = snapshot.state.trial(floating);
        Self {
            unconfirmed_until: trial.map(|trial| trial.until.0),
            ..Self::build(
                floating,
                allocation,
                &state,
                snapshot.site.pool_of(floating),
            )
        }
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
            unconfirmed_until: None,
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

    /// Whether a host has it, or one of its ports leads there.
    #[must_use]
    pub fn leads_to(&self, fixed: FixedIp) -> bool {
        let mut forwards = self.forwards.iter();
        self.fixed_address == Some(fixed) || forwards.any(|forward| forward.fixed_address == fixed)
    }

    pub(super) fn build(
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
            unconfirmed_until: None,
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
