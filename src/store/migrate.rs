//! Bringing a store up to date.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
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
        let is_the_originals = connection.table_exists(None, "endpoint").map_err(fail)?;
        return Err(foreign(
            match is_the_originals {
                true => {
                    "is the database of the original IP Floater; move it to /var/lib/ipfloater.db, \
                     from where `ipfloater import` takes it over"
                }
                false => "is a database of another program; move it away",
            }
            .to_owned(),
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
        )?;
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

/// Copies the store beside itself, for going back; a copy of the same version
/// that was there goes. Only a copy that is whole and on the disk gets the name.
fn back_up(connection: &Connection, copy: &Path) -> Result<(), StoreError> {
    let mut part = copy.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let fail = |source| StoreError::File {
        path: part.clone(),
        source,
    };
    // VACUUM INTO takes an empty file and refuses any other. It would make one
    // that everybody may read, and does not sync it.
    match std::fs::remove_file(&part) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(fail(error)),
        Ok(()) | Err(_) => {}
    }
    let file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&part)
        .map_err(fail)?;
    connection
        .execute("VACUUM INTO ?1", [part.to_string_lossy()])
        .map_err(|source| StoreError::Open {
            path: part.clone(),
            source,
        })?;
    file.sync_all().map_err(fail)?;
    std::fs::rename(&part, copy).map_err(fail)?;
    let directory = copy.parent().expect("a file is in a directory");
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(fail)
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
        let name: String = copy
            .query_row("SELECT name FROM thing", [], |row| row.get(0))
            .unwrap();
        assert_eq!(name, "old");
    }

    #[test]
    fn a_copy_is_for_the_owner_only_and_replaces_what_an_interrupted_start_left() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.db");
        let mut connection = Connection::open(&path).unwrap();
        migrate(&mut connection, &path, OLD).unwrap();
        let copy = directory.path().join("s.db.version1");
        for left in [copy.clone(), directory.path().join("s.db.version1.part")] {
            std::fs::write(left, "half a copy").unwrap();
        }
        migrate(&mut connection, &path, NEW).unwrap();
        let files: Vec<_> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains("version"))
            .collect();
        assert_eq!(files, ["s.db.version1"]);
        let mode = std::fs::metadata(&copy).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
        assert_eq!(version(&Connection::open(copy).unwrap()), 1);
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
        connection
            .execute_batch("CREATE TABLE endpoint (id, public_ip)")
            .unwrap();
        let original = migrate(&mut connection, &path, OLD)
            .unwrap_err()
            .to_string();
        assert!(original.contains("`ipfloater import`"), "{original}");
    }
}
