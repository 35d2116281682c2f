//! What a dry run tells is what then happens, and until then nothing does.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipfloater::model::Family;
use serde_json::Value;

use super::daemon::Daemon;
use super::lab::{Lab, floating};
use super::talk::{Transport, saw};

/// Everything that a change could alter.
#[derive(Debug, PartialEq, Eq)]
struct World {
    table: String,
    routes: String,
    addresses: String,
    flows: BTreeSet<String>,
    status: (u64, u64),
    store: Vec<Vec<u8>>,
}

impl World {
    fn look(lab: &Lab, daemon: &Daemon) -> Self {
        let files = ["ipfloater.db", "ipfloater.db-wal"];
        let files = files.map(|name| daemon.directory().join("state").join(name));
        let status = daemon.json("status");
        let counter = |name: &str| status[name].as_u64().expect("a counter");
        Self {
            table: lab.router.program("nft list table inet ipfloater"),
            routes: lab.router.program("ip route show table local"),
            addresses: lab
                .router
                .program("ip -6 -oneline address show scope global"),
            flows: flows(lab),
            status: (counter("revision"), counter("sequence")),
            store: files
                .iter()
                .map(|file| std::fs::read(file).unwrap_or_default())
                .collect(),
        }
    }

    /// The elements of its sets and maps, as nft(8) is told to add them.
    fn elements(&self) -> BTreeSet<String> {
        let mut elements = BTreeSet::new();
        for part in self.table.split("elements = {").skip(1) {
            let before = &self.table[..self.table.find(part).expect("it is a part")];
            let header = before
                .lines()
                .rfind(|line| line.starts_with("\tmap ") || line.starts_with("\tset "));
            let name = header
                .and_then(|line| line.split_whitespace().nth(1))
                .expect("elements are of a set");
            let inside = part.split('}').next().expect("it is closed");
            for element in inside.split(',') {
                // What was counted is no part of the order.
                let element = element.split(" counter ").next().unwrap_or_default();
                elements.insert(format!("{name} {{ {} }}", element.trim()));
            }
        }
        elements
    }
}

/// The flows that conntrack holds, without what passes by itself: how long they
/// will be kept.
fn flows(lab: &Lab) -> BTreeSet<String> {
    let mut flows = BTreeSet::new();
    for family in ["ipv4", "ipv6"] {
        let listed = lab
            .router
            .try_program(&format!("conntrack -L -f {family}"), "")
            .expect("conntrack lists");
        for line in listed.lines() {
            let words = line.split_whitespace();
            let addressed: Vec<_> = words.filter(|word| word.contains('=')).collect();
            flows.insert(addressed.join(" "));
        }
    }
    flows
}

/// What an answer foretells of a kind.
fn told(answer: &Value, kind: &str) -> Vec<String> {
    let effects = answer["effects"].as_array().into_iter().flatten();
    effects
        .filter(|effect| effect["kind"] == kind)
        .map(|effect| effect["text"].as_str().expect("a text").to_owned())
        .collect()
}

/// An address without the times, which go on.
fn timeless(mut address: Value) -> Value {
    let fields = address.as_object_mut().expect("an address");
    fields.retain(|name, _| !name.ends_with("_at") && name != "resting_until");
    address
}

fn end(address: IpAddr, ports: &str) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}:{ports}"),
        IpAddr::V6(address) => format!("[{address}]:{ports}"),
    }
}

#[test]
fn a_dry_run_touches_nothing_and_foretells_what_is_done() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        let [a, b, c] = [&lab.host_a, &lab.host_b, &lab.host_c].map(|host| host.address(family));
        let other = super::lab::floating(family, 11);
        let verbs = [
            format!("allocate {floating}"),
            format!("associate {floating} {a}"),
            format!("associate {floating} {b} --reassociate"),
            format!("associate {floating} {a} --reassociate --keep-established"),
            format!("associate {floating} {b} --reassociate"),
            format!("forward {} {}", end(floating, "7/udp"), end(c, "7")),
            format!("forward {} {c}", end(floating, "5000-5010/tcp")),
            format!(
                "forward {} {} --outbound floating",
                end(floating, "8000-8002/tcp"),
                end(c, "9000")
            ),
            // It displaces what the host has, and takes what it is forwarded as.
            format!("associate {other} {b} --reassociate"),
            format!("unforward {}", end(floating, "7/udp")),
            format!("associate {floating} {c} --reassociate"),
            format!("disassociate {other}"),
            format!("release {other}"),
            format!("releaseip {floating}"),
            format!("getip {a}"),
            format!("redirect {floating} {b}"),
            format!("release {a}"),
            format!("release {b}"),
            format!("release {floating}"),
        ];
        for verb in verbs {
            // Somebody talks to and as the address, where it leads somewhere.
            if daemon.state(floating) == "active" {
                let _ = lab.outside.ask(Transport::BOTH[0], floating);
            }
            let _ = lab
                .host_b
                .ask(Transport::BOTH[1], lab.outside.address(family));
            let before = World::look(&lab, &daemon);
            let foretold = daemon.json(&format!("{verb} --dry-run"));
            assert_eq!(before, World::look(&lab, &daemon), "{verb}");
            assert_eq!(foretold["dry_run"], true, "{foretold}");

            let done = daemon.json(&verb);
            let after = World::look(&lab, &daemon);
            assert!(done.get("dry_run").is_none(), "{done}");
            for field in ["changed", "previous_fixed_address", "displaced_floating_ip"] {
                assert_eq!(foretold.get(field), done.get(field), "{verb}: {field}");
            }
            let address = |answer: &Value| timeless(answer["address"].clone());
            assert_eq!(address(&foretold), address(&done), "{verb}");

            let (had, has) = (before.elements(), after.elements());
            let gone = had.difference(&has);
            let gone = gone.map(|element| format!("delete element inet ipfloater {element}"));
            let come = has.difference(&had);
            let come = come.map(|element| format!("add element inet ipfloater {element}"));
            let orders: BTreeSet<_> = told(&foretold, "kernel").into_iter().collect();
            assert_eq!(orders, gone.chain(come).collect(), "{verb}");

            let committed = after.status.1 - before.status.1;
            assert_eq!(told(&foretold, "store").len() as u64, committed, "{verb}");
            let is_answered = |world: &World, address: IpAddr| {
                let routes = world.routes.contains(&format!("local {address} dev wan0"));
                routes || world.addresses.contains(&format!("{address}/128"))
            };
            let mut expected = Vec::new();
            for address in [floating, other] {
                match (is_answered(&before, address), is_answered(&after, address)) {
                    (true, false) => {
                        expected.push(format!("{address} is no longer answered for on wan0"));
                    }
                    (false, true) => expected.push(format!(
                        "{address} is answered for on wan0, and announced there"
                    )),
                    (true, true) | (false, false) => {}
                }
            }
            let mut addresses = told(&foretold, "address");
            addresses.retain(|line| {
                line.contains(&floating.to_string()) || line.contains(&other.to_string())
            });
            assert_eq!(addresses, expected, "{verb}");
            let ended = before.flows.difference(&after.flows);
            let ended: Vec<_> = ended
                .filter(|flow| flow.contains(&floating.to_string()))
                .collect();
            assert!(
                ended.is_empty() || !told(&foretold, "flows").is_empty(),
                "{verb}: {ended:?}: {foretold}"
            );
        }
    }
}

#[test]
fn a_dry_run_is_refused_as_the_change_itself_and_people_read_it() {
    let lab = Lab::new();
    let daemon = lab.start();
    let floating = floating(Family::V4, 10);
    daemon.associate(floating, &lab.host_a);
    let line = format!("associate {floating} {}", lab.host_b.v4);
    let [dry, real] = [format!("{line} -n"), line].map(|line| daemon.ipfloater(&line));
    assert_eq!(dry.status.code(), Some(6));
    assert_eq!((dry.status, dry.stderr), (real.status, real.stderr));

    let text = daemon.order(&format!("disassociate {floating} -n"));
    assert_eq!(
        text,
        format!(
            "A dry run: nothing was done. What would be:\n    \
             store: disassociate: {floating} disassociated from {host}\n   \
             kernel: delete element inet ipfloater floating_to_fixed4 {{ {floating} : {host} }}\n   \
             kernel: delete element inet ipfloater fixed_to_floating4 {{ {host} : {floating} }}\n  \
             address: {floating} is no longer answered for on wan0\n    \
             flows: those to and from {floating} end\n    \
             flows: the answer comes when they have ended\n",
            host = lab.host_a.v4,
        )
    );
    assert_eq!(
        lab.outside.ask(Transport::BOTH[0], floating),
        saw(&lab.host_a, lab.outside.v4.into())
    );

    // Of two ports to one host, one is taken away: those by the other one stay.
    let other = super::lab::floating(Family::V4, 11);
    let host = lab.host_b.v4;
    for ports in ["80", "443"] {
        daemon.order(&format!("forward {other}:{ports} {host}"));
    }
    let foretold = daemon.json(&format!("unforward {other}:80 -n"));
    assert_eq!(
        told(&foretold, "flows"),
        [
            format!("those to and from {other} end, but for those by 443/tcp to {host}"),
            "the answer comes when they have ended".to_owned()
        ]
    );
}

#[test]
fn a_dry_run_says_what_would_wait() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        let fixed = lab.host_a.address(family);
        lab.router.ip("link set wan0 down");
        super::namespace::eventually("the daemon sees it", || {
            let told = daemon.json(&format!("associate {floating} {fixed} -n"));
            told["address"]["state"] == "pending"
        });
        let foretold = daemon.json(&format!("associate {floating} {fixed} -n"));
        let done = daemon.json(&format!("associate {floating} {fixed}"));
        let reason = done["address"]["reason"].as_str().expect("a reason");
        assert_eq!(foretold["address"]["reason"], reason);
        assert_eq!(
            told(&foretold, "address"),
            [format!("{floating} stays pending: {reason}")]
        );
        daemon.release(floating);
        lab.router.ip("link set wan0 up");
    }
}

#[test]
fn a_configuration_can_be_looked_at_before_it_is_taken() {
    let lab = Lab::new();
    let mut daemon = lab.start();
    daemon.associate(floating(Family::V4, 10), &lab.host_a);
    daemon
        .configure("[POOL more]\nIP_POOL = 198.51.100.40-198.51.100.49\nOUTSIDE_INTERFACE = wan0");
    let before = World::look(&lab, &daemon);
    let foretold = daemon.json("reload --dry-run");
    assert_eq!(before, World::look(&lab, &daemon));
    assert_eq!(foretold["changed"], true);
    assert_eq!(foretold["news"][0], "pool more is new");
    assert_eq!(told(&foretold, "store"), ["reload: pool more is new"]);
    assert!(
        told(&foretold, "kernel").iter().any(|order| order
            .starts_with("add element inet ipfloater pool4 {")
            && order.contains("198.51.100.40-198.51.100.49")),
        "{foretold}"
    );
    let done = daemon.json("reload");
    assert_eq!(done["news"], foretold["news"]);
    let elements = World::look(&lab, &daemon).elements();
    assert!(
        elements
            .iter()
            .any(|element| element.contains("198.51.100.40"))
    );
}
