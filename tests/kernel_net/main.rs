//! Presence, flows, announcements and notifications on a real kernel, each test
//! in network namespaces of its own: what the daemon's parts do by themselves.
//! The scenarios of the whole daemon are in `netns`.
//!
//! ```text
//! outside  eth0  198.51.100.1  2001:db8::1
//!           │
//! router   wan0  198.51.100.2  2001:db8::2
//! ```
//!
//! They need root, ip(8), nft(8) and conntrack(8), and fail without.

#![allow(
    clippy::disallowed_types,
    reason = "a test may start programs; the daemon may not"
)]

mod flows;
#[allow(dead_code, reason = "the scenarios of the daemon use the rest of it")]
#[path = "../netns/namespace.rs"]
mod namespace;
mod presence;
mod watch;

use ipfloater::dataplane::{IfIndex, Link};
use ipfloater::kernel::{Hidden, Kernel, LinuxKernel};
use ipfloater::model::FloatingIp;

use namespace::Namespace;

/// A floating IP of each family.
fn floating_ips() -> [FloatingIp; 2] {
    ["198.51.100.10", "2001:db8::10"].map(|text| text.parse().expect("a constant"))
}

/// A router and its neighbour on the outside link.
struct Lab {
    router: Namespace,
    outside: Namespace,
}

impl Lab {
    /// Without link-local addresses: their duplicate detection would be noticed
    /// seconds later. With interface numbers that differ: news of carrier wait up
    /// to a second when a veth has the number of its peer (`linkwatch_urgent_event`).
    fn new() -> Self {
        let (router, outside) = (Namespace::new(), Namespace::new());
        outside.ip(&format!(
            "link add eth0 index 100 type veth peer name wan0 netns {}\n\
             link set eth0 addrgenmode none up\n\
             addr add 198.51.100.1/24 dev eth0\n\
             addr add 2001:db8::1/64 dev eth0 nodad",
            router.path()
        ));
        router.ip("link set wan0 addrgenmode none up\n\
             addr add 198.51.100.2/24 dev wan0\n\
             addr add 2001:db8::2/64 dev wan0 nodad");
        Self { router, outside }
    }

    /// The kernel of the router, as a daemon that has just started sees it.
    fn kernel(&self) -> LinuxKernel {
        self.kernel_without(Hidden::default())
    }

    fn kernel_without(&self, hidden: Hidden) -> LinuxKernel {
        self.router
            .run(|| LinuxKernel::open(hidden))
            .expect("the sockets can be opened")
    }

    fn link(&self) -> Link {
        let observed = self.kernel().observe_links().expect("links can be listed");
        observed.links[&"wan0".parse().expect("a constant")].clone()
    }

    /// Both floating IPs on the outside link.
    fn on_wan(&self) -> [(FloatingIp, IfIndex); 2] {
        let index = self.link().index;
        floating_ips().map(|floating| (floating, index))
    }
}
