//! The verbs of the interface.

use serde_json::{Value, json};

use super::Failure;
use super::counters;
use super::forward::words;
use super::output::{Output, or_dash, state};
use super::set;
use super::terms::forecast;
use super::text::{bytes, moment, user};
use super::wait;
use crate::client::{Answer, Client, ClientError};
use crate::wire::{
    Address, Changed, Described, EventInfo, Events, Listed, Permission, Permissions, Reloaded,
    Settled,
};

/// How long one page of a list may take.
const PAGE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

pub(super) fn allocate(
    mut client: Client,
    output: &mut Output<'_>,
    parameters: Value,
) -> Result<(), Failure> {
    let answer: Answer<Changed> = client.call("Allocate", parameters)?;
    changed(output, &answer, |message| {
        let address = &message.address;
        match message.changed {
            true => taken(address),
            false => format!("{} is allocated already", address.floating_ip),
        }
    })?;
    if !output.json && !answer.message.dry_run {
        for address in answer.message.addresses.iter().skip(1) {
            output.line(&taken(address))?;
        }
    }
    Ok(())
}

fn taken(address: &Address) -> String {
    let pool = or_dash(address.pool.as_ref());
    let until = until(address.expires_at);
    format!("Allocated {} from pool {pool}{until}", address.floating_ip)
}

pub(super) fn associate(
    mut client: Client,
    output: &mut Output<'_>,
    parameters: Value,
) -> Result<(), Failure> {
    let answer = wait::call(&mut client, output, "Associate", parameters)?;
    changed(output, &answer, |message| {
        let Changed {
            address,
            changed,
            previous_fixed_address: previous,
            displaced_floating_ip: displaced,
            ..
        } = message;
        let (floating, fixed) = (address.floating_ip, or_dash(address.fixed_address));
        let until = until(address.association_expires_at);
        if !changed {
            return format!("{floating} is associated with {fixed} already{until}");
        }
        let taken = previous.map_or_else(String::new, |host| format!(", taken from {host}"));
        let freed = displaced.map_or_else(String::new, |other| {
            format!("; {other} was displaced and stays allocated")
        });
        format!("Associated {floating} with {fixed}{until}{taken}{freed}")
    })
}

pub(super) fn disassociate(
    mut client: Client,
    output: &mut Output<'_>,
    parameters: Value,
) -> Result<(), Failure> {
    let answer = client.call("Disassociate", parameters)?;
    changed(output, &answer, |message| {
        let floating = message.address.floating_ip;
        if message.changed {
            let host = or_dash(message.previous_fixed_address);
            format!("Disassociated {floating} from {host}")
        } else {
            format!("{floating} is associated with no host")
        }
    })
}

pub(super) fn release(
    mut client: Client,
    output: &mut Output<'_>,
    parameters: Value,
) -> Result<(), Failure> {
    let answer = client.call("Release", parameters)?;
    changed(output, &answer, |message| {
        let floating = message.address.floating_ip;
        if message.changed {
            let rests = message
                .address
                .resting_until
                .map_or_else(String::new, |until| {
                    format!(
                        "; it is kept until {}, get it back by its name",
                        moment(until)
                    )
                });
            format!("Released {floating}{rests}")
        } else {
            format!("{floating} is free already")
        }
    })
}

fn until(end: Option<i64>) -> String {
    end.map_or_else(String::new, |end| format!(" until {}", moment(end)))
}

/// Prints what became of a change, and what an association waits for.
pub(super) fn changed(
    output: &mut Output<'_>,
    answer: &Answer<Changed>,
    sentence: impl FnOnce(&Changed) -> String,
) -> Result<(), Failure> {
    if output.json {
        return Ok(output.json(&answer.json)?);
    }
    if answer.message.dry_run {
        return forecast(output, answer.message.changed, &answer.message.effects);
    }
    output.line(&sentence(&answer.message))?;
    let Address {
        floating_ip,
        state,
        reason,
        unconfirmed_until,
        ..
    } = &answer.message.address;
    if state == "pending" {
        let reason = or_dash(reason.as_ref());
        output.remark(&format!("{floating_ip} is pending: {reason}"))?;
    }
    if let Some(until) = unconfirmed_until {
        output.remark(&format!(
            "It is undone at {} unless it is confirmed: ipfloater confirm {floating_ip}",
            moment(*until)
        ))?;
    }
    Ok(())
}

pub(super) fn list(client: Client, output: &mut Output<'_>, filter: Value) -> Result<(), Failure> {
    let (addresses, json) = all(client, filter)?;
    if output.json {
        output.json(&json!({"addresses": json}))?;
    } else {
        output.addresses(&addresses)?;
    }
    Ok(())
}

/// All pages of a list, as messages and as they came.
pub(super) fn all(client: Client, filter: Value) -> Result<(Vec<Address>, Vec<Value>), Failure> {
    let (mut addresses, mut json) = (Vec::new(), Vec::new());
    for page in client.more("List", json!({"filter": filter}), Some(PAGE_PATIENCE))? {
        let Answer {
            message: Listed {
                addresses: some, ..
            },
            json: mut page,
        } = page?;
        addresses.extend(some);
        if let Value::Array(some) = page["addresses"].take() {
            json.extend(some);
        }
    }
    Ok((addresses, json))
}

/// An address, or the one that a host has; of a host that has none the one whose
/// ports lead to it, if it is one.
fn describe(
    connect: impl Fn() -> Result<Client, ClientError>,
    address: &str,
) -> Result<Answer<Described>, Failure> {
    let mut client = connect()?;
    let mut asked = |address| client.call("Describe", json!({"address": address}));
    let refused = match asked(address.to_owned()) {
        Err(ClientError::Refused(refused)) if refused.name == "NotAssociated" => refused,
        answer => return Ok(answer?),
    };
    let (addresses, _) = all(connect()?, json!({"fixed_address": address}))?;
    match &addresses[..] {
        [] => Err(ClientError::Refused(refused).into()),
        [only] => Ok(asked(only.floating_ip.to_string())?),
        several => Err(Failure::Several {
            host: address.to_owned(),
            floating: several.iter().map(|one| one.floating_ip).collect(),
        }),
    }
}

pub(super) fn show(
    connect: impl Fn() -> Result<Client, ClientError>,
    output: &mut Output<'_>,
    address: &str,
) -> Result<(), Failure> {
    let answer = describe(&connect, address)?;
    if output.json {
        return Ok(output.json(&answer.json)?);
    }
    let address = answer.message.address;
    let floating = address.floating_ip.to_string();
    // Refused where packets are not counted, and for what nobody has.
    let counted = counters::all(&mut connect()?, Some(&floating)).ok();
    let counted = counted.and_then(|(counters, _)| counters.into_iter().next());
    let lines = [
        ("Floating IP", Some(address.floating_ip.to_string())),
        ("State", Some(state(&address))),
        ("Pending", address.reason.clone()),
        (
            "Fixed address",
            address.fixed_address.map(|fixed| fixed.to_string()),
        ),
        ("Pool", address.pool.as_ref().map(ToString::to_string)),
        ("Owner", address.owner.map(user)),
        (
            "Allocated",
            address
                .allocated_at
                .map(|since| moment(since) + &until(address.expires_at)),
        ),
        (
            "Associated",
            address
                .associated_at
                .map(|since| moment(since) + &until(address.association_expires_at)),
        ),
        ("Resting until", address.resting_until.map(moment)),
        ("Last owner", address.last_owner.map(user)),
        ("To confirm", address.unconfirmed_until.map(moment)),
    ];
    for (name, value) in lines.into_iter().chain(set::lines(&address)) {
        if let Some(value) = value {
            output.line(&format!("{name:>13}: {value}"))?;
        }
    }
    if !address.kept_hosts.is_empty() {
        let hosts: Vec<_> = address.kept_hosts.iter().map(ToString::to_string).collect();
        output.line(&format!("{:>13}: {}", "Old flows of", hosts.join(", ")))?;
    }
    for forward in &address.forwards {
        output.line(&format!("{:>13}: {}", "Forwards", words(forward)))?;
    }
    if let Some(counted) = counted {
        let [bytes_in, bytes_out] = [counted.bytes_in, counted.bytes_out].map(bytes);
        output.line(&format!(
            "{:>13}: {bytes_in} in, {bytes_out} out",
            "Traffic"
        ))?;
    }
    Ok(())
}

pub(super) fn permissions(
    mut client: Client,
    output: &mut Output<'_>,
    address: Option<String>,
) -> Result<(), Failure> {
    let answer: Answer<Permissions> = client.call("GetPermissions", json!({"address": address}))?;
    if output.json {
        return Ok(output.json(&answer.json)?);
    }
    let Permissions {
        permissions,
        allocated,
        quota,
        permitted_ranges,
    } = answer.message;
    let rows = permissions.into_iter().map(|permission| {
        let Permission {
            verb,
            scope,
            action,
            permission,
        } = permission;
        [verb, scope, permission, action]
    });
    output.table(["VERB", "SCOPE", "PERMISSION", "DECIDED BY"], 3, rows)?;
    if !output.legend {
        return Ok(());
    }
    output.line(&match quota {
        Some(quota) => format!("You have {allocated} of {quota} addresses."),
        None => {
            let plural = if allocated == 1 { "" } else { "es" };
            format!("You have {allocated} address{plural}; there is no quota.")
        }
    })?;
    if let Some(ranges) = permitted_ranges {
        output.line(&format!("For hosts in {}.", ranges.join(", ")))?;
    }
    Ok(())
}

pub(super) fn reload(
    mut client: Client,
    output: &mut Output<'_>,
    parameters: Value,
) -> Result<(), Failure> {
    let answer: Answer<Reloaded> = client.call("Reload", parameters)?;
    if output.json {
        return Ok(output.json(&answer.json)?);
    }
    let Reloaded {
        changed,
        news,
        warnings,
        unconfirmed_until,
        dry_run,
        effects,
        ..
    } = answer.message;
    if dry_run {
        forecast(output, changed, &effects)?;
    } else if !changed {
        output.line("The configuration says what it said before")?;
    }
    for line in news {
        output.line(&line)?;
    }
    for warning in warnings {
        output.remark(&format!("warning: {warning}"))?;
    }
    if let Some(until) = unconfirmed_until {
        output.remark(&format!(
            "It is undone at {} unless it is confirmed: ipfloater confirm",
            moment(until)
        ))?;
    }
    Ok(())
}

/// `confirm` and `revert`.
pub(super) fn settle(
    mut client: Client,
    output: &mut Output<'_>,
    method: &str,
    parameters: Value,
) -> Result<(), Failure> {
    let answer: Answer<Settled> = client.call(method, parameters)?;
    if output.json {
        return Ok(output.json(&answer.json)?);
    }
    let Settled {
        address,
        changed,
        news,
        dry_run,
        effects,
        ..
    } = answer.message;
    if dry_run {
        return forecast(output, changed, &effects);
    }
    let what = match &address {
        Some(address) => format!("The change of {}", address.floating_ip),
        None => "The change of the configuration".to_owned(),
    };
    let done = match method {
        "Confirm" => "stays".to_owned(),
        _ => {
            let now = address.map_or_else(String::new, |address| {
                let to = match address.fixed_address {
                    Some(fixed) => format!("associated with {fixed}"),
                    None => state(&address),
                };
                format!("; it is {to} again")
            });
            format!("is undone{now}")
        }
    };
    output.line(&format!("{what} {done}"))?;
    for line in news {
        output.line(&line)?;
    }
    Ok(())
}

pub(super) fn history(
    mut client: Client,
    output: &mut Output<'_>,
    address: Option<String>,
    lines: u32,
) -> Result<(), Failure> {
    let parameters = json!({"address": address, "limit": lines});
    let answer: Answer<Events> = client.call("History", parameters)?;
    if output.json {
        return Ok(output.json(&answer.json)?);
    }
    let rows = answer.message.events.into_iter().map(|event| {
        [
            moment(event.at),
            event.verb.clone(),
            or_dash(event.floating_ip),
            by(event.uid, &event.via),
            happened(&event),
        ]
    });
    output.table(["TIME", "VERB", "FLOATING IP", "BY", "WHAT"], 4, rows)?;
    Ok(())
}

/// Who did something: a user, or the daemon when nobody asked for it.
pub(super) fn by(uid: u32, via: &str) -> String {
    match via {
        "daemon" => via.to_owned(),
        _ => user(uid),
    }
}

/// What an event did to hosts, or why it came about.
fn happened(event: &EventInfo) -> String {
    let host = match (event.fixed_address, event.previous_fixed_address) {
        (Some(now), Some(before)) => format!("{before} -> {now}"),
        (Some(now), None) => format!("-> {now}"),
        (None, Some(before)) => format!("{before} ->"),
        (None, None) => String::new(),
    };
    if let Some(forward) = &event.forward {
        return format!("{host} ({})", words(forward));
    }
    match &event.reason {
        None => host,
        Some(reason) => format!("{host}{reason}"),
    }
}
