//! The package, as `make deb` builds it, and a router that has it.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use super::machine::{Machine, Suite};

/// The package with the programs of this test run: unoptimized, else as users
/// get it. It is the same for both releases, unless this machine has a newer C
/// library than Debian 12, whose programs would not run there.
pub(super) fn package(suite: Suite) -> &'static Path {
    static HERE: LazyLock<PathBuf> = LazyLock::new(|| build("scripts/deb.sh"));
    static ON_BOOKWORM: LazyLock<PathBuf> = LazyLock::new(|| build("tests/system/build.sh"));
    match suite {
        Suite::Bookworm if !runs_on_bookworm() => &ON_BOOKWORM,
        Suite::Bookworm | Suite::Trixie => &HERE,
    }
}

fn build(script: &str) -> PathBuf {
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(script))
        .env("PROFILE", "dev")
        .stdin(Stdio::null())
        .output()
        .expect("bash is installed");
    assert!(
        output.status.success(),
        "the package cannot be built: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end())
}

/// Whether the C library of this machine is at most that of Debian 12, 2.36.
fn runs_on_bookworm() -> bool {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let output = output.expect("getconf is installed").stdout;
    let version = String::from_utf8_lossy(&output);
    let minor = version.trim_end().strip_prefix("glibc 2.");
    let minor = minor.and_then(|minor| minor.parse::<u32>().ok());
    minor.expect("it is glibc 2") <= 36
}

/// Where the package lies in a box.
pub(super) const DEB: &str = "/srv/ipfloater.deb";

/// A range of each family in the network of the outside link.
const CONFIGURATION: &str = "[IPFLOATER]\n\
     IP_POOL = 203.0.113.20-203.0.113.29, 2001:db8::20-2001:db8::29\n\
     PRIVATE_IP_RANGES = 10.66.0.0/24, fd66::/64\n\
     OUTSIDE_INTERFACE = wan0\n\
     PROBE = no\n";

/// ```text
///   client  203.0.113.9   2001:db8::9
///      │
///      │ wan0  203.0.113.1   2001:db8::1
///   router     the box itself
///      │ lan0  10.66.0.1     fd66::1
///      │
///     web   10.66.0.11    fd66::11
/// ```
const LAB: &str = "
    set -e
    for host in client web; do
        ip netns add $host
        ip -n $host link set lo up
        ip netns exec $host sysctl -qw net.ipv6.conf.default.accept_dad=0
    done
    sysctl -qw net.ipv6.conf.default.accept_dad=0
    ip link add wan0 type veth peer name eth0 netns client
    ip link add lan0 type veth peer name eth0 netns web
    add() { ip $1 address add $2 dev $3 && ip $1 link set $3 up; }
    add '-n client' 203.0.113.9/24 eth0; add '-n client' 2001:db8::9/64 eth0
    add '-n web' 10.66.0.11/24 eth0; add '-n web' fd66::11/64 eth0
    add '' 203.0.113.1/24 wan0; add '' 2001:db8::1/64 wan0
    add '' 10.66.0.1/24 lan0; add '' fd66::1/64 lan0
    ip -n web route add default via 10.66.0.1
    ip -n web route add default via fd66::1
    sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    for try in $(seq 100); do
        ip netns exec client ping -c 1 -W 1 203.0.113.1 && ip netns exec client ping -c 1 -W 1 2001:db8::1 &&
        ip netns exec web ping -c 1 -W 1 10.66.0.1 && ip netns exec web ping -c 1 -W 1 fd66::1 && exit
        sleep 0.1
    done >/dev/null
    exit 1";

/// A machine between a client outside and a web server inside, with the package
/// installed and the daemon running.
#[derive(Debug)]
pub(super) struct Router(Machine);

impl Deref for Router {
    type Target = Machine;
    fn deref(&self) -> &Machine {
        &self.0
    }
}

impl Router {
    /// Configured first, so that installing starts the daemon.
    pub(super) fn new(suite: Suite) -> Self {
        let machine = Machine::boot(suite);
        machine.run(LAB);
        configure(&machine);
        bring_package(&machine);
        install(&machine);
        machine.run("systemctl is-active ipfloaterd.service ipfloaterd.socket");
        Router(machine)
    }
}

/// Copies the package into a box.
pub(super) fn bring_package(machine: &Machine) {
    machine.write(
        DEB,
        std::fs::read(package(machine.suite())).expect("it was built"),
    );
}

/// Installs the package that was brought, and returns what apt and the package
/// said.
pub(super) fn install(machine: &Machine) -> String {
    machine.run(&format!("apt-get -qq install {DEB} 2>&1"))
}

/// Builds the links and hosts around a machine.
pub(super) fn surround(machine: &Machine) {
    machine.run(LAB);
}

/// Configures the daemon.
pub(super) fn configure(machine: &Machine) {
    machine.write("/etc/ipfloaterd.conf", CONFIGURATION);
}
