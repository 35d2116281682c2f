//! What conntrack knows of an address that was tried a moment ago.
//!
//! When the router does all it can, what is left is at the other ends: a host whose
//! answers do not come this way, or a provider who does not bring them.

use std::net::IpAddr;

use crate::dataplane::Flow;

use super::finding::{Finding, Id};

/// Whether nobody answers what is begun with an address, from outside or by its
/// host. One answer shows that the way is there.
pub(super) fn unanswered(floating: IpAddr, flows: &[(Flow, bool)]) -> Option<Finding> {
    let is_inward = |flow: &Flow| flow.to == floating;
    let is_outward = |flow: &Flow| flow.answered_to == floating;
    let mut all = flows.iter();
    if all.any(|(flow, is_answered)| *is_answered && (is_inward(flow) || is_outward(flow))) {
        return None;
    }
    let inward = flows.iter().filter(|(flow, _)| is_inward(flow)).count();
    let outward = flows.iter().filter(|(flow, _)| is_outward(flow)).count();
    let (what, why) = match (inward, outward) {
        (1.., 0) => (
            format!("of {inward} flows to {floating} its host answered none"),
            "it drops them, or its answers do not come this way: the router has to be its gateway",
        ),
        (0, 1..) => (
            format!("of {outward} flows from {floating} none was answered"),
            "the provider does not bring here what is for the address, or nobody is there",
        ),
        (0, 0) | (1.., 1..) => return None,
    };
    let finding = Finding::warning(Id::NoAnswers, what).because(why);
    let family = match floating {
        IpAddr::V4(_) => "ipv4",
        IpAddr::V6(_) => "ipv6",
    };
    let remedy = format!("conntrack -L -f {family} | grep -wF {floating}");
    Some(finding.mend(remedy).of(floating))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(from: &str, to: &str, answered_by: &str, answered_to: &str) -> Flow {
        let address = |text: &str| text.parse().expect("an address");
        Flow {
            from: address(from),
            to: address(to),
            answered_by: address(answered_by),
            answered_to: address(answered_to),
            protocol: 6,
            to_port: 80,
            answered_from: 80,
        }
    }

    #[test]
    fn one_answer_shows_that_the_way_is_there() {
        let (floating, host, client) = ("198.51.100.7", "10.0.0.5", "203.0.113.9");
        let inward = flow(client, floating, host, client);
        let outward = flow(host, client, client, floating);
        let said = |flows: &[(Flow, bool)]| {
            let found = unanswered(floating.parse().expect("an address"), flows);
            found.map(|finding| finding.what)
        };
        assert_eq!(said(&[]), None);
        assert_eq!(said(&[(inward, true), (inward, false)]), None);
        assert_eq!(said(&[(outward, true), (inward, false)]), None);
        assert_eq!(said(&[(outward, false), (inward, false)]), None);
        let told = said(&[(inward, false), (inward, false)]);
        assert_eq!(
            told.as_deref(),
            Some("of 2 flows to 198.51.100.7 its host answered none")
        );
        let told = said(&[(outward, false)]);
        assert_eq!(
            told.as_deref(),
            Some("of 1 flows from 198.51.100.7 none was answered")
        );
        let of_others = flow(client, "198.51.100.8", "10.0.0.6", client);
        assert_eq!(said(&[(of_others, false)]), None);
    }
}
