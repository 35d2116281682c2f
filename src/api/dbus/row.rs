//! The messages as `a{sv}`, with the types that
//! `interfaces/org.ipfloater.Manager.xml` promises.
//!
//! Every struct is taken apart here field by field, so that a new field does
//! not compile until somebody gives it a D-Bus type. Absent fields are left out.

use std::collections::BTreeMap;

use serde::ser::{Serialize, SerializeMap, Serializer};
use zbus::{Signature, Type, Variant};

use crate::model::{Rate, Sources};
use crate::wire;

/// One `a{sv}`, in the order in which it was put together.
#[derive(Debug, Default)]
pub(super) struct Row(Vec<(&'static str, Variant<'static>)>);

impl Row {
    fn put(mut self, key: &'static str, value: impl Into<Variant<'static>>) -> Self {
        self.0.push((key, value.into()));
        self
    }

    fn maybe(self, key: &'static str, value: Option<impl Into<Variant<'static>>>) -> Self {
        match value {
            Some(value) => self.put(key, value),
            None => self,
        }
    }
}

impl Row {
    /// What a dry run tells besides.
    fn forecast(self, dry_run: bool, effects: Vec<wire::EffectInfo>) -> Self {
        self.maybe("dry_run", dry_run.then_some(true)).maybe(
            "effects",
            (!effects.is_empty()).then(|| effect_rows(effects)),
        )
    }
}

impl Type for Row {
    const SIGNATURE: &'static Signature =
        <std::collections::BTreeMap<&str, Variant<'static>> as Type>::SIGNATURE;
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

fn text(value: impl ToString) -> String {
    value.to_string()
}

impl From<wire::Address> for Row {
    fn from(address: wire::Address) -> Self {
        let wire::Address {
            floating_ip,
            pool,
            state,
            reason,
            fixed_address,
            owner,
            allocated_at,
            associated_at,
            expires_at,
            association_expires_at,
            unconfirmed_until,
            forwards,
            kept_hosts,
            label,
            description,
            tags,
            protected,
            rate_in,
            rate_out,
            allowed_sources,
            resting_until,
            last_owner,
            orphaned,
        } = address;
        Row::default()
            .put("floating_ip", text(floating_ip))
            .maybe("pool", pool.map(text))
            .put("state", state)
            .maybe("reason", reason)
            .maybe("fixed_address", fixed_address.map(text))
            .maybe("owner", owner)
            .maybe("allocated_at", allocated_at)
            .maybe("associated_at", associated_at)
            .maybe("expires_at", expires_at)
            .maybe("association_expires_at", association_expires_at)
            .maybe("unconfirmed_until", unconfirmed_until)
            .maybe("forwards", (!forwards.is_empty()).then(|| rows(forwards)))
            .maybe(
                "kept_hosts",
                (!kept_hosts.is_empty()).then(|| {
                    let hosts = kept_hosts.into_iter();
                    hosts.map(text).collect::<Vec<_>>()
                }),
            )
            .maybe("label", label.map(text))
            .maybe("description", description.map(String::from))
            .maybe(
                "tags",
                (!tags.is_empty()).then(|| tags.into_iter().map(text).collect::<Vec<_>>()),
            )
            .maybe("protected", protected.then_some(true))
            .maybe("rate_in", rate_in.map(Rate::bits))
            .maybe("rate_out", rate_out.map(Rate::bits))
            .maybe("allowed_sources", sources(allowed_sources))
            .maybe("resting_until", resting_until)
            .maybe("last_owner", last_owner)
            .maybe("orphaned", orphaned.then_some(true))
    }
}

/// Prefixes as texts; absent when everybody may.
fn sources(sources: Sources) -> Option<Vec<String>> {
    (!sources.is_everybody()).then(|| sources.into())
}

/// A forward as a value inside of another row: `a{sv}`.
fn dictionary(forward: wire::ForwardInfo) -> BTreeMap<&'static str, Variant<'static>> {
    let wire::ForwardInfo {
        protocol,
        ports,
        fixed_address,
        fixed_port,
        outbound,
    } = forward;
    BTreeMap::from([
        ("protocol", text(protocol).into()),
        ("ports", ports.into()),
        ("fixed_address", text(fixed_address).into()),
        ("fixed_port", fixed_port.number().into()),
        ("outbound", text(outbound).into()),
    ])
}

/// Several of them: `aa{sv}`.
fn rows(forwards: Vec<wire::ForwardInfo>) -> Vec<BTreeMap<&'static str, Variant<'static>>> {
    forwards.into_iter().map(dictionary).collect()
}

impl From<wire::Changed> for Row {
    fn from(result: wire::Changed) -> Self {
        let wire::Changed {
            address,
            addresses,
            changed,
            previous_fixed_address,
            displaced_floating_ip,
            revision,
            sequence,
            dry_run,
            effects,
        } = result;
        let inner = |address| Row::from(address).0.into_iter().collect::<BTreeMap<_, _>>();
        Row::from(address)
            .maybe(
                "addresses",
                (!addresses.is_empty())
                    .then(|| addresses.into_iter().map(inner).collect::<Vec<_>>()),
            )
            .put("changed", changed)
            .maybe("previous_fixed_address", previous_fixed_address.map(text))
            .maybe("displaced_floating_ip", displaced_floating_ip.map(text))
            .put("revision", revision)
            .put("sequence", sequence)
            .forecast(dry_run, effects)
    }
}

/// What a dry run tells: `aa{sv}`.
fn effect_rows(effects: Vec<wire::EffectInfo>) -> Vec<BTreeMap<&'static str, Variant<'static>>> {
    let row = |effect| {
        let wire::EffectInfo { kind, text } = effect;
        BTreeMap::from([("kind", kind.into()), ("text", text.into())])
    };
    effects.into_iter().map(row).collect()
}

impl From<wire::Counters> for Row {
    fn from(counters: wire::Counters) -> Self {
        let wire::Counters {
            floating_ip,
            packets_in,
            bytes_in,
            packets_out,
            bytes_out,
        } = counters;
        Row::default()
            .put("floating_ip", text(floating_ip))
            .put("packets_in", packets_in)
            .put("bytes_in", bytes_in)
            .put("packets_out", packets_out)
            .put("bytes_out", bytes_out)
    }
}

impl From<wire::PoolInfo> for Row {
    fn from(pool: wire::PoolInfo) -> Self {
        let wire::PoolInfo {
            name,
            addresses,
            interface,
            routed,
            size,
            allocated,
            associated,
            hardware_addresses,
        } = pool;
        let hardware_addresses: BTreeMap<_, _> = hardware_addresses
            .into_iter()
            .map(|(mac, floating)| (mac, text(floating)))
            .collect();
        Row::default()
            .put("name", text(name))
            .put("addresses", addresses)
            .maybe("interface", interface)
            .put("routed", routed)
            .put("size", size)
            .put("allocated", allocated)
            .put("associated", associated)
            .maybe(
                "hardware_addresses",
                (!hardware_addresses.is_empty()).then_some(hardware_addresses),
            )
    }
}

impl From<wire::Status> for Row {
    fn from(status: wire::Status) -> Self {
        let wire::Status {
            state,
            version,
            revision,
            sequence,
            size,
            allocated,
            associated,
            pending,
            outside,
            problems,
            warnings,
            repairs,
            simulated,
        } = status;
        Row::default()
            .put("state", state)
            .put("version", version)
            .put("revision", revision)
            .put("sequence", sequence)
            .put("size", size)
            .put("allocated", allocated)
            .put("associated", associated)
            .put("pending", pending)
            .put("outside", outside)
            .put("problems", problems)
            .put("warnings", warnings)
            .put("repairs", repairs)
            .put("simulated", simulated)
    }
}

impl From<wire::Reloaded> for Row {
    fn from(reloaded: wire::Reloaded) -> Self {
        let wire::Reloaded {
            changed,
            news,
            files,
            warnings,
            sequence,
            unconfirmed_until,
            dry_run,
            effects,
        } = reloaded;
        Row::default()
            .put("changed", changed)
            .put("news", news)
            .put("files", files)
            .put("warnings", warnings)
            .put("sequence", sequence)
            .maybe("unconfirmed_until", unconfirmed_until)
            .forecast(dry_run, effects)
    }
}

impl From<wire::Settled> for Row {
    fn from(settled: wire::Settled) -> Self {
        let wire::Settled {
            address,
            changed,
            previous_fixed_address,
            news,
            revision,
            sequence,
            dry_run,
            effects,
        } = settled;
        address
            .map_or_else(Row::default, Row::from)
            .put("changed", changed)
            .maybe("previous_fixed_address", previous_fixed_address.map(text))
            .maybe("news", (!news.is_empty()).then_some(news))
            .put("revision", revision)
            .put("sequence", sequence)
            .forecast(dry_run, effects)
    }
}

impl From<wire::EventInfo> for Row {
    fn from(event: wire::EventInfo) -> Self {
        let wire::EventInfo {
            sequence,
            revision,
            at,
            uid,
            via,
            verb,
            floating_ip,
            fixed_address,
            previous_fixed_address,
            reason,
            forward,
        } = event;
        Row::default()
            .put("sequence", sequence)
            .maybe("revision", revision)
            .put("at", at)
            .put("uid", uid)
            .put("via", via)
            .put("verb", verb)
            .maybe("floating_ip", floating_ip.map(text))
            .maybe("fixed_address", fixed_address.map(text))
            .maybe("previous_fixed_address", previous_fixed_address.map(text))
            .maybe("reason", reason)
            .maybe("forward", forward.map(dictionary))
    }
}

/// The permissions by verb, and the limits.
pub(super) fn permission_rows(permissions: wire::Permissions) -> (Vec<Row>, Row) {
    let wire::Permissions {
        permissions,
        allocated,
        quota,
        permitted_ranges,
    } = permissions;
    let limits = Row::default()
        .put("allocated", allocated)
        .maybe("quota", quota)
        .maybe("permitted_ranges", permitted_ranges);
    let row = |permission| {
        let wire::Permission {
            verb,
            scope,
            action,
            permission,
        } = permission;
        Row::default()
            .put("verb", verb)
            .put("scope", scope)
            .put("action", action)
            .put("permission", permission)
    };
    (permissions.into_iter().map(row).collect(), limits)
}
