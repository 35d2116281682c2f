//! Benchmarks of a router in network namespaces: what a request and a start cost
//! the daemon, and what the table costs a packet. Everything is printed as a
//! ratio to a peer or a limit in the same run, because timings differ from one
//! machine and minute to another. Nothing is asserted. Needs root, nft and
//! conntrack.
//!
//! ```text
//! cargo bench                          both
//! cargo bench --bench router -- control [ROUNDS]
//! cargo bench --bench router -- packets [ROUNDS]
//! ```
#![allow(
    clippy::disallowed_types,
    reason = "a benchmark may start programs; the daemon may not"
)]

mod control;
mod lab;
mod packets;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let wants = |part: &str| {
        let named = words
            .iter()
            .any(|word| word == "control" || word == "packets");
        !named || words.iter().any(|word| word == part)
    };
    let rounds = words.iter().find_map(|word| word.parse().ok());
    if wants("control") {
        control::measure_all(rounds.unwrap_or(100));
    }
    if wants("packets") {
        packets::measure_all(rounds.unwrap_or(9));
    }
}
