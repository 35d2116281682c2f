//! What the daemon counts of itself, since it started.
//!
//! Everybody who does something holds a copy; all are the same. Counting takes a
//! lock for some tens of nanoseconds, under which nothing else is done.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::exposition::Histogram;
use crate::kernel::{KernelError, Operation};
use crate::model::{Event, EventKind};

/// The verbs that are counted: those of what alters something.
const VERBS: [&str; 10] = [
    "allocate",
    "associate",
    "disassociate",
    "forward",
    "unforward",
    "update",
    "release",
    "confirm",
    "revert",
    "reload",
];

/// The outcomes that are looked for before there is one: what was done, who might
/// not, and what was nobody's mistake.
const OUTCOMES: [&str; 4] = [
    crate::audit::GRANTED,
    crate::audit::DENIED,
    "Busy",
    "StoreFailed",
];

/// How much of the kernel is made to agree, and what comes of it.
const EXTENTS: [&str; 4] = ["start", "request", "links", "everything"];
const DONE: &str = "done";
const FAILED: &str = "failed";

/// What is counted. Clones are the same.
#[derive(Clone, Debug)]
pub struct Statistics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    since: Instant,
    queued: AtomicI64,
    waiting: AtomicI64,
    tallies: Mutex<Tallies>,
}

/// What was counted up to a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tallies {
    /// Requests that were answered, by verb and outcome.
    pub operations: BTreeMap<(&'static str, &'static str), u64>,
    /// How long they took, from the moment that they were allowed.
    pub operation: Histogram,
    /// How long commits took.
    pub commit: Histogram,
    /// Commits that the store did not take.
    pub commit_errors: u64,
    /// How long the kernel took, by what it was to do.
    pub kernel: BTreeMap<&'static str, Histogram>,
    /// What the kernel refused, by what it was to do.
    pub kernel_errors: BTreeMap<&'static str, u64>,
    /// How often the kernel was made to agree, by how much of it and the outcome.
    pub reconciliations: BTreeMap<(&'static str, &'static str), u64>,
    /// Events, by verb.
    pub events: BTreeMap<&'static str, u64>,
}

impl Default for Statistics {
    fn default() -> Self {
        // What is there at 0 can be seen to grow; what comes into being with its
        // first count cannot.
        let errors = Operation::WORDS.map(|operation| (operation, 0));
        let outcomes = OUTCOMES
            .into_iter()
            .flat_map(|outcome| VERBS.map(|verb| ((verb, outcome), 0)));
        let extents = EXTENTS
            .into_iter()
            .flat_map(|extent| [DONE, FAILED].map(|outcome| ((extent, outcome), 0)));
        let tallies = Tallies {
            operations: outcomes.collect(),
            kernel_errors: errors.into(),
            reconciliations: extents.collect(),
            events: EventKind::VERBS.map(|verb| (verb, 0)).into(),
            ..Tallies::default()
        };
        Self(Arc::new(Inner {
            since: Instant::now(),
            queued: AtomicI64::new(0),
            waiting: AtomicI64::new(0),
            tallies: Mutex::new(tallies),
        }))
    }
}

impl Statistics {
    /// What was counted until now.
    #[must_use]
    pub fn tallies(&self) -> Tallies {
        self.with(|tallies| tallies.clone())
    }

    /// For how long it has been counted.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.0.since.elapsed()
    }

    /// How many messages wait for the controller.
    #[must_use]
    pub fn queued(&self) -> i64 {
        self.0.queued.load(Ordering::Relaxed)
    }

    /// How many requests have no answer yet.
    #[must_use]
    pub fn waiting(&self) -> i64 {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// A request got this outcome.
    pub fn operation(&self, verb: &'static str, outcome: &'static str, took: Duration) {
        self.with(|tallies| {
            *tallies.operations.entry((verb, outcome)).or_default() += 1;
            tallies.operation.count(took.as_secs_f64());
        });
    }

    /// Somebody may not. That took as long as polkit, or a person, took.
    pub fn denied(&self, verb: &'static str) {
        let of = (verb, crate::audit::DENIED);
        self.with(|tallies| *tallies.operations.entry(of).or_default() += 1);
    }

    /// The kernel refused.
    pub fn kernel_error(&self, error: &KernelError) {
        let word = error.operation.word();
        self.with(|tallies| *tallies.kernel_errors.entry(word).or_default() += 1);
    }

    /// The kernel took so long.
    pub(super) fn kernel(&self, what: &'static str, took: Duration) {
        let seconds = took.as_secs_f64();
        self.with(|tallies| tallies.kernel.entry(what).or_default().count(seconds));
    }

    /// Has the store commit these events.
    pub(super) fn commit<E>(
        &self,
        events: &[Event],
        commit: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let begun = Instant::now();
        let committed = commit();
        let took = begun.elapsed().as_secs_f64();
        self.with(|tallies| {
            tallies.commit.count(took);
            if committed.is_err() {
                tallies.commit_errors += 1;
                return;
            }
            for event in events {
                *tallies.events.entry(event.kind.verb()).or_default() += 1;
            }
        });
        committed
    }

    /// The kernel was made to agree, or could not be.
    pub(super) fn reconciliation(&self, extent: &'static str, agrees: bool) {
        let outcome = if agrees { DONE } else { FAILED };
        self.with(|tallies| {
            *tallies
                .reconciliations
                .entry((extent, outcome))
                .or_default() += 1
        });
    }

    /// A message is on its way to the controller.
    pub(super) fn queue(&self) {
        self.0.queued.fetch_add(1, Ordering::Relaxed);
    }

    /// It has arrived, or could not be sent.
    pub(super) fn unqueue(&self) {
        self.0.queued.fetch_sub(1, Ordering::Relaxed);
    }

    fn with<R>(&self, act: impl FnOnce(&mut Tallies) -> R) -> R {
        // Nothing in here can be left half done.
        act(&mut self
            .0
            .tallies
            .lock()
            .unwrap_or_else(PoisonError::into_inner))
    }
}

/// A request that waits, for as long as this lives.
pub(super) struct Waiting(Statistics);

impl Waiting {
    pub(super) fn new(statistics: &Statistics) -> Self {
        statistics.0.waiting.fetch_add(1, Ordering::Relaxed);
        Self(statistics.clone())
    }

    /// It was answered.
    pub(super) fn answered(&self, verb: &'static str, outcome: &'static str, took: Duration) {
        self.0.operation(verb, outcome, took);
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiting")
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
