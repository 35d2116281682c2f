//! A caller of the varlink interface: one connection, one call at a time.
//!
//! Blocking, because a command line waits anyway. The protocol is
//! `varlink::sansio::Client`; the socket and its timeouts are ours. Replies are
//! the messages of [`crate::wire`]. Where the daemon cannot tell who calls by
//! varlink, a call goes over the system bus by itself ([`bus`]); where somebody
//! has to authenticate, and there is a terminal, an [`agent`] asks there.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use varlink::sansio::{Client as Protocol, ClientEvent};
use varlink::{Reply, Request};

use agent::Agent;

mod agent;
mod bus;
mod error;
mod place;
mod tls;
mod words;

pub use bus::{Presence, presence as bus_presence};
pub use error::{ClientError, Refused};
pub use place::Place;
pub use tls::usual_directory;

use place::{Stream, Timed};

/// Where the daemon of the system listens.
pub const DEFAULT_SOCKET: &str = "/run/ipfloater/org.ipfloater";

/// How long a call may take: a durable commit and a batch to the kernel take
/// milliseconds, and the queue before it seconds at worst.
const PATIENCE: Duration = Duration::from_secs(30);

/// After so long somebody who waits wants to know what for.
const MOMENT: Duration = Duration::from_secs(1);

/// How long an answer from another host may be. A page of a list has some hundred kB.
pub(crate) const ANSWER: usize = 64 * 1024 * 1024;

/// The parameter by which a call waits while somebody authenticates.
const INTERACTIVE: &str = "allowInteractiveAuthentication";

/// The error of a call that did not wait for that, and should have.
const INTERACTION_REQUIRED: &str = "InteractiveAuthenticationRequired";

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    place: Place,
    /// Where the certificates are that are shown to another host.
    certificates: PathBuf,
    protocol: Protocol,
    /// Whether somebody may be asked to authenticate.
    asks: bool,
    waits: bool,
    patience: Duration,
    /// What is told that an answer takes longer than a moment.
    slow: Option<fn(&Place)>,
    /// How long the next reply is waited for.
    wait: Option<Duration>,
}

/// A reply: the message, and the JSON that it came as.
#[derive(Clone, Debug)]
pub struct Answer<M> {
    /// The message.
    pub message: M,
    /// As it came.
    pub json: Value,
}

impl Client {
    /// Connects to the daemon that listens on the socket.
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        let place = Place::Socket(socket.to_owned());
        match UnixStream::connect(socket) {
            Ok(stream) => {
                let stream = Stream::Unix(Timed::new(stream));
                Ok(Self::over(stream, place, PathBuf::new()))
            }
            Err(source) => Err(ClientError::Unreachable { place, source }),
        }
    }

    /// Connects to the daemon of another host, where an ipfloater-remote listens.
    /// The directory has the certificate to be shown, and that of the authority
    /// which the other side's is of.
    pub fn connect_remote(host: &str, port: u16, certificates: &Path) -> Result<Self, ClientError> {
        let stream = tls::connect(host, port, certificates)?;
        let host = host.to_owned();
        Ok(Self::over(
            Stream::Tls(Box::new(stream)),
            Place::Remote { host, port },
            certificates.to_owned(),
        ))
    }

    fn over(stream: Stream, place: Place, certificates: PathBuf) -> Self {
        Self {
            stream,
            place,
            certificates,
            protocol: Protocol::new(),
            asks: false,
            waits: false,
            patience: PATIENCE,
            slow: None,
            wait: None,
        }
    }

    /// Whether somebody may be asked to authenticate, on the terminal, when a
    /// call takes that. Nobody is at first.
    #[must_use]
    pub fn asking(self, asks: bool) -> Self {
        Self { asks, ..self }
    }

    /// Whether a change that takes effect a moment later is waited for. None is at
    /// first.
    #[must_use]
    pub fn waiting(self, waits: bool) -> Self {
        Self { waits, ..self }
    }

    /// How long an answer is waited for, instead of half a minute.
    #[must_use]
    pub fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Who is told that the answer to a call takes longer than a second. Nobody is
    /// at first, nor while somebody is asked to authenticate.
    #[must_use]
    pub fn telling(self, slow: Option<fn(&Place)>) -> Self {
        Self { slow, ..self }
    }

    /// Whether such a change is waited for.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// Calls a method of the interface, and waits for its answer.
    ///
    /// The caller stays this process on either way, and is known by it. A call
    /// that was refused has altered nothing and can be made again: with an agent
    /// that asks, or over the bus.
    pub fn call<M: DeserializeOwned>(
        &mut self,
        method: &str,
        parameters: Value,
    ) -> Result<Answer<M>, ClientError> {
        let parameters = without_null(parameters);
        let answer = self.once(method, &parameters, false);
        match answer.as_ref().err().and_then(ClientError::refusal) {
            Some(INTERACTION_REQUIRED) if self.is_remote() => Err(nobody_there()),
            Some(INTERACTION_REQUIRED) => match self.agent() {
                Some(_agent) => self.once(method, &parameters, true),
                None => answer,
            },
            Some("CallerUnidentified") if !self.is_remote() => {
                self.over_the_bus(method, &parameters)
            }
            Some(_) | None => answer,
        }
    }

    fn once<M: DeserializeOwned>(
        &mut self,
        method: &str,
        parameters: &Map<String, Value>,
        interactive: bool,
    ) -> Result<Answer<M>, ClientError> {
        self.send(method, parameters.clone(), interactive, false)?;
        let (reply, _) = if interactive {
            self.wait = None;
            self.receive()?
        } else {
            self.receive_in_time()?
        };
        self.answer(reply)
    }

    fn over_the_bus<M: DeserializeOwned>(
        &self,
        method: &str,
        parameters: &Map<String, Value>,
    ) -> Result<Answer<M>, ClientError> {
        let daemon = self.listener()?;
        let answer = bus::call(method, parameters, false, daemon);
        let answer = match answer.as_ref().err().and_then(ClientError::refusal) {
            Some(INTERACTION_REQUIRED) => match self.agent() {
                Some(_agent) => bus::call(method, parameters, true, daemon),
                None => answer,
            },
            Some(_) | None => answer,
        };
        self.read(answer?)
    }

    /// The process behind a socket that is not the system's. On the bus there is
    /// one daemon only, and a call must not reach another than the socket does.
    /// Behind the system's socket is the one of the system; who listens there
    /// may be the service manager.
    fn listener(&self) -> Result<Option<u32>, ClientError> {
        let stream = match (&self.place, &self.stream) {
            (Place::Socket(path), Stream::Unix(stream)) if path != Path::new(DEFAULT_SOCKET) => {
                stream
            }
            _ => return Ok(None),
        };
        let peer = getsockopt(&stream.socket, PeerCredentials);
        let peer = peer.map_err(|error| self.broken(error.into()))?;
        // Of a process in another namespace it is 0, which nobody on the bus has.
        Ok(Some(peer.pid().unsigned_abs()))
    }

    fn is_remote(&self) -> bool {
        matches!(self.place, Place::Remote { .. })
    }

    fn agent(&self) -> Option<Agent> {
        if self.asks && !self.is_remote() {
            Agent::start()
        } else {
            None
        }
    }

    /// Calls a method that answers more than once. `patience` bounds the wait
    /// for each reply, and not at all when absent.
    pub fn more<M: DeserializeOwned>(
        mut self,
        method: &str,
        parameters: Value,
        patience: Option<Duration>,
    ) -> Result<Replies<M>, ClientError> {
        let parameters = without_null(parameters);
        self.send(method, parameters.clone(), false, true)?;
        self.wait = patience;
        let mut first = self.next_answer();
        let refusal = first.as_ref().err().and_then(ClientError::refusal);
        if refusal == Some(INTERACTION_REQUIRED)
            && let Some(_agent) = self.agent()
        {
            self.send(method, parameters, true, true)?;
            self.wait = None;
            first = self.next_answer();
            self.wait = patience;
        }
        Ok(Replies {
            client: self,
            first: Some(first),
            over: false,
            message: PhantomData,
        })
    }

    fn next_answer<M: DeserializeOwned>(&mut self) -> Result<(Answer<M>, bool), ClientError> {
        let (reply, continues) = self.receive()?;
        Ok((self.answer(reply)?, continues))
    }

    fn send(
        &mut self,
        method: &str,
        mut parameters: Map<String, Value>,
        interactive: bool,
        more: bool,
    ) -> Result<(), ClientError> {
        let method = format!("org.ipfloater.{method}");
        if interactive {
            parameters.insert(INTERACTIVE.to_owned(), true.into());
        }
        let request = Request {
            method: Cow::Owned(method.clone()),
            parameters: (!parameters.is_empty()).then_some(Value::Object(parameters)),
            more: more.then_some(true),
            oneway: None,
            upgrade: None,
        };
        self.protocol
            .send_request(method, request)
            .map_err(|source| self.misunderstood(source))?;
        self.stream.within(Some(self.patience));
        while let Some(transmit) = self.protocol.poll_transmit() {
            self.stream
                .write_all(&transmit.payload)
                .map_err(|source| self.broken(source))?;
        }
        Ok(())
    }

    /// A reply that takes no longer than is waited for.
    fn receive_in_time(&mut self) -> Result<(Reply, bool), ClientError> {
        let whole = self.patience;
        if let Some(slow) = self.slow.filter(|_| whole > MOMENT) {
            self.wait = Some(MOMENT);
            match self.receive() {
                Err(ClientError::Silent(place)) => slow(&place),
                answered => return answered,
            }
            self.wait = Some(whole - MOMENT);
        } else {
            self.wait = Some(whole);
        }
        self.receive()
    }

    fn receive(&mut self) -> Result<(Reply, bool), ClientError> {
        let mut chunk = [0; 64 * 1024];
        let mut received = 0;
        self.stream.within(self.wait);
        loop {
            match self.protocol.poll_event() {
                Some(ClientEvent::Reply {
                    reply, continues, ..
                }) => return Ok((reply, continues)),
                // The crate never makes these two for a plain call.
                Some(ClientEvent::Error { .. } | ClientEvent::Upgraded { .. }) | None => {}
            }
            let length = match self.stream.read(&mut chunk) {
                Ok(0) => return Err(self.closed()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.broken(error)),
            };
            received += length;
            if self.is_remote() && received > ANSWER {
                return Err(ClientError::TooLong(self.place.clone()));
            }
            self.protocol
                .handle_input(&chunk[..length])
                .map_err(|source| self.misunderstood(source))?;
        }
    }

    fn answer<M: DeserializeOwned>(&self, reply: Reply) -> Result<Answer<M>, ClientError> {
        let json = reply.parameters.unwrap_or_else(|| Map::new().into());
        if let Some(error) = reply.error {
            return Err(ClientError::Refused(Refused::new(&error, json)));
        }
        self.read(json)
    }

    fn read<M: DeserializeOwned>(&self, json: Value) -> Result<Answer<M>, ClientError> {
        match M::deserialize(&json) {
            Ok(message) => Ok(Answer { message, json }),
            Err(source) => Err(ClientError::Unexpected {
                place: self.place.clone(),
                source,
            }),
        }
    }

    fn closed(&self) -> ClientError {
        ClientError::Closed(self.place.clone())
    }

    fn broken(&self, source: io::Error) -> ClientError {
        tls::failed(self.place.clone(), &self.certificates, source)
    }

    fn misunderstood(&self, source: varlink::Error) -> ClientError {
        ClientError::Misunderstood {
            place: self.place.clone(),
            source: Box::new(source),
        }
    }
}

/// The replies to one call, as they come.
#[derive(Debug)]
pub struct Replies<M> {
    client: Client,
    /// The one that came already.
    first: Option<Result<(Answer<M>, bool), ClientError>>,
    over: bool,
    message: PhantomData<M>,
}

impl<M: DeserializeOwned> Iterator for Replies<M> {
    type Item = Result<Answer<M>, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let answer = self.first.take();
        let answer = answer.unwrap_or_else(|| self.client.next_answer());
        self.over = !matches!(answer, Ok((_, true)));
        Some(answer.map(|(answer, _)| answer))
    }
}

/// An administrator would have to authenticate, and from another host nobody can.
fn nobody_there() -> ClientError {
    let message = "permission denied to the user that ipfloater-remote runs as there; \
                   a rule of polkit on that host can allow it";
    let parameters = serde_json::json!({ "message": message });
    ClientError::Refused(Refused::new("PermissionDenied", parameters))
}

/// Calls a method as [`Client::call`] does where the daemon cannot tell who calls
/// by varlink, with nobody to ask. `daemon` is the process that has to be called,
/// unless it is the system's.
pub fn over_the_bus(
    method: &str,
    parameters: &Map<String, Value>,
    daemon: Option<u32>,
) -> Result<Value, ClientError> {
    bus::call(method, parameters, false, daemon)
}

/// Absent is absent: what is null is not sent.
fn without_null(parameters: Value) -> Map<String, Value> {
    let Value::Object(fields) = parameters else {
        return Map::new();
    };
    fields
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .collect()
}
