//! From text to the model, and what both buses read from a snapshot.
//!
//! Form only: whether an address is in a pool, or free, is for the plan to
//! judge. The field names are those of `interfaces/`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Bound;
use std::str::FromStr;

use crate::authority::Sight;
use crate::control::{Counters, Handle, Rejection, Snapshot};
use crate::model::{
    Alteration, Event, FixedIp, FloatingIp, Label, Outbound, PoolName, Port, PortRange, Protocol,
    Rate, Sequence, Sources, Timestamp,
};
use crate::plan;
use crate::request::{
    Confirm, ForwardPorts, MOST_AT_ONCE, Refusal, Request, Revert, UnforwardPorts,
};
use crate::wire::{self, Address, Filter};

/// The most addresses or events that one reply holds: a thousand addresses are
/// about 150 kB of JSON.
pub const PAGE: usize = 1_000;

/// The states that a list can be filtered by. `free` is none: a pool of IPv6
/// has too many to list.
pub const STATES: [&str; 3] = ["allocated", "pending", "active"];

/// A field that holds a floating IP.
pub fn floating(field: &'static str, text: &str) -> Result<FloatingIp, Refusal> {
    text.parse()
        .map_err(|why| Refusal::invalid_address(field, text, why))
}

/// A field that holds the address of a host.
pub fn fixed(field: &'static str, text: &str) -> Result<FixedIp, Refusal> {
    text.parse()
        .map_err(|why| Refusal::invalid_address(field, text, why))
}

/// A field that holds a floating IP or the address of a host.
pub fn address(field: &'static str, text: &str) -> Result<IpAddr, Refusal> {
    floating(field, text).map(FloatingIp::ip)
}

/// A field that holds the name of a pool.
pub fn pool_name(field: &'static str, text: &str) -> Result<PoolName, Refusal> {
    text.parse().map_err(|why| invalid(field, why))
}

/// What a call that forwards ports holds, as text.
#[derive(Debug)]
pub struct ForwardFields<'a> {
    /// The floating IP.
    pub floating_ip: &'a str,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'a str,
    /// A port or a range.
    pub ports: &'a str,
    /// The host.
    pub fixed_address: &'a str,
    /// The host's port; `None` is the same as that of the floating IP.
    pub fixed_port: Option<u32>,
    /// `router` or `floating`.
    pub outbound: Option<&'a str>,
    /// Whether the ports may be taken from another host.
    pub reassociate: bool,
}

/// A request to forward ports.
pub fn forward(fields: &ForwardFields<'_>) -> Result<ForwardPorts, Refusal> {
    let ForwardFields {
        floating_ip,
        protocol,
        ports,
        fixed_address,
        fixed_port,
        outbound,
        reassociate,
    } = fields;
    let UnforwardPorts {
        floating,
        protocol,
        ports,
    } = unforward(floating_ip, protocol, ports)?;
    let fixed = fixed("fixed_address", fixed_address)?;
    let port = |number: u32| {
        let number = u16::try_from(number).unwrap_or_default();
        Port::new(number).map_err(|why| invalid("fixed_port", why))
    };
    let outbound = outbound.map(|text| {
        text.parse::<Outbound>()
            .map_err(|why| invalid("outbound", why))
    });
    ForwardPorts::new(
        floating,
        protocol,
        ports,
        fixed,
        fixed_port.map(port).transpose()?,
        outbound.transpose()?,
        *reassociate,
    )
    .map_err(|why| invalid("fixed_port", why))
}

/// A request to forward ports no longer.
pub fn unforward(
    floating_ip: &str,
    protocol: &str,
    ports: &str,
) -> Result<UnforwardPorts, Refusal> {
    let floating = floating("floating_ip", floating_ip)?;
    let protocol: Protocol = protocol.parse().map_err(|why| invalid("protocol", why))?;
    let ports: PortRange = ports.parse().map_err(|why| invalid("ports", why))?;
    Ok(UnforwardPorts {
        floating,
        protocol,
        ports,
    })
}

/// What a call that notes something of an address holds, as text. An empty text
/// takes away what was noted.
#[derive(Debug, Default)]
pub struct AttributeFields {
    /// The name.
    pub label: Option<String>,
    /// Words for people.
    pub description: Option<String>,
    /// All tags.
    pub tags: Option<Vec<String>>,
    /// Tags to add.
    pub add_tags: Option<Vec<String>>,
    /// Tags to take away.
    pub remove_tags: Option<Vec<String>>,
    /// Whether it may not be released.
    pub protected: Option<bool>,
    /// How many bits a second may come in; 0 takes the limit away.
    pub rate_in: Option<u64>,
    /// How many bits a second may go out; 0 takes the limit away.
    pub rate_out: Option<u64>,
    /// Who may reach it from outside; none are everybody.
    pub allowed_sources: Option<Vec<String>>,
}

/// What is to be noted of an address.
pub fn alteration(fields: AttributeFields) -> Result<Alteration, Refusal> {
    let AttributeFields {
        label,
        description,
        tags,
        add_tags,
        remove_tags,
        protected,
        rate_in,
        rate_out,
        allowed_sources,
    } = fields;
    Ok(Alteration {
        label: label.map(|text| or_none("label", &text)).transpose()?,
        description: description
            .map(|text| or_none("description", &text))
            .transpose()?,
        tags: tags.map(|texts| labels("tags", &texts)).transpose()?,
        add_tags: labels("add_tags", &add_tags.unwrap_or_default())?,
        remove_tags: labels("remove_tags", &remove_tags.unwrap_or_default())?,
        protected,
        rate_in: rate_in.map(|bits| rate("rate_in", bits)).transpose()?,
        rate_out: rate_out.map(|bits| rate("rate_out", bits)).transpose()?,
        allowed_sources: allowed_sources
            .map(|texts| Sources::try_from(texts).map_err(|why| invalid("allowed_sources", why)))
            .transpose()?,
    })
}

/// A field that holds a rate in bits a second, or 0 for none.
fn rate(field: &str, bits: u64) -> Result<Option<Rate>, Refusal> {
    match bits {
        0 => Ok(None),
        bits => Rate::new(bits).map(Some).map_err(|why| invalid(field, why)),
    }
}

/// A field that holds something, or is empty.
fn or_none<T>(field: &str, text: &str) -> Result<Option<T>, Refusal>
where
    T: FromStr,
    T::Err: ToString,
{
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|why: T::Err| invalid(field, why.to_string()))
}

/// A field that holds names.
fn labels(field: &str, texts: &[String]) -> Result<BTreeSet<Label>, Refusal> {
    let labels = texts.iter().map(|text| label(field, text));
    labels.collect()
}

/// A field that holds a name.
fn label(field: &str, text: &str) -> Result<Label, Refusal> {
    text.parse().map_err(|why| invalid(field, why))
}

/// A request to let a change that is on trial stay, or to undo it; `None` is
/// about the configuration, which has no address.
pub fn settle(address: &str, keep: bool) -> Result<Option<Request>, Refusal> {
    if address.is_empty() {
        return Ok(None);
    }
    let address = self::address("address", address)?;
    Ok(Some(match keep {
        true => Request::Confirm(Confirm { address }),
        false => Request::Revert(Revert { address }),
    }))
}

/// A field that holds how much is wanted at most: 1 to [`PAGE`], and that when
/// it is absent.
pub fn limit(field: &'static str, wanted: Option<i64>) -> Result<usize, Refusal> {
    match wanted.map(usize::try_from) {
        None => Ok(PAGE),
        Some(Ok(limit @ 1..=PAGE)) => Ok(limit),
        Some(_) => Err(invalid(field, format_args!("it is 1 to {PAGE}"))),
    }
}

/// A field that holds how many addresses are wanted at once.
pub fn count(field: &'static str, wanted: Option<i64>) -> Result<Option<u32>, Refusal> {
    let count = |wanted| match u32::try_from(wanted) {
        Ok(count @ 1..=MOST_AT_ONCE) => Ok(count),
        Ok(_) | Err(_) => Err(invalid(field, format_args!("it is 1 to {MOST_AT_ONCE}"))),
    };
    wanted.map(count).transpose()
}

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// At most so many addresses.
    pub limit: usize,
    /// Those after this one; from the first when absent.
    pub after: Option<FloatingIp>,
}

impl Page {
    /// A page by the fields `limit` and `after`.
    pub fn new(limit: Option<i64>, after: Option<&str>) -> Result<Self, Refusal> {
        Ok(Self {
            limit: self::limit("limit", limit)?,
            after: after.map(|text| floating("after", text)).transpose()?,
        })
    }
}

/// A filter by its fields, as text.
pub fn filter(
    pool: Option<&str>,
    state: Option<&str>,
    owner: Option<u32>,
    fixed_address: Option<&str>,
    label: Option<&str>,
    tag: Option<&str>,
) -> Result<Filter, Refusal> {
    Ok(Filter {
        pool: pool.map(|text| pool_name("pool", text)).transpose()?,
        state: state.map(listable).transpose()?,
        owner,
        fixed_address: fixed_address
            .map(|text| fixed("fixed_address", text))
            .transpose()?,
        label: label.map(|text| self::label("label", text)).transpose()?,
        tag: tag.map(|text| self::label("tag", text)).transpose()?,
    })
}

/// One page of the addresses that somebody has and that the filter admits, in
/// order, and the cursor of the next page when there is one. The filter is held
/// against what the reader sees: else it would tell what is not shown.
#[must_use]
pub fn list(
    snapshot: &Snapshot,
    sight: Sight,
    filter: &Filter,
    page: Page,
) -> (Vec<Address>, Option<FloatingIp>) {
    let Page { limit, after } = page;
    let has_ports = |host: &FixedIp| snapshot.state.is_forwarded_to(*host);
    if let Some(host) = filter.fixed_address.filter(|host| !has_ports(host)) {
        // The index by host spares a walk through all allocations.
        let found = snapshot.state.floating_of(host);
        let found = found.filter(|floating| after.is_none_or(|after| *floating > after));
        let addresses = found.map(|floating| seen(sight, Address::new(snapshot, floating)));
        return (
            addresses
                .filter(|address| filter.admits(address))
                .into_iter()
                .collect(),
            None,
        );
    }
    let mut admitted = snapshot
        .state
        .allocations_from(after.map_or(Bound::Unbounded, Bound::Excluded))
        .map(|(floating, allocation)| {
            seen(sight, Address::with(snapshot, floating, Some(allocation)))
        })
        .filter(|address| filter.admits(address));
    let addresses: Vec<_> = admitted.by_ref().take(limit).collect();
    let more = admitted.next().is_some();
    let next = addresses
        .last()
        .filter(|_| more)
        .map(|address| address.floating_ip);
    (addresses, next)
}

/// What was counted of the addresses whose counters a reader may know: those of
/// one page, or one that is named by itself or by its host; and the cursor of the
/// next page when there is one.
pub async fn counted(
    service: &Counters,
    snapshot: &Snapshot,
    sight: Sight,
    address: Option<IpAddr>,
    page: Page,
) -> Result<(Vec<wire::Counters>, Option<FloatingIp>), Rejection> {
    if !snapshot.site.counters {
        return Err(Rejection::CountersOff);
    }
    let (addresses, next) = match address {
        None => {
            let own = snapshot
                .state
                .allocations_from(page.after.map_or(Bound::Unbounded, Bound::Excluded));
            let mut own = own
                .filter(|(_, allocation)| sight.reaches(Some(allocation.owner)))
                .map(|(floating, _)| floating);
            let addresses: Vec<_> = own.by_ref().take(page.limit).collect();
            let more = own.next().is_some();
            let next = addresses.last().copied().filter(|_| more);
            (addresses, next)
        }
        Some(_) => {
            let named = address.into_iter();
            let named = named.map(|address| look_up(snapshot, sight, address, None));
            let named = named.collect::<Result<Vec<_>, _>>()?;
            // Of others it is not told whether they are counted.
            let own = named.into_iter().filter(|named| sight.reaches(named.owner));
            (own.map(|own| own.floating_ip).collect(), None)
        }
    };
    let counters = service.read(addresses).await?;
    Ok((counters.into_iter().map(Into::into).collect(), next))
}

/// The floating IP that a question about the past means: the address itself, or
/// the one that the host of that address has now.
#[must_use]
pub fn subject_of_history(snapshot: &Snapshot, address: FloatingIp) -> FloatingIp {
    let known = |floating| is_floating(snapshot, floating);
    let host = FixedIp::new(address.ip()).ok();
    let of_host = host.and_then(|host| snapshot.state.floating_of(host));
    of_host.filter(|_| !known(address)).unwrap_or(address)
}

/// A filter by what there can be: of a pool that is not configured, the addresses
/// that are still somebody's.
pub fn listed_by(snapshot: &Snapshot, filter: Filter) -> Result<Filter, Refusal> {
    if let Some(pool) = &filter.pool
        && snapshot.site.pool(pool).is_none()
        && !snapshot
            .state
            .allocations()
            .any(|(_, allocation)| allocation.pool == *pool)
    {
        return Err(Refusal::NoSuchPool(pool.clone()));
    }
    Ok(filter)
}

/// A part of the event log: with `after` what happened since, earliest first, if
/// the log has all of that; else what happened last, latest first.
///
/// Of an address that is nobody's there is nothing, unless it once was.
pub async fn history(
    handle: &Handle,
    floating: Option<FloatingIp>,
    after: Option<Sequence>,
    before: Option<Sequence>,
    limit: usize,
) -> Result<Vec<Event>, Rejection> {
    let Some(after) = after else {
        let events = handle.history(floating, before, limit).await?;
        if let Some(floating) = floating.filter(|_| events.is_empty() && before.is_none()) {
            let Snapshot { state, site, .. } = &*handle.snapshot();
            plan::resolve(state, site, floating.ip())?;
        }
        return Ok(events);
    };
    let recorded = handle.since(floating, after, before, limit).await?;
    Ok(recorded.into_iter().map(|line| line.event).collect())
}

/// One address: a floating IP, free ones of a pool included, or the one that a
/// host has. Which one a host has is told to those who may know.
pub fn describe(
    snapshot: &Snapshot,
    sight: Sight,
    address: IpAddr,
    now: Timestamp,
) -> Result<Address, Refusal> {
    look_up(snapshot, sight, address, Some(now))
}

/// The same; whether it rests only when it is said what time it is.
fn look_up(
    snapshot: &Snapshot,
    sight: Sight,
    address: IpAddr,
    now: Option<Timestamp>,
) -> Result<Address, Refusal> {
    let floating = plan::resolve(&snapshot.state, &snapshot.site, address)?;
    let resting = now.and_then(|now| snapshot.resting(floating, now));
    let described = seen(sight, Address::new(snapshot, floating).resting(resting));
    let asked_for_host = floating.ip() != address;
    if asked_for_host && described.fixed_address.is_none() {
        return Err(Refusal::NotAssociated { address });
    }
    Ok(described)
}

/// What a reader sees of an address.
#[must_use]
pub fn seen(sight: Sight, address: Address) -> Address {
    if sight.reaches(address.owner.or(address.last_owner)) {
        address
    } else {
        address.redacted()
    }
}

fn is_floating(snapshot: &Snapshot, floating: FloatingIp) -> bool {
    snapshot.state.allocation(floating).is_some() || snapshot.site.pool_of(floating).is_some()
}

fn listable(state: &str) -> Result<String, Refusal> {
    if STATES.contains(&state) {
        Ok(state.to_owned())
    } else if state == "free" {
        Err(invalid(
            "state",
            "free addresses are not listed, because a pool of IPv6 has too many; `ipfloater status` tells how many are taken",
        ))
    } else {
        Err(invalid("state", "it is allocated, pending or active"))
    }
}

fn invalid(field: &str, why: impl ToString) -> Refusal {
    Refusal::InvalidArgument {
        field: field.to_owned(),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::control::Health;
    use crate::kernel::Features;
    use crate::model::{
        AddressRange, Allocation, Association, Pool, Revision, Sequence, Site, State,
    };

    /// A pool of 203.0.113.0 to .7; .1 and .2 are tied to 10.0.0.1 and .2, .3 is
    /// allocated, and so is 198.51.100.1, which is in no pool.
    fn snapshot() -> Snapshot {
        let allocation = |host: Option<&str>| Allocation {
            association: host.map(|host| Association {
                fixed: host.parse().unwrap(),
                since: Timestamp(2),
            }),
            ..Allocation::new(PoolName::default_pool(), 1000, Timestamp(1))
        };
        let allocations = [
            ("198.51.100.1", None),
            ("203.0.113.1", Some("10.0.0.1")),
            ("203.0.113.2", Some("10.0.0.2")),
            ("203.0.113.3", None),
        ];
        let allocations =
            allocations.map(|(floating, host)| (floating.parse().unwrap(), allocation(host)));
        let range = AddressRange::new(
            "203.0.113.0".parse().unwrap(),
            "203.0.113.7".parse().unwrap(),
        );
        let pool = Pool {
            name: PoolName::default_pool(),
            ranges: vec![range.unwrap()],
            interface: None,
            routed: false,
            announcing: Default::default(),
            hardware_addresses: Default::default(),
            gateways: Vec::new(),
        };
        Snapshot {
            state: State::load(Revision(1), Sequence(1), allocations),
            pending: Default::default(),
            site: Arc::new(Site {
                pools: vec![pool],
                private: vec!["10.0.0.0/8".parse().unwrap()],
                guard: true,
                block_free: true,
                counters: true,
                untranslated: Default::default(),
                uplink_numbers: Default::default(),
                rest: std::time::Duration::ZERO,
                limits: Default::default(),
            }),
            outside: Default::default(),
            health: Arc::new(Health::default()),
            features: Features {
                table_owner: false,
                conntrack_filter: false,
            },
            simulated: true,
        }
    }

    #[test]
    fn an_address_is_described_by_either_of_its_ends() {
        let snapshot = snapshot();
        let described = |text: &str| {
            describe(&snapshot, Sight::All, text.parse().unwrap(), Timestamp(3))
                .map(|address| (address.floating_ip.to_string(), address.state))
                .map_err(|refusal| refusal.name())
        };
        for (text, expected) in [
            ("203.0.113.1", Ok(("203.0.113.1", "active"))),
            ("10.0.0.1", Ok(("203.0.113.1", "active"))),
            ("203.0.113.3", Ok(("203.0.113.3", "allocated"))),
            ("203.0.113.4", Ok(("203.0.113.4", "free"))),
            ("198.51.100.1", Ok(("198.51.100.1", "allocated"))),
            ("10.0.0.9", Err("NotAssociated")),
            ("203.0.113.8", Err("NotInPool")),
            ("127.0.0.1", Err("InvalidAddress")),
        ] {
            let expected = expected
                .map(|(floating, state): (&str, &str)| (floating.to_owned(), state.to_owned()));
            assert_eq!(described(text), expected, "{text}");
        }
    }

    #[test]
    fn of_somebody_elses_address_a_reader_sees_that_it_is_taken() {
        let snapshot = snapshot();
        let stranger = Sight::Own(1001);
        let page = Page {
            limit: PAGE,
            after: None,
        };
        let by_host = filter(None, None, None, Some("10.0.0.1"), None, None).unwrap();
        let by_owner = filter(None, None, Some(1000), None, None, None).unwrap();
        for (sight, of_host, of_owner) in [(stranger, 0, 0), (Sight::Own(1000), 1, 4)] {
            assert_eq!(list(&snapshot, sight, &by_host, page).0.len(), of_host);
            assert_eq!(list(&snapshot, sight, &by_owner, page).0.len(), of_owner);
        }
        let (addresses, _) = list(&snapshot, stranger, &Filter::default(), page);
        assert_eq!(addresses.len(), 4);
        for address in addresses {
            assert_eq!(address, address.clone().redacted());
            assert!(address.owner.is_none() && address.fixed_address.is_none());
        }
        let described =
            |text: &str| describe(&snapshot, stranger, text.parse().unwrap(), Timestamp(3));
        assert_eq!(described("203.0.113.1").unwrap().state, "active");
        assert_eq!(described("10.0.0.1").unwrap_err().name(), "NotAssociated");
    }

    #[test]
    fn who_had_a_resting_address_is_told_to_him_and_to_those_who_may_inspect() {
        let mut snapshot = snapshot();
        let floating: FloatingIp = "203.0.113.4".parse().unwrap();
        let resting = crate::model::Resting {
            owner: 1000,
            until: Timestamp(10),
        };
        snapshot.state = snapshot.state.with_resting([(floating, resting)]);
        let mut site = (*snapshot.site).clone();
        site.rest = std::time::Duration::from_secs(60);
        snapshot.site = Arc::new(site);
        for (sight, now, until, owner) in [
            (Sight::All, 9, Some(10), Some(1000)),
            (Sight::Own(1000), 9, Some(10), Some(1000)),
            (Sight::Own(1001), 9, Some(10), None),
            (Sight::All, 10, None, None),
        ] {
            let row = describe(&snapshot, sight, floating.ip(), Timestamp(now)).unwrap();
            assert_eq!(row.state, "free");
            assert_eq!((row.resting_until, row.last_owner), (until, owner));
        }
    }

    #[test]
    fn the_past_of_a_host_is_that_of_the_address_it_has_now() {
        let snapshot = snapshot();
        for (asked, meant) in [
            ("10.0.0.2", "203.0.113.2"),
            ("203.0.113.2", "203.0.113.2"),
            ("203.0.113.9", "203.0.113.9"),
        ] {
            let meant: FloatingIp = meant.parse().unwrap();
            let asked = asked.parse().unwrap();
            assert_eq!(subject_of_history(&snapshot, asked), meant);
        }
    }

    #[test]
    fn pages_join_without_gap_or_overlap() {
        let snapshot = snapshot();
        for limit in 1..=5 {
            let mut after = None;
            let mut seen = Vec::new();
            loop {
                let (addresses, next) = list(
                    &snapshot,
                    Sight::All,
                    &Filter::default(),
                    Page { limit, after },
                );
                assert!(addresses.len() <= limit);
                seen.extend(addresses.iter().map(|address| address.floating_ip));
                if next.is_none() {
                    break;
                }
                after = next;
            }
            let all: Vec<_> = snapshot.state.allocations().map(|(ip, _)| ip).collect();
            assert_eq!(seen, all, "{limit}");
        }
    }

    #[test]
    fn what_a_list_cannot_be_asked_for_is_refused_with_the_reason() {
        assert!(limit("limit", Some(1)).is_ok() && limit("limit", Some(1_000)).is_ok());
        for wanted in [0, -1, 1_001, i64::MIN, i64::MAX] {
            assert!(limit("limit", Some(wanted)).is_err(), "{wanted}");
        }
        for state in ["free", "Active", "", "a\nb"] {
            assert!(
                filter(None, Some(state), None, None, None, None).is_err(),
                "{state:?}"
            );
        }
    }
}
