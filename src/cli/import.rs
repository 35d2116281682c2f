//! The verb `import`: what the original had and left, and what becomes of it.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::output::Output;
use super::{Exit, Failure};
use crate::client::{Client, ClientError};
use crate::import::{Fate, Finding, Import, ImportError, Options, Survey};
use crate::kernel::{IptablesChain, Leftovers, SourceRoute};
use crate::text::shell_word;

/// How often somebody at a terminal is told how far it is.
const PROGRESS: Duration = Duration::from_secs(1);

/// Where the package iptables-persistent keeps rules from boot to boot.
const SAVED: &str = "/etc/iptables/rules.v4";

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
    /// Only tell what would be done, which is also the default
    #[arg(short = 'n', long, conflicts_with = "apply")]
    dry_run: bool,
    /// Leave out what cannot be taken over, instead of refusing all
    #[arg(long)]
    skip_bad: bool,
    /// Take no redirection over, and only clear what the original left
    #[arg(long)]
    clear_only: bool,
}

impl Source {
    /// The command line that does it.
    fn applied(&self) -> String {
        let Source {
            database,
            config,
            apply: _,
            dry_run: _,
            skip_bad,
            clear_only,
        } = self;
        let mut line = "ipfloater import".to_owned();
        for (option, path) in [("--database", database), ("--config", config)] {
            if let Some(path) = path {
                line += &format!(" {option} {}", shell_word(&path.display().to_string()));
            }
        }
        for (option, is_given) in [("--skip-bad", *skip_bad), ("--clear-only", *clear_only)] {
            if is_given {
                line += &format!(" {option}");
            }
        }
        line + " --apply"
    }
}

/// Tells at a terminal how far it is, from time to time. It is done whoever hears of
/// it.
fn paced(output: &mut Output<'_>, doing: &'static str) -> impl FnMut(usize, usize) {
    let mut told = Instant::now();
    move |done, all| {
        if told.elapsed() >= PROGRESS && std::io::stderr().is_terminal() {
            let _ = output.remark(&format!("{done} of {all} redirections are {doing}"));
            told = Instant::now();
        }
    }
}

pub(super) fn import(
    connect: impl FnOnce() -> Result<Client, ClientError>,
    output: &mut Output<'_>,
    source: &Source,
) -> Result<Exit, Failure> {
    let mut import = Import::begin(connect)?;
    let options = Options {
        database: source.database.clone(),
        config: source.config.clone(),
        clear_only: source.clear_only,
    };
    let survey = import.survey(&options, paced(output, "looked at"))?;
    let obstacle = obstacle(&survey, source.apply, source.skip_bad).map(Failure::from);
    let applies = source.apply && obstacle.is_none();
    if !output.json {
        tell(output, &survey, applies)?;
    }
    if applies {
        do_it(&mut import, &survey, paced(output, "taken over"))?;
    }
    match obstacle {
        // One document says both.
        Some(failure) if output.json => {
            let mut told = as_json(&survey, false);
            told["error"] = failure.as_json();
            output.json(&told)?;
            return Ok(failure.exit());
        }
        Some(failure) => return Err(failure),
        None if output.json => output.json(&as_json(&survey, applies))?,
        None if applies => told_after(output, &survey)?,
        None => output.line(&not_done(&survey, &source.applied()))?,
    }
    Ok(Exit::Ok)
}

/// What a look ends with.
fn not_done(survey: &Survey, command: &str) -> String {
    match survey.obstacle() {
        _ if survey.is_done() => "There is nothing to do.".to_owned(),
        Some(obstacle) => {
            format!("Nothing was done, and `{command}` would not do it either: {obstacle}")
        }
        None => format!("Nothing was done. `{command}` does it."),
    }
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
    mut progress: impl FnMut(usize, usize),
) -> Result<(), ImportError> {
    let all = survey.fresh().count();
    for (done, redirection) in survey.fresh().enumerate() {
        progress(done, all);
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
    if leftovers.is_empty() {
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
    let of_others = leftovers.of_others();
    if !of_others.is_empty() {
        let of_others: Vec<_> = of_others.iter().map(ToString::to_string).collect();
        let of_others = of_others.join(", ");
        output.line(&format!(
            "    of which chains of others have some: {of_others}"
        ))?;
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
    if std::fs::read_to_string(SAVED).is_ok_and(|rules| is_the_originals(&rules)) {
        output.remark(&format!(
            "The next boot brings the rules back that {SAVED} has of the original; \
             `netfilter-persistent save` saves what there is now"
        ))?;
    }
    Ok(())
}

/// Whether saved rules have chains of the original.
fn is_the_originals(rules: &str) -> bool {
    rules.contains(":ipfloater-") || rules.contains(":ipfl-rule-")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_does_it_has_the_options_that_were_given() {
        let source = |config: Option<&str>, skip_bad, clear_only| Source {
            database: None,
            config: config.map(PathBuf::from),
            apply: false,
            dry_run: true,
            skip_bad,
            clear_only,
        };
        for (source, expected) in [
            (source(None, false, false), "ipfloater import --apply"),
            (
                source(Some("/etc/old one.conf"), true, false),
                "ipfloater import --config '/etc/old one.conf' --skip-bad --apply",
            ),
            (
                source(None, false, true),
                "ipfloater import --clear-only --apply",
            ),
        ] {
            assert_eq!(source.applied(), expected);
        }
    }

    #[test]
    fn saved_rules_of_the_original_are_known() {
        assert!(is_the_originals("*nat\n:ipfl-rule-ab12ef-OUTPUT - [0:0]\n"));
        assert!(!is_the_originals("*nat\n:mine - [0:0]\n# ipfloater\n"));
    }
}
