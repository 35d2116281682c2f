//! Noting something else of floating IPs.

use crate::model::Change;
use crate::request::{Refusal, Update};

use super::{Decision, View, resolve};

/// Decides what an update changes.
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
    let (family, sources) = (floating.family(), &after.allowed_sources);
    if let Some(net) = sources.stranger(family) {
        return Err(Refusal::InvalidArgument {
            field: "allowed_sources".to_owned(),
            why: format!("{net} is not {family}, as {floating} is"),
        });
    }
    let others = view.state.sources_allowed(family) as usize - before.allowed_sources.iter().len();
    let limit = view.ruleset.allowed();
    if others + sources.iter().len() > limit as usize {
        return Err(Refusal::SourceLimitReached {
            limit,
            family: family.to_string(),
        });
    }
    Ok(Decision {
        changes: vec![Change::Update {
            floating,
            before: before.into(),
            after: after.into(),
        }],
        ..Decision::nothing(floating)
    })
}
