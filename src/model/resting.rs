//! Released addresses that are not given to somebody else for a while.

use std::time::Duration;

use rpds::{HashTrieMapSync, RedBlackTreeMapSync, RedBlackTreeSetSync};

use super::{FloatingIp, Timestamp, Uid};

/// A released address that waits for its last owner to want it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resting {
    /// Who had it last.
    pub owner: Uid,
    /// Until when.
    pub until: Timestamp,
}

impl Resting {
    /// Whether it goes on. Nobody waits for longer than the configuration says
    /// now, whatever it said then and however the clock was set meanwhile.
    #[must_use]
    pub fn is_on(&self, now: Timestamp, longest: Duration) -> bool {
        let left = self.until.0.saturating_sub(now.0);
        u64::try_from(left).is_ok_and(|left| (1..=longest.as_secs()).contains(&left))
    }
}

/// All of them. A copy is a few pointers.
#[derive(Clone, Debug, Default)]
pub struct RestingAddresses {
    by_address: RedBlackTreeMapSync<FloatingIp, Resting>,
    by_end: RedBlackTreeSetSync<(Timestamp, FloatingIp)>,
    by_owner: HashTrieMapSync<Uid, RedBlackTreeSetSync<(Timestamp, FloatingIp)>>,
}

impl RestingAddresses {
    /// What is known of one, also when its rest is over and nobody has noticed.
    #[must_use]
    pub fn get(&self, floating: FloatingIp) -> Option<Resting> {
        self.by_address.get(&floating).copied()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (FloatingIp, Resting)> + '_ {
        self.by_address
            .iter()
            .map(|(floating, resting)| (*floating, *resting))
    }

    /// Those of one owner, those whose rest is over first, first.
    pub fn of(&self, owner: Uid) -> impl Iterator<Item = (FloatingIp, Resting)> + '_ {
        let his = self.by_owner.get(&owner).into_iter().flatten();
        his.map(move |(until, floating)| {
            let until = *until;
            (*floating, Resting { owner, until })
        })
    }

    pub(super) fn insert(&mut self, floating: FloatingIp, resting: Resting) {
        self.remove(floating);
        self.by_address.insert_mut(floating, resting);
        let end = (resting.until, floating);
        self.by_end.insert_mut(end);
        let his = self.by_owner.get(&resting.owner).cloned();
        self.by_owner
            .insert_mut(resting.owner, his.unwrap_or_default().insert(end));
    }

    pub(super) fn remove(&mut self, floating: FloatingIp) {
        if let Some(resting) = self.get(floating) {
            self.by_address.remove_mut(&floating);
            let end = (resting.until, floating);
            self.by_end.remove_mut(&end);
            let his = self.by_owner.get(&resting.owner);
            match his.map(|his| his.remove(&end)) {
                Some(his) if !his.is_empty() => self.by_owner.insert_mut(resting.owner, his),
                Some(_) | None => drop(self.by_owner.remove_mut(&resting.owner)),
            }
        }
    }

    /// Moves all ends.
    pub(super) fn later_by(&mut self, seconds: i64) {
        for (floating, resting) in std::mem::take(self).iter() {
            let until = resting.until.later_by(seconds);
            self.insert(floating, Resting { until, ..resting });
        }
    }

    /// Forgets those whose rest is over.
    pub(super) fn forget(&mut self, now: Timestamp) {
        while let Some((until, floating)) = self.by_end.first().copied()
            && until <= now
        {
            self.remove(floating);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_whose_rest_is_over_are_forgotten_and_no_others() {
        let mut resting = RestingAddresses::default();
        let address = |last: u8| -> FloatingIp { format!("203.0.113.{last}").parse().unwrap() };
        let until = |seconds| Resting {
            owner: 1000,
            until: Timestamp(seconds),
        };
        for (last, seconds) in [(3, 10), (1, 30), (2, 20)] {
            resting.insert(address(last), until(seconds));
        }
        resting.insert(address(3), until(40));
        let ends: Vec<_> = resting.of(1000).map(|(ip, _)| ip).collect();
        assert_eq!(ends, [address(2), address(1), address(3)]);
        resting.forget(Timestamp(20));
        assert_eq!(resting.get(address(2)), None);
        assert_eq!(resting.iter().count(), 2);
        resting.remove(address(1));
        let left: Vec<_> = resting.of(1000).collect();
        assert_eq!(left, [(address(3), until(40))]);
    }
}
