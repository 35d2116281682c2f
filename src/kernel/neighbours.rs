//! The neighbours of the running system, by packet sockets (packet(7)).
//!
//! One socket sends everything and hears ARP; the other hears neighbour
//! discovery. One for both would be handed every packet that the router sees.
//! The second passes over all but a few packets by a filter in the kernel, which
//! IPv6 packets pay for and IPv4 ones do not; it is bound once there is an IPv6
//! address to listen for. Both are opened once, by us or for us: the daemon does
//! not keep the capability that this takes, CAP_NET_RAW.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nix::sys::time::TimeSpec;

use crate::dataplane::{IfIndex, Link};
use crate::model::{Family, FloatingIp, HardwareAddress};

use super::frames::{self, ADVERTISEMENT, ETH_P_ARP, ETH_P_IPV6, Frame, ICMPV6, NOT_ROUTED};
use super::{Heard, KernelError, Neighbours, Operation};

/// What is read of a packet: more than any of those that matter has.
const READ: usize = 128;

/// So many packets are read before it is looked at what is due.
const AT_ONCE: usize = 256;

/// The neighbours of the running system.
#[derive(Debug)]
pub struct PacketNeighbours {
    /// Sends, and hears ARP.
    arp: OwnedFd,
    /// Hears neighbour discovery.
    discovery: Option<OwnedFd>,
    is_bound: [bool; 2],
}

impl PacketNeighbours {
    /// Opens the sockets. Protocol 0: they receive nothing yet.
    pub fn open() -> Result<Self, KernelError> {
        let open = || {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            socket(
                AddressFamily::Packet,
                SockType::Datagram,
                flags,
                None::<SockProtocol>,
            )
            .map_err(|errno| KernelError::new(Operation::Open("packet"), errno))
        };
        Ok(Self {
            arp: open()?,
            discovery: Some(open()?),
            is_bound: [false; 2],
        })
    }

    /// Takes those that [`PacketNeighbours::open`] opened in another process;
    /// `None` without any. With one alone nobody hears about IPv6 addresses.
    #[must_use]
    pub fn with(sockets: Vec<OwnedFd>) -> Option<Self> {
        let mut sockets = sockets.into_iter();
        Some(Self {
            arp: sockets.next()?,
            discovery: sockets.next(),
            is_bound: [false; 2],
        })
    }

    /// The sockets, for being kept.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let discovery = self.discovery.as_ref().map(AsFd::as_fd);
        std::iter::once(self.arp.as_fd()).chain(discovery)
    }

    fn send(&self, link: &Link, frame: &Frame, operation: Operation) -> Result<(), KernelError> {
        let address = link_address(link.index.0, frame.protocol, frame.to);
        send(&self.arp, &address, &frame.packet).map_err(|error| KernelError::new(operation, error))
    }

    /// What has come to a socket.
    fn drain(
        socket: &OwnedFd,
        heard: &mut Vec<Heard>,
        understand: impl Fn(
            &[u8],
            HardwareAddress,
        ) -> Option<(FloatingIp, HardwareAddress, frames::Speech)>,
    ) -> Result<(), KernelError> {
        let mut buffer = [0; READ];
        for _ in 0..AT_ONCE {
            match receive(socket, &mut buffer) {
                Ok((length, from)) => {
                    let [a, b, c, d, e, f, ..] = from.sll_addr;
                    let frame_by = HardwareAddress([a, b, c, d, e, f]);
                    let interface = IfIndex(from.sll_ifindex.cast_unsigned());
                    let said = understand(&buffer[..length.min(READ)], frame_by);
                    heard.extend(said.map(|(floating, by, speech)| Heard {
                        floating,
                        interface,
                        by,
                        speech,
                    }));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // An interface that went down says so once, on a socket that is
                // bound to none as well.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(KernelError::new(Operation::Listen, error)),
            }
        }
        Ok(())
    }
}

impl Neighbours for PacketNeighbours {
    fn announce(&mut self, floating: FloatingIp, link: &Link) -> Result<(), KernelError> {
        // A link without Ethernet addresses has nobody to tell.
        let Some(mac) = link.mac else { return Ok(()) };
        for frame in frames::announcement(floating, mac) {
            self.send(link, &frame, Operation::Announce(floating))?;
        }
        Ok(())
    }

    fn probe(&mut self, floating: FloatingIp, link: &Link) -> Result<(), KernelError> {
        let Some(mac) = link.mac else { return Ok(()) };
        self.send(
            link,
            &frames::probe(floating, mac),
            Operation::Probe(floating),
        )
    }

    fn hear(&mut self, family: Family) -> Result<bool, KernelError> {
        let failed = |error| KernelError::new(Operation::Listen, error);
        let (place, socket, protocol) = match family {
            Family::V4 => (0, Some(&self.arp), ETH_P_ARP),
            Family::V6 => (1, self.discovery.as_ref(), ETH_P_IPV6),
        };
        let Some(socket) = socket else {
            return Ok(false);
        };
        if !self.is_bound[place] {
            if family == Family::V6 {
                filter(socket).map_err(failed)?;
            }
            bind(socket, &link_address(0, protocol, [0; 6])).map_err(failed)?;
            // One that was kept heard what was said while no daemon listened.
            let mut buffer = [0; READ];
            while receive(socket, &mut buffer).is_ok() {}
            self.is_bound[place] = true;
        }
        Ok(true)
    }

    fn listen(
        &mut self,
        wake: BorrowedFd<'_>,
        patience: Option<Duration>,
    ) -> Result<Vec<Heard>, KernelError> {
        let mut heard = Vec::new();
        let discovery = self.discovery.as_ref();
        let mut sockets = vec![
            PollFd::new(wake, PollFlags::POLLIN),
            PollFd::new(self.arp.as_fd(), PollFlags::POLLIN),
        ];
        sockets.extend(discovery.map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        match ppoll(&mut sockets, patience.map(TimeSpec::from_duration), None) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(KernelError::new(Operation::Listen, errno)),
        }
        Self::drain(&self.arp, &mut heard, |packet, _| {
            frames::heard_by_arp(packet)
        })?;
        if let Some(discovery) = discovery {
            Self::drain(discovery, &mut heard, |packet, by| {
                let (floating, speech) = frames::heard_by_discovery(packet)?;
                Some((floating, by, speech))
            })?;
        }
        Ok(heard)
    }
}

/// Where a frame of a protocol goes, or what is to be received: on an interface,
/// or on all by 0.
fn link_address(index: u32, protocol: u16, to: [u8; 6]) -> libc::sockaddr_ll {
    let mut address = [0; 8];
    address[..6].copy_from_slice(&to);
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: address,
    }
}

const ADDRESS_LENGTH: libc::socklen_t = size_of::<libc::sockaddr_ll>() as libc::socklen_t;

#[allow(unsafe_code)]
fn send(socket: &OwnedFd, address: &libc::sockaddr_ll, packet: &[u8]) -> io::Result<()> {
    // SAFETY: the descriptor is open, and both buffers outlive the call, which
    // reads no more of them than the lengths say.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const *address).cast(),
            ADDRESS_LENGTH,
        )
    };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[allow(unsafe_code)]
fn bind(socket: &OwnedFd, address: &libc::sockaddr_ll) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the address outlives the call, which
    // reads no more of it than the length says.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const *address).cast(),
            ADDRESS_LENGTH,
        )
    };
    if bound < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Reads one packet, cut to the buffer, and where it came from.
#[allow(unsafe_code)]
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<(usize, libc::sockaddr_ll)> {
    let mut from = link_address(0, 0, [0; 6]);
    let mut length = ADDRESS_LENGTH;
    // SAFETY: the descriptor is open, and all buffers outlive the call, which
    // writes no more to them than the lengths say; a sockaddr_ll may hold any
    // bytes.
    let read = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            libc::MSG_DONTWAIT,
            (&raw mut from).cast(),
            &raw mut length,
        )
    };
    match usize::try_from(read) {
        Ok(read) => Ok((read, from)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Has the kernel keep from the socket all but advertisements, and solicitations
/// from nobody: those whose source begins with zeros.
#[allow(unsafe_code)]
fn filter(socket: &OwnedFd) -> io::Result<()> {
    const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    // Offsets are those of the IPv6 header and, from 40 on, of ICMPv6.
    let mut program = [
        step(LOAD_BYTE, 6, 0, 0),
        step(IF_EQUAL, ICMPV6.into(), 0, 8),
        step(LOAD_BYTE, 7, 0, 0),
        step(IF_EQUAL, NOT_ROUTED.into(), 0, 6),
        step(LOAD_BYTE, 40, 0, 0),
        step(IF_EQUAL, ADVERTISEMENT.into(), 3, 0),
        step(IF_EQUAL, 135, 0, 3),
        step(LOAD_WORD, 8, 0, 0),
        step(IF_EQUAL, 0, 0, 1),
        step(RETURN, READ as u32, 0, 0),
        step(RETURN, 0, 0, 0),
    ];
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the descriptor is open, and the program and what it points to
    // outlive the call, which copies them.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if set < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
