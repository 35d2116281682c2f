//! When to look at the kernel next, and how far.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Look {
    /// At interfaces, routes and addresses.
    Links,
    /// At everything.
    Everything,
}

/// Notifications come in bursts: one look serves all that arrive within this.
const BURST: Duration = Duration::from_millis(30);

/// The first and the longest pause before the kernel is tried again.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// So many repairs within so long are a fight, and repairs then slow down.
const FIGHT: usize = 5;
const FIGHT_WITHIN: Duration = Duration::from_secs(20);
const FIGHT_PAUSE: Duration = Duration::from_secs(5);

/// When to look at the kernel next, and how far.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    due: Option<(Instant, Look)>,
    retry: Option<Duration>,
    repairs: VecDeque<Instant>,
}

impl Agenda {
    /// Something was noticed: look soon.
    pub(super) fn noticed(&mut self, look: Look, now: Instant) {
        let pause = if look == Look::Everything && self.is_fight(now) {
            FIGHT_PAUSE
        } else {
            BURST
        };
        self.add(now + pause, look);
    }

    /// The kernel refused: try again, each time later. Says how much later.
    pub(super) fn retry(&mut self, now: Instant) -> Duration {
        let pause = self
            .retry
            .map_or(FIRST_RETRY, |last| (last * 2).min(LAST_RETRY));
        self.retry = Some(pause);
        self.add(now + pause, Look::Everything);
        pause
    }

    /// The kernel took everything.
    pub(super) fn settled(&mut self) {
        self.retry = None;
    }

    /// Something that somebody else did was put right.
    pub(super) fn repaired(&mut self, now: Instant) {
        self.repairs.push_back(now);
        if self.repairs.len() > FIGHT {
            self.repairs.pop_front();
        }
    }

    /// Whether somebody keeps undoing what is put right.
    pub(super) fn is_fight(&self, now: Instant) -> bool {
        self.repairs
            .iter()
            .filter(|at| now - **at <= FIGHT_WITHIN)
            .count()
            >= FIGHT
    }

    /// How long until the next look; `None` when none is due.
    pub(super) fn pause(&self, now: Instant) -> Option<Duration> {
        self.due.map(|(at, _)| at.saturating_duration_since(now))
    }

    /// The look that is due now, taken off the agenda.
    pub(super) fn take(&mut self, now: Instant) -> Option<Look> {
        let (at, look) = self.due?;
        if at > now {
            return None;
        }
        self.due = None;
        Some(look)
    }

    /// One look at a time: the earliest, and the furthest of those asked for.
    fn add(&mut self, at: Instant, look: Look) {
        self.due = Some(match self.due {
            Some((earlier, other)) => (earlier.min(at), other.max(look)),
            None => (at, look),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_notifications_is_one_look_that_goes_as_far_as_any_of_them() {
        let start = Instant::now();
        let mut agenda = Agenda::default();
        agenda.noticed(Look::Links, start);
        agenda.noticed(Look::Everything, start + BURST / 2);
        assert_eq!(agenda.take(start), None);
        assert_eq!(agenda.take(start + BURST), Some(Look::Everything));
        assert_eq!(agenda.take(start + BURST), None);
    }

    #[test]
    fn retries_come_later_each_time_until_one_succeeds() {
        let start = Instant::now();
        let mut agenda = Agenda::default();
        let pauses: Vec<_> = (0..7).map(|_| agenda.retry(start).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        agenda.settled();
        assert_eq!(agenda.retry(start), FIRST_RETRY);
    }

    #[test]
    fn who_keeps_undoing_repairs_is_answered_more_slowly() {
        let start = Instant::now();
        let mut agenda = Agenda::default();
        for _ in 0..FIGHT {
            assert!(!agenda.is_fight(start));
            agenda.repaired(start);
        }
        assert!(agenda.is_fight(start));
        agenda.noticed(Look::Everything, start);
        assert_eq!(agenda.pause(start), Some(FIGHT_PAUSE));
        assert!(!agenda.is_fight(start + FIGHT_WITHIN * 2));
    }
}
