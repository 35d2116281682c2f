//! The fronts: wire messages to requests, and outcomes to wire messages.
//!
//! Both buses decode with the same functions ([`decode`]) and name errors by
//! the same list ([`error`]), so that a request means the same and fails the
//! same on either. `async` ends here: a front asks the [`Authority`] and sends
//! what it may to the controller's [`Handle`].

pub mod dbus;
pub mod decode;
pub mod error;
pub mod log;
pub mod metrics;
pub mod permissions;
pub mod terms;
pub mod varlink;

use crate::authority::Authority;
use crate::control::{Counters, Handle};
use crate::reload::Reloader;

/// What a front works with. Clones are the same.
#[derive(Clone, Debug)]
pub struct Service {
    /// The controller.
    pub handle: Handle,
    /// Who reads counters.
    pub counters: Counters,
    /// Who decides who may.
    pub authority: Authority,
    /// Who reads the configuration again.
    pub reloader: Reloader,
}
