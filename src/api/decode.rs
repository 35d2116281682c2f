//! From text to the model, and what both buses read from a snapshot.
//!
//! Form only: whether an address is in a pool, or free, is for the plan to
//! judge. The field names are those of `interfaces/`.

use std::net::IpAddr;
use std::ops::Bound;

use crate::control::Snapshot;
use crate::model::{FixedIp, FloatingIp, ParseAddressError, PoolName};
use crate::request::Refusal;
use crate::wire::{Address, Filter};

/// The most addresses or events that one reply holds: a thousand addresses are
/// about 150 kB of JSON.
pub const PAGE: usize = 1_000;

/// The states that a list can be filtered by. `free` is none: a pool of IPv6
/// has too many to list.
pub const STATES: [&str; 3] = ["allocated", "pending", "active"];

/// A field that holds a floating IP.
pub fn floating(field: &'static str, text: &str) -> Result<FloatingIp, Refusal> {
    text.parse()
        .map_err(|why| Refusal::invalid_address(field, text, why))
}

/// A field that holds the address of a host.
pub fn fixed(field: &'static str, text: &str) -> Result<FixedIp, Refusal> {
    text.parse()
        .map_err(|why| Refusal::invalid_address(field, text, why))
}

/// A field that holds a floating IP or the address of a host.
pub fn address(field: &'static str, text: &str) -> Result<IpAddr, Refusal> {
    floating(field, text).map(FloatingIp::ip)
}

/// A field that holds the name of a pool.
pub fn pool_name(field: &'static str, text: &str) -> Result<PoolName, Refusal> {
    text.parse().map_err(|why| invalid(field, why))
}

/// A field that holds how much is wanted at most: 1 to [`PAGE`], and that when
/// it is absent.
pub fn limit(field: &'static str, wanted: Option<i64>) -> Result<usize, Refusal> {
    match wanted.map(usize::try_from) {
        None => Ok(PAGE),
        Some(Ok(limit @ 1..=PAGE)) => Ok(limit),
        Some(_) => Err(invalid(field, format_args!("it is 1 to {PAGE}"))),
    }
}

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// At most so many addresses.
    pub limit: usize,
    /// Those after this one; from the first when absent.
    pub after: Option<FloatingIp>,
}

impl Page {
    /// A page by the fields `limit` and `after`.
    pub fn new(limit: Option<i64>, after: Option<&str>) -> Result<Self, Refusal> {
        Ok(Self {
            limit: self::limit("limit", limit)?,
            after: after.map(|text| floating("after", text)).transpose()?,
        })
    }
}

/// A filter by its fields, as text.
pub fn filter(
    pool: Option<&str>,
    state: Option<&str>,
    owner: Option<u32>,
    fixed_address: Option<&str>,
) -> Result<Filter, Refusal> {
    Ok(Filter {
        pool: pool.map(|text| pool_name("pool", text)).transpose()?,
        state: state.map(listable).transpose()?,
        owner,
        fixed_address: fixed_address
            .map(|text| fixed("fixed_address", text))
            .transpose()?,
    })
}

/// One page of the addresses that somebody has and that the filter admits, in
/// order, and the cursor of the next page when there is one.
#[must_use]
pub fn list(
    snapshot: &Snapshot,
    filter: &Filter,
    page: Page,
) -> (Vec<Address>, Option<FloatingIp>) {
    let Page { limit, after } = page;
    if let Some(host) = filter.fixed_address {
        // The index by host spares a walk through all allocations.
        let found = snapshot.state.floating_of(host);
        let found = found.filter(|floating| after.is_none_or(|after| *floating > after));
        let addresses = found.map(|floating| Address::new(snapshot, floating));
        return (
            addresses
                .filter(|address| filter.admits(address))
                .into_iter()
                .collect(),
            None,
        );
    }
    let mut admitted = snapshot
        .state
        .allocations_from(after.map_or(Bound::Unbounded, Bound::Excluded))
        .map(|(floating, allocation)| Address::with(snapshot, floating, Some(allocation)))
        .filter(|address| filter.admits(address));
    let addresses: Vec<_> = admitted.by_ref().take(limit).collect();
    let more = admitted.next().is_some();
    let next = addresses
        .last()
        .filter(|_| more)
        .map(|address| address.floating_ip);
    (addresses, next)
}

/// The floating IP that a question about the past means: the address itself, or
/// the one that the host of that address has now.
#[must_use]
pub fn subject_of_history(snapshot: &Snapshot, address: FloatingIp) -> FloatingIp {
    let known = |floating| is_floating(snapshot, floating);
    let host = FixedIp::new(address.ip()).ok();
    let of_host = host.and_then(|host| snapshot.state.floating_of(host));
    of_host.filter(|_| !known(address)).unwrap_or(address)
}

/// One address: a floating IP, free ones of a pool included, or the one that a
/// host has.
pub fn describe(snapshot: &Snapshot, address: IpAddr) -> Result<Address, Refusal> {
    let unusable = |why| {
        Refusal::invalid_address(
            "address",
            &address.to_string(),
            ParseAddressError::from(why),
        )
    };
    let floating = FloatingIp::new(address).map_err(unusable)?;
    let host = FixedIp::new(address).map_err(unusable)?;

    if is_floating(snapshot, floating) {
        Ok(Address::new(snapshot, floating))
    } else if let Some(floating) = snapshot.state.floating_of(host) {
        Ok(Address::new(snapshot, floating))
    } else if snapshot.site.is_private(address) {
        Err(Refusal::NotAssociated { address })
    } else {
        Err(Refusal::NotInPool {
            address,
            pool: None,
        })
    }
}

fn is_floating(snapshot: &Snapshot, floating: FloatingIp) -> bool {
    snapshot.state.allocation(floating).is_some() || snapshot.site.pool_of(floating).is_some()
}

fn listable(state: &str) -> Result<String, Refusal> {
    if STATES.contains(&state) {
        Ok(state.to_owned())
    } else if state == "free" {
        Err(invalid(
            "state",
            "free addresses are not listed, because a pool of IPv6 has too many; the pools say how many are left",
        ))
    } else {
        Err(invalid("state", "it is allocated, pending or active"))
    }
}

fn invalid(field: &str, why: impl ToString) -> Refusal {
    Refusal::InvalidArgument {
        field: field.to_owned(),
        why: why.to_string(),
    }
}
