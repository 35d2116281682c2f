//! What leaves as it is: to other sites, and under IPsec.

use ipfloater::model::Family;

use super::daemon::Start;
use super::lab::{Lab, floating};
use super::talk::{Tcp, Udp, saw};

/// The far host is of another site; the gateway is not.
const OTHER_SITE: Start = Start {
    configuration: "NEVER_TRANSLATE = 203.0.113.0/24, 2001:db8:f::/48",
    ..Start::PLAIN
};

#[test]
fn flows_to_another_site_are_spared_by_an_association_and_by_the_next_start() {
    let lab = Lab::new();
    let mut daemon = lab.start_with(OTHER_SITE);
    for family in Family::BOTH {
        let (host, far) = (lab.host_a.address(family), lab.far.address(family));
        let flow = lab.host_a.converse(Tcp, far).expect("it can begin");
        let flow = flow.keep_talking();
        flow.wait_for_more(5);
        daemon.associate(floating(family, 10), &lab.host_a);
        flow.wait_for_more(10);
        daemon.stop();
        daemon.start(&lab.router);
        flow.wait_for_more(10);
        flow.end()
            .assert_whole(&saw(&lab.far, host), "to another site");
    }
}

#[test]
fn which_sites_there_are_can_be_altered_while_the_daemon_runs() {
    let lab = Lab::new();
    let mut daemon = lab.start();
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
    }
    for (configuration, is_translated) in [(OTHER_SITE.configuration, false), ("", true)] {
        daemon.configure(configuration);
        daemon.order("reload");
        for family in Family::BOTH {
            let source = match is_translated {
                true => floating(family, 10),
                false => lab.host_a.address(family),
            };
            let far = lab.far.address(family);
            assert_eq!(lab.host_a.ask(Udp, far), saw(&lab.far, source));
        }
    }
}

#[test]
fn who_borrows_an_address_of_the_pool_does_not_reach_another_site_with_it() {
    let lab = Lab::new();
    let _daemon = lab.start_with(OTHER_SITE);
    for family in Family::BOTH {
        let (borrowed, far) = (floating(family, 20), lab.far.address(family));
        let prefix = if borrowed.is_ipv4() { 32 } else { 128 };
        let nodad = if borrowed.is_ipv4() { "" } else { "nodad" };
        lab.host_a
            .ip(&format!("address add {borrowed}/{prefix} dev eth0 {nodad}"));
        lab.router.ip(&format!(
            "route replace {borrowed}/{prefix} via {} dev lan0",
            lab.host_a.address(family)
        ));
        let heard = lab.far.service().heard().len();
        lab.host_a.send_packet(
            borrowed,
            far,
            super::craft::UDP,
            &super::craft::datagram(
                std::net::SocketAddr::new(borrowed, 4000),
                std::net::SocketAddr::new(far, super::service::PORT),
                "borrowed",
            ),
        );
        // What comes after it has come, and nothing before.
        assert!(lab.host_b.ask(Udp, far).is_ok());
        let heard = lab.far.service().heard().split_off(heard);
        assert!(
            heard.iter().all(|heard| heard.from.ip() != borrowed),
            "{heard:?}"
        );
    }
}

/// That it is asked for, and before all else; tests/golden has its bytes. Not every
/// kernel that the tests run on can do ESP.
#[test]
fn what_an_ipsec_policy_takes_is_asked_for_before_it_is_translated() {
    let lab = Lab::new();
    let daemon = lab.start();
    daemon.associate(floating(Family::V4, 10), &lab.host_a);
    let table = lab
        .router
        .program("nft list chain inet ipfloater nat_postrouting");
    let rules: Vec<_> = table.lines().map(str::trim).collect();
    let at = |rule: &str| rules.iter().position(|line| *line == rule);
    let ipsec = at("rt ipsec exists goto untranslated");
    assert!(
        ipsec.is_some() && ipsec < at("oifname @outside goto to_floating"),
        "{table}"
    );
}
