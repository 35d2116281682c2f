//! The system bus: `org.ipfloater`, as `interfaces/org.ipfloater.Manager.xml`
//! describes it.
//!
//! One object with one interface; no object for each floating IP, because
//! registration and introspection fall over at a hundred thousand of them. This
//! module translates: calls to requests, rows to `a{sv}`, events to signals. The
//! caller is known by the uid that the bus vouches for; who may do what is the
//! authority's to say.
//!
//! The bus may be absent, restarted, or have its name taken: the daemon goes on
//! and tries again, and says so where [`serve`] was told to.

mod admission;
mod connection;
mod error;
mod given;
mod log_control;
mod manager;
mod options;
mod row;
mod signals;

pub use connection::{Bus, serve};

/// The name on the bus.
pub const BUS_NAME: &str = "org.ipfloater";

/// The only object.
pub const OBJECT_PATH: &str = "/org/ipfloater";

/// Its interface.
pub const INTERFACE: &str = "org.ipfloater.Manager";
