use tempfile::TempDir;

use super::*;

/// A database with these rows, each as SQL: public_ip, public_port, private_ip,
/// private_port.
fn database(rows: &[&str]) -> (TempDir, PathBuf) {
    let directory = TempDir::with_prefix("ipfloater-").unwrap();
    let path = directory.path().join("original.db");
    let database = Connection::open(&path).unwrap();
    let columns = "id, public_ip, public_port, private_ip, private_port, timestamp";
    database
        .execute_batch(&format!("CREATE TABLE endpoint ({columns})"))
        .unwrap();
    for row in rows {
        let insert = format!("INSERT INTO endpoint VALUES ('ab12ef', {row}, 1500000000)");
        database.execute_batch(&insert).unwrap();
    }
    (directory, path)
}

/// Each row: what it says, and ` !` with the reason when it is no redirection.
fn told(rows: &[&str]) -> Vec<String> {
    let (_directory, path) = database(rows);
    without_clashes(read(&path).unwrap(), &BTreeSet::new())
        .into_iter()
        .map(in_words)
        .collect()
}

fn in_words(row: Row) -> String {
    match row.redirection {
        Ok(_) => row.text,
        Err(error) => format!("{} ! {error}", row.text),
    }
}

#[test]
fn a_row_may_have_any_type_for_what_it_says() {
    for (row, expected) in [
        ("'192.0.2.7', 0, '10.0.0.5', 0", "192.0.2.7 -> 10.0.0.5"),
        (
            "'192.0.2.7', '0', ' 10.0.0.5 ', 0.0",
            "192.0.2.7 -> 10.0.0.5",
        ),
        (
            "'192.0.2.7', 443, '10.0.0.5', 8443",
            "192.0.2.7:443 -> 10.0.0.5:8443",
        ),
        (
            "'192.0.2.7', '443', '10.0.0.5', 8443.0",
            "192.0.2.7:443 -> 10.0.0.5:8443",
        ),
        (
            "'192.0.2.7', 1, '10.0.0.5', 65535",
            "192.0.2.7:1 -> 10.0.0.5:65535",
        ),
    ] {
        assert_eq!(told(&[row]), [expected], "{row}");
    }
}

#[test]
fn a_row_that_is_no_redirection_says_why() {
    let no_address = "cannot be used: it is not an IPv4 address";
    let no_port = "is no port; there are 0, for the whole address, and 1 to 65535";
    for (row, text, why) in [
        (
            "NULL, 0, '10.0.0.5', 0",
            "NULL:0 -> \"10.0.0.5\":0",
            format!("public_ip {no_address}"),
        ),
        (
            "'', 0, '10.0.0.5', 0",
            "\"\":0 -> \"10.0.0.5\":0",
            format!("public_ip {no_address}"),
        ),
        (
            "'any', 80, '10.0.0.5', 80",
            "\"any\":80 -> \"10.0.0.5\":80",
            format!("public_ip {no_address}"),
        ),
        (
            "'192.0.2.7', 0, '10.0.0.5/24', 0",
            "\"192.0.2.7\":0 -> \"10.0.0.5/24\":0",
            format!("private_ip {no_address}"),
        ),
        (
            "'2001:db8::7', 0, '10.0.0.5', 0",
            "\"2001:db8::7\":0 -> \"10.0.0.5\":0",
            format!("public_ip {no_address}"),
        ),
        (
            "'192.0.2.7', 0, x'0a000005', 0",
            "\"192.0.2.7\":0 -> 4 bytes:0",
            format!("private_ip {no_address}"),
        ),
        (
            "3221225991, 0, '10.0.0.5', 0",
            "3221225991:0 -> \"10.0.0.5\":0",
            format!("public_ip {no_address}"),
        ),
        (
            "'192.0.2.7', 65536, '10.0.0.5', 80",
            "\"192.0.2.7\":65536 -> \"10.0.0.5\":80",
            format!("public_port {no_port}"),
        ),
        (
            "'192.0.2.7', -1, '10.0.0.5', 80",
            "\"192.0.2.7\":-1 -> \"10.0.0.5\":80",
            format!("public_port {no_port}"),
        ),
        (
            "'192.0.2.7', 80, '10.0.0.5', 80.5",
            "\"192.0.2.7\":80 -> \"10.0.0.5\":80.5",
            format!("private_port {no_port}"),
        ),
        (
            "'192.0.2.7', 80, '10.0.0.5', 'http'",
            "\"192.0.2.7\":80 -> \"10.0.0.5\":\"http\"",
            format!("private_port {no_port}"),
        ),
        (
            "'192.0.2.7', NULL, '10.0.0.5', NULL",
            "\"192.0.2.7\":NULL -> \"10.0.0.5\":NULL",
            format!("public_port {no_port}"),
        ),
        (
            "'192.0.2.7', 9e999, '10.0.0.5', 0",
            "\"192.0.2.7\":inf -> \"10.0.0.5\":0",
            format!("public_port {no_port}"),
        ),
        (
            "'192.0.2.7', 0, '10.0.0.5', 80",
            "\"192.0.2.7\":0 -> \"10.0.0.5\":80",
            RowError::OneSided.to_string(),
        ),
    ] {
        assert_eq!(told(&[row]), [format!("{text} ! {why}")], "{row}");
    }
}

/// What the original wrote came from whoever reached its port.
#[test]
fn what_a_terminal_would_obey_is_not_told_as_it_is_and_not_without_end() {
    let [told] = &told(&[
        "'x' || char(27) || '[31m' || char(10) || printf('%.1000c', 'y'), 0, '10.0.0.5', 0",
    ])[..] else {
        panic!("there is one row");
    };
    assert!(told.starts_with("\"x\\u{1b}[31m\\nyyyy"), "{told}");
    assert!(
        !told.contains(char::is_control) && told.len() < 200,
        "{told}"
    );
}

#[test]
fn of_rows_that_cannot_all_be_the_first_stands() {
    assert_eq!(
        told(&[
            "'192.0.2.7', 0, '10.0.0.5', 0",
            // Once more.
            "'192.0.2.7', '0', '10.0.0.5', '0'",
            // Another host, another address for the host.
            "'192.0.2.7', 0, '10.0.0.6', 0",
            "'192.0.2.8', 0, '10.0.0.5', 0",
            // Ports beside it, to the same host and to others.
            "'192.0.2.7', 80, '10.0.0.6', 80",
            "'192.0.2.7', 81, '10.0.0.6', 80",
            "'192.0.2.8', 80, '10.0.0.5', 80",
            "'192.0.2.7', 80, '10.0.0.6', 8080",
        ]),
        [
            "192.0.2.7 -> 10.0.0.5",
            "192.0.2.7 -> 10.0.0.6 ! an earlier row has 192.0.2.7 -> 10.0.0.5",
            "192.0.2.8 -> 10.0.0.5 ! an earlier row has 192.0.2.7 -> 10.0.0.5",
            "192.0.2.7:80 -> 10.0.0.6:80",
            "192.0.2.7:81 -> 10.0.0.6:80",
            "192.0.2.8:80 -> 10.0.0.5:80",
            "192.0.2.7:80 -> 10.0.0.6:8080 ! an earlier row has 192.0.2.7:80 -> 10.0.0.6:80",
        ]
    );
}

#[test]
fn of_rows_that_cannot_all_be_the_one_in_force_stands() {
    let (_directory, path) = database(&["'192.0.2.7', 0, '10.0.0.5', 0"]);
    Connection::open(&path)
        .unwrap()
        .execute_batch("INSERT INTO endpoint VALUES ('cd34aa', '192.0.2.7', 0, '10.0.0.6', 0, 1)")
        .unwrap();
    for (in_force, expected) in [
        (
            "cd34aa",
            [
                "192.0.2.7 -> 10.0.0.5 ! what is in force instead is 192.0.2.7 -> 10.0.0.6",
                "192.0.2.7 -> 10.0.0.6",
            ],
        ),
        (
            "ab12ef",
            [
                "192.0.2.7 -> 10.0.0.5",
                "192.0.2.7 -> 10.0.0.6 ! what is in force instead is 192.0.2.7 -> 10.0.0.5",
            ],
        ),
    ] {
        let rows = without_clashes(read(&path).unwrap(), &[in_force].into());
        let told: Vec<_> = rows.into_iter().map(in_words).collect();
        assert_eq!(told, expected, "{in_force}");
    }
}

#[test]
fn reading_alters_nothing_even_where_the_original_was_interrupted() {
    let (directory, path) = database(&["'192.0.2.7', 0, '10.0.0.5', 0"]);
    // A transaction that has reached the file, with the journal that would undo it.
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "PRAGMA cache_size = 1; BEGIN;
             WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 5000)
             INSERT INTO endpoint SELECT n, '192.0.2.8', n, '10.0.0.6', n, 0 FROM number",
        )
        .unwrap();
    let copy = directory.path().join("copy.db");
    let [journal, its_copy] =
        [&path, &copy].map(|path| PathBuf::from(format!("{}-journal", path.display())));
    std::fs::copy(&path, &copy).unwrap();
    std::fs::copy(&journal, &its_copy).unwrap();
    drop(connection);

    let before = [&copy, &its_copy].map(|path| std::fs::read(path).unwrap());
    let error = read(&copy).unwrap_err().to_string();
    assert!(error.contains("have SQLite put that right"), "{error}");
    let after = [&copy, &its_copy].map(|path| std::fs::read(path).unwrap());
    assert!(before == after, "it was altered");

    // What the message recommends.
    Connection::open(&copy)
        .unwrap()
        .query_row("SELECT count(*) FROM endpoint", [], |_| Ok(()))
        .unwrap();
    assert_eq!(read(&copy).unwrap().len(), 1);
}

#[test]
fn what_cannot_be_read_is_told_once_with_its_remedy() {
    let (directory, path) = database(&["'192.0.2.7', 0, '10.0.0.5', 0"]);
    let told = |path: &Path| crate::chain(&read(path).unwrap_err());

    let writer = Connection::open(&path).unwrap();
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let error = told(&path);
    assert!(
        error.contains("is locked") && error.contains("pkill -KILL"),
        "{error}"
    );
    assert!(!error.contains("sqlite3"), "{error}");
    drop(writer);

    let text = directory.path().join("text.db");
    std::fs::write(
        &text,
        "This is not a database, and it is long enough to tell.\n",
    )
    .unwrap();
    let error = told(&text);
    let expected = "is not a database of SQLite; name the original's with --database";
    assert!(error.ends_with(expected), "{error}");

    let mut bytes = std::fs::read(&path).unwrap();
    // The first page of a table begins with what kind of page it is (SQLite's
    // fileformat2, 1.6).
    let page = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
    bytes[page] = 0xff;
    std::fs::write(&path, bytes).unwrap();
    let error = told(&path);
    assert!(
        error.contains("is damaged") && error.contains(".recover"),
        "{error}"
    );
}

#[test]
fn a_redirection_is_asked_for_by_the_method_that_makes_it() {
    let (_directory, path) = database(&[
        "'192.0.2.7', 0, '10.0.0.5', 0",
        "'192.0.2.8', 80, '10.0.0.6', 8080",
    ]);
    let calls: Vec<_> = read(&path)
        .unwrap()
        .into_iter()
        .map(|row| row.redirection.unwrap().call())
        .collect();
    assert_eq!(
        calls,
        [
            (
                "Associate",
                json!({"floating_ip": "192.0.2.7", "fixed_address": "10.0.0.5", "keep_established": true})
            ),
            (
                "Forward",
                json!({
                    "floating_ip": "192.0.2.8", "protocol": "tcp", "ports": "80",
                    "fixed_address": "10.0.0.6", "fixed_port": 8080,
                })
            ),
        ]
    );
}
