//! Taking away all that is ours in the kernel, when no daemon runs.
//!
//! The only way by which floating IPs end all at once: stopping the daemon leaves
//! them. The store stays, so that the next start brings them back. What is ours
//! is known by the same marks as at any start (ARCHITECTURE.md), and whose flows
//! are to end by whatever there is: the table, the store, the configuration. None
//! of these has to be there.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid};

use crate::api::varlink;
use crate::chain;
use crate::config::Settings;
use crate::dataplane::{Associations, Observed, Rerouting, Routing};
use crate::kernel::{ConntrackFlows, Flows, Hidden, Kernel, KernelError, LinuxKernel};
use crate::lock::Lock;
use crate::model::{AddressRange, State};
use crate::privilege::{self, PrivilegeError, User};
use crate::store::{SqliteStore, StateDirectory};

/// An address may be answered for on several interfaces, and a look shows one of
/// them. More rounds than that would mean that somebody puts them back.
const ROUNDS: usize = 16;

/// Where things are.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file; `None` for the usual places.
    pub config: Option<PathBuf>,
    /// Where the store is.
    pub state_directory: PathBuf,
    /// Where the varlink socket is.
    pub runtime_directory: PathBuf,
}

/// Why nothing was removed.
#[derive(Debug, thiserror::Error)]
pub enum TeardownError {
    /// A daemon runs, and would put everything back.
    #[error(
        "nothing was removed: ipfloaterd is running and holds {}; stop it first \
         (systemctl stop ipfloaterd.socket ipfloaterd.service)",
        .0.display()
    )]
    Running(PathBuf),
    /// Whether a daemon runs cannot be told.
    #[error("nothing was removed: cannot open {}", .path.display())]
    Lock {
        /// The locked file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The privileges are not as they should be.
    #[error("nothing was removed: {0}")]
    Privilege(#[from] PrivilegeError),
    /// The kernel does not show what it has, or does not let it go.
    #[error("nothing was removed: {0}")]
    Kernel(#[from] KernelError),
}

/// What was done.
#[derive(Debug, Default)]
pub struct Report {
    /// What is gone, a line each.
    pub removed: Vec<String>,
    /// What to know about what is left on purpose.
    pub notes: Vec<String>,
    /// What could not be done, a line each.
    pub failures: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.removed.is_empty() && self.failures.is_empty() {
            writeln!(f, "there is nothing of ipfloater in the kernel")?;
        }
        let removed = self.removed.iter().map(|what| format!("removed {what}"));
        for line in removed.chain(self.notes.iter().cloned()) {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// Removes everything. Asking twice is no error.
pub fn run(options: &Options) -> Result<Report, TeardownError> {
    privilege::require(&privilege::KEPT)?;
    let _locks = [
        lock(&StateDirectory::lock_of(&options.state_directory))?,
        lock(&varlink::lock_of(&options.runtime_directory))?,
    ];
    let mut report = Report::default();
    let settings = Settings::load(options.config.as_deref());
    // What the daemon's user wrote is read with its rights, not with root's.
    privilege::give_up(&owner(&options.state_directory), &privilege::KEPT)?;

    let mut kernel = LinuxKernel::open(Hidden::from_environment())?;
    // Of a daemon with other directories the kernel knows.
    kernel.may_remove_table()?;
    let mut pools = in_kernel(&mut kernel, &mut report);
    match settings {
        Ok(settings) => {
            pools.extend(settings.site.pools.into_iter().flat_map(|pool| pool.ranges));
        }
        Err(error) => report
            .notes
            .push(format!("the configuration is not used: {}", chain(&error))),
    }
    pools.extend(in_store(&options.state_directory, &mut report));

    // In the order in which the daemon takes addresses away: without the table
    // the router itself would answer.
    remove_presence(&mut kernel, &mut report);
    remove_routing(&mut kernel, &mut report);
    match kernel.remove_table() {
        Ok(true) => report.removed.push("table inet ipfloater".to_owned()),
        Ok(false) => {}
        Err(error) => report.failures.push(error.to_string()),
    }
    end_flows(&kernel, pools, &mut report);
    Ok(report)
}

/// Makes sure that no daemon has this lock, nor gets it before we are done.
fn lock(path: &Path) -> Result<Option<Lock>, TeardownError> {
    match Lock::take_existing(path) {
        Ok(lock) => Ok(lock),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            Err(TeardownError::Running(path.to_owned()))
        }
        Err(source) => Err(TeardownError::Lock {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Whose the store is; without one, who we are.
fn owner(state_directory: &Path) -> User {
    let own = User::oneself();
    match std::fs::symlink_metadata(state_directory) {
        Ok(found) if own.is_root() => {
            User::of(Uid::from_raw(found.uid()), Gid::from_raw(found.gid()))
        }
        Ok(_) | Err(_) => own,
    }
}

/// The floating IPs that the kernel knows of.
fn in_kernel(kernel: &mut LinuxKernel, report: &mut Report) -> Vec<AddressRange> {
    let observed = kernel.observe().unwrap_or_else(|error| {
        report.failures.push(error.to_string());
        Observed::default()
    });
    let known = observed
        .presence
        .keys()
        .chain(observed.floating_to_fixed.keys());
    let known = known.map(|floating| AddressRange::single(floating.ip()));
    observed.pool.iter().copied().chain(known).collect()
}

/// The floating IPs of the store, which stays.
fn in_store(state_directory: &Path, report: &mut Report) -> Vec<AddressRange> {
    let at = state_directory.display();
    match SqliteStore::look(state_directory) {
        Ok(None) => Vec::new(),
        Ok(Some(state)) => {
            let in_use = state.in_use().count();
            if in_use > 0 {
                report.notes.push(format!(
                    "the store in {at} stays: the next start of ipfloaterd restores what {in_use} addresses lead to"
                ));
            }
            let addresses = state.allocations().map(|(floating, _)| floating.ip());
            addresses.map(AddressRange::single).collect()
        }
        Err(error) => {
            report.failures.push(format!(
                "the store in {at} cannot be read, so flows of addresses that only it knows may go on: {}",
                chain(&error)
            ));
            Vec::new()
        }
    }
}

/// Makes the router answer for no floating IP any more.
fn remove_presence(kernel: &mut LinuxKernel, report: &mut Report) {
    let (mut routes, mut addresses) = (0, 0);
    let mut left = Ok(Observed::default());
    for _ in 0..ROUNDS {
        left = kernel.observe_links();
        let Ok(observed) = &left else { break };
        if observed.presence.is_empty() {
            break;
        }
        let held: Vec<_> = observed.presence.iter().map(|(f, i)| (*f, *i)).collect();
        let refused = kernel.withdraw(&held);
        let is_refused = |floating| refused.iter().any(|(refused, _)| *refused == floating);
        for (floating, _) in &held {
            let count = if floating.ip().is_ipv4() {
                &mut routes
            } else {
                &mut addresses
            };
            *count += usize::from(!is_refused(*floating));
        }
        if !refused.is_empty() {
            let lines = refused.iter().map(|(_, error)| error.to_string());
            report.failures.extend(lines);
            break;
        }
    }
    for (count, what) in [
        (routes, "local routes of protocol 245, for IPv4"),
        (addresses, "addresses of protocol 245, for IPv6"),
    ] {
        if count > 0 {
            report.removed.push(format!("{count} {what}"));
        }
    }
    if let Err(error) = left {
        report.failures.push(error.to_string());
    }
}

/// Leads no packets to uplinks any more.
fn remove_routing(kernel: &mut LinuxKernel, report: &mut Report) {
    let routing = match kernel.observe_links() {
        Ok(observed) => observed.routing,
        Err(error) => return report.failures.push(error.to_string()),
    };
    let (rules, routes) = (routing.rules.len(), routing.routes.len());
    let rerouting = Rerouting::between(&routing, &Routing::default());
    let refused = kernel.reroute(&rerouting);
    let lines = refused.iter().map(|error| error.to_string());
    report.failures.extend(lines);
    if rules + routes > 0 && refused.is_empty() {
        report.removed.push(format!(
            "{rules} routing rules and {routes} default routes of uplinks, of protocol 245"
        ));
    }
}

/// Ends the flows that are translated to or from a floating IP.
fn end_flows(kernel: &LinuxKernel, pools: Vec<AddressRange>, report: &mut Report) {
    // With no association each of them is one too many.
    let nobody = Associations::new(&State::default(), AddressRange::merge(pools), Vec::new());
    let hide_filter = !kernel.features().conntrack_filter;
    let ended = ConntrackFlows::open(Vec::new(), Vec::new(), hide_filter)
        .and_then(|mut flows| flows.settle(&nobody).or_else(|_| flows.settle(&nobody)));
    match ended {
        Ok(0) => {}
        Ok(ended) => report
            .removed
            .push(format!("{ended} translated flows of conntrack")),
        Err(error) => report.failures.push(error.to_string()),
    }
}
