//! IP Floater: floating IP addresses for a plain Linux router.
//!
//! The rooms, in the order in which a request travels through them:
//!
//! ```text
//! D-Bus ─┐
//! varlink├─ decode ─ authorize ─ decide ─ check ─ COMMIT ─ apply ─ publish
//! CLI ───┘ api, wire  authority   plan     control  store    dataplane  control
//!                                                            kernel
//! ```
//!
//! Data goes one way. A later stage never calls an earlier one.

pub mod api;
pub mod authority;
pub mod cli;
pub mod client;
pub mod control;
pub mod dataplane;
pub mod kernel;
pub mod model;
pub mod request;
pub mod store;
pub mod wire;
