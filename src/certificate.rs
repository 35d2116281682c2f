//! What certificates say of themselves, for [`crate::client`] and [`crate::remote`].
//!
//! rustls judges certificates; but of an authority it takes the name and the key
//! for granted, and leaves it to the administrator whether it is one and how long.

use std::time::{SystemTime, UNIX_EPOCH};

use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::{BasicConstraints, SubjectAltName};
use x509_cert::time::Time;

use crate::model::Timestamp;
use crate::text;

/// How much of a name is told, in characters: an X.509 name has no bound.
const NAME: usize = 128;

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Particulars {
    /// Its name (RFC 4514), harmless and not too long.
    pub subject: String,
    /// Since when it is valid.
    pub from: Timestamp,
    /// Until when it is.
    pub until: Timestamp,
    /// Whether it may certify others (basicConstraints, RFC 5280, 4.2.1.9).
    pub is_authority: bool,
    /// Whether it names a host.
    pub names_host: bool,
}

impl Particulars {
    /// Of a certificate in DER; `None` when it is none.
    #[must_use]
    pub fn of(der: &[u8]) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        let certificate = certificate.tbs_certificate();
        let validity = certificate.validity();
        let constraints = certificate.get_extension::<BasicConstraints>();
        let names = certificate.get_extension::<SubjectAltName>();
        let subject = certificate.subject().to_string();
        Some(Self {
            subject: text::harmless(&subject).chars().take(NAME).collect(),
            from: moment(&validity.not_before),
            until: moment(&validity.not_after),
            is_authority: matches!(constraints, Ok(Some((_, constraints))) if constraints.ca),
            names_host: matches!(names, Ok(Some((_, names))) if !names.0.is_empty()),
        })
    }

    /// Whether it is valid at that moment.
    #[must_use]
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.from <= now && now <= self.until
    }
}

/// A moment as certificates and lists have it. They end with the year 9999 (RFC
/// 5280, 4.1.2.5).
#[must_use]
pub fn moment(time: &Time) -> Timestamp {
    let seconds = time.to_unix_duration().as_secs();
    Timestamp(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// The moment of now.
#[must_use]
pub fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.unwrap_or_default().as_secs();
    Timestamp(i64::try_from(seconds).unwrap_or(i64::MAX))
}
