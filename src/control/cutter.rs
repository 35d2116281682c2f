//! Ends flows beside the controller: conntrack's table may be large, and nobody
//! else's request waits for it.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::dataplane::{Associations, Cut};
use crate::kernel::{Flows, KernelError};
use crate::model::AddressRange;

use super::{Handle, Message};

/// How long a flow lives that a late answer to an ended one began.
const LATE: Duration = Duration::from_millis(200);

/// What the cutter is to do.
enum Job {
    /// End these flows, and say so by the ticket.
    Cut { ticket: u64, cuts: Vec<Cut> },
    /// End the flows that disagree with the associations.
    Settle(Box<Associations>),
    /// From now on these are the private prefixes and the pools.
    Know(Vec<IpNet>, Vec<AddressRange>),
}

/// The controller's end of the thread that ends flows.
#[derive(Debug)]
pub(super) struct Cutter {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
}

impl Cutter {
    /// Starts the thread.
    pub(super) fn start(flows: Box<dyn Flows>, handle: Handle) -> std::io::Result<Self> {
        let (jobs, queue) = channel();
        let thread = std::thread::Builder::new()
            .name("cutter".into())
            .spawn(move || run(flows, &queue, &handle))?;
        Ok(Self { jobs, thread })
    }

    /// Ends these flows; [`Message::Cut`] with the ticket tells when.
    pub(super) fn cut(&self, ticket: u64, cuts: Vec<Cut>) {
        self.jobs
            .send(Job::Cut { ticket, cuts })
            .expect("the cutter ends only after the controller let go of it");
    }

    /// Ends the flows that disagree with the associations.
    pub(super) fn settle(&self, associations: Associations) {
        self.jobs
            .send(Job::Settle(Box::new(associations)))
            .expect("the cutter ends only after the controller let go of it");
    }

    /// From now on these are the private prefixes and the pools.
    pub(super) fn know(&self, private: Vec<IpNet>, pools: Vec<AddressRange>) {
        self.jobs
            .send(Job::Know(private, pools))
            .expect("the cutter ends only after the controller let go of it");
    }

    /// Waits until all that was asked for is done.
    pub(super) fn finish(self) {
        drop(self.jobs);
        if self.thread.join().is_err() {
            tracing::error!(
                "the thread that ends flows has died; flows of moved addresses may go on"
            );
        }
    }
}

/// All cuts that have queued up share one pass over conntrack's table.
fn run(mut flows: Box<dyn Flows>, queue: &Receiver<Job>, handle: &Handle) {
    // When to look for what late answers began.
    let mut look: Option<Instant> = None;
    loop {
        let first = match look {
            Some(look) => queue.recv_timeout(look.saturating_duration_since(Instant::now())),
            None => queue.recv().map_err(RecvTimeoutError::from),
        };
        let first = match first {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => {
                look = cut_late(flows.as_mut()).then(|| Instant::now() + LATE);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        look.get_or_insert_with(|| Instant::now() + LATE);
        let mut tickets = Vec::new();
        let mut all = Vec::new();
        for job in std::iter::once(first).chain(queue.try_iter()) {
            match job {
                Job::Cut { ticket, cuts } => {
                    tickets.push(ticket);
                    all.extend(cuts);
                }
                Job::Settle(associations) => settle(flows.as_mut(), &associations),
                Job::Know(private, pools) => flows.know(private, pools),
            }
        }
        let failure = cut(flows.as_mut(), &latest(&all))
            .err()
            .map(|error| error.to_string());
        for ticket in tickets {
            handle.tell(Message::Cut {
                ticket,
                failure: failure.clone(),
            });
        }
    }
}

/// Of several cuts of a floating IP the last one knows which host has it.
pub(super) fn latest(cuts: &[Cut]) -> Vec<Cut> {
    let mut seen = HashSet::new();
    let is_last = |cut: &&Cut| match cut {
        Cut::Floating { floating, keep: _ } => seen.insert(*floating),
        Cut::Outbound(_) => true,
    };
    cuts.iter().rev().filter(is_last).cloned().collect()
}

fn cut(flows: &mut dyn Flows, cuts: &[Cut]) -> Result<(), KernelError> {
    if cuts.is_empty() {
        return Ok(());
    }
    // A dump that others disturbed fails; the second one seldom does.
    let ended = flows.cut(cuts).or_else(|_| flows.cut(cuts))?;
    tracing::debug!(ended, "flows ended");
    Ok(())
}

/// Says whether there is more to come.
fn cut_late(flows: &mut dyn Flows) -> bool {
    flows.cut_late().unwrap_or_else(|error| {
        tracing::warn!(%error, "flows that late answers began may go on as they are");
        false
    })
}

fn settle(flows: &mut dyn Flows, associations: &Associations) {
    match flows.settle(associations) {
        Ok(ended) => tracing::debug!(ended, "flows that disagreed with the associations ended"),
        Err(error) => tracing::warn!(%error, "flows from before the start may go on as they were"),
    }
}
