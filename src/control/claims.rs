//! Asking the neighbours before an address is taken, and what comes of it.
//!
//! The association is committed by then, and pending; the announcer asks beside
//! the controller and reports. An address that another machine has is kept out of
//! the maps as well, or its host would leave as that machine; it is asked about
//! again later, each time after a longer pause, and at once when somebody asks for
//! it. One that is ours and that another machine claims stays ours: it is reported
//! and nothing else.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::dataplane::{Claims, IfIndex};
use crate::kernel::Report;
use crate::model::{EventKind, FloatingIp, HardwareAddress, PendingReason};

use super::Controller;

/// The first and the longest pause before an address that another machine has
/// is asked about again.
const FIRST_RETRY: Duration = Duration::from_secs(30);
const LAST_RETRY: Duration = Duration::from_secs(300);

/// A machine that claims an address of ours and is not heard for so long has
/// given up.
const FORGOTTEN: Duration = Duration::from_secs(300);

/// So many conflicts over addresses of ours are events within so long: whoever is
/// on the link can make them up.
const EVENTS: u32 = 30;
const EVENTS_WITHIN: Duration = Duration::from_secs(60);

/// So many addresses are named in the status.
const NAMED: usize = 3;

/// What is known of the neighbours, and what is under way.
#[derive(Debug, Default)]
pub(super) struct Inquiry {
    pub(super) claims: Claims,
    /// The addresses that are being asked about.
    probing: HashSet<FloatingIp>,
    /// When to ask again about what another machine has, and which pause that
    /// ends.
    retries: HashMap<FloatingIp, (Instant, Duration)>,
    /// Who claims an address of ours, and when that is over.
    disputes: BTreeMap<FloatingIp, (HardwareAddress, Instant)>,
    events: Option<(Instant, u32)>,
    /// What was reported and not yet looked at.
    pub(super) reports: Vec<Report>,
}

impl Inquiry {
    /// How long until something is due.
    pub(super) fn pause(&self, now: Instant) -> Option<Duration> {
        let retries = self.retries.iter();
        let retries = retries.filter(|(floating, _)| !self.probing.contains(*floating));
        let retries = retries.map(|(_, (at, _))| *at);
        let disputes = self.disputes.values().map(|(_, until)| *until);
        let next = retries.chain(disputes).min()?;
        Some(next.saturating_duration_since(now))
    }

    fn is_event(&mut self, now: Instant) -> bool {
        let (since, count) = self
            .events
            .filter(|(since, _)| now - *since < EVENTS_WITHIN)
            .unwrap_or((now, 0));
        self.events = Some((since, count + 1));
        count < EVENTS
    }

    /// Nothing is known of the address any more. Says whether there was a conflict.
    fn forget(&mut self, floating: FloatingIp) -> bool {
        let was_contested = self.claims.withhold(floating);
        self.claims.forget(floating);
        self.probing.remove(&floating);
        self.retries.remove(&floating);
        self.disputes.remove(&floating).is_some() || was_contested
    }

    /// What the administrator should know; `None` when there is no conflict.
    fn problem(&self) -> Option<String> {
        let contested = self.claims.contested();
        let disputed = self
            .disputes
            .iter()
            .map(|(floating, (by, _))| (*floating, *by));
        let mut all: Vec<_> = contested.chain(disputed).collect();
        all.sort_unstable();
        let named: Vec<_> = all
            .iter()
            .take(NAMED)
            .map(|(floating, by)| format!("{floating} ({by})"))
            .collect();
        let more = match all.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        (!all.is_empty()).then(|| {
            format!(
                "another machine on the outside link has {}{more}; take the address away from it, or out of the pool",
                named.join(", ")
            )
        })
    }
}

impl Controller {
    /// Does what an address in use waits for, as far as that is asking for it.
    pub(super) fn inquire(&mut self, floating: FloatingIp, reason: Option<&PendingReason>) {
        match reason {
            Some(PendingReason::Probing(_)) => self.ask(floating),
            // It is asked about again, and nobody is told.
            Some(PendingReason::Contested { .. }) => {}
            Some(
                PendingReason::Starting
                | PendingReason::NoDefaultRoute
                | PendingReason::InterfaceMissing(_)
                | PendingReason::InterfaceDown(_)
                | PendingReason::NoGateway(_)
                | PendingReason::NoCarrier(_)
                | PendingReason::Kernel(_),
            )
            | None => {
                if self.inquiry.probing.remove(&floating) {
                    self.announcer.withdraw(floating);
                }
            }
        }
    }

    /// The address leads nowhere any more.
    pub(super) fn let_go(&mut self, floating: FloatingIp) {
        self.announcer.withdraw(floating);
        if self.inquiry.forget(floating) {
            self.report_conflicts();
        }
    }

    /// Lets go of all that the state or the configuration no longer asks about.
    /// Before the kernel is made to follow, which then takes it.
    pub(super) fn let_go_of_strays(&mut self) {
        let desired = self.desired();
        let known = self
            .inquiry
            .claims
            .contested()
            .map(|(floating, _)| floating);
        let known = known.chain(self.inquiry.probing.iter().copied());
        let strays: Vec<_> = known
            .filter(|floating| {
                !self.state.is_in_use(*floating) || desired.patience(*floating).is_none()
            })
            .collect();
        for floating in strays {
            // What nobody is asked about any more may be taken.
            if self.inquiry.claims.withhold(floating) {
                self.uncut.insert(floating);
            }
            self.let_go(floating);
        }
        let state = &self.state;
        self.inquiry
            .claims
            .retain(|floating| state.is_in_use(floating));
    }

    /// Asks the neighbours, unless that is under way.
    fn ask(&mut self, floating: FloatingIp) {
        let desired = self.desired();
        let (Some(patience), Ok(link)) = (
            desired.patience(floating),
            desired.link(floating, &self.observed).cloned(),
        ) else {
            return;
        };
        if self.inquiry.probing.insert(floating) {
            self.announcer.probe(floating, &link, patience);
        }
    }

    /// The router answers for these.
    pub(super) fn hold(&mut self, held: impl IntoIterator<Item = (FloatingIp, IfIndex)>) {
        for (floating, index) in held {
            self.inquiry.probing.remove(&floating);
            self.inquiry.claims.take(floating, index);
        }
    }

    /// Somebody asks for an address: if another machine has it, whether it still
    /// does is found out at once. Says whether there is anything to find out.
    pub(super) fn ask_again(&mut self, floating: FloatingIp) -> bool {
        let is_contested = self.inquiry.claims.ask_again(floating);
        if is_contested {
            self.inquiry.retries.remove(&floating);
            let reason = PendingReason::Probing(floating);
            self.pending.insert_mut(floating, reason);
            self.ask(floating);
        }
        is_contested
    }

    /// The interface has carrier again: what another machine had there may be
    /// free.
    pub(super) fn ask_soon(&mut self, now: Instant) {
        for (at, _) in self.inquiry.retries.values_mut() {
            *at = now;
        }
    }

    /// Asks again about what is due, and forgets who is heard no more.
    pub(super) fn attend(&mut self, now: Instant) {
        let due = self.inquiry.retries.iter();
        let due: Vec<_> = due
            .filter(|(floating, (at, _))| *at <= now && !self.inquiry.probing.contains(*floating))
            .map(|(floating, (_, pause))| (*floating, *pause))
            .collect();
        for (floating, pause) in due {
            self.ask(floating);
            if !self.inquiry.probing.contains(&floating) {
                self.inquiry.retries.insert(floating, (now + pause, pause));
            }
        }
        let before = self.inquiry.disputes.len();
        self.inquiry.disputes.retain(|_, (_, until)| *until > now);
        if self.inquiry.disputes.len() != before {
            self.report_conflicts();
        }
        if !self.inquiry.reports.is_empty() {
            self.conclude(now);
        }
    }

    /// Acts on what the neighbours said.
    fn conclude(&mut self, now: Instant) {
        let before = self.pending.clone();
        let (mut touched, mut kinds) = (Vec::new(), Vec::new());
        for report in std::mem::take(&mut self.inquiry.reports) {
            match report {
                Report::Free { floating, index } => {
                    // It may have been withdrawn meanwhile.
                    if self.inquiry.probing.remove(&floating) {
                        self.inquiry.retries.remove(&floating);
                        if self.inquiry.claims.take(floating, index) {
                            self.uncut.insert(floating);
                        }
                        touched.push(floating);
                    }
                }
                Report::Taken { floating, by } => {
                    if self.inquiry.probing.remove(&floating) {
                        self.contest(floating, by, now, &mut kinds);
                        touched.push(floating);
                    }
                }
                Report::Disputed { floating, by } => self.dispute(floating, by, now, &mut kinds),
            }
        }
        // Without that it is looked at everything, and anything may have changed.
        let was_certain = self.certain;
        if !touched.is_empty() && self.apply(&touched) {
            self.cut_late(Vec::new());
        }
        self.report_conflicts();
        self.show();
        if was_certain {
            let single = touched.iter();
            kinds.extend(single.filter_map(|floating| self.transition(&before, *floating)));
        } else {
            kinds.extend(self.transitions(&before));
        }
        self.record(kinds);
    }

    fn contest(
        &mut self,
        floating: FloatingIp,
        by: HardwareAddress,
        now: Instant,
        kinds: &mut Vec<EventKind>,
    ) {
        if self.inquiry.claims.contest(floating, by) {
            self.uncut.insert(floating);
            kinds.push(EventKind::Conflict { floating, by });
        }
        let last = self.inquiry.retries.get(&floating);
        let pause = last.map_or(FIRST_RETRY, |(_, last)| (*last * 2).min(LAST_RETRY));
        self.inquiry.retries.insert(floating, (now + pause, pause));
    }

    fn dispute(
        &mut self,
        floating: FloatingIp,
        by: HardwareAddress,
        now: Instant,
        kinds: &mut Vec<EventKind>,
    ) {
        if !self.observed.presence.contains_key(&floating) {
            return;
        }
        let known = self
            .inquiry
            .disputes
            .insert(floating, (by, now + FORGOTTEN));
        if known.is_none() && self.inquiry.is_event(now) {
            kinds.push(EventKind::Conflict { floating, by });
        }
    }

    fn report_conflicts(&mut self) {
        let problem = self.inquiry.problem();
        self.report("conflict", problem);
    }
}
