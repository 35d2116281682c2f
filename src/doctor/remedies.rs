//! What lets a packet pass another program's chain, in the words of that program.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::kernel::nft::{ForeignChain, Tables};

use super::places::{ARP, INET, IPV4, IPV6, Known};
use super::shell;

/// For so many addresses a remedy names each.
const NAMED: usize = 3;

/// Rules at the top of a chain that let these packets pass, in the words of
/// whoever made it; or, for many, what shows the chain.
pub(super) fn exempt(chain: &ForeignChain, known: &BTreeSet<Known>) -> String {
    if known.is_empty() || known.len() > 2 * NAMED {
        return listing(chain);
    }
    let (table, name) = (&chain.table, &chain.name);
    let rules = known.iter().map(|known| {
        let (option, field, address) = match known {
            Known::Destination(address) => ("-d", "daddr", address),
            Known::Source(address) => ("-s", "saddr", address),
        };
        match iptables(chain) {
            Some((program, "filter")) => {
                format!("{program} -I {name} {option} {address} -j ACCEPT")
            }
            Some((program, table)) => {
                format!("{program} -t {table} -I {name} {option} {address} -j ACCEPT")
            }
            None => {
                let protocol = match address {
                    IpAddr::V4(_) => "ip",
                    IpAddr::V6(_) => "ip6",
                };
                shell::nft(&format!(
                    "insert rule {} {} {name} {protocol} {field} {address} accept",
                    word(table.family),
                    table.name
                ))
            }
        }
    });
    rules.collect::<Vec<_>>().join("; ")
}

/// What shows a chain.
pub(super) fn listing(chain: &ForeignChain) -> String {
    let (family, table) = (word(chain.table.family), &chain.table.name);
    shell::nft(&format!("list chain {family} {table} {}", chain.name))
}

/// The program of iptables that makes a chain, and the table as it calls that.
fn iptables(chain: &ForeignChain) -> Option<(&'static str, &str)> {
    let program = match chain.table.family {
        IPV4 => "iptables",
        IPV6 => "ip6tables",
        _ => return None,
    };
    let is_theirs = |name: &str| name.chars().all(|c| c.is_ascii_uppercase());
    let table = chain.table.name.as_str();
    (["raw", "mangle", "filter"].contains(&table) && is_theirs(&chain.name))
        .then_some((program, table))
}

/// The commands that let a chain pass them, in the words of whoever made it.
pub(super) fn let_forward(
    tables: &Tables,
    chain: &ForeignChain,
    by_status: bool,
    inside: &BTreeSet<(String, String)>,
) -> String {
    let (table, name) = (&chain.table, &chain.name);
    let commands: Vec<_> = if let Some((program, "filter")) = iptables(chain) {
        // Docker leaves a chain to the administrator, and rebuilds the others.
        let is_theirs = |each: &ForeignChain| each.table == *table && each.name == "DOCKER-USER";
        let name = match tables.chains.iter().any(is_theirs) {
            true => "DOCKER-USER",
            false => "FORWARD",
        };
        let rule = |match_: String| format!("{program} -I {name} {match_} -j ACCEPT");
        // One rule with both is listed by iptables 1.8.9 as if it had one.
        let states = ["DNAT", "SNAT"].into_iter().filter(|_| by_status);
        let states = states.map(|state| rule(format!("-m conntrack --ctstate {state}")));
        let begun = inside
            .iter()
            .map(|(from, to)| rule(format!("-i {} -o {}", shell::word(from), shell::word(to))));
        states.chain(begun).collect()
    } else if (table.family, table.name.as_str()) == (INET, "firewalld") {
        // It owns its table, and knows interfaces by their zones.
        firewalld(inside)
    } else {
        let into = format!("insert rule {} {} {name}", word(table.family), table.name);
        let status = by_status.then(|| format!("{into} ct status dnat,snat accept"));
        let begun = inside
            .iter()
            .map(|(from, to)| format!("{into} iifname \"{from}\" oifname \"{to}\" accept"));
        let rules = status.into_iter().chain(begun);
        rules.map(|rule| shell::nft(&rule)).collect()
    };
    commands.join("; ")
}

/// What lets hosts begin something. What is for floating IPs, and answers,
/// firewalld lets pass by itself.
fn firewalld(inside: &BTreeSet<(String, String)>) -> Vec<String> {
    const POLICY: &str = "ipfloater";
    if inside.is_empty() {
        return vec!["firewall-cmd --list-all-policies".to_owned()];
    }
    let permanent = "firewall-cmd --permanent";
    let zone = |name: &str| {
        let name = shell::word(name);
        format!(
            "\"$(firewall-cmd --get-zone-of-interface={name} || firewall-cmd --get-default-zone)\""
        )
    };
    let zones = |option: &str, names: BTreeSet<&String>| {
        let add = |name: &&String| {
            format!(
                "{permanent} --policy={POLICY} --add-{option}-zone={}",
                zone(name)
            )
        };
        names.iter().map(add).collect::<Vec<_>>()
    };
    let mut commands = vec![
        format!("{permanent} --new-policy={POLICY}"),
        format!("{permanent} --policy={POLICY} --set-target=ACCEPT"),
    ];
    commands.extend(zones(
        "ingress",
        inside.iter().map(|(from, _)| from).collect(),
    ));
    commands.extend(zones("egress", inside.iter().map(|(_, to)| to).collect()));
    commands.push("firewall-cmd --reload".to_owned());
    commands
}

pub(super) fn named(chain: &ForeignChain) -> String {
    let table = &chain.table;
    format!(
        "chain {} of table {} {}",
        chain.name,
        word(table.family),
        table.name
    )
}

/// The word of nft(8) for a family.
pub(super) fn word(family: u8) -> &'static str {
    match family {
        INET => "inet",
        IPV4 => "ip",
        IPV6 => "ip6",
        ARP => "arp",
        _ => "netdev",
    }
}
