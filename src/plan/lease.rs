//! Ends of allocations and associations: setting them, and what happens then.

use crate::model::{Allocation, Change, FloatingIp, Lease, Site, State, Timestamp};
use crate::request::{Request, Terms};

use super::forward::all_gone;
use super::release::resting_until;
use super::{Decision, View};

/// A decision with the end that is asked for with it, if one is. Without one, an
/// allocation or association that is new has none, and another keeps its own.
#[must_use]
pub fn bound(
    view: View<'_>,
    decision: Decision,
    request: &Request,
    terms: &Terms,
    now: Timestamp,
) -> Decision {
    let Some(seconds) = terms.expires_in else {
        return decision;
    };
    let of = match request {
        Request::Allocate(_) => Lease::Allocation,
        Request::Associate(_) => Lease::Association,
        Request::Disassociate(_)
        | Request::Forward(_)
        | Request::Unforward(_)
        | Request::Update(_)
        | Request::Release(_) => return decision,
    };
    let floatings = match decision.all.is_empty() {
        true => vec![decision.floating],
        false => decision.all.clone(),
    };
    let is_new = decision.changes.iter().any(|change| match change {
        Change::Allocate { .. } => of == Lease::Allocation,
        Change::Associate { .. } => of == Lease::Association,
        Change::Keep { .. }
        | Change::SetEnd { .. }
        | Change::Disassociate { .. }
        | Change::Forward { .. }
        | Change::Unforward { .. }
        | Change::Update { .. }
        | Change::Release { .. } => false,
    });
    let at = (seconds > 0).then(|| Timestamp(now.0.saturating_add(seconds.into())));
    let mut changes = decision.changes;
    for floating in floatings {
        let allocation = view.state.allocation(floating).filter(|_| !is_new);
        let has = allocation.and_then(|allocation| allocation.end(of));
        changes.extend((has != at).then_some(Change::SetEnd { floating, of, at }));
    }
    Decision {
        changes,
        ..decision
    }
}

/// What is altered when an allocation or association is over. What is over
/// already alters nothing.
#[must_use]
pub fn expire(
    state: &State,
    site: &Site,
    floating: FloatingIp,
    of: Lease,
    now: Timestamp,
) -> Vec<Change> {
    let Some(allocation) = state.allocation(floating) else {
        return Vec::new();
    };
    let previous = allocation.association.map(|association| association.fixed);
    if !may_end(allocation, of) {
        return vec![Change::SetEnd {
            floating,
            of,
            at: None,
        }];
    }
    match (of, previous) {
        (Lease::Allocation, _) => all_gone(floating, &allocation.forwards)
            .chain([Change::Release {
                floating,
                previous,
                resting_until: resting_until(site, now),
            }])
            .collect(),
        (Lease::Association, Some(previous)) => vec![Change::Disassociate { floating, previous }],
        (Lease::Association, None) => Vec::new(),
    }
}

/// What is protected from being released is so from its end as well, and then
/// has none any more.
fn may_end(allocation: &Allocation, of: Lease) -> bool {
    match of {
        Lease::Allocation => !allocation.attributes.protected,
        Lease::Association => true,
    }
}
