//! Which addresses are ours to answer for, as far as the neighbours were asked.

use std::collections::HashMap;

use crate::model::{FloatingIp, HardwareAddress};

use super::IfIndex;

/// What is known of the addresses that the neighbours are asked about. What is
/// not in it, nobody was asked about yet.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    ours: HashMap<FloatingIp, IfIndex>,
    contested: HashMap<FloatingIp, Contest>,
}

/// Another machine has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Contest {
    by: HardwareAddress,
    /// Whether somebody wants to know whether it is still so.
    asked: bool,
}

/// What is known of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Whether it is somebody else's is to be found out.
    Unknown,
    /// It is ours.
    Ours,
    /// It is somebody else's.
    Contested(HardwareAddress),
}

impl Claims {
    /// What is known of an address on an interface.
    #[must_use]
    pub fn of(&self, floating: FloatingIp, index: IfIndex) -> Claim {
        match self.contested.get(&floating) {
            Some(Contest { by, asked: false }) => Claim::Contested(*by),
            Some(Contest { asked: true, .. }) => Claim::Unknown,
            None if self.ours.get(&floating) == Some(&index) => Claim::Ours,
            None => Claim::Unknown,
        }
    }

    /// Whether nothing at all is to be done with an address: it was found to be
    /// somebody else's, and nothing better is known since.
    #[must_use]
    pub fn withhold(&self, floating: FloatingIp) -> bool {
        self.contested.contains_key(&floating)
    }

    /// It is ours on this interface. Says whether it was somebody else's.
    pub fn take(&mut self, floating: FloatingIp, index: IfIndex) -> bool {
        self.ours.insert(floating, index);
        self.contested.remove(&floating).is_some()
    }

    /// It is somebody else's. Says whether that is news to whoever asked.
    pub fn contest(&mut self, floating: FloatingIp, by: HardwareAddress) -> bool {
        self.ours.remove(&floating);
        let now = Contest { by, asked: false };
        self.contested.insert(floating, now) != Some(now)
    }

    /// Somebody wants to know whether it is still somebody else's. Says whether
    /// it was.
    pub fn ask_again(&mut self, floating: FloatingIp) -> bool {
        let contest = self.contested.get_mut(&floating);
        contest.map(|contest| contest.asked = true).is_some()
    }

    /// Nothing is known of it any more.
    pub fn forget(&mut self, floating: FloatingIp) {
        self.ours.remove(&floating);
        self.contested.remove(&floating);
    }

    /// Nothing is known any more of what does not hold.
    pub fn retain(&mut self, holds: impl Fn(FloatingIp) -> bool) {
        self.ours.retain(|floating, _| holds(*floating));
        self.contested.retain(|floating, _| holds(*floating));
    }

    /// The addresses that are somebody else's.
    pub fn contested(&self) -> impl Iterator<Item = (FloatingIp, HardwareAddress)> + '_ {
        self.contested
            .iter()
            .map(|(floating, contest)| (*floating, contest.by))
    }
}
