//! What somebody else does in the kernel, by its notifications.
//!
//! Two sockets: one for nf_tables, one for interfaces, routes and addresses.
//! What we did ourselves carries our port and is passed over, and so is what
//! cannot concern us. It says only what kind of thing was altered; the
//! controller looks for itself.

use std::collections::{HashMap, VecDeque};

use neli::consts::rtnl::Rtm;
use neli::consts::socket::NlFamily;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::dataplane::Link;
use crate::model::InterfaceName;

use super::nft;
use super::routing;
use super::rtnl;
use super::socket::{Message, Socket, is_loss};
use super::{KernelError, Noticed, Operation, Watch};

/// The multicast groups of links, addresses, routes and rules (rtnetlink(7)).
const GROUPS: [u32; 7] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_IPV4_RULE,
    libc::RTNLGRP_IPV6_RULE,
];

/// The ports of the sockets by which we alter things.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// The one for nf_tables.
    pub nft: u32,
    /// The one for interfaces, routes and addresses.
    pub rtnl: u32,
}

/// Notifications of the running kernel.
pub struct KernelWatch {
    nft: Socket,
    rtnl: Socket,
    ours: Ports,
    /// What was last said of each interface: many notifications repeat it.
    links: HashMap<u32, (InterfaceName, Link)>,
    /// What was read and not yet told.
    noticed: VecDeque<Noticed>,
}

impl KernelWatch {
    /// Subscribes. What is altered from now on is noticed.
    pub fn open(ours: Ports) -> Result<Self, KernelError> {
        let nft = Socket::open(NlFamily::Netfilter, "nf_tables notification")?;
        nft.subscribe(&[nft::GROUP])?;
        let rtnl = Socket::open(NlFamily::Route, "rtnetlink notification")?;
        rtnl.subscribe(&GROUPS)?;
        Ok(Self {
            nft,
            rtnl,
            ours,
            links: HashMap::new(),
            noticed: VecDeque::new(),
        })
    }

    /// Reads what has come to the sockets.
    fn drain(&mut self) -> Result<(), KernelError> {
        let Self {
            nft,
            rtnl,
            ours,
            links,
            noticed,
        } = self;
        let mut table = false;
        while nft.receive(false, |message| {
            table |= nft::concerns_us(&message, ours.nft)
        })? {}
        let mut altered = false;
        while rtnl.receive(false, |message| {
            if message.port != ours.rtnl {
                altered |= concerns_us(&message, links, noticed);
            }
        })? {}
        noticed.extend(table.then_some(Noticed::Table));
        noticed.extend(altered.then_some(Noticed::Links));
        Ok(())
    }
}

impl Watch for KernelWatch {
    fn next(&mut self) -> Result<Noticed, KernelError> {
        loop {
            match self.drain() {
                Ok(()) => {}
                // What was lost may have been anything.
                Err(error) if is_loss(&error.source) => self.noticed.push_back(Noticed::Lost),
                Err(error) => return Err(error),
            }
            if let Some(noticed) = self.noticed.pop_front() {
                return Ok(noticed);
            }
            let mut sockets = [&self.nft, &self.rtnl]
                .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
            match poll(&mut sockets, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(KernelError::new(Operation::Watch, errno)),
            }
        }
    }
}

/// Whether an interface, a default route, an address, a rule of ours, or where we answer for a
/// floating IP was altered.
fn concerns_us(
    message: &Message<'_>,
    links: &mut HashMap<u32, (InterfaceName, Link)>,
    noticed: &mut VecDeque<Noticed>,
) -> bool {
    match Rtm::from(message.kind) {
        Rtm::Newlink => rtnl::link(message).is_some_and(|(name, link)| {
            let (index, carrier) = (link.index, link.carrier);
            let now = (name, link);
            let before = links.insert(index.0, now.clone());
            // Down and up again may be over before anybody looks.
            if carrier && before.as_ref().is_some_and(|(_, before)| !before.carrier) {
                noticed.push_back(Noticed::Carrier(index));
            }
            before != Some(now)
        }),
        Rtm::Dellink => {
            if let Some((_, link)) = rtnl::link(message) {
                links.remove(&link.index.0);
            }
            true
        }
        // Of IPv6 addresses the kernel tells without saying whose doing it was
        // (`inet6_ifa_notify`). One that comes with our number is ours; whether
        // we or somebody else took one away only a look tells.
        Rtm::Newaddr => !rtnl::is_presence(message),
        Rtm::Deladdr => true,
        Rtm::Newroute | Rtm::Delroute => {
            rtnl::route(message).is_some_and(|route| route.concerns_us())
        }
        Rtm::Newrule | Rtm::Delrule => routing::rule(message).is_some(),
        _ => false,
    }
}
