//! The terms of a change, from either bus.

use crate::request::{LONGEST, LONGEST_TRIAL, Refusal, Terms};

/// Which terms a method has, besides `dry_run`.
#[derive(Clone, Copy, Debug)]
pub struct Takes {
    /// Whether `confirm`.
    pub confirm: bool,
    /// Whether `expires_in`.
    pub expires_in: bool,
}

impl Takes {
    /// All of them.
    pub const ALL: Self = Self {
        confirm: true,
        expires_in: true,
    };
    /// Of what can end, and takes nothing from anybody.
    pub const END: Self = Self {
        confirm: false,
        ..Self::ALL
    };
    /// Of what can be undone, and has no end of its own.
    pub const TRIAL: Self = Self {
        expires_in: false,
        ..Self::ALL
    };
    /// None of them.
    pub const NONE: Self = Self {
        confirm: false,
        expires_in: false,
    };
}

/// The terms by their fields.
pub fn terms(
    dry_run: bool,
    confirm: Option<i64>,
    expires_in: Option<i64>,
) -> Result<Terms, Refusal> {
    Ok(Terms {
        dry_run,
        confirm: confirm
            .map(|seconds| within("confirm", seconds, 1, LONGEST_TRIAL))
            .transpose()?,
        expires_in: expires_in
            .map(|seconds| within("expires_in", seconds, 0, LONGEST))
            .transpose()?,
    })
}

fn within(field: &str, seconds: i64, least: u32, most: u32) -> Result<u32, Refusal> {
    let number = u32::try_from(seconds).ok();
    let number = number.filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| Refusal::InvalidArgument {
        field: field.to_owned(),
        why: match least {
            0 => format!("it is 1 to {most} seconds, which are ten years, or 0 for no end"),
            _ => format!("it is {least} to {most} seconds, which are a day"),
        },
    })
}
