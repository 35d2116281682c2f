//! Altering the log of the running daemon, for both buses. What was altered is in
//! the log that it alters.

use crate::audit::{DENIED, Entry, GRANTED};
use crate::authority::{Authority, Subject, Verb};
use crate::logging::{Level, Logging, LoggingError, Target};

/// Whether the caller may read the daemon's environment: only root and the
/// daemon's own user, because people put secrets into it. A denial is recorded.
#[must_use]
pub fn may_read_environment(authority: &Authority, caller: &Subject) -> bool {
    let may = authority.trusts(caller);
    if !may {
        let sentence = format!(
            "denied: user {} may not read the daemon's environment",
            caller.uid
        );
        Entry::new("get-environment", &caller.who(), DENIED, sentence).write();
    }
    may
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
    let entry = granted(caller, sentence);
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
    if target != before {
        let sentence = format!(
            "log goes to {}, no longer to {}, by uid {}",
            target.as_str(),
            before.as_str(),
            caller.uid
        );
        let entry = granted(caller, sentence);
        entry.write();
        logging.set_target(target);
        entry.write();
    }
    Ok(target)
}

fn granted(caller: &Subject, sentence: String) -> Entry {
    Entry::new(Verb::SetLogLevel.as_str(), &caller.who(), GRANTED, sentence)
}
