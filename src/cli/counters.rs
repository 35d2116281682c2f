//! The verb `counters`: how much went through addresses.

use serde_json::{Value, json};

use super::Failure;
use super::output::Output;
use crate::client::{Answer, Client};
use crate::wire::{Counted, Counters};

/// The counters of an address, or of all, and the same as they came.
pub(super) fn all(
    client: &mut Client,
    address: Option<&str>,
) -> Result<(Vec<Counters>, Vec<Value>), Failure> {
    let (mut counters, mut json) = (Vec::new(), Vec::new());
    let mut after = None;
    loop {
        let parameters = json!({"address": address, "after": after});
        let Answer {
            message,
            json: mut page,
        } = client.call::<Counted>("GetCounters", parameters)?;
        counters.extend(message.counters);
        if let Value::Array(some) = page["counters"].take() {
            json.extend(some);
        }
        after = match message.next {
            Some(next) => Some(next.to_string()),
            None => return Ok((counters, json)),
        };
    }
}

pub(super) fn counters(
    mut client: Client,
    output: &mut Output<'_>,
    address: Option<String>,
) -> Result<(), Failure> {
    let (counters, json) = all(&mut client, address.as_deref())?;
    if output.json {
        return Ok(output.json(&json!({"counters": json}))?);
    }
    let rows = counters.iter().map(|counters| {
        let Counters {
            floating_ip,
            packets_in,
            bytes_in,
            packets_out,
            bytes_out,
        } = counters;
        let numbers = [packets_in, bytes_in, packets_out, bytes_out];
        let [a, b, c, d] = numbers.map(u64::to_string);
        [floating_ip.to_string(), a, b, c, d]
    });
    let headings = [
        "FLOATING IP",
        "PACKETS IN",
        "BYTES IN",
        "PACKETS OUT",
        "BYTES OUT",
    ];
    Ok(output.table(headings, 5, rows)?)
}
