//! What goes through a floating IP: which way, how much, and how fast it may.

use std::fmt;

/// Which way packets go through the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From outside to the hosts.
    In,
    /// From the hosts to the outside.
    Out,
}

impl Direction {
    /// Both of them.
    pub const BOTH: [Direction; 2] = [Direction::In, Direction::Out];

    /// The word that sets, fields and options have in their names.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::In => "in",
            Direction::Out => "out",
        }
    }

    /// Where in an array of both this one is.
    #[must_use]
    pub fn place(self) -> usize {
        match self {
            Direction::In => 0,
            Direction::Out => 1,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How many packets, and their bytes from the IP header on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}
