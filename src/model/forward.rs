//! Port forwards: ports of a floating IP that lead to a host of their own.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};

use super::FixedIp;

/// A transport protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    /// Its number, as assigned by IANA.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// The protocol with that number.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|protocol| protocol.number() == number)
    }

    /// The word for it, everywhere.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is no part of a port forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// Not one of the three.
    #[error("it is tcp, udp or sctp")]
    Protocol,
    /// Not a port.
    #[error("it is 1 to 65535")]
    Port,
    /// Not a port or a range.
    #[error("it is 1 to 65535, or a range such as 8000-8010")]
    Ports,
    /// The ports of the host would go beyond the last one.
    #[error("the host's ports would go beyond 65535")]
    Beyond,
    /// Not one of the two.
    #[error("it is router or floating")]
    Outbound,
    /// Not a port forward.
    #[error("it is no port forward")]
    Syntax,
}

impl FromStr for Protocol {
    type Err = ForwardError;
    fn from_str(text: &str) -> Result<Self, ForwardError> {
        Self::ALL
            .into_iter()
            .find(|protocol| protocol.as_str() == text)
            .ok_or(ForwardError::Protocol)
    }
}

/// A port of TCP, UDP or SCTP. There is no port 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port(NonZeroU16);

impl Port {
    /// The port of that number.
    pub fn new(number: u16) -> Result<Self, ForwardError> {
        NonZeroU16::new(number).map(Self).ok_or(ForwardError::Port)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0.get()
    }

    /// The port so many places further on.
    fn plus(self, places: u16) -> Result<Self, ForwardError> {
        let number = self.0.checked_add(places);
        number.map(Self).ok_or(ForwardError::Beyond)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Port {
    type Err = ForwardError;
    fn from_str(text: &str) -> Result<Self, ForwardError> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| digits);
        Self::new(number.ok_or(ForwardError::Port)?)
    }
}

/// A port, or several that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    first: Port,
    last: Port,
}

impl PortRange {
    /// The ports from one to another.
    pub fn new(first: Port, last: Port) -> Result<Self, ForwardError> {
        if first <= last {
            Ok(Self { first, last })
        } else {
            Err(ForwardError::Ports)
        }
    }

    /// One port.
    #[must_use]
    pub fn single(port: Port) -> Self {
        Self {
            first: port,
            last: port,
        }
    }

    /// The lowest.
    #[must_use]
    pub fn first(self) -> Port {
        self.first
    }

    /// The highest.
    #[must_use]
    pub fn last(self) -> Port {
        self.last
    }

    /// How many.
    #[must_use]
    pub fn count(self) -> u32 {
        u32::from(self.last.number() - self.first.number()) + 1
    }

    /// Whether a port is one of them.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first.number()..=self.last.number()).contains(&port)
    }

    /// The ports, each with its place among them.
    pub fn ports(self) -> impl Iterator<Item = (u16, Port)> {
        (self.first.number()..=self.last.number())
            .filter_map(|number| Port::new(number).ok())
            .zip(0..)
            .map(|(port, place)| (place, port))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl FromStr for PortRange {
    type Err = ForwardError;
    fn from_str(text: &str) -> Result<Self, ForwardError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.parse().map_err(|_| ForwardError::Ports);
        Self::new(port(first)?, port(last)?)
    }
}

/// With which source address a host that has only forwards begins flows to the
/// outside.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Outbound {
    /// With the one that the router gives it anyway: we do not translate it.
    #[default]
    Router,
    /// With the floating IP of the forward.
    Floating,
}

impl Outbound {
    /// The word for it, everywhere.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Outbound::Router => "router",
            Outbound::Floating => "floating",
        }
    }
}

impl fmt::Display for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Outbound {
    type Err = ForwardError;
    fn from_str(text: &str) -> Result<Self, ForwardError> {
        [Outbound::Router, Outbound::Floating]
            .into_iter()
            .find(|outbound| outbound.as_str() == text)
            .ok_or(ForwardError::Outbound)
    }
}

/// Where ports of a floating IP lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Forward {
    protocol: Protocol,
    ports: PortRange,
    fixed: FixedIp,
    fixed_port: Port,
    outbound: Outbound,
}

impl Forward {
    /// Ports that lead to as many ports of a host, from `fixed_port` on.
    pub fn new(
        protocol: Protocol,
        ports: PortRange,
        fixed: FixedIp,
        fixed_port: Port,
        outbound: Outbound,
    ) -> Result<Self, ForwardError> {
        fixed_port.plus(ports.last.number() - ports.first.number())?;
        Ok(Self {
            protocol,
            ports,
            fixed,
            fixed_port,
            outbound,
        })
    }

    /// Of which protocol.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Which ports of the floating IP.
    #[must_use]
    pub fn ports(&self) -> PortRange {
        self.ports
    }

    /// To which host.
    #[must_use]
    pub fn fixed(&self) -> FixedIp {
        self.fixed
    }

    /// To which port of it the first one leads; the others follow.
    #[must_use]
    pub fn fixed_port(&self) -> Port {
        self.fixed_port
    }

    /// How the host begins flows itself.
    #[must_use]
    pub fn outbound(&self) -> Outbound {
        self.outbound
    }

    /// Whether every port leads to the one of the same number.
    #[must_use]
    pub fn keeps_ports(&self) -> bool {
        self.fixed_port == self.ports.first
    }

    /// Whether the other leads the same ports to the same place.
    #[must_use]
    pub fn leads_like(&self, other: &Self) -> bool {
        let outbound = other.outbound;
        Self { outbound, ..*self } == *other
    }

    /// The ports of the floating IP, each with the host's.
    pub fn pairs(&self) -> impl Iterator<Item = (Port, Port)> + use<> {
        let to = self.fixed_port;
        self.ports.ports().map(move |(place, port)| {
            let to = to.plus(place).expect("checked when it was made");
            (port, to)
        })
    }

    /// The host's port for a port of the floating IP, if it is one of these.
    #[must_use]
    pub fn target_of(&self, port: u16) -> Option<u16> {
        let place = port.checked_sub(self.ports.first.number())?;
        (self.ports.contains(port)).then(|| self.fixed_port.number() + place)
    }
}

/// `8000-8010/tcp -> 10.0.0.5:8000`, as people read it and the log keeps it.
impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            protocol,
            ports,
            fixed,
            fixed_port,
            outbound,
        } = self;
        let host = SocketAddr::new(fixed.ip(), fixed_port.number());
        write!(f, "{ports}/{protocol} -> {host}")?;
        match outbound {
            Outbound::Router => Ok(()),
            Outbound::Floating => write!(f, ", outbound {outbound}"),
        }
    }
}

impl FromStr for Forward {
    type Err = ForwardError;
    fn from_str(text: &str) -> Result<Self, ForwardError> {
        let (from, to) = text.split_once(" -> ").ok_or(ForwardError::Syntax)?;
        let (ports, protocol) = from.split_once('/').ok_or(ForwardError::Syntax)?;
        let (host, outbound) = to.split_once(", outbound ").unwrap_or((to, "router"));
        let host: SocketAddr = host.parse().map_err(|_| ForwardError::Syntax)?;
        Self::new(
            protocol.parse()?,
            ports.parse()?,
            FixedIp::new(host.ip()).map_err(|_| ForwardError::Syntax)?,
            Port::new(host.port())?,
            outbound.parse()?,
        )
    }
}

/// The forwards of a floating IP, of which no two have a port in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwards(RedBlackTreeMapSync<(Protocol, Port), Forward>);

impl Forwards {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, by protocol and port.
    pub fn iter(&self) -> impl Iterator<Item = &Forward> {
        self.0.values()
    }

    /// The first one that has any of these ports.
    #[must_use]
    pub fn clash(&self, protocol: Protocol, ports: PortRange) -> Option<&Forward> {
        // They are disjoint: before the first one that begins inside, only the
        // last one that begins earlier can reach this far.
        let earlier = self
            .0
            .range((Protocol::Tcp, Port(NonZeroU16::MIN))..(protocol, ports.first));
        let reaching = earlier
            .map(|(_, forward)| forward)
            .next_back()
            .filter(|forward| forward.protocol == protocol && forward.ports.last >= ports.first);
        let mut inside = self
            .0
            .range((protocol, ports.first)..=(protocol, ports.last));
        reaching.or_else(|| inside.next().map(|(_, forward)| forward))
    }

    /// The one that a packet to that port follows.
    #[must_use]
    pub fn of_port(&self, protocol: u8, port: u16) -> Option<&Forward> {
        let (protocol, port) = (Protocol::of(protocol)?, Port::new(port).ok()?);
        self.clash(protocol, PortRange::single(port))
    }

    /// With one more; whoever adds it made sure that it clashes with none.
    #[must_use]
    pub fn with(&self, forward: Forward) -> Self {
        Self(
            self.0
                .insert((forward.protocol, forward.ports.first), forward),
        )
    }

    /// Without this one.
    #[must_use]
    pub fn without(&self, forward: &Forward) -> Self {
        Self(self.0.remove(&(forward.protocol, forward.ports.first)))
    }
}

impl FromIterator<Forward> for Forwards {
    fn from_iter<I: IntoIterator<Item = Forward>>(forwards: I) -> Self {
        forwards
            .into_iter()
            .fold(Self::default(), |all, forward| all.with(forward))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_is_read_as_it_is_written() {
        for text in [
            "80/tcp -> 10.0.0.5:8080",
            "8000-8010/udp -> [fd00::5]:8000",
            "1-65535/sctp -> 10.0.0.5:1, outbound floating",
        ] {
            let forward: Forward = text.parse().unwrap();
            assert_eq!(forward.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_forward_is_refused() {
        for text in [
            "",
            "80/tcp",
            "0/tcp -> 10.0.0.5:80",
            "+80/tcp -> 10.0.0.5:80",
            "80/icmp -> 10.0.0.5:80",
            "90-80/tcp -> 10.0.0.5:80",
            "80-/tcp -> 10.0.0.5:80",
            "80/tcp -> 10.0.0.5:0",
            "80-81/tcp -> 10.0.0.5:65535",
            "80/tcp -> 127.0.0.1:80",
            "80/tcp -> 10.0.0.5:80, outbound maybe",
        ] {
            assert!(text.parse::<Forward>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_clash_is_found_wherever_the_ports_meet() {
        let forwards: Forwards = [
            "80/tcp -> 10.0.0.5:80",
            "100-200/tcp -> 10.0.0.6:100",
            "100/udp -> 10.0.0.7:100",
        ]
        .into_iter()
        .map(|text| text.parse::<Forward>().unwrap())
        .collect();
        for (protocol, ports, clash) in [
            ("tcp", "80", Some("10.0.0.5")),
            ("tcp", "1-80", Some("10.0.0.5")),
            ("tcp", "81-99", None),
            ("tcp", "200-300", Some("10.0.0.6")),
            ("tcp", "150", Some("10.0.0.6")),
            ("tcp", "1-65535", Some("10.0.0.5")),
            ("tcp", "201", None),
            ("udp", "101", None),
            ("udp", "1-100", Some("10.0.0.7")),
            ("sctp", "1-65535", None),
        ] {
            let found = forwards.clash(protocol.parse().unwrap(), ports.parse().unwrap());
            let found = found.map(|forward| forward.fixed().to_string());
            assert_eq!(found.as_deref(), clash, "{ports}/{protocol}");
        }
    }

    #[test]
    fn each_port_of_a_shifted_range_has_its_own_target() {
        let forward: Forward = "9000-9002/tcp -> 10.0.0.5:8000".parse().unwrap();
        let pairs: Vec<_> = forward
            .pairs()
            .map(|(from, to)| (from.number(), to.number()))
            .collect();
        assert_eq!(pairs, [(9000, 8000), (9001, 8001), (9002, 8002)]);
        assert_eq!(forward.target_of(9001), Some(8001));
        assert_eq!(forward.target_of(9003), None);
        assert_eq!(forward.target_of(80), None);
    }
}
