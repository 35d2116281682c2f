//! The table on a real kernel, each test in a network namespace of its own.
//! They need root, nft(8), and nothing else.

#![allow(
    clippy::disallowed_types,
    reason = "a test may start programs; the daemon may not"
)]

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use ipfloater::dataplane::{Element, Observed, PortElement, Reshape, Ruleset, Transaction, Uses};
use ipfloater::kernel::{Hidden, Kernel, LinuxKernel};
use ipfloater::model::{AddressRange, Count, Direction, FixedIp, FloatingIp, Site, Untranslated};
use nix::sched::{CloneFlags, unshare};

/// Runs a test in a thread with a network namespace of its own, which ends with
/// the thread.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs nft(8) and returns what it printed, or what it complained about.
fn try_nft(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("nft").args(arguments).output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

fn nft(command: &str) -> String {
    try_nft(&command.split(' ').collect::<Vec<_>>()).unwrap()
}

/// As on a kernel before 6.5.
const PLAIN: Hidden = Hidden {
    table_owner: true,
    conntrack_filter: true,
    map_keys: true,
    peer_pidfd: true,
};

fn open() -> LinuxKernel {
    LinuxKernel::open(Hidden::default()).unwrap()
}

fn open_plain() -> LinuxKernel {
    LinuxKernel::open(PLAIN).unwrap()
}

fn ruleset(guard: bool, block_free: bool) -> Ruleset {
    ruleset_with(guard, block_free, true)
}

fn ruleset_with(guard: bool, block_free: bool, counters: bool) -> Ruleset {
    let site = Site {
        pools: Vec::new(),
        private: Vec::new(),
        guard,
        block_free,
        counters,
        untranslated: untranslated(),
        uplink_numbers: Default::default(),
        rest: std::time::Duration::ZERO,
        limits: Default::default(),
    };
    Ruleset::using(&site, |_| 1_024, EVERYTHING)
}

fn untranslated() -> Untranslated {
    Untranslated {
        destinations: vec!["10.8.0.0/16".parse().unwrap(), "fd08::/48".parse().unwrap()],
        ipsec: true,
    }
}

/// What the table has while addresses need it.
const EVERYTHING: Uses = Uses {
    rates: [true, true],
    sources: true,
    uplinks: 2,
};

fn floating(text: &str) -> FloatingIp {
    text.parse().unwrap()
}

fn fixed(text: &str) -> FixedIp {
    text.parse().unwrap()
}

fn range(first: &str, last: &str) -> AddressRange {
    AddressRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
}

/// Both elements of an association.
fn tie(floating_ip: &str, fixed_ip: &str) -> [Element; 2] {
    let (floating, fixed) = (floating(floating_ip), fixed(fixed_ip));
    [
        Element::FloatingToFixed(floating, fixed),
        Element::FixedToFloating(fixed, floating),
    ]
}

/// The elements of a forward of a floating IP.
fn forward(floating_ip: &str, forward: &str) -> Vec<Element> {
    let elements = PortElement::of(&forward.parse().unwrap());
    elements
        .map(|element| Element::Forward(floating(floating_ip), element))
        .collect()
}

fn rest(floating_ip: &str, fixed_ip: &str) -> Element {
    Element::RestToFixed(floating(floating_ip), fixed(fixed_ip))
}

/// The elements that count a floating IP, from so much on.
fn counted(floating_ip: &str, packets: u64, bytes: u64) -> [Element; 2] {
    let count = Count { packets, bytes };
    Direction::BOTH.map(|direction| Element::Counted(direction, floating(floating_ip), count))
}

fn rate(direction: Direction, floating_ip: &str, rate: &str) -> Element {
    Element::Limited(direction, floating(floating_ip), rate.parse().unwrap())
}

fn outside(name: &str) -> Element {
    Element::Outside(name.parse().unwrap())
}

/// Hosts that leave by an uplink.
fn led() -> [Element; 2] {
    [("10.0.0.5", 1), ("fd00::5", 2)]
        .map(|(host, number)| Element::FixedToUplink(fixed(host), number))
}

/// The first build of the table, with one association of each family.
fn first_build() -> Transaction {
    let mut add = vec![outside("wan0")];
    add.extend(tie("198.51.100.7", "10.0.0.5"));
    add.extend(tie("2001:db8:1::7", "fd00::5"));
    add.push(rest("198.51.100.8", "10.0.0.6"));
    for (floating, text) in [
        ("198.51.100.8", "8080/tcp -> 10.0.0.5:80"),
        ("198.51.100.8", "5000-5200/udp -> 10.0.0.7:5000"),
        ("2001:db8:1::8", "9000-9001/sctp -> [fd00::6]:8000"),
        ("2001:db8:1::8", "5000-5200/tcp -> [fd00::7]:5000"),
    ] {
        add.extend(forward(floating, text));
    }
    for host in ["10.0.0.5", "10.0.0.7", "fd00::6", "fd00::7"] {
        add.push(Element::ForwardedTo(fixed(host)));
    }
    add.extend(counted("198.51.100.7", 0, 0));
    add.extend(counted("2001:db8:1::7", 3, 300));
    for (address, net) in [
        ("198.51.100.8", "192.0.2.0/24"),
        ("198.51.100.8", "203.0.113.9/32"),
        ("2001:db8:1::8", "2001:db8:f::/48"),
    ] {
        add.push(Element::Allowed(floating(address), net.parse().unwrap()));
    }
    for address in ["198.51.100.8", "2001:db8:1::8"] {
        add.push(Element::Filtered(floating(address)));
        add.push(rate(Direction::In, address, "10M"));
        add.push(rate(Direction::Out, address, "1G"));
    }
    add.extend(led());
    Transaction {
        rebuild: Some(ruleset(true, true)),
        reshape: None,
        pool: Some(vec![
            range("198.51.100.0", "198.51.100.255"),
            range("203.0.113.8", "203.0.113.20"),
            range("2001:db8:1::", "2001:db8:1::ffff"),
        ]),
        uplinks: Some(vec![
            // They touch, and lead to different uplinks.
            (range("198.51.100.0", "198.51.100.127"), 1),
            (range("198.51.100.128", "198.51.100.255"), 2),
            (range("203.0.113.8", "203.0.113.20"), 1),
            (range("2001:db8:1::", "2001:db8:1::ffff"), 2),
        ]),
        remove: Vec::new(),
        add,
    }
}

/// What is there after these transactions, as the controller keeps it.
fn noted(transactions: &[&Transaction]) -> Observed {
    let mut observed = Observed::default();
    for transaction in transactions {
        observed.note(transaction);
    }
    observed
}

/// What is there of the table, without interfaces and routes, which every
/// namespace has.
fn observe(kernel: &mut LinuxKernel) -> Observed {
    let seen = kernel.observe().unwrap();
    Observed {
        table: seen.table,
        floating_to_fixed: seen.floating_to_fixed,
        fixed_to_floating: seen.fixed_to_floating,
        rest_to_fixed: seen.rest_to_fixed,
        forwards: seen.forwards,
        forwarded_to: seen.forwarded_to,
        forwarding: seen.forwarding,
        counted: seen.counted,
        limited: seen.limited,
        filtered: seen.filtered,
        allowed: seen.allowed,
        pool: seen.pool,
        uplinks: seen.uplinks,
        fixed_to_uplink: seen.fixed_to_uplink,
        outside: seen.outside,
        ..Observed::default()
    }
}

#[test]
fn what_was_built_is_seen_again() {
    let switches = [false, true];
    for (guard, counters) in switches.map(|guard| switches.map(|c| (guard, c))).concat() {
        for block_free in switches {
            for hidden in [Hidden::default(), PLAIN] {
                in_namespace(move || {
                    let mut build = first_build();
                    build.rebuild = Some(ruleset_with(guard, block_free, counters));
                    if !counters {
                        build
                            .add
                            .retain(|element| !matches!(element, Element::Counted(..)));
                    }
                    if !block_free {
                        for address in ["198.51.100.8", "2001:db8:1::8"] {
                            build.add.push(Element::Forwarding(floating(address)));
                        }
                    }
                    let mut kernel = LinuxKernel::open(hidden).unwrap();
                    kernel.transact(&build).unwrap();
                    assert_eq!(observe(&mut kernel), noted(&[&build]));
                });
            }
        }
    }
}

#[test]
fn the_table_reads_well_in_nft() {
    in_namespace(|| {
        let mut kernel = open();
        kernel.transact(&first_build()).unwrap();
        let version = nft("--version");
        let table = nft("list table inet ipfloater");
        // nft names the owner's process, which here is that of the test.
        let (_, rest) = table.split_once('\n').unwrap();
        let printed = format!(
            "# nft list table inet ipfloater, as printed by {version}\
             table inet ipfloater {{\n{rest}"
        );
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ruleset.nft");
        if std::env::var_os("IPFLOATER_BLESS").is_some() {
            std::fs::write(&path, &printed).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            printed,
            golden,
            "{} differs; IPFLOATER_BLESS=1 rewrites it",
            path.display()
        );
    });
}

#[test]
fn a_move_and_a_removal_leave_exactly_the_rest() {
    in_namespace(|| {
        let mut kernel = open();
        let build = first_build();
        kernel.transact(&build).unwrap();

        let moved = Transaction {
            remove: tie("198.51.100.7", "10.0.0.5").to_vec(),
            add: tie("198.51.100.7", "10.0.0.9").to_vec(),
            ..Transaction::default()
        };
        kernel.transact(&moved).unwrap();
        assert_eq!(observe(&mut kernel), noted(&[&build, &moved]));

        let removed = Transaction {
            remove: tie("2001:db8:1::7", "fd00::5").to_vec(),
            ..Transaction::default()
        };
        kernel.transact(&removed).unwrap();
        assert_eq!(observe(&mut kernel), noted(&[&build, &moved, &removed]));
    });
}

#[test]
fn a_range_moves_from_host_to_host_and_goes_as_a_whole() {
    in_namespace(|| {
        let mut kernel = open();
        let mut done = vec![first_build()];
        kernel.transact(&done[0]).unwrap();
        type Forwards = &'static [(&'static str, &'static str)];
        let steps: [(Forwards, Forwards); 4] = [
            (
                &[("198.51.100.8", "5000-5200/udp -> 10.0.0.7:5000")],
                &[("198.51.100.8", "5000-5200/udp -> 10.0.0.9:5000")],
            ),
            // The same key in the other map, in one transaction.
            (
                &[("198.51.100.8", "5000-5200/udp -> 10.0.0.9:5000")],
                &[("198.51.100.8", "5000-5200/udp -> 10.0.0.9:6000")],
            ),
            (
                &[
                    ("198.51.100.8", "5000-5200/udp -> 10.0.0.9:6000"),
                    ("2001:db8:1::8", "5000-5200/tcp -> [fd00::7]:5000"),
                ],
                &[],
            ),
            // What was one range is free for smaller ones.
            (
                &[],
                &[
                    ("2001:db8:1::8", "5000-5099/tcp -> [fd00::7]:5000"),
                    ("2001:db8:1::8", "5100-5200/tcp -> [fd00::8]:5100"),
                ],
            ),
        ];
        for (remove, add) in steps {
            let elements = |forwards: &[(&str, &str)]| {
                let each = forwards.iter();
                each.flat_map(|(floating, text)| forward(floating, text))
                    .collect()
            };
            let step = Transaction {
                remove: elements(remove),
                add: elements(add),
                ..Transaction::default()
            };
            kernel.transact(&step).unwrap();
            done.push(step);
            let all: Vec<_> = done.iter().collect();
            assert_eq!(observe(&mut kernel), noted(&all));
        }
    });
}

#[test]
fn maps_of_forwards_take_as_many_as_the_plan_counts_on_and_say_which_is_too_many() {
    in_namespace(|| {
        let mut kernel = open();
        let build = Transaction {
            rebuild: Some(ruleset(true, true)),
            ..Transaction::default()
        };
        kernel.transact(&build).unwrap();
        let limit = ruleset(true, true).forwards();
        let address = |number: u32| Ipv4Addr::from_bits(0xc612_0000 + number).to_string();
        let ranges = (0..limit.ranges)
            .flat_map(|number| forward(&address(number), "2000-3000/tcp -> 10.0.0.5:2000"));
        let ports = (0..limit.ports / 64)
            .flat_map(|number| forward(&address(number), "4000-4063/udp -> 10.0.0.5:5000"));
        let full = Transaction {
            add: ranges.chain(ports).collect(),
            ..Transaction::default()
        };
        kernel.transact(&full).unwrap();
        let seen = observe(&mut kernel);
        assert!(seen == noted(&[&build, &full]));
        for (one_more, expected) in [
            ("1/sctp -> 10.0.0.5:1", "forward4"),
            ("1-2/sctp -> 10.0.0.5:1", "forward_range4"),
        ] {
            let transaction = Transaction {
                add: forward("198.19.0.1", one_more),
                ..Transaction::default()
            };
            let error = kernel.transact(&transaction).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(observe(&mut kernel) == seen);
    });
}

#[test]
fn a_rate_is_altered_by_going_and_coming_in_one_batch() {
    in_namespace(|| {
        let mut kernel = open();
        let build = first_build();
        kernel.transact(&build).unwrap();
        // Alone, the kernel takes it and changes nothing.
        let alone = Transaction {
            add: vec![rate(Direction::In, "198.51.100.8", "100M")],
            ..Transaction::default()
        };
        kernel.transact(&alone).unwrap();
        assert_eq!(observe(&mut kernel), noted(&[&build]));
        let altered = Transaction {
            remove: vec![rate(Direction::In, "198.51.100.8", "10M")],
            ..alone
        };
        kernel.transact(&altered).unwrap();
        assert_eq!(observe(&mut kernel), noted(&[&build, &altered]));
    });
}

#[test]
fn chains_are_put_right_and_everything_else_stays() {
    for hidden in [Hidden::default(), PLAIN] {
        in_namespace(move || {
            let mut kernel = LinuxKernel::open(hidden).unwrap();
            let build = first_build();
            kernel.transact(&build).unwrap();
            let full = ruleset(true, true);
            let bare = Site {
                pools: Vec::new(),
                private: Vec::new(),
                guard: false,
                block_free: true,
                counters: true,
                untranslated: untranslated(),
                uplink_numbers: Default::default(),
                rest: std::time::Duration::ZERO,
                limits: Default::default(),
            };
            let bare = Ruleset::new(&bare, |_| 1_024);
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let less = Transaction {
                reshape: Some(Reshape {
                    ruleset: bare,
                    new: names(&[]),
                    altered: names(&[
                        "leaving",
                        "inbound_flow",
                        "outbound_flow",
                        "twice_translated",
                        "outbound",
                        "nat_prerouting",
                    ]),
                    gone: names(&[
                        "bypassed",
                        "by_source",
                        "uplink_1",
                        "uplink_2",
                        "uplink_in",
                        "uplink_of_reply",
                        "uplink_out",
                    ]),
                }),
                // Nothing may lead to a chain that goes.
                uplinks: Some(Vec::new()),
                remove: led().to_vec(),
                ..Transaction::default()
            };
            kernel.transact(&less).unwrap();
            assert_eq!(observe(&mut kernel), noted(&[&build, &less]), "{hidden:?}");
            let Some(Reshape { altered, gone, .. }) = less.reshape.clone() else {
                unreachable!("it was just made")
            };
            let again = Transaction {
                reshape: Some(Reshape {
                    ruleset: full,
                    new: gone,
                    altered,
                    gone: names(&[]),
                }),
                uplinks: build.uplinks.clone(),
                add: led().to_vec(),
                ..Transaction::default()
            };
            kernel.transact(&again).unwrap();
            assert_eq!(observe(&mut kernel), noted(&[&build]), "{hidden:?}");
        });
    }
}

#[test]
fn a_table_is_rebuilt_over_the_one_that_is_there() {
    for hidden in [Hidden::default(), PLAIN] {
        in_namespace(move || {
            let mut kernel = LinuxKernel::open(hidden).unwrap();
            kernel.transact(&first_build()).unwrap();
            let smaller = Transaction {
                rebuild: Some(ruleset(false, false)),
                reshape: None,
                pool: Some(vec![range("192.0.2.0", "192.0.2.7")]),
                uplinks: None,
                remove: Vec::new(),
                add: tie("192.0.2.1", "10.0.0.5").to_vec(),
            };
            kernel.transact(&smaller).unwrap();
            assert_eq!(observe(&mut kernel), noted(&[&smaller]));
        });
    }
}

#[test]
fn a_table_that_an_earlier_daemon_left_is_adopted_as_it_is() {
    in_namespace(|| {
        let build = first_build();
        let mut earlier = open();
        earlier.transact(&build).unwrap();
        drop(earlier);

        let mut kernel = open();
        assert_eq!(observe(&mut kernel), noted(&[&build]));
        let complaint = try_nft(&["flush table inet ipfloater"]);
        assert_eq!(complaint, Ok(String::new()), "an orphan is anybody's");
        kernel.transact(&build).unwrap();
        drop(kernel);

        let mut kernel = open();
        kernel.transact(&Transaction::default()).unwrap();
        assert_eq!(observe(&mut kernel), noted(&[&build]));
        nft("flush ruleset");
        assert_eq!(observe(&mut kernel), noted(&[&build]));
    });
}

#[test]
fn an_adopted_table_can_be_rebuilt() {
    in_namespace(|| {
        let mut earlier = open();
        earlier.transact(&first_build()).unwrap();
        drop(earlier);

        let mut kernel = open();
        let mut build = first_build();
        build.rebuild = Some(ruleset(false, true));
        kernel.transact(&build).unwrap();
        assert_eq!(observe(&mut kernel), noted(&[&build]));
    });
}

#[test]
fn nobody_else_can_alter_an_owned_table() {
    in_namespace(|| {
        let build = first_build();
        let mut kernel = open();
        assert!(kernel.features().table_owner, "Linux 6.9 or newer");
        kernel.transact(&build).unwrap();
        nft("flush ruleset");
        for command in [
            "flush table inet ipfloater",
            "delete table inet ipfloater",
            "add rule inet ipfloater to_fixed accept",
            "delete element inet ipfloater outside { wan0 }",
        ] {
            let complaint = try_nft(&[command]).unwrap_err();
            assert!(
                complaint.contains("not permitted"),
                "{command}: {complaint}"
            );
        }
        assert_eq!(observe(&mut kernel), noted(&[&build]));
    });
}

#[test]
fn a_second_daemon_is_told_about_the_first() {
    in_namespace(|| {
        let build = first_build();
        let mut first = open();
        first.transact(&build).unwrap();
        for transaction in [Transaction::default(), first_build()] {
            let error = open().transact(&transaction).unwrap_err();
            assert_eq!(
                error.to_string(),
                "altering table inet ipfloater (the table): Operation not permitted (os error 1) \
                 (another ipfloaterd is running in this network namespace; stop that one first)"
            );
        }
        assert_eq!(observe(&mut first), noted(&[&build]));
    });
}

#[test]
fn a_table_that_cannot_be_owned_as_it_is_has_to_be_rebuilt() {
    in_namespace(|| {
        let build = first_build();
        open_plain().transact(&build).unwrap();
        let mut kernel = open();
        let seen = observe(&mut kernel);
        assert_eq!(seen.table, None);
        // What the rebuilt table keeps is still seen.
        assert_eq!(seen.outside, noted(&[&build]).outside);
        kernel.transact(&build).unwrap();
        assert_eq!(observe(&mut kernel), noted(&[&build]));
        nft("flush ruleset");
        assert_eq!(observe(&mut kernel), noted(&[&build]));
    });
}

#[test]
fn every_edit_by_somebody_else_is_seen() {
    for command in [
        "flush ruleset",
        "flush table inet ipfloater",
        "delete table inet ipfloater",
        "add rule inet ipfloater to_fixed accept",
        "insert rule inet ipfloater to_fixed counter",
        "add rule inet ipfloater hairpin snat ip to 192.0.2.1",
        "add chain inet ipfloater another",
        "add set inet ipfloater another { type ipv4_addr; }",
        "flush chain inet ipfloater bypassed",
        "add chain inet ipfloater leaving { policy drop; }",
        "add table inet ipfloater { flags dormant; }",
        "delete element inet ipfloater outside { wan0 }",
        "add element inet ipfloater outside { lan0 }",
        "delete element inet ipfloater pool4 { 203.0.113.8-203.0.113.20 }",
        "add element inet ipfloater pool4 { 192.0.2.1 }",
        "add element inet ipfloater pool6 { 2001:db8:2::/64 }",
        "delete element inet ipfloater floating_to_fixed4 { 198.51.100.7 }",
        "add element inet ipfloater floating_to_fixed4 { 198.51.100.8 : 10.0.0.8 }",
        "add element inet ipfloater fixed_to_floating6 { fd00::6 : 2001:db8:1::6 }",
        "add element inet ipfloater floating_to_fixed4 { 127.0.0.1 : 10.0.0.8 }",
        "delete element inet ipfloater rest_to_fixed4 { 198.51.100.8 }",
        "delete element inet ipfloater forward4 { 198.51.100.8 . tcp . 8080 }",
        "add element inet ipfloater forward4 { 198.51.100.8 . 47 . 8080 : 10.0.0.8 . 80 }",
        "delete element inet ipfloater forward_range4 { 198.51.100.8 . udp . 5000-5200 }",
        "delete element inet ipfloater counted_in4 { 198.51.100.7 }",
        "add element inet ipfloater counted_out6 { 2001:db8:1::9 }",
        "delete element inet ipfloater limited_in4 { 198.51.100.8 }",
        "add element inet ipfloater limited_in4 { 198.51.100.9 limit rate over 1 mbytes/second burst 64 kbytes }",
        "add element inet ipfloater limited_out6 { 2001:db8:1::9 limit rate over 1 mbytes/second burst 9 kbytes }",
        "add element inet ipfloater limited_out6 { 2001:db8:1::9 }",
        "delete element inet ipfloater filtered4 { 198.51.100.8 }",
        "delete element inet ipfloater allowed4 { 198.51.100.8 . 192.0.2.0/24 }",
        "add element inet ipfloater allowed6 { 2001:db8:1::8 . 2001:db8:e::/48 }",
        "add element inet ipfloater allowed4 { 198.51.100.8 . 192.0.3.1-192.0.3.9 }",
        "flush chain inet ipfloater outbound",
        "add element inet ipfloater forward_range6 { 2001:db8:1::8 . tcp . 6000 : fd00::7 }",
    ] {
        in_namespace(move || {
            let build = first_build();
            let mut kernel = open_plain();
            kernel.transact(&build).unwrap();
            let before = observe(&mut kernel);
            assert_eq!(before, noted(&[&build]));
            let generation = kernel.generation().unwrap();
            try_nft(&[command]).unwrap();
            assert_ne!(observe(&mut kernel), before, "{command}");
            assert_ne!(kernel.generation().unwrap(), generation, "{command}");

            kernel.transact(&build).unwrap();
            assert_eq!(observe(&mut kernel), before, "repaired after {command}");
        });
    }
}

#[test]
fn the_tables_of_others_do_not_matter() {
    in_namespace(|| {
        let build = first_build();
        let mut kernel = open();
        nft("add table ip ipfloater");
        nft("add chain ip ipfloater to_fixed");
        nft("add table inet other");
        nft("add chain inet other to_fixed");
        assert_eq!(observe(&mut kernel), Observed::default());
        kernel.transact(&build).unwrap();
        assert_eq!(observe(&mut kernel), noted(&[&build]));
    });
}

#[test]
fn a_hundred_thousand_associations_are_loaded_and_seen_again() {
    in_namespace(|| {
        let mut build = first_build();
        build.rebuild = Some(Ruleset::new(
            &Site {
                pools: Vec::new(),
                private: Vec::new(),
                guard: true,
                block_free: true,
                counters: true,
                untranslated: Default::default(),
                uplink_numbers: Default::default(),
                rest: std::time::Duration::ZERO,
                limits: Default::default(),
            },
            |_| Ruleset::size_for(100_001),
        ));
        // The table has no chains for uplinks.
        build.uplinks = None;
        build
            .add
            .retain(|element| !matches!(element, Element::FixedToUplink(..)));
        for number in 0..100_000_u32 {
            let floating = Ipv4Addr::from_bits(0xc612_0000 + number).to_string();
            let fixed = Ipv4Addr::from_bits(0x0a00_1000 + number).to_string();
            build.add.extend(tie(&floating, &fixed));
        }
        let mut kernel = open();
        kernel.transact(&build).unwrap();
        // Not assert_eq: nobody reads 100,000 addresses twice.
        let seen = observe(&mut kernel);
        assert_eq!(seen.floating_to_fixed.len(), 100_002);
        assert!(seen == noted(&[&build]));

        let removed = Transaction {
            remove: build.add.split_off(1),
            ..Transaction::default()
        };
        kernel.transact(&removed).unwrap();
        assert!(observe(&mut kernel) == noted(&[&build]));
    });
}

#[test]
fn pools_reach_to_the_highest_addresses() {
    let everything = [
        range("0.0.0.0", "255.255.255.255"),
        range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ];
    let ends = [
        range("0.0.0.0", "0.0.0.0"),
        range("198.51.100.9", "198.51.100.9"),
        range("198.51.100.11", "198.51.100.11"),
        range("255.255.255.250", "255.255.255.255"),
        range("::", "::"),
        range("ffff::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ];
    let nearly = [
        range("255.255.255.253", "255.255.255.254"),
        range("ffff::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"),
    ];
    let many: Vec<_> = (0..3_000_u32)
        .map(|number| Ipv4Addr::from_bits(0xc612_0000 + 3 * number))
        .map(|address| AddressRange::single(address.into()))
        .collect();
    in_namespace(move || {
        let mut kernel = open();
        kernel.transact(&first_build()).unwrap();
        for pool in [&everything[..], &ends, &nearly, &many, &[], &ends] {
            let replaced = Transaction {
                pool: Some(pool.to_vec()),
                ..Transaction::default()
            };
            kernel.transact(&replaced).unwrap();
            assert_eq!(observe(&mut kernel).pool, pool);
        }
        assert!(
            nft("list set inet ipfloater pool4").contains(
                "elements = { 0.0.0.0, 198.51.100.9,\n\t\t\t     198.51.100.11, \
                 255.255.255.250-255.255.255.255 }"
            ),
            "{}",
            nft("list set inet ipfloater pool4")
        );
    });
}

#[test]
fn an_error_names_the_element_that_the_kernel_refused() {
    let [to_fixed, to_floating] = tie("198.51.100.7", "10.0.0.9");
    let [absent, _] = tie("198.51.100.99", "10.0.0.99");
    let [absent6, _] = tie("2001:db8:1::99", "fd00::99");
    let many = || tie("198.51.100.50", "10.0.0.50").into_iter();
    let cases = [
        (
            vec![],
            many().chain([to_fixed]).collect(),
            "adding element 198.51.100.7 : 10.0.0.9 of floating_to_fixed4): File exists",
        ),
        (vec![], many().chain([to_floating]).collect(), ""),
        (
            vec![absent],
            vec![],
            "removing element 198.51.100.99 of floating_to_fixed4): No such file or directory",
        ),
        (
            vec![absent6],
            vec![],
            "removing element 2001:db8:1::99 of floating_to_fixed6): No such file or directory",
        ),
        (
            vec![],
            forward("198.51.100.8", "8080/tcp -> 10.0.0.9:80"),
            "adding element 198.51.100.8 . tcp . 8080 : 10.0.0.9 . 80 of forward4): File exists",
        ),
        (
            vec![],
            forward("198.51.100.8", "5100-5300/udp -> 10.0.0.9:5100"),
            "adding element 198.51.100.8 . udp . 5100 : 10.0.0.9 of forward_range4): File exists",
        ),
        (
            forward("2001:db8:1::8", "9002/sctp -> [fd00::6]:8000"),
            vec![],
            "removing element 2001:db8:1::8 . sctp . 9002 of forward6): No such file or directory",
        ),
        (
            vec![outside("lan0")],
            vec![],
            "removing element lan0 of outside): No such file or directory",
        ),
    ];
    for (remove, add, expected) in cases {
        in_namespace(move || {
            let mut kernel = open();
            let build = first_build();
            kernel.transact(&build).unwrap();
            let transaction = Transaction {
                remove,
                add,
                ..Transaction::default()
            };
            match kernel.transact(&transaction) {
                Err(error) => {
                    let text = error.to_string();
                    assert!(!expected.is_empty() && text.contains(expected), "{text}");
                    assert_eq!(observe(&mut kernel), noted(&[&build]), "all or nothing");
                }
                Ok(()) => assert_eq!(expected, ""),
            }
        });
    }
}

#[test]
fn a_full_map_refuses_and_says_so() {
    in_namespace(|| {
        let mut kernel = open();
        let build = first_build();
        kernel.transact(&build).unwrap();
        let many = (0..2_000_u32).map(|number| {
            let address = |base: u32| Ipv4Addr::from_bits(base + number);
            Element::FloatingToFixed(
                floating(&address(0xc612_0000).to_string()),
                fixed(&address(0x0a00_1000).to_string()),
            )
        });
        let transaction = Transaction {
            add: many.collect(),
            ..Transaction::default()
        };
        let error = kernel.transact(&transaction).unwrap_err().to_string();
        assert!(error.contains("floating_to_fixed4"), "{error}");
        assert_eq!(observe(&mut kernel), noted(&[&build]));
    });
}

#[test]
fn nothing_is_left_behind_by_opening() {
    in_namespace(|| {
        drop(open());
        assert_eq!(nft("list ruleset"), "");
    });
}
