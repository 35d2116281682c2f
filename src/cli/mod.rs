//! The command line: arguments to calls, and answers to text or JSON.
//!
//! Nothing is decided here: the daemon judges addresses, names and rights, and
//! says why it refuses. The original's verbs keep its words; the others are
//! those of the interface.

use std::ffi::OsString;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};

use clap::{CommandFactory, Parser};
use serde_json::json;

mod arguments;
mod complete;
mod counters;
mod doctor;
mod examples;
mod exit;
mod failure;
mod forward;
mod import;
mod metrics;
mod monitor;
mod original;
mod output;
mod set;
mod ssh;
mod status;
mod terms;
mod text;
mod top;
mod verbs;
mod wait;

pub use arguments::{Arguments, Common, Verb};
pub use complete::answer_shell;
pub use exit::Exit;
pub use failure::Failure;
pub use import::Source;
pub use terms::{DryRun, Lasting, Trial};

use crate::client::{Client, usual_directory};
use output::Output;
use terms::Terms;

/// Does what the arguments of the process say, and tells how it ended.
pub fn run() -> Exit {
    let mut out = BufWriter::new(io::stdout().lock());
    // Standard error is not buffered, and what it is told is short.
    run_with(std::env::args_os(), &mut out, &mut io::stderr())
}

/// Does what these arguments say, the name of the program first.
pub fn run_with(
    arguments: impl IntoIterator<Item = OsString>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Exit {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let parsed = match Arguments::try_parse_from(&arguments) {
        Ok(parsed) => parsed,
        Err(error) => return not_understood(&error, &arguments, out, err),
    };
    let json = parsed.common.json;
    let done = match &parsed.common.host {
        Some(host) if !parsed.common.here => ssh::elsewhere(host, &parsed.common, &arguments),
        Some(_) | None => perform(parsed, out, err),
    };
    let done = done.and_then(|exit| {
        out.flush()?;
        Ok(exit)
    });
    match done {
        Ok(exit) => exit,
        // Who reads has read enough.
        Err(Failure::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Exit::Ok,
        Err(failure) => {
            let exit = failure.exit();
            tell(&failure.name(), &failure.to_string(), exit, json, out, err);
            exit
        }
    }
}

fn perform(
    arguments: Arguments,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Exit, Failure> {
    let Arguments { common, verb } = arguments;
    let Common {
        socket,
        json,
        no_ask_password,
        no_wait,
        no_legend,
        quiet,
        host: _,
        here: _,
        server_ip,
        server_port,
        certificates,
    } = common;
    let (mut nowhere, mut unheard) = (io::sink(), io::sink());
    let (out, err): (&mut dyn Write, &mut dyn Write) = match quiet && !json {
        true => (&mut nowhere, &mut unheard),
        false => (out, err),
    };
    let has_certificates = || usual_directory().join("client.pem").exists();
    let remote = !is_here(
        server_ip.as_deref(),
        server_port,
        certificates.is_some(),
        has_certificates,
    );
    let server_ip = server_ip.unwrap_or_else(|| "127.0.0.1".to_owned());
    let here_only = match &verb {
        Verb::Doctor { .. } => Some("doctor"),
        Verb::Import { .. } => Some("import"),
        _ => None,
    };
    if let (true, Some(verb)) = (remote, here_only) {
        return Err(Failure::OnlyThere {
            verb,
            host: server_ip,
        });
    }
    // Somebody sits there who may wonder.
    let is_watched = !quiet && !json && io::stderr().is_terminal();
    let mut output = Output::new(out, err, json, !no_legend);
    output.is_watched = is_watched;
    let connect = || {
        let client = if remote {
            let directory = certificates.clone().unwrap_or_else(usual_directory);
            Client::connect_remote(&server_ip, server_port, &directory)?
        } else {
            Client::connect(&socket)?
        };
        Ok(client
            .asking(!no_ask_password)
            .waiting(!no_wait)
            .telling(is_watched.then_some(wait::for_the_daemon)))
    };
    let done = match verb {
        Verb::Getip {
            private,
            dry_run,
            trial,
        } => {
            let terms = Terms::from(dry_run).on_trial(trial);
            original::getip(connect, &mut output, &private, terms)
        }
        Verb::Redirect {
            floating,
            private,
            reassociate,
            dry_run,
            trial,
        } => {
            let parameters = json!({
                "fixed_address": private,
                "floating_ip": floating,
                "reassociate": reassociate,
            });
            let terms = Terms::from(dry_run).on_trial(trial);
            original::obtain(connect, &mut output, terms.with(parameters))
        }
        Verb::Releaseip {
            address,
            dry_run,
            trial,
        } => {
            let terms = Terms::from(dry_run).on_trial(trial);
            original::releaseip(connect, &mut output, &address, terms)
        }
        Verb::Status => status::status(connect, &mut output),
        Verb::Version => original::version(connect, &mut output),
        Verb::Ippool => original::ippool(connect, &mut output),
        Verb::Arp { mac } => original::arp(connect, &mut output, &mac),
        Verb::Allocate {
            address,
            count,
            label,
            description,
            tags,
            protect,
            pool,
            owner,
            dry_run,
            lasting,
        } => {
            let parameters = json!({
                "floating_ip": address,
                "count": count,
                "pool": pool,
                "owner": owner.map(owner_uid).transpose()?,
                "label": label,
                "description": description,
                "tags": (!tags.is_empty()).then_some(tags),
                "protected": protect.then_some(true),
            });
            let parameters = Terms::from(dry_run).lasting(lasting).with(parameters);
            verbs::allocate(connect()?, &mut output, parameters)
        }
        Verb::Associate {
            mut addresses,
            pool,
            owner,
            reassociate,
            keep_established,
            dry_run,
            trial,
            lasting,
        } => {
            let fixed = addresses.pop().unwrap_or_default();
            let parameters = json!({
                "fixed_address": fixed,
                "floating_ip": addresses.pop(),
                "pool": pool,
                "owner": owner.map(owner_uid).transpose()?,
                "reassociate": reassociate,
                "keep_established": keep_established,
            });
            let terms = Terms::from(dry_run).on_trial(trial).lasting(lasting);
            let parameters = terms.with(parameters);
            verbs::associate(connect()?, &mut output, parameters)
        }
        Verb::Disassociate {
            address,
            dry_run,
            trial,
        } => {
            let terms = Terms::from(dry_run).on_trial(trial);
            let parameters = terms.with(json!({"address": address}));
            verbs::disassociate(connect()?, &mut output, parameters)
        }
        Verb::Forward {
            floating,
            fixed,
            outbound,
            reassociate,
            dry_run,
            trial,
        } => {
            let parameters = forward::parameters(floating, fixed, outbound, reassociate);
            let terms = Terms::from(dry_run).on_trial(trial);
            let parameters = terms.with(parameters);
            forward::forward(connect()?, &mut output, parameters)
        }
        Verb::Unforward {
            floating,
            dry_run,
            trial,
        } => {
            let terms = Terms::from(dry_run).on_trial(trial);
            forward::unforward(connect()?, &mut output, floating, terms)
        }
        Verb::Set {
            address,
            attributes,
            dry_run,
        } => set::set(
            connect()?,
            &mut output,
            &address,
            attributes,
            dry_run.into(),
        ),
        Verb::Release {
            address,
            dry_run,
            trial,
        } => {
            let terms = Terms::from(dry_run).on_trial(trial);
            let parameters = terms.with(json!({"address": address}));
            verbs::release(connect()?, &mut output, parameters)
        }
        Verb::List {
            pool,
            state,
            owner,
            fixed,
            label,
            tag,
        } => {
            let owner = owner.map(owner_uid).transpose()?;
            let filter = json!({
                "pool": pool, "state": state, "owner": owner, "fixed_address": fixed,
                "label": label, "tag": tag,
            });
            verbs::list(connect()?, &mut output, filter)
        }
        Verb::Show { address } => verbs::show(connect, &mut output, &address),
        Verb::Counters { address } => counters::counters(connect()?, &mut output, address),
        Verb::Top {
            interval,
            views,
            rows,
        } => {
            let interval = std::time::Duration::from_secs(interval.into());
            let terms = top::Terms {
                interval,
                views,
                rows,
            };
            top::top(connect, &mut output, terms)
        }
        Verb::Metrics(wanted) => metrics::metrics(connect()?, &mut output, wanted),
        Verb::Permissions { address } => verbs::permissions(connect()?, &mut output, address),
        Verb::Confirm { address, dry_run } => {
            let parameters = Terms::from(dry_run).with(json!({"address": address}));
            verbs::settle(connect()?, &mut output, "Confirm", parameters)
        }
        Verb::Revert { address, dry_run } => {
            let parameters = Terms::from(dry_run).with(json!({"address": address}));
            verbs::settle(connect()?, &mut output, "Revert", parameters)
        }
        Verb::Reload { dry_run, trial } => {
            let terms = Terms::from(dry_run).on_trial(trial);
            verbs::reload(connect()?, &mut output, terms.with(json!({})))
        }
        Verb::Monitor { since } => monitor::monitor(connect, &mut output, since),
        Verb::History { address, lines } => verbs::history(connect()?, &mut output, address, lines),
        Verb::Import { source } => return import::import(connect, &mut output, &source),
        Verb::Doctor { address } => {
            return doctor::doctor(connect, &mut output, address.as_deref());
        }
        Verb::Completion { shell } => Ok(output.script(&complete::script(shell))?),
    };
    done.map(|()| Exit::Ok)
}

/// Whether the daemon of this host is meant: when no other is named, and by what the
/// original's users call it, on whatever port theirs listened. Certificates that are
/// named are for another host, and so is another port for who has some: a way such
/// as `ssh -L` makes.
fn is_here(server: Option<&str>, port: u16, named: bool, has: impl FnOnce() -> bool) -> bool {
    let is_loopback = |address: std::net::IpAddr| address.is_loopback();
    let is_this_host = server.is_none_or(|server| {
        let is_it = server == "localhost" || server.parse().is_ok_and(is_loopback);
        is_it && !named
    });
    is_this_host && (port == crate::remote::PORT || !(named || has()))
}

fn owner_uid(user: String) -> Result<u32, Failure> {
    text::uid(&user).ok_or(Failure::NoSuchUser(user))
}

/// Help, or what is wrong with the command line.
fn not_understood(
    error: &clap::Error,
    arguments: &[OsString],
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Exit {
    let is_screen = is_of_all(error, arguments);
    let text = if is_screen {
        examples::SCREEN.to_owned()
    } else {
        error.render().to_string()
    };
    if !error.use_stderr() {
        // Help that nobody reads to its end is no failure.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        return Exit::Ok;
    }
    let json = arguments.iter().any(|argument| argument == "--json");
    if is_screen && !json {
        let _ = err.write_all(text.as_bytes());
    } else {
        tell("Usage", &in_a_line(&text), Exit::Usage, json, out, err);
    }
    Exit::Usage
}

/// What clap says of a mistake in some paragraphs: the first, what is alike, and
/// how to call it.
fn in_a_line(text: &str) -> String {
    let mut paragraphs = text.split("\n\n").map(|paragraph| {
        let lines = paragraph.lines().map(str::trim);
        lines.collect::<Vec<_>>().join(" ")
    });
    let what = paragraphs.next().unwrap_or_default();
    let mut line = what.trim_start_matches("error: ").to_owned();
    for paragraph in paragraphs {
        if let Some(tip) = paragraph.strip_prefix("tip: ") {
            // A value that begins with a dash goes by no other way either.
            if !tip.contains("use '-- ") {
                line += &format!("; {tip}");
            }
        } else if let Some(usage) = paragraph.strip_prefix("Usage: ") {
            let words = usage.split_whitespace().take(2);
            let verb: Vec<_> = words.filter(|word| !word.starts_with(['[', '<'])).collect();
            line += &format!("; see `{} --help`", verb.join(" "));
        }
    }
    line
}

/// Whether the short help is asked for, and of no verb.
fn is_of_all(error: &clap::Error, arguments: &[OsString]) -> bool {
    use clap::error::ErrorKind::{
        DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, MissingSubcommand,
    };
    let command = Arguments::command();
    let is_verb = |argument: &OsString| {
        let name = argument.to_str();
        name == Some("help") || name.is_some_and(|name| command.find_subcommand(name).is_some())
    };
    let mut before = arguments.iter().take_while(|argument| *argument != "-h");
    match error.kind() {
        DisplayHelp => arguments.iter().any(|argument| argument == "-h") && !before.any(is_verb),
        DisplayHelpOnMissingArgumentOrSubcommand | MissingSubcommand => !before.any(is_verb),
        _ => false,
    }
}

/// Tells why it failed. There is nobody to tell when that fails, too.
fn tell(
    name: &str,
    message: &str,
    exit: Exit,
    json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) {
    let _ = if json {
        let error = json!({"error": {"name": name, "message": message, "exit_code": exit as u8}});
        let line = text::harmless_json(&error.to_string()).into_owned();
        writeln!(out, "{line}").and_then(|()| out.flush())
    } else {
        let _ = out.flush();
        writeln!(err, "{}", text::harmless(message))
    };
}

#[cfg(test)]
mod tests {
    use super::is_here;

    #[test]
    fn a_way_to_another_host_is_not_taken_for_this_one() {
        for (server, port, named, has, here) in [
            (None, 7000, false, false, true),
            // $IPFLOATER_CERTIFICATES, and no host to show them to.
            (None, 7000, true, true, true),
            (None, 7001, true, true, false),
            // LISTEN_PORT of the original.
            (None, 7001, false, false, true),
            (Some("127.0.0.1"), 7001, false, false, true),
            (Some("127.0.0.1"), 7000, false, true, true),
            (Some("::1"), 7000, false, false, true),
            (Some("localhost"), 7000, true, true, false),
            (Some("127.0.0.1"), 7999, false, true, false),
            (Some("203.0.113.1"), 7000, false, false, false),
        ] {
            let seen = is_here(server, port, named, || has);
            assert_eq!(seen, here, "{server:?} {port} {named} {has}");
        }
    }
}
