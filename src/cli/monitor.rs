//! `monitor`: what is so, and then everything that happens.

use std::io;
use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;

use super::forward::words;
use super::output::{Output, or_dash};
use super::text::{moment, user};
use super::{Exit, Failure};
use crate::client::{Answer, Client, ClientError};
use crate::wire::{Details, Monitored, Notice};

/// How long after one another a daemon that is gone is looked for.
const LOOK: Duration = Duration::from_secs(1);

/// Tells what is so, or what happened since an event, and then what happens. A
/// daemon that is started again, and events that were lost, are said and made up
/// for.
pub(super) fn monitor(
    connect: impl Fn() -> Result<Client, ClientError>,
    output: &mut Output<'_>,
    since: Option<u64>,
) -> Result<(), Failure> {
    let mut last = since;
    let mut client = connect()?;
    end_with_the_reader();
    loop {
        let asked = last;
        let Err(ended) = watch(client, output, &mut last) else {
            return Ok(());
        };
        let Some(after) = last else {
            return Err(ended);
        };
        let refused = match &ended {
            Failure::Client(ClientError::Refused(refused)) => Some(refused.name.as_str()),
            _ => None,
        };
        let is_gone = matches!(ended, Failure::Client(ClientError::Closed(_)));
        match refused {
            Some("Overflow") => {
                output.remark(&format!("{ended}; going on after event {after}"))?;
            }
            // What was asked for by the user is gone: he is to know.
            Some("SequenceGone") if asked != since || since.is_none() => {
                output.remark(&format!("{ended}; going on with what is so"))?;
                last = None;
            }
            Some("Stopping" | "Busy") => {
                output.remark(&format!("{ended}; waiting for it"))?;
                sleep(LOOK);
            }
            _ if is_gone => output.remark(&format!("{ended}; waiting for it"))?,
            _ => return Err(ended),
        }
        output.flush()?;
        client = loop {
            match connect() {
                Ok(client) => break client,
                Err(ClientError::Unreachable { .. }) => sleep(LOOK),
                Err(error) => return Err(error.into()),
            }
        };
        if refused != Some("Overflow") && last.is_some() {
            output.remark(&format!("going on after event {after}"))?;
        }
    }
}

/// Ends this program when nobody reads what it prints any more: the next event,
/// and with it the error of a write, may be hours away. So it does not stay on
/// another router when the ssh(1) that began it is gone.
fn end_with_the_reader() {
    std::thread::spawn(|| {
        let stdout = io::stdout();
        // Errors and hang-ups are told without being asked for (poll(2)).
        let mut looks = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        while let Ok(0) | Err(Errno::EINTR) = poll(&mut looks, PollTimeout::NONE) {}
        std::process::exit(Exit::Ok as i32);
    });
}

/// Tells what one connection has to tell, and the last event of it.
fn watch(client: Client, output: &mut Output<'_>, last: &mut Option<u64>) -> Result<(), Failure> {
    let mut state = Vec::new();
    // An event may be hours away.
    for reply in client.more("Monitor", json!({"after": *last}), None)? {
        let Answer { message, json } = reply?;
        let Monitored {
            sequence,
            ready,
            addresses,
            event,
            ..
        } = message;
        if output.json {
            output.json(&json)?;
        } else {
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
        if ready {
            *last = Some(sequence);
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
    line += &match via.as_str() {
        "daemon" => " by daemon".to_owned(),
        via => format!(" by {} ({via})", user(*uid)),
    };
    if let Some(reason) = reason {
        line += &format!(": {reason}");
    }
    line
}
