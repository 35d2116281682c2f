//! What packets meet that the nat chains did not translate.

use super::names;
use super::parts::{
    FILTER, R1, STATE_INVALID, STATE_UNTRACKED, base, by_ipsec, chain, ct_bits, destination,
    drop_it, go, hop_limit, in_set, neighbour_discovery, no_iifname, on_interface, source,
    to_prefix,
};
use super::vocabulary::{BaseKind, Chain, CmpOp, CtKey, Expr, Hook, MetaKey, Rule, Verdict};
use crate::model::{Family, Untranslated};

/// Keeps packets that were not translated from the router's own services:
/// those that conntrack calls invalid or that somebody's notrack let through.
/// Replies to what the router itself sent to a floating IP do pass.
pub(super) fn guard_local(block_free: bool) -> Chain {
    let closed = |family| {
        let sets = if block_free {
            vec![names::POOL]
        } else {
            vec![names::FLOATING_TO_FIXED, names::FORWARDING]
        };
        let rules = sets.into_iter();
        rules.map(move |set| in_set(destination(family), set, family, drop_it()))
    };
    let reply = super::traffic::is_reply(Expr::Verdict(Verdict::Accept));
    let mut rules = vec![reply];
    rules.extend(closed(Family::V4));
    rules.push(neighbour_discovery());
    rules.extend(closed(Family::V6));
    base("guard_local", BaseKind::Filter, Hook::Input, FILTER, rules)
}

/// Keeps packets that the nat chains never saw from reaching a floating IP's
/// old host, and from leaving with a host's private address.
/// The router's own packets pass. They came by no interface; but the kernel
/// leaves the one that neighbour discovery goes out by where others have the one
/// that they came by (`ndisc_alloc_skb`). It is not tracked, and may have a
/// floating IP as its source. What is forwarded has one hop less.
pub(super) fn bypassed(untranslated: &Untranslated) -> Chain {
    let accept = || Expr::Verdict(Verdict::Accept);
    let mut own = no_iifname(CmpOp::Eq);
    own.push(accept());
    let mut discovery = hop_limit();
    discovery.extend([
        Expr::Cmp {
            op: CmpOp::Eq,
            register: R1,
            data: vec![255],
        },
        accept(),
    ]);
    let mut bypassed = vec![own, discovery];
    for family in Family::BOTH {
        bypassed.push(in_set(destination(family), names::POOL, family, drop_it()));
        bypassed.push(in_set(source(family), names::POOL, family, drop_it()));
    }
    bypassed.extend(untranslated.ipsec.then(|| by_ipsec(accept())));
    let destinations = untranslated.destinations.iter();
    bypassed.extend(destinations.map(|net| to_prefix(*net, accept())));
    for family in Family::BOTH {
        for translated in [names::FIXED_TO_FLOATING, names::FORWARDED_TO] {
            let translated = in_set(source(family), translated, family, drop_it());
            bypassed.push(on_interface(MetaKey::Oifname, translated));
        }
    }
    chain("bypassed", bypassed)
}

/// `ct state invalid,untracked goto bypassed`
pub(super) fn guard_rule() -> Rule {
    let mut untranslated = ct_bits(CtKey::State, STATE_INVALID | STATE_UNTRACKED);
    untranslated.push(go("bypassed"));
    untranslated
}
