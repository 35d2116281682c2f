//! The words of nf_tables on the wire: message types, attribute types, and the
//! writer that puts them together.
//!
//! Numbers are those of `include/uapi/linux/netfilter/nf_tables.h` and
//! `nfnetlink.h`. Numbers inside attributes are in network byte order, unlike
//! those of headers.

use std::io::Cursor;

use neli::consts::genl::NlAttrType;
use neli::consts::nl::{NlType, NlmF};
use neli::nl::NlPayload;
use neli::{Size, ToBytes, neli_enum};

use crate::dataplane::ruleset::TABLE;
use crate::kernel::socket::{HEADER, aligned, header};

/// `NFPROTO_INET`: the family of our table.
pub(crate) const NFPROTO_INET: u8 = 1;

/// `NFPROTO_IPV4`: the family of the tables that iptables makes.
const NFPROTO_IPV4: u8 = 2;

/// `NFNLGRP_NFTABLES`: the multicast group of what happens to nf_tables.
pub(crate) const GROUP: u32 = 7;

/// `NFNL_SUBSYS_NFTABLES`, which a batch names as the one that it is for.
const NFNL_SUBSYS_NFTABLES: u16 = 10;

/// The flags of a table that anybody may alter.
pub(crate) const PLAIN: u32 = 0;

/// `NFT_TABLE_F_PERSIST`: the flag of a table that outlived its owner.
pub(crate) const PERSIST: u32 = 0x4;

/// `NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST`: only the socket that made or
/// adopted the table may alter it, and it outlives the socket.
pub(crate) const OWNER_AND_PERSIST: u32 = 0x2 | PERSIST;

/// Types of messages: the subsystem in the high byte.
#[neli_enum(serialized_type = "u16")]
pub(crate) enum NftMsg {
    BatchBegin = 0x10,
    BatchEnd = 0x11,
    NewTable = 0x0a00,
    GetTable = 0x0a01,
    DelTable = 0x0a02,
    NewChain = 0x0a03,
    GetChain = 0x0a04,
    DelChain = 0x0a05,
    NewRule = 0x0a06,
    GetRule = 0x0a07,
    DelRule = 0x0a08,
    NewSet = 0x0a09,
    GetSet = 0x0a0a,
    DelSet = 0x0a0b,
    NewSetElem = 0x0a0c,
    GetSetElem = 0x0a0d,
    DelSetElem = 0x0a0e,
    NewGen = 0x0a0f,
    GetGen = 0x0a10,
}

impl NlType for NftMsg {}

macro_rules! attributes {
    ($($name:ident { $($attribute:ident = $number:literal),* $(,)? })*) => {
        $(
            #[neli_enum(serialized_type = "u16")]
            pub(crate) enum $name {
                $($attribute = $number),*
            }

            impl NlAttrType for $name {}
        )*
    };
}

attributes! {
    TableAttr { Name = 1, Flags = 2 }
    ChainAttr { Table = 1, Name = 3, Hook = 4, Policy = 5, Type = 7, Flags = 10 }
    HookAttr { Number = 1, Priority = 2, Device = 3, Devices = 4 }
    RuleAttr { Table = 1, Chain = 2, Handle = 3, Expressions = 4 }
    ListAttr { Element = 1 }
    ExprAttr { Name = 1, Data = 2 }
    SetAttr {
        Table = 1,
        Name = 2,
        Flags = 3,
        KeyType = 4,
        KeyLength = 5,
        DataType = 6,
        DataLength = 7,
        Description = 9,
        Id = 10,
        UserData = 13,
        Expression = 17,
    }
    SetDescriptionAttr { Size = 1, Concat = 2 }
    SetFieldAttr { Length = 1 }
    ElementListAttr { Table = 1, Set = 2, Elements = 3 }
    ElementAttr { Key = 1, Data = 2, Flags = 3, UserData = 6, Expression = 7, KeyEnd = 10 }
    DataAttr { Value = 1, Verdict = 2 }
    VerdictAttr { Code = 1, Chain = 2 }
    MetaAttr { To = 1, Key = 2, From = 3 }
    PayloadAttr { To = 1, Base = 2, Offset = 3, Length = 4 }
    CtAttr { To = 1, Key = 2, Direction = 3 }
    RtAttr { To = 1, Key = 2 }
    BitwiseAttr { From = 1, To = 2, Length = 3, Mask = 4, Xor = 5, Operation = 6 }
    CmpAttr { From = 1, Operation = 2, Data = 3 }
    LookupAttr { Set = 1, From = 2, To = 3, Flags = 5 }
    NatAttr {
        Type = 1,
        Family = 2,
        AddressMin = 3,
        AddressMax = 4,
        PortMin = 5,
        PortMax = 6,
        Flags = 7,
    }
    ImmediateAttr { To = 1, Data = 2 }
    CounterAttr { Bytes = 1, Packets = 2 }
    LimitAttr { Rate = 1, Unit = 2, Burst = 3, Type = 4, Flags = 5 }
    GenerationAttr { Id = 1 }
}

/// `struct nfgenmsg`, which every message of netfilter begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nfgenmsg {
    family: u8,
    resource: u16,
}

/// The length of `struct nfgenmsg`.
pub(crate) const NFGENMSG: usize = 4;

impl Nfgenmsg {
    const VERSION: u8 = 0;

    /// About something of our table.
    pub(crate) const INET: Self = Self {
        family: NFPROTO_INET,
        resource: 0,
    };

    /// About everybody's tables (`NFPROTO_UNSPEC`).
    const ANY: Self = Self {
        family: 0,
        resource: 0,
    };

    /// About something of iptables'.
    pub(crate) const IPV4: Self = Self {
        family: NFPROTO_IPV4,
        resource: 0,
    };

    /// About a batch.
    pub(crate) const BATCH: Self = Self {
        family: 0,
        resource: NFNL_SUBSYS_NFTABLES,
    };
}

impl Size for Nfgenmsg {
    fn unpadded_size(&self) -> usize {
        NFGENMSG
    }
}

impl ToBytes for Nfgenmsg {
    fn to_bytes(&self, buffer: &mut Cursor<Vec<u8>>) -> Result<(), neli::err::SerError> {
        self.family.to_bytes(buffer)?;
        Self::VERSION.to_bytes(buffer)?;
        // res_id alone among the fields of headers is in network byte order.
        self.resource.to_be().to_bytes(buffer)
    }
}

/// What a dump or get names: attributes after `struct nfgenmsg`.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    general: Nfgenmsg,
    attributes: Vec<u8>,
}

/// A request about what these attributes name, each a text.
pub(crate) fn named<A: NlAttrType + Copy + Into<u16>>(attributes: &[(A, &str)]) -> Named {
    let mut writer = Writer::default();
    for &(kind, text) in attributes {
        writer.text(kind, text);
    }
    Named::of(writer)
}

impl Named {
    /// A request about everything in everybody's tables.
    pub(crate) const EVERYTHING: Self = Self {
        general: Nfgenmsg::ANY,
        attributes: Vec::new(),
    };

    /// A request about the elements of somebody's set.
    pub(crate) fn elements_of(family: u8, table: &str, set: &str) -> Self {
        let words = [(ElementListAttr::Table, table), (ElementListAttr::Set, set)];
        Self {
            general: Nfgenmsg {
                family,
                resource: 0,
            },
            ..named(&words)
        }
    }

    /// A request about all objects of one kind that are iptables'.
    pub(crate) fn of_iptables() -> Self {
        Self {
            general: Nfgenmsg::IPV4,
            attributes: Vec::new(),
        }
    }

    /// A request about what is written.
    pub(super) fn of(writer: Writer) -> Self {
        Self {
            general: Nfgenmsg::INET,
            attributes: writer.bytes,
        }
    }
}

impl Size for Named {
    fn unpadded_size(&self) -> usize {
        NFGENMSG + self.attributes.len()
    }
}

impl ToBytes for Named {
    fn to_bytes(&self, buffer: &mut Cursor<Vec<u8>>) -> Result<(), neli::err::SerError> {
        self.general.to_bytes(buffer)?;
        std::io::Write::write_all(buffer, &self.attributes)?;
        Ok(())
    }
}

/// Messages and attributes, written one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Writer {
    /// What is written so far.
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    /// Writes a message; `body` writes its attributes.
    pub(super) fn message(
        &mut self,
        kind: NftMsg,
        flags: NlmF,
        sequence: u32,
        general: Nfgenmsg,
        body: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        let head = header(
            kind,
            NlmF::REQUEST | flags,
            sequence,
            NlPayload::Payload(general),
        );
        let mut cursor = Cursor::new(std::mem::take(&mut self.bytes));
        cursor.set_position(start as u64);
        head.to_bytes(&mut cursor)
            .expect("a vector takes whatever is written to it");
        self.bytes = cursor.into_inner();
        debug_assert_eq!(self.bytes.len(), start + HEADER + NFGENMSG);
        body(self);
        let length = self.bytes.len() - start;
        let length = u32::try_from(length).expect("a message is far below 4 GiB");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Writes an attribute with these bytes.
    pub(super) fn attribute(&mut self, kind: impl Into<u16>, value: &[u8]) {
        self.head(kind.into(), value.len());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    /// Writes an attribute with a number.
    pub(super) fn number(&mut self, kind: impl Into<u16>, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// Writes an attribute with a number of 8 bytes.
    pub(super) fn long(&mut self, kind: impl Into<u16>, value: u64) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// Writes an attribute with a text, which ends with NUL on the wire.
    pub(super) fn text(&mut self, kind: impl Into<u16>, text: &str) {
        self.head(kind.into(), text.len() + 1);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    /// Writes an attribute that holds the attributes that `body` writes.
    pub(super) fn nest(&mut self, kind: impl Into<u16>, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.head(NLA_F_NESTED | kind.into(), 0);
        body(self);
        let length = attribute_length(self.bytes.len() - start);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Writes `struct nft_data` with a value.
    pub(super) fn data(&mut self, kind: impl Into<u16>, value: &[u8]) {
        self.head(NLA_F_NESTED | kind.into(), ATTRIBUTE + aligned(value.len()));
        self.attribute(DataAttr::Value, value);
    }

    /// Writes the name of our table.
    pub(super) fn table(&mut self, kind: impl Into<u16>) {
        self.text(kind, TABLE);
    }

    /// Writes the head of an attribute whose value of that length follows.
    pub(super) fn head(&mut self, kind: u16, length: usize) {
        let length = attribute_length(ATTRIBUTE + length);
        let [a, b] = length.to_ne_bytes();
        let [c, d] = kind.to_ne_bytes();
        self.bytes.extend_from_slice(&[a, b, c, d]);
    }

    fn pad(&mut self) {
        let length = aligned(self.bytes.len());
        self.bytes.resize(length, 0);
    }
}

/// `NLA_F_NESTED`.
pub(super) const NLA_F_NESTED: u16 = 0x8000;

/// The length of `struct nlattr`.
pub(super) const ATTRIBUTE: usize = 4;

/// `nla_len` has 16 bits and nobody tells when it wraps.
fn attribute_length(length: usize) -> u16 {
    u16::try_from(length).expect("attributes are kept below 64 KiB")
}
