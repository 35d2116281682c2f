//! The tables, and how older versions become the newest.

/// Marks the file as ours: "IPFL" (PRAGMA application_id).
pub const APPLICATION_ID: i32 = 0x4950_464c;

/// What leads from each version to the next. The first makes the tables; a
/// store is as new as the number of those that it has seen (PRAGMA
/// user_version). Never altered, only added to.
pub(super) const MIGRATIONS: &[&str] = &[
    // 1: floating IPs with their owners and associations, and what happened.
    // Addresses and names are text, so that `sqlite3 -readonly` reads well.
    "CREATE TABLE floating_ip (
         address       TEXT    PRIMARY KEY,
         pool          TEXT    NOT NULL,
         owner         INTEGER NOT NULL,
         allocated_at  INTEGER NOT NULL,
         fixed         TEXT    UNIQUE,
         associated_at INTEGER
     ) WITHOUT ROWID, STRICT;
     CREATE TABLE event (
         sequence INTEGER PRIMARY KEY,
         revision INTEGER,
         at       INTEGER NOT NULL,
         uid      INTEGER NOT NULL,
         via      TEXT    NOT NULL,
         verb     TEXT    NOT NULL,
         floating TEXT,
         fixed    TEXT,
         previous TEXT,
         pool     TEXT,
         owner    INTEGER,
         text     TEXT
     ) STRICT;
     CREATE TABLE counter (
         revision INTEGER NOT NULL,
         sequence INTEGER NOT NULL
     ) STRICT;
     INSERT INTO counter VALUES (0, 0);",
    // 2: port forwards. An event about one has it in its column text, as
    // `8000-8010/tcp -> 10.0.0.5:8000`.
    "CREATE TABLE forward (
         address    TEXT    NOT NULL,
         protocol   TEXT    NOT NULL,
         first_port INTEGER NOT NULL,
         last_port  INTEGER NOT NULL,
         fixed      TEXT    NOT NULL,
         fixed_port INTEGER NOT NULL,
         outbound   TEXT    NOT NULL,
         PRIMARY KEY (address, protocol, first_port)
     ) WITHOUT ROWID, STRICT;",
    // 3: hosts whose flows from before an association go on, with spaces
    // between them.
    "ALTER TABLE floating_ip ADD COLUMN kept TEXT;",
    // 4: what is noted of a floating IP, as JSON; NULL when nothing is. An event
    // has in its column text what was noted before it and after it.
    "ALTER TABLE floating_ip ADD COLUMN attributes TEXT;",
    // 5: ends of allocations and associations.
    "ALTER TABLE floating_ip ADD COLUMN expires_at INTEGER;
     ALTER TABLE floating_ip ADD COLUMN association_expires_at INTEGER;",
    // 6: released addresses that are kept for their last owners. The event of the
    // release has the end in its column text.
    "CREATE TABLE resting (
         address TEXT    PRIMARY KEY,
         owner   INTEGER NOT NULL,
         until   INTEGER NOT NULL
     ) WITHOUT ROWID, STRICT;
     CREATE INDEX resting_until ON resting (until);",
    // 7: changes that are not confirmed. What an address gets back is JSON, null
    // when it was free, and so is what an event tells of a trial in its text.
    "CREATE TABLE trial (
         address TEXT    PRIMARY KEY,
         number  INTEGER NOT NULL,
         since   INTEGER NOT NULL,
         until   INTEGER NOT NULL,
         former  TEXT    NOT NULL
     ) WITHOUT ROWID, STRICT;",
    // 8: how the wall clock stood; a row, or none.
    "CREATE TABLE clock (
         boot  TEXT    NOT NULL,
         ahead INTEGER NOT NULL
     ) STRICT;",
];
