//! Everything desired, and its revision.

use std::fmt;
use std::ops::Bound;

use rpds::{HashTrieMapSync, RedBlackTreeMapSync, RedBlackTreeSetSync};
use serde::{Deserialize, Serialize};

use super::{
    Allocation, Association, Attributes, Change, Direction, Family, FixedIp, FloatingIp, Forward,
    Forwarded, Forwards, Lease, Outbound, PoolName, Rate, Resting, RestingAddresses, Sources,
    Trial,
};

/// A user id, as in getuid(2).
pub type Uid = u32;

/// How many commits there have been. The empty state is revision 0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Revision(pub u64);

impl Revision {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in the event log. The first event is 1; 0 is before all of them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Seconds since 1970-01-01 00:00 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

/// Everything that should be, at one revision.
///
/// Persistent maps: a copy is a few pointers, so a reader keeps the revision it
/// began with, and a batch that cannot be committed is simply dropped.
#[derive(Clone, Debug, Default)]
pub struct State {
    revision: Revision,
    sequence: Sequence,
    allocations: RedBlackTreeMapSync<FloatingIp, Allocation>,
    by_fixed: HashTrieMapSync<FixedIp, FloatingIp>,
    last_allocated: RedBlackTreeMapSync<(PoolName, Family), FloatingIp>,
    by_owner: HashTrieMapSync<Uid, u32>,
    allocated4: usize,
    associated4: usize,
    /// Hosts that leave as a floating IP by their forwards, and by how many.
    by_outbound: HashTrieMapSync<FixedIp, (FloatingIp, u32)>,
    /// Hosts that forwards lead to, and how many.
    by_target: HashTrieMapSync<FixedIp, u32>,
    /// Of IPv4 and IPv6.
    forwarded: [Forwarded; 2],
    ends: RedBlackTreeSetSync<(Timestamp, FloatingIp, Lease)>,
    /// How many addresses have a rate, in and out.
    limited: [u32; 2],
    /// How many addresses are not for everybody.
    filtered: u32,
    /// From how many prefixes they may be reached; of IPv4 and IPv6.
    sources: [u32; 2],
    resting: RestingAddresses,
    trials: RedBlackTreeMapSync<FloatingIp, Trial>,
}

impl State {
    /// The state with these allocations, as a store loads it.
    #[must_use]
    pub fn load(
        revision: Revision,
        sequence: Sequence,
        allocations: impl IntoIterator<Item = (FloatingIp, Allocation)>,
    ) -> Self {
        let mut state = State {
            revision,
            sequence,
            ..State::default()
        };
        let mut latest = std::collections::BTreeMap::<_, (Timestamp, FloatingIp)>::new();
        for (floating, allocation) in allocations {
            let seen = (allocation.allocated, floating);
            let last = latest
                .entry((allocation.pool.clone(), floating.family()))
                .or_insert(seen);
            *last = (*last).max(seen);
            if let Some(association) = &allocation.association {
                state.note_tied(association.fixed, floating);
            }
            state.note_owned(allocation.owner);
            for forward in allocation.forwards.iter() {
                state.note_forwarded(floating, forward);
            }
            state.put(floating, Some(allocation));
        }
        for (place, (_, floating)) in latest {
            state.last_allocated.insert_mut(place, floating);
        }
        state
    }

    /// The same, with these addresses that rest.
    #[must_use]
    pub fn with_resting(
        mut self,
        resting: impl IntoIterator<Item = (FloatingIp, Resting)>,
    ) -> Self {
        for (floating, resting) in resting {
            self.resting.insert(floating, resting);
        }
        self
    }

    /// The same, with changes that are not confirmed.
    #[must_use]
    pub fn with_trials(mut self, trials: impl IntoIterator<Item = (FloatingIp, Trial)>) -> Self {
        for (floating, trial) in trials {
            self.trials.insert_mut(floating, trial);
        }
        self
    }

    /// The released addresses that are kept for their last owners.
    #[must_use]
    pub fn resting(&self) -> &RestingAddresses {
        &self.resting
    }

    /// How many commits led here.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The last event that led here.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// What is known of an allocated address; `None` when it is free.
    #[must_use]
    pub fn allocation(&self, floating: FloatingIp) -> Option<&Allocation> {
        self.allocations.get(&floating)
    }

    /// The association of an address, when it has one.
    #[must_use]
    pub fn association(&self, floating: FloatingIp) -> Option<Association> {
        self.allocation(floating)?.association
    }

    /// The floating IP of a host, when it has one.
    #[must_use]
    pub fn floating_of(&self, fixed: FixedIp) -> Option<FloatingIp> {
        self.by_fixed.get(&fixed).copied()
    }

    /// The floating IP that a host would leave as by its forwards alone.
    #[must_use]
    pub fn outbound_of(&self, fixed: FixedIp) -> Option<FloatingIp> {
        self.by_outbound.get(&fixed).map(|(floating, _)| *floating)
    }

    /// The floating IP that a host begins flows with: its own, or else that of
    /// its forwards, if they say so.
    #[must_use]
    pub fn source_of(&self, fixed: FixedIp) -> Option<FloatingIp> {
        self.floating_of(fixed).or_else(|| self.outbound_of(fixed))
    }

    /// Every host that begins flows with a floating IP, and which.
    pub fn sources(&self) -> impl Iterator<Item = (FixedIp, FloatingIp)> + '_ {
        let own = self
            .by_fixed
            .iter()
            .map(|(fixed, floating)| (*fixed, *floating));
        let by_forwards = self
            .by_outbound
            .iter()
            .filter(|(fixed, _)| !self.by_fixed.contains_key(fixed))
            .map(|(fixed, (floating, _))| (*fixed, *floating));
        own.chain(by_forwards)
    }

    /// How many hosts of a family begin flows with a floating IP, at most: those
    /// that do so by their forwards are counted whatever else they are.
    #[must_use]
    pub fn sources_of(&self, family: Family) -> usize {
        self.associated_of(family) + self.by_outbound.size()
    }

    /// Whether any forward leads to the host.
    #[must_use]
    pub fn is_forwarded_to(&self, fixed: FixedIp) -> bool {
        self.by_target.contains_key(&fixed)
    }

    /// The forwards of an address.
    #[must_use]
    pub fn forwards(&self, floating: FloatingIp) -> Option<&Forwards> {
        let forwards = &self.allocation(floating)?.forwards;
        (!forwards.is_empty()).then_some(forwards)
    }

    /// How much of the kernel's maps the forwards of a family take.
    #[must_use]
    pub fn forwarded(&self, family: Family) -> Forwarded {
        self.forwarded[place(family)]
    }

    /// How fast the packets of an address may go in a direction.
    #[must_use]
    pub fn rate(&self, floating: FloatingIp, direction: Direction) -> Option<Rate> {
        self.allocation(floating)?.attributes.rate(direction)
    }

    /// Whether any address has a rate, in and out.
    #[must_use]
    pub fn has_rates(&self) -> [bool; 2] {
        self.limited.map(|count| count > 0)
    }

    /// Whether any address is not for everybody.
    #[must_use]
    pub fn has_sources(&self) -> bool {
        self.filtered > 0
    }

    /// From how many prefixes the addresses of a family may be reached that are
    /// not for everybody.
    #[must_use]
    pub fn sources_allowed(&self, family: Family) -> u32 {
        self.sources[place(family)]
    }

    /// Whether packets to the address lead anywhere.
    #[must_use]
    pub fn is_in_use(&self, floating: FloatingIp) -> bool {
        self.allocation(floating).is_some_and(Allocation::is_in_use)
    }

    /// The address of a family that was given out last from a pool.
    #[must_use]
    pub fn last_allocated(&self, pool: &PoolName, family: Family) -> Option<FloatingIp> {
        self.last_allocated.get(&(pool.clone(), family)).copied()
    }

    /// All allocated addresses, in order.
    pub fn allocations(&self) -> impl Iterator<Item = (FloatingIp, &Allocation)> {
        self.allocations
            .iter()
            .map(|(floating, allocation)| (*floating, allocation))
    }

    /// The allocated addresses in order, from a bound on.
    pub fn allocations_from(
        &self,
        from: Bound<FloatingIp>,
    ) -> impl Iterator<Item = (FloatingIp, &Allocation)> {
        self.allocations
            .range((from, Bound::Unbounded))
            .map(|(floating, allocation)| (*floating, allocation))
    }

    /// All associations, in order of their floating IPs.
    pub fn associations(&self) -> impl Iterator<Item = (FloatingIp, FixedIp)> + '_ {
        self.allocations()
            .filter_map(|(floating, allocation)| Some((floating, allocation.association?.fixed)))
    }

    /// All addresses that lead somewhere, in order.
    pub fn in_use(&self) -> impl Iterator<Item = FloatingIp> + '_ {
        self.allocations()
            .filter(|(_, allocation)| allocation.is_in_use())
            .map(|(floating, _)| floating)
    }

    /// That the last change of an address is not confirmed, if it is so.
    #[must_use]
    pub fn trial(&self, floating: FloatingIp) -> Option<&Trial> {
        self.trials.get(&floating)
    }

    /// All addresses whose last change is not confirmed.
    pub fn trials(&self) -> impl Iterator<Item = (FloatingIp, &Trial)> {
        self.trials
            .iter()
            .map(|(floating, trial)| (*floating, trial))
    }

    /// How much more of the kernel's maps the forwards of a family take when all
    /// that is not confirmed is undone.
    #[must_use]
    pub fn withheld(&self, family: Family) -> Forwarded {
        let mut sum = Forwarded::default();
        for (floating, trial) in self.trials().filter(|(ip, _)| ip.family() == family) {
            let taken = |allocation: Option<&Allocation>| {
                let forwards = allocation.into_iter().flat_map(|a| a.forwards.iter());
                forwards
                    .map(Forwarded::by)
                    .fold(Forwarded::default(), |sum, one| Forwarded {
                        ports: sum.ports + one.ports,
                        ranges: sum.ranges + one.ranges,
                    })
            };
            let (then, now) = (
                taken(trial.former.as_ref()),
                taken(self.allocation(floating)),
            );
            sum.ports += then.ports.saturating_sub(now.ports);
            sum.ranges += then.ranges.saturating_sub(now.ranges);
        }
        sum
    }

    /// How many more prefixes there are of a family when all that is not confirmed
    /// is undone.
    #[must_use]
    pub fn sources_withheld(&self, family: Family) -> u32 {
        let trials = self.trials().filter(|(ip, _)| ip.family() == family);
        let count = |allocation: Option<&Allocation>| {
            allocation.map_or(0, |has| sources_of(&has.attributes.allowed_sources))
        };
        let more = trials.map(|(floating, trial)| {
            let now = count(self.allocation(floating));
            count(trial.former.as_ref()).saturating_sub(now)
        });
        more.sum()
    }

    /// The ends of allocations and associations, in their order.
    pub fn ends(&self) -> impl Iterator<Item = (Timestamp, FloatingIp, Lease)> + '_ {
        self.ends.iter().copied()
    }

    /// Moves all that has an end: the wall clock was set by so many seconds.
    pub fn later_by(&mut self, seconds: i64) {
        let mut ending: Vec<_> = self.ends().map(|(_, floating, _)| floating).collect();
        ending.sort_unstable();
        ending.dedup();
        for floating in ending {
            self.alter(floating, |allocation| allocation.ending_later_by(seconds));
        }
        self.resting.later_by(seconds);
        let trials = self.trials.iter();
        let trials = trials.map(|(floating, trial)| (*floating, trial.clone().later_by(seconds)));
        self.trials = trials.collect();
    }

    /// How many addresses are allocated.
    #[must_use]
    pub fn allocated(&self) -> usize {
        self.allocations.size()
    }

    /// How many addresses of a family are allocated.
    #[must_use]
    pub fn allocated_of(&self, family: Family) -> usize {
        match family {
            Family::V4 => self.allocated4,
            Family::V6 => self.allocated() - self.allocated4,
        }
    }

    /// How many addresses a user owns.
    #[must_use]
    pub fn owned_by(&self, owner: Uid) -> u32 {
        self.by_owner.get(&owner).copied().unwrap_or(0)
    }

    /// How many addresses are associated.
    #[must_use]
    pub fn associated(&self) -> usize {
        self.by_fixed.size()
    }

    /// How many addresses of a family are associated.
    #[must_use]
    pub fn associated_of(&self, family: Family) -> usize {
        match family {
            Family::V4 => self.associated4,
            Family::V6 => self.associated() - self.associated4,
        }
    }

    /// The state after one more change, at the same revision.
    ///
    /// The plan made the change from this state; one that does not fit it (an
    /// association of a free address) is a mistake of ours and panics.
    #[must_use]
    pub fn with(mut self, change: &Change, at: Timestamp) -> Self {
        self.resting.forget(at);
        match change {
            Change::Allocate {
                floating,
                pool,
                owner,
            } => {
                self.last_allocated
                    .insert_mut((pool.clone(), floating.family()), *floating);
                let allocation = Allocation::new(pool.clone(), *owner, at);
                self.put(*floating, Some(allocation));
                self.note_owned(*owner);
                self.resting.remove(*floating);
            }
            Change::Associate {
                floating,
                fixed,
                previous,
            } => {
                self.note_untied(*previous);
                self.note_tied(*fixed, *floating);
                self.tie(
                    *floating,
                    Some(Association {
                        fixed: *fixed,
                        since: at,
                    }),
                );
            }
            Change::Disassociate { floating, previous } => {
                self.note_untied(Some(*previous));
                self.tie(*floating, None);
            }
            Change::Keep { floating, hosts } => {
                self.alter(*floating, |allocation| Allocation {
                    kept: hosts.clone(),
                    ..allocation
                });
            }
            Change::SetEnd { floating, of, at } => {
                self.alter(*floating, |allocation| match of {
                    Lease::Allocation => Allocation {
                        expires: *at,
                        ..allocation
                    },
                    Lease::Association => Allocation {
                        association_expires: *at,
                        ..allocation
                    },
                });
            }
            Change::Forward {
                floating,
                forward,
                previous: _,
            } => {
                self.note_forwarded(*floating, forward);
                self.alter(*floating, |allocation| Allocation {
                    forwards: allocation.forwards.with(*forward),
                    ..allocation
                });
            }
            Change::Unforward { floating, forward } => {
                self.note_unforwarded(*floating, forward);
                self.alter(*floating, |allocation| Allocation {
                    forwards: allocation.forwards.without(forward),
                    ..allocation
                });
            }
            Change::Update {
                floating,
                before: _,
                after,
            } => {
                self.alter(*floating, |allocation| Allocation {
                    attributes: Attributes::clone(after),
                    ..allocation
                });
            }
            Change::Release {
                floating,
                previous,
                resting_until,
            } => {
                self.note_untied(*previous);
                if let Some(Allocation { owner, .. }) = self.allocations.get(floating) {
                    let owner = *owner;
                    self.note_disowned(owner);
                    if let Some(until) = *resting_until {
                        self.resting.insert(*floating, Resting { owner, until });
                    }
                }
                self.put(*floating, None);
            }
            Change::Try { floating, trial } => {
                self.trials.insert_mut(*floating, (**trial).clone());
            }
            Change::Confirm { floating } => {
                self.trials.remove_mut(floating);
            }
            Change::Restore {
                floating, former, ..
            } => {
                self.trials.remove_mut(floating);
                self.resting.remove(*floating);
                self.replace(*floating, former.as_deref().cloned());
            }
        }
        self.after_event()
    }

    /// The same state, after one event that changed nothing desired.
    #[must_use]
    pub fn after_event(mut self) -> Self {
        self.sequence = self.sequence.next();
        self
    }

    /// The same state as the next revision.
    #[must_use]
    pub fn committed(mut self) -> Self {
        self.revision = self.revision.next();
        self
    }

    /// An association begins without an end and without flows of before; whoever
    /// wants them kept says so afterwards.
    fn tie(&mut self, floating: FloatingIp, association: Option<Association>) {
        self.alter(floating, |allocation| Allocation {
            association,
            kept: Vec::new(),
            association_expires: None,
            ..allocation
        });
    }

    fn alter(&mut self, floating: FloatingIp, how: impl FnOnce(Allocation) -> Allocation) {
        let allocation = self
            .allocations
            .get(&floating)
            .expect("only an allocated address is altered");
        let allocation = how(allocation.clone());
        self.put(floating, Some(allocation));
    }

    /// Puts an allocation in the place of the one that was there, with all that
    /// hangs on them.
    fn replace(&mut self, floating: FloatingIp, allocation: Option<Allocation>) {
        if let Some(old) = self.allocation(floating).cloned() {
            self.note_untied(old.association.map(|tie| tie.fixed));
            self.note_disowned(old.owner);
            for forward in old.forwards.iter() {
                self.note_unforwarded(floating, forward);
            }
        }
        if let Some(new) = &allocation {
            if let Some(tie) = new.association {
                self.note_tied(tie.fixed, floating);
            }
            self.note_owned(new.owner);
            for forward in new.forwards.iter() {
                self.note_forwarded(floating, forward);
            }
        }
        self.put(floating, allocation);
    }

    /// Puts an allocation in the place of the one that was there.
    fn put(&mut self, floating: FloatingIp, allocation: Option<Allocation>) {
        let leases = [Lease::Allocation, Lease::Association];
        let ends = |allocation: Option<&Allocation>| {
            let end = |of| allocation.and_then(|allocation| allocation.end(of));
            leases.map(|of| end(of).map(|at| (at, floating, of)))
        };
        for end in ends(self.allocation(floating)).into_iter().flatten() {
            self.ends.remove_mut(&end);
        }
        for end in ends(allocation.as_ref()).into_iter().flatten() {
            self.ends.insert_mut(end);
        }
        self.forget_traffic(floating);
        if let Some(allocation) = &allocation {
            self.note_traffic(floating, &allocation.attributes);
        }
        if floating.family() == Family::V4 {
            self.allocated4 -= usize::from(self.allocations.contains_key(&floating));
            self.allocated4 += usize::from(allocation.is_some());
        }
        match allocation {
            Some(allocation) => self.allocations.insert_mut(floating, allocation),
            None => drop(self.allocations.remove_mut(&floating)),
        }
    }

    fn note_forwarded(&mut self, floating: FloatingIp, forward: &Forward) {
        let Forwarded { ports, ranges } = Forwarded::by(forward);
        let total = &mut self.forwarded[place(floating.family())];
        total.ports += ports;
        total.ranges += ranges;
        let others = self.by_target.get(&forward.fixed()).copied();
        self.by_target
            .insert_mut(forward.fixed(), others.unwrap_or(0) + 1);
        if forward.outbound() == Outbound::Floating {
            let others = self.by_outbound.get(&forward.fixed());
            let count = others.map_or(1, |(_, others)| others + 1);
            self.by_outbound
                .insert_mut(forward.fixed(), (floating, count));
        }
    }

    fn note_unforwarded(&mut self, floating: FloatingIp, forward: &Forward) {
        let Forwarded { ports, ranges } = Forwarded::by(forward);
        let total = &mut self.forwarded[place(floating.family())];
        total.ports -= ports;
        total.ranges -= ranges;
        match self.by_target.get(&forward.fixed()).copied() {
            Some(count @ 2..) => self.by_target.insert_mut(forward.fixed(), count - 1),
            Some(_) | None => {
                self.by_target.remove_mut(&forward.fixed());
            }
        }
        if forward.outbound() == Outbound::Floating {
            match self.by_outbound.get(&forward.fixed()).copied() {
                Some((floating, count @ 2..)) => {
                    self.by_outbound
                        .insert_mut(forward.fixed(), (floating, count - 1));
                }
                Some(_) | None => {
                    self.by_outbound.remove_mut(&forward.fixed());
                }
            }
        }
    }

    fn note_traffic(&mut self, floating: FloatingIp, attributes: &Attributes) {
        for direction in Direction::BOTH {
            let has = attributes.rate(direction).is_some();
            self.limited[direction.place()] += u32::from(has);
        }
        let Attributes {
            allowed_sources, ..
        } = attributes;
        self.filtered += u32::from(!allowed_sources.is_everybody());
        self.sources[place(floating.family())] += sources_of(allowed_sources);
    }

    fn forget_traffic(&mut self, floating: FloatingIp) {
        let Some(allocation) = self.allocations.get(&floating) else {
            return;
        };
        let attributes = allocation.attributes.clone();
        for direction in Direction::BOTH {
            let has = attributes.rate(direction).is_some();
            self.limited[direction.place()] -= u32::from(has);
        }
        let allowed = &attributes.allowed_sources;
        self.filtered -= u32::from(!allowed.is_everybody());
        self.sources[place(floating.family())] -= sources_of(allowed);
    }

    fn note_owned(&mut self, owner: Uid) {
        self.by_owner.insert_mut(owner, self.owned_by(owner) + 1);
    }

    fn note_disowned(&mut self, owner: Uid) {
        match self.owned_by(owner) {
            0 | 1 => {
                self.by_owner.remove_mut(&owner);
            }
            several => self.by_owner.insert_mut(owner, several - 1),
        }
    }

    fn note_tied(&mut self, fixed: FixedIp, floating: FloatingIp) {
        self.by_fixed.insert_mut(fixed, floating);
        self.associated4 += usize::from(fixed.family() == Family::V4);
    }

    fn note_untied(&mut self, fixed: Option<FixedIp>) {
        if let Some(fixed) = fixed
            && self.by_fixed.remove_mut(&fixed)
        {
            self.associated4 -= usize::from(fixed.family() == Family::V4);
        }
    }
}

/// How many prefixes these are.
fn sources_of(sources: &Sources) -> u32 {
    u32::try_from(sources.iter().len()).expect("they are a few")
}

/// Where in an array of both families this one is.
fn place(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}
