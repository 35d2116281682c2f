//! Elements of sets and maps, to bytes and back.
//!
//! There may be a hundred thousand of them: they are written without going back
//! to fill in lengths, and kept in one flat list until all are read.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::dataplane::ruleset::{Verdict, names, uplink_chain, uplink_number};
use crate::dataplane::{Element, PortElement};
use crate::kernel::socket::{Attributes, HEADER, Message, aligned};
use crate::model::{
    AddressRange, Count, Direction, Family, FixedIp, FloatingIp, InterfaceName, Port, PortRange,
    Protocol, Rate,
};

use super::decode::{Fields, data_value, of_our_table};
use super::expr::{Doing, read_doing, read_verdict, write_doing, write_verdict};
use super::message::{
    ATTRIBUTE, DataAttr, ElementAttr, ElementListAttr, ListAttr, NFGENMSG, NLA_F_NESTED, Named,
    Writer,
};

/// `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL_END: u32 = 0x1;

/// `IFNAMSIZ`: an interface name is a key of so many bytes.
pub(super) const INTERFACE_NAME: u32 = 16;

/// A key or value: an address in network order, alone or with a protocol and a
/// port, or the name of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Octets {
    bytes: [u8; LONGEST],
    length: u8,
}

/// Two IPv6 addresses.
const LONGEST: usize = 32;

impl Octets {
    fn new(slice: &[u8]) -> Option<Self> {
        let mut bytes = [0; LONGEST];
        bytes.get_mut(..slice.len())?.copy_from_slice(slice);
        let length = u8::try_from(slice.len()).ok()?;
        Some(Self { bytes, length })
    }

    fn of(address: IpAddr) -> Self {
        let octets = match address {
            IpAddr::V4(v4) => Self::new(&v4.octets()),
            IpAddr::V6(v6) => Self::new(&v6.octets()),
        };
        octets.expect("an address has at most 16 bytes")
    }

    /// An address, and what follows it in 4 bytes each.
    fn joined(address: IpAddr, words: &[[u8; 4]]) -> Self {
        let mut joined = Self::of(address);
        for word in words {
            let start = usize::from(joined.length);
            joined.bytes[start..start + 4].copy_from_slice(word);
            joined.length += 4;
        }
        joined
    }

    /// Two addresses of one family.
    fn joined_addresses(first: IpAddr, second: IpAddr) -> Self {
        let mut joined = Self::of(first);
        let second = Self::of(second);
        let start = usize::from(joined.length);
        let end = start + usize::from(second.length);
        joined.bytes[start..end].copy_from_slice(second.as_slice());
        joined.length += second.length;
        joined
    }

    /// The two addresses of one family.
    fn split_addresses(self) -> Option<(IpAddr, IpAddr)> {
        let half = usize::from(self.length) / 2;
        let (first, second) = self.as_slice().split_at(half);
        Some((Self::new(first)?.address()?, Self::new(second)?.address()?))
    }

    /// The address and the so many words that follow it.
    fn split<const N: usize>(self) -> Option<(IpAddr, [[u8; 4]; N])> {
        let length = usize::from(self.length).checked_sub(4 * N)?;
        let address = Self::new(&self.bytes[..length])?.address()?;
        let mut words = [[0; 4]; N];
        for (word, bytes) in words.iter_mut().zip(self.bytes[length..].chunks(4)) {
            word.copy_from_slice(bytes);
        }
        Some((address, words))
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    fn address(self) -> Option<IpAddr> {
        match self.length {
            4 => {
                let [a, b, c, d, ..] = self.bytes;
                Some([a, b, c, d].into())
            }
            16 => {
                let bytes: [u8; 16] = self.bytes[..16].try_into().ok()?;
                Some(bytes.into())
            }
            _ => None,
        }
    }
}

/// The sets that have elements of ours, in the order in which they are written.
pub(super) const SETS: [&str; 29] = [
    "floating_to_fixed4",
    "floating_to_fixed6",
    "fixed_to_floating4",
    "fixed_to_floating6",
    "rest_to_fixed4",
    "rest_to_fixed6",
    "forward4",
    "forward6",
    "forward_range4",
    "forward_range6",
    "forwarded_to4",
    "forwarded_to6",
    "forwarding4",
    "forwarding6",
    "counted_in4",
    "counted_in6",
    "counted_out4",
    "counted_out6",
    "limited_in4",
    "limited_in6",
    "limited_out4",
    "limited_out6",
    "filtered4",
    "filtered6",
    "allowed4",
    "allowed6",
    "fixed_to_uplink4",
    "fixed_to_uplink6",
    names::OUTSIDE,
];

/// Where in [`SETS`] the set of an element is.
pub(super) fn place(element: &Element) -> usize {
    let (v4, family) = match element {
        Element::FloatingToFixed(floating, _) => (0, floating.family()),
        Element::FixedToFloating(fixed, _) => (2, fixed.family()),
        Element::RestToFixed(floating, _) => (4, floating.family()),
        Element::Forward(floating, PortElement::One { .. }) => (6, floating.family()),
        Element::Forward(floating, PortElement::Range { .. }) => (8, floating.family()),
        Element::ForwardedTo(fixed) => (10, fixed.family()),
        Element::Forwarding(floating) => (12, floating.family()),
        Element::Counted(Direction::In, floating, _) => (14, floating.family()),
        Element::Counted(Direction::Out, floating, _) => (16, floating.family()),
        Element::Limited(Direction::In, floating, _) => (18, floating.family()),
        Element::Limited(Direction::Out, floating, _) => (20, floating.family()),
        Element::Filtered(floating) => (22, floating.family()),
        Element::Allowed(floating, _) => (24, floating.family()),
        Element::FixedToUplink(fixed, _) => (26, fixed.family()),
        Element::Outside(_) => return 28,
    };
    match family {
        Family::V4 => v4,
        Family::V6 => v4 + 1,
    }
}

/// Writes an element, or only its key.
pub(super) fn write_of_ours(writer: &mut Writer, element: &Element, key_only: bool) {
    let (key, value) = match element {
        Element::FloatingToFixed(floating, fixed) | Element::RestToFixed(floating, fixed) => {
            (floating.ip(), fixed.ip())
        }
        Element::FixedToFloating(fixed, floating) => (fixed.ip(), floating.ip()),
        Element::Forward(floating, ports) => {
            return write_forward(writer, *floating, ports, key_only);
        }
        Element::ForwardedTo(fixed) => {
            return write(writer, Octets::of(fixed.ip()).as_slice(), None, None, 0);
        }
        Element::Forwarding(floating) => {
            return write(writer, Octets::of(floating.ip()).as_slice(), None, None, 0);
        }
        Element::Counted(_, floating, count) => {
            let count = Some(*count).filter(|count| !key_only && *count != Count::default());
            return write_doer(writer, *floating, count.map(Doing::Counting));
        }
        Element::Limited(_, floating, rate) => {
            let rate = (!key_only).then_some(Doing::Limiting(*rate));
            return write_doer(writer, *floating, rate);
        }
        Element::Filtered(floating) => {
            return write(writer, Octets::of(floating.ip()).as_slice(), None, None, 0);
        }
        Element::Allowed(floating, net) => {
            let [first, last] = [net.network(), net.broadcast()]
                .map(|end| Octets::joined_addresses(floating.ip(), end));
            return write(writer, first.as_slice(), Some(last.as_slice()), None, 0);
        }
        Element::FixedToUplink(fixed, number) => {
            let number = (!key_only).then_some(*number);
            return write_uplink(writer, fixed.ip(), number, 0);
        }
        Element::Outside(name) => {
            return write(writer, &interface_key(name), None, None, 0);
        }
    };
    let (key, value) = (Octets::of(key), Octets::of(value));
    let value = (!key_only).then(|| value.as_slice());
    write(writer, key.as_slice(), None, value, 0);
}

/// Writes an element of a set that counts or limits. Without what it does it
/// does what the set says.
fn write_doer(writer: &mut Writer, floating: FloatingIp, doing: Option<Doing>) {
    writer.nest(ListAttr::Element, |w| {
        w.data(ElementAttr::Key, Octets::of(floating.ip()).as_slice());
        if let Some(doing) = doing {
            write_doing(w, ElementAttr::Expression, doing);
        }
    });
}

/// Writes an element of a map of addresses that leads to the chain of an uplink.
fn write_uplink(writer: &mut Writer, address: IpAddr, number: Option<u32>, flags: u32) {
    writer.nest(ListAttr::Element, |w| {
        w.data(ElementAttr::Key, Octets::of(address).as_slice());
        if let Some(number) = number {
            w.nest(ElementAttr::Data, |w| {
                w.nest(DataAttr::Verdict, |w| {
                    write_verdict(w, &Verdict::Goto(uplink_chain(number)));
                });
            });
        }
        if flags != 0 {
            w.number(ElementAttr::Flags, flags);
        }
    });
}

/// A request for the element of a set that a floating IP is the key of.
pub(crate) fn element_of(set: &str, floating: FloatingIp) -> Named {
    let mut writer = Writer::default();
    writer.table(ElementListAttr::Table);
    writer.text(ElementListAttr::Set, set);
    writer.nest(ElementListAttr::Elements, |w| {
        write(w, Octets::of(floating.ip()).as_slice(), None, None, 0);
    });
    Named::of(writer)
}

/// Writes an element of `forward` or `forward_range`. Its key of several parts
/// has its upper end beside it; one that is removed is named by both.
fn write_forward(writer: &mut Writer, floating: FloatingIp, element: &PortElement, key_only: bool) {
    let key = |protocol: Protocol, port: Port| {
        Octets::joined(
            floating.ip(),
            &[[protocol.number(), 0, 0, 0], port_word(port)],
        )
    };
    let (key, end, value) = match *element {
        PortElement::One {
            protocol,
            port,
            fixed,
            fixed_port,
        } => (
            key(protocol, port),
            None,
            Octets::joined(fixed.ip(), &[port_word(fixed_port)]),
        ),
        PortElement::Range {
            protocol,
            ports,
            fixed,
        } => (
            key(protocol, ports.first()),
            Some(key(protocol, ports.last())),
            Octets::of(fixed.ip()),
        ),
    };
    let value = (!key_only).then(|| value.as_slice());
    let end = end.as_ref().map(Octets::as_slice);
    write(writer, key.as_slice(), end, value, 0);
}

/// A port in network order, padded.
fn port_word(port: Port) -> [u8; 4] {
    let [high, low] = port.number().to_be_bytes();
    [high, low, 0, 0]
}

/// The port in such a word.
fn word_port(word: [u8; 4]) -> Option<Port> {
    let [high, low, 0, 0] = word else {
        return None;
    };
    Port::new(u16::from_be_bytes([high, low])).ok()
}

/// The floating IP, protocol and port in a key.
fn port_key(key: Octets) -> Option<(FloatingIp, Protocol, Port)> {
    let (address, [protocol, port]) = key.split::<2>()?;
    let [protocol, 0, 0, 0] = protocol else {
        return None;
    };
    let floating = FloatingIp::new(address).ok()?;
    Some((floating, Protocol::of(protocol)?, word_port(port)?))
}

/// Writes one element. Lengths are known beforehand, so nothing is patched: a
/// hundred thousand of them take as long as copying them.
fn write(writer: &mut Writer, key: &[u8], end: Option<&[u8]>, value: Option<&[u8]>, flags: u32) {
    // NFTA_LIST_ELEM { NFTA_SET_ELEM_KEY { NFTA_DATA_VALUE } … }
    let data = |bytes: &[u8]| 2 * ATTRIBUTE + aligned(bytes.len());
    let number = if flags == 0 { 0 } else { ATTRIBUTE + 4 };
    let length = data(key) + end.map_or(0, data) + value.map_or(0, data) + number;
    writer.head(NLA_F_NESTED | u16::from(ListAttr::Element), length);
    writer.data(ElementAttr::Key, key);
    if let Some(end) = end {
        writer.data(ElementAttr::KeyEnd, end);
    }
    if let Some(value) = value {
        writer.data(ElementAttr::Data, value);
    }
    if flags != 0 {
        writer.number(ElementAttr::Flags, flags);
    }
}

fn interface_key(name: &InterfaceName) -> [u8; INTERFACE_NAME as usize] {
    let mut key = [0; INTERFACE_NAME as usize];
    key[..name.as_str().len()].copy_from_slice(name.as_str().as_bytes());
    key
}

/// Both ends of a range: its first address, and the address after its last,
/// marked as end. The highest range of all has no end. Of a map the first one
/// leads somewhere.
pub(super) fn ends(range: &AddressRange, uplink: Option<u32>) -> impl Iterator<Item = End> + use<> {
    let first = End {
        address: range.first(),
        uplink,
        flags: 0,
    };
    let after = address_after(range.last()).map(|address| End {
        address,
        uplink: None,
        flags: INTERVAL_END,
    });
    std::iter::once(first).chain(after)
}

/// One end of a range.
pub(super) struct End {
    address: IpAddr,
    uplink: Option<u32>,
    flags: u32,
}

/// Writes one end of a range.
pub(super) fn write_end(writer: &mut Writer, end: End) {
    write_uplink(writer, end.address, end.uplink, end.flags);
}

/// The element that lies at an offset of a message, as nft(8) writes it.
pub(super) fn element_at(message: &[u8], offset: usize) -> Option<String> {
    let fields = Fields::new(&message[HEADER + NFGENMSG..]);
    let list = fields.bytes(ElementListAttr::Elements)?;
    let start = list.as_ptr() as usize - message.as_ptr() as usize;
    let mut end = start;
    for (_, element) in Attributes::new(list) {
        end += ATTRIBUTE + aligned(element.len());
        if (start..end).contains(&offset) {
            let fields = Fields::new(element);
            let mut text = key_text(fields.value(ElementAttr::Key)?);
            if let Some(value) = fields.value(ElementAttr::Data) {
                let _ = write!(text, " : {}", key_text(value));
            }
            return Some(text);
        }
    }
    None
}

fn key_text(key: &[u8]) -> String {
    // An address and a port (8 or 20 bytes), or with a protocol between them (12
    // or 24).
    let octets = Octets::new(key);
    if let 12 | 24 = key.len()
        && let Some((floating, protocol, port)) = octets.and_then(port_key)
    {
        return format!("{floating} . {protocol} . {port}");
    }
    if let 8 | 20 = key.len()
        && let Some((address, [port])) = octets.and_then(Octets::split)
        && let Some(port) = word_port(port)
    {
        return format!("{address} . {port}");
    }
    // Two addresses. One with a port of 2 bytes and 2 of padding is no address.
    if let 8 | 32 = key.len()
        && let Some((floating, source)) = octets.and_then(Octets::split_addresses)
    {
        return format!("{floating} . {source}");
    }
    if let Ok(v4) = <[u8; 4]>::try_from(key) {
        Ipv4Addr::from(v4).to_string()
    } else if let Some(name) = interface_name(key) {
        name.to_string()
    } else if let Ok(v6) = <[u8; 16]>::try_from(key) {
        Ipv6Addr::from(v6).to_string()
    } else {
        format!("{key:02x?}")
    }
}

/// The elements of one set, gathered message by message.
#[derive(Debug, Default)]
pub(crate) struct Elements {
    elements: Vec<RawElement>,
    odd: bool,
}

/// Key and value.
#[derive(Clone, Copy, Debug)]
struct RawElement {
    key: Octets,
    /// The upper end of a key of several parts.
    key_end: Option<Octets>,
    value: Option<Octets>,
    /// The number of an uplink, of whose chain it has the name.
    uplink: Option<u32>,
    end: bool,
    doing: Option<Doing>,
}

/// The name of an interface in a key of 16 bytes.
fn interface_name(key: &[u8]) -> Option<InterfaceName> {
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
        self.plain()?.iter().map(pair).collect()
    }

    /// The elements of a set of addresses.
    pub(crate) fn keys<K: TryFrom<IpAddr>>(self) -> Option<Vec<K>> {
        let key = |element: &RawElement| K::try_from(element.key.address()?).ok();
        self.plain()?.iter().map(key).collect()
    }

    /// The elements of a map of forwarded ports.
    pub(crate) fn ports(self) -> Option<Vec<(FloatingIp, PortElement)>> {
        self.plain()?.iter().map(port_element).collect()
    }

    /// The elements of a set of interface names.
    pub(crate) fn names(self) -> Option<Vec<InterfaceName>> {
        let name = |element: &RawElement| interface_name(element.key.as_slice());
        self.plain()?.iter().map(name).collect()
    }

    /// The elements of a set that counts.
    pub(crate) fn counts(self) -> Option<Vec<(FloatingIp, Count)>> {
        let count = |element: &RawElement| {
            let floating = FloatingIp::new(element.key.address()?).ok()?;
            match element.doing? {
                Doing::Counting(count) => Some((floating, count)),
                Doing::Limiting(_) => None,
            }
        };
        let counts: Option<Vec<_>> = self.elements.iter().map(count).collect();
        counts.filter(|_| !self.odd)
    }

    /// The elements of a set that limits.
    pub(crate) fn rates(self) -> Option<Vec<(FloatingIp, Rate)>> {
        let rate = |element: &RawElement| {
            let floating = FloatingIp::new(element.key.address()?).ok()?;
            match element.doing? {
                Doing::Limiting(rate) => Some((floating, rate)),
                Doing::Counting(_) => None,
            }
        };
        let rates: Option<Vec<_>> = self.elements.iter().map(rate).collect();
        rates.filter(|_| !self.odd)
    }

    /// The elements of a set of floating IPs, each with a prefix.
    pub(crate) fn prefixes(self) -> Option<Vec<(FloatingIp, IpNet)>> {
        self.plain()?.iter().map(prefix).collect()
    }

    /// The elements, when all of them are such as we write and none does anything.
    fn plain(self) -> Option<Vec<RawElement>> {
        let does = self.elements.iter().any(|element| element.doing.is_some());
        (!self.odd && !does).then_some(self.elements)
    }

    /// The elements of an interval set of a family: sorted, disjoint, not
    /// touching.
    pub(crate) fn ranges(self, family: Family) -> Option<Vec<AddressRange>> {
        let ranges = self.intervals(family)?.into_iter();
        Some(AddressRange::merge(
            ranges.map(|(range, _)| range).collect(),
        ))
    }

    /// The elements of a map from ranges of a family to uplinks, sorted.
    pub(crate) fn uplinks(self, family: Family) -> Option<Vec<(AddressRange, u32)>> {
        let ranges = self.intervals(family)?.into_iter();
        ranges
            .map(|(range, uplink)| Some((range, uplink?)))
            .collect()
    }

    /// The elements of a map from hosts to uplinks.
    pub(crate) fn uplinks_of_hosts(self) -> Option<Vec<(FixedIp, u32)>> {
        let host = |element: &RawElement| {
            let fixed = FixedIp::new(element.key.address()?).ok()?;
            Some((fixed, element.uplink?))
        };
        self.plain()?.iter().map(host).collect()
    }

    /// The ranges of a family, sorted, with what each leads to.
    fn intervals(self, family: Family) -> Option<Vec<(AddressRange, Option<u32>)>> {
        let mut elements = self.plain()?;
        // Where a range ends and another begins, the end comes first.
        elements.sort_unstable_by_key(|element| (element.key.bytes, !element.end));
        let mut ranges = Vec::new();
        let mut open: Option<(IpAddr, Option<u32>)> = None;
        for element in elements {
            let address = element.key.address()?;
            match (open.take(), element.end) {
                (None, false) => open = Some((address, element.uplink)),
                (Some((first, uplink)), true) => {
                    let range = AddressRange::new(first, address_before(address)?).ok()?;
                    ranges.push((range, uplink));
                }
                // nft(8) begins a set with the end of what is below it.
                (None, true) if ranges.is_empty() => {}
                (Some(_), false) | (None, true) => return None,
            }
        }
        if let Some((first, uplink)) = open {
            ranges.push((AddressRange::new(first, highest(family)).ok()?, uplink));
        }
        Some(ranges)
    }
}

/// An element of `allowed`.
fn prefix(element: &RawElement) -> Option<(FloatingIp, IpNet)> {
    let (address, first) = element.key.split_addresses()?;
    let (same, last) = element.key_end?.split_addresses()?;
    let floating = FloatingIp::new(address).ok().filter(|_| same == address)?;
    let length = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => (first.to_bits() ^ last.to_bits()).leading_zeros(),
        (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits() ^ last.to_bits()).leading_zeros(),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    let net = IpNet::new(first, u8::try_from(length).ok()?).ok()?;
    // Ranges that are no prefixes are none of ours.
    let ours = net.network() == first && net.broadcast() == last;
    ours.then_some((floating, net))
}

/// An element of `forward`, or with an upper end of `forward_range`.
fn port_element(element: &RawElement) -> Option<(FloatingIp, PortElement)> {
    let (floating, protocol, port) = port_key(element.key)?;
    let value = element.value?;
    let read = match element.key_end {
        None => {
            let (fixed, [fixed_port]) = value.split()?;
            PortElement::One {
                protocol,
                port,
                fixed: FixedIp::new(fixed).ok()?,
                fixed_port: word_port(fixed_port)?,
            }
        }
        Some(end) => {
            let (same, alike, last) = port_key(end)?;
            (same == floating && alike == protocol).then_some(())?;
            PortElement::Range {
                protocol,
                ports: PortRange::new(port, last).ok()?,
                fixed: FixedIp::new(value.address()?).ok()?,
            }
        }
    };
    Some((floating, read))
}

fn read_element(element: &[u8]) -> Option<RawElement> {
    let (mut key, mut key_end, mut value, mut flags) = (None, None, None, 0);
    let (mut doing, mut uplink) = (None, None);
    for (kind, bytes) in Attributes::new(element) {
        match ElementAttr::from(kind) {
            ElementAttr::Key => key = Some(Octets::new(data_value(bytes)?)?),
            ElementAttr::KeyEnd => key_end = Some(Octets::new(data_value(bytes)?)?),
            ElementAttr::Data if let Some(verdict) = read_verdict(bytes) => {
                let Verdict::Goto(chain) = verdict else {
                    return None;
                };
                uplink = Some(uplink_number(&chain)?);
            }
            ElementAttr::Data => value = Some(Octets::new(data_value(bytes)?)?),
            ElementAttr::Flags => flags = u32::from_be_bytes(bytes.try_into().ok()?),
            ElementAttr::Expression => doing = Some(read_doing(bytes)?),
            // A comment.
            ElementAttr::UserData => {}
            ElementAttr::UnrecognizedConst(_) => return None,
        }
    }
    // A catch-all has a flag and no key.
    (flags & !INTERVAL_END == 0).then_some(())?;
    Some(RawElement {
        key: key?,
        key_end,
        value,
        uplink,
        end: flags & INTERVAL_END != 0,
        doing,
    })
}

/// The next address; `None` after the highest one of a family.
fn address_after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4
            .to_bits()
            .checked_add(1)
            .map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6
            .to_bits()
            .checked_add(1)
            .map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

/// The address before; `None` before the lowest one of a family.
fn address_before(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => Some(Ipv4Addr::from_bits(v4.to_bits().checked_sub(1)?).into()),
        IpAddr::V6(v6) => Some(Ipv6Addr::from_bits(v6.to_bits().checked_sub(1)?).into()),
    }
}

fn highest(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::BROADCAST.into(),
        Family::V6 => Ipv6Addr::from_bits(u128::MAX).into(),
    }
}
