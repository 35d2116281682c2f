//! The store in one SQLite file, in WAL mode with synchronous=FULL: what was
//! committed survives a power cut, and `sqlite3 -readonly` reads it meanwhile.
//!
//! One daemon at a time has a state directory: a lock file beside the database
//! says so. Called from the controller's thread alone; what a commit costs does
//! not grow with the number of addresses.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{
    Connection, ErrorCode, OpenFlags, Row, Transaction, TransactionBehavior, named_params, params,
};

use crate::lock::Lock;
use crate::model::{
    Allocation, Attributes, Change, ClockAnchor, Event, EventKind, FloatingIp, Forward, Forwards,
    Lease, Recorded, Resting, Revision, Sequence, State, Timestamp, Trial,
};

use super::{EVENTS_KEPT, Store, StoreError, migrate};

mod row;
use row::{
    NEVER, allocation, clock, event, forward, hosts_text, json, named, reading, resting, trial,
};

/// The database and the lock, in the state directory.
const DATABASE: &str = "ipfloater.db";
const LOCK: &str = "ipfloater.lock";

/// A state directory that no other daemon uses as long as this lives.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    _lock: Lock,
}

impl StateDirectory {
    /// Takes its lock, or says that another daemon has it.
    pub fn lock(path: &Path) -> Result<Self, StoreError> {
        let lock = Self::lock_of(path);
        match Lock::take(&lock) {
            Ok(lock) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Err(StoreError::InUse { path: lock })
            }
            Err(source) => Err(StoreError::File { path: lock, source }),
        }
    }

    /// The locked file that says whether a daemon uses a state directory.
    #[must_use]
    pub fn lock_of(path: &Path) -> PathBuf {
        path.join(LOCK)
    }

    /// Whether a file of this name in a state directory is ours: the database,
    /// what SQLite puts beside it, copies of older versions, the lock.
    #[must_use]
    pub fn owns(name: &OsStr) -> bool {
        name == LOCK || name.as_bytes().starts_with(DATABASE.as_bytes())
    }
}

/// The store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    /// Held for as long as the store is.
    _directory: StateDirectory,
}

impl SqliteStore {
    /// Opens the store of a state directory, or makes an empty one. An older
    /// version is brought up to date, a newer one or a foreign file refused.
    pub fn open(state_directory: &Path) -> Result<Self, StoreError> {
        Self::open_in(StateDirectory::lock(state_directory)?)
    }

    /// The same of a directory that is locked already.
    pub fn open_in(directory: StateDirectory) -> Result<Self, StoreError> {
        let path = directory.path.join(DATABASE);
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
            _directory: directory,
        })
    }

    /// Reads the store of a state directory, and alters nothing; `None` when
    /// there is none.
    pub fn look(state_directory: &Path) -> Result<Option<State>, StoreError> {
        let path = state_directory.join(DATABASE);
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::File { path, source }),
            Ok(_) => {}
        }
        let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .map_err(|source| StoreError::Open { path, source })?;
        Self::read_state(&connection).map(Some)
    }

    fn read_state(connection: &Connection) -> Result<State, StoreError> {
        let fail = |source| StoreError::Access {
            doing: "read",
            source,
        };
        let (revision, sequence) = Self::read_counters(connection)?;
        let version = Self::version(connection)?;
        // The columns that came later.
        let columns = match version {
            ..=2 => "NULL, NULL, NULL, NULL",
            3 => "kept, NULL, NULL, NULL",
            4 => "kept, attributes, NULL, NULL",
            _ => "kept, attributes, expires_at, association_expires_at",
        };
        let mut statement = connection
            .prepare(&format!(
                "SELECT address, pool, owner, allocated_at, fixed, associated_at, {columns}
                 FROM floating_ip"
            ))
            .map_err(fail)?;
        let mut rows = statement.query([]).map_err(fail)?;
        let mut pools = HashMap::new();
        let mut allocations = Vec::new();
        let mut forwards = if version < 2 {
            HashMap::new()
        } else {
            Self::read_forwards(connection)?
        };
        while let Some(row) = rows.next().map_err(fail)? {
            let read = allocation(row, &mut pools);
            let (floating, mut read) =
                read.map_err(|error| reading(named("floating_ip", row), error))?;
            read.forwards = forwards.remove(&floating).unwrap_or_default();
            allocations.push((floating, read));
        }
        if let Some(floating) = forwards.keys().next() {
            return Err(StoreError::Corrupt {
                row: format!("a row of forward for {floating}, which nobody has"),
                source: rusqlite::Error::QueryReturnedNoRows,
            });
        }
        let trials = if version < 7 {
            Vec::new()
        } else {
            Self::read_trials(connection)?
        };
        let resting = if version < 6 {
            Vec::new()
        } else {
            Self::read_resting(connection)?
        };
        let state = State::load(revision, sequence, allocations);
        Ok(state.with_resting(resting).with_trials(trials))
    }

    /// Begins to write: from now on nobody else does.
    fn begin(&mut self) -> Result<Transaction<'_>, StoreError> {
        let immediate = TransactionBehavior::Immediate;
        let begun = self.connection.transaction_with_behavior(immediate);
        begun.map_err(|source| StoreError::Access {
            doing: "write",
            source,
        })
    }

    /// All rows of a query of one table, each as it is understood.
    fn read_rows<T>(
        connection: &Connection,
        table: &str,
        query: &str,
        mut understand: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let fail = |source| StoreError::Access {
            doing: "read",
            source,
        };
        let mut statement = connection.prepare(query).map_err(fail)?;
        let mut rows = statement.query([]).map_err(fail)?;
        let mut read = Vec::new();
        while let Some(row) = rows.next().map_err(fail)? {
            read.push(understand(row).map_err(|error| reading(named(table, row), error))?);
        }
        Ok(read)
    }

    fn read_trials(connection: &Connection) -> Result<Vec<(FloatingIp, Trial)>, StoreError> {
        let query = "SELECT address, number, since, until, former FROM trial";
        Self::read_rows(connection, "trial", query, trial)
    }

    fn read_forwards(connection: &Connection) -> Result<HashMap<FloatingIp, Forwards>, StoreError> {
        let fail = |source| StoreError::Access {
            doing: "read",
            source,
        };
        let mut statement = connection
            .prepare(
                "SELECT address, protocol, first_port, last_port, fixed, fixed_port, outbound
                 FROM forward",
            )
            .map_err(fail)?;
        let mut rows = statement.query([]).map_err(fail)?;
        let mut forwards = HashMap::<FloatingIp, Forwards>::new();
        while let Some(row) = rows.next().map_err(fail)? {
            let strange = |error| reading(named("forward", row), error);
            let (floating, read) = forward(row).map_err(strange)?;
            let of_it = forwards.entry(floating).or_default();
            if of_it.clash(read.protocol(), read.ports()).is_some() {
                return Err(strange(rusqlite::Error::QueryReturnedMoreThanOneRow));
            }
            *of_it = of_it.with(read);
        }
        Ok(forwards)
    }

    fn read_resting(connection: &Connection) -> Result<Vec<(FloatingIp, Resting)>, StoreError> {
        let query = "SELECT address, owner, until FROM resting";
        Self::read_rows(connection, "resting", query, resting)
    }

    /// The version of a store. A look at one leaves it at that.
    fn version(connection: &Connection) -> Result<i32, StoreError> {
        connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(|source| StoreError::Access {
                doing: "read",
                source,
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
/// would be found in the middle of a commit, or not at all. With 100,000
/// addresses and as many events it takes 30 to 45 ms, a quarter of [`Store::load`].
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
        Self::read_state(&self.connection)
    }

    fn commit(&mut self, expected: Revision, events: &[Event]) -> Result<(), StoreError> {
        let fail = |source| StoreError::Access {
            doing: "write",
            source,
        };
        let transaction = self.begin()?;
        let (found, _) = Self::read_counters(&transaction)?;
        if found != expected {
            return Err(StoreError::Conflict { expected, found });
        }
        record(&transaction, expected, events).map_err(fail)?;
        transaction.commit().map_err(fail)
    }

    fn clock(&mut self) -> Result<Option<ClockAnchor>, StoreError> {
        let anchors = Self::read_rows(
            &self.connection,
            "clock",
            "SELECT boot, ahead FROM clock",
            clock,
        )?;
        Ok(anchors.into_iter().next())
    }

    fn set_clock(&mut self, anchor: &ClockAnchor, later_by: i64) -> Result<(), StoreError> {
        let fail = |source| StoreError::Access {
            doing: "write",
            source,
        };
        let transaction = self.begin()?;
        if later_by != 0 {
            let trials = Self::read_trials(&transaction)?;
            move_ends(&transaction, trials, later_by).map_err(fail)?;
        }
        let ClockAnchor { boot, ahead } = anchor;
        transaction.execute("DELETE FROM clock", []).map_err(fail)?;
        transaction
            .execute("INSERT INTO clock VALUES (?1, ?2)", params![boot, ahead])
            .map_err(fail)?;
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

    fn since(
        &mut self,
        floating: Option<FloatingIp>,
        after: Sequence,
        before: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<Recorded>, StoreError> {
        let fail = |source| StoreError::Access {
            doing: "read",
            source,
        };
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT sequence, revision, at, uid, via, verb, floating, fixed, previous, pool, owner, text
                 FROM event
                 WHERE (:floating IS NULL OR floating = :floating)
                   AND sequence > :after AND (:before IS NULL OR sequence < :before)
                 ORDER BY sequence LIMIT :limit",
            )
            .map_err(fail)?;
        let floating = floating.map(|floating| floating.to_string());
        let before = before.map(|before| before.0);
        let mut rows = statement
            .query(named_params! {
                ":floating": floating, ":after": after.0, ":before": before, ":limit": limit,
            })
            .map_err(fail)?;
        let mut events = Vec::new();
        while let Some(row) = rows.next().map_err(fail)? {
            let read = event(row).and_then(|event| {
                let owner = row.get(10)?;
                Ok(Recorded { event, owner })
            });
            events.push(read.map_err(|error| reading(named("event", row), error))?);
        }
        Ok(events)
    }

    fn earliest(&mut self) -> Result<Option<Sequence>, StoreError> {
        let earliest = self
            .connection
            .prepare_cached("SELECT min(sequence) FROM event")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)));
        let earliest: Option<u64> = earliest.map_err(|source| StoreError::Access {
            doing: "read",
            source,
        })?;
        Ok(earliest.map(Sequence))
    }
}

/// Moves all that has an end.
fn move_ends(
    transaction: &Transaction<'_>,
    trials: Vec<(FloatingIp, Trial)>,
    later_by: i64,
) -> rusqlite::Result<()> {
    for order in [
        "UPDATE floating_ip SET expires_at = expires_at + ?1,
                                association_expires_at = association_expires_at + ?1
         WHERE expires_at IS NOT NULL OR association_expires_at IS NOT NULL",
        "UPDATE resting SET until = until + ?1",
    ] {
        transaction.execute(order, [later_by])?;
    }
    for (floating, trial) in trials {
        transaction.execute(
            "DELETE FROM trial WHERE address = ?1",
            [floating.to_string()],
        )?;
        put_on_trial(transaction, floating, &trial.later_by(later_by))?;
    }
    Ok(())
}

/// Remembers that a change is not confirmed.
fn put_on_trial(
    transaction: &Transaction<'_>,
    floating: FloatingIp,
    trial: &Trial,
) -> rusqlite::Result<usize> {
    let Trial {
        number,
        since,
        until,
        former,
    } = trial;
    let address = floating.to_string();
    transaction
        .prepare_cached("INSERT INTO trial VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![address, number, since.0, until.0, json(former)])
}

fn record(
    transaction: &Transaction<'_>,
    expected: Revision,
    events: &[Event],
) -> rusqlite::Result<()> {
    let mut last = (expected, Sequence(0));
    for event in events {
        // First, because it keeps whose the address was, and a release takes that.
        log(transaction, event)?;
        if let EventKind::Changed(change) = &event.kind {
            transaction
                .prepare_cached("DELETE FROM resting WHERE until <= ?1")?
                .execute([event.at.0])?;
            apply(transaction, change, event.at)?;
        }
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
        Change::Allocate {
            floating: _,
            pool,
            owner,
        } => {
            transaction
                .prepare_cached("DELETE FROM resting WHERE address = ?1")?
                .execute([&address])?;
            transaction
                .prepare_cached(
                    "INSERT INTO floating_ip (address, pool, owner, allocated_at) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![address, pool.as_str(), owner, at.0])?
        }
        Change::Associate {
            floating: _,
            fixed,
            previous: _,
        } => transaction
            .prepare_cached(
                "UPDATE floating_ip SET fixed = ?2, associated_at = ?3, kept = NULL,
                        association_expires_at = NULL
                 WHERE address = ?1",
            )?
            .execute(params![address, fixed.to_string(), at.0])?,
        Change::Keep { floating: _, hosts } => transaction
            .prepare_cached("UPDATE floating_ip SET kept = ?2 WHERE address = ?1")?
            .execute([address, hosts_text(hosts)])?,
        Change::SetEnd {
            floating: _,
            of,
            at,
        } => transaction
            .prepare_cached(match of {
                Lease::Allocation => "UPDATE floating_ip SET expires_at = ?2 WHERE address = ?1",
                Lease::Association => {
                    "UPDATE floating_ip SET association_expires_at = ?2 WHERE address = ?1"
                }
            })?
            .execute(params![address, at.map(|at| at.0)])?,
        Change::Disassociate {
            floating: _,
            previous: _,
        } => transaction
            .prepare_cached(
                "UPDATE floating_ip SET fixed = NULL, associated_at = NULL, kept = NULL,
                        association_expires_at = NULL
                 WHERE address = ?1",
            )?
            .execute([address])?,
        Change::Forward {
            floating: _,
            forward,
            previous: _,
        } => insert_forward(transaction, &address, forward)?,
        Change::Unforward {
            floating: _,
            forward,
        } => transaction
            .prepare_cached(
                "DELETE FROM forward WHERE address = ?1 AND protocol = ?2 AND first_port = ?3",
            )?
            .execute(params![
                address,
                forward.protocol().as_str(),
                forward.ports().first().number(),
            ])?,
        Change::Update {
            floating: _,
            before: _,
            after,
        } => transaction
            .prepare_cached("UPDATE floating_ip SET attributes = ?2 WHERE address = ?1")?
            .execute(params![
                address,
                (**after != Attributes::default()).then(|| row::json(after))
            ])?,
        Change::Release {
            floating: _,
            previous: _,
            resting_until,
        } => {
            if let Some(until) = resting_until {
                transaction
                    .prepare_cached(
                        "INSERT INTO resting SELECT address, owner, ?2 FROM floating_ip WHERE address = ?1",
                    )?
                    .execute(params![address, until.0])?;
            }
            transaction
                .prepare_cached("DELETE FROM floating_ip WHERE address = ?1")?
                .execute([address])?
        }
        Change::Try { floating, trial } => put_on_trial(transaction, *floating, trial)?,
        Change::Confirm { floating: _ } => transaction
            .prepare_cached("DELETE FROM trial WHERE address = ?1")?
            .execute([address])?,
        Change::Restore {
            floating: _,
            former,
            previous: _,
        } => {
            for table in ["forward", "floating_ip", "resting"] {
                transaction
                    .prepare_cached(&format!("DELETE FROM {table} WHERE address = ?1"))?
                    .execute([&address])?;
            }
            if let Some(former) = former {
                insert(transaction, &address, former)?;
            }
            transaction
                .prepare_cached("DELETE FROM trial WHERE address = ?1")?
                .execute([address])?
        }
    };
    if altered == 1 {
        Ok(())
    } else {
        Err(rusqlite::Error::StatementChangedRows(altered))
    }
}

/// Writes an allocation with all that hangs on it, where there is none.
fn insert(
    transaction: &Transaction<'_>,
    address: &str,
    allocation: &Allocation,
) -> rusqlite::Result<()> {
    let Allocation {
        pool,
        owner,
        allocated,
        association,
        forwards,
        kept,
        expires,
        association_expires,
        attributes,
    } = allocation;
    transaction
        .prepare_cached(
            "INSERT INTO floating_ip (address, pool, owner, allocated_at, fixed, associated_at, kept,
                                      expires_at, association_expires_at, attributes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            address,
            pool.as_str(),
            owner,
            allocated.0,
            association.map(|tie| tie.fixed.to_string()),
            association.map(|tie| tie.since.0),
            (!kept.is_empty()).then(|| hosts_text(kept)),
            expires.map(|at| at.0),
            association_expires.map(|at| at.0),
            (*attributes != Attributes::default()).then(|| json(attributes)),
        ])?;
    for forward in forwards.iter() {
        insert_forward(transaction, address, forward)?;
    }
    Ok(())
}

fn insert_forward(
    transaction: &Transaction<'_>,
    address: &str,
    forward: &Forward,
) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached("INSERT INTO forward VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
        .execute(params![
            address,
            forward.protocol().as_str(),
            forward.ports().first().number(),
            forward.ports().last().number(),
            forward.fixed().to_string(),
            forward.fixed_port().number(),
            forward.outbound().as_str(),
        ])
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
        EventKind::Changed(Change::Keep { floating: _, hosts }) => {
            text = Some(hosts_text(hosts));
        }
        EventKind::Changed(Change::Disassociate {
            floating: _,
            previous: from,
        }) => {
            previous = Some(from.to_string());
        }
        EventKind::Changed(Change::Forward {
            floating: _,
            forward,
            previous: from,
        }) => {
            fixed = Some(forward.fixed().to_string());
            previous = from.map(|from| from.to_string());
            text = Some(forward.to_string());
        }
        EventKind::Changed(Change::Unforward {
            floating: _,
            forward,
        }) => {
            previous = Some(forward.fixed().to_string());
            text = Some(forward.to_string());
        }
        EventKind::Changed(Change::Update {
            floating: _,
            before,
            after,
        }) => text = Some(row::json(&[before, after])),
        EventKind::Changed(Change::Release {
            floating: _,
            previous: from,
            resting_until,
        }) => {
            previous = from.map(|from| from.to_string());
            text = resting_until.map(|until| until.0.to_string());
        }
        EventKind::Changed(Change::SetEnd {
            floating: _,
            of,
            at,
        }) => {
            let at = at.map_or_else(|| NEVER.to_owned(), |at| at.0.to_string());
            text = Some(format!("{of} {at}"));
        }
        EventKind::Changed(Change::Try { floating: _, trial }) => text = Some(json(trial)),
        EventKind::Changed(Change::Confirm { floating: _ }) => {}
        EventKind::Changed(Change::Restore {
            floating: _,
            former,
            previous: from,
        }) => {
            let tie = former.as_ref().and_then(|former| former.association);
            fixed = tie.map(|tie| tie.fixed.to_string());
            previous = from.map(|from| from.to_string());
            text = Some(json(former));
        }
        EventKind::Expired { floating: _, of } => text = Some(of.to_string()),
        EventKind::Activated { floating: _ } => {}
        EventKind::Deferred {
            floating: _,
            reason,
        } => text = Some(reason.to_string()),
        EventKind::Conflict { floating: _, by } => text = Some(by.to_string()),
        EventKind::Reloaded { what } | EventKind::Repaired { what } => text = Some(what.clone()),
    }
    transaction
        .prepare_cached(
            "INSERT INTO event VALUES (
                 ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10,
                 coalesce(?11, (SELECT owner FROM floating_ip WHERE address = ?7)), ?12
             )",
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

#[cfg(test)]
mod tests;
