//! A policy for tests without polkit: what `polkit/org.ipfloater.policy` says
//! by default, where nobody can authenticate. The real one is asked in
//! `tests/system`.

use ipfloater::authority::{Action, Answer, Policy, Question, Verdict};

/// The defaults, and what else is granted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Defaults {
    /// Actions that a rule of the administrator grants to everybody.
    pub(crate) granted: Vec<Action>,
}

impl Policy for Defaults {
    fn judge(&self, question: Question) -> Answer<'_> {
        let action = question.action;
        let verdict = match action {
            Action::Inspect | Action::ReleaseOwn => Verdict::Yes,
            _ if self.granted.contains(&action) => Verdict::Yes,
            Action::InspectAll
            | Action::AllocateOwn
            | Action::AssociateOwn
            | Action::Manage
            | Action::Reload
            | Action::SetLogLevel => Verdict::Challenge,
        };
        Box::pin(async move { Ok(verdict) })
    }
}
