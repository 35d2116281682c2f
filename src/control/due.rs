//! What the daemon does by itself when its time has come.

use std::time::Duration;

use crate::audit::Who;
use crate::model::{Actor, Via};

use super::Controller;
use super::batch::Batch;

/// The longest sleep before something that has an end: the wall clock may be set
/// meanwhile, and the system may have slept.
const NAP: Duration = Duration::from_secs(2);

/// How long after a failure of the store it is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// As many ends go into one commit.
const ENDS: usize = 1_024;

impl Controller {
    /// How long until something is due; `None` when nothing has an end.
    pub(super) fn until_due(&self) -> Option<Duration> {
        let (at, ..) = self.state.ends().next()?;
        let left = u64::try_from(at.0 - self.clock.now().0).unwrap_or_default();
        let patience = self.due_after.saturating_sub(self.clock.uptime());
        Some(Duration::from_secs(left).min(NAP).max(patience))
    }

    /// Ends what is over.
    pub(super) fn end_what_is_due(&mut self) {
        while let Some(batch) = self.due() {
            let before = self.state.revision();
            self.carry(batch);
            if self.state.revision() == before {
                self.due_after = self.clock.uptime() + AGAIN;
            }
        }
    }

    /// Ends what was over before the start. The kernel follows with the rest.
    pub(super) fn end_what_was_due(&mut self) {
        while let Some(mut batch) = self.due() {
            match self.store.commit(self.state.revision(), &batch.events) {
                Ok(()) => {
                    self.state = batch.state.committed();
                    for entry in std::mem::take(&mut batch.trail) {
                        entry.write();
                    }
                }
                Err(error) => {
                    tracing::error!(error = %crate::chain(&error), "what is over could not be ended; will try again");
                    self.due_after = self.clock.uptime() + AGAIN;
                }
            }
        }
    }

    /// What is to be done now, if there is anything.
    fn due(&self) -> Option<Batch> {
        let now = self.clock.now();
        if self.clock.uptime() < self.due_after {
            return None;
        }
        let ends = self.state.ends().take_while(|(at, ..)| *at <= now);
        let mut batch = Batch::new(&self.state, now);
        for (_, floating, of) in ends.take(ENDS) {
            batch.expire(&self.site, floating, of, &itself("expiry"));
        }
        (!batch.events.is_empty()).then_some(batch)
    }
}

/// The daemon, as who does what nobody asks for.
fn itself(why: &str) -> Who {
    Who {
        actor: Actor {
            uid: nix::unistd::getuid().as_raw(),
            via: Via::Daemon,
        },
        caller: why.into(),
    }
}
