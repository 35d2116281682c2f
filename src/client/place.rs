//! Where a daemon is, and the connection to it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};

/// Where a daemon is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Behind a socket of this host.
    Socket(PathBuf),
    /// Behind an ipfloater-remote.
    Remote {
        /// Its name or address.
        host: String,
        /// Its port.
        port: u16,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Socket(path) => write!(f, "{}", path.display()),
            Place::Remote { host, port } => write!(f, "{host} port {port}"),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Unix(Timed<UnixStream>),
    Tls(Box<StreamOwned<ClientConnection, Timed<TcpStream>>>),
}

impl Stream {
    /// What follows has to be over within this time, in all.
    pub(super) fn within(&mut self, time: Option<Duration>) {
        match self {
            Stream::Unix(socket) => socket.within(time),
            Stream::Tls(stream) => stream.sock.within(time),
        }
    }
}

/// A socket on which everything has to be over by a moment: who sends a byte now
/// and then keeps nobody waiting.
#[derive(Debug)]
pub(super) struct Timed<S> {
    pub(super) socket: S,
    until: Option<Instant>,
}

impl<S> Timed<S> {
    pub(super) fn new(socket: S) -> Self {
        Self {
            socket,
            until: None,
        }
    }

    pub(super) fn within(&mut self, time: Option<Duration>) {
        self.until = time.and_then(|time| Instant::now().checked_add(time));
    }

    /// What is left of the time.
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        match self.until.map(left) {
            Some(Duration::ZERO) => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(left),
        }
    }
}

/// What sockets have in common.
pub(super) trait Socket: Read + Write {
    fn set_timeouts(&self, time: Option<Duration>) -> io::Result<()>;
}

impl Socket for UnixStream {
    fn set_timeouts(&self, time: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(time)?;
        self.set_write_timeout(time)
    }
}

impl Socket for TcpStream {
    fn set_timeouts(&self, time: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(time)?;
        self.set_write_timeout(time)
    }
}

impl<S: Socket> Read for Timed<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_timeouts(self.left()?)?;
        self.socket.read(buffer)
    }
}

impl<S: Socket> Write for Timed<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_timeouts(self.left()?)?;
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}
