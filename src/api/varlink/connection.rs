//! One connection, from its first byte to its end.
//!
//! The bytes are cut into messages here, so that what `varlink::sansio::Server`
//! holds is bounded: it is given one whole message at a time, and the next one
//! only when that is answered.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;
use varlink::Reply;
use varlink::sansio::{Server, ServerEvent};

use super::fault::Fault;
use super::front::{Answer, Call, Front};
use super::message::{self, Header, Malformed, Mode};
use super::parameters::Parameters;
use super::stream::{Part, Stream};
use super::{COMPLETE, DRAIN, MESSAGE};
use crate::authority::Subject;
use crate::control::Rejection;

/// How often a caller who sends nothing more is looked after.
const LOOK: Duration = Duration::from_millis(200);

/// How much is read at once.
const CHUNK: usize = 4_096;

/// One connection.
pub(super) struct Connection {
    stream: UnixStream,
    subject: Subject,
    front: Arc<Front>,
    closed: watch::Receiver<bool>,
    protocol: Server,
    /// What was read and not yet looked at.
    pending: Vec<u8>,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the caller closed it")]
    Gone,
    #[error("the daemon stops")]
    Stopping,
    #[error("a message of more than {MESSAGE} bytes")]
    TooLong,
    #[error("a message that was not complete after {COMPLETE:?}")]
    TooSlow,
    #[error("a reply that was not read for {DRAIN:?}")]
    NotRead,
    #[error("a message that is no call: {0}")]
    Malformed(#[from] Malformed),
    #[error("the protocol was not understood: {0}")]
    Protocol(#[from] varlink::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Connection {
    pub(super) fn new(
        stream: UnixStream,
        subject: Subject,
        front: Arc<Front>,
        closed: watch::Receiver<bool>,
    ) -> Self {
        Self {
            stream,
            subject,
            front,
            closed,
            protocol: Server::new(),
            pending: Vec::new(),
        }
    }

    /// Answers calls until the connection ends.
    pub(super) async fn run(mut self) {
        let uid = self.subject.uid;
        let end = loop {
            let served = match self.next_message().await {
                Ok(message) => self.serve(message).await,
                Err(end) => Err(end),
            };
            if let Err(end) = served {
                break end;
            }
        };
        debug!(uid, %end, "varlink: a connection ended");
    }

    /// Waits for a whole message, its end mark included.
    async fn next_message(&mut self) -> Result<Vec<u8>, End> {
        let mut looked_at = 0;
        let mut deadline = None;
        loop {
            if let Some(length) = end_of_message(&self.pending[looked_at..]) {
                return self.cut(looked_at + length);
            }
            looked_at = self.pending.len();
            if looked_at > MESSAGE {
                return Err(End::TooLong);
            }
            if looked_at > 0 && deadline.is_none() {
                deadline = Some(Instant::now() + COMPLETE);
            }
            let mut closed = self.closed.clone();
            tokio::select! {
                _ = closed.wait_for(|closed| *closed) => return Err(End::Stopping),
                read = before(deadline, self.read()) => read??,
            }
        }
    }

    fn cut(&mut self, length: usize) -> Result<Vec<u8>, End> {
        if length > MESSAGE + 1 {
            return Err(End::TooLong);
        }
        let rest = self.pending.split_off(length);
        Ok(std::mem::replace(&mut self.pending, rest))
    }

    /// Reads what is there, or waits for it. Can be dropped while it waits.
    async fn read(&mut self) -> Result<(), End> {
        loop {
            self.stream.readable().await?;
            let mut chunk = [0; CHUNK];
            match self.stream.try_read(&mut chunk) {
                Ok(0) => return Err(End::Gone),
                Ok(length) => {
                    self.pending.extend_from_slice(&chunk[..length]);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Answers one message.
    async fn serve(&mut self, message: Vec<u8>) -> Result<(), End> {
        let Header {
            method,
            mode,
            twice,
        } = message::header(&message[..message.len() - 1])?;
        let answer = match twice {
            Some(parameter) => Err(Fault::InvalidParameter(parameter)),
            None => {
                let call = Call {
                    subject: self.subject.clone(),
                    method,
                    mode,
                    parameters: self.parameters(mode, &message)?,
                };
                self.answered(call).await?
            }
        };
        match answer {
            // A stream is dropped before it begins, and errors go unsaid too.
            _ if mode == Mode::Oneway => Ok(()),
            Ok(Answer::Once(parameters)) => self.reply(Reply::parameters(Some(parameters))).await,
            Ok(Answer::Stream(stream)) => self.stream(stream).await,
            Err(fault) => {
                debug!(uid = self.subject.uid, ?fault, "varlink: a call failed");
                self.reply(fault.into()).await
            }
        }
    }

    /// The answer of a call. A caller who hangs up takes it back, as far as it
    /// is not carried out: an open prompt is closed.
    async fn answered(&mut self, call: Call) -> Result<Result<Answer, Fault>, End> {
        let front = Arc::clone(&self.front);
        let oneway = call.mode == Mode::Oneway;
        let answer = front.answer(call);
        if oneway {
            return Ok(answer.await);
        }
        tokio::select! {
            biased;
            answer = answer => Ok(answer),
            end = self.hang_up() => Err(end),
        }
    }

    /// The parameters of the call. The protocol is not told of an upgrade: it
    /// would take our refusal for the consent.
    fn parameters(&mut self, mode: Mode, message: &[u8]) -> Result<Parameters, End> {
        if mode == Mode::Upgrade {
            return Ok(Parameters::of(None));
        }
        self.protocol.handle_input(message)?;
        Ok(match self.protocol.poll_event() {
            Some(ServerEvent::Request { request }) => Parameters::of(request.parameters),
            Some(ServerEvent::Upgrade { .. }) | None => Parameters::of(None),
        })
    }

    /// Sends replies until there are no others, or nobody is there to read them.
    async fn stream(&mut self, mut stream: Stream) -> Result<(), End> {
        let mut closed = self.closed.clone();
        loop {
            let part = tokio::select! {
                _ = closed.wait_for(|closed| *closed) => Err(Rejection::Stopping.into()),
                end = self.hang_up_or_overfill() => return Err(end),
                part = stream.next() => part,
            };
            match part {
                Ok(Part {
                    parameters,
                    continues,
                }) => {
                    let mut reply = Reply::parameters(Some(parameters));
                    reply.continues = continues.then_some(true);
                    self.reply(reply).await?;
                    if !continues {
                        return Ok(());
                    }
                }
                Err(fault) => return self.reply(fault.into()).await,
            }
        }
    }

    /// Waits until the caller hangs up. Calls that come meanwhile wait for their
    /// turn: here as far as one message's room goes, and then in the socket.
    async fn hang_up(&mut self) -> End {
        loop {
            let read = if self.is_full() {
                Err(End::Gone)
            } else {
                self.read().await
            };
            match read {
                Ok(()) => {}
                // Nothing more is read, but who only said that nothing more
                // will come (shutdown(2)) waits for the answer.
                Err(End::Gone) if !self.is_hung_up() => tokio::time::sleep(LOOK).await,
                Err(end) => return end,
            }
        }
    }

    /// The same during a stream, whose end may never come: calls that would wait
    /// for it in the socket are a mistake.
    async fn hang_up_or_overfill(&mut self) -> End {
        while !self.is_full() {
            match self.read().await {
                Ok(()) => {}
                Err(End::Gone) if !self.is_hung_up() => tokio::time::sleep(LOOK).await,
                Err(end) => return end,
            }
        }
        End::TooLong
    }

    /// Whether as much as a message may be waits for its turn.
    fn is_full(&self) -> bool {
        self.pending.len() > MESSAGE
    }

    /// Whether nobody is at the other end: the socket is closed both ways.
    fn is_hung_up(&self) -> bool {
        let mut socket = [PollFd::new(self.stream.as_fd(), PollFlags::empty())];
        // It fails for nothing that a socket of ours can be.
        let _ = poll(&mut socket, PollTimeout::ZERO);
        socket[0]
            .revents()
            .is_some_and(|events| events.contains(PollFlags::POLLHUP))
    }

    async fn reply(&mut self, reply: Reply) -> Result<(), End> {
        self.protocol.send_reply(reply)?;
        while let Some(transmit) = self.protocol.poll_transmit() {
            timeout(DRAIN, self.stream.write_all(&transmit.payload))
                .await
                .map_err(|_| End::NotRead)??;
        }
        Ok(())
    }
}

/// The length of the first message, its end mark included, if all of it is there.
fn end_of_message(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == 0).map(|end| end + 1)
}

async fn before<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Result<T, End> {
    match deadline {
        None => Ok(work.await),
        Some(deadline) => timeout_at(deadline, work).await.map_err(|_| End::TooSlow),
    }
}
