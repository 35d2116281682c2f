//! How much a user may have.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{FixedIp, Uid};

/// A group id, as in getgid(2).
pub type Gid = u32;

/// How many addresses a user may own when the configuration does not say: what
/// OpenStack Neutron gives a project (`quota_floatingip`).
pub const DEFAULT_QUOTA: u32 = 50;

/// Which fixed addresses a user may associate floating IPs with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Permitted {
    /// All that are private.
    #[default]
    All,
    /// Those in one of these prefixes.
    Only(Vec<IpNet>),
}

impl Permitted {
    /// Whether the host is one of them.
    #[must_use]
    pub fn contains(&self, fixed: FixedIp) -> bool {
        match self {
            Permitted::All => true,
            Permitted::Only(nets) => nets.iter().any(|net| net.contains(&fixed.ip())),
        }
    }

    fn or(self, other: Permitted) -> Permitted {
        match (self, other) {
            (Permitted::Only(mut nets), Permitted::Only(others)) => {
                nets.extend(others);
                Permitted::Only(IpNet::aggregate(&nets))
            }
            (Permitted::All, _) | (_, Permitted::All) => Permitted::All,
        }
    }
}

/// What one user may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How many addresses.
    pub quota: u32,
    /// For which hosts.
    pub permitted: Permitted,
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            quota: DEFAULT_QUOTA,
            permitted: Permitted::default(),
        }
    }
}

/// What a section of the configuration says of a user or group. What it leaves
/// out is said elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartialLimit {
    /// How many addresses.
    pub quota: Option<u32>,
    /// For which hosts.
    pub permitted: Option<Permitted>,
}

/// What all users may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Who is named nowhere.
    pub default: Limit,
    /// Users who are named.
    pub users: BTreeMap<Uid, PartialLimit>,
    /// Groups whose members may have so much, each of them.
    pub groups: BTreeMap<Gid, PartialLimit>,
}

impl Limits {
    /// Whether the groups of a user make a difference.
    #[must_use]
    pub fn needs_groups(&self) -> bool {
        !self.groups.is_empty()
    }

    /// What a user who is in these groups may have: what his own section says;
    /// else the most that a section of his groups says; else the default.
    #[must_use]
    pub fn of(&self, uid: Uid, groups: &[Gid]) -> Limit {
        let own = self.users.get(&uid).cloned().unwrap_or_default();
        let of_groups = || groups.iter().filter_map(|gid| self.groups.get(gid));
        let most = || of_groups().filter_map(|limit| limit.quota).max();
        let widest = || {
            let permitted = of_groups().filter_map(|limit| limit.permitted.clone());
            permitted.reduce(Permitted::or)
        };
        Limit {
            quota: own.quota.or_else(most).unwrap_or(self.default.quota),
            permitted: own
                .permitted
                .or_else(widest)
                .unwrap_or_else(|| self.default.permitted.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(quota: Option<u32>, ranges: &[&str]) -> PartialLimit {
        let nets = || ranges.iter().map(|net| net.parse().unwrap()).collect();
        PartialLimit {
            quota,
            permitted: (!ranges.is_empty()).then(|| Permitted::Only(nets())),
        }
    }

    #[test]
    fn a_users_own_section_comes_before_the_groups_and_those_before_the_default() {
        let limits = Limits {
            default: Limit {
                quota: 2,
                permitted: Permitted::All,
            },
            users: [
                (1000, limit(Some(1), &[])),
                (1001, limit(None, &["10.1.0.0/16"])),
            ]
            .into(),
            groups: [
                (100, limit(Some(5), &["10.2.0.0/16"])),
                (101, limit(Some(9), &["10.3.0.0/16"])),
                (102, limit(None, &[])),
            ]
            .into(),
        };
        assert!(limits.needs_groups() && !Limits::default().needs_groups());
        for (uid, groups, quota, inside, outside) in [
            (1000, &[][..], 1, "10.9.0.1", None),
            (1000, &[100], 1, "10.2.0.1", Some("10.9.0.1")),
            (1001, &[100, 101], 9, "10.1.0.1", Some("10.2.0.1")),
            (1002, &[100, 101], 9, "10.3.0.1", Some("10.1.0.1")),
            (1002, &[100, 101], 9, "10.2.0.1", Some("10.9.0.1")),
            (1002, &[102], 2, "10.9.0.1", None),
            (1003, &[], 2, "10.9.0.1", None),
        ] {
            let limit = limits.of(uid, groups);
            assert_eq!(limit.quota, quota, "{uid} {groups:?}");
            assert!(limit.permitted.contains(inside.parse().unwrap()));
            if let Some(outside) = outside {
                let outside = outside.parse().unwrap();
                assert!(!limit.permitted.contains(outside), "{uid} {groups:?}");
            }
        }
    }
}
