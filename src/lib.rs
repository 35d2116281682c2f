//! IP Floater: floating IP addresses for a plain Linux router.
//!
//! The rooms, in the order in which a request travels through them:
//!
//! ```text
//! D-Bus ──┐
//! varlink ┼─ decode ─ authorize ─ decide ─ check ─ COMMIT ─ apply ─ publish
//! CLI ────┘  api,wire authority   plan     plan    store    dataplane  control
//!                                                           kernel
//! ```
//!
//! Data goes one way. A later stage never calls an earlier one. The controller
//! in [`control`] is the one place that knows the order; [`model`], [`request`],
//! [`plan`] and [`dataplane`] decide and touch nothing; [`kernel`] and [`store`]
//! are the only code that touches the system. ARCHITECTURE.md says more.

pub mod api;
pub mod audit;
pub mod authority;
pub mod certificate;
pub mod cli;
pub mod client;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dataplane;
pub mod doctor;
pub mod exposition;
pub mod given;
pub mod import;
pub mod kernel;
pub mod lock;
pub mod logging;
pub mod memory;
pub mod model;
pub mod plan;
pub mod privilege;
pub mod reload;
pub mod remote;
pub mod request;
pub mod store;
pub mod supervisor;
pub mod teardown;
pub mod text;
pub mod wire;

/// An error with everything that caused it, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let more = source.to_string();
        // A transparent error repeats its source.
        if !text.ends_with(&more) {
            text += &format!(": {more}");
        }
        cause = source.source();
    }
    text
}
