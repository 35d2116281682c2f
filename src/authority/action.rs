//! The table: what may be wanted, and which polkit action decides about it.

use crate::request::Request;

/// An action of `polkit/org.ipfloater.policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Reading, as far as it is everybody's.
    Inspect,
    /// Reading what is another user's, too, and who did what.
    InspectAll,
    /// Taking addresses for oneself.
    AllocateOwn,
    /// Tying one's own addresses to hosts.
    AssociateOwn,
    /// Untying one's own addresses, and giving them back.
    ReleaseOwn,
    /// Everything with every address.
    Manage,
    /// Reading the configuration again.
    Reload,
    /// Altering how much is logged.
    SetLogLevel,
}

impl Action {
    /// All of them.
    pub const ALL: [Action; 8] = [
        Action::Inspect,
        Action::InspectAll,
        Action::AllocateOwn,
        Action::AssociateOwn,
        Action::ReleaseOwn,
        Action::Manage,
        Action::Reload,
        Action::SetLogLevel,
    ];

    /// Its id, as polkit knows it.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Action::Inspect => "org.ipfloater.inspect",
            Action::InspectAll => "org.ipfloater.inspect-all",
            Action::AllocateOwn => "org.ipfloater.allocate-own",
            Action::AssociateOwn => "org.ipfloater.associate-own",
            Action::ReleaseOwn => "org.ipfloater.release-own",
            Action::Manage => "org.ipfloater.manage",
            Action::Reload => "org.ipfloater.reload",
            Action::SetLogLevel => "org.ipfloater.set-log-level",
        }
    }
}

/// What may be wanted of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Reading addresses, pools and status, and following what happens.
    Inspect,
    /// Reading who did what.
    History,
    /// Taking an address from a pool.
    Allocate,
    /// Tying an address to a host.
    Associate,
    /// Untying an address.
    Disassociate,
    /// Leading ports of an address to a host.
    Forward,
    /// Leading them there no longer.
    Unforward,
    /// Noting something else of an address.
    Update,
    /// Giving an address back.
    Release,
    /// Letting a change that is on trial stay.
    Confirm,
    /// Undoing one.
    Revert,
    /// Reading the configuration again.
    Reload,
    /// Altering how much is logged.
    SetLogLevel,
}

impl Verb {
    /// All of them.
    pub const ALL: [Verb; 13] = [
        Verb::Inspect,
        Verb::History,
        Verb::Allocate,
        Verb::Associate,
        Verb::Disassociate,
        Verb::Forward,
        Verb::Unforward,
        Verb::Update,
        Verb::Release,
        Verb::Confirm,
        Verb::Revert,
        Verb::Reload,
        Verb::SetLogLevel,
    ];

    /// The word for it, in polkit's detail `verb`, in the log and in replies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Inspect => "inspect",
            Verb::History => "history",
            Verb::Allocate => "allocate",
            Verb::Associate => "associate",
            Verb::Disassociate => "disassociate",
            Verb::Forward => "forward",
            Verb::Unforward => "unforward",
            Verb::Update => "update",
            Verb::Release => "release",
            Verb::Confirm => "confirm",
            Verb::Revert => "revert",
            Verb::Reload => "reload",
            Verb::SetLogLevel => "set-log-level",
        }
    }

    /// Whether it may be another for each address.
    #[must_use]
    pub fn concerns_addresses(self) -> bool {
        !matches!(self, Verb::Reload | Verb::SetLogLevel)
    }

    /// The action that decides where nobody else's address is concerned, and the
    /// one that decides where one is.
    #[must_use]
    pub fn actions(self) -> (Action, Action) {
        match self {
            Verb::Inspect => (Action::Inspect, Action::InspectAll),
            Verb::History => (Action::InspectAll, Action::InspectAll),
            Verb::Allocate => (Action::AllocateOwn, Action::Manage),
            Verb::Associate | Verb::Forward | Verb::Update | Verb::Confirm | Verb::Revert => {
                (Action::AssociateOwn, Action::Manage)
            }
            Verb::Disassociate | Verb::Unforward | Verb::Release => {
                (Action::ReleaseOwn, Action::Manage)
            }
            Verb::Reload => (Action::Reload, Action::Reload),
            Verb::SetLogLevel => (Action::SetLogLevel, Action::SetLogLevel),
        }
    }
}

impl From<&Request> for Verb {
    fn from(request: &Request) -> Self {
        match request {
            Request::Allocate(_) => Verb::Allocate,
            Request::Associate(_) => Verb::Associate,
            Request::Disassociate(_) => Verb::Disassociate,
            Request::Forward(_) => Verb::Forward,
            Request::Unforward(_) => Verb::Unforward,
            Request::Update(_) => Verb::Update,
            Request::Release(_) => Verb::Release,
            Request::Confirm(_) => Verb::Confirm,
            Request::Revert(_) => Verb::Revert,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = include_str!("../../polkit/org.ipfloater.policy");

    #[test]
    fn the_policy_has_every_action_and_no_other() {
        for action in Action::ALL {
            let declaration = format!("<action id=\"{}\">", action.id());
            assert_eq!(POLICY.matches(&declaration).count(), 1, "{declaration}");
        }
        assert_eq!(POLICY.matches("<action id=").count(), Action::ALL.len());
    }

    #[test]
    fn every_verb_is_decided_by_an_action_of_its_own_kind() {
        for verb in Verb::ALL {
            let (own, any) = verb.actions();
            assert!(Action::ALL.contains(&own) && Action::ALL.contains(&any));
            // Where ownership matters, another user's is never decided by the
            // action for one's own.
            let ownerless = matches!(verb, Verb::History | Verb::Reload | Verb::SetLogLevel);
            assert_eq!(own == any, ownerless, "{verb:?}");
        }
    }
}
