//! Who is not to be let in, and who is and does harm.

use rcgen::ExtendedKeyUsagePurpose;

use super::*;

/// Each is refused, told why, and logged; and does no harm.
#[test]
fn certificates_that_are_not_let_in() {
    let remote = Remote::new();
    let authority = &remote.authority;
    let stranger = Authority::new("authority of the tests");
    let revoked = Wanted {
        serial: 66,
        ..Wanted::CLIENT
    };
    put(
        &remote.trusted(),
        "revoked.pem",
        &authority.revoke(&[65, 66]),
    );
    remote.reload("certificates revoked: 2");
    let cases = [
        (
            "of another authority with the same name",
            stranger.certify(&Wanted::CLIENT),
            "it does not trust the authority|it refused the certificate",
        ),
        (
            "expired",
            authority.certify(&Wanted {
                years: (2001, 2020),
                ..Wanted::CLIENT
            }),
            "has expired",
        ),
        (
            "not yet valid",
            authority.certify(&Wanted {
                years: (2080, 2090),
                ..Wanted::CLIENT
            }),
            "has expired, or is not valid yet|it refused",
        ),
        ("revoked", authority.certify(&revoked), "was revoked"),
        (
            "a server's",
            authority.certify(&Wanted {
                purpose: ExtendedKeyUsagePurpose::ServerAuth,
                ..Wanted::CLIENT
            }),
            "it refused the certificate",
        ),
    ];
    for (name, pair, words_of_it) in cases {
        remote.is_client(name, &pair);
        let before = remote.log().matches("refused").count();
        let output = remote.ask(&remote.lab.far, name, "list");
        let (text, complaint) = words(&output);
        assert_eq!(output.status.code(), Some(3), "{name}: {text}{complaint}");
        let is_said = |words: &str| complaint.contains(words);
        assert!(words_of_it.split('|').any(is_said), "{name}: {complaint}");
        eventually(name, || remote.log().matches("refused").count() > before);
        let log = remote.log();
        let said = [
            "what it showed says CN=ops (",
            "what it showed says CN=router (",
        ];
        let line = log.lines().rfind(|line| line.contains("refused"));
        let line = line.expect("it was refused");
        assert!(said.iter().any(|said| line.contains(said)), "{line}");
    }
    remote.is_well();
}

/// An authority gets a new key and keeps its name; one has expired. What each of
/// them has revoked is revoked, and nothing else.
#[test]
fn authorities_of_one_name() {
    let remote = Remote::new();
    let (old, expired) = (&remote.authority, Authority::expired("of yesterday"));
    let new = Authority::new("authority of the tests");
    let all = [old, &new, &expired].map(|authority| authority.certificate.as_str());
    put(&remote.trusted(), "clients.pem", &all.concat());
    let certificates = [
        ("old", old, 20, true),
        ("new", &new, 21, true),
        ("revoked by the old", old, 22, false),
        ("revoked by the new", &new, 23, false),
        ("revoked by the other", &new, 22, true),
        ("expired", &expired, 24, false),
    ];
    for (name, authority, serial, _) in &certificates {
        let wanted = Wanted {
            serial: *serial,
            ..Wanted::CLIENT
        };
        remote.is_client(name, &authority.certify(&wanted));
    }
    put(&remote.trusted(), "revoked.pem", &old.revoke(&[22]));
    remote.reload("certificates revoked: 1");
    assert!(remote.ask(&remote.lab.far, "new", "list").status.success());
    let lists = new.revoke(&[23]) + &old.revoke(&[22]);
    put(&remote.trusted(), "revoked.pem", &lists);
    remote.reload("certificates revoked: 2");
    for (name, _, _, is_let_in) in certificates {
        let output = remote.ask(&remote.lab.far, name, "list");
        assert_eq!(output.status.success(), is_let_in, "{name}: {output:?}");
    }
    assert!(
        remote
            .log()
            .contains("the authority CN=of yesterday is valid from")
    );
}

/// Who has shown nothing yet is not told whose certificates are let in.
#[test]
fn a_stranger_learns_no_names() {
    let remote = Remote::new();
    let address = SocketAddr::new(remote.address(Family::V4), ipfloater::remote::PORT);
    let said = remote.lab.far.run(|| {
        Command::new("openssl")
            .args(["s_client", "-connect", &address.to_string()])
            .stdin(Stdio::null())
            .output()
            .expect("it is there")
    });
    let (said, _) = words(&said);
    assert!(
        said.contains("No client certificate CA names sent"),
        "{said}"
    );
}

#[test]
fn a_stranger_without_a_certificate() {
    let remote = Remote::new();
    let mut stream = remote.speak(None);
    // With TLS 1.3 a client has finished before it is judged.
    let _ = stream.write_all(b"{\"method\":\"org.ipfloater.List\"}\0");
    let error = stream.read(&mut [0; 64]).expect_err("it is refused");
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    eventually("it is logged", || remote.log().contains("refused"));
    remote.is_well();
}

#[test]
fn who_does_not_speak_tls() {
    let remote = Remote::new();
    for said in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"{\"method\":\"org.ipfloater.List\"}\0",
        &[0x16, 3, 1, 0xff, 0xff],
        &[0; 100_000],
    ] {
        let mut stream = remote.dial(&remote.lab.far);
        let _ = stream.write_all(said);
        let _ = stream.shutdown(Shutdown::Write);
        let mut rest = Vec::new();
        // An alert at most, or the connection is cut.
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < 64, "{rest:?}");
    }
    eventually("they are logged", || {
        remote.log().matches("refused").count() == 4
    });
    remote.is_well();
}

/// A byte a second is not a handshake.
#[test]
fn a_slow_handshake() {
    let remote = Remote::new();
    let mut stream = remote.dial(&remote.lab.far);
    stream.write_all(&[0x16, 3, 1, 2, 0]).expect("it reads");
    let (deadline, mut written) = (soon(60), 0);
    while stream.write_all(&[1]).is_ok() {
        assert!(Instant::now() < deadline, "it reads for ever");
        std::thread::sleep(Duration::from_secs(1));
        written += 1;
        remote.is_well();
    }
    assert!(written > 5, "{written}");
    assert!(remote.log().contains("the handshake took more than 10 s"));
}

/// Their network has a few places, the log a few lines, and the others a router.
#[test]
fn a_thousand_at_once() {
    let remote = Remote::new();
    let strangers: Vec<_> = (0..1_000).map(|_| remote.dial(&remote.lab.far)).collect();
    remote.is_well();
    drop(strangers);
    eventually("they are gone", || {
        remote
            .ask(&remote.lab.far, "ops", "version")
            .status
            .success()
    });
    let lines = remote.log().matches("refused").count();
    assert!((10..100).contains(&lines), "{lines}");
}

/// And a thousand who have a certificate.
#[test]
fn a_guest_who_takes_all_places() {
    let remote = Remote::new();
    let mut stayed = Vec::new();
    for _ in 0..100 {
        let mut stream = remote.speak(Some("ops"));
        let asked = stream.write_all(b"{\"method\":\"org.ipfloater.GetVersion\"}\0");
        if asked.is_ok() && answer(&mut stream).contains("api_version") {
            stayed.push(stream);
        }
    }
    assert_eq!(stayed.len(), 32);
    // From elsewhere there is room.
    remote.is_well();
    drop(stayed);
    eventually("there is room again", || {
        remote
            .ask(&remote.lab.far, "ops", "version")
            .status
            .success()
    });
}

#[test]
fn what_is_no_call() {
    let remote = Remote::new();
    let deep = format!(
        "{{\"method\":\"org.ipfloater.List\",\"parameters\":{{\"a\":{}{}}}}}",
        "[".repeat(31),
        "]".repeat(31)
    );
    for (said, why) in [
        (vec![b'a'; 200_000], "more than 65536 bytes"),
        ([deep.as_bytes(), &[0]].concat(), "nested deeper than 32"),
        (b"\0".to_vec(), "what is no call"),
        (b"{\"method\":7}\0".to_vec(), "what is no call"),
    ] {
        let mut stream = remote.speak(Some("ops"));
        let _ = stream.write_all(&said);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert_eq!(rest, b"");
        eventually(why, || remote.log().contains(why));
    }
    remote.is_well();
}

/// A call that is never complete, and answers that are never read.
#[test]
fn who_is_slow_after_the_handshake() {
    let remote = Remote::new();
    let mut slow = remote.speak(Some("ops"));
    slow.write_all(b"{\"method\":").expect("it reads");
    slow.flush().expect("it reads");
    let mut deaf = remote.speak(Some("ops"));
    deaf.sock
        .set_write_timeout(Some(Duration::from_secs(30)))
        .expect("it is a socket");
    let calls = "{\"method\":\"org.varlink.service.GetInterfaceDescription\",\"parameters\":{\"interface\":\"org.ipfloater\"}}\0"
        .repeat(100_000);
    let ended = deaf.write_all(calls.as_bytes());
    assert!(ended.is_err(), "its answers are kept somewhere");
    remote.is_well();
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    for why in ["was not complete after 10s", "was not read for 10s"] {
        eventually(why, || remote.log().contains(why));
    }
}

/// A certificate that is revoked ends what was begun with it.
#[test]
fn a_certificate_is_revoked_while_it_is_used() {
    let remote = Remote::new();
    let other = Wanted {
        name: "other",
        serial: 11,
        ..Wanted::CLIENT
    };
    remote.is_client("other", &remote.authority.certify(&other));
    let watch = b"{\"method\":\"org.ipfloater.Monitor\",\"more\":true}\0";
    let mut watchers = ["ops", "other"].map(|name| {
        let mut stream = remote.speak(Some(name));
        stream.write_all(watch).expect("it reads");
        assert!(answer(&mut stream).contains("ready"));
        stream
    });

    // What is wrong is not taken, and nobody notices.
    put(&remote.trusted(), "revoked.pem", "nothing");
    remote.reload("going on with what was read before");
    remote.is_well();

    put(
        &remote.trusted(),
        "revoked.pem",
        &remote.authority.revoke(&[11]),
    );
    remote.reload("certificates revoked: 1");
    let [ops, other] = &mut watchers;
    let mut rest = Vec::new();
    let _ = other.read_to_end(&mut rest);
    assert_eq!(rest, b"");
    remote.daemon.order("allocate 198.51.100.12");
    assert!(answer(ops).contains("198.51.100.12"));
    assert!(
        !remote
            .ask(&remote.lab.far, "other", "version")
            .status
            .success()
    );
}
