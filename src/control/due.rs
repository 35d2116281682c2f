//! What the daemon does by itself when its time has come.

use std::time::Duration;

use crate::audit::Who;
use crate::model::{Actor, ClockAnchor, FloatingIp, Lease, Timestamp, Via};
use crate::request::Terms;

use super::Controller;
use super::batch::Batch;

/// The longest sleep before something that has an end: the wall clock may be set
/// meanwhile, and the system may have slept.
const NAP: Duration = Duration::from_secs(2);

/// Up to so many seconds the two clocks may drift apart, or be read a moment
/// after each other, before the wall clock counts as set.
const SET: u64 = 1;

/// How long after a failure of the store it is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// As many ends go into one commit.
const ENDS: usize = 1_024;

impl Controller {
    /// How long until something is due; `None` when nothing has an end.
    pub(super) fn until_due(&self) -> Option<Duration> {
        let (now, uptime) = (self.clock.now(), self.clock.uptime());
        let end = self.ends().next().map(|(at, ..)| {
            let left = u64::try_from(at.0 - now.0).unwrap_or_default();
            Duration::from_secs(left)
        });
        let site = self.former_site.as_ref().map(|former| former.deadline);
        let deadlines = self.deadlines.values().copied().chain(site);
        let deadline = deadlines.min().map(|at| at.saturating_sub(uptime));
        let next = end.into_iter().chain(deadline).min()?;
        let patience = self.due_after.saturating_sub(uptime);
        Some(next.min(NAP).max(patience))
    }

    /// Moves all that has an end when the wall clock was set, so that it ends when
    /// its time has passed. What was known before a reboot goes by the wall clock:
    /// how long the system was down nothing else tells.
    pub(super) fn follow_clock(&mut self) {
        let uptime = self.clock.uptime();
        if self.boot.is_empty() || uptime < self.due_after {
            return;
        }
        let up = i64::try_from(uptime.as_secs()).unwrap_or(i64::MAX);
        let ahead = self.clock.now().0.saturating_sub(up);
        let former = self
            .anchor
            .as_ref()
            .filter(|anchor| anchor.boot == self.boot);
        let by = former.map(|anchor| ahead.saturating_sub(anchor.ahead));
        if by.is_some_and(|by| by.unsigned_abs() <= SET) {
            return;
        }
        let boot = self.boot.clone();
        let (anchor, by) = (ClockAnchor { boot, ahead }, by.unwrap_or_default());
        if let Err(error) = self.store.set_clock(&anchor, by) {
            tracing::error!(error = %crate::chain(&error), "what has an end cannot follow the clock; will try again");
            self.due_after = uptime + AGAIN;
            return;
        }
        self.anchor = Some(anchor);
        if by != 0 {
            tracing::info!(
                "the wall clock was set by {by} s; all that has an end ends so much later by it"
            );
            self.state.later_by(by);
            self.show();
        }
    }

    /// Keeps the deadlines of what is on trial. They are counted by the uptime, so
    /// that a clock that is set makes them neither shorter nor longer; what was
    /// put on trial before the start has what is left by the wall clock, and never
    /// more than it had.
    pub(super) fn watch_trials(&mut self) {
        let (now, uptime) = (self.clock.now(), self.clock.uptime());
        let trials = self.state.trials();
        let deadlines = trials.map(|(_, trial)| {
            let whole = trial.until.0 - trial.since.0;
            let left = (trial.until.0 - now.0).clamp(0, whole.max(0));
            let left = Duration::from_secs(u64::try_from(left).unwrap_or_default());
            let known = self.deadlines.get(&trial.number).copied();
            (trial.number, known.unwrap_or(uptime + left))
        });
        self.deadlines = deadlines.collect();
    }

    /// The ends of what can end: not while it is on trial.
    fn ends(&self) -> impl Iterator<Item = (Timestamp, FloatingIp, Lease)> + '_ {
        let ends = self.state.ends();
        ends.filter(|(_, floating, _)| self.state.trial(*floating).is_none())
    }

    /// Ends what is over, and undoes what was not confirmed.
    pub(super) fn end_what_is_due(&mut self) {
        self.follow_clock();
        let uptime = self.clock.uptime();
        let former = self.former_site.as_ref();
        if former.is_some_and(|former| former.deadline <= uptime) {
            tracing::warn!("the configuration was not confirmed: the one before is back");
            let actor = itself("confirmation").actor;
            // There is one to put back.
            let _ = self.settle_reload(false, actor, Terms::default());
        }
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
            match self.commit(&batch.events) {
                Ok(()) => {
                    self.state = batch.state.committed();
                    self.watch_trials();
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
        let uptime = self.clock.uptime();
        let mut batch = Batch::new(&self.state, now);
        let late = self.deadlines.iter().filter(|(_, at)| **at <= uptime);
        for (number, _) in late {
            batch.revert(*number, &itself("confirmation"));
        }
        let ends = self.ends().take_while(|(at, ..)| *at <= now);
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
