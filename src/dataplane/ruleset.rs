//! The fixed part of table `inet ipfloater`: sets, maps, chains and rules.
//!
//! Nothing here grows with the number of addresses; what does is an element of
//! a set or map. The first packet of a flow passes the nat chains, and each
//! packet `leaving` (`ruleset/traffic.rs`):
//!
//! ```text
//! prerouting ─ nat_prerouting ┐    by_source   while any address has a filter
//!                             ├─ to_fixed      floating → fixed
//! output ───── nat_output ────┘     └ by_port    by forwards; free: drop
//! input ────── guard_local                     never the router's own services
//! postrouting  nat_postrouting ┬ to_floating   outside: fixed → floating
//!              │               │   └ untranslated  other sites, IPsec; what comes
//!              │               │                   in with a pool address: drop
//!              │               └ hairpin       inside to floating: floating, or
//!              │                               the router's address
//!              leaving ┬ inbound_flow, outbound_flow, twice_translated
//!                      │                       rates, counters
//!                      └ bypassed              what nat never saw: drop
//! ```
//!
//! The rules are data, in the vocabulary of the kernel's own expressions
//! (`include/uapi/linux/netfilter/nf_tables.h`), written the way nft(8) writes
//! them, so that `nft list table inet ipfloater` reads well and what is dumped
//! can be compared with what should be.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{Family, Forwarded, Site, State, Untranslated};

mod traffic;

pub use traffic::{counted, limited};

/// The name of our table, in family `inet`.
pub const TABLE: &str = "ipfloater";

/// The most elements that a map of one family is made for. A map with a fixed
/// size is a plain hash of the kernel: twice as fast to fill, and flat.
pub const MOST_ASSOCIATIONS: u32 = 131_072;

/// The fewest, so that a small pool can grow without a new table.
const FEWEST_ASSOCIATIONS: u32 = 1_024;

/// How many ports of a family can be forwarded one by one: 512 KiB of buckets.
const FORWARDED_PORTS: u32 = 32_768;

/// How many ranges of ports of a family can be forwarded as such. What such a
/// map takes to forget one grows with it: .1 ms at 10, 3 ms at 1,000, 30 ms at
/// 10,000 (Linux 6.18).
const FORWARDED_RANGES: u32 = 1_024;

/// How many prefixes of a family may reach floating IPs, all together. What it
/// takes to forget one grows with their number as it does for ranges of ports.
const ALLOWED: u32 = 1_024;

/// What of the table is there only while some address needs it, so that all
/// others pay nothing for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Whether any address has a rate, in and out.
    pub rates: [bool; 2],
    /// Whether any address is not for everybody.
    pub sources: bool,
}

impl Uses {
    /// Those of a state.
    #[must_use]
    pub fn of(state: &State) -> Self {
        Self {
            rates: state.has_rates(),
            sources: state.has_sources(),
        }
    }
}

/// The table without its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// Its sets and maps, sorted by name.
    pub sets: Vec<Set>,
    /// Its chains with their rules, sorted by name.
    pub chains: Vec<Chain>,
}

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

/// The only register that our rules need: the kernel's are as wide as an IPv6
/// address.
const R1: Register = Register(1);

/// Where what follows an address in R1 lies. Registers 8 to 23 are those of 4
/// bytes (`NFT_REG32_00`); the fifth of them is dumped as 2, the second of 16
/// bytes.
fn after_address(family: Family) -> [Register; 2] {
    match family {
        Family::V4 => [Register(9), Register(10)],
        Family::V6 => [Register(2), Register(13)],
    }
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

/// The name of a map or set of one family: `pool` and IPv6 give `pool6`.
#[must_use]
pub fn named(stem: &str, family: Family) -> String {
    match family {
        Family::V4 => format!("{stem}4"),
        Family::V6 => format!("{stem}6"),
    }
}

/// Names of the sets and maps, without the digit of the family.
pub mod names {
    /// All addresses of all pools, as ranges.
    pub const POOL: &str = "pool";
    /// The map from floating IP to fixed address.
    pub const FLOATING_TO_FIXED: &str = "floating_to_fixed";
    /// The map from floating IP to fixed address, for those with forwards: what
    /// these leave over.
    pub const REST_TO_FIXED: &str = "rest_to_fixed";
    /// The map from a port of a floating IP to one of a host.
    pub const FORWARD: &str = "forward";
    /// The map from ports of a floating IP to a host with the same ports.
    pub const FORWARD_RANGE: &str = "forward_range";
    /// The hosts that forwards lead to.
    pub const FORWARDED_TO: &str = "forwarded_to";
    /// The floating IPs with forwards; only there when free addresses are open.
    pub const FORWARDING: &str = "forwarding";
    /// The map from fixed address to floating IP.
    pub const FIXED_TO_FLOATING: &str = "fixed_to_floating";
    /// The floating IPs, each with what came in for it.
    pub const COUNTED_IN: &str = "counted_in";
    /// The floating IPs, each with what went out as it.
    pub const COUNTED_OUT: &str = "counted_out";
    /// The floating IPs with a rate for what comes in, each with that rate.
    pub const LIMITED_IN: &str = "limited_in";
    /// The floating IPs with a rate for what goes out, each with that rate.
    pub const LIMITED_OUT: &str = "limited_out";
    /// The floating IPs that are not for everybody.
    pub const FILTERED: &str = "filtered";
    /// The floating IPs that are not for everybody, each with those who may
    /// reach it.
    pub const ALLOWED: &str = "allowed";
    /// The outside interfaces; both families share it.
    pub const OUTSIDE: &str = "outside";
}

impl Ruleset {
    /// The ruleset for a site, with maps for as many associations of each
    /// family as `size` says.
    #[must_use]
    pub fn new(site: &Site, size: impl Fn(Family) -> u32) -> Self {
        Self::using(site, size, Uses::default())
    }

    /// The same with what some addresses need.
    #[must_use]
    pub fn using(site: &Site, size: impl Fn(Family) -> u32, uses: Uses) -> Self {
        let mut sets = vec![Set {
            name: names::OUTSIDE.into(),
            key: DataType::InterfaceName,
            value: None,
            interval: false,
            size: Some(outside(site)),
            each: None,
        }];
        for family in Family::BOTH {
            let address = DataType::of(family);
            let map = |stem| Set {
                name: named(stem, family),
                key: address,
                value: Some(address),
                interval: false,
                size: Some(size(family)),
                each: None,
            };
            sets.push(map(names::FLOATING_TO_FIXED));
            sets.push(map(names::FIXED_TO_FLOATING));
            sets.push(map(names::REST_TO_FIXED));
            sets.push(Set {
                name: named(names::FORWARD, family),
                key: DataType::AddressProtocolPort(family),
                value: Some(DataType::AddressPort(family)),
                interval: false,
                size: Some(FORWARDED_PORTS),
                each: None,
            });
            sets.push(Set {
                name: named(names::FORWARD_RANGE, family),
                key: DataType::AddressProtocolPort(family),
                value: Some(address),
                interval: true,
                size: Some(FORWARDED_RANGES),
                each: None,
            });
            sets.push(Set {
                name: named(names::FORWARDED_TO, family),
                key: address,
                value: None,
                interval: false,
                size: None,
                each: None,
            });
            if !site.block_free {
                sets.push(Set {
                    value: None,
                    ..map(names::FORWARDING)
                });
            }
            sets.extend(traffic::sets(site, family, size(family)));
            sets.push(Set {
                value: None,
                ..map(names::FILTERED)
            });
            sets.push(Set {
                name: named(names::ALLOWED, family),
                key: DataType::TwoAddresses(family),
                value: None,
                interval: true,
                size: Some(ALLOWED),
                each: None,
            });
            sets.push(Set {
                name: named(names::POOL, family),
                key: address,
                value: None,
                interval: true,
                size: None,
                each: None,
            });
        }
        let mut chains = nat_chains(site, uses.sources);
        chains.push(guard_local(site.block_free));
        chains.extend(site.guard.then(|| bypassed(&site.untranslated)));
        chains.extend(traffic::chains(site, uses));
        sets.sort_by(|a, b| a.name.cmp(&b.name));
        chains.sort_by(|a, b| a.name.cmp(&b.name));
        Ruleset { sets, chains }
    }

    /// How many associations of a family the maps are made for, given how many
    /// there can be: the pools' addresses, and those of pools that are gone.
    #[must_use]
    pub fn size_for(capacity: u64) -> u32 {
        let wanted = u32::try_from(capacity).unwrap_or(MOST_ASSOCIATIONS);
        wanted
            .clamp(FEWEST_ASSOCIATIONS, MOST_ASSOCIATIONS)
            .next_power_of_two()
    }

    /// Whether the table has a set of the floating IPs with forwards. Where free
    /// addresses are closed it needs none: those with forwards are, too.
    #[must_use]
    pub fn tells_forwarding(&self) -> bool {
        let name = named(names::FORWARDING, Family::V4);
        self.sets.iter().any(|set| set.name == name)
    }

    /// Whether packets are counted.
    #[must_use]
    pub fn counts(&self) -> bool {
        let name = named(names::COUNTED_IN, Family::V4);
        self.sets.iter().any(|set| set.name == name)
    }

    /// How many prefixes of a family may reach floating IPs.
    #[must_use]
    pub fn allowed(&self) -> u32 {
        ALLOWED
    }

    /// How many ports and ranges of a family the maps take.
    #[must_use]
    pub fn forwards(&self) -> Forwarded {
        Forwarded {
            ports: FORWARDED_PORTS,
            ranges: FORWARDED_RANGES,
        }
    }

    /// How many associations of a family the maps take.
    #[must_use]
    pub fn size(&self, family: Family) -> u32 {
        let name = named(names::FLOATING_TO_FIXED, family);
        self.sets
            .iter()
            .find(|set| set.name == name)
            .and_then(|set| set.size)
            .unwrap_or(0)
    }
}

/// How many outside interfaces there can be: one for each pool, and the ones
/// that the default routes tell. A set of a fixed size is looked up faster, and
/// each first packet of a flow asks it.
fn outside(site: &Site) -> u32 {
    let pools = u32::try_from(site.pools.len()).unwrap_or(u32::MAX / 4);
    (pools + 2).max(16).next_power_of_two()
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

/// Ten before the priorities that nft(8) calls dstnat (-100) and srcnat (100):
/// the first translation of a flow is the one that counts, so a table of
/// somebody else that masquerades does not get there first.
const DSTNAT: i32 = -110;
const SRCNAT: i32 = 90;
/// Ten before the one that nft(8) calls filter (0).
const FILTER: i32 = -10;

fn nat_chains(site: &Site, sources: bool) -> Vec<Chain> {
    let block_free = site.block_free;
    let both = |rule: fn(Family) -> Rule| Family::BOTH.map(rule);

    let mut to_fixed = both(|family| {
        translate(
            family,
            destination(family),
            names::FLOATING_TO_FIXED,
            to_address(family),
        )
    })
    .to_vec();
    // Asked last: what is associated, and what leads past us, pays nothing for
    // the forwards of others.
    let gate = if block_free {
        names::POOL
    } else {
        names::FORWARDING
    };
    to_fixed.extend(
        Family::BOTH.map(|family| in_set(destination(family), gate, family, go("by_port"))),
    );
    let mut to_floating = both(|family| {
        translate(
            family,
            source(family),
            names::FIXED_TO_FLOATING,
            Expr::Snat {
                family,
                address: R1,
            },
        )
    })
    .to_vec();
    let mut hairpin = to_floating.clone();
    hairpin.push(vec![Expr::Masquerade]);
    // What keeps its source must not have borrowed one of the pool.
    let mut untranslated = Vec::new();
    if block_free {
        untranslated.extend(both(|family| {
            let mut rule = came_in();
            rule.extend(in_set(source(family), names::POOL, family, drop_it()));
            rule
        }));
        to_floating.push(vec![go("untranslated")]);
    }
    let destinations = site.untranslated.destinations.iter();
    let exempt = destinations.map(|net| to_prefix(*net, go("untranslated")));
    to_floating.splice(0..0, exempt);

    let mut postrouting = Vec::new();
    if site.untranslated.ipsec {
        postrouting.push(by_ipsec(go("untranslated")));
    }
    postrouting.extend([
        on_interface(MetaKey::Oifname, vec![go("to_floating")]),
        on_interface(MetaKey::Iifname, vec![Expr::Verdict(Verdict::Accept)]),
    ]);
    postrouting.extend(both(|family| {
        let mut rule = ct_bits(CtKey::Status, STATUS_DNAT);
        rule.extend([
            original_destination(family),
            lookup(names::POOL, family),
            go("hairpin"),
        ]);
        rule
    }));

    let mut prerouting = Vec::new();
    let mut by_source_if_used = Vec::new();
    if sources {
        prerouting.extend(both(|family| {
            in_set(
                destination(family),
                names::FILTERED,
                family,
                go("by_source"),
            )
        }));
        by_source_if_used.push(chain("by_source", by_source()));
    }
    prerouting.push(vec![go("to_fixed")]);

    let mut chains = vec![
        base(
            "nat_prerouting",
            BaseKind::Nat,
            Hook::Prerouting,
            DSTNAT,
            prerouting,
        ),
        base(
            "nat_output",
            BaseKind::Nat,
            Hook::Output,
            DSTNAT,
            vec![vec![go("to_fixed")]],
        ),
        chain("to_fixed", to_fixed),
        chain("by_port", by_port()),
        base(
            "nat_postrouting",
            BaseKind::Nat,
            Hook::Postrouting,
            SRCNAT,
            postrouting,
        ),
        chain("to_floating", to_floating),
        chain("untranslated", untranslated),
        chain("hairpin", hairpin),
    ];
    chains.extend(by_source_if_used);
    chains
}

/// Who may reach a floating IP that is not for everybody: those of its prefixes
/// from outside, and the hosts.
fn by_source() -> Vec<Rule> {
    let mut rules = Family::BOTH
        .map(|family| {
            let pair = both_addresses(family);
            in_set(pair, names::ALLOWED, family, go("to_fixed"))
        })
        .to_vec();
    rules.push(on_interface(MetaKey::Iifname, vec![drop_it()]));
    rules.push(vec![go("to_fixed")]);
    rules
}

/// Where ports of a floating IP lead, and then the rest of it: to the host that
/// has it, or nowhere.
fn by_port() -> Vec<Rule> {
    let mut rules = Vec::new();
    for family in Family::BOTH {
        let port = Some(after_address(family)[0]);
        let to_port = Expr::Dnat {
            family,
            address: R1,
            port,
        };
        let key = destination_and_port(family);
        rules.push(translate(family, key.clone(), names::FORWARD, to_port));
        let to_host = to_address(family);
        rules.push(translate(
            family,
            key,
            names::FORWARD_RANGE,
            to_host.clone(),
        ));
        let address = destination(family);
        rules.push(translate(family, address, names::REST_TO_FIXED, to_host));
    }
    rules.push(vec![drop_it()]);
    rules
}

/// `dnat ip to`, the address alone.
fn to_address(family: Family) -> Expr {
    Expr::Dnat {
        family,
        address: R1,
        port: None,
    }
}

/// Keeps packets that were not translated from the router's own services:
/// those that conntrack calls invalid or that somebody's notrack let through.
/// Replies to what the router itself sent to a floating IP do pass.
fn guard_local(block_free: bool) -> Chain {
    let closed = |family| {
        let sets = if block_free {
            vec![names::POOL]
        } else {
            vec![names::FLOATING_TO_FIXED, names::FORWARDING]
        };
        let rules = sets.into_iter();
        rules.map(move |set| in_set(destination(family), set, family, drop_it()))
    };
    let reply = traffic::is_reply(Expr::Verdict(Verdict::Accept));
    let mut rules = vec![reply];
    rules.extend(closed(Family::V4));
    rules.push(neighbour_discovery());
    rules.extend(closed(Family::V6));
    base("guard_local", BaseKind::Filter, Hook::Input, FILTER, rules)
}

/// Keeps packets that the nat chains never saw from reaching a floating IP's
/// old host, and from leaving with a host's private address.
/// The router's own packets pass. They came by no interface; but the kernel
/// leaves the one that neighbour discovery goes out by where others have the one
/// that they came by (`ndisc_alloc_skb`). It is not tracked, and may have a
/// floating IP as its source. What is forwarded has one hop less.
fn bypassed(untranslated: &Untranslated) -> Chain {
    let accept = || Expr::Verdict(Verdict::Accept);
    let mut own = no_iifname(CmpOp::Eq);
    own.push(accept());
    let mut discovery = hop_limit();
    discovery.extend([
        Expr::Cmp {
            op: CmpOp::Eq,
            register: R1,
            data: vec![255],
        },
        accept(),
    ]);
    let mut bypassed = vec![own, discovery];
    for family in Family::BOTH {
        bypassed.push(in_set(destination(family), names::POOL, family, drop_it()));
        bypassed.push(in_set(source(family), names::POOL, family, drop_it()));
    }
    bypassed.extend(untranslated.ipsec.then(|| by_ipsec(accept())));
    let destinations = untranslated.destinations.iter();
    bypassed.extend(destinations.map(|net| to_prefix(*net, accept())));
    for family in Family::BOTH {
        for translated in [names::FIXED_TO_FLOATING, names::FORWARDED_TO] {
            let translated = in_set(source(family), translated, family, drop_it());
            bypassed.push(on_interface(MetaKey::Oifname, translated));
        }
    }
    chain("bypassed", bypassed)
}

/// `ct state invalid,untracked goto bypassed`
fn guard_rule() -> Rule {
    let mut untranslated = ct_bits(CtKey::State, STATE_INVALID | STATE_UNTRACKED);
    untranslated.push(go("bypassed"));
    untranslated
}

/// `IPS_SRC_NAT` and `IPS_DST_NAT` (include/uapi/linux/netfilter/nf_conntrack_common.h).
const STATUS_SNAT: u32 = 1 << 4;
const STATUS_DNAT: u32 = 1 << 5;
/// `NF_CT_STATE_INVALID_BIT` and `NF_CT_STATE_UNTRACKED_BIT` of the same file.
const STATE_INVALID: u32 = 1;
const STATE_UNTRACKED: u32 = 1 << 6;

/// `ip daddr PREFIX`
fn to_prefix(net: IpNet, then: Expr) -> Rule {
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
fn by_ipsec(then: Expr) -> Rule {
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
fn ct_bits(key: CtKey, bits: u32) -> Rule {
    let mut rule = ct_masked(key, bits);
    rule.push(Expr::Cmp {
        op: CmpOp::Neq,
        register: R1,
        data: vec![0; 4],
    });
    rule
}

/// These bits of what `ct KEY` loads. The kernel keeps them in host order.
fn ct_masked(key: CtKey, bits: u32) -> Rule {
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
fn came_in() -> Rule {
    no_iifname(CmpOp::Neq)
}

/// `iifname == ""` or `iifname != ""`: what the router itself sends came by no
/// interface.
fn no_iifname(op: CmpOp) -> Rule {
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
fn neighbour_discovery() -> Rule {
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
fn translate(family: Family, address: Rule, map: &str, nat: Expr) -> Rule {
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
fn in_set(address: Rule, set: &str, family: Family, then: Expr) -> Rule {
    let mut rule = address;
    rule.extend([lookup(set, family), then]);
    rule
}

fn on_interface(key: MetaKey, then: Rule) -> Rule {
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

fn lookup(set: &str, family: Family) -> Expr {
    Expr::Lookup {
        set: named(set, family),
        key: R1,
        value: None,
    }
}

/// `ip saddr`: byte 12 of IPv4 (RFC 791 3.1), byte 8 of IPv6 (RFC 8200 3).
fn source(family: Family) -> Rule {
    address_at(family, 12, 8)
}

/// `ip daddr`: byte 16 of IPv4, byte 24 of IPv6.
fn destination(family: Family) -> Rule {
    address_at(family, 16, 24)
}

/// `ip daddr . meta l4proto . th dport`: the port is at byte 2 of TCP, UDP and
/// SCTP. In packets of other protocols these bytes are something else, and in
/// no map with that protocol.
fn destination_and_port(family: Family) -> Rule {
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
fn both_addresses(family: Family) -> Rule {
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

fn address_at(family: Family, offset4: u32, offset6: u32) -> Rule {
    match family {
        Family::V4 => network(family, offset4, 4),
        Family::V6 => network(family, offset6, 16),
    }
}

/// `ip6 hoplimit`: byte 7 (RFC 8200 3).
fn hop_limit() -> Rule {
    network(Family::V6, 7, 1)
}

/// Bytes of the header of one family.
fn network(family: Family, offset: u32, len: u32) -> Rule {
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

fn original_destination(family: Family) -> Expr {
    Expr::Ct {
        key: CtKey::OriginalDestination(family),
        to: R1,
    }
}

fn go(chain: &str) -> Expr {
    Expr::Verdict(Verdict::Goto(chain.into()))
}

fn drop_it() -> Expr {
    Expr::Verdict(Verdict::Drop)
}

fn chain(name: &str, rules: Vec<Rule>) -> Chain {
    Chain {
        name: name.into(),
        base: None,
        rules,
    }
}

fn base(name: &str, kind: BaseKind, hook: Hook, priority: i32, rules: Vec<Rule>) -> Chain {
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
