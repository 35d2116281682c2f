//! Other programs' tables, as far as one can tell from them what becomes of a
//! packet.
//!
//! Unlike `decode`, which must notice whatever is not ours, this reads for
//! meaning: an expression that decides nothing is passed over, and one that is
//! not understood says so ([`Clause::Unknown`]). What iptables-nft writes in
//! expressions of its own (`match`, `target`) is read where firewalls are made
//! of it: `-m conntrack`, and the targets that translate, reject or only note.

use std::collections::BTreeSet;

use crate::kernel::socket::{Attributes, Message};

use super::decode::Fields;
use super::message::{
    BitwiseAttr, ChainAttr, CmpAttr, CtAttr, DataAttr, ElementAttr, ElementListAttr, ExprAttr,
    HookAttr, ImmediateAttr, LookupAttr, MetaAttr, NFGENMSG, NftMsg, PayloadAttr, RuleAttr,
    SetAttr, TableAttr, VerdictAttr,
};

/// Which table: its family (`enum nfproto`) and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName {
    /// `NFPROTO_INET` and so on.
    pub family: u8,
    /// Its name.
    pub name: String,
}

/// What is in the tables of this network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// The tables.
    pub names: Vec<TableName>,
    /// The chains, those of one table in the order in which they are dumped.
    pub chains: Vec<ForeignChain>,
    /// The sets that rules look up.
    pub sets: Vec<ForeignSet>,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignChain {
    /// Its table.
    pub table: TableName,
    /// Its name.
    pub name: String,
    /// Where it hangs; `None` when other chains go to it.
    pub base: Option<ForeignBase>,
    /// Its rules, in order.
    pub rules: Vec<Vec<Clause>>,
}

/// Where a base chain hangs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignBase {
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// The hook (`enum nf_inet_hooks`).
    pub hook: u32,
    /// Its priority: lower ones run first.
    pub priority: i32,
    /// Whether what its rules do not decide is dropped.
    pub drops: bool,
    /// The interfaces whose packets it sees; empty where it sees those of all.
    pub interfaces: Vec<String>,
}

/// A set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignSet {
    /// Its table.
    pub table: TableName,
    /// Its name.
    pub name: String,
    /// How many bytes a key has.
    pub key_length: usize,
    /// Whether its elements are the ends of ranges.
    pub interval: bool,
    /// Its elements; `None` when they are of a kind that is not understood.
    pub elements: Option<Vec<ForeignElement>>,
}

/// An element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignElement {
    /// Its key, or the lower end of a range.
    pub key: Vec<u8>,
    /// Whether the range before it ends here, and no other begins.
    pub end: bool,
    /// What it leads to in a map of verdicts.
    pub verdict: Option<ForeignVerdict>,
}

/// What a rule decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForeignVerdict {
    /// Let this chain's hook pass it.
    Accept,
    /// Throw it away, with or without telling the sender.
    Drop,
    /// Go on with the next rule.
    Continue,
    /// Go back to the chain that led here.
    Return,
    /// Continue in another chain and come back.
    Jump(String),
    /// Continue in another chain and do not come back.
    Goto(String),
    /// One that is not understood, such as a queue to a program.
    Unknown,
}

/// A property of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// The name of the interface that it came by.
    IncomingName,
    /// The name of the interface that it leaves by.
    OutgoingName,
    /// The number of the interface that it came by.
    IncomingIndex,
    /// The number of the interface that it leaves by.
    OutgoingIndex,
    /// Its family (`enum nfproto`).
    Nfproto,
    /// Its type in an Ethernet header.
    Protocol,
    /// The state bits of its conntrack entry.
    CtState,
    /// The status bits of its conntrack entry.
    CtStatus,
    /// Bytes of its network header.
    Network {
        /// From which.
        offset: usize,
        /// How many.
        length: usize,
    },
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
}

/// A part of a rule: a condition, or what it does. Registers are numbered as the
/// kernel dumps them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clause {
    /// Load a property of the packet.
    Load {
        /// Which.
        property: Property,
        /// Where to.
        to: u32,
    },
    /// Load a value.
    Value {
        /// Which.
        value: Vec<u8>,
        /// Where to.
        to: u32,
    },
    /// Keep bits of a register, and turn some over.
    Mask {
        /// Which register.
        from: u32,
        /// Where to.
        to: u32,
        /// The bits that are kept.
        mask: Vec<u8>,
        /// The bits that are turned over.
        xor: Vec<u8>,
    },
    /// Go on if the comparison holds.
    Compare {
        /// Which.
        comparison: Comparison,
        /// The register on the left.
        register: u32,
        /// The bytes on the right.
        with: Vec<u8>,
    },
    /// Go on if a set has the register as a key, or do what a map says of it.
    Lookup {
        /// The set or map.
        set: String,
        /// The register.
        key: u32,
        /// Whether to go on if it has not.
        inverted: bool,
        /// Whether the value decides (a map of verdicts).
        decides: bool,
        /// Whether the value goes to a register.
        loads: bool,
    },
    /// `-m conntrack --ctstate`: go on if the state has one of these bits.
    ConntrackState {
        /// The bits (`XT_CONNTRACK_STATE_…`).
        bits: u16,
        /// Whether to go on if it has none.
        inverted: bool,
    },
    /// Translate the packet's source or destination.
    Translate,
    /// Keep the packet from conntrack, and go on.
    Untrack,
    /// Decide.
    Verdict(ForeignVerdict),
    /// Something that is not understood: it may load registers, stop the rule, or
    /// decide. Its name.
    Unknown(String),
}

/// `NF_DROP`, `NF_ACCEPT`, and `NFT_CONTINUE` to `NFT_RETURN`.
const DROP: i32 = 0;
const ACCEPT: i32 = 1;
const CONTINUE: i32 = -1;
const JUMP: i32 = -3;
const GOTO: i32 = -4;
const RETURN: i32 = -5;

/// `NFT_SET_INTERVAL`, and what makes a lookup depend on more than the elements:
/// `NFT_SET_TIMEOUT`, `NFT_SET_EVAL`.
const INTERVAL: u32 = 0x4;
const CHANGING: u32 = 0x10 | 0x20;

/// `NFT_SET_ELEM_INTERVAL_END` and `NFT_SET_ELEM_CATCHALL`.
const INTERVAL_END: u32 = 1;
const CATCHALL: u32 = 2;

/// The attributes of `match` and `target` (`enum nft_match_attributes`).
const XT_NAME: u16 = 1;
const XT_REVISION: u16 = 2;
const XT_INFO: u16 = 3;

/// Where `struct xt_conntrack_mtinfo3` has what is compared: after eight
/// addresses of 16 bytes, two times, a protocol and four ports.
const MATCH_FLAGS: usize = 146;
const INVERT_FLAGS: usize = 148;
const STATE_MASK: usize = 150;

/// `XT_CONNTRACK_STATE`, and `XT_CONNTRACK_STATE_ALIAS`, which iptables sets for
/// `-m state`.
const XT_CONNTRACK_STATE: u16 = 1;
const XT_CONNTRACK_STATE_ALIAS: u16 = 1 << 13;

impl Tables {
    /// Takes in what one message of a dump says.
    pub(crate) fn take(&mut self, message: &Message<'_>) {
        let Some((general, attributes)) = message.payload.split_at_checked(NFGENMSG) else {
            return;
        };
        let fields = Fields::new(attributes);
        let Some(name) = fields.text(TableAttr::Name) else {
            return;
        };
        let table = TableName {
            family: general[0],
            name: name.to_owned(),
        };
        match NftMsg::from(message.kind) {
            NftMsg::NewTable => self.names.push(table),
            NftMsg::NewChain => self.chains.extend(read_chain(table, &fields)),
            NftMsg::NewRule => self.rule(&table, &fields),
            NftMsg::NewSet => self.sets.extend(read_set(table, &fields)),
            _ => {}
        }
    }

    /// Rules are dumped in their order; a chain that is gone since has none.
    fn rule(&mut self, table: &TableName, fields: &Fields<'_>) {
        let Some(name) = fields.text(RuleAttr::Chain) else {
            return;
        };
        let list = fields.bytes(RuleAttr::Expressions).unwrap_or_default();
        let rule = Attributes::new(list).filter_map(|(_, expression)| read(expression));
        let chain = self
            .chains
            .iter_mut()
            .find(|chain| chain.table == *table && chain.name == name);
        if let Some(chain) = chain {
            chain.rules.push(rule.collect());
        }
    }

    /// Whether there is a table of this family and name.
    #[must_use]
    pub fn has(&self, family: u8, name: &str) -> bool {
        let is_it = |table: &TableName| table.family == family && table.name == name;
        self.names.iter().any(is_it)
    }
}

impl ForeignSet {
    /// Takes in the elements of one message.
    pub(crate) fn take(&mut self, message: &Message<'_>) {
        let attributes = message.payload.get(NFGENMSG..).unwrap_or_default();
        let fields = Fields::new(attributes);
        let list = fields.bytes(ElementListAttr::Elements).unwrap_or_default();
        for (_, element) in Attributes::new(list) {
            let element = read_element(element);
            self.elements = match (self.elements.take(), element) {
                (Some(mut elements), Some(element)) => {
                    elements.push(element);
                    Some(elements)
                }
                (_, None) | (None, _) => None,
            };
        }
    }
}

fn read_chain(table: TableName, fields: &Fields<'_>) -> Option<ForeignChain> {
    let base = fields.bytes(ChainAttr::Hook).and_then(|hook| {
        let hook = Fields::new(hook);
        Some(ForeignBase {
            kind: fields.text(ChainAttr::Type)?.to_owned(),
            hook: hook.number(HookAttr::Number)?,
            priority: hook.number(HookAttr::Priority)?.cast_signed(),
            drops: fields.number(ChainAttr::Policy) == Some(DROP.cast_unsigned()),
            interfaces: read_interfaces(&hook),
        })
    });
    Some(ForeignChain {
        table,
        name: fields.text(ChainAttr::Name)?.to_owned(),
        base,
        rules: Vec::new(),
    })
}

/// One (`NFTA_HOOK_DEV`), or each in an attribute of a list.
fn read_interfaces(hook: &Fields<'_>) -> Vec<String> {
    let one = hook.bytes(HookAttr::Device);
    let several = hook.bytes(HookAttr::Devices).unwrap_or_default();
    let several = Attributes::new(several).map(|(_, name)| name);
    let names = one.into_iter().chain(several);
    let names: BTreeSet<_> = names
        .map(|name| String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name)).into_owned())
        .collect();
    names.into_iter().collect()
}

fn read_set(table: TableName, fields: &Fields<'_>) -> Option<ForeignSet> {
    let flags = fields.number(SetAttr::Flags).unwrap_or(0);
    Some(ForeignSet {
        table,
        name: fields.text(SetAttr::Name)?.to_owned(),
        key_length: fields.number(SetAttr::KeyLength)? as usize,
        interval: flags & INTERVAL != 0,
        elements: (flags & CHANGING == 0).then(Vec::new),
    })
}

fn read_element(element: &[u8]) -> Option<ForeignElement> {
    let fields = Fields::new(element);
    let flags = fields.number(ElementAttr::Flags).unwrap_or(0);
    // A range of several fields, or everything else: what it holds is not one key.
    if flags & CATCHALL != 0 || fields.bytes(ElementAttr::KeyEnd).is_some() {
        return None;
    }
    let verdict = || {
        let data = Fields::new(fields.bytes(ElementAttr::Data)?);
        read_verdict(data.bytes(DataAttr::Verdict)?)
    };
    Some(ForeignElement {
        key: fields.value(ElementAttr::Key)?.to_vec(),
        end: flags & INTERVAL_END != 0,
        verdict: verdict(),
    })
}

fn read_verdict(verdict: &[u8]) -> Option<ForeignVerdict> {
    let verdict = Fields::new(verdict);
    let chain = || Some(verdict.text(VerdictAttr::Chain)?.to_owned());
    Some(match verdict.number(VerdictAttr::Code)?.cast_signed() {
        ACCEPT => ForeignVerdict::Accept,
        DROP => ForeignVerdict::Drop,
        CONTINUE => ForeignVerdict::Continue,
        RETURN => ForeignVerdict::Return,
        JUMP => ForeignVerdict::Jump(chain()?),
        GOTO => ForeignVerdict::Goto(chain()?),
        _ => ForeignVerdict::Unknown,
    })
}

/// One expression; `None` when it neither decides nor is a condition.
fn read(expression: &[u8]) -> Option<Clause> {
    let fields = Fields::new(expression);
    let name = fields.text(ExprAttr::Name).unwrap_or_default();
    let data = Fields::new(fields.bytes(ExprAttr::Data).unwrap_or_default());
    let clause = match name {
        // Counting, logging and marking let every packet go on.
        "counter" | "log" | "last" => return None,
        "meta" if data.bytes(MetaAttr::To).is_none() => return None,
        "ct" if data.bytes(CtAttr::To).is_none() => return None,
        "meta" => read_meta(&data),
        "ct" => read_ct(&data),
        "payload" => read_payload(&data),
        "bitwise" => read_mask(&data),
        "cmp" => read_comparison(&data),
        "lookup" => read_lookup(&data),
        "immediate" => {
            let value = Fields::new(data.bytes(ImmediateAttr::Data).unwrap_or_default());
            let verdict = value.bytes(DataAttr::Verdict).and_then(read_verdict);
            verdict.map(Clause::Verdict).or_else(|| read_value(&data))
        }
        "reject" => Some(Clause::Verdict(ForeignVerdict::Drop)),
        "nat" | "masq" | "redir" => Some(Clause::Translate),
        "notrack" => Some(Clause::Untrack),
        "match" if data.text(XT_NAME) == Some("comment") => return None,
        "match" => read_match(&data),
        "target" => match data.text(XT_NAME).unwrap_or_default() {
            "REJECT" => Some(Clause::Verdict(ForeignVerdict::Drop)),
            "DNAT" | "SNAT" | "MASQUERADE" | "REDIRECT" | "NETMAP" => Some(Clause::Translate),
            "NOTRACK" => Some(Clause::Untrack),
            "CT" if is_notrack(&data) => Some(Clause::Untrack),
            "LOG" | "NFLOG" | "CT" | "MARK" | "CONNMARK" | "TCPMSS" | "CLASSIFY" | "CHECKSUM"
            | "TRACE" => {
                return None;
            }
            _ => None,
        },
        _ => None,
    };
    Some(clause.unwrap_or_else(|| Clause::Unknown(name.to_owned())))
}

fn read_value(data: &Fields<'_>) -> Option<Clause> {
    Some(Clause::Value {
        value: data.value(ImmediateAttr::Data)?.to_vec(),
        to: data.number(ImmediateAttr::To)?,
    })
}

/// `enum nft_meta_keys`.
fn read_meta(data: &Fields<'_>) -> Option<Clause> {
    let property = match data.number(MetaAttr::Key)? {
        1 => Property::Protocol,
        4 => Property::IncomingIndex,
        5 => Property::OutgoingIndex,
        6 => Property::IncomingName,
        7 => Property::OutgoingName,
        15 => Property::Nfproto,
        _ => return None,
    };
    let to = data.number(MetaAttr::To)?;
    Some(Clause::Load { property, to })
}

/// `enum nft_ct_keys`.
fn read_ct(data: &Fields<'_>) -> Option<Clause> {
    let property = match data.number(CtAttr::Key)? {
        0 => Property::CtState,
        2 => Property::CtStatus,
        _ => return None,
    };
    let to = data.number(CtAttr::To)?;
    Some(Clause::Load { property, to })
}

fn read_payload(data: &Fields<'_>) -> Option<Clause> {
    const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
    let is_network = data.number(PayloadAttr::Base)? == NFT_PAYLOAD_NETWORK_HEADER;
    let property = Property::Network {
        offset: data.number(PayloadAttr::Offset)? as usize,
        length: data.number(PayloadAttr::Length)? as usize,
    };
    let to = data.number(PayloadAttr::To)?;
    is_network.then_some(Clause::Load { property, to })
}

fn read_mask(data: &Fields<'_>) -> Option<Clause> {
    const NFT_BITWISE_MASK_XOR: u32 = 0;
    let operation = data.number(BitwiseAttr::Operation);
    let clause = Clause::Mask {
        from: data.number(BitwiseAttr::From)?,
        to: data.number(BitwiseAttr::To)?,
        mask: data.value(BitwiseAttr::Mask)?.to_vec(),
        xor: data.value(BitwiseAttr::Xor)?.to_vec(),
    };
    (operation.unwrap_or(0) == NFT_BITWISE_MASK_XOR).then_some(clause)
}

/// `enum nft_cmp_ops`.
fn read_comparison(data: &Fields<'_>) -> Option<Clause> {
    let comparison = match data.number(CmpAttr::Operation)? {
        0 => Comparison::Equal,
        1 => Comparison::NotEqual,
        _ => return None,
    };
    Some(Clause::Compare {
        comparison,
        register: data.number(CmpAttr::From)?,
        with: data.value(CmpAttr::Data)?.to_vec(),
    })
}

fn read_lookup(data: &Fields<'_>) -> Option<Clause> {
    const NFT_LOOKUP_F_INV: u32 = 1;
    const NFT_REG_VERDICT: u32 = 0;
    let value = data.number(LookupAttr::To);
    Some(Clause::Lookup {
        set: data.text(LookupAttr::Set)?.to_owned(),
        key: data.number(LookupAttr::From)?,
        inverted: data.number(LookupAttr::Flags).unwrap_or(0) & NFT_LOOKUP_F_INV != 0,
        decides: value == Some(NFT_REG_VERDICT),
        loads: value.is_some_and(|register| register != NFT_REG_VERDICT),
    })
}

/// `-j CT --notrack`: the first field of `struct xt_ct_target_info`, of any
/// revision, has `XT_CT_NOTRACK`.
fn is_notrack(data: &Fields<'_>) -> bool {
    const XT_CT_NOTRACK: u16 = 1;
    let flags = data.bytes(XT_INFO).and_then(|info| info.first_chunk());
    flags.is_some_and(|flags| u16::from_ne_bytes(*flags) & XT_CT_NOTRACK != 0)
}

/// `-m conntrack` with nothing but `--ctstate`.
fn read_match(data: &Fields<'_>) -> Option<Clause> {
    let name = data.text(XT_NAME)?;
    let info = data.bytes(XT_INFO)?;
    if name != "conntrack" || data.number(XT_REVISION) != Some(3) {
        return None;
    }
    let field = |at: usize| Some(u16::from_ne_bytes(info.get(at..at + 2)?.try_into().ok()?));
    let compared = field(MATCH_FLAGS)? & !XT_CONNTRACK_STATE_ALIAS;
    let clause = Clause::ConntrackState {
        bits: field(STATE_MASK)?,
        inverted: field(INVERT_FLAGS)? & XT_CONNTRACK_STATE != 0,
    };
    (compared == XT_CONNTRACK_STATE).then_some(clause)
}
