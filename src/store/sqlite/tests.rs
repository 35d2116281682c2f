//! The store on a real file.

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::model::FixedIp;

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

#[test]
fn a_row_that_nobody_wrote_is_named_and_a_damaged_file_is_no_store() {
    let directory = TempDir::new().unwrap();
    let mut store = SqliteStore::open(directory.path()).unwrap();
    store
        .connection
        .execute(
            "INSERT INTO floating_ip VALUES ('not an address', 'default', 0, 0, NULL, NULL)",
            [],
        )
        .unwrap();
    assert!(matches!(
        store.load().unwrap_err(),
        StoreError::Corrupt { .. }
    ));
    drop(store);
    std::fs::write(
        directory.path().join(DATABASE),
        "this is no database at all, as anyone can see",
    )
    .unwrap();
    assert!(matches!(
        SqliteStore::open(directory.path()).unwrap_err(),
        StoreError::Open { .. }
    ));
}

#[test]
fn nobody_else_may_read_the_store() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
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
    fn what_is_loaded_is_what_was_decided(steps in prop::collection::vec((0_u8..4, 1_u8..6, 1_u8..6), 1..40)) {
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
                (3, Some(_), _) => Change::Release { floating, previous },
                _ => continue,
            };
            let (events, after) = committed(&state, &[change]);
            store.commit(state.revision(), &events).unwrap();
            state = after;
        }
        prop_assert!(same(&store.load().unwrap(), &state));
    }
}
