//! The journal, through tracing-journald.
//!
//! Its layer sends on a socket that waits: a journald that hangs would stop the
//! daemon at its eleventh record, SIGTERM included (net.unix.max_dgram_qlen is
//! 10; systemd sets 512). So records queue up here, up to [`BACKLOG`], and a
//! thread that may wait has the layer write them, as events whose fields have
//! the public names. What is more is lost and counted, and a record says how
//! many are missing.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tracing::{Dispatch, Level, dispatcher};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

use super::AGAIN;
use super::outlet::BACKLOG;
use super::record::Record;

/// Where journald listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// What waits for journald.
#[derive(Debug)]
pub(super) struct Journal {
    /// The name of this program.
    identifier: &'static str,
    /// For looking whether somebody listens.
    probe: UnixDatagram,
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<Record>,
    bytes: usize,
    lost: u64,
    /// Whether one is under way that is not among these any more.
    is_sending: bool,
    has_thread: bool,
}

/// What is to be written next.
enum Next {
    Record(Record),
    /// So many are missing.
    Gap(u64),
}

impl Journal {
    pub(super) fn new(identifier: &'static str) -> io::Result<Self> {
        let probe = UnixDatagram::unbound()?;
        probe.set_nonblocking(true)?;
        Ok(Self {
            identifier,
            probe,
            waiting: Mutex::default(),
            more: Condvar::new(),
        })
    }

    /// Whether somebody listens, by a record without fields, which journald
    /// passes over.
    pub(super) fn probe(&self) -> io::Result<()> {
        match self.probe.send_to(&[], Path::new(SOCKET)) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Has a record written when its turn comes. Never waits.
    pub(super) fn send(&self, record: Record) {
        let mut waiting = self.lock();
        let size = record.size();
        // What comes after a gap waits until the gap is told.
        if waiting.lost > 0 || waiting.bytes + size > BACKLOG {
            waiting.lost += 1;
        } else {
            waiting.bytes += size;
            waiting.records.push_back(record);
        }
        self.more.notify_one();
    }

    /// Whether all is written.
    pub(super) fn is_idle(&self) -> bool {
        let waiting = self.lock();
        waiting.records.is_empty() && waiting.lost == 0 && !waiting.is_sending
    }

    /// Starts the thread that writes, once.
    pub(super) fn start(&'static self) -> io::Result<()> {
        if !std::mem::replace(&mut self.lock().has_thread, true) {
            thread::Builder::new()
                .name("journal".into())
                .spawn(|| self.run())?;
        }
        Ok(())
    }

    fn run(&self) {
        let mut layer = None;
        loop {
            let next = self.next();
            // The layer passes over that nobody listens, and over all else that
            // can go wrong; so nothing is given to it before somebody does.
            while self.probe().is_err() {
                thread::sleep(AGAIN);
            }
            let layer = layer.get_or_insert_with(|| dispatch(self.identifier));
            dispatcher::with_default(layer, || match &next {
                Next::Record(record) => Entry::of(record).emit(),
                Next::Gap(lost) => Entry::gap(&lost.to_string()).emit(),
            });
            self.lock().is_sending = false;
        }
    }

    fn next(&self) -> Next {
        let mut waiting = self.lock();
        loop {
            if let Some(record) = waiting.records.pop_front() {
                waiting.bytes -= record.size();
                waiting.is_sending = true;
                return Next::Record(record);
            }
            if waiting.lost > 0 {
                waiting.is_sending = true;
                return Next::Gap(std::mem::take(&mut waiting.lost));
            }
            waiting = self
                .more
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing between taking and giving back the lock can leave it half done.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The target of the events that the layer is given, which is in the journal as
/// well. It sees none of our modules', so that what is not logged costs as little
/// as without it.
const TARGET: &str = "ipfloaterd";

/// The layer, by itself.
fn dispatch(identifier: &str) -> Dispatch {
    loop {
        if let Ok(layer) = tracing_journald::layer() {
            let layer = layer
                .with_field_prefix(None)
                .with_syslog_identifier(identifier.to_owned())
                .with_filter(Targets::new().with_target(TARGET, LevelFilter::TRACE));
            return Dispatch::new(Registry::default().with(layer));
        }
        // It was there a moment ago.
        thread::sleep(AGAIN);
    }
}

/// A record as an event of tracing, whose fields must be known beforehand.
#[derive(Debug)]
struct Entry<'a> {
    priority: u8,
    message: String,
    message_id: Option<&'a str>,
    fields: Vec<(&'a str, &'a str)>,
}

impl<'a> Entry<'a> {
    fn of(record: &'a Record) -> Self {
        let fields = record.fields.iter().filter(|_| record.is_ours);
        Self {
            priority: record.priority,
            message: if record.is_audit {
                record.message.clone()
            } else {
                record.line()
            },
            message_id: record.message_id.as_deref(),
            fields: fields
                .map(|(name, value)| (*name, value.as_str()))
                .collect(),
        }
    }

    fn gap(lost: &'a str) -> Self {
        Self {
            priority: 4,
            message: format!("{lost} records of the log are missing here: the journal took none"),
            message_id: None,
            fields: vec![("lost", lost)],
        }
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        let field = self.fields.iter().find(|(field, _)| *field == name);
        field.map(|(_, value)| *value)
    }

    /// Has the dispatch of this thread write it. The levels are those that the
    /// layer has the priority for.
    fn emit(&self) {
        // ipfloaterd(8) has these names; other fields are in the message.
        macro_rules! emit {
            ($level:ident) => {
                tracing::event!(
                    target: TARGET,
                    Level::$level,
                    MESSAGE_ID = self.message_id,
                    IPFLOATER_VERB = self.value("verb"),
                    IPFLOATER_FLOATING_IP = self.value("floating_ip"),
                    IPFLOATER_FIXED_ADDRESS = self.value("fixed_address"),
                    IPFLOATER_PREVIOUS_FIXED_ADDRESS = self.value("previous_fixed_address"),
                    IPFLOATER_POOL = self.value("pool"),
                    IPFLOATER_OWNER = self.value("owner"),
                    IPFLOATER_UID = self.value("uid"),
                    IPFLOATER_CALLER = self.value("caller"),
                    IPFLOATER_VIA = self.value("via"),
                    IPFLOATER_REVISION = self.value("revision"),
                    IPFLOATER_SEQUENCE = self.value("sequence"),
                    IPFLOATER_OUTCOME = self.value("outcome"),
                    IPFLOATER_ERROR = self.value("error"),
                    IPFLOATER_SUPPRESSED = self.value("suppressed"),
                    IPFLOATER_LOST = self.value("lost"),
                    "{}",
                    self.message
                )
            };
        }
        match self.priority {
            ..=3 => emit!(ERROR),
            4 => emit!(WARN),
            5 => emit!(INFO),
            6 => emit!(DEBUG),
            7.. => emit!(TRACE),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::logging::record::tests::records;

    /// What the journal gets of what is logged meanwhile, as events that another
    /// layer reads: names, values, and the message last.
    pub(crate) fn entries(work: impl FnOnce()) -> Vec<String> {
        let records = records(work);
        let emitted = self::records_of(&records);
        let text = |(record, priority): (Record, u8)| {
            let mut text = format!("PRIORITY={priority}\n");
            if let Some(id) = record.fields.iter().find(|(name, _)| *name == "MESSAGE_ID") {
                text += &format!("MESSAGE_ID={}\n", id.1);
            }
            for (name, value) in &record.fields {
                if *name != "MESSAGE_ID" {
                    text += &format!("{name}={value}\n");
                }
            }
            text + &format!("MESSAGE={}\n", record.message)
        };
        emitted.into_iter().map(text).collect()
    }

    fn records_of(originals: &[Record]) -> Vec<(Record, u8)> {
        let emitted = records(|| originals.iter().for_each(|record| Entry::of(record).emit()));
        let priorities = originals.iter().map(|record| record.priority);
        emitted.into_iter().zip(priorities).collect()
    }

    #[test]
    fn our_fields_have_public_names_and_absent_ones_none() {
        let entries = entries(|| {
            tracing::warn!(
                uid = 1000,
                floating_ip = None::<&str>,
                error = "no space",
                unheard_of = 1,
                "stopped"
            );
        });
        assert_eq!(
            entries,
            ["PRIORITY=4\n\
              IPFLOATER_UID=1000\n\
              IPFLOATER_ERROR=no space\n\
              MESSAGE=stopped uid=1000 error=\"no space\" unheard_of=1\n"]
        );
    }

    #[test]
    fn the_fields_of_others_cannot_be_taken_for_ours() {
        let entries = entries(|| tracing::error!(target: "zbus", uid = 0, "hm"));
        assert_eq!(entries, ["PRIORITY=3\nMESSAGE=hm uid=0\n"]);
    }

    #[test]
    fn what_does_not_fit_is_counted_and_told_before_anything_else() {
        let journal = Journal::new("ipfloater-test").unwrap();
        let large = "x".repeat(4_000);
        let many = BACKLOG / 4_000 + 10;
        for _ in 0..many {
            records(|| tracing::info!("{large}"))
                .into_iter()
                .for_each(|record| journal.send(record));
        }
        let mut kept = 0;
        let lost = loop {
            match journal.next() {
                Next::Record(_) => kept += 1,
                Next::Gap(lost) => break lost,
            }
        };
        assert!(lost >= 10, "{lost}");
        assert_eq!(kept + lost, many as u64);
    }
}
