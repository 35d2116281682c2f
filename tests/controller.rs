//! The controller over a kernel in memory: what a request does to the kernel,
//! what is repaired, what waits, and what a reader is told.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Running, associate, disassociate, release};
use ipfloater::control::{AddressState, Tallies};
use ipfloater::dataplane::{Cut, IfIndex, Tenants};
use ipfloater::kernel::{FakeKernel, Heard, Noticed, Speech};
use ipfloater::model::{AddressRange, EventKind, FloatingIp, HardwareAddress, PendingReason, Site};
use tempfile::TempDir;

fn floating(text: &str) -> FloatingIp {
    text.parse().unwrap()
}

#[test]
fn an_association_is_in_the_kernel_when_the_answer_comes() {
    let (kernel, directory) = (FakeKernel::simulated(), TempDir::new().unwrap());
    let running = Running::start(&kernel, directory.path());
    let outcome = running.ask(associate("198.51.100.7", "10.0.0.5")).unwrap();
    assert!(outcome.changed && outcome.pending.is_none());
    assert_eq!(
        kernel.to_text(),
        "fixed_to_floating 10.0.0.5 : 198.51.100.7\n\
         floating_to_fixed 198.51.100.7 : 10.0.0.5\n\
         local 198.51.100.7 dev 2\n\
         outside wan0\n\
         pool 198.51.100.7-198.51.100.8\n\
         pool 2001:db8::7-2001:db8::8\n\
         table inet ipfloater\n"
    );
    running.stop();
    assert!(
        kernel.to_text().contains("floating_to_fixed 198.51.100.7"),
        "stopping removes nothing"
    );
}

#[test]
fn asking_twice_changes_nothing_and_is_no_commit() {
    let (kernel, directory) = (FakeKernel::simulated(), TempDir::new().unwrap());
    let running = Running::start(&kernel, directory.path());
    let first = running.ask(associate("198.51.100.7", "10.0.0.5")).unwrap();
    let second = running.ask(associate("198.51.100.7", "10.0.0.5")).unwrap();
    assert!(!second.changed);
    assert_eq!(second.revision, first.revision);
    assert_eq!(second.allocation, first.allocation);
}

#[test]
fn flows_of_a_host_that_loses_its_address_are_cut_before_the_answer() {
    let (kernel, directory) = (FakeKernel::simulated(), TempDir::new().unwrap());
    let running = Running::start(&kernel, directory.path());
    running.ask(associate("198.51.100.7", "10.0.0.5")).unwrap();
    let (moved, released) = (Some("10.0.0.6".parse().unwrap()), None);
    for (request, keep) in [
        (associate("198.51.100.7", "10.0.0.6"), moved),
        (disassociate("198.51.100.7"), released),
        (associate("198.51.100.7", "10.0.0.6"), moved),
        (release("198.51.100.7"), released),
    ] {
        let cut = Cut::Floating {
            floating: floating("198.51.100.7"),
            keep: Tenants {
                fixed: keep,
                leaving: keep.into_iter().collect(),
                ..Tenants::default()
            },
        };
        let count = || kernel.cuts().iter().filter(|done| **done == cut).count();
        let before = count();
        let outcome = running.ask(request).unwrap();
        if outcome.previous.is_some() {
            assert_eq!(count(), before + 1, "{outcome:?}");
        }
    }
}

#[test]
fn what_somebody_else_removes_is_put_back_and_counted() {
    let (kernel, directory) = (FakeKernel::simulated(), TempDir::new().unwrap());
    let running = Running::start(&kernel, directory.path());
    running.ask(associate("198.51.100.7", "10.0.0.5")).unwrap();
    let whole = kernel.to_text();
    for (repairs, (what, notice)) in [
        ("table", Noticed::Table),
        ("element", Noticed::Lost),
        ("presence", Noticed::Links),
    ]
    .into_iter()
    .enumerate()
    {
        kernel.tamper(notice, |held| match what {
            "table" => {
                held.table = None;
                held.floating_to_fixed.clear();
                held.fixed_to_floating.clear();
                held.pool.clear();
                held.outside.clear();
            }
            "element" => held.floating_to_fixed.clear(),
            _ => held.presence.clear(),
        });
        running.wait_until(what, |snapshot| {
            snapshot.health.repairs == repairs as u64 + 1
        });
        assert_eq!(kernel.to_text(), whole, "{what}");
    }
}

#[test]
fn an_association_waits_for_its_interface_and_says_so() {
    let (kernel, directory) = (FakeKernel::simulated(), TempDir::new().unwrap());
    let wan0 = "wan0".parse().unwrap();
    let running = Running::start(&kernel, directory.path());
    let link = Arc::new(std::sync::Mutex::new(None));
    let taken = link.clone();
    kernel.tamper(Noticed::Links, |held| {
        *taken.lock().unwrap() = held.links.remove(&wan0)
    });
    running.wait_until("nothing is associated yet", |snapshot| {
        snapshot.pending.is_empty()
    });
    // The notice may not have been taken yet; the answer is right in both cases
    // once it has been.
    running.ask(associate("198.51.100.7", "10.0.0.5")).unwrap();
    running.wait_until("pending", |snapshot| {
        snapshot.state_of(floating("198.51.100.7"))
            == AddressState::Pending(PendingReason::InterfaceMissing(wan0.clone()))
    });
    kernel.tamper(Noticed::Links, |held| {
        held.links
            .insert(wan0.clone(), link.lock().unwrap().take().unwrap());
    });
    running.wait_until("active", |snapshot| {
        snapshot.state_of(floating("198.51.100.7")) == AddressState::Active
    });
    assert!(kernel.to_text().contains("local 198.51.100.7 dev 2"));
}

#[test]
fn a_link_that_was_without_carrier_for_a_moment_is_told_again() {
    let (kernel, directory) = (FakeKernel::simulated(), TempDir::new().unwrap());
    let running = Running::start(&kernel, directory.path());
    running.ask(associate("198.51.100.7", "10.0.0.5")).unwrap();
    let told = || kernel.announced().len();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let wait_for = |rounds: usize| {
        while told() < rounds {
            assert!(
                std::time::Instant::now() < deadline,
                "announced {} times",
                told()
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    wait_for(3);
    // Whoever looks sees carrier before and after.
    kernel.tamper(Noticed::Carrier(ipfloater::dataplane::IfIndex(2)), |_| {});
    wait_for(4);
}

#[test]
fn a_default_route_that_is_gone_for_a_while_cuts_nothing() {
    let (kernel, directory) = (FakeKernel::simulated(), TempDir::new().unwrap());
    let running = Running::start(&kernel, directory.path());
    running.ask(associate("198.51.100.7", "10.0.0.5")).unwrap();
    running.ask(associate("2001:db8::7", "fd00::5")).unwrap();
    let whole = kernel.to_text();
    kernel.tamper(Noticed::Links, |held| {
        held.default_route4 = None;
        held.default_route6 = None;
    });
    // Its interface is remembered, also for what comes now.
    let outcome = running.ask(associate("198.51.100.8", "10.0.0.6")).unwrap();
    assert_eq!(outcome.pending, None);
    running.ask(release("198.51.100.8")).unwrap();
    assert_eq!(kernel.to_text(), whole);
    running.stop();
    // A start that cannot tell leaves what it finds.
    let again = Running::start(&kernel, directory.path());
    assert_eq!(kernel.to_text(), whole);
    assert!(again.handle.snapshot().pending.is_empty());
}

#[test]
fn a_kernel_that_refuses_makes_it_pending_and_is_tried_again() {
    let (kernel, directory) = (FakeKernel::simulated(), TempDir::new().unwrap());
    let running = Running::start(&kernel, directory.path());
    // Whatever the start still had to look at is over once this is answered.
    running.ask(associate("198.51.100.8", "10.0.0.9")).unwrap();
    kernel.set_fuse(Some(0));
    let outcome = running.ask(associate("198.51.100.7", "10.0.0.5")).unwrap();
    assert!(outcome.changed, "it is committed");
    assert!(
        matches!(outcome.pending, Some(PendingReason::Kernel(_))),
        "{outcome:?}"
    );
    assert!(!running.handle.snapshot().health.problems.is_empty());
    kernel.set_fuse(None);
    running.wait_until("active", |snapshot| {
        snapshot.state_of(floating("198.51.100.7")) == AddressState::Active
    });
    running.wait_until("healthy", |snapshot| snapshot.health.problems.is_empty());
}

#[test]
fn what_the_kernel_refuses_is_counted() {
    let (kernel, directory) = (FakeKernel::simulated(), TempDir::new().unwrap());
    let running = Running::start(&kernel, directory.path());
    running.ask(associate("198.51.100.8", "10.0.0.9")).unwrap();
    let statistics = running.handle.statistics().clone();
    let before = statistics.tallies();
    kernel.set_fuse(Some(0));
    running.ask(associate("198.51.100.7", "10.0.0.5")).unwrap();
    kernel.set_fuse(None);
    running.wait_until("healthy", |snapshot| snapshot.health.problems.is_empty());
    let after = statistics.tallies();
    let errors = |tallies: &Tallies| tallies.kernel_errors.values().sum::<u64>();
    assert!(errors(&after) > errors(&before), "{after:?}");
    let failed = |tallies: &Tallies| {
        let counts = tallies.reconciliations.iter();
        let counts = counts.filter(|((_, outcome), _)| *outcome == "failed");
        counts.map(|(_, count)| *count).sum::<u64>()
    };
    assert!(failed(&after) > failed(&before), "{after:?}");
    // It was committed and answered, whatever the kernel said.
    let granted = |tallies: &Tallies| tallies.operations[&("associate", "granted")];
    assert_eq!(granted(&after), granted(&before) + 1);
    assert_eq!(after.commit_errors, 0);
    assert_eq!(statistics.waiting(), 0);
}

#[test]
fn a_subscriber_is_told_what_happened_in_order() {
    let (kernel, directory) = (FakeKernel::simulated(), TempDir::new().unwrap());
    let running = Running::start(&kernel, directory.path());
    let (snapshot, mut events) = running.handle.subscribe();
    running.ask(associate("198.51.100.7", "10.0.0.5")).unwrap();
    running.ask(release("198.51.100.7")).unwrap();
    let mut last = snapshot.state.sequence();
    let mut verbs = Vec::new();
    while let Ok(published) = events.try_recv() {
        assert_eq!(published.event.sequence, last.next());
        last = published.event.sequence;
        assert!(matches!(published.event.kind, EventKind::Changed(_)));
        verbs.push((
            published.event.kind.verb(),
            published.state.as_ref().map(AddressState::as_str),
        ));
    }
    assert_eq!(
        verbs,
        [
            ("allocate", Some("active")),
            ("associate", Some("active")),
            ("release", Some("free"))
        ]
    );
}

#[test]
fn many_requests_at_once_have_one_commit_and_each_its_own_answer() {
    let (kernel, directory) = (FakeKernel::simulated(), TempDir::new().unwrap());
    let running = Running::start(&kernel, directory.path());
    let clash = running.ask(associate("198.51.100.7", "192.0.2.5"));
    assert!(clash.is_err());
    let free: Vec<_> = (0..8)
        .map(|host| {
            let handle = running.handle.clone();
            std::thread::spawn(move || {
                let request =
                    ipfloater::request::Request::Associate(ipfloater::request::Associate {
                        floating: None,
                        fixed: format!("10.0.0.{}", 10 + host).parse().unwrap(),
                        pool: None,
                        owner: None,
                        reassociate: false,
                        keep_established: false,
                    });
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .build()
                    .unwrap();
                let asked = async {
                    let request = common::of_root(&handle, request).await;
                    handle.submit(request, Default::default()).await
                };
                runtime.block_on(asked)
            })
        })
        .map(|thread| thread.join().unwrap())
        .collect();
    let granted = free.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(granted, 2, "the pool has two IPv4 addresses: {free:?}");
    assert_eq!(running.handle.snapshot().state.associated(), 2);
}

/// A site whose neighbours are asked for a short while.
fn that_asks() -> Site {
    let mut site = common::site();
    site.pools[0].announcing.probe = Some(Duration::from_millis(100));
    site
}

const OTHER: HardwareAddress = HardwareAddress([2, 0, 0, 0, 0, 9]);

#[test]
fn the_neighbours_are_asked_while_others_are_served_and_the_address_then_works() {
    let (kernel, directory) = (FakeKernel::simulated(), TempDir::new().unwrap());
    let running = Running::try_start(&kernel, directory.path(), that_asks()).unwrap();
    let ours = floating("198.51.100.7");
    let outcome = running.ask(associate("198.51.100.7", "10.0.0.5")).unwrap();
    assert_eq!(outcome.pending, Some(PendingReason::Probing(ours)));
    assert!(
        !kernel.to_text().contains("local"),
        "nobody answers for it yet"
    );
    // Nobody waits for it, and a move does not ask once more.
    let moved = running.ask(associate("198.51.100.7", "10.0.0.6")).unwrap();
    assert_eq!(moved.pending, Some(PendingReason::Probing(ours)));
    running.wait_until("it works", |now| now.state_of(ours) == AddressState::Active);
    assert!(kernel.to_text().contains("local 198.51.100.7 dev 2"));
    assert_eq!(kernel.probed(), [ours; 3]);
    let again = running.ask(associate("198.51.100.7", "10.0.0.5")).unwrap();
    assert_eq!(again.pending, None);
    running.stop();

    // What is answered for is ours, also without the one who asked.
    let running = Running::try_start(&kernel, directory.path(), that_asks()).unwrap();
    assert_eq!(
        running.handle.snapshot().state_of(ours),
        AddressState::Active
    );
    assert_eq!(kernel.probed().len(), 3);
}

#[test]
fn what_another_machine_has_is_left_to_it_and_asked_about_again_when_somebody_asks_for_it() {
    let (kernel, directory) = (FakeKernel::simulated(), TempDir::new().unwrap());
    let running = Running::try_start(&kernel, directory.path(), that_asks()).unwrap();
    let theirs = floating("198.51.100.7");
    kernel.set_other(theirs, Some(OTHER));
    let contested = AddressState::Pending(PendingReason::Contested {
        floating: theirs,
        by: OTHER,
    });
    let (_, mut events) = running.handle.subscribe();
    running.ask(associate("198.51.100.7", "10.0.0.5")).unwrap();
    running.wait_until("it is found", |now| now.state_of(theirs) == contested);
    running.wait_until("it is a problem", |now| {
        let mut problems = now.health.problems.iter();
        problems.any(|problem| problem.contains("198.51.100.7 (02:00:00:00:00:09)"))
    });
    assert!(
        !kernel.to_text().contains("198.51.100.7 :"),
        "{}",
        kernel.to_text()
    );
    assert!(!kernel.to_text().contains("local"));

    // It is asked about anew, and found out anew.
    let again = running.ask(associate("198.51.100.7", "10.0.0.5")).unwrap();
    assert!(!again.changed);
    assert_eq!(again.pending, Some(PendingReason::Probing(theirs)));
    running.wait_until("it is found again", |now| now.state_of(theirs) == contested);
    kernel.set_other(theirs, None);
    running.ask(associate("198.51.100.7", "10.0.0.5")).unwrap();
    running.wait_until("it works", |now| {
        now.state_of(theirs) == AddressState::Active
    });
    running.wait_until("all is well", |now| now.health.problems.is_empty());
    assert!(
        kernel
            .to_text()
            .contains("floating_to_fixed 198.51.100.7 : 10.0.0.5")
    );
    assert!(kernel.to_text().contains("local 198.51.100.7 dev 2"));

    let mut verbs = Vec::new();
    // What is shown is told a moment later.
    while verbs.last() != Some(&"activate") {
        let published = events.blocking_recv().expect("the controller is there");
        verbs.push(published.event.kind.verb());
    }
    let told = ["allocate", "associate", "conflict", "conflict", "activate"];
    assert_eq!(verbs, told);
}

#[test]
fn who_says_that_many_addresses_of_ours_are_his_does_not_fill_the_log() {
    let (kernel, directory) = (FakeKernel::simulated(), TempDir::new().unwrap());
    let mut site = that_asks();
    site.pools[0].ranges = vec![
        AddressRange::new(
            "198.51.100.1".parse().unwrap(),
            "198.51.100.100".parse().unwrap(),
        )
        .unwrap(),
    ];
    let running = Running::try_start(&kernel, directory.path(), site).unwrap();
    let ours: Vec<_> = (1..=50).map(|last| format!("198.51.100.{last}")).collect();
    for (host, address) in ours.iter().enumerate() {
        let host = format!("10.0.0.{}", host + 100);
        running.ask(associate(address, &host)).unwrap();
    }
    running.wait_until("they work", |now| now.pending.is_empty());
    let (_, mut events) = running.handle.subscribe();
    for last in 0..4 {
        for address in &ours {
            kernel.say(Heard {
                floating: floating(address),
                interface: IfIndex(2),
                by: HardwareAddress([2, 0, 0, 0, last, 9]),
                speech: Speech::Claims,
            });
        }
    }
    running.wait_until("it is a problem", |now| {
        let mut problems = now.health.problems.iter();
        problems.any(|problem| problem.contains("and 47 more"))
    });
    // What is shown is told a moment later.
    std::thread::sleep(Duration::from_millis(300));
    let mut conflicts = 0;
    while let Ok(published) = events.try_recv() {
        // That the addresses work is shown a moment before it is told.
        if published.event.kind.verb() != "activate" {
            assert_eq!(published.event.kind.verb(), "conflict");
            assert_eq!(published.state, Some(AddressState::Active));
            conflicts += 1;
        }
    }
    assert_eq!(conflicts, 30);
    running.ask(release("198.51.100.1")).unwrap();
    running.wait_until("what is not ours is no problem", |now| {
        let mut problems = now.health.problems.iter();
        problems.any(|problem| problem.contains("and 46 more"))
    });
}
