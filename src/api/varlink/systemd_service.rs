//! `io.systemd.service`: what systemd's own services let an administrator do
//! with them, by the same names.

use serde_json::{Value, json};

use super::fault::Fault;
use super::parameters::Parameters;
use crate::api::log;
use crate::authority::{Authority, Subject};
use crate::logging::{self, Level};

/// The interface.
pub(super) const SYSTEMD: &str = "io.systemd.service";

/// Its description.
pub(super) const SYSTEMD_DESCRIPTION: &str =
    include_str!("../../../interfaces/io.systemd.service.varlink");

/// Answers a call of the method with this full name.
pub(super) fn answer(
    authority: &Authority,
    caller: Subject,
    method: String,
    parameters: Parameters,
) -> Result<Value, Fault> {
    match method.strip_prefix("io.systemd.service.") {
        Some("Ping") => ping(parameters),
        Some("SetLogLevel") => set_log_level(authority, caller, method, parameters),
        Some("GetEnvironment") => environment(authority, caller, parameters),
        Some(_) | None => Err(Fault::MethodNotFound(method)),
    }
}

fn ping(parameters: Parameters) -> Result<Value, Fault> {
    parameters.end()?;
    Ok(json!({}))
}

fn set_log_level(
    authority: &Authority,
    caller: Subject,
    method: String,
    mut parameters: Parameters,
) -> Result<Value, Fault> {
    let wrong = || Fault::InvalidParameter("level".to_owned());
    let number = parameters.optional_int("level")?.ok_or_else(wrong)?;
    parameters.end()?;
    let level = Level::from_number(number).ok_or_else(wrong)?;
    log::may_set(authority, caller).map_err(|_| Fault::PermissionDenied)?;
    let logging = logging::logging().ok_or(Fault::MethodNotImplemented(method))?;
    log::set_level(logging, caller, level);
    Ok(json!({}))
}

/// The variables as they are now: the process may have other ones than it was
/// started with.
fn environment(
    authority: &Authority,
    caller: Subject,
    parameters: Parameters,
) -> Result<Value, Fault> {
    parameters.end()?;
    log::may_read_environment(authority, caller).map_err(|_| Fault::PermissionDenied)?;
    let variables: Option<Vec<String>> = std::env::vars_os()
        .map(|(name, value)| {
            let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
            Some(format!("{name}={value}"))
        })
        .collect();
    match variables {
        Some(variables) => Ok(json!({ "environment": variables })),
        None => Err(Fault::InconsistentEnvironment),
    }
}
