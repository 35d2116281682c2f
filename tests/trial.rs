//! Changes that are undone unless they are confirmed, by a clock of the test's.

mod common;

use common::{
    Room, Running, START, allocate, associate, confirm, disassociate, forward, release, revert,
    unforward, update,
};
use ipfloater::control::{Rejection, Snapshot};
use ipfloater::kernel::FakeKernel;
use ipfloater::model::{Actor, Allocation, Alteration, FloatingIp, Lease, Via};
use ipfloater::request::{Allocate, Associate, Request, Terms};

fn within(seconds: u32) -> Terms {
    Terms {
        confirm: Some(seconds),
        ..Terms::default()
    }
}

fn ip(text: &str) -> FloatingIp {
    text.parse().unwrap()
}

fn all(snapshot: &Snapshot) -> Vec<(FloatingIp, Allocation)> {
    let allocations = snapshot.state.allocations();
    allocations.map(|(ip, has)| (ip, has.clone())).collect()
}

fn refusal(running: &Running, request: Request) -> &'static str {
    match running.ask(request) {
        Err(rejection @ Rejection::Refused(_)) => rejection.name(),
        other => panic!("{other:?}"),
    }
}

/// Has the controller look at its clock, by asking for what cannot be.
fn wake(running: &Running) {
    running.ask(disassociate("198.51.100.99")).unwrap_err();
}

/// Addresses with all that an address can have; 10.0.0.6 leaves as 198.51.100.8.
fn furnish(running: &Running) {
    let lasting = Terms {
        expires_in: Some(86_400),
        ..Terms::default()
    };
    for (floating, first, second) in [
        ("198.51.100.7", "10.0.0.5", "10.0.0.9"),
        ("2001:db8::7", "fd00::5", "fd00::9"),
    ] {
        running.ask_on(allocate(floating), lasting).unwrap();
        running.ask_on(associate(floating, first), lasting).unwrap();
        let host = match second.contains(':') {
            true => format!("[{second}]"),
            false => second.to_owned(),
        };
        for ports in ["80/tcp", "5000-5009/udp"] {
            let to = ports.split(['-', '/']).next().unwrap();
            let outbound = format!("{ports} -> {host}:{to}, outbound floating");
            running.ask(forward(floating, &outbound)).unwrap();
        }
    }
    running.ask(associate("198.51.100.8", "10.0.0.6")).unwrap();
    running.ask(associate("2001:db8::8", "fd00::6")).unwrap();
    for (floating, net) in [
        ("198.51.100.7", "192.0.2.0/24"),
        ("2001:db8::8", "2001:db8:f::/48"),
    ] {
        let noted = Alteration {
            rate_in: Some(Some("10M".parse().unwrap())),
            allowed_sources: Some(vec![net.to_owned()].try_into().unwrap()),
            label: Some(Some("web".parse().unwrap())),
            tags: Some([floating.replace(':', "-").parse().unwrap()].into()),
            ..Alteration::default()
        };
        running.ask(update(floating, noted)).unwrap();
    }
}

/// Everything that can be put on trial, on furnished addresses.
const CHANGES: [fn() -> Request; 14] = [
    || associate("198.51.100.7", "10.0.0.20"),
    || associate("2001:db8::7", "fd00::20"),
    // It displaces the host's own.
    || associate("198.51.100.7", "10.0.0.6"),
    || associate("2001:db8::8", "fd00::5"),
    || disassociate("198.51.100.7"),
    || disassociate("2001:db8::7"),
    || release("198.51.100.7"),
    || release("2001:db8::7"),
    || release("198.51.100.8"),
    || forward("198.51.100.7", "80/tcp -> 10.0.0.30:81"),
    || forward("2001:db8::8", "22/tcp -> [fd00::30]:22"),
    || {
        forward(
            "198.51.100.8",
            "7000-7009/tcp -> 10.0.0.31:7000, outbound floating",
        )
    },
    || unforward("198.51.100.7", "5000-5009/udp"),
    || unforward("2001:db8::7", "80/tcp"),
];

#[test]
fn what_is_not_confirmed_in_time_is_undone_and_all_is_as_it_was() {
    for change in CHANGES {
        for asked in [false, true] {
            let room = Room::new();
            let running = room.start();
            furnish(&running);
            let before = (all(&running.handle.snapshot()), room.kernel.to_text());
            let outcome = running.ask_on(change(), within(60)).unwrap();
            assert!(outcome.changed, "{:?}", change());
            assert_eq!(outcome.unconfirmed.map(|until| until.0), Some(START + 60));
            assert_ne!(all(&running.handle.snapshot()), before.0);
            let cuts = room.kernel.cuts().len();
            if asked {
                let outcome = running.ask(revert(&outcome.floating.to_string())).unwrap();
                assert!(outcome.changed && outcome.unconfirmed.is_none());
            } else {
                room.clock.pass(59);
                wake(&running);
                assert!(running.handle.snapshot().state.trials().next().is_some());
                room.clock.pass(1);
                wake(&running);
                assert_eq!(running.handle.snapshot().state.trials().count(), 0);
            }
            let snapshot = running.handle.snapshot();
            assert_eq!(all(&snapshot), before.0, "{:?}", change());
            assert_eq!(room.kernel.to_text(), before.1, "{:?}", change());
            running.stop();
            assert!(room.kernel.cuts().len() > cuts, "{:?}", change());

            let again = room.start();
            assert_eq!(all(&again.handle.snapshot()), before.0, "{:?}", change());
            assert_eq!(room.kernel.to_text(), before.1, "{:?}", change());
            again.stop();
        }
    }
}

#[test]
fn what_is_confirmed_stays() {
    for change in CHANGES {
        let room = Room::new();
        let running = room.start();
        furnish(&running);
        let outcome = running.ask_on(change(), within(60)).unwrap();
        let after = (all(&running.handle.snapshot()), room.kernel.to_text());
        running.ask(confirm(&outcome.floating.to_string())).unwrap();
        room.clock.pass(1_000);
        std::thread::sleep(std::time::Duration::from_millis(50));
        wake(&running);
        let snapshot = running.handle.snapshot();
        assert!(
            snapshot.state.trials().next().is_none(),
            "of all its addresses"
        );
        assert_eq!(all(&snapshot), after.0);
        assert_eq!(room.kernel.to_text(), after.1);
        let again = refusal(&running, confirm(&outcome.floating.to_string()));
        assert_eq!(again, "NothingUnconfirmed");
        let late = refusal(&running, revert(&outcome.floating.to_string()));
        assert_eq!(late, "NothingUnconfirmed");
        running.stop();
    }
}

#[test]
fn what_is_on_trial_and_what_it_would_get_back_is_closed_to_others() {
    let room = Room::new();
    let running = room.start();
    running.ask(associate("198.51.100.7", "10.0.0.5")).unwrap();
    running.ask(associate("198.51.100.8", "10.0.0.6")).unwrap();
    running
        .ask_on(associate("198.51.100.7", "10.0.0.6"), within(60))
        .unwrap();
    for request in [
        associate("198.51.100.7", "10.0.0.7"),
        disassociate("198.51.100.7"),
        release("198.51.100.7"),
        forward("198.51.100.7", "80/tcp -> 10.0.0.9:80"),
        // Displaced, and to come back.
        associate("198.51.100.8", "10.0.0.9"),
        release("198.51.100.8"),
        // To get its address back, whichever else is free.
        associate("198.51.100.8", "10.0.0.5"),
    ] {
        let told = format!("{request:?}");
        assert_eq!(refusal(&running, request), "Unconfirmed", "{told}");
    }
    let told = running.ask(release("198.51.100.8")).unwrap_err();
    assert_eq!(
        told.to_string(),
        "the last change of 198.51.100.8 is not confirmed: confirm it, revert it, or wait until \
         2027-01-15 08:01:00Z"
    );
    // Asking for what is, is no error; and either host names it.
    let same = running.ask(associate("198.51.100.7", "10.0.0.6")).unwrap();
    assert!(!same.changed && same.unconfirmed.is_some());
    running.ask(revert("10.0.0.5")).unwrap();
    assert_eq!(
        refusal(&running, confirm("198.51.100.8")),
        "NothingUnconfirmed"
    );
}

#[test]
fn a_released_address_is_given_to_nobody_before_it_is_confirmed() {
    let room = Room::new();
    let running = room.start();
    running.ask(associate("198.51.100.7", "10.0.0.5")).unwrap();
    running.ask(allocate("198.51.100.8")).unwrap();
    running.ask(allocate("2001:db8::7")).unwrap();
    running.ask(allocate("2001:db8::8")).unwrap();
    running.ask_on(release("10.0.0.5"), within(60)).unwrap();
    let any = || Request::Allocate(Allocate::default());
    let for_host = || {
        Request::Associate(Associate {
            floating: None,
            fixed: "10.0.0.40".parse().unwrap(),
            pool: None,
            owner: None,
            reassociate: false,
            keep_established: false,
        })
    };
    assert_eq!(refusal(&running, any()), "PoolExhausted");
    assert_eq!(refusal(&running, for_host()), "PoolExhausted");
    assert_eq!(refusal(&running, allocate("198.51.100.7")), "Unconfirmed");
    running.ask(confirm("198.51.100.7")).unwrap();
    assert_eq!(running.ask(any()).unwrap().floating, ip("198.51.100.7"));
}

#[test]
fn time_to_confirm_is_what_was_asked_for_however_the_clock_is_set() {
    let room = Room::new();
    let running = room.start();
    running.ask(allocate("198.51.100.7")).unwrap();
    for jump in [-86_400, 86_400] {
        running
            .ask_on(associate("198.51.100.7", "10.0.0.5"), within(60))
            .unwrap();
        room.clock.set_by(jump);
        room.clock.pass(59);
        std::thread::sleep(std::time::Duration::from_millis(2_500));
        assert_eq!(running.handle.snapshot().state.associated(), 1, "{jump}");
        room.clock.pass(1);
        running.wait_until("it is undone", |snapshot| snapshot.state.associated() == 0);
    }
}

#[test]
fn what_ran_out_while_the_daemon_was_down_is_undone_at_the_start() {
    for (down, jump, undone) in [
        (70, 0, true),
        (30, 0, false),
        // The clock was set back meanwhile: it has no more than it had.
        (0, -86_400, false),
    ] {
        let room = Room::new();
        let running = room.start();
        running.ask(associate("198.51.100.7", "10.0.0.5")).unwrap();
        running
            .ask_on(associate("198.51.100.7", "10.0.0.6"), within(60))
            .unwrap();
        running.stop();
        room.clock.set_by(jump);
        room.clock.pass(down);
        let rebooted = FakeKernel::simulated();
        let again = Running::start_at(&rebooted, room.directory.path(), &room.clock);
        let host = if undone { "10.0.0.5" } else { "10.0.0.6" };
        let is_there = |host: &str| {
            let text = rebooted.to_text();
            text.contains(&format!("floating_to_fixed 198.51.100.7 : {host}\n"))
        };
        assert!(is_there(host), "{down} {jump}: {}", rebooted.to_text());
        room.clock.pass(60);
        again.wait_until("it is undone", |snapshot| {
            snapshot.state.trials().next().is_none()
        });
        assert!(is_there("10.0.0.5"), "{}", rebooted.to_text());
        again.stop();
    }
}

#[test]
fn whichever_step_of_undoing_is_the_last_the_next_start_ends_where_it_should() {
    for change in CHANGES {
        for steps in 0..12 {
            let room = Room::new();
            let running = room.start();
            furnish(&running);
            let before = (all(&running.handle.snapshot()), room.kernel.to_text());
            running.ask_on(change(), within(60)).unwrap();
            room.kernel.set_fuse(Some(steps));
            room.clock.pass(60);
            wake(&running);
            assert_eq!(running.handle.snapshot().state.trials().count(), 0);
            let burnt = room.kernel.fuse() == Some(0);
            running.stop();
            room.kernel.set_fuse(None);
            let again = room.start();
            assert_eq!(
                all(&again.handle.snapshot()),
                before.0,
                "{steps}: {:?}",
                change()
            );
            assert_eq!(room.kernel.to_text(), before.1, "{steps}: {:?}", change());
            again.stop();
            if !burnt {
                break;
            }
        }
    }
}

#[test]
fn an_end_waits_while_it_is_on_trial() {
    let room = Room::new();
    let running = room.start();
    let lasting = Terms {
        expires_in: Some(30),
        ..Terms::default()
    };
    running
        .ask_on(associate("198.51.100.7", "10.0.0.5"), lasting)
        .unwrap();
    running
        .ask_on(associate("198.51.100.7", "10.0.0.6"), within(60))
        .unwrap();
    room.clock.pass(40);
    wake(&running);
    assert_eq!(running.handle.snapshot().state.associated(), 1);
    running.ask(revert("198.51.100.7")).unwrap();
    // It has its former end back, which is past.
    running.wait_until("it ends", |snapshot| snapshot.state.associated() == 0);
    let snapshot = running.handle.snapshot();
    let allocation = snapshot.state.allocation(ip("198.51.100.7")).unwrap();
    assert_eq!(allocation.end(Lease::Association), None);
}

#[test]
fn a_dry_run_of_a_trial_begins_none() {
    let room = Room::new();
    let running = room.start();
    running.ask(associate("198.51.100.7", "10.0.0.5")).unwrap();
    let dry = |terms: Terms| Terms {
        dry_run: true,
        ..terms
    };
    let moved = || associate("198.51.100.7", "10.0.0.6");
    let told = running.ask_on(moved(), dry(within(60))).unwrap();
    assert!(told.unconfirmed.is_some());
    assert_eq!(running.handle.snapshot().state.trials().count(), 0);
    running.ask_on(moved(), within(60)).unwrap();
    let text = room.kernel.to_text();
    let told = running
        .ask_on(revert("198.51.100.7"), dry(Terms::default()))
        .unwrap();
    let effects = told.effects.unwrap();
    let lines: Vec<_> = effects.iter().map(|effect| effect.text.as_str()).collect();
    assert!(
        lines
            .contains(&"add element inet ipfloater floating_to_fixed4 { 198.51.100.7 : 10.0.0.5 }")
    );
    assert_eq!(room.kernel.to_text(), text);
    running
        .ask_on(confirm("10.0.0.6"), dry(Terms::default()))
        .unwrap();
    running.ask(confirm("10.0.0.6")).unwrap();
}

#[test]
fn a_configuration_that_is_not_confirmed_is_put_back() {
    let room = Room::new();
    let running = room.start();
    running.ask(associate("198.51.100.7", "10.0.0.5")).unwrap();
    let before = room.kernel.to_text();
    let root = Actor {
        uid: 0,
        via: Via::Varlink,
    };
    let other = || {
        let mut site = common::site();
        site.pools[0].ranges.truncate(1);
        site
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let handle = &running.handle;
    let reload = |terms| runtime.block_on(handle.reload(other(), Vec::new(), root, terms));
    let settle = |keep| runtime.block_on(handle.settle_reload(keep, root, Terms::default()));

    let reloaded = reload(within(60)).unwrap();
    let lost = ["pool default is another: without 2001:db8::7-2001:db8::8"];
    assert_eq!(reloaded.news, lost);
    assert_eq!(reloaded.unconfirmed.map(|until| until.0), Some(START + 60));
    assert_ne!(room.kernel.to_text(), before);
    let warnings = &handle.snapshot().health.warnings;
    assert!(warnings[0].contains("not confirmed"), "{warnings:?}");
    assert_eq!(reload(Terms::default()).unwrap_err().name(), "Unconfirmed");
    room.clock.pass(60);
    running.wait_until("the former one is back", |snapshot| {
        snapshot.site.pools[0].ranges.len() == 2
    });
    assert_eq!(room.kernel.to_text(), before);
    assert!(handle.snapshot().health.warnings.is_empty());
    assert_eq!(settle(true).unwrap_err().name(), "NothingUnconfirmed");

    reload(within(60)).unwrap();
    let back = ["pool default is another: with 2001:db8::7-2001:db8::8"];
    assert_eq!(settle(false).unwrap().news, back);
    assert_eq!(room.kernel.to_text(), before);

    reload(within(60)).unwrap();
    settle(true).unwrap();
    room.clock.pass(100);
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    assert_eq!(handle.snapshot().site.pools[0].ranges.len(), 1);
}
