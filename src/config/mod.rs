//! The configuration: the original's file, unchanged, and what we added.
//!
//! INI, section `[IPFLOATER]`, one `[POOL name]` for each further pool, and
//! `[USER name]` and `[GROUP name]` for who may have more or less than others.
//! Fragments are merged key by key, the later one wins. A wrong value names
//! file, section, key, value and what would be right; keys that no longer apply
//! are named in a warning. [`check_against`] holds the result against a router.

mod check;
mod file;
mod limits;
mod lines;
mod pools;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use crate::model::{
    Announcing, Family, InterfaceName, Limit, Limits, PartialLimit, Permitted, Pool, PoolName,
    Site, Untranslated, UplinkNumbers, UplinkNumbersError,
};

pub use check::{Misfit, check_against};
pub use file::Place;
use file::{Section, Sections};

/// Where the configuration is when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/ipfloaterd.conf";

/// Where the original looked as well.
pub const ORIGINAL_PATH: &str = "/etc/ipfloater/ipfloaterd.conf";

/// The section of the original, which also describes the first pool.
const MAIN: &str = "IPFLOATER";

/// What the keys are called. The original's come first.
mod keys {
    pub(super) const IP_POOL: &str = "IP_POOL";
    pub(super) const IP_POOL_FILE: &str = "IP_POOL_FILE";
    pub(super) const PRIVATE_IP_RANGES: &str = "PRIVATE_IP_RANGES";
    pub(super) const BLOCK_PUBLIC_IPS: &str = "BLOCK_PUBLIC_IPS";
    pub(super) const OUTSIDE_INTERFACE: &str = "OUTSIDE_INTERFACE";
    pub(super) const ROUTED: &str = "ROUTED";
    pub(super) const PROBE: &str = "PROBE";
    pub(super) const ANNOUNCE_REFRESH: &str = "ANNOUNCE_REFRESH";
    pub(super) const GUARD_FORWARD: &str = "GUARD_FORWARD";
    pub(super) const COUNTERS: &str = "COUNTERS";
    pub(super) const NEVER_TRANSLATE: &str = "NEVER_TRANSLATE";
    pub(super) const LEAVE_IPSEC: &str = "LEAVE_IPSEC";
    pub(super) const GATEWAY: &str = "GATEWAY";
    pub(super) const UPLINK_MARKS: &str = "UPLINK_MARKS";
    pub(super) const UPLINK_TABLES: &str = "UPLINK_TABLES";
    pub(super) const RELEASED_ADDRESS_REST: &str = "RELEASED_ADDRESS_REST";
    pub(super) const QUOTA: &str = "QUOTA";
    pub(super) const PERMITTED_IP_RANGES: &str = "PERMITTED_IP_RANGES";

    /// Keys of the section `[IPFLOATER]`.
    pub(super) const MAIN: [&str; 18] = [
        IP_POOL,
        IP_POOL_FILE,
        PRIVATE_IP_RANGES,
        BLOCK_PUBLIC_IPS,
        OUTSIDE_INTERFACE,
        GATEWAY,
        ROUTED,
        PROBE,
        ANNOUNCE_REFRESH,
        GUARD_FORWARD,
        COUNTERS,
        NEVER_TRANSLATE,
        LEAVE_IPSEC,
        UPLINK_MARKS,
        UPLINK_TABLES,
        RELEASED_ADDRESS_REST,
        QUOTA,
        PERMITTED_IP_RANGES,
    ];

    /// Keys of a section `[POOL name]`.
    pub(super) const POOL: [&str; 7] = [
        IP_POOL,
        IP_POOL_FILE,
        OUTSIDE_INTERFACE,
        GATEWAY,
        ROUTED,
        PROBE,
        ANNOUNCE_REFRESH,
    ];

    /// Keys of a section `[USER name]` or `[GROUP name]`.
    pub(super) const LIMIT: [&str; 2] = [QUOTA, PERMITTED_IP_RANGES];

    /// Where the original kept its redirections.
    pub(super) const DB: &str = "DB";

    /// Keys of the original that no longer apply, and what to know instead.
    pub(super) const GONE: [(&str, &str); 6] = [
        (
            "LISTEN_IP",
            "the daemon has no network port; from afar use `ipfloater -H HOST`, or ipfloater-remote",
        ),
        (
            "LISTEN_PORT",
            "the daemon has no network port; from afar use `ipfloater -H HOST`, or ipfloater-remote",
        ),
        (
            "REST_IP",
            "there is no REST interface; D-Bus and varlink take its place",
        ),
        (
            "REST_PORT",
            "there is no REST interface; D-Bus and varlink take its place",
        ),
        (
            DB,
            "the store is in the state directory, /var/lib/ipfloater by default; `ipfloater import` takes \
             over what this one has",
        ),
        (
            "REMOVE_AT_BOOT",
            "it never had an effect; associations outlast a reboot",
        ),
    ];
}

/// Where fixed addresses lie when nobody says otherwise: RFC 1918, RFC 4193.
const DEFAULT_PRIVATE: [&str; 4] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

/// How long a released address is kept for its last owner when nobody says
/// otherwise: long enough to notice a mistake.
const DEFAULT_REST: Duration = Duration::from_secs(3_600);

/// How long it may be at most.
const LONGEST_REST: Duration = Duration::from_secs(365 * 86_400);

/// What the configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// About addresses and traffic.
    pub site: Site,
    /// What the administrator should know although it is no error.
    pub warnings: Vec<Warning>,
    /// The files that were read, in the order of their precedence.
    pub files: Vec<PathBuf>,
    /// Where the original kept its redirections, as it is written; it matters to
    /// `ipfloater import` alone.
    pub original_database: Option<String>,
}

/// What the administrator should know although it is no error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// A key of the original that no longer applies.
    #[error("{place}: {key} no longer applies: {instead}")]
    NoLongerApplies {
        /// Where it is.
        place: Place,
        /// Which.
        key: String,
        /// What to know instead.
        instead: &'static str,
    },
    /// A key in a section that nobody reads, neither the original.
    #[error("{place}, section [{section}]: nobody reads {key} there")]
    OfOthers {
        /// Where it is.
        place: Place,
        /// In which section.
        section: &'static str,
        /// Which.
        key: String,
    },
    /// The original read this file, and the usual one is missing.
    #[error(
        "{} is not read, which the original read: copy it to {DEFAULT_PATH}", .0.display()
    )]
    NotRead(PathBuf),
    /// The word behind an address in a file of addresses is of no use.
    #[error("{place}: {word} is passed over: {why}")]
    HardwareAddress {
        /// Where it is.
        place: Place,
        /// The word, quoted.
        word: String,
        /// What is wrong with it.
        why: String,
    },
    /// There are no addresses to give out.
    #[error("no pool has an address; set IP_POOL in the section [IPFLOATER]")]
    NoAddresses,
    /// A section describes a pool without addresses.
    #[error(
        "pool {0} has no address; set IP_POOL in the section [POOL {0}], or take the section away"
    )]
    EmptyPool(PoolName),
    /// A section describes somebody whom the user database does not know.
    #[error(
        "{place}: there is no {kind} {name}; the section is without effect until the next start or reload"
    )]
    Unknown {
        /// Where it is.
        place: Place,
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A family has floating IPs, and nowhere to lead them.
    #[error(
        "a pool has {0} addresses, but PRIVATE_IP_RANGES names no {0} range: none of them can be associated"
    )]
    NoPrivateRange(Family),
}

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no file.
    #[error(
        "there is no {}; copy /etc/default/ipfloaterd.conf there and set IP_POOL",
        .0.display()
    )]
    Missing(PathBuf),
    /// There is none, but the original had one elsewhere.
    #[error(
        "there is no {DEFAULT_PATH}, and {}, which the original read, is not read: copy it there",
        .0.display()
    )]
    Elsewhere(PathBuf),
    /// The file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no text, or far too long for a configuration.
    #[error("{} cannot be used: {why}", .path.display())]
    NoText {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// The file is no INI.
    #[error("{}, line {line}: {why}", .path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Where, counted from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// A section that nothing reads.
    #[error("{}: there is no section [{section}]; there are [IPFLOATER], [POOL name], [USER name] and [GROUP name]", .path.display())]
    UnknownSection {
        /// Where it is.
        path: PathBuf,
        /// Which.
        section: String,
    },
    /// A key that nothing reads.
    #[error("{place}, section [{section}]: there is no key {key}; {hint}")]
    UnknownKey {
        /// Where it is.
        place: Place,
        /// In which section.
        section: String,
        /// Which.
        key: String,
        /// What may have been meant.
        hint: String,
    },
    /// A key that is there twice in a file.
    #[error(
        "{place}, section [{section}]: {key} is there twice; keep one (the last is the one that \
         counted in the original)"
    )]
    Twice {
        /// Where the second is.
        place: Place,
        /// In which section.
        section: String,
        /// Which.
        key: String,
    },
    /// A value that is not what it should be.
    #[error("{place}, section [{section}], {key}: {value:?}: {why}")]
    Value {
        /// Where it is.
        place: Place,
        /// In which section.
        section: String,
        /// Of which key.
        key: &'static str,
        /// The value, or the part of it that is wrong.
        value: String,
        /// What would be right.
        why: String,
    },
    /// Two pools have the same addresses.
    #[error("the pools {first} and {second} both have {addresses}; an address belongs to one pool")]
    Overlap {
        /// One pool.
        first: PoolName,
        /// The other.
        second: PoolName,
        /// What both have.
        addresses: String,
    },
    /// A pool has addresses that are private.
    #[error(
        "pool {pool} has {addresses}, which lie in the private range {private}; floating IPs and fixed \
         addresses must be apart: correct IP_POOL or PRIVATE_IP_RANGES"
    )]
    PoolIsPrivate {
        /// The pool.
        pool: PoolName,
        /// Its addresses.
        addresses: String,
        /// The range of PRIVATE_IP_RANGES.
        private: IpNet,
    },
}

impl Settings {
    /// Reads the configuration: one file and the fragments beside it, in a
    /// directory of the same name with `.d` behind it. The default file may be
    /// missing when there are fragments; one that is named may not.
    pub fn load(config: Option<&Path>) -> Result<Self, ConfigError> {
        match config {
            Some(path) => Self::read(path, true, None),
            None => Self::read(
                Path::new(DEFAULT_PATH),
                false,
                Some(Path::new(ORIGINAL_PATH)),
            ),
        }
    }

    /// The same. Another file, which is not read, is named when it is there and the
    /// file is not.
    fn read(path: &Path, must_be_there: bool, other: Option<&Path>) -> Result<Self, ConfigError> {
        let other = other.filter(|other| !path.exists() && other.exists());
        let files = file::with_fragments(path, must_be_there)?;
        let mut sections = Sections::new();
        let mut warnings: Vec<_> = other
            .map(|other| Warning::NotRead(other.to_owned()))
            .into_iter()
            .collect();
        for file in &files {
            let text = file::read(file).map_err(|error| match (error, other) {
                (ConfigError::Missing(_), Some(other)) => ConfigError::Elsewhere(other.to_owned()),
                (error, _) => error,
            })?;
            file::merge(&mut sections, file, &text, &mut warnings)?;
        }
        Self::understand(sections, files, warnings)
    }

    fn understand(
        mut sections: Sections,
        files: Vec<PathBuf>,
        mut warnings: Vec<Warning>,
    ) -> Result<Self, ConfigError> {
        let main = sections
            .remove(MAIN)
            .unwrap_or_else(|| Section::new(MAIN, Path::new(DEFAULT_PATH).into(), 0));
        for (key, instead) in keys::GONE {
            if let Some(entry) = main.entry(key) {
                let (place, key) = (entry.place.clone(), key.to_owned());
                warnings.push(Warning::NoLongerApplies {
                    place,
                    key,
                    instead,
                });
            }
        }
        let private = private_ranges(&main)?;
        let default = pools::pool(PoolName::default_pool(), &main, &mut warnings)?;
        let mut pools = vec![default];
        let mut further: Vec<Section> = sections.into_values().collect();
        further.sort_by_key(|section| section.rank);
        let (further, of_users): (Vec<_>, Vec<_>) = further
            .into_iter()
            .partition(|section| section.word_and_name().0.eq_ignore_ascii_case("POOL"));
        let limits = limits::limits(&main, &of_users, &private, &mut warnings)?;
        for section in further {
            let pool = pools::pool(pools::name(&section)?, &section, &mut warnings)?;
            if pool.ranges.is_empty() {
                warnings.push(Warning::EmptyPool(pool.name.clone()));
            }
            pools.push(pool);
        }
        pools.retain(|pool| !pool.ranges.is_empty());
        check::disjoint(&pools)?;
        if main.entry(keys::PRIVATE_IP_RANGES).is_some() {
            check::apart(&pools, &private)?;
        }

        let site = Site {
            guard: main.flag(keys::GUARD_FORWARD)?.unwrap_or(true),
            block_free: main.flag(keys::BLOCK_PUBLIC_IPS)?.unwrap_or(true),
            counters: main.flag(keys::COUNTERS)?.unwrap_or(true),
            untranslated: untranslated(&main)?,
            uplink_numbers: uplink_numbers(&main)?,
            limits,
            rest: rest(&main)?,
            pools,
            private,
        };
        let (most, uplinks) = (site.uplink_numbers.most(), site.uplinks().len());
        if uplinks > most as usize {
            let mask = format!("{:#x}", site.uplink_numbers.mask());
            let why = format!("it tells {most} uplinks apart, and the pools have {uplinks}");
            return Err(main.wrong(keys::UPLINK_MARKS, &mask, why));
        }
        if site.pools.is_empty() {
            warnings.push(Warning::NoAddresses);
        }
        for family in Family::BOTH {
            let has_range = site
                .private
                .iter()
                .any(|net| Family::of(net.addr()) == family);
            if site.capacity(family) > 0 && !has_range {
                warnings.push(Warning::NoPrivateRange(family));
            }
        }
        Ok(Self {
            site,
            warnings,
            files,
            original_database: main.text(keys::DB).map(str::to_owned),
        })
    }
}

/// Where fixed addresses may lie. Host bits may be set, as in the original's
/// own file.
fn private_ranges(main: &Section) -> Result<Vec<IpNet>, ConfigError> {
    let Some(items) = main.list(keys::PRIVATE_IP_RANGES) else {
        return Ok(DEFAULT_PRIVATE
            .map(|net| net.parse().expect("the prefix is a constant"))
            .to_vec());
    };
    let net = |item: &str| {
        let why = "write a prefix such as 192.168.1.0/24 or fd00::/64";
        prefix(item).ok_or_else(|| main.wrong(keys::PRIVATE_IP_RANGES, item, why))
    };
    items.iter().map(|item| net(item)).collect()
}

/// How long a released address is kept for its last owner.
fn rest(main: &Section) -> Result<Duration, ConfigError> {
    let Some(text) = main.text(keys::RELEASED_ADDRESS_REST) else {
        return Ok(DEFAULT_REST);
    };
    span(text)
        .filter(|rest| *rest <= LONGEST_REST)
        .ok_or_else(|| {
            let why = "write seconds, or a number with s, m, h or d behind it such as 30m or 7d, \
                       at most 365d; 0 switches it off";
            main.wrong(keys::RELEASED_ADDRESS_REST, text, why)
        })
}

/// A time such as 90, 30m or 7d.
fn span(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    // A sign, which the number would take, is none of ours.
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_number)?;
    number.checked_mul(unit).map(Duration::from_secs)
}

/// So many destinations are never translated at most: the first packet of a
/// flow that leaves is held against each of them.
const MOST_DESTINATIONS: usize = 64;

/// A file that is there when the kernel has IPsec (`CONFIG_XFRM`,
/// net/xfrm/xfrm_sysctl.c). Others refuse a rule that asks for it.
const HAS_IPSEC: &str = "/proc/sys/net/core/xfrm_acq_expires";

/// What is never translated.
fn untranslated(main: &Section) -> Result<Untranslated, ConfigError> {
    let wrong = |item: &str, why: &str| main.wrong(keys::NEVER_TRANSLATE, item, why);
    let items = main.list(keys::NEVER_TRANSLATE).unwrap_or_default();
    if let Some(item) = items.get(MOST_DESTINATIONS) {
        return Err(wrong(item, "it is one too many: write at most 64 prefixes"));
    }
    let mut destinations = Vec::new();
    for item in &items {
        let net = prefix(item)
            .ok_or_else(|| wrong(item, "write a prefix such as 10.8.0.0/16 or fd08::/48"))?;
        if net.prefix_len() == 0 {
            return Err(wrong(
                item,
                "it is everywhere, and then nothing would be translated at all",
            ));
        }
        destinations.push(net);
    }
    destinations.sort_unstable();
    destinations.dedup();
    let has_ipsec = || Path::new(HAS_IPSEC).exists();
    Ok(Untranslated {
        destinations,
        ipsec: main.flag(keys::LEAVE_IPSEC)?.unwrap_or_else(has_ipsec),
    })
}

/// What tells uplinks apart.
fn uplink_numbers(main: &Section) -> Result<UplinkNumbers, ConfigError> {
    let default = UplinkNumbers::DEFAULT;
    let bits = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let marks = main.text(keys::UPLINK_MARKS);
    let tables = main.text(keys::UPLINK_TABLES);
    // What is no number is as wrong as 0.
    UplinkNumbers::new(
        marks.map_or(default.mask(), |text| bits(text).unwrap_or(0)),
        tables.map_or(default.first_rule(), |text| text.parse().unwrap_or(0)),
    )
    .map_err(|why| {
        let (key, text) = match why {
            UplinkNumbersError::Mask => (keys::UPLINK_MARKS, marks),
            UplinkNumbersError::Table => (keys::UPLINK_TABLES, tables),
        };
        main.wrong(key, text.unwrap_or_default(), why)
    })
}

/// A prefix, with its length or its mask, or an address as one that has only it.
fn prefix(text: &str) -> Option<IpNet> {
    let host = |address: IpAddr| IpNet::from(address);
    let with_mask = || {
        let (address, mask) = text.split_once('/')?;
        let mask: Ipv4Addr = mask.parse().ok()?;
        let net = Ipv4Net::with_netmask(address.parse().ok()?, mask);
        net.ok().map(IpNet::from)
    };
    let net = text
        .parse::<IpNet>()
        .ok()
        .or_else(|| text.parse().ok().map(host))
        .or_else(with_mask);
    net.map(|net| net.trunc())
}

/// What was understood, for `--check-config`.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            writeln!(f, "read {}", file.display())?;
        }
        for pool in &self.site.pools {
            let Pool {
                name,
                ranges,
                interface,
                gateways,
                routed,
                announcing,
                hardware_addresses: _,
            } = pool;
            let ranges: Vec<_> = ranges.iter().map(ToString::to_string).collect();
            let interface = interface
                .as_ref()
                .map_or("that of the default route", InterfaceName::as_str);
            let gateways: Vec<_> = gateways
                .iter()
                .map(|next| format!(", gateway {next}"))
                .collect();
            let routed = if *routed {
                ", routed to this router".to_owned()
            } else {
                neighbours(*announcing)
            };
            writeln!(
                f,
                "pool {name}: {}: {}; outside interface: {interface}{}{routed}",
                match pool.size() {
                    1 => "1 address".to_owned(),
                    u64::MAX => "more addresses than can be counted".to_owned(),
                    size => format!("{size} addresses"),
                },
                ranges.join(", "),
                gateways.concat(),
            )?;
        }
        let private: Vec<_> = self.site.private.iter().map(ToString::to_string).collect();
        writeln!(f, "private ranges: {}", private.join(", "))?;
        let word = |yes| if yes { "yes" } else { "no" };
        writeln!(
            f,
            "free pool addresses closed: {}",
            word(self.site.block_free)
        )?;
        writeln!(f, "forwarded packets guarded: {}", word(self.site.guard))?;
        writeln!(f, "packets counted: {}", word(self.site.counters))?;
        let Untranslated {
            destinations,
            ipsec,
        } = &self.site.untranslated;
        if !destinations.is_empty() {
            let destinations: Vec<_> = destinations.iter().map(ToString::to_string).collect();
            writeln!(f, "never translated: to {}", destinations.join(", "))?;
        }
        writeln!(f, "what IPsec takes is left alone: {}", word(*ipsec))?;
        writeln!(
            f,
            "released addresses kept for their last owner: {}",
            match self.site.rest.as_secs() {
                0 => "no".to_owned(),
                seconds => format!("{seconds} s"),
            }
        )?;
        write_limits(f, &self.site.limits)?;
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}

/// What the neighbours of a pool are asked and told.
fn neighbours(announcing: Announcing) -> String {
    let Announcing { probe, refresh } = announcing;
    let probe = match probe {
        None => ", neighbours not asked".to_owned(),
        Some(pools::PROBE) => String::new(),
        Some(probe) => format!(", neighbours asked for {} s", probe.as_secs()),
    };
    let refresh = refresh.map(|period| format!(", announced every {} s", period.as_secs()));
    probe + &refresh.unwrap_or_default()
}

fn write_limits(f: &mut fmt::Formatter<'_>, limits: &Limits) -> fmt::Result {
    let mut line = |who: &str, quota: Option<u32>, permitted: Option<&Permitted>| {
        let quota = quota.map(|quota| format!("at most {quota} addresses"));
        let ranges = permitted.map(|permitted| match permitted {
            Permitted::All => "for any private host".to_owned(),
            Permitted::Only(nets) => {
                let nets: Vec<_> = nets.iter().map(ToString::to_string).collect();
                format!("for hosts in {}", nets.join(", "))
            }
        });
        let both: Vec<_> = quota.into_iter().chain(ranges).collect();
        writeln!(f, "{who}: {}", both.join(", "))
    };
    let Limits {
        default: Limit { quota, permitted },
        users,
        groups,
    } = limits;
    line("each user", Some(*quota), Some(permitted))?;
    for (kind, limits) in [("user", users), ("each member of group", groups)] {
        for (id, PartialLimit { quota, permitted }) in limits {
            line(&format!("{kind} {id}"), *quota, permitted.as_ref())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
