//! Desired × Observed → Delta: what differs, and the order of its steps.

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
    /// All flows to or from a floating IP, in both directions.
    Floating(FloatingIp),
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
        let mut delta = Delta::default();
        for &floating in addresses {
            delta.add_address(desired, observed, floating);
        }
        delta
    }

    /// What differs at all.
    #[must_use]
    pub fn whole(desired: &Desired<'_>, observed: &Observed) -> Self {
        let mut delta = Delta::default();

        let rebuild = observed.table.as_ref() != Some(desired.ruleset);
        let empty = Observed {
            links: observed.links.clone(),
            default_route4: observed.default_route4.clone(),
            default_route6: observed.default_route6.clone(),
            surroundings: observed.surroundings.clone(),
            outside: observed.outside.clone(),
            presence: observed.presence.clone(),
            ..Observed::default()
        };
        let outside = desired.outside(observed);
        let seen = if rebuild { &empty } else { observed };
        if rebuild {
            delta.transaction.rebuild = Some(desired.ruleset.clone());
        }

        let pool = desired.pool();
        if rebuild || pool != observed.pool {
            delta.transaction.pool = Some(pool);
        }
        for name in observed
            .outside
            .iter()
            .filter(|name| !rebuild && !outside.contains(*name))
        {
            delta
                .transaction
                .remove
                .push(Element::Outside(name.clone()));
        }
        for name in outside
            .iter()
            .filter(|name| rebuild || !observed.outside.contains(*name))
        {
            delta.transaction.add.push(Element::Outside(name.clone()));
        }

        for (floating, _) in desired.associations() {
            delta.add_address(desired, seen, floating);
        }
        // What is there and should not be: of addresses that nobody has now.
        for floating in seen.floating_ips() {
            if desired.fixed(floating).is_none() {
                delta.add_address(desired, seen, floating);
            }
        }
        // An edit from outside can leave a host in the one map that no floating
        // IP of ours leads to.
        for (&fixed, &floating) in &seen.fixed_to_floating {
            let stray = desired.fixed(floating) != Some(fixed);
            let element = Element::FixedToFloating(fixed, floating);
            if stray && !delta.transaction.remove.contains(&element) {
                delta.transaction.remove.push(element);
            }
        }
        delta
    }

    fn add_address(&mut self, desired: &Desired<'_>, observed: &Observed, floating: FloatingIp) {
        let wanted = desired.fixed(floating);
        let there = observed.floating_to_fixed.get(&floating).copied();
        let Transaction { remove, add, .. } = &mut self.transaction;
        if there != wanted {
            remove.extend(there.map(|fixed| Element::FloatingToFixed(floating, fixed)));
            add.extend(wanted.map(|fixed| Element::FloatingToFixed(floating, fixed)));
        }
        if let Some(old) = there.filter(|old| Some(*old) != wanted)
            && observed.fixed_to_floating.get(&old) == Some(&floating)
        {
            remove.push(Element::FixedToFloating(old, floating));
        }
        if let Some(fixed) = wanted {
            let there = observed.fixed_to_floating.get(&fixed).copied();
            if there != Some(floating) {
                let stale = there.map(|other| Element::FixedToFloating(fixed, other));
                // The other address of a displacement brings its own removal.
                remove.extend(stale.filter(|element| !remove.contains(element)));
                add.push(Element::FixedToFloating(fixed, floating));
            }
        }

        let there = observed.presence.get(&floating).copied();
        let place = desired.place(floating, observed);
        let wanted = match place {
            Place::On(index) => Some(index),
            Place::Nowhere | Place::Pending(_) => None,
        };
        if there != wanted {
            self.withdraw.extend(there.map(|index| (floating, index)));
            self.present.extend(wanted.map(|index| (floating, index)));
        }
    }
}
