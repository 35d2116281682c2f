//! What guests do is logged, and none of them can fill the log.
//!
//! What was altered always has a line: it cost the daemon a commit. The rest, that
//! somebody came or asked in vain, has a few lines a minute for each certificate.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{info, warn};

use super::call::Call;
use super::files::Identity;
use super::refusals::TOLD;

/// How many lines each certificate wanted in this minute.
#[derive(Clone, Debug, Default)]
pub(super) struct Records(Arc<Mutex<BTreeMap<String, u64>>>);

impl Records {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Something that is logged if the certificate has a line left.
    pub(super) fn tell(&self, who: &Identity, what: &str) {
        let mut wanted = self.lock();
        let wanted = wanted.entry(who.to_string()).or_default();
        *wanted += 1;
        if *wanted <= TOLD {
            info!("{what}");
        }
    }

    /// A minute is over: tells of what had no line.
    pub(super) fn sum_up(&self) {
        for (who, wanted) in std::mem::take(&mut *self.lock()) {
            if let Some(more @ 1..) = wanted.checked_sub(TOLD) {
                warn!("{who} came or called in vain {more} more times in a minute");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that is to alter something. The daemon knows this program's user only,
/// so that it is logged here who asked; at the latest when the value is dropped.
#[derive(Debug)]
pub(super) struct Asked {
    records: Records,
    who: Identity,
    /// Who called what.
    call: String,
    parameters: String,
    became: Option<Became>,
}

/// What became of a call.
#[derive(Debug)]
pub(super) enum Became {
    /// Something was altered.
    Done,
    /// Nothing had to be, or it was a dry run.
    Nothing,
    /// It was refused, by this error.
    Refused(String),
}

impl Asked {
    /// `None` for a call that alters nothing.
    pub(super) fn of(
        call: &Call<'_>,
        who: &Identity,
        from: impl std::fmt::Display,
        records: &Records,
    ) -> Option<Self> {
        let method = call.alters()?;
        Some(Self {
            records: records.clone(),
            who: who.clone(),
            call: format!("{from} as {who} calls {method}"),
            parameters: call.told(),
            became: None,
        })
    }

    /// The daemon has answered.
    pub(super) fn became(mut self, became: Became) {
        self.became = Some(became);
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let Self {
            records,
            who,
            call,
            parameters,
            became,
        } = self;
        let became = match became {
            Some(Became::Done) => return info!("{call}: {parameters}"),
            Some(Became::Nothing) => "which alters nothing".to_owned(),
            Some(Became::Refused(error)) => format!("refused by {error}"),
            None => "without an answer of ipfloaterd".to_owned(),
        };
        records.tell(who, &format!("{call}, {became}: {parameters}"));
    }
}
