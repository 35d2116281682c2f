//! Desired × Observed → Delta: what differs, and the order of its steps.

use std::collections::{HashMap, HashSet};

use crate::model::{AddressRange, FixedIp, FloatingIp, InterfaceName};

use super::{Desired, IfIndex, Observed, Place, Ruleset};

/// An element of one of our sets or maps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// Of `floating_to_fixed4` or `6`.
    FloatingToFixed(FloatingIp, FixedIp),
    /// Of `fixed_to_floating4` or `6`.
    FixedToFloating(FixedIp, FloatingIp),
    /// Of `outside`.
    Outside(InterfaceName),
}

/// What goes to the kernel as one nft batch: all of it or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Delete the table, when it is there, and make it anew without elements.
    pub rebuild: Option<Ruleset>,
    /// Replace the elements of `pool4` and `pool6`.
    pub pool: Option<Vec<AddressRange>>,
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
            pool,
            remove,
            add,
        } = self;
        rebuild.is_none() && pool.is_none() && remove.is_empty() && add.is_empty()
    }
}

/// Flows that conntrack holds and that must not go on as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cut {
    /// The flows to or from a floating IP, in both directions, but for those of
    /// the host that has it now: they may be a moment old.
    Floating {
        /// The floating IP.
        floating: FloatingIp,
        /// The host that has it now.
        keep: Option<FixedIp>,
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
    /// Answer for these.
    pub present: Vec<(FloatingIp, IfIndex)>,
}

impl Delta {
    /// The one order, for coming and going alike. Addresses go first and come
    /// last, so that the router itself never answers on a floating IP.
    pub const ORDER: [Step; 3] = [Step::Withdraw, Step::Transact, Step::Present];

    /// What differs for a few addresses. Costs the same among ten and a
    /// hundred thousand.
    #[must_use]
    pub fn of(desired: &Desired<'_>, observed: &Observed, addresses: &[FloatingIp]) -> Self {
        let mut builder = Builder::new(desired, observed);
        for &floating in addresses {
            builder.compare(floating, desired.fixed(floating));
        }
        builder.delta
    }

    /// What differs at all.
    #[must_use]
    pub fn whole(desired: &Desired<'_>, observed: &Observed) -> Self {
        if observed.table.as_ref() == Some(desired.ruleset) {
            let mut builder = Builder::new(desired, observed);
            builder.compare_sets();
            builder.compare_all();
            builder.delta
        } else {
            // What is in the table goes with it.
            let without_table = observed.without_table();
            let mut builder = Builder::new(desired, &without_table);
            builder.delta.transaction.rebuild = Some(desired.ruleset.clone());
            builder.delta.transaction.pool = Some(desired.pool(observed));
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
    delta: Delta,
    /// Keys of `fixed_to_floating` that are removed already: a displacement
    /// comes to one from both of its floating IPs.
    untied: HashSet<FixedIp>,
}

impl<'a> Builder<'a> {
    fn new(desired: &'a Desired<'a>, observed: &'a Observed) -> Self {
        Self {
            desired,
            observed,
            delta: Delta::default(),
            untied: HashSet::new(),
        }
    }

    /// The sets that do not belong to single addresses.
    fn compare_sets(&mut self) {
        let Transaction {
            pool, remove, add, ..
        } = &mut self.delta.transaction;
        let ranges = self.desired.pool(self.observed);
        *pool = (ranges != self.observed.pool).then_some(ranges);
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
        let wanted: HashMap<_, _> = self.desired.associations().collect();
        for (floating, fixed) in self.desired.associations() {
            self.compare(floating, Some(fixed));
        }
        for floating in self.observed.floating_ips() {
            if !wanted.contains_key(&floating) {
                self.compare(floating, None);
            }
        }
        // An edit from outside can leave a host in the one map that its
        // floating IP does not lead to.
        for (&fixed, floating) in &self.observed.fixed_to_floating {
            if wanted.get(floating) != Some(&fixed) {
                self.untie(fixed);
            }
        }
    }

    fn compare(&mut self, floating: FloatingIp, wanted: Option<FixedIp>) {
        let there = self.observed.floating_to_fixed.get(&floating).copied();
        if there != wanted {
            let Transaction { remove, add, .. } = &mut self.delta.transaction;
            remove.extend(there.map(|fixed| Element::FloatingToFixed(floating, fixed)));
            add.extend(wanted.map(|fixed| Element::FloatingToFixed(floating, fixed)));
            if let Some(old) = there
                && self.observed.fixed_to_floating.get(&old) == Some(&floating)
            {
                self.untie(old);
            }
        }
        if let Some(fixed) = wanted
            && self.observed.fixed_to_floating.get(&fixed) != Some(&floating)
        {
            self.untie(fixed);
            self.delta
                .transaction
                .add
                .push(Element::FixedToFloating(fixed, floating));
        }
        self.compare_presence(floating, wanted.is_some());
    }

    /// Takes a host out of `fixed_to_floating`, if it is in it, once.
    fn untie(&mut self, fixed: FixedIp) {
        if let Some(&floating) = self.observed.fixed_to_floating.get(&fixed)
            && self.untied.insert(fixed)
        {
            self.delta
                .transaction
                .remove
                .push(Element::FixedToFloating(fixed, floating));
        }
    }

    fn compare_presence(&mut self, floating: FloatingIp, associated: bool) {
        let there = self.observed.presence.get(&floating).copied();
        let wanted = match self.desired.place(floating, associated, self.observed) {
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
        Allocation, Association, Pool, PoolName, Revision, Sequence, Site, State, Timestamp,
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
        };
        let private = vec!["10.0.0.0/24".parse().unwrap()];
        Site {
            pools: vec![pool],
            private,
            guard: true,
            block_free: true,
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
            pool: PoolName::default_pool(),
            owner: 0,
            allocated: Timestamp(0),
            association: Some(Association {
                fixed,
                since: Timestamp(0),
            }),
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
            Element::Outside(name) => format!("outside {name}"),
        }
    }

    /// The steps, as a person would write them.
    fn steps(delta: &Delta) -> Vec<String> {
        let Delta {
            withdraw,
            transaction,
            present,
        } = delta;
        let mut steps: Vec<_> = withdraw
            .iter()
            .map(|(floating, _)| format!("withdraw {floating}"))
            .collect();
        steps.extend(transaction.rebuild.iter().map(|_| "rebuild".to_owned()));
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
    fn a_table_that_was_edited_is_built_anew_with_everything_in_it() {
        let (site, state) = (site(), state("7 -> 5"));
        let ruleset = Ruleset::new(&site, |_| 1024);
        let mut seen = observed("7 -> 5");
        seen.table.as_mut().unwrap().chains[0].rules.clear();
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
