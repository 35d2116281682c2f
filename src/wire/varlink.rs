//! The replies of the varlink interface that are no message of their own
//! elsewhere.

use serde::{Deserialize, Serialize};

use super::ForwardInfo;
use super::{Address, Counters, EventInfo, PoolInfo};
use crate::control::{AddressState, Published, Snapshot};
use crate::model::{Change, Event, EventKind, FloatingIp};

/// A page of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The addresses.
    pub addresses: Vec<Address>,
    /// Where the next page begins; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<FloatingIp>,
}

/// A page of counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// What was counted, by address.
    pub counters: Vec<Counters>,
    /// Where the next page begins; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<FloatingIp>,
}

/// Numbers for Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metrics {
    /// The text, but for what comes after it.
    pub text: String,
}

/// One address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// The address.
    pub address: Address,
}

/// The pools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pools {
    /// The pools, in the order of the configuration.
    pub pools: Vec<PoolInfo>,
}

/// Which version is running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The version of the daemon.
    pub version: String,
    /// The version of the interface.
    pub api_version: u32,
}

/// A part of the event log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// The events, latest first.
    pub events: Vec<EventInfo>,
}

/// One reply of a monitor: a part of the state, or an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Monitored {
    /// The event, or the last one that the state includes.
    pub sequence: u64,
    /// The commit of the event, or the one whose state this is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revision: Option<u64>,
    /// False while more of the state follows.
    pub ready: bool,
    /// A part of the state.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub addresses: Option<Vec<Address>>,
    /// What happened.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub event: Option<Notice>,
}

/// What a monitor is told of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What, as in [`EventInfo::verb`].
    pub verb: String,
    /// When, in seconds since 1970 UTC.
    pub at: i64,
    /// The address it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub floating_ip: Option<FloatingIp>,
    /// The state of that address since.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub state: Option<String>,
    /// Who and why, for those who may know.
    #[serde(flatten)]
    pub details: Option<Details>,
}

/// Who did it and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// Who: a uid.
    pub uid: u32,
    /// By which way.
    pub via: String,
    /// The host that has the address since.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fixed_address: Option<crate::model::FixedIp>,
    /// The host that had it before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous_fixed_address: Option<crate::model::FixedIp>,
    /// What an association waits for, or what was updated or repaired.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// The ports that lead somewhere since, or no longer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub forward: Option<ForwardInfo>,
}

impl Monitored {
    /// A part of the state.
    #[must_use]
    pub fn state(snapshot: &Snapshot, addresses: Vec<Address>, ready: bool) -> Self {
        Self {
            sequence: snapshot.state.sequence().0,
            revision: Some(snapshot.state.revision().0),
            ready,
            addresses: Some(addresses),
            event: None,
        }
    }

    /// An event, with who and why when `everything` may be told.
    #[must_use]
    pub fn event(published: &Published, everything: bool) -> Self {
        let state = published.state.as_ref().map(AddressState::as_str);
        Self::tell(&published.event, state, everything)
    }

    /// An event of the log. The state of its address since is told where the
    /// event says so itself: later ones may have altered it.
    #[must_use]
    pub fn recorded(event: &Event, everything: bool) -> Self {
        let state = match &event.kind {
            EventKind::Changed(Change::Allocate { .. }) => Some("allocated"),
            EventKind::Changed(Change::Release { .. }) => Some("free"),
            EventKind::Activated { .. } => Some("active"),
            EventKind::Deferred { .. } => Some("pending"),
            EventKind::Changed(
                Change::Associate { .. }
                | Change::Keep { .. }
                | Change::SetEnd { .. }
                | Change::Disassociate { .. }
                | Change::Forward { .. }
                | Change::Unforward { .. }
                | Change::Update { .. }
                | Change::Try { .. }
                | Change::Confirm { .. }
                | Change::Restore { .. },
            )
            | EventKind::Expired { .. }
            | EventKind::Conflict { .. }
            | EventKind::Reloaded { .. }
            | EventKind::Repaired { .. } => None,
        };
        Self::tell(event, state, everything)
    }

    fn tell(event: &Event, state: Option<&str>, everything: bool) -> Self {
        let EventInfo {
            sequence,
            revision,
            at,
            uid,
            via,
            verb,
            floating_ip,
            fixed_address,
            previous_fixed_address,
            reason,
            forward,
        } = EventInfo::from(event);
        let details = Details {
            uid,
            via,
            fixed_address,
            previous_fixed_address,
            reason,
            forward,
        };
        Self {
            sequence,
            revision,
            ready: true,
            addresses: None,
            event: Some(Notice {
                verb,
                at,
                floating_ip,
                state: state.map(ToOwned::to_owned),
                details: everything.then_some(details),
            }),
        }
    }
}
