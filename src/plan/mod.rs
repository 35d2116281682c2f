//! State × Request → Change: what a request alters, or why it is refused.
//!
//! Pure. Nothing here is slower with a hundred thousand addresses than with
//! ten, except the search for a free address in a pool that is almost full.

mod allocate;
mod associate;
mod forward;
mod lease;
mod release;
mod right;
mod trial;
mod update;

use std::net::IpAddr;

use crate::dataplane::Ruleset;
use crate::model::{Change, FixedIp, FloatingIp, Resting, Site, State, Surroundings, Timestamp};
use crate::request::{Refusal, Request};

pub use lease::{bound, expire};
pub use right::{Concern, Right, concern};
pub use trial::{on_trial, undo};

/// What a decision is made on.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Everything desired so far.
    pub state: &'a State,
    /// The configuration.
    pub site: &'a Site,
    /// The router's own addresses.
    pub surroundings: &'a Surroundings,
    /// The table, whose maps are made for so many associations.
    pub ruleset: &'a Ruleset,
    /// What time it is.
    pub now: Timestamp,
}

/// What is to be altered so that it is as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The address that it is about.
    pub floating: FloatingIp,
    /// All of them, when several could be.
    pub all: Vec<FloatingIp>,
    /// What to alter, in order; empty when it already is as asked.
    pub changes: Vec<Change>,
    /// The host that had the address before.
    pub previous: Option<FixedIp>,
    /// The floating IP that the host had before.
    pub displaced: Option<FloatingIp>,
}

impl View<'_> {
    /// For whom a free address is kept, and until when.
    #[must_use]
    pub fn resting(&self, floating: FloatingIp) -> Option<Resting> {
        let resting = self.state.resting().get(floating)?;
        resting.is_on(self.now, self.site.rest).then_some(resting)
    }
}

impl Decision {
    fn nothing(floating: FloatingIp) -> Self {
        Self {
            floating,
            all: Vec::new(),
            changes: Vec::new(),
            previous: None,
            displaced: None,
        }
    }
}

/// Decides what a request changes, or why it may not be done. Asking for what
/// already is changes nothing and is no error.
pub fn decide(view: View<'_>, right: Right<'_>, request: &Request) -> Result<Decision, Refusal> {
    right::within(
        right,
        &concern(view.state, view.site, right.actor.uid, request),
    )?;
    let decision = match request {
        Request::Confirm(request) => return trial::confirm(view, request),
        Request::Revert(request) => return trial::revert(view, request),
        Request::Allocate(request) => allocate::allocate(view, right, request),
        Request::Associate(request) => associate::associate(view, right, request),
        Request::Disassociate(request) => release::disassociate(view, request),
        Request::Forward(request) => forward::forward(view, right, request),
        Request::Unforward(request) => forward::unforward(view, request),
        Request::Update(request) => update::update(view, request),
        Request::Release(request) => release::release(view, request),
    }?;
    trial::guard(view.state, &decision.changes)?;
    Ok(decision)
}

/// The floating IP that a request is about, named by itself or by the fixed
/// address that has it.
pub fn resolve(state: &State, site: &Site, address: IpAddr) -> Result<FloatingIp, Refusal> {
    let unusable = |why| Refusal::invalid_address("address", &address.to_string(), why);
    let floating = FloatingIp::new(address).map_err(unusable)?;
    if state.allocation(floating).is_some() || site.pool_of(floating).is_some() {
        return Ok(floating);
    }
    let fixed = FixedIp::new(address).map_err(unusable)?;
    match state.floating_of(fixed) {
        Some(floating) => Ok(floating),
        None if site.is_private(address) => Err(Refusal::NotAssociated { address }),
        None => Err(Refusal::NotInPool {
            address,
            pool: None,
            home: None,
        }),
    }
}

#[cfg(test)]
mod tests;
