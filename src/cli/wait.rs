//! Waiting until an address works: for a moment the neighbours are asked whether
//! one of them has it.

use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::output::Output;
use crate::client::{Answer, Client, ClientError, Place};
use crate::model::PendingReason;
use crate::wire::{Changed, Described};

/// How long it is waited. Asking takes a second, unless PROBE says up to ten.
const LONGEST: Duration = Duration::from_secs(12);

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);

/// Calls a method that ties an address to a host and, unless it is not to, waits
/// until the neighbours have been asked. The answer then has the address as it is
/// at the end; what else it waits for is not waited for.
pub(super) fn call(
    client: &mut Client,
    output: &mut Output<'_>,
    method: &str,
    parameters: Value,
) -> Result<Answer<Changed>, ClientError> {
    let mut answer: Answer<Changed> = client.call(method, parameters)?;
    let until = Instant::now() + LONGEST;
    if client.waits() && is_probing(&answer) {
        let floating = answer.message.address.floating_ip;
        output.progress(&format!("Asking the neighbours for {floating} …"));
    }
    while client.waits() && is_probing(&answer) && Instant::now() < until {
        sleep(LOOK);
        let asked = json!({"address": answer.message.address.floating_ip});
        // The change is made. Who cannot look tells what was answered.
        let Ok(Answer { message, mut json }) = client.call::<Described>("Describe", asked) else {
            break;
        };
        answer.message.address = message.address;
        answer.json["address"] = json["address"].take();
    }
    Ok(answer)
}

/// Tells somebody who waits that the daemon takes its time.
pub(super) fn for_the_daemon(place: &Place) {
    // Who cannot be told waits all the same.
    let _ = writeln!(std::io::stderr(), "Waiting for ipfloaterd on {place} …");
}

fn is_probing(answer: &Answer<Changed>) -> bool {
    let reason = answer.message.address.reason.as_deref();
    reason.is_some_and(|reason| reason.starts_with(PendingReason::PROBING))
}
