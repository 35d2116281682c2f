//! What stops traffic.

use serde_json::json;

use super::output::Output;
use super::{Exit, Failure};
use crate::client::{Client, ClientError};
use crate::doctor::{self, Finding, Id, Report};

pub(super) fn doctor(
    connect: impl Fn() -> Result<Client, ClientError>,
    output: &mut Output<'_>,
    address: Option<&str>,
) -> Result<Exit, Failure> {
    let mut told = Ok(());
    let mut waits = |hosts| {
        let hosts = match hosts {
            1 => "a host".to_owned(),
            several => format!("{several} hosts"),
        };
        told = output.remark(&format!("Waiting for {hosts} to answer …"));
    };
    let report = doctor::examine(&connect, address, &mut waits)?;
    told?;
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
    for finding in findings {
        let Finding {
            severity,
            id,
            address,
            what,
            why,
            remedy,
        } = finding;
        let about = address.map_or_else(String::new, |address| format!(" {address}"));
        output.line(&format!("{severity}: {}{about}: {what}", id.as_str()))?;
        if let Some(why) = why {
            output.line(&format!("    {why}"))?;
        }
        if let Some(remedy) = remedy {
            output.line(&format!("    # {remedy}"))?;
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
