//! The table on a real kernel, each test in a network namespace of its own.
//! They need root, nft(8), and nothing else.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use ipfloater::dataplane::{Delta, Element, Observed, Ruleset, Transaction};
use ipfloater::kernel::{Hidden, Kernel, KernelError, LinuxKernel};
use ipfloater::model::{AddressRange, FixedIp, FloatingIp, Site};
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

const PLAIN: Hidden = Hidden {
    table_owner: true,
    conntrack_filter: false,
};

fn open() -> LinuxKernel {
    LinuxKernel::open(Hidden::default()).unwrap()
}

fn open_plain() -> LinuxKernel {
    LinuxKernel::open(PLAIN).unwrap()
}

fn ruleset(guard: bool, block_free: bool) -> Ruleset {
    let site = Site {
        pools: Vec::new(),
        private: Vec::new(),
        guard,
        block_free,
    };
    Ruleset::new(&site, |_| 1_024)
}

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

fn outside(name: &str) -> Element {
    Element::Outside(name.parse().unwrap())
}

/// The first build of the table, with one association of each family.
fn first_build() -> Transaction {
    let mut add = vec![outside("wan0")];
    add.extend(tie("198.51.100.7", "10.0.0.5"));
    add.extend(tie("2001:db8:1::7", "fd00::5"));
    Transaction {
        rebuild: Some(ruleset(true, true)),
        pool: Some(vec![
            range("198.51.100.0", "198.51.100.255"),
            range("203.0.113.8", "203.0.113.20"),
            range("2001:db8:1::", "2001:db8:1::ffff"),
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
        pool: seen.pool,
        outside: seen.outside,
        ..Observed::default()
    }
}

#[test]
fn what_was_built_is_seen_again() {
    for guard in [false, true] {
        for block_free in [false, true] {
            for hidden in [Hidden::default(), PLAIN] {
                in_namespace(move || {
                    let mut build = first_build();
                    build.rebuild = Some(ruleset(guard, block_free));
                    let mut kernel = LinuxKernel::open(hidden).unwrap();
                    kernel.transact(&build).unwrap();
                    assert_eq!(observe(&mut kernel), noted(&[&build]));
                    println!("{}", nft("list table inet ipfloater"));
                });
            }
        }
    }
}
