//! What a floating IP is for: hosts are reached by it, and leave by it.

use ipfloater::model::Family;

use super::lab::{Lab, Plan, floating};
use super::talk::{Transport, saw};

#[test]
fn a_client_outside_reaches_the_host_and_keeps_its_own_address() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        daemon.associate(floating, &lab.host_a);
        for client in [&lab.outside, &lab.far] {
            let own = client.address(family);
            for transport in Transport::BOTH {
                assert_eq!(
                    client.ask(transport, floating),
                    saw(&lab.host_a, own),
                    "{transport:?}"
                );
            }
            let sniffer = lab.host_a.sniff();
            assert_eq!(client.ping(floating), Ok(floating));
            let request =
                sniffer.wait_for("an echo request arrives", |packet| packet.is_echo_request());
            assert_eq!(
                (request.source, request.destination),
                (own, lab.host_a.address(family))
            );
        }
    }
}

#[test]
fn a_host_leaves_with_its_floating_ip() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        daemon.associate(floating, &lab.host_a);
        for server in [&lab.outside, &lab.far] {
            let to = server.address(family);
            for transport in Transport::BOTH {
                assert_eq!(
                    lab.host_a.ask(transport, to),
                    saw(server, floating),
                    "{transport:?}"
                );
            }
            let sniffer = server.sniff();
            assert_eq!(lab.host_a.ping(to), Ok(to));
            let request =
                sniffer.wait_for("an echo request arrives", |packet| packet.is_echo_request());
            assert_eq!(request.source, floating);
        }
    }
}

#[test]
fn hosts_on_both_lans_have_floating_ips_at_once() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let hosts = [(10, &lab.host_a), (11, &lab.host_b), (12, &lab.host_c)];
        for (number, host) in hosts {
            daemon.associate(floating(family, number), host);
        }
        for (number, host) in hosts {
            let floating = floating(family, number);
            for transport in Transport::BOTH {
                assert_eq!(
                    lab.far.ask(transport, floating),
                    saw(host, lab.far.address(family))
                );
                assert_eq!(
                    host.ask(transport, lab.far.address(family)),
                    saw(&lab.far, floating)
                );
            }
        }
    }
}

#[test]
fn a_host_without_floating_ip_is_routed_as_if_nothing_were_there() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
        let (inside, outside) = (lab.host_b.address(family), lab.outside.address(family));
        for transport in Transport::BOTH {
            assert_eq!(
                lab.host_b.ask(transport, outside),
                saw(&lab.outside, inside)
            );
            assert_eq!(
                lab.outside.ask(transport, inside),
                saw(&lab.host_b, outside)
            );
        }
        assert_eq!(lab.host_b.ping(outside), Ok(outside));
        assert_eq!(lab.outside.ping(inside), Ok(inside));
    }
}

#[test]
fn a_host_with_floating_ip_still_answers_on_its_private_address() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
        let (inside, outside) = (lab.host_a.address(family), lab.outside.address(family));
        for transport in Transport::BOTH {
            assert_eq!(
                lab.outside.ask(transport, inside),
                saw(&lab.host_a, outside)
            );
        }
    }
}

#[test]
fn between_lans_hosts_see_each_others_private_addresses() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        daemon.associate(floating(family, 10), &lab.host_a);
        daemon.associate(floating(family, 12), &lab.host_c);
        let pairs = [
            (&lab.host_a, &lab.host_b),
            (&lab.host_b, &lab.host_a),
            (&lab.host_a, &lab.host_c),
            (&lab.host_c, &lab.host_a),
            (&lab.host_b, &lab.host_c),
        ];
        for (client, server) in pairs {
            let to = server.address(family);
            for transport in Transport::BOTH {
                assert_eq!(
                    client.ask(transport, to),
                    saw(server, client.address(family))
                );
            }
            assert_eq!(client.ping(to), Ok(to));
        }
    }
}

#[test]
fn a_lan_on_a_bridge_of_the_router_works_as_well() {
    let lab = Lab::planned(Plan {
        bridge_in_router: true,
    });
    let daemon = lab.start();
    for family in Family::BOTH {
        let (first, second) = (floating(family, 10), floating(family, 11));
        daemon.associate(first, &lab.host_a);
        daemon.associate(second, &lab.host_b);
        let far = lab.far.address(family);
        for transport in Transport::BOTH {
            assert_eq!(
                lab.far.ask(transport, first),
                saw(&lab.host_a, far),
                "inbound"
            );
            assert_eq!(
                lab.host_a.ask(transport, far),
                saw(&lab.far, first),
                "outbound"
            );
            assert_eq!(
                lab.host_a.ask(transport, second),
                saw(&lab.host_b, first),
                "hairpin"
            );
            assert_eq!(lab.host_c.ask(transport, second), {
                saw(&lab.host_b, lab.router_towards(&lab.host_b, family))
            });
            let (a, b) = (lab.host_a.address(family), lab.host_b.address(family));
            assert_eq!(
                lab.host_a.ask(transport, b),
                saw(&lab.host_b, a),
                "on the bridge"
            );
        }
    }
}

#[test]
fn a_host_on_a_bridge_of_the_router_reaches_itself_when_its_port_is_in_hairpin_mode() {
    let lab = Lab::planned(Plan {
        bridge_in_router: true,
    });
    // br_netfilter translates before the bridge decides, so that the packet
    // would have to leave by the port it came from, which bridges do not do.
    lab.router.program("bridge link set dev port_a hairpin on");
    let daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        daemon.associate(floating, &lab.host_a);
        for transport in Transport::BOTH {
            assert_eq!(
                lab.host_a.ask(transport, floating),
                saw(&lab.host_a, floating)
            );
        }
    }
}

#[test]
fn reverse_path_filters_drop_nothing_that_a_floating_ip_carries() {
    let lab = Lab::new();
    lab.router.sysctl(
        "net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.wan0.rp_filter=1 \
         net.ipv4.conf.lan0.rp_filter=1 net.ipv4.conf.lan1.rp_filter=1",
    );
    let daemon = lab.start();
    let (first, second) = (floating(Family::V4, 10), floating(Family::V4, 12));
    daemon.associate(first, &lab.host_a);
    daemon.associate(second, &lab.host_c);
    let far = lab.far.address(Family::V4);
    for transport in Transport::BOTH {
        assert_eq!(
            lab.far.ask(transport, first),
            saw(&lab.host_a, far),
            "inbound"
        );
        assert_eq!(
            lab.host_a.ask(transport, far),
            saw(&lab.far, first),
            "outbound"
        );
        assert_eq!(
            lab.host_a.ask(transport, second),
            saw(&lab.host_c, first),
            "hairpin"
        );
        assert_eq!(
            lab.host_a.ask(transport, first),
            saw(&lab.host_a, first),
            "hairpin to itself"
        );
    }
}

#[test]
fn another_table_that_masquerades_does_not_come_first() {
    let lab = Lab::new();
    lab.router.nft(
        "table inet other {
           chain postrouting {
             type nat hook postrouting priority srcnat
             oifname wan0 masquerade
           }
         }",
    );
    let daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        daemon.associate(floating, &lab.host_a);
        let (to, own) = (lab.outside.address(family), lab.outside.address(family));
        for transport in Transport::BOTH {
            assert_eq!(lab.host_a.ask(transport, to), saw(&lab.outside, floating));
            assert_eq!(lab.outside.ask(transport, floating), saw(&lab.host_a, own));
            let router = lab.router.address(family);
            assert_eq!(
                lab.host_b.ask(transport, to),
                saw(&lab.outside, router),
                "without one"
            );
        }
    }
}
