//! Untying floating IPs, and giving them back.

use crate::model::{Change, Site, Timestamp};
use crate::request::{Disassociate, Refusal, Release};

use super::forward::all_gone;
use super::{Decision, View, resolve};

pub(super) fn disassociate(view: View<'_>, request: &Disassociate) -> Result<Decision, Refusal> {
    let floating = resolve(view.state, view.site, request.address)?;
    let Some(association) = view.state.association(floating) else {
        return Ok(Decision::nothing(floating));
    };
    let previous = association.fixed;
    Ok(Decision {
        changes: vec![Change::Disassociate { floating, previous }],
        previous: Some(previous),
        ..Decision::nothing(floating)
    })
}

/// Until when an address rests that is released now.
pub(super) fn resting_until(site: &Site, now: Timestamp) -> Option<Timestamp> {
    let seconds = i64::try_from(site.rest.as_secs()).unwrap_or(i64::MAX);
    (seconds > 0).then(|| Timestamp(now.0.saturating_add(seconds)))
}

pub(super) fn release(view: View<'_>, request: &Release) -> Result<Decision, Refusal> {
    let floating = resolve(view.state, view.site, request.address)?;
    let Some(allocation) = view.state.allocation(floating) else {
        return Ok(Decision::nothing(floating));
    };
    if allocation.attributes.protected {
        return Err(Refusal::Protected { floating });
    }
    let previous = allocation.association.map(|association| association.fixed);
    Ok(Decision {
        changes: all_gone(floating, &allocation.forwards)
            .chain([Change::Release {
                floating,
                previous,
                resting_until: resting_until(view.site, view.now),
            }])
            .collect(),
        previous,
        ..Decision::nothing(floating)
    })
}
