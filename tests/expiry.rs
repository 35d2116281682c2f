//! Allocations and associations that end by themselves, by a clock of the test's.

mod common;

use common::{Room, Running, START, allocate, associate, forward, update};
use ipfloater::kernel::FakeKernel;
use ipfloater::model::{Alteration, FloatingIp, Lease, Timestamp, Via};
use ipfloater::request::{Request, Terms};

fn lasting(seconds: u32) -> Terms {
    Terms {
        expires_in: Some(seconds),
        ..Terms::default()
    }
}

fn ip(text: &str) -> FloatingIp {
    text.parse().unwrap()
}

/// The verbs of the last events, latest first.
fn verbs(running: &Running, count: usize) -> Vec<(String, Via)> {
    let history = running.handle.history(None, None, count);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let events = runtime.block_on(history).unwrap();
    let verbs = events.iter();
    verbs
        .map(|event| (event.kind.verb().to_owned(), event.actor.via))
        .collect()
}

#[test]
fn an_association_ends_when_its_time_has_come_and_the_address_stays() {
    for (floating, fixed) in [("198.51.100.7", "10.0.0.5"), ("2001:db8::7", "fd00::5")] {
        let room = Room::new();
        let running = room.start();
        let outcome = running
            .ask_on(associate(floating, fixed), lasting(3_600))
            .unwrap();
        let allocation = outcome.allocation.unwrap();
        let end = Some(Timestamp(START + 3_600));
        assert_eq!(allocation.end(Lease::Association), end);
        assert_eq!(allocation.end(Lease::Allocation), None);
        room.clock.pass(3_599);
        assert!(!running.ask(associate(floating, fixed)).unwrap().changed);
        assert!(room.kernel.to_text().contains(fixed));

        room.clock.pass(1);
        running.wait_until("the association ends", |snapshot| {
            snapshot.state.association(ip(floating)).is_none()
        });
        let snapshot = running.handle.snapshot();
        let allocation = snapshot.state.allocation(ip(floating)).unwrap();
        assert_eq!(allocation.end(Lease::Association), None);
        assert!(!room.kernel.to_text().contains(fixed));
        assert_eq!(
            verbs(&running, 2),
            [
                ("disassociate".to_owned(), Via::Daemon),
                ("expire".to_owned(), Via::Daemon)
            ]
        );
        running.stop();
    }
}

#[test]
fn an_allocation_ends_with_its_association_and_forwards() {
    let room = Room::new();
    let running = room.start();
    let floating = "198.51.100.7";
    running.ask_on(allocate(floating), lasting(60)).unwrap();
    running.ask(associate(floating, "10.0.0.5")).unwrap();
    running
        .ask(forward(floating, "80/tcp -> 10.0.0.6:8080"))
        .unwrap();
    let before = room.kernel.to_text();
    assert!(before.contains("forward 198.51.100.7 . tcp . 80"));
    room.clock.pass(61);
    running.wait_until("the allocation ends", |snapshot| {
        snapshot.state.allocation(ip(floating)).is_none()
    });
    let after = room.kernel.to_text();
    assert!(
        !after.contains("10.0.0.") && !after.contains("local"),
        "{after}"
    );
    let done: Vec<_> = verbs(&running, 3)
        .into_iter()
        .map(|(verb, _)| verb)
        .collect();
    assert_eq!(done, ["release", "unforward", "expire"]);
}

#[test]
fn what_was_over_before_the_start_is_over_when_it_serves() {
    let room = Room::new();
    let running = room.start();
    running
        .ask_on(associate("198.51.100.7", "10.0.0.5"), lasting(60))
        .unwrap();
    running
        .ask_on(allocate("2001:db8::8"), lasting(90))
        .unwrap();
    running
        .ask_on(associate("198.51.100.8", "10.0.0.6"), lasting(600))
        .unwrap();
    running.stop();
    room.clock.pass(100);
    let announced = room.kernel.announced().len();
    let rebooted = FakeKernel::simulated();
    let again = Running::start_at(&rebooted, room.directory.path(), &room.clock);
    let snapshot = again.handle.snapshot();
    assert!(snapshot.state.association(ip("198.51.100.7")).is_none());
    assert!(snapshot.state.allocation(ip("2001:db8::8")).is_none());
    let lasts = snapshot.state.allocation(ip("198.51.100.8")).unwrap();
    let end = Some(Timestamp(START + 600));
    assert_eq!(lasts.end(Lease::Association), end);
    assert!(!rebooted.announced().contains(&ip("198.51.100.7")));
    assert_eq!(room.kernel.announced().len(), announced);
    again.stop();
}

/// Two associations: for one hour, and for two.
fn two_ends(running: &Running) -> [FloatingIp; 2] {
    let (first, second) = ("198.51.100.7", "198.51.100.8");
    for (floating, fixed, seconds) in [(first, "10.0.0.5", 3_600), (second, "10.0.0.6", 7_200)] {
        running
            .ask_on(associate(floating, fixed), lasting(seconds))
            .unwrap();
    }
    [ip(first), ip(second)]
}

#[test]
fn the_end_comes_when_the_time_has_passed_however_the_clock_is_set() {
    for jump in [-86_400, 86_400] {
        let room = Room::new();
        let running = room.start();
        let [first, second] = two_ends(&running);
        room.clock.set_by(jump);
        room.clock.pass(3_590);
        std::thread::sleep(std::time::Duration::from_millis(2_500));
        let snapshot = running.handle.snapshot();
        assert_eq!(snapshot.state.associated(), 2, "{jump}");
        // It is told by the clock as it is now.
        let end = snapshot.state.allocation(first).unwrap();
        let end = end.end(Lease::Association);
        assert_eq!(end, Some(Timestamp(START + jump + 3_600)));
        room.clock.pass(20);
        running.wait_until("the first ends", |snapshot| {
            snapshot.state.association(first).is_none()
        });
        assert!(
            running
                .handle
                .snapshot()
                .state
                .association(second)
                .is_some()
        );
        running.stop();
    }
}

#[test]
fn a_clock_that_is_set_while_the_daemon_is_away_alters_no_end() {
    for jump in [-86_400, 86_400] {
        let room = Room::new();
        let running = room.start();
        let [first, second] = two_ends(&running);
        running
            .ask_on(allocate("2001:db8::8"), lasting(600))
            .unwrap();
        running.stop();
        room.clock.set_by(jump);
        room.clock.pass(3_700);
        let again = room.start();
        let snapshot = again.handle.snapshot();
        assert!(snapshot.state.association(first).is_none(), "{jump}");
        assert!(snapshot.state.allocation(ip("2001:db8::8")).is_none());
        assert!(snapshot.state.association(second).is_some(), "{jump}");
        // Twice is once.
        again.stop();
        let again = room.start();
        let allocation = again.handle.snapshot().state.allocation(second).cloned();
        let end = allocation.unwrap().end(Lease::Association);
        assert_eq!(end, Some(Timestamp(START + jump + 7_200)));
        again.stop();
    }
}

#[test]
fn over_a_reboot_the_wall_clock_counts() {
    let room = Room::new();
    let running = room.start();
    let [first, second] = two_ends(&running);
    running.stop();
    // Down for more than an hour; the uptime begins anew.
    room.clock.pass(4_000);
    room.clock.reboot();
    let again = room.start();
    let snapshot = again.handle.snapshot();
    assert!(snapshot.state.association(first).is_none());
    assert!(snapshot.state.association(second).is_some());
    // What the clock does in this run counts no more than in the one before.
    room.clock.set_by(86_400);
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    assert!(again.handle.snapshot().state.association(second).is_some());
    room.clock.pass(3_200);
    again.wait_until("the second ends", |snapshot| {
        snapshot.state.association(second).is_none()
    });
}

#[test]
fn an_end_can_be_altered_and_taken_off_and_does_not_move_along() {
    let room = Room::new();
    let running = room.start();
    let floating = "198.51.100.7";
    let tie = || associate(floating, "10.0.0.5");
    let end = |request: Request, terms: Terms| {
        let outcome = running.ask_on(request, terms).unwrap();
        let allocation = outcome.allocation.unwrap();
        (
            outcome.changed,
            allocation.end(Lease::Allocation).map(|at| at.0 - START),
            allocation.end(Lease::Association).map(|at| at.0 - START),
        )
    };
    assert_eq!(end(tie(), lasting(60)), (true, None, Some(60)));
    assert_eq!(end(tie(), Terms::default()), (false, None, Some(60)));
    assert_eq!(end(tie(), lasting(600)), (true, None, Some(600)));
    assert_eq!(end(tie(), lasting(600)), (false, None, Some(600)));
    assert_eq!(
        end(allocate(floating), lasting(900)),
        (true, Some(900), Some(600))
    );
    let moved = associate(floating, "10.0.0.6");
    assert_eq!(end(moved, Terms::default()), (true, Some(900), None));
    assert_eq!(end(tie(), lasting(30)), (true, Some(900), Some(30)));
    assert_eq!(end(tie(), lasting(0)), (true, Some(900), None));
    assert_eq!(end(tie(), lasting(0)), (false, Some(900), None));
    assert_eq!(end(allocate(floating), lasting(0)), (true, None, None));
    room.clock.pass(10_000);
    assert!(!running.ask(tie()).unwrap().changed, "nothing ended");
}

#[test]
fn what_is_protected_is_not_released_and_loses_its_end() {
    let room = Room::new();
    let running = room.start();
    let floating = "198.51.100.7";
    running.ask_on(allocate(floating), lasting(60)).unwrap();
    running
        .ask_on(associate(floating, "10.0.0.5"), lasting(60))
        .unwrap();
    let protect = Alteration {
        protected: Some(true),
        ..Alteration::default()
    };
    running.ask(update(floating, protect)).unwrap();
    room.clock.pass(60);
    running.wait_until("the association ends", |snapshot| {
        snapshot.state.associated() == 0
    });
    let snapshot = running.handle.snapshot();
    let allocation = snapshot.state.allocation(ip(floating)).unwrap();
    assert_eq!(allocation.end(Lease::Allocation), None);
}

#[test]
fn a_dry_run_sets_no_end_and_tells_of_it() {
    let room = Room::new();
    let running = room.start();
    let terms = Terms {
        dry_run: true,
        ..lasting(60)
    };
    let outcome = running
        .ask_on(associate("198.51.100.7", "10.0.0.5"), terms)
        .unwrap();
    let effects = outcome.effects.unwrap();
    let last = effects
        .iter()
        .rfind(|effect| effect.kind.as_str() == "store")
        .unwrap();
    assert_eq!(
        last.text,
        "set-end: the association of 198.51.100.7 ends 2027-01-15 08:01:00Z"
    );
    assert_eq!(running.handle.snapshot().state.ends().count(), 0);
}

#[test]
fn whichever_step_of_an_end_is_the_last_the_next_start_ends_where_it_should() {
    for steps in 0..8 {
        let room = Room::new();
        let running = room.start();
        running
            .ask_on(associate("198.51.100.7", "10.0.0.5"), lasting(60))
            .unwrap();
        running
            .ask_on(allocate("198.51.100.8"), lasting(60))
            .unwrap();
        running
            .ask(forward("198.51.100.8", "80/tcp -> 10.0.0.6:8080"))
            .unwrap();
        room.kernel.set_fuse(Some(steps));
        room.clock.pass(60);
        running.wait_until("both are over", |snapshot| {
            snapshot.state.ends().count() == 0
        });
        running.stop();
        room.kernel.set_fuse(None);
        let again = room.start();
        let text = room.kernel.to_text();
        assert!(
            !text.contains("10.0.0.") && !text.contains("local"),
            "{steps}: {text}"
        );
        assert_eq!(again.handle.snapshot().state.allocated(), 1);
        again.stop();
    }
}
