//! State and site → what the kernel should hold.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;

use crate::model::{
    AddressRange, Direction, Family, FixedIp, FloatingIp, Forwards, InterfaceName, PendingReason,
    Pool, Rate, Site, State,
};

use super::{Claim, Claims, IfIndex, Link, Observed, Rerouting, Ruleset, Uplinks};

/// What the kernel should hold. Borrows the state instead of copying it: a
/// request asks about the few addresses that it touched.
#[derive(Debug)]
pub struct Desired<'a> {
    /// The fixed part of the table.
    pub ruleset: &'a Ruleset,
    state: &'a State,
    site: &'a Site,
    /// `None` when every address may be taken without asking.
    claims: Option<&'a Claims>,
}

/// Where the router is to answer for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: it leads to no host, or its pool is routed to us, or
    /// the administrator put it on an interface already.
    Nowhere,
    /// On this interface.
    On(IfIndex),
    /// It cannot be told or done yet.
    Pending(PendingReason),
}

impl<'a> Desired<'a> {
    /// What the kernel should hold for a state.
    #[must_use]
    pub fn new(ruleset: &'a Ruleset, state: &'a State, site: &'a Site) -> Self {
        Self {
            ruleset,
            state,
            site,
            claims: None,
        }
    }

    /// The same, if the neighbours are asked before an address is taken.
    #[must_use]
    pub fn by_claims(self, claims: &'a Claims) -> Self {
        Self {
            claims: Some(claims),
            ..self
        }
    }

    /// Whether the address is somebody else's, so that not even the maps are to
    /// have it: its host would leave as that other machine.
    fn is_withheld(&self, floating: FloatingIp) -> bool {
        self.claims.is_some_and(|claims| claims.withhold(floating))
    }

    /// The host that the address should lead to.
    #[must_use]
    pub fn fixed(&self, floating: FloatingIp) -> Option<FixedIp> {
        let association = self.state.association(floating);
        association
            .map(|association| association.fixed)
            .filter(|_| !self.is_withheld(floating))
    }

    /// The forwards that the address should have; `None` for none.
    #[must_use]
    pub fn forwards(&self, floating: FloatingIp) -> Option<&'a Forwards> {
        let forwards = self.state.forwards(floating);
        forwards.filter(|_| !self.is_withheld(floating))
    }

    /// The floating IP that a host should leave as.
    #[must_use]
    pub fn source(&self, fixed: FixedIp) -> Option<FloatingIp> {
        let source = self.state.source_of(fixed);
        source.filter(|floating| !self.is_withheld(*floating))
    }

    /// Whether forwards lead to a host.
    #[must_use]
    pub fn is_forwarded_to(&self, fixed: FixedIp) -> bool {
        self.state.is_forwarded_to(fixed)
    }

    /// Whether the packets of an address should be counted: from its allocation
    /// to its release, whoever has it meanwhile.
    #[must_use]
    pub fn counts(&self, floating: FloatingIp) -> bool {
        self.ruleset.counts() && self.state.allocation(floating).is_some()
    }

    /// How fast the packets of an address should go in a direction.
    #[must_use]
    pub fn rate(&self, floating: FloatingIp, direction: Direction) -> Option<Rate> {
        self.state.rate(floating, direction)
    }

    /// The prefixes that may reach an address; none are everybody.
    pub fn sources(&self, floating: FloatingIp) -> impl Iterator<Item = IpNet> + 'a {
        let allocation = self.state.allocation(floating).into_iter();
        allocation.flat_map(|allocation| allocation.attributes.allowed_sources.iter())
    }

    /// Every address that somebody owns.
    pub fn allocated(&self) -> impl Iterator<Item = FloatingIp> + 'a {
        self.state.allocations().map(|(floating, _)| floating)
    }

    /// Every address that should lead somewhere.
    pub fn in_use(&self) -> impl Iterator<Item = FloatingIp> + 'a {
        self.state.in_use()
    }

    /// Where the router should answer for the address. While no interface can be told, it stays as it is.
    #[must_use]
    pub fn place(&self, floating: FloatingIp, observed: &Observed) -> Place {
        let pool = self.site.pool_of(floating);
        if !self.state.is_in_use(floating) || pool.is_some_and(|pool| pool.routed) {
            return Place::Nowhere;
        }
        match self.link(floating, observed) {
            Err(PendingReason::NoDefaultRoute) if observed.presence.contains_key(&floating) => {
                Place::On(observed.presence[&floating])
            }
            Err(reason) => Place::Pending(reason),
            Ok(_) if observed.surroundings.is_router(floating.ip()) => Place::Nowhere,
            Ok(link) if observed.presence.get(&floating) == Some(&link.index) => {
                Place::On(link.index)
            }
            Ok(link) => match self.clearance(floating, link, observed) {
                Ok(()) => Place::On(link.index),
                Err(reason) => Place::Pending(reason),
            },
        }
    }

    /// Whether the address may be taken on a link, by what the neighbours said.
    fn clearance(
        &self,
        floating: FloatingIp,
        link: &Link,
        observed: &Observed,
    ) -> Result<(), PendingReason> {
        // Without hardware addresses there are no neighbours to ask.
        let Some(claims) = self
            .claims
            .filter(|_| self.patience(floating).is_some() && link.mac.is_some())
        else {
            return Ok(());
        };
        match claims.of(floating, link.index) {
            Claim::Ours => Ok(()),
            Claim::Contested(by) => Err(PendingReason::Contested { floating, by }),
            Claim::Unknown if link.carrier => Err(PendingReason::Probing(floating)),
            Claim::Unknown => {
                let mut links = observed.links.iter();
                let name = links.find(|(_, other)| other.index == link.index);
                let (name, _) = name.expect("the link is one of those that were seen");
                Err(PendingReason::NoCarrier(name.clone()))
            }
        }
    }

    /// For how long the neighbours are asked about an address; `None` when they
    /// are not.
    #[must_use]
    pub fn patience(&self, floating: FloatingIp) -> Option<Duration> {
        let pool = self.site.pool_of(floating)?;
        pool.announcing.probe.filter(|_| !pool.routed)
    }

    /// Why the packets of an address in use do not pass yet although the
    /// maps are right: a routed pool, too, needs its outside interface.
    #[must_use]
    pub fn pending(&self, floating: FloatingIp, observed: &Observed) -> Option<PendingReason> {
        let obstacle = match observed.presence.contains_key(&floating) {
            true => None,
            false => self.obstacle(floating, observed),
        };
        obstacle.or_else(|| self.cut_off(floating, observed))
    }

    /// Whether nothing can leave by the uplink of the address.
    fn cut_off(&self, floating: FloatingIp, observed: &Observed) -> Option<PendingReason> {
        // Nothing was led anywhere.
        if observed.routing.is_empty() {
            return None;
        }
        let uplink = self.site.pool_of(floating)?.uplink();
        let family = floating.family();
        let is_cut_off = self.uplinks(observed).is_cut_off(&uplink, family, observed);
        let name = outside(uplink.interface.as_ref(), family, observed)?;
        is_cut_off.then(|| PendingReason::NoGateway(name.clone()))
    }

    /// What keeps the router from answering for the address.
    #[must_use]
    pub fn obstacle(&self, floating: FloatingIp, observed: &Observed) -> Option<PendingReason> {
        match self.place(floating, observed) {
            Place::Pending(reason) => Some(reason),
            Place::Nowhere => self.link(floating, observed).err(),
            Place::On(_) => None,
        }
    }

    /// The outside link of an address, or why there is none.
    pub fn link<'b>(
        &self,
        floating: FloatingIp,
        observed: &'b Observed,
    ) -> Result<&'b Link, PendingReason> {
        let pool = self.site.pool_of(floating);
        let name = outside(named(pool), floating.family(), observed)
            .ok_or(PendingReason::NoDefaultRoute)?;
        match observed.links.get(name) {
            None => Err(PendingReason::InterfaceMissing(name.clone())),
            Some(link) if !link.up => Err(PendingReason::InterfaceDown(name.clone())),
            Some(link) => Ok(link),
        }
    }

    /// The elements of the set `outside`. An interface that only the default
    /// route can tell stays as it is in the kernel while there is none: a lease
    /// that is renewed must not cut anything.
    #[must_use]
    pub fn outside(&self, observed: &Observed) -> BTreeSet<InterfaceName> {
        let mut names = BTreeSet::new();
        for pool in &self.site.pools {
            for family in Family::BOTH {
                if !pool.ranges.iter().any(|range| range.family() == family) {
                    continue;
                }
                match outside(named(Some(pool)), family, observed) {
                    Some(name) => drop(names.insert(name.clone())),
                    None => names.extend(observed.outside.iter().cloned()),
                }
            }
        }
        names
    }

    /// Where packets are led by the uplink of their floating IP.
    #[must_use]
    pub fn uplinks(&self, observed: &Observed) -> Uplinks<'a> {
        Uplinks::new(self.site, observed)
    }

    /// What is to be altered about routing rules and routes.
    #[must_use]
    pub fn rerouting(&self, observed: &Observed) -> Rerouting {
        Rerouting::between(&observed.routing, &self.uplinks(observed).routing())
    }

    /// The elements of the sets `pool4` and `pool6`: the pools, and what is
    /// still allocated from pools that the configuration no longer has. Without
    /// the router's own addresses, whose services would be closed with them.
    #[must_use]
    pub fn pool(&self, observed: &Observed) -> Vec<AddressRange> {
        let configured = self
            .site
            .pools
            .iter()
            .flat_map(|pool| pool.ranges.iter().copied());
        let orphans = self
            .state
            .allocations()
            .filter(|(floating, _)| self.site.pool_of(*floating).is_none())
            .map(|(floating, _)| AddressRange::single(floating.ip()));
        let mut ranges: Vec<_> = configured.chain(orphans).collect();
        for own in observed
            .surroundings
            .addresses
            .iter()
            .filter(|own| own.is_primary())
        {
            ranges = ranges
                .iter()
                .flat_map(|range| range.without(own.net.addr()))
                .collect();
        }
        AddressRange::merge(ranges)
    }
}

/// The outside interface that a pool names.
fn named(pool: Option<&Pool>) -> Option<&InterfaceName> {
    pool.and_then(|pool| pool.interface.as_ref())
}

/// The outside interface: the one that is named; without one that of the default
/// route, of the other family if need be.
pub(super) fn outside<'a>(
    named: Option<&'a InterfaceName>,
    family: Family,
    observed: &'a Observed,
) -> Option<&'a InterfaceName> {
    let other = match family {
        Family::V4 => Family::V6,
        Family::V6 => Family::V4,
    };
    let default_route = observed.default_route(family);
    let default_route = default_route.or(observed.default_route(other));
    named.or(default_route)
}
