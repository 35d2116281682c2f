//! Where chains hang on the way of a forwarded packet, and what a packet of a
//! floating IP looks like there.

use std::net::IpAddr;

use crate::dataplane::ruleset::TABLE;
use crate::kernel::nft::{ForeignBase, ForeignChain, Tables};
use crate::model::Family;

use super::packet::{
    DESTINATION_TRANSLATED, ESTABLISHED, NEW, NOT_SEEN, PASSED_PREROUTING, Packet, Port,
    SOURCE_TRANSLATED,
};
use super::terrain::{Terrain, Tour};

/// Where on its way a forwarded packet is seen, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    Ingress,
    Prerouting,
    Forward,
    Postrouting,
    Egress,
}

impl Hook {
    pub(super) const ALL: [Hook; 5] = [
        Hook::Ingress,
        Hook::Prerouting,
        Hook::Forward,
        Hook::Postrouting,
        Hook::Egress,
    ];

    /// Its number for tables of a family: `enum nf_inet_hooks`, `nf_dev_hooks`.
    fn number(self, table: u8) -> Option<u32> {
        match (self, table) {
            (Hook::Ingress, NETDEV) => Some(0),
            (Hook::Egress, NETDEV) => Some(1),
            (Hook::Ingress, INET) => Some(5),
            (Hook::Prerouting, INET | IPV4 | IPV6) => Some(0),
            (Hook::Forward, INET | IPV4 | IPV6) => Some(2),
            (Hook::Postrouting, INET | IPV4 | IPV6) => Some(4),
            _ => None,
        }
    }
}

/// `enum nfproto`.
pub(super) const INET: u8 = 1;
pub(super) const IPV4: u8 = 2;
pub(super) const ARP: u8 = 3;
pub(super) const NETDEV: u8 = 5;
pub(super) const IPV6: u8 = 10;

/// `NF_IP_PRI_CONNTRACK`, `NF_IP_PRI_NAT_DST` and `NF_IP_PRI_NAT_SRC`: when a
/// packet is looked up in conntrack and translated, whatever the priorities of the
/// chains that say how.
const CONNTRACK: i32 = -200;
const NAT_DESTINATION: i32 = -100;
const NAT_SOURCE: i32 = 100;
/// A way that a packet goes through a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Direction {
    In,
    InReply,
    Out,
    OutReply,
}

impl Direction {
    pub(super) const ALL: [Direction; 4] = [
        Direction::In,
        Direction::InReply,
        Direction::Out,
        Direction::OutReply,
    ];

    fn is_towards_host(self) -> bool {
        matches!(self, Direction::In | Direction::OutReply)
    }

    /// Whether an address has such packets.
    pub(super) fn is_of(self, tour: Option<&Tour>) -> bool {
        let begun_by_host = matches!(self, Direction::Out | Direction::OutReply);
        !begun_by_host || tour.is_none_or(|tour| tour.leaves)
    }
}

/// What by an address tells a packet from others: its destination or its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Known {
    Destination(IpAddr),
    Source(IpAddr),
}

pub(super) fn known(packet: &Packet) -> Option<Known> {
    let destination = packet.destination.map(Known::Destination);
    destination.or(packet.source.map(Known::Source))
}

/// The base chains of others at a hook, each with the families that they see.
pub(super) fn chains<'a>(
    tables: &'a Tables,
    kind: &'a str,
    hook: Hook,
) -> impl Iterator<Item = (&'a ForeignChain, Family)> {
    tables
        .chains
        .iter()
        .filter(|chain| (chain.table.family, chain.table.name.as_str()) != (INET, TABLE))
        .filter(move |chain| {
            let hangs = |base: &ForeignBase| {
                base.kind == kind && Some(base.hook) == hook.number(chain.table.family)
            };
            chain.base.as_ref().is_some_and(hangs)
        })
        .flat_map(|chain| {
            let sees = move |family: &Family| {
                matches!(
                    (chain.table.family, family),
                    (INET | NETDEV, _) | (IPV4, Family::V4) | (IPV6, Family::V6)
                )
            };
            let families = Family::BOTH.into_iter().filter(sees);
            families.map(move |family| (chain, family))
        })
}

/// Whether a chain that is only for some interfaces sees a packet.
pub(super) fn sees(chain: &ForeignChain, packet: &Packet, hook: Hook) -> bool {
    let port = match hook {
        Hook::Egress => &packet.outgoing,
        Hook::Ingress | Hook::Prerouting | Hook::Forward | Hook::Postrouting => &packet.incoming,
    };
    let only = chain.base.as_ref().map_or(&[][..], |base| &base.interfaces);
    let is_it = |name: &String| port.as_ref().is_some_and(|port| port.name == *name);
    only.is_empty() || only.iter().any(is_it)
}

/// What has been done to a packet when a chain sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    hook: Hook,
    pub(super) after_conntrack: bool,
    /// Whether what is for a floating IP is for the host by now.
    to_host: bool,
    /// Whether what a host sends is from the floating IP by now.
    from_floating: bool,
}

impl Place {
    pub(super) fn of(chain: &ForeignChain, hook: Hook) -> Self {
        let base = chain.base.as_ref();
        let translates = base.is_some_and(|base| base.kind == "nat");
        let priority = base.map_or(0, |base| base.priority);
        let is_after = |hooks: [bool; 2], begins: i32| {
            let [this, later] = hooks;
            later || (this && !translates && priority >= begins)
        };
        let prerouting = hook == Hook::Prerouting;
        let later = !matches!(hook, Hook::Ingress | Hook::Prerouting);
        Self {
            hook,
            after_conntrack: is_after([prerouting, later], CONNTRACK) || translates,
            to_host: is_after([prerouting, later], NAT_DESTINATION),
            from_floating: is_after(
                [hook == Hook::Postrouting, hook == Hook::Egress],
                NAT_SOURCE,
            ),
        }
    }
}

/// A packet as a chain sees it. Without a tour of one that is of no address.
pub(super) fn packet(
    terrain: &Terrain,
    family: Family,
    tour: Option<&Tour>,
    outside: Option<u32>,
    direction: Direction,
    place: Place,
) -> Packet {
    let Place {
        hook,
        after_conntrack,
        to_host,
        from_floating,
    } = place;
    let outside = port(terrain, outside);
    let inside = port(terrain, tour.and_then(|tour| tour.inside));
    let [incoming, outgoing] = match direction.is_towards_host() {
        true => [outside, inside],
        false => [inside, outside],
    };
    let outgoing = outgoing.filter(|_| !matches!(hook, Hook::Ingress | Hook::Prerouting));
    let at = |is_host: bool| {
        let [host, floating] = [tour.map(|tour| tour.host), tour.map(|tour| tour.floating)];
        if is_host { host } else { floating }
    };
    let (state, status) = match direction {
        Direction::In if to_host => (NEW, DESTINATION_TRANSLATED),
        Direction::Out if from_floating => (NEW, SOURCE_TRANSLATED),
        Direction::In | Direction::Out => (NEW, 0),
        Direction::InReply => (ESTABLISHED, DESTINATION_TRANSLATED),
        Direction::OutReply => (ESTABLISHED, SOURCE_TRANSLATED),
    };
    let passed = match to_host {
        true => PASSED_PREROUTING,
        false => 0,
    };
    Packet {
        network: family.into(),
        incoming,
        outgoing,
        source: at(!from_floating).filter(|_| !direction.is_towards_host()),
        destination: at(to_host).filter(|_| direction.is_towards_host()),
        state: if after_conntrack { state } else { NOT_SEEN },
        status: after_conntrack.then_some(status | passed),
    }
}

pub(super) fn port(terrain: &Terrain, index: Option<u32>) -> Option<Port> {
    let interface = terrain.interfaces.get(&index?)?;
    Some(Port {
        index: interface.index,
        name: interface.name.clone(),
    })
}
