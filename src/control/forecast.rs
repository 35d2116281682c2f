//! What a change would do, without doing it.
//!
//! A dry run is decided as the change itself would be, on the state as it is,
//! and its delta is computed by the same code against what is known of the
//! kernel. Then everything is dropped.

use crate::audit::{self, Entry};
use crate::authority::Authorized;
use crate::dataplane::{Cut, Delta, IfIndex, Observed, Tenants};
use crate::model::{EventKind, FixedIp, FloatingIp, Forward, PendingReason, State};
use crate::request::{Effect, EffectKind, Outcome, Refusal, Request, Terms};

use super::Controller;
use super::batch::Batch;
use super::cutter::latest;

impl Controller {
    /// What would become of a request.
    pub(super) fn forecast(
        &mut self,
        request: &Authorized<Request>,
        terms: &Terms,
    ) -> Result<Outcome, Refusal> {
        let mut batch = Batch::new(&self.state, self.clock.now());
        let decided = batch.decide(self.view(), request, terms);
        let (asked, who) = (request.request(), request.who());
        let outcome = decided.inspect_err(|refusal| {
            Entry::refusal(&self.state, &self.site, asked, who, refusal).write();
        })?;
        let floating = outcome.floating;
        Entry::dry_run(&self.state, &self.site, asked, who, floating).write();

        let mut effects = stored(&batch);
        let touched = batch.touched();
        // What the kernel holds may be unknown, and then the change itself would
        // look first, too.
        let seen = if self.certain {
            Ok(None)
        } else {
            self.kernel.observe().map(Some)
        };
        let pending = match seen {
            Ok(seen) => {
                let observed = seen.as_ref().unwrap_or(&self.observed);
                let delta = self.difference(&batch.state, observed, &touched);
                effects.extend(in_kernel(&delta));
                effects.extend(answered_for(&delta, observed));
                self.pending_after(&batch.state, &delta, observed, floating)
            }
            Err(error) => Some(PendingReason::Kernel(error.to_string())),
        };
        effects.extend(waits(floating, pending.as_ref()));
        effects.extend(cut(&batch));
        Ok(Outcome {
            pending,
            revision: self.state.revision(),
            sequence: self.state.sequence(),
            effects: Some(effects),
            ..outcome
        })
    }

    /// What the address would wait for once the delta is applied.
    fn pending_after(
        &self,
        state: &State,
        delta: &Delta,
        observed: &Observed,
        floating: FloatingIp,
    ) -> Option<PendingReason> {
        let among = |list: &[(FloatingIp, IfIndex)]| list.iter().any(|(ip, _)| *ip == floating);
        let stays = observed.presence.contains_key(&floating) && !among(&delta.withdraw);
        if !state.is_in_use(floating) || stays || among(&delta.present) {
            return None;
        }
        self.desired_of(state).obstacle(floating, observed)
    }
}

/// The events that would be committed.
fn stored(batch: &Batch) -> Vec<Effect> {
    let events = batch.events.iter().filter_map(|event| match &event.kind {
        EventKind::Changed(change) => {
            let (verb, words) = (event.kind.verb(), audit::in_words(change));
            Some(effect(EffectKind::Store, format!("{verb}: {words}")))
        }
        EventKind::Expired { .. }
        | EventKind::Activated { .. }
        | EventKind::Deferred { .. }
        | EventKind::Conflict { .. }
        | EventKind::Reloaded { .. }
        | EventKind::Repaired { .. } => None,
    });
    events.collect()
}

/// As many orders are told one by one, and of more how many they are: a table
/// that is made anew has one for every address.
const ORDERS_TOLD: usize = 1_000;

/// The orders to the table.
pub(super) fn in_kernel(delta: &Delta) -> Vec<Effect> {
    let mut orders = delta.transaction.orders();
    orders.extend(delta.rerouting.orders());
    let more = orders.len().saturating_sub(ORDERS_TOLD);
    orders.truncate(ORDERS_TOLD);
    orders.extend((more > 0).then(|| format!("and {more} more elements")));
    let effects = orders.into_iter();
    effects
        .map(|order| effect(EffectKind::Kernel, order))
        .collect()
}

/// The addresses that the router would answer for, or would no longer.
pub(super) fn answered_for(delta: &Delta, observed: &Observed) -> Vec<Effect> {
    let on = |index: IfIndex| {
        let links = observed.links.iter();
        let mut named = links.filter(move |(_, link)| link.index == index);
        named
            .next()
            .map(|(name, link)| (name.clone(), link.clone()))
    };
    let withdrawn = delta.withdraw.iter().filter_map(|(floating, index)| {
        let (name, _) = on(*index)?;
        Some(format!("{floating} is no longer answered for on {name}"))
    });
    let presented = delta.present.iter().filter_map(|(floating, index)| {
        let (name, link) = on(*index)?;
        let announced = match link.mac {
            Some(_) => ", and announced there",
            None => "",
        };
        Some(format!("{floating} is answered for on {name}{announced}"))
    });
    withdrawn
        .chain(presented)
        .map(|text| effect(EffectKind::Address, text))
        .collect()
}

fn waits(floating: FloatingIp, pending: Option<&PendingReason>) -> Option<Effect> {
    let text = match pending? {
        PendingReason::Probing(_) => format!(
            "{floating} is answered for and announced once nobody else on the link says that it is his"
        ),
        reason @ (PendingReason::Starting
        | PendingReason::NoDefaultRoute
        | PendingReason::InterfaceMissing(_)
        | PendingReason::InterfaceDown(_)
        | PendingReason::NoGateway(_)
        | PendingReason::NoCarrier(_)
        | PendingReason::Contested { .. }
        | PendingReason::Kernel(_)) => format!("{floating} stays pending: {reason}"),
    };
    Some(effect(EffectKind::Address, text))
}

/// The flows that would end.
fn cut(batch: &Batch) -> Vec<Effect> {
    let (cuts, waits) = batch.cuts();
    let mut lines: Vec<_> = latest(&cuts).iter().rev().map(words).collect();
    if waits {
        lines.push("the answer comes when they have ended".to_owned());
    }
    let effects = lines.into_iter();
    effects
        .map(|text| effect(EffectKind::Flows, text))
        .collect()
}

fn words(cut: &Cut) -> String {
    match cut {
        Cut::Floating { floating, keep } => {
            let Tenants {
                fixed,
                forwards,
                leaving,
                kept,
                sources,
            } = keep;
            let hosts = fixed.iter().copied();
            let hosts = hosts
                .chain(forwards.iter().map(Forward::fixed))
                .chain(kept.iter().copied());
            let mut hosts: Vec<FixedIp> = hosts.chain(leaving.iter().copied()).collect();
            hosts.sort_unstable();
            hosts.dedup();
            let hosts: Vec<_> = hosts.iter().map(FixedIp::to_string).collect();
            let from = match sources.is_everybody() {
                true => "",
                false => ", as far as these may be reached from there",
            };
            if hosts.is_empty() {
                format!("those to and from {floating} end")
            } else {
                let hosts = hosts.join(" and ");
                format!("those to and from {floating} end, but for those of {hosts}{from}")
            }
        }
        Cut::Outbound(fixed) => {
            format!(
                "those that {fixed} began towards the outside end, to begin with its floating IP"
            )
        }
    }
}

pub(super) fn effect(kind: EffectKind, text: String) -> Effect {
    Effect { kind, text }
}
