//! Noting something else of floating IPs.

use crate::model::Change;
use crate::request::{Refusal, Update};

use super::{Decision, View, resolve};

/// Decides what an update changes. Packets never notice one.
pub(super) fn update(view: View<'_>, request: &Update) -> Result<Decision, Refusal> {
    let Update {
        address,
        alteration,
    } = request;
    let floating = resolve(view.state, view.site, *address)?;
    let Some(allocation) = view.state.allocation(floating) else {
        return Err(Refusal::NotAllocated { floating });
    };
    let before = allocation.attributes.clone();
    let after = alteration
        .of(&before)
        .map_err(|why| Refusal::InvalidArgument {
            field: "tags".to_owned(),
            why: why.to_string(),
        })?;
    if after == before {
        return Ok(Decision::nothing(floating));
    }
    Ok(Decision {
        changes: vec![Change::Update {
            floating,
            before,
            after,
        }],
        ..Decision::nothing(floating)
    })
}
