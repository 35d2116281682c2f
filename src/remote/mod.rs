//! `ipfloater-remote`: the varlink interface for other hosts, over TLS.
//!
//! A program and a user of its own, without any capability: the daemon never has
//! an IP socket. Who connects shows a certificate of an authority that is trusted
//! here; what he asks is then handed to the daemon's own socket, so that he has
//! the rights that polkit gives to the user this program runs as.
//!
//! | file | what |
//! | --- | --- |
//! | `files` | certificates and keys, read all or nothing |
//! | `authorities` | whose certificates are let in, and what they have revoked |
//! | `places` | how many may be here at once |
//! | `refusals` | who is turned away is logged, and does not fill the log |
//! | `records` | what guests do is logged, and does not fill it either |
//! | `bridge` | one connection, message by message |
//! | `call` | what has to be known of a message |
//! | `frames` | messages out of bytes |

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::geteuid;
use rustls::pki_types::CertificateDer;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, error, info, warn};

mod authorities;
mod bridge;
mod call;
mod files;
mod frames;
mod places;
mod records;
mod refusals;

pub use files::{FileError, Identity, Trust};

use crate::{given, logging, supervisor};
use bridge::{Bridge, End};
use places::{Place, Places};
use records::Records;
use refusals::Refusals;

/// Where certificates and keys are when nobody says otherwise.
pub const DEFAULT_DIRECTORY: &str = "/etc/ipfloater-remote";

/// The port, that of the original.
pub const PORT: u16 = 7000;

/// How long a handshake may take in all. One takes two round trips.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a refused connection may go on sending what nobody heeds.
const LINGER: Duration = Duration::from_secs(1);

/// How many seconds nothing may come from a host before it is asked whether it
/// is there, how many are between two such questions, how many may stay without
/// an answer (tcp(7), `TCP_KEEPIDLE` and those after it): a host that is gone
/// keeps its place for two minutes.
const KEEPALIVE: (u32, u32, u32) = (60, 15, 4);

/// How long sent data may stay unacknowledged, in milliseconds (tcp(7),
/// `TCP_USER_TIMEOUT`).
const UNACKNOWLEDGED: u32 = 60_000;

/// How long accepting rests when there are no file descriptors left.
const REST: Duration = Duration::from_millis(200);

/// How long connections that are answered may take when this stops.
const PARTING: Duration = Duration::from_secs(3);

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where certificates and keys are.
    pub directory: PathBuf,
    /// What is listened on; `None` for the socket that the service manager gives.
    pub listen: Option<SocketAddr>,
    /// The socket of the daemon.
    pub socket: PathBuf,
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The certificates cannot be used.
    #[error(transparent)]
    Files(#[from] FileError),
    /// There is no socket.
    #[error(
        "there is nothing to listen on: start it by ipfloater-remote.socket, or give --listen 0.0.0.0:7000"
    )]
    NoSocket,
    /// The socket of the service manager cannot be used.
    #[error("the socket that the service manager gave cannot be listened on: {0}")]
    Given(#[source] io::Error),
    /// That cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// What.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Who connects would have the rights of root.
    #[error(
        "not as root: whoever connects has the rights of the user that this runs as; \
         start it by ipfloater-remote.socket, or as another user (setpriv --reuid)"
    )]
    Root,
    /// The runtime or its signals cannot be had.
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
}

/// Says what the files say, or what is wrong with them.
pub fn check(options: &Options) -> Result<String, RemoteError> {
    let trust = Trust::read(&options.directory)?;
    let said = [trust.to_string()].into_iter().chain(trust.complaints());
    Ok(said.collect::<Vec<_>>().join("\n"))
}

/// Serves until it is told to stop.
pub fn run(options: Options) -> Result<(), RemoteError> {
    if geteuid().is_root() {
        return Err(RemoteError::Root);
    }
    let listeners = listeners(options.listen)?;
    let trust = Trust::read(&options.directory)?;
    supervisor::raise_descriptors();
    logging::keep_flushing().map_err(RemoteError::Start)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // Each is a call over the system bus.
        .max_blocking_threads(16)
        .enable_all()
        .build()
        .map_err(RemoteError::Start)?;
    runtime.block_on(async {
        let listeners = listeners.into_iter().map(TcpListener::from_std);
        let listeners = listeners.collect::<io::Result<_>>();
        let listeners = listeners.map_err(RemoteError::Given)?;
        let listens = |kind| signal(kind).map_err(RemoteError::Start);
        let signals = Signals {
            reload: listens(SignalKind::hangup())?,
            stop: [
                listens(SignalKind::terminate())?,
                listens(SignalKind::interrupt())?,
            ],
        };
        serve(listeners, options, trust, signals).await;
        Ok(())
    })
}

/// The sockets, without waiting in them.
fn listeners(listen: Option<SocketAddr>) -> Result<Vec<std::net::TcpListener>, RemoteError> {
    let listeners = match listen {
        Some(address) => std::net::TcpListener::bind(address)
            .map(|listener| vec![listener])
            .map_err(|source| RemoteError::Listen { address, source })?,
        None => {
            let given = given::take_listeners().map_err(RemoteError::Given)?;
            given.into_iter().map(Into::into).collect()
        }
    };
    if listeners.is_empty() {
        return Err(RemoteError::NoSocket);
    }
    for listener in &listeners {
        // It fails for what is no IP socket.
        listener.local_addr().map_err(RemoteError::Given)?;
        listener.set_nonblocking(true).map_err(RemoteError::Given)?;
    }
    Ok(listeners)
}

struct Signals {
    reload: Signal,
    stop: [Signal; 2],
}

async fn serve(listeners: Vec<TcpListener>, options: Options, trust: Trust, signals: Signals) {
    let Signals {
        mut reload,
        stop: [mut terminate, mut interrupt],
    } = signals;
    for address in listeners.iter().filter_map(|each| each.local_addr().ok()) {
        info!("listening on {address}; {trust}");
    }
    let mut complaints = complain(&trust, &[]);
    let (trusted, trust) = watch::channel(Arc::new(trust));
    let places = Places::new();
    let (refusals, records) = (Refusals::new(), Records::new());
    let mut connections = JoinSet::new();
    let (closing, closed) = watch::channel(false);
    let mut minute = tokio::time::interval(refusals::MINUTE);
    supervisor::serving();
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = minute.tick() => {
                refusals.sum_up();
                records.sum_up();
                complaints = complain(&trust.borrow(), &complaints);
            }
            Some(ended) = connections.join_next() => {
                if let Err(failure) = ended && failure.is_panic() {
                    error!("a connection ended by a mistake in this program: {failure}");
                }
            }
            _ = reload.recv() => match Trust::read(&options.directory) {
                Ok(trust) => {
                    info!("read again: {trust}");
                    complaints = complain(&trust, &[]);
                    trusted.send_replace(Arc::new(trust));
                }
                Err(failure) => {
                    error!("{failure}; going on with what was read before");
                }
            },
            accepted = accept(&listeners) => match accepted {
                Ok((stream, peer)) => {
                    // IPv4 over a socket of IPv6 (RFC 4291, 2.5.5.2) is IPv4.
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    let Some(place) = places.enter(peer.ip()) else {
                        refusals.refuse(peer, &"there are too many connections");
                        continue;
                    };
                    let visit = Visit {
                        peer,
                        socket: options.socket.clone(),
                        trust: trust.clone(),
                        closed: closed.clone(),
                        refusals: refusals.clone(),
                        records: records.clone(),
                    };
                    connections.spawn(visit.run(stream, place));
                }
                Err(failure) => {
                    warn!("cannot accept connections, will retry: {failure}");
                    tokio::time::sleep(REST).await;
                }
            },
        }
    }
    supervisor::stopping();
    drop(listeners);
    // It fails only when there is no connection left to tell.
    let _ = closing.send(true);
    let parting = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(PARTING, parting).await;
    refusals.sum_up();
    records.sum_up();
}

/// The next connection to any of them. Can be dropped while it waits.
async fn accept(listeners: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|context| {
        let mut accepted = listeners.iter().map(|each| each.poll_accept(context));
        accepted.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}

/// Logs what there is to complain of and was not said before, and returns all of it.
fn complain(trust: &Trust, said: &[String]) -> Vec<String> {
    let complaints = trust.complaints();
    for complaint in complaints.iter().filter(|new| !said.contains(new)) {
        warn!("{complaint}");
    }
    complaints
}

/// Somebody who connected.
struct Visit {
    peer: SocketAddr,
    socket: PathBuf,
    trust: watch::Receiver<Arc<Trust>>,
    closed: watch::Receiver<bool>,
    refusals: Refusals,
    records: Records,
}

impl Visit {
    async fn run(mut self, stream: TcpStream, mut place: Place) {
        if let Err(failure) = watch_over(&stream) {
            warn!("a host that goes away without a word will not be noticed: {failure}");
        }
        let (server, doorkeeper) = self.trust.borrow_and_update().door();
        let shaken = TlsAcceptor::from(server).accept(stream).into_fallible();
        let stopped = self.closed.clone();
        let mut stopped = std::pin::pin!(stop(stopped));
        let accepted = tokio::select! {
            () = &mut stopped => return,
            accepted = timeout(HANDSHAKE, shaken) => accepted,
        };
        let stream = match accepted {
            Ok(Ok(stream)) => stream,
            Ok(Err((failure, stream))) => {
                let why = match doorkeeper.shown() {
                    None => why(&failure),
                    Some(who) => format!("{}; what it showed says {who}", why(&failure)),
                };
                self.refusals.refuse(self.peer, &why);
                return part(stream).await;
            }
            Err(_) => {
                let why = format!("the handshake took more than {} s", HANDSHAKE.as_secs());
                return self.refusals.refuse(self.peer, &why);
            }
        };
        if !place.stay() {
            let why = "there are too many connections";
            return self.refusals.refuse(self.peer, &why);
        }
        let chain = chain(&stream);
        let identity = Identity::of(&chain);
        let (peer, records) = (self.peer, self.records);
        records.tell(&identity, &format!("{peer} connected as {identity}"));
        let bridge = Bridge::new(stream, self.socket, identity.clone(), peer, records.clone());
        let end = tokio::select! {
            () = &mut stopped => End::Stopping,
            why = no_longer(self.trust, &chain) => End::Distrust(why),
            end = bridge.run() => end,
        };
        match end {
            End::Gone => debug!("{peer} disconnected: {}", End::Gone),
            end => records.tell(&identity, &format!("{peer} disconnected: {end}")),
        }
    }
}

/// Why there is no handshake.
fn why(failure: &io::Error) -> String {
    let reason = failure.get_ref();
    match reason.and_then(|reason| reason.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => {
            format!("the other side does not want to speak to this one ({alert:?})")
        }
        Some(rustls::Error::NoCertificatesPresented) => "it showed no certificate".to_owned(),
        Some(rustls::Error::InvalidMessage(_)) => "it does not speak TLS".to_owned(),
        Some(other) => other.to_string(),
        None if failure.kind() == io::ErrorKind::UnexpectedEof => {
            "it closed the connection before the end of the handshake".to_owned()
        }
        None => failure.to_string(),
    }
}

/// Closes a connection in such a way that the other side reads why: what it sent
/// meanwhile has to be taken, or the kernel tells it that the connection was cut.
async fn part(mut stream: TcpStream) {
    let take = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    let _ = timeout(LINGER, take).await;
}

async fn stop(mut closed: watch::Receiver<bool>) {
    // It fails when the sender is gone, with all of the program.
    let _ = closed.wait_for(|closed| *closed).await;
}

/// The certificate that the other side showed, and those it came with.
fn chain(stream: &TlsStream<TcpStream>) -> Vec<CertificateDer<'static>> {
    let (_, session) = stream.get_ref();
    session.peer_certificates().unwrap_or_default().to_vec()
}

/// Waits until the certificate would not be let in any more: it has expired, or
/// the files that were read again say otherwise. Tells why.
async fn no_longer(
    mut trust: watch::Receiver<Arc<Trust>>,
    chain: &[CertificateDer<'static>],
) -> rustls::Error {
    let mut look = tokio::time::interval(refusals::MINUTE);
    loop {
        if let Err(why) = trust.borrow_and_update().judge(chain) {
            return why;
        }
        tokio::select! {
            changed = trust.changed() => if changed.is_err() { std::future::pending::<()>().await },
            _ = look.tick() => {}
        }
    }
}

/// Has the kernel notice that the other host is gone.
fn watch_over(stream: &TcpStream) -> nix::Result<()> {
    let (idle, interval, count) = KEEPALIVE;
    stream
        .set_nodelay(true)
        .map_err(|_| nix::errno::Errno::EINVAL)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &idle)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &interval)?;
    setsockopt(stream, sockopt::TcpKeepCount, &count)?;
    setsockopt(stream, sockopt::TcpUserTimeout, &UNACKNOWLEDGED)
}
