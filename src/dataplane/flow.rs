//! Which of conntrack's flows agree with the associations.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{AddressRange, FixedIp, FloatingIp};

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
}

/// Which host has which floating IP, and where inside is: what every flow is
/// held against.
#[derive(Clone, Debug, Default)]
pub struct Associations {
    by_floating: HashMap<IpAddr, IpAddr>,
    by_fixed: HashMap<IpAddr, IpAddr>,
    pools: Vec<AddressRange>,
    private: Vec<IpNet>,
}

impl Associations {
    /// These associations, among these pools (merged) and private ranges.
    #[must_use]
    pub fn new(
        pairs: impl IntoIterator<Item = (FloatingIp, FixedIp)>,
        pools: Vec<AddressRange>,
        private: Vec<IpNet>,
    ) -> Self {
        let mut associations = Self {
            pools,
            private,
            ..Self::default()
        };
        for (floating, fixed) in pairs {
            associations.by_floating.insert(floating.ip(), fixed.ip());
            associations.by_fixed.insert(fixed.ip(), floating.ip());
        }
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
        } = *flow;
        let inbound = match self.by_floating.get(&to) {
            Some(fixed) => answered_by == *fixed,
            // Untranslated to a free address: the router's own affair.
            None => answered_by == to || !self.in_pool(to),
        };
        let outbound = if answered_to != from && self.in_pool(answered_to) {
            // Translated to a floating IP: its own host's flows only.
            self.by_floating.get(&answered_to) == Some(&from)
        } else {
            // Not so translated: fine, but for a host that has a floating IP
            // and speaks to the outside.
            !(self.by_fixed.contains_key(&from) && self.is_outside(to))
        };
        inbound && outbound
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

    #[test]
    fn a_flow_agrees_when_it_would_be_translated_so_if_it_began_now() {
        let range = AddressRange::new(
            "198.51.100.1".parse().unwrap(),
            "198.51.100.9".parse().unwrap(),
        );
        let pairs = [("198.51.100.7", "10.0.0.5"), ("198.51.100.8", "10.0.0.6")];
        let pairs =
            pairs.map(|(floating, fixed)| (floating.parse().unwrap(), fixed.parse().unwrap()));
        let associations = Associations::new(
            pairs,
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
                "hairpin to the former host",
                "10.0.0.5 198.51.100.8 10.0.0.9 198.51.100.7",
                false,
            ),
        ] {
            let address: Vec<IpAddr> = text.split(' ').map(|word| word.parse().unwrap()).collect();
            let flow = Flow {
                from: address[0],
                to: address[1],
                answered_by: address[2],
                answered_to: address[3],
            };
            assert_eq!(associations.agree_with(&flow), agrees, "{what}: {text}");
        }
    }
}
