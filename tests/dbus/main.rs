//! The D-Bus front on a real bus, as `busctl` and a zbus client see it.
//!
//! Each test starts a dbus-daemon of its own. What needs a caller of another
//! user is left out, and says so, when the tests are not run by root.

#![allow(
    clippy::disallowed_types,
    reason = "a test may start programs; the daemon may not"
)]

mod bus;
mod calls;
mod introspection;
#[path = "../common/policy.rs"]
mod policy;
mod presence;
mod refusals;
mod responder;
mod service;
