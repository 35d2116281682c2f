//! Answers of more than one reply.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::fault::Fault;
use super::front::value;
use crate::api::decode::{self, PAGE, Page};
use crate::authority::Sight;
use crate::control::{Published, Rejection, Snapshot};
use crate::model::{FloatingIp, Sequence};
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

/// What is true, and what happens.
#[derive(Debug)]
pub(super) struct Monitor {
    /// What is left to tell of the state, and from where on; dropped with the
    /// last page, so that an old state is not kept for as long as somebody
    /// listens.
    state: Option<(Arc<Snapshot>, Option<FloatingIp>)>,
    events: Receiver<Arc<Published>>,
    /// The last event that was told, by itself or as part of the state.
    told: Sequence,
    sight: Sight,
}

impl Monitor {
    pub(super) fn new(
        snapshot: Arc<Snapshot>,
        events: Receiver<Arc<Published>>,
        sight: Sight,
    ) -> Self {
        Self {
            told: snapshot.state.sequence(),
            state: Some((snapshot, None)),
            events,
            sight,
        }
    }

    async fn next(&mut self) -> Result<Part, Fault> {
        let message = match self.state.take() {
            Some((snapshot, after)) => self.page(snapshot, after),
            None => self.event().await?,
        };
        Ok(Part {
            parameters: value(&message),
            continues: true,
        })
    }

    fn page(&mut self, snapshot: Arc<Snapshot>, after: Option<FloatingIp>) -> Monitored {
        let page = Page { limit: PAGE, after };
        let (addresses, next) = decode::list(&snapshot, self.sight, &Filter::default(), page);
        let message = Monitored::state(&snapshot, addresses, next.is_none());
        self.state = next.map(|next| (snapshot, Some(next)));
        message
    }

    /// Whether the reader may know who did it and why: an event that concerns
    /// somebody's address concerns its owner.
    fn may_know(&self, published: &Published) -> bool {
        match self.sight {
            Sight::All => true,
            own @ Sight::Own(_) => published.owner.is_some() && own.reaches(published.owner),
        }
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
                return Ok(Monitored::event(&published, self.may_know(&published)));
            }
        }
    }
}
