//! What somebody else does is noticed; what we do is not.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use ipfloater::dataplane::{Element, Ruleset, Transaction};
use ipfloater::kernel::{Hidden, Kernel, KernelWatch, LinuxKernel, Noticed, Watch};
use ipfloater::model::Site;

use super::Lab;
use super::namespace::PATIENCE;

/// How long there must be nothing for there to be nothing more.
const QUIET: Duration = Duration::from_millis(600);

/// A watch in a thread of its own, which ends with the test process.
struct Watching(Receiver<Noticed>);

impl Watching {
    fn start(lab: &Lab, kernel: &LinuxKernel) -> Self {
        let ports = kernel.ports();
        let mut watch = lab
            .router
            .run(|| KernelWatch::open(ports))
            .expect("the sockets can be opened");
        let (sender, noticed) = channel();
        std::thread::spawn(move || {
            while let Ok(noticed) = watch.next() {
                if sender.send(noticed).is_err() {
                    break;
                }
            }
        });
        let watching = Self(noticed);
        // The kernel may still be busy with the interfaces.
        watching.settle();
        watching
    }

    /// What is noticed until nothing more is.
    fn settle(&self) -> Vec<Noticed> {
        let deadline = Instant::now() + PATIENCE;
        let mut noticed = Vec::new();
        loop {
            assert!(Instant::now() < deadline, "it does not end: {noticed:?}");
            match self.0.recv_timeout(QUIET) {
                Ok(next) => noticed.push(next),
                Err(RecvTimeoutError::Timeout) => return noticed,
                Err(RecvTimeoutError::Disconnected) => panic!("the watch has failed"),
            }
        }
    }
}

/// A table that everybody may alter, as on an older kernel.
fn unowned(lab: &Lab) -> LinuxKernel {
    lab.kernel_without(Hidden {
        table_owner: true,
        ..Hidden::default()
    })
}

fn build() -> Transaction {
    let site = Site {
        pools: Vec::new(),
        private: Vec::new(),
        guard: true,
        block_free: true,
        counters: true,
        untranslated: Default::default(),
        uplink_numbers: Default::default(),
        rest: std::time::Duration::ZERO,
        limits: Default::default(),
    };
    Transaction {
        rebuild: Some(Ruleset::new(&site, |_| 1_024)),
        add: vec![Element::Outside("wan0".parse().expect("a constant"))],
        ..Transaction::default()
    }
}

#[test]
fn what_somebody_else_does_is_noticed() {
    let lab = Lab::new();
    lab.router.ip("link add lan0 type bridge\nlink set lan0 up");
    let mut kernel = unowned(&lab);
    kernel.transact(&build()).expect("the table can be built");
    assert!(kernel.present(&lab.on_wan()).is_empty());
    let watching = Watching::start(&lab, &kernel);

    let ip = |commands: &'static str| move |lab: &Lab| lab.router.ip(commands);
    let nft = |commands: &'static str| move |lab: &Lab| lab.router.nft(commands);
    type Deed = Box<dyn Fn(&Lab)>;
    let deeds: Vec<(&str, Noticed, Deed)> = vec![
        (
            "a foreign address comes",
            Noticed::Links,
            Box::new(ip("addr add 198.51.100.20/32 dev wan0")),
        ),
        (
            "it goes",
            Noticed::Links,
            Box::new(ip("addr del 198.51.100.20/32 dev wan0")),
        ),
        (
            "a default route comes",
            Noticed::Links,
            Box::new(ip("route add default via 198.51.100.1")),
        ),
        (
            "our route is deleted",
            Noticed::Links,
            Box::new(ip("route del local 198.51.100.10 table local")),
        ),
        (
            "our IPv6 address is deleted",
            Noticed::Links,
            Box::new(ip("addr del 2001:db8::10/128 dev wan0")),
        ),
        (
            "an interface goes down",
            Noticed::Links,
            Box::new(ip("link set lan0 down")),
        ),
        (
            "an interface is removed",
            Noticed::Links,
            Box::new(ip("link del lan0")),
        ),
        (
            "a new one comes",
            Noticed::Links,
            Box::new(ip("link add lan1 type bridge")),
        ),
        (
            "an element is deleted",
            Noticed::Table,
            Box::new(nft("delete element inet ipfloater outside { wan0 }")),
        ),
        (
            "a rule is added",
            Noticed::Table,
            Box::new(nft("add rule inet ipfloater guard_local accept")),
        ),
        (
            "the table is deleted",
            Noticed::Table,
            Box::new(nft("delete table inet ipfloater")),
        ),
    ];
    for (what, expected, deed) in deeds {
        deed(&lab);
        let noticed = watching.settle();
        assert!(noticed.contains(&expected), "{what}: {noticed:?}");
        let other = noticed.iter().find(|noticed| **noticed != expected);
        assert_eq!(other, None, "{what}");
    }
}

#[test]
fn carrier_that_comes_back_is_noticed() {
    let lab = Lab::new();
    let kernel = lab.kernel();
    let watching = Watching::start(&lab, &kernel);
    let index = lab.link().index;
    // What an interface was like is known from its first notification.
    lab.router.ip("link set wan0 mtu 1400");
    watching.settle();

    lab.outside.ip("link set eth0 down");
    assert_eq!(watching.settle(), [Noticed::Links]);
    lab.outside.ip("link set eth0 up");

    let noticed = watching.settle();
    assert!(noticed.contains(&Noticed::Carrier(index)), "{noticed:?}");
    assert!(noticed.contains(&Noticed::Links), "{noticed:?}");
}

#[test]
fn what_does_not_concern_us_is_not_noticed() {
    let lab = Lab::new();
    let mut kernel = unowned(&lab);
    kernel.transact(&build()).expect("the table can be built");
    let watching = Watching::start(&lab, &kernel);

    lab.router.ip("route add 192.0.2.0/24 via 198.51.100.1\n\
         route add 2001:db8:9::/48 via 2001:db8::1\n\
         route add local 192.0.2.7/32 dev wan0 table local\n\
         neigh replace 198.51.100.9 lladdr 02:00:00:00:00:99 dev wan0");
    lab.router
        .nft("add table inet somebody\nadd chain inet somebody elses");

    assert_eq!(watching.settle(), []);
}

#[test]
fn what_we_do_ourselves_is_not_noticed() {
    let lab = Lab::new();
    let mut kernel = unowned(&lab);
    let watching = Watching::start(&lab, &kernel);
    let on_wan = lab.on_wan();

    kernel.transact(&build()).expect("the table can be built");
    assert_eq!(watching.settle(), [], "the table");
    assert!(kernel.present(&on_wan).is_empty());
    assert_eq!(watching.settle(), [], "addresses presented");
    // The kernel does not say who took an IPv6 address away.
    assert!(kernel.withdraw(&on_wan[..1]).is_empty());
    assert_eq!(watching.settle(), [], "an address withdrawn");
}
