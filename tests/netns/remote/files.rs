//! Files that cannot be used, on either side: the error names the file and what
//! would be right.

use std::os::unix::fs::PermissionsExt;

use rcgen::{CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope};

use super::*;

/// What `ipfloater-remote --check` says of the files of a directory.
fn check(directory: &Path) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_ipfloater-remote"))
        .arg("--check")
        .arg("--directory")
        .arg(directory)
        .output()
        .expect("it was built");
    let (text, complaint) = words(&output);
    match output.status.success() {
        true => Ok(text),
        false => Err(complaint),
    }
}

#[test]
fn of_the_server() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let directory = directory.path();
    let (authority, stranger) = (Authority::new("ours"), Authority::new("another"));
    let good = authority.server(&NAMES);
    let refill = || {
        good.write(directory, "server");
        put(directory, "clients.pem", &authority.certificate);
        let _ = std::fs::remove_file(directory.join("revoked.pem"));
    };
    refill();
    let said = check(directory).expect("they are right");
    assert!(
        said.contains("CN=router") && said.contains("2090-01-01"),
        "{said}"
    );

    let remove = |name: &str| std::fs::remove_file(directory.join(name)).expect("it is there");
    type Fault<'a> = (&'a dyn Fn(), &'a [&'a str]);
    let point = || CrlIssuingDistributionPoint {
        distribution_point: CrlDistributionPoint {
            uris: vec!["http://ca.example/list".to_owned()],
        },
        scope: Some(CrlScope::UserCertsOnly),
    };
    let of_same_name = Authority::new("ours");
    let faults: [Fault; 14] = [
        (
            &|| remove("server.pem"),
            &["server.pem", "ipfloater-remote(8)"],
        ),
        (&|| remove("server.key"), &["server.key"]),
        (&|| remove("clients.pem"), &["clients.pem"]),
        (
            &|| put(directory, "server.pem", "hello"),
            &["server.pem holds no certificate"],
        ),
        (
            &|| put(directory, "server.key", &good.certificate),
            &["server.key holds no private key"],
        ),
        (
            &|| put(directory, "server.key", &stranger.server(&NAMES).key),
            &["server.key cannot be used"],
        ),
        (
            &|| authority.server(&[]).write(directory, "server"),
            &["names no host", "subjectAltName"],
        ),
        (
            &|| put(directory, "revoked.pem", &stranger.revoke(&[1])),
            &["revoked.pem holds the list of CN=another", "clients.pem"],
        ),
        (
            &|| put(directory, "revoked.pem", &of_same_name.revoke(&[1])),
            &["revoked.pem holds the list of CN=ours", "has signed"],
        ),
        (
            &|| {
                let list = authority.written_otherwise("ours").revoke(&[1]);
                put(directory, "revoked.pem", &list);
            },
            &["revoked.pem holds the list of CN=ours", "that very name"],
        ),
        (
            &|| {
                let lists = authority.revoke(&[1]) + &authority.revoke(&[1, 2]);
                put(directory, "revoked.pem", &lists);
            },
            &["revoked.pem holds two lists of CN=ours", "newer"],
        ),
        (
            &|| {
                let list = authority.list(&[1], 2090, Some(point()));
                put(directory, "revoked.pem", &list);
            },
            &["revoked.pem cannot be used", "issuingDistributionPoint"],
        ),
        (
            &|| put(directory, "clients.pem", &good.certificate),
            &["clients.pem holds the certificate of CN=router", "CA:TRUE"],
        ),
        (
            &|| {
                let all = std::fs::Permissions::from_mode(0o644);
                std::fs::set_permissions(directory.join("server.key"), all).expect("it is ours");
            },
            &["everybody may read the key", "chmod"],
        ),
    ];
    for (make, said) in faults {
        make();
        let complaint = check(directory).expect_err(said[0]);
        for words in said {
            assert!(complaint.contains(words), "{complaint}");
        }
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
        refill();
    }
    check(directory).expect("they are right again");

    // What makes nobody come in, or too many, is complained of.
    let expired = Authority::expired("of yesterday");
    let authorities = format!("{}{}", authority.certificate, expired.certificate);
    put(directory, "clients.pem", &authorities);
    put(directory, "revoked.pem", &authority.list(&[1], 2022, None));
    let said = check(directory).expect("they can be used");
    assert!(
        said.contains("the authority CN=of yesterday is valid from 2020-01-01"),
        "{said}"
    );
    assert!(
        said.contains("what CN=ours has revoked was to be replaced by 2022-01-01"),
        "{said}"
    );
}

#[test]
fn of_the_client() {
    let remote = Remote::new();
    let far = &remote.lab.far;
    let output = remote.ask(far, "nobody", "list");
    let (_, complaint) = words(&output);
    assert_eq!(output.status.code(), Some(2), "{complaint}");
    assert!(
        complaint.contains("client.pem") && complaint.contains("--certificates"),
        "{complaint}"
    );

    let ours = remote.authority.certify(&Wanted::CLIENT);
    remote.is_client("careless", &ours);
    put(
        &remote.client("careless"),
        "ca.pem",
        &Authority::new("another").certificate,
    );
    let (_, complaint) = words(&remote.ask(far, "careless", "list"));
    assert!(complaint.contains("of no authority in"), "{complaint}");

    // An authority that is none, or was one; a key that is no secret.
    for (file, text, said) in [
        (
            "ca.pem",
            ours.certificate.clone(),
            "CN=ops, which is no authority",
        ),
        (
            "ca.pem",
            Authority::expired("authority of the tests").certificate,
            "its authority has expired",
        ),
    ] {
        put(&remote.client("careless"), file, &text);
        let (_, complaint) = words(&remote.ask(far, "careless", "list"));
        assert!(complaint.contains(said), "{complaint}");
    }
    remote.is_client("careless", &ours);
    let key = remote.client("careless").join("client.key");
    let all = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&key, all).expect("it is ours");
    let output = remote.ask(far, "careless", "list");
    let (_, complaint) = words(&output);
    assert_eq!(output.status.code(), Some(2), "{complaint}");
    assert!(
        complaint.contains("everybody may read it; `chmod o= "),
        "{complaint}"
    );

    // Its certificate has another name.
    remote
        .authority
        .server(&["192.0.2.77"])
        .write(&remote.trusted(), "server");
    remote.reload("read again");
    let output = remote.ask(far, "ops", "list --json");
    let (text, _) = words(&output);
    assert_eq!(output.status.code(), Some(3));
    assert!(text.contains("its certificate is for 192.0.2.77"), "{text}");
    assert!(text.contains("\"exit_code\":3"), "{text}");

    // Nobody is there, and somebody who does not speak TLS.
    for (server, said) in [
        ("198.51.100.1 -p 9", "Connection refused"),
        ("198.51.100.2 -p 7001", "ipfloater-remote.socket"),
    ] {
        let line = format!("list -i {server}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_ipfloater"));
        command.arg("--certificates").arg(remote.client("ops"));
        command.args(line.split(' '));
        let output = far.run(|| command.output().expect("it was built"));
        let (_, complaint) = words(&output);
        assert_eq!(output.status.code(), Some(3), "{complaint}");
        assert!(complaint.contains(said), "{complaint}");
    }
}
