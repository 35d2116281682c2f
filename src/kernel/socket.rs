//! One netlink socket: send, hear what the kernel says to it, read a dump,
//! listen to notifications.
//!
//! Messages are bytes here; what they mean is left to others. Over neli's
//! `NlSocket`, because its handle and router send one message at a time, read
//! into 32 KiB and lose the kernel's own words. Replies are read without
//! waiting: nf_tables, rtnetlink and ctnetlink queue them before send(2)
//! returns. They may still be lost when the receive buffer is full (`ENOBUFS`);
//! then what became of a request is unknown, and only a fresh look tells.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use neli::consts::nl::{NlType, NlmF, Nlmsg, NlmsgerrAttr};
use neli::consts::socket::{Msg, NlFamily};
use neli::nl::{NlPayload, Nlmsghdr, NlmsghdrBuilder};
use neli::socket::NlSocket;
use neli::utils::Groups;
use neli::{Size, ToBytes};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

use crate::model::Family;

use super::{KernelError, Operation};

/// A batch that loads 100,000 associations has 6 MB, and send(2) takes it whole
/// or not at all (`EMSGSIZE`). This is a limit, not memory.
const SEND_BUFFER: usize = 64 << 20;

/// Room for replies and notifications that wait to be read.
const RECEIVE_BUFFER: usize = 64 << 20;

/// An error repeats the message it is about: 64 KiB and a little more.
const READ_BUFFER: usize = 256 << 10;

/// How often a dump that the kernel calls inconsistent is begun anew.
const DUMP_ATTEMPTS: usize = 10;

/// The length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

/// A netlink socket.
pub(crate) struct Socket {
    socket: NlSocket,
    what: &'static str,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

/// A message of the kernel's that is neither error nor end of dump.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    /// Its type.
    pub(crate) kind: u16,
    /// Its flags.
    pub(crate) flags: NlmF,
    /// The sequence number of the request that it answers or tells about.
    pub(crate) sequence: u32,
    /// The port of the socket that asked, or that caused a notification.
    pub(crate) port: u32,
    /// What follows the header.
    pub(crate) payload: &'a [u8],
}

/// The kernel's no to one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Why.
    pub(crate) errno: i32,
    /// The sequence number of the message.
    pub(crate) sequence: u32,
    /// Where in the message, from the start of its header, the trouble is.
    pub(crate) offset: Option<usize>,
    /// The kernel's own words.
    pub(crate) message: Option<String>,
}

impl Refusal {
    /// As an error of an operation.
    pub(crate) fn of(self, operation: Operation) -> KernelError {
        KernelError {
            operation,
            source: io::Error::from_raw_os_error(self.errno),
            message: self.message,
        }
    }
}

/// What the kernel said to a number of messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    /// The sequence numbers of those that it acknowledged.
    pub(crate) acknowledged: Vec<u32>,
    /// Those that it refused.
    pub(crate) refusals: Vec<Refusal>,
}

/// Whether the error means that replies or notifications were lost, so that
/// nobody knows what became of a request.
pub(crate) fn is_loss(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENOBUFS as i32)
}

impl Socket {
    /// Opens a socket; `what` names it in errors.
    pub(crate) fn open(family: NlFamily, what: &'static str) -> Result<Self, KernelError> {
        let forced = |socket: &NlSocket| {
            let fd = borrow(socket);
            // The FORCE options need CAP_NET_ADMIN, as everything else here does.
            setsockopt(&fd, sockopt::SndBufForce, &SEND_BUFFER)?;
            setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER)
        };
        Self::try_open(family, what, forced)
            .map_err(|error| KernelError::new(Operation::Open(what), error))
    }

    /// Opens a socket for dumps, which anybody may ask for.
    pub(crate) fn open_unprivileged(
        family: NlFamily,
        what: &'static str,
    ) -> Result<Self, KernelError> {
        Self::try_open(family, what, |_| Ok(()))
            .map_err(|error| KernelError::new(Operation::Open(what), error))
    }

    fn try_open(
        family: NlFamily,
        what: &'static str,
        prepare: impl FnOnce(&NlSocket) -> nix::Result<()>,
    ) -> io::Result<Self> {
        let socket = NlSocket::connect(family, None, Groups::empty())?;
        socket.enable_ext_ack(true)?;
        prepare(&socket)?;
        let port = socket.pid()?;
        Ok(Self {
            socket,
            what,
            port,
            sequence: 0,
            buffer: vec![0; READ_BUFFER],
        })
    }

    /// The port number that the kernel gave the socket. Notifications of what
    /// it does carry it.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// The descriptor, to wait for it.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        borrow(&self.socket)
    }

    /// A sequence number that was not used yet. 0 is that of notifications.
    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        self.sequence
    }

    /// Leaves out sequence numbers that a batch used, up to the one after them.
    pub(crate) fn skip_to(&mut self, next: u32) {
        self.sequence = next.wrapping_sub(1);
    }

    /// Sends messages as they are.
    pub(crate) fn send(&self, messages: &[u8]) -> io::Result<()> {
        loop {
            match self.socket.send(messages, Msg::empty()) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends messages and hears all that the kernel says to them. Messages that
    /// are neither acknowledgement nor error go to `each`.
    pub(crate) fn exchange(
        &mut self,
        messages: &[u8],
        mut each: impl FnMut(Message<'_>),
    ) -> io::Result<Answers> {
        let first = sequence_of(messages);
        self.send(messages)?;
        let mut answers = Answers::default();
        while let Some(read) = self.read(Msg::DONTWAIT)? {
            for reply in Replies::new(&self.buffer[..read]) {
                // What an earlier exchange left unread is not about this one.
                if reply.sequence() < first {
                    continue;
                }
                match reply {
                    Reply::Message(message) => each(message),
                    Reply::Acknowledged(sequence) => answers.acknowledged.push(sequence),
                    Reply::Refused(refusal) => answers.refusals.push(refusal),
                    Reply::Done { .. } => {}
                }
            }
        }
        Ok(answers)
    }

    /// Reads a dump. What `each` gathers is begun anew when the kernel says that
    /// something altered what it was listing.
    pub(crate) fn dump<T: NlType + Copy, P: Size + ToBytes + Clone, G: Default>(
        &mut self,
        kind: T,
        payload: &P,
        mut each: impl FnMut(&mut G, Message<'_>),
    ) -> Result<G, KernelError> {
        let failed = |what, error: io::Error| KernelError::new(Operation::Dump(what), error);
        for _ in 0..DUMP_ATTEMPTS {
            let sequence = self.next_sequence();
            let flags = NlmF::REQUEST | NlmF::DUMP;
            let request = message(kind, flags, sequence, payload.clone());
            let mut gathered = G::default();
            let end = self
                .send(&request)
                .and_then(|()| self.read_dump(sequence, |message| each(&mut gathered, message)))
                .map_err(|error| failed(self.what, error))?;
            match end {
                DumpEnd::Whole => return Ok(gathered),
                DumpEnd::Interrupted => {}
                DumpEnd::Refused(refusal) => {
                    return Err(refusal.of(Operation::Dump(self.what)));
                }
            }
        }
        Err(failed(self.what, Errno::EINTR.into()))
    }

    fn read_dump(
        &mut self,
        sequence: u32,
        mut each: impl FnMut(Message<'_>),
    ) -> io::Result<DumpEnd> {
        let mut interrupted = false;
        // Each read makes the kernel queue the next part, so it never blocks.
        while let Some(read) = self.read(Msg::DONTWAIT)? {
            for reply in Replies::new(&self.buffer[..read]) {
                if reply.sequence() != sequence {
                    continue;
                }
                match reply {
                    Reply::Message(message) => {
                        interrupted |= message.flags.contains(NlmF::DUMP_INTR);
                        each(message);
                    }
                    Reply::Refused(refusal) => return Ok(DumpEnd::Refused(refusal)),
                    Reply::Done {
                        interrupted: last, ..
                    } if interrupted || last => {
                        return Ok(DumpEnd::Interrupted);
                    }
                    Reply::Done { .. } | Reply::Acknowledged(_) => return Ok(DumpEnd::Whole),
                }
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// Has the kernel send notifications of these multicast groups.
    pub(crate) fn subscribe(&self, groups: &[u32]) -> Result<(), KernelError> {
        self.socket
            .add_mcast_membership(Groups::new_groups(groups))
            .map_err(|error| KernelError::new(Operation::Open(self.what), error))
    }

    /// Hands over the notifications that are next; waits for one if `wait` and
    /// there is none. Says whether there was any. When some were lost the error
    /// is one that [`is_loss`] knows, once, and the next call goes on.
    pub(crate) fn receive(
        &mut self,
        wait: bool,
        mut each: impl FnMut(Message<'_>),
    ) -> Result<bool, KernelError> {
        let flags = if wait { Msg::empty() } else { Msg::DONTWAIT };
        let read = self
            .read(flags)
            .map_err(|error| KernelError::new(Operation::Watch, error))?;
        let Some(read) = read else {
            return Ok(false);
        };
        for reply in Replies::new(&self.buffer[..read]) {
            if let Reply::Message(message) = reply {
                each(message);
            }
        }
        Ok(true)
    }

    /// Reads one datagram; `None` when there is none and it may not wait.
    fn read(&mut self, flags: Msg) -> io::Result<Option<usize>> {
        loop {
            // With MSG_TRUNC the length is the datagram's, not what fitted.
            match self.socket.recv(&mut self.buffer[..], flags | Msg::TRUNC) {
                Ok((length, _)) if length > self.buffer.len() => {
                    return Err(Errno::EMSGSIZE.into());
                }
                Ok((length, _)) => return Ok(Some(length)),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => return Ok(None),
                    _ => return Err(error),
                },
            }
        }
    }
}

enum DumpEnd {
    Whole,
    Interrupted,
    Refused(Refusal),
}

#[allow(unsafe_code)]
fn borrow(socket: &NlSocket) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open for as long as the socket that it is
    // borrowed from, and the lifetimes are tied.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}

/// The bytes of one message.
pub(crate) fn message<T: NlType, P: Size + ToBytes>(
    kind: T,
    flags: NlmF,
    sequence: u32,
    payload: P,
) -> Vec<u8> {
    let message = header(kind, flags, sequence, NlPayload::Payload(payload));
    let mut bytes = io::Cursor::new(Vec::with_capacity(message.padded_size()));
    message
        .to_bytes(&mut bytes)
        .expect("a vector takes whatever is written to it");
    bytes.into_inner()
}

/// A message with its header.
pub(crate) fn header<T: NlType, P: Size>(
    kind: T,
    flags: NlmF,
    sequence: u32,
    payload: NlPayload<T, P>,
) -> Nlmsghdr<T, P> {
    NlmsghdrBuilder::default()
        .nl_type(kind)
        .nl_flags(flags)
        .nl_seq(sequence)
        .nl_payload(payload)
        .build()
        .expect("type, flags and payload are set")
}

/// One thing that the kernel said.
enum Reply<'a> {
    Message(Message<'a>),
    Acknowledged(u32),
    Refused(Refusal),
    Done { sequence: u32, interrupted: bool },
}

impl Reply<'_> {
    fn sequence(&self) -> u32 {
        match self {
            Reply::Message(message) => message.sequence,
            Reply::Acknowledged(sequence) | Reply::Done { sequence, .. } => *sequence,
            Reply::Refused(refusal) => refusal.sequence,
        }
    }
}

/// The replies in one datagram. What does not add up ends it.
struct Replies<'a> {
    rest: &'a [u8],
}

impl<'a> Replies<'a> {
    fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }
}

impl<'a> Iterator for Replies<'a> {
    type Item = Reply<'a>;

    fn next(&mut self) -> Option<Reply<'a>> {
        loop {
            let length = u32_at(self.rest, 0)? as usize;
            let kind = u16_at(self.rest, 4)?;
            let flags = NlmF::from(u16_at(self.rest, 6)?);
            let sequence = u32_at(self.rest, 8)?;
            let port = u32_at(self.rest, 12)?;
            let payload = self.rest.get(HEADER..length)?;
            self.rest = self.rest.get(aligned(length)..).unwrap_or_default();
            return match Nlmsg::from(kind) {
                Nlmsg::Noop | Nlmsg::Overrun => continue,
                Nlmsg::Error => verdict(payload, flags, sequence),
                // The end of a dump carries an errno as well.
                Nlmsg::Done => match u32_at(payload, 0).map_or(0, u32::cast_signed) {
                    errno if errno < 0 => Some(Reply::Refused(Refusal {
                        errno: -errno,
                        sequence,
                        offset: None,
                        message: words(payload.get(4..).unwrap_or_default()).1,
                    })),
                    _ => Some(Reply::Done {
                        sequence,
                        interrupted: flags.contains(NlmF::DUMP_INTR),
                    }),
                },
                _ => Some(Reply::Message(Message {
                    kind,
                    flags,
                    sequence,
                    port,
                    payload,
                })),
            };
        }
    }
}

/// Reads `struct nlmsgerr`: errno, the message that it is about, and after that
/// the extended acknowledgement.
fn verdict(payload: &[u8], flags: NlmF, sequence: u32) -> Option<Reply<'_>> {
    let errno = u32_at(payload, 0)?.cast_signed();
    if errno == 0 {
        return Some(Reply::Acknowledged(sequence));
    }
    let echoed = if flags.contains(NlmF::CAPPED) {
        HEADER
    } else {
        u32_at(payload, 4)? as usize
    };
    let extended = if flags.contains(NlmF::ACK_TLVS) {
        payload.get(4 + aligned(echoed)..).unwrap_or_default()
    } else {
        &[]
    };
    let (offset, message) = words(extended);
    Some(Reply::Refused(Refusal {
        errno: -errno,
        sequence,
        offset,
        message,
    }))
}

/// Offset and text of an extended acknowledgement.
fn words(extended: &[u8]) -> (Option<usize>, Option<String>) {
    let mut offset = None;
    let mut text = None;
    for (kind, value) in Attributes::new(extended) {
        match NlmsgerrAttr::from(kind) {
            NlmsgerrAttr::Offset => offset = u32_at(value, 0).map(|at| at as usize),
            NlmsgerrAttr::Msg => {
                let value = value.strip_suffix(&[0]).unwrap_or(value);
                text = Some(String::from_utf8_lossy(value).into_owned());
            }
            _ => {}
        }
    }
    (offset, text)
}

/// The attributes of a message, each with its type. What does not add up ends
/// them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// The attributes that lie one after the other in `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.rest, 0)?);
        // NLA_F_NESTED and NLA_F_NET_BYTEORDER are no part of the type.
        let kind = u16_at(self.rest, 2)? & 0x3fff;
        let value = self.rest.get(4..length)?;
        self.rest = self.rest.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// The bytes of an attribute of a few words.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("our attributes are short");
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(aligned(bytes.len()), 0);
    bytes
}

/// `AF_INET` or `AF_INET6`, as one byte.
pub(super) fn address_family(family: Family) -> u8 {
    match family {
        Family::V4 => libc::AF_INET as u8,
        Family::V6 => libc::AF_INET6 as u8,
    }
}

/// The family of such a number.
pub(super) fn family_of(number: u8) -> Option<Family> {
    Family::BOTH
        .into_iter()
        .find(|family| address_family(*family) == number)
}

/// Rounded up to the alignment of messages and attributes.
pub(crate) fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn sequence_of(messages: &[u8]) -> u32 {
    u32_at(messages, 8).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the kernel answers to a message of 20 bytes with number 9.
    fn refusal(flags: NlmF, extended: &[u8]) -> Vec<u8> {
        let mut asked = message(0x0a00_u16, NlmF::REQUEST, 9, 0_u32);
        if flags.contains(NlmF::CAPPED) {
            asked.truncate(HEADER);
        }
        let mut bytes = Vec::new();
        let length = u32::try_from(HEADER + 4 + asked.len() + extended.len()).unwrap();
        bytes.extend(length.to_ne_bytes());
        bytes.extend(u16::from(Nlmsg::Error).to_ne_bytes());
        bytes.extend(flags.bits().to_ne_bytes());
        bytes.extend(9_u32.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend((-17_i32).to_ne_bytes());
        bytes.extend(asked);
        bytes.extend(extended);
        bytes
    }

    #[test]
    fn a_refusal_keeps_errno_offset_and_words() {
        let mut extended = Vec::new();
        extended.extend([8, 0, 2, 0, 40, 0, 0, 0]);
        extended.extend([10, 0, 1, 0]);
        extended.extend(b"Sorry\0\0\0");
        let full = Refusal {
            errno: 17,
            sequence: 9,
            offset: Some(40),
            message: Some("Sorry".into()),
        };
        let bare = Refusal {
            offset: None,
            message: None,
            ..full.clone()
        };
        for (flags, extended, expected) in [
            (NlmF::ACK_TLVS, &extended[..], &full),
            (NlmF::ACK_TLVS | NlmF::CAPPED, &extended, &full),
            (NlmF::empty(), &[], &bare),
            (NlmF::CAPPED, &[], &bare),
        ] {
            let datagram = refusal(flags, extended);
            let refusals: Vec<_> = Replies::new(&datagram)
                .map(|reply| match reply {
                    Reply::Refused(refusal) => refusal,
                    _ => panic!("it is a refusal"),
                })
                .collect();
            assert_eq!(refusals, std::slice::from_ref(expected), "{flags:?}");
        }
    }

    #[test]
    fn a_datagram_with_several_replies_gives_all_of_them() {
        let mut datagram = message(0x0a00_u16, NlmF::MULTI, 1, 5_u32);
        datagram.extend(refusal(NlmF::empty(), &[]));
        datagram.extend(message(u16::from(Nlmsg::Done), NlmF::MULTI, 3, 0_u32));
        let sequences: Vec<_> = Replies::new(&datagram)
            .map(|reply| reply.sequence())
            .collect();
        assert_eq!(sequences, [1, 9, 3]);
    }

    proptest! {
        #[test]
        fn no_bytes_whatever_make_reading_panic_or_hang(
            bytes in proptest::collection::vec(0_u8..40, 0..200),
        ) {
            let replies = Replies::new(&bytes).count();
            prop_assert!(replies <= bytes.len() / HEADER);
            let attributes = Attributes::new(&bytes).count();
            prop_assert!(attributes <= bytes.len() / 4);
        }
    }
}
