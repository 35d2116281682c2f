//! What ends by itself, and what is undone unless it is confirmed.

use super::*;
use crate::model::Lease;
use crate::request::{Confirm, Revert, Terms};

const NOW: Timestamp = Timestamp(1_000);

impl World {
    /// Carries a request of somebody's out on these terms, and says what it
    /// altered, by the verbs of the changes.
    fn act_on(&mut self, actor: Actor, request: &Request, terms: Terms) -> Vec<&'static str> {
        let decision = self.decide(actor, request).unwrap();
        let view = View {
            state: &self.state,
            site: &self.site,
            surroundings: &self.surroundings,
            ruleset: &self.ruleset,
            now: NOW,
        };
        let decision = bound(view, decision, request, &terms);
        let decision = on_trial(view, decision, &terms);
        self.carry(&decision.changes)
    }

    fn carry(&mut self, changes: &[Change]) -> Vec<&'static str> {
        let changes = changes.iter();
        changes
            .map(|change| {
                self.state = self.state.clone().with(change, NOW);
                crate::model::EventKind::Changed(change.clone()).verb()
            })
            .collect()
    }
}

fn within_a_minute() -> Terms {
    Terms {
        confirm: Some(60),
        ..Terms::default()
    }
}

fn confirm(address: &str) -> Request {
    Request::Confirm(Confirm {
        address: address.parse().unwrap(),
    })
}

fn revert(address: &str) -> Request {
    Request::Revert(Revert {
        address: address.parse().unwrap(),
    })
}

fn move_to(floating: &str, fixed: &str) -> Request {
    let Request::Associate(request) = associate(floating, fixed) else {
        unreachable!("it is one");
    };
    Request::Associate(Associate {
        reassociate: true,
        ..request
    })
}

#[test]
fn the_host_of_two_addresses_is_let_go_before_it_is_given_back() {
    let mut world = World::new();
    world.act(&associate("198.51.100.7", "10.0.0.5"));
    world.act(&associate("198.51.100.8", "10.0.0.6"));
    let before = world.state.clone();
    let done = world.act_on(
        ROOT,
        &move_to("198.51.100.8", "10.0.0.5"),
        within_a_minute(),
    );
    assert_eq!(done, ["disassociate", "associate", "try", "try"]);
    let number = world.state.trials().next().unwrap().1.number;
    assert!(
        world
            .state
            .trials()
            .all(|(_, trial)| trial.number == number)
    );
    let changes = undo(&world.state, number);
    let order: Vec<_> = changes
        .iter()
        .map(|change| change.floating().to_string())
        .collect();
    assert_eq!(order, ["198.51.100.8", "198.51.100.7"]);
    world.carry(&changes);
    assert!(world.state.allocations().eq(before.allocations()));
    for host in ["10.0.0.5", "10.0.0.6"] {
        let host = host.parse().unwrap();
        assert_eq!(world.state.floating_of(host), before.floating_of(host));
    }
    assert_eq!(world.state.associated_of(Family::V4), 2);
    assert_eq!(world.state.owned_by(0), 2);
}

#[test]
fn the_owner_confirms_and_undoes_and_nobody_else_does() {
    const BOB: Actor = Actor {
        uid: 1001,
        via: Via::Varlink,
    };
    for change in [move_to("198.51.100.7", "10.0.0.6"), release("198.51.100.7")] {
        let mut world = World::new();
        world.act_on(
            ALICE,
            &associate("198.51.100.7", "10.0.0.5"),
            Terms::default(),
        );
        world.act_on(ALICE, &change, within_a_minute());
        for request in [confirm("198.51.100.7"), revert("10.0.0.5")] {
            let concern = concern(&world.state, &world.site, BOB.uid, &request);
            let others: Vec<_> = concern.of_others(BOB.uid);
            assert!(!others.is_empty() && others.iter().all(|(_, owner)| *owner == ALICE.uid));
            assert_eq!(concern.of_others(ALICE.uid), []);
            let scope = own(50, &["10.0.0.0/16"]);
            let as_bob = world.decide_within(BOB, &scope, &request).unwrap_err();
            assert_eq!(as_bob.name(), "OwnerChanged");
            assert!(world.decide_within(ALICE, &scope, &request).is_ok());
        }
    }
}

#[test]
fn ports_that_may_be_given_back_are_given_to_nobody_else() {
    let mut world = World::new();
    let ports = |floating: &str| forward(floating, "1-20000/tcp -> 10.0.0.5:20001");
    world.act(&ports("198.51.100.7"));
    let gone = Request::Unforward(UnforwardPorts {
        floating: "198.51.100.7".parse().unwrap(),
        protocol: "tcp".parse().unwrap(),
        ports: "1-20000".parse().unwrap(),
    });
    world.act_on(ROOT, &gone, within_a_minute());
    assert_eq!(world.state.forwarded(Family::V4), Forwarded::default());
    assert_eq!(world.act(&ports("198.51.100.8")), "ForwardLimitReached");
    world.act(&confirm("198.51.100.7"));
    assert_eq!(world.act(&ports("198.51.100.8")), "198.51.100.8");
}

#[test]
fn what_is_over_is_undone_once_and_not_while_it_is_on_trial() {
    let mut world = World::new();
    let floating: FloatingIp = "198.51.100.7".parse().unwrap();
    let lasting = Terms {
        expires_in: Some(60),
        ..Terms::default()
    };
    let done = world.act_on(ROOT, &associate("198.51.100.7", "10.0.0.5"), lasting);
    assert_eq!(done, ["allocate", "associate", "set-end"]);
    let done = world.act_on(ROOT, &allocate("198.51.100.7", ""), lasting);
    assert_eq!(done, ["set-end"]);
    let ends: Vec<_> = world.state.ends().collect();
    let at = Timestamp(NOW.0 + 60);
    let both = [Lease::Allocation, Lease::Association];
    assert_eq!(ends, both.map(|of| (at, floating, of)));
    for (of, verbs) in [
        (Lease::Association, &["disassociate"][..]),
        (Lease::Association, &[]),
        (Lease::Allocation, &["release"]),
        (Lease::Allocation, &[]),
    ] {
        let changes = expire(&world.state, &world.site, floating, of, NOW);
        assert_eq!(world.carry(&changes), verbs);
    }
    assert_eq!(world.state.ends().count(), 0);

    world.act_on(ROOT, &associate("198.51.100.7", "10.0.0.5"), lasting);
    world.act_on(
        ROOT,
        &move_to("198.51.100.7", "10.0.0.6"),
        within_a_minute(),
    );
    let changes = expire(&world.state, &world.site, floating, Lease::Association, NOW);
    assert_eq!(changes, []);
}
