//! Forwards as elements of the kernel's maps, by floating IP.

use std::collections::{BTreeSet, HashMap};

use crate::model::{FixedIp, FloatingIp, Forward, Port, PortRange, Protocol};

/// An element of `forward` or `forward_range`, without its floating IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortElement {
    /// Of `forward4` or `6`.
    One {
        /// Of which protocol.
        protocol: Protocol,
        /// The port of the floating IP.
        port: Port,
        /// The host.
        fixed: FixedIp,
        /// The port of the host.
        fixed_port: Port,
    },
    /// Of `forward_range4` or `6`: an interval has no place for an offset, all
    /// of its ports would lead to one.
    Range {
        /// Of which protocol.
        protocol: Protocol,
        /// The ports, here and there.
        ports: PortRange,
        /// The host.
        fixed: FixedIp,
    },
}

impl PortElement {
    /// The elements of a forward: a range as one where the ports stay as they
    /// are, and otherwise one for each port.
    pub fn of(forward: &Forward) -> impl Iterator<Item = Self> + use<> {
        let (protocol, ports, fixed) = (forward.protocol(), forward.ports(), forward.fixed());
        let as_range = ports.count() > 1 && forward.keeps_ports();
        let range = as_range.then_some(PortElement::Range {
            protocol,
            ports,
            fixed,
        });
        let pairs = (!as_range).then(|| forward.pairs());
        let each = pairs
            .into_iter()
            .flatten()
            .map(move |(port, fixed_port)| PortElement::One {
                protocol,
                port,
                fixed,
                fixed_port,
            });
        range.into_iter().chain(each)
    }

    /// The host.
    #[must_use]
    pub fn fixed(&self) -> FixedIp {
        match self {
            PortElement::One { fixed, .. } | PortElement::Range { fixed, .. } => *fixed,
        }
    }

    /// Protocol and ports: what the element is looked up by.
    #[must_use]
    pub fn key(&self) -> (Protocol, PortRange) {
        match self {
            PortElement::One { protocol, port, .. } => (*protocol, PortRange::single(*port)),
            PortElement::Range {
                protocol, ports, ..
            } => (*protocol, *ports),
        }
    }
}

/// Elements of `forward` and `forward_range`, by floating IP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortElements(HashMap<FloatingIp, BTreeSet<PortElement>>);

impl PortElements {
    /// Those of a floating IP.
    pub fn of(&self, floating: FloatingIp) -> impl Iterator<Item = &PortElement> {
        self.0.get(&floating).into_iter().flatten()
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn contains(&self, floating: FloatingIp, element: &PortElement) -> bool {
        let elements = self.0.get(&floating);
        elements.is_some_and(|elements| elements.contains(element))
    }

    /// The floating IPs that have some.
    pub fn floating_ips(&self) -> impl Iterator<Item = FloatingIp> + '_ {
        self.0.keys().copied()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (FloatingIp, &PortElement)> {
        let all = self.0.iter();
        all.flat_map(|(floating, elements)| elements.iter().map(|element| (*floating, element)))
    }

    /// Adds one.
    pub fn insert(&mut self, floating: FloatingIp, element: PortElement) {
        self.0.entry(floating).or_default().insert(element);
    }

    /// Takes one away, and says whether it was there.
    pub fn remove(&mut self, floating: FloatingIp, element: &PortElement) -> bool {
        let Some(elements) = self.0.get_mut(&floating) else {
            return false;
        };
        let removed = elements.remove(element);
        if elements.is_empty() {
            self.0.remove(&floating);
        }
        removed
    }
}

impl Extend<(FloatingIp, PortElement)> for PortElements {
    fn extend<I: IntoIterator<Item = (FloatingIp, PortElement)>>(&mut self, elements: I) {
        for (floating, element) in elements {
            self.insert(floating, element);
        }
    }
}
