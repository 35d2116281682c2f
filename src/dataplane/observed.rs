//! What the kernel was seen to hold, as far as it concerns us.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use ipnet::IpNet;

use crate::model::{
    AddressRange, Count, Family, FixedIp, FloatingIp, InterfaceName, Rate, Surroundings,
};

use super::{Element, PortElements, Routing, Ruleset, Transaction, WaysOut};

/// The number of an interface, as in if_nametoindex(3). A new interface of an
/// old name has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IfIndex(pub u32);

/// An interface of the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: IfIndex,
    /// Whether it is set up (`IFF_UP`), so that it takes routes and addresses.
    pub up: bool,
    /// Whether it has carrier (`IFF_LOWER_UP`), so that frames leave.
    pub carrier: bool,
    /// Its Ethernet address; `None` where it has none (a tunnel), and then
    /// nothing is announced on it.
    pub mac: Option<[u8; 6]>,
}

/// What the kernel was seen to hold, kept up to date with what we did since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Our table without its elements; `None` when there is none, or one that
    /// only building it anew makes ours.
    pub table: Option<Ruleset>,
    /// The elements of the maps `floating_to_fixed4` and `6`.
    pub floating_to_fixed: HashMap<FloatingIp, FixedIp>,
    /// The elements of the maps `fixed_to_floating4` and `6`.
    pub fixed_to_floating: HashMap<FixedIp, FloatingIp>,
    /// The elements of the maps `rest_to_fixed4` and `6`.
    pub rest_to_fixed: HashMap<FloatingIp, FixedIp>,
    /// The elements of the maps `forward4`, `forward_range4` and those of IPv6.
    pub forwards: PortElements,
    /// The elements of the sets `forwarded_to4` and `6`.
    pub forwarded_to: HashSet<FixedIp>,
    /// The elements of the sets `forwarding4` and `6`, if there are such.
    pub forwarding: HashSet<FloatingIp>,
    /// The elements of the sets `counted_in4` and `6`, then those of the sets
    /// `counted_out4` and `6`, with what they had counted at the last look.
    pub counted: [HashMap<FloatingIp, Count>; 2],
    /// The elements of the sets `limited_in4` and `6`, then those of the sets
    /// `limited_out4` and `6`.
    pub limited: [HashMap<FloatingIp, Rate>; 2],
    /// The elements of the sets `filtered4` and `6`.
    pub filtered: HashSet<FloatingIp>,
    /// The elements of the sets `allowed4` and `6`, by floating IP.
    pub allowed: HashMap<FloatingIp, BTreeSet<IpNet>>,
    /// The elements of the sets `pool4` and `6`: sorted, disjoint, not touching.
    pub pool: Vec<AddressRange>,
    /// The elements of the maps `uplinks4` and `6`, sorted: numbers of uplinks.
    pub uplinks: Vec<(AddressRange, u32)>,
    /// The elements of the maps `fixed_to_uplink4` and `6`.
    pub fixed_to_uplink: HashMap<FixedIp, u32>,
    /// The elements of the set `outside`.
    pub outside: BTreeSet<InterfaceName>,
    /// Where we made the router answer for which address: IPv4 local routes and
    /// IPv6 addresses that carry our protocol number.
    pub presence: HashMap<FloatingIp, IfIndex>,
    /// The interfaces.
    pub links: BTreeMap<InterfaceName, Link>,
    /// The interface of the IPv4 default route with the lowest metric.
    pub default_route4: Option<InterfaceName>,
    /// The interface of the IPv6 default route with the lowest metric.
    pub default_route6: Option<InterfaceName>,
    /// The default routes of the main table by interface.
    pub ways_out: WaysOut,
    /// The families whose default route leads out by several interfaces at once.
    pub divided: BTreeSet<Family>,
    /// The routing rules and routes that carry our protocol number.
    pub routing: Routing,
    /// The addresses that the router has, ours left out.
    pub surroundings: Surroundings,
}

impl Observed {
    /// How many floating IPs lead to a host, as a whole or by ports.
    #[must_use]
    pub fn in_use(&self) -> usize {
        let whole = self.floating_to_fixed.keys().copied();
        let by_port = self.forwards.floating_ips();
        whole.chain(by_port).collect::<HashSet<_>>().len()
    }

    /// Takes over what is known of interfaces, routes and addresses from a
    /// newer look at them, and keeps what is known of the table.
    pub fn refresh_links(&mut self, newer: Observed) {
        let Observed {
            table: _,
            floating_to_fixed: _,
            fixed_to_floating: _,
            rest_to_fixed: _,
            forwards: _,
            forwarded_to: _,
            forwarding: _,
            counted: _,
            limited: _,
            filtered: _,
            allowed: _,
            pool: _,
            uplinks: _,
            fixed_to_uplink: _,
            outside: _,
            presence,
            links,
            default_route4,
            default_route6,
            ways_out,
            divided,
            routing,
            surroundings,
        } = newer;
        *self = Observed {
            presence,
            links,
            default_route4,
            default_route6,
            ways_out,
            divided,
            routing,
            surroundings,
            ..std::mem::take(self)
        };
    }

    /// The interface of the default route of a family.
    #[must_use]
    pub fn default_route(&self, family: Family) -> Option<&InterfaceName> {
        match family {
            Family::V4 => self.default_route4.as_ref(),
            Family::V6 => self.default_route6.as_ref(),
        }
    }

    /// Keeps the interfaces of the default routes of an earlier look where this
    /// one saw none: a lease that is renewed must not cut anything. One that is
    /// gone itself is forgotten.
    pub fn remember_default_routes(&mut self, earlier: [Option<InterfaceName>; 2]) {
        let [earlier4, earlier6] =
            earlier.map(|name| name.filter(|name| self.links.contains_key(name)));
        self.default_route4 = self.default_route4.take().or(earlier4);
        self.default_route6 = self.default_route6.take().or(earlier6);
    }

    /// The same kernel, if it had no table of ours.
    #[must_use]
    pub(super) fn without_table(&self) -> Self {
        Observed {
            presence: self.presence.clone(),
            links: self.links.clone(),
            default_route4: self.default_route4.clone(),
            default_route6: self.default_route6.clone(),
            ways_out: self.ways_out.clone(),
            divided: self.divided.clone(),
            routing: self.routing.clone(),
            surroundings: self.surroundings.clone(),
            ..Observed::default()
        }
    }

    /// What is there once the kernel has taken the transaction.
    pub fn note(&mut self, transaction: &Transaction) {
        let Transaction {
            rebuild,
            reshape,
            pool,
            uplinks,
            remove,
            add,
        } = transaction;
        if let Some(reshape) = reshape {
            self.table = Some(reshape.ruleset.clone());
        }
        if let Some(ruleset) = rebuild {
            self.table = Some(ruleset.clone());
            self.floating_to_fixed = HashMap::new();
            self.fixed_to_floating = HashMap::new();
            self.rest_to_fixed = HashMap::new();
            self.forwards = PortElements::default();
            self.forwarded_to = HashSet::new();
            self.forwarding = HashSet::new();
            self.counted = Default::default();
            self.limited = Default::default();
            self.filtered = HashSet::new();
            self.allowed = HashMap::new();
            self.pool = Vec::new();
            self.uplinks = Vec::new();
            self.fixed_to_uplink = HashMap::new();
            self.outside = BTreeSet::new();
        }
        if let Some(ranges) = pool {
            self.pool.clone_from(ranges);
        }
        if let Some(numbers) = uplinks {
            self.uplinks.clone_from(numbers);
        }
        for element in remove {
            match element {
                Element::FloatingToFixed(floating, _) => {
                    self.floating_to_fixed.remove(floating);
                }
                Element::FixedToFloating(fixed, _) => {
                    self.fixed_to_floating.remove(fixed);
                }
                Element::RestToFixed(floating, _) => {
                    self.rest_to_fixed.remove(floating);
                }
                Element::Forward(floating, ports) => {
                    self.forwards.remove(*floating, ports);
                }
                Element::ForwardedTo(fixed) => {
                    self.forwarded_to.remove(fixed);
                }
                Element::Forwarding(floating) => {
                    self.forwarding.remove(floating);
                }
                Element::Counted(direction, floating, _) => {
                    self.counted[direction.place()].remove(floating);
                }
                Element::Limited(direction, floating, _) => {
                    self.limited[direction.place()].remove(floating);
                }
                Element::Filtered(floating) => {
                    self.filtered.remove(floating);
                }
                Element::Allowed(floating, net) => {
                    if let Some(nets) = self.allowed.get_mut(floating) {
                        nets.remove(net);
                        if nets.is_empty() {
                            self.allowed.remove(floating);
                        }
                    }
                }
                Element::FixedToUplink(fixed, _) => {
                    self.fixed_to_uplink.remove(fixed);
                }
                Element::Outside(name) => {
                    self.outside.remove(name);
                }
            }
        }
        for element in add {
            match element {
                Element::FloatingToFixed(floating, fixed) => {
                    self.floating_to_fixed.insert(*floating, *fixed);
                }
                Element::FixedToFloating(fixed, floating) => {
                    self.fixed_to_floating.insert(*fixed, *floating);
                }
                Element::RestToFixed(floating, fixed) => {
                    self.rest_to_fixed.insert(*floating, *fixed);
                }
                Element::Forward(floating, ports) => {
                    self.forwards.insert(*floating, *ports);
                }
                Element::ForwardedTo(fixed) => {
                    self.forwarded_to.insert(*fixed);
                }
                Element::Forwarding(floating) => {
                    self.forwarding.insert(*floating);
                }
                Element::Counted(direction, floating, count) => {
                    self.counted[direction.place()].insert(*floating, *count);
                }
                Element::Limited(direction, floating, rate) => {
                    self.limited[direction.place()].insert(*floating, *rate);
                }
                Element::Filtered(floating) => {
                    self.filtered.insert(*floating);
                }
                Element::Allowed(floating, net) => {
                    self.allowed.entry(*floating).or_default().insert(*net);
                }
                Element::FixedToUplink(fixed, number) => {
                    self.fixed_to_uplink.insert(*fixed, *number);
                }
                Element::Outside(name) => {
                    self.outside.insert(name.clone());
                }
            }
        }
    }

    /// Every floating IP that anything in the kernel of ours is about.
    #[must_use]
    pub fn floating_ips(&self) -> HashSet<FloatingIp> {
        let in_maps = self
            .floating_to_fixed
            .keys()
            .chain(self.fixed_to_floating.values())
            .chain(self.rest_to_fixed.keys())
            .chain(&self.forwarding)
            .chain(self.counted.iter().flat_map(HashMap::keys))
            .chain(self.limited.iter().flat_map(HashMap::keys))
            .chain(&self.filtered)
            .chain(self.allowed.keys());
        in_maps
            .chain(self.presence.keys())
            .copied()
            .chain(self.forwards.floating_ips())
            .collect()
    }
}
