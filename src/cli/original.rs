//! The original's verbs, in its words.
//!
//! Scripts read what these print: the lines are those of the original.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::output::{Output, or_dash, size as size_of};
use super::terms::Terms;
use super::verbs::{all, changed};
use super::{Failure, text, wait};
use crate::client::{Answer, Client, ClientError, Refused};
use crate::model::{AddressRange, FloatingIp, HardwareAddress};
use crate::wire::{Address, Changed, ForwardInfo, PoolInfo, Pools, Version};

/// As many addresses of a pool are written out; larger ranges stay ranges.
const WRITTEN_OUT: u128 = 65_536;

pub(super) fn getip(
    connect: impl FnOnce() -> Result<Client, ClientError>,
    output: &mut Output<'_>,
    private: &str,
    terms: Terms,
) -> Result<(), Failure> {
    obtain(
        connect,
        output,
        terms.with(json!({"fixed_address": private})),
    )
}

/// `getip` and `redirect`, by what they ask for.
pub(super) fn obtain(
    connect: impl FnOnce() -> Result<Client, ClientError>,
    output: &mut Output<'_>,
    parameters: Value,
) -> Result<(), Failure> {
    let answer = connect()
        .and_then(|mut client| wait::call(&mut client, output, "Associate", parameters))
        .map_err(|error| told(error, Failure::NoRedirection))?;
    changed(output, &answer, |message: &Changed| {
        format!("Public IP obtained: {}", redirection(&message.address))
    })
}

/// Gives an address back, and of a host, as the original did, the ports as well
/// that other addresses lead to it.
pub(super) fn releaseip(
    connect: impl Fn() -> Result<Client, ClientError>,
    output: &mut Output<'_>,
    address: &str,
    terms: Terms,
) -> Result<(), Failure> {
    let mut client = connect().map_err(Failure::NoContact)?;
    let released = client.call("Release", terms.with(json!({"address": address})));
    let (floating, without) = match released {
        Ok(answer) => {
            changed(output, &answer, |message: &Changed| {
                let floating = message.address.floating_ip;
                format!("Released the redirection from IP {floating}")
            })?;
            (Some(answer.message.address.floating_ip), None)
        }
        Err(ClientError::Refused(why)) if why.name == "NotAssociated" => (None, Some(why)),
        Err(error) => return Err(told(error, |why| not_released(address, why))),
    };
    let mut forwards = match all(connect()?, json!({"fixed_address": address})) {
        Ok((addresses, _)) => to_host(&addresses, address),
        // Who may release an address need not see others.
        Err(_) if without.is_none() => Vec::new(),
        Err(error) => return Err(error),
    };
    // Its own went with it; a dry run shows them still.
    forwards.retain(|(other, _)| Some(*other) != floating);
    if let Some(why) = without.filter(|_| forwards.is_empty()) {
        return Err(not_released(address, why));
    }
    for (
        floating,
        ForwardInfo {
            protocol, ports, ..
        },
    ) in forwards
    {
        let forward = json!({"floating_ip": floating, "protocol": protocol, "ports": ports});
        let answer = client
            .call("Unforward", terms.with(forward))
            .map_err(|error| told(error, |why| not_released(address, why)))?;
        changed(output, &answer, |_| {
            format!("Released the redirection from IP {floating}:{ports}/{protocol}")
        })?;
    }
    Ok(())
}

fn not_released(address: &str, why: Refused) -> Failure {
    Failure::NotReleased {
        address: address.to_owned(),
        why,
    }
}

/// The forwards to a host, and the floating IP of each.
fn to_host(addresses: &[Address], host: &str) -> Vec<(FloatingIp, ForwardInfo)> {
    let host: Option<IpAddr> = host.parse().ok();
    let of = |address: &Address| {
        let forwards = address.forwards.iter();
        let lead_there = forwards.filter(|forward| Some(forward.fixed_address.ip()) == host);
        let floating = address.floating_ip;
        lead_there
            .map(|forward| (floating, forward.clone()))
            .collect::<Vec<_>>()
    };
    addresses.iter().flat_map(of).collect()
}

pub(super) fn version(
    connect: impl FnOnce() -> Result<Client, ClientError>,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let ours = env!("CARGO_PKG_VERSION");
    if !output.json {
        output.line(&format!("Client version: {ours}"))?;
    }
    let mut answer: Answer<Version> = connect()
        .and_then(|mut client| client.call("GetVersion", Value::Null))
        .map_err(Failure::NoVersion)?;
    if output.json {
        answer.json["client_version"] = ours.into();
        return Ok(output.json(&answer.json)?);
    }
    Ok(output.line(&format!("Server version: {}", answer.message.version))?)
}

pub(super) fn ippool(
    connect: impl FnOnce() -> Result<Client, ClientError>,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let answer: Answer<Pools> = connect()
        .and_then(|mut client| client.call("ListPools", Value::Null))
        .map_err(no_contact)?;
    if output.json {
        return Ok(output.json(&answer.json)?);
    }
    let pools = answer.message.pools;
    output.heading("IP Pool:")?;
    let ranges = pools.iter().flat_map(|pool| &pool.addresses);
    let addresses: Vec<_> = ranges.flat_map(|range| written_out(range)).collect();
    output.items(&addresses)?;
    if pools.len() > 1 && output.legend {
        output.line("")?;
        table(output, &pools)?;
    }
    Ok(())
}

fn table(output: &mut Output<'_>, pools: &[PoolInfo]) -> Result<(), Failure> {
    let row = |pool: &PoolInfo| {
        [
            pool.name.to_string(),
            or_dash(pool.interface.as_ref()),
            if pool.routed { "yes" } else { "no" }.to_owned(),
            size_of(pool.size),
            pool.allocated.to_string(),
            pool.associated.to_string(),
        ]
    };
    let headings = [
        "POOL",
        "INTERFACE",
        "ROUTED",
        "SIZE",
        "ALLOCATED",
        "ASSOCIATED",
    ];
    Ok(output.table(headings, 6, pools.iter().map(row))?)
}

pub(super) fn arp(
    connect: impl FnOnce() -> Result<Client, ClientError>,
    output: &mut Output<'_>,
    text: &str,
) -> Result<(), Failure> {
    let mac: HardwareAddress = text.parse().map_err(|why| Failure::NoHardwareAddress {
        text: text.to_owned(),
        why,
    })?;
    let answer: Answer<Pools> = connect()
        .and_then(|mut client| client.call("ListPools", Value::Null))
        .map_err(no_contact)?;
    let name = mac.to_string();
    let mut pools = answer.message.pools.iter();
    let floating = pools
        .find_map(|pool| pool.hardware_addresses.get(&name))
        .ok_or(Failure::NoAddressFor(mac))?;
    if output.json {
        let found = json!({"hardware_address": name, "floating_ip": floating});
        return Ok(output.json(&found)?);
    }
    Ok(output.line(&floating.to_string())?)
}

/// The addresses of a range one by one, because the original knew no ranges.
fn written_out(text: &str) -> Vec<String> {
    let as_range = || {
        let (first, last) = text.split_once('-')?;
        AddressRange::new(first.parse().ok()?, last.parse().ok()?).ok()
    };
    match as_range() {
        Some(range) if range.len() <= WRITTEN_OUT => {
            let next = |address: &IpAddr| range.after(*address);
            std::iter::successors(Some(range.first()), next)
                .map(|address| address.to_string())
                .collect()
        }
        _ => vec![text.to_owned()],
    }
}

pub(super) fn redirection(address: &Address) -> String {
    let fixed = or_dash(address.fixed_address);
    format!("{} -> {}", address.floating_ip, text::harmless(&fixed))
}

/// A refusal as it is; everything else is that nobody answered.
fn no_contact(error: ClientError) -> Failure {
    match error {
        ClientError::Refused(_) => error.into(),
        other => Failure::NoContact(other),
    }
}

/// A refusal in the words of the verb; everything else is that nobody answered.
fn told(error: ClientError, words: impl FnOnce(Refused) -> Failure) -> Failure {
    match error {
        ClientError::Refused(refused) => words(refused),
        other => Failure::NoContact(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_written_out_unless_it_is_huge() {
        for (range, addresses) in [
            ("192.0.2.9", vec!["192.0.2.9"]),
            (
                "192.0.2.9-192.0.2.11",
                vec!["192.0.2.9", "192.0.2.10", "192.0.2.11"],
            ),
            (
                "2001:db8::-2001:db8::ffff:0",
                vec!["2001:db8::-2001:db8::ffff:0"],
            ),
            ("what is this", vec!["what is this"]),
        ] {
            assert_eq!(written_out(range), addresses, "{range}");
        }
    }
}
