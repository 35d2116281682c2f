//! A kernel in memory, for `--simulate` and for tests.
//!
//! It refuses what the real one refuses, and can be played with as somebody
//! else would: [`FakeKernel::tamper`] alters what it holds and says so to the
//! watch. It prints itself as nft text.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::libc;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use crate::dataplane::{
    Associations, Cut, Element, IfIndex, Link, Observed, PortElement, Rerouting, Ruleset,
    Transaction, ruleset::DataType,
};
use crate::model::{
    AddressRange, Direction, Family, FloatingIp, Forwarded, HardwareAddress, InterfaceName,
    RouterAddress, Surroundings,
};

use super::{
    Features, Flows, Heard, Kernel, KernelError, Meter, Neighbours, Noticed, Operation, Speech,
    Traffic, Watch,
};

/// What the kernel in memory holds, and what was done to it.
#[derive(Debug, Default)]
struct Inner {
    held: Observed,
    generation: u32,
    /// How many more operations succeed; `None` for all.
    fuse: Option<usize>,
    cuts: Vec<Cut>,
    settled: usize,
    announced: Vec<FloatingIp>,
    probed: Vec<FloatingIp>,
    /// Machines that have an address, and what they say.
    others: HashMap<FloatingIp, HardwareAddress>,
    said: Vec<Heard>,
}

/// What is said in memory is heard so soon.
const EAR: Duration = Duration::from_millis(20);

/// A kernel in memory. Copies are the same kernel.
#[derive(Clone, Debug)]
pub struct FakeKernel {
    inner: Arc<Mutex<Inner>>,
    notices: Sender<Noticed>,
    noticed: Arc<Mutex<Option<Receiver<Noticed>>>>,
}

/// The flows of a kernel in memory: remembers what it was to cut.
#[derive(Debug)]
struct FakeFlows(FakeKernel);

/// The neighbours of a kernel in memory: remember what they were told.
#[derive(Debug)]
struct FakeNeighbours(FakeKernel);

/// The counters of a kernel in memory: what they began with, for nothing goes
/// through it.
#[derive(Debug)]
struct FakeMeter(FakeKernel);

/// Notices of a kernel in memory.
#[derive(Debug)]
struct FakeWatch(Receiver<Noticed>);

impl FakeKernel {
    /// A router with an outside interface `wan0`, which both default routes
    /// lead to, and an inside one, `lan0`. Documentation addresses (RFC 5737,
    /// RFC 3849) outside.
    #[must_use]
    pub fn simulated() -> Self {
        let link = |index, last| Link {
            index: IfIndex(index),
            up: true,
            carrier: true,
            // A locally administered address (IEEE 802, second bit of the first byte).
            mac: Some([2, 0, 0, 0, 0, last]),
        };
        let name = |name: &str| {
            name.parse::<InterfaceName>()
                .expect("the name is a constant")
        };
        let own = |net: &str, interface: &str| RouterAddress {
            net: net.parse().expect("the prefix is a constant"),
            interface: name(interface),
            secondary: false,
        };
        let addresses = vec![
            own("10.0.0.1/24", "lan0"),
            own("192.0.2.254/24", "wan0"),
            own("fd00::1/64", "lan0"),
            own("2001:db8:ffff::1/64", "wan0"),
        ];
        let held = Observed {
            links: [(name("wan0"), link(2, 1)), (name("lan0"), link(3, 2))].into(),
            default_route4: Some(name("wan0")),
            default_route6: Some(name("wan0")),
            surroundings: Surroundings {
                addresses,
                gateways: Vec::new(),
            },
            ..Observed::default()
        };
        let (notices, noticed) = channel();
        let inner = Inner {
            held,
            ..Inner::default()
        };
        FakeKernel {
            inner: Arc::new(Mutex::new(inner)),
            notices,
            noticed: Arc::new(Mutex::new(Some(noticed))),
        }
    }

    /// Its flows.
    #[must_use]
    pub fn flows(&self) -> Box<dyn Flows> {
        Box::new(FakeFlows(self.clone()))
    }

    /// Its neighbours.
    #[must_use]
    pub fn neighbours(&self) -> Box<dyn Neighbours> {
        Box::new(FakeNeighbours(self.clone()))
    }

    /// Its counters.
    #[must_use]
    pub fn meter(&self) -> Box<dyn Meter> {
        Box::new(FakeMeter(self.clone()))
    }

    /// Its notices. The second watch waits for ever.
    #[must_use]
    pub fn watch(&self) -> Box<dyn Watch> {
        let first = self
            .noticed
            .lock()
            .ok()
            .and_then(|mut noticed| noticed.take());
        Box::new(FakeWatch(first.unwrap_or_else(|| channel().1)))
    }

    /// Alters what the kernel holds as somebody else would, and says so.
    pub fn tamper(&self, notice: Noticed, alter: impl FnOnce(&mut Observed)) {
        let mut inner = self.lock();
        alter(&mut inner.held);
        inner.generation += 1;
        drop(inner);
        // Without a watch nobody notices.
        let _ = self.notices.send(notice);
    }

    /// Lets so many more operations succeed, and all others fail without doing
    /// anything, as if the process had died; `None` lets all succeed.
    pub fn set_fuse(&self, operations: Option<usize>) {
        self.lock().fuse = operations;
    }

    /// How many operations the fuse has left.
    #[must_use]
    pub fn fuse(&self) -> Option<usize> {
        self.lock().fuse
    }

    /// What it was asked to cut so far.
    #[must_use]
    pub fn cuts(&self) -> Vec<Cut> {
        self.lock().cuts.clone()
    }

    /// How often all flows were held against the associations.
    #[must_use]
    pub fn settled(&self) -> usize {
        self.lock().settled
    }

    /// What its neighbours were told so far.
    #[must_use]
    pub fn announced(&self) -> Vec<FloatingIp> {
        self.lock().announced.clone()
    }

    /// What its neighbours were asked about so far.
    #[must_use]
    pub fn probed(&self) -> Vec<FloatingIp> {
        self.lock().probed.clone()
    }

    /// From now on another machine on the outside link answers for the address,
    /// or no longer.
    pub fn set_other(&self, floating: FloatingIp, by: Option<HardwareAddress>) {
        let others = &mut self.lock().others;
        match by {
            Some(by) => others.insert(floating, by),
            None => others.remove(&floating),
        };
    }

    /// Says something about an address, as a machine on a link would.
    pub fn say(&self, heard: Heard) {
        self.lock().said.push(heard);
    }

    /// What it holds, as nft(8) and ip(8) would print the parts that change.
    #[must_use]
    pub fn to_text(&self) -> String {
        let inner = self.lock();
        let held = &inner.held;
        let mut lines = Vec::new();
        lines.extend(held.table.iter().map(|_| "table inet ipfloater".to_owned()));
        lines.extend(held.outside.iter().map(|name| format!("outside {name}")));
        lines.extend(held.pool.iter().map(|range| format!("pool {range}")));
        lines.extend(
            held.floating_to_fixed
                .iter()
                .map(|(key, value)| format!("floating_to_fixed {key} : {value}")),
        );
        lines.extend(
            held.fixed_to_floating
                .iter()
                .map(|(key, value)| format!("fixed_to_floating {key} : {value}")),
        );
        lines.extend(
            held.rest_to_fixed
                .iter()
                .map(|(key, value)| format!("rest_to_fixed {key} : {value}")),
        );
        lines.extend(
            held.forwards
                .iter()
                .map(|(floating, element)| match element {
                    PortElement::One {
                        protocol,
                        port,
                        fixed,
                        fixed_port,
                    } => {
                        format!("forward {floating} . {protocol} . {port} : {fixed} . {fixed_port}")
                    }
                    PortElement::Range {
                        protocol,
                        ports,
                        fixed,
                    } => format!("forward_range {floating} . {protocol} . {ports} : {fixed}"),
                }),
        );
        lines.extend(
            held.forwarded_to
                .iter()
                .map(|fixed| format!("forwarded_to {fixed}")),
        );
        lines.extend(
            held.forwarding
                .iter()
                .map(|floating| format!("forwarding {floating}")),
        );
        for direction in Direction::BOTH {
            let rates = held.limited[direction.place()].iter();
            lines.extend(
                rates.map(|(floating, rate)| format!("limited_{direction} {floating} {rate}")),
            );
        }
        lines.extend(
            held.allowed
                .iter()
                .flat_map(|(floating, nets)| nets.iter().map(move |net| (floating, net)))
                .map(|(floating, net)| format!("allowed {floating} . {net}")),
        );
        lines.extend(
            held.uplinks
                .iter()
                .map(|(range, number)| format!("uplinks {range} : {number}")),
        );
        lines.extend(
            held.fixed_to_uplink
                .iter()
                .map(|(fixed, number)| format!("fixed_to_uplink {fixed} : {number}")),
        );
        let rerouting = Rerouting::between(&Default::default(), &held.routing);
        lines.extend(rerouting.orders());
        lines.extend(
            held.presence
                .iter()
                .map(|(floating, index)| format!("local {floating} dev {}", index.0)),
        );
        lines.sort();
        lines.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("nothing panics while it holds the kernel in memory")
    }

    /// The kernel, if the fuse has not burnt through.
    fn operate(&self, operation: Operation) -> Result<MutexGuard<'_, Inner>, KernelError> {
        let mut inner = self.lock();
        match &mut inner.fuse {
            Some(0) => return Err(errno(operation, libc::EIO)),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(inner)
    }
}

fn errno(operation: Operation, number: i32) -> KernelError {
    KernelError::new(operation, io::Error::from_raw_os_error(number))
}

impl Kernel for FakeKernel {
    fn observe(&mut self) -> Result<Observed, KernelError> {
        Ok(self.operate(Operation::Dump("table"))?.held.clone())
    }

    fn observe_links(&mut self) -> Result<Observed, KernelError> {
        let held = self.operate(Operation::Dump("links"))?.held.clone();
        Ok(Observed {
            table: None,
            floating_to_fixed: HashMap::new(),
            fixed_to_floating: HashMap::new(),
            rest_to_fixed: HashMap::new(),
            forwards: Default::default(),
            forwarded_to: Default::default(),
            forwarding: Default::default(),
            counted: Default::default(),
            limited: Default::default(),
            filtered: Default::default(),
            allowed: Default::default(),
            pool: Vec::new(),
            uplinks: Vec::new(),
            fixed_to_uplink: HashMap::new(),
            outside: Default::default(),
            ..held
        })
    }

    fn transact(&mut self, transaction: &Transaction) -> Result<(), KernelError> {
        let mut inner = self.operate(Operation::Transact("table".into()))?;
        refuse(&inner.held, transaction)?;
        inner.held.note(transaction);
        inner.generation += 1;
        Ok(())
    }

    fn generation(&mut self) -> Result<u32, KernelError> {
        Ok(self.lock().generation)
    }

    fn present(&mut self, addresses: &[(FloatingIp, IfIndex)]) -> Vec<(FloatingIp, KernelError)> {
        let present = |&(floating, index): &(FloatingIp, IfIndex)| {
            let operation = Operation::Presence(floating);
            let mut inner = self.operate(operation.clone())?;
            match inner.held.links.values().find(|link| link.index == index) {
                None => Err(errno(operation, libc::ENODEV)),
                Some(_) => {
                    inner.held.presence.insert(floating, index);
                    Ok(())
                }
            }
        };
        let errors = addresses
            .iter()
            .map(|address| (address.0, present(address)));
        errors
            .filter_map(|(floating, result)| Some((floating, result.err()?)))
            .collect()
    }

    fn withdraw(&mut self, addresses: &[(FloatingIp, IfIndex)]) -> Vec<(FloatingIp, KernelError)> {
        let withdraw = |floating: FloatingIp| {
            let mut inner = self.operate(Operation::Presence(floating))?;
            inner.held.presence.remove(&floating);
            Ok(())
        };
        let errors = addresses
            .iter()
            .map(|(floating, _)| (*floating, withdraw(*floating)));
        errors
            .filter_map(|(floating, result): (_, Result<(), _>)| Some((floating, result.err()?)))
            .collect()
    }

    fn reroute(&mut self, rerouting: &Rerouting) -> Vec<KernelError> {
        let order = rerouting.orders().join("; ");
        match self.operate(Operation::Reroute(order)) {
            Ok(mut inner) => {
                inner.held.routing.alter(rerouting);
                Vec::new()
            }
            Err(error) => vec![error],
        }
    }

    fn features(&self) -> Features {
        Features {
            table_owner: true,
            conntrack_filter: true,
        }
    }
}

/// Refuses what the kernel refuses of a transaction, as a whole.
fn refuse(held: &Observed, transaction: &Transaction) -> Result<(), KernelError> {
    let mut after = held.clone();
    let skeleton = Transaction {
        remove: Vec::new(),
        add: Vec::new(),
        ..transaction.clone()
    };
    after.note(&skeleton);
    let fail =
        |element: &Element, number| Err(errno(Operation::Transact(format!("{element:?}")), number));
    if let (None, Some(reshape)) = (&held.table, &transaction.reshape) {
        let chain = reshape.altered.first().cloned().unwrap_or_default();
        return Err(errno(Operation::Transact(chain), libc::ENOENT));
    }
    let Some(table) = after.table.clone() else {
        let idle = transaction.is_empty();
        return if idle {
            Ok(())
        } else {
            Err(errno(Operation::Transact("table".into()), libc::ENOENT))
        };
    };
    for element in &transaction.remove {
        let there = match element {
            Element::FloatingToFixed(floating, fixed) => {
                after.floating_to_fixed.remove(floating).as_ref() == Some(fixed)
            }
            Element::FixedToFloating(fixed, floating) => {
                after.fixed_to_floating.remove(fixed).as_ref() == Some(floating)
            }
            Element::RestToFixed(floating, fixed) => {
                after.rest_to_fixed.remove(floating).as_ref() == Some(fixed)
            }
            Element::Forward(floating, ports) => after.forwards.remove(*floating, ports),
            Element::ForwardedTo(fixed) => after.forwarded_to.remove(fixed),
            Element::Forwarding(floating) => {
                table.tells_forwarding() && after.forwarding.remove(floating)
            }
            Element::Counted(direction, floating, _) => {
                let counted = &mut after.counted[direction.place()];
                table.counts() && counted.remove(floating).is_some()
            }
            Element::Limited(direction, floating, rate) => {
                after.limited[direction.place()].remove(floating).as_ref() == Some(rate)
            }
            Element::Filtered(floating) => after.filtered.remove(floating),
            Element::Allowed(floating, net) => after
                .allowed
                .get_mut(floating)
                .is_some_and(|nets| nets.remove(net)),
            Element::FixedToUplink(fixed, number) => {
                after.fixed_to_uplink.remove(fixed).as_ref() == Some(number)
            }
            Element::Outside(name) => after.outside.remove(name),
        };
        if !there {
            return fail(element, libc::ENOENT);
        }
    }
    for element in &transaction.add {
        let clash = match element {
            Element::FloatingToFixed(floating, fixed) => after
                .floating_to_fixed
                .insert(*floating, *fixed)
                .is_some_and(|other| other != *fixed),
            Element::FixedToFloating(fixed, floating) => after
                .fixed_to_floating
                .insert(*fixed, *floating)
                .is_some_and(|other| other != *floating),
            Element::RestToFixed(floating, fixed) => after
                .rest_to_fixed
                .insert(*floating, *fixed)
                .is_some_and(|other| other != *fixed),
            Element::Forward(floating, ports) => {
                let clash = clashes(&after, *floating, ports);
                after.forwards.insert(*floating, *ports);
                clash
            }
            Element::ForwardedTo(fixed) => {
                after.forwarded_to.insert(*fixed);
                false
            }
            Element::Forwarding(_) if !table.tells_forwarding() => {
                return fail(element, libc::ENOENT);
            }
            Element::Forwarding(floating) => {
                after.forwarding.insert(*floating);
                false
            }
            Element::Counted(..) if !table.counts() => return fail(element, libc::ENOENT),
            Element::Counted(direction, floating, count) => {
                after.counted[direction.place()].insert(*floating, *count);
                false
            }
            // Another rate is taken, and nothing is changed: worse than an error.
            Element::Limited(direction, floating, rate) => after.limited[direction.place()]
                .insert(*floating, *rate)
                .is_some_and(|other| other != *rate),
            Element::FixedToUplink(fixed, number) => after
                .fixed_to_uplink
                .insert(*fixed, *number)
                .is_some_and(|other| other != *number),
            Element::Filtered(floating) => {
                after.filtered.insert(*floating);
                false
            }
            Element::Allowed(floating, net) => {
                let nets = after.allowed.entry(*floating).or_default();
                let meets = |other: &IpNet| other.contains(net) || net.contains(other);
                let clash = nets.iter().any(|other| meets(other) && other != net);
                nets.insert(*net);
                clash
            }
            Element::Outside(name) => {
                after.outside.insert(name.clone());
                false
            }
        };
        if clash {
            return fail(element, libc::EEXIST);
        }
        if is_overfull(&table, &after) {
            return fail(element, libc::ENFILE);
        }
    }
    Ok(())
}

fn is_overfull(table: &Ruleset, held: &Observed) -> bool {
    let total: u32 = Family::BOTH.iter().map(|family| table.size(*family)).sum();
    debug_assert!(table.sets.iter().any(|set| set.key == DataType::Ipv4));
    let is_range = |element: &PortElement| matches!(element, PortElement::Range { .. });
    let is_full = |family| {
        let Forwarded { ports, ranges } = table.forwards();
        let of_family = held.forwards.iter().filter(|(f, _)| f.family() == family);
        let (in_ranges, in_ports): (Vec<_>, Vec<_>) = of_family.partition(|(_, e)| is_range(e));
        in_ports.len() > ports as usize || in_ranges.len() > ranges as usize
    };
    held.floating_to_fixed.len() > total as usize || Family::BOTH.into_iter().any(is_full)
}

/// Whether the map that the element goes to has its ports already: the same
/// port, or in the map of ranges any that overlaps and is not the very same.
fn clashes(held: &Observed, floating: FloatingIp, element: &PortElement) -> bool {
    held.forwards.of(floating).any(|other| {
        let ((protocol, ports), (others, taken)) = (element.key(), other.key());
        let one_map = matches!(
            (element, other),
            (PortElement::One { .. }, PortElement::One { .. })
                | (PortElement::Range { .. }, PortElement::Range { .. })
        );
        let meet = ports.first() <= taken.last() && taken.first() <= ports.last();
        one_map && protocol == others && meet && other != element
    })
}

impl Flows for FakeFlows {
    fn know(&mut self, _: Vec<IpNet>, _: Vec<AddressRange>) {}

    fn cut(&mut self, cuts: &[Cut]) -> Result<usize, KernelError> {
        self.0.lock().cuts.extend(cuts.iter().cloned());
        Ok(0)
    }

    fn settle(&mut self, _: &Associations) -> Result<usize, KernelError> {
        self.0.lock().settled += 1;
        Ok(0)
    }

    fn cut_late(&mut self) -> Result<bool, KernelError> {
        Ok(false)
    }
}

impl Meter for FakeMeter {
    fn read(
        &mut self,
        addresses: &[FloatingIp],
    ) -> Result<Vec<(FloatingIp, Traffic)>, KernelError> {
        let inner = self.0.operate(Operation::Dump("counters"))?;
        let [incoming, outgoing] = &inner.held.counted;
        let counted = addresses.iter().filter_map(|floating| {
            let traffic = Traffic {
                incoming: *incoming.get(floating)?,
                outgoing: *outgoing.get(floating)?,
            };
            Some((*floating, traffic))
        });
        Ok(counted.collect())
    }
}

impl Neighbours for FakeNeighbours {
    fn announce(&mut self, floating: FloatingIp, _: &Link) -> Result<(), KernelError> {
        self.0.lock().announced.push(floating);
        Ok(())
    }

    fn probe(&mut self, floating: FloatingIp, link: &Link) -> Result<(), KernelError> {
        let mut inner = self.0.lock();
        inner.probed.push(floating);
        if let Some(by) = inner.others.get(&floating).copied() {
            let interface = link.index;
            let speech = Speech::Claims;
            inner.said.push(Heard {
                floating,
                interface,
                by,
                speech,
            });
        }
        Ok(())
    }

    fn hear(&mut self, _: Family) -> Result<bool, KernelError> {
        Ok(true)
    }

    fn listen(
        &mut self,
        wake: BorrowedFd<'_>,
        patience: Option<Duration>,
    ) -> Result<Vec<Heard>, KernelError> {
        let until = patience.map(|patience| Instant::now() + patience);
        loop {
            let said = std::mem::take(&mut self.0.lock().said);
            let left = until.map_or(EAR, |until| until.saturating_duration_since(Instant::now()));
            if !said.is_empty() || left.is_zero() {
                return Ok(said);
            }
            let mut wake = [PollFd::new(wake, PollFlags::POLLIN)];
            match ppoll(
                &mut wake,
                Some(TimeSpec::from_duration(left.min(EAR))),
                None,
            ) {
                Ok(0) => {}
                Ok(_) => return Ok(said),
                Err(error) => return Err(KernelError::new(Operation::Listen, error)),
            }
        }
    }
}

impl Watch for FakeWatch {
    fn next(&mut self) -> Result<Noticed, KernelError> {
        match self.0.recv() {
            Ok(noticed) => Ok(noticed),
            // The kernel in memory is gone, and so is the daemon.
            Err(_) => loop {
                std::thread::park();
            },
        }
    }
}
