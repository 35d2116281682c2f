//! The nouns, and what always holds of them.
//!
//! Nothing here knows a socket, a file, a clock or a lock: a value of these
//! types is either right or cannot be made. Everything above speaks in them.

mod address;
mod allocation;
mod attributes;
mod change;
mod clock;
mod forward;
mod lease;
mod limits;
mod neighbour;
mod pending;
mod pool;
mod resting;
mod site;
mod state;
mod traffic;
mod trial;
mod uplink;

pub use address::{AddressError, Family, FixedIp, FloatingIp, ParseAddressError};
pub use allocation::{Allocation, Association, Forwarded};
pub use attributes::{Alteration, AttributeError, Attributes, Description, Label, MOST_TAGS};
pub use change::{Actor, Change, Event, EventKind, Recorded, Via};
pub use clock::ClockAnchor;
pub use forward::{Forward, ForwardError, Forwards, Outbound, Port, PortRange, Protocol};
pub use lease::{Lease, LeaseError};
pub use limits::{DEFAULT_QUOTA, Gid, Limit, Limits, PartialLimit, Permitted};
pub use neighbour::{Announcing, HardwareAddress, NoHardwareAddress};
pub use pending::PendingReason;
pub use pool::{AddressRange, InterfaceName, NameError, Pool, PoolName, RangeError};
pub use resting::{Resting, RestingAddresses};
pub use site::{NotAHost, RouterAddress, Site, Surroundings, Untranslated};
pub use state::{Revision, Sequence, State, Timestamp, Uid};
pub use traffic::{Count, Direction, MOST_SOURCES, Rate, RateError, Sources, SourcesError};
pub use trial::Trial;
pub use uplink::{Uplink, UplinkNumbers, UplinkNumbersError};
