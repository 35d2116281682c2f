//! What the daemon says: of itself, of the addresses, of the caller's rights.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::client::{Answer, Client, ClientError};
use crate::model::{Family, FloatingIp, PendingReason};
use crate::wire::{Address, Described, Events, Listed, Permissions, PoolInfo, Pools, Status};

use super::finding::{Finding, Id};

/// How long one page of a list may take.
const PAGE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// So many addresses that wait for the same thing are named one by one.
const NAMED: usize = 3;

/// What the daemon said.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) status: Status,
    pools: Vec<PoolInfo>,
    /// The addresses that are looked at: all that are not free, or the one that
    /// was asked for.
    addresses: Vec<Address>,
    /// Whether one was asked for.
    one: bool,
    permissions: Result<Permissions, String>,
    /// When the latest event was, in seconds since 1970 UTC.
    pub(super) latest: Option<i64>,
}

/// A floating IP in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) floating: IpAddr,
    /// The outside interface that its pool names.
    pub(super) interface: Option<String>,
    /// Whether its pool is routed here, so that no neighbour asks for it.
    pub(super) routed: bool,
    /// Its hosts, and whether they leave with it.
    pub(super) hosts: Vec<(IpAddr, bool)>,
}

impl Facts {
    /// Asks for everything. An address that the daemon does not take is its error.
    pub(super) fn look(
        connect: &dyn Fn() -> Result<Client, ClientError>,
        address: Option<&str>,
    ) -> Result<Self, ClientError> {
        let status: Status = call(connect, "GetStatus", Value::Null)?;
        let pools: Pools = call(connect, "ListPools", Value::Null)?;
        let addresses = match address {
            Some(address) => {
                let described: Described = call(connect, "Describe", json!({"address": address}))?;
                vec![described.address]
            }
            None => {
                let mut all = Vec::new();
                for page in connect()?.more("List", json!({}), Some(PAGE_PATIENCE))? {
                    let page: Answer<Listed> = page?;
                    all.extend(page.message.addresses);
                }
                all
            }
        };
        let permissions = call(connect, "GetPermissions", json!({"address": address}));
        let events: Result<Events, _> = call(connect, "History", json!({"limit": 1}));
        Ok(Self {
            status,
            pools: pools.pools,
            addresses,
            one: address.is_some(),
            permissions: permissions.map_err(|error| error.to_string()),
            latest: events
                .ok()
                .and_then(|events| Some(events.events.first()?.at)),
        })
    }

    /// The outside interface that each pool names, by family.
    pub(super) fn outside(&self) -> BTreeSet<(Family, Option<String>)> {
        let mut outside = BTreeSet::new();
        for pool in &self.pools {
            let asked = |family: Family| {
                // Of one address only its family counts.
                !self.one
                    || self.addresses.iter().any(|address| {
                        address.floating_ip.family() == family
                            && address.pool.as_ref() == Some(&pool.name)
                    })
            };
            let families = pool.ranges().map(|range| range.family());
            let families = families.filter(|family| asked(*family));
            outside.extend(families.map(|family| (family, pool.interface.clone())));
        }
        outside
    }

    /// Whether a pool has an address.
    pub(super) fn of_a_pool(&self, floating: FloatingIp) -> bool {
        self.pools.iter().any(|pool| pool.contains(floating))
    }

    /// The addresses in use.
    pub(super) fn subjects(&self) -> Vec<Subject> {
        let subject = |address: &Address| {
            let pool = self
                .pools
                .iter()
                .find(|pool| Some(&pool.name) == address.pool.as_ref());
            let mut hosts: Vec<_> = address
                .fixed_address
                .iter()
                .map(|fixed| (fixed.ip(), true))
                .collect();
            for forward in &address.forwards {
                let host = forward.fixed_address.ip();
                if hosts.iter().all(|(known, _)| *known != host) {
                    hosts.push((host, false));
                }
            }
            Subject {
                floating: address.floating_ip.ip(),
                interface: pool.and_then(|pool| pool.interface.clone()),
                routed: pool.is_some_and(|pool| pool.routed),
                hosts,
            }
        };
        let subjects = self.addresses.iter().map(subject);
        subjects
            .filter(|subject| !subject.hosts.is_empty())
            .collect()
    }

    /// Whether a text that names addresses names one that is looked at.
    fn concerns(&self, text: &str) -> bool {
        let mut words = text.split(|c: char| !c.is_ascii_hexdigit() && !".:".contains(c));
        let is_looked_at = |word: &str| {
            let address: Option<IpAddr> = word.trim_end_matches(':').parse().ok();
            let mut all = self.addresses.iter();
            address.is_some_and(|address| all.any(|each| each.floating_ip.ip() == address))
        };
        !self.one || words.any(is_looked_at)
    }

    /// How many addresses are in use whose hosts the caller may not know.
    fn hidden(&self) -> usize {
        let is_hidden = |address: &&Address| {
            matches!(address.state.as_str(), "active" | "pending")
                && address.fixed_address.is_none()
                && address.forwards.is_empty()
        };
        self.addresses.iter().filter(is_hidden).count()
    }
}

fn call<M: DeserializeOwned>(
    connect: &dyn Fn() -> Result<Client, ClientError>,
    method: &str,
    parameters: Value,
) -> Result<M, ClientError> {
    Ok(connect()?.call(method, parameters)?.message)
}

/// The daemon was not reached.
pub(super) fn unreachable(error: &ClientError) -> Finding {
    Finding::error(Id::DaemonUnreachable, error.to_string())
        .because("floating IPs go on as they were, and nothing can be altered or looked at")
        .mend("systemctl start ipfloaterd")
}

/// The daemon tells this user nothing.
pub(super) fn refused(error: &ClientError) -> Finding {
    Finding::note(Id::NotPermitted, format!("the daemon says: {error}"))
        .because("what can be seen without it was looked at, and no address by itself")
        .mend("sudo ipfloater doctor")
}

/// What the daemon says of itself.
pub(super) fn itself(facts: &Facts) -> Vec<Finding> {
    let Status {
        problems,
        warnings,
        simulated,
        ..
    } = &facts.status;
    let mut findings = Vec::new();
    if *simulated {
        findings.push(
            Finding::error(Id::Simulated, "ipfloaterd runs on a kernel in memory")
                .because("it was started with --simulate, and no packet is translated")
                .mend("systemctl restart ipfloaterd"),
        );
    }
    let mut told: Vec<_> = pending(facts);
    let by_address = |finding: &Finding| finding.id == Id::AddressElsewhere;
    let elsewhere = told.iter().any(by_address);
    for problem in problems {
        let contested = problem.starts_with(PendingReason::CONTESTED);
        if contested && (elsewhere || !facts.concerns(problem)) {
            continue;
        }
        let id = if contested {
            Id::AddressElsewhere
        } else {
            Id::DaemonProblem
        };
        findings.push(Finding::error(id, problem).mend("journalctl -u ipfloaterd -n 50"));
    }
    findings.append(&mut told);
    let warning = |text: &String| Finding::note(Id::DaemonWarning, text);
    findings.extend(warnings.iter().map(warning));
    findings
}

/// What addresses wait for. Many that wait for the same are told of at once.
fn pending(facts: &Facts) -> Vec<Finding> {
    let mut waiting: BTreeMap<&str, Vec<IpAddr>> = BTreeMap::new();
    for address in &facts.addresses {
        if let Some(reason) = &address.reason {
            waiting
                .entry(reason)
                .or_default()
                .push(address.floating_ip.ip());
        }
    }
    let mut findings = Vec::new();
    for (reason, addresses) in waiting {
        if reason.starts_with(PendingReason::PROBING) {
            // Over in a moment.
            let note = |address: &IpAddr| Finding::note(Id::Pending, reason).of(*address);
            findings.extend(addresses.iter().map(note));
            continue;
        }
        if reason.starts_with(PendingReason::CONTESTED) {
            let each = |address: &IpAddr| Finding::elsewhere(*address, reason);
            findings.extend(addresses.iter().map(each));
            continue;
        }
        if addresses.len() > NAMED {
            let what = format!("{} addresses are pending: {reason}", addresses.len());
            let finding = Finding::error(Id::Pending, what);
            findings.push(finding.mend("ipfloater list --state pending"));
            continue;
        }
        let each = |address: &IpAddr| {
            let what = format!("{address} is pending: {reason}");
            let finding = Finding::error(Id::Pending, what);
            finding
                .mend(format!("ipfloater show {address}"))
                .of(*address)
        };
        findings.extend(addresses.iter().map(each));
    }
    findings
}

/// What the address that was asked for lacks.
pub(super) fn asked(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for address in facts.addresses.iter().filter(|_| facts.one) {
        let floating = address.floating_ip.ip();
        if matches!(address.state.as_str(), "free" | "allocated") && address.forwards.is_empty() {
            let what = format!("{floating} has no host");
            findings.push(
                Finding::error(Id::NotAssociated, what)
                    .because("an address that no host has is closed")
                    .mend(format!("ipfloater associate {floating} FIXED"))
                    .of(floating),
            );
        }
        if let Value::Array(sources) = json!(address.allowed_sources)
            && !sources.is_empty()
        {
            let sources: Vec<_> = sources.iter().filter_map(Value::as_str).collect();
            let what = format!("only {} may reach {floating}", sources.join(", "));
            findings.push(
                Finding::note(Id::SourcesLimited, what)
                    .mend(format!("ipfloater show {floating}"))
                    .of(floating),
            );
        }
    }
    findings
}

/// What the caller may not do, and may not see.
pub(super) fn rights(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let may_alter = |permissions: &Permissions| {
        permissions.permissions.iter().any(|each| {
            let looks = ["org.ipfloater.inspect", "org.ipfloater.inspect-all"];
            !looks.contains(&each.action.as_str()) && each.permission != "no"
        })
    };
    match &facts.permissions {
        Ok(permissions) if may_alter(permissions) => {}
        Ok(_) => findings.push(
            Finding::note(Id::NotPermitted, "this user may look, and alter nothing")
                .because("polkit decides, by the rules of the administrator")
                .mend("ipfloater permissions"),
        ),
        Err(why) => findings.push(
            Finding::note(
                Id::NotPermitted,
                format!("what this user may do cannot be found out: {why}"),
            )
            .mend("ipfloater permissions"),
        ),
    }
    let hidden = facts.hidden();
    if hidden > 0 {
        let what = format!("the hosts of {hidden} addresses are their owners' secret");
        findings.push(Finding::note(Id::NotLookedAt, what).mend("sudo ipfloater doctor"));
    }
    findings
}
