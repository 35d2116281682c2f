//! A way out of the process that may be blocked, and stalls nobody: stderr.
//!
//! A record is offered at once, without waiting. What is not taken queues up,
//! in order, up to [`BACKLOG`]; what is more is lost, and counted: when the way
//! is free again, a record says how many.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many bytes may wait: some six thousand records.
pub(super) const BACKLOG: usize = 4 * 1024 * 1024;

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// It is out.
    Taken,
    /// Not now.
    Later,
    /// Not ever.
    Never,
}

/// Where records go.
pub(super) trait Sink: Send + Sync {
    /// Takes a record if that is possible without waiting.
    fn offer(&self, record: &[u8]) -> Offer;

    /// The record which says that so many are missing.
    fn gap(&self, lost: u64) -> Vec<u8>;
}

/// A sink, and what waits for it.
pub(super) struct Outlet<S> {
    sink: S,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<Vec<u8>>,
    bytes: usize,
    lost: u64,
}

impl<S: Sink> Outlet<S> {
    pub(super) fn new(sink: S) -> Self {
        Self {
            sink,
            waiting: Mutex::default(),
        }
    }

    /// Sends a record, now or when it is possible. False means that something
    /// waits.
    pub(super) fn send(&self, record: Vec<u8>) -> bool {
        let mut waiting = self.lock();
        if self.drain(&mut waiting) {
            match self.sink.offer(&record) {
                Offer::Taken => return true,
                Offer::Never => {
                    waiting.lost += 1;
                    return false;
                }
                Offer::Later => {}
            }
        }
        // What comes after a gap waits until the gap is told.
        if waiting.lost > 0 || waiting.bytes + record.len() > BACKLOG {
            waiting.lost += 1;
        } else {
            waiting.bytes += record.len();
            waiting.records.push_back(record);
        }
        false
    }

    /// Sends what waits, as far as that is possible. True means that nothing
    /// waits any more.
    pub(super) fn flush(&self) -> bool {
        self.drain(&mut self.lock())
    }

    fn drain(&self, waiting: &mut Waiting) -> bool {
        while let Some(record) = waiting.records.front() {
            match self.sink.offer(record) {
                Offer::Taken => {}
                Offer::Never => waiting.lost += 1,
                Offer::Later => return false,
            }
            waiting.bytes -= record.len();
            waiting.records.pop_front();
        }
        if waiting.lost > 0 {
            match self.sink.offer(&self.sink.gap(waiting.lost)) {
                // A way that takes not even this is closed, and nobody is there
                // to be told.
                Offer::Taken | Offer::Never => waiting.lost = 0,
                Offer::Later => return false,
            }
        }
        true
    }

    /// Nothing between taking and giving back the lock can leave it half done.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn sink(&self) -> &S {
        &self.sink
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes as many records as it has room for.
    #[derive(Default)]
    struct Bucket {
        room: Mutex<usize>,
        taken: Mutex<Vec<String>>,
    }

    impl Sink for Bucket {
        fn offer(&self, record: &[u8]) -> Offer {
            let text = String::from_utf8(record.to_vec()).unwrap();
            if text == "impossible" {
                return Offer::Never;
            }
            let mut room = self.room.lock().unwrap();
            if *room == 0 {
                return Offer::Later;
            }
            *room -= 1;
            self.taken.lock().unwrap().push(text);
            Offer::Taken
        }

        fn gap(&self, lost: u64) -> Vec<u8> {
            format!("{lost} lost").into_bytes()
        }
    }

    impl Outlet<Bucket> {
        fn has_room_for(&self, records: usize) {
            *self.sink.room.lock().unwrap() = records;
        }

        fn taken(&self) -> Vec<String> {
            std::mem::take(&mut *self.sink.taken.lock().unwrap())
        }
    }

    #[test]
    fn what_waited_comes_out_in_order() {
        let outlet = Outlet::new(Bucket::default());
        outlet.has_room_for(1);
        assert!(outlet.send(b"1".to_vec()));
        assert!(!outlet.send(b"2".to_vec()));
        assert!(!outlet.send(b"3".to_vec()));
        outlet.has_room_for(2);
        assert!(!outlet.send(b"4".to_vec()));
        assert_eq!(outlet.taken(), ["1", "2", "3"]);
        outlet.has_room_for(2);
        assert!(outlet.flush());
        assert_eq!(outlet.taken(), ["4"]);
    }

    #[test]
    fn what_was_lost_is_told_before_anything_else_comes() {
        let outlet = Outlet::new(Bucket::default());
        let large = "x".repeat(BACKLOG / 4);
        for _ in 0..6 {
            outlet.send(large.clone().into_bytes());
        }
        outlet.send(b"small".to_vec());
        outlet.has_room_for(6);
        assert!(outlet.send(b"next".to_vec()));
        let taken = outlet.taken();
        assert_eq!(taken[..4], vec![large; 4]);
        assert_eq!(taken[4..], ["3 lost", "next"]);
    }

    #[test]
    fn what_cannot_be_sent_holds_nothing_up() {
        let outlet = Outlet::new(Bucket::default());
        outlet.send(b"impossible".to_vec());
        outlet.has_room_for(9);
        assert!(outlet.send(b"next".to_vec()));
        assert_eq!(outlet.taken(), ["1 lost", "next"]);
    }
}
