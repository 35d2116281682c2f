//! The kernel, with what is counted of it.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::dataplane::{Associations, Cut, IfIndex, Link, Observed, Rerouting, Transaction};
use crate::kernel::{Features, Flows, Heard, Kernel, KernelError, Meter, Neighbours, Traffic};
use crate::model::{AddressRange, Family, FloatingIp};

use super::Statistics;

/// A part of the kernel whose errors, and where it matters its time, are counted.
pub struct Measured<T> {
    part: T,
    statistics: Statistics,
}

impl<T> Measured<T> {
    /// Counts into these statistics.
    pub fn new(part: T, statistics: &Statistics) -> Self {
        Self {
            part,
            statistics: statistics.clone(),
        }
    }

    fn timed<R>(&mut self, what: &'static str, act: impl FnOnce(&mut T) -> R) -> R {
        let begun = Instant::now();
        let done = act(&mut self.part);
        self.statistics.kernel(what, begun.elapsed());
        done
    }

    fn told<R>(&self, done: Result<R, KernelError>) -> Result<R, KernelError> {
        done.inspect_err(|error| self.statistics.kernel_error(error))
    }

    fn tell_each<'a>(&self, errors: impl IntoIterator<Item = &'a KernelError>) {
        errors
            .into_iter()
            .for_each(|error| self.statistics.kernel_error(error));
    }
}

impl Kernel for Measured<Box<dyn Kernel>> {
    fn observe(&mut self) -> Result<Observed, KernelError> {
        let done = self.timed("observe", |kernel| kernel.observe());
        self.told(done)
    }

    fn observe_links(&mut self) -> Result<Observed, KernelError> {
        let done = self.timed("observe_links", |kernel| kernel.observe_links());
        self.told(done)
    }

    fn transact(&mut self, transaction: &Transaction) -> Result<(), KernelError> {
        let done = self.timed("transact", |kernel| kernel.transact(transaction));
        self.told(done)
    }

    fn generation(&mut self) -> Result<u32, KernelError> {
        let done = self.part.generation();
        self.told(done)
    }

    fn present(&mut self, addresses: &[(FloatingIp, IfIndex)]) -> Vec<(FloatingIp, KernelError)> {
        let done = self.timed("present", |kernel| kernel.present(addresses));
        self.tell_each(done.iter().map(|(_, error)| error));
        done
    }

    fn withdraw(&mut self, addresses: &[(FloatingIp, IfIndex)]) -> Vec<(FloatingIp, KernelError)> {
        let done = self.timed("withdraw", |kernel| kernel.withdraw(addresses));
        self.tell_each(done.iter().map(|(_, error)| error));
        done
    }

    fn reroute(&mut self, rerouting: &Rerouting) -> Vec<KernelError> {
        let done = self.timed("reroute", |kernel| kernel.reroute(rerouting));
        self.tell_each(&done);
        done
    }

    fn features(&self) -> Features {
        self.part.features()
    }
}

impl Flows for Measured<Box<dyn Flows>> {
    fn know(&mut self, private: Vec<IpNet>, pools: Vec<AddressRange>) {
        self.part.know(private, pools);
    }

    fn cut(&mut self, cuts: &[Cut]) -> Result<usize, KernelError> {
        let done = self.timed("cut", |flows| flows.cut(cuts));
        self.told(done)
    }

    fn settle(&mut self, associations: &Associations) -> Result<usize, KernelError> {
        let done = self.part.settle(associations);
        self.told(done)
    }

    fn cut_late(&mut self) -> Result<bool, KernelError> {
        let done = self.part.cut_late();
        self.told(done)
    }
}

impl Neighbours for Measured<Box<dyn Neighbours>> {
    fn announce(&mut self, floating: FloatingIp, link: &Link) -> Result<(), KernelError> {
        let done = self.part.announce(floating, link);
        self.told(done)
    }

    fn probe(&mut self, floating: FloatingIp, link: &Link) -> Result<(), KernelError> {
        let done = self.part.probe(floating, link);
        self.told(done)
    }

    fn hear(&mut self, family: Family) -> Result<bool, KernelError> {
        let done = self.part.hear(family);
        self.told(done)
    }

    fn listen(
        &mut self,
        wake: BorrowedFd<'_>,
        patience: Option<Duration>,
    ) -> Result<Vec<Heard>, KernelError> {
        let done = self.part.listen(wake, patience);
        self.told(done)
    }
}

impl Meter for Measured<Box<dyn Meter>> {
    fn read(
        &mut self,
        addresses: &[FloatingIp],
    ) -> Result<Vec<(FloatingIp, Traffic)>, KernelError> {
        let done = self.timed("read_counters", |meter| meter.read(addresses));
        self.told(done)
    }
}
