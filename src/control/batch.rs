//! The requests that have queued up, decided together: one commit, one nft
//! batch, each with its own answer.

use crate::audit::{Entry, Who};
use crate::authority::Authorized;
use crate::dataplane::{Cut, Tenants};
use crate::model::{
    Change, Event, EventKind, FixedIp, FloatingIp, Lease, Revision, Site, State, Timestamp,
};
use crate::plan::{self, Decision, Right, View};
use crate::request::{Outcome, Refusal, Request, Terms};

use super::Reply;

/// Requests that were granted, and the state they lead to.
#[derive(Debug)]
pub(super) struct Batch {
    /// The state after all of them.
    pub(super) state: State,
    /// What they alter, in order.
    pub(super) events: Vec<Event>,
    /// Their answers, but for what only applying them can tell.
    pub(super) granted: Vec<(Reply, Outcome)>,
    /// What is recorded of them once they are committed, in order.
    pub(super) trail: Vec<Entry>,
    revision: Revision,
    at: Timestamp,
}

impl Batch {
    pub(super) fn new(state: &State, at: Timestamp) -> Self {
        Self {
            state: state.clone(),
            events: Vec::new(),
            granted: Vec::new(),
            trail: Vec::new(),
            revision: state.revision().next(),
            at,
        }
    }

    /// Decides one more request on the state that the others leave. A refusal
    /// touches nothing.
    pub(super) fn decide(
        &mut self,
        view: View<'_>,
        request: &Authorized<Request>,
        terms: &Terms,
    ) -> Result<Outcome, Refusal> {
        let view = View {
            state: &self.state,
            now: self.at,
            ..view
        };
        let right = Right {
            actor: request.actor(),
            scope: request.scope(),
        };
        let decision = plan::decide(view, right, request.request())?;
        let Decision {
            floating,
            all,
            changes,
            previous,
            displaced,
        } = plan::bound(view, decision, request.request(), terms, self.at);
        let changed = !changes.is_empty();
        if !changed {
            self.trail.push(Entry::unchanged(
                &self.state,
                view.site,
                request.request(),
                request.who(),
                floating,
            ));
        }
        self.alter(changes, request.who());
        let resting = self.state.resting().get(floating).filter(|_| changed);
        let of = |floating| Some((floating, self.state.allocation(floating)?.clone()));
        Ok(Outcome {
            floating,
            all: all.into_iter().filter_map(of).collect(),
            changed,
            allocation: self.state.allocation(floating).cloned(),
            resting,
            pending: None,
            previous,
            displaced,
            revision: if changed {
                self.revision
            } else {
                self.state.revision()
            },
            sequence: self.state.sequence(),
            effects: None,
        })
    }

    /// Ends an allocation or association, if it is not over already.
    pub(super) fn expire(&mut self, site: &Site, floating: FloatingIp, of: Lease, who: &Who) {
        let changes = plan::expire(&self.state, site, floating, of, self.at);
        if changes.is_empty() {
            return;
        }
        self.state = self.state.clone().after_event();
        self.events
            .push(self.event(EventKind::Expired { floating, of }, who));
        self.alter(changes, who);
    }

    fn alter(&mut self, changes: Vec<Change>, who: &Who) {
        for change in changes {
            let before = self.state.allocation(change.floating()).cloned();
            self.state = self.state.clone().with(&change, self.at);
            let allocation = self.state.allocation(change.floating());
            let event = self.event(EventKind::Changed(change.clone()), who);
            let allocation = allocation.or(before.as_ref());
            self.trail
                .push(Entry::change(&event, &change, allocation, who));
            self.events.push(event);
        }
    }

    /// The last event of the state.
    fn event(&self, kind: EventKind, who: &Who) -> Event {
        Event {
            sequence: self.state.sequence(),
            revision: Some(self.revision),
            at: self.at,
            actor: who.actor,
            kind,
        }
    }

    /// The changes, in order.
    pub(super) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.events.iter().filter_map(|event| match &event.kind {
            EventKind::Changed(change) => Some(change),
            EventKind::Expired { .. }
            | EventKind::Activated { .. }
            | EventKind::Deferred { .. }
            | EventKind::Conflict { .. }
            | EventKind::Reloaded { .. }
            | EventKind::Repaired { .. } => None,
        })
    }

    /// The addresses that are altered, each once.
    pub(super) fn touched(&self) -> Vec<FloatingIp> {
        let mut touched: Vec<_> = self.changes().map(Change::floating).collect();
        touched.sort_unstable();
        touched.dedup();
        touched
    }

    /// The flows that must not go on as they are, and whether the answers have
    /// to wait until they have ended: they do where a host loses an address.
    pub(super) fn cuts(&self) -> (Vec<Cut>, bool) {
        let mut cuts = Vec::new();
        let mut wait = false;
        for change in self.changes() {
            match change {
                Change::Allocate { .. }
                | Change::Keep { .. }
                | Change::SetEnd { .. }
                | Change::Release { previous: None, .. } => {}
                Change::Update {
                    floating,
                    before,
                    after,
                } => {
                    let sources = &after.allowed_sources;
                    if *sources != before.allowed_sources && !sources.is_everybody() {
                        cuts.push(self.cut(*floating));
                        wait = true;
                    }
                }
                Change::Associate {
                    floating,
                    fixed,
                    previous,
                } => {
                    cuts.push(self.cut(*floating));
                    if self.keeps(*floating, *fixed) {
                        continue;
                    }
                    cuts.push(Cut::Outbound(*fixed));
                    // Until now it left as another one, by a forward.
                    let other = self.state.outbound_of(*fixed);
                    cuts.extend(other.map(|other| self.cut(other)));
                    wait |= previous.is_some() || other.is_some();
                }
                Change::Forward {
                    floating, forward, ..
                } => {
                    cuts.push(self.cut(*floating));
                    if self.state.source_of(forward.fixed()) == Some(*floating) {
                        cuts.push(Cut::Outbound(forward.fixed()));
                    }
                    // The host of the whole address loses these ports.
                    wait |= self.state.association(*floating).is_some();
                }
                Change::Disassociate { floating, .. }
                | Change::Unforward { floating, .. }
                | Change::Release {
                    floating,
                    previous: Some(_),
                    ..
                } => {
                    cuts.push(self.cut(*floating));
                    wait = true;
                }
            }
        }
        (cuts, wait)
    }

    /// Whether flows of that host from before go on, after all of the batch.
    fn keeps(&self, floating: FloatingIp, fixed: FixedIp) -> bool {
        let allocation = self.state.allocation(floating);
        allocation.is_some_and(|allocation| allocation.kept.contains(&fixed))
    }

    /// The cut of what does not belong to the hosts that have the address after
    /// all of the batch.
    fn cut(&self, floating: FloatingIp) -> Cut {
        let keep = Tenants::of(&self.state, floating);
        Cut::Floating { floating, keep }
    }
}
