//! Waiting until an address works: for a moment the neighbours are asked whether
//! one of them has it.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Answer, Client, ClientError};
use crate::model::PendingReason;
use crate::wire::{Changed, Described};

/// How long it is waited. Asking takes a second by default.
const LONGEST: Duration = Duration::from_secs(5);

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);

/// Calls a method that ties an address to a host and, unless it is not to, waits
/// until the neighbours have been asked. The answer then has the address as it is
/// at the end; what else it waits for is not waited for.
pub(super) fn call(
    client: &mut Client,
    method: &str,
    parameters: Value,
) -> Result<Answer<Changed>, ClientError> {
    let mut answer: Answer<Changed> = client.call(method, parameters)?;
    let until = Instant::now() + LONGEST;
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

fn is_probing(answer: &Answer<Changed>) -> bool {
    let reason = answer.message.address.reason.as_deref();
    reason.is_some_and(|reason| reason.starts_with(PendingReason::PROBING))
}
