//! The daemon comes and goes; the traffic stays.

use ipfloater::model::Family;

use super::daemon::Daemon;
use super::lab::{Host, Lab, floating};
use super::namespace::{BRIEFLY, eventually};
use super::service::PORT;
use super::talk::{Flow, Tcp, Transport, Udp, saw};

/// Flows that are under way, each with the answer that it has to get.
pub(super) struct Traffic(Vec<(String, Flow, Result<String, std::io::ErrorKind>)>);

impl Traffic {
    /// Begins flows inbound, outbound and inside, of both families, over UDP
    /// and TCP. host_a must have the tenth address.
    pub(super) fn begin(lab: &Lab) -> Self {
        let mut flows = Vec::new();
        for family in Family::BOTH {
            let floating = floating(family, 10);
            let [far, c] = [&lab.far, &lab.host_c].map(|host: &Host| host.address(family));
            let router = lab.router_towards(&lab.host_a, family);
            let ways = [
                ("inbound", &lab.far, floating, saw(&lab.host_a, far)),
                ("outbound", &lab.host_a, far, saw(&lab.far, floating)),
                ("hairpin", &lab.host_c, floating, saw(&lab.host_a, router)),
                (
                    "inside",
                    &lab.host_a,
                    c,
                    saw(&lab.host_c, lab.host_a.address(family)),
                ),
            ];
            for (way, client, to, answer) in ways {
                for transport in Transport::BOTH {
                    let what = format!("{way} {family} {transport:?}");
                    let mut conversation = client.converse(transport, to).expect("a flow");
                    assert_eq!(conversation.say(), answer, "{what}");
                    flows.push((what, conversation.keep_talking(), answer.clone()));
                }
            }
        }
        Self(flows)
    }

    /// Waits until every flow has gone on for a while.
    pub(super) fn goes_on(&self) {
        for (_, flow, _) in &self.0 {
            flow.wait_for_more(20);
        }
    }

    /// Ends them and asserts that not one packet was lost or went astray.
    pub(super) fn assert_whole(self) {
        for (what, flow, answer) in self.0 {
            flow.end().assert_whole(&answer, &what);
        }
    }
}

pub(super) fn associate_both(lab: &Lab, daemon: &Daemon) {
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
    }
}

#[test]
fn a_restart_loses_not_one_packet() {
    let lab = Lab::new();
    let mut daemon = lab.start();
    associate_both(&lab, &daemon);
    let traffic = Traffic::begin(&lab);
    for _ in 0..3 {
        daemon.stop();
        traffic.goes_on();
        daemon.start(&lab.router);
        traffic.goes_on();
    }
    traffic.assert_whole();
}

#[test]
fn a_killed_daemon_takes_not_one_packet_along_nor_does_the_next() {
    let lab = Lab::new();
    let mut daemon = lab.start();
    associate_both(&lab, &daemon);
    let traffic = Traffic::begin(&lab);
    for _ in 0..3 {
        daemon.kill();
        traffic.goes_on();
        daemon.start(&lab.router);
        traffic.goes_on();
    }
    traffic.assert_whole();
}

#[test]
fn a_store_that_was_lost_ends_nothing() {
    let lab = Lab::new();
    let mut daemon = lab.start();
    associate_both(&lab, &daemon);
    daemon.forward(floating(Family::V4, 11), "8080", Tcp, &lab.host_b, PORT, "");
    let traffic = Traffic::begin(&lab);
    daemon.stop();
    let (state, copy) = (
        daemon.directory().join("state"),
        daemon.directory().join("copy"),
    );
    std::fs::rename(&state, &copy).expect("the directory is ours");
    // The second time there is the file that the first one made.
    for _ in 0..2 {
        let said = daemon
            .try_start(&lab.router)
            .expect_err("it does not start");
        assert!(
            said.contains("the store is new, but this router translates for 3 floating IPs"),
            "{said}"
        );
        traffic.goes_on();
    }
    std::fs::remove_dir_all(&state).expect("the directory is ours");
    std::fs::rename(&copy, &state).expect("the directory is ours");
    daemon.start(&lab.router);
    traffic.goes_on();
    traffic.assert_whole();

    // What the message says for those who have no copy.
    daemon.stop();
    std::fs::remove_dir_all(&state).expect("the directory is ours");
    assert!(daemon.tear_down(&lab.router).status.success());
    daemon.start(&lab.router);
    for family in Family::BOTH {
        let floating = floating(family, 10);
        assert!(lab.outside.ask_briefly(Tcp, floating).is_err());
        assert_eq!(daemon.state(floating), "free");
    }
}

#[test]
fn without_the_daemon_everything_stays_as_it_was() {
    for end in [Daemon::stop as fn(&mut Daemon), Daemon::kill] {
        let lab = Lab::new();
        let mut daemon = lab.start();
        associate_both(&lab, &daemon);
        end(&mut daemon);
        let service = lab.router.serve();
        for family in Family::BOTH {
            let (held, free) = (floating(family, 10), floating(family, 20));
            let outside = lab.outside.address(family);
            assert!(lab.outside.hardware_address_of(held).is_some());
            assert_eq!(lab.outside.hardware_address_of(free), None);
            for transport in Transport::BOTH {
                assert_eq!(lab.outside.ask(transport, held), saw(&lab.host_a, outside));
                assert_eq!(lab.host_a.ask(transport, outside), saw(&lab.outside, held));
                assert!(lab.host_b.ask_briefly(transport, free).is_err());
            }
        }
        assert_eq!(service.heard(), []);
    }
}

#[test]
fn associations_outlive_everything_that_the_kernel_forgets() {
    let lab = Lab::new();
    let mut daemon = lab.start();
    associate_both(&lab, &daemon);
    daemon.stop();
    // As after a reboot.
    lab.router.nft("flush ruleset");
    lab.router
        .ip("route flush proto 245 table local\nlink set wan0 down\nlink set wan0 up");
    lab.router.ip("address replace 2001:db8::2/64 dev wan0 nodad
         route replace default via 198.51.100.1
         route replace default via 2001:db8::1");
    for family in Family::BOTH {
        assert!(
            lab.outside.ask_briefly(Udp, floating(family, 10)).is_err(),
            "the kernel has forgotten"
        );
    }
    daemon.start(&lab.router);
    for family in Family::BOTH {
        let (floating, outside) = (floating(family, 10), lab.outside.address(family));
        for transport in Transport::BOTH {
            assert_eq!(
                lab.outside.ask(transport, floating),
                saw(&lab.host_a, outside)
            );
            assert_eq!(
                lab.host_a.ask(transport, outside),
                saw(&lab.outside, floating)
            );
        }
    }
}

#[test]
fn what_was_altered_while_the_daemon_was_down_is_corrected_at_start() {
    let lab = Lab::new();
    let mut daemon = lab.start();
    associate_both(&lab, &daemon);
    daemon.stop();
    // An association that points elsewhere, one that never was, and a rule.
    lab.router.nft(
        "delete element inet ipfloater floating_to_fixed4 { 198.51.100.10 }
         add element inet ipfloater floating_to_fixed4 { 198.51.100.10 : 10.0.1.12 }
         delete element inet ipfloater floating_to_fixed6 { 2001:db8::10 }
         add element inet ipfloater floating_to_fixed6 { 2001:db8::10 : fd00:1::12 }
         add element inet ipfloater floating_to_fixed4 { 198.51.100.11 : 10.0.2.13 }
         add element inet ipfloater fixed_to_floating4 { 10.0.2.13 : 198.51.100.11 }
         insert rule inet ipfloater to_floating drop",
    );
    lab.router
        .ip("route add local 198.51.100.11 dev wan0 proto 245 table local");
    let mut strayed = lab
        .outside
        .converse(Udp, floating(Family::V4, 10))
        .expect("a socket can be made");
    assert_eq!(
        strayed.say(),
        saw(&lab.host_b, lab.outside.address(Family::V4))
    );

    daemon.start(&lab.router);

    for family in Family::BOTH {
        let (floating, outside) = (floating(family, 10), lab.outside.address(family));
        for transport in Transport::BOTH {
            assert_eq!(
                lab.outside.ask(transport, floating),
                saw(&lab.host_a, outside)
            );
            assert_eq!(
                lab.host_a.ask(transport, outside),
                saw(&lab.outside, floating)
            );
        }
    }
    let c = lab.host_c.address(Family::V4);
    assert_eq!(
        lab.host_c.ask(Tcp, lab.outside.address(Family::V4)),
        saw(&lab.outside, c)
    );
    assert_eq!(
        lab.outside.hardware_address_of(floating(Family::V4, 11)),
        None
    );
    // An answer may be lost when the flow is ended.
    let mut strayed = strayed.with_patience(BRIEFLY);
    eventually("the flow that strayed comes back", || {
        strayed.say() == saw(&lab.host_a, lab.outside.address(Family::V4))
    });
}
