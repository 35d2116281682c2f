//! What completes the command line in a shell: verbs and options, and what the
//! daemon has of addresses, pools and hosts at the moment.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::CommandFactory;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};
use serde_json::{Value, json};

use super::forward::with_brackets;
use super::{Arguments, is_here};
use crate::client::{Client, DEFAULT_SOCKET};
use crate::remote::PORT;
use crate::wire::{Address, Listed, PoolInfo, Pools};

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

/// Completes one of these words.
pub(super) fn words(all: &'static [&'static str]) -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        candidates(word, all.iter().map(|each| ((*each).to_owned(), None)))
    })
}

/// Completes floating IPs that nobody has: the first ones of each pool.
pub(super) fn free() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| candidates(word, free_ones(&all_addresses()).into_iter()))
}

/// Completes floating IPs that somebody has, and some that nobody has.
pub(super) fn any_floating() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| candidates(word, taken_and_free(floating)))
}

/// Completes what is associated: floating IPs, some that nobody has, and hosts.
pub(super) fn ends() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| candidates(word, taken_and_free(both)))
}

/// Completes floating IPs with a change that waits for its confirmation.
pub(super) fn unconfirmed() -> ArgValueCompleter {
    of_addresses(|address| {
        let waits = address.unconfirmed_until.map(|_| address.floating_ip);
        waits.iter().map(ToString::to_string).collect()
    })
}

/// Completes labels that are in use.
pub(super) fn labels() -> ArgValueCompleter {
    of_addresses(|address| address.label.iter().map(ToString::to_string).collect())
}

/// Completes tags that are in use.
pub(super) fn tags() -> ArgValueCompleter {
    of_addresses(|address| address.tags.iter().map(ToString::to_string).collect())
}

/// Completes floating IPs up to where a port is typed.
pub(super) fn before_ports() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        let all = taken_and_free(floating);
        candidates(
            word,
            all.map(|(floating, told)| (format!("{}:", with_brackets(&floating)), told)),
        )
    })
}

/// Completes ports that are forwarded, with their floating IP.
pub(super) fn forwarded() -> ArgValueCompleter {
    of_addresses(|address| {
        let floating = with_brackets(&address.floating_ip.to_string());
        let forwards = address.forwards.iter();
        forwards
            .map(|forward| format!("{floating}:{}/{}", forward.ports, forward.protocol))
            .collect()
    })
}

/// Completes floating IPs, and the hosts that have them.
pub(super) fn either() -> ArgValueCompleter {
    of_addresses(both)
}

/// Completes hosts that have floating IPs.
pub(super) fn hosts() -> ArgValueCompleter {
    of_addresses(host)
}

/// Completes names of pools.
pub(super) fn pools() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        let names = all_pools().into_iter().map(|pool| pool.name.to_string());
        candidates(word, names.map(|name| (name, None)))
    })
}

/// A word, and what is said of it.
type Word = (String, Option<String>);

fn floating(address: &Address) -> Vec<String> {
    vec![address.floating_ip.to_string()]
}

fn both(address: &Address) -> Vec<String> {
    floating(address).into_iter().chain(host(address)).collect()
}

fn host(address: &Address) -> Vec<String> {
    address
        .fixed_address
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// Completes words that addresses have.
fn of_addresses(of: fn(&Address) -> Vec<String>) -> ArgValueCompleter {
    ArgValueCompleter::new(move |word: &OsStr| candidates(word, words_of(all_addresses(), of)))
}

/// Words that addresses have, and some floating IPs that nobody has.
fn taken_and_free(of: fn(&Address) -> Vec<String>) -> impl Iterator<Item = Word> {
    let addresses = all_addresses();
    let free = free_ones(&addresses);
    words_of(addresses, of).chain(free)
}

/// Words that these addresses have.
fn words_of(
    addresses: Vec<Address>,
    of: fn(&Address) -> Vec<String>,
) -> impl Iterator<Item = Word> {
    addresses.into_iter().flat_map(move |address| {
        let floating = address.floating_ip.to_string();
        let told = match (&address.label, address.fixed_address) {
            (Some(label), _) => label.to_string(),
            (None, Some(fixed)) => format!("{} to {fixed}", address.state),
            (None, None) => address.state.clone(),
        };
        let words = of(&address).into_iter();
        words.map(move |word| {
            // Of a host it is its floating IP that tells something.
            let told = match address.fixed_address {
                Some(fixed) if word == fixed.to_string() => format!("has {floating}"),
                _ => told.clone(),
            };
            (word, Some(told))
        })
    })
}

/// As many free addresses of a pool are offered.
const FREE: usize = 4;

/// Some floating IPs of the pools that are none of these.
fn free_ones(addresses: &[Address]) -> Vec<Word> {
    let taken: HashSet<IpAddr> = addresses
        .iter()
        .map(|address| address.floating_ip.ip())
        .collect();
    let of_pool = |pool: PoolInfo| {
        let all = pool.ranges().collect::<Vec<_>>().into_iter();
        let all = all.flat_map(|range| {
            std::iter::successors(Some(range.first()), move |address| range.after(*address))
        });
        let free = all.filter(|address| !taken.contains(address));
        let told = format!("free, of pool {}", pool.name);
        let free = free.take(FREE);
        free.map(|address| (address.to_string(), Some(told.clone())))
            .collect::<Vec<_>>()
    };
    all_pools().into_iter().flat_map(of_pool).collect()
}

fn all_pools() -> Vec<PoolInfo> {
    let answer = connect().and_then(|mut client| {
        let answer = client.call::<Pools>("ListPools", Value::Null).ok()?;
        Some(answer.message.pools)
    });
    answer.unwrap_or_default()
}

/// The addresses that are not free, as many as come in time.
fn all_addresses() -> Vec<Address> {
    let until = Instant::now() + PATIENCE;
    let pages = connect().and_then(|client| {
        client
            .more::<Listed>("List", json!({}), Some(PATIENCE))
            .ok()
    });
    let pages = pages.into_iter().flatten().map_while(Result::ok);
    let in_time = pages.take_while(|_| Instant::now() < until);
    in_time.flat_map(|page| page.message.addresses).collect()
}

/// As many words are offered.
const MOST: usize = 1_000;

/// Those that begin with what was typed.
fn candidates(word: &OsStr, words: impl Iterator<Item = Word>) -> Vec<CompletionCandidate> {
    let typed = word.to_string_lossy();
    let mut offered = HashSet::new();
    let fitting = words
        .filter(|(word, _)| word.starts_with(&*typed))
        .filter(|(word, _)| offered.insert(word.clone()));
    fitting
        .take(MOST)
        .map(|(word, told)| CompletionCandidate::new(word).help(told.map(Into::into)))
        .collect()
}

/// The daemon of this command line. Where it names another router, the addresses
/// of this one would be wrong.
fn connect() -> Option<Client> {
    let words: Vec<String> = std::env::args().collect();
    let elsewhere = value(&words, "-H", "--host").is_some()
        || value(&words, "-i", "--server-ip")
            .is_some_and(|host| !is_here(Some(&host), PORT, false, || false));
    if elsewhere {
        return None;
    }
    let named = value(&words, "--socket", "--socket").map(PathBuf::from);
    let usual =
        || std::env::var_os("IPFLOATER_SOCKET").map_or(DEFAULT_SOCKET.into(), PathBuf::from);
    Client::connect(&named.unwrap_or_else(usual))
        .ok()
        .map(|client| client.patient(PATIENCE))
}

/// What follows an option, in the next word or behind it.
fn value(words: &[String], short: &str, long: &str) -> Option<String> {
    words.iter().enumerate().find_map(|(place, word)| {
        if word == short || word == long {
            return words.get(place + 1).cloned();
        }
        let behind_long = word
            .strip_prefix(long)
            .and_then(|rest| rest.strip_prefix('='));
        let is_short = !short.starts_with("--") && !word.starts_with("--");
        let behind_short = word.strip_prefix(short).filter(|_| is_short);
        behind_long.or(behind_short).map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn an_option_is_found_however_it_is_written() {
        for (line, socket, host) in [
            ("ipfloater show", None, None),
            ("ipfloater --socket /run/a show", Some("/run/a"), None),
            ("ipfloater show --socket=/run/a", Some("/run/a"), None),
            ("ipfloater -H gw show", None, Some("gw")),
            ("ipfloater -Hgw show", None, Some("gw")),
            ("ipfloater --host=gw show --help", None, Some("gw")),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let found = value(&words, "--socket", "--socket");
            assert_eq!(found.as_deref(), socket, "{line}");
            assert_eq!(value(&words, "-H", "--host").as_deref(), host, "{line}");
        }
    }
}
