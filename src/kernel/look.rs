//! What a diagnosis asks the kernel, without altering anything.
//!
//! Interfaces, neighbours and the way of a packet are told to anybody; the tables
//! of nf_tables only to those with CAP_NET_ADMIN. The way of a packet is found by
//! the kernel itself, as if the packet were there (`RTM_GETROUTE`, as `ip route
//! get` asks), so rules, tables and reverse path filters are taken into account.

use std::collections::BTreeMap;
use std::net::IpAddr;

use neli::consts::nl::NlmF;
use neli::consts::rtnl::Rtm;
use neli::consts::socket::NlFamily;
use nix::libc;

use crate::dataplane::Flow;
use crate::dataplane::ruleset::TABLE;
use crate::model::Family;

use super::nft::{Named, NftMsg, Tables};
use super::socket::{self, Attributes, Message, Socket, address_family, attribute};
use super::{Hidden, KernelError, LinuxKernel, Operation, conntrack, rtnl};

/// An interface, as far as packets notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is set up.
    pub up: bool,
    /// Whether it has carrier.
    pub carrier: bool,
    /// Whether neighbours on it have hardware addresses that have to be found.
    pub resolves: bool,
    /// The longest packet that it takes.
    pub mtu: u32,
    /// `bridge`, `vlan` and so on; empty for hardware.
    pub kind: String,
    /// The bridge that it is a port of.
    pub bridge: Option<u32>,
    /// Of a port of a bridge: whether frames leave by the port they came by.
    pub hairpin: bool,
    /// Of a bridge: whether it shows bridged packets to iptables, whatever the
    /// sysctl says; IPv4 and IPv6.
    pub shows: [bool; 2],
}

/// A packet that is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Journey {
    /// Where to.
    pub to: IpAddr,
    /// Whence, and by which interface; `None` when the router itself sends it.
    pub from: Option<(IpAddr, u32)>,
    /// Its mark, which routing rules may ask for.
    pub mark: Option<u32>,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Whether it ends here: the router has the address itself.
    pub local: bool,
    /// The interface that it leaves by.
    pub interface: Option<u32>,
    /// The next router; `None` when the destination is a neighbour.
    pub via: Option<IpAddr>,
}

/// What is known of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// It answered a moment ago, or is taken to be there.
    Known,
    /// It is being asked, or will be when something is sent to it.
    Asked,
    /// It did not answer.
    Silent,
}

/// A look at the kernel.
pub struct Look {
    route: Socket,
}

impl Look {
    /// Opens the socket. Needs no privileges.
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self {
            route: Socket::open_unprivileged(NlFamily::Route, "rtnetlink")?,
        })
    }

    /// The interfaces, by number.
    pub fn interfaces(&mut self) -> Result<BTreeMap<u32, Interface>, KernelError> {
        // struct ifinfomsg: 16 bytes, family first; AF_UNSPEC lists all.
        let request: &[u8] = &[0; 16];
        self.route.dump(
            Rtm::Getlink,
            &request,
            |interfaces: &mut BTreeMap<_, _>, message| {
                interfaces.extend(interface(&message).map(|found| (found.index, found)));
            },
        )
    }

    /// What is known of the neighbours, by interface and address.
    pub fn neighbours(&mut self) -> Result<BTreeMap<(u32, IpAddr), Neighbour>, KernelError> {
        // struct ndmsg: 12 bytes, family first; AF_UNSPEC lists all.
        let request: &[u8] = &[0; 12];
        self.route.dump(
            Rtm::Getneigh,
            &request,
            |neighbours: &mut BTreeMap<_, _>, message| neighbours.extend(neighbour(&message)),
        )
    }

    /// Where the kernel would send a packet; the inner error is its refusal.
    pub fn way(&mut self, journey: Journey) -> Result<Result<Way, i32>, KernelError> {
        let payload = question(journey);
        let sequence = self.route.next_sequence();
        let message = socket::message(Rtm::Getroute, NlmF::REQUEST, sequence, payload.as_slice());
        let mut way = None;
        let answers = self
            .route
            .exchange(&message, |message| way = way.or(self::way(&message)))
            .map_err(|error| KernelError::new(Operation::Dump("route"), error))?;
        match (way, answers.refusals.into_iter().next()) {
            (Some(way), None) => Ok(way),
            (_, Some(refusal)) => Ok(Err(refusal.errno)),
            (None, None) => {
                let error = std::io::ErrorKind::UnexpectedEof;
                Err(KernelError::new(
                    Operation::Dump("route"),
                    std::io::Error::from(error),
                ))
            }
        }
    }
}

/// Looks at everybody's tables; the elements of ours, which may be many, are left
/// out. Needs CAP_NET_ADMIN.
pub fn tables() -> Result<Tables, KernelError> {
    let mut nft = Socket::open_unprivileged(NlFamily::Netfilter, "nf_tables")?;
    let mut tables = Tables::default();
    for kind in [
        NftMsg::GetTable,
        NftMsg::GetChain,
        NftMsg::GetSet,
        NftMsg::GetRule,
    ] {
        // Rules find the chains that an earlier dump gave.
        let before = tables.clone();
        let part = nft.dump(
            kind,
            &Named::EVERYTHING,
            |part: &mut Option<Tables>, message| {
                part.get_or_insert_with(|| before.clone()).take(&message);
            },
        )?;
        tables = part.unwrap_or(tables);
    }
    for set in &mut tables.sets {
        if set.table.name == TABLE {
            set.elements = None;
            continue;
        }
        let request = Named::elements_of(set.table.family, &set.table.name, &set.name);
        let empty = set.clone();
        let filled = nft.dump(
            NftMsg::GetSetElem,
            &request,
            |part: &mut Option<_>, message| {
                part.get_or_insert_with(|| empty.clone()).take(&message);
            },
        );
        match filled {
            Ok(filled) => *set = filled.unwrap_or_else(|| set.clone()),
            // It went away in between.
            Err(_) => set.elements = None,
        }
    }
    Ok(tables)
}

/// The flows of a family that conntrack keeps, and whether each was answered. Needs
/// CAP_NET_ADMIN.
pub fn flows(family: Family) -> Result<Vec<(Flow, bool)>, KernelError> {
    let mut socket = Socket::open_unprivileged(NlFamily::Netfilter, "conntrack")?;
    conntrack::answered(&mut socket, family)
}

/// Whether the kernel has the features that the daemon uses when they are there.
/// Needs CAP_NET_ADMIN.
pub fn features(hidden: Hidden) -> Result<super::Features, KernelError> {
    use super::Kernel;
    Ok(LinuxKernel::open(hidden)?.features())
}

/// `struct rtmsg` and what it asks.
fn question(journey: Journey) -> Vec<u8> {
    let Journey { to, from, mark } = journey;
    let bits = |address: IpAddr| match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    let mut payload = vec![
        address_family(Family::of(to)),
        bits(to),
        from.map_or(0, |(address, _)| bits(address)),
    ];
    payload.resize(12, 0);
    payload.extend(attribute(libc::RTA_DST, &octets(to)));
    if let Some((address, interface)) = from {
        payload.extend(attribute(libc::RTA_SRC, &octets(address)));
        payload.extend(attribute(libc::RTA_IIF, &interface.to_ne_bytes()));
    }
    if let Some(mark) = mark {
        payload.extend(attribute(libc::RTA_MARK, &mark.to_ne_bytes()));
    }
    payload
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Routes that refuse are answers for IPv6, with the error inside.
fn way(message: &Message<'_>) -> Option<Result<Way, i32>> {
    let kind = *message.payload.get(7)?;
    let (mut interface, mut via) = (None, None);
    for (attribute, value) in Attributes::new(&message.payload[12..]) {
        match attribute {
            libc::RTA_OIF => interface = rtnl::u32_of(value),
            libc::RTA_GATEWAY => via = rtnl::ip(value),
            // struct rtvia: a family, and an address of it.
            libc::RTA_VIA => via = value.get(2..).and_then(rtnl::ip),
            _ => {}
        }
    }
    Some(match kind {
        libc::RTN_UNICAST | libc::RTN_LOCAL => Ok(Way {
            local: kind == libc::RTN_LOCAL,
            interface,
            via,
        }),
        libc::RTN_PROHIBIT => Err(libc::EACCES),
        libc::RTN_BLACKHOLE => Err(libc::EINVAL),
        _ => Err(libc::EHOSTUNREACH),
    })
}

fn interface(message: &Message<'_>) -> Option<Interface> {
    let header = message.payload.get(..16)?;
    let flags = u32::from_ne_bytes(header[8..12].try_into().ok()?);
    let has = |flag: libc::c_int| flags & flag.cast_unsigned() != 0;
    let mut interface = Interface {
        index: u32::from_ne_bytes(header[4..8].try_into().ok()?),
        name: String::new(),
        up: has(libc::IFF_UP),
        carrier: has(libc::IFF_LOWER_UP),
        resolves: !has(libc::IFF_NOARP) && !has(libc::IFF_LOOPBACK),
        mtu: 0,
        kind: String::new(),
        bridge: None,
        hairpin: false,
        shows: [false; 2],
    };
    let mut master = None;
    for (attribute, value) in Attributes::new(&message.payload[16..]) {
        match attribute {
            libc::IFLA_IFNAME => interface.name = text(value),
            libc::IFLA_MTU => interface.mtu = rtnl::u32_of(value)?,
            libc::IFLA_MASTER => master = rtnl::u32_of(value),
            libc::IFLA_LINKINFO => link_info(value, &mut interface, &mut master),
            _ => {}
        }
    }
    (!interface.name.is_empty()).then_some(interface)
}

/// Kind and properties of an interface that is no hardware (`IFLA_INFO_…`), and
/// of a port of one. `IFLA_MASTER` comes before it.
fn link_info(info: &[u8], interface: &mut Interface, master: &mut Option<u32>) {
    const SLAVE_KIND: u16 = 4;
    const SLAVE_DATA: u16 = 5;
    // include/uapi/linux/if_link.h
    const IFLA_BRPORT_MODE: u16 = 4;
    const IFLA_BR_NF_CALL_IPTABLES: u16 = 36;
    const IFLA_BR_NF_CALL_IP6TABLES: u16 = 37;
    let is_set = |data: &[u8], kind: u16| {
        let found = Attributes::new(data).find(|(each, _)| *each == kind);
        found.is_some_and(|(_, value)| value.first().is_some_and(|value| *value != 0))
    };
    for (attribute, value) in Attributes::new(info) {
        match attribute {
            libc::IFLA_INFO_KIND => interface.kind = text(value),
            libc::IFLA_INFO_DATA if interface.kind == "bridge" => {
                interface.shows = [IFLA_BR_NF_CALL_IPTABLES, IFLA_BR_NF_CALL_IP6TABLES]
                    .map(|kind| is_set(value, kind));
            }
            SLAVE_KIND if text(value) == "bridge" => interface.bridge = *master,
            SLAVE_DATA => interface.hairpin = is_set(value, IFLA_BRPORT_MODE),
            _ => {}
        }
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

/// `struct ndmsg`: family, interface, state, flags and type.
fn neighbour(message: &Message<'_>) -> Option<((u32, IpAddr), Neighbour)> {
    // include/uapi/linux/neighbour.h
    const NUD_REACHABLE: u16 = 0x02;
    const NUD_FAILED: u16 = 0x20;
    const NUD_NOARP: u16 = 0x40;
    const NUD_PERMANENT: u16 = 0x80;
    const NDA_DST: u16 = 1;
    let header = message.payload.get(..12)?;
    let interface = rtnl::u32_of(&header[4..8])?;
    let state = u16::from_ne_bytes([header[8], header[9]]);
    let known = match state {
        NUD_REACHABLE | NUD_NOARP | NUD_PERMANENT => Neighbour::Known,
        NUD_FAILED => Neighbour::Silent,
        0 => return None,
        // Never heard of, or not for a while.
        _ => Neighbour::Asked,
    };
    let destination = Attributes::new(&message.payload[12..]).find(|(kind, _)| *kind == NDA_DST);
    let address = rtnl::ip(destination?.1)?;
    Some(((interface, address), known))
}
