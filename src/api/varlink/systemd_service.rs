//! `io.systemd.service`: what systemd's own services let an administrator do
//! with them, by the same names.

use serde_json::{Value, json};

use super::fault::Fault;
use super::front::INTERACTIVE;
use super::message::Mode;
use super::parameters::Parameters;
use crate::api::log;
use crate::authority::{Authority, Caller, Subject, Verb};
use crate::logging::{self, Level};

/// The interface.
pub(super) const SYSTEMD: &str = "io.systemd.service";

/// Its description.
pub(super) const SYSTEMD_DESCRIPTION: &str =
    include_str!("../../../interfaces/io.systemd.service.varlink");

/// Answers a call of the method with this full name.
pub(super) async fn answer(
    authority: &Authority,
    subject: Subject,
    mode: Mode,
    method: String,
    parameters: Parameters,
) -> Result<Value, Fault> {
    match method.strip_prefix("io.systemd.service.") {
        Some("Ping") => ping(parameters),
        Some("SetLogLevel") => set_log_level(authority, subject, mode, method, parameters).await,
        Some("GetEnvironment") => environment(authority, &subject, parameters),
        Some(_) | None => Err(Fault::MethodNotFound(method)),
    }
}

fn ping(parameters: Parameters) -> Result<Value, Fault> {
    parameters.end()?;
    Ok(json!({}))
}

async fn set_log_level(
    authority: &Authority,
    subject: Subject,
    mode: Mode,
    method: String,
    mut parameters: Parameters,
) -> Result<Value, Fault> {
    let wrong = || Fault::InvalidParameter("level".to_owned());
    let number = parameters.optional_int("level")?.ok_or_else(wrong)?;
    let interactive = parameters.flag(INTERACTIVE)? && mode != Mode::Oneway;
    parameters.end()?;
    let level = Level::from_number(number).ok_or_else(wrong)?;
    let caller = Caller {
        subject,
        interactive,
    };
    authority.may(&caller, Verb::SetLogLevel).await?;
    let logging = logging::logging().ok_or(Fault::MethodNotImplemented(method))?;
    log::set_level(logging, &caller.subject, level);
    Ok(json!({}))
}

/// The variables as they are now: the process may have other ones than it was
/// started with.
fn environment(
    authority: &Authority,
    subject: &Subject,
    parameters: Parameters,
) -> Result<Value, Fault> {
    parameters.end()?;
    if !log::may_read_environment(authority, subject) {
        return Err(Fault::PermissionDenied);
    }
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
