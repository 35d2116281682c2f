//! Who is turned away is logged, and cannot fill the log.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::warn;

/// The time for which refusals are counted.
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// As many refusals a minute have a line of their own.
pub(super) const TOLD: u64 = 20;

/// The refusals of this minute.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals(Arc<Mutex<Minute>>);

#[derive(Debug, Default)]
struct Minute {
    refused: u64,
    last: Option<SocketAddr>,
}

impl Refusals {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Somebody is refused.
    pub(super) fn refuse(&self, peer: SocketAddr, why: &dyn Display) {
        let mut minute = self.lock();
        minute.refused += 1;
        if minute.refused <= TOLD {
            warn!("refused {peer}: {why}");
        } else {
            minute.last = Some(peer);
        }
    }

    /// A minute is over: tells of those that had no line.
    pub(super) fn sum_up(&self) {
        let Minute { refused, last } = std::mem::take(&mut *self.lock());
        if let Some(last) = last {
            let more = refused - TOLD;
            warn!("refused {more} more in a minute, the last of them {last}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Minute> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
