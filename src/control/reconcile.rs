//! Making the kernel agree: diff and apply, for a request as for a start.
//!
//! The two differ in what "observed" is. A request diffs against what is
//! remembered of the kernel, for the addresses that it touched; a start, a lost
//! notification or somebody else's edit dumps it whole.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use crate::dataplane::{
    Associations, Cut, Delta, Desired, Element, IfIndex, Link, Observed, Routing, Ruleset, Step,
    Tenants, Uses, Way,
};
use crate::kernel::KernelError;
use crate::model::{
    Announcing, EventKind, FloatingIp, InterfaceName, PendingReason, Revision, State,
};

use super::Controller;
use super::agenda::Look;
use super::controller::StartError;

/// More transitions than this at once are one event, not one each: an
/// interface that goes down with all its addresses.
const MOST_TRANSITIONS: usize = 256;

/// What was known before a look, as far as it tells what somebody else did.
#[derive(Debug)]
struct Before {
    links: BTreeMap<InterfaceName, Link>,
    outside: BTreeSet<InterfaceName>,
    presence: HashMap<FloatingIp, IfIndex>,
    routing: Routing,
}

/// What became of a delta.
#[derive(Debug, Default)]
struct Applied {
    /// Why the whole of it stopped.
    failure: Option<KernelError>,
    /// What the kernel did not take, by address.
    refused: HashMap<FloatingIp, String>,
    /// What it did not take of rules and routes.
    unrouted: Option<KernelError>,
}

impl Controller {
    /// Takes over what is in the kernel at start and corrects the difference in
    /// one transaction. A kernel that cannot be read at all is no start, nor is a
    /// store in which nothing was ever committed beside associations in the kernel:
    /// to make these agree would end all of them.
    pub(super) fn adopt(&mut self) -> Result<(), StartError> {
        self.observed = self.kernel.observe()?;
        let in_use = self.observed.in_use();
        if self.is_new() && in_use > 0 {
            return Err(StartError::StoreLost { in_use });
        }
        self.certain = true;
        // What was undone before may need more of the table.
        let uplinks = self.count_uplinks();
        self.uses = Uses::of(&self.state, uplinks);
        self.ruleset = self.ruleset_of(&self.site, self.uses);
        self.announcer.know(self.observed.links.values().cloned());
        // What the daemon before us answered for is ours.
        self.hold(self.observed.presence.clone());
        let is_first = self.is_first();
        let delta = Delta::whole(&self.desired(), &self.observed);
        tracing::info!(
            associations = self.state.associated(),
            corrected = delta.transaction.remove.len() + delta.transaction.add.len(),
            rebuilt = delta.transaction.rebuild.is_some(),
            "adopting what is in the kernel"
        );
        // Even an empty transaction makes the table ours.
        let mut applied = self.carry_out(&delta, true);
        // Another daemon's table: there is nothing here for this one to do.
        if let Some(error) = applied
            .failure
            .take_if(|error| error.errno() == Some(nix::libc::EPERM))
        {
            return Err(error.into());
        }
        self.statistics
            .reconciliation("start", applied.failure.is_none());
        self.settle(&applied, &BTreeSet::new());
        if applied.failure.is_some() {
            return Ok(());
        }
        if !is_first {
            self.cutter.settle(self.associations());
        }
        let held: Vec<_> = self
            .observed
            .presence
            .iter()
            .map(|(floating, index)| (*floating, *index))
            .collect();
        self.announce(&held);
        Ok(())
    }

    /// Whether nobody before us gave an address to a host: then the flows of
    /// pool addresses are somebody else's, such as those of the original, from
    /// which they may be taken over yet.
    fn is_first(&self) -> bool {
        self.is_new() && self.observed.table.is_none() && self.observed.presence.is_empty()
    }

    /// Whether nothing was ever committed.
    fn is_new(&self) -> bool {
        self.state.revision() == Revision(0)
    }

    /// Makes the kernel agree about a few addresses. Says whether the table
    /// took it.
    pub(super) fn apply(&mut self, touched: &[FloatingIp]) -> bool {
        self.use_ruleset(self.uses.uplinks);
        if !self.certain {
            return self.look_and_apply(Look::Everything).is_some();
        }
        let delta = self.difference(&self.state, &self.observed, touched);
        let applied = self.carry_out(&delta, false);
        self.statistics
            .reconciliation("request", applied.failure.is_none());
        for floating in touched {
            self.update_pending(*floating, &applied);
        }
        self.note_failures(&applied);
        applied.failure.is_none()
    }

    /// How many uplinks there are, by the last look. Tells the log of those that
    /// packets are not led to, each once.
    fn count_uplinks(&mut self) -> u32 {
        let uplinks = self.desired().uplinks(&self.observed);
        let (count, unknown) = (uplinks.count(), uplinks.unknown().clone());
        for (interface, family) in unknown.difference(&self.unknown_ways) {
            tracing::warn!(
                "no {family} default route leads out by {interface}: what has an address of its pools \
                 leaves by the router's own routes; add a route there, or set GATEWAY"
            );
        }
        self.unknown_ways = unknown;
        count
    }

    /// Holds to the table as it should be now, with so many uplinks.
    fn use_ruleset(&mut self, uplinks: u32) {
        let uses = Uses::of(&self.state, uplinks);
        if uses != self.uses {
            self.ruleset = self.ruleset_using(uses);
            self.uses = uses;
        }
    }

    fn ruleset_using(&self, uses: Uses) -> Ruleset {
        Ruleset::using(&self.site, |family| self.ruleset.size(family), uses)
    }

    /// The table as it should be for a state: some of it is there only while an
    /// address needs it.
    fn ruleset_for(&self, state: &State) -> Cow<'_, Ruleset> {
        let uses = Uses::of(state, self.uses.uplinks);
        match uses == self.uses {
            true => Cow::Borrowed(&self.ruleset),
            false => Cow::Owned(self.ruleset_using(uses)),
        }
    }

    /// What differs for a few addresses between a state and the kernel.
    pub(super) fn difference(
        &self,
        state: &State,
        observed: &Observed,
        touched: &[FloatingIp],
    ) -> Delta {
        let ruleset = self.ruleset_for(state);
        let desired = self.desired_with(&ruleset, state);
        let mut delta = Delta::of(&desired, observed, touched);
        // One of no pool is in the sets for as long as somebody has it.
        let is_orphan = |floating: &FloatingIp| self.site.pool_of(*floating).is_none();
        if touched.iter().any(is_orphan) {
            let ranges = desired.pool(observed);
            delta.transaction.pool = (ranges != observed.pool).then_some(ranges);
        }
        delta
    }

    /// Looks at the kernel because something was noticed or is tried again, and
    /// puts right what differs.
    pub(super) fn repair(&mut self, look: Look) {
        let before = self.pending.clone();
        let look = if self.certain { look } else { Look::Everything };
        let was_certain = self.certain;
        let Some(repaired) = self.look_and_apply(look) else {
            self.show();
            return;
        };
        let mut kinds = self.transitions(&before);
        if let Some(what) = repaired.filter(|_| was_certain) {
            let now = Instant::now();
            self.repairs += 1;
            self.agenda.repaired(now);
            let fight = self.agenda.is_fight(now);
            self.report(
                "fight",
                fight.then(|| {
                    "somebody keeps altering table inet ipfloater or our routes; repairs are slowed down. \
                     `nft monitor` and `ip monitor` show who"
                        .to_owned()
                }),
            );
            tracing::warn!("somebody else altered what is ours; {what}");
            kinds.push(EventKind::Repaired { what });
        } else if !self.agenda.is_fight(Instant::now()) {
            self.report("fight", None);
        }
        self.show();
        self.record(kinds);
    }

    /// Makes the kernel follow a configuration that is new. What is put right on
    /// the way is nobody's doing but ours.
    pub(super) fn follow(&mut self) {
        let before = self.pending.clone();
        self.look_and_apply(Look::Everything);
        let kinds = self.transitions(&before);
        self.show();
        self.record(kinds);
    }

    /// Observes, diffs and applies. `None` means that the kernel refused;
    /// `Some(Some(text))` that something which had been right was put right.
    fn look_and_apply(&mut self, look: Look) -> Option<Option<String>> {
        let repaired = self.reconcile(look);
        let extent = match look {
            Look::Everything => "everything",
            Look::Links => "links",
        };
        self.statistics.reconciliation(extent, repaired.is_some());
        repaired
    }

    fn reconcile(&mut self, look: Look) -> Option<Option<String>> {
        let before = Before {
            links: self.observed.links.clone(),
            outside: self.observed.outside.clone(),
            presence: self.observed.presence.clone(),
            routing: self.observed.routing.clone(),
        };
        let default_routes = [
            self.observed.default_route4.clone(),
            self.observed.default_route6.clone(),
        ];
        let seen = match look {
            Look::Everything => self.kernel.observe().map(|seen| self.observed = seen),
            Look::Links => self
                .kernel
                .observe_links()
                .map(|seen| self.observed.refresh_links(seen)),
        };
        if let Err(error) = seen {
            self.fail(&error);
            return None;
        }
        self.observed.remember_default_routes(default_routes);
        self.certain = true;
        let uplinks = self.count_uplinks();
        self.use_ruleset(uplinks);
        self.let_go_of_strays();
        self.announcer.know(self.observed.links.values().cloned());

        let delta = Delta::whole(&self.desired(), &self.observed);
        let mut risen = risen(&before, &self.observed);
        risen.append(&mut self.risen);
        let applied = self.carry_out(&delta, false);
        let stale = delta
            .transaction
            .remove
            .iter()
            .filter_map(|element| match element {
                Element::FloatingToFixed(floating, _)
                | Element::RestToFixed(floating, _)
                | Element::Forward(floating, _) => Some(*floating),
                Element::FixedToFloating(..)
                | Element::ForwardedTo(_)
                | Element::Forwarding(_)
                | Element::Counted(..)
                | Element::Limited(..)
                | Element::Filtered(_)
                | Element::Allowed(..)
                | Element::FixedToUplink(..)
                | Element::Outside(_) => None,
            });
        let stale: BTreeSet<_> = stale.collect();
        let cuts: Vec<_> = stale
            .into_iter()
            .map(|floating| self.cut(floating))
            .collect();
        self.settle(&applied, &risen);
        if applied.failure.is_some() {
            return None;
        }
        let repaired = describe(&delta, &before, &self.observed);
        if delta.transaction.rebuild.is_some() {
            self.cutter.settle(self.associations());
        }
        self.cut_late(cuts);
        Some(repaired)
    }

    /// Takes the steps of a delta in their order, and keeps `observed` in step.
    /// The transaction is sent even if it is empty when that is asked for.
    fn carry_out(&mut self, delta: &Delta, even_empty: bool) -> Applied {
        let mut applied = Applied::default();
        for step in Delta::ORDER {
            match step {
                Step::Withdraw if !delta.withdraw.is_empty() => {
                    for (floating, _) in &delta.withdraw {
                        self.announcer.withdraw(*floating);
                    }
                    let refused = refused(self.kernel.withdraw(&delta.withdraw));
                    for (floating, _) in &delta.withdraw {
                        if !refused.contains_key(floating) {
                            self.observed.presence.remove(floating);
                        }
                    }
                    applied.refused.extend(refused);
                }
                Step::Transact if even_empty || !delta.transaction.is_empty() => {
                    if let Err(error) = self.kernel.transact(&delta.transaction) {
                        applied.failure = Some(error);
                        return applied;
                    }
                    self.observed.note(&delta.transaction);
                }
                Step::Present if !delta.present.is_empty() => {
                    let refused = refused(self.kernel.present(&delta.present));
                    let held = delta
                        .present
                        .iter()
                        .filter(|(floating, _)| !refused.contains_key(floating));
                    let held: Vec<_> = held.copied().collect();
                    self.observed.presence.extend(held.iter().copied());
                    self.hold(held.iter().copied());
                    self.announce(&held);
                    applied.refused.extend(refused);
                }
                Step::Reroute if !delta.rerouting.is_empty() => {
                    let mut refused = self.kernel.reroute(&delta.rerouting).into_iter();
                    applied.unrouted = refused.next();
                    if applied.unrouted.is_none() {
                        self.observed.routing.alter(&delta.rerouting);
                    }
                }
                Step::Withdraw | Step::Transact | Step::Reroute | Step::Present => {}
            }
        }
        if even_empty || !delta.transaction.is_empty() {
            self.generation = self.kernel.generation().ok();
        }
        applied
    }

    /// After a look at everything: what waits for what, and what to announce.
    fn settle(&mut self, applied: &Applied, risen: &BTreeSet<IfIndex>) {
        let addresses: Vec<_> = self.state.in_use().collect();
        for floating in addresses {
            self.update_pending(floating, applied);
        }
        let gone: Vec<_> = self
            .pending
            .keys()
            .filter(|f| !self.state.is_in_use(**f))
            .copied()
            .collect();
        for floating in gone {
            self.pending.remove_mut(&floating);
        }
        self.note_failures(applied);
        if !risen.is_empty() {
            self.ask_soon(Instant::now());
            let held = self
                .observed
                .presence
                .iter()
                .filter(|(_, index)| risen.contains(index));
            let held: Vec<_> = held.map(|(floating, index)| (*floating, *index)).collect();
            self.announce(&held);
        }
    }

    fn update_pending(&mut self, floating: FloatingIp, applied: &Applied) {
        let reason = if !self.state.is_in_use(floating) {
            None
        } else if let Some(error) = &applied.failure {
            Some(PendingReason::Kernel(error.to_string()))
        } else if let Some(why) = applied.refused.get(&floating) {
            Some(PendingReason::Kernel(why.clone()))
        } else {
            self.desired().pending(floating, &self.observed)
        };
        if self.state.is_in_use(floating) {
            self.inquire(floating, reason.as_ref());
        } else {
            self.let_go(floating);
        }
        match reason {
            Some(reason) => self.pending.insert_mut(floating, reason),
            None => {
                self.pending.remove_mut(&floating);
            }
        }
    }

    fn note_failures(&mut self, applied: &Applied) {
        if let Some(error) = &applied.failure {
            self.fail(error);
        } else if let Some(error) = &applied.unrouted {
            let pause = self.agenda.retry(Instant::now());
            tracing::warn!(%error, "will retry in {} s", pause.as_secs());
            self.report("uplinks", Some(error.to_string()));
        } else if let Some((floating, why)) = applied.refused.iter().next() {
            let pause = self.agenda.retry(Instant::now());
            tracing::warn!(floating_ip = %floating, error = %why, "will retry in {} s", pause.as_secs());
        } else {
            self.agenda.settled();
            self.report("kernel", None);
        }
        let known = self.problems.contains_key("uplinks");
        if known && self.desired().rerouting(&self.observed).is_empty() {
            self.report("uplinks", None);
        }
    }

    /// What we know of the kernel is not to be believed; look again later.
    fn fail(&mut self, error: &KernelError) {
        self.certain = false;
        let pause = self.agenda.retry(Instant::now());
        tracing::error!(%error, "will retry in {} s", pause.as_secs());
        self.report("kernel", Some(error.to_string()));
    }

    /// Cuts what could not be cut when it was altered, and what was found stale.
    pub(super) fn cut_late(&mut self, mut cuts: Vec<Cut>) {
        for floating in std::mem::take(&mut self.uncut) {
            cuts.push(self.cut(floating));
            let leaving = Tenants::of(&self.state, floating).leaving;
            cuts.extend(leaving.into_iter().map(Cut::Outbound));
        }
        if !cuts.is_empty() {
            self.cutter.cut(0, cuts);
        }
    }

    /// The cut of what does not belong to the hosts that have the address now.
    fn cut(&self, floating: FloatingIp) -> Cut {
        let keep = if self.inquiry.claims.withhold(floating) {
            Tenants::default()
        } else {
            Tenants::of(&self.state, floating)
        };
        Cut::Floating { floating, keep }
    }

    fn announce(&self, held: &[(FloatingIp, IfIndex)]) {
        for (floating, index) in held {
            if let Some(link) = self
                .observed
                .links
                .values()
                .find(|link| link.index == *index)
            {
                let how = self.announcing(*floating);
                self.announcer.announce(*floating, link, how);
            }
        }
    }

    /// What is done about an address on its outside link.
    fn announcing(&self, floating: FloatingIp) -> Announcing {
        let pool = self.site.pool_of(floating);
        pool.map(|pool| pool.announcing).unwrap_or_default()
    }

    /// Goes on with what is answered for as a new configuration says.
    pub(super) fn follow_announcing(&self) {
        let links = self.observed.links.values();
        let links: HashMap<IfIndex, &Link> = links.map(|link| (link.index, link)).collect();
        for (floating, index) in &self.observed.presence {
            if let Some(link) = links.get(index) {
                let how = self.announcing(*floating);
                self.announcer.follow(*floating, link, how);
            }
        }
    }

    /// Whether an address became active or pending since, as an event.
    pub(super) fn transition(
        &self,
        before: &rpds::RedBlackTreeMapSync<FloatingIp, PendingReason>,
        floating: FloatingIp,
    ) -> Option<EventKind> {
        match (before.get(&floating), self.pending.get(&floating)) {
            // An event of its own tells that.
            (_, Some(PendingReason::Contested { .. })) => None,
            (was, Some(reason)) if was != Some(reason) => Some(EventKind::Deferred {
                floating,
                reason: reason.clone(),
            }),
            (Some(_), None) if self.state.is_in_use(floating) => {
                Some(EventKind::Activated { floating })
            }
            (_, Some(_)) | (_, None) => None,
        }
    }

    /// What became active or pending since, as events.
    pub(super) fn transitions(
        &self,
        before: &rpds::RedBlackTreeMapSync<FloatingIp, PendingReason>,
    ) -> Vec<EventKind> {
        let settled = before.keys().filter(|f| !self.pending.contains_key(*f));
        let all = self.pending.keys().chain(settled);
        let kinds = all.filter_map(|floating| self.transition(before, *floating));
        let kinds: Vec<_> = kinds.collect();
        if kinds.len() > MOST_TRANSITIONS {
            let what = format!(
                "{} associations changed between active and pending at once",
                kinds.len()
            );
            vec![EventKind::Repaired { what }]
        } else {
            kinds
        }
    }

    /// What every flow is held against.
    fn associations(&self) -> Associations {
        Associations::new(
            &self.state,
            self.desired().pool(&self.observed),
            self.site.inside(),
        )
    }

    pub(super) fn desired(&self) -> Desired<'_> {
        self.desired_of(&self.state)
    }

    /// What would be desired with that state.
    pub(super) fn desired_of<'a>(&'a self, state: &'a State) -> Desired<'a> {
        self.desired_with(&self.ruleset, state)
    }

    /// The same with a table that may be another.
    fn desired_with<'a>(&'a self, ruleset: &'a Ruleset, state: &'a State) -> Desired<'a> {
        Desired::new(ruleset, state, &self.site).by_claims(&self.inquiry.claims)
    }
}

fn refused(errors: Vec<(FloatingIp, KernelError)>) -> HashMap<FloatingIp, String> {
    errors
        .into_iter()
        .map(|(floating, error)| (floating, error.to_string()))
        .collect()
}

/// Interfaces that have carrier and had none, or are new.
fn risen(before: &Before, after: &Observed) -> BTreeSet<IfIndex> {
    let had = |name: &InterfaceName, index| {
        before
            .links
            .get(name)
            .is_some_and(|link| link.carrier && link.index == index)
    };
    let links = after
        .links
        .iter()
        .filter(|(name, link)| link.carrier && !had(name, link.index));
    links.map(|(_, link)| link.index).collect()
}

/// What of a delta undoes somebody else's doing, in words; `None` when it only
/// follows interfaces that came, went or went down.
fn describe(delta: &Delta, before: &Before, after: &Observed) -> Option<String> {
    let mut done = Vec::new();
    let transaction = &delta.transaction;
    if transaction.rebuild.is_some() {
        done.push("table inet ipfloater was built anew".to_owned());
    } else if transaction.reshape.is_some() {
        done.push("chains of table inet ipfloater were put right".to_owned());
    } else if transaction.pool.is_some() {
        done.push("the pool sets were corrected".to_owned());
    }
    let elements = transaction.remove.len() + transaction.add.len();
    if transaction.rebuild.is_none() && before.outside == after.outside && elements > 0 {
        done.push(format!("{elements} elements were corrected"));
    }
    let is_up = |index: IfIndex| {
        after
            .links
            .values()
            .any(|link| link.index == index && link.up)
    };
    let altered = delta.rerouting.add.routes.iter().any(|route| {
        let stays = match route.way {
            Way::Nowhere => true,
            Way::Via { interface, .. } => is_up(interface),
        };
        stays && before.routing.routes.contains(route)
    });
    if altered || !delta.rerouting.add.rules.is_disjoint(&before.routing.rules) {
        done.push("routing rules or routes were put right".to_owned());
    }
    let was_up = |index: IfIndex| {
        let up =
            |links: &BTreeMap<_, Link>| links.values().any(|link| link.index == index && link.up);
        up(&before.links) && up(&after.links)
    };
    let lost = delta
        .present
        .iter()
        .filter(|(f, index)| before.presence.contains_key(f) && was_up(*index))
        .count();
    if lost > 0 {
        done.push(format!("{lost} addresses are answered for again"));
    }
    (!done.is_empty()).then(|| done.join(", "))
}
