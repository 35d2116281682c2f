//! Why the original was not taken over.

use std::path::PathBuf;

use crate::client::ClientError;
use crate::config::ConfigError;
use crate::kernel::{KernelError, SourceRoute};
use crate::model::FloatingIp;

use super::{DatabaseError, Redirection};

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It takes root.
    #[error(
        "taking over from the original takes root: its database, and what it left in the kernel, are root's; use sudo"
    )]
    NotRoot,
    /// The configuration, which names the database, cannot be read.
    #[error("{}", crate::chain(.0))]
    Configuration(ConfigError),
    /// The configuration names something else than a file of SQLite.
    #[error(
        "DB is {0:?}, which names no file of SQLite as sqlite:///PATH does; name the file with --database"
    )]
    NoSqlite(String),
    /// Where the file is depends on where the original was started.
    #[error(
        "DB is {0:?}, which is no whole path, and begins where the original was started; name the \
         file with --database"
    )]
    NoWholePath(String),
    /// There is no database.
    #[error(
        "there is no {}, where the database of the original should be; name it with --database, or \
         use --clear-only when it had none",
        .0.display()
    )]
    NoDatabase(PathBuf),
    /// It cannot be read.
    #[error("{}", crate::chain(.0))]
    Database(#[from] DatabaseError),
    /// The daemon did not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The kernel did not show what it has.
    #[error("nothing was done: {}", crate::chain(.0))]
    Kernel(#[from] KernelError),
    /// The kernel did not let go what the original left.
    #[error(
        "all is taken over and in force, but not all that the original left is cleared: {}; run it again",
        crate::chain(.0)
    )]
    NotCleared(KernelError),
    /// The daemon did not make a redirection that it would have made before.
    #[error(
        "{redirection} was not taken over: {source}; those before it were, and nothing was cleared; run it again"
    )]
    Interrupted {
        /// Which.
        redirection: Redirection,
        /// Why.
        source: ClientError,
    },
    /// Something stands in the way.
    #[error("nothing was done, because {0}")]
    Obstructed(Obstacle),
    /// Not all redirections can be taken over.
    #[error(
        "{bad} of {all} redirections cannot be taken over, so nothing was done; correct what stands \
         behind them, or leave them out with --skip-bad"
    )]
    Bad {
        /// How many.
        bad: usize,
        /// Of how many.
        all: usize,
    },
    /// What was taken over does not work yet.
    #[error(
        "nothing was cleared, because {floating} is not in force: {reason}; run it again when it is"
    )]
    NotInForce {
        /// An address.
        floating: FloatingIp,
        /// What it waits for.
        reason: String,
    },
    /// What was taken over does not work any more.
    #[error(
        "all is taken over and cleared, but {floating} is not in force again yet: {reason}; \
         `ipfloater status` tells when it is"
    )]
    NotInForceAgain {
        /// An address.
        floating: FloatingIp,
        /// What it waits for.
        reason: String,
    },
}

/// What has to be put right before anything is taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// The original would go on altering what is to be taken over.
    #[error(
        "the original still runs as process {0}; end it by `kill -KILL {0}`, which leaves its \
         redirections for now"
    )]
    StillRuns(u32),
    /// A route goes with an address that is to be taken off.
    #[error(
        "the route {} leaves as {}, and would go with that address; `ip route replace {}` lets the \
         kernel choose another, and the configuration of the network has to say the same",
        .0.route, .0.source, .0.route
    )]
    Route(SourceRoute),
    /// What is taken over would not work.
    #[error("{floating} would not come into force: {reason}; run it again when it would")]
    WouldWait {
        /// An address.
        floating: FloatingIp,
        /// What it would wait for.
        reason: String,
    },
}
