//! What stops traffic.

use std::collections::BTreeMap;

use serde_json::json;

use super::output::Output;
use super::{Exit, Failure};
use crate::client::{Client, ClientError};
use crate::doctor::{self, Finding, Id, Report};

/// So many findings of one kind are told of one by one.
const SHOWN: usize = 10;

pub(super) fn doctor(
    connect: impl Fn() -> Result<Client, ClientError>,
    output: &mut Output<'_>,
    address: Option<&str>,
) -> Result<Exit, Failure> {
    let mut waits = |hosts| {
        let hosts = match hosts {
            1 => "a host".to_owned(),
            several => format!("{several} hosts"),
        };
        output.progress(&format!("Waiting for {hosts} to answer …"));
    };
    let report = doctor::examine(&connect, address, &mut waits)?;
    if output.json {
        output.json(&json!(report))?;
    } else {
        tell(output, &report)?;
    }
    Ok(exit(&report))
}

/// A daemon that is not reached has an exit code of its own, as for every verb.
fn exit(report: &Report) -> Exit {
    if report.has(Id::DaemonUnreachable) {
        Exit::Unreachable
    } else if report.errors + report.warnings > 0 {
        Exit::Failed
    } else {
        Exit::Ok
    }
}

fn tell(output: &mut Output<'_>, report: &Report) -> Result<(), Failure> {
    let Report {
        findings,
        errors,
        warnings,
        notes,
    } = report;
    let mut alike: BTreeMap<Id, usize> = BTreeMap::new();
    for finding in findings {
        let nth = alike.entry(finding.id).or_default();
        *nth += 1;
        if *nth > SHOWN {
            continue;
        }
        let Finding {
            severity,
            id,
            address,
            what,
            why,
            remedy,
        } = finding;
        let about = address.map_or_else(String::new, |address| format!(" {address}"));
        output.sentence("", &format!("{severity}: {}{about}: {what}", id.as_str()))?;
        if let Some(why) = why {
            output.sentence("    ", why)?;
        }
        if let Some(remedy) = remedy {
            // To be copied, and so in one line.
            output.line(&format!("    # {remedy}"))?;
        }
    }
    for (id, count) in alike {
        if count > SHOWN {
            let (id, more) = (id.as_str(), count - SHOWN);
            output.line(&format!(
                "{id}: {more} more; `ipfloater doctor --json` has all"
            ))?;
        }
    }
    if findings.is_empty() {
        output.line("Nothing is wrong.")?;
    } else {
        let count = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            other => format!("{other} {what}s"),
        };
        output.line(&format!(
            "{}, {}, {}",
            count(*errors, "error"),
            count(*warnings, "warning"),
            count(*notes, "note")
        ))?;
    }
    Ok(())
}
