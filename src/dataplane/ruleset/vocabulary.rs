//! The vocabulary that the table is written in: the kernel's own expressions
//! (`include/uapi/linux/netfilter/nf_tables.h`), as far as it uses them.

use crate::model::Family;

/// A set, or a map when it has a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// The type of its keys.
    pub key: DataType,
    /// The type of its values; `None` for a set.
    pub value: Option<DataType>,
    /// Whether its elements are ranges.
    pub interval: bool,
    /// How many elements it is made for; `None` when it grows.
    pub size: Option<u32>,
    /// What each of its elements does when it is found.
    pub each: Option<Stateful>,
}

/// What an element of a set does when a packet finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stateful {
    /// It counts the packet.
    Counter,
    /// It is found only if it has been found too often.
    Limit,
}

/// The type of a key or value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataType {
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// An interface name, padded with NUL to 16 bytes (IFNAMSIZ).
    InterfaceName,
    /// An address, a transport protocol and a port.
    AddressProtocolPort(Family),
    /// An address and a port.
    AddressPort(Family),
    /// Two addresses.
    TwoAddresses(Family),
    /// What happens to a packet: the name of a chain to continue in.
    Verdict,
    /// A type that we never use, as seen in somebody else's edit of our table.
    Foreign(u32),
}

/// A chain with its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Where it hangs; `None` when other chains go to it.
    pub base: Option<Base>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// One rule: expressions that run until one says no.
pub type Rule = Vec<Expr>;

/// Where a base chain hangs. Its policy is always accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its type.
    pub kind: BaseKind,
    /// Its hook.
    pub hook: Hook,
    /// Its priority: lower ones run first.
    pub priority: i32,
}

/// The type of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseKind {
    /// `type filter`: sees every packet.
    Filter,
    /// `type route`: sees every packet, and has it routed anew when it altered
    /// its mark.
    Route,
    /// `type nat`: sees the first packet of a flow.
    Nat,
}

/// A netfilter hook of family inet (`enum nf_inet_hooks`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// To the router itself.
    Input,
    /// Through the router.
    Forward,
    /// From the router itself.
    Output,
    /// After routing.
    Postrouting,
}

/// A register of the nft virtual machine: `NFT_REG_1` to `NFT_REG_4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register(pub u8);

impl Register {
    /// The one that decides: `NFT_REG_VERDICT`.
    pub const VERDICT: Self = Self(0);
}

/// An expression of the nft virtual machine, as far as our rules use them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Load a property of the packet.
    Meta {
        /// Which.
        key: MetaKey,
        /// Where to.
        to: Register,
    },
    /// Load bytes of a header.
    Payload {
        /// From which header.
        base: PayloadBase,
        /// From which byte of it.
        offset: u32,
        /// How many.
        len: u32,
        /// Where to.
        to: Register,
    },
    /// Load a property of the packet's conntrack entry.
    Ct {
        /// Which.
        key: CtKey,
        /// Where to.
        to: Register,
    },
    /// Load whether IPsec will take the packet: 1 if so.
    RouteIpsec {
        /// Where to.
        to: Register,
    },
    /// Keep the bits of a mask.
    Mask {
        /// Which register, in and out.
        register: Register,
        /// The mask, in the byte order of what is masked.
        mask: Vec<u8>,
    },
    /// Keep the bits of a mask, and set those of a value. They have none in
    /// common.
    Merge {
        /// Which register, in and out.
        register: Register,
        /// The mask, in host order.
        mask: u32,
        /// The value, in host order.
        value: u32,
    },
    /// Make a register the mark of the packet.
    SetMark {
        /// Which.
        from: Register,
    },
    /// Go on if the comparison holds.
    Cmp {
        /// Which.
        op: CmpOp,
        /// The register on the left.
        register: Register,
        /// The bytes on the right.
        data: Vec<u8>,
    },
    /// Go on if a set or map has the register as a key.
    Lookup {
        /// The set or map.
        set: String,
        /// The key.
        key: Register,
        /// Where its value goes; `None` when only the key is looked up.
        value: Option<Register>,
    },
    /// Translate the destination to the address in a register.
    Dnat {
        /// The family.
        family: Family,
        /// The address.
        address: Register,
        /// The port; `None` leaves it.
        port: Option<Register>,
    },
    /// Translate the source to the address in a register.
    Snat {
        /// The family.
        family: Family,
        /// The address.
        address: Register,
    },
    /// Translate the source to the router's address on the way out.
    Masquerade,
    /// Decide.
    Verdict(Verdict),
    /// One that we never use, as seen in somebody else's edit of our table.
    Foreign(String),
}

/// What `meta` loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaKey {
    /// The network protocol: `NFPROTO_IPV4` (2) or `NFPROTO_IPV6` (10).
    Nfproto,
    /// The transport protocol number.
    L4proto,
    /// The name of the interface it came by.
    Iifname,
    /// The name of the interface it leaves by.
    Oifname,
    /// Its mark.
    Mark,
}

/// A header that `payload` loads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadBase {
    /// IPv4 or IPv6.
    Network,
    /// TCP, UDP, ICMP and so on.
    Transport,
}

/// What `ct` loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtKey {
    /// The state bits.
    State,
    /// The status bits.
    Status,
    /// 0 for the direction of the first packet, 1 for replies.
    Direction,
    /// The destination of the first packet, before any translation.
    OriginalDestination(Family),
    /// The destination of a reply, before it is translated back.
    ReplyDestination(Family),
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CmpOp {
    /// `==`
    Eq,
    /// `!=`
    Neq,
    /// `>=`
    Gte,
    /// `<=`
    Lte,
}

/// A verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let this chain's hook pass it.
    Accept,
    /// Throw it away.
    Drop,
    /// Continue in another chain and do not come back.
    Goto(String),
    /// Continue in another chain and come back.
    Jump(String),
}

impl DataType {
    /// The address type of a family.
    #[must_use]
    pub fn of(family: Family) -> Self {
        match family {
            Family::V4 => DataType::Ipv4,
            Family::V6 => DataType::Ipv6,
        }
    }
}
