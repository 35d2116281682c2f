//! Taking over from the original IP Floater: its redirections, and what it left
//! in the kernel.
//!
//! Runs in the command line, as root. It reads the original's database, asks the
//! daemon what would become of each redirection, and, when it is told to, has the
//! daemon make them; only when all are in force it removes the original's chains
//! of iptables and the addresses that were put on the interface for it. So every
//! packet finds one or the other. Nothing is half done: a redirection that cannot
//! be made refuses all of them, unless it is to be left out. Should it be interrupted,
//! what was taken over stays and goes on where it was, and once more does the rest.

mod database;
mod error;
mod running;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Answer, Client, ClientError};
use crate::config::Settings;
use crate::kernel::{Leftovers, OriginalTraces, Redirected};
use crate::model::{FloatingIp, InterfaceName, PendingReason, RouterAddress};
use crate::wire::{Address, Changed, Described, PoolInfo, Pools, Status};

pub use database::{DatabaseError, Redirection, RowError};
pub use error::{ImportError, Obstacle};

/// Where the original's own configuration put its database.
const DEFAULT_DATABASE: &str = "/var/lib/ipfloater.db";

/// Where our store is: root opens no database in a directory that a user may
/// write to, and the daemon would not have started beside the original's.
const STATE_DIRECTORY: &str = "/var/lib/ipfloater/";

/// The home of root, which the original ran as.
const HOME: &str = "/root";

/// What `DB` begins with when it names a file.
const SQLITE: &str = "sqlite://";

/// How long it is waited until all addresses are in force: asking the neighbours
/// takes 7 s at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);

/// What is to be looked at.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The database; `None` for the one of the configuration, or the usual one.
    pub database: Option<PathBuf>,
    /// The configuration file; `None` for the usual places.
    pub config: Option<PathBuf>,
    /// Whether no redirection is to be taken over.
    pub clear_only: bool,
}

/// What becomes of a redirection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It can be taken over.
    New(Redirection),
    /// We have it already.
    There(Redirection),
    /// It cannot be taken over; why.
    Bad(String),
}

/// A redirection, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What the database says.
    pub text: String,
    /// What becomes of it.
    pub fate: Fate,
    /// What it waits for, or would.
    pub waits_for: Option<String>,
}

/// What there is to take over and to clear.
#[derive(Debug, Default)]
pub struct Survey {
    /// The database that was read, if one was.
    pub database: Option<PathBuf>,
    /// Its redirections.
    pub findings: Vec<Finding>,
    /// What the original left in the kernel.
    pub leftovers: Leftovers,
    /// The process that the original still is.
    pub original: Option<u32>,
}

impl Survey {
    /// Whether there is neither anything to take over nor to clear.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.fresh().next().is_none() && self.leftovers.is_empty()
    }

    /// How many redirections cannot be taken over.
    #[must_use]
    pub fn bad(&self) -> usize {
        let is_bad = |finding: &&Finding| matches!(finding.fate, Fate::Bad(_));
        self.findings.iter().filter(is_bad).count()
    }

    /// The redirections that can be taken over, or are.
    pub fn good(&self) -> impl Iterator<Item = &Redirection> {
        self.findings
            .iter()
            .filter_map(|finding| match &finding.fate {
                Fate::New(redirection) | Fate::There(redirection) => Some(redirection),
                Fate::Bad(_) => None,
            })
    }

    /// What has to be put right before anything is taken over or cleared.
    #[must_use]
    pub fn obstacle(&self) -> Option<Obstacle> {
        let waiting = || {
            let (floating, reason) = self.waiting()?;
            let reason = reason.to_owned();
            Some(Obstacle::WouldWait { floating, reason })
        };
        let route = || self.leftovers.routes.first().cloned().map(Obstacle::Route);
        let original = self.original.map(Obstacle::StillRuns);
        original.or_else(route).or_else(waiting)
    }

    /// One that is not in force, or would not be, and what it waits for.
    fn waiting(&self) -> Option<(FloatingIp, &str)> {
        self.findings
            .iter()
            .find_map(|finding| match &finding.fate {
                Fate::New(redirection) | Fate::There(redirection) => {
                    Some((redirection.floating(), finding.waits_for.as_deref()?))
                }
                Fate::Bad(_) => None,
            })
    }

    /// Those that are new.
    pub fn fresh(&self) -> impl Iterator<Item = &Redirection> {
        self.findings
            .iter()
            .filter_map(|finding| match &finding.fate {
                Fate::New(redirection) => Some(redirection),
                Fate::There(_) | Fate::Bad(_) => None,
            })
    }
}

/// Takes over from the original.
pub struct Import {
    client: Client,
    traces: OriginalTraces,
}

impl Import {
    /// Begins, with a daemon that runs. Needs root.
    pub fn begin(
        connect: impl FnOnce() -> Result<Client, ClientError>,
    ) -> Result<Self, ImportError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(ImportError::NotRoot);
        }
        Ok(Self {
            client: connect()?,
            traces: OriginalTraces::open()?,
        })
    }

    /// Looks at everything and alters nothing. With thousands of rows that takes
    /// long: how many of how many are looked at is told again and again.
    pub fn survey(
        &mut self,
        options: &Options,
        progress: impl FnMut(usize, usize),
    ) -> Result<Survey, ImportError> {
        let Pools { pools } = self.client.call("ListPools", Value::Null)?.message;
        let Status { outside, .. } = self.client.call("GetStatus", Value::Null)?.message;
        let outside: Vec<InterfaceName> = outside
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        let of_a_pool = |floating| pools.iter().any(|pool: &PoolInfo| pool.contains(floating));
        let mut survey = Survey {
            original: running::original(),
            leftovers: self.traces.look(&outside, of_a_pool)?,
            ..Survey::default()
        };
        if !options.clear_only {
            let path = find(options)?;
            let rows = database::read(&path)?;
            survey.findings = self.findings(rows, &survey.leftovers, progress)?;
            survey.database = Some(path);
        }
        Ok(survey)
    }

    /// What becomes of the rows, and of redirections that are in force and that no
    /// row has: the database is another, or an older one.
    fn findings(
        &mut self,
        rows: Vec<database::Row>,
        leftovers: &Leftovers,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Vec<Finding>, ImportError> {
        let redirected = leftovers.redirections();
        let in_force = redirected.iter().map(|one| one.id.as_str()).collect();
        let ids: BTreeSet<_> = rows.iter().filter_map(|row| row.id.clone()).collect();
        let mut findings = Vec::new();
        let rows = database::without_clashes(rows, &in_force);
        let all = rows.len();
        for (done, row) in rows.into_iter().enumerate() {
            progress(done, all);
            let (fate, waits_for) = match row.redirection {
                Ok(redirection) => self.fate(redirection)?,
                Err(error) => (Fate::Bad(error.to_string()), None),
            };
            findings.push(Finding {
                text: row.text,
                fate,
                waits_for,
            });
        }
        let unknown = redirected.iter().filter(|one| !ids.contains(&one.id));
        findings.extend(unknown.map(not_in_the_database));
        Ok(findings)
    }

    /// What becomes of a redirection, and what it waits for then. That the
    /// neighbours are asked first is no hindrance.
    fn fate(&mut self, redirection: Redirection) -> Result<(Fate, Option<String>), ImportError> {
        let (method, mut parameters) = redirection.call();
        parameters["dry_run"] = true.into();
        match self.client.call::<Changed>(method, parameters) {
            Ok(Answer { message, .. }) => {
                let waits_for = message.address.reason;
                let waits_for =
                    waits_for.filter(|reason| !reason.starts_with(PendingReason::PROBING));
                let fate = match message.changed {
                    true => Fate::New(redirection),
                    false => Fate::There(redirection),
                };
                Ok((fate, waits_for))
            }
            Err(ClientError::Refused(refused)) => Ok((Fate::Bad(refused.to_string()), None)),
            Err(error) => Err(error.into()),
        }
    }

    /// Has the daemon make a redirection.
    pub fn take_over(&mut self, redirection: &Redirection) -> Result<(), ImportError> {
        let (method, parameters) = redirection.call();
        let answer = self.client.call::<Changed>(method, parameters);
        answer.map(drop).map_err(|source| ImportError::Interrupted {
            redirection: *redirection,
            source,
        })
    }

    /// Waits until the redirections that were taken over are in force.
    pub fn wait(&mut self, survey: &Survey) -> Result<(), ImportError> {
        match self.pending(survey)? {
            None => Ok(()),
            Some((floating, reason)) => Err(ImportError::NotInForce { floating, reason }),
        }
    }

    /// Waits until they are again. For an address that the router had itself the
    /// daemon answers only now, and may ask the neighbours before.
    pub fn wait_again(&mut self, survey: &Survey) -> Result<(), ImportError> {
        if survey.leftovers.addresses.is_empty() {
            return Ok(());
        }
        // The kernel tells the daemon that they are gone.
        sleep(LOOK);
        match self.pending(survey)? {
            None => Ok(()),
            Some((floating, reason)) => Err(ImportError::NotInForceAgain { floating, reason }),
        }
    }

    /// The first address that is not in force, and for another reason than that
    /// the neighbours are being asked, or for too long.
    fn pending(&mut self, survey: &Survey) -> Result<Option<(FloatingIp, String)>, ImportError> {
        let deadline = Instant::now() + PATIENCE;
        for redirection in survey.good() {
            let floating = redirection.floating();
            while let Some(reason) = self.waits_for(floating)? {
                let is_asking = reason.starts_with(PendingReason::PROBING) && self.client.waits();
                if !is_asking || Instant::now() > deadline {
                    return Ok(Some((floating, reason)));
                }
                sleep(LOOK);
            }
        }
        Ok(None)
    }

    /// What an address waits for.
    fn waits_for(&mut self, floating: FloatingIp) -> Result<Option<String>, ImportError> {
        let asked = json!({"address": floating});
        let answer: Answer<Described> = self.client.call("Describe", asked)?;
        let Address { state, reason, .. } = answer.message.address;
        Ok(match state.as_str() {
            "active" => None,
            _ => Some(reason.unwrap_or(state)),
        })
    }

    /// Removes the chains of the original.
    pub fn remove_chains(&mut self, leftovers: &Leftovers) -> Result<(), ImportError> {
        let removed = self.traces.remove_chains(leftovers);
        removed.map_err(ImportError::NotCleared)
    }

    /// Takes one of the addresses off its interface.
    pub fn remove_address(&mut self, address: &RouterAddress) -> Result<(), ImportError> {
        let removed = self.traces.remove_address(address);
        removed.map_err(ImportError::NotCleared)
    }
}

/// A redirection that would end, because nothing says what to make of it.
fn not_in_the_database(redirected: &Redirected) -> Finding {
    let Redirected { chains, legacy, .. } = redirected;
    let backend = if *legacy { "legacy" } else { "nft" };
    Finding {
        text: chains.clone(),
        fate: Fate::Bad(format!(
            "these chains redirect, and no row of the database is theirs; \
             `iptables-{backend}-save -t nat | grep {chains}` shows what to where"
        )),
        waits_for: None,
    }
}

/// The database that is meant. It is told where it is missing, since what is
/// elsewhere may be an old one.
fn find(options: &Options) -> Result<PathBuf, ImportError> {
    if let Some(path) = &options.database {
        // As it stands behind DB will do.
        let named = path.to_str().and_then(|text| text.strip_prefix(SQLITE));
        return Ok(named.map_or_else(|| path.clone(), PathBuf::from));
    }
    let settings = Settings::load(options.config.as_deref()).map_err(ImportError::Configuration)?;
    let path = place(settings.original_database)?;
    if path.exists() {
        Ok(path)
    } else {
        Err(ImportError::NoDatabase(path))
    }
}

/// Where the database is: where `DB` says, unless our store is there by now, out of
/// the way of which it was moved to the usual place.
fn place(named: Option<String>) -> Result<PathBuf, ImportError> {
    let usual = PathBuf::from(DEFAULT_DATABASE);
    let Some(named) = named else {
        return Ok(usual);
    };
    let Some(path) = named.strip_prefix(SQLITE) else {
        return Err(ImportError::NoSqlite(named));
    };
    let path = match path.strip_prefix("~/") {
        // It ran as root.
        Some(rest) => Path::new(HOME).join(rest),
        None => PathBuf::from(path),
    };
    if path.starts_with(STATE_DIRECTORY) {
        Ok(usual)
    } else if path.is_absolute() {
        Ok(path)
    } else {
        Err(ImportError::NoWholePath(named))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_is_where_the_original_was_told_to_keep_it() {
        let found = |named: Option<&str>| {
            let place = place(named.map(str::to_owned)).map_err(|error| error.to_string())?;
            Ok::<_, String>(place.display().to_string())
        };
        let usual = "/var/lib/ipfloater.db";
        for (named, expected) in [
            (None, usual.to_owned()),
            (Some("sqlite:///var/lib/ipfloater.db"), usual.to_owned()),
            (
                Some("sqlite:///srv/floater.sqlite"),
                "/srv/floater.sqlite".to_owned(),
            ),
            (Some("sqlite://~/floater.db"), "/root/floater.db".to_owned()),
            // There our store is by now; it was moved away for that.
            (
                Some("sqlite:///var/lib/ipfloater/ipfloater.db"),
                usual.to_owned(),
            ),
        ] {
            assert_eq!(found(named), Ok(expected), "{named:?}");
        }
        for named in ["mysql://u:p@h/db", "sqlite://floater.db", "/srv/floater.db"] {
            let error = found(Some(named)).unwrap_err();
            assert!(
                error.contains(named) && error.contains("--database"),
                "{error}"
            );
        }
    }
}
