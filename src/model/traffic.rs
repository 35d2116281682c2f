//! What goes through a floating IP: which way, how much, and how fast it may.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Family;

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

/// How fast packets may go: bits a second, of everything from the IP header on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Rate(u64);

/// Why a rate is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a rate is {} to {} bits a second, or such a number with k, M or G",
    Rate::LOWEST,
    Rate::HIGHEST
)]
pub struct RateError;

impl Rate {
    /// Less is not a rate but a closed door: a single packet takes a second and
    /// a half.
    pub const LOWEST: u64 = 8_000;

    /// The kernel reckons in nanoseconds of 64 bits, which overflow at 147
    /// Gbit/s (`nft_limit_init`).
    pub const HIGHEST: u64 = 100_000_000_000;

    /// A rate in bits a second. The kernel takes whole bytes, so the bits beyond
    /// them are left out.
    pub fn new(bits: u64) -> Result<Self, RateError> {
        if (Self::LOWEST..=Self::HIGHEST).contains(&bits) {
            Ok(Self(bits - bits % 8))
        } else {
            Err(RateError)
        }
    }

    /// Bits a second.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for Rate {
    type Error = RateError;
    fn try_from(bits: u64) -> Result<Self, RateError> {
        Self::new(bits)
    }
}

impl From<Rate> for u64 {
    fn from(rate: Rate) -> u64 {
        rate.bits()
    }
}

/// The letters of decimal multiples.
const MULTIPLES: [(char, u64); 3] = [('G', 1_000_000_000), ('M', 1_000_000), ('k', 1_000)];

impl FromStr for Rate {
    type Err = RateError;
    fn from_str(text: &str) -> Result<Self, RateError> {
        let multiple = |(letter, multiple): (char, u64)| {
            let number =
                text.strip_suffix([letter.to_ascii_lowercase(), letter.to_ascii_uppercase()])?;
            Some((number, multiple))
        };
        let (number, multiple) = MULTIPLES
            .into_iter()
            .find_map(multiple)
            .unwrap_or((text, 1));
        // "+5" is a number to Rust.
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(RateError);
        }
        let number: u64 = number.parse().map_err(|_| RateError)?;
        Self::new(number.checked_mul(multiple).ok_or(RateError)?)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = MULTIPLES
            .into_iter()
            .find(|(_, multiple)| self.0.is_multiple_of(*multiple));
        match whole {
            Some((letter, multiple)) => write!(f, "{}{letter}", self.0 / multiple),
            None => self.0.fmt(f),
        }
    }
}

/// Who may reach a floating IP from outside: everybody, or these prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Sources(Vec<IpNet>);

/// So many prefixes may a floating IP be reached from.
pub const MOST_SOURCES: usize = 64;

/// Why sources are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourcesError {
    /// It is no prefix.
    #[error("{0:?} is no prefix, such as 192.0.2.0/24 or 2001:db8::/32")]
    NoPrefix(String),
    /// There are too many.
    #[error("at most {MOST_SOURCES} prefixes may reach an address")]
    TooMany,
}

impl Sources {
    /// These prefixes; none are everybody. What lies in another one is left out,
    /// and bits behind a prefix are cleared.
    pub fn new(prefixes: impl IntoIterator<Item = IpNet>) -> Result<Self, SourcesError> {
        // The shortest of those that begin alike comes first.
        let mut sorted: Vec<_> = prefixes.into_iter().map(|net| net.trunc()).collect();
        sorted.sort();
        let mut prefixes: Vec<IpNet> = Vec::new();
        for net in sorted {
            if !prefixes.last().is_some_and(|last| last.contains(&net)) {
                prefixes.push(net);
            }
        }
        if prefixes.len() > MOST_SOURCES {
            return Err(SourcesError::TooMany);
        }
        Ok(Self(prefixes))
    }

    /// Whether everybody is one.
    #[must_use]
    pub fn is_everybody(&self) -> bool {
        self.0.is_empty()
    }

    /// The prefixes, in order and apart from each other.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = IpNet> + '_ {
        self.0.iter().copied()
    }

    /// A prefix that is of another family.
    #[must_use]
    pub fn stranger(&self, family: Family) -> Option<IpNet> {
        self.iter().find(|net| Family::of(net.addr()) != family)
    }

    /// Whether an address is among them.
    #[must_use]
    pub fn allow(&self, address: IpAddr) -> bool {
        self.is_everybody() || self.0.iter().any(|net| net.contains(&address))
    }
}

impl TryFrom<Vec<String>> for Sources {
    type Error = SourcesError;
    fn try_from(texts: Vec<String>) -> Result<Self, SourcesError> {
        let prefix = |text: &String| {
            let net = text.parse::<IpNet>().ok();
            // An address alone is a prefix of one.
            net.or_else(|| Some(text.parse::<IpAddr>().ok()?.into()))
                .ok_or_else(|| SourcesError::NoPrefix(text.clone()))
        };
        Self::new(texts.iter().map(prefix).collect::<Result<Vec<_>, _>>()?)
    }
}

impl From<Sources> for Vec<String> {
    fn from(sources: Sources) -> Vec<String> {
        sources.iter().map(|net| net.to_string()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_written_as_people_write_it() {
        for (text, bits, printed) in [
            ("10M", 10_000_000, "10M"),
            ("100m", 100_000_000, "100M"),
            ("1G", 1_000_000_000, "1G"),
            ("64k", 64_000, "64k"),
            ("1500000", 1_500_000, "1500k"),
            ("8001", 8_000, "8k"),
            ("9999", 9_992, "9992"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.bits(), rate.to_string().as_str()), (bits, printed));
        }
        for wrong in [
            "",
            "0",
            "M",
            "-1M",
            "+1M",
            "1.5M",
            "7k",
            "101G",
            "1T",
            "99999999999999999999G",
        ] {
            assert_eq!(wrong.parse::<Rate>(), Err(RateError), "{wrong}");
        }
    }

    #[test]
    fn sources_are_apart_from_each_other() {
        let sources = |text: &str| {
            let nets = text
                .split_whitespace()
                .map(|net| net.parse::<IpNet>().unwrap());
            Sources::new(nets).unwrap()
        };
        assert_eq!(
            sources("192.0.2.9/24 192.0.2.128/25 192.0.2.0/24 10.0.0.0/8"),
            sources("10.0.0.0/8 192.0.2.0/24")
        );
        assert_eq!(
            sources("0.0.0.0/0 ::/0 2001:db8::/32 10.0.0.0/8"),
            sources("::/0 0.0.0.0/0")
        );
        let some = sources("192.0.2.0/24 198.51.100.7/32");
        assert!(some.allow("192.0.2.255".parse().unwrap()));
        assert!(!some.allow("198.51.100.8".parse().unwrap()));
        assert!(!some.allow("2001:db8::1".parse().unwrap()));
        assert!(Sources::default().allow("2001:db8::1".parse().unwrap()));
        let many = (0..65_u8).map(|number| format!("10.{number}.0.0/16").parse().unwrap());
        assert_eq!(Sources::new(many), Err(SourcesError::TooMany));
    }
}
