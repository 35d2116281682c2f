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
use ipfloater::dataplane::{Element, Ruleset, Transaction};
use ipfloater::kernel::{Hidden, Kernel, LinuxKernel};
use ipfloater::model::{AddressRange, Family, Pool, PoolName, Site};

/// Packets of one measurement.
const PACKETS: u32 = 20_000;

/// Flows that the established packets belong to.
const FLOWS: u32 = 1_000;

/// What the router does with a packet.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    /// Forward it; conntrack is not even loaded for it.
    Plain,
    /// Translate its destination to one address by one rule.
    OneRule,
    /// Our table with so many associations; with or without the guard.
    Ours { associations: u32, guard: bool },
}

const LAYOUTS: [Layout; 6] = [
    Layout::Plain,
    Layout::OneRule,
    Layout::Ours {
        associations: 1,
        guard: true,
    },
    Layout::Ours {
        associations: 1_000,
        guard: true,
    },
    Layout::Ours {
        associations: 100_000,
        guard: true,
    },
    Layout::Ours {
        associations: 100_000,
        guard: false,
    },
];

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
    println!("{:<42} {:>26} {:>26}", "", "new flow", "established packet");
    for (layout, measured) in LAYOUTS.iter().zip(&cost) {
        let column = |part: fn(&(Duration, Duration)) -> Duration| {
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
            "{:<42} {:>26} {:>26}",
            format!("{layout:?}"),
            column(|cost| cost.0),
            column(|cost| cost.1)
        );
    }
}

/// The cost of the first packet of a flow, and of a later one.
fn measure(lab: &Lab, layout: Layout) -> (Duration, Duration) {
    let kernel = lab.in_router(|| install(layout));
    let addresses = match layout {
        Layout::Plain | Layout::OneRule => 1_000,
        Layout::Ours { associations, .. } => associations,
    };
    let idle = lab.send_to_nobody(PACKETS);
    let to = |packet: u32| Ipv4Addr::from_bits(floating(packet % addresses));
    lab.forget_flows();
    let new = lab.send(PACKETS, |packet| (to(packet), packet));
    lab.forget_flows();
    lab.send(FLOWS, |packet| (to(packet), packet));
    let established = lab.send(PACKETS, |packet| (to(packet % FLOWS), packet % FLOWS));
    lab.in_router(|| lab::run("nft", &["delete", "table", "inet", "one_rule"]).ok());
    drop(kernel);
    lab.in_router(|| lab::run("nft", &["delete", "table", "inet", "ipfloater"]).ok());
    let a_packet = |total: Duration| total.saturating_sub(idle) / PACKETS;
    (a_packet(new), a_packet(established))
}

fn install(layout: Layout) -> Option<LinuxKernel> {
    match layout {
        Layout::Plain => None,
        Layout::OneRule => {
            let table = format!(
                "table inet one_rule {{\n\
                 chain pre {{\n\
                 type nat hook prerouting priority dstnat\n\
                 iifname \"{}\" dnat ip to 10.0.0.1\n\
                 }}\n\
                 }}\n",
                lab::OUTSIDE
            );
            lab::nft(&table);
            None
        }
        Layout::Ours {
            associations,
            guard,
        } => {
            let mut kernel = LinuxKernel::open(Hidden::default()).expect("a kernel with nf_tables");
            kernel
                .transact(&table(associations, guard))
                .expect("the kernel takes the table");
            Some(kernel)
        }
    }
}

/// Our table with so many associations.
fn table(associations: u32, guard: bool) -> Transaction {
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
        }],
        private: vec![],
        guard,
        block_free: true,
    };
    let size = |family| Ruleset::size_for(site.capacity(family));
    let mut add = vec![Element::Outside(
        lab::OUTSIDE.parse().expect("a valid name"),
    )];
    for host in 0..associations {
        let address = Ipv4Addr::from_bits(floating(host))
            .to_string()
            .parse()
            .expect("a unicast address");
        let fixed = Ipv4Addr::from_bits(0x0a00_0001 + host)
            .to_string()
            .parse()
            .expect("a unicast address");
        add.push(Element::FloatingToFixed(address, fixed));
        add.push(Element::FixedToFloating(fixed, address));
    }
    debug_assert!(size(Family::V4) >= associations);
    Transaction {
        rebuild: Some(Ruleset::new(&site, size)),
        pool: Some(vec![range]),
        remove: vec![],
        add,
    }
}

/// Floating IPs from 198.18.0.0/15, which RFC 2544 keeps for benchmarks.
fn floating(index: u32) -> u32 {
    0xc612_0001 + index
}
