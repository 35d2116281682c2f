//! The bytes of nf_tables batches, compared with files in `golden/`.
//!
//! One paragraph a message, 16 bytes a line. Headers are in the byte order of
//! the machine; the files hold those of a little-endian one.
#![cfg(target_endian = "little")]

use std::fmt::Write as _;
use std::path::Path;

use ipfloater::dataplane::{Element, PortElement, Reshape, Ruleset, Transaction, Uses};
use ipfloater::kernel::nft::{Batch, Dialect};
use ipfloater::model::{AddressRange, Count, Direction, Site, Untranslated};

const TODAY: Dialect = Dialect {
    table_owner: true,
    map_keys: true,
};

const OLD: Dialect = Dialect {
    table_owner: false,
    map_keys: false,
};

fn readable(mut bytes: &[u8]) -> String {
    let mut text = String::new();
    while !bytes.is_empty() {
        let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
        let (message, rest) = bytes.split_at(length);
        for line in message.chunks(16) {
            let words: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(text, "{}", words.join(" ")).unwrap();
        }
        if !rest.is_empty() {
            text.push('\n');
        }
        bytes = rest;
    }
    text
}

fn assert_golden(name: &str, batch: &Batch) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    let written = readable(batch.bytes());
    if std::env::var_os("IPFLOATER_BLESS").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert!(
        written == golden,
        "{} differs; IPFLOATER_BLESS=1 rewrites it, and git diff shows how",
        path.display()
    );
}

fn tie(floating: &str, fixed: &str) -> [Element; 2] {
    let (floating, fixed) = (floating.parse().unwrap(), fixed.parse().unwrap());
    [
        Element::FloatingToFixed(floating, fixed),
        Element::FixedToFloating(fixed, floating),
    ]
}

fn forward(floating: &str, forward: &str) -> Vec<Element> {
    let floating = floating.parse().unwrap();
    PortElement::of(&forward.parse().unwrap())
        .map(|element| Element::Forward(floating, element))
        .collect()
}

/// What the table has while addresses need it.
const EVERYTHING: Uses = Uses {
    rates: [true, true],
    sources: true,
    uplinks: 2,
};

fn limited(floating: &str) -> [Element; 2] {
    let floating = floating.parse().unwrap();
    [
        Element::Limited(Direction::In, floating, "10M".parse().unwrap()),
        Element::Limited(Direction::Out, floating, "1G".parse().unwrap()),
    ]
}

fn counted(floating: &str, packets: u64, bytes: u64) -> [Element; 2] {
    let floating = floating.parse().unwrap();
    let count = Count { packets, bytes };
    Direction::BOTH.map(|direction| Element::Counted(direction, floating, count))
}

fn first_build() -> Transaction {
    let site = Site {
        pools: Vec::new(),
        private: Vec::new(),
        guard: true,
        block_free: true,
        counters: true,
        untranslated: Untranslated {
            destinations: vec!["10.8.0.0/16".parse().unwrap(), "fd08::/48".parse().unwrap()],
            ipsec: true,
        },
        uplink_numbers: Default::default(),
        rest: std::time::Duration::ZERO,
        limits: Default::default(),
    };
    let range = |first: &str, last: &str| {
        AddressRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
    };
    let mut add = vec![Element::Outside("wan0".parse().unwrap())];
    add.extend(tie("198.51.100.7", "10.0.0.5"));
    add.extend(tie("2001:db8:1::7", "fd00::5"));
    add.push(Element::RestToFixed(
        "198.51.100.8".parse().unwrap(),
        "10.0.0.6".parse().unwrap(),
    ));
    add.extend(forward("198.51.100.8", "8080/tcp -> 10.0.0.5:80"));
    add.extend(forward("198.51.100.8", "5000-5200/udp -> 10.0.0.7:5000"));
    add.extend(forward("2001:db8:1::8", "9000-9001/sctp -> [fd00::6]:8000"));
    add.extend(forward("2001:db8:1::8", "5000-5200/tcp -> [fd00::7]:5000"));
    add.extend(counted("198.51.100.7", 0, 0));
    add.extend(counted("2001:db8:1::7", 3, 300));
    add.extend(limited("198.51.100.8"));
    add.extend(limited("2001:db8:1::8"));
    add.push(Element::FixedToUplink("10.0.0.5".parse().unwrap(), 1));
    add.push(Element::FixedToUplink("fd00::5".parse().unwrap(), 2));
    for (address, net) in [
        ("198.51.100.8", "192.0.2.0/24"),
        ("198.51.100.8", "203.0.113.9/32"),
        ("2001:db8:1::8", "2001:db8:f::/48"),
    ] {
        let floating = address.parse().unwrap();
        add.push(Element::Filtered(floating));
        add.push(Element::Allowed(floating, net.parse().unwrap()));
    }
    Transaction {
        rebuild: Some(Ruleset::using(&site, |_| 1_024, EVERYTHING)),
        reshape: None,
        pool: Some(vec![
            range("198.51.100.0", "198.51.100.255"),
            range("2001:db8:1::", "2001:db8:1::ffff"),
        ]),
        uplinks: Some(vec![
            (range("198.51.100.0", "198.51.100.127"), 1),
            (range("198.51.100.128", "198.51.100.255"), 2),
            (range("2001:db8:1::", "2001:db8:1::ffff"), 2),
        ]),
        remove: Vec::new(),
        add,
    }
}

#[test]
fn the_first_build_of_the_table() {
    let batch = Batch::new(1, TODAY, true, &first_build());
    assert_golden("first-build.hex", &batch);
}

#[test]
fn the_first_build_of_the_table_on_an_old_kernel() {
    let batch = Batch::new(1, OLD, false, &first_build());
    assert_golden("first-build-old-kernel.hex", &batch);
}

#[test]
fn a_move_removes_and_adds_in_one_batch() {
    let transaction = Transaction {
        remove: tie("198.51.100.7", "10.0.0.5").to_vec(),
        add: tie("198.51.100.7", "10.0.0.9").to_vec(),
        ..Transaction::default()
    };
    assert_golden("move.hex", &Batch::new(1, TODAY, false, &transaction));
}

#[test]
fn a_removal_names_only_the_keys() {
    let mut remove = tie("2001:db8:1::7", "fd00::5").to_vec();
    remove.extend(counted("2001:db8:1::7", 3, 300));
    let transaction = Transaction {
        remove,
        ..Transaction::default()
    };
    assert_golden("removal.hex", &Batch::new(1, TODAY, false, &transaction));
}

#[test]
fn a_rate_is_removed_and_added_in_one_batch() {
    let floating = "198.51.100.8".parse().unwrap();
    let rate = |text: &str| Element::Limited(Direction::In, floating, text.parse().unwrap());
    let transaction = Transaction {
        remove: vec![rate("10M")],
        add: vec![rate("100M")],
        ..Transaction::default()
    };
    assert_golden("rate.hex", &Batch::new(1, TODAY, false, &transaction));
}

#[test]
fn chains_are_put_right_without_what_they_lead_to() {
    let ruleset = first_build().rebuild.unwrap();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let transaction = Transaction {
        reshape: Some(Reshape {
            ruleset,
            new: names(&["by_source"]),
            altered: names(&["nat_prerouting", "bypassed"]),
            gone: names(&["somebody"]),
        }),
        ..Transaction::default()
    };
    assert_golden("reshape.hex", &Batch::new(1, OLD, false, &transaction));
}

#[test]
fn a_forward_of_ports_that_stay_is_one_element_and_of_others_one_each() {
    let transaction = Transaction {
        remove: forward("198.51.100.8", "5000-5200/udp -> 10.0.0.7:5000"),
        add: forward("198.51.100.8", "5000-5002/udp -> 10.0.0.7:6000"),
        ..Transaction::default()
    };
    assert_golden("forward.hex", &Batch::new(1, TODAY, false, &transaction));
}

#[test]
fn an_empty_transaction_adopts_the_table() {
    let batch = Batch::new(1, TODAY, true, &Transaction::default());
    assert_golden("adoption.hex", &batch);
}

#[test]
fn every_message_of_a_big_batch_keeps_its_lists_below_64_kib() {
    let mut transaction = first_build();
    for number in 0..100_000_u32 {
        let (high, low) = (number >> 16, number & 0xffff);
        let pair = tie(
            &format!("2001:db8:1::{high:x}:{low:x}"),
            &format!("fd00::{high:x}:{low:x}"),
        );
        transaction.add.extend(pair);
        let address = format!("2001:db8:1::{high:x}:{low:x}");
        transaction.add.extend(limited(&address));
        transaction.add.extend(counted(&address, 1, 60));
        let net = "2001:db8:f::/48".parse().unwrap();
        transaction
            .add
            .push(Element::Allowed(address.parse().unwrap(), net));
    }
    let batch = Batch::new(1, TODAY, true, &transaction);
    let mut bytes = batch.bytes();
    let mut messages = 0;
    while !bytes.is_empty() {
        let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
        let sequence = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
        assert!(length < 64 * 1024 && length.is_multiple_of(4), "{length}");
        messages += 1;
        assert_eq!(sequence, messages);
        bytes = &bytes[length..];
    }
    assert_eq!(batch.next_sequence(), messages + 1);
}
