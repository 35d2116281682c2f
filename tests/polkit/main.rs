//! What the daemon does with each thing that polkit can do, and the command line
//! with what the daemon says then. A stand-in has polkit's name on a bus of our
//! own and does as it is told; `tests/system` asks the real one.
#![allow(
    clippy::disallowed_types,
    reason = "a test may start programs; the daemon may not"
)]

#[path = "../dbus/bus.rs"]
mod bus;
mod command_line;
mod daemon;
mod judge;
mod prompts;
mod stand_in;
