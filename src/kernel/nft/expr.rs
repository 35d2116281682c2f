//! Expressions of rules, to bytes and back.
//!
//! What is read back is what was written, or [`Expr::Foreign`]: an attribute or
//! value that we never write makes an expression foreign, so that an edit of a
//! rule is never taken for our own.

use crate::dataplane::ruleset::{
    CmpOp, CtKey, Expr, MetaKey, PayloadBase, Register, Rule, Set, Stateful, Verdict,
};
use crate::kernel::socket::Attributes;
use crate::model::{Count, Family, Rate};

use super::batch::type_and_length;
use super::decode::Fields;
use super::message::{
    BitwiseAttr, CmpAttr, CounterAttr, CtAttr, DataAttr, ExprAttr, ImmediateAttr, LimitAttr,
    ListAttr, LookupAttr, MetaAttr, NatAttr, PayloadAttr, RtAttr, VerdictAttr, Writer,
};

/// A value of ours and the kernel's number for it.
type Table<T> = [(T, u32)];

/// `enum nft_meta_keys`.
const META: &Table<MetaKey> = &[
    (MetaKey::Mark, MARK),
    (MetaKey::Iifname, 6),
    (MetaKey::Oifname, 7),
    (MetaKey::Nfproto, 15),
    (MetaKey::L4proto, 16),
];

/// `NFT_META_MARK`.
const MARK: u32 = 3;

/// `enum nft_payload_bases`.
const BASES: &Table<PayloadBase> = &[(PayloadBase::Network, 1), (PayloadBase::Transport, 2)];

/// `enum nft_ct_keys`.
const CT: &Table<CtKey> = &[(CtKey::State, 0), (CtKey::Direction, 1), (CtKey::Status, 2)];

/// `NFT_CT_DST_IP` and `NFT_CT_DST_IP6` of the same, which are of a direction.
const CT_DESTINATIONS: &Table<Family> = &[(Family::V4, 20), (Family::V6, 22)];

/// `NFT_RT_XFRM` of `enum nft_rt_keys`.
const RT_IPSEC: u32 = 4;

/// `enum nft_cmp_ops`.
const CMP: &Table<CmpOp> = &[
    (CmpOp::Eq, 0),
    (CmpOp::Neq, 1),
    (CmpOp::Lte, 3),
    (CmpOp::Gte, 5),
];

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const FAMILIES: &Table<Family> = &[(Family::V4, 2), (Family::V6, 10)];

/// `NFT_NAT_SNAT` and `NFT_NAT_DNAT`.
const SNAT: u32 = 0;
const DNAT: u32 = 1;

/// `NF_DROP`, `NF_ACCEPT`, `NFT_GOTO` and `NFT_JUMP`.
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
const GOTO: u32 = -4_i32 as u32;
const JUMP: u32 = -3_i32 as u32;

/// `IP_CT_DIR_ORIGINAL` and `IP_CT_DIR_REPLY`.
const ORIGINAL: u8 = 0;
const REPLY: u8 = 1;

fn code<T: PartialEq>(table: &Table<T>, value: &T) -> u32 {
    let row = table.iter().find(|(ours, _)| ours == value);
    row.expect("the table has all values").1
}

fn meaning<T: Copy>(table: &Table<T>, code: u32) -> Option<T> {
    let row = table.iter().find(|(_, theirs)| *theirs == code);
    row.map(|(ours, _)| *ours)
}

/// The same rule for a kernel that refuses to look up only the key of a map
/// (before Linux 6.5, `nft_lookup_init`): it looks up the value, which is never
/// an address of zeros. nft(8) 1.0.6 prints that as `… map @map != 0x0 [invalid
/// type]`; with the value in a register that nothing reads it would leave the
/// lookup out.
pub(super) fn without_map_keys(rule: &Rule, sets: &[Set]) -> Rule {
    let mut spelled = Rule::new();
    for expr in rule {
        match expr {
            Expr::Lookup {
                set,
                key,
                value: None,
            } if let Some(length) = value_length(sets, set) => spelled.extend([
                Expr::Lookup {
                    set: set.clone(),
                    key: *key,
                    value: Some(*key),
                },
                Expr::Cmp {
                    op: CmpOp::Neq,
                    register: *key,
                    data: vec![0; length],
                },
            ]),
            other => spelled.push(other.clone()),
        }
    }
    spelled
}

/// The length of a map's values; `None` for a set.
fn value_length(sets: &[Set], name: &str) -> Option<usize> {
    let value = sets.iter().find(|set| set.name == name)?.value?;
    Some(type_and_length(value).1 as usize)
}

/// Undoes [`without_map_keys`]; leaves every other rule as it is.
fn with_map_keys(rule: Rule) -> Rule {
    let mut read: Rule = Vec::with_capacity(rule.len());
    for expr in rule {
        let found = match (read.last(), &expr) {
            (
                Some(Expr::Lookup {
                    set,
                    key,
                    value: Some(value),
                }),
                Expr::Cmp {
                    op: CmpOp::Neq,
                    register,
                    data,
                },
            ) if key == value && value == register && data.iter().all(|byte| *byte == 0) => {
                Some((set.clone(), *key))
            }
            _ => None,
        };
        match found {
            Some((set, key)) => {
                read.pop();
                read.push(Expr::Lookup {
                    set,
                    key,
                    value: None,
                });
            }
            None => read.push(expr),
        }
    }
    read
}

/// Writes the expressions of a rule, as elements of a list.
pub(super) fn write_rule(writer: &mut Writer, rule: &Rule) {
    for expr in rule {
        write(writer, expr);
    }
}

fn write(writer: &mut Writer, expr: &Expr) {
    match expr {
        Expr::Meta { key, to } => named(writer, "meta", |w| {
            register(w, MetaAttr::To, *to);
            w.number(MetaAttr::Key, code(META, key));
        }),
        Expr::Payload {
            base,
            offset,
            len,
            to,
        } => named(writer, "payload", |w| {
            register(w, PayloadAttr::To, *to);
            w.number(PayloadAttr::Base, code(BASES, base));
            w.number(PayloadAttr::Offset, *offset);
            w.number(PayloadAttr::Length, *len);
        }),
        Expr::Ct { key, to } => named(writer, "ct", |w| {
            let (number, direction) = match key {
                CtKey::State | CtKey::Status | CtKey::Direction => (code(CT, key), None),
                CtKey::OriginalDestination(family) => {
                    (code(CT_DESTINATIONS, family), Some(ORIGINAL))
                }
                CtKey::ReplyDestination(family) => (code(CT_DESTINATIONS, family), Some(REPLY)),
            };
            w.number(CtAttr::Key, number);
            register(w, CtAttr::To, *to);
            if let Some(direction) = direction {
                w.attribute(CtAttr::Direction, &[direction]);
            }
        }),
        Expr::RouteIpsec { to } => named(writer, "rt", |w| {
            register(w, RtAttr::To, *to);
            w.number(RtAttr::Key, RT_IPSEC);
        }),
        Expr::Mask { register: r, mask } => named(writer, "bitwise", |w| {
            register(w, BitwiseAttr::From, *r);
            register(w, BitwiseAttr::To, *r);
            w.number(BitwiseAttr::Length, length(mask));
            w.data(BitwiseAttr::Mask, mask);
            w.data(BitwiseAttr::Xor, &vec![0; mask.len()]);
        }),
        Expr::Merge {
            register: r,
            mask,
            value,
        } => named(writer, "bitwise", |w| {
            register(w, BitwiseAttr::From, *r);
            register(w, BitwiseAttr::To, *r);
            w.number(BitwiseAttr::Length, 4);
            w.data(BitwiseAttr::Mask, &mask.to_ne_bytes());
            w.data(BitwiseAttr::Xor, &value.to_ne_bytes());
        }),
        Expr::SetMark { from } => named(writer, "meta", |w| {
            w.number(MetaAttr::Key, MARK);
            register(w, MetaAttr::From, *from);
        }),
        Expr::Cmp {
            op,
            register: r,
            data,
        } => named(writer, "cmp", |w| {
            register(w, CmpAttr::From, *r);
            w.number(CmpAttr::Operation, code(CMP, op));
            w.data(CmpAttr::Data, data);
        }),
        Expr::Lookup { set, key, value } => named(writer, "lookup", |w| {
            w.text(LookupAttr::Set, set);
            register(w, LookupAttr::From, *key);
            if let Some(value) = value {
                register(w, LookupAttr::To, *value);
            }
        }),
        Expr::Dnat {
            family,
            address,
            port,
        } => nat(writer, DNAT, *family, *address, *port),
        Expr::Snat { family, address } => nat(writer, SNAT, *family, *address, None),
        Expr::Masquerade => named(writer, "masq", |_| {}),
        Expr::Verdict(verdict) => named(writer, "immediate", |w| {
            register(w, ImmediateAttr::To, Register::VERDICT);
            w.nest(ImmediateAttr::Data, |w| {
                w.nest(DataAttr::Verdict, |w| write_verdict(w, verdict));
            });
        }),
        // The kernel refuses an expression that it does not know (ENOENT).
        Expr::Foreign(name) => named(writer, name, |_| {}),
    }
}

fn named(writer: &mut Writer, name: &str, data: impl FnOnce(&mut Writer)) {
    writer.nest(ListAttr::Element, |w| {
        w.text(ExprAttr::Name, name);
        w.nest(ExprAttr::Data, data);
    });
}

fn nat(writer: &mut Writer, kind: u32, family: Family, address: Register, port: Option<Register>) {
    named(writer, "nat", |w| {
        w.number(NatAttr::Type, kind);
        w.number(NatAttr::Family, code(FAMILIES, &family));
        register(w, NatAttr::AddressMin, address);
        if let Some(port) = port {
            register(w, NatAttr::PortMin, port);
        }
    });
}

pub(super) fn write_verdict(writer: &mut Writer, verdict: &Verdict) {
    match verdict {
        Verdict::Accept => writer.number(VerdictAttr::Code, ACCEPT),
        Verdict::Drop => writer.number(VerdictAttr::Code, DROP),
        Verdict::Goto(chain) => {
            writer.number(VerdictAttr::Code, GOTO);
            writer.text(VerdictAttr::Chain, chain);
        }
        Verdict::Jump(chain) => {
            writer.number(VerdictAttr::Code, JUMP);
            writer.text(VerdictAttr::Chain, chain);
        }
    }
}

fn register(writer: &mut Writer, kind: impl Into<u16>, register: Register) {
    writer.number(kind, u32::from(register.0));
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a register has 16 bytes")
}

/// What an element of a set does, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// It has counted so much.
    Counting(Count),
    /// It is found beyond this rate.
    Limiting(Rate),
}

/// Writes what each element of a set does that says nothing else.
pub(super) fn write_stateful(writer: &mut Writer, kind: impl Into<u16>, each: Stateful) {
    match each {
        Stateful::Counter => writer.nest(kind, |w| {
            w.text(ExprAttr::Name, COUNTER);
            w.nest(ExprAttr::Data, |_| {});
        }),
        // Every element of ours says its rate. The kernel wants one here.
        Stateful::Limit => write_limit(writer, kind, 1),
    }
}

/// Writes what an element does.
pub(super) fn write_doing(writer: &mut Writer, kind: impl Into<u16>, doing: Doing) {
    match doing {
        Doing::Counting(count) => writer.nest(kind, |w| {
            w.text(ExprAttr::Name, COUNTER);
            w.nest(ExprAttr::Data, |w| {
                w.long(CounterAttr::Bytes, count.bytes);
                w.long(CounterAttr::Packets, count.packets);
            });
        }),
        Doing::Limiting(rate) => write_limit(writer, kind, rate.bits() / 8),
    }
}

fn write_limit(writer: &mut Writer, kind: impl Into<u16>, bytes: u64) {
    writer.nest(kind, |w| {
        w.text(ExprAttr::Name, LIMIT);
        w.nest(ExprAttr::Data, |w| {
            w.long(LimitAttr::Rate, bytes);
            w.long(LimitAttr::Unit, SECOND);
            w.number(LimitAttr::Burst, BURST);
            w.number(LimitAttr::Type, PACKET_BYTES);
            w.number(LimitAttr::Flags, OVER);
        });
    });
}

const COUNTER: &str = "counter";
const LIMIT: &str = "limit";

/// `rate over … bytes/second`: `NFT_LIMIT_PKT_BYTES` and `NFT_LIMIT_F_INV`.
const PACKET_BYTES: u32 = 1;
const OVER: u32 = 1;

/// The unit of rates. A shorter one the kernel does not have.
const SECOND: u64 = 1;

/// What may pass at once beyond what a second has: the longest packet that the
/// kernel joins from several (GRO), which at a low rate would never pass. Of
/// bytes the kernel lets a second's worth pass at once anyway, after a pause
/// (`nft_limit_init`).
const BURST: u32 = 65_536;

/// What each element of a set does.
pub(super) fn stateful(expression: &[u8]) -> Option<Stateful> {
    match Fields::new(expression).text(ExprAttr::Name)? {
        COUNTER => Some(Stateful::Counter),
        LIMIT => Some(Stateful::Limit),
        _ => None,
    }
}

/// What an element does. A rate that we cannot tell from one of ours is none.
pub(super) fn read_doing(expression: &[u8]) -> Option<Doing> {
    let fields = Fields::new(expression);
    let data = Fields::new(fields.bytes(ExprAttr::Data)?);
    match fields.text(ExprAttr::Name)? {
        COUNTER => Some(Doing::Counting(Count {
            packets: data.long(CounterAttr::Packets)?,
            bytes: data.long(CounterAttr::Bytes)?,
        })),
        LIMIT => {
            let ours = data.long(LimitAttr::Unit)? == SECOND
                && data.number(LimitAttr::Burst)? == BURST
                && data.number(LimitAttr::Type)? == PACKET_BYTES
                && data.number(LimitAttr::Flags)? == OVER;
            let bits = data.long(LimitAttr::Rate)?.checked_mul(8)?;
            Rate::new(bits).ok().filter(|_| ours).map(Doing::Limiting)
        }
        _ => None,
    }
}

/// Reads the expressions of a rule.
pub(super) fn read_rule(list: &[u8]) -> Rule {
    with_map_keys(Attributes::new(list).map(|(_, expr)| read(expr)).collect())
}

fn read(expr: &[u8]) -> Expr {
    let fields = Fields::new(expr);
    let name = fields.text(ExprAttr::Name).unwrap_or_default();
    let data = Fields::new(fields.bytes(ExprAttr::Data).unwrap_or_default());
    let known = match name {
        "meta" => read_meta(&data),
        "payload" => read_payload(&data),
        "ct" => read_ct(&data),
        "rt" => read_rt(&data),
        "bitwise" => read_bitwise(&data),
        "cmp" => read_cmp(&data),
        "lookup" => read_lookup(&data),
        "nat" => read_nat(&data),
        "masq" => data.only::<u16>(&[]).then_some(Expr::Masquerade),
        "immediate" => read_immediate(&data),
        _ => None,
    };
    known.unwrap_or_else(|| Expr::Foreign(name.to_owned()))
}

fn read_meta(data: &Fields<'_>) -> Option<Expr> {
    if data.only(&[MetaAttr::From, MetaAttr::Key]) {
        let from = read_register(data, MetaAttr::From)?;
        return (data.number(MetaAttr::Key)? == MARK).then_some(Expr::SetMark { from });
    }
    data.only(&[MetaAttr::To, MetaAttr::Key]).then_some(())?;
    Some(Expr::Meta {
        key: meaning(META, data.number(MetaAttr::Key)?)?,
        to: read_register(data, MetaAttr::To)?,
    })
}

fn read_payload(data: &Fields<'_>) -> Option<Expr> {
    data.only(&[
        PayloadAttr::To,
        PayloadAttr::Base,
        PayloadAttr::Offset,
        PayloadAttr::Length,
    ])
    .then_some(())?;
    Some(Expr::Payload {
        base: meaning(BASES, data.number(PayloadAttr::Base)?)?,
        offset: data.number(PayloadAttr::Offset)?,
        len: data.number(PayloadAttr::Length)?,
        to: read_register(data, PayloadAttr::To)?,
    })
}

fn read_ct(data: &Fields<'_>) -> Option<Expr> {
    data.only(&[CtAttr::To, CtAttr::Key, CtAttr::Direction])
        .then_some(())?;
    let number = data.number(CtAttr::Key)?;
    let key = match data.bytes(CtAttr::Direction) {
        None => meaning(CT, number)?,
        Some([ORIGINAL]) => CtKey::OriginalDestination(meaning(CT_DESTINATIONS, number)?),
        Some([REPLY]) => CtKey::ReplyDestination(meaning(CT_DESTINATIONS, number)?),
        Some(_) => return None,
    };
    let to = read_register(data, CtAttr::To)?;
    Some(Expr::Ct { key, to })
}

fn read_rt(data: &Fields<'_>) -> Option<Expr> {
    data.only(&[RtAttr::To, RtAttr::Key]).then_some(())?;
    let to = read_register(data, RtAttr::To)?;
    (data.number(RtAttr::Key)? == RT_IPSEC).then_some(Expr::RouteIpsec { to })
}

fn read_bitwise(data: &Fields<'_>) -> Option<Expr> {
    data.only(&[
        BitwiseAttr::From,
        BitwiseAttr::To,
        BitwiseAttr::Length,
        BitwiseAttr::Mask,
        BitwiseAttr::Xor,
        BitwiseAttr::Operation,
    ])
    .then_some(())?;
    let register = read_register(data, BitwiseAttr::From)?;
    let mask = data.value(BitwiseAttr::Mask)?.to_vec();
    // NFT_BITWISE_MASK_XOR is 0; kernels before 5.6 have no other and no name.
    let masks = data.number(BitwiseAttr::Operation).unwrap_or(0) == 0
        && data.number(BitwiseAttr::Length)? == length(&mask)
        && read_register(data, BitwiseAttr::To)? == register;
    masks.then_some(())?;
    let xor = data.value(BitwiseAttr::Xor)?;
    if xor.iter().all(|byte| *byte == 0) {
        return Some(Expr::Mask { register, mask });
    }
    let [mask, value] = [&mask, xor].map(|bits| <[u8; 4]>::try_from(bits).map(u32::from_ne_bytes));
    Some(Expr::Merge {
        register,
        mask: mask.ok()?,
        value: value.ok()?,
    })
}

fn read_cmp(data: &Fields<'_>) -> Option<Expr> {
    data.only(&[CmpAttr::From, CmpAttr::Operation, CmpAttr::Data])
        .then_some(())?;
    Some(Expr::Cmp {
        op: meaning(CMP, data.number(CmpAttr::Operation)?)?,
        register: read_register(data, CmpAttr::From)?,
        data: data.value(CmpAttr::Data)?.to_vec(),
    })
}

fn read_lookup(data: &Fields<'_>) -> Option<Expr> {
    data.only(&[
        LookupAttr::Set,
        LookupAttr::From,
        LookupAttr::To,
        LookupAttr::Flags,
    ])
    .then_some(())?;
    // The one flag inverts the answer (NFT_LOOKUP_F_INV).
    let upright = data.number(LookupAttr::Flags).unwrap_or(0) == 0;
    let value = match data.bytes(LookupAttr::To) {
        Some(_) => Some(read_register(data, LookupAttr::To)?),
        None => None,
    };
    let set = data.text(LookupAttr::Set)?.to_owned();
    let key = read_register(data, LookupAttr::From)?;
    upright.then_some(Expr::Lookup { set, key, value })
}

fn read_nat(data: &Fields<'_>) -> Option<Expr> {
    data.only(&[
        NatAttr::Type,
        NatAttr::Family,
        NatAttr::AddressMin,
        NatAttr::AddressMax,
        NatAttr::PortMin,
        NatAttr::PortMax,
        NatAttr::Flags,
    ])
    .then_some(())?;
    // The kernel itself sets NF_NAT_RANGE_MAP_IPS and, with a port,
    // NF_NAT_RANGE_PROTO_SPECIFIED, the two lowest flags.
    let port = data.bytes(NatAttr::PortMin).is_some();
    let known = if port { 3 } else { 1 };
    (data.number(NatAttr::Flags).unwrap_or(0) & !known == 0).then_some(())?;
    let family = meaning(FAMILIES, data.number(NatAttr::Family)?)?;
    let address = read_register(data, NatAttr::AddressMin)?;
    // The kernel fills in the upper end of a range of one.
    if data.bytes(NatAttr::AddressMax).is_some()
        && read_register(data, NatAttr::AddressMax)? != address
    {
        return None;
    }
    let port = match data.bytes(NatAttr::PortMin) {
        Some(_) => Some(read_register(data, NatAttr::PortMin)?),
        None => None,
    };
    if data.bytes(NatAttr::PortMax).is_some()
        && Some(read_register(data, NatAttr::PortMax)?) != port
    {
        return None;
    }
    match (data.number(NatAttr::Type)?, port) {
        (DNAT, port) => Some(Expr::Dnat {
            family,
            address,
            port,
        }),
        (SNAT, None) => Some(Expr::Snat { family, address }),
        _ => None,
    }
}

fn read_immediate(data: &Fields<'_>) -> Option<Expr> {
    data.only(&[ImmediateAttr::To, ImmediateAttr::Data])
        .then_some(())?;
    let register = read_register(data, ImmediateAttr::To)?;
    (register == Register::VERDICT).then_some(())?;
    read_verdict(data.bytes(ImmediateAttr::Data)?).map(Expr::Verdict)
}

/// The verdict in the attributes of a `struct nft_data`.
pub(super) fn read_verdict(data: &[u8]) -> Option<Verdict> {
    let verdict = Fields::new(Fields::new(data).bytes(DataAttr::Verdict)?);
    match verdict.number(VerdictAttr::Code)? {
        ACCEPT => Some(Verdict::Accept),
        DROP => Some(Verdict::Drop),
        code @ (GOTO | JUMP) => {
            let chain = verdict.text(VerdictAttr::Chain)?.to_owned();
            let jump = code == JUMP;
            Some(match jump {
                true => Verdict::Jump(chain),
                false => Verdict::Goto(chain),
            })
        }
        _ => None,
    }
}

fn read_register(data: &Fields<'_>, kind: impl Into<u16>) -> Option<Register> {
    u8::try_from(data.number(kind)?).ok().map(Register)
}
