//! Refusals as both buses tell them: a name, and what it was about.
//!
//! The names are those of [`Rejection::name`]; `interfaces/` has one error for
//! each. D-Bus carries the message alone, varlink the parameters as well.

use serde_json::{Map, Value, json};

use crate::control::Rejection;
use crate::request::Refusal;

/// The parameters of an error, as the varlink interface describes them. Absent
/// ones are left out.
#[must_use]
pub fn parameters(rejection: &Rejection) -> Map<String, Value> {
    let mut parameters = match rejection {
        Rejection::Refused(refusal) => about(refusal),
        Rejection::Busy | Rejection::StoreFailed(_) | Rejection::Stopping => json!({}),
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
        Refusal::NotInPool { address, pool } => json!({"address": address, "pool": pool}),
        Refusal::AlreadyAllocated { floating } | Refusal::RouterAddress { floating } => {
            json!({"floating_ip": floating})
        }
        Refusal::PoolExhausted { family, pool } => json!({"family": family, "pool": pool}),
        Refusal::OutsidePrivateRanges { fixed } | Refusal::NotAHost { fixed, .. } => {
            json!({"fixed_address": fixed})
        }
        Refusal::WrongFamily { floating, fixed }
        | Refusal::AlreadyAssociated { floating, fixed }
        | Refusal::TargetInUse { fixed, floating } => {
            json!({"floating_ip": floating, "fixed_address": fixed})
        }
        Refusal::NotAssociated { address } => json!({"address": address}),
        Refusal::LimitReached { limit, family } => json!({"limit": limit, "family": family}),
    }
}
