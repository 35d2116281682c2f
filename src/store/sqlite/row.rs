//! Rows into values, as strictly as they are written: what this version would
//! not write there is refused with table, key and column.

use std::collections::HashMap;

use rusqlite::Row;
use rusqlite::types::{Type, ValueRef};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use crate::model::{
    Actor, Allocation, Association, Attributes, Change, ClockAnchor, Event, EventKind, FixedIp,
    FloatingIp, Forward, Forwards, PendingReason, PoolName, Port, PortRange, Resting, Revision,
    Sequence, Timestamp, Trial, Via,
};

/// What an end that is none is called in the event log.
pub(super) const NEVER: &str = "never";

/// An allocated address. A hundred thousand share the few names of their pools.
pub(super) fn allocation(
    row: &Row<'_>,
    pools: &mut HashMap<String, PoolName>,
) -> rusqlite::Result<(FloatingIp, Allocation)> {
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
        forwards: Forwards::default(),
        kept: hosts(row, 6)?,
        attributes: match row.get_ref(7)?.as_str_or_null()? {
            None => Attributes::default(),
            Some(_) => from_json(row, 7)?,
        },
        expires: row.get::<_, Option<i64>>(8)?.map(Timestamp),
        association_expires: row.get::<_, Option<i64>>(9)?.map(Timestamp),
    };
    Ok((floating, allocation))
}

/// A forward, and its floating IP.
pub(super) fn forward(row: &Row<'_>) -> rusqlite::Result<(FloatingIp, Forward)> {
    let floating: FloatingIp = parse(row, 0)?;
    let port = |column| {
        let port = Port::new(row.get(column)?);
        port.map_err(|_| strange(column, "no port"))
    };
    let ports = PortRange::new(port(2)?, port(3)?).map_err(|_| strange(3, "no range"))?;
    let fixed: FixedIp = parse(row, 4)?;
    if fixed.family() != floating.family() {
        return Err(strange(4, "an address of the other family"));
    }
    let forward = Forward::new(parse(row, 1)?, ports, fixed, port(5)?, parse(row, 6)?);
    Ok((floating, forward.map_err(|_| strange(5, "no port"))?))
}

/// A released address that is kept for its last owner.
pub(super) fn resting(row: &Row<'_>) -> rusqlite::Result<(FloatingIp, Resting)> {
    let resting = Resting {
        owner: row.get(1)?,
        until: Timestamp(row.get(2)?),
    };
    Ok((parse(row, 0)?, resting))
}

/// How the wall clock stood.
pub(super) fn clock(row: &Row<'_>) -> rusqlite::Result<ClockAnchor> {
    Ok(ClockAnchor {
        boot: row.get(0)?,
        ahead: row.get(1)?,
    })
}

/// A change that is not confirmed, and its floating IP.
pub(super) fn trial(row: &Row<'_>) -> rusqlite::Result<(FloatingIp, Trial)> {
    let trial = Trial {
        number: row.get(1)?,
        since: Timestamp(row.get(2)?),
        until: Timestamp(row.get(3)?),
        former: from_json(row, 4)?,
    };
    Ok((parse(row, 0)?, trial))
}

/// A line of the event log.
pub(super) fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
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
        "keep" => EventKind::Changed(Change::Keep {
            floating: parse(row, 6)?,
            hosts: hosts(row, 11)?,
        }),
        "disassociate" => EventKind::Changed(Change::Disassociate {
            floating: parse(row, 6)?,
            previous: parse(row, 8)?,
        }),
        "forward" => EventKind::Changed(Change::Forward {
            floating: parse(row, 6)?,
            forward: parse(row, 11)?,
            previous: optional(row, 8)?,
        }),
        "unforward" => EventKind::Changed(Change::Unforward {
            floating: parse(row, 6)?,
            forward: parse(row, 11)?,
        }),
        "update" => {
            let [before, after] = from_json(row, 11)?;
            EventKind::Changed(Change::Update {
                floating: parse(row, 6)?,
                before,
                after,
            })
        }
        "release" => EventKind::Changed(Change::Release {
            floating: parse(row, 6)?,
            previous: optional(row, 8)?,
            resting_until: optional(row, 11)?.map(Timestamp),
        }),
        "set-end" => {
            let text = row.get_ref(11)?.as_str()?;
            let (of, at) = text.split_once(' ').ok_or(strange(11, "no end"))?;
            EventKind::Changed(Change::SetEnd {
                floating: parse(row, 6)?,
                of: of.parse().map_err(|_| strange(11, "no end"))?,
                at: match at {
                    NEVER => None,
                    at => Some(Timestamp(at.parse().map_err(|_| strange(11, "no time"))?)),
                },
            })
        }
        "try" => EventKind::Changed(Change::Try {
            floating: parse(row, 6)?,
            trial: from_json(row, 11)?,
        }),
        "confirm" => EventKind::Changed(Change::Confirm {
            floating: parse(row, 6)?,
        }),
        "revert" => EventKind::Changed(Change::Restore {
            floating: parse(row, 6)?,
            former: from_json(row, 11)?,
            previous: optional(row, 8)?,
        }),
        "expire" => EventKind::Expired {
            floating: parse(row, 6)?,
            of: parse(row, 11)?,
        },
        "activate" => EventKind::Activated {
            floating: parse(row, 6)?,
        },
        // What it waited for is for people; only the words are kept.
        "defer" => EventKind::Deferred {
            floating: parse(row, 6)?,
            reason: PendingReason::Kernel(row.get(11)?),
        },
        "conflict" => EventKind::Conflict {
            floating: parse(row, 6)?,
            by: parse(row, 11)?,
        },
        "reload" => EventKind::Reloaded { what: row.get(11)? },
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

/// Hosts with spaces between them; none when there is no text.
fn hosts(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<FixedIp>> {
    let hosts = row.get_ref(column)?.as_str_or_null()?.unwrap_or_default();
    let hosts = hosts.split_whitespace().map(str::parse);
    hosts
        .collect::<Result<_, _>>()
        .map_err(|_| strange(column, "no address of a host"))
}

/// The same as a text.
pub(super) fn hosts_text(hosts: &[FixedIp]) -> String {
    let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
    hosts.join(" ")
}

/// What is kept as JSON.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts and flags are JSON")
}

fn from_json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

/// A value that this version would not write there.
fn strange(column: usize, what: &str) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(column, what.into(), Type::Text)
}

/// A row by its table and key, cut to a length fit for a message.
pub(super) fn named(table: &str, row: &Row<'_>) -> String {
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
pub(super) fn reading(row: String, source: rusqlite::Error) -> StoreError {
    match source {
        rusqlite::Error::SqliteFailure(..) => StoreError::Access {
            doing: "read",
            source,
        },
        source => StoreError::Corrupt { row, source },
    }
}
