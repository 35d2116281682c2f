//! What is new in a configuration, in words for a person.

use std::collections::BTreeMap;

use crate::model::{AddressRange, FloatingIp, Pool, PoolName, Site, State};

/// What the new configuration says otherwise than the old one, a line each.
pub(super) fn news(old: &Site, new: &Site, state: &State) -> Vec<String> {
    let Site {
        pools,
        private,
        guard,
        block_free,
        counters,
        untranslated,
        uplink_numbers,
        limits,
        rest,
    } = new;
    let by_name = |pools: &[Pool]| -> BTreeMap<PoolName, Pool> {
        let named = pools.iter().map(|pool| (pool.name.clone(), pool.clone()));
        named.collect()
    };
    let (before, after) = (by_name(&old.pools), by_name(pools));
    let mut news = Vec::new();
    for (name, pool) in &after {
        match before.get(name) {
            None => news.push(format!("pool {name} is new")),
            Some(old) if old != pool => {
                news.push(format!(
                    "pool {name} is another: {}",
                    differences(old, pool)
                ));
            }
            Some(_) => {}
        }
    }
    for name in before.keys() {
        if !after.contains_key(name) {
            news.push(format!(
                "pool {name} is gone; its addresses go on until they are released"
            ));
        }
    }
    let order = |site: &Site| -> Vec<PoolName> {
        site.pools.iter().map(|pool| pool.name.clone()).collect()
    };
    if news.is_empty() && order(old) != order(new) {
        news.push("the pools are in another order".to_owned());
    }
    news.extend(orphans(old, new, state));
    let mut differs = |is: bool, what: &str| {
        if is {
            news.push(what.to_owned());
        }
    };
    differs(*private != old.private, "the private ranges are others");
    differs(*rest != old.rest, "RELEASED_ADDRESS_REST is another");
    differs(*guard != old.guard, "GUARD_FORWARD is another");
    differs(*block_free != old.block_free, "BLOCK_PUBLIC_IPS is another");
    differs(
        untranslated.destinations != old.untranslated.destinations,
        "what is never translated is another",
    );
    differs(
        untranslated.ipsec != old.untranslated.ipsec,
        "LEAVE_IPSEC is another",
    );
    differs(
        *uplink_numbers != old.uplink_numbers,
        "UPLINK_MARKS or UPLINK_TABLES is another",
    );
    differs(
        *counters != old.counters,
        match counters {
            true => "COUNTERS is yes: packets are counted from now on, beginning at 0",
            false => "COUNTERS is no: packets are no longer counted, and what was counted is gone",
        },
    );
    differs(
        *limits != old.limits,
        "quotas or permitted ranges are others",
    );
    news
}

/// As many ranges or addresses are told of each kind.
const TOLD: usize = 3;

/// What a pool has otherwise.
fn differences(old: &Pool, new: &Pool) -> String {
    let Pool {
        name: _,
        ranges,
        interface,
        gateways,
        routed,
        announcing,
        hardware_addresses,
    } = new;
    let only_in = |these: &[AddressRange], those: &[AddressRange]| -> Vec<AddressRange> {
        these
            .iter()
            .flat_map(|range| range.outside_of(those))
            .collect()
    };
    let mut said = Vec::new();
    for (word, ranges) in [
        ("with", only_in(ranges, &old.ranges)),
        ("without", only_in(&old.ranges, ranges)),
    ] {
        if !ranges.is_empty() {
            said.push(format!("{word} {}", listed(&ranges)));
        }
    }
    for (is, what) in [
        (*interface != old.interface, "the outside interface"),
        (*gateways != old.gateways, "the gateways"),
        (*routed != old.routed, "whether it is routed"),
        (*announcing != old.announcing, "how it is announced"),
        (
            *hardware_addresses != old.hardware_addresses,
            "the hardware addresses",
        ),
    ] {
        if is {
            said.push(what.to_owned());
        }
    }
    said.join(", ")
}

/// The allocated addresses that are in a pool no more.
fn orphans(old: &Site, new: &Site, state: &State) -> Option<String> {
    let is_orphan =
        |floating: FloatingIp| old.pool_of(floating).is_some() && new.pool_of(floating).is_none();
    let allocated = state.allocations().map(|(floating, _)| floating);
    let orphans: Vec<_> = allocated.filter(|floating| is_orphan(*floating)).collect();
    let what = match orphans.len() {
        0 => return None,
        1 => "1 allocated address is in no pool any more, and goes".to_owned(),
        count => format!("{count} allocated addresses are in no pool any more, and go"),
    };
    Some(format!("{what} on until released: {}", listed(&orphans)))
}

fn listed(items: &[impl ToString]) -> String {
    let told: Vec<_> = items.iter().take(TOLD).map(ToString::to_string).collect();
    match items.len() - told.len() {
        0 => told.join(", "),
        more => format!("{} and {more} more", told.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Allocation, Limits, Revision, Sequence, Timestamp};

    fn pool(name: &str, ranges: &[(&str, &str)]) -> Pool {
        let range = |(first, last): &(&str, &str)| {
            AddressRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
        };
        Pool {
            name: name.parse().unwrap(),
            ranges: ranges.iter().map(range).collect(),
            interface: None,
            gateways: Vec::new(),
            routed: false,
            announcing: Default::default(),
            hardware_addresses: Default::default(),
        }
    }

    fn site(pools: Vec<Pool>) -> Site {
        Site {
            pools,
            private: Vec::new(),
            guard: true,
            block_free: true,
            counters: true,
            untranslated: Default::default(),
            uplink_numbers: Default::default(),
            rest: std::time::Duration::ZERO,
            limits: Limits::default(),
        }
    }

    fn allocated(last: &[u8]) -> State {
        let all = last.iter().map(|last| {
            let floating = format!("203.0.113.{last}").parse().unwrap();
            let allocation = Allocation::new(PoolName::default_pool(), 0, Timestamp(1));
            (floating, allocation)
        });
        State::load(Revision(1), Sequence(1), all)
    }

    #[test]
    fn what_a_pool_gained_and_lost_is_told_and_whose_pool_is_gone() {
        let old = site(vec![pool(
            "default",
            &[
                ("203.0.113.10", "203.0.113.19"),
                ("2001:db8::7", "2001:db8::8"),
            ],
        )]);
        for (pools, allocations, news) in [
            (old.pools.clone(), &[10][..], &[][..]),
            (
                vec![pool(
                    "default",
                    &[
                        ("203.0.113.10", "203.0.113.29"),
                        ("2001:db8::7", "2001:db8::8"),
                    ],
                )],
                &[10],
                &["pool default is another: with 203.0.113.20-203.0.113.29"],
            ),
            (
                vec![pool(
                    "default",
                    &[
                        ("203.0.113.8", "203.0.113.11"),
                        ("203.0.113.13", "203.0.113.14"),
                        ("2001:db8::8", "2001:db8::8"),
                    ],
                )],
                &[11, 12, 13],
                &[
                    "pool default is another: with 203.0.113.8-203.0.113.9, without 203.0.113.12, \
                     203.0.113.15-203.0.113.19, 2001:db8::7",
                    "1 allocated address is in no pool any more, and goes on until released: \
                     203.0.113.12",
                ],
            ),
            (
                vec![pool("other", &[("203.0.113.10", "203.0.113.12")])],
                &[11, 13, 14, 15, 16],
                &[
                    "pool other is new",
                    "pool default is gone; its addresses go on until they are released",
                    "4 allocated addresses are in no pool any more, and go on until released: \
                     203.0.113.13, 203.0.113.14, 203.0.113.15 and 1 more",
                ],
            ),
            (
                vec![Pool {
                    interface: "wan1".parse().ok(),
                    routed: true,
                    ..old.pools[0].clone()
                }],
                &[11],
                &["pool default is another: the outside interface, whether it is routed"],
            ),
        ] {
            let told = super::news(&old, &site(pools), &allocated(allocations));
            assert_eq!(told, news);
        }
        let quiet = Site {
            counters: false,
            ..old.clone()
        };
        assert_eq!(
            super::news(&old, &quiet, &State::default()),
            ["COUNTERS is no: packets are no longer counted, and what was counted is gone"]
        );
    }
}
