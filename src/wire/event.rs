//! What happened, as log and monitors tell it.

use serde::{Deserialize, Serialize};

use super::ForwardInfo;
use crate::model::{Event, EventKind, FixedIp, FloatingIp};

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
    /// `update`, `release`, `keep`, `try`, `confirm`, `revert`, `set-end`, `expire`,
    /// `activate`, `defer`, `conflict`, `reload` or `repair`.
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
            EventKind::Changed(Change::Try { trial, .. }) => {
                let what = format!("undone at {} unless confirmed", trial.until);
                (None, None, Some(what))
            }
            EventKind::Changed(Change::Confirm { .. }) => (None, None, None),
            EventKind::Changed(Change::Restore {
                former, previous, ..
            }) => {
                let tie = former.as_ref().and_then(|former| former.association);
                (tie.map(|tie| tie.fixed), *previous, None)
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
                | Change::Release { .. }
                | Change::Try { .. }
                | Change::Confirm { .. }
                | Change::Restore { .. },
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
