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
            let stay = staying(keep);
            let from = match keep.sources.is_everybody() {
                true => "",
                false => ", as far as these may be reached from there",
            };
            if stay.is_empty() {
                format!("those to and from {floating} end")
            } else {
                let stay = stay.join(" and ");
                format!("those to and from {floating} end, but for {stay}{from}")
            }
        }
        Cut::Outbound(fixed) => {
            format!(
                "those that {fixed} began towards the outside end, to begin with its floating IP"
            )
        }
    }
}

/// As many forwards are told one by one, and of more how many they are.
const FORWARDS_TOLD: usize = 8;

/// The flows of an address that are its hosts', which [`Tenants::have`] leaves
/// alone: by port where ports lead to hosts of their own.
fn staying(keep: &Tenants) -> Vec<String> {
    let Tenants {
        fixed,
        forwards,
        leaving,
        kept,
        sources: _,
    } = keep;
    let mut stay: Vec<_> = forwards.iter().map(by_port).collect();
    let more = stay.len().saturating_sub(FORWARDS_TOLD);
    stay.truncate(FORWARDS_TOLD);
    stay.extend((more > 0).then(|| format!("those by {more} more forwards")));
    let is_kept = |host: &FixedIp| kept.contains(host);
    stay.extend(
        fixed
            .filter(|host| !is_kept(host))
            .map(|host| match forwards.is_empty() {
                true => format!("those of {host}"),
                false => format!("those of {host} by other ports"),
            }),
    );
    stay.extend(kept.iter().map(|host| format!("those of {host}")));
    let is_told = |host: &FixedIp| is_kept(host) || *fixed == Some(*host);
    let leaving = leaving.iter().filter(|host| !is_told(host));
    stay.extend(leaving.map(|host| format!("those that {host} began")));
    stay
}

fn by_port(forward: &Forward) -> String {
    let (ports, protocol) = (forward.ports(), forward.protocol());
    let host = forward.fixed();
    match forward.keeps_ports() {
        true => format!("those by {ports}/{protocol} to {host}"),
        false => {
            let end = std::net::SocketAddr::new(host.ip(), forward.fixed_port().number());
            format!("those by {ports}/{protocol} to {end}")
        }
    }
}

pub(super) fn effect(kind: EffectKind, text: String) -> Effect {
    Effect { kind, text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Sources;

    fn tenants(fixed: &str, forwards: &[&str], leaving: &[&str], kept: &[&str]) -> Tenants {
        let hosts = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Tenants {
            fixed: fixed.parse().ok(),
            forwards: forwards.iter().map(|text| text.parse().unwrap()).collect(),
            leaving: hosts(leaving),
            sources: Sources::default(),
            kept: hosts(kept),
        }
    }

    #[test]
    fn what_goes_on_is_told_by_port_and_not_by_host_alone() {
        let (a, b) = ("10.0.0.1", "10.0.0.2");
        for (keep, stay) in [
            (tenants("", &[], &[], &[]), ""),
            (tenants(a, &[], &[a], &[]), ", but for those of 10.0.0.1"),
            // One of two ports to the same host is forwarded no longer.
            (
                tenants("", &["443/tcp -> 10.0.0.1:443"], &[], &[]),
                ", but for those by 443/tcp to 10.0.0.1",
            ),
            (
                tenants(a, &["80-81/udp -> 10.0.0.2:8080"], &[a], &[]),
                ", but for those by 80-81/udp to 10.0.0.2:8080 and those of 10.0.0.1 by other ports",
            ),
            (
                tenants("", &["80/tcp -> 10.0.0.2:80, outbound floating"], &[b], &[]),
                ", but for those by 80/tcp to 10.0.0.2 and those that 10.0.0.2 began",
            ),
            (
                tenants(b, &["80/tcp -> 10.0.0.2:8080"], &[b], &[a, b]),
                ", but for those by 80/tcp to 10.0.0.2:8080 and those of 10.0.0.1 and those of 10.0.0.2",
            ),
        ] {
            let cut = Cut::Floating {
                floating: "203.0.113.7".parse().unwrap(),
                keep,
            };
            let expected = format!("those to and from 203.0.113.7 end{stay}");
            assert_eq!(words(&cut), expected);
        }
        let many: Vec<_> = (1..=20)
            .map(|port| format!("{port}/tcp -> 10.0.0.1:{port}"))
            .collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let stay = staying(&tenants("", &many, &[], &[]));
        assert_eq!(stay.len(), FORWARDS_TOLD + 1);
        assert_eq!(stay[FORWARDS_TOLD], "those by 12 more forwards");
    }
}
