//! `org.freedesktop.LogControl1`: how much is logged, and where to, for
//! `systemctl service-log-level` and `systemctl service-log-target`.
//!
//! Reading is everybody's. Its documentation is
//! `interfaces/org.freedesktop.LogControl1.xml`.

use zbus::message::Header;
use zbus::{Connection, fdo, interface};

use crate::api::log;
use crate::authority::{Authority, Denied, Subject, Verb};
use crate::logging::{IDENTIFIER, Level, Logging, LoggingError};

use super::manager::caller;

/// Where it is, in every service that has it.
pub(super) const PATH: &str = "/org/freedesktop/LogControl1";

/// The object that is on the bus.
pub(super) struct LogControl {
    logging: &'static Logging,
    authority: Authority,
}

impl LogControl {
    pub(super) fn new(logging: &'static Logging, authority: Authority) -> Self {
        Self { logging, authority }
    }

    /// Who calls, if the caller may alter the log.
    async fn admit(&self, bus: &Connection, call: Option<&Header<'_>>) -> fdo::Result<Subject> {
        let nobody =
            |_| fdo::Error::AccessDenied("the bus does not tell who is calling".to_owned());
        let call = call.ok_or(zbus::Error::MissingField).map_err(nobody)?;
        let caller = caller(bus, call).await.map_err(nobody)?;
        let verdict = self.authority.may(&caller, Verb::SetLogLevel).await;
        verdict.map_err(denied)?;
        Ok(caller.subject)
    }
}

#[interface(name = "org.freedesktop.LogControl1", introspection_docs = false)]
impl LogControl {
    #[zbus(property(emits_changed_signal = "false"))]
    fn log_level(&self) -> &'static str {
        self.logging.level().as_str()
    }

    #[zbus(property)]
    async fn set_log_level(
        &self,
        word: String,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Option<Header<'_>>,
    ) -> fdo::Result<()> {
        let caller = self.admit(bus, call.as_ref()).await?;
        let level = Level::from_word(&word).ok_or(LoggingError::NoSuchLevel(word));
        log::set_level(self.logging, &caller, level.map_err(refused)?);
        Ok(())
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn log_target(&self) -> &'static str {
        self.logging.target().as_str()
    }

    #[zbus(property)]
    async fn set_log_target(
        &self,
        word: String,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Option<Header<'_>>,
    ) -> fdo::Result<()> {
        let caller = self.admit(bus, call.as_ref()).await?;
        log::set_target(self.logging, &caller, &word).map_err(refused)?;
        Ok(())
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn syslog_identifier(&self) -> &'static str {
        IDENTIFIER
    }
}

fn denied(denied: Denied) -> fdo::Error {
    let text = denied.to_string();
    match denied {
        Denied::Refused { .. } | Denied::Unanswered { .. } => fdo::Error::AccessDenied(text),
        Denied::NeedsAuthentication { .. } => fdo::Error::InteractiveAuthorizationRequired(text),
        Denied::TooManyPrompts { .. } => fdo::Error::LimitsExceeded(text),
    }
}

fn refused(error: LoggingError) -> fdo::Error {
    let text = crate::chain(&error);
    match error {
        LoggingError::NoSuchLevel(_) | LoggingError::NoSuchTarget(_) => {
            fdo::Error::InvalidArgs(text)
        }
        LoggingError::NoJournal(_) => fdo::Error::Failed(text),
    }
}
