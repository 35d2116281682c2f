//! What other programs' tables do with the packets of floating IPs.
//!
//! An `accept` of ours does not help against a `drop` of theirs: every chain of a
//! hook sees every packet. Of translations the first of a flow stands.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::dataplane::ruleset::{DSTNAT, SRCNAT, TABLE};
use crate::kernel::nft::{ForeignBase, ForeignChain, Tables};
use crate::model::Family;

use super::finding::{Finding, Id};
use super::packet::{
    DESTINATION_TRANSLATED, ESTABLISHED, End, NEW, Outcome, PASSED_PREROUTING, Packet, Port,
    SOURCE_TRANSLATED, pass,
};
use super::shell;
use super::terrain::{Terrain, Tour};

/// `enum nf_inet_hooks`.
const PREROUTING: u32 = 0;
const FORWARD: u32 = 2;
const POSTROUTING: u32 = 4;

/// `enum nfproto`.
const INET: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// Whether our table is there at all.
pub(super) fn ours(tables: &Tables) -> Option<Finding> {
    (!tables.has(INET, TABLE)).then(|| {
        Finding::error(
            Id::TableMissing,
            "table inet ipfloater is not in this network namespace",
        )
        .because("nothing is translated here; ipfloaterd may be in another one")
        .mend("systemctl restart ipfloaterd")
    })
}

/// A way that a packet goes through a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    In,
    InReply,
    Out,
    OutReply,
}

/// Which of its packets a chain drops, for whom, and whether that is certain.
#[derive(Debug, Default)]
struct Dropped {
    directions: BTreeSet<Direction>,
    addresses: BTreeSet<IpAddr>,
    inside: BTreeSet<(String, String)>,
    certain: bool,
}

/// Chains that drop what is forwarded.
pub(super) fn drops(tables: &Tables, terrain: &Terrain) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (chain, family) in chains(tables, "filter", FORWARD) {
        let tours: Vec<_> = terrain.tours(family).cloned().collect();
        let mut dropped = Dropped::default();
        for tour in tours
            .iter()
            .map(Some)
            .chain(tours.is_empty().then_some(None))
        {
            // Without an address in use only what the chain does with everything
            // can be told.
            let outside = terrain.outside.iter().find(|(of, _)| *of == family);
            let outside = outside.and_then(|(_, name)| terrain.named(name.as_deref()?));
            let outside = tour
                .and_then(|tour| tour.outside)
                .or(outside.map(|interface| interface.index));
            if tours.is_empty() && outside.is_none() {
                continue;
            }
            for direction in [
                Direction::In,
                Direction::InReply,
                Direction::Out,
                Direction::OutReply,
            ] {
                let begun_by_host = matches!(direction, Direction::Out | Direction::OutReply);
                if begun_by_host && tour.is_some_and(|tour| !tour.leaves) {
                    continue;
                }
                let packet = forwarded(terrain, family, tour, outside, direction);
                let Outcome { end, may_pass, .. } = pass(tables, chain, &packet);
                if end != End::Dropped {
                    continue;
                }
                dropped.directions.insert(direction);
                dropped.certain |= !may_pass;
                if let Some(tour) = tour {
                    dropped.addresses.insert(tour.floating);
                }
                let ports = [&packet.incoming, &packet.outgoing]
                    .map(|port| port.as_ref().map(|port| port.name.clone()));
                if let ([Some(from), Some(to)], Direction::Out) = (ports, direction) {
                    dropped.inside.insert((from, to));
                }
            }
        }
        if !dropped.directions.is_empty() {
            let all: BTreeSet<_> = tours.iter().map(|tour| tour.floating).collect();
            findings.extend(drop_finding(tables, chain, family, dropped, &all));
        }
    }
    findings
}

fn drop_finding(
    tables: &Tables,
    chain: &ForeignChain,
    family: Family,
    dropped: Dropped,
    all: &BTreeSet<IpAddr>,
) -> Vec<Finding> {
    let Dropped {
        directions,
        addresses,
        inside,
        certain,
    } = dropped;
    let has = |direction| directions.contains(&direction);
    let (inward, outward) = (has(Direction::In), has(Direction::Out));
    let which = match (inward, outward) {
        (true, false) => "what comes from outside",
        (false, true) => "what hosts send",
        (true, true) => "what is forwarded",
        (false, false) => "answers",
    };
    let name = named(chain);
    let (verb, finding): (_, fn(Id, String) -> Finding) = match certain {
        true => ("drops", |id, what| Finding::error(id, what)),
        false => ("may drop", |id, what| Finding::warning(id, what)),
    };
    let what = format!("{name} {verb} {which} ({family})");
    let why = match certain {
        true => "every chain of the hook has to let a packet pass; ours cannot overrule it",
        false => "what lets packets pass there asks for more than can be told here",
    };
    // The status of a flow tells of all its packets but the first that a host sends.
    let by_status = inward || has(Direction::InReply) || has(Direction::OutReply);
    let remedy = remedy(tables, chain, by_status, &inside);
    let finding = finding(Id::ForwardDrop, what).because(why).mend(remedy);
    if addresses == *all {
        return vec![finding];
    }
    let of = |address: &IpAddr| finding.clone().of(*address);
    addresses.iter().map(of).collect()
}

/// The commands that let a chain pass them, in the words of whoever made it.
fn remedy(
    tables: &Tables,
    chain: &ForeignChain,
    by_status: bool,
    inside: &BTreeSet<(String, String)>,
) -> String {
    let (table, name) = (&chain.table, &chain.name);
    let iptables = match (table.family, table.name.as_str(), name.as_str()) {
        (IPV4, "filter", "FORWARD") => Some("iptables"),
        (IPV6, "filter", "FORWARD") => Some("ip6tables"),
        _ => None,
    };
    let commands: Vec<_> = if let Some(program) = iptables {
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

/// Chains that translate before ours does.
pub(super) fn translations(tables: &Tables, terrain: &Terrain) -> Vec<Finding> {
    let mut findings: BTreeMap<(String, IpAddr), Finding> = BTreeMap::new();
    for (hook, before) in [(PREROUTING, DSTNAT), (POSTROUTING, SRCNAT)] {
        for (chain, family) in chains(tables, "nat", hook) {
            // Of two chains with one priority the later made one may come first.
            let priority = chain.base.as_ref().map(|base| base.priority);
            if priority.is_none_or(|priority| priority > before) {
                continue;
            }
            for tour in terrain.tours(family) {
                if hook == POSTROUTING && !tour.leaves {
                    continue;
                }
                let packet = translated(terrain, tour, hook);
                let Outcome {
                    end, may_translate, ..
                } = pass(tables, chain, &packet);
                let certain = end == End::Translated;
                if !certain && !may_translate {
                    continue;
                }
                let key = (named(chain), tour.floating);
                findings
                    .entry(key)
                    .or_insert_with(|| translation(chain, tour, hook, certain));
            }
        }
    }
    findings.into_values().collect()
}

fn translation(chain: &ForeignChain, tour: &Tour, hook: u32, certain: bool) -> Finding {
    let protocol = match tour.host {
        IpAddr::V4(_) => "ip",
        IpAddr::V6(_) => "ip6",
    };
    let (table, name) = (&chain.table, named(chain));
    let verb = if certain {
        "translates"
    } else {
        "may translate"
    };
    let (what, condition) = match hook {
        PREROUTING => (
            format!("{name} {verb} what is for {} before us", tour.floating),
            format!("{protocol} daddr {}", tour.floating),
        ),
        _ => (
            format!("{name} {verb} what {} sends before us", tour.host),
            format!("{protocol} saddr {}", tour.host),
        ),
    };
    let finding = match certain {
        true => Finding::error(Id::NatFirst, what),
        false => Finding::warning(Id::NatFirst, what),
    };
    finding
        .because("the first translation of a flow stands")
        .mend(shell::nft(&format!(
            "insert rule {} {} {} {condition} accept",
            word(table.family),
            table.name,
            chain.name
        )))
        .of(tour.floating)
}

/// The base chains of others at a hook, each with the families that they see.
fn chains<'a>(
    tables: &'a Tables,
    kind: &'a str,
    hook: u32,
) -> impl Iterator<Item = (&'a ForeignChain, Family)> {
    let hangs = move |base: &ForeignBase| base.kind == kind && base.hook == hook;
    tables
        .chains
        .iter()
        .filter(|chain| (chain.table.family, chain.table.name.as_str()) != (INET, TABLE))
        .filter(move |chain| chain.base.as_ref().is_some_and(hangs))
        .flat_map(|chain| {
            let sees = move |family: &Family| {
                matches!(
                    (chain.table.family, family),
                    (INET, _) | (IPV4, Family::V4) | (IPV6, Family::V6)
                )
            };
            let families = Family::BOTH.into_iter().filter(sees);
            families.map(move |family| (chain, family))
        })
}

/// A packet at the hook forward.
fn forwarded(
    terrain: &Terrain,
    family: Family,
    tour: Option<&Tour>,
    outside: Option<u32>,
    direction: Direction,
) -> Packet {
    let outside = port(terrain, outside);
    let inside = port(terrain, tour.and_then(|tour| tour.inside));
    let host = tour.map(|tour| tour.host);
    let towards_host = matches!(direction, Direction::In | Direction::OutReply);
    let (state, status) = match direction {
        Direction::In => (NEW, DESTINATION_TRANSLATED),
        Direction::InReply => (ESTABLISHED, DESTINATION_TRANSLATED),
        Direction::Out => (NEW, 0),
        Direction::OutReply => (ESTABLISHED, SOURCE_TRANSLATED),
    };
    let [incoming, outgoing] = match towards_host {
        true => [outside, inside],
        false => [inside, outside],
    };
    Packet {
        is_v6: family == Family::V6,
        incoming,
        outgoing,
        source: host.filter(|_| !towards_host),
        destination: host.filter(|_| towards_host),
        state,
        status: status | PASSED_PREROUTING,
    }
}

/// The first packet of a flow at a hook where it is translated.
fn translated(terrain: &Terrain, tour: &Tour, hook: u32) -> Packet {
    let [outside, inside] = [tour.outside, tour.inside].map(|index| port(terrain, index));
    let is_v6 = tour.host.is_ipv6();
    match hook {
        PREROUTING => Packet {
            is_v6,
            incoming: outside,
            outgoing: None,
            source: None,
            destination: Some(tour.floating),
            state: NEW,
            status: 0,
        },
        _ => Packet {
            is_v6,
            incoming: inside,
            outgoing: outside,
            source: Some(tour.host),
            destination: None,
            state: NEW,
            status: PASSED_PREROUTING,
        },
    }
}

fn port(terrain: &Terrain, index: Option<u32>) -> Option<Port> {
    let interface = terrain.interfaces.get(&index?)?;
    Some(Port {
        index: interface.index,
        name: interface.name.clone(),
    })
}

fn named(chain: &ForeignChain) -> String {
    let table = &chain.table;
    format!(
        "chain {} of table {} {}",
        chain.name,
        word(table.family),
        table.name
    )
}

/// The word of nft(8) for a family.
fn word(family: u8) -> &'static str {
    match family {
        INET => "inet",
        IPV4 => "ip",
        IPV6 => "ip6",
        _ => "netdev",
    }
}
