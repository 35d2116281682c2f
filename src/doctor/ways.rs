//! Interfaces that are not as they should be, and hosts without a way.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nix::errno::Errno;

use crate::model::Family;

use super::finding::{Finding, Id};
use super::shell::word;
use super::terrain::{Terrain, Tour};

/// Outside interfaces that are missing, down or without carrier, and inside ones
/// without.
pub(super) fn links(terrain: &Terrain) -> Vec<Finding> {
    let mut findings = BTreeSet::new();
    for (family, name) in &terrain.outside {
        let Some(name) = name else {
            let what = format!("no default route shows the outside interface ({family})");
            findings.insert(
                Finding::error(Id::NoOutsideInterface, what)
                    .because("set OUTSIDE_INTERFACE in /etc/ipfloaterd.conf, or add the route")
                    .mend(match family {
                        Family::V4 => "ip route add default via GATEWAY",
                        Family::V6 => "ip -6 route add default via GATEWAY",
                    }),
            );
            continue;
        };
        match terrain.named(name) {
            None => {
                let what = format!("the outside interface {name} does not exist");
                let finding = Finding::error(Id::InterfaceMissing, what);
                findings.insert(finding.mend("ip link show"));
            }
            Some(interface) => findings.extend(link("outside", interface)),
        }
    }
    for tour in &terrain.tours {
        let inside = tour.inside.and_then(|index| terrain.interfaces.get(&index));
        findings.extend(inside.and_then(|interface| link("inside", interface)));
    }
    findings.into_iter().collect()
}

fn link(side: &str, interface: &crate::kernel::look::Interface) -> Option<Finding> {
    let name = &interface.name;
    if !interface.up {
        let what = format!("the {side} interface {name} is down");
        let finding = Finding::error(Id::InterfaceDown, what);
        return Some(finding.mend(format!("ip link set dev {} up", word(name))));
    }
    (!interface.carrier).then(|| {
        Finding::error(
            Id::NoCarrier,
            format!("the {side} interface {name} has no carrier"),
        )
        .because("the cable, or whoever is at its other end")
        .mend(format!("ip -s link show dev {}", word(name)))
    })
}

/// Inside interfaces that take longer packets than the outside one.
pub(super) fn mtu(terrain: &Terrain) -> Vec<Finding> {
    let mut findings = BTreeSet::new();
    for tour in &terrain.tours {
        let both = [tour.inside, tour.outside]
            .map(|index| index.and_then(|index| terrain.interfaces.get(&index)));
        let [Some(inside), Some(outside)] = both else {
            continue;
        };
        if inside.mtu <= outside.mtu {
            continue;
        }
        let what = format!(
            "packets on {} may have {} bytes, on {} only {}",
            inside.name, inside.mtu, outside.name, outside.mtu
        );
        findings.insert(
            Finding::note(Id::Mtu, what)
                .because(
                    "connections hang after their first packets where somebody filters the ICMP \
                     messages that tell so",
                )
                .mend(format!(
                    "ip link set dev {} mtu {}",
                    word(&inside.name),
                    outside.mtu
                )),
        );
    }
    findings.into_iter().collect()
}

/// Hosts that packets do not find, and those whose packets do not find out. Of the
/// families in `off` nothing is forwarded anyway; `explained` are the addresses for
/// which a reason was found already.
pub(super) fn ways(terrain: &Terrain, off: &BTreeSet<Family>, rp_filtered: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for tour in &terrain.tours {
        let family = Family::of(tour.host);
        let inward = inward(terrain, tour).or_else(|| {
            let filtered = rp_filtered && family == Family::V4;
            let explained = off.contains(&family) || filtered;
            refused(terrain, tour).filter(|_| !explained)
        });
        let outward = || outward(terrain, tour).filter(|_| !off.contains(&family));
        let silent = || silent(terrain, tour);
        let found = inward.or_else(outward).or_else(silent);
        findings.extend(found.map(|finding| finding.of(tour.floating)));
    }
    findings
}

fn inward(terrain: &Terrain, tour: &Tour) -> Option<Finding> {
    let Tour { host, .. } = tour;
    let add = format!("ip route add {host} dev INTERFACE");
    let finding = match tour.way {
        Err(errno) => {
            let what = format!("there is no route to {host}: {}", words(errno));
            Finding::error(Id::NoRoute, what).mend(add)
        }
        Ok(way) if way.local => {
            let what = format!("{host} is an address of the router itself");
            let show = format!("ip address show to {host}");
            Finding::error(Id::NoRoute, what).mend(show)
        }
        Ok(way) if tour.inside.is_none() => {
            let name = way.interface.and_then(|index| terrain.name(index))?;
            let what = format!("the route to {host} leads outside, by {name}");
            let why = "the network of the host has no interface or route here";
            Finding::error(Id::NoRoute, what).because(why).mend(add)
        }
        Ok(_) => return None,
    };
    Some(finding)
}

/// What the kernel refuses although there is a way.
fn refused(terrain: &Terrain, tour: &Tour) -> Option<Finding> {
    let errno = tour.inward?.err()?;
    let name = terrain.name(tour.outside?)?;
    let (host, to) = (tour.host, which(tour.host));
    let what = format!(
        "what comes by {name} is not forwarded to {host}: {}",
        words(errno)
    );
    Some(
        Finding::error(Id::NotForwarded, what)
            .because("a rule or a route of another table says so")
            .mend(format!("ip {to}rule show")),
    )
}

fn outward(terrain: &Terrain, tour: &Tour) -> Option<Finding> {
    let (host, to) = (tour.host, which(tour.host));
    let family = Family::of(host);
    match tour.outward.filter(|_| tour.leaves)? {
        Err(errno) => {
            let what = format!("what {host} sends finds no way outside: {}", words(errno));
            let remedy = format!("ip {to}route add default via GATEWAY");
            Some(Finding::error(Id::NoRouteOut, what).mend(remedy))
        }
        Ok(way) => {
            let index = way.interface?;
            let name = terrain.name(index)?;
            let is_outside = terrain
                .outside
                .iter()
                .any(|(of, outside)| *of == family && outside.as_deref() == Some(name));
            if is_outside {
                return None;
            }
            let what = format!("what {host} sends leaves by {name}, which is no outside interface");
            let why = "there it does not leave with the floating IP";
            let remedy = format!("ip {to}route show default");
            let finding = Finding::warning(Id::LeavesElsewhere, what);
            Some(finding.because(why).mend(remedy))
        }
    }
}

fn silent(terrain: &Terrain, tour: &Tour) -> Option<Finding> {
    if tour.answers != Some(false) {
        return None;
    }
    let name = terrain.name(tour.inside?)?;
    let via = tour.way.ok().and_then(|way| way.via);
    let what = match via {
        None => format!("{} does not answer on {name}", tour.host),
        Some(via) => format!("{via}, the way to {}, does not answer on {name}", tour.host),
    };
    let who = via.unwrap_or(tour.host);
    Some(
        Finding::error(Id::NoNeighbour, what)
            .because("it is off, elsewhere, or has another address")
            .mend(format!("ip neighbour show to {who} dev {}", word(name))),
    )
}

/// `-6 ` for what ip(8) otherwise takes for IPv4.
fn which(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "",
        IpAddr::V6(_) => "-6 ",
    }
}

fn words(errno: i32) -> &'static str {
    Errno::from_raw(errno).desc()
}
