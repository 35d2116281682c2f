//! Answers of more than one reply.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::fault::Fault;
use super::front::value;
use crate::api::decode::{self, PAGE, Page};
use crate::authority::Sight;
use crate::control::{Handle, Published, Rejection, Snapshot};
use crate::model::{FloatingIp, Recorded, Sequence, Uid};
use crate::wire::{Filter, Listed, Monitored};

/// An answer of more than one reply.
#[derive(Debug)]
pub(super) enum Stream {
    /// A list, page by page.
    Pages(Pages),
    /// What is true, and what happens.
    Monitor(Monitor),
}

/// One reply of a stream.
#[derive(Debug)]
pub(super) struct Part {
    /// What it says.
    pub(super) parameters: Value,
    /// Whether others follow.
    pub(super) continues: bool,
}

impl Stream {
    /// The next reply. Can be dropped while it waits, and nothing is lost.
    pub(super) async fn next(&mut self) -> Result<Part, Fault> {
        match self {
            Stream::Pages(pages) => Ok(pages.next()),
            Stream::Monitor(monitor) => monitor.next().await,
        }
    }
}

/// A list, page by page, all of one moment.
#[derive(Debug)]
pub(super) struct Pages {
    snapshot: Arc<Snapshot>,
    sight: Sight,
    filter: Filter,
    page: Page,
}

impl Pages {
    pub(super) fn new(snapshot: Arc<Snapshot>, sight: Sight, filter: Filter, page: Page) -> Self {
        Self {
            snapshot,
            sight,
            filter,
            page,
        }
    }

    fn next(&mut self) -> Part {
        let (addresses, next) = decode::list(&self.snapshot, self.sight, &self.filter, self.page);
        self.page.after = next;
        Part {
            parameters: value(&Listed { addresses, next }),
            continues: next.is_some(),
        }
    }
}

/// What is true, or what happened since, and then what happens.
#[derive(Debug)]
pub(super) struct Monitor {
    first: First,
    events: Receiver<Arc<Published>>,
    /// The last event that was told, by itself or as part of the state.
    told: Sequence,
    sight: Sight,
}

/// What is told before what happens.
#[derive(Debug)]
enum First {
    /// The state, from this address on; dropped with the last page, so that an
    /// old state is not kept for as long as somebody listens.
    State(Arc<Snapshot>, Option<FloatingIp>),
    /// Events of the log, up to this one.
    Log {
        handle: Handle,
        until: Sequence,
        read: VecDeque<Recorded>,
    },
    /// Nothing more.
    Told,
}

impl Monitor {
    /// Everything that is not free, and what happens.
    pub(super) fn new(
        snapshot: Arc<Snapshot>,
        events: Receiver<Arc<Published>>,
        sight: Sight,
    ) -> Self {
        Self {
            told: snapshot.state.sequence(),
            first: First::State(snapshot, None),
            events,
            sight,
        }
    }

    /// What happened after an event, and what happens.
    pub(super) async fn resume(
        handle: Handle,
        after: Sequence,
        sight: Sight,
    ) -> Result<Self, Rejection> {
        let (snapshot, events) = handle.subscribe();
        let until = snapshot.state.sequence();
        let read = handle.since(None, after, None, PAGE).await?.into();
        Ok(Self {
            told: after,
            first: First::Log {
                handle,
                until,
                read,
            },
            events,
            sight,
        })
    }

    async fn next(&mut self) -> Result<Part, Fault> {
        let message = match self.page().await? {
            Some(message) => message,
            None => self.event().await?,
        };
        Ok(Part {
            parameters: value(&message),
            continues: true,
        })
    }

    /// A part of what is told first, while there is any.
    async fn page(&mut self) -> Result<Option<Monitored>, Fault> {
        let message = match &mut self.first {
            First::State(snapshot, after) => {
                let page = Page {
                    limit: PAGE,
                    after: *after,
                };
                let (addresses, next) =
                    decode::list(snapshot, self.sight, &Filter::default(), page);
                let message = Monitored::state(snapshot, addresses, next.is_none());
                match next {
                    Some(_) => *after = next,
                    None => self.first = First::Told,
                }
                message
            }
            First::Log {
                handle,
                until,
                read,
            } => {
                if read.is_empty() && self.told < *until {
                    let lost = Fault::Overflow(self.told);
                    let more = handle.since(None, self.told, None, PAGE).await;
                    *read = more.map_err(|error| or_lost(error, lost))?.into();
                }
                let Some(Recorded { event, owner }) = read.pop_front() else {
                    self.first = First::Told;
                    return Ok(None);
                };
                self.told = event.sequence;
                Monitored::recorded(&event, may_know(self.sight, owner))
            }
            First::Told => return Ok(None),
        };
        Ok(Some(message))
    }

    async fn event(&mut self) -> Result<Monitored, Fault> {
        loop {
            let published = self.events.recv().await.map_err(|error| match error {
                RecvError::Lagged(_) => Fault::Overflow(self.told),
                RecvError::Closed => Fault::Rejected(Rejection::Stopping),
            })?;
            let sequence = published.event.sequence;
            if sequence > self.told {
                self.told = sequence;
                let everything = may_know(self.sight, published.owner);
                return Ok(Monitored::event(&published, everything));
            }
        }
    }
}

/// Whether the reader may know who did it and why: an event that concerns
/// somebody's address concerns its owner.
fn may_know(sight: Sight, owner: Option<Uid>) -> bool {
    match sight {
        Sight::All => true,
        own @ Sight::Own(_) => owner.is_some() && own.reaches(owner),
    }
}

/// A log that was cut off while it was read is a loss like any other.
fn or_lost(error: Rejection, lost: Fault) -> Fault {
    match error {
        Rejection::SequenceGone { .. } => lost,
        Rejection::Refused(_)
        | Rejection::Busy
        | Rejection::StoreFailed(_)
        | Rejection::ConfigurationInvalid(_)
        | Rejection::CountersOff
        | Rejection::KernelFailed(_)
        | Rejection::Stopping => error.into(),
    }
}
