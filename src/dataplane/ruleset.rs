//! The fixed part of table `inet ipfloater`: sets, maps, chains and rules.
//!
//! Nothing here grows with the number of addresses; what does is an element of
//! a set or map. The first packet of a flow passes the nat chains, and each
//! packet `leaving` (`ruleset/traffic.rs`):
//!
//! ```text
//! prerouting ─ nat_prerouting ┐    by_source   while any address has a filter
//!                             ├─ to_fixed      floating → fixed
//! output ───── nat_output ────┘     └ by_port    by forwards; free: drop
//! input ────── guard_local                     never the router's own services
//! prerouting ─ uplink_in ─┐  while there are several uplinks: the mark of
//! output ───── uplink_out ┘  the one that the floating IP of the flow has
//! postrouting  nat_postrouting ┬ to_floating   outside: fixed → floating
//!              │               │   └ untranslated  other sites, IPsec; what comes
//!              │               │                   in with a pool address: drop
//!              │               └ hairpin       inside to floating: floating, or
//!              │                               the router's address
//!              leaving ┬ inbound_flow, outbound_flow, twice_translated
//!                      │                       rates, counters
//!                      └ bypassed              what nat never saw: drop
//! ```
//!
//! The rules are data, in the vocabulary of the kernel's own expressions
//! (`include/uapi/linux/netfilter/nf_tables.h`), written the way nft(8) writes
//! them, so that `nft list table inet ipfloater` reads well and what is dumped
//! can be compared with what should be.

use crate::model::{Family, Forwarded, Site, State};

mod guard;
mod nat;
mod parts;
mod traffic;
mod uplinks;
mod vocabulary;

use guard::{bypassed, guard_local};
use nat::nat_chains;
pub use parts::{DSTNAT, SRCNAT};
pub use traffic::{counted, limited};
pub use uplinks::{name as uplink_chain, number as uplink_number};
pub use vocabulary::{
    Base, BaseKind, Chain, CmpOp, CtKey, DataType, Expr, Hook, MetaKey, PayloadBase, Register,
    Rule, Set, Stateful, Verdict,
};

/// The name of our table, in family `inet`.
pub const TABLE: &str = "ipfloater";

/// The most elements that a map of one family is made for. A map with a fixed
/// size is a plain hash of the kernel: twice as fast to fill, and flat.
pub const MOST_ASSOCIATIONS: u32 = 131_072;

/// The fewest, so that a small pool can grow without a new table.
const FEWEST_ASSOCIATIONS: u32 = 1_024;

/// How many ports of a family can be forwarded one by one: 512 KiB of buckets.
const FORWARDED_PORTS: u32 = 32_768;

/// How many ranges of ports of a family can be forwarded as such. What such a
/// map takes to forget one grows with it: .1 ms at 10, 3 ms at 1,000, 30 ms at
/// 10,000 (Linux 6.18).
const FORWARDED_RANGES: u32 = 1_024;

/// How many prefixes of a family may reach floating IPs, all together. What it
/// takes to forget one grows with their number as it does for ranges of ports.
const ALLOWED: u32 = 1_024;

/// What of the table is there only while some address needs it, so that all
/// others pay nothing for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Whether any address has a rate, in and out.
    pub rates: [bool; 2],
    /// Whether any address is not for everybody.
    pub sources: bool,
    /// How many uplinks packets are led to by their marks.
    pub uplinks: u32,
}

impl Uses {
    /// Those of a state, with so many uplinks.
    #[must_use]
    pub fn of(state: &State, uplinks: u32) -> Self {
        Self {
            rates: state.has_rates(),
            sources: state.has_sources(),
            uplinks,
        }
    }
}

/// The table without its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// Its sets and maps, sorted by name.
    pub sets: Vec<Set>,
    /// Its chains with their rules, sorted by name.
    pub chains: Vec<Chain>,
}

/// The name of a map or set of one family: `pool` and IPv6 give `pool6`.
#[must_use]
pub fn named(stem: &str, family: Family) -> String {
    match family {
        Family::V4 => format!("{stem}4"),
        Family::V6 => format!("{stem}6"),
    }
}

/// Names of the sets and maps, without the digit of the family.
pub mod names {
    /// All addresses of all pools, as ranges.
    pub const POOL: &str = "pool";
    /// The map from floating IP to fixed address.
    pub const FLOATING_TO_FIXED: &str = "floating_to_fixed";
    /// The map from floating IP to fixed address, for those with forwards: what
    /// these leave over.
    pub const REST_TO_FIXED: &str = "rest_to_fixed";
    /// The map from a port of a floating IP to one of a host.
    pub const FORWARD: &str = "forward";
    /// The map from ports of a floating IP to a host with the same ports.
    pub const FORWARD_RANGE: &str = "forward_range";
    /// The hosts that forwards lead to.
    pub const FORWARDED_TO: &str = "forwarded_to";
    /// The floating IPs with forwards; only there when free addresses are open.
    pub const FORWARDING: &str = "forwarding";
    /// The map from fixed address to floating IP.
    pub const FIXED_TO_FLOATING: &str = "fixed_to_floating";
    /// The floating IPs, each with what came in for it.
    pub const COUNTED_IN: &str = "counted_in";
    /// The floating IPs, each with what went out as it.
    pub const COUNTED_OUT: &str = "counted_out";
    /// The floating IPs with a rate for what comes in, each with that rate.
    pub const LIMITED_IN: &str = "limited_in";
    /// The floating IPs with a rate for what goes out, each with that rate.
    pub const LIMITED_OUT: &str = "limited_out";
    /// The floating IPs that are not for everybody.
    pub const FILTERED: &str = "filtered";
    /// The floating IPs that are not for everybody, each with those who may
    /// reach it.
    pub const ALLOWED: &str = "allowed";
    /// The map from addresses of pools to the chains of their uplinks.
    pub const UPLINKS: &str = "uplinks";
    /// The map from hosts to the chains of the uplinks that they leave by.
    pub const FIXED_TO_UPLINK: &str = "fixed_to_uplink";
    /// The outside interfaces; both families share it.
    pub const OUTSIDE: &str = "outside";
}

impl Ruleset {
    /// The ruleset for a site, with maps for as many associations of each
    /// family as `size` says.
    #[must_use]
    pub fn new(site: &Site, size: impl Fn(Family) -> u32) -> Self {
        Self::using(site, size, Uses::default())
    }

    /// The same with what some addresses need.
    #[must_use]
    pub fn using(site: &Site, size: impl Fn(Family) -> u32, uses: Uses) -> Self {
        let mut sets = vec![Set {
            name: names::OUTSIDE.into(),
            key: DataType::InterfaceName,
            value: None,
            interval: false,
            size: Some(outside(site)),
            each: None,
        }];
        for family in Family::BOTH {
            let address = DataType::of(family);
            let map = |stem| Set {
                name: named(stem, family),
                key: address,
                value: Some(address),
                interval: false,
                size: Some(size(family)),
                each: None,
            };
            sets.push(map(names::FLOATING_TO_FIXED));
            sets.push(map(names::FIXED_TO_FLOATING));
            sets.push(map(names::REST_TO_FIXED));
            sets.push(Set {
                name: named(names::FORWARD, family),
                key: DataType::AddressProtocolPort(family),
                value: Some(DataType::AddressPort(family)),
                interval: false,
                size: Some(FORWARDED_PORTS),
                each: None,
            });
            sets.push(Set {
                name: named(names::FORWARD_RANGE, family),
                key: DataType::AddressProtocolPort(family),
                value: Some(address),
                interval: true,
                size: Some(FORWARDED_RANGES),
                each: None,
            });
            sets.push(Set {
                name: named(names::FORWARDED_TO, family),
                key: address,
                value: None,
                interval: false,
                size: None,
                each: None,
            });
            if !site.block_free {
                sets.push(Set {
                    value: None,
                    ..map(names::FORWARDING)
                });
            }
            sets.extend(traffic::sets(site, family, size(family)));
            sets.push(Set {
                value: None,
                ..map(names::FILTERED)
            });
            sets.push(Set {
                name: named(names::ALLOWED, family),
                key: DataType::TwoAddresses(family),
                value: None,
                interval: true,
                size: Some(ALLOWED),
                each: None,
            });
            sets.push(Set {
                name: named(names::UPLINKS, family),
                key: address,
                value: Some(DataType::Verdict),
                interval: true,
                size: None,
                each: None,
            });
            sets.push(Set {
                value: Some(DataType::Verdict),
                ..map(names::FIXED_TO_UPLINK)
            });
            sets.push(Set {
                name: named(names::POOL, family),
                key: address,
                value: None,
                interval: true,
                size: None,
                each: None,
            });
        }
        let mut chains = nat_chains(site, uses.sources);
        chains.push(guard_local(site.block_free));
        chains.extend(site.guard.then(|| bypassed(&site.untranslated)));
        chains.extend(traffic::chains(site, uses));
        chains.extend(uplinks::chains(site, uses.uplinks));
        sets.sort_by(|a, b| a.name.cmp(&b.name));
        chains.sort_by(|a, b| a.name.cmp(&b.name));
        Ruleset { sets, chains }
    }

    /// How many associations of a family the maps are made for, given how many
    /// there can be: the pools' addresses, and those of pools that are gone.
    #[must_use]
    pub fn size_for(capacity: u64) -> u32 {
        let wanted = u32::try_from(capacity).unwrap_or(MOST_ASSOCIATIONS);
        wanted
            .clamp(FEWEST_ASSOCIATIONS, MOST_ASSOCIATIONS)
            .next_power_of_two()
    }

    /// Whether the table has a set of the floating IPs with forwards. Where free
    /// addresses are closed it needs none: those with forwards are, too.
    #[must_use]
    pub fn tells_forwarding(&self) -> bool {
        let name = named(names::FORWARDING, Family::V4);
        self.sets.iter().any(|set| set.name == name)
    }

    /// Whether packets are counted.
    #[must_use]
    pub fn counts(&self) -> bool {
        let name = named(names::COUNTED_IN, Family::V4);
        self.sets.iter().any(|set| set.name == name)
    }

    /// How many prefixes of a family may reach floating IPs.
    #[must_use]
    pub fn allowed(&self) -> u32 {
        ALLOWED
    }

    /// How many ports and ranges of a family the maps take.
    #[must_use]
    pub fn forwards(&self) -> Forwarded {
        Forwarded {
            ports: FORWARDED_PORTS,
            ranges: FORWARDED_RANGES,
        }
    }

    /// How many associations of a family the maps take.
    #[must_use]
    pub fn size(&self, family: Family) -> u32 {
        let name = named(names::FLOATING_TO_FIXED, family);
        self.sets
            .iter()
            .find(|set| set.name == name)
            .and_then(|set| set.size)
            .unwrap_or(0)
    }
}

/// How many outside interfaces there can be: one for each pool, and the ones
/// that the default routes tell. A set of a fixed size is looked up faster, and
/// each first packet of a flow asks it.
fn outside(site: &Site) -> u32 {
    let pools = u32::try_from(site.pools.len()).unwrap_or(u32::MAX / 4);
    (pools + 2).max(16).next_power_of_two()
}
