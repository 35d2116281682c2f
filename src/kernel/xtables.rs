//! The chains of iptables-legacy, as far as their names.
//!
//! The older backend of iptables keeps whole tables in the kernel, which are
//! read and replaced by socket options (`linux/netfilter_ipv4/ip_tables.h`).
//! Here they are only read. Those that are there /proc/net/ip_tables_names
//! tells; asking for another would load its module.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;

use super::{KernelError, Operation};

/// Where the kernel tells the tables that are there, in this network namespace.
const NAMES: &str = "/proc/thread-self/net/ip_tables_names";

/// `XT_TABLE_MAXNAMELEN`, the length of the name of a table with its NUL.
const NAME: usize = 32;

/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;

/// The length of `struct ipt_getinfo`, and where its last field is: the length of
/// the table.
const INFO: usize = 84;
const INFO_SIZE: usize = 80;

/// The length of `struct ipt_get_entries` without entries, which are aligned to
/// the 8 bytes of a counter.
const ENTRIES: usize = 40;

/// Where `struct ipt_entry` has the offsets of its target and of the next entry,
/// and how long it is without matches and target.
const TARGET_OFFSET: usize = 88;
const NEXT_OFFSET: usize = 90;
const ENTRY: usize = 112;

/// `struct xt_entry_target`: its length, and where its name is. What the name
/// says follows.
const TARGET: usize = 32;
const TARGET_NAME: usize = 2;

/// `XT_ERROR_TARGET`: the first entry of a chain of one's own is one of this
/// name, and says the name of the chain. So does the last entry of a table.
const ERROR: &[u8] = b"ERROR";

/// How often a table is read that grew between asking how long it is and
/// reading it.
const ATTEMPTS: usize = 10;

/// The tables of iptables-legacy that are there, with the names of the chains in
/// each that somebody made. Needs CAP_NET_ADMIN.
pub(super) fn chains() -> Result<Vec<(String, Vec<String>)>, KernelError> {
    let failed = |error: io::Error| KernelError::new(Operation::Dump("iptables-legacy"), error);
    let names = match std::fs::read_to_string(NAMES) {
        Ok(names) => names,
        // Without the module there is no such file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    // Any socket of IPv4 will do; nothing is sent.
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(failed)?;
    let mut tables = Vec::new();
    for table in names.lines().filter(|name| name.len() < NAME) {
        let entries = entries(&socket, table).map_err(failed)?;
        tables.push((table.to_owned(), names_in(&entries)));
    }
    Ok(tables)
}

/// The entries of a table.
fn entries(socket: &UdpSocket, table: &str) -> io::Result<Vec<u8>> {
    let named = |length| {
        let mut buffer = vec![0; length];
        buffer[..table.len()].copy_from_slice(table.as_bytes());
        buffer
    };
    let socket = std::os::fd::AsFd::as_fd(socket);
    for _ in 0..ATTEMPTS {
        let mut info = named(INFO);
        option(socket, GET_INFO, &mut info)?;
        let size = &info[INFO_SIZE..];
        let length = u32::from_ne_bytes(size.try_into().expect("there are four bytes"));
        let mut buffer = named(ENTRIES + length as usize);
        buffer[NAME..NAME + 4].copy_from_slice(size);
        match option(socket, GET_ENTRIES, &mut buffer) {
            Ok(()) => return Ok(buffer.split_off(ENTRIES)),
            // EAGAIN: it has another length by now.
            Err(Errno::EAGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(Errno::EAGAIN.into())
}

/// Reads an option of IPv4 into a buffer, which says what is wanted.
#[allow(unsafe_code)]
fn option(socket: BorrowedFd<'_>, name: libc::c_int, buffer: &mut [u8]) -> nix::Result<()> {
    let mut length = libc::socklen_t::try_from(buffer.len()).map_err(|_| Errno::EMSGSIZE)?;
    // SAFETY: the kernel writes at most `length` bytes to the buffer, which has as
    // many and is ours alone; any bytes are a valid content of it.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            name,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    Errno::result(result).map(drop)
}

/// The names of the chains whose beginnings are among the entries. What does not
/// add up ends them.
fn names_in(mut entries: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(length) = u16_at(entries, NEXT_OFFSET).filter(|length| *length >= ENTRY) {
        let Some(entry) = entries.get(..length) else {
            break;
        };
        names.extend(name_in(entry));
        entries = &entries[length..];
    }
    // That of the table's end, which is called ERROR itself.
    names.retain(|name| name.as_bytes() != ERROR);
    names
}

fn name_in(entry: &[u8]) -> Option<String> {
    let target = entry.get(u16_at(entry, TARGET_OFFSET)?..)?;
    let (head, said) = target.split_at_checked(TARGET)?;
    let is_beginning = text(&head[TARGET_NAME..]) == ERROR;
    is_beginning.then(|| String::from_utf8_lossy(text(said)).into_owned())
}

/// The bytes before the first NUL.
fn text(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0);
    &bytes[..end.unwrap_or(bytes.len())]
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(target: &str, said: &str) -> Vec<u8> {
        let mut entry = vec![0; ENTRY + TARGET + 32];
        let length = u16::try_from(entry.len()).unwrap();
        let offset = u16::try_from(ENTRY).unwrap();
        entry[TARGET_OFFSET..NEXT_OFFSET].copy_from_slice(&offset.to_ne_bytes());
        entry[NEXT_OFFSET..NEXT_OFFSET + 2].copy_from_slice(&length.to_ne_bytes());
        let name = ENTRY + TARGET_NAME;
        entry[name..name + target.len()].copy_from_slice(target.as_bytes());
        let word = ENTRY + TARGET;
        entry[word..word + said.len()].copy_from_slice(said.as_bytes());
        entry
    }

    #[test]
    fn chains_are_known_by_their_first_entries() {
        let table = [
            entry("DNAT", "ipfloater-OUTPUT"),
            entry("ERROR", "ipfloater-PREROUTING"),
            entry("", ""),
            entry("ERROR", "ipfl-rule-ab12ef-POSTROUTING"),
            entry("ERROR", "ERROR"),
        ];
        assert_eq!(
            names_in(&table.concat()),
            ["ipfloater-PREROUTING", "ipfl-rule-ab12ef-POSTROUTING"]
        );
    }

    proptest! {
        #[test]
        fn no_bytes_whatever_make_reading_panic_or_hang(
            bytes in proptest::collection::vec(0_u8..130, 0..600),
        ) {
            prop_assert!(names_in(&bytes).len() <= bytes.len() / ENTRY);
        }
    }
}
