//! Other machines that have a floating IP of ours: asked for on the outside link, as
//! the daemon asks before it takes one. It hears who says so of himself; who says
//! nothing until he is asked, it does not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::dataplane::Link;
use crate::kernel::{KernelError, Neighbours, Operation, PacketNeighbours, Speech};
use crate::model::{Family, FloatingIp, HardwareAddress};

use super::finding::{Finding, Id};
use super::terrain::Terrain;

/// How long an answer is waited for. On a link it takes milliseconds.
const PATIENCE: Duration = Duration::from_millis(500);

/// So many addresses are asked about: each is a broadcast.
const ASKED: usize = 64;

/// Who else has which address.
pub(super) fn look(terrain: &Terrain) -> Result<BTreeMap<IpAddr, HardwareAddress>, KernelError> {
    let mut asked: BTreeMap<FloatingIp, &Link> = BTreeMap::new();
    for tour in terrain.tours.iter().filter(|tour| tour.is_asked_for) {
        let link = tour.outside.and_then(|index| terrain.links.get(&index));
        let link = link.filter(|link| link.carrier && link.mac.is_some());
        if let (Ok(floating), Some(link)) = (FloatingIp::new(tour.floating), link) {
            asked.insert(floating, link);
        }
    }
    let mut rivals = BTreeMap::new();
    if asked.is_empty() {
        return Ok(rivals);
    }
    let mut neighbours = PacketNeighbours::open()?;
    for family in Family::BOTH {
        neighbours.hear(family)?;
    }
    let asked: BTreeMap<_, _> = asked.into_iter().take(ASKED).collect();
    for (floating, link) in &asked {
        neighbours.probe(*floating, link)?;
    }
    let ours: BTreeSet<[u8; 6]> = terrain.links.values().filter_map(|link| link.mac).collect();
    // Nobody wakes it.
    let failed = |error| KernelError::new(Operation::Listen, error);
    let (wake, _other_end) = UnixStream::pair().map_err(failed)?;
    let until = Instant::now() + PATIENCE;
    while let Some(rest) = until.checked_duration_since(Instant::now()) {
        for heard in neighbours.listen(wake.as_fd(), Some(rest))? {
            let link = asked.get(&heard.floating);
            let is_asked = link.is_some_and(|link| link.index == heard.interface);
            let is_rival = heard.speech == Speech::Claims && !ours.contains(&heard.by.0);
            if is_asked && is_rival {
                rivals.insert(heard.floating.ip(), heard.by);
            }
        }
    }
    Ok(rivals)
}

/// Of those that the daemon told of nothing is said again.
pub(super) fn elsewhere(
    rivals: &BTreeMap<IpAddr, HardwareAddress>,
    told: &[Finding],
) -> Vec<Finding> {
    let is_told = |floating: IpAddr| {
        let is_it = |finding: &Finding| {
            finding.id == Id::AddressElsewhere && finding.address == Some(floating)
        };
        told.iter().any(is_it)
    };
    let rivals = rivals.iter().filter(|(floating, _)| !is_told(**floating));
    let finding = |(floating, by): (&IpAddr, &HardwareAddress)| {
        Finding::elsewhere(*floating, format!("another machine has {floating}: {by}"))
    };
    rivals.map(finding).collect()
}
