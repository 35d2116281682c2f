//! The server on a socket of its own, and a controller without store and kernel.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ipfloater::api::Service;
use ipfloater::api::varlink::{claim, serve};
use ipfloater::authority::{Authority, Authorized};
use ipfloater::control::{
    AddressState, Counters, Handle, Health, Inbox, Message, Published, Rejection, Snapshot,
};
use ipfloater::kernel::{FakeKernel, Features};
use ipfloater::model::{
    Actor, AddressRange, Change, Event, EventKind, FixedIp, FloatingIp, Pool, PoolName, Recorded,
    Revision, Sequence, Site, State, Timestamp, Via,
};
use ipfloater::reload::Reloader;
use ipfloater::request::{Confirm, Outcome, Refusal, Request, Revert};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{broadcast, oneshot};

use crate::policy::Defaults;

/// A running server.
pub(crate) struct Daemon {
    directory: TempDir,
    stop: Option<oneshot::Sender<()>>,
    server: Option<thread::JoinHandle<()>>,
    /// Where events are published, and how many listen.
    pub(crate) events: broadcast::Sender<Arc<Published>>,
}

impl Daemon {
    /// A server whose only pool has 16 free addresses.
    pub(crate) fn start() -> Self {
        Self::with(State::default())
    }

    /// A server with this state.
    pub(crate) fn with(state: State) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // So that other users get in, as in a runtime directory.
        std::fs::set_permissions(
            directory.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let (handle, inbox) = Handle::new(snapshot(state));
        let events = inbox.events.clone();
        thread::spawn(|| control(inbox));
        let socket = claim(directory.path(), None).unwrap().listen().unwrap();
        let (stop, stopped) = oneshot::channel();
        let server = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let stopped = async {
                    let _ = stopped.await;
                };
                let authority = Authority::new(Defaults::default());
                let service = Service {
                    reloader: Reloader::new(handle.clone(), None, true),
                    handle,
                    counters: Counters::start(FakeKernel::simulated().meter()).unwrap(),
                    authority,
                };
                serve(socket.listener().unwrap(), service, false, stopped).await;
            });
        });
        Self {
            directory,
            stop: Some(stop),
            server: Some(server),
            events,
        }
    }

    /// The socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("org.ipfloater")
    }

    /// A caller.
    pub(crate) fn connect(&self) -> Caller {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Caller {
            stream,
            read: Vec::new(),
        }
    }

    /// Stops it, and waits until it has stopped.
    pub(crate) fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(server) = self.server.take() {
            server.join().unwrap();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The other end, which sends whatever it likes.
pub(crate) struct Caller {
    stream: UnixStream,
    read: Vec<u8>,
}

impl Caller {
    /// Sends bytes; what does not get through does not matter.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a message.
    pub(crate) fn tell(&mut self, message: &Value) {
        self.send(format!("{message}\0").as_bytes());
    }

    /// The next reply; `None` when the server hung up.
    pub(crate) fn hear(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == 0) {
                let rest = self.read.split_off(end + 1);
                let message = std::mem::replace(&mut self.read, rest);
                return Some(serde_json::from_slice(&message[..end]).unwrap());
            }
            let mut chunk = [0; 65_536];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(length) => self.read.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("the server says nothing: {error}"),
            }
        }
    }

    /// Sends a message and waits for its reply.
    pub(crate) fn call(&mut self, message: &Value) -> Value {
        self.tell(message);
        self.hear().expect("a reply")
    }
}

/// A floating IP.
pub(crate) fn floating(text: &str) -> FloatingIp {
    text.parse().unwrap()
}

/// A fixed address.
pub(crate) fn fixed(text: &str) -> FixedIp {
    text.parse().unwrap()
}

fn snapshot(state: State) -> Snapshot {
    let range = |first: &str, last: &str| {
        AddressRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
    };
    let pool = Pool {
        name: PoolName::default_pool(),
        ranges: vec![range("203.0.113.0", "203.0.113.15")],
        interface: None,
        routed: false,
        announcing: Default::default(),
        hardware_addresses: [(
            "60:60:00:00:0a:01".parse().unwrap(),
            "203.0.113.4".parse().unwrap(),
        )]
        .into(),
        gateways: Vec::new(),
    };
    let huge = Pool {
        name: "huge".parse().unwrap(),
        ranges: vec![range(
            "2001:db8::",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
        )],
        interface: Some("eth1".parse().unwrap()),
        routed: true,
        announcing: Default::default(),
        hardware_addresses: Default::default(),
        gateways: Vec::new(),
    };
    Snapshot {
        state,
        pending: Default::default(),
        site: Arc::new(Site {
            pools: vec![pool, huge],
            private: vec!["10.0.0.0/8".parse().unwrap()],
            guard: true,
            block_free: true,
            counters: true,
            untranslated: Default::default(),
            uplink_numbers: Default::default(),
            rest: std::time::Duration::ZERO,
            limits: Default::default(),
        }),
        outside: ["eth0".parse().unwrap()].into(),
        health: Arc::new(Health {
            problems: vec!["the disk is \u{1b}[2Jfull; make room".to_owned()],
            ..Health::default()
        }),
        features: Features {
            table_owner: true,
            conntrack_filter: true,
        },
        simulated: true,
    }
}

/// Keeps books, without any of the judgement of the real one.
fn control(inbox: Inbox) {
    let mut log: Vec<Event> = Vec::new();
    while let Ok(message) = inbox.messages.recv() {
        match message {
            Message::Request(request, _, reply) => {
                let _ = reply.send(carry_out(&inbox, &mut log, &request));
            }
            Message::History {
                floating,
                before,
                limit,
                reply,
            } => {
                let wanted = |event: &&Event| {
                    floating.is_none_or(|floating| event.kind.floating() == Some(floating))
                        && before.is_none_or(|before| event.sequence < before)
                };
                let events = log.iter().rev().filter(wanted).take(limit).cloned();
                let _ = reply.send(Ok(events.collect()));
            }
            Message::Since {
                floating,
                after,
                before,
                limit,
                reply,
            } => {
                let last = inbox.snapshots.borrow().state.sequence();
                let first = log.first().map_or(last.next(), |event| event.sequence);
                if after > last || after.next() < first {
                    let _ = reply.send(Err(Rejection::SequenceGone { after, first, last }));
                    continue;
                }
                let wanted = |event: &&Event| {
                    floating.is_none_or(|floating| event.kind.floating() == Some(floating))
                        && event.sequence > after
                        && before.is_none_or(|before| event.sequence < before)
                };
                let events = log.iter().filter(wanted).take(limit).cloned();
                let state = inbox.snapshots.borrow().state.clone();
                let owned = |event: Event| {
                    let allocation = event.kind.floating().and_then(|f| state.allocation(f));
                    let owner = allocation.map(|allocation| allocation.owner);
                    Recorded { event, owner }
                };
                let events = events.map(owned);
                let _ = reply.send(Ok(events.collect()));
            }
            // Dropped without an answer: there is no configuration.
            Message::Reload { .. }
            | Message::SettleReload { .. }
            | Message::Noticed(_)
            | Message::Neighbours(_)
            | Message::Watching
            | Message::Cut { .. }
            | Message::Problem { .. }
            | Message::Ping { .. } => {}
            Message::Stop => return,
        }
    }
}

fn carry_out(
    inbox: &Inbox,
    log: &mut Vec<Event>,
    request: &Authorized<Request>,
) -> Result<Outcome, Rejection> {
    let now = inbox.snapshots.borrow().clone();
    let actor = request.actor();
    let (floating, changes) = decide(&now, request.request(), actor)?;
    let before = now.state.association(floating);
    let mut state = now.state.clone();
    for change in &changes {
        state = state.with(change, Timestamp(1_700_000_000));
    }
    if !changes.is_empty() {
        state = state.committed();
    }
    let first = now.state.sequence().0;
    let events: Vec<_> = (first + 1..)
        .zip(&changes)
        .map(|(sequence, change)| Event {
            sequence: Sequence(sequence),
            revision: Some(state.revision()),
            at: Timestamp(1_700_000_000),
            actor,
            kind: EventKind::Changed(change.clone()),
        })
        .collect();
    let outcome = Outcome {
        all: Vec::new(),
        floating,
        changed: !changes.is_empty(),
        allocation: state.allocation(floating).cloned(),
        resting: None,
        pending: None,
        previous: before.map(|before| before.fixed),
        displaced: None,
        revision: state.revision(),
        sequence: state.sequence(),
        unconfirmed: None,
        effects: None,
    };
    let shown = Snapshot {
        state,
        ..(*now).clone()
    };
    let states: Vec<_> = events.iter().map(|_| shown.state_of(floating)).collect();
    inbox.snapshots.send_replace(Arc::new(shown));
    for (event, state) in events.into_iter().zip(states) {
        log.push(event.clone());
        let state = Some(state);
        let _ = inbox.events.send(Arc::new(Published {
            event,
            state,
            owner: None,
        }));
    }
    Ok(outcome)
}

fn decide(
    now: &Snapshot,
    request: &Request,
    actor: Actor,
) -> Result<(FloatingIp, Vec<Change>), Refusal> {
    let state = &now.state;
    let free = || {
        (0..16)
            .map(|last| floating(&format!("203.0.113.{last}")))
            .find(|address| state.allocation(*address).is_none())
            .ok_or_else(|| Refusal::PoolExhausted {
                family: "IPv4".to_owned(),
                pool: None,
            })
    };
    let taken = |floating| Change::Allocate {
        floating,
        pool: PoolName::default_pool(),
        owner: actor.uid,
    };
    let meant = |address: std::net::IpAddr| {
        let host = FixedIp::new(address).unwrap();
        let of_host = state.floating_of(host);
        of_host.unwrap_or_else(|| FloatingIp::new(address).unwrap())
    };
    let previous = |floating| state.association(floating).map(|tie| tie.fixed);
    match request {
        Request::Allocate(wanted) => {
            let floating = wanted.floating.map_or_else(free, Ok)?;
            match state.allocation(floating) {
                Some(_) => Err(Refusal::AlreadyAllocated {
                    floating,
                    noted: false,
                }),
                None => Ok((floating, vec![taken(floating)])),
            }
        }
        Request::Associate(wanted) => {
            let fixed = wanted.fixed;
            let own = state.floating_of(fixed);
            let floating = wanted.floating.or(own).map_or_else(free, Ok)?;
            if let Some(own) = own.filter(|own| *own != floating && !wanted.reassociate) {
                return Err(Refusal::TargetInUse {
                    fixed,
                    floating: own,
                });
            }
            match previous(floating) {
                Some(host) if host == fixed => return Ok((floating, Vec::new())),
                Some(fixed) if !wanted.reassociate => {
                    return Err(Refusal::AlreadyAssociated { floating, fixed });
                }
                Some(_) | None => {}
            }
            let mut changes = Vec::new();
            if state.allocation(floating).is_none() {
                changes.push(taken(floating));
            }
            changes.push(Change::Associate {
                floating,
                fixed,
                previous: previous(floating),
            });
            Ok((floating, changes))
        }
        Request::Disassociate(wanted) => {
            let floating = meant(wanted.address);
            let change =
                previous(floating).map(|previous| Change::Disassociate { floating, previous });
            Ok((floating, change.into_iter().collect()))
        }
        Request::Forward(wanted) => {
            let floating = wanted.floating;
            let mut changes = Vec::new();
            if state.allocation(floating).is_none() {
                changes.push(taken(floating));
            }
            changes.push(Change::Forward {
                floating,
                forward: wanted.forward,
                previous: None,
            });
            Ok((floating, changes))
        }
        Request::Unforward(wanted) => {
            let floating = wanted.floating;
            let forwards = state.forwards(floating);
            let found = forwards.and_then(|all| all.clash(wanted.protocol, wanted.ports));
            let change = found.map(|forward| Change::Unforward {
                floating,
                forward: *forward,
            });
            Ok((floating, change.into_iter().collect()))
        }
        Request::Update(wanted) => {
            let floating = meant(wanted.address);
            let allocation = state.allocation(floating);
            let before = allocation.ok_or(Refusal::NotAllocated { floating })?;
            let before = before.attributes.clone();
            let after = wanted.alteration.of(&before).unwrap();
            let change = Change::Update {
                floating,
                before: before.into(),
                after: after.into(),
            };
            Ok((floating, vec![change]))
        }
        // Nothing is on trial here.
        Request::Confirm(Confirm { address }) | Request::Revert(Revert { address }) => {
            let address = Some(*address);
            Err(Refusal::NothingUnconfirmed { address })
        }
        Request::Release(wanted) => {
            let floating = meant(wanted.address);
            if now.site.pool_of(floating).is_none() {
                return Err(Refusal::NotInPool {
                    address: wanted.address,
                    pool: None,
                    home: None,
                });
            }
            let change = state.allocation(floating).map(|_| Change::Release {
                floating,
                previous: previous(floating),
                resting_until: None,
            });
            Ok((floating, change.into_iter().collect()))
        }
    }
}

/// So many repairs, one after the other, to be published.
pub(crate) fn repairs(from: u64, count: u64) -> impl Iterator<Item = Arc<Published>> {
    (from..from + count).map(|sequence| {
        let event = Event {
            sequence: Sequence(sequence),
            revision: None,
            at: Timestamp(1_700_000_000),
            actor: Actor {
                uid: 0,
                via: Via::Daemon,
            },
            kind: EventKind::Repaired {
                what: "a rule was gone".to_owned(),
            },
        };
        Arc::new(Published {
            event,
            state: Some(AddressState::Free),
            owner: None,
        })
    })
}

/// A state in which so many addresses are associated.
pub(crate) fn full(count: u32) -> State {
    use ipfloater::model::{Allocation, Association};
    let allocations = (0..count).map(|number| {
        let [_, b, c, d] = number.to_be_bytes();
        let association = Some(Association {
            fixed: fixed(&format!("10.{b}.{c}.{d}")),
            since: Timestamp(1_700_000_000),
        });
        let allocation = Allocation {
            association,
            ..Allocation::new(PoolName::default_pool(), 1000, Timestamp(1_700_000_000))
        };
        (floating(&format!("198.{b}.{c}.{d}")), allocation)
    });
    State::load(Revision(7), Sequence(9), allocations)
}
