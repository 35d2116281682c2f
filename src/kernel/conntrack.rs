//! The flows that conntrack keeps, by ctnetlink.
//!
//! Two ways to end flows: for a few addresses the kernel looks for them itself
//! (a message with a filter, a pass over its table each); for many, one dump is
//! matched here and the flows are deleted one by one. Older kernels refuse to
//! delete by a filter; then the kernel only looks, and we delete what it found.
//!
//! Never by a filter for IPv6: there Linux (seen with 6.18) takes the entries
//! whose address differs instead of those whose address is the same, and a
//! flush for one address ends everybody else's flows. It is matched here.
//!
//! An answer that is under way when its flow ends begins another flow, from the
//! other end; where no rule translates that (a fixed address to which there is
//! a route from outside), the host's packets pass for its answers, untranslated,
//! as long as the two talk. So what ended untranslated is looked for again, by
//! the tuple of its answers, until no answer can be under way any more.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use neli::consts::nl::{NlType, NlmF};
use neli::consts::socket::NlFamily;
use neli::neli_enum;
use nix::errno::Errno;

use crate::dataplane::{Associations, Cut, Flow, Tenants};
use crate::model::{AddressRange, Family, FloatingIp, State};

use super::socket::{self, Attributes, Message, Socket, address_family, attribute};
use super::{Flows, KernelError, Operation};

/// Up to so many cuts the kernel passes over its table for each; beyond, one
/// dump for all is cheaper: at 10,000 entries a filtered pass takes 4 ms and a
/// dump with its deletes 16.
const FEW: usize = 4;

/// So many deletes go into one send(2).
const AT_ONCE: usize = 1_000;

/// How long an answer may be under way: what a host took for a round trip of
/// which it knew nothing (RFC 1122 4.2.3.1), three times what it does today (RFC
/// 6298 2.1).
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(3);

/// The answers of so many flows are waited for; beyond, those of the latest.
const MOST_ANSWERS: usize = 10_000;

/// Messages of ctnetlink: `NFNL_SUBSYS_CTNETLINK` (1) in the high byte
/// (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
#[neli_enum(serialized_type = "u16")]
enum CtMsg {
    Get = 0x0101,
    Delete = 0x0102,
}

impl NlType for CtMsg {}

/// Attributes of the same file.
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;

/// Which of a tuple's two addresses.
#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

/// Which of a flow's two tuples.
#[derive(Clone, Copy)]
enum Way {
    Original,
    Reply,
}

/// An entry of conntrack's table: the flow, and what names it in a delete.
struct Entry {
    flow: Flow,
    family: u8,
    name: Vec<u8>,
    /// What names the flow that one of its answers begins, if nothing is
    /// translated.
    answer: Option<Vec<u8>>,
}

/// What is not outside.
fn places(private: Vec<IpNet>, pools: Vec<AddressRange>) -> Associations {
    Associations::new(&State::default(), AddressRange::merge(pools), private)
}

/// The flows that conntrack keeps.
pub struct ConntrackFlows {
    socket: Socket,
    /// Tells what is outside; has no associations.
    places: Associations,
    /// Whether the kernel deletes by a filter.
    deletes_by_filter: bool,
    /// The flows that answers may begin which are still under way, each with
    /// when its flow ended.
    answers: VecDeque<(Instant, Delete)>,
}

/// The body of a message that deletes one entry.
type Delete = Vec<u8>;

impl ConntrackFlows {
    /// Opens the socket. `private` and `pools` tell what is not outside;
    /// `hide_filter` is the test switch that hides deletion by a filter.
    pub fn open(
        private: Vec<IpNet>,
        pools: Vec<AddressRange>,
        hide_filter: bool,
    ) -> Result<Self, KernelError> {
        Ok(Self {
            socket: Socket::open(NlFamily::Netfilter, "conntrack")?,
            places: places(private, pools),
            deletes_by_filter: !hide_filter,
            answers: VecDeque::new(),
        })
    }

    /// Ends the flows of an IPv4 address, found by the kernel.
    fn cut_one(&mut self, cut: &Cut, address: Ipv4Addr) -> Result<usize, KernelError> {
        match cut {
            Cut::Floating { keep, .. } if keep.is_empty() => {
                let original = self.cut_by_filter(Way::Original, address)?;
                Ok(original + self.cut_by_filter(Way::Reply, address)?)
            }
            Cut::Floating { floating, keep } => {
                let mut ended = 0;
                for way in [Way::Original, Way::Reply] {
                    let filter = filter(way, End::Destination, address);
                    let mut entries = self.dump(Family::V4, &filter)?;
                    entries.retain(|entry| {
                        !keep.have(
                            *floating,
                            &entry.flow,
                            self.places.is_outside(entry.flow.from),
                        )
                    });
                    ended += self.delete(&entries)?;
                }
                Ok(ended)
            }
            Cut::Outbound(fixed) => {
                let filter = filter(Way::Original, End::Source, address);
                let mut entries = self.dump(Family::V4, &filter)?;
                entries.retain(|entry| self.is_begun_before(&entry.flow, fixed.ip()));
                self.delete(&entries)
            }
        }
    }

    /// Whether the flow is one that a host began towards the outside before it
    /// had its floating IP.
    fn is_begun_before(&self, flow: &Flow, fixed: IpAddr) -> bool {
        flow.from == fixed
            && self.places.is_outside(flow.to)
            && !self.places.in_pool(flow.answered_to)
    }

    /// Ends the flows with the address as destination of one tuple.
    fn cut_by_filter(&mut self, way: Way, address: Ipv4Addr) -> Result<usize, KernelError> {
        let filter = filter(way, End::Destination, address);
        if self.deletes_by_filter {
            let sequence = self.socket.next_sequence();
            let payload = payload(Family::V4, &filter);
            let flags = NlmF::REQUEST | NlmF::ACK;
            let message = socket::message(CtMsg::Delete, flags, sequence, payload.as_slice());
            let answers = self.socket.exchange(&message, |_| {}).map_err(failed)?;
            match answers.refusals.into_iter().next() {
                // How many, the kernel does not say.
                None => return Ok(0),
                Some(refusal) if refusal.errno == Errno::ENOENT as i32 => return Ok(0),
                Some(refusal) if is_filter_unknown(refusal.errno) => {
                    self.deletes_by_filter = false;
                }
                Some(refusal) => return Err(refusal.of(Operation::Cut)),
            }
        }
        let entries = self.dump(Family::V4, &filter)?;
        self.delete(&entries)
    }

    /// One pass for many cuts.
    fn cut_many(&mut self, cuts: &[&Cut]) -> Result<usize, KernelError> {
        let mut floating = HashMap::<IpAddr, (FloatingIp, &Tenants)>::new();
        let mut outbound = HashSet::new();
        for cut in cuts {
            match cut {
                Cut::Floating {
                    floating: address,
                    keep,
                } => {
                    floating.insert(address.ip(), (*address, keep));
                }
                Cut::Outbound(address) => {
                    outbound.insert(address.ip());
                }
            }
        }
        let places = self.places.clone();
        let is_kept = |flow: &Flow, address| match floating.get(&address) {
            Some((floating, tenants)) => {
                tenants.have(*floating, flow, places.is_outside(flow.from))
            }
            None => true,
        };
        let mut ended = 0;
        for family in Family::BOTH {
            let mut addresses = floating.keys().chain(&outbound);
            if !addresses.any(|address| Family::of(*address) == family) {
                continue;
            }
            let mut entries = self.dump(family, &[])?;
            entries.retain(|Entry { flow, .. }| {
                !is_kept(flow, flow.to)
                    || !is_kept(flow, flow.answered_to)
                    || (outbound.contains(&flow.from) && self.is_begun_before(flow, flow.from))
            });
            ended += self.delete(&entries)?;
        }
        Ok(ended)
    }

    fn dump(&mut self, family: Family, filter: &[u8]) -> Result<Vec<Entry>, KernelError> {
        let request = payload(family, filter);
        self.socket.dump(
            CtMsg::Get,
            &request.as_slice(),
            |entries: &mut Vec<_>, message| {
                entries.extend(entry(&message));
            },
        )
    }

    /// Deletes entries, and says how many were still there. The answers under
    /// way are kept in mind.
    fn delete(&mut self, entries: &[Entry]) -> Result<usize, KernelError> {
        let now = Instant::now();
        for entry in entries {
            let answer = entry.answer.as_ref();
            self.answers
                .extend(answer.map(|name| (now, delete(entry.family, name))));
        }
        let too_many = self.answers.len().saturating_sub(MOST_ANSWERS);
        self.answers.drain(..too_many);
        let deletes: Vec<_> = entries
            .iter()
            .map(|entry| delete(entry.family, &entry.name))
            .collect();
        self.send(&deletes)
    }

    /// Sends these deletes, and says how many were of an entry that was there.
    fn send(&mut self, deletes: &[Delete]) -> Result<usize, KernelError> {
        let mut ended = 0;
        for chunk in deletes.chunks(AT_ONCE) {
            let mut messages = Vec::new();
            for payload in chunk {
                let sequence = self.socket.next_sequence();
                messages.extend(socket::message(
                    CtMsg::Delete,
                    NlmF::REQUEST,
                    sequence,
                    payload.as_slice(),
                ));
            }
            let answers = self.socket.exchange(&messages, |_| {}).map_err(failed)?;
            ended += chunk.len() - answers.refusals.len().min(chunk.len());
            let gone = Errno::ENOENT as i32;
            if let Some(refusal) = answers
                .refusals
                .into_iter()
                .find(|refusal| refusal.errno != gone)
            {
                return Err(refusal.of(Operation::Cut));
            }
        }
        Ok(ended)
    }
}

impl Flows for ConntrackFlows {
    fn know(&mut self, private: Vec<IpNet>, pools: Vec<AddressRange>) {
        self.places = places(private, pools);
    }

    fn cut(&mut self, cuts: &[Cut]) -> Result<usize, KernelError> {
        let by_kernel = |cut: &Cut| ipv4_of(cut).filter(|_| cuts.len() <= FEW);
        let mut ended = 0;
        let mut rest = Vec::new();
        for cut in cuts {
            match by_kernel(cut) {
                Some(address) => ended += self.cut_one(cut, address)?,
                None => rest.push(cut),
            }
        }
        Ok(ended + self.cut_many(&rest)?)
    }

    fn settle(&mut self, associations: &Associations) -> Result<usize, KernelError> {
        let mut ended = 0;
        for family in Family::BOTH {
            let mut entries = self.dump(family, &[])?;
            entries.retain(|entry| !associations.agree_with(&entry.flow));
            ended += self.delete(&entries)?;
        }
        Ok(ended)
    }

    fn cut_late(&mut self) -> Result<bool, KernelError> {
        let deletes: Vec<_> = self.answers.iter().map(|(_, name)| name.clone()).collect();
        let late = |(ended, _): &(Instant, _)| ended.elapsed() < LONGEST_ROUND_TRIP;
        self.answers.retain(late);
        self.send(&deletes)?;
        Ok(!self.answers.is_empty())
    }
}

/// Whether the kernel deletes by a filter. Asks it to delete the flows to
/// 0.0.0.0, of which there are none: nothing is sent to that address (connect(2)
/// makes it the host's own). Costs one pass over its table.
pub(super) fn deletes_by_filter(socket: &mut Socket) -> Result<bool, KernelError> {
    let nowhere = filter(Way::Original, End::Destination, Ipv4Addr::UNSPECIFIED);
    let sequence = socket.next_sequence();
    let message = socket::message(
        CtMsg::Delete,
        NlmF::REQUEST | NlmF::ACK,
        sequence,
        payload(Family::V4, &nowhere).as_slice(),
    );
    let failed = |error| KernelError::new(Operation::Open("conntrack"), error);
    let answers = socket.exchange(&message, |_| {}).map_err(failed)?;
    match answers.refusals.into_iter().next() {
        None => Ok(true),
        Some(refusal) if is_filter_unknown(refusal.errno) => Ok(false),
        Some(refusal) => Err(refusal.of(Operation::Open("conntrack"))),
    }
}

/// Whether a refusal means that the kernel does not delete by a filter. Linux
/// 6.1 does not look at `CTA_FILTER` here: it takes the tuple for one that names
/// a single flow, and half a tuple is `EINVAL`. `EOPNOTSUPP` is its answer to a
/// filter without a tuple (`ctnetlink_del_conntrack`, `ctnetlink_flush_conntrack`).
fn is_filter_unknown(errno: i32) -> bool {
    matches!(Errno::from_raw(errno), Errno::EINVAL | Errno::EOPNOTSUPP)
}

/// The address of a cut, if it is one of IPv4.
fn ipv4_of(cut: &Cut) -> Option<Ipv4Addr> {
    let address = match cut {
        Cut::Floating { floating, .. } => floating.ip(),
        Cut::Outbound(fixed) => fixed.ip(),
    };
    match address {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    }
}

fn failed(error: std::io::Error) -> KernelError {
    KernelError::new(Operation::Cut, error)
}

/// `struct nfgenmsg` and what follows it.
fn payload(family: Family, attributes: &[u8]) -> Vec<u8> {
    let mut payload = vec![address_family(family), 0, 0, 0];
    payload.extend(attributes);
    payload
}

/// The attributes that make the kernel look for flows with one address at one
/// end of one tuple. The flags of the filter are numbers in host order: bit 0
/// the source address, bit 1 the destination address (`CTA_FILTER_F_CTA_IP_SRC`
/// and `_DST`).
fn filter(way: Way, end: End, address: Ipv4Addr) -> Vec<u8> {
    let (number, flag) = match end {
        End::Source => (CTA_IP_V4_SRC, 1_u32),
        End::Destination => (CTA_IP_V4_DST, 2_u32),
    };
    let (tuple, flags) = match way {
        Way::Original => (CTA_TUPLE_ORIG, [flag, 0]),
        Way::Reply => (CTA_TUPLE_REPLY, [0, flag]),
    };
    let ip = nested(CTA_TUPLE_IP, &attribute(number, &address.octets()));
    let mut attributes = nested(tuple, &ip);
    let [original, reply] = flags.map(u32::to_ne_bytes);
    let flags = [
        attribute(CTA_FILTER_ORIG_FLAGS, &original),
        attribute(CTA_FILTER_REPLY_FLAGS, &reply),
    ];
    attributes.extend(nested(CTA_FILTER, &flags.concat()));
    attributes
}

/// The body of a message that deletes the entry of this name.
fn delete(family: u8, name: &[u8]) -> Delete {
    [&[family, 0, 0, 0], name].concat()
}

fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
    // NLA_F_NESTED
    attribute(kind | 0x8000, value)
}

fn entry(message: &Message<'_>) -> Option<Entry> {
    let family = *message.payload.first()?;
    let (mut original, mut reply) = (None, None);
    let (mut name, mut answer) = (Vec::new(), Vec::new());
    for (kind, value) in Attributes::new(message.payload.get(4..)?) {
        match kind {
            CTA_TUPLE_ORIG => {
                original = tuple(value);
                name.extend(nested(kind, value));
            }
            CTA_TUPLE_REPLY => {
                reply = tuple(value);
                answer.extend(nested(CTA_TUPLE_ORIG, value));
            }
            // The id tells this entry from a later one with the same tuple.
            CTA_ID => name.extend(attribute(kind, value)),
            CTA_ZONE => {
                name.extend(attribute(kind, value));
                answer.extend(attribute(kind, value));
            }
            _ => {}
        }
    }
    let (original, reply): (Tuple, Tuple) = (original?, reply?);
    let is_translated =
        (original.source, original.destination) != (reply.destination, reply.source);
    Some(Entry {
        answer: (!is_translated).then_some(answer),
        flow: Flow {
            from: original.source,
            to: original.destination,
            answered_by: reply.source,
            answered_to: reply.destination,
            protocol: original.protocol,
            to_port: original.destination_port,
            answered_from: reply.source_port,
        },
        family,
        name,
    })
}

/// The flows of a family that conntrack keeps, and whether each was answered.
pub(super) fn answered(
    socket: &mut Socket,
    family: Family,
) -> Result<Vec<(Flow, bool)>, KernelError> {
    // `IPS_SEEN_REPLY`
    const SEEN_REPLY: u32 = 1 << 1;
    let request = payload(family, &[]);
    socket.dump(
        CtMsg::Get,
        &request.as_slice(),
        |flows: &mut Vec<_>, message| {
            let attributes = message.payload.get(4..).unwrap_or_default();
            let status = Attributes::new(attributes).find(|(kind, _)| *kind == CTA_STATUS);
            let status = status.and_then(|(_, value)| value.try_into().ok());
            let is_answered =
                status.is_some_and(|status| u32::from_be_bytes(status) & SEEN_REPLY != 0);
            flows.extend(entry(&message).map(|entry| (entry.flow, is_answered)));
        },
    )
}

/// One direction of a flow.
struct Tuple {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    /// 0 where the protocol has no ports.
    source_port: u16,
    destination_port: u16,
}

fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let part = |wanted| {
        let part = Attributes::new(bytes).find(|(kind, _)| *kind == wanted);
        part.map(|(_, value)| value)
    };
    let (mut source, mut destination) = (None, None);
    for (kind, value) in Attributes::new(part(CTA_TUPLE_IP)?) {
        let address = match value.len() {
            4 => Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
            16 => Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)),
            _ => None,
        };
        match kind {
            CTA_IP_V4_SRC | CTA_IP_V6_SRC => source = address,
            CTA_IP_V4_DST | CTA_IP_V6_DST => destination = address,
            _ => {}
        }
    }
    let (mut protocol, mut source_port, mut destination_port) = (0, 0, 0);
    for (kind, value) in Attributes::new(part(CTA_TUPLE_PROTO).unwrap_or_default()) {
        let port = || value.try_into().map(u16::from_be_bytes).ok();
        match kind {
            CTA_PROTO_NUM => protocol = *value.first()?,
            CTA_PROTO_SRC_PORT => source_port = port()?,
            CTA_PROTO_DST_PORT => destination_port = port()?,
            _ => {}
        }
    }
    Some(Tuple {
        source: source?,
        destination: destination?,
        protocol,
        source_port,
        destination_port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_takes_a_filter_for_half_a_tuple_does_not_know_it() {
        // Linux 6.1 parses the tuple as if there were no filter. Any kernel does
        // that with the same message without one, so this is its answer.
        let without_filter = || -> Option<i32> {
            let mut socket = Socket::open(NlFamily::Netfilter, "conntrack").ok()?;
            let address = Ipv4Addr::new(198, 51, 100, 7);
            let mut attributes = filter(Way::Original, End::Destination, address);
            let tuple = Attributes::new(&attributes).next()?.1.len() + 4;
            attributes.truncate(tuple);
            let message = socket::message(
                CtMsg::Delete,
                NlmF::REQUEST | NlmF::ACK,
                socket.next_sequence(),
                payload(Family::V4, &attributes).as_slice(),
            );
            let answers = socket.exchange(&message, |_| {}).ok()?;
            Some(answers.refusals.first()?.errno)
        };
        let own_namespace = std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
                .expect("this test needs root");
            without_filter()
        });
        let errno = own_namespace.join().expect("the thread does not panic");
        assert_eq!(errno, Some(Errno::EINVAL as i32));
        assert!(is_filter_unknown(Errno::EINVAL as i32));
        assert!(is_filter_unknown(Errno::EOPNOTSUPP as i32));
        assert!(!is_filter_unknown(Errno::EPERM as i32));
    }
}
