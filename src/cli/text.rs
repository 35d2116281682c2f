//! What a person reads: times, users, and text from elsewhere made harmless.

use std::time::{SystemTime, UNIX_EPOCH};

use std::borrow::Cow;

use nix::unistd::{Uid, User};

use crate::model::Timestamp;
use crate::text::escape;
pub(super) use crate::text::harmless;

/// JSON without what a terminal would obey. It stays the same JSON: harmful
/// characters can only be inside its strings.
#[must_use]
pub(super) fn harmless_json(json: &str) -> Cow<'_, str> {
    escape(json, |c, clean| {
        // All of them are below U+10000, so one escape is enough.
        clean.push_str(&format!("\\u{:04x}", u32::from(c)));
    })
}

/// A moment, in UTC: `2026-11-23 05:29:42Z`.
#[must_use]
pub(super) fn moment(seconds: i64) -> String {
    Timestamp(seconds).to_string()
}

/// The name of a user, or the number when there is no name.
#[must_use]
pub(super) fn user(uid: u32) -> String {
    let found = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    found.map_or_else(|| uid.to_string(), |user| harmless(&user.name).into_owned())
}

/// The uid of a user who is given by name or number.
#[must_use]
pub(super) fn uid(user: &str) -> Option<u32> {
    match user.parse() {
        Ok(uid) => Some(uid),
        Err(_) => User::from_name(user)
            .ok()
            .flatten()
            .map(|user| user.uid.as_raw()),
    }
}

/// A number with the letter of its size: `12.3 k`, `4.56 M`.
#[must_use]
pub(super) fn short(number: f64) -> String {
    let sizes = [("G", 1e9), ("M", 1e6), ("k", 1e3)];
    match sizes.into_iter().find(|(_, size)| number >= *size) {
        Some((letter, size)) => {
            let scaled = number / size;
            let places = if scaled < 10.0 {
                2
            } else if scaled < 100.0 {
                1
            } else {
                0
            };
            format!("{scaled:.places$} {letter}")
        }
        None => format!("{number:.0} "),
    }
}

/// A number of bytes: `999B`, `1.23MB`.
#[must_use]
pub(super) fn bytes(number: u64) -> String {
    // Nobody has that many that a digit of it would be lost in the text.
    format!("{}B", short(number as f64)).replace(' ', "")
}

/// Seconds since 1970 UTC.
#[must_use]
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs().cast_signed())
}

/// How long ago a moment was, in the largest unit: `45s`, `3h`, `12d`.
#[must_use]
pub(super) fn age(since: i64, now: i64) -> String {
    let seconds = now.saturating_sub(since).max(0);
    let sizes = [('d', 86_400), ('h', 3_600), ('m', 60)];
    let size = sizes.into_iter().find(|(_, size)| seconds >= *size);
    match size {
        Some((letter, size)) => format!("{}{letter}", seconds / size),
        None => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_that_came_from_elsewhere() {
        assert_eq!(harmless("eth0 is down"), "eth0 is down");
        assert_eq!(harmless("a\x1b[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(harmless("a\r\nb"), "a\\r\\nb");
        assert_eq!(
            harmless_json("{\"a\":\"\u{9b}1m\"}"),
            "{\"a\":\"\\u009b1m\"}"
        );
        assert_eq!(harmless("\u{202e}x\u{9b}1m"), "\\u{202e}x\\u{9b}1m");
    }

    #[test]
    fn users_go_by_name_or_number() {
        assert_eq!(uid("root"), Some(0));
        assert_eq!(uid("4242424"), Some(4_242_424));
        assert_eq!(uid("no such user"), None);
        assert_eq!(user(0), "root");
        assert_eq!(user(4_242_424), "4242424");
    }

    #[test]
    fn an_age_is_told_in_the_largest_unit() {
        for (seconds, text) in [
            (-5, "0s"),
            (59, "59s"),
            (60, "1m"),
            (86_399, "23h"),
            (86_400 * 400, "400d"),
        ] {
            assert_eq!(age(1_000, 1_000 + seconds), text);
        }
    }

    #[test]
    fn numbers_are_short_with_three_digits() {
        for (number, text) in [
            (0.0, "0 "),
            (999.0, "999 "),
            (1_234.0, "1.23 k"),
            (12_345.0, "12.3 k"),
            (123_456.0, "123 k"),
            (4_560_000.0, "4.56 M"),
            (9.9e9, "9.90 G"),
        ] {
            assert_eq!(short(number), text);
        }
    }
}
