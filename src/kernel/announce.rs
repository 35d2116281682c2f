//! Who has a floating IP on an outside link: asked before it is taken, told when
//! it is, and listened to from then on.
//!
//! [`Announcer`] does it beside the controller, in one thread that waits for what
//! is due and for what is heard. Linux ignores a second change of a neighbour
//! entry within its locktime of one second (`locktime`, arp(7)), so the rounds of
//! announcing are further apart than that. What others say is reported and not
//! answered: nobody is fought here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};
use std::fmt;
use std::io::{self, Read, Write};
use std::ops::Bound;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::dataplane::{IfIndex, Link};
use crate::model::{Announcing, FloatingIp, HardwareAddress};

use super::{Heard, KernelError, Neighbours, Speech};

/// How often an address is announced, the first time at once.
const ROUNDS: u32 = 3;

/// How long after one another.
const APART: Duration = Duration::from_millis(1_100);

/// How often it is asked about an address (PROBE_NUM, RFC 5227 1.1): a single
/// question may be lost.
const PROBES: u32 = 3;

/// How long after one another, and so much longer after the last, in tenths of
/// the patience. RFC 5227 has 1 to 2 s and 2 s, for links and hosts of any kind,
/// and takes 4 to 7 s; here somebody waits.
const PROBES_APART: u32 = 3;

/// How long after one another two addresses are asked about or announced: a
/// start with a hundred thousand must not flood the link, nor the tables of its
/// switches.
const PACE: Duration = Duration::from_micros(500);

/// Errors repeat for every address; one line in so long is enough.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);

/// A machine that says again and again that an address is its own is reported so
/// often (DEFEND_INTERVAL, RFC 5227 1.1).
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// For how long after that our own periodic announcements rest: they would be
/// the one half of a fight.
const REST: Duration = Duration::from_secs(300);

/// What was found out about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Nobody says that it is his.
    Free {
        /// The address.
        floating: FloatingIp,
        /// Where nobody says so.
        index: IfIndex,
    },
    /// Somebody has it who was asked, or wants it at the same time.
    Taken {
        /// The address.
        floating: FloatingIp,
        /// Who.
        by: HardwareAddress,
    },
    /// Somebody says that it is his although it is ours.
    Disputed {
        /// The address.
        floating: FloatingIp,
        /// Who.
        by: HardwareAddress,
    },
}

/// Asks about addresses, announces them, repeats it, and listens.
#[derive(Debug)]
pub struct Announcer {
    shared: Arc<Shared>,
}

struct Shared {
    schedule: Mutex<Schedule>,
    /// A byte in it makes the thread look again.
    bell: UnixStream,
}

/// Where reports go.
type Tell = Arc<dyn Fn(Report) + Send + Sync>;

/// What is to be done when.
#[derive(Default)]
struct Schedule {
    entries: HashMap<FloatingIp, Entry>,
    due: BinaryHeap<Reverse<(Instant, FloatingIp)>>,
    links: HashMap<IfIndex, Link>,
    /// The hardware addresses of this machine.
    own: HashSet<HardwareAddress>,
    /// What is announced for ever, by how often.
    refreshes: BTreeMap<Duration, Refresh>,
    tell: Option<Tell>,
    over: bool,
}

/// An address that is asked about, or ours.
#[derive(Debug)]
struct Entry {
    index: IfIndex,
    task: Task,
    /// When the next step of the task is due.
    next: Instant,
    /// Whether others are listened to.
    listens: bool,
    refresh: Option<Duration>,
    disputed: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// It is asked so often yet, within this patience altogether.
    Probe { left: u32, patience: Duration },
    /// It is announced so often yet.
    Announce { left: u32 },
}

/// The addresses that are announced for ever, one after the other, so that they
/// are spread over the period however many they are.
#[derive(Debug)]
struct Refresh {
    members: BTreeSet<FloatingIp>,
    last: Option<FloatingIp>,
    next: Instant,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Announce(FloatingIp, IfIndex),
    Probe(FloatingIp, IfIndex),
    /// Nobody has answered.
    Find(Report),
}

impl Announcer {
    /// Starts the thread. It ends with the value.
    pub fn start(neighbours: Box<dyn Neighbours>) -> io::Result<Self> {
        let (bell, wake) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            schedule: Mutex::default(),
            bell,
        });
        let theirs = shared.clone();
        std::thread::Builder::new()
            .name("announce".into())
            .spawn(move || Thread::new(neighbours, theirs, wake).run())?;
        Ok(Self { shared })
    }

    /// From now on reports go there, from the thread.
    pub fn report_to(&self, tell: impl Fn(Report) + Send + Sync + 'static) {
        self.shared.lock().tell = Some(Arc::new(tell));
    }

    /// From now on these are the interfaces. What is due on one without carrier
    /// is left out.
    pub fn know(&self, links: impl IntoIterator<Item = Link>) {
        self.shared.lock().know(links);
    }

    /// Asks the neighbours whether one of them has the address; a [`Report`] tells
    /// what they say, at the latest when the patience is over.
    pub fn probe(&self, floating: FloatingIp, link: &Link, patience: Duration) {
        let now = Instant::now();
        self.shared.lock().probe(floating, link, patience, now);
        self.shared.ring();
    }

    /// Announces the address at once, and then again.
    pub fn announce(&self, floating: FloatingIp, link: &Link, how: Announcing) {
        let now = Instant::now();
        self.shared.lock().announce(floating, link, how, now);
        self.shared.ring();
    }

    /// Goes on with an address that is ours as another configuration says.
    pub fn follow(&self, floating: FloatingIp, link: &Link, how: Announcing) {
        let now = Instant::now();
        self.shared.lock().follow(floating, link, how, now);
        self.shared.ring();
    }

    /// Asks and announces no more about the address. Once this returns, nothing
    /// is sent.
    pub fn withdraw(&self, floating: FloatingIp) {
        self.shared.lock().remove(floating);
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.ring();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        // A bell that is full is heard already.
        let _ = (&self.bell).write(&[0]);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Schedule {
    fn know(&mut self, links: impl IntoIterator<Item = Link>) {
        self.links = links.into_iter().map(|link| (link.index, link)).collect();
        let macs = self.links.values().filter_map(|link| link.mac);
        self.own = macs.map(HardwareAddress).collect();
    }

    fn meet(&mut self, link: &Link) {
        self.own.extend(link.mac.map(HardwareAddress));
        self.links.insert(link.index, link.clone());
    }

    fn probe(&mut self, floating: FloatingIp, link: &Link, patience: Duration, now: Instant) {
        self.remove(floating);
        self.meet(link);
        let entry = Entry {
            index: link.index,
            task: Task::Probe {
                left: PROBES,
                patience,
            },
            next: now,
            listens: true,
            refresh: None,
            disputed: None,
        };
        self.entries.insert(floating, entry);
        self.due.push(Reverse((now, floating)));
    }

    fn announce(&mut self, floating: FloatingIp, link: &Link, how: Announcing, now: Instant) {
        self.follow(floating, link, how, now);
        let entry = self.entries.get_mut(&floating);
        let entry = entry.expect("it was made by now, if it was not there");
        entry.index = link.index;
        entry.task = Task::Announce { left: ROUNDS };
        entry.next = now;
        self.due.push(Reverse((now, floating)));
    }

    fn follow(&mut self, floating: FloatingIp, link: &Link, how: Announcing, now: Instant) {
        self.meet(link);
        let entry = self.entries.entry(floating).or_insert(Entry {
            index: link.index,
            task: Task::Announce { left: 0 },
            next: now,
            listens: false,
            refresh: None,
            disputed: None,
        });
        entry.listens = how.probe.is_some();
        let before = std::mem::replace(&mut entry.refresh, how.refresh);
        if before == how.refresh {
            return;
        }
        self.leave(floating, before);
        if let Some(period) = how.refresh {
            let refresh = self.refreshes.entry(period).or_insert_with(|| Refresh {
                members: BTreeSet::new(),
                last: None,
                next: now + period,
            });
            refresh.members.insert(floating);
        }
    }

    fn leave(&mut self, floating: FloatingIp, period: Option<Duration>) {
        let Some((period, refresh)) =
            period.and_then(|period| Some((period, self.refreshes.get_mut(&period)?)))
        else {
            return;
        };
        refresh.members.remove(&floating);
        if refresh.members.is_empty() {
            self.refreshes.remove(&period);
        }
    }

    fn remove(&mut self, floating: FloatingIp) {
        if let Some(entry) = self.entries.remove(&floating) {
            self.leave(floating, entry.refresh);
        }
    }

    /// What is due, with the next turn of it noted.
    fn take(&mut self, now: Instant) -> Option<Act> {
        while let Some(&Reverse((at, floating))) = self.due.peek() {
            if at > now {
                break;
            }
            self.due.pop();
            // An address that was withdrawn, or begun anew since.
            let Some(entry) = self
                .entries
                .get_mut(&floating)
                .filter(|entry| entry.next == at)
            else {
                continue;
            };
            let index = entry.index;
            let (task, pause, act) = match entry.task {
                Task::Probe { left: 0, .. } => {
                    self.remove(floating);
                    return Some(Act::Find(Report::Free { floating, index }));
                }
                Task::Probe { left, patience } => {
                    let left = left - 1;
                    let apart = patience * PROBES_APART / 10;
                    let pause = match left {
                        0 => patience - apart * (PROBES - 1),
                        _ => apart,
                    };
                    let act = Act::Probe(floating, index);
                    (Task::Probe { left, patience }, Some(pause), act)
                }
                Task::Announce { left: 0 } => continue,
                Task::Announce { left } => {
                    let left = left - 1;
                    let pause = (left > 0).then_some(APART);
                    (
                        Task::Announce { left },
                        pause,
                        Act::Announce(floating, index),
                    )
                }
            };
            entry.task = task;
            if let Some(pause) = pause {
                entry.next = now + pause;
                self.due.push(Reverse((entry.next, floating)));
            } else if !entry.listens && entry.refresh.is_none() {
                self.remove(floating);
            }
            return Some(act);
        }
        self.take_refresh(now)
    }

    /// The address whose periodic announcement is due.
    fn take_refresh(&mut self, now: Instant) -> Option<Act> {
        let mut due = self.refreshes.iter_mut();
        let (period, refresh) = due.find(|(_, refresh)| refresh.next <= now)?;
        let Refresh {
            members,
            last,
            next,
        } = refresh;
        let after = last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut following = members
            .range((after, Bound::Unbounded))
            .chain(members.iter());
        let floating = *following.next()?;
        *last = Some(floating);
        *next = now + *period / u32::try_from(members.len()).unwrap_or(u32::MAX);
        let entry = self.entries.get(&floating)?;
        let is_disputed = entry.disputed.is_some_and(|at| now - at < REST);
        (!is_disputed).then_some(Act::Announce(floating, entry.index))
    }

    /// When the next thing is due.
    fn next(&self) -> Option<Instant> {
        let task = self.due.peek().map(|Reverse((at, _))| *at);
        let refreshes = self.refreshes.values().map(|refresh| refresh.next);
        refreshes.chain(task).min()
    }

    /// Whether somebody's words are about an address that is asked about, or ours.
    fn heard(&mut self, heard: Heard, now: Instant) -> Option<Report> {
        let Heard {
            floating,
            interface,
            by,
            speech,
        } = heard;
        if self.own.contains(&by) {
            return None;
        }
        let entry = self.entries.get_mut(&floating)?;
        if entry.index != interface || !entry.listens {
            return None;
        }
        match (entry.task, speech) {
            // Who probes at the same time has it no less than we do (RFC 5227
            // 2.1.1, RFC 4862 5.4.3).
            (Task::Probe { .. }, Speech::Claims | Speech::Probes) => {
                self.remove(floating);
                Some(Report::Taken { floating, by })
            }
            // The kernel answers.
            (Task::Announce { .. }, Speech::Probes) => None,
            (Task::Announce { .. }, Speech::Claims) => {
                let is_new = entry.disputed.is_none_or(|at| now - at >= REPORT_EVERY);
                is_new.then(|| {
                    entry.disputed = Some(now);
                    Report::Disputed { floating, by }
                })
            }
        }
    }

    /// A question could not be asked: it begins anew.
    fn ask_anew(&mut self, floating: FloatingIp, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&floating)
            && let Task::Probe { patience, .. } = entry.task
        {
            entry.task = Task::Probe {
                left: PROBES,
                patience,
            };
            entry.next = now + patience;
            self.due.push(Reverse((entry.next, floating)));
        }
    }

    /// The link of an interface, if frames leave by it.
    fn carrying(&self, index: IfIndex) -> Option<Link> {
        self.links.get(&index).filter(|link| link.carrier).cloned()
    }
}

/// What the thread has.
struct Thread {
    neighbours: Box<dyn Neighbours>,
    shared: Arc<Shared>,
    wake: UnixStream,
    complained: Option<Instant>,
    /// When the next frame may be sent.
    free: Instant,
}

impl Thread {
    fn new(neighbours: Box<dyn Neighbours>, shared: Arc<Shared>, wake: UnixStream) -> Self {
        Self {
            neighbours,
            shared,
            wake,
            complained: None,
            free: Instant::now(),
        }
    }

    fn run(mut self) {
        let shared = self.shared.clone();
        loop {
            let now = Instant::now();
            let mut schedule = shared.lock();
            if schedule.over {
                return;
            }
            let act = (self.free <= now).then(|| schedule.take(now)).flatten();
            // Under the lock: once an address is withdrawn nothing is sent.
            let found = act.and_then(|act| self.perform(act, &mut schedule, now));
            let next = schedule.next().map(|next| next.max(self.free));
            let tell = schedule.tell.clone();
            drop(schedule);
            // Not under the lock: who is told may be waiting for it.
            if let (Some(tell), Some(report)) = (&tell, found) {
                tell(report);
            }
            let patience = match act {
                Some(_) => Some(Duration::ZERO),
                None => next.map(|next| next.saturating_duration_since(now)),
            };
            self.listen(patience, tell.as_deref());
        }
    }

    /// Does what is due; what it finds out is to be told.
    fn perform(&mut self, act: Act, schedule: &mut Schedule, now: Instant) -> Option<Report> {
        let (floating, index) = match act {
            Act::Find(report) => return Some(report),
            Act::Announce(floating, index) | Act::Probe(floating, index) => (floating, index),
        };
        let listens = schedule
            .entries
            .get(&floating)
            .is_some_and(|entry| entry.listens);
        let hears = listens && self.hear(floating, now);
        let link = schedule.carrying(index);
        let done = match (act, link) {
            // Nobody would be heard who answers.
            (Act::Probe(..), _) if !hears => {
                schedule.remove(floating);
                return Some(Report::Free { floating, index });
            }
            (Act::Probe(..), None) => {
                schedule.ask_anew(floating, now);
                return None;
            }
            (Act::Probe(..), Some(link)) => self.neighbours.probe(floating, &link),
            (Act::Announce(..), Some(link)) => self.neighbours.announce(floating, &link),
            (Act::Announce(..), None) | (Act::Find(_), _) => return None,
        };
        self.free = now + PACE;
        if let Err(error) = done {
            if let Act::Probe(..) = act {
                schedule.ask_anew(floating, now);
            }
            self.complain(now, &error, "it is tried again");
        }
        None
    }

    /// Whether it is heard what others say about an address like this.
    fn hear(&mut self, floating: FloatingIp, now: Instant) -> bool {
        match self.neighbours.hear(floating.family()) {
            Ok(true) => true,
            Ok(false) => {
                let error = io::Error::other("there is no socket for it");
                let error = KernelError::new(super::Operation::Listen, error);
                let what = "addresses are taken without asking for others that have them";
                self.complain(now, &error, what);
                false
            }
            Err(error) => {
                let what = "addresses are taken without asking for others that have them";
                self.complain(now, &error, what);
                false
            }
        }
    }

    fn complain(&mut self, now: Instant, error: &KernelError, what: &str) {
        if self.complained.is_none_or(|at| now - at > COMPLAIN_EVERY) {
            self.complained = Some(now);
            tracing::warn!(%error, "neighbours may not be asked, or find out later; {what}");
        }
    }

    /// Waits for what others say until something is due or altered.
    fn listen(
        &mut self,
        patience: Option<Duration>,
        tell: Option<&(dyn Fn(Report) + Send + Sync)>,
    ) {
        let heard = self.neighbours.listen(self.wake.as_fd(), patience);
        let mut bytes = [0; 64];
        while (&self.wake)
            .read(&mut bytes)
            .is_ok_and(|read| read == bytes.len())
        {}
        let now = Instant::now();
        match heard {
            Ok(heard) if heard.is_empty() => {}
            Ok(heard) => {
                let mut schedule = self.shared.lock();
                let reports = heard
                    .into_iter()
                    .filter_map(|heard| schedule.heard(heard, now));
                let reports: Vec<_> = reports.collect();
                drop(schedule);
                if let Some(tell) = tell {
                    reports.into_iter().for_each(tell);
                }
            }
            Err(error) => {
                self.complain(now, &error, "it is tried again");
                // What does not wait must not turn in circles.
                std::thread::sleep(APART);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: HardwareAddress = HardwareAddress([2, 0, 0, 0, 0, 9]);
    const SECOND: Duration = Duration::from_secs(1);

    fn link() -> Link {
        Link {
            index: IfIndex(2),
            up: true,
            carrier: true,
            mac: Some(MAC),
        }
    }

    fn floating(last: u8) -> FloatingIp {
        format!("198.51.100.{last}").parse().unwrap()
    }

    fn heard(last: u8, by: HardwareAddress, speech: Speech) -> Heard {
        Heard {
            floating: floating(last),
            interface: IfIndex(2),
            by,
            speech,
        }
    }

    fn told(refresh: Option<Duration>) -> Announcing {
        Announcing {
            probe: Some(SECOND),
            refresh,
        }
    }

    #[test]
    fn an_address_has_its_rounds_apart_and_none_after_it_was_withdrawn() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        let hold = |schedule: &mut Schedule, at| {
            schedule.announce(floating(7), &link(), Announcing::default(), at);
        };
        hold(&mut schedule, start);
        assert!(schedule.take(start).is_some());
        assert!(schedule.take(start + APART / 2).is_none());
        assert!(schedule.take(start + APART).is_some());
        assert!(schedule.take(start + APART * 2).is_some());
        assert!(
            schedule.take(start + APART * 9).is_none(),
            "three rounds and no more"
        );

        hold(&mut schedule, start);
        hold(&mut schedule, start + APART / 2);
        assert!(
            schedule.take(start).is_none(),
            "announced anew, it begins anew"
        );
        assert!(schedule.take(start + APART / 2).is_some());
        schedule.remove(floating(7));
        assert!(schedule.take(start + APART * 9).is_none());
    }

    #[test]
    fn an_address_that_nobody_says_is_his_is_free_after_three_questions_and_the_patience() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.probe(floating(7), &link(), SECOND, start);
        let mut done = Vec::new();
        for tenth in 0..=20 {
            let at = start + SECOND * tenth / 10;
            done.extend(schedule.take(at).map(|act| (tenth, act)));
        }
        let asked = Act::Probe(floating(7), IfIndex(2));
        let found = Act::Find(Report::Free {
            floating: floating(7),
            index: IfIndex(2),
        });
        assert_eq!(done, [(0, asked), (3, asked), (6, asked), (10, found)]);
    }

    #[test]
    fn who_answers_or_asks_as_well_has_the_address_unless_it_is_this_machine() {
        let now = Instant::now();
        for speech in [Speech::Claims, Speech::Probes] {
            let mut schedule = Schedule::default();
            schedule.probe(floating(7), &link(), SECOND, now);
            let own = heard(7, HardwareAddress(MAC), speech);
            assert_eq!(schedule.heard(own, now), None, "our own, come back");
            let elsewhere = Heard {
                interface: IfIndex(3),
                ..heard(7, OTHER, speech)
            };
            assert_eq!(schedule.heard(elsewhere, now), None, "on another link");
            assert_eq!(schedule.heard(heard(8, OTHER, speech), now), None);
            let taken = Report::Taken {
                floating: floating(7),
                by: OTHER,
            };
            assert_eq!(schedule.heard(heard(7, OTHER, speech), now), Some(taken));
            assert_eq!(schedule.take(now + SECOND * 9), None, "it is over");
        }
    }

    #[test]
    fn who_claims_what_is_ours_is_reported_now_and_then_and_who_asks_is_not() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.announce(floating(7), &link(), told(None), start);
        let claims = heard(7, OTHER, Speech::Claims);
        let disputed = Some(Report::Disputed {
            floating: floating(7),
            by: OTHER,
        });
        assert_eq!(schedule.heard(heard(7, OTHER, Speech::Probes), start), None);
        assert_eq!(schedule.heard(claims, start), disputed);
        assert_eq!(schedule.heard(claims, start + REPORT_EVERY / 2), None);
        assert_eq!(schedule.heard(claims, start + REPORT_EVERY), disputed);
        schedule.remove(floating(7));
        assert_eq!(schedule.heard(claims, start + REPORT_EVERY * 9), None);
    }

    #[test]
    fn periodic_announcements_are_spread_over_the_period() {
        let start = Instant::now();
        let period = Duration::from_secs(100);
        let mut schedule = Schedule::default();
        for last in 0..100 {
            schedule.announce(floating(last), &link(), told(Some(period)), start);
        }
        // The rounds that an address has when it is new.
        for round in 0..ROUNDS {
            while schedule.take(start + APART * round).is_some() {}
        }
        assert_eq!(schedule.next(), Some(start + period));
        let disputed = heard(7, OTHER, Speech::Claims);
        assert!(schedule.heard(disputed, start + period).is_some());
        let mut by_second = Vec::new();
        for second in 0..100 {
            let at = start + period + SECOND * second;
            by_second.extend(schedule.take(at).map(|act| (second, act)));
            assert_eq!(schedule.take(at), None, "one at a time");
        }
        let expected = (0..100).filter(|last| *last != 7);
        let expected: Vec<_> = expected
            .map(|last| (u32::from(last), Act::Announce(floating(last), IfIndex(2))))
            .collect();
        assert_eq!(by_second, expected, "but for the one that is disputed");

        for last in 0..100 {
            schedule.follow(floating(last), &link(), told(None), start);
        }
        assert_eq!(schedule.next(), None);
    }
}
