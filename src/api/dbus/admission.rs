//! How many calls of one user may be under way at once.
//!
//! The bus limits what a connection may have pending, but a user can open
//! hundreds of connections. Nobody but root may fill the controller's queue.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::model::Uid;

/// Calls under way that a user other than root may have: enough for any script,
/// and a sixty-fourth of what the controller queues.
const PER_USER: usize = 64;

/// The user has as many calls under way as may be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("user {uid} has {PER_USER} calls under way already; wait for an answer")]
pub(super) struct TooMany {
    /// Whose.
    uid: Uid,
}

/// The calls under way, by user. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(super) struct Admission {
    under_way: Arc<Mutex<HashMap<Uid, usize>>>,
}

impl Admission {
    /// Counts a call in, until the value is dropped.
    pub(super) fn enter(&self, uid: Uid) -> Result<Admitted, TooMany> {
        let mut under_way = self.lock();
        let count = under_way.entry(uid).or_default();
        if uid != 0 && *count >= PER_USER {
            return Err(TooMany { uid });
        }
        *count += 1;
        Ok(Admitted {
            admission: self.clone(),
            uid,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uid, usize>> {
        self.under_way
            .lock()
            .expect("nothing panics while it counts")
    }
}

/// A call that is under way.
#[derive(Debug)]
pub(super) struct Admitted {
    admission: Admission,
    uid: Uid,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut under_way = self.admission.lock();
        if let Some(count) = under_way.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_at_the_limit_is_refused_until_one_of_his_calls_ends() {
        let admission = Admission::default();
        let mut calls: Vec<_> = (0..PER_USER)
            .map(|_| admission.enter(1000).unwrap())
            .collect();
        assert_eq!(
            admission.enter(1000).unwrap_err().to_string(),
            "user 1000 has 64 calls under way already; wait for an answer"
        );
        assert!(admission.enter(1001).is_ok());
        calls.pop();
        assert!(admission.enter(1000).is_ok());
        drop(calls);
        assert!(admission.lock().is_empty());
    }

    #[test]
    fn root_has_no_limit() {
        let admission = Admission::default();
        let calls: Vec<_> = (0..=PER_USER)
            .map(|_| admission.enter(0).unwrap())
            .collect();
        assert_eq!(calls.len(), PER_USER + 1);
    }
}
