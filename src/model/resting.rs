//! Released addresses that are not given to somebody else for a while.

use std::time::Duration;

use rpds::RedBlackTreeMapSync;

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
    by_end: RedBlackTreeMapSync<(Timestamp, FloatingIp), ()>,
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

    /// All of them, those whose rest is over first, first.
    pub fn in_order_of_end(&self) -> impl Iterator<Item = (FloatingIp, Resting)> + '_ {
        self.by_end
            .keys()
            .filter_map(|(_, floating)| Some((*floating, self.get(*floating)?)))
    }

    pub(super) fn insert(&mut self, floating: FloatingIp, resting: Resting) {
        self.remove(floating);
        self.by_address.insert_mut(floating, resting);
        self.by_end.insert_mut((resting.until, floating), ());
    }

    pub(super) fn remove(&mut self, floating: FloatingIp) {
        if let Some(resting) = self.get(floating) {
            self.by_address.remove_mut(&floating);
            self.by_end.remove_mut(&(resting.until, floating));
        }
    }

    /// Forgets those whose rest is over.
    pub(super) fn forget(&mut self, now: Timestamp) {
        while let Some((until, floating)) = self.by_end.keys().next().copied()
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
        let ends: Vec<_> = resting.in_order_of_end().map(|(ip, _)| ip).collect();
        assert_eq!(ends, [address(2), address(1), address(3)]);
        resting.forget(Timestamp(20));
        assert_eq!(resting.get(address(2)), None);
        assert_eq!(resting.iter().count(), 2);
        resting.remove(address(1));
        let left: Vec<_> = resting.in_order_of_end().collect();
        assert_eq!(left, [(address(3), until(40))]);
    }
}
