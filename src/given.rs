//! What the service manager gives to the daemon that it starts: descriptors,
//! each with a name (sd_listen_fds(3)).
//!
//! `varlink` is the listening socket of `ipfloaterd.socket`. `packet` are two
//! packet sockets, opened by `ipfloaterd --store-packet-socket` just before and
//! kept by the service manager: the daemon announces and listens with them and
//! never has CAP_NET_RAW.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// What the packet sockets are called.
pub const PACKET: &str = "packet";

/// What it gave.
#[derive(Debug, Default)]
pub struct Given {
    /// A listening socket for varlink: the one of that name, or the only one
    /// that has no name of ours.
    pub varlink: Option<OwnedFd>,
    /// Packet sockets.
    pub packet: Vec<OwnedFd>,
}

/// Takes it. To be called before there are threads, and once.
pub fn take() -> io::Result<Given> {
    let passed: Vec<_> = sd_notify::listen_fds_with_names()?.collect();
    let (packet, others): (Vec<_>, Vec<_>) =
        passed.into_iter().partition(|(_, name)| name == PACKET);
    let named = others.iter().find(|(_, name)| name == "varlink");
    let varlink = named.or(match &others[..] {
        [only] => Some(only),
        _ => None,
    });
    Ok(Given {
        varlink: varlink.map(|(fd, _)| adopt(*fd)),
        packet: packet.into_iter().map(|(fd, _)| adopt(fd)).collect(),
    })
}

/// Takes the descriptors of a program that is given listening sockets only, one for
/// each `ListenStream=`. As [`take`].
pub fn take_listeners() -> io::Result<Vec<OwnedFd>> {
    let passed = sd_notify::listen_fds_with_names()?;
    Ok(passed.map(|(fd, _)| adopt(fd)).collect())
}

#[allow(unsafe_code)]
fn adopt(descriptor: RawFd) -> OwnedFd {
    // SAFETY: LISTEN_PID says that the service manager opened this descriptor
    // for this very process, and nothing else in the program adopts it: `take`
    // is called once, and what it takes has different names.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}
