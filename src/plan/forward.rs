//! Leading single ports of a floating IP to hosts of their own.

use crate::model::{Change, FloatingIp, Forward, Forwarded, Forwards, Outbound};
use crate::request::{ForwardPorts, Refusal, UnforwardPorts};

use super::allocate::take;
use super::associate::{has_room, may_be_a_host};
use super::right::{Right, within_ranges};
use super::{Decision, View};

/// Decides what a forward changes, or why it may not be.
pub(super) fn forward(
    view: View<'_>,
    right: Right<'_>,
    request: &ForwardPorts,
) -> Result<Decision, Refusal> {
    let ForwardPorts {
        floating,
        forward,
        reassociate,
    } = *request;
    let fixed = forward.fixed();
    if floating.family() != fixed.family() {
        return Err(Refusal::WrongFamily { floating, fixed });
    }
    let old = in_the_way(view, floating, &forward)?;
    if old == Some(forward) {
        return Ok(Decision::nothing(floating));
    }
    may_be_a_host(view, fixed, Some(floating))?;
    within_ranges(right, fixed)?;
    if let Some(other) = old
        && !other.leads_like(&forward)
        && !reassociate
    {
        return Err(Refusal::ForwardClash {
            floating,
            other,
            same: true,
        });
    }
    let before = old.map(|old| Change::Unforward {
        floating,
        forward: old,
    });
    leaves_as_one(view, floating, &forward)?;
    fits(view, floating, old.as_ref(), &forward)?;

    let mut changes = Vec::new();
    if view.state.allocation(floating).is_none() {
        changes.push(take(view, right, right.actor.uid, floating, None)?);
    }
    changes.extend(before);
    let previous = old
        .map(|old| old.fixed())
        .filter(|previous| *previous != fixed);
    changes.push(Change::Forward {
        floating,
        forward,
        previous,
    });
    Ok(Decision {
        changes,
        previous,
        ..Decision::nothing(floating)
    })
}

/// Decides what removing a forward changes. One that is not there is no error;
/// a part of one is: whoever asks may not know of the rest.
pub(super) fn unforward(view: View<'_>, request: &UnforwardPorts) -> Result<Decision, Refusal> {
    let UnforwardPorts {
        floating,
        protocol,
        ports,
    } = *request;
    if view.state.allocation(floating).is_none() && view.site.pool_of(floating).is_none() {
        return Err(Refusal::NotInPool {
            address: floating.ip(),
            pool: None,
            home: None,
        });
    }
    let forwards = view.state.forwards(floating);
    match forwards.and_then(|forwards| forwards.clash(protocol, ports)) {
        None => Ok(Decision::nothing(floating)),
        Some(forward) if forward.ports() == ports => Ok(Decision {
            changes: vec![Change::Unforward {
                floating,
                forward: *forward,
            }],
            previous: Some(forward.fixed()),
            ..Decision::nothing(floating)
        }),
        Some(other) => Err(Refusal::ForwardClash {
            floating,
            other: *other,
            same: false,
        }),
    }
}

/// The changes that take all forwards from an address.
pub(super) fn all_gone(floating: FloatingIp, forwards: &Forwards) -> impl Iterator<Item = Change> {
    forwards.iter().map(move |forward| Change::Unforward {
        floating,
        forward: *forward,
    })
}

/// The forward that has just these ports; any other that has some of them is in
/// the way for good.
fn in_the_way(
    view: View<'_>,
    floating: FloatingIp,
    forward: &Forward,
) -> Result<Option<Forward>, Refusal> {
    let forwards = view.state.forwards(floating);
    match forwards.and_then(|forwards| forwards.clash(forward.protocol(), forward.ports())) {
        None => Ok(None),
        Some(other) if other.ports() == forward.ports() => Ok(Some(*other)),
        Some(other) => Err(Refusal::ForwardClash {
            floating,
            other: *other,
            same: false,
        }),
    }
}

/// A host can leave as one floating IP only.
fn leaves_as_one(view: View<'_>, floating: FloatingIp, forward: &Forward) -> Result<(), Refusal> {
    let fixed = forward.fixed();
    match (forward.outbound(), view.state.outbound_of(fixed)) {
        (Outbound::Router, _) | (Outbound::Floating, None) => Ok(()),
        (Outbound::Floating, Some(other)) if other == floating => Ok(()),
        (Outbound::Floating, Some(floating)) => Err(Refusal::OutboundClash { fixed, floating }),
    }
}

/// Refuses what the kernel would: its maps are made for so many elements.
fn fits(
    view: View<'_>,
    floating: FloatingIp,
    old: Option<&Forward>,
    new: &Forward,
) -> Result<(), Refusal> {
    let family = floating.family();
    let (now, limit) = (view.state.forwarded(family), view.ruleset.forwards());
    let withheld = view.state.withheld(family);
    let freed = old.map(Forwarded::by).unwrap_or_default();
    let Forwarded { ports, ranges } = Forwarded::by(new);
    for (wanted, limit, what) in [
        (
            now.ports + withheld.ports - freed.ports + ports,
            limit.ports,
            "ports",
        ),
        (
            now.ranges + withheld.ranges - freed.ranges + ranges,
            limit.ranges,
            "ranges of ports",
        ),
    ] {
        if wanted > limit {
            return Err(Refusal::ForwardLimitReached {
                limit,
                what,
                family: family.to_string(),
            });
        }
    }
    match new.outbound() {
        Outbound::Router => Ok(()),
        Outbound::Floating => has_room(view, new.fixed()),
    }
}
