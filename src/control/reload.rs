//! Taking a configuration that was read again.
//!
//! It is a start without a stop: the new site takes the place of the old one,
//! and the same look at the kernel puts right what differs, in one transaction.
//! Addresses that are in no pool any more go on working.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::dataplane::{Delta, Desired, Ruleset};
use crate::model::{Actor, EventKind, Pool, PoolName, Site};
use crate::request::EffectKind;

use super::controller::capacity;
use super::forecast::{answered_for, effect, in_kernel};
use super::{Controller, Reloaded};

impl Controller {
    /// Takes the configuration, and makes the kernel agree or tries again later.
    pub(super) fn reload(&mut self, site: Site, warnings: Vec<String>, actor: Actor) -> Reloaded {
        let news = news(&self.site, &site);
        self.warnings = warnings;
        if news.is_empty() {
            self.show();
            return Reloaded {
                news,
                sequence: self.state.sequence(),
                effects: None,
            };
        }
        let pools = site.pools.iter();
        let ranges = pools.flat_map(|pool| pool.ranges.iter().copied()).collect();
        self.cutter.know(site.inside(), ranges);
        self.ruleset = self.ruleset_of(&site);
        self.site = Arc::new(site);
        self.follow();
        self.follow_announcing();
        let what = news.join("; ");
        self.record_of(actor, vec![EventKind::Reloaded { what }]);
        Reloaded {
            news,
            sequence: self.state.sequence(),
            effects: None,
        }
    }

    /// What the configuration would alter.
    pub(super) fn forecast_reload(&mut self, site: &Site) -> Reloaded {
        let news = news(&self.site, site);
        let stored = news.iter();
        let mut effects: Vec<_> = stored
            .map(|line| effect(EffectKind::Store, format!("reload: {line}")))
            .collect();
        if !news.is_empty() {
            match self.kernel.observe() {
                Ok(seen) => {
                    let ruleset = self.ruleset_of(site);
                    let desired = Desired::new(&ruleset, &self.state, site);
                    let desired = desired.by_claims(&self.inquiry.claims);
                    let delta = Delta::whole(&desired, &seen);
                    effects.extend(in_kernel(&delta));
                    effects.extend(answered_for(&delta, &seen));
                }
                Err(error) => effects.push(effect(
                    EffectKind::Kernel,
                    format!("it cannot be told now: {error}"),
                )),
            }
        }
        Reloaded {
            news,
            sequence: self.state.sequence(),
            effects: Some(effects),
        }
    }

    /// The table for a configuration. The maps may become larger, which makes the
    /// table anew, and stay as large as they were.
    fn ruleset_of(&self, site: &Site) -> Ruleset {
        Ruleset::using(
            site,
            |family| {
                let wanted = Ruleset::size_for(capacity(site, &self.state, family));
                wanted.max(self.ruleset.size(family))
            },
            self.uses,
        )
    }
}

/// What the new configuration says otherwise than the old one, a line each.
fn news(old: &Site, new: &Site) -> Vec<String> {
    let Site {
        pools,
        private,
        guard,
        block_free,
        counters,
        untranslated,
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
            Some(old) if old != pool => news.push(format!("pool {name} is another")),
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
    differs(*counters != old.counters, "COUNTERS is another");
    differs(
        *limits != old.limits,
        "quotas or permitted ranges are others",
    );
    news
}
