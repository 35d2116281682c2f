//! What is listened on, by whom, and what a client may meet there.

use std::io::ErrorKind;
use std::net::TcpListener;

use super::*;

/// Each `ListenStream=` is a socket. systemd-socket-activate(1) gives them as systemd does.
#[test]
fn every_socket_is_served() {
    let remote = Remote::new();
    let usual = command(&remote.daemon, &remote.trusted());
    let arguments = usual
        .get_args()
        .filter(|argument| ![Some("--listen"), Some("[::]:7000")].contains(&argument.to_str()));
    let mut activate = Command::new("systemd-socket-activate");
    activate
        .args(["-l", "7010", "-l", "7011", "setpriv"])
        .args(arguments)
        .stderr(Stdio::null());
    let mut child = remote.lab.router.start(activate);
    for port in ["7010", "7011", "7010"] {
        eventually(port, || {
            let line = format!("version -p {port}");
            remote.ask(&remote.lab.far, "ops", &line).status.success()
        });
    }
    child.kill().expect("it runs");
    child.wait().expect("it was killed");
}

#[test]
fn nobody_has_the_rights_of_root_from_elsewhere() {
    let remote = Remote::new();
    let output = Command::new(env!("CARGO_BIN_EXE_ipfloater-remote"))
        .args(["--listen", "127.0.0.1:0", "--directory"])
        .arg(remote.trusted())
        .output()
        .expect("it was built");
    let (_, complaint) = words(&output);
    assert!(!output.status.success());
    assert!(complaint.contains("not as root"), "{complaint}");
}

/// The end of a tunnel is on this host and leads to another. What is there sends a
/// byte now and then, and keeps nobody for ever.
#[test]
fn a_server_that_never_comes_to_an_end() {
    let remote = Remote::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it has one").port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody connects");
        // The beginning of a record of 4 kB (RFC 8446, 5.1).
        stream.write_all(&[0x16, 3, 3, 0x10, 0])?;
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(500));
            stream.write_all(&[2])?;
        }
        Ok::<_, std::io::Error>(())
    });
    let output = Command::new(env!("CARGO_BIN_EXE_ipfloater"))
        .args(["version", "-i", "127.0.0.1", "-p", &port.to_string()])
        .arg("--certificates")
        .arg(remote.client("ops"))
        .output()
        .expect("it was built");
    let (_, complaint) = words(&output);
    assert_eq!(output.status.code(), Some(3), "{complaint}");
    assert!(complaint.contains("does not answer"), "{complaint}");
    let end = server
        .join()
        .expect("it ends")
        .expect_err("the client left");
    assert!(
        matches!(
            end.kind(),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
        ),
        "{end}"
    );
}
