//! A router between an outside and an inside, in namespaces of its own, and a
//! packet generator whose CPU time includes the router's work.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt,
};
use nix::time::{ClockId, clock_gettime};

/// The router's outside interface.
pub(crate) const OUTSIDE: &str = "wan0";

/// The host inside that answers.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(10, 255, 255, 3);

/// Namespaces that go with the value.
pub(crate) struct Lab {
    outside: String,
    router: String,
    inside: String,
    generator: OwnedFd,
    nobody: OwnedFd,
    router_mac: [u8; 6],
}

impl Lab {
    /// Makes the namespaces, links and sockets. Needs root.
    pub(crate) fn new() -> Self {
        let tag = format!("{:x}{:x}", std::process::id(), rand());
        let name = |part: &str| format!("ipfb-{tag}-{part}");
        let (outside, router, inside) = (name("out"), name("rtr"), name("in"));
        for namespace in [&outside, &router, &inside] {
            ip(&["netns", "add", namespace]);
        }
        ip(&[
            "-n", &router, "link", "add", OUTSIDE, "type", "veth", "peer", "name", "out0", "netns",
            &outside,
        ]);
        ip(&[
            "-n", &router, "link", "add", "lan0", "type", "veth", "peer", "name", "in0", "netns",
            &inside,
        ]);
        ip(&[
            "-n", &outside, "link", "add", "a0", "type", "veth", "peer", "name", "b0",
        ]);
        for (namespace, link) in [
            (&router, OUTSIDE),
            (&router, "lan0"),
            (&outside, "out0"),
            (&inside, "in0"),
            (&outside, "a0"),
            (&outside, "b0"),
        ] {
            ip(&["-n", namespace, "link", "set", link, "up"]);
        }
        ip(&["-n", &router, "addr", "add", "192.0.2.1/24", "dev", OUTSIDE]);
        ip(&[
            "-n",
            &router,
            "addr",
            "add",
            "10.255.255.1/24",
            "dev",
            "lan0",
        ]);
        // A host that answers, for connections from the outside.
        ip(&[
            "-n",
            &inside,
            "addr",
            "add",
            "10.255.255.3/24",
            "dev",
            "in0",
        ]);
        ip(&[
            "-n",
            &inside,
            "route",
            "add",
            "default",
            "via",
            "10.255.255.1",
        ]);
        ip(&["-n", &outside, "addr", "add", "192.0.2.2/24", "dev", "out0"]);
        for behind in ["198.18.0.0/15", "10.255.255.0/24"] {
            ip(&["-n", &outside, "route", "add", behind, "via", "192.0.2.1"]);
        }
        // A next hop that drops on arrival: nobody has this Ethernet address.
        let neighbour = [
            "10.255.255.2",
            "lladdr",
            "02:00:00:00:00:99",
            "dev",
            "lan0",
            "nud",
            "permanent",
        ];
        ip(&[&["-n", &router, "neigh", "add"], &neighbour[..]].concat());
        for inside_of in ["10.0.0.0/8", "198.18.0.0/15"] {
            ip(&[
                "-n",
                &router,
                "route",
                "add",
                inside_of,
                "via",
                "10.255.255.2",
            ]);
        }
        let enter = |namespace: &str| {
            let file = std::fs::File::open(format!("/run/netns/{namespace}"))
                .expect("the namespace was made");
            setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter it");
        };
        let (generator, nobody) = in_thread(|| {
            enter(&outside);
            (packet_socket("out0"), packet_socket("a0"))
        });
        let router_mac = in_thread(|| {
            enter(&router);
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("root may");
            std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0").expect("root may");
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{OUTSIDE}/rp_filter"), "0")
                .expect("root may");
            mac(OUTSIDE)
        });
        Lab {
            outside,
            router,
            inside,
            generator,
            nobody,
            router_mac,
        }
    }

    /// Runs something in the router's namespace.
    pub(crate) fn in_router<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        self.within(&self.router, act)
    }

    fn within<T: Send>(&self, namespace: &str, act: impl FnOnce() -> T + Send) -> T {
        in_thread(|| {
            let file = std::fs::File::open(format!("/run/netns/{namespace}"))
                .expect("the namespace was made");
            setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter it");
            act()
        })
    }

    /// Connects to an address so many times, one after the other, each
    /// connection reset at once, and says how long that took. `HOST` listens.
    pub(crate) fn connect(&self, to: Ipv4Addr, times: u32) -> Duration {
        let listener = self.within(&self.inside, || {
            TcpListener::bind((HOST, 0)).expect("the host has the address")
        });
        let port = listener.local_addr().expect("it is bound").port();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for stream in listener.incoming().take(times as usize + 1) {
                    drop(stream);
                }
            });
            self.within(&self.outside, || {
                let connect = || {
                    let stream = TcpStream::connect((to, port)).expect("the host accepts");
                    let reset = nix::libc::linger {
                        l_onoff: 1,
                        l_linger: 0,
                    };
                    setsockopt(&stream, sockopt::Linger, &reset).expect("Linux has it");
                };
                connect();
                let start = Instant::now();
                for _ in 0..times {
                    connect();
                }
                start.elapsed()
            })
        })
    }

    /// Ends all flows.
    pub(crate) fn forget_flows(&self) {
        self.in_router(|| run("conntrack", &["-F"]).expect("conntrack -F"));
    }

    /// Sends packets to the router, each to an address and from a port of its
    /// own choice, and says how much CPU time that took.
    pub(crate) fn send(&self, packets: u32, flow: impl Fn(u32) -> (Ipv4Addr, u32)) -> Duration {
        send(&self.generator, self.router_mac, packets, flow)
    }

    /// The same where nobody routes.
    pub(crate) fn send_to_nobody(&self, packets: u32) -> Duration {
        send(&self.nobody, [2, 0, 0, 0, 0, 0x98], packets, |packet| {
            (Ipv4Addr::new(198, 18, 0, 1), packet)
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.outside, &self.router, &self.inside] {
            let _ = run("ip", &["netns", "del", namespace]);
        }
    }
}

fn send(
    socket: &OwnedFd,
    to: [u8; 6],
    packets: u32,
    flow: impl Fn(u32) -> (Ipv4Addr, u32),
) -> Duration {
    let start = cpu_time();
    for packet in 0..packets {
        let (address, number) = flow(packet);
        let frame = frame(to, address, number);
        nix::sys::socket::send(socket.as_raw_fd(), &frame, MsgFlags::empty())
            .expect("the link takes a frame");
    }
    cpu_time() - start
}

/// A UDP datagram of 60 bytes in an Ethernet frame; the flow's number is in its
/// source address and port.
fn frame(to: [u8; 6], address: Ipv4Addr, number: u32) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 0x97]);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    let ip = &mut frame[14..34];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&46_u16.to_be_bytes());
    ip[8] = 64;
    ip[9] = 17;
    // 192.0.2.0/24 is RFC 5737's; 16 hosts of it, 4,096 ports each.
    let host = 0xc000_0210 + (number >> 12);
    ip[12..16].copy_from_slice(&host.to_be_bytes());
    ip[16..20].copy_from_slice(&address.octets());
    let sum: u32 = ip
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let port = 1_024 + (number & 0xfff) as u16;
    frame[34..36].copy_from_slice(&port.to_be_bytes());
    frame[36..38].copy_from_slice(&9_u16.to_be_bytes());
    frame[38..40].copy_from_slice(&26_u16.to_be_bytes());
    frame
}

fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .expect("Linux has this clock")
        .into()
}

fn packet_socket(link: &str) -> OwnedFd {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::empty(),
        None::<SockProtocol>,
    )
    .expect("root may open a packet socket");
    let index = nix::net::if_::if_nametoindex(link).expect("the link was made");
    bind_packet(&socket, index);
    socket
}

#[allow(unsafe_code)]
fn bind_packet(socket: &OwnedFd, index: u32) {
    use nix::libc;
    // SAFETY: an all-zero sockaddr_ll is valid; it outlives the call, which
    // reads as many bytes as it is told.
    let result = unsafe {
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = index as i32;
        let length = size_of::<libc::sockaddr_ll>() as u32;
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length)
    };
    assert_eq!(result, 0, "bind: {}", std::io::Error::last_os_error());
}

fn mac(link: &str) -> [u8; 6] {
    let shown = run("ip", &["-br", "link", "show", link]).expect("the link was made");
    let text = shown
        .split_whitespace()
        .find(|word| word.matches(':').count() == 5)
        .expect("it has one");
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal"))
        .collect();
    bytes.try_into().expect("six bytes")
}

/// Runs something in a thread of its own, which may change its namespace.
pub(crate) fn in_thread<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(act).join().expect("it does not panic"))
}

fn ip(arguments: &[&str]) {
    run("ip", arguments).unwrap_or_else(|error| panic!("ip {}: {error}", arguments.join(" ")));
}

/// Loads nft text.
pub(crate) fn nft(text: &str) {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("nft is installed");
    child
        .stdin
        .take()
        .expect("it is piped")
        .write_all(text.as_bytes())
        .expect("nft reads it");
    assert!(
        child.wait().expect("nft ends").success(),
        "nft refused {text}"
    );
}

/// Runs a command and gives what it printed, or what it complained of.
pub(crate) fn run(command: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(command)
        .args(arguments)
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The middle one.
pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The ones a quarter from either end.
pub(crate) fn quartiles(values: &[f64]) -> (f64, f64) {
    (quantile(values, 0.25), quantile(values, 0.75))
}

fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * part).round() as usize]
}

fn rand() -> u16 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish() as u16
}
