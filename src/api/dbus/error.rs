//! How a call fails: a name of the bus or of ours, and one line for a person.

use zbus::DBusError;
use zbus::message::{Header, Message};
use zbus::names::ErrorName;

use crate::authority::Denied;
use crate::control::Rejection;
use crate::request::Refusal;

use super::admission::TooMany;
use super::options::OptionError;

/// The errors of `interfaces/` have their names behind this.
const PREFIX: &str = "org.ipfloater.Error";

/// The errors that every service has, with names of the bus's own.
const STANDARD: &str = "org.freedesktop.DBus.Error";

/// The answer to a call that failed.
#[derive(Debug)]
pub(super) struct ErrorReply {
    name: ErrorName<'static>,
    text: String,
}

impl ErrorReply {
    fn new(prefix: &str, name: &str, text: &impl ToString) -> Self {
        let name = format!("{prefix}.{name}");
        Self {
            name: ErrorName::try_from(name).expect("names of errors are letters after a prefix"),
            text: text.to_string(),
        }
    }
}

impl From<Rejection> for ErrorReply {
    fn from(rejection: Rejection) -> Self {
        Self::new(PREFIX, rejection.name(), &rejection)
    }
}

impl From<Refusal> for ErrorReply {
    fn from(refusal: Refusal) -> Self {
        Rejection::from(refusal).into()
    }
}

impl From<Denied> for ErrorReply {
    fn from(denied: Denied) -> Self {
        let name = match denied {
            Denied::Refused { .. } | Denied::Unanswered { .. } => "AccessDenied",
            Denied::NeedsAuthentication { .. } => "InteractiveAuthorizationRequired",
            Denied::TooManyPrompts { .. } => "LimitsExceeded",
        };
        Self::new(STANDARD, name, &denied)
    }
}

impl From<OptionError> for ErrorReply {
    fn from(error: OptionError) -> Self {
        Self::new(STANDARD, "InvalidArgs", &error)
    }
}

impl From<TooMany> for ErrorReply {
    fn from(too_many: TooMany) -> Self {
        Self::new(STANDARD, "LimitsExceeded", &too_many)
    }
}

/// The bus did not say who the caller is: whoever cannot be known may nothing.
impl From<zbus::Error> for ErrorReply {
    fn from(error: zbus::Error) -> Self {
        Self::new(
            STANDARD,
            "AccessDenied",
            &format!("the bus does not tell who is calling: {error}"),
        )
    }
}

impl DBusError for ErrorReply {
    fn create_reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
        let caller = call.sender().map(tracing::field::display);
        tracing::debug!(caller, name = %self.name, error = self.text, "dbus: a call failed");
        Message::error(call, self.name.as_ref()).build(&(self.text.as_str(),))
    }

    fn name(&self) -> ErrorName<'_> {
        self.name.as_ref()
    }

    fn description(&self) -> Option<&str> {
        Some(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{Action, Verb};

    #[test]
    fn whoever_may_not_is_told_so_by_the_name_that_every_service_has() {
        let (uid, verb, action) = (1000, Verb::Release, Action::Manage);
        for (denied, name, text) in [
            (
                Denied::Refused { uid, verb, action },
                "AccessDenied",
                "user 1000 may not release; the polkit action org.ipfloater.manage decides",
            ),
            (
                Denied::NeedsAuthentication { verb, action },
                "InteractiveAuthorizationRequired",
                "to release takes authentication by the polkit action org.ipfloater.manage",
            ),
        ] {
            let reply = ErrorReply::from(denied);
            let full = format!("org.freedesktop.DBus.Error.{name}");
            assert_eq!(reply.name().as_str(), full);
            assert_eq!(reply.description(), Some(text));
        }
    }
}
