//! What rules are put together of.

use std::net::IpAddr;

use ipnet::IpNet;

use super::vocabulary::{
    Base, BaseKind, Chain, CmpOp, CtKey, Expr, Hook, MetaKey, PayloadBase, Register, Rule, Verdict,
};
use super::{named, names};
use crate::model::Family;

/// The only register that our rules need: the kernel's are as wide as an IPv6
/// address.
pub(super) const R1: Register = Register(1);

/// Where what follows an address in R1 lies. Registers 8 to 23 are those of 4
/// bytes (`NFT_REG32_00`); the fifth of them is dumped as 2, the second of 16
/// bytes.
pub(super) fn after_address(family: Family) -> [Register; 2] {
    match family {
        Family::V4 => [Register(9), Register(10)],
        Family::V6 => [Register(2), Register(13)],
    }
}

/// Ten before the priorities that nft(8) calls dstnat (-100) and srcnat (100):
/// the first translation of a flow is the one that counts, so a table of
/// somebody else that masquerades does not get there first.
pub const DSTNAT: i32 = -110;
/// The same for sources.
pub const SRCNAT: i32 = 90;
/// Ten before the one that nft(8) calls filter (0).
pub(super) const FILTER: i32 = -10;

/// `IPS_SRC_NAT` and `IPS_DST_NAT` (include/uapi/linux/netfilter/nf_conntrack_common.h).
pub(super) const STATUS_SNAT: u32 = 1 << 4;
pub(super) const STATUS_DNAT: u32 = 1 << 5;
/// `NF_CT_STATE_INVALID_BIT` and `NF_CT_STATE_UNTRACKED_BIT` of the same file.
pub(super) const STATE_INVALID: u32 = 1;
pub(super) const STATE_UNTRACKED: u32 = 1 << 6;

/// `ip daddr PREFIX`
pub(super) fn to_prefix(net: IpNet, then: Expr) -> Rule {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let mut rule = destination(Family::of(net.addr()));
    if net.prefix_len() < net.max_prefix_len() {
        rule.push(Expr::Mask {
            register: R1,
            mask: octets(net.netmask()),
        });
    }
    rule.extend([
        Expr::Cmp {
            op: CmpOp::Eq,
            register: R1,
            data: octets(net.network()),
        },
        then,
    ]);
    rule
}

/// `rt ipsec exists`: it is about to be taken by IPsec.
pub(super) fn by_ipsec(then: Expr) -> Rule {
    vec![
        Expr::RouteIpsec { to: R1 },
        Expr::Cmp {
            op: CmpOp::Eq,
            register: R1,
            data: vec![1],
        },
        then,
    ]
}

/// `ct KEY BITS`: any of the bits is set.
pub(super) fn ct_bits(key: CtKey, bits: u32) -> Rule {
    let mut rule = ct_masked(key, bits);
    rule.push(Expr::Cmp {
        op: CmpOp::Neq,
        register: R1,
        data: vec![0; 4],
    });
    rule
}

/// These bits of what `ct KEY` loads. The kernel keeps them in host order.
pub(super) fn ct_masked(key: CtKey, bits: u32) -> Rule {
    vec![
        Expr::Ct { key, to: R1 },
        Expr::Mask {
            register: R1,
            mask: bits.to_ne_bytes().to_vec(),
        },
    ]
}

/// `iifname != ""`: what is forwarded. The router itself may have an address of
/// the pool, and sends from it.
pub(super) fn came_in() -> Rule {
    no_iifname(CmpOp::Neq)
}

/// `iifname == ""` or `iifname != ""`: what the router itself sends came by no
/// interface.
pub(super) fn no_iifname(op: CmpOp) -> Rule {
    vec![
        Expr::Meta {
            key: MetaKey::Iifname,
            to: R1,
        },
        // IFNAMSIZ (include/uapi/linux/if.h)
        Expr::Cmp {
            op,
            register: R1,
            data: vec![0; 16],
        },
    ]
}

/// `icmpv6 type nd-neighbor-solicit-nd-neighbor-advert`: types 135 and 136
/// (RFC 4861 4.3, 4.4). They have a floating IP as target and must pass, or a
/// floating IP could not be resolved.
pub(super) fn neighbour_discovery() -> Rule {
    vec![
        Expr::Meta {
            key: MetaKey::L4proto,
            to: R1,
        },
        // IPPROTO_ICMPV6
        Expr::Cmp {
            op: CmpOp::Eq,
            register: R1,
            data: vec![58],
        },
        Expr::Payload {
            base: PayloadBase::Transport,
            offset: 0,
            len: 1,
            to: R1,
        },
        Expr::Cmp {
            op: CmpOp::Gte,
            register: R1,
            data: vec![135],
        },
        Expr::Cmp {
            op: CmpOp::Lte,
            register: R1,
            data: vec![136],
        },
        Expr::Verdict(Verdict::Accept),
    ]
}

/// `dnat ip to ip daddr map @floating_to_fixed4` and its like.
pub(super) fn translate(family: Family, address: Rule, map: &str, nat: Expr) -> Rule {
    let mut rule = address;
    rule.push(Expr::Lookup {
        set: named(map, family),
        key: R1,
        value: Some(R1),
    });
    rule.push(nat);
    rule
}

/// `ip daddr @pool4 drop` and its like; of a map, the keys are looked up.
pub(super) fn in_set(address: Rule, set: &str, family: Family, then: Expr) -> Rule {
    let mut rule = address;
    rule.extend([lookup(set, family), then]);
    rule
}

pub(super) fn on_interface(key: MetaKey, then: Rule) -> Rule {
    let mut rule = vec![
        Expr::Meta { key, to: R1 },
        Expr::Lookup {
            set: names::OUTSIDE.into(),
            key: R1,
            value: None,
        },
    ];
    rule.extend(then);
    rule
}

pub(super) fn lookup(set: &str, family: Family) -> Expr {
    Expr::Lookup {
        set: named(set, family),
        key: R1,
        value: None,
    }
}

/// `ip saddr`: byte 12 of IPv4 (RFC 791 3.1), byte 8 of IPv6 (RFC 8200 3).
pub(super) fn source(family: Family) -> Rule {
    address_at(family, 12, 8)
}

/// `ip daddr`: byte 16 of IPv4, byte 24 of IPv6.
pub(super) fn destination(family: Family) -> Rule {
    address_at(family, 16, 24)
}

/// `ip daddr . meta l4proto . th dport`: the port is at byte 2 of TCP, UDP and
/// SCTP. In packets of other protocols these bytes are something else, and in
/// no map with that protocol.
pub(super) fn destination_and_port(family: Family) -> Rule {
    let [protocol, port] = after_address(family);
    let mut rule = destination(family);
    rule.extend([
        Expr::Meta {
            key: MetaKey::L4proto,
            to: protocol,
        },
        Expr::Payload {
            base: PayloadBase::Transport,
            offset: 2,
            len: 2,
            to: port,
        },
    ]);
    rule
}

/// `ip daddr . ip saddr`
pub(super) fn both_addresses(family: Family) -> Rule {
    let mut rule = destination(family);
    let (offset, len, to) = match family {
        Family::V4 => (12, 4, Register(9)),
        Family::V6 => (8, 16, Register(2)),
    };
    rule.push(Expr::Payload {
        base: PayloadBase::Network,
        offset,
        len,
        to,
    });
    rule
}

pub(super) fn address_at(family: Family, offset4: u32, offset6: u32) -> Rule {
    match family {
        Family::V4 => network(family, offset4, 4),
        Family::V6 => network(family, offset6, 16),
    }
}

/// `ip6 hoplimit`: byte 7 (RFC 8200 3).
pub(super) fn hop_limit() -> Rule {
    network(Family::V6, 7, 1)
}

/// Bytes of the header of one family.
pub(super) fn network(family: Family, offset: u32, len: u32) -> Rule {
    // NFPROTO_IPV4 and NFPROTO_IPV6 (include/uapi/linux/netfilter.h)
    let protocol = match family {
        Family::V4 => 2,
        Family::V6 => 10,
    };
    vec![
        Expr::Meta {
            key: MetaKey::Nfproto,
            to: R1,
        },
        Expr::Cmp {
            op: CmpOp::Eq,
            register: R1,
            data: vec![protocol],
        },
        Expr::Payload {
            base: PayloadBase::Network,
            offset,
            len,
            to: R1,
        },
    ]
}

pub(super) fn original_destination(family: Family) -> Expr {
    Expr::Ct {
        key: CtKey::OriginalDestination(family),
        to: R1,
    }
}

pub(super) fn go(chain: &str) -> Expr {
    Expr::Verdict(Verdict::Goto(chain.into()))
}

pub(super) fn drop_it() -> Expr {
    Expr::Verdict(Verdict::Drop)
}

pub(super) fn chain(name: &str, rules: Vec<Rule>) -> Chain {
    Chain {
        name: name.into(),
        base: None,
        rules,
    }
}

pub(super) fn base(
    name: &str,
    kind: BaseKind,
    hook: Hook,
    priority: i32,
    rules: Vec<Rule>,
) -> Chain {
    Chain {
        name: name.into(),
        base: Some(Base {
            kind,
            hook,
            priority,
        }),
        rules,
    }
}
