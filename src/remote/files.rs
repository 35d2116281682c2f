//! Certificates and keys: four files of a directory, read all or nothing.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime, pem,
};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{RootCertStore, ServerConfig};
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;

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
    pub(super) server: Arc<ServerConfig>,
    clients: Arc<dyn ClientCertVerifier>,
    identity: Identity,
    authorities: usize,
    revoked: usize,
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
    /// A list is not of an authority that is trusted.
    #[error(
        "{} holds the list of {issuer}, which has no certificate in {CLIENTS}",
        .file.display()
    )]
    Foreign {
        /// Which file.
        file: PathBuf,
        /// Whose list.
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
        if !names_a_host(&chain[0]) {
            return Err(FileError::Nameless(place(SERVER)));
        }

        let clients = place(CLIENTS);
        let roots: Vec<CertificateDer<'static>> = several(&clients, "certificate")?;
        let authorities = roots.len();
        let subjects: Vec<_> = roots.iter().map(|root| subject(root)).collect();
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root).map_err(|why| unusable(&clients, why))?;
        }
        let lists = revoked(&place(REVOKED), &subjects)?;
        let revoked = lists.iter().map(entries).sum();
        let builder = WebPkiClientVerifier::builder_with_provider(store.into(), provider.clone())
            .with_crls(lists)
            // An authority without a list has revoked nothing.
            .allow_unknown_revocation_status();
        let verifier = builder
            .build()
            .map_err(|why| unusable(&place(REVOKED), why))?;
        let server = server(provider, verifier.clone(), chain, key)
            .map_err(|why| unusable(&place(KEY), why))?;
        Ok(Self {
            server: Arc::new(server),
            clients: verifier,
            identity,
            authorities,
            revoked,
        })
    }

    /// Whether this certificate would be let in now; the error says why not.
    pub(super) fn judge(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let Some((end, between)) = chain.split_first() else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        let judged = self
            .clients
            .verify_client_cert(end, between, UnixTime::now());
        judged.map(drop)
    }

    /// What the administrator should know before it is too late.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        let Identity { subject, until, .. } = &self.identity;
        let until = (*until)?;
        let now = i64::try_from(UnixTime::now().as_secs()).ok()?;
        let left = until.0 - now;
        match left {
            ..0 => Some(format!(
                "the certificate of {subject} expired on {until}: nobody trusts it any more"
            )),
            0..SOON => Some(format!(
                "the certificate of {subject} expires on {until}: renew it, and reload"
            )),
            SOON.. => None,
        }
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
            self.authorities, self.revoked
        )
    }
}

fn server(
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    // Whoever comes again shows his certificate again: it may be revoked by now.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Ok(server)
}

/// Who a certificate is.
#[derive(Clone, Debug)]
pub struct Identity {
    subject: String,
    fingerprint: String,
    until: Option<Timestamp>,
}

impl Identity {
    /// Who the first certificate is; the others are authorities.
    #[must_use]
    pub fn of(chain: &[CertificateDer<'_>]) -> Self {
        let der = chain.first().map(AsRef::as_ref).unwrap_or_default();
        let until = Certificate::from_der(der).ok().map(|certificate| {
            let validity = certificate.tbs_certificate().validity();
            // Certificates end with the year 9999 (RFC 5280, 4.1.2.5).
            let until = validity.not_after.to_unix_duration().as_secs();
            Timestamp(i64::try_from(until).unwrap_or(i64::MAX))
        });
        Self {
            subject: subject(der),
            fingerprint: fingerprint(der),
            until,
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

/// The name that a certificate has (RFC 4514).
fn subject(der: &[u8]) -> String {
    match Certificate::from_der(der) {
        Ok(certificate) => certificate.tbs_certificate().subject().to_string(),
        Err(_) => "a certificate of which no name can be read".to_owned(),
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

fn names_a_host(der: &[u8]) -> bool {
    let Ok(certificate) = Certificate::from_der(der) else {
        return false;
    };
    let names = certificate
        .tbs_certificate()
        .get_extension::<SubjectAltName>();
    matches!(names, Ok(Some((_, names))) if !names.0.is_empty())
}

fn key(file: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    let bytes = read(file)?;
    let metadata = fs::metadata(file).map_err(|source| unreadable(file, source))?;
    if metadata.permissions().mode() & 0o007 != 0 {
        return Err(FileError::Public(file.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|why| not_pem(file, "private key", why))
}

/// The lists of the file, if there is one. Each is of an authority that is trusted.
fn revoked(
    file: &Path,
    authorities: &[String],
) -> Result<Vec<CertificateRevocationListDer<'static>>, FileError> {
    let lists: Vec<CertificateRevocationListDer<'static>> = match several(file, "X509 CRL") {
        Err(FileError::Unreadable { source, .. }) if source.kind() == ErrorKind::NotFound => {
            return Ok(Vec::new());
        }
        lists => lists?,
    };
    for list in &lists {
        let issuer = CertificateList::<x509_cert::certificate::Rfc5280>::from_der(list.as_ref())
            .map_err(|why| unusable(file, why))?
            .tbs_cert_list
            .issuer
            .to_string();
        if !authorities.contains(&issuer) {
            return Err(FileError::Foreign {
                file: file.to_owned(),
                issuer,
            });
        }
    }
    Ok(lists)
}

/// How many certificates a list has.
fn entries(list: &CertificateRevocationListDer<'_>) -> usize {
    CertificateList::<x509_cert::certificate::Rfc5280>::from_der(list.as_ref())
        .ok()
        .and_then(|list| Some(list.tbs_cert_list.revoked_certificates?.len()))
        .unwrap_or(0)
}

/// All things of a kind in a file, one at least.
fn several<T: PemObject>(file: &Path, wanted: &'static str) -> Result<Vec<T>, FileError> {
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

fn unusable(file: &Path, why: impl fmt::Display) -> FileError {
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
