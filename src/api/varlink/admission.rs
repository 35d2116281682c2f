//! How many connections there may be, and whose.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::unistd::getuid;
use tracing::warn;

use super::{ALL_USERS, PER_USER};
use crate::model::Uid;

/// Who has how many connections.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    own: Uid,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_user: HashMap<Uid, usize>,
    refusing: bool,
}

/// A place among the connections, given back when dropped.
#[derive(Debug)]
pub(super) struct Place(Option<(Uid, Arc<Mutex<Taken>>)>);

impl Admission {
    pub(super) fn new() -> Self {
        Self {
            own: getuid().as_raw(),
            taken: Arc::default(),
        }
    }

    /// A place for one more connection of this user, when there is one.
    pub(super) fn enter(&self, uid: Uid) -> Option<Place> {
        if uid == 0 || uid == self.own {
            return Some(Place(None));
        }
        let mut taken = lock(&self.taken);
        let mine = taken.by_user.get(&uid).copied().unwrap_or(0);
        // Half of what is left is for those who come yet.
        let left = ALL_USERS.saturating_sub(taken.all);
        if mine >= PER_USER.min(left / 2) {
            // Once for each time that the limit is reached: a caller must not
            // be able to fill the log.
            if !std::mem::replace(&mut taken.refusing, true) {
                let all = taken.all;
                warn!(
                    uid,
                    mine, all, "varlink: too many connections, closing new ones"
                );
            }
            return None;
        }
        taken.all += 1;
        taken.by_user.insert(uid, mine + 1);
        Some(Place(Some((uid, Arc::clone(&self.taken)))))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((uid, taken)) = self.0.take() else {
            return;
        };
        let mut taken = lock(&taken);
        taken.all -= 1;
        let left = taken.by_user.get(&uid).map_or(0, |mine| mine - 1);
        if left == 0 {
            taken.by_user.remove(&uid);
        } else {
            taken.by_user.insert(uid, left);
        }
        // Well below the limit, so that somebody at its edge is logged once.
        if left < PER_USER / 2 && taken.all < ALL_USERS / 2 {
            taken.refusing = false;
        }
    }
}

/// The counts are right even when a thread died while it held them: nothing
/// between taking and giving back the lock can panic.
fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Admission {
        Admission {
            own: 990,
            taken: Arc::default(),
        }
    }

    #[test]
    fn a_user_who_has_all_his_connections_keeps_nobody_else_out() {
        let admission = admission();
        let mut mine: Vec<_> = (0..PER_USER)
            .map(|_| admission.enter(1000).unwrap())
            .collect();
        assert!(admission.enter(1000).is_none());
        assert!(admission.enter(1001).is_some());
        mine.pop();
        assert!(admission.enter(1000).is_some());
    }

    #[test]
    fn a_few_users_with_all_that_they_can_have_keep_nobody_out() {
        let admission = admission();
        let _taken: Vec<_> = (1000..1008)
            .flat_map(|uid| std::iter::from_fn(|| admission.enter(uid)).collect::<Vec<_>>())
            .collect();
        let mine: Vec<_> = std::iter::from_fn(|| admission.enter(2000)).collect();
        assert!(mine.len() > 4, "{}", mine.len());
    }

    #[test]
    fn root_and_the_daemons_user_get_in_when_all_places_are_taken() {
        let admission = admission();
        let _taken: Vec<_> = (1000..1100)
            .flat_map(|uid| std::iter::from_fn(|| admission.enter(uid)).collect::<Vec<_>>())
            .collect();
        assert!(admission.enter(2000).is_none());
        assert!(admission.enter(0).is_some());
        assert!(admission.enter(990).is_some());
    }
}
