//! Start and stop, in order.
//!
//! Everything that can refuse comes first and touches nothing: configuration,
//! user, capabilities, locks. Then privileges are given up: what is opened or
//! made after that is the unprivileged user's. The store is loaded, the kernel
//! made to agree, and only then does anybody get an answer. Stopping leaves the
//! traffic alone.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::future::pending;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::api::{self, Service};
use crate::audit::Who;
use crate::authority::{Authority, Polkit};
use crate::config::{Misfit, Settings, check_against};
use crate::control::{
    Controller, Counters, Handle, Measured, Message, Parts, StartError, Statistics, SystemClock,
};
use crate::given::{self, Given};
use crate::kernel::{
    self, Announcer, ConntrackFlows, FakeKernel, Flows, Hidden, Kernel, KernelError, KernelWatch,
    LinuxKernel, Meter, Neighbours, PacketNeighbours, TableMeter, Watch,
};
use crate::model::{Actor, Via};
use crate::privilege::files::{self, FilesError};
use crate::privilege::{self, PrivilegeError, User};
use crate::reload::Reloader;
use crate::request::Terms;
use crate::store::{SqliteStore, StateDirectory, StoreError};
use crate::supervisor;

/// How the daemon is to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file; `None` for the usual places.
    pub config: Option<PathBuf>,
    /// Where the store is.
    pub state_directory: PathBuf,
    /// Where the varlink socket is.
    pub runtime_directory: PathBuf,
    /// Whom to run as; `None` for the user of the package when root starts it,
    /// else for who starts it.
    pub user: Option<String>,
    /// Whether to serve on the system bus.
    pub dbus: bool,
    /// Whether to run on a kernel in memory.
    pub simulate: bool,
}

/// Why the daemon could not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// What the configuration says does not fit this router.
    #[error("the configuration does not fit this router: {}", lines(.0))]
    Misfit(Vec<Misfit>),
    /// The privileges are not as they should be.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// A directory cannot be made, or not be the user's.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// What the service manager gave cannot be taken.
    #[error("cannot take what the service manager gave (LISTEN_FDS)")]
    Given(#[source] std::io::Error),
    /// The service manager does not keep the packet sockets.
    #[error("cannot have the packet sockets kept")]
    Keep(#[source] std::io::Error),
    /// The varlink socket cannot be had.
    #[error(transparent)]
    Bind(#[from] api::varlink::BindError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The controller did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A thread or the runtime could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// The controller died.
    #[error("the controller has died; traffic goes on as it is")]
    Died,
}

/// The kernel, in the parts that the rooms take.
struct Ground {
    kernel: Box<dyn Kernel>,
    flows: Box<dyn Flows>,
    neighbours: Box<dyn Neighbours>,
    meter: Box<dyn Meter>,
    watch: Box<dyn FnOnce() -> Result<Box<dyn Watch>, KernelError> + Send>,
}

/// Runs the daemon until it is told to stop.
pub fn run(options: &Options) -> Result<(), DaemonError> {
    let settings = Settings::load(options.config.as_deref())?;
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    supervisor::raise_descriptors();
    let user = match options.user.as_deref() {
        // A kernel in memory can be anybody's.
        None if options.simulate => User::oneself(),
        named => User::wanted(named).map_err(PrivilegeError::from)?,
    };
    let Given { varlink, packet } = given::take().map_err(DaemonError::Given)?;
    let given = PacketNeighbours::with(packet);
    let (needed, kept) = match (options.simulate, &given) {
        (true, _) => (&[][..], &[][..]),
        (false, Some(_)) => (&privilege::KEPT[..], &privilege::KEPT[..]),
        (false, None) => (&privilege::NEEDED[..], &privilege::KEPT[..]),
    };
    privilege::require(needed)?;
    let (state_directory, claim) = settle_in(options, &user, varlink)?;
    let neighbours = match (options.simulate, given) {
        (true, _) => None,
        (false, Some(given)) => Some(given),
        (false, None) => Some(PacketNeighbours::open()?),
    };
    let left = privilege::give_up(&user, kept)?;
    files::reach(&options.state_directory, &user)?;
    let socket = claim.listen()?;
    let store = SqliteStore::open_in(state_directory)?;
    let mut ground = match neighbours {
        None => simulated(),
        Some(neighbours) => real(&settings, neighbours)?,
    };
    if !options.simulate {
        let misfits = check_against(&settings.site, &ground.kernel.observe_links()?);
        if !misfits.is_empty() {
            return Err(DaemonError::Misfit(misfits));
        }
    }
    tracing::info!("running as {left}");

    // From here on there are threads.
    crate::logging::keep_flushing().map_err(DaemonError::Thread)?;
    let statistics = Statistics::default();
    let neighbours = Box::new(Measured::new(ground.neighbours, &statistics));
    let meter = Box::new(Measured::new(ground.meter, &statistics));
    let (controller, handle) = Controller::start(Parts {
        store: Box::new(store),
        kernel: ground.kernel,
        flows: ground.flows,
        announcer: Announcer::start(neighbours).map_err(DaemonError::Thread)?,
        clock: Box::new(SystemClock),
        site: settings.site,
        warnings: settings.warnings.iter().map(ToString::to_string).collect(),
        simulated: options.simulate,
        statistics,
    })?;
    let controller = std::thread::Builder::new()
        .name("controller".into())
        .spawn(|| controller.run())
        .map_err(DaemonError::Thread)?;
    watch_kernel((ground.watch)()?, handle.clone()).map_err(DaemonError::Thread)?;

    let service = Service {
        handle: handle.clone(),
        counters: Counters::start(meter).map_err(DaemonError::Thread)?,
        authority: Authority::new(Polkit::on(None)),
        reloader: Reloader::new(handle.clone(), options.config.clone(), options.simulate),
    };
    serve(&socket, &service, options.dbus)?;

    handle.tell(Message::Stop);
    controller.join().map_err(|_| DaemonError::Died)
}

/// Opens the packet sockets for a daemon that may not, and has them kept.
pub fn store_packet_socket() -> Result<(), DaemonError> {
    let neighbours = PacketNeighbours::open()?;
    let sockets: Vec<_> = neighbours.sockets().collect();
    supervisor::store_packet_sockets(&sockets).map_err(DaemonError::Keep)
}

/// Makes the directories, locks them, and hands them over to the user. The
/// locks are taken first: what another daemon uses is not touched.
fn settle_in(
    options: &Options,
    user: &User,
    varlink: Option<OwnedFd>,
) -> Result<(StateDirectory, api::varlink::Claim), DaemonError> {
    // Both may be one directory.
    let is_ours = |name: &OsStr| StateDirectory::owns(name) || api::varlink::owns(name);
    let (state, runtime) = (&options.state_directory, &options.runtime_directory);
    // Only root can hand over. Others find out whether they can write there.
    let from_root = User::oneself().is_root();
    for (path, mode) in [(state, 0o700), (runtime, 0o755)] {
        files::make(path, mode)?;
        if from_root {
            files::check(path, user, is_ours)?;
        }
    }
    let claim = api::varlink::claim(runtime, varlink)?;
    let directory = StateDirectory::lock(state)?;
    if from_root {
        files::hand_over(state, user, is_ours)?;
        files::hand_over(runtime, user, is_ours)?;
    }
    Ok((directory, claim))
}

/// Serves both buses until a signal asks to stop or the controller dies.
fn serve(socket: &api::varlink::Socket, service: &Service, dbus: bool) -> Result<(), DaemonError> {
    let Service {
        handle, reloader, ..
    } = service;
    // The fronts wait for others nearly all the time; two threads are plenty.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(DaemonError::Thread)?;
    runtime.block_on(async {
        let listener = socket.listener().map_err(DaemonError::Thread)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            // The sender is used or dropped; either way it is over.
            let _ = stopped.await;
        };
        let varlink = tokio::spawn(api::varlink::serve(
            listener,
            service.clone(),
            Hidden::from_environment().peer_pidfd,
            stopped,
        ));
        let (arrived, arrival) = oneshot::channel();
        let bus = dbus.then(|| tokio::spawn(on_the_bus(service.clone(), arrived)));
        let signals = asked_to_stop().map_err(DaemonError::Thread)?;
        let hangups = signal(SignalKind::hangup()).map_err(DaemonError::Thread)?;
        let ready = async {
            if dbus {
                wait_for_the_bus(arrival).await;
            }
            supervisor::ready(handle);
            tracing::info!("ready");
            pending::<Infallible>().await
        };
        let outcome = tokio::select! {
            () = signals => Ok(()),
            () = handle.closed() => Err(DaemonError::Died),
            never = reload_when_asked(hangups, reloader) => match never {},
            never = ready => match never {},
        };
        supervisor::stopping();
        tracing::info!("stopping; traffic goes on");
        let _ = stop.send(());
        if let Some(bus) = bus {
            bus.abort();
        }
        let _ = varlink.await;
        outcome
    })
}

/// How long a bus that does not answer may delay the start. One that is alive
/// answers within milliseconds; systemd waits 90 s for us (DefaultTimeoutStartSec).
const BUS_PATIENCE: Duration = Duration::from_secs(5);

/// Waits until we have our name on the bus, or know that we do not get it now:
/// who waited for the start can call at once.
async fn wait_for_the_bus(arrival: oneshot::Receiver<()>) {
    if timeout(BUS_PATIENCE, arrival).await.is_err() {
        let waited = BUS_PATIENCE.as_secs();
        tracing::warn!("the system bus has not answered for {waited} s; starting without it");
    }
}

/// Serves the system bus, and has the status say when it cannot be reached.
/// `arrived` is used when it is known for the first time whether it can.
async fn on_the_bus(service: Service, arrived: oneshot::Sender<()>) {
    let (problem, mut problems) = watch::channel(None);
    let reporter = service.handle.clone();
    let report = async move {
        let mut arrived = Some(arrived);
        while problems.changed().await.is_ok() {
            let text = problems.borrow_and_update().clone();
            let handle = reporter.clone();
            let tell = move || handle.tell(Message::Problem { part: "dbus", text });
            if tokio::task::spawn_blocking(tell).await.is_err() {
                return;
            }
            // Who asks for the status once we are ready reads what is wrong.
            if let Some(arrived) = arrived.take() {
                let _ = arrived.send(());
            }
        }
    };
    tokio::select! {
        never = api::dbus::serve(api::dbus::Bus::System, service, problem) => match never {},
        () = report => (),
    }
}

/// Reads the configuration again at each SIGHUP.
async fn reload_when_asked(mut hangups: Signal, reloader: &Reloader) -> Infallible {
    let own = Who {
        actor: Actor {
            uid: nix::unistd::getuid().as_raw(),
            via: Via::Daemon,
        },
        caller: "SIGHUP".into(),
    };
    while hangups.recv().await.is_some() {
        // What came of it is in the log.
        let _ = reloader.reload(&own, Terms::default()).await;
    }
    pending().await
}

/// Waits for SIGTERM or SIGINT.
fn asked_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
    })
}

/// Passes on what somebody else does, for as long as the daemon runs.
fn watch_kernel(mut watch: Box<dyn Watch>, handle: Handle) -> std::io::Result<()> {
    handle.tell(Message::Watching);
    std::thread::Builder::new()
        .name("watch".into())
        .spawn(move || {
            loop {
                match watch.next() {
                    Ok(noticed) => handle.tell(Message::Noticed(noticed)),
                    Err(error) => {
                        handle.statistics().kernel_error(&error);
                        let text = format!(
                            "edits by others are no longer noticed: {error}; restart ipfloaterd"
                        );
                        handle.tell(Message::Problem {
                            part: "watch",
                            text: Some(text),
                        });
                        return;
                    }
                }
            }
        })?;
    Ok(())
}

/// What the configuration says, held against this router as it is.
pub fn check_config(config: Option<&Path>) -> Result<(Settings, Vec<Misfit>), DaemonError> {
    let settings = Settings::load(config)?;
    let misfits = check_against(&settings.site, &kernel::observe_links()?);
    Ok((settings, misfits))
}

fn lines(misfits: &[Misfit]) -> String {
    misfits
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

fn real(settings: &Settings, neighbours: PacketNeighbours) -> Result<Ground, DaemonError> {
    let hidden = Hidden::from_environment();
    let kernel = LinuxKernel::open(hidden)?;
    let ports = kernel.ports();
    let site = &settings.site;
    let pools = site
        .pools
        .iter()
        .flat_map(|pool| pool.ranges.iter().copied())
        .collect();
    Ok(Ground {
        flows: Box::new(ConntrackFlows::open(
            site.inside(),
            pools,
            !kernel.features().conntrack_filter,
        )?),
        neighbours: Box::new(neighbours),
        meter: Box::new(TableMeter::open()?),
        watch: Box::new(move || Ok(Box::new(KernelWatch::open(ports)?))),
        kernel: Box::new(kernel),
    })
}

fn simulated() -> Ground {
    let kernel = FakeKernel::simulated();
    Ground {
        flows: kernel.flows(),
        neighbours: kernel.neighbours(),
        meter: kernel.meter(),
        watch: {
            let watch = kernel.watch();
            Box::new(move || Ok(watch))
        },
        kernel: Box::new(kernel),
    }
}
