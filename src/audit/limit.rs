//! How many records of what came to nothing a user has, so that whoever may not
//! cannot fill the log.
//!
//! Windows of time that follow each other, rather than one that slides: a user
//! has a number in it, and nothing else.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::model::Uid;

/// How many records of what came to nothing a user has in a [`WINDOW`]: enough
/// to see what somebody tries.
pub const PER_USER: u32 = 20;

/// How many all users but root have together. A user may have 65,536 user ids,
/// by those that user namespaces lend (subuid(5)).
pub const ALL_USERS: u32 = 200;

/// How long it is counted.
pub const WINDOW: Duration = Duration::from_secs(10);

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Write,
    /// And say that it is the last one.
    WriteLast,
    Count,
}

/// The records of this window, by user. It holds [`ALL_USERS`] users at most.
#[derive(Debug)]
pub(super) struct Limit {
    since: Instant,
    all: u32,
    by_user: HashMap<Uid, u32>,
    /// Those of users who are not even counted singly.
    others: u32,
}

impl Limit {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            all: 0,
            by_user: HashMap::new(),
            others: 0,
        }
    }

    /// Begins a new window when it is time, and tells what was not recorded in
    /// the last one.
    pub(super) fn turn(&mut self, now: Instant) -> Vec<(Option<Uid>, u32)> {
        if now.duration_since(self.since) < WINDOW {
            return Vec::new();
        }
        let last = std::mem::replace(self, Self::new(now));
        let mut missing: Vec<_> = last
            .by_user
            .into_iter()
            .filter(|(_, count)| *count > PER_USER)
            .map(|(uid, count)| (Some(uid), count - PER_USER))
            .collect();
        missing.sort_unstable();
        if last.others > 0 {
            missing.push((None, last.others));
        }
        missing
    }

    pub(super) fn count(&mut self, uid: Uid) -> Verdict {
        let mine = self.by_user.get(&uid).copied().unwrap_or(0);
        if self.all >= ALL_USERS && mine < PER_USER {
            self.others = self.others.saturating_add(1);
            return Verdict::Count;
        }
        let mine = mine.saturating_add(1);
        self.by_user.insert(uid, mine);
        if mine > PER_USER {
            return Verdict::Count;
        }
        self.all += 1;
        if mine == PER_USER {
            Verdict::WriteLast
        } else {
            Verdict::Write
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_so_many_records_and_is_told_which_is_the_last() {
        let start = Instant::now();
        let mut limit = Limit::new(start);
        for _ in 1..PER_USER {
            assert_eq!(limit.count(1000), Verdict::Write);
        }
        assert_eq!(limit.count(1000), Verdict::WriteLast);
        for _ in 0..7 {
            assert_eq!(limit.count(1000), Verdict::Count);
        }
        assert_eq!(
            limit.count(1001),
            Verdict::Write,
            "others are not concerned"
        );
        assert_eq!(limit.turn(start + WINDOW / 2), []);
        assert_eq!(limit.turn(start + WINDOW), [(Some(1000), 7)]);
        assert_eq!(limit.count(1000), Verdict::Write);
        assert_eq!(limit.turn(start + 2 * WINDOW), [], "it is told once");
    }

    #[test]
    fn many_users_together_have_no_more_than_all_and_take_no_room() {
        let start = Instant::now();
        let mut limit = Limit::new(start);
        let written = (0..100_000)
            .filter(|uid| limit.count(100_000 + uid) != Verdict::Count)
            .count();
        assert_eq!(written, ALL_USERS as usize);
        assert_eq!(limit.by_user.len(), ALL_USERS as usize);
        assert_eq!(limit.turn(start + WINDOW), [(None, 100_000 - ALL_USERS)]);
    }
}
