//! `ipfloater doctor`: what stops traffic, and how it is mended.
//!
//! Part of the command line: it looks as the user who calls it, by what the
//! kernel tells over netlink and in /proc and by what the daemon answers; it starts
//! no program, alters nothing, and says what it could not look at. It sends next to
//! nothing: to the outside link a question for each address, and an empty datagram
//! to each host of an address that is asked about, to see whether the host is there.
//!
//! | file | looks at |
//! | --- | --- |
//! | `daemon` | the daemon, addresses, rights |
//! | `terrain`, `ways` | interfaces, routes, neighbours |
//! | `settings` | forwarding, reverse path filters, bridges |
//! | `tables`, `places`, `packet`, `remedies` | other programs' tables |
//! | `rivals` | other machines with an address of ours |
//! | `flows` | flows that nobody answers |
//! | `system` | conntrack, kernel, clock, bus, configuration |
//!
//! In each a part looks and another turns what was seen into findings; the order
//! of both is here.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use serde::Serialize;

mod daemon;
mod finding;
mod flows;
mod packet;
mod places;
mod remedies;
mod rivals;
mod settings;
mod shell;
mod system;
mod tables;
mod terrain;
mod ways;

pub use finding::{Finding, Id, Severity};

use crate::client::{Client, ClientError, bus_presence};
use crate::kernel::{Hidden, KernelError, OriginalTraces, look, observe_links};
use crate::model::Family;
use daemon::{Facts, Subject};
use settings::Settings;
use terrain::Terrain;

/// What was found, the worst first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The faults.
    pub findings: Vec<Finding>,
    /// How many of them are errors.
    pub errors: usize,
    /// How many are warnings.
    pub warnings: usize,
    /// How many are notes.
    pub notes: usize,
}

impl Report {
    fn new(mut findings: Vec<Finding>) -> Self {
        findings.sort();
        findings.dedup();
        let count = |severity| {
            let alike = |finding: &&Finding| finding.severity == severity;
            findings.iter().filter(alike).count()
        };
        Self {
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            notes: count(Severity::Note),
            findings,
        }
    }

    /// Whether there is a finding of this kind.
    #[must_use]
    pub fn has(&self, id: Id) -> bool {
        self.findings.iter().any(|finding| finding.id == id)
    }
}

/// Looks at everything, or at what concerns one address. `waits` is told, with the
/// number of hosts, when it takes long to find out whether they are there. The
/// daemon's refusal of the address is an error; that it is not reached, a finding.
pub fn examine(
    connect: &dyn Fn() -> Result<Client, ClientError>,
    address: Option<&str>,
    waits: &mut dyn FnMut(usize),
) -> Result<Report, ClientError> {
    let mut findings = Vec::new();
    let facts = match Facts::look(connect, address) {
        Ok(facts) => Some(facts),
        Err(error) if error.is_denied() => {
            findings.push(daemon::refused(&error));
            None
        }
        Err(refused @ ClientError::Refused(_)) => return Err(refused),
        Err(error) => {
            findings.push(daemon::unreachable(&error));
            findings.extend(system::configuration());
            None
        }
    };
    if let Some(facts) = &facts {
        findings.extend(daemon::itself(facts));
        findings.extend(daemon::asked(facts));
        findings.extend(daemon::rights(facts));
        findings.extend(facts.latest.and_then(|latest| system::clock(now(), latest)));
    }
    let outside = match &facts {
        Some(facts) => facts.outside(),
        None => by_default_route(),
    };
    let subjects = facts.as_ref().map(Facts::subjects).unwrap_or_default();
    let ask = address.is_some().then_some(waits);
    let terrain = match Terrain::look(&outside, &subjects, ask) {
        Ok(terrain) => terrain,
        Err(error) => {
            findings.push(not_looked_at("interfaces and routes", &error));
            Terrain::default()
        }
    };
    findings.extend(of_terrain(&terrain));
    let told = match rivals::look(&terrain) {
        Ok(found) => rivals::elsewhere(&found, &findings),
        Err(error) => vec![not_looked_at(
            "whether another machine has a floating IP",
            &error,
        )],
    };
    findings.extend(told);
    findings.extend(of_tables(&terrain, facts.is_some()));
    findings.extend(system::conntrack().and_then(system::conntrack_full));
    findings.extend(of_kernel());
    findings.extend(
        facts
            .as_ref()
            .and_then(|facts| of_original(facts, &terrain)),
    );
    if address.is_some() {
        findings.extend(of_flows(&subjects, &findings));
    }
    let reached = facts.is_some();
    findings
        .extend(system::bus(bus_presence()).filter(|found| reached || found.id != Id::NotOnBus));
    Ok(Report::new(findings))
}

/// What the daemon would most likely say: where a default route leads is outside.
fn by_default_route() -> BTreeSet<(Family, Option<String>)> {
    let Ok(observed) = observe_links() else {
        return BTreeSet::new();
    };
    let routes = [
        (Family::V4, &observed.default_route4),
        (Family::V6, &observed.default_route6),
    ];
    let known = routes.into_iter().filter(|(_, route)| route.is_some());
    known
        .map(|(family, route)| (family, route.as_ref().map(ToString::to_string)))
        .collect()
}

fn of_terrain(terrain: &Terrain) -> Vec<Finding> {
    let names: BTreeSet<&str> = Family::BOTH
        .into_iter()
        .flat_map(|family| terrain.interfaces_of(family))
        .collect();
    let settings = Settings::look(names);
    let families = terrain.outside.iter().map(|(family, _)| *family).collect();
    let (off, mut findings): (BTreeSet<Family>, Vec<Finding>) =
        settings::forwarding_off(&settings, terrain, &families)
            .into_iter()
            .unzip();
    let filters = match off.contains(&Family::V4) {
        true => Vec::new(),
        false => settings::rp_filters(&settings, terrain),
    };
    let filtered = !filters.is_empty();
    findings.extend(filters);
    findings.extend(ways::links(terrain));
    findings.extend(ways::ways(terrain, &off, filtered));
    findings.extend(ways::mtu(terrain));
    findings.extend(settings::bridges(&settings, terrain));
    findings.extend(settings::arp_ignored(&settings, terrain));
    if terrain.not_asked > 0 {
        let what = format!("whether {} more hosts answer", terrain.not_asked);
        findings.push(Finding::note(Id::NotLookedAt, what));
    }
    findings
}

fn of_tables(terrain: &Terrain, running: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    match look::tables() {
        Ok(tables) => {
            findings.extend(tables::ours(&tables).filter(|_| running));
            findings.extend(tables::drops(&tables, terrain));
            findings.extend(tables::untracked(&tables, terrain));
            findings.extend(tables::arp_drops(&tables, terrain));
            findings.extend(tables::translations(&tables, terrain));
        }
        Err(error) if is_absent(&error) => findings.push(no_nftables(&error)),
        Err(error) => findings.push(not_looked_at("tables of nftables", &error)),
    }
    match system::legacy() {
        Some(tables) => findings.extend(system::legacy_tables(&tables)),
        None => findings.push(
            Finding::note(Id::NotLookedAt, "tables of legacy iptables: only root may")
                .mend("sudo ipfloater doctor"),
        ),
    }
    findings
}

/// Flows that nobody answers, of addresses of which nothing else is an error.
fn of_flows(subjects: &[Subject], found: &[Finding]) -> Vec<Finding> {
    let is_error = |finding: &Finding| finding.severity == Severity::Error;
    if found.iter().any(is_error) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for Subject { floating, .. } in subjects {
        match look::flows(Family::of(*floating)) {
            Ok(flows) => findings.extend(flows::unanswered(*floating, &flows)),
            Err(error) => findings.push(not_looked_at("flows", &error)),
        }
    }
    findings
}

fn of_kernel() -> Option<Finding> {
    match look::features(Hidden::from_environment()) {
        Ok(features) => system::features(features),
        // That was said of the tables.
        Err(_) => None,
    }
}

/// What the original left. Who may not look was told so of the tables.
fn of_original(facts: &Facts, terrain: &Terrain) -> Option<Finding> {
    let names: BTreeSet<&str> = terrain.interfaces_of(Family::V4).collect();
    let names = names.into_iter();
    let outside: Vec<_> = names.filter_map(|name| name.parse().ok()).collect();
    let of_a_pool = |floating| facts.of_a_pool(floating);
    let left = OriginalTraces::open().and_then(|mut traces| traces.look(&outside, of_a_pool));
    system::original_left(&left.ok()?)
}

/// Whether the kernel was built, or runs, without nf_tables.
fn is_absent(error: &KernelError) -> bool {
    let absent = [Errno::EPROTONOSUPPORT, Errno::EINVAL, Errno::EOPNOTSUPP];
    let errno = error.errno().map(Errno::from_raw);
    errno.is_some_and(|errno| absent.contains(&errno))
}

fn no_nftables(error: &KernelError) -> Finding {
    Finding::error(Id::NoNftables, format!("there is no nf_tables: {error}"))
        .because("floating IPs are translated by it")
        .mend("modprobe nf_tables")
}

fn not_looked_at(what: &str, error: &KernelError) -> Finding {
    Finding::note(Id::NotLookedAt, format!("{what}: {error}")).mend("sudo ipfloater doctor")
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}
