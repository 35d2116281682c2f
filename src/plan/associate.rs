//! Tying floating IPs to hosts.

use crate::model::{Change, Family, FixedIp, FloatingIp};
use crate::request::{Associate, Refusal};

use super::allocate::{free, take};
use super::right::{Right, within_ranges};
use super::{Decision, View};

/// Decides what associating changes, or why it may not be done.
pub(super) fn associate(
    view: View<'_>,
    right: Right<'_>,
    request: &Associate,
) -> Result<Decision, Refusal> {
    let Associate {
        floating,
        fixed,
        pool,
        owner,
        reassociate,
        keep_established,
    } = request;
    let owner = owner.unwrap_or(right.actor.uid);
    let current = view.state.floating_of(*fixed);

    let floating = match (floating, current) {
        (Some(floating), _) => *floating,
        (None, Some(current)) if pool.as_ref().is_none_or(|pool| is_of(view, current, pool)) => {
            current
        }
        (None, _) => free(view, right, owner, pool.as_ref(), Some(fixed.family()))?,
    };
    if floating.family() != fixed.family() {
        return Err(Refusal::WrongFamily {
            floating,
            fixed: *fixed,
        });
    }
    if current == Some(floating) {
        return Ok(Decision::nothing(floating));
    }
    may_be_a_host(view, *fixed, request.floating)?;
    within_ranges(right, *fixed)?;
    let taken = match view.state.allocation(floating) {
        Some(_) => None,
        None => Some(take(view, right, owner, floating, pool.as_ref())?),
    };

    let previous = view
        .state
        .association(floating)
        .map(|association| association.fixed);
    match (previous, current) {
        (Some(previous), _) if !reassociate => {
            return Err(Refusal::AlreadyAssociated {
                floating,
                fixed: previous,
            });
        }
        (_, Some(current)) if !reassociate => {
            return Err(Refusal::TargetInUse {
                fixed: *fixed,
                floating: current,
            });
        }
        _ => {}
    }
    if previous.is_none() && current.is_none() {
        has_room(view, *fixed)?;
    }

    let mut changes = Vec::new();
    if let Some(current) = current {
        changes.push(Change::Disassociate {
            floating: current,
            previous: *fixed,
        });
    }
    changes.extend(taken);
    changes.push(Change::Associate {
        floating,
        fixed: *fixed,
        previous,
    });
    if *keep_established {
        changes.push(keep(view, floating, *fixed, previous));
    }
    Ok(Decision {
        floating,
        all: Vec::new(),
        changes,
        previous,
        displaced: current,
    })
}

/// Whose flows from before go on: those of the host that has the address from
/// now on, of the one that had it, and whose were kept when that one got it.
fn keep(view: View<'_>, floating: FloatingIp, fixed: FixedIp, previous: Option<FixedIp>) -> Change {
    let allocation = view.state.allocation(floating);
    let kept = allocation.map_or(&[][..], |allocation| &allocation.kept);
    let mut hosts: Vec<_> = kept
        .iter()
        .copied()
        .chain(previous)
        .chain([fixed])
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    Change::Keep { floating, hosts }
}

fn is_of(view: View<'_>, floating: FloatingIp, pool: &crate::model::PoolName) -> bool {
    view.state
        .allocation(floating)
        .is_some_and(|allocation| allocation.pool == *pool)
}

/// Refuses what is no address of a private host; `floating` is what was named
/// before it.
pub(super) fn may_be_a_host(
    view: View<'_>,
    fixed: FixedIp,
    floating: Option<FloatingIp>,
) -> Result<(), Refusal> {
    if let Some(why) = view.surroundings.not_a_host(view.site, fixed) {
        return Err(Refusal::NotAHost { fixed, why });
    }
    if !view.site.is_private(fixed.ip()) {
        let private = view.site.private.iter().copied();
        let home = FloatingIp::new(fixed.ip()).ok();
        let home = home.and_then(|floating| view.site.pool_of(floating));
        return Err(Refusal::OutsidePrivateRanges {
            fixed,
            private: private
                .filter(|net| Family::of(net.addr()) == fixed.family())
                .collect(),
            home: home.map(|pool| pool.name.clone()),
            swapped: floating.is_some_and(|floating| view.site.is_private(floating.ip())),
        });
    }
    Ok(())
}

/// Refuses what the kernel would: its maps are made for so many elements.
pub(super) fn has_room(view: View<'_>, fixed: FixedIp) -> Result<(), Refusal> {
    let family = fixed.family();
    let limit = view.ruleset.size(family);
    if view.state.sources_of(family) < limit as usize {
        Ok(())
    } else {
        Err(Refusal::LimitReached {
            limit,
            family: family.to_string(),
        })
    }
}
