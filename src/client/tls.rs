//! The way to an ipfloater-remote: TLS, with a certificate on either side.

use std::env;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, RootCertStore, StreamOwned,
};

use super::place::Timed;
use super::{ClientError, Place};
use crate::certificate::{Particulars, now};
use crate::model::Timestamp;
use crate::text;

/// The certificate that is shown, its key, and the authority of the other side.
const FILES: [&str; 3] = ["client.pem", "client.key", "ca.pem"];

/// How long connecting to an address, and then the handshake, may take in all.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the files are when nobody says otherwise: the user's own before those
/// of the host.
#[must_use]
pub fn usual_directory() -> PathBuf {
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".config"));
    let own = env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(home)
        .map(|config| config.join("ipfloater"));
    own.filter(|own| own.join(FILES[0]).exists())
        .unwrap_or_else(|| PathBuf::from("/etc/ipfloater"))
}

/// Connects, and shows the certificate of the directory.
pub(super) fn connect(
    host: &str,
    port: u16,
    directory: &Path,
) -> Result<StreamOwned<ClientConnection, Timed<TcpStream>>, ClientError> {
    let place = || Place::Remote {
        host: host.to_owned(),
        port,
    };
    let unreachable = |source| ClientError::Unreachable {
        place: place(),
        source,
    };
    let config = config(directory)?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| unreachable(io::Error::other("this is no name of a host and no address")))?;
    let mut session = ClientConnection::new(Arc::new(config), name)
        .map_err(|error| distrust(place(), directory, &error))?;
    let stream = dial(host, port).map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let mut stream = Timed::new(stream);
    stream.within(Some(PATIENCE));
    while session.is_handshaking() {
        session
            .complete_io(&mut stream)
            .map_err(|error| failed(place(), directory, error))?;
    }
    Ok(StreamOwned::new(session, stream))
}

/// What became of a connection: whether it is about trust, and what to do then.
pub(super) fn failed(place: Place, directory: &Path, error: io::Error) -> ClientError {
    let reason = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match reason {
        Some(reason) => distrust(place, directory, reason),
        None => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => ClientError::Silent(place),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                ClientError::Closed(place)
            }
            _ => ClientError::Broken {
                place,
                source: error,
            },
        },
    }
}

fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "there is no such host");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn config(directory: &Path) -> Result<ClientConfig, ClientError> {
    let [certificate, key, authority] = FILES.map(|name| directory.join(name));
    let chain = certificates(&certificate)?;
    let bytes = read(&key)?;
    if is_public(&key) {
        let why = format!("everybody may read it; `chmod o= {}`", key.display());
        return Err(wrong(&key, why));
    }
    let secret = PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|why| wrong(&key, format!("it holds no private key: {why}")))?;
    let mut roots = RootCertStore::empty();
    for root in certificates(&authority)? {
        let said = Particulars::of(&root)
            .ok_or_else(|| wrong(&authority, "it holds a broken certificate".to_owned()))?;
        if !said.is_authority {
            let why = "which is no authority (basicConstraints=CA:TRUE)";
            let why = format!("it holds the certificate of {}, {why}", said.subject);
            return Err(wrong(&authority, why));
        }
        // One that has expired may stay beside the new one.
        if said.is_valid(now()) {
            roots
                .add(root)
                .map_err(|why| wrong(&authority, why.to_string()))?;
        }
    }
    if roots.is_empty() {
        let why = "its authority has expired, or is not valid yet";
        return Err(wrong(&authority, why.to_owned()));
    }
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .and_then(|builder| {
            builder
                .with_root_certificates(roots)
                .with_client_auth_cert(chain, secret)
        })
        .map_err(|why| match why {
            rustls::Error::InvalidCertificate(why) => wrong(&certificate, unusable(&why)),
            why => wrong(&key, why.to_string()),
        })
}

/// What is wrong with a certificate of ours. openssl-x509(1) makes one of version 1
/// when it is given no extension.
fn unusable(why: &CertificateError) -> String {
    let why = format!("{why:?}");
    match why.contains("UnsupportedCertVersion") {
        true => "it is of version 1 of X.509; version 3 has an extension, such as \
                 extendedKeyUsage=clientAuth"
            .to_owned(),
        false => why,
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let bytes = read(file)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|why| wrong(file, why.to_string()))?;
    match certificates.is_empty() {
        true => Err(wrong(file, "it holds no certificate in PEM".to_owned())),
        false => Ok(certificates),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, ClientError> {
    fs::read(file).map_err(|error| wrong(file, error.to_string()))
}

/// Whether others than its owner and group may read it. One that cannot be looked
/// at was not read either.
fn is_public(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0)
}

fn wrong(file: &Path, why: String) -> ClientError {
    let file = file.to_owned();
    ClientError::Certificate { file, why }
}

/// Why one side does not trust the other, and what would help.
fn distrust(place: Place, directory: &Path, error: &rustls::Error) -> ClientError {
    let [certificate, _, authority] = FILES.map(|name| directory.join(name));
    let (ours, theirs) = (certificate.display(), authority.display());
    let why = match error {
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::UnknownCA => {
                format!("it does not trust the authority of the certificate in {ours}")
            }
            AlertDescription::CertificateExpired => {
                format!("the certificate in {ours} has expired, or is not valid yet")
            }
            AlertDescription::CertificateRevoked => {
                format!("the certificate in {ours} was revoked")
            }
            AlertDescription::CertificateRequired => "it wants a certificate".to_owned(),
            other => format!("it refused the certificate in {ours} ({other:?})"),
        },
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::UnknownIssuer => {
                format!("its certificate is of no authority in {theirs}")
            }
            CertificateError::ExpiredContext { not_after, .. } => {
                format!("its certificate expired on {}", date(not_after))
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                format!("its certificate is not valid before {}", date(not_before))
            }
            CertificateError::NotValidForNameContext { presented, .. } => {
                let names = presented.iter().map(|name| bare(name));
                let names: Vec<_> = names.collect();
                format!("its certificate is for {}", names.join(", "))
            }
            other => format!("its certificate cannot be trusted: {other}"),
        },
        rustls::Error::InvalidMessage(_) => "what listens there does not speak TLS".to_owned(),
        other => other.to_string(),
    };
    ClientError::Distrust {
        place,
        why: text::harmless(&why).into_owned(),
    }
}

fn date(moment: &UnixTime) -> Timestamp {
    // Certificates end with the year 9999 (RFC 5280, 4.1.2.5).
    Timestamp(i64::try_from(moment.as_secs()).unwrap_or(i64::MAX))
}

/// A name as people write it, out of `DnsName("router.example")`.
fn bare(name: &str) -> &str {
    let name = name.split_once('(').map_or(name, |(_, name)| name);
    name.trim_matches(['(', ')', '"'])
}
