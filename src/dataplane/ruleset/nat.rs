//! What the first packet of a flow passes: whom it is for, and as whom it leaves.

use super::names;
use super::parts::{
    DSTNAT, R1, SRCNAT, STATUS_DNAT, after_address, base, both_addresses, by_ipsec, came_in, chain,
    ct_bits, destination, destination_and_port, drop_it, go, in_set, lookup, on_interface,
    original_destination, source, to_prefix, translate,
};
use super::vocabulary::{BaseKind, Chain, CtKey, Expr, Hook, MetaKey, Rule, Verdict};
use crate::model::{Family, Site};

pub(super) fn nat_chains(site: &Site, sources: bool) -> Vec<Chain> {
    let block_free = site.block_free;
    let both = |rule: fn(Family) -> Rule| Family::BOTH.map(rule);

    let mut to_fixed = both(|family| {
        translate(
            family,
            destination(family),
            names::FLOATING_TO_FIXED,
            to_address(family),
        )
    })
    .to_vec();
    // Asked last: what is associated, and what leads past us, pays nothing for
    // the forwards of others.
    let gate = if block_free {
        names::POOL
    } else {
        names::FORWARDING
    };
    to_fixed.extend(
        Family::BOTH.map(|family| in_set(destination(family), gate, family, go("by_port"))),
    );
    let mut to_floating = both(|family| {
        translate(
            family,
            source(family),
            names::FIXED_TO_FLOATING,
            Expr::Snat {
                family,
                address: R1,
            },
        )
    })
    .to_vec();
    let mut hairpin = to_floating.clone();
    hairpin.push(vec![Expr::Masquerade]);
    // What keeps its source must not have borrowed one of the pool.
    let mut untranslated = Vec::new();
    if block_free {
        untranslated.extend(both(|family| {
            let mut rule = came_in();
            rule.extend(in_set(source(family), names::POOL, family, drop_it()));
            rule
        }));
        to_floating.push(vec![go("untranslated")]);
    }
    let destinations = site.untranslated.destinations.iter();
    let exempt = destinations.map(|net| to_prefix(*net, go("untranslated")));
    to_floating.splice(0..0, exempt);

    let mut postrouting = Vec::new();
    if site.untranslated.ipsec {
        postrouting.push(by_ipsec(go("untranslated")));
    }
    postrouting.extend([
        on_interface(MetaKey::Oifname, vec![go("to_floating")]),
        on_interface(MetaKey::Iifname, vec![Expr::Verdict(Verdict::Accept)]),
    ]);
    postrouting.extend(both(|family| {
        let mut rule = ct_bits(CtKey::Status, STATUS_DNAT);
        rule.extend([
            original_destination(family),
            lookup(names::POOL, family),
            go("hairpin"),
        ]);
        rule
    }));

    let mut prerouting = Vec::new();
    let mut by_source_if_used = Vec::new();
    if sources {
        prerouting.extend(both(|family| {
            in_set(
                destination(family),
                names::FILTERED,
                family,
                go("by_source"),
            )
        }));
        by_source_if_used.push(chain("by_source", by_source()));
    }
    prerouting.push(vec![go("to_fixed")]);

    let mut chains = vec![
        base(
            "nat_prerouting",
            BaseKind::Nat,
            Hook::Prerouting,
            DSTNAT,
            prerouting,
        ),
        base(
            "nat_output",
            BaseKind::Nat,
            Hook::Output,
            DSTNAT,
            vec![vec![go("to_fixed")]],
        ),
        chain("to_fixed", to_fixed),
        chain("by_port", by_port()),
        base(
            "nat_postrouting",
            BaseKind::Nat,
            Hook::Postrouting,
            SRCNAT,
            postrouting,
        ),
        chain("to_floating", to_floating),
        chain("untranslated", untranslated),
        chain("hairpin", hairpin),
    ];
    chains.extend(by_source_if_used);
    chains
}

/// Who may reach a floating IP that is not for everybody: those of its prefixes
/// from outside, and the hosts.
pub(super) fn by_source() -> Vec<Rule> {
    let mut rules = Family::BOTH
        .map(|family| {
            let pair = both_addresses(family);
            in_set(pair, names::ALLOWED, family, go("to_fixed"))
        })
        .to_vec();
    rules.push(on_interface(MetaKey::Iifname, vec![drop_it()]));
    rules.push(vec![go("to_fixed")]);
    rules
}

/// Where ports of a floating IP lead, and then the rest of it: to the host that
/// has it, or nowhere.
pub(super) fn by_port() -> Vec<Rule> {
    let mut rules = Vec::new();
    for family in Family::BOTH {
        let port = Some(after_address(family)[0]);
        let to_port = Expr::Dnat {
            family,
            address: R1,
            port,
        };
        let key = destination_and_port(family);
        rules.push(translate(family, key.clone(), names::FORWARD, to_port));
        let to_host = to_address(family);
        rules.push(translate(
            family,
            key,
            names::FORWARD_RANGE,
            to_host.clone(),
        ));
        let address = destination(family);
        rules.push(translate(family, address, names::REST_TO_FIXED, to_host));
    }
    rules.push(vec![drop_it()]);
    rules
}

/// `dnat ip to`, the address alone.
pub(super) fn to_address(family: Family) -> Expr {
    Expr::Dnat {
        family,
        address: R1,
        port: None,
    }
}
