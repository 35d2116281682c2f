//! Authorities, certificates and lists, as an administrator makes them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::give_to_nobody;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams,
    CrlIssuingDistributionPoint, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};

/// An authority.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) certificate: String,
}

/// What a certificate is for, and when.
pub(super) struct Wanted {
    pub(super) name: &'static str,
    pub(super) purpose: ExtendedKeyUsagePurpose,
    pub(super) serial: u64,
    /// First and last year.
    pub(super) years: (i32, i32),
}

impl Wanted {
    pub(super) const CLIENT: Wanted = Wanted {
        name: "ops",
        purpose: ExtendedKeyUsagePurpose::ClientAuth,
        serial: 10,
        years: (2020, 2090),
    };
}

/// A certificate and its key.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        Self::with_key(DnValue::Utf8String(name.to_owned()), key, 2090)
    }

    /// One that has expired.
    pub(super) fn expired(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        Self::with_key(DnValue::Utf8String(name.to_owned()), key, 2021)
    }

    /// The same key, and the same name in other bytes.
    pub(super) fn written_otherwise(&self, name: &str) -> Self {
        let key = KeyPair::from_pem(&self.issuer.key().serialize_pem()).expect("a key");
        let name = name.try_into().expect("printable characters");
        Self::with_key(DnValue::PrintableString(name), key, 2090)
    }

    fn with_key(name: DnValue, key: KeyPair, until: i32) -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    pub(super) fn certify(&self, wanted: &Wanted) -> Pair {
        self.with(wanted, &[])
    }

    /// A certificate for a server with these names and addresses.
    pub(super) fn server(&self, names: &[&str]) -> Pair {
        let wanted = Wanted {
            name: "router",
            purpose: ExtendedKeyUsagePurpose::ServerAuth,
            serial: 2,
            ..Wanted::CLIENT
        };
        self.with(&wanted, names)
    }

    fn with(&self, wanted: &Wanted, names: &[&str]) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params
            .distinguished_name
            .push(DnType::CommonName, wanted.name);
        params.extended_key_usages = vec![wanted.purpose.clone()];
        params.serial_number = Some(SerialNumber::from(wanted.serial));
        params.not_before = date_time_ymd(wanted.years.0, 1, 1);
        params.not_after = date_time_ymd(wanted.years.1, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// The list of what it has revoked.
    pub(super) fn revoke(&self, serials: &[u64]) -> String {
        self.list(serials, 2090, None)
    }

    /// A list until a year, of all certificates or of those that name a point.
    pub(super) fn list(
        &self,
        serials: &[u64],
        until: i32,
        point: Option<CrlIssuingDistributionPoint>,
    ) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: point,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("a list");
        list.pem().expect("PEM")
    }
}

impl Pair {
    /// Writes them as `NAME.pem` and `NAME.key`.
    pub(super) fn write(&self, directory: &Path, name: &str) {
        put(directory, &format!("{name}.pem"), &self.certificate);
        put(directory, &format!("{name}.key"), &self.key);
    }
}

/// Writes a file that its owner and group may read.
pub(super) fn put(directory: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(directory).expect("a directory");
    let file = directory.join(name);
    std::fs::write(&file, text).expect("a file can be written");
    let mode = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(&file, mode).expect("it is ours");
    give_to_nobody(&file);
}
