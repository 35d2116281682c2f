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
use super::output::{Output, or_dash, size as size_of, state};
use super::text::{age, now, short, user};
use super::verbs::all;
use crate::client::{Answer, Client, ClientError};
use crate::model::{FloatingIp, Protocol};
use crate::wire::{Address, Counters, ForwardInfo, Status};

pub(super) fn status(
    connect: impl FnOnce() -> Result<Client, ClientError>,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let mut client = connect().map_err(Failure::NoContact)?;
    let mut answer: Answer<Status> = client.call("GetStatus", Value::Null)?;
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
    if output.legend {
        health(output, &answer.message)?;
    }
    output.heading("Table of redirections:")?;
    table(output, &addresses, &counted)
}

fn health(output: &mut Output<'_>, status: &Status) -> Result<(), Failure> {
    let Status {
        state,
        version,
        size,
        allocated,
        associated,
        pending,
        problems,
        warnings,
        simulated,
        ..
    } = status;
    let size = size_of(*size);
    let simulated = if *simulated { ", simulated" } else { "" };
    let mut counts = vec![
        format!(
            "ipfloaterd {version} is {state}{simulated}: {allocated} of {size} addresses allocated"
        ),
        format!("{associated} associated"),
    ];
    if *pending > 0 {
        counts.push(format!("{pending} pending"));
    }
    output.items(&counts)?;
    for problem in problems {
        output.line(&format!("  problem: {problem}"))?;
    }
    for warning in warnings {
        output.line(&format!("  warning: {warning}"))?;
    }
    Ok(output.line("")?)
}

fn table(
    output: &mut Output<'_>,
    addresses: &[Address],
    counted: &[Counters],
) -> Result<(), Failure> {
    let counted: HashMap<FloatingIp, &Counters> =
        counted.iter().map(|of| (of.floating_ip, of)).collect();
    let now = now();
    let rows = addresses
        .iter()
        .filter(|address| address.state != "free")
        .flat_map(|address| {
            let count = counted.get(&address.floating_ip).copied();
            rows(address, count, now)
        });
    let headings = ["REDIRECTION", "STATE", "IN", "OUT", "OWNER", "AGE"];
    if addresses.iter().all(|address| address.reason.is_none()) {
        let rows = rows.map(|(columns, _)| columns);
        return Ok(output.table(headings, headings.len(), rows)?);
    }
    let rows = rows.map(|([a, b, c, d, e, f], why)| [a, b, c, d, e, f, why]);
    let [a, b, c, d, e, f] = headings;
    Ok(output.table([a, b, c, d, e, f, "WHY"], headings.len(), rows)?)
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
    let bytes = |of: fn(&Counters) -> u64| {
        // Nobody has that many that a digit of it would be lost in the text.
        or_dash(counted.map(|counted| format!("{}B", short(of(counted) as f64))))
    };
    let since = address.associated_at.or(address.allocated_at);
    let mut whole = Some((
        [
            bytes(|counted| counted.bytes_in),
            bytes(|counted| counted.bytes_out),
            or_dash(address.owner.map(user)),
            or_dash(since.map(|since| age(since, now))),
        ],
        address.reason.clone().unwrap_or_default(),
    ));
    host.into_iter()
        .chain(ports)
        .map(|what| {
            let ([bytes_in, bytes_out, owner, age], why) = whole.take().unwrap_or_default();
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
