//! What the service manager is told (sd_notify(3)): when we are ready, how we
//! are, and that we are alive.
//!
//! Without a service manager nobody is told, and nothing is missing.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;

use crate::control::{Handle, Rejection, Snapshot};
use crate::given;
use crate::model::Family;

/// A file descriptor is a connection. Those of unprivileged users are bounded
/// ([`crate::api::varlink::ALL_USERS`]); this is for root's and our own user's,
/// and no more than they could ever want.
const DESCRIPTORS: u64 = 65_536;

/// The status is told at most so often, however fast it changes.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

/// How long the watchdog rests when the controller's queue is full. It is being
/// emptied, or we are not to call ourselves alive.
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// Raises the soft limit of open files to the hard one, within reason. Services
/// have 1,024 because of select(2), which we do not use (systemd.exec(5)).
pub fn raise_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = hard.min(DESCRIPTORS);
        match wanted > soft {
            true => setrlimit(Resource::RLIMIT_NOFILE, wanted, hard),
            false => Ok(()),
        }
    });
    if let Err(error) = raised {
        // A sandbox may forbid it; then connections are fewer.
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// Has packet sockets kept for the daemon that is about to be started, in place
/// of those that are kept already. Whoever calls it is the unit's `ExecStartPre=`.
pub fn store_packet_sockets(sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        let why = "there is no service manager to keep them ($NOTIFY_SOCKET)";
        return Err(io::Error::other(why));
    }
    let name = || NotifyState::FdName(given::PACKET);
    sd_notify::notify(&[NotifyState::FdStoreRemove, name()])?;
    sd_notify::notify_with_fds(&[NotifyState::FdStore, name()], sockets)
}

/// Says that requests are answered, and goes on to say how we are. To be called
/// inside the runtime, once.
pub fn ready(handle: &Handle) {
    let status = status(&handle.snapshot());
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    tokio::spawn(keep_informed(handle.clone(), status, |status| {
        tell(&[NotifyState::Status(status)]);
    }));
    if let Some(interval) = sd_notify::watchdog_enabled() {
        let alive = || tell(&[NotifyState::Watchdog]);
        tokio::spawn(watch_over(handle.clone(), interval, alive));
    }
}

/// Says that the configuration is being read again; [`reloaded`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the service manager cannot be told"),
    }
}

/// Says that requests are answered by the configuration of now.
pub fn reloaded() {
    tell(&[NotifyState::Ready]);
}

/// Says that connections are served, by a program that tells nothing else.
pub fn serving() {
    tell(&[NotifyState::Ready]);
}

/// Says that we are about to end.
pub fn stopping() {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("stopping; traffic goes on"),
    ]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}

/// Tells the status whenever it is another.
async fn keep_informed(handle: Handle, mut told: String, tell: impl Fn(&str)) {
    let mut snapshots = handle.watch();
    while snapshots.changed().await.is_ok() {
        let now = status(&snapshots.borrow_and_update().clone());
        if now != told {
            tell(&now);
            told = now;
            tokio::time::sleep(STATUS_PAUSE).await;
        }
    }
}

/// Calls us alive as long as the controller answers, three times in the
/// interval. One that is slow answers late and is waited for; one that hangs
/// does not, and the service manager restarts us when the interval is over.
async fn watch_over(handle: Handle, interval: Duration, alive: impl Fn()) {
    loop {
        match handle.ping().await {
            Ok(()) => {
                alive();
                tokio::time::sleep(interval / 3).await;
            }
            Err(Rejection::Busy) => tokio::time::sleep(FULL_PAUSE).await,
            // It is gone, and so are we in a moment.
            Err(
                Rejection::Stopping
                | Rejection::Refused(_)
                | Rejection::StoreFailed(_)
                | Rejection::ConfigurationInvalid(_)
                | Rejection::SequenceGone { .. }
                | Rejection::CountersOff
                | Rejection::KernelFailed(_),
            ) => return,
        }
    }
}

/// One line for `systemctl status`.
fn status(snapshot: &Snapshot) -> String {
    let associated = |family| snapshot.state.associated_of(family);
    let [all4, all6] = Family::BOTH.map(|family| snapshot.site.capacity(family));
    let (some4, some6) = (associated(Family::V4), associated(Family::V6));
    // What is left of pools that are gone counts as well. Nobody counts IPv6.
    let mut line = match (all4 > 0 || some4 > 0, all6 > 0 || some6 > 0) {
        (_, false) => format!("{some4} of {all4} addresses associated"),
        (false, true) => format!("{some6} addresses of IPv6 associated"),
        (true, true) => {
            format!("{some4} of {all4} addresses of IPv4 and {some6} of IPv6 associated")
        }
    };
    if let Some(problem) = snapshot.health.problems.first() {
        line += "; degraded: ";
        line += problem;
    }
    line
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::thread::sleep;

    use super::*;
    use crate::control::{AddressState, Inbox, Message, QUEUE};
    use crate::kernel::Features;
    use crate::model::{
        AddressRange, Change, FloatingIp, Limits, Pool, PoolName, Revision, Sequence, Site, State,
        Timestamp,
    };

    const INTERVAL: Duration = Duration::from_millis(60);

    fn snapshot(pools: &[(&str, &str)]) -> Snapshot {
        let range = |(first, last): &(&str, &str)| {
            AddressRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
        };
        let site = Site {
            pools: vec![Pool {
                name: PoolName::default_pool(),
                ranges: pools.iter().map(range).collect(),
                interface: None,
                routed: false,
                announcing: Default::default(),
                hardware_addresses: Default::default(),
                gateways: Vec::new(),
            }],
            private: Vec::new(),
            guard: true,
            block_free: true,
            counters: true,
            untranslated: Default::default(),
            uplink_numbers: Default::default(),
            rest: std::time::Duration::ZERO,
            limits: Limits::default(),
        };
        Snapshot {
            state: State::load(Revision(0), Sequence(0), []),
            pending: Default::default(),
            site: Arc::new(site),
            outside: Default::default(),
            health: Default::default(),
            features: Features {
                table_owner: true,
                conntrack_filter: true,
            },
            simulated: true,
        }
    }

    fn associated(snapshot: &Snapshot, floating: &str, fixed: &str) -> Snapshot {
        let floating: FloatingIp = floating.parse().unwrap();
        let changes = [
            Change::Allocate {
                floating,
                pool: PoolName::default_pool(),
                owner: 0,
            },
            Change::Associate {
                floating,
                fixed: fixed.parse().unwrap(),
                previous: None,
            },
        ];
        let mut snapshot = snapshot.clone();
        for change in &changes {
            snapshot.state = snapshot.state.with(change, Timestamp(0));
        }
        assert_eq!(snapshot.state_of(floating), AddressState::Active);
        snapshot
    }

    /// A runtime in which something runs, and the controller's end.
    fn beside<F: Future<Output = ()> + Send + 'static>(
        task: impl FnOnce(Handle) -> F,
    ) -> (tokio::runtime::Runtime, Handle, Inbox) {
        let (handle, inbox) = Handle::new(snapshot(&[("198.51.100.1", "198.51.100.64")]));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(task(handle.clone()));
        (runtime, handle, inbox)
    }

    fn watchdog() -> (tokio::runtime::Runtime, Handle, Inbox, Arc<AtomicUsize>) {
        let pings = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&pings);
        let (runtime, handle, inbox) = beside(|handle| {
            watch_over(handle, INTERVAL, move || {
                counted.fetch_add(1, Ordering::SeqCst);
            })
        });
        (runtime, handle, inbox, pings)
    }

    #[test]
    fn a_controller_that_answers_keeps_us_alive_and_one_that_hangs_does_not() {
        let (_runtime, _handle, inbox, alive) = watchdog();
        for answered in 1..=4 {
            let Message::Ping { reply } = inbox.messages.recv().unwrap() else {
                panic!("nobody else sends");
            };
            // It takes its time, and nobody speaks for it meanwhile.
            sleep(INTERVAL);
            assert_eq!(alive.load(Ordering::SeqCst), answered - 1);
            reply.send(()).unwrap();
        }
        let hung = inbox.messages.recv().unwrap();
        sleep(INTERVAL * 5);
        assert_eq!(alive.load(Ordering::SeqCst), 4);
        assert!(inbox.messages.try_recv().is_err(), "one question is enough");
        drop(hung);
    }

    #[test]
    fn a_full_queue_is_asked_again_once_the_controller_empties_it() {
        let (handle, inbox) = Handle::new(snapshot(&[]));
        for _ in 0..QUEUE {
            handle.tell(Message::Watching);
        }
        let alive = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&alive);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(watch_over(handle.clone(), INTERVAL, move || {
            counted.fetch_add(1, Ordering::SeqCst);
        }));
        sleep(INTERVAL * 3);
        assert_eq!(alive.load(Ordering::SeqCst), 0);
        loop {
            if let Message::Ping { reply } = inbox.messages.recv().unwrap() {
                reply.send(()).unwrap();
                break;
            }
        }
        let next = inbox.messages.recv().unwrap();
        assert!(matches!(next, Message::Ping { .. }));
        assert_eq!(alive.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn the_status_is_told_when_it_is_another_and_not_for_every_commit() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let first = snapshot(&[("198.51.100.1", "198.51.100.64")]);
        let status_of_first = status(&first);
        let (_runtime, _handle, inbox) = beside(|handle| {
            keep_informed(handle, status_of_first, move |line| {
                heard.lock().unwrap().push(line.to_owned());
            })
        });
        let mut now = first.clone();
        for host in 1..=17 {
            inbox.snapshots.send_replace(Arc::new(now.clone()));
            let floating = format!("198.51.100.{host}");
            now = associated(&now, &floating, &format!("10.0.0.{host}"));
        }
        inbox.snapshots.send_replace(Arc::new(now));
        sleep(STATUS_PAUSE + Duration::from_millis(500));
        let told = told.lock().unwrap();
        assert!(told.len() <= 2, "{told:?}");
        assert_eq!(told.last().unwrap(), "17 of 64 addresses associated");
    }

    #[test]
    fn the_status_counts_what_can_be_counted_and_says_what_is_wrong() {
        let v4 = ("198.51.100.1", "198.51.100.64");
        let v6 = ("2001:db8::", "2001:db8::ffff:ffff:ffff:ffff");
        let of = |pools: &[_]| status(&snapshot(pools));
        assert_eq!(of(&[]), "0 of 0 addresses associated");
        assert_eq!(of(&[v4]), "0 of 64 addresses associated");
        assert_eq!(of(&[v6]), "0 addresses of IPv6 associated");
        let both = snapshot(&[v4, v6]);
        let mut both = associated(&both, "2001:db8::1", "fd00::1");
        let line = "0 of 64 addresses of IPv4 and 1 of IPv6 associated";
        assert_eq!(status(&both), line);
        both.health = Arc::new(crate::control::Health {
            problems: vec!["no bus".to_owned()],
            ..Default::default()
        });
        assert_eq!(status(&both), format!("{line}; degraded: no bus"));
    }
}
