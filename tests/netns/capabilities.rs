//! Everything a floating IP can do: a row each, for IPv4 and IPv6, before the
//! daemon was killed and after the next one began.
//!
//! The thorough tests are elsewhere; here is that each holds at all, for both
//! families, and survives. What must not survive, or is over by then, is looked
//! at once.

use std::net::IpAddr;

use ipfloater::model::Family;
use serde_json::{Value, json};

use super::daemon::{Daemon, Start};
use super::lab::{Lab, floating};
use super::namespace::eventually;
use super::service::PORT;
use super::talk::{Tcp, Transport, Udp, saw};
use super::uplinks::second;

/// Where a row is tried.
struct Place<'a> {
    lab: &'a Lab,
    daemon: &'a Daemon,
    family: Family,
    /// The floating IP of the row.
    ours: IpAddr,
    /// Another one.
    other: IpAddr,
}

impl Place<'_> {
    /// Has the command line do something.
    fn order(&self, line: &str) -> String {
        self.daemon.order(line)
    }

    /// The private addresses of three hosts.
    fn hosts(&self) -> [IpAddr; 3] {
        let Lab {
            host_a,
            host_b,
            host_c,
            ..
        } = self.lab;
        [host_a, host_b, host_c].map(|host| host.address(self.family))
    }

    fn far(&self) -> IpAddr {
        self.lab.far.address(self.family)
    }

    /// A port of the floating IP, as the command line takes it.
    fn port(&self, ports: &str) -> String {
        end(self.ours, ports)
    }

    /// Who answers on a port of the floating IP.
    fn answers(&self, transport: Transport, port: u16) -> Option<&'static str> {
        let answer = self.lab.far.ask_port_briefly(transport, self.ours, port);
        let answer = answer.ok()?;
        let Lab {
            host_a,
            host_b,
            host_c,
            ..
        } = self.lab;
        let far = self.far();
        let hosts = [host_a, host_b, host_c].into_iter();
        let said = hosts.map(|host| (host.name, saw(host, far)));
        said.into_iter()
            .find(|(_, said)| said.as_ref() == Ok(&answer))
            .map(|(name, _)| name)
    }

    /// A field of the floating IP, by the command line.
    fn field(&self, name: &str) -> Value {
        self.daemon.show(self.ours)[name].clone()
    }

    /// How a line ends that is refused.
    fn refused(&self, line: &str) -> (i32, String) {
        let output = self.daemon.ipfloater(line);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().expect("it ends by itself"), said)
    }
}

fn end(address: IpAddr, ports: &str) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}:{ports}"),
        IpAddr::V6(address) => format!("[{address}]:{ports}"),
    }
}

/// Sets a row up, checks it, kills the daemon, and checks it again.
fn hold(configuration: &'static str, set_up: fn(&Place), holds: fn(&Place)) {
    let lab = Lab::new();
    let mut daemon = lab.start_with(Start {
        configuration,
        ..Start::PLAIN
    });
    let in_each = |daemon: &Daemon, look: fn(&Place)| {
        for family in Family::BOTH {
            look(&Place {
                lab: &lab,
                daemon,
                family,
                ours: floating(family, 10),
                other: floating(family, 11),
            });
        }
    };
    in_each(&daemon, set_up);
    in_each(&daemon, holds);
    daemon.kill();
    daemon.start(&lab.router);
    in_each(&daemon, holds);
}

/// The table.
macro_rules! capabilities {
    ($($name:ident: $configuration:literal, $set_up:expr, $holds:expr;)*) => {
        $(
            #[test]
            fn $name() {
                hold($configuration, $set_up, $holds);
            }
        )*
    };
}

capabilities! {
    // 1: port forwards
    ports_lead_to_several_hosts_and_the_rest_to_the_one_that_has_the_address: "",
        |at| {
            let [a, b, c] = at.hosts();
            at.order(&format!("associate {} {a}", at.ours));
            at.order(&format!("forward {} {}", at.port("8080"), end(b, "7")));
            at.order(&format!("forward {} {}", at.port("8000-8009/udp"), end(c, "7")));
        },
        |at| {
            assert_eq!(at.answers(Tcp, 8080), Some("host_b"));
            assert_eq!(at.answers(Udp, 8000), Some("host_c"));
            assert_eq!(at.answers(Tcp, PORT), Some("host_a"));
            assert_eq!(at.answers(Udp, 8001), None, "nobody listens there");
        };
    a_host_reaches_itself_by_a_forward_and_leaves_as_it_if_that_was_asked_for: "",
        |at| {
            let [a, ..] = at.hosts();
            let to = end(a, "7");
            at.order(&format!("forward {} {to} --outbound floating", at.port("8080")));
        },
        |at| {
            let answer = at.lab.host_a.ask_port(Tcp, at.ours, 8080);
            assert_eq!(answer, saw(&at.lab.host_a, at.ours));
            assert_eq!(at.lab.host_a.ask(Udp, at.far()), saw(&at.lab.far, at.ours));
        };
    // 2: moving
    a_move_needs_leave_and_tells_what_the_target_had: "",
        |at| {
            let [a, b, _] = at.hosts();
            at.order(&format!("associate {} {a}", at.ours));
            at.order(&format!("associate {} {b}", at.other));
            let (code, said) = at.refused(&format!("associate {} {b}", at.ours));
            assert_eq!(code, 6, "{said}");
            let told = at.order(&format!("associate {} {b} --reassociate --json", at.ours));
            let told: Value = serde_json::from_str(&told).expect("it is JSON");
            assert_eq!(told["previous_fixed_address"], json!(a));
            assert_eq!(told["displaced_floating_ip"], json!(at.other));
        },
        |at| {
            assert_eq!(at.answers(Tcp, PORT), Some("host_b"));
            assert_eq!(at.daemon.state(at.other), "allocated");
        };
    // 3: confirmed changes
    a_confirmed_change_stays_and_another_does_not: "",
        |at| {
            let [a, b, c] = at.hosts();
            at.order(&format!("associate {} {a}", at.ours));
            at.order(&format!("associate {} {b} --reassociate --confirm 1m", at.ours));
            at.order(&format!("confirm {}", at.ours));
            at.order(&format!("associate {} {c} --confirm 1s", at.other));
            eventually("it is undone", || at.daemon.state(at.other) == "free");
        },
        |at| {
            assert_eq!(at.answers(Tcp, PORT), Some("host_b"));
            assert_eq!(at.field("unconfirmed_until"), Value::Null);
            assert_eq!(at.daemon.state(at.other), "free");
        };
    // 4: dry run
    a_dry_run_does_nothing: "",
        |at| {
            let [a, ..] = at.hosts();
            let told = at.order(&format!("associate {} {a} --dry-run", at.ours));
            assert!(told.contains("floating_to_fixed"), "{told}");
        },
        |at| {
            assert_eq!(at.daemon.state(at.ours), "free");
            assert_eq!(at.answers(Tcp, PORT), None);
        };
    // 5: allocation
    what_is_noted_of_an_address_is_found_and_protects_it: "",
        |at| {
            at.order(&format!("allocate {} --label web --tag {} --protect", at.ours, at.family));
        },
        |at| {
            let found = at.order(&format!("list --tag {} --no-legend", at.family));
            assert!(found.starts_with(&format!("{} ", at.ours)), "{found}");
            assert_eq!(found.lines().count(), 1, "{found}");
            let (code, said) = at.refused(&format!("release {}", at.ours));
            assert_eq!(code, 6, "{said}");
        };
    // 6: counters and rates
    packets_are_counted_and_go_on_being_counted: "",
        |at| {
            let [a, ..] = at.hosts();
            at.order(&format!("associate {} {a}", at.ours));
            at.order(&format!("set {} --rate-in 80M", at.ours));
        },
        |at| {
            let counted = |field: &str| {
                let all = at.daemon.json(&format!("counters {}", at.ours));
                all["counters"][0][field].as_u64().unwrap_or_else(|| panic!("{all}"))
            };
            let before = ["packets_in", "packets_out"].map(counted);
            assert_eq!(at.lab.far.ping(at.ours), Ok(at.ours));
            let after = ["packets_in", "packets_out"].map(counted);
            assert_eq!(after, before.map(|packets| packets + 1));
            assert_eq!(at.field("rate_in"), json!(80_000_000));
        };
    // 7: source filter
    only_who_is_allowed_gets_in: "",
        |at| {
            let [a, ..] = at.hosts();
            at.order(&format!("associate {} {a}", at.ours));
            let outside = at.lab.outside.address(at.family);
            at.order(&format!("set {} --allow {outside}", at.ours));
        },
        |at| {
            let outside = at.lab.outside.address(at.family);
            let answer = at.lab.outside.ask(Tcp, at.ours);
            assert_eq!(answer, saw(&at.lab.host_a, outside));
            assert_eq!(at.answers(Tcp, PORT), None);
        };
    // 8: destinations that are never translated
    other_sites_see_the_private_address: "NEVER_TRANSLATE = 203.0.113.0/24, 2001:db8:f::/48",
        |at| {
            let [a, ..] = at.hosts();
            at.order(&format!("associate {} {a}", at.ours));
        },
        |at| {
            let [a, ..] = at.hosts();
            let outside = at.lab.outside.address(at.family);
            assert_eq!(at.lab.host_a.ask(Tcp, at.far()), saw(&at.lab.far, a));
            let answer = at.lab.host_a.ask(Tcp, outside);
            assert_eq!(answer, saw(&at.lab.outside, at.ours));
        };
    // 8: several uplinks
    what_leaves_as_another_providers_address_leaves_by_it: "[POOL second]
IP_POOL = 192.0.2.10-192.0.2.29, 2001:db8:2::10-2001:db8:2::29
OUTSIDE_INTERFACE = wan1
GATEWAY = 192.0.2.1, 2001:db8:2::1
PROBE = no",
        |at| {
            // The provider comes once, and stays until the test ends.
            if at.family == Family::V4 {
                std::mem::forget(at.lab.second_provider());
            }
            let [a, b, _] = at.hosts();
            at.order(&format!("associate {} {a}", at.ours));
            at.order(&format!("associate {} {b}", second(at.family, 10)));
        },
        |at| {
            let theirs = second(at.family, 10);
            assert_eq!(at.lab.far.ask(Tcp, theirs), saw(&at.lab.host_b, at.far()));
            assert_eq!(at.lab.host_b.ask(Udp, at.far()), saw(&at.lab.far, theirs));
            assert_eq!(at.lab.host_a.ask(Udp, at.far()), saw(&at.lab.far, at.ours));
        };
    // 9: duplicate address probe
    what_another_machine_has_is_left_to_it: "PROBE = yes",
        |at| {
            let [a, ..] = at.hosts();
            let prefix = if at.ours.is_ipv4() { "24" } else { "64 nodad" };
            at.lab.outside.ip(&format!("address add {}/{prefix} dev eth0", at.ours));
            at.order(&format!("associate {} {a}", at.ours));
        },
        |at| {
            eventually("it is found", || {
                let reason = at.field("reason");
                reason.as_str().is_some_and(|reason| reason.contains("another machine"))
            });
            assert_eq!(at.daemon.state(at.ours), "pending");
        };
    // 10: expiry
    an_association_that_is_over_is_over: "",
        |at| {
            let [a, b, _] = at.hosts();
            at.order(&format!("associate {} {a} --for 1s", at.ours));
            at.order(&format!("associate {} {b} --for 2h", at.other));
            eventually("it is over", || at.daemon.state(at.ours) == "allocated");
        },
        |at| {
            assert_eq!(at.answers(Tcp, PORT), None);
            let far = at.far();
            assert_eq!(at.lab.far.ask(Tcp, at.other), saw(&at.lab.host_b, far));
            assert!(at.daemon.show(at.other)["association_expires_at"].is_i64());
        };
    // 11: events
    what_happened_can_be_read_and_gone_on_with: "",
        |at| {
            let [a, ..] = at.hosts();
            at.order(&format!("associate {} {a}", at.ours));
            at.order(&format!("disassociate {}", at.ours));
        },
        |at| {
            let told = at.daemon.json(&format!("history {}", at.ours));
            let events = told["events"].as_array().expect("events");
            let verbs: Vec<_> = events.iter().map(|event| &event["verb"]).collect();
            let changes: Vec<_> = verbs
                .into_iter()
                .filter(|verb| *verb != "activate" && *verb != "repair")
                .collect();
            assert_eq!(changes, ["disassociate", "associate", "allocate"]);
        };
}

/// The rows above share nothing but the lab; on one address all hold at once.
#[test]
fn one_address_does_all_of_it_at_once() {
    hold(
        "NEVER_TRANSLATE = 203.0.113.128/25, 2001:db8:f:8000::/49",
        |at| {
            let [a, b, _] = at.hosts();
            let (ours, far) = (at.ours, at.far());
            at.order(&format!("associate {ours} {a} --for 1d"));
            at.order(&format!("forward {} {}", at.port("8080"), end(b, "7")));
            at.order(&format!(
                "set {ours} --label all --rate-in 80M --rate-out 80M --allow {far} --protect"
            ));
        },
        |at| {
            assert_eq!(at.answers(Tcp, 8080), Some("host_b"));
            assert_eq!(at.answers(Udp, PORT), Some("host_a"));
            let outside = at.lab.outside.address(at.family);
            assert!(at.lab.outside.ask_briefly(Tcp, at.ours).is_err());
            let answer = at.lab.host_a.ask(Tcp, outside);
            assert_eq!(answer, saw(&at.lab.outside, at.ours));
            let counted = at.daemon.json(&format!("counters {}", at.ours));
            assert!(
                counted["counters"][0]["packets_in"].as_u64() > Some(0),
                "{counted}"
            );
        },
    );
}
