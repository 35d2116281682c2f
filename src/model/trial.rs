//! Changes that are undone unless somebody confirms them.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Allocation, Forward, Forwards, Outbound, Timestamp};

/// That the last change of an address is undone unless it is confirmed in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// What the addresses of one change have in common, and no others: they are
    /// confirmed or undone together.
    pub number: u64,
    /// Since when.
    pub since: Timestamp,
    /// Until when it can be confirmed.
    pub until: Timestamp,
    /// What the address gets back; `None` when it was free.
    pub former: Option<Allocation>,
}

impl Trial {
    /// The same, so many seconds later.
    #[must_use]
    pub fn later_by(mut self, seconds: i64) -> Self {
        self.since = self.since.later_by(seconds);
        self.until = self.until.later_by(seconds);
        self.former = self.former.map(|former| former.ending_later_by(seconds));
        self
    }

    /// Whose the address was.
    #[must_use]
    pub fn former_owner(&self) -> Option<super::Uid> {
        self.former.as_ref().map(|former| former.owner)
    }

    /// Whether the host gets something back: the address, or to leave as it.
    #[must_use]
    pub fn awaits(&self, fixed: super::FixedIp) -> bool {
        let Some(former) = &self.former else {
            return false;
        };
        let leaves = |forward: &Forward| {
            forward.fixed() == fixed && forward.outbound() == Outbound::Floating
        };
        let tied = former.association.is_some_and(|tie| tie.fixed == fixed);
        tied || former.forwards.iter().any(leaves)
    }
}

/// As people read them.
impl Serialize for Forwards {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Forward::to_string))
    }
}

impl<'de> Deserialize<'de> for Forwards {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut forwards = Forwards::default();
        for text in Vec::<String>::deserialize(deserializer)? {
            let forward: Forward = text.parse().map_err(D::Error::custom)?;
            let (protocol, ports) = (forward.protocol(), forward.ports());
            if forwards.clash(protocol, ports).is_some() {
                return Err(D::Error::custom("two forwards of the same ports"));
            }
            forwards = forwards.with(forward);
        }
        Ok(forwards)
    }
}
