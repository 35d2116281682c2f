//! What other programs' chains do with a packet of which a part is known.
//!
//! Each rule of a chain is tried as the kernel would: it applies, it does not, or
//! that cannot be told, because it asks for something that is not known here (a
//! port, the time, who the client is) or is not understood. A rule of the third
//! kind is passed over, and what it could have done is remembered. So the answer
//! is what becomes of the packet, and whether that is certain.

use std::net::IpAddr;

use crate::kernel::nft::{
    Clause, Comparison, ForeignChain, ForeignSet, ForeignVerdict, Property, Tables,
};
use crate::model::Family;

/// Chains that lead to each other deeper than that are not followed; the kernel
/// allows 16 (`NFT_JUMP_STACK_SIZE`).
const DEEPEST: usize = 16;

/// `NFT_REG_SIZE` and `NFT_REG32_SIZE`: the registers are one piece of memory that
/// has two ways of being numbered.
const REGISTERS: usize = 64;

/// An interface by its number and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) index: u32,
    pub(super) name: String,
}

/// What a packet is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    /// ARP for IPv4 on Ethernet.
    Arp,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl From<Family> for Network {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Network::V4,
            Family::V6 => Network::V6,
        }
    }
}

/// What is known of a packet at a hook.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    /// What it is one of.
    pub(super) network: Network,
    /// The interface that it came by.
    pub(super) incoming: Option<Port>,
    /// The interface that it leaves by.
    pub(super) outgoing: Option<Port>,
    /// Its source, as it is at that hook.
    pub(super) source: Option<IpAddr>,
    /// Its destination, as it is at that hook.
    pub(super) destination: Option<IpAddr>,
    /// The state of its flow, as bits of nft (`NF_CT_STATE_BIT`).
    pub(super) state: u32,
    /// The status of its flow, as bits (`enum ip_conntrack_status`); `None` before
    /// conntrack has seen it.
    pub(super) status: Option<u32>,
}

/// What passes for the state before conntrack has seen a packet.
pub(super) const NOT_SEEN: u32 = 1;

/// A flow's first packet, and one of a flow that is established.
pub(super) const NEW: u32 = 1 << 3;
pub(super) const ESTABLISHED: u32 = 1 << 1;

/// `IPS_SRC_NAT`, `IPS_DST_NAT`, and `IPS_DST_NAT_DONE`, which every packet has
/// that has passed prerouting.
pub(super) const SOURCE_TRANSLATED: u32 = 1 << 4;
pub(super) const DESTINATION_TRANSLATED: u32 = 1 << 5;
pub(super) const PASSED_PREROUTING: u32 = 1 << 8;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It goes on to the next chain of the hook, and to the next hook.
    Passes,
    /// It is thrown away.
    Dropped,
    /// It is translated.
    Translated,
}

/// What a base chain does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// What becomes of it when no rule applies that cannot be told.
    pub(super) end: End,
    /// Whether such a rule could let it pass before that.
    pub(super) may_pass: bool,
    /// Whether such a rule could translate it.
    pub(super) may_translate: bool,
    /// Whether it is kept from conntrack, so that nobody translates it.
    pub(super) untracked: bool,
    /// Whether such a rule could keep it from conntrack.
    pub(super) may_untrack: bool,
}

/// Whether a rule applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    Yes,
    No,
    Maybe,
}

/// Sends a packet through a base chain.
pub(super) fn pass(tables: &Tables, chain: &ForeignChain, packet: &Packet) -> Outcome {
    let mut walk = Walk {
        tables,
        packet,
        may_pass: false,
        may_translate: false,
        untracked: false,
        may_untrack: false,
    };
    let policy = match chain.base.as_ref().is_some_and(|base| base.drops) {
        true => End::Dropped,
        false => End::Passes,
    };
    let end = walk.through(chain, true, 0).unwrap_or(policy);
    let Walk {
        may_pass,
        may_translate,
        untracked,
        may_untrack,
        ..
    } = walk;
    Outcome {
        end,
        may_pass,
        may_translate,
        untracked,
        may_untrack,
    }
}

struct Walk<'a> {
    tables: &'a Tables,
    packet: &'a Packet,
    may_pass: bool,
    may_translate: bool,
    untracked: bool,
    may_untrack: bool,
}

/// What a rule does when it applies.
#[derive(Clone, Debug)]
enum Deed {
    Nothing,
    /// Keeps it from conntrack, and goes on.
    Untrack,
    End(End),
    Back,
    To(String, bool),
    Anything,
}

impl<'a> Walk<'a> {
    /// Where a chain ends a packet; `None` when it lets it come back. `certain`
    /// is whether the packet comes here at all.
    fn through(&mut self, chain: &ForeignChain, certain: bool, depth: usize) -> Option<End> {
        if depth > DEEPEST {
            self.anything();
            return None;
        }
        for rule in &chain.rules {
            let (truth, deed) = self.rule(chain, rule);
            let certain = match truth {
                Truth::No => continue,
                Truth::Yes => certain,
                Truth::Maybe => false,
            };
            match deed {
                Deed::Nothing => {}
                // Once something may have ended it before, it is not certain.
                Deed::Untrack if certain && !self.may_pass => self.untracked = true,
                Deed::Untrack => self.may_untrack = true,
                Deed::Anything => self.anything(),
                Deed::End(end) if certain => return Some(end),
                Deed::End(End::Passes) => self.may_pass = true,
                Deed::End(End::Translated) => self.may_translate = true,
                Deed::End(End::Dropped) => {}
                Deed::Back if certain => return None,
                // What would have stopped it here may be left out.
                Deed::Back => self.may_pass = true,
                Deed::To(name, comes_back) => {
                    let next = self.chain(chain, &name);
                    let end = next.and_then(|next| self.through(next, certain, depth + 1));
                    if certain && (end.is_some() || !comes_back) {
                        return end;
                    }
                }
            }
        }
        None
    }

    fn anything(&mut self) {
        self.may_pass = true;
        self.may_translate = true;
    }

    fn chain(&self, of: &ForeignChain, name: &str) -> Option<&'a ForeignChain> {
        let mut chains = self.tables.chains.iter();
        chains.find(|chain| chain.table == of.table && chain.name == name)
    }

    fn rule(&self, chain: &ForeignChain, rule: &[Clause]) -> (Truth, Deed) {
        let mut registers = Registers::default();
        let mut truth = Truth::Yes;
        for clause in rule {
            let holds = match clause {
                // nft_ct.c: without an entry of conntrack the rule does not apply.
                Clause::Load {
                    property: Property::CtStatus,
                    ..
                } if self.packet.status.is_none() => Truth::No,
                Clause::Load { property, to } => {
                    registers.load(*to, &self.packet.property(*property));
                    Truth::Yes
                }
                Clause::Value { value, to } => {
                    registers.load(*to, &Ok(value.clone()));
                    Truth::Yes
                }
                Clause::Mask {
                    from,
                    to,
                    mask,
                    xor,
                } => {
                    let value = registers.read(*from, mask.len()).map(|bytes| {
                        let bits = bytes.iter().zip(mask).zip(xor);
                        bits.map(|((byte, mask), xor)| (byte & mask) ^ xor)
                            .collect()
                    });
                    registers.load(*to, &value.ok_or(mask.len()));
                    Truth::Yes
                }
                Clause::Compare {
                    comparison,
                    register,
                    with,
                } => match registers.read(*register, with.len()) {
                    None => Truth::Maybe,
                    Some(bytes) => {
                        Truth::of((bytes == *with) == (*comparison == Comparison::Equal))
                    }
                },
                Clause::Lookup {
                    set,
                    key,
                    inverted,
                    decides,
                    loads,
                } => {
                    if *loads {
                        registers.forget();
                    }
                    let mut sets = self.tables.sets.iter();
                    let set = sets.find(|each| each.table == chain.table && each.name == *set);
                    let found = set.map_or(Found::Unknown, |set| {
                        find(set, registers.read(*key, set.key_length))
                    });
                    match found {
                        Found::Unknown if *decides => return (truth, Deed::Anything),
                        Found::Unknown => Truth::Maybe,
                        Found::Nothing => Truth::of(*inverted),
                        Found::Element(Some(verdict)) if *decides => {
                            return (truth, deed(&verdict));
                        }
                        Found::Element(_) => Truth::of(!*inverted),
                    }
                }
                Clause::ConntrackState { bits, inverted } => {
                    Truth::of((self.packet.iptables_state() & bits != 0) != *inverted)
                }
                Clause::Translate => return (truth, Deed::End(End::Translated)),
                Clause::Untrack => return (truth, Deed::Untrack),
                Clause::Verdict(verdict) => return (truth, deed(verdict)),
                Clause::Unknown(name) => {
                    registers.forget();
                    // A target of iptables or an object may decide by itself.
                    if matches!(name.as_str(), "target" | "queue" | "synproxy" | "tproxy") {
                        return (truth, Deed::Anything);
                    }
                    Truth::Maybe
                }
            };
            truth = match (truth, holds) {
                (_, Truth::No) => return (Truth::No, Deed::Nothing),
                (Truth::Yes, Truth::Yes) => Truth::Yes,
                (Truth::Maybe | Truth::No, _) | (_, Truth::Maybe) => Truth::Maybe,
            };
        }
        (truth, Deed::Nothing)
    }
}

fn deed(verdict: &ForeignVerdict) -> Deed {
    match verdict {
        ForeignVerdict::Accept => Deed::End(End::Passes),
        ForeignVerdict::Drop => Deed::End(End::Dropped),
        ForeignVerdict::Continue => Deed::Nothing,
        ForeignVerdict::Return => Deed::Back,
        ForeignVerdict::Jump(chain) => Deed::To(chain.clone(), true),
        ForeignVerdict::Goto(chain) => Deed::To(chain.clone(), false),
        ForeignVerdict::Unknown => Deed::Anything,
    }
}

impl Truth {
    fn of(so: bool) -> Self {
        if so { Truth::Yes } else { Truth::No }
    }
}

enum Found {
    Unknown,
    Nothing,
    Element(Option<ForeignVerdict>),
}

fn find(set: &ForeignSet, key: Option<Vec<u8>>) -> Found {
    let (Some(elements), Some(key)) = (&set.elements, key) else {
        return Found::Unknown;
    };
    let element = if set.interval {
        // The last that is not above it; an end, or none, means a gap.
        let below = elements.iter().filter(|element| element.key <= key);
        below
            .max_by_key(|element| (&element.key, !element.end))
            .filter(|element| !element.end)
    } else {
        elements.iter().find(|element| element.key == key)
    };
    element.map_or(Found::Nothing, |element| {
        Found::Element(element.verdict.clone())
    })
}

/// The memory of the nft virtual machine, byte by byte, as far as it is known.
struct Registers([Option<u8>; REGISTERS]);

impl Default for Registers {
    fn default() -> Self {
        Self([None; REGISTERS])
    }
}

impl Registers {
    /// Where a register begins: `NFT_REG_1` to `4` have 16 bytes each,
    /// `NFT_REG32_00` (8) and the following 4.
    fn place(register: u32) -> Option<usize> {
        match register {
            1..=4 => Some((register as usize - 1) * 16),
            8..=23 => Some((register as usize - 8) * 4),
            _ => None,
        }
    }

    /// Loads bytes, or that many unknown ones. What is left of the last four is
    /// zero, as the kernel has it.
    fn load(&mut self, register: u32, value: &Result<Vec<u8>, usize>) {
        let length = value.as_ref().map_or_else(|length| *length, Vec::len);
        let Some(start) = Self::place(register) else {
            return;
        };
        let rest = self.0.iter_mut().skip(start);
        for (at, byte) in rest.take(length.next_multiple_of(4)).enumerate() {
            *byte = match value {
                Ok(bytes) => Some(bytes.get(at).copied().unwrap_or(0)),
                Err(_) => None,
            };
        }
    }

    fn read(&self, register: u32, length: usize) -> Option<Vec<u8>> {
        let start = Self::place(register)?;
        let bytes = self.0.get(start..start + length)?;
        bytes.iter().copied().collect()
    }

    fn forget(&mut self) {
        *self = Self::default();
    }
}

impl Packet {
    /// A property as bytes, or how many bytes are unknown.
    fn property(&self, property: Property) -> Result<Vec<u8>, usize> {
        // IFNAMSIZ
        const NAME: usize = 16;
        let name = |port: &Option<Port>| {
            let port = port.as_ref().ok_or(NAME)?;
            let mut bytes = port.name.clone().into_bytes();
            bytes.resize(NAME, 0);
            Ok(bytes)
        };
        let index = |port: &Option<Port>| {
            let port = port.as_ref().ok_or(4_usize)?;
            Ok(port.index.to_ne_bytes().to_vec())
        };
        // `enum nfproto`, and the type in an Ethernet header (`linux/if_ether.h`).
        let (family, protocol) = match self.network {
            Network::Arp => (3, 0x0806_u16),
            Network::V4 => (2, 0x0800),
            Network::V6 => (10, 0x86dd),
        };
        match property {
            Property::IncomingName => name(&self.incoming),
            Property::OutgoingName => name(&self.outgoing),
            Property::IncomingIndex => index(&self.incoming),
            Property::OutgoingIndex => index(&self.outgoing),
            Property::Nfproto => Ok(vec![family]),
            Property::Protocol => Ok(protocol.to_be_bytes().to_vec()),
            Property::CtState => Ok(self.state.to_ne_bytes().to_vec()),
            Property::CtStatus => match self.status {
                Some(status) => Ok(status.to_ne_bytes().to_vec()),
                None => Err(4),
            },
            Property::Network { offset, length } => self.header(offset, length).ok_or(length),
        }
    }

    /// Bytes of the network header, if all of them are known.
    fn header(&self, offset: usize, length: usize) -> Option<Vec<u8>> {
        let mut header = [None; 40];
        // RFC 791 3.1, RFC 8200 3, and RFC 826, where the target is the destination.
        let places = match self.network {
            Network::Arp => [14, 24],
            Network::V4 => [12, 16],
            Network::V6 => [8, 24],
        };
        if self.network == Network::Arp {
            // Ethernet, IPv4, and how long their addresses are.
            for (byte, value) in header.iter_mut().zip([0, 1, 8, 0, 6, 4]) {
                *byte = Some(value);
            }
        }
        for (place, address) in places.into_iter().zip([self.source, self.destination]) {
            let bytes = match address {
                Some(IpAddr::V4(v4)) => v4.octets().to_vec(),
                Some(IpAddr::V6(v6)) => v6.octets().to_vec(),
                None => continue,
            };
            for (byte, value) in header[place..].iter_mut().zip(bytes) {
                *byte = Some(value);
            }
        }
        let bytes = header.get(offset..offset.checked_add(length)?)?;
        bytes.iter().copied().collect()
    }

    /// The state as iptables has it: `XT_CONNTRACK_STATE_BIT` is that of nft, and
    /// two more bits tell what is translated.
    fn iptables_state(&self) -> u16 {
        const XT_CONNTRACK_STATE_SNAT: u16 = 1 << 6;
        const XT_CONNTRACK_STATE_DNAT: u16 = 1 << 7;
        let mut state = u16::try_from(self.state).unwrap_or(0);
        let status = self.status.unwrap_or(0);
        if status & SOURCE_TRANSLATED != 0 {
            state |= XT_CONNTRACK_STATE_SNAT;
        }
        if status & DESTINATION_TRANSLATED != 0 {
            state |= XT_CONNTRACK_STATE_DNAT;
        }
        state
    }
}
