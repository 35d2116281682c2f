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

/// How long it is to last.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Lasting {
    /// How long, as 30s, 10m, 2h, 7d or 1h30m, and then it ends by itself; "never" takes the end
    /// off again
    #[arg(long = "for", value_name = "TIME", value_parser = lasting)]
    pub lasting: Option<u32>,
}

/// On what terms a change is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Terms {
    dry_run: bool,
    expires_in: Option<u32>,
}

impl From<DryRun> for Terms {
    fn from(DryRun { dry_run }: DryRun) -> Self {
        Self {
            dry_run,
            ..Self::default()
        }
    }
}

impl Terms {
    /// The same, to end by itself.
    pub(super) fn lasting(self, Lasting { lasting }: Lasting) -> Self {
        Self {
            expires_in: lasting,
            ..self
        }
    }

    /// The parameters of a call, and these terms. What is not asked for is not
    /// sent: an older daemon would refuse it.
    pub(super) fn with(self, mut parameters: Value) -> Value {
        let Terms {
            dry_run,
            expires_in,
        } = self;
        if dry_run {
            parameters["dry_run"] = true.into();
        }
        if let Some(seconds) = expires_in {
            parameters["expires_in"] = seconds.into();
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

/// How long something lasts, in seconds; 0 is for ever.
fn lasting(text: &str) -> Result<u32, String> {
    if text == "never" { Ok(0) } else { time(text) }
}

/// A time such as `90s`, `2h` or `1h30m`, in seconds. The units stand from the
/// largest to the smallest, each once.
fn time(text: &str) -> Result<u32, String> {
    let wrong = || "write it as 30s, 10m, 2h, 7d or 1h30m".to_owned();
    let mut units = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)].into_iter();
    let mut rest = text;
    let mut sum = 0_u32;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit());
        let (number, after) = rest.split_at(end.ok_or_else(wrong)?);
        let number: u32 = number.parse().map_err(|_| wrong())?;
        let mut letters = after.chars();
        let letter = letters.next().ok_or_else(wrong)?;
        let (_, seconds) = units.find(|(unit, _)| *unit == letter).ok_or_else(wrong)?;
        let part = number.checked_mul(seconds);
        let total = part.and_then(|part| sum.checked_add(part));
        sum = total.ok_or_else(|| "that is too long".to_owned())?;
        rest = letters.as_str();
    }
    match sum {
        0 => Err("name more than nothing".to_owned()),
        seconds => Ok(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_systemd_and_sleep_write_it() {
        for (text, seconds) in [
            ("30s", Some(30)),
            ("10m", Some(600)),
            ("2h", Some(7_200)),
            ("7d", Some(604_800)),
            ("1h30m", Some(5_400)),
            ("1d2h3m4s", Some(93_784)),
            ("", None),
            ("30", None),
            ("h", None),
            ("0s", None),
            ("-1s", None),
            ("1.5h", None),
            ("30m1h", None),
            ("1h1h", None),
            ("2 h", None),
            ("1w", None),
            ("99999999999s", None),
            ("4294967295d", None),
            ("٣s", None),
        ] {
            assert_eq!(time(text).ok(), seconds, "{text}");
        }
        assert_eq!(lasting("never"), Ok(0));
    }
}
