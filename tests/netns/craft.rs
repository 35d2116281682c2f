//! Packets made by hand: echo requests, and what no decent host sends.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recvfrom, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::lab::Host;
use super::namespace::{BRIEFLY, PATIENCE};

/// Protocol numbers (RFC 5237's registry).
pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;
pub(super) const SCTP: u8 = 132;

/// Bits of the TCP header (RFC 9293 3.1).
pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;
pub(super) const URG: u8 = 0x20;

impl Host {
    /// Sends an echo request and returns who answered with the same bytes.
    pub(super) fn ping(&self, to: IpAddr) -> Result<IpAddr, ErrorKind> {
        self.ping_with(to, 56, PATIENCE)
    }

    /// The same with so many bytes.
    pub(super) fn ping_long(&self, to: IpAddr, bytes: usize) -> Result<IpAddr, ErrorKind> {
        self.ping_with(to, bytes, PATIENCE)
    }

    /// The same where no answer is expected.
    pub(super) fn ping_briefly(&self, to: IpAddr) -> Result<IpAddr, ErrorKind> {
        self.ping_with(to, 56, BRIEFLY)
    }

    fn ping_with(&self, to: IpAddr, bytes: usize, patience: Duration) -> Result<IpAddr, ErrorKind> {
        self.run(|| echo(to, bytes, patience))
            .map_err(|errno| std::io::Error::from(errno).kind())
    }

    /// Sends an IP packet as it is. It is routed by its destination.
    pub(super) fn send_packet(&self, source: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) {
        self.send_packet_with_hops(source, to, protocol, 64, payload);
    }

    /// The same with so many hops to go.
    pub(super) fn send_packet_with_hops(
        &self,
        source: IpAddr,
        to: IpAddr,
        protocol: u8,
        hops: u8,
        payload: &[u8],
    ) {
        let packet = ip_packet(source, to, protocol, hops, payload);
        self.run(|| {
            let socket = raw_socket(to, SockProtocol::Raw).expect("these tests need root");
            let to = SockaddrStorage::from(SocketAddr::new(to, 0));
            sendto(socket.as_raw_fd(), &packet, &to, MsgFlags::empty()).expect("there is a route");
        });
    }
}

fn raw_socket(to: IpAddr, protocol: SockProtocol) -> nix::Result<OwnedFd> {
    let family = if to.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
}

fn echo(to: IpAddr, bytes: usize, patience: Duration) -> nix::Result<IpAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // Types of echo request and reply: RFC 792, RFC 4443 4.1.
    let (protocol, request, reply) = if to.is_ipv4() {
        (SockProtocol::Icmp, 8, 0)
    } else {
        (SockProtocol::IcmpV6, 128, 129)
    };
    let mut message = vec![request, 0, 0, 0];
    message.extend(number.to_be_bytes());
    message.extend(1_u16.to_be_bytes());
    message.extend((0..bytes).map(|index| index as u8));
    if to.is_ipv4() {
        let sum = checksum(&[&message]);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    let socket = raw_socket(to, protocol)?;
    let address = SockaddrStorage::from(SocketAddr::new(to, 0));
    sendto(socket.as_raw_fd(), &message, &address, MsgFlags::empty())?;

    let deadline = Instant::now() + patience;
    let mut buffer = vec![0; 65_536];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Errno::ETIMEDOUT);
        }
        setsockopt(
            &socket,
            sockopt::ReceiveTimeout,
            &TimeVal::milliseconds(left.as_millis() as i64 + 1),
        )?;
        let (length, from) = match recvfrom::<SockaddrStorage>(socket.as_raw_fd(), &mut buffer) {
            Err(Errno::EAGAIN) => return Err(Errno::ETIMEDOUT),
            received => received?,
        };
        let received = &buffer[..length];
        // A raw IPv4 socket gives the IP header too (raw(7)), one of IPv6 does not.
        let received = if to.is_ipv4() {
            &received[usize::from(received[0] & 15) * 4..]
        } else {
            received
        };
        if received[0] == reply && received[4..] == message[4..] {
            return Ok(ip_of(&from.expect("an IP packet has a source")));
        }
    }
}

fn ip_of(address: &SockaddrStorage) -> IpAddr {
    let v4 = address
        .as_sockaddr_in()
        .map(|address| IpAddr::from(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
        .expect("it is an IP socket")
}

/// An IP packet with a header as plain as can be.
fn ip_packet(source: IpAddr, to: IpAddr, protocol: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    match (source, to) {
        (IpAddr::V4(source), IpAddr::V4(to)) => {
            let length = 20 + payload.len() as u16;
            packet.extend([0x45, 0]);
            packet.extend(length.to_be_bytes());
            packet.extend([0, 1, 0x40, 0, hops, protocol, 0, 0]);
            packet.extend(source.octets());
            packet.extend(to.octets());
            let sum = checksum(&[&packet]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(to)) => {
            packet.extend([0x60, 0, 0, 0]);
            packet.extend((payload.len() as u16).to_be_bytes());
            packet.extend([protocol, hops]);
            packet.extend(source.octets());
            packet.extend(to.octets());
        }
        _ => panic!("{source} and {to} are of different families"),
    }
    packet.extend(payload);
    packet
}

/// A TCP segment with these flags, out of nowhere.
pub(super) fn segment(source: SocketAddr, to: SocketAddr, flags: u8, text: &str) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(source.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend(0x1234_5678_u32.to_be_bytes());
    segment.extend(0x0bad_cafe_u32.to_be_bytes());
    segment.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(text.as_bytes());
    seal(source.ip(), to.ip(), TCP, 16, segment)
}

/// A UDP datagram.
pub(super) fn datagram(source: SocketAddr, to: SocketAddr, text: &str) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(source.port().to_be_bytes());
    datagram.extend(to.port().to_be_bytes());
    datagram.extend((8 + text.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(text.as_bytes());
    seal(source.ip(), to.ip(), UDP, 6, datagram)
}

/// Fills in the checksum at an offset (RFC 9293 3.1, RFC 8200 8.1).
fn seal(source: IpAddr, to: IpAddr, protocol: u8, at: usize, mut message: Vec<u8>) -> Vec<u8> {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let length = (message.len() as u32).to_be_bytes();
    let sum = checksum(&[
        &octets(source),
        &octets(to),
        &length,
        &[0, 0, 0, protocol],
        &message,
    ]);
    message[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    message
}

/// The internet checksum (RFC 1071); every part but the last is of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// An SCTP packet with one INIT chunk (RFC 9260 3.3.2).
pub(super) fn sctp_init(source: SocketAddr, to: SocketAddr) -> Vec<u8> {
    sctp(source, to, 0, 1, INITIATE_TAG)
}

/// The answer to it, with an INIT ACK chunk. The state cookie that it should
/// have is of no concern to anybody on the way.
pub(super) fn sctp_init_ack(source: SocketAddr, to: SocketAddr) -> Vec<u8> {
    sctp(source, to, INITIATE_TAG, 2, 0x0bad_cafe)
}

const INITIATE_TAG: u32 = 0x1234_5678;

fn sctp(source: SocketAddr, to: SocketAddr, tag: u32, chunk: u8, initiate: u32) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(source.port().to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend(tag.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend([chunk, 0, 0, 20]);
    packet.extend(initiate.to_be_bytes());
    // Window, outbound and inbound streams, initial sequence number.
    packet.extend(65_536_u32.to_be_bytes());
    packet.extend([0, 1, 0, 1, 0, 0, 0, 1]);
    let sum = crc32c(&packet);
    // RFC 9260 appendix A: the lowest byte of the register first.
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
    packet
}

/// The checksum of SCTP: CRC-32C, its polynomial reflected.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut register = u32::MAX;
    for byte in bytes {
        register ^= u32::from(*byte);
        for _ in 0..8 {
            let low = register & 1;
            register >>= 1;
            if low == 1 {
                register ^= 0x82f6_3b78;
            }
        }
    }
    !register
}
