//! `ipfloater-remote`: a router asked from another host, over TLS; and attacked.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipfloater::model::Family;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::daemon::Daemon;
use super::lab::{Host, Lab, floating};
use super::namespace::eventually;
use super::nobody::{NOBODY, give_to_nobody};
use super::talk::{Udp, saw};

mod attacks;
mod files;
mod guests;
mod pki;
mod sockets;

use pki::{Authority, Pair, Wanted, put};

/// The router's addresses, as its certificate has them.
const NAMES: [&str; 3] = ["198.51.100.2", "2001:db8::2", "router.example"];

/// A router that is asked from afar.
struct Remote {
    lab: Lab,
    daemon: Daemon,
    /// Of both sides.
    authority: Authority,
    child: Child,
}

impl Remote {
    fn new() -> Self {
        let lab = Lab::new();
        let daemon = lab.start();
        let authority = Authority::new("authority of the tests");
        let directory = daemon.directory();
        let trusted = directory.join("remote");
        authority.server(&NAMES).write(&trusted, "server");
        put(&trusted, "clients.pem", &authority.certificate);
        let remote = command(&daemon, &trusted);
        let child = lab.router.start(remote);
        let remote = Self {
            lab,
            daemon,
            authority,
            child,
        };
        remote.is_client("ops", &remote.authority.certify(&Wanted::CLIENT));
        eventually("it listens", || remote.log().contains("listening on"));
        remote
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.daemon.directory().join("remote.log"));
        log.expect("it was made")
    }

    /// Where its certificates are.
    fn trusted(&self) -> PathBuf {
        self.daemon.directory().join("remote")
    }

    /// Where those of a client are.
    fn client(&self, name: &str) -> PathBuf {
        self.daemon.directory().join("clients").join(name)
    }

    /// Gives a client its certificates.
    fn is_client(&self, name: &str, pair: &Pair) {
        let directory = self.client(name);
        pair.write(&directory, "client");
        put(&directory, "ca.pem", &self.authority.certificate);
    }

    /// Has it read its files again, and waits until it says this.
    fn reload(&self, said: &str) {
        let before = self.log().matches(said).count();
        let pid = i32::try_from(self.child.id()).expect("a pid is positive");
        kill(Pid::from_raw(pid), Signal::SIGHUP).expect("our child can be signalled");
        eventually(said, || self.log().matches(said).count() > before);
    }

    /// `ipfloater` on another host, which shows the certificate of that client.
    fn command(&self, name: &str, server: IpAddr, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ipfloater"));
        command
            .args(["--socket", "/nonexistent", "-i", &server.to_string()])
            .arg("--certificates")
            .arg(self.client(name))
            .args(line.split_whitespace());
        command
    }

    fn ask(&self, from: &Host, name: &str, line: &str) -> Output {
        let mut command = self.command(name, self.address(Family::V4), line);
        from.run(|| command.output().expect("it was built"))
    }

    /// The same, which must succeed.
    #[track_caller]
    fn order(&self, line: &str) -> String {
        let output = self.ask(&self.lab.far, "ops", line);
        let (text, complaint) = words(&output);
        assert!(output.status.success(), "{line}: {text}{complaint}");
        text
    }

    fn address(&self, family: Family) -> IpAddr {
        self.lab.router.address(family)
    }

    /// A connection without anything said.
    fn dial(&self, from: &Host) -> TcpStream {
        let address = SocketAddr::new(self.address(Family::V4), ipfloater::remote::PORT);
        from.run(|| {
            let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5));
            let stream = stream.expect("it listens");
            let patience = Some(Duration::from_secs(20));
            stream.set_read_timeout(patience).expect("it is a socket");
            stream
        })
    }

    /// A connection with the certificate of that client, or without any.
    fn speak(&self, name: Option<&str>) -> StreamOwned<ClientConnection, TcpStream> {
        self.speak_from(&self.lab.far, name)
    }

    fn speak_from(
        &self,
        from: &Host,
        name: Option<&str>,
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.authority.certificate.as_bytes());
        roots.add(authority.expect("PEM")).expect("a certificate");
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13])
            .expect("it is known")
            .with_root_certificates(roots);
        let config = match name.map(|name| self.client(name)) {
            None => builder.with_no_client_auth(),
            Some(directory) => {
                let certificate = CertificateDer::from_pem_file(directory.join("client.pem"));
                let key = PrivateKeyDer::from_pem_file(directory.join("client.key"));
                builder
                    .with_client_auth_cert(vec![certificate.expect("PEM")], key.expect("PEM"))
                    .expect("they belong together")
            }
        };
        let server = ServerName::from(self.address(Family::V4));
        let session = ClientConnection::new(Arc::new(config), server).expect("a session");
        StreamOwned::new(session, self.dial(from))
    }

    /// It serves those whom it should.
    #[track_caller]
    fn is_well(&self) {
        let output = self.ask(&self.lab.outside, "ops", "version");
        let (text, complaint) = words(&output);
        assert!(
            text.contains("Server version"),
            "{text}{complaint}\n{}",
            self.log()
        );
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("ipfloater-remote logged:\n{}", self.log());
        }
    }
}

/// `ipfloater-remote` before a daemon, with those files, as the daemon's user: it has
/// all rights without polkit.
fn command(daemon: &Daemon, trusted: &Path) -> Command {
    let log = daemon.directory().join("remote.log");
    let log = File::options().create(true).append(true).open(log);
    let log = log.expect("a file can be written");
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"])
        .args("--pdeathsig KILL --bounding-set -all --inh-caps -all --no-new-privs".split(' '))
        .arg(env!("CARGO_BIN_EXE_ipfloater-remote"))
        .arg("--directory")
        .arg(trusted)
        .args(["--listen", "[::]:7000"])
        .arg("--socket")
        .arg(daemon.directory().join("run/org.ipfloater"))
        .stdout(Stdio::null())
        .stderr(log);
    command
}

fn words(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn an_address_is_moved_from_another_host() {
    let remote = Remote::new();
    let lab = &remote.lab;
    for family in Family::BOTH {
        let floating = floating(family, 10);
        for host in [&lab.host_a, &lab.host_c] {
            let fixed = host.address(family);
            let line = format!("associate {floating} {fixed} --reassociate");
            let mut command = remote.command("ops", remote.address(family), &line);
            let output = lab.far.run(|| command.output().expect("it was built"));
            assert!(output.status.success(), "{:?}", words(&output));
            assert_eq!(
                lab.far.ask(Udp, floating),
                saw(host, lab.far.address(family))
            );
        }
    }
    for line in [
        "status",
        "list --json",
        "show 198.51.100.10",
        "ippool",
        "history",
        "counters --json",
        "version",
    ] {
        assert_eq!(remote.order(line), remote.daemon.order(line), "{line}");
    }
    assert!(remote.order("permissions").contains("allocate-own"));
    assert!(
        remote
            .order("top --views 1 --interval 1")
            .contains("FLOATING IP")
    );
    assert!(remote.order("metrics").contains("ipfloater_addresses"));
    let log = remote.log();
    assert!(
        log.contains("CN=ops") && log.contains("203.0.113.9:"),
        "{log}"
    );
    let called = log.lines().filter(|line| line.contains(" calls "));
    let called: Vec<_> = called.collect();
    assert_eq!(called.len(), 4, "{log}");
    for (line, family) in called
        .iter()
        .zip([Family::V4, Family::V4, Family::V6, Family::V6])
    {
        let address = format!("\"floating_ip\":\"{}\"", floating(family, 10));
        assert!(line.contains(" as CN=ops ("), "{line}");
        assert!(
            line.contains(") calls Associate: {") && line.contains(&address),
            "{line}"
        );
    }
}

#[test]
fn what_happens_is_watched_from_another_host() {
    let remote = Remote::new();
    let mut command = remote.command("ops", remote.address(Family::V6), "monitor --json");
    let mut child = remote.lab.far.start({
        command.stdout(Stdio::piped());
        command
    });
    let mut stdout = child.stdout.take().expect("it is piped");
    let mut heard = String::new();
    let mut hear = |text: &str| {
        let mut piece = [0; 4096];
        while !heard.contains(text) {
            let length = stdout.read(&mut piece).expect("it is a pipe");
            assert!(length > 0, "it ended: {heard}");
            heard.push_str(&String::from_utf8_lossy(&piece[..length]));
        }
    };
    hear("\"ready\":true");
    remote.daemon.order("allocate 198.51.100.12");
    hear("198.51.100.12");

    // It is gone, and its place is free, without anything that happens.
    let connections = || {
        let path = format!("/proc/{}/fd", remote.child.id());
        std::fs::read_dir(path).expect("it runs").count()
    };
    let before = connections();
    child.kill().expect("it runs");
    child.wait().expect("it was killed");
    eventually("it is noticed", || connections() < before);
}

#[test]
fn what_looks_at_the_router_is_done_there() {
    let remote = Remote::new();
    for verb in ["doctor", "import"] {
        let output = remote.ask(&remote.lab.far, "ops", verb);
        assert_eq!(output.status.code(), Some(2));
        let (_, complaint) = words(&output);
        assert!(
            complaint.contains(&format!("`ipfloater -H 198.51.100.2 {verb}`")),
            "{complaint}"
        );
    }
}

#[test]
fn the_daemon_may_stop_and_start() {
    let mut remote = Remote::new();
    let mut stream = remote.speak(Some("ops"));
    let version = b"{\"method\":\"org.ipfloater.GetVersion\"}\0";
    stream.write_all(version).expect("it reads");
    assert!(answer(&mut stream).contains("api_version"));
    remote.daemon.stop();
    stream.write_all(version).expect("it reads");
    let said = answer(&mut stream);
    assert!(
        said.contains("ipfloaterd is not reached on this host"),
        "{said}"
    );

    let output = remote.ask(&remote.lab.far, "ops", "list");
    let (_, complaint) = words(&output);
    assert_eq!(output.status.code(), Some(8), "{complaint}");
    assert!(
        complaint.contains("ipfloaterd is not reached on this host"),
        "{complaint}"
    );
    for _ in 0..2 {
        remote.daemon.start(&remote.lab.router);
        stream.write_all(version).expect("it reads");
        let said = answer(&mut stream);
        assert!(said.contains("api_version"), "{said}");
        // What it is connected to from now on is gone when it calls again.
        remote.daemon.stop();
    }
    remote.daemon.start(&remote.lab.router);
    remote.is_well();
}

/// Who says that he will say no more is answered.
#[test]
fn a_connection_may_be_half_closed() {
    let remote = Remote::new();
    let mut stream = remote.speak(Some("ops"));
    stream
        .write_all(b"{\"method\":\"org.ipfloater.GetVersion\"}\0{\"method\":\"org.ipfloater.ListPools\"}\0")
        .expect("it reads");
    stream.conn.send_close_notify();
    stream.flush().expect("it reads");
    stream.sock.shutdown(Shutdown::Write).expect("it is open");
    let said = answer(&mut stream) + &answer(&mut stream);
    assert!(
        said.contains("api_version") && said.contains("pools"),
        "{said}"
    );
}

/// One message, or what there is of it.
fn answer(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while let Ok(1) = stream.read(&mut byte) {
        if byte[0] == 0 {
            break;
        }
        bytes.push(byte[0]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Until when something that takes so long must be over.
fn soon(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}
