//! What a section says about a pool.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;

use crate::model::{AddressRange, Announcing, Family, FloatingIp, HardwareAddress, Pool, PoolName};

use super::file::{self, Place, Section};
use super::lines::quoted;
use super::{ConfigError, Warning, check, keys};

/// More IPv4 addresses than a /8 has were meant otherwise. Of IPv6, where one
/// link has 2^64, nothing can be told by the number.
const MOST_IPV4: u128 = 1 << 24;

/// For how long the neighbours are asked when nobody says otherwise: one that is
/// there answers within milliseconds, and an IPv6 one has a second
/// (RETRANS_TIMER, RFC 4861 10).
pub(super) const PROBE: Duration = Duration::from_secs(1);

/// The longest: with the pauses of RFC 5227 it takes 7 s at most.
const LONGEST_PROBE: u64 = 10;

/// The shortest and the longest period of announcing, in seconds. Switches forget
/// a port after 300 s without traffic (IEEE 802.1Q, ageing time); a day serves
/// nobody better than never.
const SHORTEST_REFRESH: u64 = 10;
const LONGEST_REFRESH: u64 = 86_400;

/// What no floating IP lies in, although a range may reach across it: the
/// blocks that [`FloatingIp`] refuses.
const UNUSABLE: [&str; 9] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/3",
    "::/128",
    "::1/128",
    "::ffff:0:0/96",
    "fe80::/10",
    "ff00::/8",
];

/// The name in `[POOL name]`.
pub(super) fn name(section: &Section) -> Result<PoolName, ConfigError> {
    let (_, name) = section.word_and_name();
    let wrong = |why: String| section.wrong("the name of the section", name, why);
    let parsed: PoolName = name
        .parse()
        .map_err(|error: crate::model::NameError| wrong(error.to_string()))?;
    if parsed == PoolName::default_pool() {
        return Err(wrong(
            "the section [IPFLOATER] describes the pool default; choose another name".into(),
        ));
    }
    Ok(parsed)
}

/// The pool that a section describes.
pub(super) fn pool(
    name: PoolName,
    section: &Section,
    warnings: &mut Vec<Warning>,
) -> Result<Pool, ConfigError> {
    let mut ranges = Vec::new();
    for item in section.list(keys::IP_POOL).unwrap_or_default() {
        ranges.push(range(item).map_err(|why| section.wrong(keys::IP_POOL, item, why))?);
    }
    let mut hardware_addresses = BTreeMap::new();
    if let Some(path) = section.text(keys::IP_POOL_FILE) {
        for (address, hardware_address) in from_file(section, Path::new(path), warnings)? {
            ranges.push(AddressRange::single(address.ip()));
            hardware_addresses.extend(hardware_address.map(|mac| (mac, address)));
        }
    }
    let interface = section
        .text(keys::OUTSIDE_INTERFACE)
        .map(|name| {
            let several = name.contains(',');
            let hint = "one interface a pool; a section [POOL name] describes another pool";
            name.parse().map_err(|error: crate::model::NameError| {
                let why = if several {
                    hint.to_owned()
                } else {
                    error.to_string()
                };
                section.wrong(keys::OUTSIDE_INTERFACE, name, why)
            })
        })
        .transpose()?;
    let gateways = gateways(section, interface.is_some())?;
    let routed = section.flag(keys::ROUTED)?.unwrap_or(false);
    let announcing = Announcing {
        probe: probe(section)?,
        refresh: refresh(section)?,
    };
    Ok(Pool {
        name,
        ranges: AddressRange::merge(ranges),
        interface,
        gateways,
        routed,
        announcing,
        hardware_addresses,
    })
}

/// The next hops of what leaves as an address of the pool: one of a family.
fn gateways(section: &Section, has_interface: bool) -> Result<Vec<IpAddr>, ConfigError> {
    let mut gateways: Vec<IpAddr> = Vec::new();
    for item in section.list(keys::GATEWAY).unwrap_or_default() {
        let wrong = |why: &str| section.wrong(keys::GATEWAY, item, why);
        let gateway: IpAddr = item
            .parse()
            .map_err(|_| wrong("write an address such as 203.0.113.1, or one of each family"))?;
        if !has_interface {
            return Err(wrong(
                "name the OUTSIDE_INTERFACE that it is reached by as well",
            ));
        }
        if gateway.is_unspecified() || gateway.is_multicast() || gateway.is_loopback() {
            return Err(wrong("no router has this address"));
        }
        if gateways
            .iter()
            .any(|other| Family::of(*other) == Family::of(gateway))
        {
            return Err(wrong("write one of a family"));
        }
        gateways.push(gateway);
    }
    gateways.sort_unstable();
    Ok(gateways)
}

/// For how long the neighbours are asked about an address: yes, no, or seconds.
fn probe(section: &Section) -> Result<Option<Duration>, ConfigError> {
    let Some(text) = section.text(keys::PROBE) else {
        return Ok(Some(PROBE));
    };
    match text.parse::<u64>() {
        Ok(0) => Ok(None),
        Ok(seconds) if seconds <= LONGEST_PROBE => Ok(Some(Duration::from_secs(seconds))),
        Ok(_) => {
            let why = format!("write yes, no, or 1 to {LONGEST_PROBE} seconds");
            Err(section.wrong(keys::PROBE, text, why))
        }
        Err(_) => match section.flag(keys::PROBE) {
            Ok(Some(false)) => Ok(None),
            Ok(Some(true) | None) => Ok(Some(PROBE)),
            Err(_) => {
                let why = format!("write yes, no, or 1 to {LONGEST_PROBE} seconds");
                Err(section.wrong(keys::PROBE, text, why))
            }
        },
    }
}

/// How often the addresses are announced, in seconds; never by 0.
fn refresh(section: &Section) -> Result<Option<Duration>, ConfigError> {
    let Some(text) = section.text(keys::ANNOUNCE_REFRESH) else {
        return Ok(None);
    };
    match text.parse::<u64>() {
        Ok(0) => Ok(None),
        Ok(seconds @ SHORTEST_REFRESH..=LONGEST_REFRESH) => Ok(Some(Duration::from_secs(seconds))),
        Ok(_) | Err(_) => {
            let why =
                format!("write {SHORTEST_REFRESH} to {LONGEST_REFRESH} seconds, or 0 for never");
            Err(section.wrong(keys::ANNOUNCE_REFRESH, text, why))
        }
    }
}

/// The original's file of addresses: `IP [MAC]` a line, `#` comments. It took
/// anything for a MAC, and its manual gave one to two addresses: what cannot be
/// used is passed over with a warning.
fn from_file(
    section: &Section,
    path: &Path,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<(FloatingIp, Option<HardwareAddress>)>, ConfigError> {
    let text = file::read(path).map_err(|error| {
        let why = match error {
            ConfigError::Missing(_) if path.is_relative() => {
                "there is no such file; write its whole path, which begins with /".to_owned()
            }
            ConfigError::Missing(_) => "there is no such file".to_owned(),
            error => crate::chain(&error),
        };
        section.wrong(keys::IP_POOL_FILE, &path.to_string_lossy(), why)
    })?;
    let mut addresses = Vec::new();
    let mut known = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(address) = words.next() else {
            continue;
        };
        let floating: FloatingIp = address.parse().map_err(|why| ConfigError::Syntax {
            path: path.to_owned(),
            line: number + 1,
            why: format!("{}: {why}", quoted(address)),
        })?;
        let mut pass_over = |word: &str, why: String| {
            warnings.push(Warning::HardwareAddress {
                place: Place {
                    path: path.into(),
                    line: Some(number + 1),
                },
                word: quoted(word),
                why,
            });
            None
        };
        let hardware_address = words.next().and_then(|word| {
            let mac = match word.parse::<HardwareAddress>() {
                Ok(mac) => mac,
                Err(why) => return pass_over(word, why.to_string()),
            };
            match known.entry(mac) {
                Entry::Vacant(entry) => {
                    entry.insert(floating);
                    Some(mac)
                }
                Entry::Occupied(entry) if *entry.get() == floating => None,
                Entry::Occupied(entry) => {
                    pass_over(word, format!("{} has it already", entry.get()))
                }
            }
        });
        addresses.push((floating, hardware_address));
    }
    Ok(addresses)
}

/// A single address, `FIRST-LAST`, or a prefix.
fn range(item: &str) -> Result<AddressRange, String> {
    if let Some((first, last)) = item.split_once('-') {
        let (first, last) = (first.trim(), last.trim());
        if !last.contains(['.', ':']) {
            return Err("write both ends of a range in full, FIRST-LAST".to_owned());
        }
        let range = AddressRange::new(single(first)?, single(last)?);
        return usable(range.map_err(|error| error.to_string())?);
    }
    if item.contains('/') {
        return usable(prefix(item)?);
    }
    single(item).map(AddressRange::single)
}

/// The range, if a pool can have all of it.
fn usable(range: AddressRange) -> Result<AddressRange, String> {
    for block in UNUSABLE {
        let block: IpNet = block.parse().expect("the block is a constant");
        if range.overlaps(&check::all_of(&block)) {
            let address = range.first().max(block.network());
            let why = FloatingIp::new(address).expect_err("the block is refused");
            return Err(format!("it contains {address}, and {why}"));
        }
    }
    if range.family() == Family::V4 && range.len() > MOST_IPV4 {
        return Err("it has more addresses than a /8".to_owned());
    }
    Ok(range)
}

fn single(text: &str) -> Result<IpAddr, String> {
    text.parse::<FloatingIp>()
        .map(FloatingIp::ip)
        .map_err(|error| error.to_string())
}

/// The addresses of a prefix that hosts can have: of IPv4 without the network's
/// and the broadcast address, of IPv6 without the anycast address of its
/// routers (RFC 4291 2.6.1). A /31, /32, /127 and /128 have no such.
fn prefix(item: &str) -> Result<AddressRange, String> {
    let net: IpNet = item.parse().map_err(|_| {
        "write an address, a range FIRST-LAST, or a prefix such as 203.0.113.8/29".to_owned()
    })?;
    if net.trunc() != net {
        return Err(format!(
            "it has host bits; write {} or a range FIRST-LAST",
            net.trunc()
        ));
    }
    let family = Family::of(net.addr());
    let mut hosts =
        AddressRange::new(net.network(), net.broadcast()).map_err(|error| error.to_string())?;
    if net.max_prefix_len() - net.prefix_len() >= 2 {
        let first = hosts
            .after(net.network())
            .expect("there are four addresses at least");
        let last = match (family, net) {
            (Family::V4, IpNet::V4(v4)) => v4.hosts().last().map_or(hosts.last(), IpAddr::V4),
            _ => hosts.last(),
        };
        hosts = AddressRange::new(first, last).map_err(|error| error.to_string())?;
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blocks_are_what_no_floating_ip_lies_in() {
        for block in UNUSABLE {
            let net: IpNet = block.parse().unwrap();
            for end in [net.network(), net.broadcast()] {
                assert!(FloatingIp::new(end).is_err(), "{end} of {block}");
            }
        }
        for text in [
            "0.1.2.3",
            "127.0.0.1",
            "169.254.1.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:192.0.2.1",
        ] {
            let range = AddressRange::single(text.parse().unwrap());
            assert!(usable(range).is_err(), "{text}");
        }
    }
}
