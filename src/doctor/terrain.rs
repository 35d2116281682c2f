//! Interfaces, and the ways of the packets of each floating IP: from outside to
//! its hosts, and from its host to the outside.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use crate::dataplane::{self, IfIndex, Link, Observed, Routing, UplinkRoute};
use crate::kernel::look::{Interface, Journey, Look, Neighbour, Way};
use crate::kernel::{KernelError, observe_links};
use crate::model::Family;

use super::daemon::Subject;

/// Somebody on the internet, whom a router without a table of all of it reaches
/// by its default route: a.root-servers.net. It is only asked for the way; nothing
/// is sent there.
const SOMEBODY: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(198, 41, 0, 4),
    Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30),
);

/// So many hosts of one floating IP are asked whether they are there: a neighbour
/// table may have no more than 1,024 entries (`gc_thresh3`), and 512 for long.
const ASKED: usize = 64;

/// How long is waited for them. One whose entry is old is asked after 5 seconds
/// (`delay_first_probe_time`), three times, a second apart.
const PATIENCE: Duration = Duration::from_secs(9);

/// How often is looked meanwhile.
const GLANCE: Duration = Duration::from_millis(50);

/// The way between the outside and one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tour {
    pub(super) floating: IpAddr,
    pub(super) host: IpAddr,
    /// Whether what the host sends leaves with the floating IP.
    pub(super) leaves: bool,
    /// Whether neighbours ask who has the floating IP, and the router answers
    /// although its interface has not.
    pub(super) is_asked_for: bool,
    /// The outside interface.
    pub(super) outside: Option<u32>,
    /// The way from the router to the host.
    pub(super) way: Result<Way, i32>,
    /// The interface of that, if it is a way inside.
    pub(super) inside: Option<u32>,
    /// The way of what comes from outside; `None` when it cannot be asked for.
    pub(super) inward: Option<Result<Way, i32>>,
    /// The way of what the host sends to the internet.
    pub(super) outward: Option<Result<Way, i32>>,
    /// Whether the host, or the router before it, answers; `None` when that cannot
    /// be told.
    pub(super) answers: Option<bool>,
}

/// What is around.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Terrain {
    pub(super) interfaces: BTreeMap<u32, Interface>,
    /// The same as the daemon sees them.
    pub(super) links: BTreeMap<u32, Link>,
    /// The outside interfaces of the pools: their name, or that there is none.
    pub(super) outside: BTreeSet<(Family, Option<String>)>,
    /// The way of the router to the internet.
    pub(super) abroad: BTreeMap<Family, Result<Way, i32>>,
    pub(super) tours: Vec<Tour>,
    /// How many hosts were not asked whether they are there, being too many.
    pub(super) not_asked: usize,
}

impl Terrain {
    /// Looks at everything. With `ask` the hosts are asked whether they are there,
    /// and it is told when that takes longer than a moment; without it only what
    /// the kernel knows of them already counts.
    pub(super) fn look(
        pools: &BTreeSet<(Family, Option<String>)>,
        subjects: &[Subject],
        ask: Option<&mut dyn FnMut(usize)>,
    ) -> Result<Self, KernelError> {
        let mut look = Look::open()?;
        let defaults = observe_links()?;
        let interfaces = look.interfaces()?;
        let index = |name: &str| {
            let mut all = interfaces.values();
            all.find(|interface| interface.name == name)
                .map(|interface| interface.index)
        };
        let outside: BTreeSet<_> = pools
            .iter()
            .map(|(family, name)| (*family, resolved(&defaults, *family, name.as_deref())))
            .collect();
        let mut abroad = BTreeMap::new();
        for (family, _) in &outside {
            let journey = Journey {
                to: somebody(*family),
                from: None,
                mark: None,
            };
            abroad.insert(*family, look.way(journey)?);
        }
        let outside_indices: BTreeSet<u32> = outside
            .iter()
            .filter_map(|(_, name)| index(name.as_deref()?))
            .collect();
        let mut tours = Vec::new();
        for subject in subjects {
            let family = Family::of(subject.floating);
            let name = resolved(&defaults, family, subject.interface.as_deref());
            let outside = name.and_then(|name| index(&name));
            let link = outside.and_then(|outside| interfaces.get(&outside));
            let mut addresses = defaults.surroundings.addresses.iter();
            let is_asked_for = !subject.routed
                && link.is_some_and(|link| link.resolves)
                && !addresses.any(|address| address.net.addr() == subject.floating);
            for &(host, leaves) in &subject.hosts {
                let way = look.way(Journey {
                    to: host,
                    from: None,
                    mark: None,
                })?;
                let inside = way.ok().filter(|way| !way.local);
                let inside = inside
                    .and_then(|way| way.interface)
                    .filter(|index| !outside_indices.contains(index));
                let mut simulated = |to, from, by: Option<u32>, mark| {
                    by.map(|by| {
                        look.way(Journey {
                            to,
                            from: Some((from, by)),
                            mark,
                        })
                    })
                    .transpose()
                };
                let somebody = somebody(family);
                // With several uplinks what leaves as a floating IP has a mark.
                let mark = outside.and_then(|outside| mark(&defaults.routing, family, outside));
                tours.push(Tour {
                    floating: subject.floating,
                    host,
                    leaves,
                    is_asked_for,
                    outside,
                    way,
                    inside,
                    inward: simulated(host, somebody, outside, None)?,
                    outward: simulated(somebody, host, inside, mark)?,
                    answers: None,
                });
            }
        }
        let links = defaults.links.into_values();
        let mut terrain = Terrain {
            interfaces,
            links: links.map(|link| (link.index.0, link)).collect(),
            outside,
            abroad,
            tours,
            not_asked: 0,
        };
        match ask {
            Some(waits) => terrain.ask(&mut look, waits)?,
            None => terrain.known(&look.neighbours()?),
        }
        Ok(terrain)
    }

    /// The tours of a family.
    pub(super) fn tours(&self, family: Family) -> impl Iterator<Item = &Tour> {
        let of_family = move |tour: &&Tour| Family::of(tour.host) == family;
        self.tours.iter().filter(of_family)
    }

    /// The name of an interface.
    pub(super) fn name(&self, index: u32) -> Option<&str> {
        Some(&self.interfaces.get(&index)?.name)
    }

    /// The interface of that name.
    pub(super) fn named(&self, name: &str) -> Option<&Interface> {
        let mut all = self.interfaces.values();
        all.find(|interface| interface.name == name)
    }

    /// The names of the interfaces that packets of a family come and go by.
    pub(super) fn interfaces_of(&self, family: Family) -> impl Iterator<Item = &str> {
        self.tours(family)
            .flat_map(|tour| [tour.outside, tour.inside])
            .flatten()
            .filter_map(|index| self.name(index))
    }

    /// Takes what the kernel knows of the hosts.
    fn known(&mut self, neighbours: &BTreeMap<(u32, IpAddr), Neighbour>) {
        for tour in &mut self.tours {
            let neighbour = tour.inside.zip(tour.way.ok());
            let neighbour = neighbour.map(|(index, way)| (index, way.via.unwrap_or(tour.host)));
            tour.answers = match neighbour.and_then(|neighbour| neighbours.get(&neighbour)) {
                Some(Neighbour::Known) => Some(true),
                Some(Neighbour::Silent) => Some(false),
                Some(Neighbour::Asked) | None => None,
            };
        }
    }

    /// Finds out which hosts are there: each is sent an empty datagram to a port
    /// that nobody listens on (discard, RFC 863), and then either it says so
    /// itself, or the kernel knows in the end whether it found it.
    fn ask(&mut self, look: &mut Look, waits: &mut dyn FnMut(usize)) -> Result<(), KernelError> {
        let mut asked: HashMap<IpAddr, (Option<UdpSocket>, (u32, IpAddr))> = HashMap::new();
        for tour in &self.tours {
            let Some((index, way)) = tour.inside.zip(tour.way.ok()) else {
                continue;
            };
            let resolves = self
                .interfaces
                .get(&index)
                .is_some_and(|link| link.resolves);
            if !resolves || asked.contains_key(&tour.host) {
                continue;
            }
            if asked.len() == ASKED {
                self.not_asked += 1;
                continue;
            }
            let neighbour = (index, way.via.unwrap_or(tour.host));
            asked.insert(tour.host, (datagram(tour.host), neighbour));
        }
        let begin = Instant::now();
        let mut told = false;
        let mut answers: HashMap<IpAddr, bool> = HashMap::new();
        while !asked.is_empty() {
            let neighbours = look.neighbours()?;
            asked.retain(|host, (socket, neighbour)| {
                let known = match neighbours.get(neighbour) {
                    _ if socket.as_ref().is_some_and(is_refused) => Some(true),
                    Some(Neighbour::Known) => Some(true),
                    Some(Neighbour::Silent) => Some(false),
                    Some(Neighbour::Asked) | None => None,
                };
                if let Some(known) = known {
                    answers.insert(*host, known);
                }
                // Where nothing could be sent, nothing will come of it.
                known.is_none() && socket.is_some()
            });
            let passed = begin.elapsed();
            if asked.is_empty() || passed > PATIENCE {
                break;
            }
            if !told && passed > Duration::from_secs(1) {
                waits(asked.len());
                told = true;
            }
            std::thread::sleep(GLANCE);
        }
        for tour in &mut self.tours {
            tour.answers = answers.get(&tour.host).copied();
        }
        Ok(())
    }
}

/// Sends the datagram; `None` when the router itself does not let it out.
fn datagram(host: IpAddr) -> Option<UdpSocket> {
    const DISCARD: u16 = 9;
    let any: IpAddr = match host {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect((host, DISCARD)).ok()?;
    socket.send(&[]).ok()?;
    Some(socket)
}

/// Whether the host said that nobody listens on the port, or somebody answered.
fn is_refused(socket: &UdpSocket) -> bool {
    match socket.recv(&mut [0; 1]) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
    }
}

fn somebody(family: Family) -> IpAddr {
    match family {
        Family::V4 => SOMEBODY.0.into(),
        Family::V6 => SOMEBODY.1.into(),
    }
}

/// The outside interface of a pool, as the daemon takes it: the one that it names,
/// or that of a default route, be it of the other family.
fn resolved(observed: &Observed, family: Family, name: Option<&str>) -> Option<String> {
    let (v4, v6) = (&observed.default_route4, &observed.default_route6);
    let default = match family {
        Family::V4 => v4.as_ref().or(v6.as_ref()),
        Family::V6 => v6.as_ref().or(v4.as_ref()),
    };
    name.map(ToOwned::to_owned)
        .or_else(|| default.map(ToString::to_string))
}

/// The mark of what leaves by an uplink, where routing rules of ours ask for one.
fn mark(routing: &Routing, family: Family, outside: u32) -> Option<u32> {
    let leads_there = |route: &&UplinkRoute| match route.way {
        dataplane::Way::Via { interface, .. } => {
            route.family == family && interface == IfIndex(outside)
        }
        dataplane::Way::Nowhere => false,
    };
    let table = routing.routes.iter().find(leads_there)?.table;
    let mut rules = routing.rules.iter();
    let rule = rules.find(|rule| rule.family == family && rule.table == table && !rule.inverted);
    Some(rule?.mark)
}
