//! Interfaces, routes and addresses, by rtnetlink(7).
//!
//! A floating IP is answered for on the outside link without becoming an
//! address that services of the router listen on by its own will:
//!
//! - IPv4: a route of type local for the /32. The kernel answers ARP for
//!   whatever it would deliver locally (`arp_process` looks up the route), so no
//!   interface address is needed, and adding one does not get slower with many.
//! - IPv6: the kernel answers neighbour solicitations only for addresses of the
//!   interface and, with the sysctl proxy_ndp, for proxy entries. We write no
//!   sysctl, so it is a /128 address, without duplicate detection of the kernel
//!   (ours comes first) and deprecated, so that it is not chosen as a source as
//!   long as the router has another address of global scope (RFC 6724 5, rules 2
//!   and 3). Each one joins a multicast group of its own, and the time for that
//!   grows with their number: docs/announcing.md has figures.
//!
//! Both carry [`PROTOCOL`]; what does not is somebody else's
//! and is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use neli::consts::nl::NlmF;
use neli::consts::rtnl::Rtm;
use neli::consts::socket::NlFamily;
use nix::errno::Errno;
use nix::libc;

use crate::dataplane::{IfIndex, Link, Observed, UplinkRoute, Way, WaysOut};
use crate::model::{Family, FloatingIp, InterfaceName, RouterAddress};

use super::socket::{self, Attributes, Message, Socket, address_family, attribute, family_of};
use super::{KernelError, Operation, PROTOCOL};

/// So many requests go into one send(2): few enough that their refusals, which
/// repeat them, fit the receive buffer.
const AT_ONCE: usize = 1_000;

/// `IFA_PROTO`, of Linux 5.18, and `RTA_TABLE`.
const IFA_PROTO: u16 = 11;
pub(super) const RTA_TABLE: u16 = 15;

/// `RTNH_F_ONLINK` (include/uapi/linux/rtnetlink.h): the next hop need not be in a
/// network of the interface.
pub(super) const ONLINK: u32 = 4;

/// `RTA_VIA`, of Linux 4.1.
pub(super) const RTA_VIA: u16 = 18;

/// Interfaces, routes and addresses.
pub(crate) struct Rtnl {
    pub(super) socket: Socket,
}

/// A route, as far as it concerns us.
pub(super) struct Route {
    family: u8,
    prefix: u8,
    table: u32,
    protocol: u8,
    kind: u8,
    to: Option<IpAddr>,
    hops: Vec<Hop>,
    metric: u32,
    source: Option<IpAddr>,
    flags: u32,
}

/// A route whose packets have this address of the router for their source, unless
/// they say otherwise. With the address it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRoute {
    /// The address.
    pub source: IpAddr,
    /// The route without that, as `ip route replace` takes it.
    pub route: String,
}

/// An address of an interface.
struct Address {
    address: IpAddr,
    prefix: u8,
    interface: u32,
    protocol: u8,
    secondary: bool,
}

impl Rtnl {
    /// Opens the socket.
    pub(crate) fn open() -> Result<Self, KernelError> {
        Ok(Self {
            socket: Socket::open(NlFamily::Route, "rtnetlink")?,
        })
    }

    /// Opens a socket that can look but not alter.
    pub(crate) fn open_unprivileged() -> Result<Self, KernelError> {
        Ok(Self {
            socket: Socket::open_unprivileged(NlFamily::Route, "rtnetlink")?,
        })
    }

    /// The port by which notifications tell what we did ourselves.
    pub(crate) fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Looks at interfaces, default routes, the router's addresses, and where
    /// we made it answer for which floating IP.
    pub(crate) fn observe(&mut self) -> Result<Observed, KernelError> {
        let mut observed = Observed {
            links: self.links()?,
            ..Observed::default()
        };
        let names: BTreeMap<u32, &InterfaceName> = observed
            .links
            .iter()
            .map(|(name, link)| (link.index.0, name))
            .collect();
        let name = |index: Option<u32>| index.and_then(|index| names.get(&index)).copied().cloned();

        for family in Family::BOTH {
            let routes = self.routes(family, Route::concerns_us)?;
            observed.surroundings.gateways.extend(
                routes
                    .iter()
                    .filter(|route| route.is_default())
                    .flat_map(|route| route.hops.iter().filter_map(|hop| hop.via)),
            );
            let default = routes
                .iter()
                .filter(|route| route.is_default())
                .min_by_key(|route| route.metric);
            if default.is_some_and(Route::is_divided) {
                observed.divided.insert(family);
            }
            let default = name(default.and_then(Route::interface));
            observed.ways_out.extend(ways_out(family, &routes));
            let uplinks = routes.iter().filter_map(Route::uplink);
            observed.routing.routes.extend(uplinks);
            observed.routing.rules.extend(self.rules(family)?);
            match family {
                Family::V4 => observed.default_route4 = default,
                Family::V6 => observed.default_route6 = default,
            }
            observed
                .presence
                .extend(routes.iter().filter_map(Route::presence));
        }
        for found in self.addresses()? {
            let Ok(net) = IpNet::new(found.address, found.prefix) else {
                continue;
            };
            match FloatingIp::new(found.address) {
                Ok(floating) if found.is_presence() => {
                    observed.presence.insert(floating, IfIndex(found.interface));
                }
                Ok(_) => {
                    let own = |interface| RouterAddress {
                        net,
                        interface,
                        secondary: found.secondary,
                    };
                    observed
                        .surroundings
                        .addresses
                        .extend(name(Some(found.interface)).map(own));
                }
                // Loopback and link-local addresses are nobody's to forward to.
                Err(_) => {}
            }
        }
        observed.surroundings.addresses.sort_unstable();
        observed.surroundings.addresses.dedup();
        Ok(observed)
    }

    /// Makes the router answer for these addresses.
    pub(crate) fn present(
        &mut self,
        addresses: &[(FloatingIp, IfIndex)],
    ) -> Vec<(FloatingIp, KernelError)> {
        // A route of somebody else for the same address does not stand in the
        // way: with NLM_F_APPEND ours is put behind it, and EEXIST means that
        // ours is there. With NLM_F_EXCL it would mean either, and ours would be
        // missed at every look. An address is the interface's only once.
        let flags = NlmF::REQUEST | NlmF::CREATE | NlmF::APPEND;
        self.alter(
            addresses,
            [Rtm::Newroute, Rtm::Newaddr],
            flags,
            &[Errno::EEXIST],
        )
    }

    /// Makes the router stop answering for these addresses.
    pub(crate) fn withdraw(
        &mut self,
        addresses: &[(FloatingIp, IfIndex)],
    ) -> Vec<(FloatingIp, KernelError)> {
        // NLM_F_EXCL would mean NLM_F_BULK on a delete: no flags. What goes with
        // its interface is gone.
        let gone = [Errno::ESRCH, Errno::EADDRNOTAVAIL, Errno::ENODEV];
        self.alter(
            addresses,
            [Rtm::Delroute, Rtm::Deladdr],
            NlmF::REQUEST,
            &gone,
        )
    }

    /// Sends a request for each address, many at a time, and gathers what was
    /// refused for another reason than those that are fine.
    fn alter(
        &mut self,
        addresses: &[(FloatingIp, IfIndex)],
        [route, address]: [Rtm; 2],
        flags: NlmF,
        fine: &[Errno],
    ) -> Vec<(FloatingIp, KernelError)> {
        let mut failed = Vec::new();
        for chunk in addresses.chunks(AT_ONCE) {
            let mut messages = Vec::new();
            let mut sequences = BTreeMap::new();
            for &(floating, index) in chunk {
                let sequence = self.socket.next_sequence();
                sequences.insert(sequence, floating);
                let (kind, payload) = match floating.ip() {
                    IpAddr::V4(v4) => (route, local_route(v4.octets(), index)),
                    IpAddr::V6(v6) => (address, deprecated_address(v6.octets(), index)),
                };
                messages.extend(socket::message(kind, flags, sequence, payload.as_slice()));
            }
            match self.socket.exchange(&messages, |_| {}) {
                Ok(answers) => {
                    for refusal in answers.refusals {
                        let is_fine = fine.contains(&Errno::from_raw(refusal.errno));
                        if let Some(&floating) =
                            sequences.get(&refusal.sequence).filter(|_| !is_fine)
                        {
                            failed.push((floating, refusal.of(Operation::Presence(floating))));
                        }
                    }
                }
                Err(error) => {
                    let error = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
                    let all = chunk.iter().map(|(floating, _)| *floating);
                    failed
                        .extend(all.map(|f| (f, KernelError::new(Operation::Presence(f), error))));
                }
            }
        }
        failed
    }

    /// Takes an address off an interface, whoever put it there. One that is gone
    /// is no error.
    pub(crate) fn remove_address(&mut self, net: IpNet, index: IfIndex) -> Result<(), KernelError> {
        let operation = || Operation::Clear(format!("the address {net}"));
        let (family, address) = match net.addr() {
            IpAddr::V4(v4) => (Family::V4, v4.octets().to_vec()),
            IpAddr::V6(v6) => (Family::V6, v6.octets().to_vec()),
        };
        // struct ifaddrmsg: family, prefix, flags, scope, interface.
        let mut payload = vec![address_family(family), net.prefix_len(), 0, 0];
        payload.extend(index.0.to_ne_bytes());
        payload.extend(attribute(libc::IFA_LOCAL, &address));
        let sequence = self.socket.next_sequence();
        let flags = NlmF::REQUEST | NlmF::ACK;
        let message = socket::message(Rtm::Deladdr, flags, sequence, payload.as_slice());
        let answers = self
            .socket
            .exchange(&message, |_| {})
            .map_err(|error| KernelError::new(operation(), error))?;
        let gone = [Errno::EADDRNOTAVAIL, Errno::ENODEV];
        match answers.refusals.into_iter().next() {
            Some(refusal) if !gone.contains(&Errno::from_raw(refusal.errno)) => {
                Err(refusal.of(operation()))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn links(&mut self) -> Result<BTreeMap<InterfaceName, Link>, KernelError> {
        // struct ifinfomsg: 16 bytes, family first; AF_UNSPEC lists all.
        let request: &[u8] = &[0; 16];
        self.socket.dump(
            Rtm::Getlink,
            &request,
            |links: &mut BTreeMap<_, _>, message| {
                links.extend(link(&message));
            },
        )
    }

    /// The IPv4 routes of all tables that have one of these addresses for the
    /// source. The links tell the names of interfaces.
    pub(crate) fn routes_from(
        &mut self,
        sources: &BTreeSet<IpAddr>,
        links: &BTreeMap<InterfaceName, Link>,
    ) -> Result<Vec<SourceRoute>, KernelError> {
        let is_from_one = |route: &Route| {
            // In the table local are the addresses themselves.
            let is_local = route.table == u32::from(libc::RT_TABLE_LOCAL);
            !is_local && route.source.is_some_and(|source| sources.contains(&source))
        };
        let names: BTreeMap<_, _> = links
            .iter()
            .map(|(name, link)| (link.index.0, name))
            .collect();
        let routes = self.routes(Family::V4, is_from_one)?;
        let shown = |route: &Route| {
            Some(SourceRoute {
                source: route.source?,
                route: route.in_words(&names),
            })
        };
        Ok(routes.iter().filter_map(shown).collect())
    }

    fn routes(
        &mut self,
        family: Family,
        concern: impl Fn(&Route) -> bool,
    ) -> Result<Vec<Route>, KernelError> {
        // struct rtmsg: 12 bytes, family first.
        let mut request = [0; 12];
        request[0] = address_family(family);
        self.socket.dump(
            Rtm::Getroute,
            &request.as_slice(),
            |routes: &mut Vec<_>, message| {
                // A hundred thousand of ours are likely, and a full table of the
                // Internet possible: keep what concerns us.
                routes.extend(route(&message).filter(&concern));
            },
        )
    }

    fn addresses(&mut self) -> Result<Vec<Address>, KernelError> {
        // struct ifaddrmsg: 8 bytes, family first.
        let request: &[u8] = &[0; 8];
        self.socket
            .dump(Rtm::Getaddr, &request, |addresses: &mut Vec<_>, message| {
                addresses.extend(address(&message));
            })
    }
}

impl Route {
    /// Whether it is a default route, or one of ours.
    pub(super) fn concerns_us(&self) -> bool {
        self.is_default() || self.presence().is_some() || self.uplink().is_some()
    }

    /// As ip-route(8) has it, without the source.
    fn in_words(&self, names: &BTreeMap<u32, &InterfaceName>) -> String {
        let mut words = match self.to {
            Some(to) => format!("{to}/{}", self.prefix),
            None => "default".to_owned(),
        };
        for Hop { interface, via } in &self.hops {
            if self.hops.len() > 1 {
                words += " nexthop";
            }
            if let Some(via) = via {
                words += &format!(" via {via}");
            }
            if let Some(name) = names.get(interface) {
                words += &format!(" dev {name}");
            }
            if self.flags & ONLINK != 0 {
                words += " onlink";
            }
        }
        if self.metric != 0 {
            words += &format!(" metric {}", self.metric);
        }
        if self.table != u32::from(libc::RT_TABLE_MAIN) {
            words += &format!(" table {}", self.table);
        }
        words
    }

    /// Whether it is a default route that packets leave by.
    fn is_default(&self) -> bool {
        self.prefix == 0
            && self.table == u32::from(libc::RT_TABLE_MAIN)
            && self.kind == libc::RTN_UNICAST
            && self.interface().is_some()
    }

    /// Its interface; that of the first hop stands for all of them.
    fn interface(&self) -> Option<u32> {
        self.hops.first().map(|hop| hop.interface)
    }

    /// Whether its hops are by several interfaces.
    fn is_divided(&self) -> bool {
        let mut hops = self.hops.iter();
        hops.any(|hop| Some(hop.interface) != self.interface())
    }

    /// The default route of an uplink's table, if it is one of ours.
    fn uplink(&self) -> Option<UplinkRoute> {
        let family = family_of(self.family)?;
        let ours = self.protocol == PROTOCOL
            && self.prefix == 0
            && self.table != u32::from(libc::RT_TABLE_LOCAL);
        let way = match self.kind {
            libc::RTN_UNICAST => {
                let hop = self.hops.first()?;
                Way::Via {
                    interface: IfIndex(hop.interface),
                    gateway: hop.via,
                }
            }
            libc::RTN_UNREACHABLE => Way::Nowhere,
            _ => return None,
        };
        let table = self.table;
        ours.then_some(UplinkRoute { family, table, way })
    }

    /// The floating IP that it makes the router answer for, and where.
    fn presence(&self) -> Option<(FloatingIp, IfIndex)> {
        let ours = self.protocol == PROTOCOL
            && self.table == u32::from(libc::RT_TABLE_LOCAL)
            && self.kind == libc::RTN_LOCAL
            && i32::from(self.family) == libc::AF_INET
            && self.prefix == 32;
        let floating = FloatingIp::new(self.to.filter(|_| ours)?).ok()?;
        Some((floating, IfIndex(self.interface()?)))
    }
}

impl Address {
    /// Whether it makes the router answer for a floating IP.
    fn is_presence(&self) -> bool {
        self.protocol == PROTOCOL && self.address.is_ipv6()
    }
}

/// Whether the message is about an address that makes the router answer for a
/// floating IP.
pub(super) fn is_presence(message: &Message<'_>) -> bool {
    address(message).is_some_and(|address| address.is_presence())
}

pub(super) fn link(message: &Message<'_>) -> Option<(InterfaceName, Link)> {
    let header = message.payload.get(..16)?;
    let kind = u16::from_ne_bytes([header[2], header[3]]);
    let index = u32::from_ne_bytes(header[4..8].try_into().ok()?);
    let flags = u32::from_ne_bytes(header[8..12].try_into().ok()?);
    let mut name = None;
    let mut mac = None;
    for (attribute, value) in Attributes::new(&message.payload[16..]) {
        match attribute {
            libc::IFLA_IFNAME => {
                let text = value.strip_suffix(&[0]).unwrap_or(value);
                name = std::str::from_utf8(text)
                    .ok()
                    .and_then(|text| text.parse().ok());
            }
            libc::IFLA_ADDRESS if kind == libc::ARPHRD_ETHER => mac = value.try_into().ok(),
            _ => {}
        }
    }
    let up = flags & libc::IFF_UP as u32 != 0;
    let carrier = flags & libc::IFF_LOWER_UP as u32 != 0;
    Some((
        name?,
        Link {
            index: IfIndex(index),
            up,
            carrier,
            mac,
        },
    ))
}

pub(super) fn route(message: &Message<'_>) -> Option<Route> {
    let header = message.payload.get(..12)?;
    let mut route = Route {
        family: header[0],
        prefix: header[1],
        table: u32::from(header[4]),
        protocol: header[5],
        kind: header[7],
        to: None,
        hops: Vec::new(),
        metric: 0,
        source: None,
        flags: u32_of(&header[8..])?,
    };
    let (mut interface, mut via) = (None, None);
    for (attribute, value) in Attributes::new(&message.payload[12..]) {
        match attribute {
            libc::RTA_DST => route.to = ip(value),
            libc::RTA_GATEWAY => via = ip(value),
            // An IPv4 route over a next hop of the other family (RFC 8950).
            RTA_VIA => via = ip(value.get(2..)?),
            libc::RTA_OIF => interface = u32_of(value),
            libc::RTA_PRIORITY => route.metric = u32_of(value)?,
            libc::RTA_PREFSRC => route.source = ip(value),
            RTA_TABLE => route.table = u32_of(value)?,
            libc::RTA_MULTIPATH => route.hops.extend(Hops(value)),
            _ => {}
        }
    }
    let only = interface.map(|interface| Hop { interface, via });
    route.hops.extend(only);
    Some(route)
}

/// The hops of a route that has several: `struct rtnexthop` (length, flags,
/// weight, interface), each with attributes.
struct Hops<'a>(&'a [u8]);

/// A hop of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hop {
    interface: u32,
    via: Option<IpAddr>,
}

impl Iterator for Hops<'_> {
    type Item = Hop;

    fn next(&mut self) -> Option<Hop> {
        let length = usize::from(u16::from_ne_bytes(self.0.get(..2)?.try_into().ok()?));
        let hop = self.0.get(..length)?;
        let interface = u32_of(hop.get(4..8)?)?;
        let gateway = Attributes::new(&hop[8..]).find(|(kind, _)| *kind == libc::RTA_GATEWAY);
        self.0 = self.0.get(socket::aligned(length)..).unwrap_or_default();
        Some(Hop {
            interface,
            via: gateway.and_then(|(_, value)| ip(value)),
        })
    }
}

fn address(message: &Message<'_>) -> Option<Address> {
    let header = message.payload.get(..8)?;
    let flags = u32::from(header[2]);
    let (mut local, mut peer, mut protocol) = (None, None, 0);
    for (attribute, value) in Attributes::new(&message.payload[8..]) {
        match attribute {
            // On a point-to-point link IFA_ADDRESS is the other end.
            libc::IFA_LOCAL => local = ip(value),
            libc::IFA_ADDRESS => peer = ip(value),
            IFA_PROTO => protocol = *value.first()?,
            _ => {}
        }
    }
    let address = local.or(peer)?;
    Some(Address {
        address,
        prefix: header[1],
        interface: u32_of(&header[4..8])?,
        protocol,
        // Of IPv6 the same bit says that the address is a temporary one.
        secondary: address.is_ipv4() && flags & libc::IFA_F_SECONDARY != 0,
    })
}

pub(super) fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(<[u8; 4]>::try_from(value).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(value).ok()?.into()),
        _ => None,
    }
}

/// The hops of the default routes, by interface: where several lead out by one,
/// that of the lowest metric.
fn ways_out(family: Family, routes: &[Route]) -> WaysOut {
    let mut defaults: Vec<_> = routes.iter().filter(|route| route.is_default()).collect();
    defaults.sort_by_key(|route| std::cmp::Reverse(route.metric));
    let hops = defaults.into_iter().flat_map(|route| &route.hops);
    hops.map(|hop| ((family, IfIndex(hop.interface)), hop.via))
        .collect()
}

pub(super) fn u32_of(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.try_into().ok()?))
}

/// `ip route add local ADDRESS/32 dev INTERFACE table local proto 245`.
fn local_route(address: [u8; 4], index: IfIndex) -> Vec<u8> {
    let mut payload = vec![
        libc::AF_INET as u8,
        32, // destination prefix
        0,  // source prefix
        0,  // type of service
        libc::RT_TABLE_LOCAL,
        PROTOCOL,
        libc::RT_SCOPE_HOST,
        libc::RTN_LOCAL,
    ];
    payload.extend(0_u32.to_ne_bytes()); // flags
    payload.extend(attribute(libc::RTA_DST, &address));
    payload.extend(attribute(libc::RTA_OIF, &index.0.to_ne_bytes()));
    payload
}

/// `ip addr add ADDRESS/128 dev INTERFACE nodad noprefixroute preferred_lft 0
/// proto 245`.
fn deprecated_address(address: [u8; 16], index: IfIndex) -> Vec<u8> {
    let flags = libc::IFA_F_NODAD | libc::IFA_F_NOPREFIXROUTE;
    let mut payload = vec![
        libc::AF_INET6 as u8,
        128, // prefix
        0,   // the first eight flags; IFA_FLAGS has all
        libc::RT_SCOPE_UNIVERSE,
    ];
    payload.extend(index.0.to_ne_bytes());
    payload.extend(attribute(libc::IFA_LOCAL, &address));
    payload.extend(attribute(libc::IFA_FLAGS, &flags.to_ne_bytes()));
    // struct ifa_cacheinfo: preferred for 0 seconds, valid for ever, and two
    // times that the kernel sets.
    let lifetimes = [0_u32, u32::MAX, 0, 0].map(u32::to_ne_bytes).concat();
    payload.extend(attribute(libc::IFA_CACHEINFO, &lifetimes));
    payload.extend(attribute(IFA_PROTO, &[PROTOCOL]));
    payload
}
