//! A controller over a kernel in memory and a real store, for tests.
#![allow(dead_code, reason = "each test crate uses a part of it")]

mod policy;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ipfloater::authority::{Authority, Authorized, Caller, Origin, Subject};
use ipfloater::control::{
    Clock, Controller, Handle, Message, Parts, Rejection, Statistics, SystemClock,
};
use ipfloater::kernel::{Announcer, FakeKernel};
use ipfloater::model::{AddressRange, Alteration, Limits, Pool, PoolName, Site, Timestamp};
use ipfloater::request::{
    Allocate, Associate, Confirm, Disassociate, ForwardPorts, Outcome, Release, Request, Revert,
    Terms, UnforwardPorts, Update,
};
use ipfloater::store::SqliteStore;
use policy::Defaults;

/// A site with two addresses of each family and everything private that the
/// tests use.
pub(crate) fn site() -> Site {
    let range = |first: &str, last: &str| {
        AddressRange::new(first.parse().unwrap(), last.parse().unwrap())
            .expect("the range is a constant")
    };
    Site {
        pools: vec![Pool {
            name: PoolName::default_pool(),
            ranges: vec![
                range("198.51.100.7", "198.51.100.8"),
                range("2001:db8::7", "2001:db8::8"),
            ],
            interface: None,
            routed: false,
            announcing: Default::default(),
            hardware_addresses: Default::default(),
            gateways: Vec::new(),
        }],
        private: vec!["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()],
        guard: true,
        block_free: true,
        counters: true,
        untranslated: Default::default(),
        uplink_numbers: Default::default(),
        rest: std::time::Duration::ZERO,
        limits: Limits::default(),
    }
}

/// A clock that stands still until it is set. Copies are the same clock.
#[derive(Clone, Debug)]
pub(crate) struct TestClock(Arc<Mutex<(i64, Duration)>>, Arc<Mutex<u32>>);

impl TestClock {
    /// A clock at this moment.
    pub(crate) fn at(now: i64) -> Self {
        let clocks = (now, Duration::from_secs(1_000));
        Self(Arc::new(Mutex::new(clocks)), Arc::default())
    }

    /// Time passes.
    pub(crate) fn pass(&self, seconds: u32) {
        let mut clocks = self.0.lock().unwrap();
        clocks.0 += i64::from(seconds);
        clocks.1 += Duration::from_secs(seconds.into());
    }

    /// The system is started anew.
    pub(crate) fn reboot(&self) {
        *self.1.lock().unwrap() += 1;
        self.0.lock().unwrap().1 = Duration::from_secs(10);
    }

    /// Somebody sets the wall clock, by so many seconds.
    pub(crate) fn set_by(&self, seconds: i64) {
        self.0.lock().unwrap().0 += seconds;
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.lock().unwrap().0)
    }

    fn uptime(&self) -> Duration {
        self.0.lock().unwrap().1
    }

    fn boot(&self) -> String {
        self.1.lock().unwrap().to_string()
    }
}

/// A running controller.
pub(crate) struct Running {
    pub(crate) handle: Handle,
    controller: JoinHandle<()>,
    runtime: tokio::runtime::Runtime,
}

impl Running {
    /// Starts a controller on a store and a kernel, as the daemon does.
    pub(crate) fn start(kernel: &FakeKernel, state_directory: &Path) -> Self {
        Self::try_start(kernel, state_directory, site()).expect("the controller starts")
    }

    /// The same with a clock of the test's.
    pub(crate) fn start_at(kernel: &FakeKernel, state_directory: &Path, clock: &TestClock) -> Self {
        let clock = Box::new(clock.clone());
        Self::try_start_at(kernel, state_directory, site(), clock).expect("the controller starts")
    }

    pub(crate) fn try_start(
        kernel: &FakeKernel,
        state_directory: &Path,
        site: Site,
    ) -> Result<Self, String> {
        Self::try_start_at(kernel, state_directory, site, Box::new(SystemClock))
    }

    fn try_start_at(
        kernel: &FakeKernel,
        state_directory: &Path,
        site: Site,
        clock: Box<dyn Clock>,
    ) -> Result<Self, String> {
        let store = SqliteStore::open(state_directory).map_err(|error| error.to_string())?;
        let (controller, handle) = Controller::start(Parts {
            store: Box::new(store),
            kernel: Box::new(kernel.clone()),
            flows: kernel.flows(),
            announcer: Announcer::start(kernel.neighbours()).expect("a thread starts"),
            clock,
            site,
            warnings: Vec::new(),
            simulated: true,
            statistics: Statistics::default(),
        })
        .map_err(|error| error.to_string())?;
        let controller = std::thread::spawn(|| controller.run());
        let mut watch = kernel.watch();
        let watcher = handle.clone();
        watcher.tell(Message::Watching);
        std::thread::spawn(move || {
            while let Ok(noticed) = watch.next() {
                watcher.tell(Message::Noticed(noticed));
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Ok(Running {
            handle,
            controller,
            runtime,
        })
    }

    /// Has root's request carried out.
    pub(crate) fn ask(&self, request: Request) -> Result<Outcome, Rejection> {
        self.ask_on(request, Terms::default())
    }

    /// Has root's request carried out on these terms.
    pub(crate) fn ask_on(&self, request: Request, terms: Terms) -> Result<Outcome, Rejection> {
        let asked = async {
            let request = of_root(&self.handle, request).await;
            self.handle.submit(request, terms).await
        };
        self.runtime.block_on(asked)
    }

    /// Stops it as SIGTERM does.
    pub(crate) fn stop(self) {
        self.handle.tell(Message::Stop);
        self.controller
            .join()
            .expect("the controller does not panic");
    }

    /// Waits until something holds of what is shown, or fails with what is.
    pub(crate) fn wait_until(
        &self,
        what: &str,
        holds: impl Fn(&ipfloater::control::Snapshot) -> bool,
    ) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds(&self.handle.snapshot()) {
            assert!(
                Instant::now() < deadline,
                "{what}: {:?}",
                self.handle.snapshot()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The request, made by root.
pub(crate) async fn of_root(handle: &Handle, request: Request) -> Authorized<Request> {
    let root = Caller {
        subject: Subject {
            uid: 0,
            origin: Origin::Peer {
                pid: 1,
                process: None,
            },
        },
        interactive: false,
    };
    let snapshot = handle.snapshot();
    Authority::new(Defaults::default())
        .authorize(&root, request, &snapshot.state, &snapshot.site)
        .await
        .expect("root may")
}

pub(crate) fn allocate(floating: &str) -> Request {
    Request::Allocate(Allocate {
        floating: Some(floating.parse().unwrap()),
        pool: None,
        owner: None,
        ..Allocate::default()
    })
}

pub(crate) fn associate(floating: &str, fixed: &str) -> Request {
    Request::Associate(Associate {
        floating: Some(floating.parse().unwrap()),
        fixed: fixed.parse().unwrap(),
        pool: None,
        owner: None,
        reassociate: true,
        keep_established: false,
    })
}

pub(crate) fn disassociate(address: &str) -> Request {
    Request::Disassociate(Disassociate {
        address: address.parse().unwrap(),
    })
}

pub(crate) fn forward(floating: &str, forward: &str) -> Request {
    Request::Forward(ForwardPorts {
        floating: floating.parse().unwrap(),
        forward: forward.parse().unwrap(),
        reassociate: true,
    })
}

pub(crate) fn unforward(floating: &str, ports: &str) -> Request {
    let (ports, protocol) = ports.split_once('/').unwrap();
    Request::Unforward(UnforwardPorts {
        floating: floating.parse().unwrap(),
        protocol: protocol.parse().unwrap(),
        ports: ports.parse().unwrap(),
    })
}

pub(crate) fn update(address: &str, alteration: Alteration) -> Request {
    Request::Update(Update {
        address: address.parse().unwrap(),
        alteration: alteration.into(),
    })
}

pub(crate) fn release(address: &str) -> Request {
    Request::Release(Release {
        address: address.parse().unwrap(),
    })
}

pub(crate) fn confirm(address: &str) -> Request {
    Request::Confirm(Confirm {
        address: address.parse().unwrap(),
    })
}

pub(crate) fn revert(address: &str) -> Request {
    Request::Revert(Revert {
        address: address.parse().unwrap(),
    })
}

/// The clocks of rooms begin here.
pub(crate) const START: i64 = 1_800_000_000;

/// A daemon's surroundings that outlive it, with a clock of the test's.
pub(crate) struct Room {
    pub(crate) kernel: FakeKernel,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) clock: TestClock,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self {
            kernel: FakeKernel::simulated(),
            directory: tempfile::TempDir::new().unwrap(),
            clock: TestClock::at(START),
        }
    }

    pub(crate) fn start(&self) -> Running {
        Running::start_at(&self.kernel, self.directory.path(), &self.clock)
    }
}
