//! Routing rules and the tables of uplinks, by rtnetlink(7).
//!
//! Both carry [`PROTOCOL`]; what does not is somebody else's and is left alone.

use std::net::IpAddr;

use neli::consts::nl::NlmF;
use neli::consts::rtnl::Rtm;
use nix::errno::Errno;
use nix::libc;

use crate::dataplane::{Rerouting, Routing, RoutingRule, UplinkRoute, Way};
use crate::model::Family;

use super::rtnl::{ONLINK, RTA_TABLE, RTA_VIA, Rtnl, u32_of};
use super::socket::{self, Attributes, Message, address_family, attribute, family_of};
use super::{KernelError, Operation, PROTOCOL};

/// Attributes of rules (include/uapi/linux/fib_rules.h); `FRA_PROTOCOL` is of
/// Linux 4.17.
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_PROTOCOL: u16 = 21;

/// `FIB_RULE_INVERT` and `FR_ACT_TO_TBL` of the same file.
const INVERT: u32 = 2;
const TO_TABLE: u8 = 1;

/// The highest metric: every other route of the table comes first.
const LAST: u32 = u32::MAX;

impl Rtnl {
    /// The rules of ours.
    pub(super) fn rules(&mut self, family: Family) -> Result<Vec<RoutingRule>, KernelError> {
        // struct fib_rule_hdr: 12 bytes, family first.
        let mut request = [0; 12];
        request[0] = address_family(family);
        let rules = self.socket.dump(
            Rtm::Getrule,
            &request.as_slice(),
            |rules: &mut Vec<_>, message| rules.extend(rule(&message)),
        );
        match rules {
            Err(error) if is_without_rules(&error) => Ok(Vec::new()),
            rules => rules,
        }
    }

    /// Alters rules and routes, and says what could not be altered.
    pub(super) fn reroute(&mut self, rerouting: &Rerouting) -> Vec<KernelError> {
        let Rerouting { remove, add } = rerouting;
        // NLM_F_EXCL would mean NLM_F_BULK on a delete: no flags.
        let gone = [Errno::ENOENT, Errno::ESRCH, Errno::ENODEV];
        let mut failed =
            self.alter_routing(remove, [Rtm::Delrule, Rtm::Delroute], NlmF::REQUEST, &gone);
        let flags = NlmF::REQUEST | NlmF::CREATE | NlmF::EXCL;
        let kinds = [Rtm::Newrule, Rtm::Newroute];
        failed.extend(self.alter_routing(add, kinds, flags, &[Errno::EEXIST]));
        failed
    }

    fn alter_routing(
        &mut self,
        routing: &Routing,
        [rule, route]: [Rtm; 2],
        flags: NlmF,
        fine: &[Errno],
    ) -> Vec<KernelError> {
        let verb = match rule {
            Rtm::Newrule => "add",
            _ => "delete",
        };
        let rules = routing.rules.iter();
        let rules = rules.map(|it| (rule, rule_payload(it), format!("ip rule {verb} {it}")));
        let routes = routing.routes.iter();
        let routes = routes.map(|it| (route, route_payload(it), format!("ip route {verb} {it}")));
        let mut failed = Vec::new();
        for (kind, payload, order) in routes.chain(rules) {
            let sequence = self.socket.next_sequence();
            let flags = flags | NlmF::ACK;
            let message = socket::message(kind, flags, sequence, payload.as_slice());
            let operation = Operation::Reroute(order);
            match self.socket.exchange(&message, |_| {}) {
                Ok(answers) => {
                    let mut refusals = answers.refusals.into_iter();
                    let refusal =
                        refusals.find(|refusal| !fine.contains(&Errno::from_raw(refusal.errno)));
                    failed.extend(refusal.map(|refusal| refusal.of(operation)));
                }
                Err(error) => failed.push(KernelError::new(operation, error)),
            }
        }
        failed
    }
}

/// Whether the kernel has no rules at all: it was built without them, or IPv6 is
/// switched off (`fib_nl_dumprule`).
fn is_without_rules(error: &KernelError) -> bool {
    let errno = error.errno().map(Errno::from_raw);
    matches!(errno, Some(Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP))
}

/// A rule of ours.
pub(super) fn rule(message: &Message<'_>) -> Option<RoutingRule> {
    let header = message.payload.get(..12)?;
    let flags = u32::from_ne_bytes(header[8..12].try_into().ok()?);
    let mut rule = RoutingRule {
        family: family_of(header[0])?,
        preference: 0,
        mark: 0,
        mask: 0,
        inverted: flags & INVERT != 0,
        table: u32::from(header[4]),
        specific: false,
    };
    let mut protocol = 0;
    for (kind, value) in Attributes::new(&message.payload[12..]) {
        match kind {
            FRA_PRIORITY => rule.preference = u32_of(value)?,
            FRA_FWMARK => rule.mark = u32_of(value)?,
            FRA_FWMASK => rule.mask = u32_of(value)?,
            FRA_TABLE => rule.table = u32_of(value)?,
            // -1 stands for none.
            FRA_SUPPRESS_PREFIXLEN => rule.specific = u32_of(value)? == 0,
            FRA_PROTOCOL => protocol = *value.first()?,
            _ => {}
        }
    }
    (protocol == PROTOCOL).then_some(rule)
}

fn rule_payload(rule: &RoutingRule) -> Vec<u8> {
    let RoutingRule {
        family,
        preference,
        mark,
        mask,
        inverted,
        table,
        specific,
    } = *rule;
    // The table is in an attribute: its number has more than 8 bits.
    let mut payload = vec![address_family(family), 0, 0, 0, 0, 0, 0, TO_TABLE];
    let flags = if inverted { INVERT } else { 0 };
    payload.extend(flags.to_ne_bytes());
    let mut word = |kind, value: u32| payload.extend(attribute(kind, &value.to_ne_bytes()));
    word(FRA_PRIORITY, preference);
    word(FRA_FWMARK, mark);
    word(FRA_FWMASK, mask);
    word(FRA_TABLE, table);
    if specific {
        word(FRA_SUPPRESS_PREFIXLEN, 0);
    }
    payload.extend(attribute(FRA_PROTOCOL, &[PROTOCOL]));
    payload
}

fn route_payload(route: &UplinkRoute) -> Vec<u8> {
    let UplinkRoute { family, table, way } = *route;
    let (kind, scope, flags) = match way {
        Way::Via {
            gateway: Some(_), ..
        } => (libc::RTN_UNICAST, libc::RT_SCOPE_UNIVERSE, ONLINK),
        Way::Via { gateway: None, .. } => (libc::RTN_UNICAST, libc::RT_SCOPE_LINK, 0),
        Way::Nowhere => (libc::RTN_UNREACHABLE, libc::RT_SCOPE_UNIVERSE, 0),
    };
    // IPv6 knows no other scope.
    let scope = match family {
        Family::V4 => scope,
        Family::V6 => libc::RT_SCOPE_UNIVERSE,
    };
    let mut payload = vec![address_family(family), 0, 0, 0, 0, PROTOCOL, scope, kind];
    payload.extend(flags.to_ne_bytes());
    payload.extend(attribute(RTA_TABLE, &table.to_ne_bytes()));
    match way {
        Way::Nowhere => payload.extend(attribute(libc::RTA_PRIORITY, &LAST.to_ne_bytes())),
        Way::Via { interface, gateway } => {
            payload.extend(attribute(libc::RTA_OIF, &interface.0.to_ne_bytes()));
            payload.extend(gateway.iter().flat_map(|gateway| via(family, *gateway)));
        }
    }
    payload
}

/// The attribute of a next hop, which may be of the other family: `RTA_VIA` has
/// it in front.
fn via(family: Family, gateway: IpAddr) -> Vec<u8> {
    let octets = match gateway {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let of_gateway = Family::of(gateway);
    if of_gateway == family {
        return attribute(libc::RTA_GATEWAY, &octets);
    }
    let mut value = u16::from(address_family(of_gateway)).to_ne_bytes().to_vec();
    value.extend(octets);
    attribute(RTA_VIA, &value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_without_rules_has_none_of_ours() {
        let mut socket = Rtnl::open_unprivileged().unwrap();
        // No family has this number. The kernel's answer is the one for IPv6 that is
        // switched off.
        let request: &[u8] = &[99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let refused = socket
            .socket
            .dump(Rtm::Getrule, &request, |(): &mut (), _| {});
        assert!(is_without_rules(&refused.unwrap_err()));
        for family in Family::BOTH {
            assert!(socket.rules(family).is_ok());
        }
    }
}
