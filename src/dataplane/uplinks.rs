//! By which uplink the packets of a floating IP leave, where there are several.
//!
//! The table marks packets by the pool of their floating IP, rules lead marked
//! packets to a routing table of their uplink, and that has one default route.
//! What the main table knows more precisely than by a default route goes there
//! all the same: to the LAN, through a VPN.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use crate::model::{AddressRange, Family, FloatingIp, InterfaceName, Pool, Site, Uplink};

use super::desired::outside;
use super::{IfIndex, Observed};

/// A routing rule, as in ip-rule(8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoutingRule {
    /// Of which family.
    pub family: Family,
    /// Lower ones come first.
    pub preference: u32,
    /// It is for packets whose mark has this in the bits of the mask,
    pub mark: u32,
    /// which are these;
    pub mask: u32,
    /// or, inverted, for all others.
    pub inverted: bool,
    /// Where their routes are.
    pub table: u32,
    /// Whether the default routes of that table are passed over
    /// (`suppress_prefixlength 0`).
    pub specific: bool,
}

/// The default route of an uplink's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UplinkRoute {
    /// Of which family.
    pub family: Family,
    /// In which table.
    pub table: u32,
    /// Where it leads.
    pub way: Way,
}

/// Where a default route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Out there.
    Via {
        /// By this interface,
        interface: IfIndex,
        /// to this next hop; `None` where the link has only one other end.
        gateway: Option<IpAddr>,
    },
    /// Nowhere (`unreachable`): what is left when the uplink fails, so that
    /// nothing leaves by another one.
    Nowhere,
}

/// Routing rules and routes of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// The rules.
    pub rules: BTreeSet<RoutingRule>,
    /// The routes.
    pub routes: BTreeSet<UplinkRoute>,
}

/// What is to be altered about rules and routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rerouting {
    /// These go, first.
    pub remove: Routing,
    /// These come.
    pub add: Routing,
}

/// The main routing table (`RT_TABLE_MAIN`, rtnetlink(7)).
const MAIN: u32 = 254;

impl Routing {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.routes.is_empty()
    }

    /// Makes the alteration.
    pub fn alter(&mut self, rerouting: &Rerouting) {
        let Rerouting { remove, add } = rerouting;
        *self = self.without(remove);
        self.rules.extend(&add.rules);
        self.routes.extend(&add.routes);
    }

    fn without(&self, other: &Self) -> Self {
        Self {
            rules: &self.rules - &other.rules,
            routes: &self.routes - &other.routes,
        }
    }
}

impl Rerouting {
    /// What makes one of the other.
    #[must_use]
    pub fn between(there: &Routing, wanted: &Routing) -> Self {
        Self {
            remove: there.without(wanted),
            add: wanted.without(there),
        }
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }

    /// What it does, a line each, as ip(8) takes them.
    #[must_use]
    pub fn orders(&self) -> Vec<String> {
        let lines = |routing: &Routing, verb: &str| -> Vec<String> {
            let rules = routing.rules.iter();
            let rules = rules.map(|rule| {
                let RoutingRule { family, .. } = rule;
                format!("ip {} rule {verb} {rule}", option(*family))
            });
            let routes = routing.routes.iter();
            let routes = routes.map(|route| {
                let UplinkRoute { family, .. } = route;
                format!("ip {} route {verb} {route}", option(*family))
            });
            rules.chain(routes).collect()
        };
        let mut orders = lines(&self.remove, "delete");
        orders.extend(lines(&self.add, "add"));
        orders
    }
}

fn option(family: Family) -> &'static str {
    match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    }
}

impl fmt::Display for RoutingRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            family: _,
            preference,
            mark,
            mask,
            inverted,
            table,
            specific,
        } = self;
        let not = if *inverted { "not " } else { "" };
        write!(
            f,
            "pref {preference} {not}fwmark {mark:#x}/{mask:#x} table {table}"
        )?;
        f.write_str(if *specific {
            " suppress_prefixlength 0"
        } else {
            ""
        })
    }
}

impl fmt::Display for UplinkRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            family: _,
            table,
            way,
        } = self;
        match way {
            Way::Nowhere => write!(f, "unreachable default table {table}"),
            Way::Via { interface, gateway } => {
                f.write_str("default")?;
                if let Some(gateway) = gateway {
                    write!(f, " via {gateway}")?;
                }
                write!(f, " dev if{} table {table}", interface.0)
            }
        }
    }
}

/// An uplink that packets of a family are led to.
#[derive(Debug)]
struct Led {
    family: Family,
    number: u32,
    uplink: Uplink,
    /// The way out; `None` while there is none.
    way: Option<Way>,
}

/// The uplinks, where packets have to be led: not where all pools and the
/// default route have one.
#[derive(Debug)]
pub struct Uplinks<'a> {
    site: &'a Site,
    led: Vec<Led>,
    unknown: BTreeSet<(InterfaceName, Family)>,
}

impl<'a> Uplinks<'a> {
    /// Those of a site, as far as a way out is known or was known before.
    #[must_use]
    pub fn new(site: &'a Site, observed: &Observed) -> Self {
        let mut led = Vec::new();
        let mut unknown = BTreeSet::new();
        let numbered: Vec<_> = (1..).zip(site.uplinks()).collect();
        for family in Family::BOTH {
            let concerned = numbered
                .iter()
                .filter(|(_, uplink)| is_of(site, uplink, family));
            if !are_several(
                concerned.clone().map(|(_, uplink)| uplink),
                family,
                observed,
            ) {
                continue;
            }
            for (number, uplink) in concerned {
                let number = *number;
                let way = way(site, number, uplink, family, observed);
                let was_led = observed.routing.routes.contains(&UplinkRoute {
                    family,
                    table: site.uplink_numbers.table(number),
                    way: Way::Nowhere,
                });
                if way.is_some() || was_led || uplink.gateway(family).is_some() {
                    let uplink = uplink.clone();
                    led.push(Led {
                        family,
                        number,
                        uplink,
                        way,
                    });
                } else if let Some(name) = outside(uplink.interface.as_ref(), family, observed) {
                    unknown.insert((name.clone(), family));
                }
            }
        }
        Self { site, led, unknown }
    }

    /// The interfaces of uplinks to which packets are not led, since no way out is
    /// known there.
    #[must_use]
    pub fn unknown(&self) -> &BTreeSet<(InterfaceName, Family)> {
        &self.unknown
    }

    /// How many marks the table has to know.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.led.iter().map(|led| led.number).max().unwrap_or(0)
    }

    /// The rules and routes that lead packets there.
    #[must_use]
    pub fn routing(&self) -> Routing {
        let numbers = self.site.uplink_numbers;
        let mut routing = Routing::default();
        for led in &self.led {
            let (family, table) = (led.family, numbers.table(led.number));
            routing.rules.insert(RoutingRule {
                family,
                preference: numbers.first_rule(),
                mark: 0,
                mask: numbers.mask(),
                inverted: true,
                table: MAIN,
                specific: true,
            });
            routing.rules.insert(RoutingRule {
                family,
                preference: table,
                mark: numbers.mark(led.number),
                mask: numbers.mask(),
                inverted: false,
                table,
                specific: false,
            });
            let ways = led.way.into_iter().chain([Way::Nowhere]);
            let routes = ways.map(|way| UplinkRoute { family, table, way });
            routing.routes.extend(routes);
        }
        routing
    }

    /// The elements of the maps `uplinks4` and `uplinks6`: addresses, and the
    /// numbers of their uplinks. Sorted.
    #[must_use]
    pub fn numbers(&self) -> Vec<(AddressRange, u32)> {
        let mut numbers = Vec::new();
        for pool in &self.site.pools {
            for range in &pool.ranges {
                let number = self.number_of(pool, range.family());
                numbers.extend(number.map(|number| (*range, number)));
            }
        }
        numbers.sort_unstable();
        numbers
    }

    /// The number of the uplink that packets of a floating IP are led to.
    #[must_use]
    pub fn number(&self, floating: FloatingIp) -> Option<u32> {
        if self.led.is_empty() {
            return None;
        }
        self.number_of(self.site.pool_of(floating)?, floating.family())
    }

    fn number_of(&self, pool: &Pool, family: Family) -> Option<u32> {
        let uplink = pool.uplink();
        let mut led = self.led.iter();
        led.find(|led| led.family == family && led.uplink == uplink)
            .map(|led| led.number)
    }

    /// Whether packets are led to an uplink, and the kernel has no way out there.
    #[must_use]
    pub fn is_cut_off(&self, uplink: &Uplink, family: Family, observed: &Observed) -> bool {
        let mut led = self.led.iter();
        let led = led.find(|led| led.family == family && led.uplink == *uplink);
        led.is_some_and(|led| {
            let table = self.site.uplink_numbers.table(led.number);
            let mut routes = observed.routing.routes.iter();
            !routes.any(|route| {
                route.family == family && route.table == table && route.way != Way::Nowhere
            })
        })
    }
}

/// Whether a pool with that uplink has addresses of the family.
fn is_of(site: &Site, uplink: &Uplink, family: Family) -> bool {
    let mut pools = site.pools.iter();
    pools.any(|pool| {
        pool.uplink() == *uplink && pool.ranges.iter().any(|range| range.family() == family)
    })
}

/// Whether the uplinks and the default route of a family lead to more than one
/// interface, or over a next hop that the configuration names.
fn are_several<'a>(
    uplinks: impl Iterator<Item = &'a Uplink> + Clone,
    family: Family,
    observed: &'a Observed,
) -> bool {
    let names = uplinks
        .clone()
        .filter_map(|uplink| outside(uplink.interface.as_ref(), family, observed));
    let names: BTreeSet<&InterfaceName> = names.chain(observed.default_route(family)).collect();
    let mut uplinks = uplinks.peekable();
    uplinks.peek().is_some()
        && (names.len() > 1
            || observed.divided.contains(&family)
            || uplinks.any(|uplink| uplink.gateway(family).is_some()))
}

/// The way out by an uplink: what the configuration names, what the main table
/// has as default route by its interface, or what it had.
fn way(
    site: &Site,
    number: u32,
    uplink: &Uplink,
    family: Family,
    observed: &Observed,
) -> Option<Way> {
    let name = outside(uplink.interface.as_ref(), family, observed)?;
    let link = observed.links.get(name);
    let interface = link.filter(|link| link.up)?.index;
    if let Some(gateway) = uplink.gateway(family) {
        let gateway = Some(gateway);
        return Some(Way::Via { interface, gateway });
    }
    if let Some(gateway) = observed.ways_out.get(&(family, interface)) {
        let gateway = *gateway;
        return Some(Way::Via { interface, gateway });
    }
    // A lease that is renewed must not cut anything.
    let table = site.uplink_numbers.table(number);
    let mut ours = observed.routing.routes.iter();
    let former = ours.find(|route| {
        let by = matches!(route.way, Way::Via { interface: by, .. } if by == interface);
        by && route.family == family && route.table == table
    });
    former.map(|route| route.way)
}

/// The default routes of the main table, by interface: their next hops.
pub type WaysOut = BTreeMap<(Family, IfIndex), Option<IpAddr>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::Link;

    /// A site with pools: name of the interface, gateways, addresses.
    fn site(pools: &[(&str, &str, &str)]) -> Site {
        let pools = pools.iter().enumerate();
        let pools = pools.map(|(number, (interface, gateways, address))| Pool {
            name: format!("pool{number}").parse().unwrap(),
            ranges: vec![AddressRange::single(address.parse().unwrap())],
            interface: interface.parse().ok(),
            gateways: gateways
                .split_whitespace()
                .map(|gateway| gateway.parse().unwrap())
                .collect(),
            routed: false,
            announcing: Default::default(),
            hardware_addresses: Default::default(),
        });
        Site {
            pools: pools.collect(),
            private: Vec::new(),
            guard: true,
            block_free: true,
            counters: true,
            untranslated: Default::default(),
            uplink_numbers: Default::default(),
            rest: std::time::Duration::ZERO,
            limits: Default::default(),
        }
    }

    /// A router with wan0 to wan2, the default route by wan0, and these ways out.
    fn router(ways_out: &[(u32, &str)]) -> Observed {
        let links = ["wan0", "wan1", "wan2"].into_iter().zip(1..);
        let link = |index| Link {
            index: IfIndex(index),
            up: true,
            carrier: true,
            mac: None,
        };
        Observed {
            links: links
                .map(|(name, index)| (name.parse().unwrap(), link(index)))
                .collect(),
            default_route4: Some("wan0".parse().unwrap()),
            ways_out: ways_out
                .iter()
                .map(|(index, via)| ((Family::V4, IfIndex(*index)), via.parse().ok()))
                .collect(),
            ..Observed::default()
        }
    }

    /// What would be done, and how many marks there are.
    fn told(site: &Site, observed: &Observed) -> (Vec<String>, u32) {
        let uplinks = Uplinks::new(site, observed);
        let rerouting = Rerouting::between(&observed.routing, &uplinks.routing());
        (rerouting.orders(), uplinks.count())
    }

    const WAYS: &[(u32, &str)] = &[(1, "198.51.100.1"), (2, "192.0.2.1")];

    #[test]
    fn with_one_uplink_nothing_is_led() {
        for pools in [
            &[("", "", "198.51.100.10")][..],
            &[("wan0", "", "198.51.100.10")],
            &[("wan0", "", "198.51.100.10"), ("", "", "198.51.100.11")],
            // Of the other family there is no default route.
            &[("wan0", "", "198.51.100.10"), ("wan1", "", "2001:db8::10")],
        ] {
            let told = told(&site(pools), &router(WAYS));
            assert_eq!(told, (Vec::new(), 0), "{pools:?}");
        }
    }

    #[test]
    fn a_default_route_of_two_hops_is_two_uplinks_even_for_one_pool() {
        let site = site(&[("", "", "198.51.100.10")]);
        let mut observed = router(WAYS);
        observed.divided.insert(Family::V4);
        let (orders, marks) = told(&site, &observed);
        assert_eq!(marks, 1);
        let route = "ip -4 route add default via 198.51.100.1 dev if1 table 24501";
        assert!(orders.iter().any(|order| order == route), "{orders:?}");
    }

    #[test]
    fn each_uplink_has_a_mark_a_rule_and_a_table() {
        let site = site(&[("wan0", "", "198.51.100.10"), ("wan1", "", "192.0.2.10")]);
        let observed = router(WAYS);
        let (orders, marks) = told(&site, &observed);
        assert_eq!(marks, 2);
        assert_eq!(
            orders,
            [
                "ip -4 rule add pref 24500 not fwmark 0x0/0xff000000 table 254 suppress_prefixlength 0",
                "ip -4 rule add pref 24501 fwmark 0x1000000/0xff000000 table 24501",
                "ip -4 rule add pref 24502 fwmark 0x2000000/0xff000000 table 24502",
                "ip -4 route add default via 198.51.100.1 dev if1 table 24501",
                "ip -4 route add unreachable default table 24501",
                "ip -4 route add default via 192.0.2.1 dev if2 table 24502",
                "ip -4 route add unreachable default table 24502",
            ]
        );
        let uplinks = Uplinks::new(&site, &observed);
        assert_eq!(uplinks.number("192.0.2.10".parse().unwrap()), Some(2));
        let single = |text: &str| AddressRange::single(text.parse().unwrap());
        assert_eq!(
            uplinks.numbers(),
            [(single("192.0.2.10"), 2), (single("198.51.100.10"), 1)]
        );
    }

    #[test]
    fn a_gateway_of_the_configuration_counts_more_and_alone_suffices() {
        let one = site(&[("wan0", "198.51.100.254", "198.51.100.10")]);
        let (orders, marks) = told(&one, &router(WAYS));
        assert_eq!(marks, 1);
        let route = "ip -4 route add default via 198.51.100.254 dev if1 table 24501";
        assert!(orders.iter().any(|order| order == route), "{orders:?}");
        // Two next hops on one wire are two uplinks.
        let both = site(&[
            ("wan1", "192.0.2.1", "192.0.2.10"),
            ("wan1", "192.0.2.2", "192.0.2.11"),
        ]);
        assert_eq!(told(&both, &router(&[])).1, 2);
    }

    #[test]
    fn a_way_that_was_known_is_kept_while_its_link_is_there() {
        let site = site(&[("", "", "198.51.100.10"), ("wan1", "", "192.0.2.10")]);
        let mut observed = router(WAYS);
        observed.routing = Uplinks::new(&site, &observed).routing();
        observed.ways_out.retain(|(_, by), _| *by == IfIndex(1));
        assert_eq!(told(&site, &observed).0, [""; 0]);
        assert_eq!(told(&site, &observed).1, 2);
        // With the link the kernel takes the route.
        let wan1: InterfaceName = "wan1".parse().unwrap();
        observed.links.get_mut(&wan1).unwrap().up = false;
        let uplinks = Uplinks::new(&site, &observed);
        let uplink = site.pools[1].uplink();
        assert!(!uplinks.is_cut_off(&uplink, Family::V4, &observed));
        let gone = Rerouting::between(&observed.routing, &uplinks.routing());
        let mut after = observed.clone();
        after.routing.alter(&gone);
        assert!(uplinks.is_cut_off(&uplink, Family::V4, &after));
        assert_eq!(uplinks.count(), 2);
        let gone = "ip -4 route delete default via 192.0.2.1 dev if2 table 24502";
        assert_eq!(told(&site, &observed).0, [gone]);
    }

    #[test]
    fn where_no_way_is_known_the_uplink_is_named() {
        let site = site(&[("wan0", "", "198.51.100.10"), ("wan2", "", "192.0.2.10")]);
        let observed = router(WAYS);
        let uplinks = Uplinks::new(&site, &observed);
        let unknown = uplinks.unknown().iter().map(|(name, _)| name.as_str());
        assert_eq!(unknown.collect::<Vec<_>>(), ["wan2"]);
    }
}
