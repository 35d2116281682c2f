//! A transaction as the bytes of one nfnetlink batch.
//!
//! The kernel takes a batch whole or not at all, and no packet sees it half
//! done. When it refuses one, [`Batch::object`] says which object it refused.

use std::collections::BTreeSet;

use neli::consts::nl::NlmF;

use crate::dataplane::ruleset::{
    Base, BaseKind, Chain, DataType, Hook, Rule, Ruleset, Set, named, names,
};
use crate::dataplane::{Element, Reshape, Transaction};
use crate::kernel::socket::HEADER;
use crate::model::{AddressRange, Family};

use super::decode::Fields;
use super::element::{INTERFACE_NAME, SETS, element_at, ends, place, write_end, write_of_ours};
use super::expr::{without_map_keys, write_rule, write_stateful};
use super::iptables::{IptablesChain, Jump};
use super::message::{
    ChainAttr, ElementListAttr, HookAttr, ListAttr, NFGENMSG, Nfgenmsg, NftMsg, OWNER_AND_PERSIST,
    PLAIN, RuleAttr, SetAttr, SetDescriptionAttr, SetFieldAttr, TableAttr, Writer,
};

/// How many elements one message carries: 600 of an IPv6 address with a rate are
/// 58 kB, and an attribute has at most 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 600;

/// `NFT_SET_INTERVAL`, `NFT_SET_MAP` and `NFT_SET_CONCAT`.
pub(super) const SET_INTERVAL: u32 = 0x4;
pub(super) const SET_MAP: u32 = 0x8;
pub(super) const SET_CONCAT: u32 = 0x80;

/// `NF_ACCEPT`, as the policy of a chain.
pub(super) const POLICY_ACCEPT: u32 = 1;

/// What a batch may use of what older kernels do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Tables that belong to a socket and outlive it.
    pub table_owner: bool,
    /// Looking up only the key of a map.
    pub map_keys: bool,
}

impl Dialect {
    /// The flags of our table.
    #[must_use]
    pub fn table_flags(self) -> u32 {
        if self.table_owner {
            OWNER_AND_PERSIST
        } else {
            PLAIN
        }
    }
}

/// A transaction, written for the kernel.
#[derive(Clone, Debug)]
pub struct Batch {
    writer: Writer,
    sequence: u32,
    dialect: Dialect,
}

impl Batch {
    /// Writes a transaction. Sequence numbers begin with `first`; `possess` says
    /// that the table is there and is to be adopted first.
    #[must_use]
    pub fn new(first: u32, dialect: Dialect, possess: bool, transaction: &Transaction) -> Self {
        let mut batch = Self::begin(first, dialect);
        let Transaction {
            rebuild,
            reshape,
            pool,
            uplinks,
            remove,
            add,
        } = transaction;
        match rebuild {
            Some(ruleset) => batch.rebuild(ruleset),
            None if possess => batch.table(NftMsg::NewTable, Some(dialect.table_flags())),
            None => {}
        }
        if rebuild.is_none() {
            let replaced = [
                (names::POOL, pool.is_some()),
                (names::UPLINKS, uplinks.is_some()),
            ];
            for (stem, _) in replaced.iter().filter(|(_, replaced)| *replaced) {
                batch.empty(stem);
            }
        }
        if let Some(ranges) = pool {
            let ranges = ranges.iter().map(|range| (*range, None));
            batch.fill(names::POOL, ranges);
        }
        // A chain goes only when nothing leads to it any more.
        batch.elements_of_all_sets(NftMsg::DelSetElem, NlmF::empty(), remove);
        if let Some(reshape) = reshape {
            batch.reshape(reshape);
        }
        // They lead to chains, which have to be there.
        if let Some(numbers) = uplinks {
            let ranges = numbers
                .iter()
                .map(|(range, number)| (*range, Some(*number)));
            batch.fill(names::UPLINKS, ranges);
        }
        batch.elements_of_all_sets(NftMsg::NewSetElem, NlmF::CREATE, add);
        batch.message(NftMsg::BatchEnd, NlmF::ACK, Nfgenmsg::BATCH, |_| {});
        batch
    }

    /// A batch that deletes our table, with all that is in it. Unless `carry_out`
    /// it is never ended: the kernel says whether it would, and forgets it.
    #[must_use]
    pub fn removal(first: u32, dialect: Dialect, carry_out: bool) -> Self {
        let mut batch = Self::begin(first, dialect);
        batch.table(NftMsg::DelTable, None);
        if carry_out {
            batch.message(NftMsg::BatchEnd, NlmF::ACK, Nfgenmsg::BATCH, |_| {});
        }
        batch
    }

    /// A batch that removes chains of iptables' tables, with all that is in them,
    /// and rules elsewhere that lead to them, by their handles.
    #[must_use]
    pub(crate) fn without_chains(first: u32, chains: &[IptablesChain], jumps: &[Jump]) -> Self {
        // What a table has of newer kernels concerns ours alone.
        let dialect = Dialect {
            table_owner: false,
            map_keys: false,
        };
        let mut batch = Self::begin(first, dialect);
        let (none, ipv4) = (NlmF::empty(), Nfgenmsg::IPV4);
        for jump in jumps {
            batch.message(NftMsg::DelRule, none, ipv4, |w| {
                w.text(RuleAttr::Table, &jump.from.table);
                w.text(RuleAttr::Chain, &jump.from.name);
                w.long(RuleAttr::Handle, jump.handle);
            });
        }
        // A chain that another leads to cannot go: all are emptied first.
        for IptablesChain { table, name } in chains {
            batch.message(NftMsg::DelRule, none, ipv4, |w| {
                w.text(RuleAttr::Table, table);
                w.text(RuleAttr::Chain, name);
            });
        }
        for IptablesChain { table, name } in chains {
            batch.message(NftMsg::DelChain, none, ipv4, |w| {
                w.text(ChainAttr::Table, table);
                w.text(ChainAttr::Name, name);
            });
        }
        batch.message(NftMsg::BatchEnd, NlmF::ACK, Nfgenmsg::BATCH, |_| {});
        batch
    }

    /// A batch that makes a table of that name and is never ended, so that the
    /// kernel checks and forgets it: whether it knows the flags.
    #[must_use]
    pub fn probe(first: u32, name: &str, dialect: Dialect) -> Self {
        let mut batch = Self::begin(first, dialect);
        batch.message(NftMsg::NewTable, NlmF::CREATE, Nfgenmsg::INET, |w| {
            w.text(TableAttr::Name, name);
            w.number(TableAttr::Flags, dialect.table_flags());
        });
        batch
    }

    fn begin(first: u32, dialect: Dialect) -> Self {
        let mut batch = Self {
            writer: Writer::default(),
            sequence: first,
            dialect,
        };
        batch.message(NftMsg::BatchBegin, NlmF::empty(), Nfgenmsg::BATCH, |_| {});
        batch
    }

    /// The bytes for one send(2).
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.writer.bytes
    }

    /// The first sequence number that was not used.
    #[must_use]
    pub fn next_sequence(&self) -> u32 {
        self.sequence
    }

    fn message(
        &mut self,
        kind: NftMsg,
        flags: NlmF,
        general: Nfgenmsg,
        body: impl FnOnce(&mut Writer),
    ) {
        self.writer
            .message(kind, flags, self.sequence, general, body);
        self.sequence = self.sequence.wrapping_add(1);
    }

    fn table(&mut self, kind: NftMsg, flags: Option<u32>) {
        self.message(kind, NlmF::empty(), Nfgenmsg::INET, |w| {
            w.table(TableAttr::Name);
            if let Some(flags) = flags {
                w.number(TableAttr::Flags, flags);
            }
        });
    }

    /// Deletes the table, when it is there, and makes it anew. Deleting what is
    /// not there is ENOENT, making what is there is no error: so it is made
    /// first, and without flags, which an existing table would refuse.
    fn rebuild(&mut self, ruleset: &Ruleset) {
        self.table(NftMsg::NewTable, None);
        self.table(NftMsg::DelTable, None);
        let flags = Some(self.dialect.table_flags()).filter(|flags| *flags != PLAIN);
        self.table(NftMsg::NewTable, flags);
        for (set, id) in ruleset.sets.iter().zip(1..) {
            self.set(set, id);
        }
        // A rule can only go to a chain that is there.
        for chain in &ruleset.chains {
            self.chain(chain);
        }
        for chain in &ruleset.chains {
            self.rules(chain, &ruleset.sets);
        }
    }

    /// Makes chains anew, empties and fills others, and deletes those that
    /// nothing goes to any more.
    fn reshape(&mut self, reshape: &Reshape) {
        let Reshape {
            ruleset,
            new,
            altered,
            gone,
        } = reshape;
        let named = |names: &BTreeSet<String>| {
            let chains = ruleset.chains.iter();
            let of_these = chains.filter(|chain| names.contains(&chain.name));
            of_these.cloned().collect::<Vec<_>>()
        };
        for chain in named(new) {
            self.chain(&chain);
        }
        for name in altered.iter().chain(gone) {
            // Without a handle all rules of the chain are deleted.
            self.message(NftMsg::DelRule, NlmF::empty(), Nfgenmsg::INET, |w| {
                w.table(RuleAttr::Table);
                w.text(RuleAttr::Chain, name);
            });
        }
        for chain in named(new).iter().chain(&named(altered)) {
            self.rules(chain, &ruleset.sets);
        }
        for name in gone {
            self.message(NftMsg::DelChain, NlmF::empty(), Nfgenmsg::INET, |w| {
                w.table(ChainAttr::Table);
                w.text(ChainAttr::Name, name);
            });
        }
    }

    fn rules(&mut self, chain: &Chain, sets: &[Set]) {
        for rule in &chain.rules {
            if self.dialect.map_keys {
                self.rule(&chain.name, rule);
            } else {
                self.rule(&chain.name, &without_map_keys(rule, sets));
            }
        }
    }

    fn set(&mut self, set: &Set, id: u32) {
        self.message(NftMsg::NewSet, NlmF::CREATE, Nfgenmsg::INET, |w| {
            let (key, key_length) = type_and_length(set.key);
            let interval = if set.interval { SET_INTERVAL } else { 0 };
            let map = if set.value.is_some() { SET_MAP } else { 0 };
            let fields = range_fields(set);
            let concat = if fields.is_empty() { 0 } else { SET_CONCAT };
            w.table(SetAttr::Table);
            w.text(SetAttr::Name, &set.name);
            w.number(SetAttr::Flags, interval | map | concat);
            w.number(SetAttr::KeyType, key);
            w.number(SetAttr::KeyLength, key_length);
            if let Some(value) = set.value {
                let (value, value_length) = type_and_length(value);
                w.number(SetAttr::DataType, value);
                w.number(SetAttr::DataLength, value_length);
            }
            w.number(SetAttr::Id, id);
            if let Some(size) = set.size {
                w.nest(SetAttr::Description, |w| {
                    w.number(SetDescriptionAttr::Size, size);
                    if !fields.is_empty() {
                        w.nest(SetDescriptionAttr::Concat, |w| {
                            for field in fields {
                                w.nest(ListAttr::Element, |w| {
                                    w.number(SetFieldAttr::Length, *field);
                                });
                            }
                        });
                    }
                });
            }
            w.attribute(SetAttr::UserData, &byte_orders(set));
            if let Some(each) = set.each {
                write_stateful(w, SetAttr::Expression, each);
            }
        });
    }

    fn chain(&mut self, chain: &Chain) {
        self.message(NftMsg::NewChain, NlmF::CREATE, Nfgenmsg::INET, |w| {
            w.table(ChainAttr::Table);
            w.text(ChainAttr::Name, &chain.name);
            if let Some(Base {
                kind,
                hook,
                priority,
            }) = chain.base
            {
                w.nest(ChainAttr::Hook, |w| {
                    w.number(HookAttr::Number, hook_number(hook));
                    w.number(HookAttr::Priority, priority.cast_unsigned());
                });
                w.number(ChainAttr::Policy, POLICY_ACCEPT);
                w.text(ChainAttr::Type, kind_name(kind));
            }
        });
    }

    fn rule(&mut self, chain: &str, rule: &Rule) {
        let flags = NlmF::CREATE | NlmF::APPEND;
        self.message(NftMsg::NewRule, flags, Nfgenmsg::INET, |w| {
            w.table(RuleAttr::Table);
            w.text(RuleAttr::Chain, chain);
            w.nest(RuleAttr::Expressions, |w| write_rule(w, rule));
        });
    }

    /// Without a list of elements all of them are deleted.
    fn empty(&mut self, stem: &str) {
        for family in Family::BOTH {
            self.message(NftMsg::DelSetElem, NlmF::empty(), Nfgenmsg::INET, |w| {
                w.table(ElementListAttr::Table);
                w.text(ElementListAttr::Set, &named(stem, family));
            });
        }
    }

    /// Fills a set of ranges; a map, in which each leads to an uplink.
    fn fill(
        &mut self,
        stem: &str,
        ranges: impl Iterator<Item = (AddressRange, Option<u32>)> + Clone,
    ) {
        for family in Family::BOTH {
            let of_family = ranges.clone().filter(|(range, _)| range.family() == family);
            let ends = of_family.flat_map(|(range, uplink)| ends(&range, uplink));
            let set = named(stem, family);
            self.elements(NftMsg::NewSetElem, NlmF::CREATE, &set, ends, write_end);
        }
    }

    fn elements_of_all_sets(&mut self, kind: NftMsg, flags: NlmF, elements: &[Element]) {
        let mut counts = [0_usize; SETS.len()];
        for element in elements {
            counts[place(element)] += 1;
        }
        for (index, set) in SETS.iter().enumerate() {
            if counts[index] > 0 {
                let these = elements.iter().filter(|element| place(element) == index);
                let keys_only = kind == NftMsg::DelSetElem;
                self.elements(kind, flags, set, these, |w, element| {
                    write_of_ours(w, element, keys_only);
                });
            }
        }
    }

    fn elements<T>(
        &mut self,
        kind: NftMsg,
        flags: NlmF,
        set: &str,
        elements: impl Iterator<Item = T>,
        write: impl Fn(&mut Writer, T),
    ) {
        let mut elements = elements.peekable();
        while elements.peek().is_some() {
            self.message(kind, flags, Nfgenmsg::INET, |w| {
                w.table(ElementListAttr::Table);
                w.text(ElementListAttr::Set, set);
                w.nest(ElementListAttr::Elements, |w| {
                    for element in elements.by_ref().take(ELEMENTS_PER_MESSAGE) {
                        write(w, element);
                    }
                });
            });
        }
    }

    /// What the message of that sequence number is about, in words for a
    /// person; with an offset into the message, down to the element.
    #[must_use]
    pub fn object(&self, sequence: u32, offset: Option<usize>) -> String {
        messages(self.bytes())
            .find(|(number, _, _)| *number == sequence)
            .map_or_else(
                || "the batch".to_owned(),
                |(_, kind, message)| describe(kind, message, offset),
            )
    }
}

/// The lengths of what the keys of a set of ranges are made of, where they are
/// made of several: the kernel compares each by itself.
pub(super) fn range_fields(set: &Set) -> &'static [u32] {
    match (set.interval, set.key) {
        (true, DataType::AddressProtocolPort(Family::V4)) => &[4, 1, 2],
        (true, DataType::AddressProtocolPort(Family::V6)) => &[16, 1, 2],
        (true, DataType::TwoAddresses(Family::V4)) => &[4, 4],
        (true, DataType::TwoAddresses(Family::V6)) => &[16, 16],
        (
            _,
            DataType::Ipv4
            | DataType::Ipv6
            | DataType::InterfaceName
            | DataType::AddressProtocolPort(_)
            | DataType::AddressPort(_)
            | DataType::TwoAddresses(_)
            | DataType::Verdict
            | DataType::Foreign(_),
        ) => &[],
    }
}

/// The number by which nft(8) knows a type (`enum datatypes` in its
/// datatype.h; the kernel only keeps it), and its length. Of several joined
/// ones each has 6 bits of the number, and is padded to 4 bytes.
pub(super) fn type_and_length(kind: DataType) -> (u32, u32) {
    match kind {
        DataType::Ipv4 => (7, 4),
        DataType::Ipv6 => (8, 16),
        DataType::InterfaceName => (41, INTERFACE_NAME),
        DataType::AddressProtocolPort(family) => {
            let (address, length) = type_and_length(DataType::of(family));
            (
                address << 12 | INET_PROTOCOL << 6 | INET_SERVICE,
                length + 8,
            )
        }
        DataType::AddressPort(family) => {
            let (address, length) = type_and_length(DataType::of(family));
            (address << 6 | INET_SERVICE, length + 4)
        }
        DataType::TwoAddresses(family) => {
            let (address, length) = type_and_length(DataType::of(family));
            (address << 6 | address, 2 * length)
        }
        // `NFT_DATA_VERDICT`, and the size of the kernel's `struct nft_verdict`.
        DataType::Verdict => (0xffff_ff00, 16),
        DataType::Foreign(number) => (number, 4),
    }
}

/// `TYPE_INET_PROTOCOL` and `TYPE_INET_SERVICE` of the same file.
const INET_PROTOCOL: u32 = 12;
const INET_SERVICE: u32 = 13;

/// The type with that number and length.
pub(super) fn type_of(number: u32, length: u32) -> DataType {
    let ours = [
        DataType::Ipv4,
        DataType::Ipv6,
        DataType::InterfaceName,
        DataType::AddressProtocolPort(Family::V4),
        DataType::AddressProtocolPort(Family::V6),
        DataType::AddressPort(Family::V4),
        DataType::AddressPort(Family::V6),
        DataType::TwoAddresses(Family::V4),
        DataType::TwoAddresses(Family::V6),
        DataType::Verdict,
    ];
    ours.into_iter()
        .find(|kind| type_and_length(*kind) == (number, length))
        .unwrap_or(DataType::Foreign(number))
}

/// The user data of a set, in which nft(8) looks for the byte order of keys
/// and values (`NFTNL_UDATA_SET_KEYBYTEORDER` 0, `DATABYTEORDER` 1; host order
/// 1, network order 2; 0 where several are joined). Without it interface names are printed backwards.
fn byte_orders(set: &Set) -> Vec<u8> {
    let order = |kind| match kind {
        DataType::InterfaceName => 1_u32,
        DataType::Ipv4 | DataType::Ipv6 | DataType::Foreign(_) => 2,
        DataType::AddressProtocolPort(_)
        | DataType::AddressPort(_)
        | DataType::TwoAddresses(_)
        | DataType::Verdict => 0,
    };
    let mut data = vec![0, 4];
    data.extend(order(set.key).to_ne_bytes());
    if let Some(value) = set.value {
        data.extend([1, 4]);
        data.extend(order(value).to_ne_bytes());
    }
    data
}

/// `enum nf_inet_hooks`.
pub(super) fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    }
}

/// The name of a type of chain.
pub(super) fn kind_name(kind: BaseKind) -> &'static str {
    match kind {
        BaseKind::Filter => "filter",
        BaseKind::Route => "route",
        BaseKind::Nat => "nat",
    }
}

/// The messages of a batch: sequence number, type, and all bytes of each.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u32, NftMsg, &[u8])> {
    std::iter::from_fn(move || {
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let (length, sequence) = (word(0)? as usize, word(8)?);
        let kind = u16::from_ne_bytes(bytes[4..6].try_into().ok()?);
        let message = bytes.get(..length)?;
        bytes = &bytes[length..];
        Some((sequence, NftMsg::from(kind), message))
    })
}

fn describe(kind: NftMsg, message: &[u8], offset: Option<usize>) -> String {
    let fields = Fields::new(&message[HEADER + NFGENMSG..]);
    let text = |kind: u16| fields.text(kind).unwrap_or_default();
    match kind {
        NftMsg::NewTable | NftMsg::DelTable => "the table".to_owned(),
        NftMsg::NewSet => format!("set {}", text(SetAttr::Name.into())),
        NftMsg::NewChain | NftMsg::DelChain => format!("chain {}", text(ChainAttr::Name.into())),
        NftMsg::NewRule | NftMsg::DelRule => {
            format!("a rule of chain {}", text(RuleAttr::Chain.into()))
        }
        NftMsg::NewSetElem | NftMsg::DelSetElem => {
            let verb = match kind {
                NftMsg::NewSetElem => "adding",
                _ => "removing",
            };
            let set = text(ElementListAttr::Set.into());
            match offset.and_then(|offset| element_at(message, offset)) {
                Some(element) => format!("{verb} element {element} of {set}"),
                None => format!("{verb} elements of {set}"),
            }
        }
        _ => "the batch".to_owned(),
    }
}
