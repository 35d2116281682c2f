//! Every packet that a host sends and receives.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::craft::{ICMP, ICMPV6};
use super::lab::Host;
use super::namespace::eventually;

/// `ETH_P_ARP` and `PACKET_OUTGOING` (include/uapi/linux/if_ether.h, if_packet.h).
const ETHERTYPE_ARP: u16 = 0x0806;
const OUTGOING: u8 = 4;

/// A packet that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// An IP packet.
    Ip(Packet),
    /// An ARP message.
    Arp {
        /// 1 for a request, 2 for a reply (RFC 826).
        operation: u16,
        /// The hardware address that it tells.
        hardware: [u8; 6],
        /// Whose that is.
        sender: Ipv4Addr,
        /// Whom it asks for.
        target: Ipv4Addr,
    },
}

/// An IP packet that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// Whether it came in, rather than went out.
    pub(super) incoming: bool,
    /// Its source.
    pub(super) source: IpAddr,
    /// Its destination.
    pub(super) destination: IpAddr,
    /// The protocol of what it carries; for a fragment, of the whole.
    pub(super) protocol: u8,
    /// Whether it is a fragment other than the first.
    pub(super) is_later_fragment: bool,
    /// What it carries.
    pub(super) payload: Vec<u8>,
}

impl Packet {
    /// Whether it carries these words.
    pub(super) fn says(&self, words: &str) -> bool {
        self.payload
            .windows(words.len())
            .any(|window| window == words.as_bytes())
    }

    /// Whether it is an ICMP message of one of these types, by family.
    pub(super) fn is_icmp(&self, type4: u8, type6: u8) -> bool {
        let kind = self.payload.first().copied();
        !self.is_later_fragment
            && match self.protocol {
                ICMP => kind == Some(type4),
                ICMPV6 => kind == Some(type6),
                _ => false,
            }
    }

    /// Whether it is an echo request.
    pub(super) fn is_echo_request(&self) -> bool {
        self.is_icmp(8, 128)
    }
}

/// Writes down what a host sends and receives.
#[derive(Debug)]
pub(super) struct Sniffer {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Seen>>>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// Writes down what it sends and receives from now on, on all interfaces.
    pub(super) fn sniff(&self) -> Sniffer {
        let socket = self.run(|| {
            // Without the link header (SOCK_DGRAM, packet(7)).
            socket(
                AddressFamily::Packet,
                SockType::Datagram,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::EthAll,
            )
            .expect("these tests need root")
        });
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(50))
            .expect("a timeout can be set");
        setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20)).expect("these tests need root");
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::default();
        let thread = std::thread::spawn({
            let (stop, seen) = (stop.clone(), Arc::clone(&seen));
            move || listen(&socket, &stop, &seen)
        });
        Sniffer {
            stop,
            seen,
            thread: Some(thread),
        }
    }
}

fn listen(socket: &OwnedFd, stop: &AtomicBool, seen: &Mutex<Vec<Seen>>) {
    let mut buffer = vec![0; 70_000];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, Some(from))) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) else {
            continue;
        };
        let incoming = from.pkttype() != OUTGOING;
        let packet = if u16::from_be(from.protocol()) == ETHERTYPE_ARP {
            arp(&buffer[..length])
        } else {
            ip(incoming, &buffer[..length]).map(Seen::Ip)
        };
        seen.lock().expect("nobody panics with it").extend(packet);
    }
}

fn arp(bytes: &[u8]) -> Option<Seen> {
    let address = |at: usize| {
        Some(Ipv4Addr::from(
            <[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?,
        ))
    };
    Some(Seen::Arp {
        operation: u16::from_be_bytes(bytes.get(6..8)?.try_into().ok()?),
        hardware: bytes.get(8..14)?.try_into().ok()?,
        sender: address(14)?,
        target: address(24)?,
    })
}

/// Reads an IP packet; also the one that an ICMP error quotes.
pub(super) fn ip(incoming: bool, bytes: &[u8]) -> Option<Packet> {
    match bytes.first()? >> 4 {
        4 => {
            let address = |at: usize| {
                Some(Ipv4Addr::from(
                    <[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?,
                ))
            };
            let offset = u16::from_be_bytes(bytes.get(6..8)?.try_into().ok()?) & 0x1fff;
            Some(Packet {
                incoming,
                source: address(12)?.into(),
                destination: address(16)?.into(),
                protocol: bytes[9],
                is_later_fragment: offset != 0,
                payload: bytes.get(usize::from(bytes[0] & 15) * 4..)?.to_vec(),
            })
        }
        6 => {
            let address = |at: usize| {
                Some(Ipv6Addr::from(
                    <[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?,
                ))
            };
            // The fragment header is 44, the hop-by-hop one (MLD) is none we need.
            let (protocol, offset, at) = match bytes.get(6)? {
                44 => (
                    *bytes.get(40)?,
                    u16::from_be_bytes(bytes.get(42..44)?.try_into().ok()?) & !7,
                    48,
                ),
                other => (*other, 0, 40),
            };
            Some(Packet {
                incoming,
                source: address(8)?.into(),
                destination: address(24)?.into(),
                protocol,
                is_later_fragment: offset != 0,
                payload: bytes.get(at..)?.to_vec(),
            })
        }
        _ => None,
    }
}

impl Sniffer {
    /// All packets so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("nobody panics with it").clone()
    }

    /// All IP packets so far that are like that.
    pub(super) fn packets(&self, like: impl Fn(&Packet) -> bool) -> Vec<Packet> {
        let packets = self.seen().into_iter().filter_map(|seen| match seen {
            Seen::Ip(packet) => like(&packet).then_some(packet),
            Seen::Arp { .. } => None,
        });
        packets.collect()
    }

    /// Waits for an IP packet that is like that.
    pub(super) fn wait_for(&self, what: &str, like: impl Fn(&Packet) -> bool) -> Packet {
        let mut found = None;
        eventually(what, || {
            found = self.packets(&like).into_iter().next();
            found.is_some()
        });
        found.expect("it was found")
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
