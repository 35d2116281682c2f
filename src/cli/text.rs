//! What a person reads: times, users, and text from elsewhere made harmless.

use std::borrow::Cow;

use nix::unistd::{Uid, User};

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
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of the days since 1970-01-01, in the Gregorian calendar.
/// Years are counted from March, so that the leap day is the last one; 400 of
/// them have 146,097 days, and day 0 is 719,468 days after 0000-03-01.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_399, "2000-02-28 23:59:59Z"),
            (951_782_400, "2000-02-29 00:00:00Z"),
            (951_868_800, "2000-03-01 00:00:00Z"),
            (1_795_411_782, "2026-11-23 05:29:42Z"),
            (4_107_542_400, "2100-03-01 00:00:00Z"),
            (-1, "1969-12-31 23:59:59Z"),
        ] {
            assert_eq!(moment(seconds), text);
        }
    }

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
}
