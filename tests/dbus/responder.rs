//! A controller in miniature: it says yes to everything it understands, and no
//! when a test gave it a rejection to say.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use ipfloater::authority::Authorized;
use ipfloater::control::{AddressState, Handle, Health, Inbox, Message, Published};
use ipfloater::control::{Rejection, Reloaded, Snapshot};
use ipfloater::kernel::Features;
use ipfloater::model::{Actor, AddressRange, Change, Event, EventKind, FixedIp, FloatingIp};
use ipfloater::model::{Pool, PoolName, Recorded, Sequence, Site, State, Timestamp, Via};
use ipfloater::request::{Confirm, Outcome, Refusal, Request, Revert};

/// The clock stands still.
pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000);

/// The thread, and what it is to answer next instead of doing its work.
#[derive(Clone, Default)]
pub(crate) struct Answers(Arc<Mutex<VecDeque<Rejection>>>);

impl Answers {
    pub(crate) fn reject_next(&self, rejection: Rejection) {
        self.0.lock().unwrap().push_back(rejection);
    }

    fn next(&self) -> Option<Rejection> {
        self.0.lock().unwrap().pop_front()
    }
}

/// Starts one with a pool of 192.0.2.10-192.0.2.19, and one of IPv6.
pub(crate) fn start() -> (Handle, Answers) {
    let snapshot = Snapshot {
        state: State::default(),
        pending: rpds::RedBlackTreeMapSync::new_sync(),
        site: Arc::new(site()),
        outside: BTreeSet::from(["eth0".parse().unwrap()]),
        health: Arc::new(Health::default()),
        features: Features {
            table_owner: false,
            conntrack_filter: false,
        },
        simulated: true,
    };
    let (handle, inbox) = Handle::new(snapshot);
    let answers = Answers::default();
    let responder = Responder {
        inbox,
        answers: answers.clone(),
        log: Vec::new(),
    };
    std::thread::spawn(move || responder.run());
    (handle, answers)
}

fn site() -> Site {
    let pool = |name: &str, first: &str, last: &str, interface: Option<&str>| Pool {
        name: name.parse().unwrap(),
        ranges: vec![AddressRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()],
        interface: interface.map(|name| name.parse().unwrap()),
        gateways: Vec::new(),
        routed: interface.is_none(),
        announcing: Default::default(),
        hardware_addresses: [("60:60:00:00:00:01".parse().unwrap(), first.parse().unwrap())].into(),
    };
    Site {
        pools: vec![
            pool("default", "192.0.2.10", "192.0.2.19", Some("eth0")),
            pool("six", "2001:db8::10", "2001:db8::1f", None),
        ],
        private: vec!["10.0.0.0/8".parse().unwrap()],
        guard: true,
        block_free: true,
        counters: true,
        untranslated: Default::default(),
        uplink_numbers: Default::default(),
        rest: std::time::Duration::ZERO,
        limits: Default::default(),
    }
}

struct Responder {
    inbox: Inbox,
    answers: Answers,
    log: Vec<Event>,
}

impl Responder {
    fn run(mut self) {
        while let Ok(message) = self.inbox.messages.recv() {
            match message {
                Message::Request(request, _, reply) => {
                    let answer = self.carry_out(&request);
                    let _ = reply.send(answer);
                }
                Message::History {
                    floating,
                    before,
                    limit,
                    reply,
                } => {
                    let _ = reply.send(Ok(self.history(floating, before, limit)));
                }
                Message::Since {
                    floating,
                    after,
                    before,
                    limit,
                    reply,
                } => {
                    let mut events = self.history(floating, before, usize::MAX);
                    events.retain(|event| event.sequence > after);
                    events.reverse();
                    events.truncate(limit);
                    let recorded = |event| Recorded { event, owner: None };
                    let _ = reply.send(Ok(events.into_iter().map(recorded).collect()));
                }
                Message::Reload { reply, .. } => {
                    let sequence = self.inbox.snapshots.borrow().state.sequence();
                    let news = Vec::new();
                    let _ = reply.send(Ok(Reloaded {
                        news,
                        sequence,
                        unconfirmed: None,
                        effects: None,
                    }));
                }
                Message::Noticed(_) => self.repair(),
                Message::SettleReload { .. }
                | Message::Watching
                | Message::Neighbours(_)
                | Message::Cut { .. }
                | Message::Problem { .. }
                | Message::Ping { .. } => {}
                Message::Stop => return,
            }
        }
    }

    fn carry_out(&mut self, request: &Authorized<Request>) -> Result<Outcome, Rejection> {
        if let Some(rejection) = self.answers.next() {
            return Err(rejection);
        }
        let (floating, changes) = self.changes(request)?;
        let before = self.inbox.snapshots.borrow().state.association(floating);
        let changed = !changes.is_empty();
        for change in changes {
            self.commit(request, change);
        }
        let state = self.inbox.snapshots.borrow().state.clone();
        Ok(Outcome {
            all: Vec::new(),
            floating,
            changed,
            allocation: state.allocation(floating).cloned(),
            resting: None,
            pending: None,
            previous: before.map(|association| association.fixed),
            displaced: None,
            revision: state.revision(),
            sequence: state.sequence(),
            unconfirmed: None,
            effects: None,
        })
    }

    fn changes(&self, request: &Authorized<Request>) -> Result<(FloatingIp, Vec<Change>), Refusal> {
        let snapshot = self.inbox.snapshots.borrow();
        let state = &snapshot.state;
        let allocate = |floating, pool: &Option<PoolName>| Change::Allocate {
            floating,
            pool: pool.clone().unwrap_or_else(PoolName::default_pool),
            owner: request.actor().uid,
        };
        let known = |address| {
            FloatingIp::new(address)
                .ok()
                .filter(|floating| state.allocation(*floating).is_some())
                .or_else(|| state.floating_of(FixedIp::new(address).ok()?))
                .ok_or(Refusal::NotAssociated { address })
        };
        Ok(match request.request() {
            Request::Allocate(wanted) => {
                let floating = wanted.floating.unwrap_or_else(|| free(state));
                (floating, vec![allocate(floating, &wanted.pool)])
            }
            Request::Associate(wanted) => {
                let floating = wanted.floating.unwrap_or_else(|| free(state));
                let mut changes = Vec::new();
                if state.allocation(floating).is_none() {
                    changes.push(allocate(floating, &wanted.pool));
                }
                let previous = state.association(floating).map(|found| found.fixed);
                if previous != Some(wanted.fixed) {
                    changes.push(Change::Associate {
                        floating,
                        fixed: wanted.fixed,
                        previous,
                    });
                }
                (floating, changes)
            }
            Request::Disassociate(wanted) => {
                let floating = known(wanted.address)?;
                let tied = state.association(floating);
                let change = tied.map(|tied| Change::Disassociate {
                    floating,
                    previous: tied.fixed,
                });
                (floating, change.into_iter().collect())
            }
            Request::Forward(wanted) => {
                let floating = wanted.floating;
                let mut changes = Vec::new();
                if state.allocation(floating).is_none() {
                    changes.push(allocate(floating, &None));
                }
                changes.push(Change::Forward {
                    floating,
                    forward: wanted.forward,
                    previous: None,
                });
                (floating, changes)
            }
            Request::Unforward(wanted) => {
                let floating = wanted.floating;
                let forwards = state.forwards(floating);
                let found = forwards.and_then(|all| all.clash(wanted.protocol, wanted.ports));
                let change = found.map(|forward| Change::Unforward {
                    floating,
                    forward: *forward,
                });
                (floating, change.into_iter().collect())
            }
            Request::Update(wanted) => {
                let floating = known(wanted.address)?;
                let allocation = state.allocation(floating);
                let before = allocation.map(|allocation| allocation.attributes.clone());
                let before = before.unwrap_or_default();
                let after = wanted.alteration.of(&before).unwrap();
                let change = Change::Update {
                    floating,
                    before: before.into(),
                    after: after.into(),
                };
                (floating, vec![change])
            }
            Request::Release(wanted) => {
                let floating = known(wanted.address)?;
                let previous = state.association(floating).map(|tied| tied.fixed);
                (
                    floating,
                    vec![Change::Release {
                        floating,
                        previous,
                        resting_until: None,
                    }],
                )
            }
            // Nothing is on trial here.
            Request::Confirm(Confirm { address }) | Request::Revert(Revert { address }) => {
                let address = Some(*address);
                return Err(Refusal::NothingUnconfirmed { address });
            }
        })
    }

    fn commit(&mut self, request: &Authorized<Request>, change: Change) {
        let mut snapshot = self.inbox.snapshots.borrow().as_ref().clone();
        snapshot.state = snapshot.state.with(&change, NOW).committed();
        let floating = change.floating();
        let event = Event {
            sequence: snapshot.state.sequence(),
            revision: Some(snapshot.state.revision()),
            at: NOW,
            actor: request.actor(),
            kind: EventKind::Changed(change),
        };
        let state = snapshot.state_of(floating);
        self.inbox.snapshots.send_replace(Arc::new(snapshot));
        self.publish(event, Some(state));
    }

    fn publish(&mut self, event: Event, state: Option<AddressState>) {
        self.log.push(event.clone());
        let published = Published {
            event,
            state,
            owner: None,
        };
        let _ = self.inbox.events.send(Arc::new(published));
    }

    fn history(
        &self,
        floating: Option<FloatingIp>,
        before: Option<Sequence>,
        limit: usize,
    ) -> Vec<Event> {
        let wanted = |event: &&Event| {
            (floating.is_none() || event.kind.floating() == floating)
                && before.is_none_or(|before| event.sequence < before)
        };
        let latest_first = self.log.iter().rev();
        latest_first.filter(wanted).take(limit).cloned().collect()
    }

    /// Somebody meddled: it is put right, and something stays wrong.
    fn repair(&mut self) {
        let mut snapshot = self.inbox.snapshots.borrow().as_ref().clone();
        snapshot.state = snapshot.state.after_event();
        snapshot.health = Arc::new(Health {
            problems: vec!["something is wrong; put it right".to_owned()],
            warnings: Vec::new(),
            repairs: 1,
        });
        let event = Event {
            sequence: snapshot.state.sequence(),
            revision: None,
            at: NOW,
            actor: Actor {
                uid: 0,
                via: Via::Daemon,
            },
            kind: EventKind::Repaired {
                what: "the table was gone".to_owned(),
            },
        };
        self.inbox.snapshots.send_replace(Arc::new(snapshot));
        self.publish(event, None);
    }
}

fn free(state: &State) -> FloatingIp {
    (10..20)
        .map(|host| format!("192.0.2.{host}").parse().unwrap())
        .find(|floating| state.allocation(*floating).is_none())
        .expect("no test takes all of them")
}
