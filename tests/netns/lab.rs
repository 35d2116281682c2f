//! The small internet that each test builds for itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::ops::Deref;

use ipfloater::model::Family;

use super::namespace::{Namespace, eventually};
use super::service::Service;

/// How a lab differs from the usual one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Plan {
    /// Whether host_a and host_b are on a bridge of the router, rather than on
    /// a switch of their own.
    pub(super) bridge_in_router: bool,
}

/// Hosts, a router, and the outside.
#[derive(Debug)]
pub(super) struct Lab {
    /// A client some routers away.
    pub(super) far: Host,
    /// The provider's gateway, which is also a client on the outside link.
    pub(super) outside: Host,
    /// Where ipfloaterd runs.
    pub(super) router: Host,
    /// On LAN 1.
    pub(super) host_a: Host,
    /// On LAN 1.
    pub(super) host_b: Host,
    /// On LAN 2.
    pub(super) host_c: Host,
    _switch: Namespace,
}

/// A host: its network namespace, its addresses, and its service.
#[derive(Debug)]
pub(super) struct Host {
    /// What its service calls itself.
    pub(super) name: &'static str,
    /// Its first IPv4 address.
    pub(super) v4: Ipv4Addr,
    /// Its first IPv6 address.
    pub(super) v6: Ipv6Addr,
    service: Option<Service>,
    namespace: Namespace,
}

impl Deref for Host {
    type Target = Namespace;
    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

impl Host {
    fn new(name: &'static str, v4: &str, v6: &str) -> Self {
        let namespace = Namespace::new();
        // No duplicate detection, so that addresses work at once.
        namespace.sysctl(
            "net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 \
             net.ipv6.conf.default.router_solicitations=0 net.ipv6.conf.default.accept_ra=0 \
             net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \
             net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0",
        );
        let v4 = v4.parse().expect("a constant");
        let v6 = v6.parse().expect("a constant");
        Self {
            name,
            v4,
            v6,
            service: None,
            namespace,
        }
    }

    /// Its address of a family.
    pub(super) fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }

    /// Its service; the router has none of its own accord.
    pub(super) fn service(&self) -> &Service {
        self.service
            .as_ref()
            .expect("every host but the router has a service")
    }

    /// Ends its service: the port is closed then.
    pub(super) fn close(&mut self) {
        self.service = None;
    }

    /// Who answers for an address on the link of its eth0: resolves
    /// it anew, as ARP and neighbour discovery do.
    pub(super) fn hardware_address_of(&self, address: IpAddr) -> Option<String> {
        let show = format!("ip neighbour show to {address} dev eth0");
        let _ = self.try_program(&format!("ip neighbour delete {address} dev eth0"), "");
        self.run(|| {
            let any = if address.is_ipv4() {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            };
            let socket = UdpSocket::bind(any).expect("there is a free port");
            // Port 9 is discard (RFC 863); asking is what counts.
            socket.send_to(b"", (address, 9)).expect("there is a route");
        });
        let mut entry = String::new();
        eventually("an address is resolved or known to be silent", || {
            entry = self.program(&show);
            !entry.contains("INCOMPLETE")
        });
        let mut words = entry
            .split_whitespace()
            .skip_while(|word| *word != "lladdr");
        words.nth(1).map(str::to_owned)
    }

    /// Whether its IPv6 addresses work: a work queue of the kernel makes their
    /// local routes and joins their solicited-node groups (`addrconf_dad_work`).
    /// A solicitation that comes too early is repeated after a second.
    fn has_settled(&self) -> bool {
        let [addresses, routes] = self.run(|| {
            ["if_inet6", "ipv6_route"].map(|file| {
                std::fs::read_to_string(format!("/proc/thread-self/net/{file}"))
                    .expect("procfs is there")
            })
        });
        let mut addresses = addresses.lines().filter_map(|line| line.split(' ').next());
        // As the prefix of 128 bits, in hexadecimal.
        addresses.all(|address| routes.contains(&format!("{address} 80 ")))
    }

    /// Starts another service on it, on all its addresses.
    pub(super) fn serve(&self) -> Service {
        Service::start(&self.namespace, self.name)
    }
}

/// The floating IP of a family with that last number: the pool has 10 to 29.
pub(super) fn floating(family: Family, number: u8) -> IpAddr {
    match family {
        Family::V4 => format!("198.51.100.{number}"),
        Family::V6 => format!("2001:db8::{number}"),
    }
    .parse()
    .expect("it is an address")
}

impl Lab {
    /// The usual one.
    pub(super) fn new() -> Self {
        Self::planned(Plan::default())
    }

    /// One after a plan.
    pub(super) fn planned(plan: Plan) -> Self {
        let switch = Namespace::new();
        let mut lab = Lab {
            far: Host::new("far", "203.0.113.9", "2001:db8:f::9"),
            outside: Host::new("outside", "198.51.100.1", "2001:db8::1"),
            router: Host::new("router", "198.51.100.2", "2001:db8::2"),
            host_a: Host::new("host_a", "10.0.1.11", "fd00:1::11"),
            host_b: Host::new("host_b", "10.0.1.12", "fd00:1::12"),
            host_c: Host::new("host_c", "10.0.2.13", "fd00:2::13"),
            _switch: switch,
        };
        lab.connect_outside();
        lab.connect_inside(plan);
        for host in [
            &mut lab.far,
            &mut lab.outside,
            &mut lab.host_a,
            &mut lab.host_b,
            &mut lab.host_c,
        ] {
            host.service = Some(host.serve());
        }
        lab.wait_until_connected();
        lab
    }

    /// The outside link of the router; also after [`Lab::unplug`].
    pub(super) fn plug(&self) {
        // Two ends with the same index look like one device to the kernel's link
        // watch, which then takes its time (`linkwatch_urgent_event`).
        self.outside.ip(&format!(
            "link add eth0 index 100 type veth peer name wan0 netns {}
             address add 198.51.100.1/24 dev eth0
             address add 2001:db8::1/64 dev eth0 nodad
             link set eth0 up
             route add 10.0.0.0/8 via 198.51.100.2
             route add fd00::/16 via 2001:db8::2
             route add default via 198.51.100.254
             route add default via 2001:db8::fffe",
            self.router.path()
        ));
        // A silent address is known to be silent after three probes: 0.9 s.
        self.outside.sysctl(
            "net.ipv4.neigh.eth0.retrans_time_ms=300 net.ipv6.neigh.eth0.retrans_time_ms=300",
        );
        self.router.ip("address add 198.51.100.2/24 dev wan0
             address add 2001:db8::2/64 dev wan0 nodad
             link set wan0 up
             route add default via 198.51.100.1
             route add default via 2001:db8::1");
    }

    /// The router's address in the LAN of a host.
    pub(super) fn router_towards(&self, host: &Host, family: Family) -> IpAddr {
        match host.address(family) {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                Ipv4Addr::new(a, b, c, 1).into()
            }
            IpAddr::V6(v6) => {
                let [a, b, ..] = v6.segments();
                Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 1).into()
            }
        }
    }

    /// Takes the outside interface of the router away.
    pub(super) fn unplug(&self) {
        self.outside.ip("link delete eth0");
    }

    /// Another machine on the outside link, without a service.
    pub(super) fn rival(&self) -> Host {
        let rival = Host::new("rival", "198.51.100.30", "2001:db8::30");
        self.outside.ip(&format!(
            "link add link eth0 name rival type macvlan mode bridge
             link set rival netns {} name eth0",
            rival.path()
        ));
        attach(&rival, 24, "198.51.100.1", "2001:db8::1");
        eventually("its IPv6 addresses work", || rival.has_settled());
        rival
    }

    /// Another provider, on wan1 of the router, by which `far` is reached as well.
    /// No provider takes packets from addresses that are not its own (BCP 38).
    /// The router has no default route there.
    pub(super) fn second_provider(&self) -> Host {
        let second = Host::new("second", "192.0.2.1", "2001:db8:2::1");
        second.sysctl("net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        second.ip(&format!(
            "link add eth0 index 200 type veth peer name wan1 netns {}
             address add 192.0.2.1/24 dev eth0
             address add 2001:db8:2::1/64 dev eth0 nodad
             link set eth0 up
             link add far0 index 201 type veth peer name eth1 netns {}
             address add 198.18.0.1/24 dev far0
             address add 2001:db8:e::1/64 dev far0 nodad
             link set far0 up",
            self.router.path(),
            self.far.path()
        ));
        self.router.ip("address add 192.0.2.2/24 dev wan1
             address add 2001:db8:2::2/64 dev wan1 nodad
             link set wan1 up");
        let Host { v4, v6, .. } = &self.far;
        self.far.ip(&format!(
            "address add 198.18.0.2/24 dev eth1
             address add 2001:db8:e::2/64 dev eth1 nodad
             link set eth1 up
             route add 192.0.2.0/24 via 198.18.0.1 src {v4}
             route add 2001:db8:2::/64 via 2001:db8:e::1 src {v6}"
        ));
        second.ip(&format!(
            "route add {v4}/32 via 198.18.0.2
             route add {v6}/128 via 2001:db8:e::2"
        ));
        for (provider, own) in [
            (&self.outside, ["198.51.100.0/24", "2001:db8::/64"]),
            (&second, ["192.0.2.0/24", "2001:db8:2::/64"]),
        ] {
            provider.nft(&format!(
                "table inet provider {{
                   chain forward {{
                     type filter hook forward priority 0
                     iifname eth0 ip saddr != {} drop
                     iifname eth0 ip6 saddr != {} drop
                   }}
                 }}",
                own[0], own[1]
            ));
        }
        for host in [&second, &self.far, &self.router] {
            eventually("its IPv6 addresses work", || host.has_settled());
        }
        second
    }

    fn connect_outside(&self) {
        let forward = "net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1";
        self.outside.sysctl(forward);
        self.router.sysctl(forward);
        self.plug();
        self.outside.ip(&format!(
            "link add far0 type veth peer name eth0 netns {}
             address add 203.0.113.1/24 dev far0
             address add 2001:db8:f::1/64 dev far0 nodad
             link set far0 up",
            self.far.path()
        ));
        attach(&self.far, 24, "203.0.113.1", "2001:db8:f::1");
    }

    fn connect_inside(&self, plan: Plan) {
        let (switch, bridge) = match plan.bridge_in_router {
            true => (&*self.router, "lan0"),
            false => (&self._switch, "switch"),
        };
        switch.ip(&format!(
            "link add {bridge} type bridge forward_delay 0 mcast_snooping 0
             link set {bridge} up
             link add port_a type veth peer name eth0 netns {}
             link add port_b type veth peer name eth0 netns {}",
            self.host_a.path(),
            self.host_b.path()
        ));
        attach(&self.host_a, 24, "10.0.1.1", "fd00:1::1");
        attach(&self.host_b, 24, "10.0.1.1", "fd00:1::1");
        join(switch, bridge, "port_a");
        join(switch, bridge, "port_b");
        if !plan.bridge_in_router {
            // A switch is not a firewall, but br_netfilter is on in a new namespace.
            switch.sysctl(
                "net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0",
            );
            switch.ip(&format!(
                "link add port_r type veth peer name lan0 netns {}",
                self.router.path()
            ));
            self.router.ip("link set lan0 up");
            join(switch, bridge, "port_r");
        }
        self.router.ip(&format!(
            "link add lan1 type veth peer name eth0 netns {}
             address add 10.0.1.1/24 dev lan0
             address add 10.0.2.1/24 dev lan1
             address add fd00:1::1/64 dev lan0 nodad
             address add fd00:2::1/64 dev lan1 nodad
             link set lan0 up
             link set lan1 up",
            self.host_c.path()
        ));
        attach(&self.host_c, 24, "10.0.2.1", "fd00:2::1");
    }

    /// Carrier and bridge ports come up a moment after they are set up, and so
    /// do IPv6 addresses.
    fn wait_until_connected(&self) {
        let hosts = [&self.host_a, &self.host_b, &self.host_c];
        for host in hosts
            .into_iter()
            .chain([&self.far, &self.outside, &self.router])
        {
            eventually("its IPv6 addresses work", || host.has_settled());
        }
        for family in Family::BOTH {
            let to = self.far.address(family);
            for host in hosts {
                eventually("the lab is connected", || host.ping_briefly(to).is_ok());
            }
        }
    }
}

/// Makes an interface a port of a bridge. A port that has no carrier yet when it
/// joins forwards only when the kernel's link watch has come by, up to a second
/// later (`net/core/link_watch.c`), so the other end is to be up already.
fn join(switch: &Namespace, bridge: &str, port: &str) {
    switch.ip(&format!(
        "link set {port} up
         link set {port} master {bridge}"
    ));
}

fn attach(host: &Host, prefix: u8, gateway4: &str, gateway6: &str) {
    let Host { v4, v6, .. } = host;
    host.ip(&format!(
        "address add {v4}/{prefix} dev eth0
         address add {v6}/64 dev eth0 nodad
         link set eth0 up
         route add default via {gateway4}
         route add default via {gateway6}"
    ));
}
