//! One vocabulary for all fronts: what may be asked, what is answered, and why
//! something is refused.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{
    Allocation, Alteration, Family, FixedIp, FloatingIp, Forward, ForwardError, Limit, NotAHost,
    Outbound, PendingReason, PoolName, Port, PortRange, Protocol, Resting, Revision, Sequence,
    Timestamp, Uid,
};

mod terms;

pub use terms::{Effect, EffectKind, LONGEST, LONGEST_TRIAL, Terms};

/// What may be asked to be changed. Reading needs no request: see
/// [`crate::control::Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Take an address from a pool.
    Allocate(Allocate),
    /// Tie a floating IP to a host.
    Associate(Associate),
    /// Untie a floating IP from its host; it stays allocated.
    Disassociate(Disassociate),
    /// Lead ports of a floating IP to a host.
    Forward(ForwardPorts),
    /// Lead ports of a floating IP nowhere of their own any more.
    Unforward(UnforwardPorts),
    /// Note something else of an allocated address.
    Update(Update),
    /// Give an address back to its pool, untied.
    Release(Release),
    /// Let a change that is on trial stay.
    Confirm(Confirm),
    /// Undo a change that is on trial.
    Revert(Revert),
}

impl Request {
    /// The verb, as log, store and both buses call it.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Request::Allocate(_) => "allocate",
            Request::Associate(_) => "associate",
            Request::Disassociate(_) => "disassociate",
            Request::Forward(_) => "forward",
            Request::Unforward(_) => "unforward",
            Request::Update(_) => "update",
            Request::Release(_) => "release",
            Request::Confirm(_) => "confirm",
            Request::Revert(_) => "revert",
        }
    }
}

/// As many addresses can be taken at once.
pub const MOST_AT_ONCE: u32 = 64;

/// Take addresses from pools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocate {
    /// This one; `None` takes a free one.
    pub floating: Option<FloatingIp>,
    /// As many free ones, all or none, 1 to [`MOST_AT_ONCE`]; `None` takes one.
    pub count: Option<u32>,
    /// From this pool; `None` takes the first that has a free one.
    pub pool: Option<PoolName>,
    /// For this user; `None` takes it for the one who asks.
    pub owner: Option<Uid>,
    /// What to note of what is taken.
    pub alteration: Box<Alteration>,
}

/// Tie a floating IP to a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Associate {
    /// This one, which is allocated on the way when it is free; `None` keeps
    /// the one that the host already has, or takes a free one.
    pub floating: Option<FloatingIp>,
    /// The host.
    pub fixed: FixedIp,
    /// Where to take a free address from; `None` takes the first pool that has
    /// one of the host's family.
    pub pool: Option<PoolName>,
    /// Whose a free address becomes; `None` is the one who asks.
    pub owner: Option<Uid>,
    /// Whether the floating IP may be taken from another host, and whether
    /// another floating IP of this host may be displaced.
    pub reassociate: bool,
    /// Whether flows from before go on until they end by themselves: those of
    /// the host that has the floating IP now, and those that this host began
    /// under another address.
    pub keep_established: bool,
}

/// Untie a floating IP from its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disassociate {
    /// The floating IP, or the fixed address that has it.
    pub address: IpAddr,
}

/// Lead ports of a floating IP to a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardPorts {
    /// The floating IP, which is allocated on the way when it is free.
    pub floating: FloatingIp,
    /// The ports, and where to.
    pub forward: Forward,
    /// Whether the ports may be taken from another host that they lead to.
    pub reassociate: bool,
}

impl ForwardPorts {
    /// The request of these fields, as all fronts take them.
    pub fn new(
        floating: FloatingIp,
        protocol: Protocol,
        ports: PortRange,
        fixed: FixedIp,
        fixed_port: Option<Port>,
        outbound: Option<Outbound>,
        reassociate: bool,
    ) -> Result<Self, ForwardError> {
        let fixed_port = fixed_port.unwrap_or(ports.first());
        let outbound = outbound.unwrap_or_default();
        Ok(Self {
            floating,
            forward: Forward::new(protocol, ports, fixed, fixed_port, outbound)?,
            reassociate,
        })
    }
}

/// Lead ports of a floating IP nowhere of their own any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnforwardPorts {
    /// The floating IP.
    pub floating: FloatingIp,
    /// Of which protocol.
    pub protocol: Protocol,
    /// The ports, just as they were forwarded.
    pub ports: PortRange,
}

/// Note something else of an allocated address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The floating IP, or the fixed address that has it.
    pub address: IpAddr,
    /// What to note.
    pub alteration: Box<Alteration>,
}

/// Give an address back to its pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The floating IP, or the fixed address that has it.
    pub address: IpAddr,
}

/// Let a change that is on trial stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirm {
    /// One of its floating IPs, or a fixed address that has one or had it.
    pub address: IpAddr,
}

/// Undo a change that is on trial, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revert {
    /// One of its floating IPs, or a fixed address that has one or had it.
    pub address: IpAddr,
}

/// How far the right of the one who asks reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// To every address: root and the daemon's own user.
    Any,
    /// To what the right was given for, of others as well, and without limits.
    Managed(Reach),
    /// To the asker's own addresses and to free ones, within limits.
    Own(Limit, Reach),
}

/// What a request concerned when the right was given: it may concern something
/// else when it is decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Whose the addresses were that it alters.
    pub owners: Vec<(FloatingIp, Uid)>,
    /// For whom it takes an address that is free.
    pub takes: Option<Uid>,
    /// From whom it takes an address that rests for him.
    pub rest_of: Option<Uid>,
}

/// What became of a request that was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The address that it was about.
    pub floating: FloatingIp,
    /// Whether anything was altered; `false` when it already was as asked.
    pub changed: bool,
    /// All addresses that it was about, in order, when several could be.
    pub all: Vec<(FloatingIp, Allocation)>,
    /// The address as it is now; `None` when it is free.
    pub allocation: Option<Allocation>,
    /// For whom it is kept, when it was released just now.
    pub resting: Option<Resting>,
    /// Why its association is not in force yet, when it is not.
    pub pending: Option<PendingReason>,
    /// The host that had the address before.
    pub previous: Option<FixedIp>,
    /// The floating IP that the host had before; it stays allocated.
    pub displaced: Option<FloatingIp>,
    /// The commit that made it so, or the current one when nothing changed.
    pub revision: Revision,
    /// The last event of it, or the current one when nothing changed.
    pub sequence: Sequence,
    /// Until when it is to be confirmed, when it is.
    pub unconfirmed: Option<Timestamp>,
    /// Of a dry run: what would have been done, and was not.
    pub effects: Option<Vec<Effect>>,
}

/// Why a request cannot be granted. Each is one named error in `interfaces/`,
/// the same on D-Bus and varlink.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A field that should be an address is none that can be used.
    #[error("{field}: {value:?} cannot be used: {why}")]
    InvalidAddress {
        /// The name of the field, as the caller wrote it.
        field: &'static str,
        /// What it held, cut to a length fit for a message.
        value: String,
        /// What would be right.
        why: String,
    },
    /// Another field does not hold what it should.
    #[error("{field}: {why}")]
    InvalidArgument {
        /// The name of the field.
        field: String,
        /// What would be right.
        why: String,
    },
    /// No pool of that name is configured.
    #[error("there is no pool {0}; `ipfloater ippool` lists them")]
    NoSuchPool(PoolName),
    /// The address belongs to no pool, or not to the one that was named.
    #[error("{address} is {}", elsewhere(.pool, .home))]
    NotInPool {
        /// The address.
        address: IpAddr,
        /// The pool that was named.
        pool: Option<PoolName>,
        /// The pool that it is of.
        home: Option<PoolName>,
    },
    /// Another user owns the address, or it was allocated before.
    #[error("{floating} is allocated already{}", or_noted(.floating, *.noted))]
    AlreadyAllocated {
        /// The address.
        floating: FloatingIp,
        /// Whether it is as was asked but for what is noted of it.
        noted: bool,
    },
    /// No pool that fits has a free address.
    #[error("no free {family} address is left in {}; release one, or enlarge the pool", pools(.pool))]
    PoolExhausted {
        /// The family that was needed.
        family: String,
        /// The pool that was named.
        pool: Option<PoolName>,
    },
    /// The addresses are of different families.
    #[error(
        "{floating} and {fixed} are of different families; a floating IP is associated with a fixed address of its own"
    )]
    WrongFamily {
        /// The floating IP.
        floating: FloatingIp,
        /// The host.
        fixed: FixedIp,
    },
    /// The fixed address lies outside the private ranges.
    #[error("{fixed} {}", outside(.private, .home, *.swapped))]
    OutsidePrivateRanges {
        /// The host.
        fixed: FixedIp,
        /// The private ranges of its family.
        private: Vec<IpNet>,
        /// The pool that it is of.
        home: Option<PoolName>,
        /// Whether a host was named as the floating IP.
        swapped: bool,
    },
    /// The address cannot be a host's.
    #[error("{fixed} is {}, not a host's address", not_a_host(.why))]
    NotAHost {
        /// The address.
        fixed: FixedIp,
        /// What it is.
        why: NotAHost,
    },
    /// The router itself has the pool address as a primary one.
    #[error(
        "{floating} is an address that the router itself uses; take it off the interface or out of the pool"
    )]
    RouterAddress {
        /// The address.
        floating: FloatingIp,
    },
    /// The floating IP is tied to another host.
    #[error("{floating} is associated with {fixed}; reassociate moves it")]
    AlreadyAssociated {
        /// The floating IP.
        floating: FloatingIp,
        /// The host that has it.
        fixed: FixedIp,
    },
    /// The host has another floating IP.
    #[error("{fixed} already has the floating IP {floating}; reassociate displaces it")]
    TargetInUse {
        /// The host.
        fixed: FixedIp,
        /// The floating IP that it has.
        floating: FloatingIp,
    },
    /// The fixed address has no floating IP to untie or release.
    #[error("{address} has no floating IP")]
    NotAssociated {
        /// The fixed address.
        address: IpAddr,
    },
    /// Nobody has the address, and so nothing can be noted of it.
    #[error("{floating} is allocated to nobody; allocate it first")]
    NotAllocated {
        /// The address.
        floating: FloatingIp,
    },
    /// The address was released a short while ago, by somebody else.
    #[error(
        "{floating} was released a short while ago and is kept for its last owner until {until}; \
         name no address to get another one"
    )]
    AddressResting {
        /// The address.
        floating: FloatingIp,
        /// Until when.
        until: Timestamp,
    },
    /// The address is not to be released.
    #[error("{floating} is protected from being released; unprotect it first")]
    Protected {
        /// The address.
        floating: FloatingIp,
    },
    /// The address got another owner while the right to alter it was looked into.
    #[error("the owner of {floating} changed while this was being authorized; ask again")]
    OwnerChanged {
        /// The address.
        floating: FloatingIp,
    },
    /// The user has as many addresses as may be.
    #[error(
        "user {owner} may have {quota} floating IPs and has them, those included that are kept for him after a release; release one, or take one of those again"
    )]
    QuotaExceeded {
        /// Whose.
        owner: Uid,
        /// How many.
        quota: u32,
    },
    /// The user may not lead addresses to that host.
    #[error(
        "{fixed} lies outside the ranges that you may use; PERMITTED_IP_RANGES in the configuration says which those are"
    )]
    OutsidePermittedRanges {
        /// The host.
        fixed: FixedIp,
    },
    /// Some of these ports lead somewhere already.
    #[error("{floating} forwards {other}{}", unclash(.floating, .other, *.same))]
    ForwardClash {
        /// The floating IP.
        floating: FloatingIp,
        /// The forward that has them.
        other: Forward,
        /// Whether it has just these ports.
        same: bool,
    },
    /// The host leaves as another floating IP by a forward of that one.
    #[error(
        "{fixed} leaves as {floating} already, by a forward; a host has one address to leave with"
    )]
    OutboundClash {
        /// The host.
        fixed: FixedIp,
        /// The floating IP that it leaves as.
        floating: FloatingIp,
    },
    /// The kernel's maps of forwards hold no more.
    #[error("at most {limit} {what} can be forwarded at once for {family}")]
    ForwardLimitReached {
        /// How many.
        limit: u32,
        /// Of what: ports, or ranges of ports.
        what: &'static str,
        /// Of which family.
        family: String,
    },
    /// The last change of the address, or of the configuration, is on trial.
    #[error(
        "the last change of {} is not confirmed: confirm it, revert it, or wait until {until}",
        what(.floating)
    )]
    Unconfirmed {
        /// The address; `None` for the configuration.
        floating: Option<FloatingIp>,
        /// Until when.
        until: Timestamp,
    },
    /// There is nothing to confirm or to undo.
    #[error("nothing waits for a confirmation{}: it was confirmed or undone already, or never asked for; `ipfloater history` tells", of(.address))]
    NothingUnconfirmed {
        /// The address; `None` for the configuration.
        address: Option<IpAddr>,
    },
    /// The kernel's set of prefixes holds no more.
    #[error("at most {limit} {family} prefixes can be allowed at once, all addresses together")]
    SourceLimitReached {
        /// How many.
        limit: u32,
        /// Of which family.
        family: String,
    },
    /// The kernel's maps hold no more.
    #[error("at most {limit} {family} addresses can be allocated or associated at once")]
    LimitReached {
        /// How many.
        limit: u32,
        /// Of which family.
        family: String,
    },
}

impl Refusal {
    /// The refusal of a text that is no usable address.
    #[must_use]
    pub fn invalid_address(field: &'static str, value: &str, why: impl ToString) -> Self {
        // Long enough for any address; what is longer is none, and is not echoed.
        let value = value.chars().take(64).collect();
        Refusal::InvalidAddress {
            field,
            value,
            why: why.to_string(),
        }
    }

    /// The name of the error in `interfaces/`, without a prefix.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Refusal::InvalidAddress { .. } => "InvalidAddress",
            Refusal::InvalidArgument { .. } => "InvalidArgument",
            Refusal::NoSuchPool(_) => "NoSuchPool",
            Refusal::NotInPool { .. } => "NotInPool",
            Refusal::AlreadyAllocated { .. } => "AlreadyAllocated",
            Refusal::PoolExhausted { .. } => "PoolExhausted",
            Refusal::WrongFamily { .. } => "WrongFamily",
            Refusal::OutsidePrivateRanges { .. } => "OutsidePrivateRanges",
            Refusal::NotAHost { .. } => "NotAHost",
            Refusal::RouterAddress { .. } => "RouterAddress",
            Refusal::AlreadyAssociated { .. } => "AlreadyAssociated",
            Refusal::TargetInUse { .. } => "TargetInUse",
            Refusal::NotAssociated { .. } => "NotAssociated",
            Refusal::NotAllocated { .. } => "NotAllocated",
            Refusal::AddressResting { .. } => "AddressResting",
            Refusal::Protected { .. } => "Protected",
            Refusal::OwnerChanged { .. } => "OwnerChanged",
            Refusal::QuotaExceeded { .. } => "QuotaExceeded",
            Refusal::OutsidePermittedRanges { .. } => "OutsidePermittedRanges",
            Refusal::ForwardClash { .. } => "ForwardClash",
            Refusal::OutboundClash { .. } => "OutboundClash",
            Refusal::ForwardLimitReached { .. } => "ForwardLimitReached",
            Refusal::SourceLimitReached { .. } => "SourceLimitReached",
            Refusal::Unconfirmed { .. } => "Unconfirmed",
            Refusal::NothingUnconfirmed { .. } => "NothingUnconfirmed",
            Refusal::LimitReached { .. } => "LimitReached",
        }
    }
}

fn or_noted(floating: &FloatingIp, noted: bool) -> String {
    if noted {
        format!(" and something else is noted of it; `ipfloater set {floating}` alters that")
    } else {
        "; name no address to get a free one".to_owned()
    }
}

fn elsewhere(pool: &Option<PoolName>, home: &Option<PoolName>) -> String {
    match (pool, home) {
        (Some(pool), Some(home)) => format!("of pool {home}, not of {pool}"),
        (_, _) => "in no pool; `ipfloater ippool` lists what is".to_owned(),
    }
}

/// As many private ranges are told.
const RANGES_TOLD: usize = 8;

fn outside(private: &[IpNet], home: &Option<PoolName>, swapped: bool) -> String {
    if let Some(home) = home {
        let order = match swapped {
            true => "; the floating IP is named first, and then the host",
            false => "",
        };
        return format!("is a floating IP (of pool {home}), and no host's address{order}");
    }
    let ranges: Vec<_> = private.iter().map(ToString::to_string).collect();
    let ranges = match &ranges[..] {
        [] => ", of which there are none of its family".to_owned(),
        told if told.len() <= RANGES_TOLD => format!(", {}", told.join(", ")),
        many => format!(
            ", {} and {} more",
            many[..RANGES_TOLD].join(", "),
            many.len() - RANGES_TOLD
        ),
    };
    format!(
        "lies outside the private ranges{ranges}; PRIVATE_IP_RANGES in the configuration sets them"
    )
}

fn pools(pool: &Option<PoolName>) -> String {
    pool.as_ref()
        .map_or_else(|| "any pool".to_owned(), |pool| format!("pool {pool}"))
}

fn what(floating: &Option<FloatingIp>) -> String {
    floating.map_or_else(|| "the configuration".to_owned(), |ip| ip.to_string())
}

fn of(address: &Option<IpAddr>) -> String {
    address.map_or_else(String::new, |address| format!(" of {address}"))
}

fn unclash(floating: &FloatingIp, other: &Forward, same: bool) -> String {
    if same {
        return " already; reassociate moves these ports".to_owned();
    }
    let (ports, protocol) = (other.ports(), other.protocol());
    let place = match floating.family() {
        Family::V4 => format!("{floating}:{ports}"),
        Family::V6 => format!("[{floating}]:{ports}"),
    };
    format!(
        "; `ipfloater unforward {place}/{protocol}` removes that forward, with all of its ports"
    )
}

fn not_a_host(why: &NotAHost) -> &'static str {
    match why {
        NotAHost::Router => "the router's own address",
        NotAHost::Network => "the address of a network",
        NotAHost::Broadcast => "a broadcast address",
    }
}
