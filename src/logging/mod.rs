//! Where the daemon's words go: the journal when systemd started it, else
//! stderr. Nothing raw, and nobody is stalled.
//!
//! Every tracing event becomes a [`Record`], whose values are short and
//! harmless, and leaves by the [`Journal`] or by an [`Outlet`] to stderr, which
//! never wait. How much is logged, and where to, can be altered while the daemon
//! runs: [`logging`].

use std::io;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

mod console;
mod journal;
mod level;
mod outlet;
mod record;

pub use level::{Level, Target};

use console::Console;
use journal::Journal;
use outlet::Outlet;
use record::Record;

/// The name of the daemon in `journalctl -t`.
pub const IDENTIFIER: &str = "ipfloaterd";

/// The variable with the first filter.
const VARIABLE: &str = "IPFLOATER_LOG";

/// How often what waits is offered again.
const AGAIN: Duration = Duration::from_millis(50);

/// How often the end of the process looks whether all has gone out.
const PAUSE: Duration = Duration::from_millis(2);

/// How long the end of the process may wait for the last words to go out.
const PARTING: Duration = Duration::from_secs(1);

static LOGGING: OnceLock<Logging> = OnceLock::new();

/// The log of this process.
pub struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    now: Mutex<(Level, Target)>,
    journal: Option<Journal>,
    console: Outlet<Console>,
    flusher: OnceLock<Thread>,
}

/// Why the log cannot be altered that way.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// There is no such level.
    #[error("there is no log level {0:?}; those of syslog(3) are emerg to debug")]
    NoSuchLevel(String),
    /// There is no such target, or none of ours.
    #[error("the log cannot go to {0:?}; it can go to journal, console, or auto, which chooses")]
    NoSuchTarget(String),
    /// journald is not there.
    #[error("the journal cannot be reached at {}", journal::SOCKET)]
    NoJournal(#[source] io::Error),
}

/// Starts logging, as a program of this name. `IPFLOATER_LOG` takes the filter syntax of
/// tracing-subscriber's EnvFilter; the default is `info`.
pub fn start(identifier: &'static str) {
    let (filter, complaint) = first_filter();
    let level = filter.max_level_hint().map_or(Level::Debug, Level::from);
    let (filter, handle) = reload::Layer::new(filter);
    let is_journal = stderr_is_the_journal();
    let logging = Logging {
        filter: handle,
        now: Mutex::new((level, Target::Console)),
        journal: Journal::new(identifier).ok(),
        console: Outlet::new(Console::of(is_journal)),
        flusher: OnceLock::new(),
    };
    let target = logging.automatic();
    logging.set_target(target);
    if LOGGING.set(logging).is_err() {
        return;
    }
    tracing_subscriber::registry()
        .with(filter)
        .with(Front)
        .init();
    if let Some(complaint) = complaint {
        tracing::warn!("{complaint}");
    }
}

/// The log of this process, once it is started.
#[must_use]
pub fn logging() -> Option<&'static Logging> {
    LOGGING.get()
}

/// Has what waits offered again and again, by a thread. Until it runs, the next
/// record does that: threads come only after privileges are given up.
pub fn keep_flushing() -> io::Result<()> {
    let Some(logging) = logging() else {
        return Ok(());
    };
    if let Some(journal) = &logging.journal {
        journal.start()?;
    }
    let flusher = thread::Builder::new().name("log".into()).spawn(|| {
        loop {
            if logging.flush() {
                thread::park();
            } else {
                thread::sleep(AGAIN);
            }
        }
    })?;
    // A second call has a thread too many, which sleeps.
    let _ = logging.flusher.set(flusher.thread().clone());
    flusher.thread().unpark();
    Ok(())
}

/// Waits a moment for what has not gone out yet. For the end of the process.
pub fn finish() {
    let Some(logging) = logging() else { return };
    // A start that failed has no threads yet.
    let _ = logging.journal.as_ref().map(Journal::start);
    let deadline = Instant::now() + PARTING;
    while !(logging.flush() && logging.is_idle()) && Instant::now() < deadline {
        thread::sleep(PAUSE);
    }
}

impl Logging {
    /// How much is logged; the nearest to it, when modules differ.
    #[must_use]
    pub fn level(&self) -> Level {
        self.now().0
    }

    /// Alters how much is logged, in all modules.
    pub fn set_level(&self, level: Level) {
        let mut now = self.now();
        let filter = EnvFilter::new(level.directives());
        // It fails only when the subscriber is gone, and so the log.
        if self.filter.reload(filter).is_ok() {
            now.0 = level;
        }
    }

    /// Where the log goes.
    #[must_use]
    pub fn target(&self) -> Target {
        self.now().1
    }

    /// Alters where the log goes.
    pub fn set_target(&self, target: Target) {
        self.now().1 = target;
    }

    /// The target that a word of org.freedesktop.LogControl1(5) means, if the
    /// log can go there.
    pub fn target_of(&self, word: &str) -> Result<Target, LoggingError> {
        match word {
            "journal" => {
                self.reach_journal().map_err(LoggingError::NoJournal)?;
                Ok(Target::Journal)
            }
            "console" => Ok(Target::Console),
            "auto" => Ok(self.automatic()),
            other => Err(LoggingError::NoSuchTarget(other.to_owned())),
        }
    }

    /// The journal, if that is what stderr leads to and it can be reached.
    fn automatic(&self) -> Target {
        if *self.console.sink() == Console::Journal && self.reach_journal().is_ok() {
            Target::Journal
        } else {
            Target::Console
        }
    }

    fn reach_journal(&self) -> io::Result<()> {
        match &self.journal {
            Some(journal) => journal.probe(),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn write(&self, record: Record) {
        match (self.target(), &self.journal) {
            (Target::Journal, Some(journal)) => journal.send(record),
            (Target::Journal, None) | (Target::Console, _) => {
                let pieces = self.console.sink().pieces(&record);
                let out = pieces
                    .into_iter()
                    .fold(true, |_, piece| self.console.send(piece));
                if !out && let Some(flusher) = self.flusher.get() {
                    flusher.unpark();
                }
            }
        }
    }

    /// Whether nothing waits, but for what the journal may take meanwhile.
    fn flush(&self) -> bool {
        self.console.flush()
    }

    /// The same of the journal.
    fn is_idle(&self) -> bool {
        self.journal.as_ref().is_none_or(Journal::is_idle)
    }

    fn now(&self) -> MutexGuard<'_, (Level, Target)> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where tracing hands its events over.
struct Front;

impl<S: Subscriber> Layer<S> for Front {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if let Some(logging) = logging() {
            logging.write(Record::of(event));
        }
    }
}

/// The filter at the start, and what is wrong with the variable.
fn first_filter() -> (EnvFilter, Option<String>) {
    let default = || EnvFilter::new(Level::Info.directives());
    match std::env::var(VARIABLE) {
        Ok(text) => match EnvFilter::try_new(&text) {
            Ok(filter) => (filter, None),
            Err(error) => (
                default(),
                Some(format!("{VARIABLE}={text:?} is passed over: {error}")),
            ),
        },
        Err(std::env::VarError::NotPresent) => (default(), None),
        Err(error @ std::env::VarError::NotUnicode(_)) => (
            default(),
            Some(format!("{VARIABLE} is passed over: {error}")),
        ),
    }
}

/// Whether stderr leads to the journal. The variable alone does not say: it is
/// inherited by what writes elsewhere (systemd.exec(5)).
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    nix::sys::stat::fstat(io::stderr())
        .is_ok_and(|stderr| stream == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

#[cfg(test)]
pub(crate) mod tests {
    pub(crate) use super::journal::tests::entries;
}
