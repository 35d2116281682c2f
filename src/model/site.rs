//! Where the daemon stands: what the administrator configured, and the
//! addresses that the router itself was seen to have.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::{
    Family, FixedIp, FloatingIp, InterfaceName, Limits, Pool, PoolName, Uplink, UplinkNumbers,
};

/// What the configuration says about addresses and traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The pools, in the order of the configuration. Disjoint.
    pub pools: Vec<Pool>,
    /// Where fixed addresses may lie, and what counts as inside.
    pub private: Vec<IpNet>,
    /// Whether forwarded packets that conntrack calls invalid or that were
    /// never tracked are kept from leaving with, or reaching, an address of
    /// ours.
    pub guard: bool,
    /// Whether a pool address that is associated nowhere is closed, rather than
    /// left to whatever else the router does with it.
    pub block_free: bool,
    /// Whether the packets of every floating IP are counted.
    pub counters: bool,
    /// What leaves as it is although it leaves by an outside interface.
    pub untranslated: Untranslated,
    /// What tells uplinks apart where there are several.
    pub uplink_numbers: UplinkNumbers,
    /// How much a user may have.
    pub limits: Limits,
    /// How long a released address is kept for its last owner.
    pub rest: Duration,
}

/// What hosts send that is never translated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Untranslated {
    /// To these destinations: other sites, networks behind a VPN.
    pub destinations: Vec<IpNet>,
    /// Under an IPsec policy.
    pub ipsec: bool,
}

impl Site {
    /// What is not outside: the private ranges, and the destinations to which
    /// nothing is translated.
    #[must_use]
    pub fn inside(&self) -> Vec<IpNet> {
        let destinations = &self.untranslated.destinations;
        self.private.iter().chain(destinations).copied().collect()
    }

    /// The uplinks of the pools with addresses, each once. Their numbers,
    /// counted from 1, are their places here.
    #[must_use]
    pub fn uplinks(&self) -> BTreeSet<Uplink> {
        let pools = self.pools.iter().filter(|pool| !pool.ranges.is_empty());
        pools.map(Pool::uplink).collect()
    }

    /// The pool of that name.
    #[must_use]
    pub fn pool(&self, name: &PoolName) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.name == *name)
    }

    /// The pool that the address belongs to.
    #[must_use]
    pub fn pool_of(&self, floating: FloatingIp) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.contains(floating))
    }

    /// Whether the address lies inside, where fixed addresses are. A pool may
    /// lie in a range that nobody wrote; its addresses are never private.
    #[must_use]
    pub fn is_private(&self, address: IpAddr) -> bool {
        let in_pool = |floating| self.pool_of(floating).is_some();
        self.private.iter().any(|net| net.contains(&address))
            && !FloatingIp::new(address).is_ok_and(in_pool)
    }

    /// How many addresses the pools of a family have, as far as a `u64` counts.
    #[must_use]
    pub fn capacity(&self, family: Family) -> u64 {
        let pools = self.pools.iter();
        pools.fold(0, |sum: u64, pool| sum.saturating_add(pool.size_of(family)))
    }
}

/// Why an address cannot be a host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAHost {
    /// The router itself has it.
    Router,
    /// It is the network address of a private range or inside network.
    Network,
    /// It is the broadcast address of a private range or inside network.
    Broadcast,
}

/// An address of the router's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouterAddress {
    /// The address, with the length of its network's prefix.
    pub net: IpNet,
    /// The interface that it is on.
    pub interface: InterfaceName,
    /// Whether it came to a network that the interface was on already
    /// (`IFA_F_SECONDARY`, rtnetlink(7)).
    pub secondary: bool,
}

impl RouterAddress {
    /// Whether the router is on a network by it: not one that was put there as
    /// a /32 or /128, or beside another, to have the router answer for it.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        !self.secondary && self.net.prefix_len() < self.net.max_prefix_len()
    }
}

/// The addresses around us: the router's, ours left out, and its gateways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The addresses of the router. Sorted.
    pub addresses: Vec<RouterAddress>,
    /// The next hops of the default routes.
    pub gateways: Vec<IpAddr>,
}

impl Surroundings {
    /// Whether the router itself has the address.
    #[must_use]
    pub fn is_router(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.net.addr() == address)
    }

    /// Whether it has it as its own, and not only to answer for it.
    #[must_use]
    pub fn is_primary(&self, address: IpAddr) -> bool {
        self.addresses
            .iter()
            .any(|own| own.net.addr() == address && own.is_primary())
    }

    /// Why the address is no host's, judged by the private ranges and by the
    /// networks that the router is on.
    #[must_use]
    pub fn not_a_host(&self, site: &Site, fixed: FixedIp) -> Option<NotAHost> {
        let address = fixed.ip();
        if self.is_router(address) {
            return Some(NotAHost::Router);
        }
        site.private
            .iter()
            .chain(self.addresses.iter().map(|own| &own.net))
            .find_map(|net| end_of_network(net, address))
    }
}

/// Whether the address is the first or last of an IPv4 network that has such
/// (RFC 3021: a /31 and a /32 have none). IPv6 has no broadcast; its first
/// address is the subnet-router anycast address (RFC 4291 2.6.1).
fn end_of_network(net: &IpNet, address: IpAddr) -> Option<NotAHost> {
    let too_small = net.max_prefix_len() - net.prefix_len() < 2;
    if too_small {
        None
    } else if net.network() == address {
        Some(NotAHost::Network)
    } else if net.broadcast() == address && address.is_ipv4() {
        Some(NotAHost::Broadcast)
    } else {
        None
    }
}
