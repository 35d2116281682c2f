//! Telling the neighbours on an outside link where a floating IP is now.
//!
//! [`PacketNeighbours`] sends: gratuitous ARP as request and as reply (some
//! switches and hosts heed only the one, some only the other), unsolicited
//! neighbour advertisements. [`Announcer`] repeats, beside the controller:
//! Linux ignores a second change of a neighbour entry within its locktime of
//! one second (`locktime`, arp(7)), so the rounds are further apart than that.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::dataplane::Link;
use crate::model::FloatingIp;

use super::{KernelError, Neighbours, Operation};

/// How often an address is announced, the first time at once.
const ROUNDS: u32 = 3;

/// How long after one another.
const APART: Duration = Duration::from_millis(1_100);

/// How long after one another two addresses are announced: a start with a
/// hundred thousand must not flood the link, nor the tables of its switches.
const PACE: Duration = Duration::from_micros(500);

/// Errors repeat for every address; one line in so long is enough.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);

/// `ETH_P_ARP` and `ETH_P_IPV6` (linux/if_ether.h).
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;

/// Where all Ethernet hosts and all IPv6 nodes listen (RFC 2464 7).
const BROADCAST: [u8; 6] = [0xff; 6];
const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// Sends announcements from a packet socket. Opened once, by us or for us: the
/// daemon does not keep the capability that this takes, CAP_NET_RAW.
#[derive(Debug)]
pub struct PacketNeighbours {
    socket: OwnedFd,
}

impl PacketNeighbours {
    /// Opens the socket. Protocol 0: it receives nothing (packet(7)).
    pub fn open() -> Result<Self, KernelError> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(
            AddressFamily::Packet,
            SockType::Datagram,
            flags,
            None::<SockProtocol>,
        );
        let socket = socket.map_err(|errno| KernelError::new(Operation::Open("packet"), errno))?;
        Ok(Self { socket })
    }

    /// Takes one that [`PacketNeighbours::open`] opened in another process.
    #[must_use]
    pub fn with(socket: OwnedFd) -> Self {
        Self { socket }
    }
}

impl AsFd for PacketNeighbours {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Neighbours for PacketNeighbours {
    fn announce(&mut self, floating: FloatingIp, link: &Link) -> Result<(), KernelError> {
        // A link without Ethernet addresses has nobody to tell.
        let Some(mac) = link.mac else { return Ok(()) };
        let frames = match floating.ip() {
            IpAddr::V4(v4) => vec![
                (ETH_P_ARP, BROADCAST, arp(ArpOperation::Request, v4, mac)),
                (ETH_P_ARP, BROADCAST, arp(ArpOperation::Reply, v4, mac)),
            ],
            IpAddr::V6(v6) => vec![(ETH_P_IPV6, ALL_NODES, neighbour_advertisement(v6, mac))],
        };
        for (protocol, to, packet) in frames {
            send(&self.socket, link.index.0, protocol, to, &packet)
                .map_err(|error| KernelError::new(Operation::Announce(floating), error))?;
        }
        Ok(())
    }
}

#[allow(unsafe_code)]
fn send(socket: &OwnedFd, index: u32, protocol: u16, to: [u8; 6], packet: &[u8]) -> io::Result<()> {
    let mut address = [0; 8];
    address[..6].copy_from_slice(&to);
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: address,
    };
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and both buffers outlive the call, which
    // reads no more of them than the lengths say.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const address).cast(),
            length,
        )
    };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum ArpOperation {
    Request = 1,
    Reply = 2,
}

/// An ARP packet in which sender and target have the same protocol address
/// (RFC 826; RFC 5227 3 calls the request an ARP announcement).
fn arp(operation: ArpOperation, address: Ipv4Addr, mac: [u8; 6]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(28);
    packet.extend([0, 1]); // Ethernet
    packet.extend([8, 0]); // IPv4
    packet.extend([6, 4]); // lengths of their addresses
    packet.extend([0, operation as u8]);
    packet.extend(mac);
    packet.extend(address.octets());
    packet.extend(match operation {
        ArpOperation::Request => [0; 6],
        ArpOperation::Reply => mac,
    });
    packet.extend(address.octets());
    packet
}

/// An unsolicited neighbour advertisement to all nodes (RFC 4861 4.4, 7.2.6).
fn neighbour_advertisement(address: Ipv6Addr, mac: [u8; 6]) -> Vec<u8> {
    const ICMPV6: u8 = 58;
    const ADVERTISEMENT: u8 = 136;
    // Router and override; not solicited.
    const FLAGS: u8 = 0x80 | 0x20;
    const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

    let mut message = vec![ADVERTISEMENT, 0, 0, 0, FLAGS, 0, 0, 0];
    message.extend(address.octets());
    message.extend([TARGET_LINK_LAYER_ADDRESS, 1]); // in units of eight bytes
    message.extend(mac);
    let sum = checksum(address, all_nodes, ICMPV6, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let length = u8::try_from(message.len()).expect("the message has 32 bytes");
    // Hop limit 255: a receiver sees that no router passed it on.
    let mut packet = vec![0x60, 0, 0, 0, 0, length, ICMPV6, 255];
    packet.extend(address.octets());
    packet.extend(all_nodes.octets());
    packet.extend(message);
    packet
}

/// The checksum over message and pseudo-header (RFC 8200 8.1, RFC 1071).
fn checksum(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len())
        .expect("messages are short")
        .to_be_bytes();
    let pseudo = [
        &from.octets()[..],
        &to.octets(),
        &length,
        &[0, 0, 0, protocol],
        message,
    ]
    .concat();
    let sum: u32 = pseudo
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}

/// Announces addresses, and repeats it, in a thread of its own.
#[derive(Debug)]
pub struct Announcer {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    schedule: Mutex<Schedule>,
    wake: Condvar,
}

/// What is to be announced when.
#[derive(Debug, Default)]
struct Schedule {
    held: HashMap<FloatingIp, Held>,
    due: BinaryHeap<Reverse<(Instant, FloatingIp)>>,
    over: bool,
}

/// An address that is ours and has rounds left.
#[derive(Debug)]
struct Held {
    link: Link,
    rounds: u32,
    next: Instant,
}

impl Announcer {
    /// Starts the thread. It ends with the value.
    pub fn start(neighbours: Box<dyn Neighbours>) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let theirs = shared.clone();
        std::thread::Builder::new()
            .name("announce".into())
            .spawn(move || run(neighbours, &theirs))?;
        Ok(Self { shared })
    }

    /// Announces the address at once, and then again.
    pub fn announce(&self, floating: FloatingIp, link: Link) {
        let next = Instant::now();
        let mut schedule = self.shared.lock();
        schedule.held.insert(
            floating,
            Held {
                link,
                rounds: ROUNDS,
                next,
            },
        );
        schedule.due.push(Reverse((next, floating)));
        self.shared.wake.notify_one();
    }

    /// Announces the address no more. Once this returns, nothing is sent.
    pub fn withdraw(&self, floating: FloatingIp) {
        self.shared.lock().held.remove(&floating);
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Schedule {
    /// The link of an address whose turn it is, with its next turn noted.
    fn take(&mut self, now: Instant) -> Option<(FloatingIp, Link)> {
        while let Some(&Reverse((at, floating))) = self.due.peek() {
            if at > now {
                return None;
            }
            self.due.pop();
            // An address that was withdrawn, or announced anew since.
            let Some(held) = self.held.get_mut(&floating).filter(|held| held.next == at) else {
                continue;
            };
            let link = held.link.clone();
            held.rounds -= 1;
            if held.rounds == 0 {
                self.held.remove(&floating);
            } else {
                held.next = now + APART;
                self.due.push(Reverse((held.next, floating)));
            }
            return Some((floating, link));
        }
        None
    }
}

fn run(mut neighbours: Box<dyn Neighbours>, shared: &Shared) {
    let mut complained: Option<Instant> = None;
    let mut schedule = shared.lock();
    while !schedule.over {
        let now = Instant::now();
        if let Some((floating, link)) = schedule.take(now) {
            // Under the lock: once an address is withdrawn nothing is sent.
            if link.carrier
                && let Err(error) = neighbours.announce(floating, &link)
                && complained.is_none_or(|at| now - at > COMPLAIN_EVERY)
            {
                complained = Some(now);
                tracing::warn!(%error, "neighbours may find out later; it is announced again on link-up");
            }
            drop(schedule);
            std::thread::sleep(PACE);
            schedule = shared.lock();
            continue;
        }
        let pause = schedule
            .due
            .peek()
            .map(|Reverse((at, _))| at.saturating_duration_since(now));
        schedule = match pause {
            Some(pause) => {
                shared
                    .wake
                    .wait_timeout(schedule, pause)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
            None => shared
                .wake
                .wait(schedule)
                .unwrap_or_else(PoisonError::into_inner),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::IfIndex;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    #[test]
    fn a_gratuitous_arp_names_the_address_as_sender_and_target() {
        let hex = |bytes: Vec<u8>| {
            bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        let address = Ipv4Addr::new(198, 51, 100, 7);
        assert_eq!(
            hex(arp(ArpOperation::Request, address, MAC)),
            "0001080006040001020000000001c6336407000000000000c6336407"
        );
        assert_eq!(
            hex(arp(ArpOperation::Reply, address, MAC)),
            "0001080006040002020000000001c6336407020000000001c6336407"
        );
    }

    #[test]
    fn a_neighbour_advertisement_has_a_checksum_that_adds_up() {
        let address: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let packet = neighbour_advertisement(address, MAC);
        assert_eq!(packet.len(), 40 + 32);
        assert_eq!(packet[7], 255, "hop limit");
        let all_nodes: Ipv6Addr = "ff02::1".parse().unwrap();
        // Over a message with its checksum in it the sum is all ones, whose
        // complement is zero.
        assert_eq!(checksum(address, all_nodes, 58, &packet[40..]), 0);
    }

    #[test]
    fn an_address_has_its_rounds_apart_and_none_after_it_was_withdrawn() {
        let link = Link {
            index: IfIndex(2),
            up: true,
            carrier: true,
            mac: Some(MAC),
        };
        let floating: FloatingIp = "198.51.100.7".parse().unwrap();
        let start = Instant::now();
        let hold = |schedule: &mut Schedule, at| {
            schedule.held.insert(
                floating,
                Held {
                    link: link.clone(),
                    rounds: ROUNDS,
                    next: at,
                },
            );
            schedule.due.push(Reverse((at, floating)));
        };
        let mut schedule = Schedule::default();
        hold(&mut schedule, start);
        assert!(schedule.take(start).is_some());
        assert!(schedule.take(start + APART / 2).is_none());
        assert!(schedule.take(start + APART).is_some());
        assert!(schedule.take(start + APART * 2).is_some());
        assert!(
            schedule.take(start + APART * 9).is_none(),
            "three rounds and no more"
        );

        hold(&mut schedule, start);
        hold(&mut schedule, start + APART / 2);
        assert!(
            schedule.take(start).is_none(),
            "announced anew, it begins anew"
        );
        assert!(schedule.take(start + APART / 2).is_some());
        schedule.held.remove(&floating);
        assert!(schedule.take(start + APART * 9).is_none());
    }
}
