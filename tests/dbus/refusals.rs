//! What is refused, to whom, and by which name.

use std::net::IpAddr;

use ipfloater::api::dbus::{BUS_NAME, INTERFACE, OBJECT_PATH};
use ipfloater::control::Rejection;
use ipfloater::model::{FixedIp, FloatingIp, NotAHost, Sequence, Timestamp};
use ipfloater::request::Refusal;
use zbus::Variant;

use crate::service::{CONTRACT, NOBODY, Service, failure, is_root, options, refused};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_option_is_refused_by_its_name() {
    let service = Service::start().await;
    let client = service.client().await;
    let unknown = || options([("colour", "red".into())]);
    for method in ["Allocate", "List", "ListPools", "GetStatus", "History"] {
        let (name, text) = refused(&client, method, &(unknown(),)).await;
        assert_eq!(name, "org.freedesktop.DBus.Error.InvalidArgs", "{method}");
        assert!(text.starts_with("unknown option \"colour\"; "), "{text}");
    }
    for method in ["Disassociate", "Release", "Describe"] {
        let (name, text) = refused(&client, method, &("10.0.0.5", unknown())).await;
        assert_eq!(name, "org.freedesktop.DBus.Error.InvalidArgs", "{method}");
        let none = text == "unknown option \"colour\"; this method has none yet";
        assert_eq!(none, method == "Describe", "{text}");
        assert!(text.starts_with("unknown option \"colour\"; "), "{text}");
    }
    let arguments = ("", "10.0.0.5", unknown());
    let (_, text) = refused(&client, "Associate", &arguments).await;
    assert!(
        text.starts_with("unknown option \"colour\"; this method knows pool, owner, reassociate"),
        "{text}"
    );

    let error = service.call("Allocate", &["a{sv}", "1", "pool", "u", "7"]);
    assert_eq!(
        error.unwrap_err(),
        "Call failed: option \"pool\" is of type s, not u"
    );
    assert_eq!(service.handle.snapshot().state.allocated(), 0);
}

/// What no option holds is not built: a message may have 32 MiB, and as values it
/// would be many times that.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_any_option_is_refused_before_it_is_read() {
    let service = Service::start().await;
    let client = service.client().await;
    let many: Vec<String> = (0..300).map(|number| format!("tag-{number}")).collect();
    let crowd: Vec<String> = (0..100).map(|number| format!("option-{number}")).collect();
    let crowd: Vec<_> = crowd
        .iter()
        .map(|name| (name.as_str(), 1_u32.into()))
        .collect();
    for (given, says) in [
        (
            options([("colour", vec![0_u8; 1 << 20].into())]),
            "an option is of type ay; they are s, b, as or integers",
        ),
        (
            options([("tags", many.into())]),
            "an option has more than 256 texts",
        ),
        (
            crowd.into_iter().collect(),
            "there are more than 64 options",
        ),
    ] {
        let (name, text) = refused(&client, "List", &(given,)).await;
        assert_eq!(name, "org.freedesktop.DBus.Error.InvalidArgs", "{text}");
        assert!(text.contains(says), "{text}");
    }
    let (_, text) = refused(&client, "List", &(options([("pool", 1.5.into())]),)).await;
    assert_eq!(text, "option \"pool\" is of type s, not d");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_cannot_be_is_refused_with_its_field() {
    let service = Service::start().await;
    let client = service.client().await;
    for (option, value, name, text) in [
        (
            "floating_ip",
            Variant::from("010.0.0.1"),
            "InvalidAddress",
            "floating_ip: ",
        ),
        ("floating_ip", "".into(), "InvalidAddress", "floating_ip: "),
        ("pool", "a b".into(), "InvalidArgument", "pool: "),
    ] {
        let arguments = (options([(option, value)]),);
        let (found, said) = refused(&client, "Allocate", &arguments).await;
        assert_eq!(found, format!("org.ipfloater.Error.{name}"));
        assert!(said.starts_with(text), "{said}");
    }
    for (option, value) in [
        ("limit", Variant::from(0_u32)),
        ("limit", 1_001_u32.into()),
        ("state", "free".into()),
    ] {
        let arguments = (options([(option, value)]),);
        let (found, said) = refused(&client, "List", &arguments).await;
        assert_eq!(found, "org.ipfloater.Error.InvalidArgument");
        assert!(said.starts_with(option), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_refused_as_every_service_does() {
    let service = Service::start().await;
    let client = service.client().await;

    let wrong = refused(&client, "Allocate", &("text",)).await;
    assert_eq!(wrong.0, "org.freedesktop.DBus.Error.InvalidArgs");

    let at = |path, interface, method| {
        client.connection().call_method(
            Some(BUS_NAME),
            path,
            Some(interface),
            method,
            &(INTERFACE, "Colour"),
        )
    };
    for (path, interface, method, name) in [
        (OBJECT_PATH, INTERFACE, "Paint", "UnknownMethod"),
        (
            OBJECT_PATH,
            "org.ipfloater.Painter",
            "Paint",
            "UnknownInterface",
        ),
        ("/org/ipfloater/address", INTERFACE, "List", "UnknownObject"),
        (
            OBJECT_PATH,
            "org.freedesktop.DBus.Properties",
            "Get",
            "UnknownProperty",
        ),
    ] {
        let found = failure(at(path, interface, method).await).0;
        assert_eq!(found, format!("org.freedesktop.DBus.Error.{name}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_not_root_may_read_and_not_change() {
    if !is_root() {
        return;
    }
    let service = Service::start().await;
    let root = ["ssa{sv}", "192.0.2.10", "10.0.0.5", "0"];
    service.call("Associate", &root).unwrap();
    let revision = service.handle.snapshot().state.revision();
    for (method, arguments, verb, action) in [
        ("Allocate", &["a{sv}", "0"][..], "allocate", "allocate-own"),
        (
            "Associate",
            &["ssa{sv}", "", "10.0.0.6", "0"],
            "associate",
            "allocate-own",
        ),
        (
            "Associate",
            &["ssa{sv}", "", "10.0.0.5", "0"],
            "associate",
            "manage",
        ),
        (
            "Disassociate",
            &["sa{sv}", "10.0.0.5", "0"],
            "disassociate",
            "manage",
        ),
        ("Update", &["sa{sv}", "192.0.2.10", "0"], "update", "manage"),
        (
            "Release",
            &["sa{sv}", "192.0.2.10", "0"],
            "release",
            "manage",
        ),
        ("History", &["a{sv}", "0"], "history", "inspect-all"),
    ] {
        assert_eq!(
            service.call_as(NOBODY, method, arguments).unwrap_err(),
            format!(
                "Call failed: to {verb} takes authentication by the polkit action \
                 org.ipfloater.{action}"
            ),
        );
    }
    assert_eq!(service.handle.snapshot().state.revision(), revision);

    // Of root's address he sees that it is taken.
    let seen = service.call_as(NOBODY, "Describe", &["sa{sv}", "192.0.2.10", "0"]);
    assert_eq!(
        seen.unwrap(),
        "a{sv} 3 \"floating_ip\" s \"192.0.2.10\" \"pool\" s \"default\" \"state\" s \"active\""
    );
    for (method, arguments) in [
        ("List", &["a{sv}", "0"][..]),
        ("ListPools", &["a{sv}", "0"]),
        ("GetStatus", &["a{sv}", "0"]),
        ("GetPermissions", &["a{sv}", "0"]),
    ] {
        let answer = service.call_as(NOBODY, method, arguments);
        assert!(answer.is_ok(), "{method}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rejection_has_its_name_on_the_bus_and_in_the_interface_file() {
    let service = Service::start().await;
    let client = service.client().await;
    for rejection in rejections() {
        service.answers.reject_next(rejection.clone());
        let (name, text) = refused(&client, "Allocate", &(options([]),)).await;
        assert_eq!(name, format!("org.ipfloater.Error.{}", rejection.name()));
        assert_eq!(text, rejection.to_string());
        let documented = CONTRACT.split_whitespace().any(|word| word == name);
        assert!(documented, "{name} is missing in interfaces/");
    }
}

/// One of each. A new one does not compile until it has its place here.
fn rejections() -> Vec<Rejection> {
    let floating: FloatingIp = "192.0.2.10".parse().unwrap();
    let fixed: FixedIp = "10.0.0.5".parse().unwrap();
    let address: IpAddr = fixed.ip();
    let family = "IPv4".to_owned();
    let pool = None;
    let refusals = vec![
        Refusal::invalid_address("floating_ip", "x", "it is none"),
        Refusal::InvalidArgument {
            field: "pool".to_owned(),
            why: "it is empty".to_owned(),
        },
        Refusal::NoSuchPool("a".parse().unwrap()),
        Refusal::NotInPool {
            address,
            pool: pool.clone(),
            home: None,
        },
        Refusal::AlreadyAllocated {
            floating,
            noted: false,
        },
        Refusal::PoolExhausted {
            family: family.clone(),
            pool,
        },
        Refusal::WrongFamily { floating, fixed },
        Refusal::OutsidePrivateRanges {
            fixed,
            private: Vec::new(),
            home: None,
            swapped: false,
        },
        Refusal::NotAHost {
            fixed,
            why: NotAHost::Router,
        },
        Refusal::RouterAddress { floating },
        Refusal::AlreadyAssociated { floating, fixed },
        Refusal::TargetInUse { fixed, floating },
        Refusal::NotAssociated { address },
        Refusal::NotAllocated { floating },
        Refusal::Protected { floating },
        Refusal::AddressResting {
            floating,
            until: Timestamp(1),
        },
        Refusal::OwnerChanged { floating },
        Refusal::QuotaExceeded {
            owner: 1000,
            quota: 3,
        },
        Refusal::OutsidePermittedRanges { fixed },
        Refusal::ForwardClash {
            floating,
            other: "80/tcp -> 10.0.0.5:80".parse().unwrap(),
            same: true,
        },
        Refusal::OutboundClash { fixed, floating },
        Refusal::ForwardLimitReached {
            limit: 1,
            what: "ports",
            family: family.clone(),
        },
        Refusal::SourceLimitReached {
            limit: 1,
            family: family.clone(),
        },
        Refusal::Unconfirmed {
            floating: Some(floating),
            until: Timestamp(1_800_000_000),
        },
        Refusal::NothingUnconfirmed { address: None },
        Refusal::LimitReached { limit: 1, family },
    ];
    for refusal in &refusals {
        match refusal {
            Refusal::InvalidAddress { .. }
            | Refusal::InvalidArgument { .. }
            | Refusal::NoSuchPool(_)
            | Refusal::NotInPool { .. }
            | Refusal::AlreadyAllocated { .. }
            | Refusal::PoolExhausted { .. }
            | Refusal::WrongFamily { .. }
            | Refusal::OutsidePrivateRanges { .. }
            | Refusal::NotAHost { .. }
            | Refusal::RouterAddress { .. }
            | Refusal::AlreadyAssociated { .. }
            | Refusal::TargetInUse { .. }
            | Refusal::NotAssociated { .. }
            | Refusal::NotAllocated { .. }
            | Refusal::Protected { .. }
            | Refusal::AddressResting { .. }
            | Refusal::OwnerChanged { .. }
            | Refusal::QuotaExceeded { .. }
            | Refusal::OutsidePermittedRanges { .. }
            | Refusal::ForwardClash { .. }
            | Refusal::OutboundClash { .. }
            | Refusal::ForwardLimitReached { .. }
            | Refusal::SourceLimitReached { .. }
            | Refusal::Unconfirmed { .. }
            | Refusal::NothingUnconfirmed { .. }
            | Refusal::LimitReached { .. } => {}
        }
    }
    let mut rejections: Vec<_> = refusals.into_iter().map(Rejection::from).collect();
    rejections.extend([
        Rejection::Busy,
        Rejection::StoreFailed("the disk is full".to_owned()),
        Rejection::ConfigurationInvalid("line 3: there is no key POOL".to_owned()),
        Rejection::SequenceGone {
            after: Sequence(1),
            first: Sequence(3),
            last: Sequence(4),
        },
        Rejection::CountersOff,
        Rejection::KernelFailed("reading the kernel's counters".to_owned()),
        Rejection::Stopping,
    ]);
    for rejection in &rejections {
        match rejection {
            Rejection::Refused(_)
            | Rejection::Busy
            | Rejection::StoreFailed(_)
            | Rejection::ConfigurationInvalid(_)
            | Rejection::SequenceGone { .. }
            | Rejection::CountersOff
            | Rejection::KernelFailed(_)
            | Rejection::Stopping => {}
        }
    }
    rejections
}
