//! What the table costs a packet: inbound UDP through a router in a network
//! namespace, with 1, 1,000 and 100,000 addresses, against plain forwarding and
//! against one constant NAT rule, which is the limit of stateful NAT.
//!
//! Frames are sent on one end of a veth pair from an AF_PACKET socket; the
//! router's work runs in the sending thread, so its CPU time is the cost, less
//! that of sending to an interface where nobody routes. Each round measures
//! every layout once, in alternating order, and the ratio is taken within the
//! round; medians of the rounds are printed.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::lab::{self, Lab, median, quartiles};
use ipfloater::dataplane::{Element, Ruleset, Transaction, Uses};
use ipfloater::kernel::{Hidden, Kernel, LinuxKernel};
use ipfloater::model::{AddressRange, Count, Direction, Family, Pool, PoolName, Site};

/// Packets of one measurement.
const PACKETS: u32 = 20_000;

/// Connections of one measurement.
const CONNECTIONS: u32 = 2_000;

/// Flows that the established packets belong to.
const FLOWS: u32 = 1_000;

/// The first of the hosts that datagrams are for; nobody has the addresses.
const SINK: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// What a packet, or a connection, costs in one layout.
#[derive(Clone)]
struct Cost {
    new: Duration,
    established: Duration,
    connect: Duration,
}

/// What the router does with a packet.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    /// Forward it; conntrack is not even loaded for it.
    Plain,
    /// Translate the destination of all to one host by one rule.
    OneRule,
    /// Our table with so many associations.
    Ours(u32, With),
}

/// What our table is to do besides translating.
#[derive(Clone, Copy, Debug, PartialEq)]
enum With {
    /// Nothing.
    Nothing,
    /// Guard against what conntrack does not know.
    Guard,
    /// The same, and count.
    Counters,
    /// The same, while some other address has a rate, or is not for everybody.
    OthersLimits,
    /// The same, and hold every address to a rate that it does not reach.
    Rates,
    /// Guard, count, and let in only some to as many addresses as can be.
    Sources,
    /// Guard, count, and lead every packet to the first of two uplinks.
    Uplinks,
}

impl With {
    fn uses(self) -> Uses {
        let rates = matches!(self, With::OthersLimits | With::Rates);
        Uses {
            rates: [rates; 2],
            sources: matches!(self, With::OthersLimits | With::Sources),
            uplinks: if self == With::Uplinks { 2 } else { 0 },
        }
    }
}

const LAYOUTS: [Layout; 16] = [
    Layout::Plain,
    Layout::OneRule,
    Layout::Ours(1, With::Guard),
    Layout::Ours(1_000, With::Guard),
    Layout::Ours(100_000, With::Guard),
    Layout::Ours(100_000, With::Nothing),
    Layout::Ours(1, With::Counters),
    Layout::Ours(1_000, With::Counters),
    Layout::Ours(100_000, With::Counters),
    Layout::Ours(1_000, With::OthersLimits),
    Layout::Ours(1_000, With::Rates),
    Layout::Ours(100_000, With::Rates),
    Layout::Ours(1, With::Sources),
    Layout::Ours(1_000, With::Sources),
    Layout::Ours(1, With::Uplinks),
    Layout::Ours(1_000, With::Uplinks),
];

/// The routing rules that go with marks; the table of the uplink is not reached:
/// what the bench sends goes to networks that the main table knows.
const RULES: [&str; 2] = [
    "pref 24500 not fwmark 0/0xff000000 lookup main suppress_prefixlength 0",
    "pref 24501 fwmark 0x1000000/0xff000000 lookup 24501",
];

/// Adds or deletes the rules.
fn rules(verb: &str) -> Result<(), String> {
    RULES.iter().try_for_each(|rule| {
        let words = ["rule", verb].into_iter().chain(rule.split(' '));
        let words: Vec<_> = words.collect();
        lab::run("ip", &words).map(drop)
    })
}

/// Measures every layout.
pub(crate) fn measure_all(rounds: usize) {
    let lab = Lab::new();
    println!("{PACKETS} packets a measurement, {rounds} rounds; ratios to one constant NAT rule");
    let mut cost = vec![Vec::new(); LAYOUTS.len()];
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..LAYOUTS.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            cost[index].push(measure(&lab, LAYOUTS[index]));
        }
    }
    let limit = &cost[1];
    println!(
        "{:<42} {:>27} {:>27} {:>28}",
        "", "new flow", "established packet", "TCP connect"
    );
    for (layout, measured) in LAYOUTS.iter().zip(&cost) {
        let column = |part: fn(&Cost) -> Duration| {
            let ratios: Vec<f64> = measured
                .iter()
                .zip(limit)
                .map(|(ours, limit)| part(ours).as_secs_f64() / part(limit).as_secs_f64())
                .collect();
            let time: Vec<f64> = measured
                .iter()
                .map(|cost| part(cost).as_secs_f64() * 1e6)
                .collect();
            let (low, high) = quartiles(&ratios);
            format!(
                "{:.2} [{low:.2}-{high:.2}] {:.2} us",
                median(&ratios),
                median(&time)
            )
        };
        println!(
            "{:<42} {:>27} {:>27} {:>28}",
            format!("{layout:?}"),
            column(|cost| cost.new),
            column(|cost| cost.established),
            column(|cost| cost.connect)
        );
    }
}

fn measure(lab: &Lab, layout: Layout) -> Cost {
    let kernel = lab.in_router(|| install(layout, SINK));
    let addresses = match layout {
        Layout::Plain | Layout::OneRule => 1_000,
        Layout::Ours(associations, _) => associations,
    };
    let idle = lab.send_to_nobody(PACKETS);
    let to = |packet: u32| Ipv4Addr::from_bits(floating(packet % addresses));
    lab.forget_flows();
    let new = lab.send(PACKETS, |packet| (to(packet), packet));
    lab.forget_flows();
    lab.send(FLOWS, |packet| (to(packet), packet));
    let established = lab.send(PACKETS, |packet| (to(packet % FLOWS), packet % FLOWS));
    remove(lab, kernel);

    let kernel = lab.in_router(|| install(layout, lab::HOST));
    lab.forget_flows();
    let connect = match layout {
        Layout::Plain => lab.connect(lab::HOST, CONNECTIONS),
        Layout::OneRule | Layout::Ours(..) => lab.connect(to(0), CONNECTIONS),
    };
    remove(lab, kernel);
    let a_packet = |total: Duration| total.saturating_sub(idle) / PACKETS;
    Cost {
        new: a_packet(new),
        established: a_packet(established),
        connect: connect / CONNECTIONS,
    }
}

/// Takes away whatever a layout has set up.
fn remove(lab: &Lab, kernel: Option<LinuxKernel>) {
    drop(kernel);
    for table in ["one_rule", "ipfloater"] {
        // Only one of them is there, if any.
        let _ = lab.in_router(|| lab::run("nft", &["delete", "table", "inet", table]));
    }
    let _ = lab.in_router(|| rules("delete"));
}

/// Sets the layout up; the first floating IP leads to this host.
fn install(layout: Layout, host: Ipv4Addr) -> Option<LinuxKernel> {
    match layout {
        Layout::Plain => None,
        Layout::OneRule => {
            let table = format!(
                "table inet one_rule {{\n\
                 chain pre {{\n\
                 type nat hook prerouting priority dstnat\n\
                 iifname \"{}\" dnat ip to {host}\n\
                 }}\n\
                 }}\n",
                lab::OUTSIDE
            );
            lab::nft(&table);
            None
        }
        Layout::Ours(associations, with) => {
            let mut kernel = LinuxKernel::open(Hidden::default()).expect("a kernel with nf_tables");
            kernel
                .transact(&table(associations, with, host))
                .expect("the kernel takes the table");
            if with == With::Uplinks {
                rules("add").expect("the kernel takes the rules");
            }
            Some(kernel)
        }
    }
}

/// Our table with so many associations.
fn table(associations: u32, with: With, first_host: Ipv4Addr) -> Transaction {
    let counters = !matches!(with, With::Nothing | With::Guard);
    let first = Ipv4Addr::from_bits(floating(0));
    let last = Ipv4Addr::from_bits(floating(associations - 1));
    let range =
        AddressRange::new(first.into(), last.into()).expect("the first comes before the last");
    let site = Site {
        pools: vec![Pool {
            name: PoolName::default_pool(),
            ranges: vec![range],
            interface: None,
            routed: true,
            announcing: Default::default(),
            hardware_addresses: Default::default(),
            gateways: Vec::new(),
        }],
        private: vec![],
        guard: with != With::Nothing,
        block_free: true,
        counters,
        untranslated: Default::default(),
        uplink_numbers: Default::default(),
        rest: std::time::Duration::ZERO,
        limits: Default::default(),
    };
    let size = |family| Ruleset::size_for(site.capacity(family));
    let unreached = "100G".parse().expect("it is a rate");
    let clients = "192.0.2.0/24".parse().expect("it is a prefix");
    let mut add = vec![Element::Outside(
        lab::OUTSIDE.parse().expect("a valid name"),
    )];
    for host in 0..associations {
        let address = Ipv4Addr::from_bits(floating(host))
            .to_string()
            .parse()
            .expect("a unicast address");
        let fixed = if host == 0 {
            first_host
        } else {
            Ipv4Addr::from_bits(u32::from(SINK) + host)
        };
        let fixed = fixed.to_string().parse().expect("a unicast address");
        add.push(Element::FloatingToFixed(address, fixed));
        add.push(Element::FixedToFloating(fixed, address));
        if with == With::Rates {
            let rate = |direction| Element::Limited(direction, address, unreached);
            add.extend(Direction::BOTH.map(rate));
        }
        if with == With::Sources && host < 1_024 {
            add.push(Element::Filtered(address));
            add.push(Element::Allowed(address, clients));
        }
        if with == With::Uplinks {
            add.push(Element::FixedToUplink(fixed, 1));
        }
        if counters {
            let count = |direction| Element::Counted(direction, address, Count::default());
            add.extend(Direction::BOTH.map(count));
        }
    }
    debug_assert!(size(Family::V4) >= associations);
    Transaction {
        rebuild: Some(Ruleset::using(&site, size, with.uses())),
        reshape: None,
        pool: Some(vec![range]),
        uplinks: (with == With::Uplinks).then(|| vec![(range, 1)]),
        remove: vec![],
        add,
    }
}

/// Floating IPs from 198.18.0.0/15, which RFC 2544 keeps for benchmarks.
fn floating(index: u32) -> u32 {
    0xc612_0001 + index
}
