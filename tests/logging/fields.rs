//! The audit record, field by field.

use serde_json::json;

use crate::daemon::{Daemon, NOBODY};
use crate::journal::Fields;

/// A record of what root asked for by varlink, from this process, with these
/// fields and no other.
fn record(fields: &[(&str, &str)]) -> Fields {
    let caller = format!("pid:{}", std::process::id());
    let always = [
        ("IPFLOATER_CALLER", &*caller),
        ("CODE_FILE", "src/logging/journal.rs"),
        ("TARGET", "ipfloaterd"),
        ("IPFLOATER_UID", "0"),
        ("IPFLOATER_VIA", "varlink"),
        ("MESSAGE_ID", ipfloater::audit::MESSAGE_ID),
        ("PRIORITY", "5"),
        ("SYSLOG_IDENTIFIER", "ipfloaterd"),
    ];
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    always.iter().chain(fields).map(owned).collect()
}

/// The same of an address that root has.
fn of_root(verb: &str, outcome: &str, fields: &[(&str, &str)]) -> Fields {
    let mut all = record(&[
        ("IPFLOATER_VERB", verb),
        ("IPFLOATER_OUTCOME", outcome),
        ("IPFLOATER_FLOATING_IP", "198.51.100.10"),
        ("IPFLOATER_POOL", "default"),
        ("IPFLOATER_OWNER", "0"),
    ]);
    all.extend(record(fields));
    all
}

#[test]
fn every_change_and_every_request_that_came_to_nothing_has_a_record_with_these_fields() {
    let daemon = Daemon::start();
    let next = || daemon.journal.audit();
    let host = |fixed: &str| json!({"fixed_address": fixed, "floating_ip": "198.51.100.10"});

    daemon.call("Associate", host("10.0.0.5")).unwrap();
    assert_eq!(
        next(),
        of_root(
            "allocate",
            "granted",
            &[
                ("IPFLOATER_REVISION", "1"),
                ("IPFLOATER_SEQUENCE", "1"),
                (
                    "MESSAGE",
                    "198.51.100.10 of pool default allocated to uid 0 by uid 0"
                ),
            ]
        )
    );
    assert_eq!(
        next(),
        of_root(
            "associate",
            "granted",
            &[
                ("IPFLOATER_FIXED_ADDRESS", "10.0.0.5"),
                ("IPFLOATER_REVISION", "1"),
                ("IPFLOATER_SEQUENCE", "2"),
                ("MESSAGE", "198.51.100.10 associated with 10.0.0.5 by uid 0"),
            ]
        )
    );

    daemon.call("Associate", host("10.0.0.5")).unwrap();
    assert_eq!(
        next(),
        of_root(
            "associate",
            "unchanged",
            &[
                ("IPFLOATER_FIXED_ADDRESS", "10.0.0.5"),
                ("MESSAGE", "198.51.100.10 already is as asked by uid 0"),
            ]
        )
    );

    daemon.call("Associate", host("10.0.0.6")).unwrap_err();
    assert_eq!(
        next(),
        of_root(
            "associate",
            "AlreadyAssociated",
            &[
                ("IPFLOATER_FIXED_ADDRESS", "10.0.0.6"),
                ("IPFLOATER_PREVIOUS_FIXED_ADDRESS", "10.0.0.5"),
                (
                    "MESSAGE",
                    "associate refused to uid 0: 198.51.100.10 is associated with 10.0.0.5; \
                     reassociate moves it"
                ),
            ]
        )
    );

    let mut moved = host("10.0.0.6");
    moved["reassociate"] = true.into();
    daemon.call("Associate", moved).unwrap();
    assert_eq!(
        next(),
        of_root(
            "associate",
            "granted",
            &[
                ("IPFLOATER_FIXED_ADDRESS", "10.0.0.6"),
                ("IPFLOATER_PREVIOUS_FIXED_ADDRESS", "10.0.0.5"),
                ("IPFLOATER_REVISION", "2"),
                ("IPFLOATER_SEQUENCE", "3"),
                (
                    "MESSAGE",
                    "198.51.100.10 moved from 10.0.0.5 to 10.0.0.6 by uid 0"
                ),
            ]
        )
    );

    let by_host = json!({"address": "10.0.0.6"});
    daemon.call("Disassociate", by_host.clone()).unwrap();
    assert_eq!(
        next(),
        of_root(
            "disassociate",
            "granted",
            &[
                ("IPFLOATER_PREVIOUS_FIXED_ADDRESS", "10.0.0.6"),
                ("IPFLOATER_REVISION", "3"),
                ("IPFLOATER_SEQUENCE", "4"),
                (
                    "MESSAGE",
                    "198.51.100.10 disassociated from 10.0.0.6 by uid 0"
                ),
            ]
        )
    );

    daemon.call("Disassociate", by_host).unwrap_err();
    assert_eq!(
        next(),
        record(&[
            ("IPFLOATER_VERB", "disassociate"),
            ("IPFLOATER_OUTCOME", "NotAssociated"),
            ("IPFLOATER_FIXED_ADDRESS", "10.0.0.6"),
            (
                "MESSAGE",
                "disassociate refused to uid 0: 10.0.0.6 has no floating IP"
            ),
        ])
    );

    let released = json!({"address": "198.51.100.10"});
    daemon.call("Release", released).unwrap();
    assert_eq!(
        next(),
        of_root(
            "release",
            "granted",
            &[
                ("IPFLOATER_REVISION", "4"),
                ("IPFLOATER_SEQUENCE", "5"),
                ("MESSAGE", "198.51.100.10 released by uid 0"),
            ]
        )
    );

    let strange = json!({"address": "192.0.2.1"});
    daemon.call("Release", strange).unwrap_err();
    assert_eq!(
        next(),
        record(&[
            ("IPFLOATER_VERB", "release"),
            ("IPFLOATER_OUTCOME", "NotInPool"),
            ("IPFLOATER_FLOATING_IP", "192.0.2.1"),
            (
                "MESSAGE",
                "release refused to uid 0: 192.0.2.1 is in no pool; `ipfloater ippool` lists what is"
            ),
        ])
    );
}

#[test]
fn a_denial_is_found_by_the_address_that_it_was_about_on_either_bus() {
    let daemon = Daemon::start();
    let host = json!({"fixed_address": "10.0.0.5", "floating_ip": "198.51.100.10"});
    daemon.call("Associate", host).unwrap();
    daemon.journal.audit();
    daemon.journal.audit();
    let denied = |via: &str, caller: &str| {
        of_root(
            "release",
            "denied",
            &[
                ("IPFLOATER_CALLER", caller),
                ("IPFLOATER_UID", "65534"),
                ("IPFLOATER_VIA", via),
                ("IPFLOATER_FIXED_ADDRESS", "10.0.0.5"),
                ("PRIORITY", "4"),
            ],
        )
    };

    let method = "org.ipfloater.Release";
    let answer = daemon.varlink_as(NOBODY, method, json!({"address": "10.0.0.5"}));
    assert_eq!(answer["error"], "org.varlink.service.PermissionDenied");
    let mut record = daemon.journal.audit();
    let message = record.remove("MESSAGE").unwrap();
    assert!(message.starts_with("denied for 198.51.100.10: user 65534 may not release"));
    let caller = record["IPFLOATER_CALLER"].clone();
    let process = caller.strip_prefix("pid:").expect("a process id");
    assert!(process.parse().is_ok_and(|process: u32| process > 1));
    assert_eq!(record, denied("varlink", &caller));

    let manager = [
        "call",
        "org.ipfloater",
        "/org/ipfloater",
        "org.ipfloater.Manager",
    ];
    let release = [
        &manager[..],
        &["Release", "sa{sv}", "198.51.100.10", "0"][..],
    ]
    .concat();
    daemon.busctl_as(NOBODY, &release).unwrap_err();
    let mut record = daemon.journal.audit();
    assert_eq!(record.remove("MESSAGE"), Some(message));
    let caller = record["IPFLOATER_CALLER"].clone();
    assert!(caller.starts_with(":1."), "a unique name: {caller}");
    assert_eq!(record, denied("dbus", &caller));

    let history = [&manager[..], &["History", "a{sv}", "0"][..]].concat();
    daemon.busctl_as(NOBODY, &history).unwrap_err();
    let record = daemon.journal.audit();
    assert_eq!(record["IPFLOATER_VERB"], "history");
    assert_eq!(record["IPFLOATER_OUTCOME"], "denied");
}

#[test]
fn who_may_nothing_cannot_fill_the_log_and_root_may() {
    let daemon = Daemon::start();
    let release = json!({"address": "198.51.100.10"});
    let by_nobody = |count: u32| {
        for _ in 0..count {
            let answer = daemon.varlink_as(NOBODY, "org.ipfloater.Release", release.clone());
            assert_eq!(answer["error"], "org.varlink.service.PermissionDenied");
        }
    };
    by_nobody(30);
    let denials: Vec<_> = std::iter::from_fn(|| Some(daemon.journal.audit()))
        .take_while(|record| record.contains_key("IPFLOATER_OUTCOME"))
        .collect();
    assert_eq!(denials.len(), 20);
    for _ in 0..30 {
        daemon.call("Release", release.clone()).unwrap();
    }
    let after = daemon.journal.rest();
    assert_eq!(after.len(), 30, "nothing of nobody's: {after:#?}");
    assert!(after.iter().all(|record| record["IPFLOATER_UID"] == "0"));

    // As soon as there is room again, what is missing is told.
    std::thread::sleep(ipfloater::audit::WINDOW);
    by_nobody(1);
    let missing = daemon.journal.audit();
    assert_eq!(missing["IPFLOATER_SUPPRESSED"], "10");
    assert_eq!(missing["IPFLOATER_UID"], "65534");
    assert_eq!(daemon.journal.audit()["IPFLOATER_OUTCOME"], "denied");
}
