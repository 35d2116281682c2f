//! The chains of iptables-legacy.
//!
//! The older backend of iptables keeps whole tables in the kernel, which are read
//! and replaced by socket options (`linux/netfilter_ipv4/ip_tables.h`). A table is
//! one run of entries, each as long as it says: rules, and heads of chains. A rule
//! that leads to a chain says where that begins, counted from the first entry, so
//! nothing can be taken out without counting anew. Those that are there
//! /proc/net/ip_tables_names tells; asking for another would load its module.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;

use crate::lock::Lock;

use super::{KernelError, Operation};

/// Where the kernel tells the tables that are there, in this network namespace.
const NAMES: &str = "/proc/thread-self/net/ip_tables_names";

/// What iptables locks while it alters a table, and how long that is waited for.
const LOCK: &str = "/run/xtables.lock";
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

/// `XT_TABLE_MAXNAMELEN`, the length of the name of a table with its NUL.
const NAME: usize = 32;

/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;

/// `IPT_SO_SET_REPLACE` and `IPT_SO_SET_ADD_COUNTERS`.
const SET_REPLACE: libc::c_int = 64;
const SET_ADD_COUNTERS: libc::c_int = 65;

/// `struct ipt_getinfo`, all of whose fields are four bytes long behind the name:
/// its length, and where it has the hooks that the table is at, the five places
/// where these begin, the five of their policies, and the number and the length
/// of the entries.
const INFO: usize = 84;
const INFO_HOOKS: usize = 32;
const INFO_PLACES: usize = 36;
const INFO_NUMBER: usize = 76;
const INFO_SIZE: usize = 80;

/// `NF_INET_NUMHOOKS`.
const HOOKS: usize = 5;

/// The length of `struct ipt_get_entries` without entries, which are aligned to
/// the 8 bytes of a counter; and that of `struct xt_counters_info` without
/// counters.
const ENTRIES: usize = 40;

/// `struct xt_counters`: packets and bytes.
const COUNTERS: usize = 16;

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

/// `XT_STANDARD_TARGET`: says where to go on, or as a negative number what becomes
/// of the packet.
const STANDARD: &[u8] = b"";

/// How often a table is read that somebody else altered meanwhile.
const ATTEMPTS: usize = 10;

/// The tables that are there. Needs CAP_NET_ADMIN.
pub(super) fn tables() -> Result<Vec<Table>, KernelError> {
    let failed = |error: io::Error| KernelError::new(Operation::Dump("iptables-legacy"), error);
    let socket = socket().map_err(failed)?;
    let mut tables = Vec::new();
    for name in names().map_err(failed)? {
        tables.push(Table::read(&socket, &name).map_err(failed)?);
    }
    Ok(tables)
}

/// Removes the chains that go, of which the table and the name are asked, with the
/// rules that lead to them: of each table all or nothing. Needs CAP_NET_ADMIN.
pub(super) fn remove(goes: impl Fn(&str, &str) -> bool) -> Result<(), KernelError> {
    let failed = |table: &str, error: io::Error| {
        let what = format!("the chains of the original from table {table} of iptables-legacy");
        KernelError::new(Operation::Clear(what), error)
    };
    let begin = || Ok((lock()?, socket()?, names()?));
    let (_lock, socket, names) = begin().map_err(|error| failed("nat", error))?;
    for name in names {
        let goes = |chain: &str| goes(&name, chain);
        remove_from(&socket, &name, goes).map_err(|error| failed(&name, error))?;
    }
    Ok(())
}

fn remove_from(socket: &UdpSocket, name: &str, goes: impl Fn(&str) -> bool) -> io::Result<()> {
    for _ in 0..ATTEMPTS {
        let table = Table::read(socket, name)?;
        let Some(rest) = table.without(&goes)? else {
            return Ok(());
        };
        match rest.put(socket, &table) {
            // It has another number of entries by now.
            Err(Errno::EAGAIN) => {}
            result => return Ok(result?),
        }
    }
    Err(Errno::EAGAIN.into())
}

/// So that iptables does not alter what we are altering.
fn lock() -> io::Result<Lock> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Lock::take(Path::new(LOCK)) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                sleep(LOOK);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let why = format!("another program holds {LOCK}");
                return Err(io::Error::new(error.kind(), why));
            }
            result => return result,
        }
    }
}

/// Any socket of IPv4 will do; nothing is sent.
fn socket() -> io::Result<UdpSocket> {
    UdpSocket::bind("0.0.0.0:0")
}

fn names() -> io::Result<Vec<String>> {
    match std::fs::read_to_string(NAMES) {
        Ok(names) => Ok(names.lines().map(str::to_owned).collect()),
        // Without the module there is no such file.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// A table as the kernel tells it.
pub(super) struct Table {
    /// Its name.
    pub(super) name: String,
    info: Vec<u8>,
    entries: Vec<u8>,
}

impl Table {
    fn read(socket: &UdpSocket, name: &str) -> io::Result<Self> {
        for _ in 0..ATTEMPTS {
            let mut info = named(name, INFO)?;
            get(socket, GET_INFO, &mut info)?;
            let size = &info[INFO_SIZE..];
            let mut buffer = named(name, ENTRIES + number(size) as usize)?;
            buffer[NAME..NAME + 4].copy_from_slice(size);
            match get(socket, GET_ENTRIES, &mut buffer) {
                Ok(()) => {
                    return Ok(Self {
                        name: name.to_owned(),
                        info,
                        entries: buffer.split_off(ENTRIES),
                    });
                }
                // It has another length by now.
                Err(Errno::EAGAIN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Errno::EAGAIN.into())
    }

    /// The names of the chains that somebody made.
    pub(super) fn chains(&self) -> Vec<String> {
        entries_of(&self.entries)
            .filter_map(|entry| entry.head())
            .filter(|name| name.as_bytes() != ERROR)
            .collect()
    }

    /// The rules that lead from elsewhere to the chains that go, each by the chain
    /// that has it; `None` is one of iptables itself, which all come first.
    pub(super) fn jumps(&self, goes: impl Fn(&str) -> bool) -> Vec<Option<String>> {
        let (mut chain, mut jumps) = (None, Vec::new());
        for Fate {
            entry, leads_there, ..
        } in Fates::of(&self.entries, goes).0
        {
            chain = entry.head().or(chain);
            if leads_there {
                jumps.push(chain.clone());
            }
        }
        jumps
    }

    /// The table without the chains that go; `None` when there are none of them.
    fn without(&self, goes: impl Fn(&str) -> bool) -> io::Result<Option<Rest>> {
        let strange = || io::Error::new(ErrorKind::InvalidData, "the table is not understood");
        let Fates(fates) = Fates::of(&self.entries, goes);
        let length: usize = fates.iter().map(|fate| fate.entry.bytes.len()).sum();
        let count = number(&self.info[INFO_NUMBER..INFO_NUMBER + 4]) as usize;
        if length != self.entries.len() || fates.len() != count {
            return Err(strange());
        }
        if fates.iter().all(Fate::stays) {
            return Ok(None);
        }

        // What leads to an entry that goes leads to the next one that stays.
        let (mut places, mut at) = (HashMap::new(), 0);
        for fate in &fates {
            places.insert(fate.entry.at, at);
            if fate.stays() {
                at += fate.entry.bytes.len();
            }
        }
        let place = |old: usize| -> io::Result<[u8; 4]> {
            let new = places.get(&old).and_then(|new| u32::try_from(*new).ok());
            Ok(new.ok_or_else(strange)?.to_ne_bytes())
        };
        let mut rest = Rest {
            hooks: self.info[INFO_PLACES..INFO_NUMBER].to_vec(),
            entries: Vec::with_capacity(at),
            stay: Vec::new(),
        };
        let hooks = number(&self.info[INFO_HOOKS..INFO_PLACES]);
        for (index, place_of) in rest.hooks.chunks_exact_mut(4).enumerate() {
            // First the beginnings, then the policies.
            if hooks & 1 << (index % HOOKS) != 0 {
                place_of.copy_from_slice(&place(number(place_of) as usize)?);
            }
        }
        for (index, Fate { entry, .. }) in fates.iter().enumerate().filter(|(_, f)| f.stays()) {
            let begin = rest.entries.len();
            rest.entries.extend_from_slice(entry.bytes);
            if let Some(to) = entry.leads_to() {
                let says = begin + entry.target().expect("it was there") + TARGET;
                rest.entries[says..says + 4].copy_from_slice(&place(to)?);
            }
            rest.stay.push(index);
        }
        Ok(Some(rest))
    }
}

/// What stays of a table.
#[derive(Debug)]
struct Rest {
    /// Where the hooks begin, and their policies.
    hooks: Vec<u8>,
    entries: Vec<u8>,
    /// The numbers that the entries had.
    stay: Vec<usize>,
}

impl Rest {
    /// Has the kernel take this in the place of the table, with the counters that
    /// the entries had until then.
    fn put(&self, socket: &UdpSocket, table: &Table) -> nix::Result<()> {
        let too_many = |_| Errno::EMSGSIZE;
        let count = u32::try_from(self.stay.len()).map_err(too_many)?;
        let size = u32::try_from(self.entries.len()).map_err(too_many)?;
        let number_before = &table.info[INFO_NUMBER..INFO_SIZE];
        let mut counters = vec![0_u8; number(number_before) as usize * COUNTERS];

        // struct ipt_replace: name, hooks, number and length of the entries, where
        // the hooks begin and their policies, and the number of the counters of
        // the table before, with the place where the kernel writes them.
        let mut replace = table.info[..INFO_PLACES].to_vec();
        replace.extend(count.to_ne_bytes());
        replace.extend(size.to_ne_bytes());
        replace.extend(&self.hooks);
        replace.extend(number_before);
        replace.extend((counters.as_mut_ptr() as usize).to_ne_bytes());
        replace.extend(&self.entries);
        // `counters` is as long as the number of them in `replace` says, and lives
        // on.
        set(socket, SET_REPLACE, &replace)?;

        // The new entries count from nothing.
        let mut add = named(&table.name, ENTRIES)?;
        add[NAME..NAME + 4].copy_from_slice(&count.to_ne_bytes());
        for index in &self.stay {
            add.extend(&counters[index * COUNTERS..][..COUNTERS]);
        }
        set(socket, SET_ADD_COUNTERS, &add)
    }
}

/// What becomes of every entry.
struct Fates<'a>(Vec<Fate<'a>>);

struct Fate<'a> {
    entry: Entry<'a>,
    /// Whether its chain goes.
    goes: bool,
    /// Whether it stands elsewhere and leads to a chain that goes.
    leads_there: bool,
}

impl Fate<'_> {
    fn stays(&self) -> bool {
        !self.goes && !self.leads_there
    }
}

impl<'a> Fates<'a> {
    fn of(entries: &'a [u8], goes: impl Fn(&str) -> bool) -> Self {
        let mut chain_goes = false;
        let mut fates: Vec<_> = entries_of(entries)
            .map(|entry| {
                // What is behind a head is its chain, up to the next head.
                if let Some(name) = entry.head() {
                    chain_goes = name.as_bytes() != ERROR && goes(&name);
                }
                Fate {
                    entry,
                    goes: chain_goes,
                    leads_there: false,
                }
            })
            .collect();
        let going = fates.iter().filter(|fate| fate.goes);
        let going: std::collections::HashSet<_> = going.map(|fate| fate.entry.at).collect();
        for fate in &mut fates {
            let leads_there = fate.entry.leads_to().is_some_and(|to| going.contains(&to));
            fate.leads_there = leads_there && !fate.goes;
        }
        Self(fates)
    }
}

/// A rule, or the head of a chain.
struct Entry<'a> {
    /// Where it is.
    at: usize,
    bytes: &'a [u8],
}

impl Entry<'_> {
    /// Where its target is.
    fn target(&self) -> Option<usize> {
        let at = u16_at(self.bytes, TARGET_OFFSET)?;
        (self.bytes.len() >= at + TARGET).then_some(at)
    }

    /// What its target says, if it is of this kind.
    fn says(&self, kind: &[u8]) -> Option<&[u8]> {
        let (target, said) = self.bytes[self.target()?..].split_at(TARGET);
        (text(&target[TARGET_NAME..]) == kind).then_some(said)
    }

    /// The name of the chain that it is the head of.
    fn head(&self) -> Option<String> {
        let name = self.says(ERROR)?;
        Some(String::from_utf8_lossy(text(name)).into_owned())
    }

    /// Where it is gone on, if it says that.
    fn leads_to(&self) -> Option<usize> {
        let verdict = self.says(STANDARD)?.first_chunk()?;
        usize::try_from(i32::from_ne_bytes(*verdict)).ok()
    }
}

/// The entries one by one. What does not add up ends them.
fn entries_of(entries: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = &entries[at..];
        let length = u16_at(rest, NEXT_OFFSET).filter(|length| *length >= ENTRY)?;
        let entry = Entry {
            at,
            bytes: rest.get(..length)?,
        };
        at += length;
        Some(entry)
    })
}

/// A buffer of this length that begins with the name of a table.
fn named(table: &str, length: usize) -> nix::Result<Vec<u8>> {
    if table.len() >= NAME {
        return Err(Errno::ENAMETOOLONG);
    }
    let mut buffer = vec![0; length];
    buffer[..table.len()].copy_from_slice(table.as_bytes());
    Ok(buffer)
}

/// Reads an option of IPv4 into a buffer, which says what is wanted.
#[allow(unsafe_code)]
fn get(socket: &UdpSocket, name: libc::c_int, buffer: &mut [u8]) -> nix::Result<()> {
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

/// Sets an option of IPv4.
#[allow(unsafe_code)]
fn set(socket: &UdpSocket, name: libc::c_int, value: &[u8]) -> nix::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(|_| Errno::EMSGSIZE)?;
    // SAFETY: the kernel reads `length` bytes, which is how many there are. With
    // SET_REPLACE it writes counters to where the value says; the only caller
    // gives the beginning of a buffer of its own that has room for as many as the
    // value says, and that nobody else looks at meanwhile.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            name,
            value.as_ptr().cast(),
            length,
        )
    };
    Errno::result(result).map(drop)
}

/// The bytes before the first NUL.
fn text(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0);
    &bytes[..end.unwrap_or(bytes.len())]
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes(bytes.try_into().expect("there are four bytes"))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?).into())
}

#[cfg(test)]
mod tests;
