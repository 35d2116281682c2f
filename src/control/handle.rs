//! What everybody else holds of the controller.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

use tokio::sync::{broadcast, oneshot, watch};

use crate::audit::{DRY_RUN, GRANTED, UNCHANGED};
use crate::authority::Authorized;
use crate::kernel::{Noticed, Report};
use crate::model::{Actor, Event, FloatingIp, Recorded, Sequence, Site, Timestamp, Uid};
use crate::request::{Effect, Outcome, Refusal, Request, Terms};

use super::statistics::Waiting;
use super::{AddressState, Snapshot, Statistics};

/// How many requests may wait for the controller; one more is told `Busy`.
pub const QUEUE: usize = 4_096;

/// How many events a subscriber may be behind before it is told that it lost
/// some.
const EVENTS_BEHIND: usize = 4_096;

/// Where the answer to a request goes. It is counted, also when nobody waits for
/// it any more.
#[derive(Debug)]
pub struct Reply {
    to: oneshot::Sender<Result<Outcome, Rejection>>,
    verb: &'static str,
    since: Instant,
    waiting: Waiting,
}

impl Reply {
    /// Answers, and says whether somebody still waited.
    pub fn send(self, answer: Result<Outcome, Rejection>) -> bool {
        let outcome = match &answer {
            Ok(outcome) if outcome.effects.is_some() => DRY_RUN,
            Ok(outcome) if outcome.changed => GRANTED,
            Ok(_) => UNCHANGED,
            Err(rejection) => rejection.name(),
        };
        self.waiting
            .answered(self.verb, outcome, self.since.elapsed());
        self.to.send(answer).is_ok()
    }
}

/// What the controller is sent.
#[derive(Debug)]
pub enum Message {
    /// A request, on what terms, and where its answer goes.
    Request(Authorized<Request>, Terms, Reply),
    /// A question about the event log, and where the answer goes.
    History {
        /// About this address, or all.
        floating: Option<FloatingIp>,
        /// Before this event, or up to the latest.
        before: Option<Sequence>,
        /// At most so many.
        limit: usize,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Vec<Event>, Rejection>>,
    },
    /// A question about what happened since, and where the answer goes.
    Since {
        /// About this address, or all.
        floating: Option<FloatingIp>,
        /// After this event.
        after: Sequence,
        /// Before this event, or up to the latest.
        before: Option<Sequence>,
        /// At most so many.
        limit: usize,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Vec<Recorded>, Rejection>>,
    },
    /// The configuration was read again.
    Reload {
        /// What it says.
        site: Box<Site>,
        /// What its reader wants the administrator to know.
        warnings: Vec<String>,
        /// Who asked for it.
        actor: Actor,
        /// On what terms.
        terms: Terms,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Reloaded, Rejection>>,
    },
    /// The configuration that is on trial stays, or is undone.
    SettleReload {
        /// Whether it stays.
        keep: bool,
        /// Who asked for it.
        actor: Actor,
        /// On what terms.
        terms: Terms,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Reloaded, Rejection>>,
    },
    /// Somebody else altered something in the kernel.
    Noticed(Noticed),
    /// Something was found out about who has an address on an outside link.
    Neighbours(Report),
    /// From now on a [`Message::Noticed`] follows whatever somebody else does.
    Watching,
    /// Flows that were to be cut are cut, or could not be.
    Cut {
        /// The ticket of the batch.
        ticket: u64,
        /// Why they could not.
        failure: Option<String>,
    },
    /// A part of the daemon has a problem, or has it no longer.
    Problem {
        /// Which part.
        part: &'static str,
        /// What is wrong, and the remedy.
        text: Option<String>,
    },
    /// Is the controller at work? The answer is the reply.
    Ping {
        /// Where the answer goes.
        reply: oneshot::Sender<()>,
    },
    /// Stop, leaving traffic alone.
    Stop,
}

/// Why a request has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// It cannot be granted.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too many requests wait.
    #[error("too many requests wait; try again")]
    Busy,
    /// The store could not make it durable; nothing was altered.
    #[error("nothing was changed: {0}")]
    StoreFailed(String),
    /// The configuration that was to be read again is wrong; nothing was altered.
    #[error("{0}")]
    ConfigurationInvalid(String),
    /// The log does not go back to an event, or has not come to it.
    #[error(
        "the events after {after} are not in the log, which has {first} to {last}; read the state of now instead"
    )]
    SequenceGone {
        /// The event.
        after: Sequence,
        /// The earliest that the log has, or the next that it will have.
        first: Sequence,
        /// The latest.
        last: Sequence,
    },
    /// The configuration says that packets are not counted.
    #[error("packets are not counted; COUNTERS = yes in the configuration has them counted")]
    CountersOff,
    /// The kernel did not tell.
    #[error("{0}")]
    KernelFailed(String),
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

impl Rejection {
    /// The name of the error in `interfaces/`, without a prefix.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Rejection::Refused(refusal) => refusal.name(),
            Rejection::Busy => "Busy",
            Rejection::StoreFailed(_) => "StoreFailed",
            Rejection::ConfigurationInvalid(_) => "ConfigurationInvalid",
            Rejection::SequenceGone { .. } => "SequenceGone",
            Rejection::CountersOff => "CountersOff",
            Rejection::KernelFailed(_) => "KernelFailed",
            Rejection::Stopping => "Stopping",
        }
    }
}

/// What a configuration that was read again altered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// What is new, in words for a person; empty when it says the same.
    pub news: Vec<String>,
    /// The event of it, or the current one when nothing is new.
    pub sequence: Sequence,
    /// Until when it is to be confirmed, when it is.
    pub unconfirmed: Option<Timestamp>,
    /// Of a dry run: what would have been done, and was not.
    pub effects: Option<Vec<Effect>>,
}

/// An event, and what is true of its address since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// What happened.
    pub event: Event,
    /// The state of its address since; `None` for what concerns no single one.
    pub state: Option<AddressState>,
    /// Whose the address is or, after its release, was.
    pub owner: Option<Uid>,
}

/// The fronts' end of the controller.
#[derive(Clone, Debug)]
pub struct Handle {
    messages: mpsc::SyncSender<Message>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    events: broadcast::Sender<Arc<Published>>,
    statistics: Statistics,
}

/// The controller's end.
#[derive(Debug)]
pub struct Inbox {
    /// What it is sent.
    pub messages: mpsc::Receiver<Message>,
    /// Where it shows what is true.
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    /// Where it tells what happened.
    pub events: broadcast::Sender<Arc<Published>>,
}

impl Handle {
    /// Both ends, with what is true before the first request.
    #[must_use]
    pub fn new(first: Snapshot) -> (Handle, Inbox) {
        Self::counting(first, Statistics::default())
    }

    /// The same, with what is to be counted by.
    pub(super) fn counting(first: Snapshot, statistics: Statistics) -> (Handle, Inbox) {
        let (sender, messages) = mpsc::sync_channel(QUEUE);
        let (shown, snapshots) = watch::channel(Arc::new(first));
        let (events, _) = broadcast::channel(EVENTS_BEHIND);
        let handle = Handle {
            messages: sender,
            snapshots,
            events: events.clone(),
            statistics,
        };
        (
            handle,
            Inbox {
                messages,
                snapshots: shown,
                events,
            },
        )
    }

    /// Has a request carried out on these terms, and waits for what became of it.
    pub async fn submit(
        &self,
        request: Authorized<Request>,
        terms: Terms,
    ) -> Result<Outcome, Rejection> {
        let (to, answer) = oneshot::channel();
        let reply = Reply {
            to,
            verb: request.request().verb(),
            since: Instant::now(),
            waiting: Waiting::new(&self.statistics),
        };
        self.send(Message::Request(request, terms, reply))?;
        answer.await.map_err(|_| Rejection::Stopping)?
    }

    /// Takes a configuration that was read again, and waits until the kernel
    /// agrees with it or is known not to.
    pub async fn reload(
        &self,
        site: Site,
        warnings: Vec<String>,
        actor: Actor,
        terms: Terms,
    ) -> Result<Reloaded, Rejection> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Reload {
            site: Box::new(site),
            warnings,
            actor,
            terms,
            reply,
        })?;
        answer.await.map_err(|_| Rejection::Stopping)?
    }

    /// Has the configuration that is on trial stay, or the one before put back.
    pub async fn settle_reload(
        &self,
        keep: bool,
        actor: Actor,
        terms: Terms,
    ) -> Result<Reloaded, Rejection> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::SettleReload {
            keep,
            actor,
            terms,
            reply,
        })?;
        answer.await.map_err(|_| Rejection::Stopping)?
    }

    /// Reads the event log, latest first.
    pub async fn history(
        &self,
        floating: Option<FloatingIp>,
        before: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<Event>, Rejection> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::History {
            floating,
            before,
            limit,
            reply,
        })?;
        answer.await.map_err(|_| Rejection::Stopping)?
    }

    /// Reads what happened after an event, earliest first, if the log has all of
    /// that.
    pub async fn since(
        &self,
        floating: Option<FloatingIp>,
        after: Sequence,
        before: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<Recorded>, Rejection> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Since {
            floating,
            after,
            before,
            limit,
            reply,
        })?;
        answer.await.map_err(|_| Rejection::Stopping)?
    }

    /// Waits until the controller has come to this question.
    pub async fn ping(&self) -> Result<(), Rejection> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Ping { reply })?;
        answer.await.map_err(|_| Rejection::Stopping)
    }

    /// What is true now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }

    /// What is true, as it turns. Whoever is slow misses what was true between.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// What is true now, and everything that happens from now on. Events up to
    /// the snapshot's sequence may come again and are to be passed over.
    #[must_use]
    pub fn subscribe(&self) -> (Arc<Snapshot>, broadcast::Receiver<Arc<Published>>) {
        let events = self.events.subscribe();
        (self.snapshot(), events)
    }

    /// Waits until the controller is gone.
    pub async fn closed(&self) {
        let mut snapshots = self.snapshots.clone();
        while snapshots.changed().await.is_ok() {}
    }

    /// Sends what needs no answer; blocks while the controller's queue is full.
    /// For threads of the daemon, not for fronts.
    pub fn tell(&self, message: Message) {
        // It fails only when the controller is gone, and then so is the daemon.
        self.statistics.queue();
        let _ = self.messages.send(message);
    }

    /// What is counted.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    fn send(&self, message: Message) -> Result<(), Rejection> {
        self.statistics.queue();
        self.messages.try_send(message).map_err(|error| {
            self.statistics.unqueue();
            let (message, why) = match error {
                mpsc::TrySendError::Full(message) => (message, Rejection::Busy),
                mpsc::TrySendError::Disconnected(message) => (message, Rejection::Stopping),
            };
            if let Message::Request(_, _, reply) = message {
                // Its sender is told below.
                let _ = reply.send(Err(why.clone()));
            }
            why
        })
    }
}
