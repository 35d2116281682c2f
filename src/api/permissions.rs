//! What a caller may do, and which action decides.

use std::net::IpAddr;

use crate::authority::{Action, Authority, Denied, Details, Subject, Verb, Verdict};
use crate::control::Snapshot;
use crate::model::{FixedIp, FloatingIp, Limit, Permitted, PoolName, Uid};
use crate::plan;
use crate::request::Refusal;
use crate::wire::{Permission, Permissions};

/// What the caller may do with every address or, when one is named, with that
/// one. Nobody is asked for a password.
pub async fn permissions(
    authority: &Authority,
    subject: &Subject,
    snapshot: &Snapshot,
    mut named: Option<Named>,
) -> Result<Permissions, Denied> {
    // Whether a host has somebody else's address is not everybody's to know.
    if let Some(named) = named
        .as_mut()
        .filter(|named| named.is_host_of_another(subject))
    {
        let details = Details::none(Verb::Inspect);
        let sees = authority.verdict(subject, Action::InspectAll, details);
        if sees.await? != Verdict::Yes {
            (named.owner, named.pool) = (None, None);
        }
    }
    let mut permissions = Vec::new();
    for verb in Verb::ALL {
        if named.is_some() && !verb.concerns_addresses() {
            continue;
        }
        let (own, any) = verb.actions();
        let both = [("own", own), ("any", any)];
        let rows = match &named {
            // One row where ownership makes no difference.
            None if own == any => &both[1..],
            None => &both[..],
            Some(named) if named.is_own(subject) => &both[..1],
            Some(_) => &both[1..],
        };
        for (scope, action) in rows {
            let details = match &named {
                None => Details::none(verb),
                Some(named) => named.details(verb),
            };
            let verdict = authority.verdict(subject, *action, details).await?;
            permissions.push(Permission {
                verb: verb.as_str().to_owned(),
                scope: (*scope).to_owned(),
                action: action.id().to_owned(),
                permission: match verdict {
                    Verdict::Yes => "yes",
                    Verdict::No => "no",
                    Verdict::Challenge => "authentication",
                }
                .to_owned(),
            });
        }
    }
    let limit = authority.limit(subject, &snapshot.site).await?;
    Ok(Permissions {
        permissions,
        allocated: snapshot.state.owned_by(subject.uid),
        quota: limit.as_ref().map(|limit| limit.quota),
        permitted_ranges: limit.as_ref().and_then(ranges),
    })
}

/// The address that is asked about.
#[derive(Debug)]
pub struct Named {
    floating: Option<IpAddr>,
    fixed: Option<FixedIp>,
    owner: Option<Uid>,
    pool: Option<PoolName>,
}

impl Named {
    /// A floating IP, free ones included, or a host, whether it has one or not.
    pub fn new(snapshot: &Snapshot, address: IpAddr) -> Result<Self, Refusal> {
        let floating = match plan::resolve(&snapshot.state, &snapshot.site, address) {
            Ok(floating) => Some(floating),
            Err(Refusal::NotAssociated { .. }) => None,
            Err(refusal) => return Err(refusal),
        };
        let allocation = floating.and_then(|floating| snapshot.state.allocation(floating));
        let pool = |floating: FloatingIp| snapshot.site.pool_of(floating);
        let is_floating = floating.is_some_and(|floating| floating.ip() == address);
        Ok(Self {
            floating: is_floating.then_some(address),
            fixed: FixedIp::new(address).ok().filter(|_| !is_floating),
            owner: allocation.map(|allocation| allocation.owner),
            pool: floating.and_then(pool).map(|pool| pool.name.clone()),
        })
    }

    fn is_own(&self, subject: &Subject) -> bool {
        self.owner.is_none_or(|owner| owner == subject.uid)
    }

    fn is_host_of_another(&self, subject: &Subject) -> bool {
        self.floating.is_none() && !self.is_own(subject)
    }

    fn details(&self, verb: Verb) -> Details {
        Details {
            floating: self.floating,
            fixed: self.fixed,
            owner: self.owner,
            pool: self.pool.clone(),
            ..Details::none(verb)
        }
    }
}

fn ranges(limit: &Limit) -> Option<Vec<String>> {
    match &limit.permitted {
        Permitted::All => None,
        Permitted::Only(nets) => Some(nets.iter().map(ToString::to_string).collect()),
    }
}
