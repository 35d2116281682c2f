//! What every packet passes on its way out of the router: the sets that limit and
//! those that count, and the guard.
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

use super::guard::guard_rule;
use super::parts::{
    R1, SRCNAT, STATUS_DNAT, STATUS_SNAT, base, chain, ct_masked, drop_it, go, lookup,
    on_interface, source,
};
use super::vocabulary::{
    BaseKind, Chain, CmpOp, CtKey, DataType, Expr, Hook, MetaKey, Rule, Set, Stateful, Verdict,
};
use super::{Uses, named, names};
use crate::model::{Direction, Family, Site};

/// Behind the source translation of ours and of others.
const BEHIND_SRCNAT: i32 = SRCNAT + 20;

/// The sets that limit, and those that count.
pub(super) fn sets(site: &Site, family: Family, size: u32) -> Vec<Set> {
    let set = |stem, each| Set {
        name: named(stem, family),
        key: DataType::of(family),
        value: None,
        interval: false,
        size: Some(size),
        each: Some(each),
    };
    let mut sets = Vec::new();
    for direction in Direction::BOTH {
        sets.push(set(limited(direction), Stateful::Limit));
        if site.counters {
            sets.push(set(counted(direction), Stateful::Counter));
        }
    }
    sets
}

/// The name of the set that limits a direction, without the digit.
#[must_use]
pub fn limited(direction: Direction) -> &'static str {
    match direction {
        Direction::In => names::LIMITED_IN,
        Direction::Out => names::LIMITED_OUT,
    }
}

/// The name of the set that counts a direction, without the digit.
#[must_use]
pub fn counted(direction: Direction) -> &'static str {
    match direction {
        Direction::In => names::COUNTED_IN,
        Direction::Out => names::COUNTED_OUT,
    }
}

/// What happens to the packets of floating IPs.
#[derive(Clone, Copy)]
struct Traffic {
    counters: bool,
    rates: [bool; 2],
}

/// What every packet passes on its way out.
pub(super) fn chains(site: &Site, uses: Uses) -> Vec<Chain> {
    let traffic = Traffic {
        counters: site.counters,
        rates: uses.rates,
    };
    let mut rules = Vec::new();
    let mut chains = Vec::new();
    if traffic.counters || traffic.rates.contains(&true) {
        for (status, name) in [
            (STATUS_DNAT, "inbound_flow"),
            (STATUS_SNAT, "outbound_flow"),
            (STATUS_DNAT | STATUS_SNAT, "twice_translated"),
        ] {
            rules.push(translated(status, go(name)));
        }
        chains.push(chain("inbound_flow", traffic.inbound_flow()));
        chains.push(chain("outbound_flow", traffic.outbound_flow()));
        chains.push(chain("twice_translated", traffic.twice_translated()));
        chains.push(chain(
            "outbound",
            traffic.rules(Direction::Out, source, None),
        ));
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

impl Traffic {
    /// Of a flow to a floating IP, what comes in and what is answered.
    fn inbound_flow(self) -> Vec<Rule> {
        let mut rules = vec![direction(REPLY, vec![go("outbound")])];
        rules.extend(self.inbound(CtKey::OriginalDestination, Some(accept())));
        rules
    }

    /// Of a flow that a host began, what goes out and what is answered.
    fn outbound_flow(self) -> Vec<Rule> {
        let mut rules = vec![direction(ORIGINAL, vec![go("outbound")])];
        rules.extend(self.inbound(CtKey::ReplyDestination, Some(accept())));
        rules
    }

    /// Of a flow that is translated both ways, what comes in from outside and
    /// what goes out there.
    fn twice_translated(self) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (way, destination) in [
            (ORIGINAL, CtKey::OriginalDestination as fn(Family) -> CtKey),
            (REPLY, CtKey::ReplyDestination),
        ] {
            let all = self.inbound(destination, None).into_iter();
            rules.extend(all.map(|rule| direction(way, on_interface(MetaKey::Iifname, rule))));
        }
        rules.push(on_interface(MetaKey::Oifname, vec![go("outbound")]));
        rules
    }

    /// What happens to what comes in for the floating IP that conntrack has
    /// there; and what then, if it is one that counts.
    fn inbound(self, floating_ip: fn(Family) -> CtKey, end: Option<Expr>) -> Vec<Rule> {
        let load = |family| {
            let key = floating_ip(family);
            vec![Expr::Ct { key, to: R1 }]
        };
        self.rules(Direction::In, load, end)
    }

    /// What is too much is dropped, and then what passes is counted.
    fn rules(
        self,
        direction: Direction,
        floating_ip: impl Fn(Family) -> Rule,
        end: Option<Expr>,
    ) -> Vec<Rule> {
        let mut rules = Vec::new();
        for family in Family::BOTH {
            let with = |rest: Rule| {
                let mut rule = floating_ip(family);
                rule.extend(rest);
                rule
            };
            if self.rates[direction.place()] {
                rules.push(with(vec![lookup(limited(direction), family), drop_it()]));
            }
            if self.counters {
                let mut rest = vec![lookup(counted(direction), family)];
                rest.extend(end.clone());
                rules.push(with(rest));
            }
        }
        rules
    }
}

/// Spares what is counted the rules of the other family.
fn accept() -> Expr {
    Expr::Verdict(Verdict::Accept)
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
