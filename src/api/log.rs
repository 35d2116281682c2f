//! The log, for both buses: what the fronts record, and altering the log of the
//! running daemon. What was altered is in the log that it alters.

use crate::audit::{DENIED, Entry, GRANTED};
use crate::authority::{Authority, Denied, Subject};
use crate::control::Snapshot;
use crate::logging::{Level, Logging, LoggingError, Target};
use crate::model::{Actor, FixedIp, FloatingIp};
use crate::request::Request;

/// The verb, as the log has it.
const SET: &str = "set-log-level";

/// Whether the caller may alter the log. A denial is recorded.
pub fn may_set(authority: &Authority, caller: Subject) -> Result<(), Denied> {
    recorded(authority.may_set_log_level(caller), caller, SET)
}

/// Whether the caller may read the daemon's environment, which may hold what
/// only an administrator should know. A denial is recorded.
pub fn may_read_environment(authority: &Authority, caller: Subject) -> Result<(), Denied> {
    let verdict = authority
        .may_set_log_level(caller)
        .map_err(|denied| Denied {
            verb: "read the daemon's environment",
            ..denied
        });
    recorded(verdict, caller, "get-environment")
}

/// Alters how much is logged. Even what makes the log silent is in it.
pub fn set_level(logging: &Logging, caller: Subject, level: Level) {
    let before = logging.level();
    let sentence = format!(
        "log level set from {} to {} by uid {}",
        before.as_str(),
        level.as_str(),
        caller.uid
    );
    let entry = Entry::new(SET, actor(caller), GRANTED, sentence);
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
pub fn set_target(logging: &Logging, caller: Subject, word: &str) -> Result<Target, LoggingError> {
    let before = logging.target();
    let target = logging.target_of(word)?;
    let sentence = format!(
        "log goes to {}, no longer to {}, by uid {}",
        target.as_str(),
        before.as_str(),
        caller.uid
    );
    if target != before {
        let entry = Entry::new(SET, actor(caller), GRANTED, sentence);
        entry.write();
        logging.set_target(target);
        entry.write();
    }
    Ok(target)
}

/// Records that a request was denied, with what it is about as far as is known.
pub fn denial(snapshot: &Snapshot, caller: Subject, request: &Request, denied: &Denied) {
    let (state, site) = (&snapshot.state, &snapshot.site);
    let entry = Entry::request(state, site, request, actor(caller), DENIED, String::new());
    let about = entry.floating.map(FloatingIp::ip);
    let about = about.or(entry.fixed.map(FixedIp::ip));
    let about = about.map_or_else(String::new, |address| format!(" for {address}"));
    Entry {
        sentence: format!("denied{about}: {denied}"),
        ..entry
    }
    .write();
}

/// Records that reading the history was denied.
pub fn denial_of_history(caller: Subject, denied: &Denied) {
    let sentence = format!("denied: {denied}");
    Entry::new("history", actor(caller), DENIED, sentence).write();
}

fn recorded(
    verdict: Result<(), Denied>,
    caller: Subject,
    verb: &'static str,
) -> Result<(), Denied> {
    verdict.inspect_err(|denied| {
        Entry::new(verb, actor(caller), DENIED, format!("denied: {denied}")).write();
    })
}

fn actor(caller: Subject) -> Actor {
    let Subject { uid, via } = caller;
    Actor { uid, via }
}
