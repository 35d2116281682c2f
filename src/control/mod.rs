//! The controller: one thread that owns the state, the store and the kernel.
//!
//! Everybody else holds a [`Handle`]: sends it authorized requests, reads the
//! last [`Snapshot`], or subscribes to what happens. There are no locks to
//! order, and a reader never waits for a commit. What takes long runs beside
//! it: the cutter ends flows, the announcer tells neighbours.

mod agenda;
mod batch;
mod claims;
mod clock;
mod controller;
mod cutter;
mod due;
mod forecast;
mod handle;
mod measured;
mod meter;
mod news;
mod reconcile;
mod reload;
mod snapshot;
mod statistics;

pub use clock::{Clock, SystemClock};
pub use controller::{Controller, Parts, StartError};
pub use handle::{Handle, Inbox, Message, Published, QUEUE, Rejection, Reloaded, Reply};
pub use measured::Measured;
pub use meter::Counters;
pub use snapshot::{AddressState, Health, Snapshot};
pub use statistics::{Statistics, Tallies};
