//! What a person reads: times, users, and text from elsewhere made harmless.

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
}
