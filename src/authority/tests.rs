use std::sync::Mutex;

use super::*;
use crate::model::{
    AddressRange, Allocation, Association, FloatingIp, Limits, Permitted, Pool, PoolName, Protocol,
    Resting, Revision, Sequence, Timestamp,
};
use crate::request::{Allocate, Disassociate, ForwardPorts, Release, UnforwardPorts};

const ALICE: Uid = 1000;
const BOB: Uid = 1001;

/// A policy that says yes to the actions it is made of, and remembers what it
/// was asked.
#[derive(Clone, Debug, Default)]
struct Granting {
    actions: Vec<Action>,
    /// What is said to the others without, and with interaction.
    otherwise: (Option<Verdict>, Option<Verdict>),
    asked: Arc<Mutex<Vec<(Action, Details, bool)>>>,
}

impl Granting {
    fn to(actions: &[Action]) -> Self {
        Self {
            actions: actions.to_vec(),
            ..Self::default()
        }
    }

    fn actions_asked(&self) -> Vec<Action> {
        let asked = self.asked.lock().unwrap();
        asked.iter().map(|(action, ..)| *action).collect()
    }
}

impl Policy for Granting {
    fn judge(&self, question: Question) -> Answer<'_> {
        let Question {
            action,
            details,
            interactive,
            ..
        } = question;
        let (quiet, prompted) = self.otherwise;
        let otherwise = if interactive { prompted } else { quiet };
        self.asked
            .lock()
            .unwrap()
            .push((action, details, interactive));
        let verdict = if self.actions.contains(&action) {
            Verdict::Yes
        } else {
            otherwise.unwrap_or(Verdict::No)
        };
        Box::pin(async move { Ok(verdict) })
    }
}

/// .1 is alice's and tied to 10.0.0.1, .2 is bob's and tied to 10.0.0.2, .3 is
/// alice's and tied nowhere; the others up to .7 are free.
fn state() -> State {
    let allocation = |owner, host: Option<&str>| Allocation {
        association: host.map(|host| Association {
            fixed: host.parse().unwrap(),
            since: Timestamp(2),
        }),
        ..Allocation::new(PoolName::default_pool(), owner, Timestamp(1))
    };
    let allocations = [
        ("203.0.113.1", allocation(ALICE, Some("10.0.0.1"))),
        ("203.0.113.2", allocation(BOB, Some("10.0.0.2"))),
        ("203.0.113.3", allocation(ALICE, None)),
    ];
    let allocations =
        allocations.map(|(floating, allocation)| (floating.parse().unwrap(), allocation));
    State::load(Revision(1), Sequence(1), allocations)
}

fn site(quota: u32, ranges: &[&str]) -> Site {
    let range = AddressRange::new(
        "203.0.113.0".parse().unwrap(),
        "203.0.113.7".parse().unwrap(),
    );
    let limit = Limit {
        quota,
        permitted: match ranges {
            [] => Permitted::All,
            ranges => Permitted::Only(ranges.iter().map(|net| net.parse().unwrap()).collect()),
        },
    };
    Site {
        pools: vec![Pool {
            name: PoolName::default_pool(),
            ranges: vec![range.unwrap()],
            interface: None,
            routed: false,
            announcing: Default::default(),
            hardware_addresses: Default::default(),
            gateways: Vec::new(),
        }],
        private: vec!["10.0.0.0/8".parse().unwrap()],
        guard: true,
        block_free: true,
        counters: true,
        untranslated: Default::default(),
        uplink_numbers: Default::default(),
        rest: std::time::Duration::ZERO,
        limits: Limits {
            default: limit,
            ..Limits::default()
        },
    }
}

fn caller(uid: Uid, interactive: bool) -> Caller {
    Caller {
        subject: Subject {
            uid,
            origin: Origin::Peer {
                pid: 1,
                process: None,
            },
        },
        interactive,
    }
}

fn allocate(floating: Option<&str>, owner: Option<Uid>) -> Request {
    Request::Allocate(Allocate {
        floating: floating.map(|text| text.parse().unwrap()),
        pool: None,
        owner,
        ..Allocate::default()
    })
}

fn associate(floating: Option<&str>, fixed: &str) -> Request {
    Request::Associate(Associate {
        floating: floating.map(|text| text.parse().unwrap()),
        fixed: fixed.parse().unwrap(),
        pool: None,
        owner: None,
        reassociate: false,
        keep_established: false,
    })
}

fn forward(floating: &str, forward: &str) -> Request {
    Request::Forward(ForwardPorts {
        floating: floating.parse().unwrap(),
        forward: forward.parse().unwrap(),
        reassociate: false,
    })
}

fn unforward(floating: &str) -> Request {
    Request::Unforward(UnforwardPorts {
        floating: floating.parse().unwrap(),
        protocol: Protocol::Tcp,
        ports: "80".parse().unwrap(),
    })
}

fn release(address: &str) -> Request {
    Request::Release(Release {
        address: address.parse().unwrap(),
    })
}

fn disassociate(address: &str) -> Request {
    Request::Disassociate(Disassociate {
        address: address.parse().unwrap(),
    })
}

async fn asked_of_alice(request: Request) -> Vec<Action> {
    let policy = Granting::to(&Action::ALL);
    let authority = Authority::new(policy.clone());
    let (state, site) = (state(), site(50, &[]));
    let authorized = authority
        .authorize(&caller(ALICE, false), request, &state, &site)
        .await;
    assert!(authorized.is_ok());
    policy.actions_asked()
}

#[tokio::test]
async fn the_action_depends_on_whose_addresses_are_concerned() {
    use Action::{AllocateOwn, AssociateOwn, Manage, ReleaseOwn};
    for (request, asked) in [
        (allocate(None, None), vec![AllocateOwn]),
        (allocate(Some("203.0.113.4"), None), vec![AllocateOwn]),
        // Somebody else's is refused later, for everybody.
        (allocate(Some("203.0.113.2"), None), vec![AllocateOwn]),
        (allocate(None, Some(ALICE)), vec![AllocateOwn]),
        (allocate(None, Some(BOB)), vec![Manage]),
        // Takes an address, and ties it.
        (associate(None, "10.0.0.9"), vec![AllocateOwn, AssociateOwn]),
        (
            associate(Some("203.0.113.4"), "10.0.0.9"),
            vec![AllocateOwn, AssociateOwn],
        ),
        // Her own: a move, and what is so already.
        (
            associate(Some("203.0.113.3"), "10.0.0.9"),
            vec![AssociateOwn],
        ),
        (associate(None, "10.0.0.1"), vec![AssociateOwn]),
        // The address is bob's, or the host has one that is.
        (associate(Some("203.0.113.2"), "10.0.0.9"), vec![Manage]),
        (associate(Some("203.0.113.3"), "10.0.0.2"), vec![Manage]),
        (associate(None, "10.0.0.2"), vec![Manage]),
        (release("203.0.113.1"), vec![ReleaseOwn]),
        (release("10.0.0.1"), vec![ReleaseOwn]),
        (release("203.0.113.2"), vec![Manage]),
        (release("10.0.0.2"), vec![Manage]),
        // Free ones, and what is none.
        (release("203.0.113.4"), vec![ReleaseOwn]),
        (release("192.0.2.1"), vec![ReleaseOwn]),
        (disassociate("203.0.113.1"), vec![ReleaseOwn]),
        (disassociate("10.0.0.2"), vec![Manage]),
        // Ports to any host; the address decides.
        (
            forward("203.0.113.4", "80/tcp -> 10.0.0.9:80"),
            vec![AllocateOwn, AssociateOwn],
        ),
        (
            forward("203.0.113.1", "80/tcp -> 10.0.0.2:80"),
            vec![AssociateOwn],
        ),
        (
            forward("203.0.113.2", "80/tcp -> 10.0.0.1:80"),
            vec![Manage],
        ),
        (unforward("203.0.113.1"), vec![ReleaseOwn]),
        (unforward("203.0.113.2"), vec![Manage]),
        (unforward("203.0.113.4"), vec![ReleaseOwn]),
    ] {
        assert_eq!(asked_of_alice(request.clone()).await, asked, "{request:?}");
    }
}

#[tokio::test]
async fn every_action_that_is_asked_has_to_be_granted() {
    let (state, site) = (state(), site(50, &[]));
    for (granted, may) in [
        (&[Action::AllocateOwn][..], false),
        (&[Action::AssociateOwn], false),
        (&[Action::AllocateOwn, Action::AssociateOwn], true),
    ] {
        let authority = Authority::new(Granting::to(granted));
        let authorized = authority
            .authorize(
                &caller(ALICE, true),
                associate(None, "10.0.0.9"),
                &state,
                &site,
            )
            .await;
        assert_eq!(authorized.is_ok(), may, "{granted:?}");
    }
}

#[tokio::test]
async fn root_and_the_daemons_own_user_are_not_a_question() {
    let policy = Granting::default();
    let authority = Authority {
        own: 990,
        ..Authority::new(policy.clone())
    };
    let (state, site) = (state(), site(0, &["10.9.0.0/16"]));
    for (uid, may) in [(0, true), (990, true), (ALICE, false), (Uid::MAX, false)] {
        let caller = caller(uid, true);
        let request = associate(Some("203.0.113.2"), "10.0.0.9");
        let authorized = authority.authorize(&caller, request, &state, &site).await;
        assert_eq!(authorized.is_ok(), may, "{uid}");
        if let Ok(authorized) = authorized {
            assert_eq!(*authorized.scope(), Scope::Any);
            assert!(policy.actions_asked().is_empty());
        }
        for verb in [Verb::History, Verb::Reload, Verb::SetLogLevel] {
            assert_eq!(
                authority.may(&caller, verb).await.is_ok(),
                may,
                "{uid} {verb:?}"
            );
        }
        assert_eq!(authority.sight(&caller).await.is_ok(), may);
    }
}

#[tokio::test]
async fn a_prompt_is_for_those_who_said_that_they_wait() {
    let policy = Granting {
        otherwise: (Some(Verdict::Challenge), Some(Verdict::Yes)),
        ..Granting::default()
    };
    let authority = Authority::new(policy.clone());
    let (state, site) = (state(), site(50, &[]));
    for interactive in [false, true] {
        let authorized = authority
            .authorize(
                &caller(ALICE, interactive),
                release("203.0.113.1"),
                &state,
                &site,
            )
            .await;
        let challenged = Denied::NeedsAuthentication {
            verb: Verb::Release,
            action: Action::ReleaseOwn,
        };
        assert_eq!(authorized.err(), (!interactive).then_some(challenged));
    }
    let asked = policy.asked.lock().unwrap();
    let interactions: Vec<_> = asked
        .iter()
        .map(|(_, _, interactive)| *interactive)
        .collect();
    assert_eq!(interactions, [false, false, true]);
}

/// A rule as in docs/authorization.md: the right to manage the addresses of one
/// user, or one address.
#[derive(Debug)]
struct Looking(fn(&Details) -> bool);

impl Policy for Looking {
    fn judge(&self, question: Question) -> Answer<'_> {
        let may = question.action == Action::Manage && (self.0)(&question.details);
        Box::pin(async move { Ok(if may { Verdict::Yes } else { Verdict::No }) })
    }
}

#[tokio::test]
async fn a_rule_for_one_owner_or_address_is_no_rule_for_the_others_that_a_request_alters() {
    const CAROL: Uid = 1003;
    let alices: fn(&Details) -> bool = |details| details.owner == Some(ALICE);
    let third: fn(&Details) -> bool =
        |details| details.floating == Some("203.0.113.3".parse().unwrap());
    let owned = |request: Request, owner| match request {
        Request::Associate(associate) => Request::Associate(Associate {
            owner: Some(owner),
            reassociate: true,
            ..associate
        }),
        other => other,
    };
    let of_carol = Resting {
        owner: CAROL,
        until: Timestamp(100),
    };
    let state = state().with_resting([("203.0.113.4".parse().unwrap(), of_carol)]);
    for (rule, request, may) in [
        (alices, release("203.0.113.1"), true),
        (alices, release("203.0.113.2"), false),
        // alice's address, and a host that has one of bob's.
        (alices, associate(Some("203.0.113.3"), "10.0.0.9"), true),
        (alices, associate(Some("203.0.113.3"), "10.0.0.2"), false),
        // For alice it is taken from alice, or from nobody; not for bob.
        (
            alices,
            owned(associate(Some("203.0.113.5"), "10.0.0.1"), ALICE),
            true,
        ),
        (
            alices,
            owned(associate(Some("203.0.113.5"), "10.0.0.1"), BOB),
            false,
        ),
        (alices, allocate(None, Some(ALICE)), true),
        (alices, allocate(None, Some(BOB)), false),
        (third, release("203.0.113.3"), true),
        (third, associate(Some("203.0.113.3"), "10.0.0.9"), true),
        (third, associate(Some("203.0.113.3"), "10.0.0.1"), false),
        (third, release("203.0.113.1"), false),
    ] {
        let authority = Authority::new(Looking(rule));
        let (caller, site) = (caller(CAROL, false), site(50, &[]));
        let said = format!("{request:?}");
        let authorized = authority.authorize(&caller, request, &state, &site).await;
        assert_eq!(authorized.is_ok(), may, "{said}");
    }
    // What rests for bob is no more his who may manage alice's.
    let of_bob = Resting {
        owner: BOB,
        until: Timestamp(100),
    };
    let state = state.with_resting([("203.0.113.6".parse().unwrap(), of_bob)]);
    let authority = Authority::new(Looking(alices));
    let (carol, site) = (caller(CAROL, false), site(50, &[]));
    let request = allocate(Some("203.0.113.6"), Some(ALICE));
    let authorized = authority.authorize(&carol, request, &state, &site).await;
    let Scope::Managed(reach) = authorized.unwrap().scope else {
        panic!("it is for alice");
    };
    assert_eq!(reach.rest_of, None);
}

#[tokio::test]
async fn what_a_prompt_shows_of_somebody_elses_address_is_what_the_caller_named() {
    let shown = async |request: Request| {
        let policy = Granting::to(&Action::ALL);
        let authority = Authority::new(policy.clone());
        let (state, site) = (state(), site(50, &[]));
        let authorized = authority
            .authorize(&caller(ALICE, true), request, &state, &site)
            .await;
        authorized.unwrap();
        let details = policy.asked.lock().unwrap()[0].1.to_map();
        ["floating_ip", "fixed_address", "owner"].map(|name| details[name].clone())
    };
    for (request, expected) in [
        (release("203.0.113.1"), ["203.0.113.1", "10.0.0.1", "1000"]),
        (release("10.0.0.1"), ["203.0.113.1", "10.0.0.1", "1000"]),
        (release("203.0.113.2"), ["203.0.113.2", "none", "1001"]),
        (release("10.0.0.2"), ["any", "10.0.0.2", "1001"]),
        (associate(None, "10.0.0.2"), ["any", "10.0.0.2", "1001"]),
        (
            associate(Some("203.0.113.2"), "10.0.0.9"),
            ["203.0.113.2", "10.0.0.9", "1001"],
        ),
        (associate(None, "10.0.0.9"), ["any", "10.0.0.9", "1000"]),
        (allocate(None, None), ["any", "none", "1000"]),
    ] {
        assert_eq!(shown(request.clone()).await, expected, "{request:?}");
    }
}

#[tokio::test]
async fn whoever_may_manage_has_no_limits_and_nobody_is_asked_to_lift_them() {
    use Action::{AllocateOwn, AssociateOwn, Manage};
    let state = state();
    for (quota, ranges, granted, limited) in [
        (2, &[][..], &[AllocateOwn, AssociateOwn][..], true),
        (2, &[], &[AllocateOwn, AssociateOwn, Manage], false),
        (3, &["10.9.0.0/16"], &[AllocateOwn, AssociateOwn], true),
        (
            3,
            &["10.9.0.0/16"],
            &[AllocateOwn, AssociateOwn, Manage],
            false,
        ),
    ] {
        let policy = Granting {
            otherwise: (Some(Verdict::Challenge), Some(Verdict::Yes)),
            ..Granting::to(granted)
        };
        let authority = Authority::new(policy.clone());
        let authorized = authority
            .authorize(
                &caller(ALICE, true),
                associate(None, "10.0.0.9"),
                &state,
                &site(quota, ranges),
            )
            .await;
        let scope = authorized.unwrap().scope;
        assert_eq!(
            matches!(scope, Scope::Own(..)),
            limited,
            "{quota} {ranges:?}"
        );
        assert!(!policy.asked.lock().unwrap().iter().any(|asked| asked.2));
    }
}

#[tokio::test]
async fn what_rests_for_somebody_else_takes_the_right_to_manage_and_nobody_is_asked_for_it() {
    use Action::{AllocateOwn, AssociateOwn, Manage};
    let resting = |owner| Resting {
        owner,
        until: Timestamp(100),
    };
    let state = state().with_resting([
        ("203.0.113.4".parse().unwrap(), resting(BOB)),
        ("203.0.113.5".parse().unwrap(), resting(ALICE)),
    ]);
    let may = [AllocateOwn, AssociateOwn];
    let may_manage = [AllocateOwn, AssociateOwn, Manage];
    for (granted, floating, limited) in [
        (&may[..], "203.0.113.4", true),
        (&may_manage, "203.0.113.4", false),
        (&may_manage, "203.0.113.5", true),
        (&may_manage, "203.0.113.6", true),
    ] {
        let policy = Granting {
            otherwise: (Some(Verdict::Challenge), Some(Verdict::Yes)),
            ..Granting::to(granted)
        };
        let authority = Authority::new(policy.clone());
        for request in [
            allocate(Some(floating), None),
            associate(Some(floating), "10.0.0.9"),
            forward(floating, "80/tcp -> 10.0.0.9:80"),
        ] {
            let caller = caller(ALICE, true);
            let site = site(50, &[]);
            let authorized = authority.authorize(&caller, request, &state, &site);
            let scope = authorized.await.unwrap().scope;
            assert_eq!(matches!(scope, Scope::Own(..)), limited, "{floating}");
        }
        assert!(!policy.asked.lock().unwrap().iter().any(|asked| asked.2));
    }
}

#[tokio::test]
async fn a_reader_sees_others_only_when_the_policy_says_so() {
    for (granted, expected) in [
        (&[][..], None),
        (&[Action::InspectAll], None),
        (&[Action::Inspect], Some(Sight::Own(ALICE))),
        (&[Action::Inspect, Action::InspectAll], Some(Sight::All)),
    ] {
        let authority = Authority::new(Granting::to(granted));
        let sight = authority.sight(&caller(ALICE, false)).await;
        assert_eq!(sight.ok(), expected, "{granted:?}");
    }
    assert!(Sight::Own(ALICE).reaches(Some(ALICE)) && Sight::Own(ALICE).reaches(None));
    assert!(!Sight::Own(ALICE).reaches(Some(BOB)) && Sight::All.reaches(Some(BOB)));
}

/// A policy that cannot judge.
#[derive(Debug)]
struct Mute(Unanswered);

impl Policy for Mute {
    fn judge(&self, _question: Question) -> Answer<'_> {
        let why = self.0.clone();
        Box::pin(async move { Err(why) })
    }
}

#[tokio::test]
async fn no_verdict_is_no() {
    let (state, site) = (state(), site(50, &[]));
    for why in [
        Unanswered::Silent,
        Unanswered::Unreachable("gone".to_owned()),
        Unanswered::Unidentified,
        Unanswered::Gone,
    ] {
        let authority = Authority::new(Mute(why.clone()));
        let alice = caller(ALICE, true);
        let authorized = authority
            .authorize(&alice, release("203.0.113.1"), &state, &site)
            .await;
        assert!(authorized.is_err(), "{why:?}");
        assert!(authority.may(&alice, Verb::History).await.is_err());
        // Reading what is everybody's needs no identity.
        let reads = authority.sight(&alice).await;
        assert_eq!(reads.is_ok(), why == Unanswered::Unidentified, "{why:?}");
    }
}

#[tokio::test]
async fn a_user_has_few_prompts_open_at_once() {
    let prompts = Prompts::default();
    let open: Vec<_> = (0..4).map(|_| prompts.enter(ALICE).unwrap()).collect();
    assert_eq!(
        prompts.enter(ALICE).unwrap_err(),
        Denied::TooManyPrompts {
            uid: ALICE,
            most: 4
        }
    );
    assert!(prompts.enter(BOB).is_ok());
    drop(open);
    assert!(prompts.enter(ALICE).is_ok());
}

#[test]
fn a_right_that_was_given_reaches_no_owner_who_was_not_seen() {
    let floating = |text: &str| text.parse::<FloatingIp>().unwrap();
    let (state, site) = (state(), site(50, &[]));
    let request = release("203.0.113.2");
    let concern = plan::concern(&state, &site, ALICE, &request);
    assert_eq!(concern.owners, [(floating("203.0.113.2"), BOB)]);
    let other = (Some(floating("203.0.113.2")), BOB);
    assert_eq!(concern.of_others(ALICE), [other]);
    assert_eq!(concern.of_others(BOB), []);
}
