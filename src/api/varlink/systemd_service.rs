//! `io.systemd.service`: what systemd's own services let an administrator do
//! with them, by the same names.

use serde_json::{Value, json};

use super::fault::Fault;
use super::parameters::Parameters;
use crate::api::log;
use crate::authority::{Authority, Caller};
use crate::logging::{self, Level};

/// The interface.
pub(super) const SYSTEMD: &str = "io.systemd.service";

/// Its description.
pub(super) const SYSTEMD_DESCRIPTION: &str =
    include_str!("../../../interfaces/io.systemd.service.varlink");

/// Answers a call, when there is such a method.
pub(super) async fn answer(
    authority: &Authority,
    caller: &Caller,
    method: &str,
    parameters: Parameters,
) -> Option<Result<Value, Fault>> {
    Some(match method {
        "Ping" => parameters.end().map(|()| json!({})),
        "SetLogLevel" => set_log_level(authority, caller, parameters).await,
        "GetEnvironment" => environment(authority, caller, parameters).await,
        _ => return None,
    })
}

async fn set_log_level(
    authority: &Authority,
    caller: &Caller,
    mut parameters: Parameters,
) -> Result<Value, Fault> {
    let wrong = || Fault::InvalidParameter("level".to_owned());
    let number = parameters.optional_int("level")?.ok_or_else(wrong)?;
    parameters.end()?;
    let level = Level::from_number(number).ok_or_else(wrong)?;
    log::may_set(authority, caller).await?;
    let logging = logging::logging()
        .ok_or_else(|| Fault::MethodNotImplemented(format!("{SYSTEMD}.SetLogLevel")))?;
    log::set_level(logging, &caller.subject, level);
    Ok(json!({}))
}

/// The variables as they are now: the process may have other ones than it was
/// started with.
async fn environment(
    authority: &Authority,
    caller: &Caller,
    parameters: Parameters,
) -> Result<Value, Fault> {
    parameters.end()?;
    log::may_set(authority, caller).await?;
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
