//! Pools: the addresses that may be given out, and the interface they live on.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Announcing, Family, FloatingIp, HardwareAddress, Uplink};

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A pool name that is not `[A-Za-z0-9._-]{1,63}`.
    #[error("a pool name is 1 to 63 of the characters A-Z a-z 0-9 . _ -")]
    Pool,
    /// An interface name that Linux would not accept (`dev_valid_name`: at most
    /// 15 bytes, no `/`, `:` or white space), or that needs escaping in a log.
    #[error("an interface name is 1 to 15 printable characters without / : or white space")]
    Interface,
}

/// The name of a pool. Cheap to copy: an address keeps its pool's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PoolName(Arc<str>);

impl PoolName {
    /// The pool that the section `[IPFLOATER]` of the configuration describes.
    #[must_use]
    pub fn default_pool() -> Self {
        Self("default".into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PoolName {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if (1..=63).contains(&name.len()) && name.chars().all(allowed) {
            Ok(Self(name.into()))
        } else {
            Err(NameError::Pool)
        }
    }
}

impl TryFrom<String> for PoolName {
    type Error = NameError;
    fn try_from(name: String) -> Result<Self, NameError> {
        name.parse()
    }
}

impl From<PoolName> for String {
    fn from(name: PoolName) -> String {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a network interface.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(Arc<str>);

impl InterfaceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        // IFNAMSIZ is 16 with the terminating NUL (netdevice(7)).
        let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':');
        if (1..=15).contains(&name.len())
            && name.chars().all(allowed)
            && name != "."
            && name != ".."
        {
            Ok(Self(name.into()))
        } else {
            Err(NameError::Interface)
        }
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = NameError;
    fn try_from(name: String) -> Result<Self, NameError> {
        name.parse()
    }
}

impl From<InterfaceName> for String {
    fn from(name: InterfaceName) -> String {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why two addresses do not make a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// One end is IPv4, the other IPv6.
    #[error("its ends are of different families")]
    MixedFamilies,
    /// The first address comes after the last.
    #[error("its first address comes after its last")]
    Backwards,
}

/// Consecutive addresses of one family, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

impl AddressRange {
    /// The range from `first` to `last`, both included.
    pub fn new(first: IpAddr, last: IpAddr) -> Result<Self, RangeError> {
        if Family::of(first) != Family::of(last) {
            Err(RangeError::MixedFamilies)
        } else if first > last {
            Err(RangeError::Backwards)
        } else {
            Ok(Self { first, last })
        }
    }

    /// A range of one address.
    #[must_use]
    pub fn single(address: IpAddr) -> Self {
        Self {
            first: address,
            last: address,
        }
    }

    /// The lowest address.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The highest address.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// IPv4 or IPv6.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.first)
    }

    /// Whether the address lies in the range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.family() == Family::of(address) && self.first <= address && address <= self.last
    }

    /// Whether the ranges share an address.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.family() == other.family() && self.first <= other.last && other.first <= self.last
    }

    /// How many addresses there are; `u128::MAX` also stands for all of IPv6.
    #[must_use]
    pub fn len(&self) -> u128 {
        (number(self.last) - number(self.first)).saturating_add(1)
    }

    /// Never: a range has at least one address.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The address after this one, unless it was the last of the range.
    #[must_use]
    pub fn after(&self, address: IpAddr) -> Option<IpAddr> {
        (self.contains(address) && address < self.last).then(|| successor(address))
    }

    /// What is left of the range without an address: nothing, one or two.
    #[must_use]
    pub fn without(&self, address: IpAddr) -> Vec<Self> {
        if !self.contains(address) {
            return vec![*self];
        }
        let before = (self.first < address).then(|| Self {
            first: self.first,
            last: predecessor(address),
        });
        let behind = self.after(address).map(|next| Self {
            first: next,
            last: self.last,
        });
        before.into_iter().chain(behind).collect()
    }

    /// The parts of the range that none of these has, which are sorted and disjoint.
    #[must_use]
    pub fn outside_of(&self, others: &[Self]) -> Vec<Self> {
        let mut parts = Vec::new();
        let mut rest = Some(self.first);
        for other in others.iter().filter(|other| self.overlaps(other)) {
            parts.extend(rest.filter(|first| *first < other.first).map(|first| Self {
                first,
                last: predecessor(other.first),
            }));
            rest = self.after(other.last);
        }
        let last = self.last;
        parts.extend(rest.map(|first| Self { first, last }));
        parts
    }

    /// Sorts ranges and joins those that touch or overlap.
    #[must_use]
    pub fn merge(mut ranges: Vec<Self>) -> Vec<Self> {
        ranges.sort_unstable();
        let mut merged: Vec<Self> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last) if last.family() == range.family() && touches(last, &range) => {
                    last.last = last.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        merged
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

fn touches(earlier: &AddressRange, later: &AddressRange) -> bool {
    number(later.first) <= number(earlier.last).saturating_add(1)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The next address; the highest one is its own successor.
fn successor(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().saturating_add(1)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().saturating_add(1)).into(),
    }
}

/// The address before; the lowest one is its own predecessor.
fn predecessor(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().saturating_sub(1)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().saturating_sub(1)).into(),
    }
}

/// Addresses that may be given out, and the outside interface they live on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name, unique among the pools.
    pub name: PoolName,
    /// Its addresses: sorted, disjoint, not touching.
    pub ranges: Vec<AddressRange>,
    /// The outside interface; `None` means the one of the default route.
    pub interface: Option<InterfaceName>,
    /// The next hops on it for what leaves as one of the addresses, at most one
    /// of a family; none where the routes of the interface tell. Sorted.
    pub gateways: Vec<IpAddr>,
    /// Whether the provider routes the addresses to us, so that no neighbour
    /// asks for them and nothing is to be answered or announced.
    pub routed: bool,
    /// What the neighbours are asked and told, unless it is routed.
    pub announcing: Announcing,
    /// Which of the addresses goes with which hardware address, where the
    /// administrator noted it. The data path knows nothing of it.
    pub hardware_addresses: BTreeMap<HardwareAddress, FloatingIp>,
}

impl Pool {
    /// Whether the address belongs to the pool.
    #[must_use]
    pub fn contains(&self, floating: FloatingIp) -> bool {
        let address = floating.ip();
        let after = self.ranges.partition_point(|range| range.first <= address);
        after > 0 && self.ranges[after - 1].contains(address)
    }

    /// The uplink that it has.
    #[must_use]
    pub fn uplink(&self) -> Uplink {
        Uplink {
            interface: self.interface.clone(),
            gateways: self.gateways.clone(),
        }
    }

    /// How many addresses it has, as far as a `u64` counts.
    #[must_use]
    pub fn size(&self) -> u64 {
        let [v4, v6] = Family::BOTH.map(|family| self.size_of(family));
        v4.saturating_add(v6)
    }

    /// How many addresses of a family it has, as far as 64 bits tell.
    #[must_use]
    pub fn size_of(&self, family: Family) -> u64 {
        let ranges = self.ranges.iter();
        let total = ranges
            .filter(|range| range.family() == family)
            .fold(0_u128, |sum, range| sum.saturating_add(range.len()));
        u64::try_from(total).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: &str, last: &str) -> AddressRange {
        AddressRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
    }

    #[test]
    fn ranges_that_touch_or_overlap_become_one() {
        let merged = AddressRange::merge(vec![
            range("192.0.2.9", "192.0.2.12"),
            range("192.0.2.1", "192.0.2.4"),
            range("192.0.2.5", "192.0.2.6"),
            range("192.0.2.11", "192.0.2.20"),
            range("2001:db8::", "2001:db8::f"),
        ]);
        assert_eq!(
            merged,
            [
                range("192.0.2.1", "192.0.2.6"),
                range("192.0.2.9", "192.0.2.20"),
                range("2001:db8::", "2001:db8::f"),
            ]
        );
    }

    #[test]
    fn a_range_without_one_of_its_addresses_falls_apart() {
        let whole = range("192.0.2.1", "192.0.2.3");
        let without = |address: &str| whole.without(address.parse().unwrap());
        assert_eq!(without("192.0.2.1"), [range("192.0.2.2", "192.0.2.3")]);
        assert_eq!(
            without("192.0.2.2"),
            [
                range("192.0.2.1", "192.0.2.1"),
                range("192.0.2.3", "192.0.2.3")
            ]
        );
        assert_eq!(without("192.0.2.3"), [range("192.0.2.1", "192.0.2.2")]);
        assert_eq!(without("192.0.2.4"), [whole]);
        assert_eq!(range("::1", "::1").without("::1".parse().unwrap()), []);
    }

    #[test]
    fn what_other_ranges_leave_of_one_is_in_between_them() {
        let whole = range("192.0.2.4", "192.0.2.9");
        let outside = |others: &[(&str, &str)]| -> Vec<String> {
            let others = others.iter().map(|(first, last)| range(first, last));
            let left = whole.outside_of(&others.collect::<Vec<_>>());
            left.iter().map(ToString::to_string).collect()
        };
        assert_eq!(outside(&[]), ["192.0.2.4-192.0.2.9"]);
        assert_eq!(
            outside(&[("192.0.2.1", "192.0.2.3"), ("2001:db8::", "2001:db8::9")]),
            ["192.0.2.4-192.0.2.9"]
        );
        assert_eq!(
            outside(&[("192.0.2.1", "192.0.2.4"), ("192.0.2.6", "192.0.2.7")]),
            ["192.0.2.5", "192.0.2.8-192.0.2.9"]
        );
        assert_eq!(outside(&[("192.0.2.5", "192.0.2.9")]), ["192.0.2.4"]);
        assert_eq!(outside(&[("192.0.2.1", "192.0.2.20")]), [""; 0]);
    }

    #[test]
    fn a_range_of_all_of_ipv6_is_counted_without_overflow() {
        let all = range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        assert_eq!(all.len(), u128::MAX);
    }

    #[test]
    fn names_with_anything_to_escape_are_refused() {
        for name in ["", "a b", "a\nb", "a\u{1b}[0m", "$(x)", &"x".repeat(64)] {
            assert_eq!(name.parse::<PoolName>(), Err(NameError::Pool), "{name:?}");
        }
        for name in ["", "a b", "eth0:1", "a/b", "..", "sixteen-letters-"] {
            assert_eq!(
                name.parse::<InterfaceName>(),
                Err(NameError::Interface),
                "{name:?}"
            );
        }
    }
}
