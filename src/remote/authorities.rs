//! Whose certificates are let in: authorities, each with the list of what it has
//! revoked.
//!
//! One verifier an authority: rustls looks for a list by the name of its issuer
//! alone, takes the first, and lets in what none is for. Two authorities may have
//! one name, as when one of them gets a new key. So that nothing is passed over, a
//! list is given to the authority whose name and key it is of, to the letter, and
//! one that nobody would look at is refused when it is read.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use x509_cert::Certificate;
use x509_cert::certificate::Rfc5280;
use x509_cert::crl::CertificateList;
use x509_cert::der::asn1::{Any, AnyRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{self, Decode, Reader, SliceReader, Tag, Tagged};
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::files::{FileError, Identity, several, unusable};
use crate::certificate::{Particulars, moment, now};
use crate::model::Timestamp;

/// The extension of a list that is of some certificates only,
/// issuingDistributionPoint (RFC 5280, 5.2.5); x509-cert 0.3.0 has another number for it.
const PARTIAL: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.28");

/// Those whose certificates are let in.
#[derive(Debug)]
pub(super) struct Authorities {
    each: Vec<Authority>,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
struct Authority {
    particulars: Particulars,
    list: Option<List>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// What an authority has revoked.
#[derive(Debug)]
struct List {
    der: CertificateRevocationListDer<'static>,
    entries: usize,
    /// Until when there is to be another one.
    until: Option<Timestamp>,
}

impl Authorities {
    /// Reads the authorities, and their lists if there are any.
    pub(super) fn read(
        clients: &Path,
        revoked: &Path,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, FileError> {
        let certificates: Vec<CertificateDer<'static>> = several(clients, "certificate")?;
        let mut lists = lists(revoked)?;
        let mut each = Vec::new();
        for certificate in certificates {
            each.push(Authority::new(
                certificate,
                &mut lists,
                clients,
                revoked,
                &provider,
            )?);
        }
        if let Some(list) = lists.first() {
            return Err(FileError::Foreign {
                file: revoked.to_owned(),
                issuer: issuer(list),
            });
        }
        Ok(Self { each, provider })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.each.len()
    }

    /// How many certificates they have revoked.
    pub(super) fn revoked(&self) -> usize {
        let lists = self.each.iter().filter_map(|each| each.list.as_ref());
        lists.map(|list| list.entries).sum()
    }

    /// Whether this certificate is let in now; the error says why not.
    pub(super) fn judge(&self, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
        let Some((end, between)) = chain.split_first() else {
            return Err(Error::NoCertificatesPresented);
        };
        let mut why = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for authority in &self.each {
            match authority.judge(end, between) {
                Ok(()) => return Ok(()),
                // It is of another authority, perhaps one of the same name.
                Err(Error::InvalidCertificate(
                    CertificateError::UnknownIssuer | CertificateError::BadSignature,
                )) => {}
                Err(other) => why = other,
            }
        }
        Err(why)
    }

    /// What the administrator should know of them.
    pub(super) fn complaints(&self) -> impl Iterator<Item = String> + '_ {
        let now = now();
        self.each.iter().flat_map(move |each| {
            let Particulars {
                subject,
                from,
                until,
                ..
            } = &each.particulars;
            let authority = (!each.particulars.is_valid(now)).then(|| {
                format!(
                    "the authority {subject} is valid from {from} until {until}: none of its certificates is let in"
                )
            });
            let list = each.list.as_ref().and_then(|list| list.until);
            let list = list.filter(|until| *until < now).map(|until| {
                format!(
                    "the list of what {subject} has revoked was to be replaced by {until}: \
                     what it has revoked since is let in"
                )
            });
            authority.into_iter().chain(list)
        })
    }
}

impl Authority {
    /// An authority with its list, which is taken out of all of them.
    fn new(
        certificate: CertificateDer<'static>,
        lists: &mut Vec<CertificateRevocationListDer<'static>>,
        clients: &Path,
        revoked: &Path,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, FileError> {
        let parsed = Certificate::from_der(&certificate).map_err(|why| unusable(clients, why))?;
        let particulars = Particulars::of(&certificate);
        let particulars = particulars.ok_or_else(|| unusable(clients, "a broken certificate"))?;
        if !particulars.is_authority {
            return Err(FileError::NoAuthority {
                file: clients.to_owned(),
                subject: particulars.subject,
            });
        }
        let mut store = RootCertStore::empty();
        store
            .add(certificate)
            .map_err(|why| unusable(clients, why))?;
        let name = store.roots[0].subject.as_ref();
        let is_its = |list: &mut CertificateRevocationListDer<'_>| {
            is_signed_by(list, name, &parsed, provider).unwrap_or(false)
        };
        let mut its = lists.extract_if(.., is_its);
        let (list, second) = (its.next(), its.next());
        drop(its);
        if second.is_some() {
            return Err(FileError::Two {
                file: revoked.to_owned(),
                issuer: particulars.subject,
            });
        }
        let list = list.map(|list| List::read(list, revoked)).transpose()?;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(store.into(), Arc::clone(provider))
                .with_crls(list.iter().map(|list| list.der.clone()))
                // An authority without a list has revoked nothing.
                .allow_unknown_revocation_status()
                .build()
                .map_err(|why| unusable(revoked, why))?;
        Ok(Self {
            particulars,
            list,
            verifier,
        })
    }

    fn judge(&self, end: &CertificateDer<'_>, between: &[CertificateDer<'_>]) -> Result<(), Error> {
        let time = UnixTime::now();
        self.verifier.verify_client_cert(end, between, time)?;
        match self.particulars.is_valid(now()) {
            true => Ok(()),
            false => Err(CertificateError::Expired.into()),
        }
    }
}

impl List {
    fn read(der: CertificateRevocationListDer<'static>, file: &Path) -> Result<Self, FileError> {
        let list = CertificateList::<Rfc5280>::from_der(der.as_ref());
        let list = list.map_err(|why| unusable(file, why))?.tbs_cert_list;
        let extensions = list.crl_extensions.unwrap_or_default();
        // Of a certificate that does not name the same point it says nothing.
        if extensions
            .iter()
            .any(|extension| extension.extn_id == PARTIAL)
        {
            let why = "the list is of some certificates only (issuingDistributionPoint)";
            return Err(unusable(file, why));
        }
        Ok(Self {
            der,
            entries: list.revoked_certificates.map_or(0, |revoked| revoked.len()),
            until: list.next_update.as_ref().map(moment),
        })
    }
}

/// The lists of the file, if there is one.
fn lists(file: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, FileError> {
    match several(file, "X509 CRL") {
        Err(FileError::Unreadable { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(Vec::new())
        }
        lists => lists,
    }
}

/// Whose list it is, as it says.
fn issuer(list: &CertificateRevocationListDer<'_>) -> String {
    match CertificateList::<Rfc5280>::from_der(list.as_ref()) {
        Ok(list) => list.tbs_cert_list.issuer.to_string(),
        Err(why) => format!("nobody ({why})"),
    }
}

/// Whether a list has this name, to the letter, and is signed by this key.
fn is_signed_by(
    list: &CertificateRevocationListDer<'_>,
    name: &[u8],
    authority: &Certificate,
    provider: &CryptoProvider,
) -> der::Result<bool> {
    let (signed, issuer) = signed_part(list.as_ref())?;
    let list = CertificateList::<Rfc5280>::from_der(list.as_ref())?;
    let key = authority.tbs_certificate().subject_public_key_info();
    let (of_key, of_list) = (
        identifier(&key.algorithm)?,
        identifier(&list.signature_algorithm)?,
    );
    let mut algorithms = provider.signature_verification_algorithms.all.iter();
    Ok(issuer == name
        && algorithms.any(|algorithm| {
            algorithm.public_key_alg_id().as_ref() == of_key
                && algorithm.signature_alg_id().as_ref() == of_list
                && algorithm
                    .verify_signature(
                        key.subject_public_key.raw_bytes(),
                        signed,
                        list.signature.raw_bytes(),
                    )
                    .is_ok()
        }))
}

/// The part of a list that is signed, and its issuer, as they are written (RFC
/// 5280, 5.1).
fn signed_part(list: &[u8]) -> der::Result<(&[u8], &[u8])> {
    let mut list = SliceReader::new(AnyRef::from_der(list)?.value())?;
    let signed = list.tlv_bytes()?;
    let mut fields = SliceReader::new(AnyRef::from_der(signed)?.value())?;
    // The algorithm, unless the version comes before it.
    if AnyRef::decode(&mut fields)?.tag() == Tag::Integer {
        AnyRef::decode(&mut fields)?;
    }
    Ok((signed, AnyRef::decode(&mut fields)?.value()))
}

/// An algorithm as rustls names it.
fn identifier(algorithm: &AlgorithmIdentifierOwned) -> der::Result<Vec<u8>> {
    Ok(Any::encode_from(algorithm)?.value().to_vec())
}

/// Judges one handshake, and remembers who it was.
#[derive(Debug)]
pub(super) struct Doorkeeper {
    authorities: Arc<Authorities>,
    shown: OnceLock<Identity>,
}

impl Doorkeeper {
    pub(super) fn new(authorities: Arc<Authorities>) -> Self {
        Self {
            authorities,
            shown: OnceLock::new(),
        }
    }

    /// Whose certificate was refused, as it says itself.
    pub(super) fn shown(&self) -> Option<&Identity> {
        self.shown.get()
    }
}

impl ClientCertVerifier for Doorkeeper {
    /// A stranger is not told whom this router trusts.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain: Vec<_> = std::iter::once(end).chain(between).cloned().collect();
        let judged = self.authorities.judge(&chain);
        if judged.is_err() {
            self.shown.get_or_init(|| Identity::of(&chain));
        }
        judged.map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.authorities.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.authorities.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.authorities.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
