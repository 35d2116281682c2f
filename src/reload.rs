//! Reading the configuration again while the daemon runs: all of it or nothing.
//!
//! The files are read and held against the router beside the controller, which
//! then takes the result in one step. A file that is wrong alters nothing, and
//! what is wrong with it is the answer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Mutex;

use crate::audit::{self, Who};
use crate::chain;
use crate::config::{Settings, check_against};
use crate::control::{Handle, Rejection, Reloaded};
use crate::kernel;
use crate::request::Terms;
use crate::supervisor;

/// Reads the configuration again.
#[derive(Clone, Debug)]
pub struct Reloader {
    handle: Handle,
    /// Which file; `None` for the usual places.
    config: Option<PathBuf>,
    /// Whether there is a router to hold it against.
    simulated: bool,
    /// One at a time, so that the last who asked gets what was there last.
    turn: Arc<Mutex<()>>,
}

/// What a configuration that was read again came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reread {
    /// What the controller did.
    pub reloaded: Reloaded,
    /// The files that were read, in the order of their precedence.
    pub files: Vec<PathBuf>,
    /// What the administrator should know although it is no error.
    pub warnings: Vec<String>,
}

impl Reloader {
    /// For the controller of this handle, from the file that it was started
    /// with.
    #[must_use]
    pub fn new(handle: Handle, config: Option<PathBuf>, simulated: bool) -> Self {
        Self {
            handle,
            config,
            simulated,
            turn: Arc::default(),
        }
    }

    /// Reads the configuration again, for whoever may ask for it, and records
    /// what came of it.
    pub async fn reload(&self, who: &Who, terms: Terms) -> Result<Reread, Rejection> {
        let begun = Instant::now();
        let _turn = self.turn.lock().await;
        if terms.dry_run {
            return self.try_out(who, terms).await;
        }
        supervisor::reloading();
        let reread = self.reread(who, terms).await;
        supervisor::reloaded();
        let uid = who.actor.uid;
        let (outcome, sentence) = match &reread {
            Ok(Reread { reloaded, .. }) if reloaded.news.is_empty() => (
                audit::UNCHANGED,
                format!("the configuration, read again by uid {uid}, says what it said before"),
            ),
            Ok(Reread { reloaded, .. }) => (
                audit::GRANTED,
                format!(
                    "the configuration was read again by uid {uid}: {}",
                    reloaded.news.join("; ")
                ),
            ),
            Err(rejection) => (
                rejection.name(),
                format!("the configuration stays as it was, asked by uid {uid}: {rejection}"),
            ),
        };
        self.count("reload", outcome, begun);
        audit::Entry {
            sequence: reread.as_ref().ok().map(|reread| reread.reloaded.sequence),
            ..audit::Entry::new("reload", who, outcome, sentence)
        }
        .write();
        reread
    }

    /// Reads it, and has the controller tell what it would alter.
    async fn try_out(&self, who: &Who, terms: Terms) -> Result<Reread, Rejection> {
        let begun = Instant::now();
        let reread = self.reread(who, terms).await;
        let uid = who.actor.uid;
        let (outcome, sentence) = match &reread {
            Ok(_) => (
                audit::DRY_RUN,
                format!("dry run: the configuration was looked at by uid {uid}"),
            ),
            Err(rejection) => (
                rejection.name(),
                format!("dry run: the configuration, looked at by uid {uid}: {rejection}"),
            ),
        };
        self.count("reload", outcome, begun);
        audit::Entry::new("reload", who, outcome, sentence).write();
        reread
    }

    /// Has the configuration that is on trial stay, or the one before put back,
    /// for whoever may ask for it, and records what came of it.
    pub async fn settle(&self, who: &Who, keep: bool, terms: Terms) -> Result<Reloaded, Rejection> {
        let begun = Instant::now();
        let _turn = self.turn.lock().await;
        let settled = self.handle.settle_reload(keep, who.actor, terms).await;
        let (verb, done) = match keep {
            true => ("confirm", "confirmed"),
            false => ("revert", "undone"),
        };
        let uid = who.actor.uid;
        let (outcome, sentence) = match &settled {
            Ok(_) if terms.dry_run => (
                audit::DRY_RUN,
                format!("dry run: the configuration would be {done} by uid {uid}"),
            ),
            Ok(_) => (
                audit::GRANTED,
                format!("the configuration was {done} by uid {uid}"),
            ),
            Err(rejection) => (
                rejection.name(),
                format!("the configuration was not {done}, asked by uid {uid}: {rejection}"),
            ),
        };
        self.count(verb, outcome, begun);
        audit::Entry::new(verb, who, outcome, sentence).write();
        settled
    }

    fn count(&self, verb: &'static str, outcome: &'static str, begun: Instant) {
        let statistics = self.handle.statistics();
        statistics.operation(verb, outcome, begun.elapsed());
    }

    async fn reread(&self, who: &Who, terms: Terms) -> Result<Reread, Rejection> {
        let Self {
            config, simulated, ..
        } = self.clone();
        let read = tokio::task::spawn_blocking(move || read(config, simulated));
        let settings = read
            .await
            .unwrap_or_else(|_| Err("the reader died; see the journal".to_owned()))
            .map_err(Rejection::ConfigurationInvalid)?;
        let Settings {
            site,
            warnings,
            files,
            original_database: _,
        } = settings;
        let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        let reloaded = self
            .handle
            .reload(site, warnings.clone(), who.actor, terms)
            .await?;
        Ok(Reread {
            reloaded,
            files,
            warnings,
        })
    }
}

fn read(config: Option<PathBuf>, simulated: bool) -> Result<Settings, String> {
    let settings = Settings::load(config.as_deref()).map_err(|error| chain(&error))?;
    if !simulated {
        let router = kernel::observe_links().map_err(|error| chain(&error))?;
        let misfits: Vec<_> = check_against(&settings.site, &router)
            .iter()
            .map(ToString::to_string)
            .collect();
        if !misfits.is_empty() {
            return Err(misfits.join("; "));
        }
    }
    Ok(settings)
}
