//! The verb `import`: what the original had and left, and what becomes of it.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::Failure;
use super::output::Output;
use crate::client::{Client, ClientError};
use crate::import::{Fate, Finding, Import, ImportError, Options, Survey};
use crate::kernel::{IptablesChain, Leftovers, SourceRoute};

/// How often somebody at a terminal is told how far it is.
const PROGRESS: Duration = Duration::from_secs(1);

/// What is to be taken over, and whether it is.
#[derive(Clone, Debug, Args)]
pub struct Source {
    /// The original's database [default: the one that DB in the configuration names, or
    /// /var/lib/ipfloater.db]
    #[arg(long, value_name = "PATH", conflicts_with = "clear_only")]
    database: Option<PathBuf>,
    /// The configuration, for DB [default: /etc/ipfloaterd.conf, then /etc/ipfloaterd.conf.d/*.conf]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Do it, instead of telling what would be done
    #[arg(long)]
    apply: bool,
    /// Leave out what cannot be taken over, instead of refusing all
    #[arg(long)]
    skip_bad: bool,
    /// Take no redirection over, and only clear what the original left
    #[arg(long)]
    clear_only: bool,
}

pub(super) fn import(
    connect: impl FnOnce() -> Result<Client, ClientError>,
    output: &mut Output<'_>,
    source: Source,
) -> Result<(), Failure> {
    let Source {
        database,
        config,
        apply,
        skip_bad,
        clear_only,
    } = source;
    let mut import = Import::begin(connect)?;
    let survey = import.survey(&Options {
        database,
        config,
        clear_only,
    })?;
    let obstacle = obstacle(&survey, apply, skip_bad);
    let applies = apply && obstacle.is_none();
    if !output.json {
        tell(output, &survey, applies)?;
    }
    if applies {
        do_it(&mut import, &survey, |text| {
            if std::io::stderr().is_terminal() {
                // It is done whoever hears of it.
                let _ = output.remark(text);
            }
        })?;
    }
    if output.json {
        output.json(&as_json(&survey, applies))?;
    } else if applies {
        told_after(output, &survey)?;
    } else if obstacle.is_none() {
        output.line("Nothing was done. `ipfloater import --apply` does it.")?;
    }
    obstacle.map_or(Ok(()), |error| Err(error.into()))
}

/// Why it is not done, if it is to be.
fn obstacle(survey: &Survey, apply: bool, skip_bad: bool) -> Option<ImportError> {
    let (bad, all) = (survey.bad(), survey.findings.len());
    if bad > 0 && !skip_bad {
        return Some(ImportError::Bad { bad, all });
    }
    survey
        .obstacle()
        .filter(|_| apply)
        .map(ImportError::Obstructed)
}

/// Associates first, and clears when that is in force: a packet finds one or the
/// other.
fn do_it(
    import: &mut Import,
    survey: &Survey,
    mut progress: impl FnMut(&str),
) -> Result<(), ImportError> {
    let (all, mut told) = (survey.fresh().count(), Instant::now());
    for (done, redirection) in survey.fresh().enumerate() {
        if told.elapsed() >= PROGRESS {
            progress(&format!("{done} of {all} redirections are taken over"));
            told = Instant::now();
        }
        import.take_over(redirection)?;
    }
    import.wait(survey)?;
    import.remove_chains(&survey.leftovers)?;
    for address in &survey.leftovers.addresses {
        import.remove_address(address)?;
    }
    import.wait_again(survey)
}

fn tell(output: &mut Output<'_>, survey: &Survey, applies: bool) -> Result<(), Failure> {
    let Survey {
        database,
        findings,
        leftovers,
        original,
    } = survey;
    if let Some(process) = original {
        output.line(&format!("The original still runs, as process {process}."))?;
    }
    if let Some(database) = database {
        output.line(&format!("In {}:", database.display()))?;
        if findings.is_empty() {
            output.line("  no redirection")?;
        }
        for Finding {
            text,
            fate,
            waits_for,
        } in findings
        {
            let mut line = match (fate, applies) {
                (Fate::New(_), _) => format!("  take over {text}"),
                (Fate::There(_), _) => format!("  there already: {text}"),
                (Fate::Bad(why), false) => format!("  cannot be taken over: {text}: {why}"),
                (Fate::Bad(why), true) => format!("  left out: {text}: {why}"),
            };
            if let Some(reason) = waits_for {
                line += &format!("; it waits, because {reason}");
            }
            output.line(&line)?;
        }
    }
    output.line("In the kernel, of the original:")?;
    let Leftovers {
        chains,
        legacy,
        addresses,
        ..
    } = leftovers;
    if chains.is_empty() && legacy.is_empty() && addresses.is_empty() {
        output.line("  nothing")?;
    }
    for (chains, of) in [(chains, ""), (legacy, " of iptables-legacy")] {
        for (table, names) in by_table(chains) {
            let names = names.join(", ");
            output.line(&format!("  remove from table {table}{of}: {names}"))?;
        }
    }
    match leftovers.jumps() {
        0 => {}
        1 => output.line("  remove the rule that leads to these")?,
        several => output.line(&format!("  remove the {several} rules that lead to these"))?,
    }
    for address in addresses {
        let interface = &address.interface;
        output.line(&format!("  take {} off {interface}", address.net.addr()))?;
    }
    for SourceRoute { source, route } in &leftovers.routes {
        output.line(&format!("  with {source} the route {route} would go"))?;
    }
    Ok(())
}

fn told_after(output: &mut Output<'_>, survey: &Survey) -> Result<(), Failure> {
    let Leftovers {
        chains,
        legacy,
        addresses,
        ..
    } = &survey.leftovers;
    let chains = chains.len() + legacy.len();
    let new = survey.fresh().count();
    output.line(&format!(
        "Done: {} taken over, {} and {} removed.",
        counted(new, "redirection", "redirections"),
        counted(chains, "chain", "chains"),
        counted(addresses.len(), "address", "addresses")
    ))?;
    if !addresses.is_empty() {
        output.remark(
            "The next boot brings the addresses back unless they are taken out of the configuration \
             of the network, too",
        )?;
    }
    Ok(())
}

fn counted(number: usize, one: &str, several: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        number => format!("{number} {several}"),
    }
}

/// The names of chains, by their tables.
fn by_table(chains: &[IptablesChain]) -> std::collections::BTreeMap<&str, Vec<&str>> {
    let mut tables = std::collections::BTreeMap::<&str, Vec<&str>>::new();
    for IptablesChain { table, name } in chains {
        tables.entry(table).or_default().push(name);
    }
    tables
}

fn as_json(survey: &Survey, applied: bool) -> Value {
    let Survey {
        database,
        findings,
        leftovers,
        original,
    } = survey;
    let redirection = |finding: &Finding| {
        let Finding {
            text,
            fate,
            waits_for,
        } = finding;
        let (fate, reason) = match fate {
            Fate::New(_) => ("new", waits_for.as_ref()),
            Fate::There(_) => ("there", waits_for.as_ref()),
            Fate::Bad(why) => ("bad", Some(why)),
        };
        let mut row = json!({"redirection": text, "fate": fate});
        if let Some(reason) = reason {
            row["reason"] = reason.as_str().into();
        }
        row
    };
    let address = |address: &crate::model::RouterAddress| {
        json!({
            "address": address.net.addr(), "interface": address.interface,
        })
    };
    let Leftovers {
        chains,
        legacy,
        addresses,
        ..
    } = leftovers;
    let mut survey = json!({
        "applied": applied,
        "redirections": findings.iter().map(redirection).collect::<Vec<_>>(),
        "chains": by_table(chains),
        "rules": leftovers.jumps(),
        "addresses": addresses.iter().map(address).collect::<Vec<_>>(),
        "legacy_chains": by_table(legacy),
    });
    if let Some(process) = original {
        survey["original_process"] = (*process).into();
    }
    if let Some(database) = database {
        survey["database"] = database.display().to_string().into();
    }
    survey
}
