//! Being a user with few rights, and keeping only the capabilities that the
//! daemon needs.
//!
//! On the first thread, before any other exists: setresuid(2) is passed on to
//! all threads by the C library, capabilities are not. CAP_NET_ADMIN alters
//! tables, routes and addresses; CAP_NET_RAW opens the packet sockets and is
//! given up once they are open. What was made as root is handed over by [`files`].

pub mod files;
mod user;

use std::fmt;

use caps::errors::CapsError;
use caps::securebits::set_keepcaps;
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use nix::unistd::{Gid, geteuid, getgroups, getresgid, getresuid, setgroups, setresgid, setresuid};

pub use user::{DEFAULT_USER, User, UserError};

/// What the daemon may not go without.
pub const NEEDED: [Capability; 2] = [Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW];

/// What it keeps.
pub const KEPT: [Capability; 1] = [Capability::CAP_NET_ADMIN];

/// Why the privileges are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// A capability is missing.
    #[error(
        "the capability {missing} is missing; start ipfloaterd as root or by its systemd unit, \
         or try it with --simulate"
    )]
    Missing {
        /// Which.
        missing: Capability,
    },
    /// Whom the daemon is to run as cannot be had.
    #[error(transparent)]
    User(#[from] UserError),
    /// The capabilities could not be read or given up.
    #[error("cannot {doing} capabilities")]
    Caps {
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: CapsError,
    },
    /// The kernel did not let us become the user.
    #[error("cannot become {user}; it takes root with CAP_SETUID and CAP_SETGID")]
    Become {
        /// Whom.
        user: User,
        /// Why.
        source: nix::Error,
    },
    /// The kernel did not take a setting of the process (prctl(2)).
    #[error("cannot set {what}")]
    Setting {
        /// Which.
        what: &'static str,
        /// Why.
        source: nix::Error,
    },
    /// More is left than was to be kept.
    #[error("what was to be given up is not gone: {left}")]
    NotGone {
        /// What the kernel says.
        left: Kept,
    },
}

/// What the process is left with, as the kernel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    user: User,
    groups: Vec<Gid>,
    capabilities: CapsHashSet,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.user)?;
        let others = self.groups.iter().filter(|gid| **gid != self.user.gid());
        let others: Vec<_> = others.map(ToString::to_string).collect();
        if !others.is_empty() {
            write!(f, ", further groups {}", others.join(" "))?;
        }
        let mut names: Vec<_> = self.capabilities.iter().map(ToString::to_string).collect();
        names.sort();
        match names.as_slice() {
            [] => f.write_str(", with no capability"),
            names => write!(f, ", with {}", names.join(" ")),
        }
    }
}

/// Refuses to go on without what is needed, before anything is touched.
pub fn require(needed: &[Capability]) -> Result<(), PrivilegeError> {
    for capability in needed {
        if !has(*capability)? {
            return Err(PrivilegeError::Missing {
                missing: *capability,
            });
        }
    }
    Ok(())
}

/// Becomes the user, for good, and gives up all capabilities but these.
///
/// Who is not root is the user already, and has the groups that the service
/// manager gave.
pub fn give_up(user: &User, keep: &[Capability]) -> Result<Kept, PrivilegeError> {
    let keep: CapsHashSet = keep.iter().copied().collect();
    let parent_death = prctl::get_pdeathsig().unwrap_or_default();

    caps::clear(None, CapSet::Ambient).map_err(caps_failed("clear ambient"))?;
    // Without CAP_SETPCAP, as under a unit, the bounding set stays as the service
    // manager made it; no_new_privs below makes it moot.
    if has(Capability::CAP_SETPCAP)? {
        let bounding = caps::read(None, CapSet::Bounding).map_err(caps_failed("read"))?;
        for capability in bounding {
            caps::drop(None, CapSet::Bounding, capability).map_err(caps_failed("drop bounding"))?;
        }
    }
    if geteuid().is_root() {
        // Whoever leaves uid 0 loses the permitted set without it.
        set_keepcaps(true).map_err(caps_failed("keep"))?;
        switch(user).map_err(|source| PrivilegeError::Become {
            user: user.clone(),
            source,
        })?;
        set_keepcaps(false).map_err(caps_failed("no longer keep"))?;
    }
    caps::set(None, CapSet::Effective, &keep).map_err(caps_failed("drop effective"))?;
    caps::set(None, CapSet::Permitted, &keep).map_err(caps_failed("drop permitted"))?;
    caps::clear(None, CapSet::Inheritable).map_err(caps_failed("clear inheritable"))?;
    prctl::set_no_new_privs().map_err(setting("no_new_privs"))?;
    // The kernel forgets it when the uid changes (prctl(2), PR_SET_PDEATHSIG).
    // Whoever wanted us to end with our parent still does.
    prctl::set_pdeathsig(parent_death).map_err(setting("the parent-death signal"))?;
    verify(user, &keep)
}

fn switch(user: &User) -> nix::Result<()> {
    let (uid, gid) = (user.uid(), user.gid());
    if !getgroups()?.is_empty() {
        setgroups(&[])?;
    }
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}

/// What the kernel says is left, which is to be what was kept.
fn verify(user: &User, keep: &CapsHashSet) -> Result<Kept, PrivilegeError> {
    let read = |set| caps::read(None, set).map_err(caps_failed("read"));
    let kept = Kept {
        user: user.clone(),
        groups: getgroups().map_err(setting("groups"))?,
        capabilities: read(CapSet::Permitted)?,
    };
    let uids = getresuid().map_err(setting("the user"))?;
    let gids = getresgid().map_err(setting("the group"))?;
    let is_user = [uids.real, uids.effective, uids.saved] == [user.uid(); 3]
        && [gids.real, gids.effective, gids.saved] == [user.gid(); 3];
    let is_bare = kept.capabilities == *keep
        && read(CapSet::Effective)? == *keep
        && read(CapSet::Inheritable)?.is_empty()
        && read(CapSet::Ambient)?.is_empty();
    if is_user && is_bare {
        Ok(kept)
    } else {
        Err(PrivilegeError::NotGone { left: kept })
    }
}

fn has(capability: Capability) -> Result<bool, PrivilegeError> {
    caps::has_cap(None, CapSet::Effective, capability).map_err(caps_failed("read"))
}

fn caps_failed(doing: &'static str) -> impl FnOnce(CapsError) -> PrivilegeError {
    move |source| PrivilegeError::Caps { doing, source }
}

fn setting(what: &'static str) -> impl FnOnce(nix::Error) -> PrivilegeError {
    move |source| PrivilegeError::Setting { what, source }
}
