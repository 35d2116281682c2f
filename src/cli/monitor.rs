//! `monitor`: what is so, and then everything that happens.

use serde_json::Value;

use super::Failure;
use super::forward::words;
use super::output::{Output, or_dash};
use super::text::{moment, user};
use crate::client::{Answer, Client};
use crate::wire::{Details, Monitored, Notice};

pub(super) fn monitor(client: Client, output: &mut Output<'_>) -> Result<(), Failure> {
    let mut state = Vec::new();
    // An event may be hours away.
    for reply in client.more("Monitor", Value::Null, None)? {
        let Answer { message, json } = reply?;
        if output.json {
            output.json(&json)?;
        } else {
            let Monitored {
                ready,
                addresses,
                event,
                ..
            } = message;
            if let Some(part) = addresses {
                state.extend(part);
                if ready {
                    output.addresses(&std::mem::take(&mut state))?;
                }
            }
            if let Some(notice) = event {
                output.line(&line(&notice))?;
            }
        }
        // Whoever reads a pipe sees each event when it happens.
        output.flush()?;
    }
    Ok(())
}

/// `2026-11-23 05:29:42Z associate 203.0.113.7 active -> 10.0.0.5 by root (varlink)`
fn line(notice: &Notice) -> String {
    let Notice {
        verb,
        at,
        floating_ip,
        state,
        details,
    } = notice;
    let mut line = format!("{} {verb}", moment(*at));
    if let Some(floating) = floating_ip {
        line += &format!(" {floating} {}", or_dash(state.as_ref()));
    }
    let Some(Details {
        uid,
        via,
        fixed_address,
        previous_fixed_address,
        reason,
        forward,
    }) = details
    else {
        return line;
    };
    line += &match (fixed_address, previous_fixed_address) {
        (Some(now), Some(before)) => format!(" {before} -> {now}"),
        (Some(now), None) => format!(" -> {now}"),
        (None, Some(before)) => format!(" {before} ->"),
        (None, None) => String::new(),
    };
    if let Some(forward) = forward {
        line += &format!(" ({})", words(forward));
    }
    line += &format!(" by {} ({via})", user(*uid));
    if let Some(reason) = reason {
        line += &format!(": {reason}");
    }
    line
}
