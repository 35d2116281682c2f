//! What a section says about a pool.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use crate::model::{AddressRange, Family, FloatingIp, Pool, PoolName};

use super::file::{self, Section};
use super::{ConfigError, keys};

/// A prefix with more addresses than this was meant otherwise; of IPv6 that is
/// any prefix of a link (/64), so it concerns IPv4 alone.
const SHORTEST_IPV4_PREFIX: u8 = 8;

/// The name in `[POOL name]`.
pub(super) fn name(section: &Section) -> Result<PoolName, ConfigError> {
    let name = section
        .name
        .split_once(char::is_whitespace)
        .map_or("", |(_, name)| name.trim());
    let wrong = |why: String| ConfigError::Value {
        path: Default::default(),
        section: section.name.clone(),
        key: "the name of the section".to_owned(),
        value: name.to_owned(),
        why,
    };
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
pub(super) fn pool(name: PoolName, section: &Section) -> Result<Pool, ConfigError> {
    let mut ranges = Vec::new();
    for item in section.list(keys::IP_POOL).unwrap_or_default() {
        ranges.push(range(item).map_err(|why| section.wrong(keys::IP_POOL, item, why))?);
    }
    if let Some(path) = section.text(keys::IP_POOL_FILE) {
        ranges.extend(from_file(section, Path::new(path))?);
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
    let routed = section.flag(keys::ROUTED)?.unwrap_or(false);
    Ok(Pool {
        name,
        ranges: AddressRange::merge(ranges),
        interface,
        routed,
    })
}

/// The original's file of addresses: `IP [MAC]` a line, `#` comments.
fn from_file(section: &Section, path: &Path) -> Result<Vec<AddressRange>, ConfigError> {
    let text = file::read(path).map_err(|error| {
        section.wrong(
            keys::IP_POOL_FILE,
            &path.to_string_lossy(),
            crate::chain(&error),
        )
    })?;
    let mut ranges = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let Some(address) = line.split_whitespace().next() else {
            continue;
        };
        let parsed = single(address).map_err(|why| ConfigError::Syntax {
            path: path.to_owned(),
            line: number + 1,
            why: format!("{address:?}: {why}"),
        })?;
        ranges.push(AddressRange::single(parsed));
    }
    Ok(ranges)
}

/// A single address, `FIRST-LAST`, or a prefix.
fn range(item: &str) -> Result<AddressRange, String> {
    if let Some((first, last)) = item.split_once('-') {
        let (first, last) = (single(first.trim())?, single(last.trim())?);
        return AddressRange::new(first, last).map_err(|error| error.to_string());
    }
    if item.contains('/') {
        return prefix(item);
    }
    single(item).map(AddressRange::single)
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
    if family == Family::V4 && net.prefix_len() < SHORTEST_IPV4_PREFIX {
        return Err("that is more than a /8".to_owned());
    }
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
    for end in [hosts.first(), hosts.last()] {
        FloatingIp::new(end).map_err(|error| error.to_string())?;
    }
    Ok(hosts)
}
