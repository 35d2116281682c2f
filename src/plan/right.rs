//! Whose addresses a request concerns, and whether the right it was given
//! reaches as far.

use crate::model::{Actor, FixedIp, FloatingIp, PoolName, Site, State, Trial, Uid};
use crate::request::{
    Allocate, Associate, Confirm, Disassociate, ForwardPorts, Reach, Refusal, Release, Request,
    Revert, Scope, UnforwardPorts, Update,
};

use super::trial::concerned;
use super::{View, resolve};

/// Who asks, and how far the right to ask reaches.
#[derive(Clone, Copy, Debug)]
pub struct Right<'a> {
    /// Who.
    pub actor: Actor,
    /// How far.
    pub scope: &'a Scope,
}

impl Right<'_> {
    /// Whether it reaches to what rests for this user.
    pub(super) fn reaches_rest_of(&self, owner: Uid) -> bool {
        match self.scope {
            Scope::Any => true,
            Scope::Managed(reach) => reach.rest_of == Some(owner),
            Scope::Own(..) => false,
        }
    }
}

/// What a request concerns. A request that cannot be granted concerns nothing
/// that it does not name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Concern {
    /// The floating IP that is named, or that the named host has.
    pub floating: Option<FloatingIp>,
    /// Whether it is named itself.
    pub is_named: bool,
    /// The host that is named, or that has the address.
    pub fixed: Option<FixedIp>,
    /// The pool that is named, or that the address is of.
    pub pool: Option<PoolName>,
    /// Whose an address becomes that is free now, when one is taken.
    pub taken_for: Option<Uid>,
    /// Whose the addresses are that may be altered.
    pub owners: Vec<(FloatingIp, Uid)>,
}

impl Concern {
    /// What is somebody else's than this user's, or is to be: the address, if it
    /// is one already, and whose.
    #[must_use]
    pub fn of_others(&self, uid: Uid) -> Vec<(Option<FloatingIp>, Uid)> {
        let altered = self.owners.iter();
        let altered = altered.map(|(floating, owner)| (Some(*floating), *owner));
        let taken = self.taken_for.map(|owner| (None, owner));
        altered
            .chain(taken)
            .filter(|(_, owner)| *owner != uid)
            .collect()
    }

    /// What the right to the request reaches, once it is given.
    #[must_use]
    pub fn reach(&self) -> Reach {
        Reach {
            owners: self.owners.clone(),
            takes: self.taken_for,
            rest_of: None,
        }
    }
}

/// What a request concerns.
#[must_use]
pub fn concern(state: &State, site: &Site, uid: Uid, request: &Request) -> Concern {
    let about = |floating: Option<FloatingIp>, pool: Option<&PoolName>| {
        let allocation = floating.and_then(|floating| state.allocation(floating));
        let home = floating.and_then(|floating| site.pool_of(floating));
        Concern {
            floating,
            fixed: allocation
                .and_then(|allocation| allocation.association)
                .map(|association| association.fixed),
            pool: allocation
                .map(|allocation| &allocation.pool)
                .or(pool)
                .or(home.map(|pool| &pool.name))
                .cloned(),
            owners: floating
                .zip(allocation)
                .map(|(floating, allocation)| (floating, allocation.owner))
                .into_iter()
                .collect(),
            ..Concern::default()
        }
    };
    match request {
        Request::Allocate(Allocate {
            floating,
            count: _,
            pool,
            owner,
            alteration: _,
        }) => Concern {
            is_named: floating.is_some(),
            taken_for: Some(owner.unwrap_or(uid)),
            // What is allocated already is not altered.
            owners: Vec::new(),
            fixed: None,
            ..about(*floating, pool.as_ref())
        },
        Request::Associate(Associate {
            floating,
            fixed,
            pool,
            owner,
            reassociate: _,
            keep_established: _,
        }) => {
            let current = state.floating_of(*fixed);
            let kept = current.filter(|current| {
                let of = state
                    .allocation(*current)
                    .map(|allocation| &allocation.pool);
                pool.is_none() || of == pool.as_ref()
            });
            let mut concern = about(floating.or(kept), pool.as_ref());
            if concern.owners.is_empty() {
                concern.taken_for = Some(owner.unwrap_or(uid));
            }
            // Of what the host has or leaves as, it loses the one, and the other.
            for lost in [current, state.outbound_of(*fixed)] {
                if lost != concern.floating {
                    concern.owners.extend(about(lost, None).owners);
                }
            }
            concern.owners.dedup();
            Concern {
                is_named: floating.is_some(),
                fixed: Some(*fixed),
                ..concern
            }
        }
        Request::Forward(ForwardPorts {
            floating,
            forward,
            reassociate: _,
        }) => {
            let mut concern = about(Some(*floating), None);
            if concern.owners.is_empty() {
                concern.taken_for = Some(uid);
            }
            Concern {
                is_named: true,
                fixed: Some(forward.fixed()),
                ..concern
            }
        }
        Request::Unforward(UnforwardPorts {
            floating,
            protocol,
            ports,
        }) => {
            let forwards = state.forwards(*floating);
            let forward = forwards.and_then(|forwards| forwards.clash(*protocol, *ports));
            Concern {
                is_named: true,
                fixed: forward.map(|forward| forward.fixed()),
                ..about(Some(*floating), None)
            }
        }
        Request::Confirm(Confirm { address }) | Request::Revert(Revert { address }) => {
            let members = concerned(state, site, *address);
            let owner = |floating: FloatingIp| {
                let owner = state.allocation(floating).map(|has| has.owner);
                let former = || state.trial(floating).and_then(Trial::former_owner);
                Some((floating, owner.or_else(former)?))
            };
            let mut named = members.iter().filter(|floating| floating.ip() == *address);
            let named = named.next().copied();
            let concern = about(named.or(members.first().copied()), None);
            Concern {
                is_named: named.is_some(),
                // The host that is named, and not the one that has it meanwhile.
                fixed: match named {
                    Some(_) => concern.fixed,
                    None => FixedIp::new(*address).ok(),
                },
                owners: members.iter().copied().filter_map(owner).collect(),
                ..concern
            }
        }
        Request::Disassociate(Disassociate { address })
        | Request::Update(Update { address, .. })
        | Request::Release(Release { address }) => match resolve(state, site, *address) {
            Ok(floating) => Concern {
                is_named: floating.ip() == *address,
                ..about(Some(floating), None)
            },
            Err(_) => Concern::default(),
        },
    }
}

/// Refuses what was not what the right was given for: owners may have changed
/// while somebody was asked.
pub(super) fn within(right: Right<'_>, concern: &Concern) -> Result<(), Refusal> {
    let uid = right.actor.uid;
    let (reach, managed) = match right.scope {
        Scope::Any => return Ok(()),
        Scope::Managed(reach) => (reach, true),
        Scope::Own(_, reach) => (reach, false),
    };
    let strange = |case: &&(FloatingIp, Uid)| {
        let (_, owner) = case;
        *owner != uid && !(managed && reach.owners.contains(case))
    };
    if let Some((floating, _)) = concern.owners.iter().find(strange) {
        return Err(Refusal::OwnerChanged {
            floating: *floating,
        });
    }
    // It would have altered an address, and now that is gone it would take one.
    let takes = concern
        .taken_for
        .filter(|_| concern.taken_for != reach.takes);
    let Some(owner) = takes else {
        return Ok(());
    };
    let gone = reach.owners.first().map(|(floating, _)| *floating);
    Err(match gone.or(concern.floating) {
        Some(floating) => Refusal::OwnerChanged { floating },
        None => Refusal::QuotaExceeded { owner, quota: 0 },
    })
}

/// Refuses an address more than the user may have.
pub(super) fn within_quota(
    view: View<'_>,
    right: Right<'_>,
    owner: Uid,
    floating: FloatingIp,
) -> Result<(), Refusal> {
    match right.scope {
        Scope::Own(limit, _) if kept_for(view, owner, Some(floating)) >= limit.quota => {
            Err(Refusal::QuotaExceeded {
                owner,
                quota: limit.quota,
            })
        }
        Scope::Any | Scope::Managed(_) | Scope::Own(..) => Ok(()),
    }
}

/// Whether the user has no address left to take but those that are kept for him.
pub(super) fn is_at_quota(view: View<'_>, right: Right<'_>, owner: Uid) -> bool {
    match right.scope {
        Scope::Any | Scope::Managed(_) => false,
        Scope::Own(limit, _) => kept_for(view, owner, None) >= limit.quota,
    }
}

/// How many addresses nobody else can get because of a user: his own, those that
/// rest, and those that he gets back unless a change is confirmed. Else whoever
/// takes and releases in turn would soon have kept a whole pool from all others.
fn kept_for(view: View<'_>, owner: Uid, but: Option<FloatingIp>) -> u32 {
    let is_another = |floating: FloatingIp| Some(floating) != but;
    let resting = view.state.resting().of(owner);
    let resting =
        resting.filter(|(floating, _)| is_another(*floating) && view.resting(*floating).is_some());
    let awaited = view.state.trials().filter(|(floating, trial)| {
        let has = view.state.allocation(*floating);
        trial.former_owner() == Some(owner)
            && is_another(*floating)
            && has.is_none_or(|allocation| allocation.owner != owner)
            && view.resting(*floating).is_none()
    });
    let kept = resting.count() + awaited.count();
    let kept = u32::try_from(kept).unwrap_or(u32::MAX);
    view.state.owned_by(owner).saturating_add(kept)
}

/// Refuses a host that the user may not lead addresses to.
pub(super) fn within_ranges(right: Right<'_>, fixed: FixedIp) -> Result<(), Refusal> {
    match right.scope {
        Scope::Any | Scope::Managed(_) => Ok(()),
        Scope::Own(limit, _) if limit.permitted.contains(fixed) => Ok(()),
        Scope::Own(..) => Err(Refusal::OutsidePermittedRanges { fixed }),
    }
}
