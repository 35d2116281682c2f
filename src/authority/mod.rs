//! May this subject do this?
//!
//! One table serves both buses: a verb, the polkit action that decides about
//! it, and the details of the case ([`Verb::actions`], [`Details`]). The
//! controller accepts only an [`Authorized`] value, which only this module
//! makes, and only when root asks, when the daemon's own user asks, or when the
//! policy says yes: every other ending is a refusal.
//!
//! polkit may take minutes, and the world goes on meanwhile. So the value also
//! says how far the right reaches ([`Scope`]), and the plan looks at owners and
//! limits again when it decides.

mod action;
mod groups;
mod policy;
mod polkit;
mod prompts;
mod subject;

use std::sync::Arc;

use nix::unistd::getuid;

use crate::audit::{DENIED, Entry, Who};
use crate::model::{Actor, FloatingIp, Limit, Site, State, Uid};
use crate::plan::{self, Concern};
use crate::request::{Allocate, Associate, ForwardPorts, Reach, Request, Scope};

pub use action::{Action, Verb};
pub use policy::{Answer, Details, Policy, Question, Unanswered, Verdict};
pub use polkit::Polkit;
pub use subject::{Origin, Subject};

use prompts::Prompts;

/// A request that its subject may make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorized<R> {
    request: R,
    who: Who,
    scope: Scope,
}

impl<R> Authorized<R> {
    /// The request.
    pub fn request(&self) -> &R {
        &self.request
    }

    /// Who makes it.
    pub fn actor(&self) -> Actor {
        self.who.actor
    }

    /// How far the right to make it reaches.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The same with the process that makes it, for the log.
    pub fn who(&self) -> &Who {
        &self.who
    }
}

/// The subject may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The policy says no.
    #[error("user {uid} may not {}; the polkit action {} decides", .verb.as_str(), .action.id())]
    Refused {
        /// Who asked.
        uid: Uid,
        /// For what.
        verb: Verb,
        /// What decides.
        action: Action,
    },
    /// Somebody would have to authenticate.
    #[error("to {} takes authentication by the polkit action {}", .verb.as_str(), .action.id())]
    NeedsAuthentication {
        /// For what.
        verb: Verb,
        /// What decides.
        action: Action,
    },
    /// The caller is being asked for passwords already.
    #[error("user {uid} is asked to authenticate {most} times already; answer one of those first")]
    TooManyPrompts {
        /// Who.
        uid: Uid,
        /// How many prompts there may be.
        most: usize,
    },
    /// It could not be found out.
    #[error("user {uid} may not {}: {why}", .verb.as_str())]
    Unanswered {
        /// Who asked.
        uid: Uid,
        /// For what.
        verb: Verb,
        /// Why not.
        why: Unanswered,
    },
}

/// What somebody may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Everything.
    All,
    /// What is everybody's, and everything about one's own addresses.
    Own(Uid),
}

impl Sight {
    /// Whether it reaches to what an address of this owner is used for.
    #[must_use]
    pub fn reaches(self, owner: Option<Uid>) -> bool {
        match self {
            Sight::All => true,
            Sight::Own(uid) => owner.is_none_or(|owner| owner == uid),
        }
    }
}

/// Who calls, and whether he can be asked for a password.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub subject: Subject,
    /// Whether the call said that it waits while somebody authenticates.
    pub interactive: bool,
}

/// Decides who may do what.
#[derive(Clone, Debug)]
pub struct Authority {
    own: Uid,
    policy: Arc<dyn Policy>,
    prompts: Prompts,
}

impl Authority {
    /// The authority of this process. Root and its own user may do everything;
    /// about others the policy decides.
    #[must_use]
    pub fn new(policy: impl Policy + 'static) -> Self {
        Self {
            own: getuid().as_raw(),
            policy: Arc::new(policy),
            prompts: Prompts::default(),
        }
    }

    /// Whether the caller may make the request, as things are now.
    pub async fn authorize(
        &self,
        caller: &Caller,
        request: Request,
        state: &State,
        site: &Site,
    ) -> Result<Authorized<Request>, Denied> {
        let Caller { subject, .. } = caller;
        let who = subject.who();
        let scope = if self.trusts(subject) {
            Scope::Any
        } else {
            let concern = plan::concern(state, site, subject.uid, &request);
            self.scope(caller, &request, &concern, state, site)
                .await
                .inspect_err(|denied| Entry::denial(state, site, &request, &who, denied).write())?
        };
        Ok(Authorized {
            request,
            who,
            scope,
        })
    }

    /// Whether the caller may do what has to do with no address.
    pub async fn may(&self, caller: &Caller, verb: Verb) -> Result<(), Denied> {
        if self.trusts(&caller.subject) {
            return Ok(());
        }
        let (action, _) = verb.actions();
        self.ask(caller, action, Details::none(verb))
            .await
            .inspect_err(|denied| record(&caller.subject, verb, denied))
    }

    /// What the caller may read.
    pub async fn sight(&self, caller: &Caller) -> Result<Sight, Denied> {
        let Caller { subject, .. } = caller;
        if self.trusts(subject) {
            return Ok(Sight::All);
        }
        let details = Details::none(Verb::Inspect);
        match self.ask(caller, Action::Inspect, details.clone()).await {
            // Reading what is everybody's is not refused for want of a pidfd.
            Err(Denied::Unanswered {
                why: Unanswered::Unidentified,
                ..
            }) => return Ok(Sight::Own(subject.uid)),
            asked => asked.inspect_err(|denied| record(subject, Verb::Inspect, denied))?,
        }
        let everything = self.quietly(subject, Action::InspectAll, details).await;
        Ok(match everything {
            Ok(Verdict::Yes) => Sight::All,
            Ok(Verdict::No | Verdict::Challenge) | Err(_) => Sight::Own(subject.uid),
        })
    }

    /// What the policy says to an action now, without asking anybody.
    pub async fn verdict(
        &self,
        subject: &Subject,
        action: Action,
        details: Details,
    ) -> Result<Verdict, Denied> {
        if self.trusts(subject) {
            return Ok(Verdict::Yes);
        }
        let (uid, verb) = (subject.uid, details.verb);
        let verdict = self.quietly(subject, action, details).await;
        verdict.map_err(|why| Denied::Unanswered { uid, verb, why })
    }

    /// The limits of a user; `None` for those who have none.
    pub async fn limit(&self, subject: &Subject, site: &Site) -> Result<Option<Limit>, Denied> {
        if self.trusts(subject) {
            return Ok(None);
        }
        self.limit_of(subject.uid, Verb::Inspect, site)
            .await
            .map(Some)
    }

    /// Whether the policy is not asked: root, and the daemon's own user.
    #[must_use]
    pub fn trusts(&self, subject: &Subject) -> bool {
        subject.uid == 0 || subject.uid == self.own
    }

    /// How far the right reaches that the policy gives.
    async fn scope(
        &self,
        caller: &Caller,
        request: &Request,
        concern: &Concern,
        state: &State,
        site: &Site,
    ) -> Result<Scope, Denied> {
        let uid = caller.subject.uid;
        let verb = Verb::from(request);
        let (own, any) = verb.actions();
        let reach = concern.reach();
        // Each is a question of its own: a rule may know one owner, one address.
        let of_others = concern.of_others(uid);
        let resting = rest_of_another(concern, state, uid);
        for other in &of_others {
            let details = details_of(verb, concern, state, *other);
            self.ask(caller, any, details).await?;
        }
        if !of_others.is_empty() {
            let rest_of = self
                .may_take_rest(caller, verb, concern, state, resting)
                .await;
            return Ok(Scope::Managed(Reach { rest_of, ..reach }));
        }
        let details = details(verb, uid, concern);
        if concern.taken_for.is_some() && own != Action::AllocateOwn {
            self.ask(caller, Action::AllocateOwn, details.clone())
                .await?;
        }
        self.ask(caller, own, details.clone()).await?;
        let limit = self.limit_of(uid, verb, site).await?;
        // Who may do everything has no limits; nobody is asked for that.
        let exceeds = exceeds(&limit, request, concern, state, uid);
        if exceeds && self.verdict(&caller.subject, any, details).await != Ok(Verdict::Yes) {
            return Ok(Scope::Own(limit, reach));
        }
        let rest_of = self
            .may_take_rest(caller, verb, concern, state, resting)
            .await;
        Ok(match exceeds || rest_of.is_some() {
            true => Scope::Managed(Reach { rest_of, ..reach }),
            false => Scope::Own(limit, reach),
        })
    }

    /// From whom a resting address may be taken, if it may; nobody is asked for
    /// that.
    async fn may_take_rest(
        &self,
        caller: &Caller,
        verb: Verb,
        concern: &Concern,
        state: &State,
        resting: Option<Uid>,
    ) -> Option<Uid> {
        let owner = resting?;
        let (_, any) = verb.actions();
        let details = details_of(verb, concern, state, (None, owner));
        let verdict = self.verdict(&caller.subject, any, details).await;
        (verdict == Ok(Verdict::Yes)).then_some(owner)
    }

    async fn limit_of(&self, uid: Uid, verb: Verb, site: &Site) -> Result<Limit, Denied> {
        let groups = if site.limits.needs_groups() {
            groups::of(uid).await.map_err(|why| {
                let why = Unanswered::Unreachable(why);
                Denied::Unanswered { uid, verb, why }
            })?
        } else {
            Vec::new()
        };
        Ok(site.limits.of(uid, &groups))
    }

    /// Asks the policy, and then whoever can authenticate.
    async fn ask(&self, caller: &Caller, action: Action, details: Details) -> Result<(), Denied> {
        let Caller {
            subject,
            interactive,
        } = caller;
        let (uid, verb) = (subject.uid, details.verb);
        let unanswered = |why| Denied::Unanswered { uid, verb, why };
        let mut verdict = self
            .quietly(subject, action, details.clone())
            .await
            .map_err(unanswered)?;
        if verdict == Verdict::Challenge && *interactive {
            let _prompt = self.prompts.enter(uid)?;
            let question = Question {
                subject: subject.clone(),
                action,
                details,
                interactive: true,
            };
            verdict = self.policy.judge(question).await.map_err(unanswered)?;
        }
        match verdict {
            Verdict::Yes => Ok(()),
            Verdict::No => Err(Denied::Refused { uid, verb, action }),
            Verdict::Challenge => Err(Denied::NeedsAuthentication { verb, action }),
        }
    }

    async fn quietly(
        &self,
        subject: &Subject,
        action: Action,
        details: Details,
    ) -> Result<Verdict, Unanswered> {
        let question = Question {
            subject: subject.clone(),
            action,
            details,
            interactive: false,
        };
        self.policy.judge(question).await
    }
}

/// Records that something was denied which has to do with no address.
fn record(subject: &Subject, verb: Verb, denied: &Denied) {
    let sentence = format!("denied: {denied}");
    Entry::new(verb.as_str(), &subject.who(), DENIED, sentence).write();
}

/// What the policy is told of a case that is all the caller's own.
fn details(verb: Verb, uid: Uid, concern: &Concern) -> Details {
    Details {
        verb,
        floating: concern.floating.map(|floating| floating.ip()),
        fixed: concern.fixed,
        pool: concern.pool.clone(),
        owner: Some(uid),
    }
}

/// What it is told of somebody else's address, or of one that is to be his. A
/// prompt shows it to the caller, so it holds what he named, and whose it is.
fn details_of(
    verb: Verb,
    concern: &Concern,
    state: &State,
    (floating, owner): (Option<FloatingIp>, Uid),
) -> Details {
    let named = concern.floating.filter(|_| concern.is_named);
    let allocation = floating.and_then(|floating| state.allocation(floating));
    Details {
        verb,
        floating: named
            .filter(|named| floating.is_none_or(|floating| floating == *named))
            .map(|floating| floating.ip()),
        fixed: concern
            .fixed
            .filter(|_| !concern.is_named || matches!(verb, Verb::Associate | Verb::Forward)),
        pool: allocation
            .map(|allocation| allocation.pool.clone())
            .or_else(|| concern.pool.clone()),
        owner: Some(owner),
    }
}

/// For whom the address rests that is named, if it is to be somebody else's.
fn rest_of_another(concern: &Concern, state: &State, uid: Uid) -> Option<Uid> {
    let named = concern.floating.filter(|_| concern.is_named)?;
    let resting = state.resting().get(named)?;
    let taker = concern.taken_for.unwrap_or(uid);
    Some(resting.owner).filter(|owner| *owner != taker)
}

/// Whether the request asks for more than the limit permits.
fn exceeds(limit: &Limit, request: &Request, concern: &Concern, state: &State, uid: Uid) -> bool {
    let taken = match request {
        Request::Allocate(Allocate { count, .. }) => count.unwrap_or(1),
        Request::Associate(_)
        | Request::Disassociate(_)
        | Request::Forward(_)
        | Request::Unforward(_)
        | Request::Update(_)
        | Request::Release(_)
        | Request::Confirm(_)
        | Request::Revert(_) => 1,
    };
    let too_many =
        concern.taken_for.is_some() && state.owned_by(uid).saturating_add(taken) > limit.quota;
    let too_far = match request {
        Request::Associate(Associate { fixed, .. }) => !limit.permitted.contains(*fixed),
        Request::Forward(ForwardPorts { forward, .. }) => {
            !limit.permitted.contains(forward.fixed())
        }
        Request::Allocate(_)
        | Request::Disassociate(_)
        | Request::Unforward(_)
        | Request::Update(_)
        | Request::Release(_)
        | Request::Confirm(_)
        | Request::Revert(_) => false,
    };
    too_many || too_far
}

#[cfg(test)]
mod tests;
