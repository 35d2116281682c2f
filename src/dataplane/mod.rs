//! What the kernel should hold for a state, and how to get there: pure.
//!
//! [`Desired`] is derived from the state and the site, [`Observed`] is what was
//! seen, [`Delta`] is the difference as ordered steps. [`Ruleset`] is the fixed
//! part: it does not grow with the number of addresses.

mod claims;
mod delta;
mod desired;
mod flow;
mod observed;
mod ports;
pub mod ruleset;
mod uplinks;
mod words;

pub use claims::{Claim, Claims};
pub use delta::{Cut, Delta, Element, Reshape, Step, Transaction};
pub use desired::{Desired, Place};
pub use flow::{Associations, Flow, Tenants};
pub use observed::{IfIndex, Link, Observed};
pub use ports::{PortElement, PortElements};
pub use ruleset::{Ruleset, Uses};
pub use uplinks::{Rerouting, Routing, RoutingRule, UplinkRoute, Uplinks, Way, WaysOut};
