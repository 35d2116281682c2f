//! What the daemon says, where to, and how that is altered while it runs: the
//! real program, with a journal of the test's own where journald's would be.
//!
//! Needs root: the journal's place is in a mount namespace of the daemon's.
#![allow(
    clippy::disallowed_types,
    reason = "a test may start programs; the daemon may not"
)]

#[path = "../dbus/bus.rs"]
mod bus;
mod control;
mod daemon;
mod fields;
mod hostile;
mod journal;
mod stall;
