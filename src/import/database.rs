//! The original's database: one table `endpoint`, whose columns have no types.
//!
//! A row with port 0 on both sides is a whole address, any other one TCP port
//! that leads to one TCP port. The original wrote what its callers gave it and
//! checked little, so every value may be anything.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use serde_json::{Value, json};

use crate::model::{Family, FixedIp, FloatingIp, Port};
use crate::store::APPLICATION_ID;

/// One redirection of the original's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Redirection {
    /// All of an address to a host.
    Whole {
        /// The public address.
        floating: FloatingIp,
        /// The host.
        fixed: FixedIp,
    },
    /// One TCP port to one of a host.
    Port {
        /// The public address.
        floating: FloatingIp,
        /// Its port.
        port: Port,
        /// The host.
        fixed: FixedIp,
        /// The host's port.
        fixed_port: Port,
    },
}

impl Redirection {
    /// The public address.
    #[must_use]
    pub fn floating(&self) -> FloatingIp {
        match self {
            Redirection::Whole { floating, .. } | Redirection::Port { floating, .. } => *floating,
        }
    }

    /// The method of ours that makes it, and with which parameters. A host keeps
    /// the flows that it has begun under another address.
    #[must_use]
    pub fn call(&self) -> (&'static str, Value) {
        match self {
            Redirection::Whole { floating, fixed } => (
                "Associate",
                json!({
                    "floating_ip": floating,
                    "fixed_address": fixed,
                    "keep_established": true,
                }),
            ),
            Redirection::Port {
                floating,
                port,
                fixed,
                fixed_port,
            } => (
                "Forward",
                json!({
                    "floating_ip": floating,
                    "protocol": "tcp",
                    "ports": port.to_string(),
                    "fixed_address": fixed,
                    "fixed_port": fixed_port,
                }),
            ),
        }
    }
}

/// In the original's words.
impl fmt::Display for Redirection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Redirection::Whole { floating, fixed } => write!(f, "{floating} -> {fixed}"),
            Redirection::Port {
                floating,
                port,
                fixed,
                fixed_port,
            } => write!(f, "{floating}:{port} -> {fixed}:{fixed_port}"),
        }
    }
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// By which the original told it, and its chains, from others.
    pub id: Option<String>,
    /// What it says: the redirection, or else its values as they are.
    pub text: String,
    /// The redirection, or why it is none.
    pub redirection: Result<Redirection, RowError>,
}

/// Why a row is no redirection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// An address is none that can be used.
    #[error("{column} cannot be used: {why}")]
    Address {
        /// In which column.
        column: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A port is none.
    #[error("{column} is no port; there are 0, for the whole address, and 1 to 65535")]
    Port {
        /// In which column.
        column: &'static str,
    },
    /// One side is a port, the other a whole address.
    #[error(
        "it leads a port to a whole address or the other way round, which the original refused"
    )]
    OneSided,
    /// A row before it has the same address, port or host for something else.
    #[error("an earlier row has {other}")]
    Clash {
        /// What that row says.
        other: Redirection,
    },
    /// A row that is in force has the same address, port or host for something
    /// else.
    #[error("what is in force instead is {other}")]
    NotInForce {
        /// What that row says.
        other: Redirection,
    },
}

/// Why the database could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// There is no such file, or it is none.
    #[error("cannot read {}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not a file.
    #[error("{} is not a file", .0.display())]
    NoFile(PathBuf),
    /// Somebody writes to it, and does not come to an end.
    #[error(
        "{} is locked by a program that has it open; end the original by \
         `pkill -KILL -f '[i]pfloaterdaemon'`, which leaves its redirections for now",
        .0.display()
    )]
    Locked(PathBuf),
    /// Who wrote to it was interrupted.
    #[error(
        "{} was left half written; have SQLite put that right: sqlite3 {} 'SELECT count(*) FROM endpoint'",
        .0.display(), .0.display()
    )]
    Unfinished(PathBuf),
    /// It is damaged.
    #[error(
        "{} is damaged; have SQLite save what can be, and name that with --database: \
         sqlite3 {} .recover | sqlite3 recovered.db",
        .0.display(), .0.display()
    )]
    Damaged(PathBuf),
    /// It is a file of something else.
    #[error("{} is not a database of SQLite; name the original's with --database", .0.display())]
    NotSqlite(PathBuf),
    /// SQLite cannot read it for another reason.
    #[error("cannot read {}", .path.display())]
    Sqlite {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// It is our own store.
    #[error("{} is the store of ipfloaterd, not a database of the original", .0.display())]
    Ours(PathBuf),
    /// It has not the one table.
    #[error("{} has no table endpoint, so it is no database of the original", .0.display())]
    NoTable(PathBuf),
}

/// Reads all rows, in the order in which they were written. Alters nothing.
pub(super) fn read(path: &Path) -> Result<Vec<Row>, DatabaseError> {
    let no_file = |source| DatabaseError::File {
        path: path.to_owned(),
        source,
    };
    if !std::fs::metadata(path).map_err(no_file)?.is_file() {
        return Err(DatabaseError::NoFile(path.to_owned()));
    }
    let fail = |source: rusqlite::Error| {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                DatabaseError::Locked(path)
            }
            // What is in the journal may not be undone.
            Some(ErrorCode::ReadOnly) => DatabaseError::Unfinished(path),
            Some(ErrorCode::DatabaseCorrupt) => DatabaseError::Damaged(path),
            Some(ErrorCode::NotADatabase) => DatabaseError::NotSqlite(path),
            _ => DatabaseError::Sqlite { path, source },
        }
    };
    // Not `immutable`: then SQLite would pass over a journal that says that the
    // file is half written. Without, it refuses what it may not put right.
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(fail)?;
    let application: i32 = connection
        .pragma_query_value(None, "application_id", |row| row.get(0))
        .map_err(fail)?;
    if application == APPLICATION_ID {
        return Err(DatabaseError::Ours(path.to_owned()));
    }
    if !connection.table_exists(None, "endpoint").map_err(fail)? {
        return Err(DatabaseError::NoTable(path.to_owned()));
    }
    let mut statement = connection
        .prepare(
            "SELECT id, public_ip, public_port, private_ip, private_port FROM endpoint ORDER BY rowid",
        )
        .map_err(fail)?;
    let mut rows = statement.query([]).map_err(fail)?;
    let mut read = Vec::new();
    while let Some(row) = rows.next().map_err(fail)? {
        let value = |column| row.get_ref(column).map_err(fail);
        let (text, redirection) = understand(value(1)?, value(2)?, value(3)?, value(4)?);
        let id = match value(0)? {
            ValueRef::Text(id) => std::str::from_utf8(id).ok().map(str::to_owned),
            ValueRef::Integer(id) => Some(id.to_string()),
            ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => None,
        };
        read.push(Row {
            id,
            text,
            redirection,
        });
    }
    Ok(read)
}

/// What a row says, and the redirection that it is.
fn understand(
    public_ip: ValueRef<'_>,
    public_port: ValueRef<'_>,
    private_ip: ValueRef<'_>,
    private_port: ValueRef<'_>,
) -> (String, Result<Redirection, RowError>) {
    let redirection = || {
        let floating = address::<FloatingIp>("public_ip", public_ip)?;
        let fixed = address::<FixedIp>("private_ip", private_ip)?;
        let port = port("public_port", public_port)?;
        let fixed_port = self::port("private_port", private_port)?;
        match (Port::new(port), Port::new(fixed_port)) {
            (Ok(port), Ok(fixed_port)) => Ok(Redirection::Port {
                floating,
                port,
                fixed,
                fixed_port,
            }),
            // 0 is the only number that is no port.
            (Err(_), Err(_)) => Ok(Redirection::Whole { floating, fixed }),
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => Err(RowError::OneSided),
        }
    };
    let redirection = redirection();
    let text = match &redirection {
        Ok(redirection) => redirection.to_string(),
        Err(_) => format!(
            "{}:{} -> {}:{}",
            shown(public_ip),
            shown(public_port),
            shown(private_ip),
            shown(private_port)
        ),
    };
    (text, redirection)
}

fn address<A: std::str::FromStr<Err: fmt::Display>>(
    column: &'static str,
    value: ValueRef<'_>,
) -> Result<A, RowError> {
    let wrong = |why: String| RowError::Address { column, why };
    let ValueRef::Text(text) = value else {
        return Err(wrong("it is not an IPv4 address".to_owned()));
    };
    let text = String::from_utf8_lossy(text);
    let text = text.trim();
    // It knew IPv4 alone.
    match text.parse().map(Family::of) {
        Ok(Family::V4) => text.parse().map_err(|why: A::Err| wrong(why.to_string())),
        Ok(Family::V6) | Err(_) => Err(wrong("it is not an IPv4 address".to_owned())),
    }
}

/// A number as any of SQLite's types may hold it.
fn port(column: &'static str, value: ValueRef<'_>) -> Result<u16, RowError> {
    let number = match value {
        ValueRef::Integer(number) => u16::try_from(number).ok(),
        ValueRef::Text(text) => std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.trim().parse().ok()),
        ValueRef::Real(number) => (0..=u16::MAX).find(|port| f64::from(*port) == number),
        ValueRef::Null | ValueRef::Blob(_) => None,
    };
    number.ok_or(RowError::Port { column })
}

/// A value fit for a message.
fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => {
            let text = String::from_utf8_lossy(text);
            format!("{:?}", text.chars().take(40).collect::<String>())
        }
        ValueRef::Blob(bytes) => format!("{} bytes", bytes.len()),
    }
}

/// The rows without repetitions. Of those that cannot all be, one that is in force
/// stands, by the ids that are; else the first, as it did in the original.
pub(super) fn without_clashes(rows: Vec<Row>, in_force: &BTreeSet<&str>) -> Vec<Row> {
    let is_in_force = |row: &Row| matches!(&row.id, Some(id) if in_force.contains(id.as_str()));
    let mut by_floating = HashMap::new();
    let mut by_host = HashMap::new();
    let mut kept = Vec::new();
    let mut rows: Vec<_> = rows.into_iter().enumerate().collect();
    rows.sort_by_key(|(_, row)| !is_in_force(row));
    for (number, mut row) in rows {
        if let Ok(this) = row.redirection {
            let (floating, host) = match this {
                Redirection::Whole { floating, fixed } => ((floating, None), Some(fixed)),
                Redirection::Port { floating, port, .. } => ((floating, Some(port)), None),
            };
            let same_host = host.and_then(|host| by_host.get(&host));
            match by_floating.get(&floating).or(same_host).copied() {
                Some((other, _)) if other == this => continue,
                Some((other, true)) if !is_in_force(&row) => {
                    row.redirection = Err(RowError::NotInForce { other });
                }
                Some((other, _)) => row.redirection = Err(RowError::Clash { other }),
                None => {
                    let this = (this, is_in_force(&row));
                    by_floating.insert(floating, this);
                    by_host.extend(host.map(|host| (host, this)));
                }
            }
        }
        kept.push((number, row));
    }
    kept.sort_by_key(|(number, _)| *number);
    kept.into_iter().map(|(_, row)| row).collect()
}

#[cfg(test)]
mod tests;
