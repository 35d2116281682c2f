//! Which of conntrack's flows agree with the associations.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{AddressRange, FixedIp, FloatingIp, Forward, Forwards, Sources, State};

/// The addresses of a flow as conntrack keeps it: as the first packet had them,
/// and as a reply has them before it is translated back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who began it.
    pub from: IpAddr,
    /// Whom the first packet was for.
    pub to: IpAddr,
    /// Who answers: another than `to` when the destination was translated.
    pub answered_by: IpAddr,
    /// To whom: another than `from` when the source was translated.
    pub answered_to: IpAddr,
    /// The number of the transport protocol.
    pub protocol: u8,
    /// Which port the first packet was for; 0 where there are none.
    pub to_port: u16,
    /// From which port it is answered.
    pub answered_from: u16,
}

/// The hosts that a floating IP leads to, and those that leave as it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenants {
    /// The host that it is associated with.
    pub fixed: Option<FixedIp>,
    /// The ports that lead to hosts of their own.
    pub forwards: Forwards,
    /// The hosts that leave as it.
    pub leaving: Vec<FixedIp>,
    /// Who may reach it from outside.
    pub sources: Sources,
    /// The hosts whose flows from before go on.
    pub kept: Vec<FixedIp>,
}

impl Tenants {
    /// Those of a floating IP in a state.
    #[must_use]
    pub fn of(state: &State, floating: FloatingIp) -> Self {
        let Some(allocation) = state.allocation(floating) else {
            return Self::default();
        };
        let fixed = allocation.association.map(|association| association.fixed);
        let by_forwards = allocation.forwards.iter().map(Forward::fixed);
        let leaving: BTreeSet<_> = fixed
            .into_iter()
            .chain(by_forwards)
            .filter(|fixed| state.source_of(*fixed) == Some(floating))
            .collect();
        Self {
            fixed,
            forwards: allocation.forwards.clone(),
            leaving: leaving.into_iter().collect(),
            sources: allocation.attributes.allowed_sources.clone(),
            kept: allocation.kept.clone(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fixed.is_none() && self.forwards.is_empty()
    }

    /// Whether a flow to or from the floating IP is one of theirs. Who began it
    /// may be outside or not.
    #[must_use]
    pub fn have(&self, floating: FloatingIp, flow: &Flow, from_outside: bool) -> bool {
        let floating = floating.ip();
        let welcome = flow.to != floating || admits(&self.sources, flow, from_outside);
        let keep = |host: IpAddr| self.kept.iter().any(|fixed| fixed.ip() == host);
        let inbound = flow.to != floating
            || is_answered_as(flow, Some(&self.forwards), self.fixed.map(FixedIp::ip))
                .unwrap_or(false)
            || keep(flow.answered_by);
        let outbound = flow.answered_to != floating
            || self.leaving.iter().any(|fixed| fixed.ip() == flow.from)
            || keep(flow.from);
        welcome && inbound && outbound
    }
}

/// Whether a flow may reach its floating IP. What comes from inside by a floating
/// IP has another source on the way, what comes from outside has not, unless
/// somebody else's table translates it.
fn admits(sources: &Sources, flow: &Flow, from_outside: bool) -> bool {
    let by_outside = from_outside || flow.answered_to == flow.from;
    !by_outside || sources.allow(flow.from)
}

/// Whether who answers a flow is who should, by the forwards of its floating IP
/// or else by the host that has it; `None` when nobody should.
fn is_answered_as(flow: &Flow, forwards: Option<&Forwards>, fixed: Option<IpAddr>) -> Option<bool> {
    let by_port = forwards.and_then(|forwards| forwards.of_port(flow.protocol, flow.to_port));
    match by_port {
        Some(forward) => Some(
            flow.answered_by == forward.fixed().ip()
                && forward.target_of(flow.to_port) == Some(flow.answered_from),
        ),
        None => Some(flow.answered_by == fixed?),
    }
}

/// Which host has which floating IP, and where inside is: what every flow is
/// held against.
#[derive(Clone, Debug, Default)]
pub struct Associations {
    by_floating: HashMap<IpAddr, IpAddr>,
    by_fixed: HashMap<IpAddr, IpAddr>,
    forwards: HashMap<IpAddr, Forwards>,
    sources: HashMap<IpAddr, Sources>,
    kept: HashMap<IpAddr, Vec<FixedIp>>,
    pools: Vec<AddressRange>,
    private: Vec<IpNet>,
}

impl Associations {
    /// Those of a state, among these pools (merged) and private ranges.
    #[must_use]
    pub fn new(state: &State, pools: Vec<AddressRange>, private: Vec<IpNet>) -> Self {
        let mut associations = Self {
            pools,
            private,
            ..Self::default()
        };
        for (floating, allocation) in state.allocations() {
            let by_floating = allocation
                .association
                .map(|tie| (floating.ip(), tie.fixed.ip()));
            associations.by_floating.extend(by_floating);
            let sources = &allocation.attributes.allowed_sources;
            if !sources.is_everybody() {
                associations.sources.insert(floating.ip(), sources.clone());
            }
            if !allocation.forwards.is_empty() {
                let forwards = allocation.forwards.clone();
                associations.forwards.insert(floating.ip(), forwards);
            }
            if !allocation.kept.is_empty() {
                let kept = allocation.kept.clone();
                associations.kept.insert(floating.ip(), kept);
            }
        }
        let sources = state.sources();
        associations
            .by_fixed
            .extend(sources.map(|(fixed, floating)| (fixed.ip(), floating.ip())));
        associations
    }

    /// Whether the flow is translated as it would be if it began now.
    #[must_use]
    pub fn agree_with(&self, flow: &Flow) -> bool {
        let Flow {
            from,
            to,
            answered_by,
            answered_to,
            ..
        } = *flow;
        let forwards = self.forwards.get(&to);
        let fixed = self.by_floating.get(&to).copied();
        let inbound = match is_answered_as(flow, forwards, fixed) {
            Some(right) => right || self.keeps(to, answered_by),
            // Untranslated to a free address: the router's own affair.
            None => answered_by == to || !self.in_pool(to),
        };
        let outbound = if answered_to != from && self.in_pool(answered_to) {
            // Translated to a floating IP: its own hosts' flows only.
            self.by_fixed.get(&from) == Some(&answered_to) || self.keeps(answered_to, from)
        } else {
            // Not so translated: fine, but for a host that has a floating IP
            // and speaks to the outside.
            match self.by_fixed.get(&from) {
                Some(floating) => !self.is_outside(to) || self.keeps(*floating, from),
                None => true,
            }
        };
        let sources = self.sources.get(&to);
        let welcome = sources.is_none_or(|sources| admits(sources, flow, self.is_outside(from)));
        welcome && inbound && outbound
    }

    /// Whether flows of that host from before the association go on.
    fn keeps(&self, floating: IpAddr, host: IpAddr) -> bool {
        let kept = self.kept.get(&floating);
        kept.is_some_and(|kept| kept.iter().any(|fixed| fixed.ip() == host))
    }

    /// Whether the address is neither inside nor a floating IP.
    #[must_use]
    pub fn is_outside(&self, address: IpAddr) -> bool {
        !self.in_pool(address) && !self.private.iter().any(|net| net.contains(&address))
    }

    /// Whether the address is one of a pool.
    #[must_use]
    pub fn in_pool(&self, address: IpAddr) -> bool {
        let after = self.pools.partition_point(|range| range.first() <= address);
        after > 0 && self.pools[after - 1].contains(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Allocation, Association, PoolName, Revision, Sequence, Timestamp};

    #[test]
    fn a_flow_agrees_when_it_would_be_translated_so_if_it_began_now() {
        let range = AddressRange::new(
            "198.51.100.1".parse().unwrap(),
            "198.51.100.9".parse().unwrap(),
        );
        let pairs = [
            (
                "198.51.100.7",
                Some("10.0.0.5"),
                "8080/tcp -> 10.0.0.9:80",
                "",
            ),
            ("198.51.100.8", Some("10.0.0.6"), "", ""),
            ("198.51.100.6", Some("10.0.0.16"), "", "10.0.0.15"),
            ("198.51.100.4", Some("10.0.0.14"), "", "10.0.0.14"),
            (
                "198.51.100.5",
                None,
                "9000-9009/tcp -> 10.0.0.8:9000, outbound floating",
                "",
            ),
        ];
        let pairs = pairs.map(|(floating, fixed, forward, kept)| {
            let allocation = Allocation {
                association: fixed.map(|fixed| Association {
                    fixed: fixed.parse().unwrap(),
                    since: Timestamp(0),
                }),
                forwards: forward.parse().ok().into_iter().collect(),
                kept: kept.parse().into_iter().collect(),
                ..Allocation::new(PoolName::default_pool(), 0, Timestamp(0))
            };
            (floating.parse().unwrap(), allocation)
        });
        let state = State::load(Revision(1), Sequence(1), pairs);
        let associations = Associations::new(
            &state,
            vec![range.unwrap()],
            vec!["10.0.0.0/8".parse().unwrap()],
        );
        for (what, text, agrees) in [
            ("inbound", "192.0.2.1 198.51.100.7 10.0.0.5 192.0.2.1", true),
            (
                "inbound to the former host",
                "192.0.2.1 198.51.100.7 10.0.0.9 192.0.2.1",
                false,
            ),
            (
                "inbound, never translated",
                "192.0.2.1 198.51.100.7 198.51.100.7 192.0.2.1",
                false,
            ),
            (
                "inbound to an address that was released",
                "192.0.2.1 198.51.100.9 10.0.0.5 192.0.2.1",
                false,
            ),
            (
                "the router's own service on a free one",
                "192.0.2.1 198.51.100.9 198.51.100.9 192.0.2.1",
                true,
            ),
            (
                "outbound",
                "10.0.0.5 192.0.2.1 192.0.2.1 198.51.100.7",
                true,
            ),
            (
                "outbound of the former host",
                "10.0.0.9 192.0.2.1 192.0.2.1 198.51.100.7",
                false,
            ),
            (
                "outbound, begun before the association",
                "10.0.0.5 192.0.2.1 192.0.2.1 203.0.113.1",
                false,
            ),
            (
                "outbound, never translated",
                "10.0.0.5 192.0.2.1 192.0.2.1 10.0.0.5",
                false,
            ),
            (
                "a host without a floating IP",
                "10.0.0.77 192.0.2.1 192.0.2.1 203.0.113.1",
                true,
            ),
            (
                "from host to host",
                "10.0.0.5 10.0.1.6 10.0.1.6 10.0.0.5",
                true,
            ),
            (
                "hairpin with a floating IP",
                "10.0.0.5 198.51.100.8 10.0.0.6 198.51.100.7",
                true,
            ),
            (
                "hairpin without one",
                "10.0.0.77 198.51.100.8 10.0.0.6 10.0.0.1",
                true,
            ),
            (
                "forwarded",
                "192.0.2.1 198.51.100.7:8080 10.0.0.9:80 192.0.2.1",
                true,
            ),
            (
                "forwarded to another port",
                "192.0.2.1 198.51.100.7:8080 10.0.0.9:8080 192.0.2.1",
                false,
            ),
            (
                "begun before the port was forwarded",
                "192.0.2.1 198.51.100.7:8080 10.0.0.5:8080 192.0.2.1",
                false,
            ),
            (
                "forwarded in a range, to an address that nobody has",
                "192.0.2.1 198.51.100.5:9009 10.0.0.8:9009 192.0.2.1",
                true,
            ),
            (
                "beyond the range",
                "192.0.2.1 198.51.100.5:9010 10.0.0.8:9010 192.0.2.1",
                false,
            ),
            (
                "outbound of a host that leaves as the address of its forward",
                "10.0.0.8 192.0.2.1 192.0.2.1 198.51.100.5",
                true,
            ),
            (
                "outbound of one that does not",
                "10.0.0.9 192.0.2.1 192.0.2.1 198.51.100.7",
                false,
            ),
            (
                "inbound to a former host whose flows are kept",
                "192.0.2.1 198.51.100.6 10.0.0.15 192.0.2.1",
                true,
            ),
            (
                "outbound of a former host whose flows are kept",
                "10.0.0.15 192.0.2.1 192.0.2.1 198.51.100.6",
                true,
            ),
            (
                "inbound to a host that never had the address",
                "192.0.2.1 198.51.100.6 10.0.0.17 192.0.2.1",
                false,
            ),
            (
                "outbound, begun before an association that keeps it",
                "10.0.0.14 192.0.2.1 192.0.2.1 203.0.113.1",
                true,
            ),
            (
                "outbound, begun before an association that keeps only another's",
                "10.0.0.16 192.0.2.1 192.0.2.1 203.0.113.1",
                false,
            ),
            (
                "hairpin to the former host",
                "10.0.0.5 198.51.100.8 10.0.0.9 198.51.100.7",
                false,
            ),
        ] {
            // An address, with a port where one matters.
            let ends = text.split(' ').map(|word| match word.split_once(':') {
                Some((address, port)) => (address.parse().unwrap(), port.parse().unwrap()),
                None => (word.parse().unwrap(), 443),
            });
            let ends: Vec<(IpAddr, u16)> = ends.collect();
            let flow = Flow {
                from: ends[0].0,
                to: ends[1].0,
                answered_by: ends[2].0,
                answered_to: ends[3].0,
                protocol: 6,
                to_port: ends[1].1,
                answered_from: ends[2].1,
            };
            assert_eq!(associations.agree_with(&flow), agrees, "{what}: {text}");
        }
    }
}
