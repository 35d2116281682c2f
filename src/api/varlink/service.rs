//! `org.varlink.service`: what the service tells about itself.

use serde_json::{Value, json};

use super::fault::Fault;
use super::parameters::Parameters;
use super::systemd_service::{SYSTEMD, SYSTEMD_DESCRIPTION};
use super::{DESCRIPTION, INTERFACE};

/// The interface.
pub(super) const SERVICE: &str = "org.varlink.service";

const SERVICE_DESCRIPTION: &str = include_str!("../../../interfaces/org.varlink.service.varlink");

/// Who makes it, what it is, and what it can do.
pub(super) fn info(parameters: Parameters) -> Result<Value, Fault> {
    parameters.end()?;
    Ok(json!({
        "vendor": "IP Floater",
        "product": "ipfloaterd",
        "version": env!("CARGO_PKG_VERSION"),
        "url": env!("CARGO_PKG_REPOSITORY"),
        "interfaces": [INTERFACE, SYSTEMD, SERVICE],
    }))
}

/// The description of an interface.
pub(super) fn description(mut parameters: Parameters) -> Result<Value, Fault> {
    let interface = parameters.text("interface")?;
    parameters.end()?;
    let description = match interface.as_str() {
        INTERFACE => DESCRIPTION,
        SERVICE => SERVICE_DESCRIPTION,
        SYSTEMD => SYSTEMD_DESCRIPTION,
        _ => return Err(Fault::InterfaceNotFound(interface)),
    };
    Ok(json!({ "description": description }))
}
