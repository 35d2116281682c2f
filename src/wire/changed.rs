//! What becomes of a change.

use serde::{Deserialize, Serialize};

use super::Address;
use crate::control::{self, AddressState, Snapshot};
use crate::model::{Allocation, FixedIp, FloatingIp};
use crate::request::{Effect, Outcome};

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
            unconfirmed,
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
            address: Address {
                unconfirmed_until: unconfirmed.map(|until| until.0),
                ..build(floating, allocation.as_ref(), &state).resting(resting)
            },
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

/// What became of a change that was confirmed or undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The address as it is now; absent for the configuration.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<Address>,
    /// Always true: what does not wait for it is an error.
    pub changed: bool,
    /// The host that had the address before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous_fixed_address: Option<FixedIp>,
    /// What is new in the configuration, a line each.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub news: Vec<String>,
    /// The commit that made it so, or the current one.
    pub revision: u64,
    /// The last event of it.
    pub sequence: u64,
    /// Present and true of a dry run: nothing was altered.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub dry_run: bool,
    /// Of a dry run: what would be done.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub effects: Vec<EffectInfo>,
}

impl Settled {
    /// The message about an address.
    #[must_use]
    pub fn address(snapshot: &Snapshot, outcome: Outcome) -> Self {
        let Changed {
            address,
            changed,
            previous_fixed_address,
            displaced_floating_ip: _,
            addresses: _,
            revision,
            sequence,
            dry_run,
            effects,
        } = Changed::new(snapshot, outcome);
        Self {
            address: Some(address),
            changed,
            previous_fixed_address,
            news: Vec::new(),
            revision,
            sequence,
            dry_run,
            effects,
        }
    }

    /// The message about the configuration.
    #[must_use]
    pub fn configuration(snapshot: &Snapshot, reloaded: control::Reloaded) -> Self {
        let control::Reloaded {
            news,
            sequence,
            unconfirmed: _,
            effects,
        } = reloaded;
        Self {
            address: None,
            changed: true,
            previous_fixed_address: None,
            news,
            revision: snapshot.state.revision().0,
            sequence: sequence.0,
            dry_run: effects.is_some(),
            effects: effects.into_iter().flatten().map(Into::into).collect(),
        }
    }
}
