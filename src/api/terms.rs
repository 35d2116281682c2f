//! The terms of a change, from either bus.

use crate::request::{LONGEST, Refusal, Terms};

/// Which terms a method has, besides `dry_run`.
#[derive(Clone, Copy, Debug)]
pub struct Takes {
    /// Whether `expires_in`.
    pub expires_in: bool,
}

impl Takes {
    /// Of a method that gives something that can have an end.
    pub const END: Self = Self { expires_in: true };
    /// Of the others.
    pub const NONE: Self = Self { expires_in: false };
}

/// The terms by their fields.
pub fn terms(dry_run: bool, expires_in: Option<i64>) -> Result<Terms, Refusal> {
    Ok(Terms {
        dry_run,
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
            0 => format!("it is 1 to {most} seconds, or 0 for no end"),
            _ => format!("it is {least} to {most} seconds"),
        },
    })
}
