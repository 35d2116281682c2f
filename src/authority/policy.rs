//! What is asked of a policy, and what it can say.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;

use crate::model::{FixedIp, PoolName, Uid};

use super::{Action, Subject, Verb};

/// What a policy is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// Who asks.
    pub subject: Subject,
    /// For what.
    pub action: Action,
    /// In which case.
    pub details: Details,
    /// Whether the caller is ready to be asked for a password.
    pub interactive: bool,
}

/// What a policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The subject may.
    Yes,
    /// The subject may not.
    No,
    /// The subject may once somebody has authenticated, which has not happened.
    Challenge,
}

/// Why there is no verdict. Whoever cannot be judged may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The policy cannot be asked.
    #[error("polkit cannot be asked ({0}); only root may")]
    Unreachable(String),
    /// The policy does not answer.
    #[error("polkit does not answer; only root may")]
    Silent,
    /// Nobody can tell safely which process the caller is.
    #[error(
        "polkit cannot tell safely who calls by varlink on this system (that takes Linux 6.5 and \
         polkit 124); call org.ipfloater on the system bus instead, as `ipfloater` does by itself"
    )]
    Unidentified,
    /// The caller has gone.
    #[error("the caller has gone")]
    Gone,
}

/// An answer that is being worked on. Dropping it takes the question back.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Verdict, Unanswered>> + Send + 'a>>;

/// What decides for callers that are neither root nor the daemon's own user.
pub trait Policy: fmt::Debug + Send + Sync {
    /// Judges.
    fn judge(&self, question: Question) -> Answer<'_>;
}

/// What polkit's rules and prompts are told of a case. All five are always
/// there, so that a rule need not ask and a prompt has no holes; none of them
/// is a text that a caller wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// What is wanted.
    pub verb: Verb,
    /// The floating IP that the caller named or owns; absent for a free one.
    pub floating: Option<IpAddr>,
    /// The fixed address that the caller named, or that has the address.
    pub fixed: Option<FixedIp>,
    /// The pool that the caller named, or that the address is of.
    pub pool: Option<PoolName>,
    /// Whose address it is, or is to be; absent where there is none.
    pub owner: Option<Uid>,
}

impl Details {
    /// Of a case without an address.
    #[must_use]
    pub fn none(verb: Verb) -> Self {
        Self {
            verb,
            floating: None,
            fixed: None,
            pool: None,
            owner: None,
        }
    }

    /// As polkit takes them.
    pub(super) fn to_map(&self) -> HashMap<&'static str, String> {
        fn or<T: ToString>(value: &Option<T>, absent: &str) -> String {
            value
                .as_ref()
                .map_or_else(|| absent.to_owned(), T::to_string)
        }
        let Details {
            verb,
            floating,
            fixed,
            pool,
            owner,
        } = self;
        HashMap::from([
            ("verb", verb.as_str().to_owned()),
            ("floating_ip", or(floating, "any")),
            ("fixed_address", or(fixed, "none")),
            ("pool", or(pool, "any")),
            ("owner", or(owner, "none")),
        ])
    }
}
