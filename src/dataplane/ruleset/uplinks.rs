//! The mark by which a packet finds its uplink, where there are several.
//!
//! It is told of every packet anew, by the floating IP that conntrack remembers
//! of its flow: the marks of connections are left to others, and so are the bits
//! of the packet's mark that are not ours.

use super::parts::{
    R1, base, chain, ct_bits, destination, go, original_destination, source, to_prefix,
};
use super::traffic::is_reply;
use super::vocabulary::{BaseKind, Chain, CtKey, Expr, Hook, MetaKey, Register, Rule, Verdict};
use super::{named, names};
use crate::model::{Family, Site};

/// The priority that nft(8) calls mangle: behind conntrack (-200) and before any
/// address is translated (-100).
const MANGLE: i32 = -150;

/// `NF_CT_STATE_BIT` of `IP_CT_RELATED` and `IP_CT_NEW`
/// (include/uapi/linux/netfilter/nf_conntrack_common.h).
const RELATED_OR_NEW: u32 = 1 << 2 | 1 << 3;

/// The chains for as many uplinks; none for none.
pub(super) fn chains(site: &Site, uplinks: u32) -> Vec<Chain> {
    if uplinks == 0 {
        return Vec::new();
    }
    let reply = || is_reply(go("uplink_of_reply"));
    // What comes in for a floating IP. It is routed by what the main table knows,
    // but a strict reverse path filter asks by which uplink the sender is reached:
    // with the mark, if src_valid_mark says so.
    let mut came_in = of(destination, names::UPLINKS);
    came_in.push(reply());
    came_in.extend(of_sender(site));
    let mut sent = vec![reply()];
    sent.extend(of(source, names::UPLINKS));
    let mut chains = vec![
        base(
            "uplink_in",
            BaseKind::Filter,
            Hook::Prerouting,
            MANGLE,
            came_in,
        ),
        base("uplink_out", BaseKind::Route, Hook::Output, MANGLE, sent),
        chain(
            "uplink_of_reply",
            of(|family| vec![original_destination(family)], names::UPLINKS),
        ),
    ];
    chains.extend((1..=uplinks).map(|number| chain(&name(number), vec![mark(site, number)])));
    chains
}

/// The name of the chain that marks packets for an uplink.
#[must_use]
pub fn name(number: u32) -> String {
    format!("{PREFIX}{number}")
}

/// The number in such a name.
#[must_use]
pub fn number(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// How the names of the chains begin that mark packets.
const PREFIX: &str = "uplink_";

/// `… vmap @uplinks4` and its like: on to the chain of an address.
fn of(address: impl Fn(Family) -> Rule, map: &str) -> Vec<Rule> {
    let rule = |family| {
        let mut rule = address(family);
        rule.push(Expr::Lookup {
            set: named(map, family),
            key: R1,
            value: Some(Register::VERDICT),
        });
        rule
    };
    Family::BOTH.map(rule).to_vec()
}

/// Of a flow that a host began, what the host sends: as a floating IP, or
/// about to be translated to one.
fn of_sender(site: &Site) -> Vec<Rule> {
    let translated = |family| {
        let key = CtKey::ReplyDestination(family);
        vec![Expr::Ct { key, to: R1 }]
    };
    let mut rules = of(translated, names::UPLINKS);
    let destinations = site.untranslated.destinations.iter();
    rules.extend(destinations.map(|net| to_prefix(*net, Expr::Verdict(Verdict::Accept))));
    let first = |family| {
        let mut rule = ct_bits(CtKey::State, RELATED_OR_NEW);
        rule.extend(source(family));
        rule
    };
    rules.extend(of(first, names::FIXED_TO_UPLINK));
    rules
}

/// `meta mark set meta mark and not MASK or MARK`
fn mark(site: &Site, number: u32) -> Rule {
    let numbers = site.uplink_numbers;
    vec![
        Expr::Meta {
            key: MetaKey::Mark,
            to: R1,
        },
        Expr::Merge {
            register: R1,
            mask: !numbers.mask(),
            value: numbers.mark(number),
        },
        Expr::SetMark { from: R1 },
    ]
}
