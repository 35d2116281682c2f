//! Taking addresses from pools.

use std::ops::Bound;

use crate::model::{
    AddressRange, Attributes, Change, Family, FloatingIp, Pool, PoolName, Resting, Uid,
};
use crate::request::{Allocate, MOST_AT_ONCE, Refusal};

use super::right::{Right, is_at_quota, within_quota};
use super::{Decision, View};

pub(super) fn allocate(
    view: View<'_>,
    right: Right<'_>,
    request: &Allocate,
) -> Result<Decision, Refusal> {
    let Allocate {
        floating,
        count,
        pool,
        owner,
        alteration,
    } = request;
    let owner = owner.unwrap_or(right.actor.uid);
    let invalid = |field: &str, why: String| Refusal::InvalidArgument {
        field: field.to_owned(),
        why,
    };
    let noted = alteration
        .of(&Attributes::default())
        .map_err(|why| invalid("tags", why.to_string()))?;
    if let Some(floating) = *floating {
        if count.is_some_and(|count| count > 1) {
            let why = format!("{floating} is one address; name none to get several");
            return Err(invalid("count", why));
        }
        match view.state.allocation(floating) {
            // To note something of what is there is another right than to take.
            Some(allocation) if allocation.owner == owner => {
                return match alteration.of(&allocation.attributes) {
                    Ok(after) if after == allocation.attributes => Ok(Decision::nothing(floating)),
                    Ok(_) | Err(_) => Err(Refusal::AlreadyAllocated {
                        floating,
                        noted: true,
                    }),
                };
            }
            Some(_) => {
                return Err(Refusal::AlreadyAllocated {
                    floating,
                    noted: false,
                });
            }
            None => {}
        }
    }
    let (mut state, now) = (view.state.clone(), view.now);
    let (mut taken, mut changes) = (Vec::new(), Vec::new());
    for _ in 0..count.unwrap_or(1) {
        let view = View {
            state: &state,
            ..view
        };
        let floating =
            floating.map_or_else(|| free(view, right, owner, pool.as_ref(), None), Ok)?;
        let mut new = vec![take(view, right, owner, floating, pool.as_ref())?];
        new.extend((noted != Attributes::default()).then(|| Change::Update {
            floating,
            before: Box::default(),
            after: Box::new(noted.clone()),
        }));
        for change in &new {
            state = state.with(change, now);
        }
        taken.push(floating);
        changes.extend(new);
    }
    let first = *taken.first().ok_or_else(|| {
        let why = format!("it is 1 to {MOST_AT_ONCE}");
        invalid("count", why)
    })?;
    Ok(Decision {
        all: if count.is_some() { taken } else { Vec::new() },
        changes,
        ..Decision::nothing(first)
    })
}

/// The change that gives a free address an owner.
pub(super) fn take(
    view: View<'_>,
    right: Right<'_>,
    owner: Uid,
    floating: FloatingIp,
    pool: Option<&PoolName>,
) -> Result<Change, Refusal> {
    let named = pool.map(|name| named(view, name)).transpose()?;
    let home = view.site.pool_of(floating);
    let is_right = |home: &&Pool| named.is_none_or(|named| named.name == home.name);
    let home = home.filter(is_right).ok_or_else(|| Refusal::NotInPool {
        address: floating.ip(),
        pool: pool.cloned(),
        home: home.map(|home| home.name.clone()),
    })?;
    if view.surroundings.is_primary(floating.ip()) {
        return Err(Refusal::RouterAddress { floating });
    }
    if let Some(Resting { until, .. }) = view
        .resting(floating)
        .filter(|resting| resting.owner != owner && !right.reaches_rest_of(resting.owner))
    {
        return Err(Refusal::AddressResting { floating, until });
    }
    within_quota(view, right, owner, floating)?;
    has_room(view, floating.family())?;
    Ok(Change::Allocate {
        floating,
        pool: home.name.clone(),
        owner,
    })
}

/// Refuses what the kernel would: the sets that count are made for so many.
fn has_room(view: View<'_>, family: Family) -> Result<(), Refusal> {
    let limit = view.ruleset.size(family);
    if view.state.allocated_of(family) < limit as usize {
        Ok(())
    } else {
        Err(Refusal::LimitReached {
            limit,
            family: family.to_string(),
        })
    }
}

/// A free address of a pool, or of the first pool that has one: an IPv6 address
/// only where no IPv4 address is left, if either will do. What rests is
/// passed by, but for what rests for this owner, when nothing else is left for
/// him.
pub(super) fn free(
    view: View<'_>,
    right: Right<'_>,
    owner: Uid,
    pool: Option<&PoolName>,
    family: Option<Family>,
) -> Result<FloatingIp, Refusal> {
    let families = family.map_or(Family::BOTH.to_vec(), |family| vec![family]);
    let pools: Vec<&Pool> = match pool {
        Some(name) => vec![named(view, name)?],
        None => view.site.pools.iter().collect(),
    };
    if is_at_quota(view, right, owner)
        && let Some(floating) = own_resting(view, owner, &pools, &families)
    {
        return Ok(floating);
    }
    // A pool's IPv4 addresses are used up first; another may have some.
    for &family in &families {
        for pool in &pools {
            if let Some(floating) = free_in(view, pool, family) {
                return Ok(floating);
            }
        }
    }
    if let Some(floating) = own_resting(view, owner, &pools, &families) {
        return Ok(floating);
    }
    Err(Refusal::PoolExhausted {
        family: family.map_or_else(|| "floating".to_owned(), |family| family.to_string()),
        pool: pool.cloned(),
    })
}

/// An address that rests for this user, who is the only one that it can be given
/// to when nothing else is left: the one whose rest is over first.
fn own_resting(
    view: View<'_>,
    owner: Uid,
    pools: &[&Pool],
    families: &[Family],
) -> Option<FloatingIp> {
    let mut resting = view.state.resting().of(owner);
    let found = resting.find(|(floating, _)| {
        families.contains(&floating.family())
            && pools.iter().any(|pool| pool.contains(*floating))
            && !view.surroundings.is_primary(floating.ip())
    });
    found.map(|(floating, _)| floating)
}

fn named<'a>(view: View<'a>, name: &PoolName) -> Result<&'a Pool, Refusal> {
    view.site
        .pool(name)
        .ok_or_else(|| Refusal::NoSuchPool(name.clone()))
}

/// The next free address after the one that was given out last, round and
/// round: one that was just released is not the next to be given to somebody
/// else, and the search does not pass what is taken again and again.
fn free_in(view: View<'_>, pool: &Pool, family: Family) -> Option<FloatingIp> {
    let ranges = || {
        pool.ranges
            .iter()
            .copied()
            .filter(move |range| range.family() == family)
    };
    let Some(last) = view.state.last_allocated(&pool.name, family) else {
        return ranges().find_map(|range| free_between(view, range));
    };
    let last = last.ip();
    let behind = ranges().filter_map(|range| match range.after(last) {
        Some(next) => AddressRange::new(next, range.last()).ok(),
        None => (range.first() > last).then_some(range),
    });
    let up_to =
        ranges().filter_map(|range| AddressRange::new(range.first(), range.last().min(last)).ok());
    behind
        .chain(up_to)
        .find_map(|range| free_between(view, range))
}

fn free_between(view: View<'_>, range: AddressRange) -> Option<FloatingIp> {
    let first = FloatingIp::new(range.first()).ok()?;
    let mut taken = view
        .state
        .allocations_from(Bound::Included(first))
        .map(|(taken, _)| taken.ip())
        .peekable();
    let mut candidate = Some(range.first());
    while let Some(address) = candidate {
        let is_taken = taken.next_if_eq(&address).is_some();
        if !is_taken && !view.surroundings.is_primary(address) {
            let floating = FloatingIp::new(address).ok()?;
            // One that was just released may be given back.
            let is_awaited = view.state.trial(floating).is_some();
            if !is_awaited && view.resting(floating).is_none() {
                return Some(floating);
            }
        }
        candidate = range.after(address);
    }
    None
}
