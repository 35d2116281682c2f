//! What completes the command line in a shell: verbs and options, and what the
//! daemon has of addresses, pools and hosts at the moment.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};
use serde_json::{Value, json};

use super::Arguments;
use super::forward::with_brackets;
use crate::client::{Client, DEFAULT_SOCKET};
use crate::wire::{Address, Listed, Pools};

/// How long a shell waits for the daemon: who types does not.
const PATIENCE: Duration = Duration::from_millis(800);

/// The variable by which a shell asks for candidates.
const ASKED: &str = "COMPLETE";

/// Answers a shell that asks for candidates, and ends the process then.
pub fn answer_shell() {
    CompleteEnv::with_factory(Arguments::command)
        .var(ASKED)
        .complete();
}

/// What a shell is to read so that it asks. Those for bash and zsh are ours: clap's
/// takes words as bash breaks them, at the colons of an IPv6 address; in zsh it
/// does nothing the first time, and has a space follow the colon before a port.
pub(super) fn script(shell: clap_complete::Shell) -> Vec<u8> {
    match shell {
        clap_complete::Shell::Bash => return include_bytes!("complete.bash").to_vec(),
        clap_complete::Shell::Zsh => return include_bytes!("complete.zsh").to_vec(),
        _ => {}
    }
    // In memory first.
    let mut script = Vec::new();
    if let Some(shell) = Shells::builtins().completer(&shell.to_string()) {
        let written =
            shell.write_registration(ASKED, "ipfloater", "ipfloater", "ipfloater", &mut script);
        written.expect("memory can be written to");
    }
    script
}

/// Completes floating IPs that somebody has.
pub(super) fn floating() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        addresses(word, |address| vec![address.floating_ip.to_string()])
    })
}

/// Completes floating IPs that somebody has, up to where a port is typed.
pub(super) fn before_ports() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        addresses(word, |address| {
            let floating = address.floating_ip.to_string();
            vec![format!("{}:", with_brackets(&floating))]
        })
    })
}

/// Completes ports that are forwarded, with their floating IP.
pub(super) fn forwarded() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        addresses(word, |address| {
            let floating = with_brackets(&address.floating_ip.to_string());
            let forwards = address.forwards.iter();
            forwards
                .map(|forward| format!("{floating}:{}/{}", forward.ports, forward.protocol))
                .collect()
        })
    })
}

/// Completes floating IPs, and the hosts that have them.
pub(super) fn either() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        addresses(word, |address| {
            let fixed = address.fixed_address.map(|fixed| fixed.to_string());
            [address.floating_ip.to_string()]
                .into_iter()
                .chain(fixed)
                .collect()
        })
    })
}

/// Completes hosts that have or had floating IPs.
pub(super) fn hosts() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        addresses(word, |address| {
            let fixed = address.fixed_address.map(|fixed| fixed.to_string());
            fixed.into_iter().collect()
        })
    })
}

/// Completes names of pools.
pub(super) fn pools() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        let answer = connect().and_then(|mut client| {
            let answer = client.call::<Pools>("ListPools", Value::Null).ok()?;
            Some(answer.message.pools)
        });
        let pools = answer.into_iter().flatten();
        candidates(word, pools.map(|pool| (pool.name.to_string(), None)))
    })
}

fn addresses(word: &OsStr, of: impl Fn(&Address) -> Vec<String>) -> Vec<CompletionCandidate> {
    let answer = connect().and_then(|mut client| {
        let filter = json!({"limit": MOST});
        let answer = client.call::<Listed>("List", filter).ok()?;
        Some(answer.message.addresses)
    });
    let addresses = answer.into_iter().flatten();
    let words = addresses.flat_map(|address| {
        let told = match (&address.label, address.fixed_address) {
            (Some(label), _) => label.to_string(),
            (None, Some(fixed)) => format!("{} to {fixed}", address.state),
            (None, None) => address.state.clone(),
        };
        of(&address)
            .into_iter()
            .map(move |word| (word, Some(told.clone())))
    });
    candidates(word, words)
}

/// As many addresses are offered.
const MOST: u32 = 1_000;

/// Those that begin with what was typed.
fn candidates(
    word: &OsStr,
    words: impl Iterator<Item = (String, Option<String>)>,
) -> Vec<CompletionCandidate> {
    let typed = word.to_string_lossy();
    let fitting = words.filter(|(word, _)| word.starts_with(&*typed));
    fitting
        .map(|(word, told)| CompletionCandidate::new(word).help(told.map(Into::into)))
        .collect()
}

/// The daemon of this command line; what it says of a socket is not known here.
/// Where it names another router, this one's addresses would be wrong.
fn connect() -> Option<Client> {
    let elsewhere = |word: String| {
        let words = ["-H", "--host", "-i", "--server-ip"];
        words.iter().any(|option| word.starts_with(option))
    };
    if std::env::args().any(elsewhere) {
        return None;
    }
    let socket = std::env::var_os("IPFLOATER_SOCKET").map_or(DEFAULT_SOCKET.into(), PathBuf::from);
    Client::connect(&socket)
        .ok()
        .map(|client| client.patient(PATIENCE))
}
