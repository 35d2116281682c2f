//! A caller of the varlink interface: one connection, one call at a time.
//!
//! Blocking, because a command line waits anyway. The protocol is
//! `varlink::sansio::Client`; the socket and its timeouts are ours. Replies are
//! the messages of [`crate::wire`].

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use varlink::sansio::{Client as Protocol, ClientEvent};
use varlink::{Reply, Request};

mod error;

pub use error::{ClientError, Refused};

/// Where the daemon of the system listens.
pub const DEFAULT_SOCKET: &str = "/run/ipfloater/org.ipfloater";

/// How long a call may take: a durable commit and a batch to the kernel take
/// milliseconds, and the queue before it seconds at worst.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    socket: PathBuf,
    protocol: Protocol,
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
        let stream = UnixStream::connect(socket).map_err(|source| ClientError::Unreachable {
            socket: socket.to_owned(),
            source,
        })?;
        Ok(Self {
            stream,
            socket: socket.to_owned(),
            protocol: Protocol::new(),
        })
    }

    /// Calls a method of the interface, and waits for its answer.
    pub fn call<M: DeserializeOwned>(
        &mut self,
        method: &str,
        parameters: Value,
    ) -> Result<Answer<M>, ClientError> {
        self.send(method, parameters, false)?;
        self.patience(Some(PATIENCE))?;
        let (reply, _) = self.receive()?;
        self.answer(reply)
    }

    /// Calls a method that answers more than once. `patience` bounds the wait
    /// for each reply, and not at all when absent.
    pub fn more<M: DeserializeOwned>(
        mut self,
        method: &str,
        parameters: Value,
        patience: Option<Duration>,
    ) -> Result<Replies<M>, ClientError> {
        self.send(method, parameters, true)?;
        self.patience(patience)?;
        Ok(Replies {
            client: self,
            over: false,
            message: PhantomData,
        })
    }

    fn patience(&self, patience: Option<Duration>) -> Result<(), ClientError> {
        self.stream
            .set_read_timeout(patience)
            .map_err(|source| self.broken(source))
    }

    fn send(&mut self, method: &str, parameters: Value, more: bool) -> Result<(), ClientError> {
        let method = format!("org.ipfloater.{method}");
        let request = Request {
            method: Cow::Owned(method.clone()),
            parameters: without_null(parameters),
            more: more.then_some(true),
            oneway: None,
            upgrade: None,
        };
        self.protocol
            .send_request(method, request)
            .map_err(|source| self.misunderstood(source))?;
        while let Some(transmit) = self.protocol.poll_transmit() {
            self.stream
                .write_all(&transmit.payload)
                .map_err(|source| self.broken(source))?;
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(Reply, bool), ClientError> {
        let mut chunk = [0; 64 * 1024];
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
        match M::deserialize(&json) {
            Ok(message) => Ok(Answer { message, json }),
            Err(source) => Err(ClientError::Unexpected {
                socket: self.socket.clone(),
                source,
            }),
        }
    }

    fn closed(&self) -> ClientError {
        ClientError::Closed(self.socket.clone())
    }

    fn broken(&self, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::Silent(socket),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => self.closed(),
            _ => ClientError::Broken { socket, source },
        }
    }

    fn misunderstood(&self, source: varlink::Error) -> ClientError {
        ClientError::Misunderstood {
            socket: self.socket.clone(),
            source: Box::new(source),
        }
    }
}

/// The replies to one call, as they come.
#[derive(Debug)]
pub struct Replies<M> {
    client: Client,
    over: bool,
    message: PhantomData<M>,
}

impl<M: DeserializeOwned> Iterator for Replies<M> {
    type Item = Result<Answer<M>, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let answer = self.client.receive().and_then(|(reply, continues)| {
            self.over = !continues;
            self.client.answer(reply)
        });
        self.over |= answer.is_err();
        Some(answer)
    }
}

/// Absent is absent: what is null is not sent.
fn without_null(parameters: Value) -> Option<Value> {
    let Value::Object(fields) = parameters else {
        return None;
    };
    let given: Map<_, _> = fields
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .collect();
    (!given.is_empty()).then_some(Value::Object(given))
}
