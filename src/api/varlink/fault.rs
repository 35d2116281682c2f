//! Errors as varlink replies.

use std::borrow::Cow;

use serde_json::{Map, Value};
use varlink::Reply;

use super::INTERFACE;
use super::systemd_service::SYSTEMD;
use crate::api::error;
use crate::authority::{Denied, Unanswered};
use crate::control::Rejection;
use crate::model::Sequence;
use crate::request::Refusal;

const PERMISSION_DENIED: &str = "org.varlink.service.PermissionDenied";

/// Why a call has no answer. Each is one error in `interfaces/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// There is no interface of that name.
    InterfaceNotFound(String),
    /// The interface has no method of that full name.
    MethodNotFound(String),
    /// The method cannot be called that way.
    MethodNotImplemented(String),
    /// The parameter is missing, unknown, of the wrong type, or given twice.
    InvalidParameter(String),
    /// The caller may not.
    Denied(Denied),
    /// Only root and the daemon's own user may, whatever the policy says.
    PermissionDenied,
    /// The method answers more than once, and the caller did not ask for that.
    ExpectedMore,
    /// The daemon's environment holds something that is no text.
    InconsistentEnvironment,
    /// The controller did not do it.
    Rejected(Rejection),
    /// Events were lost after this one.
    Overflow(Sequence),
}

impl From<Rejection> for Fault {
    fn from(rejection: Rejection) -> Self {
        Fault::Rejected(rejection)
    }
}

impl From<Denied> for Fault {
    fn from(denied: Denied) -> Self {
        Fault::Denied(denied)
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Fault::Rejected(refusal.into())
    }
}

impl From<Fault> for Reply {
    fn from(fault: Fault) -> Reply {
        let (name, parameters) = match fault {
            Fault::InterfaceNotFound(interface) => {
                ("InterfaceNotFound", one("interface", interface))
            }
            Fault::MethodNotFound(method) => ("MethodNotFound", one("method", method)),
            Fault::MethodNotImplemented(method) => ("MethodNotImplemented", one("method", method)),
            Fault::InvalidParameter(parameter) => ("InvalidParameter", one("parameter", parameter)),
            Fault::Denied(denied) => return may_not(&denied),
            Fault::PermissionDenied => ("PermissionDenied", Map::new()),
            Fault::ExpectedMore => ("ExpectedMore", Map::new()),
            Fault::InconsistentEnvironment => {
                return reply(format!("{SYSTEMD}.InconsistentEnvironment"), Map::new());
            }
            Fault::Rejected(rejection) => {
                return ours(rejection.name(), error::parameters(&rejection));
            }
            Fault::Overflow(last) => {
                let mut parameters = one(
                    "message",
                    "events were lost because they were read too slowly; call again for the state of now",
                );
                parameters.insert("sequence".to_owned(), last.0.into());
                return ours("Overflow", parameters);
            }
        };
        reply(format!("org.varlink.service.{name}"), parameters)
    }
}

/// The standard errors say nothing but their names, unless nobody was asked: then
/// it is no rule of the administrator's that decides.
fn may_not(denied: &Denied) -> Reply {
    let message = || one("message", denied.to_string());
    match denied {
        Denied::Unanswered {
            why: Unanswered::Unidentified,
            ..
        } => ours("CallerUnidentified", message()),
        Denied::Refused { .. } => reply(PERMISSION_DENIED.into(), Map::new()),
        Denied::Unanswered { .. } => reply(PERMISSION_DENIED.into(), message()),
        Denied::NeedsAuthentication { .. } => reply(
            "io.systemd.InteractiveAuthenticationRequired".into(),
            Map::new(),
        ),
        Denied::TooManyPrompts { .. } => ours("Busy", message()),
    }
}

fn ours(name: &str, parameters: Map<String, Value>) -> Reply {
    reply(format!("{INTERFACE}.{name}"), parameters)
}

fn reply(error: String, parameters: Map<String, Value>) -> Reply {
    let parameters = (!parameters.is_empty()).then_some(Value::Object(parameters));
    Reply::error(Cow::Owned(error), parameters)
}

fn one(name: &str, value: impl Into<Value>) -> Map<String, Value> {
    Map::from_iter([(name.to_owned(), value.into())])
}
