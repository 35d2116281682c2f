//! The options that every verb that alters something has.

use clap::Args;
use serde_json::Value;

use super::Failure;
use super::output::Output;
use crate::wire::EffectInfo;

/// Whether to do it at all.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct DryRun {
    /// Tell what would be done to store, kernel, addresses and flows, and do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// On what terms a change is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Terms {
    dry_run: bool,
}

impl From<DryRun> for Terms {
    fn from(DryRun { dry_run }: DryRun) -> Self {
        Self { dry_run }
    }
}

impl Terms {
    /// The parameters of a call, and these terms. What is not asked for is not
    /// sent: an older daemon would refuse it.
    pub(super) fn with(self, mut parameters: Value) -> Value {
        let Terms { dry_run } = self;
        if dry_run {
            parameters["dry_run"] = true.into();
        }
        parameters
    }
}

/// Tells what would be done.
pub(super) fn forecast(
    output: &mut Output<'_>,
    changed: bool,
    effects: &[EffectInfo],
) -> Result<(), Failure> {
    output.line(if changed {
        "A dry run: nothing was done. What would be:"
    } else {
        "A dry run: it is as asked already, and nothing would be done"
    })?;
    for EffectInfo { kind, text } in effects {
        output.line(&format!("{kind:>9}: {text}"))?;
    }
    Ok(())
}
