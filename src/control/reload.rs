//! Taking a configuration that was read again.
//!
//! It is a start without a stop: the new site takes the place of the old one,
//! and the same look at the kernel puts right what differs, in one transaction.
//! Addresses that are in no pool any more go on working.

use std::sync::Arc;
use std::time::Duration;

use crate::dataplane::{Delta, Desired, Ruleset, Uplinks, Uses};
use crate::model::{Actor, EventKind, Site, Timestamp};
use crate::request::{EffectKind, Refusal, Terms};

use super::controller::capacity;
use super::forecast::{answered_for, effect, in_kernel};
use super::news::news;
use super::{Controller, Rejection, Reloaded};

/// The configuration that is put back unless the present one is confirmed. It is
/// in memory alone: a daemon that starts reads the file as it is.
#[derive(Debug)]
pub(super) struct FormerSite {
    site: Arc<Site>,
    warnings: Vec<String>,
    /// Until when the present one can be confirmed, as the wall clock was then.
    until: Timestamp,
    /// The same as an uptime.
    pub(super) deadline: Duration,
}

impl FormerSite {
    /// What the administrator should know.
    pub(super) fn warning(&self) -> String {
        format!(
            "the configuration is not confirmed: the one before is put back at {} unless \
             `ipfloater confirm` is called",
            self.until
        )
    }
}

impl Controller {
    /// Takes the configuration, and makes the kernel agree or tries again later.
    pub(super) fn reload(
        &mut self,
        site: Site,
        warnings: Vec<String>,
        actor: Actor,
        terms: Terms,
    ) -> Result<Reloaded, Rejection> {
        if let Some(FormerSite { until, .. }) = self.former_site {
            let floating = None;
            return Err(Refusal::Unconfirmed { floating, until }.into());
        }
        if terms.dry_run {
            return Ok(self.forecast_reload(&site));
        }
        let former = FormerSite {
            site: self.site.clone(),
            warnings: std::mem::replace(&mut self.warnings, warnings),
            until: self.clock.now(),
            deadline: self.clock.uptime(),
        };
        let news = self.take_site(Arc::new(site), "", actor);
        if let Some(seconds) = terms.confirm
            && !news.is_empty()
        {
            let FormerSite {
                until, deadline, ..
            } = former;
            self.former_site = Some(FormerSite {
                until: Timestamp(until.0.saturating_add(seconds.into())),
                deadline: deadline + Duration::from_secs(seconds.into()),
                ..former
            });
        }
        self.show();
        Ok(self.reloaded(news))
    }

    /// Lets the configuration that is on trial stay, or puts the one before back.
    pub(super) fn settle_reload(
        &mut self,
        keep: bool,
        actor: Actor,
        terms: Terms,
    ) -> Result<Reloaded, Rejection> {
        let Some(former) = self.former_site.take() else {
            return Err(Refusal::NothingUnconfirmed { address: None }.into());
        };
        if terms.dry_run {
            let effects = Some(Vec::new());
            let forecast = if keep {
                let news = self.reloaded(Vec::new());
                Reloaded { effects, ..news }
            } else {
                self.forecast_reload(&former.site)
            };
            self.former_site = Some(former);
            return Ok(forecast);
        }
        let news = if keep {
            let what = "what is new in the configuration is confirmed".to_owned();
            self.record_of(actor, vec![EventKind::Reloaded { what }]);
            Vec::new()
        } else {
            self.warnings = former.warnings;
            self.take_site(former.site, "undone: ", actor)
        };
        self.show();
        Ok(self.reloaded(news))
    }

    /// Puts a configuration in force, and tells what is new in it.
    fn take_site(&mut self, site: Arc<Site>, prefix: &str, actor: Actor) -> Vec<String> {
        let news = news(&self.site, &site, &self.state);
        if news.is_empty() {
            return news;
        }
        let pools = site.pools.iter();
        let ranges = pools.flat_map(|pool| pool.ranges.iter().copied()).collect();
        self.cutter.know(site.inside(), ranges);
        self.uses = Uses::of(&self.state, Uplinks::new(&site, &self.observed).count());
        self.ruleset = self.ruleset_of(&site, self.uses);
        self.site = site;
        self.follow();
        self.follow_announcing();
        let what = format!("{prefix}{}", news.join("; "));
        self.record_of(actor, vec![EventKind::Reloaded { what }]);
        news
    }

    fn reloaded(&self, news: Vec<String>) -> Reloaded {
        Reloaded {
            news,
            sequence: self.state.sequence(),
            unconfirmed: self.former_site.as_ref().map(|former| former.until),
            effects: None,
        }
    }

    /// What the configuration would alter.
    fn forecast_reload(&mut self, site: &Site) -> Reloaded {
        let news = news(&self.site, site, &self.state);
        let stored = news.iter();
        let mut effects: Vec<_> = stored
            .map(|line| effect(EffectKind::Store, format!("reload: {line}")))
            .collect();
        if !news.is_empty() {
            match self.kernel.observe() {
                Ok(seen) => {
                    let uses = Uses::of(&self.state, Uplinks::new(site, &seen).count());
                    let ruleset = self.ruleset_of(site, uses);
                    let desired =
                        Desired::new(&ruleset, &self.state, site).by_claims(&self.inquiry.claims);
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
            effects: Some(effects),
            ..self.reloaded(news)
        }
    }

    /// The table for a configuration. The maps may become larger, which makes the
    /// table anew, and stay as large as they were.
    pub(super) fn ruleset_of(&self, site: &Site, uses: Uses) -> Ruleset {
        Ruleset::using(
            site,
            |family| {
                let wanted = Ruleset::size_for(capacity(site, &self.state, family));
                wanted.max(self.ruleset.size(family))
            },
            uses,
        )
    }
}
