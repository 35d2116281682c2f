//! The log, for both buses: what the fronts record, and altering the log of the
//! running daemon. What was altered is in the log that it alters.

use crate::audit::{DENIED, Entry, GRANTED};
use crate::authority::{Authority, Caller, Denied, Subject, Verb};
use crate::control::Snapshot;
use crate::logging::{Level, Logging, LoggingError, Target};
use crate::model::{FixedIp, FloatingIp};
use crate::request::Request;

/// Whether the caller may alter the log, or read the daemon's environment, which
/// may hold what only an administrator should know. A denial is recorded.
pub async fn may_set(authority: &Authority, caller: &Caller) -> Result<(), Denied> {
    authority
        .may(caller, Verb::SetLogLevel)
        .await
        .inspect_err(|denied| self::denied(&caller.subject, Verb::SetLogLevel, denied))
}

/// Alters how much is logged. Even what makes the log silent is in it.
pub fn set_level(logging: &Logging, caller: &Subject, level: Level) {
    let before = logging.level();
    let sentence = format!(
        "log level set from {} to {} by uid {}",
        before.as_str(),
        level.as_str(),
        caller.uid
    );
    let entry = of(caller, Verb::SetLogLevel, GRANTED, sentence);
    if level < before {
        entry.write();
        logging.set_level(level);
    } else {
        logging.set_level(level);
        entry.write();
    }
}

/// Alters where the log goes. What goes elsewhere from now on says so there, and
/// where it went before.
pub fn set_target(logging: &Logging, caller: &Subject, word: &str) -> Result<Target, LoggingError> {
    let before = logging.target();
    let target = logging.target_of(word)?;
    let sentence = format!(
        "log goes to {}, no longer to {}, by uid {}",
        target.as_str(),
        before.as_str(),
        caller.uid
    );
    if target != before {
        let entry = of(caller, Verb::SetLogLevel, GRANTED, sentence);
        entry.write();
        logging.set_target(target);
        entry.write();
    }
    Ok(target)
}

/// Records that a request was denied, with what it is about as far as is known.
pub fn denial(snapshot: &Snapshot, caller: &Subject, request: &Request, denied: &Denied) {
    let (state, site) = (&snapshot.state, &snapshot.site);
    let entry = Entry::request(state, site, request, caller.actor(), DENIED, String::new());
    let about = entry.floating.map(FloatingIp::ip);
    let about = about.or(entry.fixed.map(FixedIp::ip));
    let about = about.map_or_else(String::new, |address| format!(" for {address}"));
    Entry {
        sentence: format!("denied{about}: {denied}"),
        caller: Some(caller.origin.to_string()),
        ..entry
    }
    .write();
}

/// Records that what is about no address was denied.
pub fn denied(caller: &Subject, verb: Verb, denied: &Denied) {
    of(caller, verb, DENIED, format!("denied: {denied}")).write();
}

fn of(caller: &Subject, verb: Verb, outcome: &'static str, sentence: String) -> Entry {
    Entry {
        caller: Some(caller.origin.to_string()),
        ..Entry::new(verb.as_str(), caller.actor(), outcome, sentence)
    }
}
