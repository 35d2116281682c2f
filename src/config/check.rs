//! What a configuration must not say, by itself and on this router.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::dataplane::Observed;
use crate::model::{AddressRange, Family, InterfaceName, Pool, PoolName, Site};

use super::ConfigError;

/// Refuses pools that share an address.
pub(super) fn disjoint(pools: &[Pool]) -> Result<(), ConfigError> {
    let mut all: Vec<(AddressRange, &PoolName)> = pools
        .iter()
        .flat_map(|pool| pool.ranges.iter().map(|range| (*range, &pool.name)))
        .collect();
    all.sort_unstable();
    for pair in all.windows(2) {
        let [(earlier, first), (later, second)] = pair else {
            continue;
        };
        if earlier.overlaps(later) {
            return Err(ConfigError::Overlap {
                first: (*first).clone(),
                second: (*second).clone(),
                addresses: later.to_string(),
            });
        }
    }
    Ok(())
}

/// Refuses pools that lie in a private range.
pub(super) fn apart(pools: &[Pool], private: &[IpNet]) -> Result<(), ConfigError> {
    for pool in pools {
        for range in &pool.ranges {
            if let Some(net) = private.iter().find(|net| range.overlaps(&all_of(net))) {
                return Err(ConfigError::PoolIsPrivate {
                    pool: pool.name.clone(),
                    addresses: range.to_string(),
                    private: *net,
                });
            }
        }
    }
    Ok(())
}

/// What of a configuration does not fit a router.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The router itself uses a pool address.
    #[error(
        "pool {pool} has {address}, which the router itself uses on {interface}; leave it out of IP_POOL"
    )]
    RouterAddress {
        /// The pool.
        pool: PoolName,
        /// The address.
        address: IpAddr,
        /// Where it is.
        interface: InterfaceName,
    },
    /// The default route leads over a pool address.
    #[error(
        "pool {pool} has {address}, which is the gateway of the default route; leave it out of IP_POOL"
    )]
    Gateway {
        /// The pool.
        pool: PoolName,
        /// The address.
        address: IpAddr,
    },
    /// A pool address is the first or last of the uplink's network.
    #[error(
        "pool {pool} has {address}, the network or broadcast address of {network}; leave it out of IP_POOL"
    )]
    EndOfNetwork {
        /// The pool.
        pool: PoolName,
        /// The address.
        address: IpAddr,
        /// The network.
        network: IpNet,
    },
    /// A pool lies in a network of the inside.
    #[error(
        "pool {pool} has {addresses}, which lie in {network} on {interface}, an inside interface; \
         correct IP_POOL, or name the OUTSIDE_INTERFACE"
    )]
    InsideNetwork {
        /// The pool.
        pool: PoolName,
        /// Its addresses.
        addresses: AddressRange,
        /// The network.
        network: IpNet,
        /// Where it is.
        interface: InterfaceName,
    },
}

/// What of the configuration does not fit this router, as far as it can be
/// told: an interface may not be there yet.
#[must_use]
pub fn check_against(site: &Site, observed: &Observed) -> Vec<Misfit> {
    let outside = outside(site, observed);
    // What is inside can be told once all that is outside is there: a network
    // on an interface that waits to be renamed may be the uplink's.
    let is_known = !outside.is_empty()
        && outside
            .iter()
            .all(|name| observed.links.contains_key(*name));
    let mut misfits = Vec::new();
    for pool in &site.pools {
        let name = || pool.name.clone();
        let has = |address: IpAddr| pool.ranges.iter().any(|range| range.contains(address));
        for gateway in &observed.surroundings.gateways {
            if has(*gateway) {
                misfits.push(Misfit::Gateway {
                    pool: name(),
                    address: *gateway,
                });
            }
        }
        for own in &observed.surroundings.addresses {
            // One that is there alone was put there to be answered for.
            if !own.is_primary() {
                continue;
            }
            let (net, interface) = (own.net, &own.interface);
            if has(net.addr()) {
                let interface = interface.clone();
                misfits.push(Misfit::RouterAddress {
                    pool: name(),
                    address: net.addr(),
                    interface,
                });
            }
            let shared = pool
                .ranges
                .iter()
                .find(|range| range.overlaps(&all_of(&net)));
            if let Some(range) = shared.filter(|_| is_known && !outside.contains(interface)) {
                misfits.push(Misfit::InsideNetwork {
                    pool: name(),
                    addresses: *range,
                    network: net.trunc(),
                    interface: interface.clone(),
                });
            }
            if net.max_prefix_len() - net.prefix_len() >= 2 && net.addr().is_ipv4() {
                for end in [net.network(), net.broadcast()]
                    .into_iter()
                    .filter(|end| has(*end))
                {
                    misfits.push(Misfit::EndOfNetwork {
                        pool: name(),
                        address: end,
                        network: net.trunc(),
                    });
                }
            }
        }
    }
    misfits
}

/// The outside interfaces: those that pools name, and those of default routes.
fn outside<'a>(site: &'a Site, observed: &'a Observed) -> BTreeSet<&'a InterfaceName> {
    let named = site.pools.iter().filter_map(|pool| pool.interface.as_ref());
    named
        .chain(&observed.default_route4)
        .chain(&observed.default_route6)
        .collect()
}

/// All addresses of a network, its first and last included.
pub(super) fn all_of(net: &IpNet) -> AddressRange {
    debug_assert_eq!(Family::of(net.network()), Family::of(net.broadcast()));
    AddressRange::new(net.network(), net.broadcast())
        .expect("a network's first address comes before its last")
}
