//! The daemon's numbers, as Prometheus reads them.
//!
//! What went through single addresses is not among them: `GetCounters` tells that,
//! page by page, to whoever may know, and the command line adds it. So a text is
//! small however many addresses there are, and the same for everybody who may
//! read the status.

use std::collections::BTreeMap;

use crate::control::{AddressState, Handle, Snapshot, Statistics, Tallies};
use crate::exposition::{Exposition, Format, Histogram, Kind};
use crate::model::{Family, PendingReason, PoolName, Timestamp};
use crate::request::Refusal;
use crate::wire::Status;

/// A field that holds a format.
pub fn format(field: &'static str, text: Option<&str>) -> Result<Format, Refusal> {
    let text = text.unwrap_or(Format::default().as_str());
    text.parse().map_err(
        |why: crate::exposition::NoFormat| Refusal::InvalidArgument {
            field: field.to_owned(),
            why: why.to_string(),
        },
    )
}

/// All numbers but those of single addresses, without the line that ends the text.
#[must_use]
pub fn metrics(handle: &Handle, format: Format, now: Timestamp) -> String {
    let mut text = Exposition::new(format);
    let (snapshot, statistics) = (handle.snapshot(), handle.statistics());
    daemon(&mut text, &snapshot, statistics);
    addresses(&mut text, &snapshot, now);
    let tallies = statistics.tallies();
    counts(&mut text, &tallies);
    times(&mut text, &tallies);
    text.into_text()
}

fn daemon(text: &mut Exposition, snapshot: &Snapshot, statistics: &Statistics) {
    let status = Status::new(snapshot);
    text.family(
        "build_info",
        Kind::Gauge,
        "1; the label has the version of the daemon.",
    );
    text.sample(&[("version", &status.version)], 1);
    text.family(
        "uptime_seconds",
        Kind::Gauge,
        "For how long the daemon has run; counters begin at its start.",
    );
    text.sample(&[], statistics.uptime().as_secs_f64());
    let gauges = [
        (
            "degraded",
            "1 while the daemon has a problem or an address waits for more than its neighbours.",
            u64::from(status.state == "degraded"),
        ),
        (
            "problems",
            "How many things are wrong that ipfloater status tells.",
            status.problems.len() as u64,
        ),
        (
            "warnings",
            "How many things an administrator should know although it works.",
            status.warnings.len() as u64,
        ),
        (
            "revision",
            "How many commits of changes there have ever been.",
            status.revision,
        ),
        (
            "sequence",
            "The last event that was ever recorded.",
            status.sequence,
        ),
        (
            "queue_capacity",
            "How many messages may wait for the controller; one more is told Busy.",
            crate::control::QUEUE as u64,
        ),
    ];
    for (name, help, value) in gauges {
        text.family(name, Kind::Gauge, help);
        text.sample(&[], value);
    }
    text.family(
        "queue_length",
        Kind::Gauge,
        "How many messages wait for the controller.",
    );
    text.sample(&[], statistics.queued());
    text.family(
        "requests_waiting",
        Kind::Gauge,
        "How many requests that may be made have no answer yet.",
    );
    text.sample(&[], statistics.waiting());
}

/// What becomes of the addresses of a pool that are of one family.
#[derive(Default)]
struct PoolCount {
    size: u64,
    resting: u64,
    allocated: u64,
    active: u64,
    pending: BTreeMap<&'static str, u64>,
    taken: u64,
}

fn addresses(text: &mut Exposition, snapshot: &Snapshot, now: Timestamp) {
    let mut pools = BTreeMap::<(&PoolName, Family), PoolCount>::new();
    for pool in &snapshot.site.pools {
        for family in Family::BOTH {
            let size = pool.size_of(family);
            if size > 0 {
                pools.entry((&pool.name, family)).or_default().size = size;
            }
        }
    }
    for (floating, allocation) in snapshot.state.allocations() {
        let of = (&allocation.pool, floating.family());
        let pool = pools.entry(of).or_default();
        // One that no pool has any more takes no place in one.
        pool.taken += u64::from(!snapshot.is_orphan(floating));
        match snapshot.state_with(floating, allocation) {
            AddressState::Free => {}
            AddressState::Allocated => pool.allocated += 1,
            AddressState::Active => pool.active += 1,
            AddressState::Pending(reason) => {
                *pool.pending.entry(reason.word()).or_default() += 1;
            }
        }
    }
    for (floating, _) in snapshot.state.resting().iter() {
        let rests = snapshot.resting(floating, now).is_some()
            && snapshot.state.allocation(floating).is_none();
        if let Some(pool) = snapshot.site.pool_of(floating).filter(|_| rests) {
            let of = (&pool.name, floating.family());
            pools.entry(of).or_default().resting += 1;
        }
    }
    text.family(
        "addresses",
        Kind::Gauge,
        "How many addresses of the pool are in this state. Pending and active ones are in use.",
    );
    for ((name, family), pool) in &pools {
        let pending = pool.pending.values().sum();
        let free = pool.size.saturating_sub(pool.taken + pool.resting);
        let states = [
            ("free", free),
            ("resting", pool.resting),
            ("allocated", pool.allocated),
            ("pending", pending),
            ("active", pool.active),
        ];
        for (state, count) in states {
            let of = [("pool", name.as_str()), ("family", word(*family))];
            text.sample(&[of[0], of[1], ("state", state)], count);
        }
    }
    text.family(
        "addresses_pending",
        Kind::Gauge,
        "How many addresses of the pool are not in force, and why.",
    );
    for ((name, family), pool) in &pools {
        for reason in PendingReason::WORDS {
            let count = pool.pending.get(reason).copied().unwrap_or_default();
            let of = [("pool", name.as_str()), ("family", word(*family))];
            text.sample(&[of[0], of[1], ("reason", reason)], count);
        }
    }
    text.family(
        "repairs",
        Kind::Counter,
        "How often something of ours that somebody else had altered was put right.",
    );
    text.sample(&[], snapshot.health.repairs);
}

/// A family as a label.
fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

fn counts(text: &mut Exposition, tallies: &Tallies) {
    let Tallies {
        operations,
        commit_errors,
        kernel_errors,
        reconciliations,
        events,
        operation: _,
        commit: _,
        kernel: _,
    } = tallies;
    text.family(
        "operations",
        Kind::Counter,
        "Requests that were answered: granted, unchanged, dry-run, denied, or by the name of the error.",
    );
    for ((verb, outcome), count) in operations {
        text.sample(&[("verb", verb), ("outcome", outcome)], count);
    }
    text.family(
        "events",
        Kind::Counter,
        "Events that were recorded: what was altered, and what the daemon found.",
    );
    for (verb, count) in events {
        text.sample(&[("verb", verb)], count);
    }
    text.family(
        "reconciliations",
        Kind::Counter,
        "How often the kernel was compared and made to agree: for a request, after a start, its links, or everything.",
    );
    for ((extent, outcome), count) in reconciliations {
        text.sample(&[("extent", extent), ("outcome", outcome)], count);
    }
    text.family(
        "kernel_errors",
        Kind::Counter,
        "What the kernel refused, by what was being done.",
    );
    for (operation, count) in kernel_errors {
        text.sample(&[("operation", operation)], count);
    }
    text.family(
        "commit_errors",
        Kind::Counter,
        "Commits that the store did not take.",
    );
    text.sample(&[], commit_errors);
}

fn times(text: &mut Exposition, tallies: &Tallies) {
    let histograms: [(&str, &str, &Histogram); 2] = [
        (
            "operation_duration_seconds",
            "From the moment that a request is allowed to its answer.",
            &tallies.operation,
        ),
        (
            "commit_duration_seconds",
            "How long it took until a commit was on the disk, or was not taken.",
            &tallies.commit,
        ),
    ];
    for (name, help, histogram) in histograms {
        text.family(name, Kind::Histogram, help);
        text.histogram(&[], histogram);
    }
    text.family(
        "kernel_duration_seconds",
        Kind::Histogram,
        "How long the kernel took, by what it was to do.",
    );
    for (operation, histogram) in &tallies.kernel {
        text.histogram(&[("operation", operation)], histogram);
    }
}
