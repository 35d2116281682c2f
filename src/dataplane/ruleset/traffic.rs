//! What every packet passes on its way out of the router: the sets that count,
//! and the guard.
//!
//! The chain is behind the source translation. So what goes out has its floating
//! IP as its source here, the first packet of a flow included. What comes in has
//! the address of its host by now, which tells nothing: a host may be reached by
//! several floating IPs and leave as another. But conntrack knows whom it was
//! for: of the first packet's direction it has the destination before
//! translation, of replies the one that they are sent to.
//!
//! What goes from host to host by a floating IP is no traffic with the outside.
//! It is translated both ways, as nothing else of ours is; so only such flows
//! are asked for their interfaces, which costs more than all the rest. They may
//! be others: a router with both sides on one interface, or a table of somebody
//! else that translates what comes in.

use super::{
    BaseKind, Chain, CmpOp, CtKey, DataType, Expr, Hook, MetaKey, R1, Rule, SRCNAT, STATUS_DNAT,
    STATUS_SNAT, Set, Stateful, Verdict, base, chain, ct_masked, go, guard_rule, lookup, named,
    names, on_interface, source,
};
use crate::model::{Direction, Family, Site};

/// Behind the source translation of ours and of others.
const BEHIND_SRCNAT: i32 = SRCNAT + 20;

/// The sets that count.
pub(super) fn sets(family: Family, size: u32) -> impl Iterator<Item = Set> {
    Direction::BOTH.into_iter().map(move |direction| Set {
        name: named(counted(direction), family),
        key: DataType::of(family),
        value: None,
        interval: false,
        size: Some(size),
        each: Some(Stateful::Counter),
    })
}

/// The name of the set that counts a direction, without the digit.
#[must_use]
pub fn counted(direction: Direction) -> &'static str {
    match direction {
        Direction::In => names::COUNTED_IN,
        Direction::Out => names::COUNTED_OUT,
    }
}

/// What every packet passes on its way out.
pub(super) fn chains(site: &Site) -> Vec<Chain> {
    let mut rules = Vec::new();
    let mut chains = Vec::new();
    if site.counters {
        for (status, name) in [
            (STATUS_DNAT, "inbound_flow"),
            (STATUS_SNAT, "outbound_flow"),
            (STATUS_DNAT | STATUS_SNAT, "twice_translated"),
        ] {
            rules.push(translated(status, go(name)));
        }
        chains.push(chain("inbound_flow", inbound_flow()));
        chains.push(chain("outbound_flow", outbound_flow()));
        chains.push(chain("twice_translated", twice_translated()));
        chains.push(chain("outbound", each_family(outbound)));
    }
    // What is translated is neither invalid nor untracked.
    rules.extend(site.guard.then(guard_rule));
    if !rules.is_empty() {
        chains.push(base(
            "leaving",
            BaseKind::Filter,
            Hook::Postrouting,
            BEHIND_SRCNAT,
            rules,
        ));
    }
    chains
}

/// Of a flow to a floating IP, what comes in and what is answered.
fn inbound_flow() -> Vec<Rule> {
    let mut rules = vec![direction(REPLY, vec![go("outbound")])];
    rules.extend(each_family(|family| {
        ended(inbound(CtKey::OriginalDestination(family), family))
    }));
    rules
}

/// Of a flow that a host began, what goes out and what is answered.
fn outbound_flow() -> Vec<Rule> {
    let mut rules = vec![direction(ORIGINAL, vec![go("outbound")])];
    rules.extend(each_family(|family| {
        ended(inbound(CtKey::ReplyDestination(family), family))
    }));
    rules
}

/// Of a flow that is translated both ways, what comes in from outside and what
/// goes out there.
fn twice_translated() -> Vec<Rule> {
    let mut rules = Vec::new();
    for (way, destination) in [
        (ORIGINAL, CtKey::OriginalDestination as fn(Family) -> CtKey),
        (REPLY, CtKey::ReplyDestination),
    ] {
        rules.extend(each_family(|family| {
            let then = inbound(destination(family), family);
            direction(way, on_interface(MetaKey::Iifname, then))
        }));
    }
    rules.push(on_interface(MetaKey::Oifname, vec![go("outbound")]));
    rules
}

/// What happens to what comes in for the floating IP that conntrack has there.
fn inbound(floating_ip: CtKey, family: Family) -> Rule {
    let load = Expr::Ct {
        key: floating_ip,
        to: R1,
    };
    vec![load, lookup(counted(Direction::In), family)]
}

/// What happens to what goes out: it has its floating IP as its source.
fn outbound(family: Family) -> Rule {
    let mut rule = source(family);
    rule.push(lookup(counted(Direction::Out), family));
    rule
}

/// The same rule for both families.
fn each_family(rule: impl Fn(Family) -> Rule) -> Vec<Rule> {
    Family::BOTH.map(rule).to_vec()
}

/// Once it applied, no other rule will.
fn ended(mut rule: Rule) -> Rule {
    rule.push(Expr::Verdict(Verdict::Accept));
    rule
}

/// `ct status & (snat | dnat) == …`
fn translated(status: u32, then: Expr) -> Rule {
    let mut rule = ct_masked(CtKey::Status, STATUS_DNAT | STATUS_SNAT);
    rule.extend([
        Expr::Cmp {
            op: CmpOp::Eq,
            register: R1,
            data: status.to_ne_bytes().to_vec(),
        },
        then,
    ]);
    rule
}

/// `IP_CT_DIR_ORIGINAL` and `IP_CT_DIR_REPLY`
/// (include/uapi/linux/netfilter/nf_conntrack_tuple_common.h).
const ORIGINAL: u8 = 0;
const REPLY: u8 = 1;

/// `ct direction reply …` and its like.
fn direction(number: u8, then: Rule) -> Rule {
    let load = Expr::Ct {
        key: CtKey::Direction,
        to: R1,
    };
    let compare = Expr::Cmp {
        op: CmpOp::Eq,
        register: R1,
        data: vec![number],
    };
    let mut rule = vec![load, compare];
    rule.extend(then);
    rule
}

/// `ct direction reply`
pub(super) fn is_reply(then: Expr) -> Rule {
    direction(REPLY, vec![then])
}
