//! What a request, a start and an address cost the daemon, each against a limit
//! or a peer in the same run:
//!
//! - associate through varlink, durable, with 0, 1,000 and 100,000 addresses
//!   already there, against (a) one durable SQLite commit of one row plus one
//!   netlink batch of two elements, and (b) a `nft` process that adds the same
//!   two elements; both on top of as many;
//! - a start with 100,000 associations in the store, with an empty kernel
//!   against a batch that writes the same elements, and with a full one against
//!   a dump of them; without and with presence (a route for each address);
//! - resident memory, idle and with 100,000.
//!
//! Medians of alternating rounds.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::lab::{self, Lab, median, quartiles};
use ipfloater::client::Client;
use ipfloater::dataplane::{Element, Ruleset, Transaction};
use ipfloater::kernel::{Hidden, Kernel, LinuxKernel};
use ipfloater::model::{
    Actor, AddressRange, Change, Event, EventKind, FixedIp, FloatingIp, Pool, PoolName, Revision,
    Sequence, Site, Timestamp, Via,
};
use ipfloater::store::{SqliteStore, Store};
use serde_json::{Value, json};

/// How many addresses there are at the most.
const MANY: u32 = 100_000;

/// Measures requests, starts and memory.
pub(crate) fn measure_all(rounds: usize) {
    println!("medians of {rounds} alternating rounds, [quartiles] of the ratios");
    for addresses in [0, 1_000, MANY] {
        associate(addresses, rounds);
    }
    for presence in [false, true] {
        start(presence);
    }
}

fn associate(addresses: u32, rounds: usize) {
    let (ours, peer) = (Lab::new(), Lab::new());
    let directory = Directory::new();
    directory.seed(addresses);
    let daemon = Daemon::start(&ours, &directory, true);
    let mut client = daemon.client();

    let mut kernel = peer.in_router(|| {
        let mut kernel = LinuxKernel::open(Hidden::default()).expect("a kernel with nf_tables");
        kernel
            .transact(&table(addresses))
            .expect("the kernel takes the table");
        kernel
    });
    peer.in_router(|| lab::nft(&peer_table(addresses)));
    let limit = plain_database(&directory, addresses);

    let (mut associate, mut commit, mut process) = (vec![], vec![], vec![]);
    for round in 0..rounds {
        let host = MANY + u32::try_from(round).expect("few rounds");
        associate.push(timed(|| {
            let (floating, fixed) = (floating(host).to_string(), fixed(host).to_string());
            let parameters = json!({"floating_ip": floating, "fixed_address": fixed});
            client
                .call::<Value>("Associate", parameters)
                .expect("root may");
        }));
        commit.push(timed(|| {
            limit
                .execute(
                    "INSERT INTO pair VALUES (?1, ?2)",
                    [floating(host).to_string(), fixed(host).to_string()],
                )
                .expect("the disk takes it");
            let add = pair(host).to_vec();
            kernel
                .transact(&Transaction {
                    add,
                    ..Transaction::default()
                })
                .expect("the kernel takes it");
        }));
        let (floating, fixed) = (floating(host), fixed(host));
        let there = format!("add element inet peer a {{ {floating} : {fixed} }}");
        let back = format!("add element inet peer b {{ {fixed} : {floating} }}");
        process.push(
            peer.in_router(|| timed(|| drop(lab::run("nft", &[&there, ";", &back]).expect("nft")))),
        );
    }
    println!(
        "associate among {addresses:>6}: {:.2} ms; x commit and batch ({:.2} ms): {}; x nft ({:.2} ms): {}",
        median(&associate) * 1e3,
        median(&commit) * 1e3,
        ratios(&associate, &commit),
        median(&process) * 1e3,
        ratios(&associate, &process),
    );
    println!("  resident: {:.1} MB", daemon.resident());
}

fn start(presence: bool) {
    let with = if presence {
        "with presence"
    } else {
        "without presence"
    };
    let (mut empty, mut written, mut full, mut dumped) = (vec![], vec![], vec![], vec![]);
    let mut resident = 0.0;
    for _ in 0..5 {
        let (ours, peer) = (Lab::new(), Lab::new());
        let directory = Directory::new();
        directory.seed(MANY);
        let transaction = table(MANY);
        let mut kernel = peer
            .in_router(|| LinuxKernel::open(Hidden::default()).expect("a kernel with nf_tables"));
        written.push(timed(|| {
            kernel
                .transact(&transaction)
                .expect("the kernel takes the table")
        }));
        empty.push(timed(|| Daemon::start(&ours, &directory, presence).kill()));
        dumped.push(timed(|| {
            drop(kernel.observe().expect("the kernel lists the table"))
        }));
        let mut daemon = None;
        full.push(timed(|| {
            daemon = Some(Daemon::start(&ours, &directory, presence))
        }));
        resident = daemon.as_ref().map_or(0.0, Daemon::resident);
    }
    println!(
        "start {with}, empty kernel: {:.0} ms; x batch of the same elements ({:.0} ms): {}",
        median(&empty) * 1e3,
        median(&written) * 1e3,
        ratios(&empty, &written)
    );
    println!(
        "start {with}, full kernel: {:.0} ms; x dump of the same elements ({:.0} ms): {}",
        median(&full) * 1e3,
        median(&dumped) * 1e3,
        ratios(&full, &dumped)
    );
    println!("  resident with {MANY}: {resident:.1} MB");
}

/// A daemon in a router's namespace; it goes with the value.
struct Daemon {
    child: Child,
    socket: PathBuf,
}

impl Daemon {
    /// Starts it, and waits until it answers.
    fn start(lab: &Lab, directory: &Directory, presence: bool) -> Self {
        let config = directory.path().join("bench.conf");
        let routed = if presence { "no" } else { "yes" };
        let text = format!(
            "[IPFLOATER]\nIP_POOL = 198.18.0.1-198.19.255.254\nPRIVATE_IP_RANGES = 10.0.0.0/8\n\
             OUTSIDE_INTERFACE = {}\nROUTED = {routed}\nPROBE = no\n",
            lab::OUTSIDE
        );
        std::fs::write(&config, text).expect("the directory is ours");
        let runtime = directory.path().join("run");
        let child = lab.in_router(|| {
            Command::new(env!("CARGO_BIN_EXE_ipfloaterd"))
                // Nobody else may get to where the build is.
                .args(["--user", "root", "--no-dbus", "--config"])
                .arg(&config)
                .arg("--state-directory")
                .arg(directory.state())
                .arg("--runtime-directory")
                .arg(&runtime)
                .env("IPFLOATER_LOG", "error")
                .stderr(Stdio::inherit())
                .spawn()
                .expect("the daemon was built")
        });
        let daemon = Self {
            child,
            socket: runtime.join("org.ipfloater"),
        };
        drop(
            daemon
                .client()
                .call::<Value>("GetVersion", json!({}))
                .expect("it answers"),
        );
        daemon
    }

    fn client(&self) -> Client {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            match Client::connect(&self.socket) {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// As kill -9: what is in the kernel stays.
    fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// What `VmRSS` of proc_pid_status(5) says, in MB.
    fn resident(&self) -> f64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("it has memory");
        let kilobytes: f64 = line
            .split_whitespace()
            .nth(1)
            .expect("a number")
            .parse()
            .expect("a number");
        kilobytes * 1024.0 / 1e6
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory on the disk that the build is on; it goes with the value.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Self(
            tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build directory is ours"),
        )
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// The daemon's own one in it.
    fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Puts associations into the store.
    fn seed(&self, addresses: u32) {
        std::fs::create_dir(self.state()).expect("the directory is ours");
        let mut store = SqliteStore::open(&self.state()).expect("the disk takes a store");
        let mut events = Vec::new();
        for host in 0..addresses {
            let (floating, fixed) = (floating(host), fixed(host));
            let pool = PoolName::default_pool();
            let changes = [
                Change::Allocate {
                    floating,
                    pool,
                    owner: 0,
                },
                Change::Associate {
                    floating,
                    fixed,
                    previous: None,
                },
            ];
            for change in changes {
                events.push(Event {
                    sequence: Sequence(events.len() as u64 + 1),
                    revision: Some(Revision(1)),
                    at: Timestamp(0),
                    actor: Actor {
                        uid: 0,
                        via: Via::Varlink,
                    },
                    kind: EventKind::Changed(change),
                });
            }
        }
        store
            .commit(Revision(0), &events)
            .expect("the store takes them");
    }
}

/// The limit of a durable commit: one row in a table of two columns, with the
/// settings of the store.
fn plain_database(directory: &Directory, rows: u32) -> rusqlite::Connection {
    let mut database =
        rusqlite::Connection::open(directory.path().join("limit.db")).expect("the disk takes it");
    database
        .pragma_update(None, "journal_mode", "WAL")
        .expect("SQLite has it");
    database
        .pragma_update(None, "synchronous", "FULL")
        .expect("SQLite has it");
    database
        .execute("CREATE TABLE pair (a TEXT PRIMARY KEY, b TEXT)", [])
        .expect("it is empty");
    let transaction = database.transaction().expect("nobody else has it");
    for host in 0..rows {
        transaction
            .execute(
                "INSERT INTO pair VALUES (?1, ?2)",
                [floating(host).to_string(), fixed(host).to_string()],
            )
            .expect("the keys differ");
    }
    transaction.commit().expect("the disk takes it");
    database
}

/// Our table with so many associations.
fn table(associations: u32) -> Transaction {
    let range = AddressRange::new(floating(0).ip(), floating(2 * MANY).ip()).expect("a range");
    let pool = Pool {
        name: PoolName::default_pool(),
        ranges: vec![range],
        interface: None,
        routed: true,
        announcing: Default::default(),
        hardware_addresses: Default::default(),
        gateways: Vec::new(),
    };
    let site = Site {
        pools: vec![pool],
        private: vec![],
        guard: true,
        block_free: true,
        counters: true,
        untranslated: Default::default(),
        uplink_numbers: Default::default(),
        rest: std::time::Duration::ZERO,
        limits: Default::default(),
    };
    let add = (0..associations).flat_map(pair).collect();
    Transaction {
        rebuild: Some(Ruleset::new(&site, |_| Ruleset::size_for(131_072))),
        reshape: None,
        pool: Some(vec![range]),
        uplinks: None,
        remove: vec![],
        add,
    }
}

fn pair(host: u32) -> [Element; 2] {
    let (floating, fixed) = (floating(host), fixed(host));
    [
        Element::FloatingToFixed(floating, fixed),
        Element::FixedToFloating(fixed, floating),
    ]
}

/// Two maps as somebody would make them by hand.
fn peer_table(associations: u32) -> String {
    let list = |pair: fn(u32) -> String| {
        let elements: Vec<_> = (0..associations).map(pair).collect();
        if elements.is_empty() {
            String::new()
        } else {
            format!("elements = {{ {} }}", elements.join(", "))
        }
    };
    let there = list(|host| format!("{} : {}", floating(host), fixed(host)));
    let back = list(|host| format!("{} : {}", fixed(host), floating(host)));
    format!(
        "table inet peer {{\n\
         map a {{\n type ipv4_addr : ipv4_addr\n size 131072\n {there}\n }}\n\
         map b {{\n type ipv4_addr : ipv4_addr\n size 131072\n {back}\n }}\n\
         }}\n"
    )
}

/// From 198.18.0.0/15, which RFC 2544 keeps for benchmarks.
fn floating(host: u32) -> FloatingIp {
    FloatingIp::new(Ipv4Addr::from_bits(0xc612_0001 + host % 131_000).into())
        .expect("a unicast address")
}

fn fixed(host: u32) -> FixedIp {
    FixedIp::new(Ipv4Addr::from_bits(0x0a01_0001 + host).into()).expect("a unicast address")
}

fn timed(act: impl FnOnce()) -> f64 {
    let start = Instant::now();
    act();
    start.elapsed().as_secs_f64()
}

fn ratios(ours: &[f64], theirs: &[f64]) -> String {
    let ratios: Vec<f64> = ours
        .iter()
        .zip(theirs)
        .map(|(ours, theirs)| ours / theirs)
        .collect();
    let (low, high) = quartiles(&ratios);
    format!("{:.2} [{low:.2}-{high:.2}]", median(&ratios))
}
