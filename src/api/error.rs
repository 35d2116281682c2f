//! Refusals as both buses tell them: a name, and what it was about.
//!
//! The names are those of [`Rejection::name`]; `interfaces/` has one error for
//! each. D-Bus carries the message alone, varlink the parameters as well.

use serde_json::{Map, Value, json};

use crate::control::Rejection;
use crate::request::Refusal;
use crate::wire::ForwardInfo;

/// The parameters of an error, as the varlink interface describes them. Absent
/// ones are left out.
#[must_use]
pub fn parameters(rejection: &Rejection) -> Map<String, Value> {
    let mut parameters = match rejection {
        Rejection::Refused(refusal) => about(refusal),
        Rejection::Busy
        | Rejection::StoreFailed(_)
        | Rejection::ConfigurationInvalid(_)
        | Rejection::CountersOff
        | Rejection::KernelFailed(_)
        | Rejection::Stopping => json!({}),
        Rejection::SequenceGone {
            after: _,
            first,
            last,
        } => json!({"first": first, "last": last}),
    };
    parameters["message"] = rejection.to_string().into();
    match parameters {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .collect(),
        _ => Map::new(),
    }
}

fn about(refusal: &Refusal) -> Value {
    match refusal {
        Refusal::InvalidAddress { field, value, .. } => json!({"field": field, "value": value}),
        Refusal::InvalidArgument { field, .. } => json!({"field": field}),
        Refusal::NoSuchPool(pool) => json!({"pool": pool}),
        Refusal::NotInPool { address, pool, .. } => json!({"address": address, "pool": pool}),
        Refusal::AlreadyAllocated { floating, .. }
        | Refusal::RouterAddress { floating }
        | Refusal::NotAllocated { floating }
        | Refusal::Protected { floating }
        | Refusal::OwnerChanged { floating } => {
            json!({"floating_ip": floating})
        }
        Refusal::AddressResting { floating, until } => {
            json!({"floating_ip": floating, "resting_until": until})
        }
        Refusal::PoolExhausted { family, pool } => json!({"family": family, "pool": pool}),
        Refusal::OutsidePrivateRanges { fixed, .. }
        | Refusal::OutsidePermittedRanges { fixed }
        | Refusal::NotAHost { fixed, .. } => {
            json!({"fixed_address": fixed})
        }
        Refusal::WrongFamily { floating, fixed }
        | Refusal::AlreadyAssociated { floating, fixed }
        | Refusal::TargetInUse { fixed, floating } => {
            json!({"floating_ip": floating, "fixed_address": fixed})
        }
        Refusal::NotAssociated { address } => json!({"address": address}),
        Refusal::ForwardClash {
            floating, other, ..
        } => json!({
            "floating_ip": floating,
            "forward": ForwardInfo::from(other),
        }),
        Refusal::OutboundClash { fixed, floating } => {
            json!({"floating_ip": floating, "fixed_address": fixed})
        }
        Refusal::ForwardLimitReached {
            limit,
            what,
            family,
        } => json!({"limit": limit, "what": what, "family": family}),
        Refusal::QuotaExceeded { owner, quota } => json!({"owner": owner, "quota": quota}),
        Refusal::Unconfirmed { floating, until } => {
            json!({"floating_ip": floating, "until": until})
        }
        Refusal::NothingUnconfirmed { address } => json!({"address": address}),
        Refusal::SourceLimitReached { limit, family } | Refusal::LimitReached { limit, family } => {
            json!({"limit": limit, "family": family})
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::{NotAHost, Sequence, Timestamp};

    const INTERFACE: &str = include_str!("../../interfaces/org.ipfloater.varlink");

    /// Each rejection once, with everything that it can say.
    fn all() -> Vec<Rejection> {
        let floating = "203.0.113.7".parse().unwrap();
        let fixed = "10.0.0.5".parse().unwrap();
        let address = "10.0.0.5".parse().unwrap();
        let pool: crate::model::PoolName = "blue".parse().unwrap();
        let family = "IPv4".to_owned();
        let refusals = [
            Refusal::invalid_address("address", "x", "it is none"),
            Refusal::InvalidArgument {
                field: "limit".to_owned(),
                why: "it is 1 to 1000".to_owned(),
            },
            Refusal::NoSuchPool(pool.clone()),
            Refusal::NotInPool {
                address,
                pool: Some(pool.clone()),
                home: None,
            },
            Refusal::AlreadyAllocated {
                floating,
                noted: false,
            },
            Refusal::PoolExhausted {
                family: family.clone(),
                pool: Some(pool),
            },
            Refusal::WrongFamily { floating, fixed },
            Refusal::OutsidePrivateRanges {
                fixed,
                private: Vec::new(),
                home: None,
                swapped: false,
            },
            Refusal::NotAHost {
                fixed,
                why: NotAHost::Router,
            },
            Refusal::RouterAddress { floating },
            Refusal::AlreadyAssociated { floating, fixed },
            Refusal::TargetInUse { fixed, floating },
            Refusal::NotAssociated { address },
            Refusal::OwnerChanged { floating },
            Refusal::NotAllocated { floating },
            Refusal::Protected { floating },
            Refusal::AddressResting {
                floating,
                until: Timestamp(1),
            },
            Refusal::QuotaExceeded {
                owner: 1000,
                quota: 3,
            },
            Refusal::OutsidePermittedRanges { fixed },
            Refusal::ForwardClash {
                floating,
                other: "80/tcp -> 10.0.0.5:80".parse().unwrap(),
                same: true,
            },
            Refusal::OutboundClash { fixed, floating },
            Refusal::ForwardLimitReached {
                limit: 9,
                what: "ports",
                family: family.clone(),
            },
            Refusal::Unconfirmed {
                floating: Some(floating),
                until: crate::model::Timestamp(1),
            },
            Refusal::NothingUnconfirmed {
                address: Some(address),
            },
            Refusal::SourceLimitReached {
                limit: 9,
                family: family.clone(),
            },
            Refusal::LimitReached { limit: 9, family },
        ];
        let refused = refusals.into_iter().map(Rejection::Refused);
        let others = [
            Rejection::Busy,
            Rejection::StoreFailed("no space".to_owned()),
            Rejection::ConfigurationInvalid("line 1".to_owned()),
            Rejection::SequenceGone {
                after: Sequence(1),
                first: Sequence(3),
                last: Sequence(4),
            },
            Rejection::CountersOff,
            Rejection::KernelFailed("reading counters".to_owned()),
            Rejection::Stopping,
        ];
        refused.chain(others).collect()
    }

    /// The fields of a declaration such as `error Busy (`.
    fn fields(declaration: &str) -> BTreeSet<String> {
        let start = INTERFACE
            .find(declaration)
            .unwrap_or_else(|| panic!("{declaration}"));
        let body = &INTERFACE[start + declaration.len()..];
        let body = &body[..body.find("\n)").unwrap()];
        body.lines()
            .map(str::trim)
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| Some(line.split_once(':')?.0.to_owned()))
            .collect()
    }

    #[test]
    fn the_interface_has_every_rejection_with_these_parameters_and_no_other() {
        for rejection in all() {
            let said: BTreeSet<_> = parameters(&rejection).keys().cloned().collect();
            let name = rejection.name();
            assert_eq!(said, fields(&format!("error {name} (")), "{name}");
        }
        // And `Overflow`, which only a monitor gives, and `CallerUnidentified`,
        // which the bus never needs.
        let declared = INTERFACE.matches("\nerror ").count();
        assert_eq!(declared, all().len() + 2);
    }
}
