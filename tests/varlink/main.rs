//! The varlink front and the command line, over a real socket, with a
//! controller that only keeps books.
#![allow(
    clippy::disallowed_types,
    reason = "a test may start programs; the daemon may not"
)]

mod bad_callers;
mod command_line;
mod methods;
#[path = "../common/policy.rs"]
mod policy;
mod stand_in;
mod streams;
