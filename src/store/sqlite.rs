//! The store in one SQLite file, in WAL mode with synchronous=FULL: what was
//! committed survives a power cut, and `sqlite3 -readonly` reads it meanwhile.
//!
//! One daemon at a time has a state directory: a lock file beside the database
//! says so. Called from the controller's thread alone; what a commit costs does
//! not grow with the number of addresses.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use rusqlite::types::{Type, ValueRef};
use rusqlite::{
    Connection, ErrorCode, Row, Transaction, TransactionBehavior, named_params, params,
};

use crate::model::{
    Actor, Allocation, Association, Change, Event, EventKind, FixedIp, FloatingIp, PendingReason,
    PoolName, Revision, Sequence, State, Timestamp, Via,
};

use super::{EVENTS_KEPT, Store, StoreError, migrate};

/// The database and the lock, in the state directory.
const DATABASE: &str = "ipfloater.db";
const LOCK: &str = "ipfloater.lock";

/// The store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    /// Held for as long as the store is.
    _lock: Flock<File>,
}

impl SqliteStore {
    /// Opens the store of a state directory, or makes an empty one. An older
    /// version is brought up to date, a newer one or a foreign file refused.
    pub fn open(state_directory: &Path) -> Result<Self, StoreError> {
        let lock = lock(&state_directory.join(LOCK))?;
        let path = state_directory.join(DATABASE);
        let fail = |source| StoreError::Open {
            path: path.clone(),
            source,
        };
        make_private(&path).map_err(|source| StoreError::File {
            path: path.clone(),
            source,
        })?;
        let mut connection = Connection::open(&path).map_err(fail)?;
        inspect(&connection, &path)?;
        migrate::bring_up_to_date(&mut connection, &path)?;
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .map_err(fail)?;
        connection
            .pragma_update(None, "synchronous", "FULL")
            .map_err(fail)?;
        connection
            .pragma_update(None, "trusted_schema", false)
            .map_err(fail)?;
        Ok(Self {
            connection,
            _lock: lock,
        })
    }

    fn read_counters(connection: &Connection) -> Result<(Revision, Sequence), StoreError> {
        Self::counters(connection).map_err(|error| reading("the table counter".into(), error))
    }

    fn counters(connection: &Connection) -> rusqlite::Result<(Revision, Sequence)> {
        connection
            .prepare_cached("SELECT revision, sequence FROM counter")?
            .query_row([], |row| Ok((Revision(row.get(0)?), Sequence(row.get(1)?))))
    }
}

/// Takes the lock, or says who has it.
fn lock(path: &Path) -> Result<Flock<File>, StoreError> {
    let fail = |source| StoreError::File {
        path: path.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(fail)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => StoreError::InUse {
            path: path.to_owned(),
        },
        errno => fail(errno.into()),
    })
}

/// Makes the file before SQLite does, so that nobody else can read it; the
/// files beside it get its mode. One that was put back from a copy may have
/// another.
fn make_private(path: &Path) -> std::io::Result<()> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)?
        .set_permissions(Permissions::from_mode(0o600))
}

/// Refuses a file that is damaged, as long as nothing depends on it: later it
/// would be found in the middle of a commit, or not at all. It costs 30 ms with
/// 100,000 addresses and as many events, three times what reading them does.
fn inspect(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let damaged = |found: String| StoreError::Damaged {
        path: path.to_owned(),
        found: found.lines().next().unwrap_or_default().to_owned(),
    };
    let found = connection
        .pragma_query_value(None, "quick_check", |row| row.get::<_, String>(0))
        .map_err(|source| match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                damaged(source.to_string())
            }
            _ => StoreError::Open {
                path: path.to_owned(),
                source,
            },
        })?;
    if found == "ok" {
        Ok(())
    } else {
        Err(damaged(found))
    }
}

impl Store for SqliteStore {
    fn load(&mut self) -> Result<State, StoreError> {
        let fail = |source| StoreError::Access {
            doing: "read",
            source,
        };
        let (revision, sequence) = Self::read_counters(&self.connection)?;
        let mut statement = self
            .connection
            .prepare(
                "SELECT address, pool, owner, allocated_at, fixed, associated_at FROM floating_ip",
            )
            .map_err(fail)?;
        let mut rows = statement.query([]).map_err(fail)?;
        let mut pools = HashMap::new();
        let mut allocations = Vec::new();
        while let Some(row) = rows.next().map_err(fail)? {
            let read = allocation(row, &mut pools);
            allocations.push(read.map_err(|error| reading(named("floating_ip", row), error))?);
        }
        Ok(State::load(revision, sequence, allocations))
    }

    fn commit(&mut self, expected: Revision, events: &[Event]) -> Result<(), StoreError> {
        let fail = |source| StoreError::Access {
            doing: "write",
            source,
        };
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(fail)?;
        let (found, _) = Self::read_counters(&transaction)?;
        if found != expected {
            return Err(StoreError::Conflict { expected, found });
        }
        record(&transaction, expected, events).map_err(fail)?;
        transaction.commit().map_err(fail)
    }

    fn history(
        &mut self,
        floating: Option<FloatingIp>,
        before: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        let fail = |source| StoreError::Access {
            doing: "read",
            source,
        };
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT sequence, revision, at, uid, via, verb, floating, fixed, previous, pool, owner, text
                 FROM event
                 WHERE (:floating IS NULL OR floating = :floating) AND (:before IS NULL OR sequence < :before)
                 ORDER BY sequence DESC LIMIT :limit",
            )
            .map_err(fail)?;
        let floating = floating.map(|floating| floating.to_string());
        let before = before.map(|before| before.0);
        let mut rows = statement
            .query(named_params! { ":floating": floating, ":before": before, ":limit": limit })
            .map_err(fail)?;
        let mut events = Vec::new();
        while let Some(row) = rows.next().map_err(fail)? {
            events.push(event(row).map_err(|error| reading(named("event", row), error))?);
        }
        Ok(events)
    }
}

fn record(
    transaction: &Transaction<'_>,
    expected: Revision,
    events: &[Event],
) -> rusqlite::Result<()> {
    let mut last = (expected, Sequence(0));
    for event in events {
        if let EventKind::Changed(change) = &event.kind {
            apply(transaction, change, event.at)?;
        }
        log(transaction, event)?;
        last = (event.revision.unwrap_or(last.0), event.sequence);
    }
    if let (Revision(revision), Sequence(sequence @ 1..)) = last {
        transaction
            .prepare_cached("UPDATE counter SET revision = ?1, sequence = ?2")?
            .execute(params![revision, sequence])?;
        transaction
            .prepare_cached("DELETE FROM event WHERE sequence <= ?1")?
            .execute([sequence.saturating_sub(EVENTS_KEPT)])?;
    }
    Ok(())
}

/// Alters one row; that it is there was known when the change was decided.
fn apply(transaction: &Transaction<'_>, change: &Change, at: Timestamp) -> rusqlite::Result<()> {
    let address = change.floating().to_string();
    let altered = match change {
        Change::Allocate { floating: _, pool, owner } => transaction
            .prepare_cached(
                "INSERT INTO floating_ip (address, pool, owner, allocated_at) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![address, pool.as_str(), owner, at.0])?,
        Change::Associate { floating: _, fixed, previous: _ } => transaction
            .prepare_cached("UPDATE floating_ip SET fixed = ?2, associated_at = ?3 WHERE address = ?1")?
            .execute(params![address, fixed.to_string(), at.0])?,
        Change::Disassociate { floating: _, previous: _ } => transaction
            .prepare_cached("UPDATE floating_ip SET fixed = NULL, associated_at = NULL WHERE address = ?1")?
            .execute([address])?,
        Change::Release { floating: _, previous: _ } => {
            transaction.prepare_cached("DELETE FROM floating_ip WHERE address = ?1")?.execute([address])?
        }
    };
    if altered == 1 {
        Ok(())
    } else {
        Err(rusqlite::Error::StatementChangedRows(altered))
    }
}

fn log(transaction: &Transaction<'_>, event: &Event) -> rusqlite::Result<()> {
    let Event {
        sequence,
        revision,
        at,
        actor,
        kind,
    } = event;
    let (mut fixed, mut previous, mut pool, mut owner, mut text) = (None, None, None, None, None);
    match kind {
        EventKind::Changed(Change::Allocate {
            floating: _,
            pool: from,
            owner: uid,
        }) => {
            pool = Some(from.as_str());
            owner = Some(*uid);
        }
        EventKind::Changed(Change::Associate {
            floating: _,
            fixed: to,
            previous: from,
        }) => {
            fixed = Some(to.to_string());
            previous = from.map(|from| from.to_string());
        }
        EventKind::Changed(Change::Disassociate {
            floating: _,
            previous: from,
        }) => {
            previous = Some(from.to_string());
        }
        EventKind::Changed(Change::Release {
            floating: _,
            previous: from,
        }) => {
            previous = from.map(|from| from.to_string());
        }
        EventKind::Activated { floating: _ } => {}
        EventKind::Deferred {
            floating: _,
            reason,
        } => text = Some(reason.to_string()),
        EventKind::Repaired { what } => text = Some(what.clone()),
    }
    transaction
        .prepare_cached(
            "INSERT INTO event VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            sequence.0,
            revision.map(|revision| revision.0),
            at.0,
            actor.uid,
            actor.via.as_str(),
            kind.verb(),
            kind.floating().map(|floating| floating.to_string()),
            fixed,
            previous,
            pool,
            owner,
            text,
        ])?;
    Ok(())
}

fn allocation(
    row: &Row<'_>,
    pools: &mut HashMap<String, PoolName>,
) -> rusqlite::Result<(FloatingIp, Allocation)> {
    // A hundred thousand addresses share the few names of their pools.
    let pool = row.get_ref(1)?.as_str()?;
    let pool = match pools.get(pool) {
        Some(pool) => pool.clone(),
        None => pools
            .entry(pool.to_owned())
            .or_insert(parse(row, 1)?)
            .clone(),
    };
    let floating: FloatingIp = parse(row, 0)?;
    let association = match (optional::<FixedIp>(row, 4)?, row.get(5)?) {
        (None, None) => None,
        (Some(fixed), Some(since)) if fixed.family() == floating.family() => Some(Association {
            fixed,
            since: Timestamp(since),
        }),
        (Some(_), Some(_)) => return Err(strange(4, "an address of the other family")),
        (Some(_), None) | (None, Some(_)) => return Err(strange(5, "half an association")),
    };
    let allocation = Allocation {
        pool,
        owner: row.get(2)?,
        allocated: Timestamp(row.get(3)?),
        association,
    };
    Ok((floating, allocation))
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let via = match row.get_ref(4)?.as_str()? {
        "dbus" => Via::Dbus,
        "varlink" => Via::Varlink,
        "daemon" => Via::Daemon,
        _ => return Err(strange(4, "an unknown word")),
    };
    let kind = match row.get_ref(5)?.as_str()? {
        "allocate" => EventKind::Changed(Change::Allocate {
            floating: parse(row, 6)?,
            pool: parse(row, 9)?,
            owner: row.get(10)?,
        }),
        "associate" => EventKind::Changed(Change::Associate {
            floating: parse(row, 6)?,
            fixed: parse(row, 7)?,
            previous: optional(row, 8)?,
        }),
        "disassociate" => EventKind::Changed(Change::Disassociate {
            floating: parse(row, 6)?,
            previous: parse(row, 8)?,
        }),
        "release" => EventKind::Changed(Change::Release {
            floating: parse(row, 6)?,
            previous: optional(row, 8)?,
        }),
        "activate" => EventKind::Activated {
            floating: parse(row, 6)?,
        },
        // What it waited for is for people; only the words are kept.
        "defer" => EventKind::Deferred {
            floating: parse(row, 6)?,
            reason: PendingReason::Kernel(row.get(11)?),
        },
        "repair" => EventKind::Repaired { what: row.get(11)? },
        _ => return Err(strange(5, "an unknown word")),
    };
    let revision: Option<u64> = row.get(1)?;
    Ok(Event {
        sequence: Sequence(row.get(0)?),
        revision: revision.map(Revision),
        at: Timestamp(row.get(2)?),
        actor: Actor {
            uid: row.get(3)?,
            via,
        },
        kind,
    })
}

/// A column of text that is an address or a name.
fn parse<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text = row.get_ref(column)?.as_str()?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

fn optional<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let is_there = row.get_ref(column)?.as_str_or_null()?.is_some();
    is_there.then(|| parse(row, column)).transpose()
}

/// A value that this version would not write there.
fn strange(column: usize, what: &str) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(column, what.into(), Type::Text)
}

/// A row by its table and key, cut to a length fit for a message.
fn named(table: &str, row: &Row<'_>) -> String {
    let key = match row.get_ref(0) {
        Ok(ValueRef::Integer(key)) => key.to_string(),
        Ok(ValueRef::Text(key)) => {
            let key = String::from_utf8_lossy(key);
            format!("{:?}", key.chars().take(64).collect::<String>())
        }
        Ok(ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_)) | Err(_) => "?".to_owned(),
    };
    format!("the row {key} of {table}")
}

/// What SQLite cannot read is the system's failure; what it reads and we do not
/// understand is not.
fn reading(row: String, source: rusqlite::Error) -> StoreError {
    match source {
        rusqlite::Error::SqliteFailure(..) => StoreError::Access {
            doing: "read",
            source,
        },
        source => StoreError::Corrupt { row, source },
    }
}

#[cfg(test)]
mod tests;
