//! The verb `status`: how the router is, and who has what.
//!
//! Rows begin with the original's words, `A -> B`, which scripts look for; what is
//! new follows in columns of its own.

use std::collections::HashMap;

use serde_json::Value;

use super::Failure;
use super::counters;
use super::forward::with_brackets;
use super::original::redirection;
use super::output::{Output, or_dash, state};
use super::text::{age, bytes, moment, now, user};
use super::verbs::all;
use crate::client::{Answer, Client, ClientError};
use crate::model::{Family, FloatingIp, Protocol};
use crate::wire::{Address, Counters, ForwardInfo, PoolInfo, Pools, Status};

pub(super) fn status(
    connect: impl FnOnce() -> Result<Client, ClientError>,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let mut client = connect().map_err(Failure::NoContact)?;
    let mut answer: Answer<Status> = client.call("GetStatus", Value::Null)?;
    let has_health = output.legend && !output.json;
    let pools = match has_health {
        true => {
            client
                .call::<Pools>("ListPools", Value::Null)?
                .message
                .pools
        }
        false => Vec::new(),
    };
    // Refused where packets are not counted.
    let (counted, counters) = match counters::all(&mut client, None) {
        Err(Failure::Client(ClientError::Refused(_))) => Default::default(),
        all => all?,
    };
    let (addresses, in_json) = all(client, Value::Null)?;
    if output.json {
        answer.json["addresses"] = in_json.into();
        answer.json["counters"] = counters.into();
        return Ok(output.json(&answer.json)?);
    }
    if has_health {
        health(output, &answer.message, &pools, &addresses)?;
    }
    output.heading("Table of redirections:")?;
    table(output, &addresses, &counted)
}

fn health(
    output: &mut Output<'_>,
    status: &Status,
    pools: &[PoolInfo],
    addresses: &[Address],
) -> Result<(), Failure> {
    let Status {
        state,
        version,
        associated,
        pending,
        problems,
        warnings,
        simulated,
        ..
    } = status;
    let simulated = if *simulated { ", simulated" } else { "" };
    let allocated = allocated(pools, addresses);
    let mut counts = vec![
        format!("ipfloaterd {version} is {state}{simulated}: {allocated}"),
        format!("{associated} associated"),
    ];
    let count = |is: fn(&&Address) -> bool| addresses.iter().filter(is).count();
    let some = [
        (
            count(|address| address.fixed_address.is_none() && !address.forwards.is_empty()),
            "with port forwards only",
        ),
        (count(|address| address.orphaned), "in no pool"),
        (usize::try_from(*pending).unwrap_or(usize::MAX), "pending"),
        (
            count(|address| address.unconfirmed_until.is_some()),
            "unconfirmed",
        ),
    ];
    let some = some.into_iter().filter(|(count, _)| *count > 0);
    counts.extend(some.map(|(count, what)| format!("{count} {what}")));
    output.items(&counts)?;
    for problem in problems {
        output.sentence("  ", &format!("problem: {problem}"))?;
    }
    if problems.is_empty() && state == "degraded" {
        output.sentence(
            "  ",
            "problem: addresses are pending; WHY they are stands below",
        )?;
    }
    for warning in warnings {
        output.sentence("  ", &format!("warning: {warning}"))?;
    }
    Ok(output.line("")?)
}

/// How many addresses are allocated, of each family that there is: `4 of 10
/// addresses`, or `4 of 10 IPv4 and 2 IPv6 addresses` of countless ones.
fn allocated(pools: &[PoolInfo], addresses: &[Address]) -> String {
    let of_family = |family: Family| {
        let ranges = pools.iter().flat_map(PoolInfo::ranges);
        let size = ranges
            .filter(|range| range.family() == family)
            .fold(0_u128, |sum, range| sum.saturating_add(range.len()));
        let taken = addresses
            .iter()
            .filter(|address| address.floating_ip.family() == family)
            .filter(|address| address.state != "free" && !address.orphaned)
            .count();
        (family, size, taken)
    };
    let families: Vec<_> = Family::BOTH
        .map(of_family)
        .into_iter()
        .filter(|(_, size, taken)| *size > 0 || *taken > 0)
        .collect();
    let said = families.iter().map(|(family, size, taken)| {
        let of = match u64::try_from(*size).ok().filter(|size| *size < COUNTLESS) {
            Some(size) => format!("{taken} of {size}"),
            None => taken.to_string(),
        };
        match families.len() {
            1 => of,
            _ => format!("{of} {family}"),
        }
    });
    let said: Vec<_> = said.collect();
    format!("{} addresses allocated", said.join(" and "))
}

/// From so many addresses on nobody wants to know how many there are.
const COUNTLESS: u64 = 1 << 32;

fn table(
    output: &mut Output<'_>,
    addresses: &[Address],
    counted: &[Counters],
) -> Result<(), Failure> {
    let counted: HashMap<FloatingIp, &Counters> =
        counted.iter().map(|of| (of.floating_ip, of)).collect();
    let now = now();
    let rows: Vec<_> = addresses
        .iter()
        .filter(|address| address.state != "free")
        .flat_map(|address| {
            let count = counted.get(&address.floating_ip).copied();
            rows(address, count, now)
        })
        .collect();
    let headings = ["REDIRECTION", "STATE", "IN", "OUT", "OWNER", "AGE"];
    if rows.iter().all(|(_, why)| why == NOTHING) {
        let rows = rows.into_iter().map(|(columns, _)| columns);
        return Ok(output.table(headings, headings.len(), rows)?);
    }
    let rows = rows
        .into_iter()
        .map(|([a, b, c, d, e, f], why)| [a, b, c, d, e, f, why]);
    let [a, b, c, d, e, f] = headings;
    Ok(output.table([a, b, c, d, e, f, "WHY"], headings.len(), rows)?)
}

/// What stands in a cell with nothing in it, so that each line of a pipe has as
/// many words.
const NOTHING: &str = "-";

/// Why an address is pending, and what will become of it by itself.
fn why(address: &Address) -> String {
    let end = address.association_expires_at.or(address.expires_at);
    let said = [
        address.reason.clone(),
        address
            .unconfirmed_until
            .map(|until| format!("undone at {} unless confirmed", moment(until))),
        end.map(|end| format!("ends at {}", moment(end))),
    ];
    let said: Vec<_> = said.into_iter().flatten().collect();
    match said.is_empty() {
        true => NOTHING.to_owned(),
        false => said.join("; "),
    }
}

/// The rows of an address: one for its host and one for each forward. What is of
/// the address as a whole stands in the first of them.
fn rows(address: &Address, counted: Option<&Counters>, now: i64) -> Vec<([String; 6], String)> {
    let ports = address.forwards.iter();
    let ports = ports.map(|forward| redirected_ports(address, forward));
    let host = match (address.fixed_address, address.forwards.is_empty()) {
        (Some(_), _) => Some(redirection(address)),
        (None, true) => Some(address.floating_ip.to_string()),
        (None, false) => None,
    };
    let count = |of: fn(&Counters) -> u64| or_dash(counted.map(|counted| bytes(of(counted))));
    let since = address.associated_at.or(address.allocated_at);
    let mut whole = Some((
        [
            count(|counted| counted.bytes_in),
            count(|counted| counted.bytes_out),
            or_dash(address.owner.map(user)),
            or_dash(since.map(|since| age(since, now))),
        ],
        why(address),
    ));
    host.into_iter()
        .chain(ports)
        .map(|what| {
            let nothing = || NOTHING.to_owned();
            let ([bytes_in, bytes_out, owner, age], why) = whole
                .take()
                .unwrap_or_else(|| (std::array::from_fn(|_| nothing()), nothing()));
            let columns = [what, state(address), bytes_in, bytes_out, owner, age];
            (columns, why)
        })
        .collect()
}

/// `PUBLIC:PORT -> PRIVATE:PORT`, as the original knew it; what it did not know
/// says so: a protocol other than TCP behind the port, a range as FIRST-LAST.
fn redirected_ports(address: &Address, forward: &ForwardInfo) -> String {
    let ForwardInfo {
        protocol,
        ports,
        fixed_address,
        fixed_port,
        outbound: _,
    } = forward;
    let floating = with_brackets(&address.floating_ip.to_string());
    let fixed = with_brackets(&fixed_address.to_string());
    let protocol = match protocol {
        Protocol::Tcp => String::new(),
        Protocol::Udp | Protocol::Sctp => format!("/{protocol}"),
    };
    // The others of a range follow the first one.
    let further = ports.split_once('-').and_then(|(first, last)| {
        let first: u16 = first.parse().ok()?;
        last.parse::<u16>().ok()?.checked_sub(first)
    });
    let to = match further {
        Some(further) => format!(
            "{fixed_port}-{}",
            fixed_port.number().saturating_add(further)
        ),
        None => fixed_port.to_string(),
    };
    format!("{floating}:{ports}{protocol} -> {fixed}:{to}")
}
