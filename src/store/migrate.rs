//! Bringing a store up to date.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;
use super::schema::{APPLICATION_ID, MIGRATIONS};

/// Brings the store up to date, each step in a transaction of its own, after a
/// copy of what was there. An empty file becomes a store.
pub(super) fn bring_up_to_date(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    migrate(connection, path, MIGRATIONS)
}

fn migrate(
    connection: &mut Connection,
    path: &Path,
    migrations: &[&str],
) -> Result<(), StoreError> {
    let fail = |source| StoreError::Open {
        path: path.to_owned(),
        source,
    };
    let foreign = |why: String| StoreError::Foreign {
        path: path.to_owned(),
        why,
    };
    let number = |connection: &Connection, pragma| {
        connection
            .pragma_query_value(None, pragma, |row| row.get::<_, i32>(0))
            .map_err(fail)
    };
    let version = number(connection, "user_version")?;
    let application = number(connection, "application_id")?;
    let is_empty = version == 0 && application == 0 && number(connection, "schema_version")? == 0;
    if !is_empty && application != APPLICATION_ID {
        return Err(foreign(
            "is a database of another program; move it away".to_owned(),
        ));
    }
    let newest = i32::try_from(migrations.len()).expect("there are few migrations");
    if version > newest {
        return Err(foreign(format!(
            "has version {version}, and this ipfloaterd knows up to {newest}; install the newer one again"
        )));
    }
    if !is_empty && version < newest {
        back_up(
            connection,
            &path.with_extension(format!("db.version{version}")),
        )
        .map_err(fail)?;
    }
    let first = usize::try_from(version).unwrap_or(0);
    for (done, migration) in migrations.iter().enumerate().skip(first) {
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(fail)?;
        transaction.execute_batch(migration).map_err(fail)?;
        transaction
            .pragma_update(None, "application_id", APPLICATION_ID)
            .map_err(fail)?;
        transaction
            .pragma_update(None, "user_version", done + 1)
            .map_err(fail)?;
        transaction.commit().map_err(fail)?;
    }
    Ok(())
}

/// Copies the store beside itself; an older copy of the same version goes.
fn back_up(connection: &Connection, copy: &PathBuf) -> rusqlite::Result<()> {
    // VACUUM INTO refuses a file that is there.
    let _ = std::fs::remove_file(copy);
    connection
        .execute("VACUUM INTO ?1", [copy.to_string_lossy()])
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &[&str] = &["CREATE TABLE thing (name TEXT); INSERT INTO thing VALUES ('old')"];
    const NEW: &[&str] = &[
        OLD[0],
        "ALTER TABLE thing ADD COLUMN size INTEGER NOT NULL DEFAULT 7",
    ];
    const BROKEN: &[&str] = &[
        OLD[0],
        "ALTER TABLE thing ADD COLUMN a; ALTER TABLE nothing ADD COLUMN b",
    ];

    fn version(connection: &Connection) -> i32 {
        connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap()
    }

    #[test]
    fn an_older_store_is_copied_and_brought_up_to_date() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.db");
        let mut connection = Connection::open(&path).unwrap();
        migrate(&mut connection, &path, OLD).unwrap();
        assert_eq!(version(&connection), 1);
        migrate(&mut connection, &path, NEW).unwrap();
        let size: i32 = connection
            .query_row("SELECT size FROM thing", [], |row| row.get(0))
            .unwrap();
        assert_eq!((version(&connection), size), (2, 7));
        let copy = Connection::open(directory.path().join("s.db.version1")).unwrap();
        assert_eq!(version(&copy), 1);
    }

    #[test]
    fn a_migration_that_fails_leaves_the_store_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.db");
        let mut connection = Connection::open(&path).unwrap();
        migrate(&mut connection, &path, OLD).unwrap();
        assert!(migrate(&mut connection, &path, BROKEN).is_err());
        assert_eq!(version(&connection), 1);
        assert!(connection.prepare("SELECT a FROM thing").is_err());
    }

    #[test]
    fn a_newer_store_and_a_foreign_database_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.db");
        let mut connection = Connection::open(&path).unwrap();
        migrate(&mut connection, &path, NEW).unwrap();
        let newer = migrate(&mut connection, &path, OLD)
            .unwrap_err()
            .to_string();
        assert!(newer.contains("has version 2"), "{newer}");

        let path = directory.path().join("foreign.db");
        let mut connection = Connection::open(&path).unwrap();
        connection
            .execute_batch("CREATE TABLE somebody (elses)")
            .unwrap();
        let foreign = migrate(&mut connection, &path, OLD)
            .unwrap_err()
            .to_string();
        assert!(foreign.contains("another program"), "{foreign}");
    }
}
