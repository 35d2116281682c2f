//! What an association waits for.

use std::fmt;

use super::{FloatingIp, HardwareAddress, InterfaceName};

/// Why an association is not in force although the store says it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PendingReason {
    /// The daemon has not come to it yet.
    Starting,
    /// The pool names no outside interface and there is no default route.
    NoDefaultRoute,
    /// The pool's outside interface does not exist.
    InterfaceMissing(InterfaceName),
    /// The pool's outside interface is down.
    InterfaceDown(InterfaceName),
    /// No route leads out by the pool's outside interface, although one did.
    NoGateway(InterfaceName),
    /// The neighbours cannot be asked for the address: the pool's outside
    /// interface has no carrier.
    NoCarrier(InterfaceName),
    /// The neighbours are being asked whether one of them has the address.
    Probing(FloatingIp),
    /// One of them has it.
    Contested {
        /// The address.
        floating: FloatingIp,
        /// Who has it.
        by: HardwareAddress,
    },
    /// The kernel refused; the daemon tries again.
    Kernel(String),
}

impl PendingReason {
    /// How a reason begins that is over in a moment.
    pub const PROBING: &'static str = "probing whether somebody else has";

    /// How it begins that another machine has the address.
    pub const CONTESTED: &'static str = "another machine";

    /// What [`PendingReason::word`] can be.
    pub const WORDS: [&'static str; 9] = [
        "starting",
        "no_default_route",
        "interface_missing",
        "interface_down",
        "no_gateway",
        "no_carrier",
        "probing",
        "contested",
        "kernel",
    ];

    /// In a word, whatever it is about.
    #[must_use]
    pub fn word(&self) -> &'static str {
        let [
            starting,
            no_route,
            missing,
            down,
            no_gateway,
            no_carrier,
            probing,
            contested,
            kernel,
        ] = Self::WORDS;
        match self {
            PendingReason::Starting => starting,
            PendingReason::NoDefaultRoute => no_route,
            PendingReason::InterfaceMissing(_) => missing,
            PendingReason::InterfaceDown(_) => down,
            PendingReason::NoGateway(_) => no_gateway,
            PendingReason::NoCarrier(_) => no_carrier,
            PendingReason::Probing(_) => probing,
            PendingReason::Contested { .. } => contested,
            PendingReason::Kernel(_) => kernel,
        }
    }
}

impl fmt::Display for PendingReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PendingReason::Starting => f.write_str("the daemon is starting"),
            PendingReason::NoDefaultRoute => {
                f.write_str("no default route shows the outside interface; set OUTSIDE_INTERFACE")
            }
            PendingReason::InterfaceMissing(name) => write!(f, "interface {name} does not exist"),
            PendingReason::InterfaceDown(name) => write!(f, "interface {name} is down"),
            PendingReason::NoGateway(name) => write!(
                f,
                "no default route leads out by interface {name}; add one, or set GATEWAY"
            ),
            PendingReason::NoCarrier(name) => write!(f, "interface {name} has no carrier"),
            PendingReason::Probing(floating) => {
                write!(f, "{} {floating}", PendingReason::PROBING)
            }
            PendingReason::Contested { floating, by } => write!(
                f,
                "{} has {floating}: {by}; it is tried again, and at once when the address is \
                 associated again",
                PendingReason::CONTESTED
            ),
            PendingReason::Kernel(why) => f.write_str(why),
        }
    }
}
