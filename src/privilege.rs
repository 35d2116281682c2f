//! Keeping only the few capabilities that the daemon needs.
//!
//! On the first thread, before any other exists: every later thread inherits
//! what is left. CAP_NET_ADMIN alters tables, routes and addresses; CAP_NET_RAW
//! opens the packet socket and is given up with the rest once it is open.

use caps::{CapSet, Capability, CapsHashSet};

/// What the daemon may not go without.
const NEEDED: [Capability; 2] = [Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW];

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
    /// The capabilities could not be read or given up.
    #[error("cannot {doing} capabilities")]
    Caps {
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: caps::errors::CapsError,
    },
    /// The kernel did not promise that no program gains privileges.
    #[error("cannot set no_new_privs")]
    NoNewPrivileges(#[source] nix::Error),
}

/// Refuses to start without what is needed, before anything is touched.
pub fn require() -> Result<(), PrivilegeError> {
    for capability in NEEDED {
        let there = caps::has_cap(None, CapSet::Effective, capability).map_err(|source| {
            PrivilegeError::Caps {
                doing: "read",
                source,
            }
        })?;
        if !there {
            return Err(PrivilegeError::Missing {
                missing: capability,
            });
        }
    }
    Ok(())
}

/// Gives up everything but CAP_NET_ADMIN, for good, and says what was kept.
pub fn drop_all_but_net_admin() -> Result<String, PrivilegeError> {
    let fail = |doing| move |source| PrivilegeError::Caps { doing, source };
    let kept: CapsHashSet = [Capability::CAP_NET_ADMIN].into();

    caps::clear(None, CapSet::Ambient).map_err(fail("clear ambient"))?;
    // Without CAP_SETPCAP, as under a tight unit, the bounding set stays as the
    // service manager made it; no_new_privs below makes it moot.
    let may_bound =
        caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(fail("read"))?;
    if may_bound {
        let bounding = caps::read(None, CapSet::Bounding).map_err(fail("read"))?;
        for capability in bounding {
            caps::drop(None, CapSet::Bounding, capability).map_err(fail("drop bounding"))?;
        }
    }
    caps::set(None, CapSet::Effective, &kept).map_err(fail("drop effective"))?;
    caps::set(None, CapSet::Permitted, &kept).map_err(fail("drop permitted"))?;
    caps::clear(None, CapSet::Inheritable).map_err(fail("clear inheritable"))?;
    nix::sys::prctl::set_no_new_privs().map_err(PrivilegeError::NoNewPrivileges)?;
    Ok(format!(
        "uid {}, {}",
        nix::unistd::getuid(),
        Capability::CAP_NET_ADMIN
    ))
}
