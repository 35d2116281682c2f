//! Desired × Observed → Delta: what differs, and the order of its steps.

use std::collections::{BTreeSet, HashMap, HashSet};

use ipnet::IpNet;

use crate::model::{
    AddressRange, Count, Direction, FixedIp, FloatingIp, Forwards, InterfaceName, Rate,
};

use super::{Desired, IfIndex, Observed, Place, PortElement, Rerouting, Ruleset, Tenants, Uplinks};

/// An element of one of our sets or maps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// Of `floating_to_fixed4` or `6`.
    FloatingToFixed(FloatingIp, FixedIp),
    /// Of `fixed_to_floating4` or `6`.
    FixedToFloating(FixedIp, FloatingIp),
    /// Of `rest_to_fixed4` or `6`.
    RestToFixed(FloatingIp, FixedIp),
    /// Of `forward4`, `forward_range4` or those of IPv6.
    Forward(FloatingIp, PortElement),
    /// Of `forwarded_to4` or `6`.
    ForwardedTo(FixedIp),
    /// Of `forwarding4` or `6`.
    Forwarding(FloatingIp),
    /// Of `counted_in4` or `6`, or `counted_out4` or `6`, with what it has counted
    /// when it is added; removed it is by its address alone.
    Counted(Direction, FloatingIp, Count),
    /// Of `limited_in4` or `6`, or `limited_out4` or `6`.
    Limited(Direction, FloatingIp, Rate),
    /// Of `filtered4` or `6`.
    Filtered(FloatingIp),
    /// Of `allowed4` or `6`.
    Allowed(FloatingIp, IpNet),
    /// Of `fixed_to_uplink4` or `6`: the number of the uplink.
    FixedToUplink(FixedIp, u32),
    /// Of `outside`.
    Outside(InterfaceName),
}

/// Chains that are put right in a table whose sets are as they should be: what
/// these have counted stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reshape {
    /// The table as it is then.
    pub ruleset: Ruleset,
    /// Chains of it that are not there yet.
    pub new: BTreeSet<String>,
    /// Chains of it that are emptied and filled again.
    pub altered: BTreeSet<String>,
    /// Chains that are there and that it does not have.
    pub gone: BTreeSet<String>,
}

impl Reshape {
    /// What is to be done to a table; `None` if only building it anew helps.
    fn of(table: &Ruleset, ruleset: &Ruleset) -> Option<Self> {
        let mut reshape = Self {
            ruleset: ruleset.clone(),
            new: BTreeSet::new(),
            altered: BTreeSet::new(),
            gone: BTreeSet::new(),
        };
        for chain in &ruleset.chains {
            let there = table.chains.iter().find(|there| there.name == chain.name);
            match there {
                None => drop(reshape.new.insert(chain.name.clone())),
                Some(there) if there.base != chain.base => return None,
                Some(there) if there != chain => {
                    reshape.altered.insert(chain.name.clone());
                }
                Some(_) => {}
            }
        }
        let is_there = |name: &String| ruleset.chains.iter().any(|chain| chain.name == *name);
        let names = table.chains.iter().map(|chain| chain.name.clone());
        reshape.gone.extend(names.filter(|name| !is_there(name)));
        (table.sets == ruleset.sets).then_some(reshape)
    }
}

/// What goes to the kernel as one nft batch: all of it or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Delete the table, when it is there, and make it anew without elements.
    pub rebuild: Option<Ruleset>,
    /// Or alter only chains of it.
    pub reshape: Option<Reshape>,
    /// Replace the elements of `pool4` and `pool6`.
    pub pool: Option<Vec<AddressRange>>,
    /// Replace the elements of `uplinks4` and `uplinks6`.
    pub uplinks: Option<Vec<(AddressRange, u32)>>,
    /// Then remove these.
    pub remove: Vec<Element>,
    /// Then add these. An element cannot be overwritten (adding its key with
    /// another value is EEXIST), so a move removes and adds; in one batch no
    /// packet finds the key missing.
    pub add: Vec<Element>,
}

impl Transaction {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Transaction {
            rebuild,
            reshape,
            pool,
            uplinks,
            remove,
            add,
        } = self;
        rebuild.is_none()
            && reshape.is_none()
            && pool.is_none()
            && uplinks.is_none()
            && remove.is_empty()
            && add.is_empty()
    }
}

/// Flows that conntrack holds and that must not go on as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The flows to or from a floating IP, in both directions, but for those of
    /// the hosts that have it now: they may be a moment old.
    Floating {
        /// The floating IP.
        floating: FloatingIp,
        /// The hosts that have it now.
        keep: Tenants,
    },
    /// Flows that a host began towards the outside before it had this floating
    /// IP; its flows to other inside hosts stay.
    Outbound(FixedIp),
}

/// One step of a delta, in the order in which they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Stop answering for addresses.
    Withdraw,
    /// Alter the table.
    Transact,
    /// Alter rules and routes.
    Reroute,
    /// Answer for addresses.
    Present,
}

/// What differs between what should be and what is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Stop answering for these.
    pub withdraw: Vec<(FloatingIp, IfIndex)>,
    /// Alter the table.
    pub transaction: Transaction,
    /// Alter these rules and routes.
    pub rerouting: Rerouting,
    /// Answer for these.
    pub present: Vec<(FloatingIp, IfIndex)>,
}

impl Delta {
    /// The one order, for coming and going alike. Addresses go first and come
    /// last, so that the router itself never answers on a floating IP.
    /// Rules without marks, and marks without rules, alter nothing.
    pub const ORDER: [Step; 4] = [Step::Withdraw, Step::Transact, Step::Reroute, Step::Present];

    /// What differs for a few addresses. Costs the same among ten and a
    /// hundred thousand.
    #[must_use]
    pub fn of(desired: &Desired<'_>, observed: &Observed, addresses: &[FloatingIp]) -> Self {
        let mut builder = Builder::new(desired, observed);
        if observed.table.as_ref() != Some(desired.ruleset) {
            // Of what the chains do some is there only while it is needed.
            let table = observed.table.as_ref();
            match table.and_then(|table| Reshape::of(table, desired.ruleset)) {
                Some(reshape) => builder.delta.transaction.reshape = Some(reshape),
                None => return Self::whole(desired, observed),
            }
        }
        for &floating in addresses {
            builder.compare(floating);
        }
        builder.delta
    }

    /// What differs at all.
    #[must_use]
    pub fn whole(desired: &Desired<'_>, observed: &Observed) -> Self {
        let table = observed.table.as_ref();
        let reshape = table.and_then(|table| Reshape::of(table, desired.ruleset));
        if let Some(reshape) = reshape {
            let mut builder = Builder::new(desired, observed);
            if table != Some(desired.ruleset) {
                builder.delta.transaction.reshape = Some(reshape);
            }
            builder.compare_sets();
            builder.compare_all();
            builder.delta
        } else {
            // What is in the table goes with it.
            let without_table = observed.without_table();
            let mut builder = Builder::new(desired, &without_table);
            builder.counted = &observed.counted;
            builder.delta.transaction.rebuild = Some(desired.ruleset.clone());
            builder.delta.transaction.pool = Some(desired.pool(observed));
            builder.delta.transaction.uplinks = Some(builder.uplinks.numbers());
            builder.delta.rerouting = desired.rerouting(observed);
            let outside = desired.outside(observed).into_iter().map(Element::Outside);
            builder.delta.transaction.add.extend(outside);
            builder.compare_all();
            builder.delta
        }
    }
}

/// A delta in the making.
struct Builder<'a> {
    desired: &'a Desired<'a>,
    observed: &'a Observed,
    uplinks: Uplinks<'a>,
    /// What was counted until now, be it in a table that is built anew.
    counted: &'a [HashMap<FloatingIp, Count>; 2],
    delta: Delta,
    /// Hosts whose `fixed_to_floating` is put right already: a displacement
    /// comes to one from both of its floating IPs.
    compared: HashSet<FixedIp>,
}

impl<'a> Builder<'a> {
    fn new(desired: &'a Desired<'a>, observed: &'a Observed) -> Self {
        Self {
            desired,
            observed,
            uplinks: desired.uplinks(observed),
            counted: &observed.counted,
            delta: Delta::default(),
            compared: HashSet::new(),
        }
    }

    /// The sets that do not belong to single addresses.
    fn compare_sets(&mut self) {
        self.delta.rerouting = self.desired.rerouting(self.observed);
        let Transaction {
            pool,
            uplinks,
            remove,
            add,
            ..
        } = &mut self.delta.transaction;
        let ranges = self.desired.pool(self.observed);
        *pool = (ranges != self.observed.pool).then_some(ranges);
        let numbers = self.uplinks.numbers();
        *uplinks = (numbers != self.observed.uplinks).then_some(numbers);
        let outside = self.desired.outside(self.observed);
        remove.extend(
            self.observed
                .outside
                .difference(&outside)
                .cloned()
                .map(Element::Outside),
        );
        add.extend(
            outside
                .difference(&self.observed.outside)
                .cloned()
                .map(Element::Outside),
        );
    }

    /// Every address that should be or is in the kernel.
    fn compare_all(&mut self) {
        // Looked up for everything that is there: a hash is quicker than the
        // ordered map of the state.
        let wanted: HashSet<_> = self.desired.allocated().collect();
        for floating in self.desired.allocated() {
            self.compare(floating);
        }
        for floating in self.observed.floating_ips() {
            if !wanted.contains(&floating) {
                self.compare(floating);
            }
        }
        // An edit from outside can leave a host in the one map that nothing
        // leads to.
        let hosts = self.observed.fixed_to_floating.keys();
        let led = self.observed.fixed_to_uplink.keys();
        for &fixed in hosts.chain(&self.observed.forwarded_to).chain(led) {
            self.compare_source(fixed);
        }
    }

    fn compare(&mut self, floating: FloatingIp) {
        let forwards = self.desired.forwards(floating);
        let fixed = self.desired.fixed(floating);
        // With forwards, the rest is in another map, which is asked after them.
        let (all, rest) = match forwards {
            None => (fixed, None),
            Some(_) => (None, fixed),
        };
        let there = self.observed.floating_to_fixed.get(&floating).copied();
        let was = self.observed.rest_to_fixed.get(&floating).copied();
        let Transaction { remove, add, .. } = &mut self.delta.transaction;
        if there != all {
            remove.extend(there.map(|fixed| Element::FloatingToFixed(floating, fixed)));
            add.extend(all.map(|fixed| Element::FloatingToFixed(floating, fixed)));
        }
        if was != rest {
            remove.extend(was.map(|fixed| Element::RestToFixed(floating, fixed)));
            add.extend(rest.map(|fixed| Element::RestToFixed(floating, fixed)));
        }
        self.compare_ports(floating, forwards);
        for fixed in [there, was, fixed].into_iter().flatten() {
            self.compare_source(fixed);
        }
        self.compare_counted(floating);
        self.compare_rates(floating);
        self.compare_sources(floating);
        self.compare_presence(floating);
    }

    fn compare_counted(&mut self, floating: FloatingIp) {
        let wanted = self.desired.counts(floating);
        for direction in Direction::BOTH {
            let there = self.observed.counted[direction.place()].contains_key(&floating);
            let known = self.counted[direction.place()].get(&floating).copied();
            let element = Element::Counted(direction, floating, known.unwrap_or_default());
            let Transaction { remove, add, .. } = &mut self.delta.transaction;
            match (there, wanted) {
                (true, false) => remove.push(element),
                (false, true) => add.push(element),
                (true, true) | (false, false) => {}
            }
        }
    }

    /// A rate is never altered: an element with another rate would be taken
    /// without an error, and change nothing.
    fn compare_rates(&mut self, floating: FloatingIp) {
        for direction in Direction::BOTH {
            let there = self.observed.limited[direction.place()]
                .get(&floating)
                .copied();
            let wanted = self.desired.rate(floating, direction);
            let element = |rate| Element::Limited(direction, floating, rate);
            let Transaction { remove, add, .. } = &mut self.delta.transaction;
            if there != wanted {
                remove.extend(there.map(element));
                add.extend(wanted.map(element));
            }
        }
    }

    fn compare_sources(&mut self, floating: FloatingIp) {
        let wanted: BTreeSet<_> = self.desired.sources(floating).collect();
        let nobody = BTreeSet::new();
        let there = self.observed.allowed.get(&floating).unwrap_or(&nobody);
        let was = self.observed.filtered.contains(&floating);
        let is = !wanted.is_empty();
        let Transaction { remove, add, .. } = &mut self.delta.transaction;
        remove.extend((was && !is).then_some(Element::Filtered(floating)));
        add.extend((is && !was).then_some(Element::Filtered(floating)));
        let element = |net: &IpNet| Element::Allowed(floating, *net);
        remove.extend(there.difference(&wanted).map(element));
        add.extend(wanted.difference(there).map(element));
    }

    fn compare_ports(&mut self, floating: FloatingIp, forwards: Option<&Forwards>) {
        let wanted = forwards.is_some() && self.desired.ruleset.tells_forwarding();
        let there = self.observed.forwarding.contains(&floating);
        let Transaction { remove, add, .. } = &mut self.delta.transaction;
        remove.extend((there && !wanted).then_some(Element::Forwarding(floating)));
        add.extend((wanted && !there).then_some(Element::Forwarding(floating)));

        let wanted: BTreeSet<_> = forwards
            .into_iter()
            .flat_map(Forwards::iter)
            .flat_map(PortElement::of)
            .collect();
        for element in self.observed.forwards.of(floating) {
            if !wanted.contains(element) {
                let element = Element::Forward(floating, *element);
                self.delta.transaction.remove.push(element);
            }
            self.compare_source(element.fixed());
        }
        for element in wanted {
            if !self.observed.forwards.contains(floating, &element) {
                let element = Element::Forward(floating, element);
                self.delta.transaction.add.push(element);
            }
        }
        for forward in forwards.into_iter().flat_map(Forwards::iter) {
            self.compare_source(forward.fixed());
        }
    }

    /// What a host leaves as and by which uplink, and whether forwards lead to it,
    /// once: several floating IPs can.
    fn compare_source(&mut self, fixed: FixedIp) {
        let there = self.observed.fixed_to_floating.get(&fixed).copied();
        let wanted = self.desired.source(fixed);
        let was_led_to = self.observed.forwarded_to.contains(&fixed);
        let is_led_to = self.desired.is_forwarded_to(fixed);
        let former_uplink = self.observed.fixed_to_uplink.get(&fixed).copied();
        let uplink = wanted.and_then(|floating| self.uplinks.number(floating));
        let agrees = (there, was_led_to, former_uplink) == (wanted, is_led_to, uplink);
        if agrees || !self.compared.insert(fixed) {
            return;
        }
        let Transaction { remove, add, .. } = &mut self.delta.transaction;
        if there != wanted {
            remove.extend(there.map(|floating| Element::FixedToFloating(fixed, floating)));
            add.extend(wanted.map(|floating| Element::FixedToFloating(fixed, floating)));
        }
        if former_uplink != uplink {
            remove.extend(former_uplink.map(|number| Element::FixedToUplink(fixed, number)));
            add.extend(uplink.map(|number| Element::FixedToUplink(fixed, number)));
        }
        remove.extend((was_led_to && !is_led_to).then_some(Element::ForwardedTo(fixed)));
        add.extend((is_led_to && !was_led_to).then_some(Element::ForwardedTo(fixed)));
    }

    fn compare_presence(&mut self, floating: FloatingIp) {
        let there = self.observed.presence.get(&floating).copied();
        let wanted = match self.desired.place(floating, self.observed) {
            Place::On(index) => Some(index),
            Place::Nowhere | Place::Pending(_) => None,
        };
        if there != wanted {
            self.delta
                .withdraw
                .extend(there.map(|index| (floating, index)));
            self.delta
                .present
                .extend(wanted.map(|index| (floating, index)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::Link;
    use crate::model::{
        Allocation, Association, Change, Pool, PoolName, Revision, Sequence, Site, State, Timestamp,
    };

    fn site() -> Site {
        let range = AddressRange::new(
            "198.51.100.0".parse().unwrap(),
            "198.51.100.99".parse().unwrap(),
        );
        let pool = Pool {
            name: PoolName::default_pool(),
            ranges: vec![range.unwrap()],
            interface: Some("wan0".parse().unwrap()),
            routed: false,
            announcing: Default::default(),
            hardware_addresses: Default::default(),
            gateways: Vec::new(),
        };
        let private = vec!["10.0.0.0/24".parse().unwrap()];
        Site {
            pools: vec![pool],
            private,
            guard: true,
            block_free: true,
            counters: false,
            untranslated: Default::default(),
            uplink_numbers: Default::default(),
            rest: std::time::Duration::ZERO,
            limits: Default::default(),
        }
    }

    fn pairs(text: &str) -> Vec<(FloatingIp, FixedIp)> {
        let pair = |line: &str| {
            let (floating, fixed) = line.split_once(" -> ").unwrap();
            (
                format!("198.51.100.{floating}").parse().unwrap(),
                format!("10.0.0.{fixed}").parse().unwrap(),
            )
        };
        text.split(", ")
            .filter(|line| !line.is_empty())
            .map(pair)
            .collect()
    }

    fn state(text: &str) -> State {
        let allocation = |fixed| Allocation {
            association: Some(Association {
                fixed,
                since: Timestamp(0),
            }),
            ..Allocation::new(PoolName::default_pool(), 0, Timestamp(0))
        };
        let allocations = pairs(text)
            .into_iter()
            .map(|(floating, fixed)| (floating, allocation(fixed)));
        State::load(Revision(1), Sequence(1), allocations)
    }

    /// A kernel in which these associations are in force.
    fn observed(text: &str) -> Observed {
        let link = Link {
            index: IfIndex(2),
            up: true,
            carrier: true,
            mac: Some([2, 0, 0, 0, 0, 1]),
        };
        Observed {
            table: Some(Ruleset::new(&site(), |_| 1024)),
            floating_to_fixed: pairs(text).into_iter().collect(),
            fixed_to_floating: pairs(text)
                .into_iter()
                .map(|(floating, fixed)| (fixed, floating))
                .collect(),
            pool: site().pools[0].ranges.clone(),
            outside: ["wan0".parse().unwrap()].into(),
            presence: pairs(text)
                .into_iter()
                .map(|(floating, _)| (floating, IfIndex(2)))
                .collect(),
            links: [("wan0".parse().unwrap(), link)].into(),
            ..Observed::default()
        }
    }

    fn text(element: &Element) -> String {
        match element {
            Element::FloatingToFixed(floating, fixed) => {
                format!("floating_to_fixed {floating} : {fixed}")
            }
            Element::FixedToFloating(fixed, floating) => {
                format!("fixed_to_floating {fixed} : {floating}")
            }
            Element::RestToFixed(floating, fixed) => {
                format!("rest_to_fixed {floating} : {fixed}")
            }
            Element::Forward(floating, element) => {
                let (protocol, ports) = element.key();
                format!(
                    "forward {floating} {ports}/{protocol} : {}",
                    element.fixed()
                )
            }
            Element::ForwardedTo(fixed) => format!("forwarded_to {fixed}"),
            Element::Forwarding(floating) => format!("forwarding {floating}"),
            Element::Counted(direction, floating, Count { packets, bytes }) => {
                format!("counted_{direction} {floating} packets {packets} bytes {bytes}")
            }
            Element::Limited(direction, floating, rate) => {
                format!("limited_{direction} {floating} {rate}")
            }
            Element::Filtered(floating) => format!("filtered {floating}"),
            Element::Allowed(floating, net) => format!("allowed {floating} . {net}"),
            Element::FixedToUplink(fixed, number) => format!("fixed_to_uplink {fixed} {number}"),
            Element::Outside(name) => format!("outside {name}"),
        }
    }

    /// The steps, as a person would write them.
    fn steps(delta: &Delta) -> Vec<String> {
        let Delta {
            withdraw,
            transaction,
            rerouting,
            present,
        } = delta;
        let mut steps: Vec<_> = withdraw
            .iter()
            .map(|(floating, _)| format!("withdraw {floating}"))
            .collect();
        steps.extend(transaction.rebuild.iter().map(|_| "rebuild".to_owned()));
        if let Some(Reshape {
            new, altered, gone, ..
        }) = &transaction.reshape
        {
            for (verb, names) in [("make", new), ("alter", altered), ("drop", gone)] {
                steps.extend(names.iter().map(|name| format!("{verb} {name}")));
            }
        }
        steps.extend(transaction.pool.iter().map(|_| "replace pool".to_owned()));
        steps.extend(
            transaction
                .remove
                .iter()
                .map(|element| format!("delete {}", text(element))),
        );
        steps.extend(
            transaction
                .add
                .iter()
                .map(|element| format!("add {}", text(element))),
        );
        steps.extend(rerouting.orders());
        steps.extend(
            present
                .iter()
                .map(|(floating, _)| format!("present {floating}")),
        );
        steps
    }

    /// The delta by the touched addresses, checked against the one by a look at
    /// everything: both must do the same, in whichever order of elements.
    fn delta(desired: &str, seen: &str) -> Vec<String> {
        let (site, state, observed) = (site(), state(desired), observed(seen));
        let ruleset = Ruleset::new(&site, |_| 1024);
        let desired = Desired::new(&ruleset, &state, &site);
        let touched: Vec<_> = observed
            .floating_ips()
            .into_iter()
            .chain(state.associations().map(|a| a.0))
            .collect();
        let touched: std::collections::BTreeSet<_> = touched.into_iter().collect();
        let few = steps(&Delta::of(
            &desired,
            &observed,
            &touched.into_iter().collect::<Vec<_>>(),
        ));
        let mut sorted = few.clone();
        let mut whole = steps(&Delta::whole(&desired, &observed));
        sorted.sort();
        whole.sort();
        assert_eq!(sorted, whole);
        few
    }

    #[test]
    fn what_is_as_it_should_be_needs_nothing() {
        assert_eq!(delta("7 -> 5, 8 -> 6", "7 -> 5, 8 -> 6"), [""; 0]);
    }

    #[test]
    fn a_new_association_is_answered_for_last() {
        assert_eq!(
            delta("7 -> 5", ""),
            [
                "add floating_to_fixed 198.51.100.7 : 10.0.0.5",
                "add fixed_to_floating 10.0.0.5 : 198.51.100.7",
                "present 198.51.100.7",
            ]
        );
    }

    #[test]
    fn a_withdrawn_association_is_no_longer_answered_for_first() {
        assert_eq!(
            delta("", "7 -> 5"),
            [
                "withdraw 198.51.100.7",
                "delete floating_to_fixed 198.51.100.7 : 10.0.0.5",
                "delete fixed_to_floating 10.0.0.5 : 198.51.100.7",
            ]
        );
    }

    #[test]
    fn a_moved_floating_ip_is_swapped_in_one_transaction() {
        assert_eq!(
            delta("7 -> 9", "7 -> 5"),
            [
                "delete floating_to_fixed 198.51.100.7 : 10.0.0.5",
                "delete fixed_to_floating 10.0.0.5 : 198.51.100.7",
                "add floating_to_fixed 198.51.100.7 : 10.0.0.9",
                "add fixed_to_floating 10.0.0.9 : 198.51.100.7",
            ]
        );
    }

    #[test]
    fn a_displaced_floating_ip_leaves_its_host_once_whichever_comes_first() {
        for (desired, seen, gone) in [
            ("7 -> 6", "7 -> 5, 8 -> 6", "8"),
            ("8 -> 5", "7 -> 5, 8 -> 6", "7"),
        ] {
            let steps = delta(desired, seen);
            assert_eq!(steps[0], format!("withdraw 198.51.100.{gone}"));
            for host in ["5", "6"] {
                let key = format!("delete fixed_to_floating 10.0.0.{host} ");
                assert_eq!(
                    steps.iter().filter(|step| step.starts_with(&key)).count(),
                    1,
                    "{steps:?}"
                );
            }
        }
    }

    #[test]
    fn an_association_makes_way_for_forwards_and_comes_back_in_one_transaction() {
        let (site, plain) = (site(), state("7 -> 5"));
        let ruleset = Ruleset::new(&site, |_| 1024);
        let floating = "198.51.100.7".parse().unwrap();
        let forward = Change::Forward {
            floating,
            forward: "80/tcp -> 10.0.0.6:80, outbound floating".parse().unwrap(),
            previous: None,
        };
        let forwarding = plain.clone().with(&forward, Timestamp(0));
        let mut seen = observed("7 -> 5");
        let mut delta = |state: &State| {
            let desired = Desired::new(&ruleset, state, &site);
            let few = Delta::of(&desired, &seen, &[floating]);
            assert_eq!(few, Delta::whole(&desired, &seen));
            seen.note(&few.transaction);
            assert!(Delta::whole(&desired, &seen).transaction.is_empty());
            steps(&few)
        };
        assert_eq!(
            delta(&forwarding),
            [
                "delete floating_to_fixed 198.51.100.7 : 10.0.0.5",
                "add rest_to_fixed 198.51.100.7 : 10.0.0.5",
                "add forward 198.51.100.7 80/tcp : 10.0.0.6",
                "add fixed_to_floating 10.0.0.6 : 198.51.100.7",
                "add forwarded_to 10.0.0.6",
            ]
        );
        assert_eq!(
            delta(&plain),
            [
                "delete rest_to_fixed 198.51.100.7 : 10.0.0.5",
                "delete forward 198.51.100.7 80/tcp : 10.0.0.6",
                "delete fixed_to_floating 10.0.0.6 : 198.51.100.7",
                "delete forwarded_to 10.0.0.6",
                "add floating_to_fixed 198.51.100.7 : 10.0.0.5",
            ]
        );
    }

    #[test]
    fn an_address_is_counted_from_allocation_to_release_whoever_has_it() {
        let site = Site {
            counters: true,
            untranslated: Default::default(),
            uplink_numbers: Default::default(),
            rest: std::time::Duration::ZERO,
            ..site()
        };
        let ruleset = Ruleset::new(&site, |_| 1024);
        let floating = "198.51.100.7".parse().unwrap();
        let mut seen = Observed {
            table: Some(ruleset.clone()),
            ..observed("")
        };
        let mut steps_to = |state: &State| {
            let desired = Desired::new(&ruleset, state, &site);
            let few = Delta::of(&desired, &seen, &[floating]);
            assert_eq!(few, Delta::whole(&desired, &seen));
            seen.note(&few.transaction);
            steps(&few)
        };
        let allocated = State::default().with(
            &Change::Allocate {
                floating,
                pool: PoolName::default_pool(),
                owner: 0,
            },
            Timestamp(0),
        );
        assert_eq!(
            steps_to(&allocated),
            [
                "add counted_in 198.51.100.7 packets 0 bytes 0",
                "add counted_out 198.51.100.7 packets 0 bytes 0",
            ]
        );
        for host in ["7 -> 5", "7 -> 9"] {
            let steps = steps_to(&state(host));
            assert!(!steps.is_empty() && !steps.concat().contains("counted"));
        }
        assert_eq!(
            steps_to(&State::default())[2..],
            [
                "delete counted_in 198.51.100.7 packets 0 bytes 0",
                "delete counted_out 198.51.100.7 packets 0 bytes 0",
            ]
        );
    }

    #[test]
    fn a_table_that_is_built_anew_goes_on_counting_from_where_the_old_one_was() {
        let site = Site {
            counters: true,
            untranslated: Default::default(),
            uplink_numbers: Default::default(),
            rest: std::time::Duration::ZERO,
            ..site()
        };
        let ruleset = Ruleset::new(&site, |_| 1024);
        let floating = "198.51.100.7".parse().unwrap();
        let counted = |packets, bytes| [(floating, Count { packets, bytes })].into();
        let seen = Observed {
            table: None,
            counted: [counted(3, 300), counted(4, 4_000)],
            ..observed("7 -> 5")
        };
        let state = state("7 -> 5");
        let steps = steps(&Delta::whole(&Desired::new(&ruleset, &state, &site), &seen));
        for step in [
            "add counted_in 198.51.100.7 packets 3 bytes 300",
            "add counted_out 198.51.100.7 packets 4 bytes 4000",
        ] {
            assert!(steps.contains(&step.to_owned()), "{steps:?}");
        }
    }

    #[test]
    fn two_hosts_can_swap_their_addresses_at_once() {
        let steps = delta("7 -> 6, 8 -> 5", "7 -> 5, 8 -> 6");
        let first_add = steps
            .iter()
            .position(|step| step.starts_with("add"))
            .unwrap();
        assert_eq!(
            first_add, 4,
            "all keys are free before any is taken: {steps:?}"
        );
        assert_eq!(steps.len(), 8);
    }

    #[test]
    fn a_chain_that_was_edited_is_put_right_in_its_place() {
        let (site, state) = (site(), state("7 -> 5"));
        let ruleset = Ruleset::new(&site, |_| 1024);
        let mut seen = observed("7 -> 5");
        let chains = &mut seen.table.as_mut().unwrap().chains;
        let taken = chains.remove(0);
        chains[0].rules.clear();
        let emptied = chains[0].name.clone();
        chains.push(crate::dataplane::ruleset::Chain {
            name: "somebody".into(),
            base: None,
            rules: vec![],
        });
        let steps = steps(&Delta::whole(&Desired::new(&ruleset, &state, &site), &seen));
        assert_eq!(
            steps,
            [
                format!("make {}", taken.name),
                format!("alter {emptied}"),
                "drop somebody".to_owned(),
            ]
        );
    }

    #[test]
    fn a_table_with_other_sets_is_built_anew_with_everything_in_it() {
        let (site, state) = (site(), state("7 -> 5"));
        let ruleset = Ruleset::new(&site, |_| 1024);
        let mut seen = observed("7 -> 5");
        seen.table.as_mut().unwrap().sets.pop();
        let steps = steps(&Delta::whole(&Desired::new(&ruleset, &state, &site), &seen));
        assert_eq!(
            steps,
            [
                "rebuild",
                "replace pool",
                "add outside wan0",
                "add floating_to_fixed 198.51.100.7 : 10.0.0.5",
                "add fixed_to_floating 10.0.0.5 : 198.51.100.7",
            ],
            "and nobody stops answering for the address"
        );
    }
}
