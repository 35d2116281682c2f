//! The varlink front: `org.ipfloater`, `org.varlink.service` and
//! `io.systemd.service` on a Unix socket.
//!
//! The protocol is UAPI.20; its state machine is `varlink::sansio::Server`.
//! Around it stand our own accept loop and one task for each connection, so
//! that nobody waits for somebody else's slow call, reading or dying. A call is
//! answered before the next one of its connection is looked at.
//!
//! Every resource that a caller can hold is bounded: [`MESSAGE`], [`DEPTH`],
//! [`COMPLETE`], [`DRAIN`], [`PER_USER`], [`ALL_USERS`]. What passes a bound is
//! closed, without a word, and harms no other connection.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tracing::{error, info, warn};

use crate::api::Service;
use crate::authority::{Origin, Subject};

mod admission;
mod connection;
mod fault;
mod front;
mod message;
mod parameters;
mod service;
mod socket;
mod stream;
mod systemd_service;

pub use socket::{BindError, Claim, Socket, claim, lock_of, owns};

use admission::{Admission, Place};
use connection::Connection;
use front::Front;

/// The interface.
pub const INTERFACE: &str = "org.ipfloater";

/// Its description.
pub const DESCRIPTION: &str = include_str!("../../../interfaces/org.ipfloater.varlink");

/// How long a message may be, in bytes, its end mark not counted. The longest
/// call of ours has some 300.
pub const MESSAGE: usize = 64 * 1024;

/// How deep a message may be nested. The deepest call of ours is 3 deep.
pub const DEPTH: usize = 32;

/// How long a message may take from its first byte to its last.
pub const COMPLETE: Duration = Duration::from_secs(10);

/// How long a caller may take to read one reply.
pub const DRAIN: Duration = Duration::from_secs(10);

/// How many connections a user may have. Root and the daemon's own user may
/// have any number, so that an administrator always gets in.
pub const PER_USER: usize = 128;

/// How many connections all those users may have together: half of the 1,024
/// file descriptors that a process has by default (systemd.exec(5)).
pub const ALL_USERS: usize = 512;

/// How long accepting rests when there are no file descriptors left.
const REST: Duration = Duration::from_millis(200);

/// How long calls that are being answered may take when the daemon stops.
const PARTING: Duration = Duration::from_secs(3);

/// Serves everybody who connects until `stop` is ready, then answers the calls
/// that are being worked on and closes. With `hides_processes` nobody is known
/// by his process, as before Linux 6.5; for tests.
pub async fn serve(
    listener: UnixListener,
    service: Service,
    hides_processes: bool,
    stop: impl Future<Output = ()>,
) {
    let front = Arc::new(Front::new(service));
    let admission = Admission::new();
    let (closing, closed) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut resting = false;
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(ended) = connections.join_next() => note(ended),
            accepted = accept(&listener, &mut resting) => {
                if let Some((stream, place, subject)) =
                    accepted.and_then(|stream| admit(stream, &admission, hides_processes))
                {
                    let connection =
                        Connection::new(stream, subject, Arc::clone(&front), closed.clone());
                    connections.spawn(async move {
                        connection.run().await;
                        drop(place);
                    });
                }
            }
        }
    }
    drop(listener);
    // It fails only when there is no connection left to tell.
    let _ = closing.send(true);
    let parting = async {
        while let Some(ended) = connections.join_next().await {
            note(ended);
        }
    };
    if tokio::time::timeout(PARTING, parting).await.is_err() {
        warn!("varlink: calls were still waiting for an answer when the daemon stopped");
    }
}

/// Waits for the next connection. An error here is the lack of something, file
/// descriptors above all (EMFILE): who waits in the queue of the socket then
/// waits a little longer.
async fn accept(listener: &UnixListener, resting: &mut bool) -> Option<UnixStream> {
    match listener.accept().await {
        Ok((stream, _)) => {
            if std::mem::take(resting) {
                info!("varlink: accepting connections again");
            }
            Some(stream)
        }
        Err(error) => {
            if !std::mem::replace(resting, true) {
                warn!(%error, "varlink: cannot accept connections, will retry every 0.2 s");
            }
            tokio::time::sleep(REST).await;
            None
        }
    }
}

/// Gives the connection a place, by who is at its other end.
fn admit(
    stream: UnixStream,
    admission: &Admission,
    hides_processes: bool,
) -> Option<(UnixStream, Place, Subject)> {
    let credentials = stream
        .peer_cred()
        .inspect_err(|error| warn!(%error, "varlink: a caller without credentials"))
        .ok()?;
    let uid = credentials.uid();
    let place = admission.enter(uid)?;
    let subject = Subject {
        uid,
        origin: Origin::Peer {
            pid: credentials.pid().unwrap_or_default(),
            // Fails before Linux 6.5, and for a caller that is gone already.
            process: getsockopt(&stream, sockopt::PeerPidfd)
                .ok()
                .filter(|_| !hides_processes)
                .map(Arc::new),
        },
    };
    Some((stream, place, subject))
}

/// A connection ended. A panic in it is a mistake of ours that has cost this
/// one caller his connection; the others go on.
fn note(ended: Result<(), JoinError>) {
    if let Err(failure) = ended
        && failure.is_panic()
    {
        error!(%failure, "varlink: a connection ended by a mistake in the daemon");
    }
}
