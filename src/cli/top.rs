//! The verb `top`: what goes through addresses at the moment, busiest first.

use std::collections::HashMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Failure;
use super::counters;
use super::output::{Output, lines};
use super::text::short;
use crate::client::{Client, ClientError};
use crate::model::FloatingIp;
use crate::wire::Counters;

/// What is to be shown, and how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// How long is counted for each view.
    pub(super) interval: Duration,
    /// How many views; `None` until it is interrupted.
    pub(super) views: Option<u32>,
    /// How many addresses a view has at most; `None` for as many as there is room.
    pub(super) rows: Option<usize>,
}

/// What an address does in a second.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pace {
    floating: FloatingIp,
    bits_in: f64,
    bits_out: f64,
    packets_in: f64,
    packets_out: f64,
}

pub(super) fn top(
    connect: impl Fn() -> Result<Client, ClientError>,
    output: &mut Output<'_>,
    terms: Terms,
) -> Result<(), Failure> {
    let mut client = connect()?;
    let (mut before, _) = counters::all(&mut client, None)?;
    let mut since = Instant::now();
    output.progress(&format!("Counting for {} s …", terms.interval.as_secs()));
    let mut views = 0;
    while terms.views.is_none_or(|most| views < most) {
        sleep(terms.interval);
        let now = match counters::all(&mut client, None) {
            Ok((now, _)) => now,
            Err(Failure::Client(ended @ ClientError::Closed(_))) => {
                output.remark(&format!("{ended}; waiting for it"))?;
                client = again(&connect)?;
                counters::all(&mut client, None)?.0
            }
            Err(error) => return Err(error),
        };
        let seconds = since.elapsed().as_secs_f64();
        since = Instant::now();
        show(output, &paces(&before, &now, seconds), seconds, terms.rows)?;
        output.flush()?;
        before = now;
        views += 1;
    }
    Ok(())
}

/// Connects to a daemon that is being started again.
fn again(connect: impl Fn() -> Result<Client, ClientError>) -> Result<Client, ClientError> {
    loop {
        match connect() {
            Err(ClientError::Unreachable { .. }) => sleep(Duration::from_secs(1)),
            connected => return connected,
        }
    }
}

/// What went through between two looks, busiest first; what did nothing is left
/// out. A counter that is lower than it was has begun anew.
fn paces(before: &[Counters], now: &[Counters], seconds: f64) -> Vec<Pace> {
    let before: HashMap<FloatingIp, &Counters> =
        before.iter().map(|was| (was.floating_ip, was)).collect();
    let mut paces = Vec::new();
    for is in now {
        let Some(was) = before.get(&is.floating_ip) else {
            continue;
        };
        let each = |is: u64, was: u64| is.saturating_sub(was) as f64 / seconds;
        let pace = Pace {
            floating: is.floating_ip,
            bits_in: each(is.bytes_in, was.bytes_in) * 8.0,
            bits_out: each(is.bytes_out, was.bytes_out) * 8.0,
            packets_in: each(is.packets_in, was.packets_in),
            packets_out: each(is.packets_out, was.packets_out),
        };
        if pace.packets_in + pace.packets_out > 0.0 {
            paces.push(pace);
        }
    }
    paces.sort_by(|a, b| {
        let bits = |pace: &Pace| pace.bits_in + pace.bits_out;
        bits(b)
            .total_cmp(&bits(a))
            .then(a.floating.cmp(&b.floating))
    });
    paces
}

/// So many addresses a view has that no terminal bounds.
const ROWS: usize = 20;

/// The lines of a view that are no addresses: the summary, the heading, and the one
/// with the cursor.
const OTHERS: usize = 3;

fn show(
    output: &mut Output<'_>,
    paces: &[Pace],
    seconds: f64,
    rows: Option<usize>,
) -> Result<(), Failure> {
    if output.json {
        let all: Vec<Value> = paces.iter().map(in_json).collect();
        return Ok(output.json(&json!({"seconds": seconds, "addresses": all}))?);
    }
    output.clear_screen()?;
    let sum = |part: fn(&Pace) -> f64| paces.iter().map(part).fold(0.0, |sum, one| sum + one);
    let (bits_in, bits_out) = (sum(|pace| pace.bits_in), sum(|pace| pace.bits_out));
    if output.legend {
        let count = match paces.len() {
            1 => "1 address with traffic".to_owned(),
            several => format!("{several} addresses with traffic"),
        };
        let sums = format!("in {}bit/s, out {}bit/s", short(bits_in), short(bits_out));
        output.sentence("", &format!("{count}; {sums}"))?;
    }
    let room = || lines().map_or(ROWS, |lines| lines.saturating_sub(OTHERS).max(1));
    let rows = rows.unwrap_or_else(room);
    let row = |pace: &Pace| {
        let numbers = [
            pace.bits_in,
            pace.bits_out,
            pace.packets_in,
            pace.packets_out,
        ];
        let [a, b, c, d] = numbers.map(short);
        [pace.floating.to_string(), a, b, c, d]
    };
    let headings = [
        "FLOATING IP",
        "BIT/S IN",
        "BIT/S OUT",
        "PACKETS/S IN",
        "PACKETS/S OUT",
    ];
    Ok(output.table(headings, 5, paces.iter().take(rows).map(row))?)
}

fn in_json(pace: &Pace) -> Value {
    let whole = |number: f64| number.round() as u64;
    json!({
        "floating_ip": pace.floating,
        "bits_in": whole(pace.bits_in),
        "bits_out": whole(pace.bits_out),
        "packets_in": whole(pace.packets_in),
        "packets_out": whole(pace.packets_out),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(floating: &str, packets_in: u64, bytes_out: u64) -> Counters {
        Counters {
            floating_ip: floating.parse().unwrap(),
            packets_in,
            bytes_in: packets_in * 100,
            packets_out: bytes_out / 1_000,
            bytes_out,
        }
    }

    #[test]
    fn the_busiest_comes_first_and_what_rests_is_left_out() {
        let before = [
            counters("203.0.113.1", 10, 0),
            counters("203.0.113.2", 10, 0),
            counters("203.0.113.3", 10, 9_000),
            counters("2001:db8::1", 500, 0),
        ];
        let now = [
            counters("203.0.113.1", 30, 0),
            counters("203.0.113.2", 10, 0),
            counters("203.0.113.3", 10, 109_000),
            // It has begun anew.
            counters("2001:db8::1", 4, 0),
            // It is new.
            counters("203.0.113.4", 1, 0),
        ];
        let paces = paces(&before, &now, 2.0);
        let told: Vec<_> = paces
            .iter()
            .map(|pace| (pace.floating.to_string(), pace.bits_in, pace.bits_out))
            .collect();
        assert_eq!(
            told,
            [
                ("203.0.113.3".to_owned(), 0.0, 400_000.0),
                ("203.0.113.1".to_owned(), 8_000.0, 0.0),
            ]
        );
    }
}
