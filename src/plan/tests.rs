//! The plan by tables: a state, a request, and what a person would read.

mod time;

use std::net::IpAddr;

use super::*;
use crate::model::{
    Actor, Alteration, Family, Forwarded, Lease, Limit, Limits, Permitted, Pool, PoolName,
    Timestamp, Uid, Via,
};
use crate::request::{
    Allocate, Associate, Disassociate, ForwardPorts, Reach, Release, Scope, UnforwardPorts, Update,
};

const ROOT: Actor = Actor {
    uid: 0,
    via: Via::Varlink,
};
const ALICE: Actor = Actor {
    uid: 1000,
    via: Via::Varlink,
};

struct World {
    state: State,
    site: Site,
    surroundings: Surroundings,
    ruleset: Ruleset,
    now: Timestamp,
}

impl World {
    fn new() -> Self {
        let range = |first: &str, last: &str| {
            crate::model::AddressRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
        };
        let pool = |name: &str, ranges| Pool {
            name: name.parse().unwrap(),
            ranges,
            interface: None,
            routed: false,
            announcing: Default::default(),
            hardware_addresses: Default::default(),
            gateways: Vec::new(),
        };
        let site = Site {
            pools: vec![
                pool(
                    "default",
                    vec![
                        range("198.51.100.7", "198.51.100.9"),
                        range("2001:db8::7", "2001:db8::8"),
                    ],
                ),
                pool("extra", vec![range("203.0.113.1", "203.0.113.2")]),
            ],
            private: vec!["10.0.0.0/16".parse().unwrap(), "fd00::/64".parse().unwrap()],
            guard: true,
            block_free: true,
            counters: true,
            untranslated: Default::default(),
            uplink_numbers: Default::default(),
            rest: std::time::Duration::ZERO,
            limits: Limits::default(),
        };
        let own = |net: &str, interface: &str| crate::model::RouterAddress {
            net: net.parse().unwrap(),
            interface: interface.parse().unwrap(),
            secondary: false,
        };
        let surroundings = Surroundings {
            addresses: vec![own("10.0.1.1/24", "lan0"), own("203.0.113.1/24", "wan0")],
            ..Surroundings::default()
        };
        let ruleset = Ruleset::new(&site, |_| 1024);
        World {
            state: State::default(),
            site,
            surroundings,
            ruleset,
            now: Timestamp(1),
        }
    }

    fn decide(&self, actor: Actor, request: &Request) -> Result<Decision, Refusal> {
        self.decide_within(actor, &Scope::Any, request)
    }

    /// By a right that was given just now, as far as taking goes.
    fn decide_within(
        &self,
        actor: Actor,
        scope: &Scope,
        request: &Request,
    ) -> Result<Decision, Refusal> {
        let takes = concern(&self.state, &self.site, actor.uid, request).taken_for;
        let mut scope = scope.clone();
        if let Scope::Managed(reach) | Scope::Own(_, reach) = &mut scope {
            reach.takes = takes;
        }
        self.decide_by(actor, &scope, request)
    }

    fn decide_by(
        &self,
        actor: Actor,
        scope: &Scope,
        request: &Request,
    ) -> Result<Decision, Refusal> {
        let World {
            state,
            site,
            surroundings,
            ruleset,
            now,
        } = self;
        decide(
            View {
                state,
                site,
                surroundings,
                ruleset,
                now: *now,
            },
            Right { actor, scope },
            request,
        )
    }

    /// Why a request is refused, by name and in words.
    fn refused(&self, request: &Request) -> String {
        let refusal = self.decide(ROOT, request).unwrap_err();
        format!("{}: {refusal}", refusal.name())
    }

    /// Carries a request out and says what it did, or why not, as text.
    fn act(&mut self, request: &Request) -> String {
        match self.decide(ROOT, request) {
            Err(refusal) => refusal.name().to_owned(),
            Ok(decision) => {
                for change in &decision.changes {
                    self.state = self.state.clone().with(change, self.now);
                }
                let mut text = format!("{}", decision.floating);
                if decision.changes.is_empty() {
                    text += " unchanged";
                }
                if let Some(previous) = decision.previous {
                    text += &format!(" from {previous}");
                }
                if let Some(displaced) = decision.displaced {
                    text += &format!(" displacing {displaced}");
                }
                text
            }
        }
    }
}

fn allocate(floating: &str, pool: &str) -> Request {
    Request::Allocate(Allocate {
        floating: (!floating.is_empty()).then(|| floating.parse().unwrap()),
        pool: (!pool.is_empty()).then(|| pool.parse().unwrap()),
        owner: None,
        ..Allocate::default()
    })
}

fn associate(floating: &str, fixed: &str) -> Request {
    Request::Associate(Associate {
        floating: (!floating.is_empty()).then(|| floating.parse().unwrap()),
        fixed: fixed.parse().unwrap(),
        pool: None,
        owner: None,
        reassociate: false,
        keep_established: false,
    })
}

fn reassociate(floating: &str, fixed: &str) -> Request {
    match associate(floating, fixed) {
        Request::Associate(request) => Request::Associate(Associate {
            reassociate: true,
            ..request
        }),
        other => other,
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn disassociate(text: &str) -> Request {
    Request::Disassociate(Disassociate {
        address: address(text),
    })
}

fn forward(floating: &str, forward: &str) -> Request {
    Request::Forward(ForwardPorts {
        floating: floating.parse().unwrap(),
        forward: forward.parse().unwrap(),
        reassociate: false,
    })
}

fn move_forward(floating: &str, text: &str) -> Request {
    match forward(floating, text) {
        Request::Forward(request) => Request::Forward(ForwardPorts {
            reassociate: true,
            ..request
        }),
        other => other,
    }
}

fn unforward(floating: &str, ports: &str) -> Request {
    let (ports, protocol) = ports.split_once('/').unwrap();
    Request::Unforward(UnforwardPorts {
        floating: floating.parse().unwrap(),
        protocol: protocol.parse().unwrap(),
        ports: ports.parse().unwrap(),
    })
}

fn update(text: &str, alteration: Alteration) -> Request {
    Request::Update(Update {
        address: address(text),
        alteration: alteration.into(),
    })
}

fn protected(protected: bool) -> Alteration {
    Alteration {
        protected: Some(protected),
        ..Alteration::default()
    }
}

fn release(text: &str) -> Request {
    Request::Release(Release {
        address: address(text),
    })
}

#[test]
fn free_addresses_are_given_out_in_turn_until_the_pools_are_empty() {
    let mut world = World::new();
    let mut given = Vec::new();
    for _ in 0..7 {
        given.push(world.act(&allocate("", "")));
    }
    // 203.0.113.1 is the router's own.
    assert_eq!(
        given,
        [
            "198.51.100.7",
            "198.51.100.8",
            "198.51.100.9",
            "203.0.113.2",
            "2001:db8::7",
            "2001:db8::8",
            "PoolExhausted"
        ]
    );
}

#[test]
fn a_released_address_is_the_last_to_be_given_out_again() {
    let mut world = World::new();
    assert_eq!(world.act(&allocate("", "")), "198.51.100.7");
    assert_eq!(world.act(&release("198.51.100.7")), "198.51.100.7");
    assert_eq!(world.act(&allocate("", "")), "198.51.100.8");
    assert_eq!(world.act(&allocate("", "")), "198.51.100.9");
    assert_eq!(world.act(&allocate("", "")), "198.51.100.7");
}

#[test]
fn a_wished_address_must_be_free_and_in_its_pool() {
    let mut world = World::new();
    assert_eq!(world.act(&allocate("198.51.100.8", "")), "198.51.100.8");
    assert_eq!(
        world.act(&allocate("198.51.100.8", "")),
        "198.51.100.8 unchanged"
    );
    let refused = world.decide(ALICE, &allocate("198.51.100.8", ""));
    assert_eq!(refused.unwrap_err().name(), "AlreadyAllocated");
    assert_eq!(world.act(&allocate("192.0.2.1", "")), "NotInPool");
    assert_eq!(world.act(&allocate("198.51.100.7", "extra")), "NotInPool");
    assert_eq!(world.act(&allocate("", "nowhere")), "NoSuchPool");
    assert_eq!(world.act(&allocate("203.0.113.1", "")), "RouterAddress");
}

#[test]
fn what_would_be_noted_of_an_address_that_is_there_is_not_passed_over() {
    let mut world = World::new();
    let named = |label: &str| {
        let label = Some(label.parse().unwrap());
        Request::Allocate(Allocate {
            floating: Some("198.51.100.8".parse().unwrap()),
            alteration: Box::new(Alteration {
                label: Some(label),
                ..Alteration::default()
            }),
            ..Allocate::default()
        })
    };
    assert_eq!(world.act(&named("web")), "198.51.100.8");
    assert_eq!(world.act(&named("web")), "198.51.100.8 unchanged");
    assert_eq!(
        world.act(&allocate("198.51.100.8", "")),
        "198.51.100.8 unchanged"
    );
    assert_eq!(
        world.refused(&named("db")),
        "AlreadyAllocated: 198.51.100.8 is allocated already and something else is noted of it; \
         `ipfloater set 198.51.100.8` alters that"
    );
}

#[test]
fn a_refusal_says_what_was_named_instead() {
    let mut world = World::new();
    world.act(&associate("198.51.100.7", "10.0.1.40"));
    world.act(&forward("198.51.100.7", "8000-8010/udp -> 10.0.1.40:8000"));
    world.act(&forward("2001:db8::7", "8000-8010/tcp -> [fd00::5]:8000"));
    for (request, said) in [
        (
            allocate("198.51.100.8", "extra"),
            "NotInPool: 198.51.100.8 is of pool default, not of extra",
        ),
        (
            allocate("192.0.2.1", "extra"),
            "NotInPool: 192.0.2.1 is in no pool; `ipfloater ippool` lists what is",
        ),
        (
            associate("10.0.1.41", "198.51.100.8"),
            "OutsidePrivateRanges: 198.51.100.8 is a floating IP (of pool default), and no host's \
             address; the floating IP is named first, and then the host",
        ),
        (
            forward("10.0.1.41", "80/tcp -> 203.0.113.2:80"),
            "OutsidePrivateRanges: 203.0.113.2 is a floating IP (of pool extra), and no host's \
             address; the floating IP is named first, and then the host",
        ),
        (
            associate("", "2001:db8::8"),
            "OutsidePrivateRanges: 2001:db8::8 is a floating IP (of pool default), and no host's \
             address",
        ),
        (
            associate("198.51.100.8", "192.0.2.5"),
            "OutsidePrivateRanges: 192.0.2.5 lies outside the private ranges, 10.0.0.0/16; \
             PRIVATE_IP_RANGES in the configuration sets them",
        ),
        // That another address would be displaced is no matter: it cannot be.
        (
            associate("192.0.2.1", "10.0.1.40"),
            "NotInPool: 192.0.2.1 is in no pool; `ipfloater ippool` lists what is",
        ),
        (
            unforward("198.51.100.7", "8003/udp"),
            "ForwardClash: 198.51.100.7 forwards 8000-8010/udp -> 10.0.1.40:8000; `ipfloater \
             unforward 198.51.100.7:8000-8010/udp` removes that forward, with all of its ports",
        ),
        (
            forward("2001:db8::7", "8010-8011/tcp -> [fd00::5]:80"),
            "ForwardClash: 2001:db8::7 forwards 8000-8010/tcp -> [fd00::5]:8000; `ipfloater \
             unforward [2001:db8::7]:8000-8010/tcp` removes that forward, with all of its ports",
        ),
    ] {
        assert_eq!(world.refused(&request), said, "{request:?}");
    }
}

#[test]
fn a_host_gets_one_floating_ip_and_keeps_it() {
    let mut world = World::new();
    assert_eq!(world.act(&associate("", "10.0.1.40")), "198.51.100.7");
    assert_eq!(
        world.act(&associate("", "10.0.1.40")),
        "198.51.100.7 unchanged"
    );
    assert_eq!(
        world.act(&associate("198.51.100.7", "10.0.1.40")),
        "198.51.100.7 unchanged"
    );
    assert_eq!(world.act(&associate("", "fd00::40")), "2001:db8::7");
}

#[test]
fn moving_needs_leave_and_names_who_had_it() {
    let mut world = World::new();
    world.act(&associate("198.51.100.7", "10.0.1.40"));
    assert_eq!(
        world.act(&associate("198.51.100.7", "10.0.1.41")),
        "AlreadyAssociated"
    );
    assert_eq!(
        world.act(&reassociate("198.51.100.7", "10.0.1.41")),
        "198.51.100.7 from 10.0.1.40"
    );
    world.act(&associate("198.51.100.8", "10.0.1.42"));
    assert_eq!(
        world.act(&associate("198.51.100.9", "10.0.1.42")),
        "TargetInUse"
    );
    assert_eq!(
        world.act(&reassociate("198.51.100.7", "10.0.1.42")),
        "198.51.100.7 from 10.0.1.41 displacing 198.51.100.8"
    );
    assert!(
        world
            .state
            .allocation("198.51.100.8".parse().unwrap())
            .is_some(),
        "it stays allocated"
    );
    assert_eq!(world.state.associated(), 1);
    assert_eq!(world.state.associated_of(Family::V4), 1);
}

#[test]
fn ports_lead_to_hosts_of_their_own_beside_an_association() {
    let mut world = World::new();
    let floating = "198.51.100.7";
    for (request, said) in [
        (forward(floating, "80/tcp -> 10.0.1.40:8080"), floating),
        (
            forward(floating, "80/tcp -> 10.0.1.40:8080"),
            "198.51.100.7 unchanged",
        ),
        (forward(floating, "80/udp -> 10.0.1.41:80"), floating),
        (forward(floating, "81-89/tcp -> 10.0.1.41:81"), floating),
        (associate(floating, "10.0.1.42"), floating),
        // One host may have any number.
        (forward(floating, "7/sctp -> 10.0.1.42:7"), floating),
        (
            forward(floating, "89-99/tcp -> 10.0.1.41:89"),
            "ForwardClash",
        ),
        (
            move_forward(floating, "89-99/tcp -> 10.0.1.41:89"),
            "ForwardClash",
        ),
        (forward(floating, "80/tcp -> 10.0.1.41:80"), "ForwardClash"),
        (
            move_forward(floating, "80/tcp -> 10.0.1.41:80"),
            "198.51.100.7 from 10.0.1.40",
        ),
        // To another port of the same host: nobody lost anything.
        (
            move_forward(floating, "80/tcp -> 10.0.1.41:81"),
            "198.51.100.7",
        ),
        (unforward(floating, "81-88/tcp"), "ForwardClash"),
        (
            unforward(floating, "81-89/tcp"),
            "198.51.100.7 from 10.0.1.41",
        ),
        (unforward(floating, "81-89/tcp"), "198.51.100.7 unchanged"),
        (disassociate(floating), "198.51.100.7 from 10.0.1.42"),
        (release(floating), "198.51.100.7"),
    ] {
        assert_eq!(world.act(&request), said, "{request:?}");
    }
    assert_eq!(world.state.allocated(), 0);
    assert_eq!(world.state.forwarded(Family::V4), Forwarded::default());
}

#[test]
fn a_host_leaves_as_one_address_by_its_forwards_and_as_its_own_if_it_has_one() {
    let mut world = World::new();
    let source = |world: &World| {
        let source = world.state.source_of("10.0.1.40".parse().unwrap());
        source.map(|floating| floating.to_string())
    };
    let outbound = "80/tcp -> 10.0.1.40:80, outbound floating";
    world.act(&forward("198.51.100.7", "80/tcp -> 10.0.1.40:80"));
    assert_eq!(source(&world), None);
    // The same ports to the same place need no leave.
    assert_eq!(
        world.act(&forward("198.51.100.7", outbound)),
        "198.51.100.7"
    );
    assert_eq!(source(&world).as_deref(), Some("198.51.100.7"));
    assert_eq!(
        world.act(&forward("198.51.100.8", outbound)),
        "OutboundClash"
    );
    world.act(&forward(
        "198.51.100.7",
        "81/tcp -> 10.0.1.40:80, outbound floating",
    ));
    world.act(&associate("198.51.100.9", "10.0.1.40"));
    assert_eq!(source(&world).as_deref(), Some("198.51.100.9"));
    world.act(&disassociate("198.51.100.9"));
    world.act(&unforward("198.51.100.7", "80/tcp"));
    assert_eq!(source(&world).as_deref(), Some("198.51.100.7"));
    world.act(&release("198.51.100.7"));
    assert_eq!(source(&world), None);
}

#[test]
fn what_cannot_be_forwarded_is_refused_and_changes_nothing() {
    let mut world = World::new();
    for (floating, text, refusal) in [
        (
            "198.51.100.7",
            "80/tcp -> 192.0.2.5:80",
            "OutsidePrivateRanges",
        ),
        ("198.51.100.7", "80/tcp -> 10.0.1.1:80", "NotAHost"),
        ("198.51.100.7", "80/tcp -> [fd00::5]:80", "WrongFamily"),
        ("192.0.2.9", "80/tcp -> 10.0.1.5:80", "NotInPool"),
        ("203.0.113.1", "80/tcp -> 10.0.1.5:80", "RouterAddress"),
    ] {
        assert_eq!(world.act(&forward(floating, text)), refusal, "{text}");
    }
    assert_eq!(world.act(&unforward("192.0.2.9", "80/tcp")), "NotInPool");
    let limit = Limit {
        quota: 9,
        permitted: Permitted::Only(vec!["10.0.1.0/25".parse().unwrap()]),
    };
    let request = forward("198.51.100.7", "80/tcp -> 10.0.1.200:80");
    let refused = world.decide_within(ALICE, &Scope::Own(limit, Reach::default()), &request);
    assert_eq!(refused.unwrap_err().name(), "OutsidePermittedRanges");
    assert_eq!(world.state.allocated(), 0);
}

#[test]
fn more_forwards_than_the_maps_are_made_for_are_refused() {
    let mut world = World::new();
    let Forwarded { ports, ranges } = world.ruleset.forwards();
    // Those of ranges that shift count one by one, those that stay as one.
    let all = format!("1-{ports}/udp -> 10.0.1.40:2");
    assert_eq!(world.act(&forward("198.51.100.7", &all)), "198.51.100.7");
    let more = forward("198.51.100.8", "80/tcp -> 10.0.1.40:80");
    assert_eq!(world.act(&more), "ForwardLimitReached");
    // Moving them takes no more.
    let moved = format!("1-{ports}/udp -> 10.0.1.41:2");
    assert_eq!(
        world.act(&move_forward("198.51.100.7", &moved)),
        "198.51.100.7 from 10.0.1.40"
    );
    for number in 0..ranges {
        let first = 2 * number + 1;
        let range = format!("{first}-{}/tcp -> 10.0.1.40:{first}", first + 1);
        assert_eq!(world.act(&forward("198.51.100.8", &range)), "198.51.100.8");
    }
    let more = forward("198.51.100.9", "1-2/tcp -> 10.0.1.40:1");
    assert_eq!(world.act(&more), "ForwardLimitReached");
    assert_eq!(world.act(&release("198.51.100.7")), "198.51.100.7");
    let more = forward("198.51.100.8", "9000/tcp -> 10.0.1.40:80");
    assert_eq!(world.act(&more), "198.51.100.8");
}

#[test]
fn what_cannot_be_a_host_is_refused_and_changes_nothing() {
    let mut world = World::new();
    for (fixed, refusal) in [
        ("192.0.2.5", "OutsidePrivateRanges"),
        ("198.51.100.8", "OutsidePrivateRanges"),
        ("10.0.1.1", "NotAHost"),
        ("10.0.1.0", "NotAHost"),
        ("10.0.1.255", "NotAHost"),
        ("10.0.255.255", "NotAHost"),
    ] {
        assert_eq!(
            world.act(&associate("198.51.100.7", fixed)),
            refusal,
            "{fixed}"
        );
        assert_eq!(world.act(&associate("", fixed)), refusal, "{fixed}");
    }
    assert_eq!(
        world.act(&associate("198.51.100.7", "fd00::5")),
        "WrongFamily"
    );
    assert_eq!(world.act(&associate("192.0.2.9", "10.0.1.5")), "NotInPool");
    assert_eq!(world.state.allocated(), 0);
}

#[test]
fn an_address_is_untied_or_released_by_either_of_its_two_names() {
    let mut world = World::new();
    world.act(&associate("198.51.100.7", "10.0.1.40"));
    assert_eq!(
        world.act(&disassociate("10.0.1.40")),
        "198.51.100.7 from 10.0.1.40"
    );
    assert_eq!(
        world.act(&disassociate("198.51.100.7")),
        "198.51.100.7 unchanged"
    );
    assert_eq!(world.act(&disassociate("10.0.1.40")), "NotAssociated");
    world.act(&associate("198.51.100.7", "10.0.1.40"));
    assert_eq!(
        world.act(&release("10.0.1.40")),
        "198.51.100.7 from 10.0.1.40"
    );
    assert_eq!(
        world.act(&release("198.51.100.7")),
        "198.51.100.7 unchanged"
    );
    assert_eq!(world.act(&release("192.0.2.1")), "NotInPool");
}

#[test]
fn an_address_whose_pool_is_gone_can_still_be_moved_and_released() {
    let mut world = World::new();
    world.act(&associate("203.0.113.2", "10.0.1.40"));
    world
        .site
        .pools
        .retain(|pool| pool.name != "extra".parse::<PoolName>().unwrap());
    assert_eq!(
        world.act(&reassociate("203.0.113.2", "10.0.1.41")),
        "203.0.113.2 from 10.0.1.40"
    );
    assert_eq!(
        world.act(&release("203.0.113.2")),
        "203.0.113.2 from 10.0.1.41"
    );
    assert_eq!(
        world.act(&associate("203.0.113.2", "10.0.1.40")),
        "NotInPool"
    );
}

#[test]
fn more_associations_than_the_maps_are_made_for_are_refused() {
    let mut world = World::new();
    world.ruleset = Ruleset::new(&world.site, |_| 1);
    assert_eq!(world.act(&associate("", "10.0.1.40")), "198.51.100.7");
    assert_eq!(world.act(&associate("", "10.0.1.41")), "LimitReached");
    assert_eq!(world.act(&allocate("", "")), "LimitReached");
    assert_eq!(
        world.act(&reassociate("198.51.100.7", "10.0.1.41")),
        "198.51.100.7 from 10.0.1.40"
    );
    assert_eq!(world.act(&associate("", "fd00::5")), "2001:db8::7");
}

/// What a user's request comes to by a right that reaches so far.
fn within(world: &World, scope: &Scope, request: &Request) -> &'static str {
    match world.decide_within(ALICE, scope, request) {
        Ok(_) => "granted",
        Err(refusal) => refusal.name(),
    }
}

fn own(quota: u32, ranges: &[&str]) -> Scope {
    let limit = Limit {
        quota,
        permitted: match ranges {
            [] => Permitted::All,
            ranges => Permitted::Only(ranges.iter().map(|net| net.parse().unwrap()).collect()),
        },
    };
    Scope::Own(limit, Reach::default())
}

#[test]
fn a_right_to_ones_own_reaches_no_address_of_somebody_else() {
    let mut world = World::new();
    world.act(&associate("198.51.100.7", "10.0.0.5"));
    let own = own(50, &[]);
    let seen = |owner: Uid| {
        Scope::Managed(Reach {
            owners: vec![("198.51.100.7".parse().unwrap(), owner)],
            ..Reach::default()
        })
    };
    for request in [
        release("198.51.100.7"),
        disassociate("10.0.0.5"),
        associate("198.51.100.7", "10.0.0.6"),
        reassociate("198.51.100.8", "10.0.0.5"),
        associate("", "10.0.0.5"),
    ] {
        assert_eq!(
            within(&world, &own, &request),
            "OwnerChanged",
            "{request:?}"
        );
        // Somebody else owns it since the right to manage it was given.
        let outdated = within(&world, &seen(1001), &request);
        assert_eq!(outdated, "OwnerChanged", "{request:?}");
        let managed = within(&world, &seen(0), &request);
        assert_ne!(managed, "OwnerChanged", "{request:?}");
    }
    assert_eq!(within(&world, &own, &release("198.51.100.9")), "granted");
}

#[test]
fn a_right_to_move_an_address_takes_none_when_that_is_gone() {
    let limit = Limit {
        quota: 50,
        permitted: Permitted::All,
    };
    for (owner, scope) in [
        ("", Scope::Own as fn(Limit, Reach) -> Scope),
        ("1001", |_, reach| Scope::Managed(reach)),
    ] {
        let mut world = World::new();
        let request = match associate("", "10.0.0.5") {
            Request::Associate(associate) => Request::Associate(Associate {
                owner: owner.parse().ok(),
                ..associate
            }),
            other => other,
        };
        world.state = world.state.clone().with(
            &Change::Allocate {
                floating: "198.51.100.7".parse().unwrap(),
                pool: PoolName::default_pool(),
                owner: ALICE.uid,
            },
            Timestamp(1),
        );
        let tie = world.decide_within(ALICE, &own(50, &[]), &associate("198.51.100.7", "10.0.0.5"));
        let before = world.state.clone();
        world.state = before.clone().with(&tie.unwrap().changes[0], Timestamp(2));
        let asked = concern(&world.state, &world.site, ALICE.uid, &request);
        assert_eq!(asked.taken_for, None);
        let scope = scope(limit.clone(), asked.reach());
        assert!(world.decide_by(ALICE, &scope, &request).is_ok());
        // While polkit is asked, she unties it.
        world.state = before;
        let refused = world.decide_by(ALICE, &scope, &request).unwrap_err();
        assert_eq!(refused.name(), "OwnerChanged");
    }
}

#[test]
fn who_takes_a_hosts_way_out_from_somebody_needs_the_right_to_manage() {
    let mut world = World::new();
    let led = "80/tcp -> 10.0.0.5:80, outbound floating";
    assert_eq!(world.act(&forward("198.51.100.7", led)), "198.51.100.7");
    let request = associate("198.51.100.8", "10.0.0.5");
    let concern = concern(&world.state, &world.site, ALICE.uid, &request);
    let theirs = Some("198.51.100.7".parse().unwrap());
    assert_eq!(concern.of_others(ALICE.uid), [(theirs, ROOT.uid)]);
    assert_eq!(within(&world, &own(50, &[]), &request), "OwnerChanged");
}

#[test]
fn a_user_at_the_quota_gets_no_further_address_and_keeps_what_is_there() {
    let mut world = World::new();
    let one = own(1, &[]);
    assert_eq!(
        within(&world, &own(0, &[]), &allocate("", "")),
        "QuotaExceeded"
    );
    let taken = world
        .decide_within(ALICE, &one, &allocate("198.51.100.7", ""))
        .unwrap();
    world.state = world.state.clone().with(&taken.changes[0], Timestamp(1));
    for (request, outcome) in [
        (allocate("", ""), "QuotaExceeded"),
        (associate("", "10.0.0.6"), "QuotaExceeded"),
        (associate("198.51.100.8", "10.0.0.6"), "QuotaExceeded"),
        (allocate("198.51.100.7", ""), "granted"),
        (associate("198.51.100.7", "10.0.0.6"), "granted"),
        (release("198.51.100.7"), "granted"),
    ] {
        assert_eq!(within(&world, &one, &request), outcome, "{request:?}");
    }
    let released = world.decide_within(ALICE, &one, &release("198.51.100.7"));
    let released = &released.unwrap().changes[0];
    world.state = world.state.clone().with(released, Timestamp(2));
    assert_eq!(world.state.owned_by(ALICE.uid), 0);
    assert_eq!(within(&world, &one, &allocate("", "")), "granted");
}

#[test]
fn who_takes_and_releases_in_turn_keeps_no_more_from_others_than_his_quota() {
    let mut world = World::new();
    world.site.rest = std::time::Duration::from_secs(3_600);
    let two = own(2, &[]);
    let carry = |world: &mut World, request: &Request| {
        let decision = world.decide_within(ALICE, &two, request).unwrap();
        for change in &decision.changes {
            world.state = world.state.clone().with(change, world.now);
        }
        decision.floating.to_string()
    };
    let mut had = std::collections::BTreeSet::new();
    for _ in 0..6 {
        let floating = carry(&mut world, &allocate("", ""));
        carry(&mut world, &release(&floating));
        had.insert(floating);
    }
    assert_eq!(had.len(), 2, "{had:?}");
    assert_eq!(world.state.resting().iter().count(), 2);
    // Another one that is named is one too many; one of those is not.
    let free = "2001:db8::7";
    assert_eq!(within(&world, &two, &allocate(free, "")), "QuotaExceeded");
    let own = had.first().unwrap();
    assert_eq!(within(&world, &two, &allocate(own, "")), "granted");
    // So it is with one that comes back unless a change is confirmed.
    let own = carry(&mut world, &allocate(own, ""));
    let former = world.state.allocation(own.parse().unwrap()).cloned();
    carry(&mut world, &release(&own));
    let trial = Change::Try {
        floating: own.parse().unwrap(),
        trial: Box::new(crate::model::Trial {
            number: 1,
            since: world.now,
            until: Timestamp(world.now.0 + 86_400),
            former,
        }),
    };
    world.state = world.state.clone().with(&trial, world.now);
    world.site.rest = std::time::Duration::ZERO;
    assert_eq!(within(&world, &two, &allocate(free, "")), "granted");
    assert_eq!(
        within(&world, &self::own(1, &[]), &allocate(free, "")),
        "QuotaExceeded"
    );
}

#[test]
fn a_user_leads_addresses_to_permitted_hosts_only() {
    let world = World::new();
    let scope = own(50, &["10.0.0.0/28", "fd00::/64"]);
    for (fixed, outcome) in [
        ("10.0.0.6", "granted"),
        ("10.0.0.16", "OutsidePermittedRanges"),
        ("fd00::6", "granted"),
        ("192.0.2.1", "OutsidePrivateRanges"),
    ] {
        assert_eq!(
            within(&world, &scope, &associate("", fixed)),
            outcome,
            "{fixed}"
        );
    }
}

#[test]
fn an_address_can_be_taken_for_somebody_else() {
    let world = World::new();
    let request = Request::Allocate(Allocate {
        owner: Some(1001),
        ..Allocate::default()
    });
    let decision = world.decide(ROOT, &request).unwrap();
    assert!(matches!(
        decision.changes[..],
        [Change::Allocate { owner: 1001, .. }]
    ));
}

#[test]
fn what_is_protected_is_untied_and_moved_and_not_released() {
    for (floating, fixed) in [("198.51.100.7", "10.0.0.5"), ("2001:db8::7", "fd00::5")] {
        let mut world = World::new();
        world.act(&associate(floating, fixed));
        let protect = update(fixed, protected(true));
        assert_eq!(world.act(&protect), floating);
        assert_eq!(world.act(&protect), format!("{floating} unchanged"));
        assert_eq!(world.act(&release(floating)), "Protected");
        assert_eq!(world.act(&release(fixed)), "Protected");
        let untied = world.act(&disassociate(floating));
        assert_eq!(untied, format!("{floating} from {fixed}"));
        assert_eq!(world.act(&update(floating, protected(false))), floating);
        assert_eq!(world.act(&release(floating)), floating);
        let free = world.act(&update(floating, protected(true)));
        assert_eq!(free, "NotAllocated");
    }
}

#[test]
fn what_is_noted_goes_with_the_address_and_of_nothing_else() {
    let mut world = World::new();
    let name = Alteration {
        label: Some(Some("web".parse().unwrap())),
        add_tags: ["a", "b"].map(|tag| tag.parse().unwrap()).into(),
        ..Alteration::default()
    };
    world.act(&allocate("198.51.100.7", ""));
    world.act(&update("198.51.100.7", name.clone()));
    let noted = |world: &World| {
        let floating = "198.51.100.7".parse().unwrap();
        world.state.allocation(floating).unwrap().attributes.clone()
    };
    assert_eq!(noted(&world), name.of(&Default::default()).unwrap());
    world.act(&associate("198.51.100.7", "10.0.0.5"));
    world.act(&disassociate("198.51.100.7"));
    assert_eq!(noted(&world), name.of(&Default::default()).unwrap());
    world.act(&release("198.51.100.7"));
    world.act(&allocate("198.51.100.7", ""));
    assert_eq!(noted(&world), Default::default());
    for (address, refusal) in [
        ("192.0.2.1", "NotInPool"),
        ("10.0.0.9", "NotAssociated"),
        ("127.0.0.1", "InvalidAddress"),
    ] {
        assert_eq!(world.act(&update(address, name.clone())), refusal);
    }
    let many = (0..31).map(|number| format!("t{number}").parse().unwrap());
    let many = Alteration {
        add_tags: many.collect(),
        ..Alteration::default()
    };
    world.act(&update("198.51.100.7", name));
    assert_eq!(world.act(&update("198.51.100.7", many)), "InvalidArgument");
}

fn several(count: u32) -> Allocate {
    Allocate {
        count: Some(count),
        ..Allocate::default()
    }
}

#[test]
fn several_addresses_are_taken_in_turn_or_none() {
    let mut world = World::new();
    world.act(&allocate("198.51.100.8", ""));
    let noted = Alteration {
        label: Some(Some("web".parse().unwrap())),
        ..protected(true)
    };
    let request = Request::Allocate(Allocate {
        alteration: noted.into(),
        ..several(4)
    });
    let decision = world.decide(ROOT, &request).unwrap();
    let taken: Vec<_> = decision.all.iter().map(ToString::to_string).collect();
    // 203.0.113.1 is the router's own, so there are five left.
    let expected = ["198.51.100.9", "198.51.100.7", "203.0.113.2", "2001:db8::7"];
    assert_eq!(taken, expected);
    assert_eq!(decision.floating, decision.all[0]);
    assert_eq!(world.act(&request), "198.51.100.9");
    for floating in &decision.all {
        let noted = &world.state.allocation(*floating).unwrap().attributes;
        assert_eq!(noted.label.as_ref().unwrap().to_string(), "web");
        assert!(noted.protected);
    }
    let before = world.state.allocated();
    assert_eq!(world.act(&Request::Allocate(several(2))), "PoolExhausted");
    assert_eq!(world.state.allocated(), before);
    let named = Request::Allocate(Allocate {
        floating: Some("2001:db8::8".parse().unwrap()),
        ..several(2)
    });
    assert_eq!(world.act(&named), "InvalidArgument");
    assert_eq!(world.act(&Request::Allocate(several(1))), "2001:db8::8");
}

#[test]
fn a_quota_counts_all_that_are_taken_at_once() {
    let world = World::new();
    for (quota, outcome) in [(3, "granted"), (2, "QuotaExceeded")] {
        let request = Request::Allocate(several(3));
        assert_eq!(within(&world, &own(quota, &[]), &request), outcome);
    }
}

fn take_named(floating: &str, owner: Uid) -> Request {
    Request::Allocate(Allocate {
        floating: Some(floating.parse().unwrap()),
        owner: Some(owner),
        ..Allocate::default()
    })
}

#[test]
fn a_released_address_is_kept_for_its_last_owner_and_no_longer_than_it_is_said() {
    for (floating, fixed) in [("198.51.100.7", "10.0.0.5"), ("2001:db8::7", "fd00::5")] {
        let mut world = World::new();
        world.site.rest = std::time::Duration::from_secs(60);
        let own = own(50, &[]);
        let manage = Scope::Managed(Reach {
            rest_of: Some(ALICE.uid),
            ..Reach::default()
        });
        world.act(&take_named(floating, ALICE.uid));
        world.now = Timestamp(100);
        assert_eq!(world.act(&release(floating)), floating);
        let bob = Actor { uid: 1001, ..ALICE };
        for (now, actor, scope, outcome) in [
            (101, ALICE, &own, "granted"),
            (101, bob, &own, "AddressResting"),
            (101, bob, &manage, "granted"),
            (101, ROOT, &Scope::Any, "granted"),
            (159, bob, &own, "AddressResting"),
            (160, bob, &own, "granted"),
            // The clock was set back by more than an address ever rests.
            (20, bob, &own, "granted"),
        ] {
            world.now = Timestamp(now);
            for request in [
                Request::Allocate(Allocate {
                    floating: Some(floating.parse().unwrap()),
                    ..Allocate::default()
                }),
                associate(floating, fixed),
                forward(floating, &format!("80/tcp -> {}:80", bracketed(fixed))),
            ] {
                let decided = world.decide_within(actor, scope, &request);
                let decided = decided.err().map_or("granted", |refusal| refusal.name());
                assert_eq!(decided, outcome, "{now} {actor:?} {request:?}");
            }
        }
        world.now = Timestamp(101);
        world.site.rest = std::time::Duration::ZERO;
        let request = associate(floating, fixed);
        assert!(world.decide_within(bob, &own, &request).is_ok());
    }
}

fn bracketed(fixed: &str) -> String {
    if fixed.contains(':') {
        format!("[{fixed}]")
    } else {
        fixed.to_owned()
    }
}

#[test]
fn what_rests_is_given_to_nobody_who_names_none_but_to_its_last_owner_at_last() {
    let mut world = World::new();
    world.site.rest = std::time::Duration::from_secs(60);
    for floating in ["198.51.100.8", "198.51.100.9"] {
        world.act(&take_named(floating, ALICE.uid));
        world.act(&release(floating));
    }
    world.act(&take_named("2001:db8::7", 1001));
    world.act(&release("2001:db8::7"));
    let free = Request::Allocate(Allocate::default());
    let mut given = Vec::new();
    while let Ok(decision) = world.decide_within(ALICE, &own(50, &[]), &free) {
        given.push(decision.floating.to_string());
        for change in &decision.changes {
            world.state = world.state.clone().with(change, world.now);
        }
    }
    assert_eq!(
        given,
        [
            "198.51.100.7",
            "203.0.113.2",
            "2001:db8::8",
            "198.51.100.8",
            "198.51.100.9"
        ]
    );
    // Not even root gets what rests for somebody else without naming it.
    assert_eq!(world.act(&free), "PoolExhausted");
    assert_eq!(world.act(&associate("", "fd00::5")), "PoolExhausted");
    assert_eq!(
        world.act(&associate("2001:db8::7", "fd00::5")),
        "2001:db8::7"
    );
    assert_eq!(world.state.resting().iter().count(), 0);
}

#[test]
fn an_address_whose_time_is_over_rests_like_one_that_was_released() {
    let mut world = World::new();
    world.site.rest = std::time::Duration::from_secs(60);
    world.act(&allocate("198.51.100.7", ""));
    let World { state, site, .. } = &world;
    let floating = "198.51.100.7".parse().unwrap();
    let changes = expire(state, site, floating, Lease::Allocation, Timestamp(100));
    let rests = Change::Release {
        floating,
        previous: None,
        resting_until: Some(Timestamp(160)),
    };
    assert_eq!(changes, [rests]);
}
