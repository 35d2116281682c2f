//! The one place that knows the order of the stages.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use rpds::RedBlackTreeMapSync;

use crate::audit::Entry;
use crate::authority::Authorized;
use crate::chain;
use crate::dataplane::{IfIndex, Observed, Ruleset, Uses};
use crate::kernel::{Announcer, Flows, Kernel, Noticed};
use crate::model::{
    Actor, Change, ClockAnchor, Event, EventKind, Family, FloatingIp, InterfaceName, PendingReason,
    Recorded, Sequence, Site, State, Via,
};
use crate::plan::View;
use crate::request::{Outcome, Request, Terms};
use crate::store::{Store, StoreError};

use super::agenda::{Agenda, Look};
use super::batch::Batch;
use super::claims::Inquiry;
use super::cutter::Cutter;
use super::reload::FormerSite;
use super::{
    Clock, Handle, Health, Inbox, Measured, Message, Published, Rejection, Reply, Snapshot,
    Statistics,
};

/// The most messages that are taken at once.
const BATCH: usize = 1_024;

/// What the controller owns.
pub struct Parts {
    /// Where the desired state is kept.
    pub store: Box<dyn Store>,
    /// The kernel.
    pub kernel: Box<dyn Kernel>,
    /// The flows that conntrack keeps.
    pub flows: Box<dyn Flows>,
    /// Who tells the neighbours.
    pub announcer: Announcer,
    /// What time it is.
    pub clock: Box<dyn Clock>,
    /// The configuration.
    pub site: Site,
    /// What its reader wants the administrator to know.
    pub warnings: Vec<String>,
    /// Whether this is a kernel in memory.
    pub simulated: bool,
    /// What is counted.
    pub statistics: Statistics,
}

/// The owner of state, store and kernel.
pub struct Controller {
    pub(super) state: State,
    pub(super) site: Arc<Site>,
    pub(super) ruleset: Ruleset,
    /// What of it some address needs.
    pub(super) uses: Uses,
    pub(super) kernel: Box<dyn Kernel>,
    pub(super) announcer: Announcer,
    pub(super) cutter: Cutter,
    pub(super) agenda: Agenda,
    /// What the kernel was last seen to hold, with what was done since.
    pub(super) observed: Observed,
    /// Whether `observed` can be believed: not after an error.
    pub(super) certain: bool,
    /// The generation of the tables after our last look or act.
    pub(super) generation: Option<u32>,
    pub(super) pending: RedBlackTreeMapSync<FloatingIp, PendingReason>,
    /// Addresses that were altered while the kernel refused: their flows are
    /// still to be cut.
    pub(super) uncut: HashSet<FloatingIp>,
    /// What the neighbours are asked, and what they said.
    pub(super) inquiry: Inquiry,
    /// Interfaces that had no carrier since the last look: what is answered for
    /// there is to be announced.
    pub(super) risen: BTreeSet<IfIndex>,
    /// What is wrong, by the part of the daemon that found it.
    pub(super) problems: BTreeMap<&'static str, String>,
    pub(super) repairs: u64,
    /// The uplinks of which the log was told that no way out is known there.
    pub(super) unknown_ways: BTreeSet<(InterfaceName, Family)>,
    pub(super) clock: Box<dyn Clock>,
    /// Which run of the system this is.
    pub(super) boot: String,
    /// How the wall clock stood when all that has an end was last moved.
    pub(super) anchor: Option<ClockAnchor>,
    /// The uptime before which nothing is ended: the store failed just now.
    pub(super) due_after: Duration,
    /// Until which uptime what is on trial by that number can be confirmed.
    pub(super) deadlines: BTreeMap<u64, Duration>,
    /// The configuration that is put back unless the present one is confirmed.
    pub(super) former_site: Option<FormerSite>,
    pub(super) store: Box<dyn Store>,
    pub(super) warnings: Vec<String>,
    simulated: bool,
    pub(super) statistics: Statistics,
    inbox: Inbox,
    /// Answers that wait until flows have ended, by ticket.
    waiting: HashMap<u64, Vec<(Reply, Outcome)>>,
    last_ticket: u64,
}

impl Controller {
    /// Loads the store and makes the kernel agree with it. After this traffic
    /// passes, and requests can be taken.
    pub fn start(parts: Parts) -> Result<(Controller, Handle), StartError> {
        let Parts {
            mut store,
            kernel,
            flows,
            announcer,
            clock,
            site,
            warnings,
            simulated,
            statistics,
        } = parts;
        let kernel: Box<dyn Kernel> = Box::new(Measured::new(kernel, &statistics));
        let flows = Box::new(Measured::new(flows, &statistics));
        let state = store.load()?;
        // Adopting tells of uplinks.
        let uses = Uses::of(&state, 0);
        let size = |family| Ruleset::size_for(capacity(&site, &state, family));
        let ruleset = Ruleset::using(&site, size, uses);
        let first = Snapshot {
            state: state.clone(),
            pending: RedBlackTreeMapSync::default(),
            site: Arc::new(site.clone()),
            outside: Default::default(),
            health: Arc::default(),
            features: kernel.features(),
            simulated,
        };
        let (handle, inbox) = Handle::counting(first, statistics.clone());
        let tell = handle.clone();
        announcer.report_to(move |report| tell.tell(Message::Neighbours(report)));
        let cutter = Cutter::start(flows, handle.clone()).map_err(StartError::Thread)?;
        let mut controller = Controller {
            state,
            site: Arc::new(site),
            ruleset,
            uses,
            kernel,
            announcer,
            cutter,
            agenda: Agenda::default(),
            observed: Observed::default(),
            certain: false,
            generation: None,
            pending: RedBlackTreeMapSync::default(),
            uncut: HashSet::new(),
            inquiry: Inquiry::default(),
            risen: BTreeSet::new(),
            problems: BTreeMap::new(),
            repairs: 0,
            unknown_ways: BTreeSet::new(),
            boot: clock.boot(),
            clock,
            anchor: None,
            due_after: Duration::ZERO,
            deadlines: BTreeMap::new(),
            former_site: None,
            store,
            warnings,
            simulated,
            statistics,
            inbox,
            waiting: HashMap::new(),
            last_ticket: 0,
        };
        controller.anchor = controller.store.clock()?;
        controller.follow_clock();
        controller.watch_trials();
        controller.end_what_was_due();
        controller.adopt()?;
        controller.show();
        crate::memory::give_back();
        Ok((controller, handle))
    }

    /// Serves until it is told to stop. Traffic is left alone.
    pub fn run(mut self) {
        while self.serve() {}
        // A change that is committed is answered, even now.
        let Controller {
            cutter, waiting, ..
        } = self;
        cutter.finish();
        for (reply, outcome) in waiting.into_values().flatten() {
            let _ = reply.send(Ok(outcome));
        }
    }

    /// Waits for messages and takes all that have come. False means stop.
    fn serve(&mut self) -> bool {
        let now = Instant::now();
        let pauses = [
            self.agenda.pause(now),
            self.inquiry.pause(now),
            self.until_due(),
        ];
        let pause = pauses.into_iter().flatten().min().unwrap_or(Duration::MAX);
        let mut next = match self.inbox.messages.recv_timeout(pause) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        let mut requests = Vec::new();
        let mut go_on = true;
        let mut taken = 0;
        while let Some(message) = next {
            self.statistics.unqueue();
            match message {
                Message::Request(request, terms, reply) => requests.push((request, terms, reply)),
                Message::Stop => go_on = false,
                other => self.note(other),
            }
            taken += 1;
            next = if taken < BATCH && go_on {
                self.inbox.messages.try_recv().ok()
            } else {
                None
            };
        }
        self.end_what_is_due();
        if !requests.is_empty() {
            self.execute(requests);
        }
        if let Some(look) = self.agenda.take(Instant::now()) {
            self.repair(look);
            crate::memory::give_back();
        }
        self.attend(Instant::now());
        go_on
    }

    fn note(&mut self, message: Message) {
        let now = Instant::now();
        match message {
            Message::Request(..) | Message::Stop => unreachable!("serve takes these itself"),
            Message::History {
                floating,
                before,
                limit,
                reply,
            } => {
                let events = self.store.history(floating, before, limit);
                let _ = reply.send(events.map_err(|error| Rejection::StoreFailed(chain(&error))));
            }
            Message::Since {
                floating,
                after,
                before,
                limit,
                reply,
            } => {
                let _ = reply.send(self.since(floating, after, before, limit));
            }
            Message::Reload {
                site,
                warnings,
                actor,
                terms,
                reply,
            } => {
                let reloaded = self.reload(*site, warnings, actor, terms);
                // Who hung up meanwhile can read the log.
                let _ = reply.send(reloaded);
            }
            Message::SettleReload {
                keep,
                actor,
                terms,
                reply,
            } => {
                let _ = reply.send(self.settle_reload(keep, actor, terms));
            }
            Message::Noticed(Noticed::Links) => self.agenda.noticed(Look::Links, now),
            Message::Noticed(Noticed::Carrier(index)) => {
                self.risen.insert(index);
                self.agenda.noticed(Look::Links, now);
            }
            Message::Noticed(Noticed::Table | Noticed::Lost) => {
                self.agenda.noticed(Look::Everything, now)
            }
            Message::Neighbours(report) => self.inquiry.reports.push(report),
            Message::Watching => self.catch_up(now),
            Message::Cut { ticket, failure } => {
                self.report(
                    "flows",
                    failure.map(|why| format!("flows of moved addresses may go on: {why}")),
                );
                for (reply, outcome) in self.waiting.remove(&ticket).unwrap_or_default() {
                    let _ = reply.send(Ok(outcome));
                }
            }
            Message::Problem { part, text } => self.report(part, text),
            Message::Ping { reply } => {
                let _ = reply.send(());
            }
        }
    }

    /// Reads what happened after an event, if the log has all of that.
    fn since(
        &mut self,
        floating: Option<FloatingIp>,
        after: Sequence,
        before: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<Recorded>, Rejection> {
        let failed = |error: StoreError| Rejection::StoreFailed(chain(&error));
        let last = self.state.sequence();
        let first = self.store.earliest().map_err(failed)?;
        let first = first.unwrap_or(last.next());
        if after > last || after.next() < first {
            return Err(Rejection::SequenceGone { after, first, last });
        }
        self.store
            .since(floating, after, before, limit)
            .map_err(failed)
    }

    /// What happened between our last look and the first notification?
    fn catch_up(&mut self, now: Instant) {
        let untouched =
            self.generation.is_some() && self.kernel.generation().ok() == self.generation;
        self.agenda.noticed(
            if untouched {
                Look::Links
            } else {
                Look::Everything
            },
            now,
        );
    }

    /// Carries the requests that have queued up to the kernel, together.
    ///
    /// Whatever can refuse a request stands before the commit. After it nothing
    /// refuses: a failure there is a status, and is retried.
    fn execute(&mut self, requests: Vec<(Authorized<Request>, Terms, Reply)>) {
        let mut batch = Batch::new(&self.state, self.clock.now());
        let mut dry = Vec::new();
        for (request, terms, reply) in requests {
            if terms.dry_run {
                dry.push((request, terms, reply));
                continue;
            }
            match batch.decide(self.view(), &request, &terms) {
                Ok(outcome) => batch.granted.push((reply, outcome)),
                Err(refusal) => {
                    let (request, who) = (request.request(), request.who());
                    Entry::refusal(&batch.state, &self.site, request, who, &refusal).write();
                    let _ = reply.send(Err(refusal.into()));
                }
            }
        }
        self.carry(batch);
        // They are told what would follow on all that is done.
        for (request, terms, reply) in dry {
            let forecast = self.forecast(&request, &terms);
            let _ = reply.send(forecast.map_err(Rejection::from));
        }
    }

    /// What decisions are made on.
    pub(super) fn view(&self) -> View<'_> {
        View {
            state: &self.state,
            site: &self.site,
            surroundings: &self.observed.surroundings,
            ruleset: &self.ruleset,
            now: self.clock.now(),
        }
    }

    /// Commits a batch and makes the kernel agree.
    pub(super) fn carry(&mut self, mut batch: Batch) {
        if batch.events.is_empty() {
            if self.asked_again(&batch) {
                self.show();
            }
            batch.trail.iter().for_each(Entry::write);
            self.answer(batch.granted);
            return;
        }
        if let Err(error) = self.commit(&batch.events) {
            self.refuse_all(batch, &error);
            return;
        }
        self.report("store", None);

        // No return.
        let before = std::mem::replace(&mut self.state, batch.state.clone().committed());
        self.asked_again(&batch);
        self.watch_trials();
        let applied = self.apply(&batch.touched());
        self.show();
        batch.trail.iter().for_each(Entry::write);
        let (cuts, wait) = batch.cuts();
        self.publish(std::mem::take(&mut batch.events), &before);
        if !applied {
            self.uncut.extend(batch.touched());
            self.answer(batch.granted);
            return;
        }
        self.last_ticket += 1;
        if !cuts.is_empty() {
            self.cutter.cut(self.last_ticket, cuts);
        }
        if wait {
            let answers = self.with_status(batch.granted);
            self.waiting.insert(self.last_ticket, answers);
        } else {
            self.answer(batch.granted);
        }
    }

    /// Commits events that follow the state.
    pub(super) fn commit(&mut self, events: &[Event]) -> Result<(), StoreError> {
        let Self {
            statistics,
            store,
            state,
            ..
        } = self;
        statistics.commit(events, || store.commit(state.revision(), events))
    }

    /// Finds out anew about the addresses of a batch that other machines have.
    fn asked_again(&mut self, batch: &Batch) -> bool {
        let asked = batch.granted.iter().map(|(_, outcome)| outcome.floating);
        let asked: Vec<_> = asked.filter(|floating| self.ask_again(*floating)).collect();
        !asked.is_empty()
    }

    fn refuse_all(&mut self, batch: Batch, error: &StoreError) {
        let why = chain(error);
        tracing::error!(error = %why, "nothing was changed: the store did not take it");
        self.report("store", Some(format!("changes are refused: {why}")));
        let rejection = Rejection::StoreFailed(why);
        for entry in batch.trail {
            entry.not_done(rejection.name()).write();
        }
        for (reply, _) in batch.granted {
            let _ = reply.send(Err(rejection.clone()));
        }
        if matches!(error, StoreError::Conflict { .. }) {
            // Nobody else may write our store; what we know of it is wrong.
            tracing::error!("the store was altered by somebody else; stopping, traffic goes on");
            crate::logging::finish();
            std::process::exit(1);
        }
    }

    fn with_status(&self, granted: Vec<(Reply, Outcome)>) -> Vec<(Reply, Outcome)> {
        let status = |outcome: Outcome| Outcome {
            pending: self.pending.get(&outcome.floating).cloned(),
            ..outcome
        };
        granted
            .into_iter()
            .map(|(reply, outcome)| (reply, status(outcome)))
            .collect()
    }

    fn answer(&self, granted: Vec<(Reply, Outcome)>) {
        for (reply, outcome) in self.with_status(granted) {
            // Who hung up meanwhile can ask again: asking twice is no error.
            let _ = reply.send(Ok(outcome));
        }
    }

    /// Records what follows no commit, and tells subscribers.
    pub(super) fn record(&mut self, kinds: Vec<EventKind>) {
        let own = Actor {
            uid: nix::unistd::getuid().as_raw(),
            via: Via::Daemon,
        };
        self.record_of(own, kinds);
    }

    /// The same for what somebody asked for.
    pub(super) fn record_of(&mut self, actor: Actor, kinds: Vec<EventKind>) {
        if kinds.is_empty() {
            return;
        }
        let mut state = self.state.clone();
        let mut events = Vec::new();
        for kind in kinds {
            state = state.after_event();
            events.push(Event {
                sequence: state.sequence(),
                revision: None,
                at: self.clock.now(),
                actor,
                kind,
            });
        }
        match self.commit(&events) {
            Ok(()) => {
                self.state = state;
                self.show();
                self.publish(events, &self.state);
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "an event could not be recorded; traffic is not concerned");
            }
        }
    }

    /// Tells subscribers what is now true, and whose it is or was before.
    fn publish(&self, events: Vec<Event>, before: &State) {
        if self.inbox.events.receiver_count() == 0 {
            return;
        }
        let snapshot = self.inbox.snapshots.borrow().clone();
        for event in events {
            let floating = event.kind.floating();
            let state = floating.map(|floating| snapshot.state_of(floating));
            let states = match event.kind {
                EventKind::Changed(Change::Release { .. }) => [before, &snapshot.state],
                EventKind::Changed(_)
                | EventKind::Expired { .. }
                | EventKind::Activated { .. }
                | EventKind::Deferred { .. }
                | EventKind::Conflict { .. }
                | EventKind::Reloaded { .. }
                | EventKind::Repaired { .. } => [&snapshot.state, before],
            };
            let mut allocations = states
                .into_iter()
                .filter_map(|state| state.allocation(floating?));
            let owner = allocations.next().map(|allocation| allocation.owner);
            let published = Published {
                event,
                state,
                owner,
            };
            let _ = self.inbox.events.send(Arc::new(published));
        }
    }

    /// Shows what is now true.
    pub(super) fn show(&self) {
        let mut warnings = self.warnings.clone();
        warnings.extend(self.kept_addresses());
        warnings.extend(self.former_site.as_ref().map(FormerSite::warning));
        let health = Health {
            problems: self.problems.values().cloned().collect(),
            warnings,
            repairs: self.repairs,
        };
        self.inbox.snapshots.send_replace(Arc::new(Snapshot {
            state: self.state.clone(),
            pending: self.pending.clone(),
            site: self.site.clone(),
            outside: self.observed.outside.clone(),
            health: Arc::new(health),
            features: self.kernel.features(),
            simulated: self.simulated,
        }));
    }

    /// Pool addresses that the administrator put on an interface, as the
    /// original told its users to.
    fn kept_addresses(&self) -> Vec<String> {
        let own = self.observed.surroundings.addresses.iter();
        own.filter_map(|own| {
            let floating = FloatingIp::new(own.net.addr()).ok()?;
            self.site.pool_of(floating)?;
            Some(if own.is_primary() {
                format!(
                    "{} on {} is an address of the router and of a pool; it is not given out, and not closed",
                    own.net, own.interface
                )
            } else {
                format!(
                    "{} is on {}, so the router answers for it even while it is free; it is kept, \
                     and no longer needed there",
                    own.net, own.interface
                )
            })
        })
        .collect()
    }

    /// A part of the daemon has a problem, or has it no longer.
    pub(super) fn report(&mut self, part: &'static str, text: Option<String>) {
        if self.problems.get(part) == text.as_ref() {
            return;
        }
        match text {
            Some(text) => {
                tracing::warn!("{text}");
                self.problems.insert(part, text);
            }
            None => {
                self.problems.remove(part);
            }
        }
        self.show();
    }
}

/// Why the controller could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] crate::kernel::KernelError),
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// The store is empty, and the kernel is not.
    #[error(
        "the store is new, but this router translates for {in_use} floating IPs: it was lost; put \
         a copy of it in its place, or end them with `ipfloaterd --teardown`; traffic goes on as \
         it is"
    )]
    StoreLost {
        /// How many floating IPs the kernel knows hosts of.
        in_use: usize,
    },
}

/// How many addresses of a family can be associated: those of the pools, and
/// those that came from pools that are gone.
pub(super) fn capacity(site: &Site, state: &State, family: Family) -> u64 {
    let orphans = state
        .allocations()
        .filter(|(floating, _)| floating.family() == family && site.pool_of(*floating).is_none())
        .count();
    site.capacity(family).saturating_add(orphans as u64)
}
