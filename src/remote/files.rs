//! Certificates and keys: four files of a directory, read all or nothing.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ConfigBuilder, ServerConfig, WantsVerifier};

use super::authorities::{Authorities, Doorkeeper};
use crate::certificate::{Particulars, now};
use crate::model::Timestamp;

/// The certificate that this program shows, and those between it and its authority.
const SERVER: &str = "server.pem";

/// Its key.
const KEY: &str = "server.key";

/// The authorities whose certificates are let in.
const CLIENTS: &str = "clients.pem";

/// What these authorities have revoked; need not be there.
const REVOKED: &str = "revoked.pem";

/// How many seconds before it expires the certificate is complained of.
const SOON: i64 = 14 * 86_400;

/// What is shown, and who is let in.
#[derive(Debug)]
pub struct Trust {
    server: ConfigBuilder<ServerConfig, WantsVerifier>,
    shown: Arc<SingleCertAndKey>,
    identity: Identity,
    authorities: Arc<Authorities>,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {}: {source}{}", .file.display(), remedy(.source))]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is no PEM, or holds something else.
    #[error("{} holds no {wanted}: {why}", .file.display())]
    NotPem {
        /// Which.
        file: PathBuf,
        /// What it should hold.
        wanted: &'static str,
        /// What is wrong.
        why: pem::Error,
    },
    /// Everybody may read the key.
    #[error("everybody may read the key {}; `chmod o= {}`", .0.display(), .0.display())]
    Public(PathBuf),
    /// The certificate names no host, so that nobody would trust it.
    #[error(
        "the certificate in {} names no host; it needs a subjectAltName such as DNS:router.example or IP:203.0.113.1",
        .0.display()
    )]
    Nameless(PathBuf),
    /// What should be the certificate of an authority is another one.
    #[error(
        "{} holds the certificate of {subject}, which is no authority (basicConstraints=CA:TRUE)",
        .file.display()
    )]
    NoAuthority {
        /// Which file.
        file: PathBuf,
        /// Whose certificate.
        subject: String,
    },
    /// A list is not of an authority that is trusted.
    #[error(
        "{} holds the list of {issuer}, which no authority in {CLIENTS} of that very name has signed",
        .file.display()
    )]
    Foreign {
        /// Which file.
        file: PathBuf,
        /// Whose list.
        issuer: String,
    },
    /// One authority has two lists.
    #[error("{} holds two lists of {issuer}; leave the newer one there", .file.display())]
    Two {
        /// Which file.
        file: PathBuf,
        /// Whose lists.
        issuer: String,
    },
    /// It cannot be used.
    #[error("{} cannot be used: {why}", .file.display())]
    Unusable {
        /// Which.
        file: PathBuf,
        /// Why not.
        why: String,
    },
}

impl Trust {
    /// Reads the files of the directory.
    pub fn read(directory: &Path) -> Result<Self, FileError> {
        let place = |name: &str| directory.join(name);
        let provider = Arc::new(default_provider());
        let chain: Vec<CertificateDer<'static>> = several(&place(SERVER), "certificate")?;
        let key = key(&place(KEY))?;
        let identity = Identity::of(&chain);
        if !identity.names_host {
            return Err(FileError::Nameless(place(SERVER)));
        }
        let authorities =
            Authorities::read(&place(CLIENTS), &place(REVOKED), Arc::clone(&provider))?;
        let shown = CertifiedKey::from_der(chain, key, &provider)
            .map_err(|why| unusable(&place(KEY), why))?;
        let server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|why| unusable(&place(KEY), why))?;
        Ok(Self {
            server,
            shown: Arc::new(SingleCertAndKey::from(shown)),
            identity,
            authorities: Arc::new(authorities),
        })
    }

    /// What a handshake is made with, and who judges it.
    pub(super) fn door(&self) -> (Arc<ServerConfig>, Arc<Doorkeeper>) {
        let doorkeeper = Arc::new(Doorkeeper::new(Arc::clone(&self.authorities)));
        let mut server = self
            .server
            .clone()
            .with_client_cert_verifier(Arc::clone(&doorkeeper) as Arc<_>)
            .with_cert_resolver(Arc::clone(&self.shown) as Arc<_>);
        // Whoever comes again shows his certificate again: it may be revoked by now.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        (Arc::new(server), doorkeeper)
    }

    /// Whether this certificate would be let in now; the error says why not.
    pub(super) fn judge(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        self.authorities.judge(chain)
    }

    /// What the administrator should know, before it is too late if possible.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let Identity { subject, until, .. } = &self.identity;
        let left = until.map_or(i64::MAX, |until| until.0 - now().0);
        let until = until.map(|until| until.to_string()).unwrap_or_default();
        let of_ours = match left {
            ..0 => Some(format!(
                "the certificate of {subject} expired on {until}: nobody trusts it any more"
            )),
            0..SOON => Some(format!(
                "the certificate of {subject} expires on {until}: renew it, and reload"
            )),
            SOON.. => None,
        };
        let complaints = of_ours.into_iter().chain(self.authorities.complaints());
        complaints.collect()
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shows the certificate of {}", self.identity.subject)?;
        if let Some(until) = self.identity.until {
            write!(f, ", valid until {}", until)?;
        }
        write!(
            f,
            "; authorities whose certificates are let in: {}; certificates revoked: {}",
            self.authorities.count(),
            self.authorities.revoked()
        )
    }
}

/// Who a certificate is.
#[derive(Clone, Debug)]
pub struct Identity {
    subject: String,
    fingerprint: String,
    until: Option<Timestamp>,
    names_host: bool,
}

impl Identity {
    /// Who the first certificate is; the others are authorities.
    #[must_use]
    pub fn of(chain: &[CertificateDer<'_>]) -> Self {
        let der = chain.first().map(AsRef::as_ref).unwrap_or_default();
        let particulars = Particulars::of(der);
        Self {
            fingerprint: fingerprint(der),
            until: particulars.as_ref().map(|said| said.until),
            names_host: particulars.as_ref().is_some_and(|said| said.names_host),
            subject: particulars.map_or_else(
                || "a certificate of which no name can be read".to_owned(),
                |said| said.subject,
            ),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity {
            subject,
            fingerprint,
            ..
        } = self;
        write!(f, "{subject} ({fingerprint})")
    }
}

/// As `openssl x509 -noout -fingerprint -sha256` prints it.
fn fingerprint(der: &[u8]) -> String {
    let Some(suite) = TLS13_AES_128_GCM_SHA256.tls13() else {
        return String::new();
    };
    let digest = suite.common.hash_provider.hash(der);
    let bytes: Vec<_> = digest.as_ref().iter().map(|b| format!("{b:02X}")).collect();
    bytes.join(":")
}

fn key(file: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    let bytes = read(file)?;
    let metadata = fs::metadata(file).map_err(|source| unreadable(file, source))?;
    if metadata.permissions().mode() & 0o007 != 0 {
        return Err(FileError::Public(file.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|why| not_pem(file, "private key", why))
}

/// All things of a kind in a file, one at least.
pub(super) fn several<T: PemObject>(
    file: &Path,
    wanted: &'static str,
) -> Result<Vec<T>, FileError> {
    let bytes = read(file)?;
    let things = T::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let things = things.map_err(|why| not_pem(file, wanted, why))?;
    match things.is_empty() {
        true => Err(not_pem(file, wanted, pem::Error::NoItemsFound)),
        false => Ok(things),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(file).map_err(|source| unreadable(file, source))
}

fn unreadable(file: &Path, source: io::Error) -> FileError {
    let file = file.to_owned();
    FileError::Unreadable { file, source }
}

fn not_pem(file: &Path, wanted: &'static str, why: pem::Error) -> FileError {
    let file = file.to_owned();
    FileError::NotPem { file, wanted, why }
}

pub(super) fn unusable(file: &Path, why: impl fmt::Display) -> FileError {
    FileError::Unusable {
        file: file.to_owned(),
        why: why.to_string(),
    }
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::PermissionDenied => {
            "; its group has to be that of this program: `chgrp ipfloater-remote` and `chmod 640`"
        }
        ErrorKind::NotFound => "; ipfloater-remote(8) says how it is made",
        _ => "",
    }
}
