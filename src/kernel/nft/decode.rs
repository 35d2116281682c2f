//! What the kernel dumps, back into the types of the data path.
//!
//! Whatever we never write must show: it becomes a foreign expression or type,
//! an object more, or it makes the whole table odd, and then only building it
//! anew makes it ours. Handles, counters and comments alter nothing and are
//! passed over.

use std::net::IpAddr;

use crate::dataplane::Ruleset;
use crate::dataplane::ruleset::{Base, BaseKind, Chain, Hook, Rule, Set, TABLE};
use crate::kernel::socket::{Attributes, Message};
use crate::model::{AddressRange, Family, InterfaceName};

use super::batch::{
    INTERVAL_END, POLICY_ACCEPT, SET_INTERVAL, SET_MAP, hook_number, kind_name, type_of,
};
use super::expr::read_rule;
use super::message::{
    ChainAttr, DataAttr, ElementAttr, ElementListAttr, GenerationAttr, HookAttr, NFGENMSG,
    NFPROTO_INET, NftMsg, RuleAttr, SetAttr, SetDescriptionAttr, TableAttr,
};

/// More than any attribute type that is read here.
const FIELDS: usize = 24;

/// The attributes of an object, by type.
pub(super) struct Fields<'a> {
    values: [Option<&'a [u8]>; FIELDS],
    /// Whether there is one of a type beyond [`FIELDS`].
    more: bool,
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let mut fields = Self {
            values: [None; FIELDS],
            more: false,
        };
        for (kind, value) in Attributes::new(bytes) {
            match fields.values.get_mut(usize::from(kind)) {
                Some(place) => *place = Some(value),
                None => fields.more = true,
            }
        }
        fields
    }

    /// Whether there is nothing but these.
    pub(super) fn only<A: Copy + Into<u16>>(&self, known: &[A]) -> bool {
        let is_known = |kind: usize| known.iter().any(|&known| usize::from(known.into()) == kind);
        let all = self.values.iter().enumerate();
        !self.more
            && all
                .filter(|(_, value)| value.is_some())
                .all(|(kind, _)| is_known(kind))
    }

    pub(super) fn bytes(&self, kind: impl Into<u16>) -> Option<&'a [u8]> {
        *self.values.get(usize::from(kind.into()))?
    }

    pub(super) fn number(&self, kind: impl Into<u16>) -> Option<u32> {
        let bytes = self.bytes(kind)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    }

    pub(super) fn text(&self, kind: impl Into<u16>) -> Option<&'a str> {
        let bytes = self.bytes(kind)?;
        std::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)).ok()
    }

    /// The value in a `struct nft_data`.
    pub(super) fn value(&self, kind: impl Into<u16>) -> Option<&'a [u8]> {
        let nested = Attributes::new(self.bytes(kind)?);
        let value = u16::from(DataAttr::Value);
        nested
            .into_iter()
            .find(|(kind, _)| *kind == value)
            .map(|(_, bytes)| bytes)
    }
}

/// The attributes of a message about our table; `None` for another's. In all
/// messages of nf_tables the first attribute is the name of the table.
fn of_our_table<'a>(message: &Message<'a>) -> Option<Fields<'a>> {
    let (general, attributes) = message.payload.split_at_checked(NFGENMSG)?;
    let fields = Fields::new(attributes);
    let ours = general[0] == NFPROTO_INET && fields.text(TableAttr::Name) == Some(TABLE);
    ours.then_some(fields)
}

/// Whether a notification says that somebody else altered our table. What the
/// socket with `our_port` did itself does not concern us.
pub(crate) fn concerns_us(message: &Message<'_>, our_port: u32) -> bool {
    const NFNL_SUBSYS_NFTABLES: u16 = 10;
    message.kind >> 8 == NFNL_SUBSYS_NFTABLES
        && message.port != our_port
        && of_our_table(message).is_some()
}

/// The generation in an answer to `NFT_MSG_GETGEN`.
pub(crate) fn generation(message: &Message<'_>) -> Option<u32> {
    let attributes = message.payload.get(NFGENMSG..)?;
    Fields::new(attributes).number(GenerationAttr::Id)
}

/// What is there of our table, gathered message by message.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    table_flags: Option<u32>,
    sets: Vec<Set>,
    chains: Vec<Chain>,
    rules: Vec<(String, Rule)>,
    odd: bool,
}

impl Listing {
    /// Takes in what one message says; passes over other tables.
    pub(crate) fn take(&mut self, message: &Message<'_>) {
        let Some(fields) = of_our_table(message) else {
            return;
        };
        let understood = match NftMsg::from(message.kind) {
            NftMsg::NewTable => self.table(&fields),
            NftMsg::NewSet => read_set(&fields).map(|set| self.sets.push(set)),
            NftMsg::NewChain => read_chain(&fields).map(|chain| self.chains.push(chain)),
            NftMsg::NewRule => self.rule(&fields),
            _ => None,
        };
        self.odd |= understood.is_none();
    }

    fn table(&mut self, fields: &Fields<'_>) -> Option<()> {
        self.table_flags = Some(fields.number(TableAttr::Flags)?);
        Some(())
    }

    fn rule(&mut self, fields: &Fields<'_>) -> Option<()> {
        let chain = fields.text(RuleAttr::Chain)?.to_owned();
        let list = fields.bytes(RuleAttr::Expressions).unwrap_or_default();
        self.rules.push((chain, read_rule(list)));
        Some(())
    }

    /// Adds what another dump gave.
    pub(crate) fn append(&mut self, mut other: Listing) {
        self.table_flags = self.table_flags.or(other.table_flags);
        self.sets.append(&mut other.sets);
        self.chains.append(&mut other.chains);
        self.rules.append(&mut other.rules);
        self.odd |= other.odd;
    }

    /// Whether there is a table.
    pub(crate) fn is_there(&self) -> bool {
        self.table_flags.is_some()
    }

    /// Whether there is a set of that name.
    pub(crate) fn has_set(&self, name: &str) -> bool {
        self.sets.iter().any(|set| set.name == name)
    }

    /// The table, when it has one of these flags and nothing in it is odd.
    pub(crate) fn ruleset(self, table_flags: &[u32]) -> Option<Ruleset> {
        let Listing {
            mut sets,
            mut chains,
            ..
        } = self;
        if self.odd || !table_flags.contains(&self.table_flags?) {
            return None;
        }
        sets.sort_by(|a, b| a.name.cmp(&b.name));
        chains.sort_by(|a, b| a.name.cmp(&b.name));
        // The rules of a chain are dumped in their order.
        for (name, rule) in self.rules {
            let chain = chains.iter_mut().find(|chain| chain.name == name)?;
            chain.rules.push(rule);
        }
        Some(Ruleset { sets, chains })
    }
}

fn read_set(fields: &Fields<'_>) -> Option<Set> {
    let flags = fields.number(SetAttr::Flags).unwrap_or(0);
    let map = flags & SET_MAP != 0;
    // Timeouts, dynamic elements, expressions and objects in elements.
    let alike = flags & !(SET_INTERVAL | SET_MAP) == 0
        && [11_u16, 12, 15, 17, 18]
            .iter()
            .all(|&kind| fields.bytes(kind).is_none());
    let value = || {
        let number = fields.number(SetAttr::DataType)?;
        Some(type_of(number, fields.number(SetAttr::DataLength)?))
    };
    let description = Fields::new(fields.bytes(SetAttr::Description).unwrap_or_default());
    let set = Set {
        name: fields.text(SetAttr::Name)?.to_owned(),
        key: type_of(
            fields.number(SetAttr::KeyType).unwrap_or(0),
            fields.number(SetAttr::KeyLength)?,
        ),
        value: if map { Some(value()?) } else { None },
        interval: flags & SET_INTERVAL != 0,
        size: description.number(SetDescriptionAttr::Size),
    };
    alike.then_some(set)
}

fn read_chain(fields: &Fields<'_>) -> Option<Chain> {
    let base = match fields.bytes(ChainAttr::Hook) {
        Some(hook) => Some(read_base(fields, &Fields::new(hook))?),
        None => None,
    };
    Some(Chain {
        name: fields.text(ChainAttr::Name)?.to_owned(),
        base,
        rules: Vec::new(),
    })
}

fn read_base(chain: &Fields<'_>, hook: &Fields<'_>) -> Option<Base> {
    const HOOKS: [Hook; 5] = [
        Hook::Prerouting,
        Hook::Input,
        Hook::Forward,
        Hook::Output,
        Hook::Postrouting,
    ];
    let number = hook.number(HookAttr::Number)?;
    let kind = chain.text(ChainAttr::Type)?;
    // NFT_CHAIN_HW_OFFLOAD and NFT_CHAIN_BINDING are none of ours.
    const NFT_CHAIN_BASE: u32 = 1;
    let flags = chain.number(ChainAttr::Flags).unwrap_or(0);
    let alike = chain.number(ChainAttr::Policy)? == POLICY_ACCEPT
        && flags & !NFT_CHAIN_BASE == 0
        && hook.only(&[HookAttr::Number, HookAttr::Priority]);
    let base = Base {
        kind: [BaseKind::Filter, BaseKind::Nat]
            .into_iter()
            .find(|ours| kind_name(*ours) == kind)?,
        hook: HOOKS
            .into_iter()
            .find(|ours| hook_number(*ours) == number)?,
        priority: hook.number(HookAttr::Priority)?.cast_signed(),
    };
    alike.then_some(base)
}

/// The elements of one set, gathered message by message.
#[derive(Debug, Default)]
pub(crate) struct Elements {
    elements: Vec<RawElement>,
    odd: bool,
}

/// Key and value; the longest has 16 bytes.
#[derive(Clone, Copy, Debug)]
struct RawElement {
    key: Bytes,
    value: Option<Bytes>,
    end: bool,
}

#[derive(Clone, Copy, Debug)]
struct Bytes {
    bytes: [u8; 16],
    length: u8,
}

impl Bytes {
    fn new(slice: &[u8]) -> Option<Self> {
        let mut bytes = [0; 16];
        bytes.get_mut(..slice.len())?.copy_from_slice(slice);
        let length = u8::try_from(slice.len()).ok()?;
        Some(Self { bytes, length })
    }

    fn address(self) -> Option<IpAddr> {
        match self.length {
            4 => {
                let [a, b, c, d, ..] = self.bytes;
                Some([a, b, c, d].into())
            }
            16 => Some(self.bytes.into()),
            _ => None,
        }
    }
}

/// The name of an interface in a key of 16 bytes.
pub(super) fn interface_name(key: &[u8]) -> Option<InterfaceName> {
    let length = key.iter().position(|byte| *byte == 0)?;
    let (name, rest) = key.split_at(length);
    let padded = key.len() == 16 && rest.iter().all(|byte| *byte == 0);
    padded
        .then(|| std::str::from_utf8(name).ok()?.parse().ok())
        .flatten()
}

impl Elements {
    /// Takes in the elements of one message.
    pub(crate) fn take(&mut self, message: &Message<'_>) {
        let fields = of_our_table(message);
        let list = fields.and_then(|fields| fields.bytes(ElementListAttr::Elements));
        for (_, element) in Attributes::new(list.unwrap_or_default()) {
            match read_element(element) {
                Some(element) => self.elements.push(element),
                None => self.odd = true,
            }
        }
    }

    /// The elements of a map of addresses; `None` when there is one that we
    /// would never write.
    pub(crate) fn pairs<K, V>(self) -> Option<Vec<(K, V)>>
    where
        K: TryFrom<IpAddr>,
        V: TryFrom<IpAddr>,
    {
        let pair = |element: &RawElement| {
            let key = K::try_from(element.key.address()?).ok()?;
            let value = V::try_from(element.value?.address()?).ok()?;
            Some((key, value))
        };
        let pairs: Option<Vec<_>> = self.elements.iter().map(pair).collect();
        pairs.filter(|_| !self.odd)
    }

    /// The elements of a set of interface names.
    pub(crate) fn names(self) -> Option<Vec<InterfaceName>> {
        let name = |element: &RawElement| interface_name(&element.key.bytes);
        let names: Option<Vec<_>> = self.elements.iter().map(name).collect();
        names.filter(|_| !self.odd)
    }

    /// The elements of an interval set of a family: sorted, disjoint, not
    /// touching.
    pub(crate) fn ranges(mut self, family: Family) -> Option<Vec<AddressRange>> {
        if self.odd {
            return None;
        }
        // Where a range ends and another begins, the end comes first.
        self.elements
            .sort_unstable_by_key(|element| (element.key.bytes, !element.end));
        let mut ranges = Vec::new();
        let mut open: Option<IpAddr> = None;
        for element in self.elements {
            let address = element.key.address()?;
            match (open.take(), element.end) {
                (None, false) => open = Some(address),
                (Some(first), true) => {
                    ranges.push(AddressRange::new(first, address_before(address)?).ok()?);
                }
                // nft(8) begins a set with the end of what is below it.
                (None, true) if ranges.is_empty() => {}
                (Some(_), false) | (None, true) => return None,
            }
        }
        if let Some(first) = open {
            ranges.push(AddressRange::new(first, highest(family)).ok()?);
        }
        Some(AddressRange::merge(ranges))
    }
}

fn read_element(element: &[u8]) -> Option<RawElement> {
    let fields = Fields::new(element);
    let flags = fields.number(ElementAttr::Flags).unwrap_or(0);
    // A comment is harmless. A catch-all has no key; it is refused below.
    let alike = flags & !INTERVAL_END == 0
        && fields.only(&[
            ElementAttr::Key,
            ElementAttr::Data,
            ElementAttr::Flags,
            ElementAttr::UserData,
        ]);
    let value = match fields.value(ElementAttr::Data) {
        Some(value) => Some(Bytes::new(value)?),
        None => None,
    };
    let element = RawElement {
        key: Bytes::new(fields.value(ElementAttr::Key)?)?,
        value,
        end: flags & INTERVAL_END != 0,
    };
    alike.then_some(element)
}

fn address_before(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => Some(std::net::Ipv4Addr::from_bits(v4.to_bits().checked_sub(1)?).into()),
        IpAddr::V6(v6) => Some(std::net::Ipv6Addr::from_bits(v6.to_bits().checked_sub(1)?).into()),
    }
}

fn highest(family: Family) -> IpAddr {
    match family {
        Family::V4 => std::net::Ipv4Addr::BROADCAST.into(),
        Family::V6 => std::net::Ipv6Addr::from_bits(u128::MAX).into(),
    }
}
