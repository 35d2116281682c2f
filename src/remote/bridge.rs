//! One connection: what comes in goes to the daemon, call by call, and the
//! answers go back.
//!
//! Where the daemon cannot tell who calls by varlink, it is called over the
//! system bus, as [`crate::client`] does.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::server::TlsStream;

use super::call::Call;
use super::files::Identity;
use super::frames::Frames;
use super::records::{Asked, Became, Records};
use crate::api::varlink::{COMPLETE, DEPTH, DRAIN, INTERFACE, MESSAGE};
use crate::client::{self, ANSWER, ClientError};

/// How long there may be no call. `ipfloater top` looks once a second.
const IDLE: Duration = Duration::from_secs(3_600);

/// One connection.
pub(super) struct Bridge {
    calls: Frames<ReadHalf<TlsStream<TcpStream>>>,
    answers: WriteHalf<TlsStream<TcpStream>>,
    socket: PathBuf,
    daemon: Option<Daemon>,
    identity: Identity,
    peer: SocketAddr,
    records: Records,
}

/// The connection to the daemon.
struct Daemon {
    replies: Frames<OwnedReadHalf>,
    calls: OwnedWriteHalf,
    /// Its process, unless the socket is the system's.
    process: Option<u32>,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("the other side closed it")]
    Gone,
    #[error("this program stops")]
    Stopping,
    #[error("its certificate is not let in any more: {0}")]
    Distrust(rustls::Error),
    #[error("no call for {} minutes", IDLE.as_secs() / 60)]
    Idle,
    #[error("a call of more than {MESSAGE} bytes")]
    TooLong,
    #[error("a call that is nested deeper than {DEPTH}")]
    TooDeep,
    #[error("a call that was not complete after {COMPLETE:?}")]
    TooSlow,
    #[error("an answer that was not read for {DRAIN:?}")]
    NotRead,
    #[error("calls while an answer has no end")]
    Impatient,
    #[error("what is no call: {0}")]
    NoCall(serde_json::Error),
    #[error("ipfloaterd closed its side")]
    DaemonGone,
    #[error("the answer of ipfloaterd is none: {0}")]
    NoAnswer(serde_json::Error),
    #[error("an answer of ipfloaterd is longer than {ANSWER} bytes")]
    LongAnswer,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What has to be known of a reply.
#[derive(Debug, Deserialize)]
struct Reply<'a> {
    #[serde(borrow)]
    error: Option<Cow<'a, str>>,
    continues: Option<bool>,
}

/// What has to be known of the reply to a call that alters something.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Outcome {
    error: Option<String>,
    parameters: Altered,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Altered {
    changed: bool,
    dry_run: bool,
}

impl Bridge {
    pub(super) fn new(
        stream: TlsStream<TcpStream>,
        socket: PathBuf,
        identity: Identity,
        peer: SocketAddr,
        records: Records,
    ) -> Self {
        let (reader, answers) = split(stream);
        Self {
            calls: Frames::new(reader, MESSAGE),
            answers,
            socket,
            daemon: None,
            identity,
            peer,
            records,
        }
    }

    /// Passes calls on until the connection ends, and tells why it did.
    pub(super) async fn run(mut self) -> End {
        let end = loop {
            let passed = match self.next_call().await {
                Ok(message) => self.pass(message).await,
                Err(end) => Err(end),
            };
            if let Err(end) = passed {
                break end;
            }
        };
        // The other side may be gone already.
        let _ = timeout(DRAIN, self.answers.shutdown()).await;
        end
    }

    async fn next_call(&mut self) -> Result<Vec<u8>, End> {
        let idle = Instant::now() + IDLE;
        let mut complete = None;
        loop {
            if let Some(message) = self.calls.take() {
                return match message.len() > MESSAGE + 1 {
                    true => Err(End::TooLong),
                    false => Ok(message),
                };
            }
            if self.calls.is_full() {
                return Err(End::TooLong);
            }
            if self.calls.has_begun() && complete.is_none() {
                complete = Some(Instant::now() + COMPLETE);
            }
            match timeout_at(complete.unwrap_or(idle), self.calls.fill()).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Err(End::Gone),
                Ok(Err(error)) => return Err(gone(error)),
                Err(_) if complete.is_some() => return Err(End::TooSlow),
                Err(_) => return Err(End::Idle),
            }
        }
    }

    async fn pass(&mut self, message: Vec<u8>) -> Result<(), End> {
        let call = Call::read(&message[..message.len() - 1])?;
        let oneway = call.is_oneway();
        let mut asked = Asked::of(&call, &self.identity, self.peer, &self.records);
        let refused = match call.refused() {
            Some(refused) => Some(refused),
            None => self.reach().await.err().map(|error| {
                let why = format!("ipfloaterd is not reached on this host: {error}");
                (format!("{INTERFACE}.Stopping"), json!({ "message": why }))
            }),
        };
        if let Some((error, parameters)) = refused {
            let reply = refusal(&error, parameters);
            note(asked, &reply);
            return match oneway {
                true => Ok(()),
                false => self.answer(&reply).await,
            };
        }
        let message = match oneway {
            true => Cow::Owned(call.answered()),
            false => Cow::Borrowed(message.as_slice()),
        };
        let Some(daemon) = self.daemon.as_mut() else {
            return Err(End::DaemonGone);
        };
        timeout(DRAIN, daemon.calls.write_all(&message))
            .await
            .map_err(|_| End::DaemonGone)?
            .map_err(|_| End::DaemonGone)?;
        let mut ended = false;
        loop {
            let daemon = self.daemon.as_mut().ok_or(End::DaemonGone)?;
            let Some(mut reply) = daemon.replies.take() else {
                tokio::select! {
                    filled = daemon.replies.fill() => match filled {
                        Ok(true) if !daemon.replies.is_full() => {}
                        Ok(true) => return Err(End::LongAnswer),
                        Ok(false) | Err(_) => return Err(End::DaemonGone),
                    },
                    // Calls that come early wait here, as far as one has room.
                    filled = self.calls.fill(), if !ended && !self.calls.is_full() => {
                        match filled {
                            Ok(true) => {}
                            // Who only says that nothing more will come waits for
                            // the answer, and an endless one is never over.
                            Ok(false) if !call.is_endless() => ended = true,
                            Ok(false) => return Err(End::Gone),
                            // What becomes of a change is logged, whoever waits for it.
                            Err(_) if asked.is_some() => ended = true,
                            Err(error) => return Err(gone(error)),
                        }
                        if self.calls.is_full() && call.is_endless() {
                            return Err(End::Impatient);
                        }
                    }
                }
                continue;
            };
            let Reply { error, continues } =
                serde_json::from_slice(&reply[..reply.len() - 1]).map_err(End::NoAnswer)?;
            let is_over = continues != Some(true);
            if error.is_some_and(|error| error.ends_with(".CallerUnidentified"))
                && let Some(method) = call.method()
            {
                reply = over_the_bus(method.to_owned(), call.values(), daemon.process).await?;
            }
            note(asked.take(), &reply);
            if !oneway {
                self.answer(&reply).await?;
            }
            if is_over {
                return Ok(());
            }
        }
    }

    /// Connects to the daemon. Its socket may start it.
    async fn reach(&mut self) -> io::Result<()> {
        if self.daemon.as_ref().is_some_and(Daemon::is_gone) {
            self.daemon = None;
        }
        if self.daemon.is_none() {
            let stream = UnixStream::connect(&self.socket).await?;
            let is_the_system_s = self.socket == std::path::Path::new(client::DEFAULT_SOCKET);
            let process = match is_the_system_s {
                true => None,
                false => stream.peer_cred()?.pid().map(i32::unsigned_abs),
            };
            let (replies, calls) = stream.into_split();
            self.daemon = Some(Daemon {
                replies: Frames::new(replies, ANSWER),
                calls,
                process,
            });
        }
        Ok(())
    }

    async fn answer(&mut self, reply: &[u8]) -> Result<(), End> {
        let written = async {
            self.answers.write_all(reply).await?;
            self.answers.flush().await
        };
        timeout(DRAIN, written)
            .await
            .map_err(|_| End::NotRead)?
            .map_err(gone)
    }
}

impl Daemon {
    /// Whether it has closed its side since it was called last. It never says
    /// anything unasked.
    fn is_gone(&self) -> bool {
        match self.replies.reader().try_read(&mut [0]) {
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
            Ok(_) => true,
        }
    }
}

/// Calls the daemon over the system bus, and returns what it would have answered.
async fn over_the_bus(
    method: String,
    parameters: Map<String, Value>,
    process: Option<u32>,
) -> Result<Vec<u8>, End> {
    let called =
        tokio::task::spawn_blocking(move || client::over_the_bus(&method, &parameters, process));
    match called.await {
        Ok(Ok(parameters)) => Ok(message(&json!({ "parameters": parameters }))),
        Ok(Err(ClientError::Refused(refused))) => {
            Ok(refusal(&refused.full_name(), refused.parameters))
        }
        Ok(Err(error)) => {
            let parameters = json!({ "message": error.to_string() });
            Ok(refusal(&format!("{INTERFACE}.Busy"), parameters))
        }
        Err(_) => Err(End::DaemonGone),
    }
}

/// Logs what became of a call that is to alter something.
fn note(asked: Option<Asked>, reply: &[u8]) {
    let Some(asked) = asked else {
        return;
    };
    let outcome = serde_json::from_slice(&reply[..reply.len() - 1]);
    let Outcome { error, parameters } = outcome.unwrap_or_default();
    let Altered { changed, dry_run } = parameters;
    asked.became(match error {
        Some(error) => Became::Refused(error),
        None if changed && !dry_run => Became::Done,
        None => Became::Nothing,
    });
}

fn refusal(error: &str, parameters: Value) -> Vec<u8> {
    message(&json!({ "error": error, "parameters": parameters }))
}

fn message(reply: &Value) -> Vec<u8> {
    let mut bytes = reply.to_string().into_bytes();
    bytes.push(0);
    bytes
}

/// A connection that was cut is gone, as one that was closed.
fn gone(error: io::Error) -> End {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => End::Gone,
        _ => End::Io(error),
    }
}
