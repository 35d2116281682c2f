//! polkit, over a connection of our own to the system bus.
//!
//! A question is asked without interaction first, and that has to be answered
//! soon; only a caller who is ready for it and needs it is prompted, and a
//! prompt may stay open for minutes. Dropping the question, or the caller's
//! going away, cancels the check.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;
use zbus::export::futures_core::Stream;
use zbus::fdo::DBusProxy;
use zbus::names::{BusName, OwnedUniqueName};
use zbus::{Connection, Message, connection};
use zbus_polkit::policykit1::{AuthorityProxy, CheckAuthorizationFlags, Subject as PolkitSubject};

use super::policy::{Answer, Policy, Question, Unanswered, Verdict};
use super::{Origin, Subject};

/// How long polkit may take to answer without asking anybody. It answers within
/// milliseconds, and within a second when the bus has to start it first.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a prompt may stay open.
const PROMPT: Duration = Duration::from_secs(300);

/// The first version that takes a process by its pidfd (polkit's NEWS, 124).
const TAKES_PIDFD: u32 = 124;

/// polkit on the system bus.
#[derive(Debug)]
pub struct Polkit {
    /// Where the bus is; the well-known place when absent.
    address: Option<String>,
    patience: Duration,
    prompt: Duration,
    session: Mutex<Option<Arc<Session>>>,
    questions: AtomicU64,
    /// Turns of questions that nobody has to answer.
    quick: Semaphore,
}

/// A connection to polkit.
#[derive(Debug)]
struct Session {
    connection: Connection,
    polkit: AuthorityProxy<'static>,
    takes_pidfd: bool,
}

/// How a question failed.
enum Failure {
    /// For good.
    Final(Unanswered),
    /// polkit or the bus went away; whoever comes after it may know.
    Lost(Unanswered),
}

/// So many questions are open at once that need no person; further ones wait their
/// turn. A bus lets a connection have 128 calls that are not answered, and refuses
/// more, whoever's they are (`max_replies_per_connection`, dbus-daemon(1)).
const QUICK: usize = 64;

impl Polkit {
    /// The one of the bus at this address, as the D-Bus specification writes it;
    /// of the system bus when absent.
    #[must_use]
    pub fn on(address: Option<String>) -> Self {
        Self {
            address,
            patience: PATIENCE,
            prompt: PROMPT,
            session: Mutex::new(None),
            questions: AtomicU64::new(0),
            quick: Semaphore::new(QUICK),
        }
    }

    /// The same with other times: for an answer, and for a prompt. For tests.
    #[must_use]
    pub fn with_times(self, patience: Duration, prompt: Duration) -> Self {
        Self {
            patience,
            prompt,
            ..self
        }
    }

    /// Asks, and does not wait for more than people. Whoever waits behind others
    /// for a polkit that hangs waits no longer than they.
    async fn ask(&self, question: Question) -> Result<Verdict, Unanswered> {
        let limit = if question.interactive {
            self.prompt
        } else {
            self.patience
        };
        timeout(limit, self.ask_twice(question))
            .await
            .unwrap_or(Err(Unanswered::Silent))
    }

    async fn ask_twice(&self, question: Question) -> Result<Verdict, Unanswered> {
        let session = self.session().await?;
        match self.ask_in(&session, &question).await {
            Ok(verdict) => Ok(verdict),
            Err(Failure::Final(unanswered)) => Err(unanswered),
            Err(Failure::Lost(_)) => {
                // Once more: a polkitd that was started again, as an upgrade
                // does, answers.
                self.forget(&session).await;
                let session = self.session().await?;
                let again = self.ask_in(&session, &question).await;
                again.map_err(|(Failure::Final(why) | Failure::Lost(why))| why)
            }
        }
    }

    async fn ask_in(&self, session: &Session, question: &Question) -> Result<Verdict, Failure> {
        let subject = session.subject(&question.subject).map_err(Failure::Final)?;
        let question_id = self.questions.fetch_add(1, Ordering::Relaxed);
        let mut check = Check {
            polkit: &session.polkit,
            id: format!("{}-{question_id}", std::process::id()),
            is_open: true,
        };
        // Those that wait for people are few (`Prompts`).
        let _turn = match question.interactive {
            true => None,
            false => self.quick.acquire().await.ok(),
        };
        let flags = if question.interactive {
            CheckAuthorizationFlags::ALLOW_USER_INTERACTION
        } else {
            CheckAuthorizationFlags::empty()
        };
        let details = question.details.to_map();
        let details: HashMap<&str, &str> = details
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let answer = session.polkit.check_authorization(
            &subject,
            question.action.id(),
            &details,
            flags,
            &check.id,
        );
        let answer = tokio::select! {
            answer = answer => answer,
            () = session.gone(&question.subject), if question.interactive => {
                return Err(Failure::Final(Unanswered::Gone));
            }
        };
        check.is_open = false;
        let answer = answer.map_err(|error| {
            let why = Unanswered::Unreachable(error.to_string());
            if is_loss(&error) {
                Failure::Lost(why)
            } else {
                Failure::Final(why)
            }
        })?;
        session.is_there(&question.subject).await?;
        Ok(match (answer.is_authorized, answer.is_challenge) {
            (true, _) => Verdict::Yes,
            (false, true) => Verdict::Challenge,
            (false, false) => Verdict::No,
        })
    }

    /// The connection, made when there is none.
    async fn session(&self) -> Result<Arc<Session>, Unanswered> {
        let mut kept = self.session.lock().await;
        if let Some(session) = &*kept {
            return Ok(Arc::clone(session));
        }
        let session = timeout(self.patience, Session::open(self.address.as_deref()))
            .await
            .map_err(|_| Unanswered::Silent)?
            .map_err(|error| Unanswered::Unreachable(error.to_string()))?;
        let session = Arc::new(session);
        *kept = Some(Arc::clone(&session));
        Ok(session)
    }

    async fn forget(&self, session: &Arc<Session>) {
        let mut kept = self.session.lock().await;
        if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, session)) {
            *kept = None;
        }
    }
}

impl Policy for Polkit {
    fn judge(&self, question: Question) -> Answer<'_> {
        Box::pin(self.ask(question))
    }
}

impl Session {
    async fn open(address: Option<&str>) -> zbus::Result<Self> {
        let connection = match address {
            None => connection::Builder::system(),
            Some(address) => connection::Builder::address(address),
        }
        .build()
        .await?;
        let polkit = AuthorityProxy::builder(&connection)
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await?;
        let version = polkit.backend_version().await?;
        Ok(Self {
            takes_pidfd: takes_pidfd(&version),
            connection,
            polkit,
        })
    }

    /// The caller, in polkit's words.
    fn subject(&self, subject: &Subject) -> Result<PolkitSubject, Unanswered> {
        match &subject.origin {
            Origin::Bus { name, bus } => {
                // The same name on a bus that was started since is somebody else.
                if self.connection.server_guid().as_str() != &**bus {
                    return Err(Unanswered::Gone);
                }
                by_name(name).map_err(|_| Unanswered::Unidentified)
            }
            Origin::Peer { process: None, .. } => Err(Unanswered::Unidentified),
            // polkit has uids in 32 bits with a sign, and looks up by itself,
            // and too late, what it is not told.
            Origin::Peer { .. } if !self.takes_pidfd || i32::try_from(subject.uid).is_err() => {
                Err(Unanswered::Unidentified)
            }
            Origin::Peer {
                process: Some(process),
                ..
            } => PolkitSubject::new_for_owner(process, subject.uid)
                .map_err(|_| Unanswered::Unidentified),
        }
    }

    /// Whether the caller is still there, now that polkit has answered.
    async fn is_there(&self, subject: &Subject) -> Result<(), Failure> {
        let there = match &subject.origin {
            Origin::Peer { .. } => subject.lives(),
            Origin::Bus { name, .. } => self
                .has_owner(name)
                .await
                .map_err(|error| Failure::Lost(Unanswered::Unreachable(error.to_string())))?,
        };
        there.then_some(()).ok_or(Failure::Final(Unanswered::Gone))
    }

    async fn has_owner(&self, name: &OwnedUniqueName) -> zbus::Result<bool> {
        let bus = DBusProxy::new(&self.connection).await?;
        Ok(bus.name_has_owner(BusName::Unique(name.as_ref())).await?)
    }

    /// Waits until the caller leaves the bus. That a varlink caller leaves is
    /// seen by who serves the connection, who then drops the question.
    async fn gone(&self, subject: &Subject) {
        if let Origin::Bus { name, .. } = &subject.origin
            && self.left(name).await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }

    async fn left(&self, name: &OwnedUniqueName) -> zbus::Result<()> {
        let bus = DBusProxy::new(&self.connection).await?;
        let changes = bus
            .receive_name_owner_changed_with_args(&[(0, name.as_str())])
            .await?;
        // Somebody who left before we listened is not announced any more.
        if !bus.name_has_owner(BusName::Unique(name.as_ref())).await? {
            return Ok(());
        }
        // A unique name changes its owner only by losing it.
        let mut changes = pin!(changes);
        poll_fn(|context| changes.as_mut().poll_next(context)).await;
        Ok(())
    }
}

/// A check that polkit works on. Dropped while it is open, it is cancelled.
struct Check<'a> {
    polkit: &'a AuthorityProxy<'static>,
    id: String,
    is_open: bool,
}

impl Drop for Check<'_> {
    fn drop(&mut self) {
        if self.is_open
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (polkit, id) = (self.polkit.clone(), std::mem::take(&mut self.id));
            runtime.spawn(async move {
                // It fails when the check has ended meanwhile.
                let _ = timeout(PATIENCE, polkit.cancel_check_authorization(&id)).await;
            });
        }
    }
}

/// A subject `system-bus-name`, which the crate makes of a message only.
fn by_name(name: &OwnedUniqueName) -> Result<PolkitSubject, Box<dyn std::error::Error>> {
    let message = Message::method_call("/", "Any")
        .sender(name.as_str())
        .build(&())?;
    Ok(PolkitSubject::new_for_message_header(&message.header())?)
}

/// Whether polkit, or the bus, went away before it answered.
fn is_loss(error: &zbus::Error) -> bool {
    match error {
        zbus::Error::InputOutput(_) => true,
        zbus::Error::MethodError(name, _, _) => matches!(
            name.as_str(),
            "org.freedesktop.DBus.Error.NoReply" | "org.freedesktop.DBus.Error.Disconnected"
        ),
        zbus::Error::FDO(error) => matches!(
            **error,
            zbus::fdo::Error::NoReply(_) | zbus::fdo::Error::Disconnected(_)
        ),
        _ => false,
    }
}

/// polkit counted 0.105 to 0.120, and then 121, 122 and so on.
fn takes_pidfd(version: &str) -> bool {
    let major = version.split('.').next().unwrap_or_default();
    major.parse().is_ok_and(|major: u32| major >= TAKES_PIDFD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_polkit_that_takes_a_pidfd_is_given_one() {
        for (version, takes) in [
            ("0.105", false),
            ("122", false),
            ("124", true),
            ("126", true),
            ("126.1", true),
            ("", false),
            ("git", false),
        ] {
            assert_eq!(takes_pidfd(version), takes, "{version:?}");
        }
    }

    #[test]
    fn a_caller_on_the_bus_is_a_system_bus_name() {
        let subject = by_name(&":1.42".try_into().unwrap()).unwrap();
        assert_eq!(subject.kind(), "system-bus-name");
    }
}
