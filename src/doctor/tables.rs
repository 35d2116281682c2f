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
use super::packet::{End, NOT_SEEN, Network, Outcome, Packet, pass};
use super::places::{ARP, Direction, Hook, INET, Known, Place, chains, known, packet, port, sees};
use super::remedies::{exempt, let_forward, listing, named, word};
use super::shell;
use super::terrain::{Terrain, Tour};

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

/// Which packets a chain drops, for whom, and whether that is certain.
#[derive(Debug, Default)]
struct Dropped {
    directions: BTreeSet<Direction>,
    addresses: BTreeSet<IpAddr>,
    inside: BTreeSet<(String, String)>,
    known: BTreeSet<Known>,
    certain: bool,
}

/// Chains that drop what comes in, is forwarded, or goes out.
pub(super) fn drops(tables: &Tables, terrain: &Terrain) -> Vec<Finding> {
    let mut findings = Vec::new();
    for hook in Hook::ALL {
        for (chain, family) in chains(tables, "filter", hook) {
            let tours: Vec<_> = terrain.tours(family).collect();
            let dropped = dropped(tables, terrain, (chain, family, hook), &tours);
            if !dropped.directions.is_empty() {
                let all: BTreeSet<_> = tours.iter().map(|tour| tour.floating).collect();
                findings.extend(drop_finding(tables, (chain, family, hook), dropped, &all));
            }
        }
    }
    findings
}

fn dropped(
    tables: &Tables,
    terrain: &Terrain,
    (chain, family, hook): (&ForeignChain, Family, Hook),
    tours: &[&Tour],
) -> Dropped {
    let mut dropped = Dropped::default();
    // Without an address in use only what the chain does with everything can be
    // told.
    let nobody = tours.is_empty().then_some(None);
    for tour in tours.iter().copied().map(Some).chain(nobody) {
        let outside = terrain.outside.iter().find(|(of, _)| *of == family);
        let outside = outside.and_then(|(_, name)| terrain.named(name.as_deref()?));
        let outside = tour
            .and_then(|tour| tour.outside)
            .or(outside.map(|interface| interface.index));
        if tour.is_none() && outside.is_none() {
            continue;
        }
        for direction in Direction::ALL.into_iter().filter(|way| way.is_of(tour)) {
            let place = Place::of(chain, hook);
            let packet = packet(terrain, family, tour, outside, direction, place);
            if !sees(chain, &packet, hook) {
                continue;
            }
            let Outcome { end, may_pass, .. } = pass(tables, chain, &packet);
            if end != End::Dropped {
                continue;
            }
            dropped.directions.insert(direction);
            dropped.certain |= !may_pass;
            dropped.addresses.extend(tour.map(|tour| tour.floating));
            dropped.known.extend(known(&packet));
            let ports = [&packet.incoming, &packet.outgoing]
                .map(|port| port.as_ref().map(|port| port.name.clone()));
            if let ([Some(from), Some(to)], Direction::Out) = (ports, direction) {
                dropped.inside.insert((from, to));
            }
        }
    }
    dropped
}

fn drop_finding(
    tables: &Tables,
    (chain, family, hook): (&ForeignChain, Family, Hook),
    dropped: Dropped,
    all: &BTreeSet<IpAddr>,
) -> Vec<Finding> {
    let Dropped {
        directions,
        addresses,
        inside,
        known,
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
    let (id, remedy) = match hook {
        Hook::Forward => {
            // The status of a flow tells of all its packets but the first that a
            // host sends.
            let by_status = inward || has(Direction::InReply) || has(Direction::OutReply);
            (
                Id::ForwardDrop,
                let_forward(tables, chain, by_status, &inside),
            )
        }
        Hook::Ingress | Hook::Prerouting | Hook::Postrouting | Hook::Egress => {
            (Id::TableDrop, exempt(chain, &known))
        }
    };
    let finding = finding(id, what).because(why).mend(remedy);
    if addresses == *all {
        return vec![finding];
    }
    let of = |address: &IpAddr| finding.clone().of(*address);
    addresses.iter().map(of).collect()
}

/// Chains that keep packets from conntrack, which then nobody translates.
pub(super) fn untracked(tables: &Tables, terrain: &Terrain) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (chain, family) in chains(tables, "filter", Hook::Prerouting) {
        let place = Place::of(chain, Hook::Prerouting);
        if place.after_conntrack {
            continue;
        }
        let (mut certain, mut uncertain) = (BTreeSet::new(), BTreeSet::new());
        for tour in terrain.tours(family) {
            for direction in Direction::ALL
                .into_iter()
                .filter(|way| way.is_of(Some(tour)))
            {
                let packet = packet(terrain, family, Some(tour), tour.outside, direction, place);
                let outcome = pass(tables, chain, &packet);
                let known = known(&packet);
                match (outcome.untracked, outcome.may_untrack) {
                    (true, _) => certain.extend(known),
                    (false, true) => uncertain.extend(known),
                    (false, false) => {}
                }
            }
        }
        let name = named(chain);
        if !certain.is_empty() {
            let what = format!("{name} keeps packets of floating IPs from conntrack ({family})");
            let finding = Finding::error(Id::Untracked, what);
            let finding = finding.because("what conntrack does not see nobody translates");
            findings.push(finding.mend(exempt(chain, &certain)));
        } else if !uncertain.is_empty() {
            let what = format!("{name} keeps some packets from conntrack ({family})");
            let finding = Finding::note(Id::Untracked, what);
            let finding = finding.because("those of floating IPs among them are not translated");
            findings.push(finding.mend(exempt(chain, &uncertain)));
        }
    }
    findings
}

/// Chains that drop the questions of neighbours for a floating IP, or the answers.
pub(super) fn arp_drops(tables: &Tables, terrain: &Terrain) -> Vec<Finding> {
    let mut findings = BTreeSet::new();
    // NF_ARP_IN and NF_ARP_OUT
    for (hook, is_question) in [(0, true), (1, false)] {
        let hangs = |base: &ForeignBase| base.kind == "filter" && base.hook == hook;
        let chains = tables
            .chains
            .iter()
            .filter(|chain| chain.table.family == ARP && chain.base.as_ref().is_some_and(hangs));
        for chain in chains {
            let asked = terrain.tours(Family::V4).filter(|tour| tour.is_asked_for);
            let lost = asked.filter(|tour| {
                let outside = port(terrain, tour.outside);
                let [incoming, outgoing] = match is_question {
                    true => [outside, None],
                    false => [None, outside],
                };
                let floating = Some(tour.floating);
                let packet = Packet {
                    network: Network::Arp,
                    incoming,
                    outgoing,
                    source: floating.filter(|_| !is_question),
                    destination: floating.filter(|_| is_question),
                    state: NOT_SEEN,
                    status: None,
                };
                let Outcome { end, may_pass, .. } = pass(tables, chain, &packet);
                end == End::Dropped && !may_pass
            });
            let known: BTreeSet<_> = lost.map(|tour| Known::Destination(tour.floating)).collect();
            if known.is_empty() {
                continue;
            }
            let lost = if is_question { "questions" } else { "answers" };
            let what = format!("{} drops {lost} of ARP for floating IPs", named(chain));
            findings.insert(
                Finding::error(Id::TableDrop, what)
                    .because("neighbours do not find out that the router has the addresses")
                    .mend(listing(chain)),
            );
        }
    }
    findings.into_iter().collect()
}

/// Chains that translate before ours does.
pub(super) fn translations(tables: &Tables, terrain: &Terrain) -> Vec<Finding> {
    let mut findings: BTreeMap<(String, IpAddr), Finding> = BTreeMap::new();
    for (hook, before) in [(Hook::Prerouting, DSTNAT), (Hook::Postrouting, SRCNAT)] {
        for (chain, family) in chains(tables, "nat", hook) {
            // Of two chains with one priority the later made one may come first.
            let priority = chain.base.as_ref().map(|base| base.priority);
            if priority.is_none_or(|priority| priority > before) {
                continue;
            }
            for tour in terrain.tours(family) {
                let direction = match hook {
                    Hook::Postrouting => Direction::Out,
                    _ => Direction::In,
                };
                if !direction.is_of(Some(tour)) {
                    continue;
                }
                let place = Place::of(chain, hook);
                let packet = packet(terrain, family, Some(tour), tour.outside, direction, place);
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

fn translation(chain: &ForeignChain, tour: &Tour, hook: Hook, certain: bool) -> Finding {
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
        Hook::Prerouting => (
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
