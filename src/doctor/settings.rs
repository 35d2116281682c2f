//! Switches of the kernel: forwarding, reverse path filters, bridged packets.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::model::Family;

use super::finding::{Finding, Id};
use super::shell;
use super::terrain::Terrain;

/// What /proc/sys says; what it does not have is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    values: BTreeMap<String, i64>,
}

impl Settings {
    /// Reads what concerns these interfaces, and the router.
    pub(super) fn look<'a>(interfaces: impl IntoIterator<Item = &'a str>) -> Self {
        let mut paths = vec![
            forwarding(Family::V4, None),
            forwarding(Family::V6, None),
            rp_filter("all"),
            arp_ignore("all"),
            bridged(Family::V4),
            bridged(Family::V6),
        ];
        for name in interfaces {
            paths.push(forwarding(Family::V4, Some(name)));
            paths.push(forced(name));
            paths.push(rp_filter(name));
            paths.push(arp_ignore(name));
        }
        let value = |path: String| {
            let text = fs::read_to_string(format!("/proc/sys/{path}")).ok()?;
            Some((path, text.trim().parse().ok()?))
        };
        Self {
            values: paths.into_iter().filter_map(value).collect(),
        }
    }

    fn is(&self, path: &str, value: i64) -> bool {
        self.values.get(path) == Some(&value)
    }

    /// What of an interface and of all it is set not to answer
    /// (`IN_DEV_MAXCONF`), with the paths that say so.
    fn arp_ignore(&self, interface: &str) -> (i64, Vec<String>) {
        let paths = ["all", interface].map(arp_ignore);
        let values = paths.map(|path| (self.values.get(&path).copied().unwrap_or(0), path));
        let most = values.iter().map(|(value, _)| *value).max().unwrap_or(0);
        let set = values.into_iter().filter(|(value, _)| *value != 0);
        (most, set.map(|(_, path)| path).collect())
    }

    /// The reverse path filter of an interface (0 none, 1 strict, 2 loose): its own
    /// or that of all, whichever is higher (`IN_DEV_MAXCONF`).
    fn rp_filter(&self, interface: &str) -> i64 {
        let value = |name| self.values.get(&rp_filter(name)).copied().unwrap_or(0);
        value("all").max(value(interface))
    }
}

fn forwarding(family: Family, interface: Option<&str>) -> String {
    match (family, interface) {
        (Family::V4, None) => "net/ipv4/ip_forward".to_owned(),
        (Family::V4, Some(name)) => format!("net/ipv4/conf/{name}/forwarding"),
        // Of an interface it decides whether router advertisements are heard.
        (Family::V6, _) => "net/ipv6/conf/all/forwarding".to_owned(),
    }
}

/// Where the kernel has it, it forwards what comes by this interface although
/// forwarding is off.
fn forced(interface: &str) -> String {
    format!("net/ipv6/conf/{interface}/force_forwarding")
}

fn rp_filter(interface: &str) -> String {
    format!("net/ipv4/conf/{interface}/rp_filter")
}

fn arp_ignore(interface: &str) -> String {
    format!("net/ipv4/conf/{interface}/arp_ignore")
}

fn bridged(family: Family) -> String {
    match family {
        Family::V4 => "net/bridge/bridge-nf-call-iptables",
        Family::V6 => "net/bridge/bridge-nf-call-ip6tables",
    }
    .to_owned()
}

/// The command that sets one. A name with a dot, as of a VLAN, is understood by
/// sysctl(8) only between slashes.
fn set(path: &str, value: i64) -> String {
    let name = match path.contains('.') {
        true => path.to_owned(),
        false => path.replace('/', "."),
    };
    format!("sysctl -w {}", shell::word(&format!("{name}={value}")))
}

/// Forwarding that is off where it is needed, by family.
pub(super) fn forwarding_off(
    settings: &Settings,
    terrain: &Terrain,
    families: &BTreeSet<Family>,
) -> Vec<(Family, Finding)> {
    let mut findings = Vec::new();
    for &family in families {
        let concerned: BTreeSet<&str> = terrain.interfaces_of(family).collect();
        let path = forwarding(family, None);
        let off = settings.is(&path, 0);
        let closed: Vec<&str> = match family {
            Family::V4 => concerned
                .iter()
                .filter(|name| settings.is(&forwarding(family, Some(name)), 0))
                .copied()
                .collect(),
            Family::V6 if off => concerned
                .iter()
                .filter(|name| !settings.is(&forced(name), 1))
                .copied()
                .collect(),
            Family::V6 => Vec::new(),
        };
        let finding = if off && (concerned.is_empty() || !closed.is_empty()) {
            let what = format!(
                "{family} forwarding is off: {} is 0",
                path.replace('/', ".")
            );
            Finding::error(Id::ForwardingOff, what).mend(set(&path, 1))
        } else if let Some(name) = closed.first() {
            let what = format!("{family} forwarding is off on {name}");
            let path = forwarding(family, Some(name));
            Finding::error(Id::ForwardingOff, what).mend(set(&path, 1))
        } else {
            continue;
        };
        let why = "without it the router passes nothing on";
        findings.push((family, finding.because(why)));
    }
    findings
}

/// Reverse path filters that drop what comes from outside.
pub(super) fn rp_filters(settings: &Settings, terrain: &Terrain) -> Vec<Finding> {
    let mut findings = BTreeSet::new();
    for tour in terrain.tours(Family::V4) {
        // The kernel itself says whether it would take the packet.
        let Some((outside, Some(Err(_)))) = tour.outside.map(|index| (index, tour.inward)) else {
            continue;
        };
        let Some(name) = terrain.name(outside) else {
            continue;
        };
        let back = terrain.abroad.get(&Family::V4).and_then(|way| way.ok());
        let by = back.and_then(|way| way.interface);
        let value = settings.rp_filter(name);
        let drops = match value {
            1 => by != Some(outside),
            2 => by.is_none(),
            _ => false,
        };
        if !drops {
            continue;
        }
        let what = format!("the reverse path filter of {name} drops what comes from outside");
        let why = match by.and_then(|by| terrain.name(by)) {
            Some(by) => format!(
                "net.ipv4.conf.{name}.rp_filter (or that of all) is {value}, and the way back to \
                 the internet is by {by}"
            ),
            None => format!(
                "net.ipv4.conf.{name}.rp_filter (or that of all) is {value}, and there is no way \
                 back to the internet"
            ),
        };
        let remedy = match value {
            1 if by.is_some() => set(&rp_filter(name), 2),
            _ => "ip route add default via GATEWAY".to_owned(),
        };
        findings.insert(Finding::error(Id::RpFilter, what).because(why).mend(remedy));
    }
    findings.into_iter().collect()
}

/// Links on which the router is set to answer only for addresses of its interface,
/// which floating IPs are not, or for none (`arp_ignore` in net/ipv4/arp.c: 1 to 3
/// and 8; others are as 0).
pub(super) fn arp_ignored(settings: &Settings, terrain: &Terrain) -> Vec<Finding> {
    let mut findings = BTreeSet::new();
    for tour in terrain.tours(Family::V4).filter(|tour| tour.is_asked_for) {
        let Some(name) = tour.outside.and_then(|index| terrain.name(index)) else {
            continue;
        };
        let (value, paths) = settings.arp_ignore(name);
        if !matches!(value, 1..=3 | 8) {
            continue;
        }
        let what = format!("the router does not answer for floating IPs on {name}");
        let why = format!(
            "net.ipv4.conf.{name}.arp_ignore (or that of all) is {value}: it answers ARP for \
             addresses of the interface at most"
        );
        let commands: Vec<_> = paths.iter().map(|path| set(path, 0)).collect();
        findings.insert(
            Finding::error(Id::ArpIgnore, what)
                .because(why)
                .mend(commands.join("; ")),
        );
    }
    findings.into_iter().collect()
}

/// Bridges of the router whose packets iptables sees: then a host does not reach
/// itself by its floating IP.
pub(super) fn bridges(settings: &Settings, terrain: &Terrain) -> Vec<Finding> {
    let mut findings = BTreeSet::new();
    for family in Family::BOTH {
        for tour in terrain.tours(family) {
            let inside = tour.inside.and_then(|index| terrain.interfaces.get(&index));
            let Some(bridge) = inside.filter(|interface| interface.kind == "bridge") else {
                continue;
            };
            let of_family = match family {
                Family::V4 => bridge.shows[0],
                Family::V6 => bridge.shows[1],
            };
            let shown = of_family || settings.is(&bridged(family), 1);
            let mut ports = terrain
                .interfaces
                .values()
                .filter(|port| port.bridge == Some(bridge.index));
            let Some(port) = ports.find(|port| !port.hairpin).filter(|_| shown) else {
                continue;
            };
            let name = &bridge.name;
            let what = format!(
                "hosts on bridge {name} do not reach themselves by their {family} floating IPs"
            );
            let why = format!(
                "br_netfilter shows bridged packets to netfilter, and port {} is not in hairpin \
                 mode (ip link set dev {} type bridge_slave hairpin on)",
                port.name,
                shell::word(&port.name)
            );
            let remedy = if of_family {
                let option = match family {
                    Family::V4 => "nf_call_iptables",
                    Family::V6 => "nf_call_ip6tables",
                };
                format!(
                    "ip link set dev {} type bridge {option} 0",
                    shell::word(name)
                )
            } else {
                set(&bridged(family), 0)
            };
            findings.insert(
                Finding::warning(Id::BridgeNetfilter, what)
                    .because(why)
                    .mend(remedy),
            );
        }
    }
    findings.into_iter().collect()
}
