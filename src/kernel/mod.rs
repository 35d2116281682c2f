//! The only code that speaks to the kernel.
//!
//! [`Kernel`] is what the controller holds: it observes and alters. [`Flows`]
//! and [`Neighbours`] do what takes long and run beside the controller, and
//! [`Watch`] tells when somebody else altered something. Each has a real part
//! (over netlink and packet sockets) and a fake one, in memory, that refuses
//! what the real one refuses.

mod announce;
mod conntrack;
mod fake;
mod frames;
mod linux;
pub mod look;
mod meter;
mod neighbours;
pub mod nft;
mod original;
mod routing;
mod rtnl;
mod socket;
mod watch;
mod xtables;

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use ipnet::IpNet;

use crate::dataplane::{Associations, Cut, IfIndex, Link, Observed, Rerouting, Transaction};
use crate::model::{AddressRange, Count, Family, FloatingIp, HardwareAddress};

pub use announce::{Announcer, Report};
pub use conntrack::ConntrackFlows;
pub use fake::FakeKernel;
pub use frames::Speech;
pub use linux::LinuxKernel;
pub use meter::TableMeter;
pub use neighbours::PacketNeighbours;
pub use nft::IptablesChain;
pub use original::{Leftovers, OriginalTraces, Redirected};
pub use rtnl::SourceRoute;
pub use watch::{KernelWatch, Ports};

/// The protocol number that our routes and IPv6 addresses carry, so that a
/// fresh start recognises them. rtnetlink(7) leaves numbers above
/// `RTPROT_STATIC` (4) to whoever takes them; 245 is in no list of iproute2.
pub const PROTOCOL: u8 = 245;

/// The kernel as the controller sees it.
pub trait Kernel: Send {
    /// Looks at everything that concerns us.
    fn observe(&mut self) -> Result<Observed, KernelError>;

    /// Looks at interfaces, routes and addresses only; the parts of the answer
    /// that are about the table are empty.
    fn observe_links(&mut self) -> Result<Observed, KernelError>;

    /// Alters the table: all of the transaction or nothing. An empty one takes
    /// possession of a table that an earlier daemon left.
    fn transact(&mut self, transaction: &Transaction) -> Result<(), KernelError>;

    /// A number that changes whenever anybody alters any table.
    fn generation(&mut self) -> Result<u32, KernelError>;

    /// Makes the router answer for these addresses on these interfaces, and
    /// says which ones it could not. What is there already is no error.
    fn present(&mut self, addresses: &[(FloatingIp, IfIndex)]) -> Vec<(FloatingIp, KernelError)>;

    /// Makes the router stop answering for these addresses, and says which ones
    /// it could not. What is gone already is no error.
    fn withdraw(&mut self, addresses: &[(FloatingIp, IfIndex)]) -> Vec<(FloatingIp, KernelError)>;

    /// Alters rules and routes, and says what it could not. What is there, or
    /// gone, already is no error.
    fn reroute(&mut self, rerouting: &Rerouting) -> Vec<KernelError>;

    /// What this kernel can do of what older ones cannot, for status.
    fn features(&self) -> Features;
}

/// Kernel features that are used when they are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Tables that only their owner may alter, and that outlive it (flags
    /// `owner,persist`, Linux 6.9).
    pub table_owner: bool,
    /// Deleting conntrack entries by a filter, in the kernel, instead of
    /// dumping and deleting them one by one.
    pub conntrack_filter: bool,
}

/// Features that are not to be used although the kernel has them, so that tests
/// see what happens on an older one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hidden {
    /// Hides [`Features::table_owner`].
    pub table_owner: bool,
    /// Hides [`Features::conntrack_filter`].
    pub conntrack_filter: bool,
    /// Hides that only the key of a map can be looked up (Linux 6.5), which
    /// alters nothing but how three rules are written.
    pub map_keys: bool,
    /// Hides which process is at the other end of the varlink socket
    /// (SO_PEERPIDFD, Linux 6.5).
    pub peer_pidfd: bool,
}

impl Hidden {
    /// What `IPFLOATER_HIDE_FEATURES` names, separated by commas:
    /// `table-owner`, `conntrack-filter`, `map-keys`, `peer-pidfd`. For tests.
    #[must_use]
    pub fn from_environment() -> Self {
        let names = std::env::var("IPFLOATER_HIDE_FEATURES").unwrap_or_default();
        let hides = |feature| names.split(',').any(|name| name.trim() == feature);
        Self {
            table_owner: hides("table-owner"),
            conntrack_filter: hides("conntrack-filter"),
            map_keys: hides("map-keys"),
            peer_pidfd: hides("peer-pidfd"),
        }
    }
}

/// Looks at interfaces, routes and addresses. Needs no privileges.
pub fn observe_links() -> Result<Observed, KernelError> {
    rtnl::Rtnl::open_unprivileged()?.observe()
}

/// The flows that conntrack keeps.
pub trait Flows: Send {
    /// From now on this is what is not outside: the private prefixes, and the
    /// pools.
    fn know(&mut self, private: Vec<IpNet>, pools: Vec<AddressRange>);

    /// Ends these flows, and says how many entries that were.
    fn cut(&mut self, cuts: &[Cut]) -> Result<usize, KernelError>;

    /// Ends the flows that are translated otherwise than the associations say,
    /// or not at all although they should be: those that an earlier daemon did
    /// not come to, or that began while our table was missing.
    fn settle(&mut self, associations: &Associations) -> Result<usize, KernelError>;

    /// Ends the flows that late answers to ended ones began, and says whether
    /// more such answers may be under way. Once one has ended flows, this is to
    /// be called until they are not.
    fn cut_late(&mut self) -> Result<bool, KernelError>;
}

/// What went through floating IPs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// What came in.
    pub incoming: Count,
    /// What went out.
    pub outgoing: Count,
}

/// The counters of the table.
pub trait Meter: Send {
    /// Reads what went through these addresses; one that is not counted is left
    /// out.
    fn read(&mut self, addresses: &[FloatingIp])
    -> Result<Vec<(FloatingIp, Traffic)>, KernelError>;
}

/// The neighbours on an outside link.
pub trait Neighbours: Send {
    /// Tells them once that the address is ours: gratuitous ARP as request and
    /// reply, or an unsolicited neighbour advertisement.
    fn announce(&mut self, floating: FloatingIp, link: &Link) -> Result<(), KernelError>;

    /// Asks them once whether one of them has the address, without saying that
    /// we do: an ARP probe, or a solicitation as duplicate address detection
    /// sends it.
    fn probe(&mut self, floating: FloatingIp, link: &Link) -> Result<(), KernelError>;

    /// From now on hears what they say about addresses of a family. False means
    /// that it cannot.
    fn hear(&mut self, family: Family) -> Result<bool, KernelError>;

    /// Waits until one of them says something about an address, `wake` can be
    /// read, or the patience is over, and returns what was said.
    fn listen(
        &mut self,
        wake: BorrowedFd<'_>,
        patience: Option<Duration>,
    ) -> Result<Vec<Heard>, KernelError>;
}

/// What somebody on an outside link, or this machine, said about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The address.
    pub floating: FloatingIp,
    /// Where it was heard.
    pub interface: IfIndex,
    /// Who.
    pub by: HardwareAddress,
    /// What.
    pub speech: Speech,
}

/// What somebody else did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Noticed {
    /// Something in our table, or all of it.
    Table,
    /// An interface, a route or an address.
    Links,
    /// An interface has carrier again, be it for the shortest time without.
    Carrier(IfIndex),
    /// Notifications were lost: anything may have happened.
    Lost,
}

/// Notifications of the kernel.
pub trait Watch: Send {
    /// Waits for the next thing that somebody else did. Blocks.
    fn next(&mut self) -> Result<Noticed, KernelError>;
}

/// What was being done when the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opening a socket of the named kind.
    Open(&'static str),
    /// Reading something of the named kind.
    Dump(&'static str),
    /// The nft batch; the object that the error points at.
    Transact(String),
    /// Making the router answer for an address, or stop.
    Presence(FloatingIp),
    /// Altering a routing rule or route: the order, as ip(8) takes it.
    Reroute(String),
    /// Ending flows.
    Cut,
    /// Announcing an address.
    Announce(FloatingIp),
    /// Asking the neighbours whether one of them has an address.
    Probe(FloatingIp),
    /// Hearing what the neighbours say.
    Listen,
    /// Waiting for notifications.
    Watch,
    /// Removing what the original left; which of it.
    Clear(String),
}

impl Operation {
    /// What [`Operation::word`] can be.
    pub const WORDS: [&str; 11] = [
        "open", "dump", "transact", "presence", "cut", "announce", "probe", "listen", "watch",
        "reroute", "clear",
    ];

    /// In a word, whatever it is about.
    #[must_use]
    pub fn word(&self) -> &'static str {
        let [
            open,
            dump,
            transact,
            presence,
            cut,
            announce,
            probe,
            listen,
            watch,
            reroute,
            clear,
        ] = Self::WORDS;
        match self {
            Operation::Open(_) => open,
            Operation::Dump(_) => dump,
            Operation::Transact(_) => transact,
            Operation::Presence(_) => presence,
            Operation::Cut => cut,
            Operation::Announce(_) => announce,
            Operation::Probe(_) => probe,
            Operation::Listen => listen,
            Operation::Watch => watch,
            Operation::Reroute(_) => reroute,
            Operation::Clear(_) => clear,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::Open(what) => write!(f, "opening the {what} socket"),
            Operation::Dump(what) => write!(f, "reading the kernel's {what}"),
            Operation::Transact(object) => write!(f, "altering table inet ipfloater ({object})"),
            Operation::Presence(floating) => {
                write!(f, "answering for {floating} on the outside link")
            }
            Operation::Reroute(order) => write!(f, "{order}"),
            Operation::Cut => f.write_str("ending flows in conntrack"),
            Operation::Announce(floating) => write!(f, "announcing {floating}"),
            Operation::Probe(floating) => write!(f, "asking whether somebody else has {floating}"),
            Operation::Listen => f.write_str("hearing what the neighbours say"),
            Operation::Watch => f.write_str("watching the kernel's notifications"),
            Operation::Clear(what) => write!(f, "removing {what}"),
        }
    }
}

/// The kernel refused, or was not understood.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {source}{}", kernel_words(.message))]
pub struct KernelError {
    /// What was being done.
    pub operation: Operation,
    /// The kernel's errno.
    pub source: io::Error,
    /// The kernel's own words (extended ack), when it had any.
    pub message: Option<String>,
}

impl KernelError {
    /// An error without words of the kernel's.
    pub fn new(operation: Operation, source: impl Into<io::Error>) -> Self {
        Self {
            operation,
            source: source.into(),
            message: None,
        }
    }

    /// The errno, when the kernel gave one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

fn kernel_words(message: &Option<String>) -> String {
    message
        .as_ref()
        .map_or_else(String::new, |text| format!(" ({text})"))
}
