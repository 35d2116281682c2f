//! Changes that are undone unless they are confirmed: putting one on trial, what
//! is closed meanwhile, and how it ends.

use std::net::IpAddr;

use crate::model::{Change, FixedIp, FloatingIp, Outbound, Site, State, Timestamp, Trial};
use crate::request::{Confirm, Refusal, Revert, Terms};

use super::{Decision, View, resolve};

/// A decision that is undone unless it is confirmed, when that is asked for.
#[must_use]
pub fn on_trial(view: View<'_>, decision: Decision, terms: &Terms) -> Decision {
    let Some(seconds) = terms.confirm else {
        return decision;
    };
    let mut addresses: Vec<_> = decision.changes.iter().map(Change::floating).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let try_out = |floating: FloatingIp| Change::Try {
        floating,
        trial: Box::new(Trial {
            // The sequence of the first event of this decision: no other has it.
            number: view.state.sequence().next().0,
            since: view.now,
            until: Timestamp(view.now.0.saturating_add(seconds.into())),
            former: view.state.allocation(floating).cloned(),
        }),
    };
    let mut changes = decision.changes;
    changes.extend(addresses.into_iter().map(try_out));
    Decision {
        changes,
        ..decision
    }
}

/// Refuses to alter what is on trial, and to take what undoing it gives back.
pub(super) fn guard(state: &State, changes: &[Change]) -> Result<(), Refusal> {
    if state.trials().next().is_none() {
        return Ok(());
    }
    for change in changes {
        let floating = change.floating();
        let host = match change {
            Change::Associate { fixed, .. } => Some(*fixed),
            Change::Forward { forward, .. } => {
                (forward.outbound() == Outbound::Floating).then_some(forward.fixed())
            }
            Change::Allocate { .. }
            | Change::Keep { .. }
            | Change::SetEnd { .. }
            | Change::Disassociate { .. }
            | Change::Unforward { .. }
            | Change::Update { .. }
            | Change::Release { .. }
            | Change::Try { .. }
            | Change::Confirm { .. }
            | Change::Restore { .. } => None,
        };
        let of_it = state.trial(floating).map(|trial| (floating, trial));
        let of_host = || host.and_then(|host| awaited(state, host));
        if let Some((floating, trial)) = of_it.or_else(of_host) {
            return Err(Refusal::Unconfirmed {
                floating: Some(floating),
                until: trial.until,
            });
        }
    }
    Ok(())
}

/// Decides what confirming alters.
pub(super) fn confirm(view: View<'_>, request: &Confirm) -> Result<Decision, Refusal> {
    let (floating, number) = subject(view, request.address)?;
    let members = members(view.state, number);
    Ok(Decision {
        changes: members
            .map(|floating| Change::Confirm { floating })
            .collect(),
        ..Decision::nothing(floating)
    })
}

/// Decides what undoing alters.
pub(super) fn revert(view: View<'_>, request: &Revert) -> Result<Decision, Refusal> {
    let (floating, number) = subject(view, request.address)?;
    let previous = view.state.association(floating).map(|tie| tie.fixed);
    Ok(Decision {
        changes: undo(view.state, number),
        previous,
        ..Decision::nothing(floating)
    })
}

/// What gives all addresses of a trial back what they had.
#[must_use]
pub fn undo(state: &State, number: u64) -> Vec<Change> {
    let mut members: Vec<_> = members(state, number).collect();
    // One that has a host lets go of it first: another may get it back.
    members.sort_by_key(|floating| state.association(*floating).is_none());
    let restore = |floating: FloatingIp| {
        let former = state.trial(floating)?.former.clone();
        Some(Change::Restore {
            floating,
            former: former.map(Box::new),
            previous: state.association(floating).map(|tie| tie.fixed),
        })
    };
    members.into_iter().filter_map(restore).collect()
}

/// The addresses of a trial.
fn members(state: &State, number: u64) -> impl Iterator<Item = FloatingIp> + '_ {
    let trials = state.trials();
    trials
        .filter(move |(_, trial)| trial.number == number)
        .map(|(floating, _)| floating)
}

/// The addresses that a request to confirm or undo is about.
pub(super) fn concerned(state: &State, site: &Site, address: IpAddr) -> Vec<FloatingIp> {
    match find(state, site, address) {
        Ok(Some((_, number))) => members(state, number).collect(),
        Ok(None) | Err(_) => Vec::new(),
    }
}

fn subject(view: View<'_>, address: IpAddr) -> Result<(FloatingIp, u64), Refusal> {
    let found = find(view.state, view.site, address)?;
    found.ok_or(Refusal::NothingUnconfirmed {
        address: Some(address),
    })
}

/// The trial of an address: a floating IP, the host that has it, or the one that
/// had it.
fn find(state: &State, site: &Site, address: IpAddr) -> Result<Option<(FloatingIp, u64)>, Refusal> {
    let of = |floating: FloatingIp| Some((floating, state.trial(floating)?.number));
    let itself = FloatingIp::new(address).ok().and_then(of);
    let host = FixedIp::new(address).ok();
    let of_host = || host.and_then(|host| state.floating_of(host)).and_then(of);
    let of_former = || {
        let (floating, trial) = host.and_then(|host| awaited(state, host))?;
        Some((floating, trial.number))
    };
    match itself.or_else(of_host).or_else(of_former) {
        Some(found) => Ok(Some(found)),
        None => resolve(state, site, address).map(|_| None),
    }
}

/// The trial at whose undoing the host gets something back.
fn awaited(state: &State, host: FixedIp) -> Option<(FloatingIp, &Trial)> {
    state.trials().find(|(_, trial)| trial.awaits(host))
}
