//! What every packet passes on its way out of the router: the guard, and the
//! sets that count.
//!
//! The chain is behind the source translation. So what goes out has its floating
//! IP as its source here, the first packet of a flow included. What comes in has
//! the address of its host by now, which tells nothing: a host may be reached by
//! several floating IPs and leave as another. But conntrack knows whom it was
//! for: of the first packet's direction it has the destination before
//! translation, of replies the one that they are sent to.

use super::{
    BaseKind, Chain, CmpOp, CtKey, DataType, Expr, Hook, MetaKey, R1, Rule, SRCNAT, Set, Stateful,
    Verdict, base, chain, go, guard_rule, lookup, named, names, on_interface, source,
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
    rules.extend(site.guard.then(guard_rule));
    if site.counters {
        let jump = Expr::Verdict(Verdict::Jump("inbound".into()));
        rules.push(on_interface(MetaKey::Iifname, vec![jump]));
        rules.push(on_interface(MetaKey::Oifname, vec![go("outbound")]));
    }
    if rules.is_empty() {
        return Vec::new();
    }
    let mut chains = vec![base(
        "leaving",
        BaseKind::Filter,
        Hook::Postrouting,
        BEHIND_SRCNAT,
        rules,
    )];
    if site.counters {
        let mut inbound = vec![is_reply(go("replies"))];
        inbound.extend(inbound_rules(CtKey::OriginalDestination));
        chains.push(chain("inbound", inbound));
        let replies = inbound_rules(CtKey::ReplyDestination);
        chains.push(chain("replies", replies));
        chains.push(chain("outbound", outbound_rules()));
    }
    chains
}

/// What happens to what comes in for the address that conntrack has as this.
fn inbound_rules(floating_ip: fn(Family) -> CtKey) -> Vec<Rule> {
    let load = |family| {
        let key = floating_ip(family);
        vec![Expr::Ct { key, to: R1 }]
    };
    rules(Direction::In, load)
}

fn outbound_rules() -> Vec<Rule> {
    rules(Direction::Out, source)
}

/// What happens to packets of a direction, whose floating IP is loaded so.
fn rules(direction: Direction, floating_ip: impl Fn(Family) -> Rule) -> Vec<Rule> {
    let count = |family| {
        let mut rule = floating_ip(family);
        rule.push(lookup(counted(direction), family));
        rule
    };
    Family::BOTH.map(count).to_vec()
}

/// `ct direction reply`
pub(super) fn is_reply(then: Expr) -> Rule {
    vec![
        Expr::Ct {
            key: CtKey::Direction,
            to: R1,
        },
        Expr::Cmp {
            op: CmpOp::Eq,
            register: R1,
            data: vec![1],
        },
        then,
    ]
}
