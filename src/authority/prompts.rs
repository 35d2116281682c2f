//! How many prompts of one user may be open at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::Uid;

use super::Denied;

/// Prompts that a user may have open: each waits for minutes, and an agent shows
/// one at a time.
const PER_USER: usize = 4;

/// Prompts that all users together may have open. Each is a call that polkit has
/// not answered, and a bus lets a connection have 128 of those
/// (`max_replies_per_connection`, dbus-daemon(1)).
const ALL_USERS: usize = 24;

/// The prompts that are open, by user. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(super) struct Prompts(Arc<Mutex<HashMap<Uid, usize>>>);

/// A prompt that is open.
#[derive(Debug)]
pub(super) struct Prompt {
    prompts: Prompts,
    uid: Uid,
}

impl Prompts {
    /// Counts a prompt in, until the value is dropped.
    pub(super) fn enter(&self, uid: Uid) -> Result<Prompt, Denied> {
        let mut open = self.lock();
        let all: usize = open.values().sum();
        let count = open.entry(uid).or_default();
        if *count >= PER_USER || all >= ALL_USERS {
            if *count == 0 {
                open.remove(&uid);
            }
            return Err(Denied::TooManyPrompts {
                uid,
                most: PER_USER,
            });
        }
        *count += 1;
        Ok(Prompt {
            prompts: self.clone(),
            uid,
        })
    }

    /// The counts are right even when a thread died with the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<Uid, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        let mut open = self.prompts.lock();
        if let Some(count) = open.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.uid);
            }
        }
    }
}
