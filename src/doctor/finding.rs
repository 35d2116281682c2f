//! What is said of a fault: which, how bad, what it is and how it is mended.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Traffic does not pass.
    Error,
    /// Some of it may not, or will not before long, or users may give no orders.
    Warning,
    /// Something that one should know.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        })
    }
}

macro_rules! ids {
    ($($(#[$meaning:meta])* $name:ident = $text:literal,)*) => {
        /// Which fault it is. The text of each is public and stays.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        pub enum Id {
            $($(#[$meaning])* #[serde(rename = $text)] $name,)*
        }

        impl Id {
            /// All of them.
            pub const ALL: &[Id] = &[$(Id::$name),*];

            /// Its text.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Id::$name => $text,)*
                }
            }
        }
    };
}

ids! {
    /// There is no configuration.
    NoConfiguration = "no-configuration",
    /// The daemon does not start with the configuration.
    ConfigurationInvalid = "configuration-invalid",
    /// The daemon is not reached.
    DaemonUnreachable = "daemon-unreachable",
    /// The daemon works on a kernel in memory.
    Simulated = "simulated",
    /// The kernel has no nf_tables.
    NoNftables = "no-nftables",
    /// The table of floating IPs is not in this network namespace.
    TableMissing = "table-missing",
    /// Packets are not forwarded.
    ForwardingOff = "forwarding-off",
    /// No outside interface is known.
    NoOutsideInterface = "no-outside-interface",
    /// An interface does not exist.
    InterfaceMissing = "interface-missing",
    /// An interface is down.
    InterfaceDown = "interface-down",
    /// An interface has no carrier.
    NoCarrier = "no-carrier",
    /// A reverse path filter drops what comes from outside.
    RpFilter = "rp-filter",
    /// The router is set not to answer for floating IPs on a link.
    ArpIgnore = "arp-ignore",
    /// A host has no route, or a wrong one.
    NoRoute = "no-route",
    /// What a host sends has no route outside.
    NoRouteOut = "no-route-out",
    /// What a host sends leaves by an interface that is not an outside one.
    LeavesElsewhere = "leaves-elsewhere",
    /// The kernel would not forward to a host, for another reason.
    NotForwarded = "not-forwarded",
    /// A host does not answer for its address.
    NoNeighbour = "no-neighbour",
    /// Of what is begun with an address nothing is answered.
    NoAnswers = "no-answers",
    /// Another table drops what is forwarded.
    ForwardDrop = "forward-drop",
    /// Another table drops what comes in or goes out, before or after that.
    TableDrop = "table-drop",
    /// Another table keeps packets from conntrack.
    Untracked = "untracked",
    /// Another table translates before ours.
    NatFirst = "nat-first",
    /// Legacy iptables has tables, which nf_tables does not show.
    IptablesLegacy = "iptables-legacy",
    /// The original IP Floater left something, or a boot brought it back.
    OriginalLeft = "original-left",
    /// Another machine has the address.
    AddressElsewhere = "address-elsewhere",
    /// The address has no host.
    NotAssociated = "not-associated",
    /// An association waits for something.
    Pending = "pending",
    /// Only some may reach the address.
    SourcesLimited = "sources-limited",
    /// The daemon says that something is wrong.
    DaemonProblem = "daemon-problem",
    /// The daemon says that something should be known.
    DaemonWarning = "daemon-warning",
    /// The conntrack table is full, or nearly.
    ConntrackFull = "conntrack-full",
    /// Bridged packets are shown to iptables.
    BridgeNetfilter = "bridge-netfilter",
    /// The inside takes longer packets than the outside.
    Mtu = "mtu",
    /// The clock is behind the event log.
    Clock = "clock",
    /// The system bus is not reached.
    BusAbsent = "bus-absent",
    /// The daemon is not on the bus.
    NotOnBus = "not-on-bus",
    /// There is no polkit.
    PolkitAbsent = "polkit-absent",
    /// The kernel lacks what would be used.
    OldKernel = "old-kernel",
    /// The caller may not alter anything.
    NotPermitted = "not-permitted",
    /// Something could not be looked at.
    NotLookedAt = "not-looked-at",
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Which.
    pub id: Id,
    /// The floating IP that it is about; absent when it is about the router.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// What is wrong, in a line.
    pub what: String,
    /// Why that matters, in a line; absent when it goes without saying.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The command that mends it, or that shows more; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    /// An error about the router.
    pub(super) fn error(id: Id, what: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            id,
            address: None,
            what: what.into(),
            why: None,
            remedy: None,
        }
    }

    /// A warning about the router.
    pub(super) fn warning(id: Id, what: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(id, what)
        }
    }

    /// Another machine has a floating IP.
    pub(super) fn elsewhere(address: IpAddr, what: impl Into<String>) -> Self {
        Self::error(Id::AddressElsewhere, what)
            .because("take the address away from it, or out of the pool")
            .mend(format!("ipfloater history {address}"))
            .of(address)
    }

    /// A note about the router.
    pub(super) fn note(id: Id, what: impl Into<String>) -> Self {
        Self {
            severity: Severity::Note,
            ..Self::error(id, what)
        }
    }

    /// The same about a floating IP.
    pub(super) fn of(self, address: IpAddr) -> Self {
        Self {
            address: Some(address),
            ..self
        }
    }

    /// The same with a reason.
    pub(super) fn because(self, why: impl Into<String>) -> Self {
        Self {
            why: Some(why.into()),
            ..self
        }
    }

    /// The same with a remedy.
    pub(super) fn mend(self, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Id;

    #[test]
    fn the_manual_has_every_finding() {
        let manual = include_str!("../../docs/troubleshooting.md");
        for id in Id::ALL {
            let row = format!("| `{}` |", id.as_str());
            assert!(manual.contains(&row), "{row} is not there");
        }
    }
}
