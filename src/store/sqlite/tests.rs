//! The store on a real file.

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::model::{Actor, Association, FixedIp, PendingReason, PoolName, Via};

const ROOT: Actor = Actor {
    uid: 0,
    via: Via::Varlink,
};

fn floating(host: u8) -> FloatingIp {
    format!("198.51.100.{host}").parse().unwrap()
}

fn fixed(host: u8) -> FixedIp {
    format!("10.0.0.{host}").parse().unwrap()
}

/// The events of one commit that makes these changes, and the state after it.
fn committed(state: &State, changes: &[Change]) -> (Vec<Event>, State) {
    let mut after = state.clone();
    let mut events = Vec::new();
    for change in changes {
        after = after.with(change, Timestamp(7));
        events.push(Event {
            sequence: after.sequence(),
            revision: Some(state.revision().next()),
            at: Timestamp(7),
            actor: ROOT,
            kind: EventKind::Changed(change.clone()),
        });
    }
    (events, after.committed())
}

fn allocate(host: u8) -> Change {
    Change::Allocate {
        floating: floating(host),
        pool: PoolName::default_pool(),
        owner: 1000,
    }
}

fn same(left: &State, right: &State) -> bool {
    left.revision() == right.revision()
        && left.sequence() == right.sequence()
        && left.allocations().eq(right.allocations())
        && left.resting().iter().eq(right.resting().iter())
}

#[test]
fn what_was_committed_is_there_after_the_next_start() {
    let directory = TempDir::new().unwrap();
    let changes = [
        allocate(1),
        Change::Associate {
            floating: floating(1),
            fixed: fixed(5),
            previous: None,
        },
        allocate(2),
        Change::Associate {
            floating: floating(1),
            fixed: fixed(6),
            previous: Some(fixed(5)),
        },
    ];
    let (events, state) = committed(&State::default(), &changes);
    let mut store = SqliteStore::open(directory.path()).unwrap();
    assert!(same(&store.load().unwrap(), &State::default()));
    store.commit(Revision(0), &events).unwrap();
    drop(store);

    let mut store = SqliteStore::open(directory.path()).unwrap();
    let loaded = store.load().unwrap();
    assert!(same(&loaded, &state), "{loaded:?}");
    assert_eq!(loaded.floating_of(fixed(6)), Some(floating(1)));
    assert_eq!(loaded.floating_of(fixed(5)), None);
    let mut history = store.history(None, None, 10).unwrap();
    history.reverse();
    assert_eq!(history, events);
    assert_eq!(
        store.history(Some(floating(2)), None, 10).unwrap(),
        [events[2].clone()]
    );
    assert_eq!(
        store.history(None, Some(Sequence(3)), 1).unwrap(),
        [events[1].clone()]
    );
}

#[test]
fn a_commit_that_fails_in_the_middle_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let mut store = SqliteStore::open(directory.path()).unwrap();
    let (mut events, _) = committed(&State::default(), &[allocate(1), allocate(2)]);
    let EventKind::Changed(change) = &mut events[1].kind else {
        unreachable!("both are changes")
    };
    *change = allocate(1);
    assert!(store.commit(Revision(0), &events).is_err());
    assert!(same(&store.load().unwrap(), &State::default()));
    assert!(store.history(None, None, 10).unwrap().is_empty());
}

#[test]
fn a_commit_on_an_old_revision_is_refused() {
    let directory = TempDir::new().unwrap();
    let mut store = SqliteStore::open(directory.path()).unwrap();
    let (events, _) = committed(&State::default(), &[allocate(1)]);
    store.commit(Revision(0), &events).unwrap();
    let refused = store.commit(Revision(0), &events).unwrap_err();
    assert!(
        matches!(
            refused,
            StoreError::Conflict {
                found: Revision(1),
                ..
            }
        ),
        "{refused}"
    );
}

#[test]
fn events_that_follow_no_commit_are_kept_and_change_no_revision() {
    let directory = TempDir::new().unwrap();
    let mut store = SqliteStore::open(directory.path()).unwrap();
    let kinds = [
        EventKind::Activated {
            floating: floating(1),
        },
        EventKind::Deferred {
            floating: floating(1),
            reason: PendingReason::Kernel("why".into()),
        },
        EventKind::Repaired {
            what: "table".into(),
        },
    ];
    let events: Vec<_> = kinds
        .into_iter()
        .zip(1..)
        .map(|(kind, sequence)| Event {
            sequence: Sequence(sequence),
            revision: None,
            at: Timestamp(1),
            actor: Actor {
                uid: 3,
                via: Via::Daemon,
            },
            kind,
        })
        .collect();
    store.commit(Revision(0), &events).unwrap();
    let state = store.load().unwrap();
    assert_eq!(
        (state.revision(), state.sequence()),
        (Revision(0), Sequence(3))
    );
    let mut history = store.history(None, None, 10).unwrap();
    history.reverse();
    assert_eq!(history, events);
}

#[test]
fn the_log_is_bounded() {
    let directory = TempDir::new().unwrap();
    let mut store = SqliteStore::open(directory.path()).unwrap();
    let event = |sequence| Event {
        sequence: Sequence(sequence),
        revision: None,
        at: Timestamp(1),
        actor: ROOT,
        kind: EventKind::Activated {
            floating: floating(1),
        },
    };
    store.commit(Revision(0), &[event(1), event(2)]).unwrap();
    store
        .commit(Revision(0), &[event(EVENTS_KEPT + 1)])
        .unwrap();
    let kept: Vec<_> = store
        .history(None, None, 10)
        .unwrap()
        .iter()
        .map(|event| event.sequence.0)
        .collect();
    assert_eq!(kept, [EVENTS_KEPT + 1, 2]);
}

#[test]
fn a_state_directory_has_one_daemon_at_a_time() {
    let directory = TempDir::new().unwrap();
    let first = SqliteStore::open(directory.path()).unwrap();
    let second = SqliteStore::open(directory.path()).unwrap_err();
    assert!(matches!(second, StoreError::InUse { .. }), "{second}");
    drop(first);
    SqliteStore::open(directory.path()).unwrap();
}

fn noted() -> Attributes {
    Attributes {
        label: Some("web".parse().unwrap()),
        description: Some("B\u{fc}ro: \"x\"; \\ '".parse().unwrap()),
        tags: ["a", "b"].map(|tag| tag.parse().unwrap()).into(),
        protected: true,
        rate_in: "10M".parse().ok(),
        rate_out: "1G".parse().ok(),
        allowed_sources: vec!["2001:db8:f::/48".to_owned()].try_into().unwrap(),
    }
}

fn note(before: Attributes, after: Attributes) -> Change {
    Change::Update {
        floating: "2001:db8::7".parse().unwrap(),
        before: before.into(),
        after: after.into(),
    }
}

#[test]
fn every_change_comes_back_as_it_was_recorded() {
    let directory = TempDir::new().unwrap();
    let tie = |host, to| Change::Associate {
        floating: floating(host),
        fixed: fixed(to),
        previous: None,
    };
    let forward = |text: &str, previous: Option<&str>| Change::Forward {
        floating: "2001:db8::7".parse().unwrap(),
        forward: text.parse().unwrap(),
        previous: previous.map(|previous| previous.parse().unwrap()),
    };
    let furnished = Allocation {
        association: Some(Association {
            fixed: fixed(9),
            since: Timestamp(5),
        }),
        forwards: Forwards::default()
            .with("80/tcp -> 10.0.0.8:8080".parse().unwrap())
            .with("5-9/udp -> 10.0.0.8:5, outbound floating".parse().unwrap()),
        kept: vec![fixed(10)],
        expires: Some(Timestamp(1_850_000_000)),
        association_expires: Some(Timestamp(1_840_000_000)),
        ..Allocation::new(PoolName::default_pool(), 1001, Timestamp(4))
    };
    let try_out = |host, former: Option<&Allocation>| Change::Try {
        floating: floating(host),
        trial: Box::new(Trial {
            number: 17,
            since: Timestamp(7),
            until: Timestamp(67),
            former: former.cloned(),
        }),
    };
    let changes = [
        allocate(1),
        tie(1, 5),
        Change::Disassociate {
            floating: floating(1),
            previous: fixed(5),
        },
        Change::Release {
            floating: floating(1),
            previous: None,
            resting_until: None,
        },
        allocate(2),
        tie(2, 5),
        Change::Keep {
            floating: floating(2),
            hosts: vec![fixed(5), fixed(6)],
        },
        Change::SetEnd {
            floating: floating(2),
            of: Lease::Allocation,
            at: Some(Timestamp(1_800_000_000)),
        },
        Change::SetEnd {
            floating: floating(2),
            of: Lease::Allocation,
            at: None,
        },
        Change::Release {
            floating: floating(2),
            previous: Some(fixed(5)),
            resting_until: None,
        },
        Change::Allocate {
            floating: "2001:db8::7".parse().unwrap(),
            pool: "dmz".parse().unwrap(),
            owner: u32::MAX,
        },
        Change::Associate {
            floating: "2001:db8::7".parse().unwrap(),
            fixed: "fd00::7".parse().unwrap(),
            previous: None,
        },
        forward("80-89/tcp -> [fd00::8]:80", None),
        forward("80-89/udp -> [fd00::8]:8080, outbound floating", None),
        forward("7/sctp -> [fd00::9]:7", Some("fd00::8")),
        Change::Unforward {
            floating: "2001:db8::7".parse().unwrap(),
            forward: "80-89/tcp -> [fd00::8]:80".parse().unwrap(),
        },
        note(Attributes::default(), noted()),
        note(
            noted(),
            Attributes {
                protected: false,
                label: None,
                ..noted()
            },
        ),
        Change::SetEnd {
            floating: "2001:db8::7".parse().unwrap(),
            of: Lease::Association,
            at: Some(Timestamp(1_800_000_000)),
        },
        Change::SetEnd {
            floating: "2001:db8::7".parse().unwrap(),
            of: Lease::Allocation,
            at: Some(Timestamp(1_900_000_000)),
        },
        // Released on trial, and given back; on trial, and confirmed; on trial.
        try_out(3, None),
        Change::Restore {
            floating: floating(3),
            former: Some(Box::new(furnished.clone())),
            previous: None,
        },
        try_out(3, Some(&furnished)),
        Change::Confirm {
            floating: floating(3),
        },
        try_out(3, Some(&furnished)),
    ];
    let (events, mut state) = committed(&State::default(), &changes);
    let mut store = SqliteStore::open(directory.path()).unwrap();
    store.commit(Revision(0), &events).unwrap();
    let mut history = store.history(None, None, 100).unwrap();
    history.reverse();
    assert_eq!(history, events);
    let loaded = store.load().unwrap();
    assert!(same(&loaded, &state));
    assert!(loaded.ends().eq(state.ends()));
    assert_eq!(loaded.ends().count(), 4);
    assert!(loaded.trials().eq(state.trials()));
    assert_eq!(loaded.trials().count(), 1);

    // The wall clock is set: all ends move, and nothing else.
    assert_eq!(store.clock().unwrap(), None);
    let anchor = |ahead| ClockAnchor {
        boot: "3b7c".into(),
        ahead,
    };
    for (ahead, by) in [(1_000, 0), (87_400, 86_400), (400, -87_000)] {
        state.later_by(by);
        store.set_clock(&anchor(ahead), by).unwrap();
        assert_eq!(store.clock().unwrap(), Some(anchor(ahead)));
        let loaded = store.load().unwrap();
        assert!(same(&loaded, &state), "{by}");
        assert!(loaded.ends().eq(state.ends()), "{by}");
        assert!(loaded.trials().eq(state.trials()), "{by}");
    }
    let looked = SqliteStore::look(directory.path()).unwrap().unwrap();
    assert!(same(&looked, &state));
}

#[test]
fn what_rests_is_there_after_the_next_start_and_goes_when_it_is_over() {
    let directory = TempDir::new().unwrap();
    let release = |host, until| Change::Release {
        floating: floating(host),
        previous: None,
        resting_until: Some(Timestamp(until)),
    };
    let changes = [
        allocate(1),
        allocate(2),
        allocate(3),
        release(1, 8),
        release(2, 9),
        release(3, 9),
        allocate(3),
    ];
    let (events, state) = committed(&State::default(), &changes);
    let mut store = SqliteStore::open(directory.path()).unwrap();
    store.commit(Revision(0), &events).unwrap();
    drop(store);
    let mut store = SqliteStore::open(directory.path()).unwrap();
    let loaded = store.load().unwrap();
    assert!(same(&loaded, &state), "{loaded:?}");
    let resting: Vec<_> = loaded.resting().iter().collect();
    let of = |until| Resting {
        owner: 1000,
        until: Timestamp(until),
    };
    assert_eq!(resting, [(floating(1), of(8)), (floating(2), of(9))]);
    let anchor = ClockAnchor {
        boot: "3b7c".into(),
        ahead: 5,
    };
    for by in [60, -60] {
        store.set_clock(&anchor, by).unwrap();
        let mut moved = state.clone();
        moved.later_by(if by > 0 { by } else { 0 });
        assert!(same(&store.load().unwrap(), &moved));
    }
    let mut history = store.history(None, None, 10).unwrap();
    history.reverse();
    assert_eq!(history, events);

    let after = state.clone().with(&allocate(4), Timestamp(8));
    let event = Event {
        sequence: after.sequence(),
        revision: Some(Revision(2)),
        at: Timestamp(8),
        actor: ROOT,
        kind: EventKind::Changed(allocate(4)),
    };
    store.commit(Revision(1), &[event]).unwrap();
    assert!(same(&store.load().unwrap(), &after.clone().committed()));
    assert_eq!(after.resting().iter().count(), 1);
}

#[test]
fn an_older_store_is_read_as_it_is_and_brought_up_to_date_when_opened() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(DATABASE);
    let old = Connection::open(&path).unwrap();
    old.execute_batch(crate::store::schema::MIGRATIONS[0])
        .unwrap();
    let row = "INSERT INTO floating_ip VALUES ('198.51.100.1', 'default', 7, 1, '10.0.0.5', 2)";
    old.execute(row, []).unwrap();
    for (pragma, value) in [
        ("application_id", crate::store::schema::APPLICATION_ID),
        ("user_version", 1),
    ] {
        old.pragma_update(None, pragma, value).unwrap();
    }
    drop(old);
    let before = SqliteStore::look(directory.path()).unwrap().unwrap();
    let mut store = SqliteStore::open(directory.path()).unwrap();
    assert!(same(&store.load().unwrap(), &before));
    assert_eq!(before.floating_of(fixed(5)), Some(floating(1)));
    assert!(directory.path().join("ipfloater.db.version1").exists());

    let forward = Change::Forward {
        floating: floating(1),
        forward: "80/tcp -> 10.0.0.6:80".parse().unwrap(),
        previous: None,
    };
    let (events, state) = committed(&before, &[forward]);
    store.commit(before.revision(), &events).unwrap();
    assert!(same(&store.load().unwrap(), &state));
    let looked = SqliteStore::look(directory.path()).unwrap().unwrap();
    assert!(same(&looked, &state));
}

#[test]
fn a_row_that_nobody_wrote_is_named() {
    for (sql, parts) in [
        (
            "INSERT INTO floating_ip VALUES ('not\u{1b}an address', 'default', 0, 0, NULL, NULL)",
            [
                "the row \"not\\u{1b}an address\" of floating_ip",
                "not an IPv4 or IPv6 address",
            ],
        ),
        (
            "INSERT INTO floating_ip VALUES ('198.51.100.9', 'a b', 0, 0, NULL, NULL)",
            ["the row \"198.51.100.9\" of floating_ip", "a pool name is"],
        ),
        (
            "INSERT INTO floating_ip VALUES ('198.51.100.9', 'default', -1, 0, NULL, NULL)",
            ["the row \"198.51.100.9\" of floating_ip", "-1"],
        ),
        (
            "INSERT INTO floating_ip VALUES ('198.51.100.9', 'default', 0, 0, '10.0.0.9', NULL)",
            [
                "the row \"198.51.100.9\" of floating_ip",
                "half an association",
            ],
        ),
        (
            "INSERT INTO floating_ip (address, pool, owner, allocated_at, kept)
                VALUES ('198.51.100.9', 'default', 0, 0, '10.0.0.9 nobody')",
            [
                "the row \"198.51.100.9\" of floating_ip",
                "no address of a host",
            ],
        ),
        (
            "INSERT INTO floating_ip VALUES ('198.51.100.9', 'default', 0, 0, 'fd00::9', 0)",
            [
                "the row \"198.51.100.9\" of floating_ip",
                "the other family",
            ],
        ),
        (
            "INSERT INTO forward VALUES ('198.51.100.9', 'tcp', 80, 79, '10.0.0.9', 80, 'router')",
            ["the row \"198.51.100.9\" of forward", "no range"],
        ),
        (
            "INSERT INTO forward VALUES ('198.51.100.9', 'tcp', 1, 9, '10.0.0.9', 65535, 'router')",
            ["the row \"198.51.100.9\" of forward", "no port"],
        ),
        (
            "INSERT INTO forward VALUES ('198.51.100.9', 'tcp', 1, 9, 'fd00::9', 1, 'router')",
            ["the row \"198.51.100.9\" of forward", "the other family"],
        ),
        (
            "INSERT INTO forward VALUES ('198.51.100.9', 'icmp', 1, 9, '10.0.0.9', 1, 'router')",
            ["the row \"198.51.100.9\" of forward", "tcp, udp or sctp"],
        ),
        (
            "INSERT INTO forward VALUES ('198.51.100.9', 'tcp', 1, 9, '10.0.0.9', 1, 'router'),
                ('198.51.100.9', 'tcp', 9, 9, '10.0.0.9', 1, 'router')",
            ["the row \"198.51.100.9\" of forward", ""],
        ),
        (
            "INSERT INTO forward VALUES ('198.51.100.9', 'tcp', 1, 9, '10.0.0.9', 1, 'router')",
            ["198.51.100.9, which nobody has", ""],
        ),
        (
            "INSERT INTO floating_ip (address, pool, owner, allocated_at, attributes)
             VALUES ('198.51.100.9', 'default', 0, 0, '{\"label\":\"two words\"}')",
            [
                "the row \"198.51.100.9\" of floating_ip",
                "a label is 1 to 63",
            ],
        ),
        (
            "INSERT INTO resting VALUES ('198.51.100.9', -1, 0)",
            ["the row \"198.51.100.9\" of resting", "-1"],
        ),
        ("DELETE FROM counter", ["the table counter", "no rows"]),
    ] {
        let directory = TempDir::new().unwrap();
        let mut store = SqliteStore::open(directory.path()).unwrap();
        // Of later versions there are more columns.
        let columns = "floating_ip (address, pool, owner, allocated_at, fixed, associated_at)";
        let sql = sql.replacen("floating_ip VALUES", &format!("{columns} VALUES"), 1);
        store.connection.execute(&sql, []).unwrap();
        let error = store.load().unwrap_err();
        assert!(
            matches!(error, StoreError::Corrupt { .. }),
            "{sql}: {error}"
        );
        let error = crate::chain(&error);
        for part in parts {
            assert!(error.contains(part), "{sql}: {error}");
        }
    }

    let directory = TempDir::new().unwrap();
    let mut store = SqliteStore::open(directory.path()).unwrap();
    let sql =
        "INSERT INTO event (sequence, at, uid, via, verb) VALUES (7, 0, 0, 'pigeon', 'repair')";
    store.connection.execute(sql, []).unwrap();
    let error = store.history(None, None, 10).unwrap_err().to_string();
    assert!(error.contains("the row 7 of event"), "{error}");
}

#[test]
fn a_damaged_file_is_refused_with_the_remedy_and_left_as_it_is() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(DATABASE);
    let mut store = SqliteStore::open(directory.path()).unwrap();
    let changes: Vec<_> = (1..=250).map(allocate).collect();
    let (events, _) = committed(&State::default(), &changes);
    store.commit(Revision(0), &events).unwrap();
    let page: usize = store
        .connection
        .pragma_query_value(None, "page_size", |row| row.get(0))
        .unwrap();
    drop(store);

    let whole = std::fs::read(&path).unwrap();
    let mut event_page = whole.clone();
    let last = event_page.len() - page;
    event_page[last..].fill(0xa5);
    let text = b"this is no database at all, as anyone can see".to_vec();
    let short = whole[..page + page / 2].to_vec();
    for damaged in [event_page, text, short] {
        std::fs::write(&path, &damaged).unwrap();
        let error = SqliteStore::open(directory.path()).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains("put a copy in its place"), "{error}");
        assert!(!error.contains('\n'), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), damaged);
    }
    std::fs::write(&path, whole).unwrap();
    assert_eq!(
        SqliteStore::open(directory.path())
            .unwrap()
            .load()
            .unwrap()
            .allocated(),
        250
    );
}

#[test]
fn a_store_that_takes_nothing_for_a_while_changes_nothing_and_then_goes_on() {
    for (stop, go_on, code) in [
        // A full disk: no page more than there are.
        (
            "PRAGMA max_page_count = 1",
            "PRAGMA max_page_count = 4294967294",
            ErrorCode::DiskFull,
        ),
        // A file system that became read-only.
        (
            "PRAGMA query_only = 1",
            "PRAGMA query_only = 0",
            ErrorCode::ReadOnly,
        ),
    ] {
        let directory = TempDir::new().unwrap();
        let mut store = SqliteStore::open(directory.path()).unwrap();
        let (events, before) = committed(&State::default(), &[allocate(1)]);
        store.commit(Revision(0), &events).unwrap();

        let changes: Vec<_> = (2..=250).map(allocate).collect();
        let (events, after) = committed(&before, &changes);
        store.connection.execute_batch(stop).unwrap();
        match store.commit(Revision(1), &events).unwrap_err() {
            StoreError::Access { source, .. } => {
                assert_eq!(source.sqlite_error_code(), Some(code), "{source}");
            }
            other => panic!("{stop}: {other}"),
        }
        assert!(same(&store.load().unwrap(), &before), "{stop}");

        store.connection.execute_batch(go_on).unwrap();
        store.commit(Revision(1), &events).unwrap();
        assert!(same(&store.load().unwrap(), &after), "{stop}");
    }
}

#[test]
fn an_administrator_reads_the_file_while_the_daemon_has_it() {
    use rusqlite::OpenFlags;
    let directory = TempDir::new().unwrap();
    let mut store = SqliteStore::open(directory.path()).unwrap();
    let reader = Connection::open_with_flags(
        directory.path().join(DATABASE),
        OpenFlags::SQLITE_OPEN_READ_ONLY,
    )
    .unwrap();
    let count = || -> u32 {
        reader
            .query_row("SELECT count(*) FROM floating_ip", [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(count(), 0);
    let (events, _) = committed(&State::default(), &[allocate(1), allocate(2)]);
    store.commit(Revision(0), &events).unwrap();
    assert_eq!(count(), 2);
}

#[test]
fn nobody_else_may_read_the_store() {
    let directory = TempDir::new().unwrap();
    // As a copy that was put back may be.
    let path = directory.path().join(DATABASE);
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut store = SqliteStore::open(directory.path()).unwrap();
    store
        .commit(Revision(0), &committed(&State::default(), &[allocate(1)]).0)
        .unwrap();
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(
            file.metadata().unwrap().permissions().mode() & 0o077,
            0,
            "{:?}",
            file.path()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is done, in whichever order: what is loaded is what was decided.
    #[test]
    fn what_is_loaded_is_what_was_decided(steps in prop::collection::vec((0_u8..5, 1_u8..6, 1_u8..6), 1..40)) {
        let directory = TempDir::new().unwrap();
        let mut store = SqliteStore::open(directory.path()).unwrap();
        let mut state = State::default();
        for (what, address, host) in steps {
            let (floating, fixed) = (floating(address), fixed(host));
            let allocation = state.allocation(floating);
            let previous = allocation.and_then(|allocation| allocation.association).map(|tie| tie.fixed);
            let change = match (what, allocation, previous) {
                (0, None, _) => allocate(address),
                (1, Some(_), _) if state.floating_of(fixed).is_none() => Change::Associate { floating, fixed, previous },
                (2, Some(_), Some(previous)) => Change::Disassociate { floating, previous },
                (3, Some(_), _) => Change::Release { floating, previous, resting_until: (host > 3).then_some(Timestamp(9)) },
                (4, Some(allocation), _) => {
                    let before = allocation.attributes.clone();
                    let after = if before.protected { Attributes::default() } else { noted() };
                    Change::Update { floating, before: before.into(), after: after.into() }
                }
                _ => continue,
            };
            let (events, after) = committed(&state, &[change]);
            store.commit(state.revision(), &events).unwrap();
            state = after;
        }
        prop_assert!(same(&store.load().unwrap(), &state));
    }
}

#[test]
fn a_store_of_every_older_version_is_looked_at_and_brought_up_to_date() {
    use crate::store::schema::{APPLICATION_ID, MIGRATIONS};
    for version in 1..=MIGRATIONS.len() {
        let directory = TempDir::new().unwrap();
        let old = Connection::open(directory.path().join(DATABASE)).unwrap();
        for migration in &MIGRATIONS[..version] {
            old.execute_batch(migration).unwrap();
        }
        let row =
            "INSERT INTO floating_ip (address, pool, owner, allocated_at, fixed, associated_at)
                   VALUES ('198.51.100.1', 'default', 7, 1, '10.0.0.5', 2)";
        old.execute(row, []).unwrap();
        old.pragma_update(None, "application_id", APPLICATION_ID)
            .unwrap();
        old.pragma_update(None, "user_version", version).unwrap();
        drop(old);
        let before = SqliteStore::look(directory.path()).unwrap().unwrap();
        assert_eq!(before.floating_of(fixed(5)), Some(floating(1)), "{version}");
        let mut store = SqliteStore::open(directory.path()).unwrap();
        assert!(same(&store.load().unwrap(), &before), "{version}");
    }
}

#[test]
fn what_happened_since_an_event_comes_in_order_with_whose_the_address_was() {
    let directory = TempDir::new().unwrap();
    let mut store = SqliteStore::open(directory.path()).unwrap();
    assert_eq!(store.earliest().unwrap(), None);
    let changes = [
        allocate(1),
        Change::Associate {
            floating: floating(1),
            fixed: fixed(5),
            previous: None,
        },
        Change::Release {
            floating: floating(1),
            previous: Some(fixed(5)),
            resting_until: None,
        },
        Change::Allocate {
            floating: floating(1),
            pool: PoolName::default_pool(),
            owner: 1001,
        },
    ];
    let (mut events, state) = committed(&State::default(), &changes);
    store.commit(Revision(0), &events).unwrap();
    let by = "02:00:00:00:00:09".parse().unwrap();
    let kinds = [
        EventKind::Conflict {
            floating: floating(1),
            by,
        },
        EventKind::Repaired { what: "it".into() },
    ];
    for kind in kinds {
        let sequence = events.last().unwrap().sequence.next();
        let event = Event {
            sequence,
            revision: None,
            at: Timestamp(8),
            actor: ROOT,
            kind,
        };
        store
            .commit(state.revision(), std::slice::from_ref(&event))
            .unwrap();
        events.push(event);
    }
    let owners = [1000, 1000, 1000, 1001, 1001].map(Some);
    let owners = owners.into_iter().chain([None]);
    let all: Vec<_> = events
        .into_iter()
        .zip(owners)
        .map(|(event, owner)| Recorded { event, owner })
        .collect();
    let mut since =
        |after, before, limit| store.since(None, Sequence(after), before, limit).unwrap();
    assert_eq!(since(0, None, 10), all);
    assert_eq!(since(2, None, 2), all[2..4]);
    assert_eq!(since(2, Some(Sequence(4)), 10), all[2..3]);
    assert_eq!(since(6, None, 10), []);
    let other = store.since(Some(floating(2)), Sequence(0), None, 10);
    assert_eq!(other.unwrap(), []);
    assert_eq!(store.earliest().unwrap(), Some(Sequence(1)));
}
