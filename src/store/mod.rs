//! The only code that touches the database: what should be, and who asked.
//!
//! A trait, because a distributed store comes later: it, too, can only promise
//! "as long as nobody committed in between".

use std::path::PathBuf;

use crate::model::{ClockAnchor, Event, FloatingIp, Recorded, Revision, Sequence, State};

mod migrate;
mod schema;
mod sqlite;

pub use schema::APPLICATION_ID;
pub use sqlite::{SqliteStore, StateDirectory};

/// How many events are kept; older ones are forgotten.
pub const EVENTS_KEPT: u64 = 100_000;

/// Where the desired state is kept.
pub trait Store: Send {
    /// Reads everything.
    fn load(&mut self) -> Result<State, StoreError>;

    /// Makes events durable, as one transaction, if `expected` is still the
    /// last revision. The events that alter the state carry the next revision;
    /// without any of those, the revision stays.
    fn commit(&mut self, expected: Revision, events: &[Event]) -> Result<(), StoreError>;

    /// How the wall clock stood when [`Store::set_clock`] was last called.
    fn clock(&mut self) -> Result<Option<ClockAnchor>, StoreError>;

    /// Remembers how the wall clock stands, and moves all that has an end by so
    /// many seconds: all of it or nothing. The revision stays.
    fn set_clock(&mut self, anchor: &ClockAnchor, later_by: i64) -> Result<(), StoreError>;

    /// Reads what happened: at most `limit` events before `before` (or the
    /// latest), about one address or all, latest first.
    fn history(
        &mut self,
        floating: Option<FloatingIp>,
        before: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError>;

    /// Reads what happened since: at most `limit` events after `after`, before
    /// `before` if that is given, about one address or all, earliest first.
    fn since(
        &mut self,
        floating: Option<FloatingIp>,
        after: Sequence,
        before: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<Recorded>, StoreError>;

    /// The earliest event that is kept; `None` when there is none.
    fn earliest(&mut self) -> Result<Option<Sequence>, StoreError>;
}

/// The store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be opened.
    #[error("cannot open the store {}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A file of the state directory cannot be opened.
    #[error("cannot open {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another daemon has the state directory.
    #[error("another ipfloaterd uses {}; give this one a --state-directory of its own", .path.display())]
    InUse {
        /// The lock.
        path: PathBuf,
    },
    /// The file is a database, but not ours, or of a newer version.
    #[error("the store {} {why}", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found, and the remedy.
        why: String,
    },
    /// Reading or writing failed; nothing was altered.
    #[error("cannot {doing} the store")]
    Access {
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: rusqlite::Error,
    },
    /// The file is damaged, or no database at all.
    #[error("the store {} is damaged: {found}; move it away and put a copy in its place", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite found, its first line.
        found: String,
    },
    /// A row holds what we never write.
    #[error("the store holds {row}, which this version did not write")]
    Corrupt {
        /// Which row.
        row: String,
        /// Which column, and what is wrong with it.
        source: rusqlite::Error,
    },
    /// Somebody else committed since.
    #[error("the store is at revision {found}, not {expected}")]
    Conflict {
        /// The revision that the caller knew.
        expected: Revision,
        /// The revision that is there.
        found: Revision,
    },
}
