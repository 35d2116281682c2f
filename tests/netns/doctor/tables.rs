//! What other programs' tables do.

use std::collections::BTreeSet;

use ipfloater::model::Family;

use super::super::lab::floating;
use super::super::namespace::eventually;
use super::super::talk::{Udp, saw};
use super::{Clinic, text};

/// A firewall, and what is lost by it.
struct Firewall {
    what: &'static str,
    /// Commands that make it.
    made: &'static str,
    family: Family,
    /// Whether it loses what comes from outside, and what hosts begin.
    loses: [bool; 2],
    /// What the remedy has.
    words: &'static [&'static str],
}

const V4: Family = Family::V4;
const V6: Family = Family::V6;

/// As their programs make them.
const FIREWALLS: [Firewall; 9] = [
    Firewall {
        what: "a chain that drops everything",
        made: "nft 'table inet fw { chain forward { type filter hook forward priority 0; policy drop; }; }'",
        family: V6,
        loses: [true, true],
        words: &["nft 'insert rule inet fw forward ct status dnat,snat accept'"],
    },
    Firewall {
        what: "the usual firewall of a router with a private network",
        made: "nft 'table ip fw { chain forward { type filter hook forward priority 0; policy drop;
                   ct state vmap { established : accept, related : accept, invalid : drop };
                   iifname { lan0, lan1 } accept; }; }'",
        family: V4,
        loses: [true, false],
        words: &["nft 'insert rule ip fw forward ct status dnat,snat accept'"],
    },
    Firewall {
        what: "one that lets DNAT in and nothing out",
        made: "nft 'table inet fw { chain forward { type filter hook forward priority 0; policy accept;
                   ct state { established, related } accept; ct status dnat accept;
                   iifname wan0 goto outside; iifname vmap { lan0 : jump inside, lan1 : jump inside }; };
                 chain outside { drop; };
                 chain inside { oifname lan* accept; reject; }; }'",
        family: V6,
        loses: [false, true],
        words: &["'insert rule inet fw forward iifname \"lan0\" oifname \"wan0\" accept'"],
    },
    Firewall {
        what: "one that knows prefixes",
        made: "nft 'table ip fw { set private { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 }; };
                 chain forward { type filter hook forward priority 10; policy accept;
                   ip daddr @private ct state new drop; }; }'",
        family: V4,
        loses: [true, false],
        words: &["nft 'insert rule ip fw forward ct status dnat,snat accept'"],
    },
    Firewall {
        what: "iptables",
        made: "iptables -P FORWARD DROP",
        family: V4,
        loses: [true, true],
        words: &[
            "iptables -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT",
            "iptables -I FORWARD -m conntrack --ctstate SNAT -j ACCEPT",
            "iptables -I FORWARD -i lan0 -o wan0 -j ACCEPT",
        ],
    },
    Firewall {
        what: "ip6tables that rejects",
        made: "ip6tables -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
               ip6tables -A FORWARD -i lan0 -j ACCEPT
               ip6tables -A FORWARD -i lan1 -j ACCEPT
               ip6tables -A FORWARD -j REJECT",
        family: V6,
        loses: [true, false],
        words: &["ip6tables -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT"],
    },
    Firewall {
        what: "Docker",
        made: "iptables -N DOCKER-USER
               iptables -N DOCKER-FORWARD
               iptables -A DOCKER-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -o docker0 -j ACCEPT
               iptables -A DOCKER-FORWARD -i docker0 -j ACCEPT
               iptables -A FORWARD -j DOCKER-USER
               iptables -A FORWARD -j DOCKER-FORWARD
               iptables -P FORWARD DROP",
        family: V4,
        loses: [true, true],
        words: &["iptables -I DOCKER-USER -m conntrack --ctstate DNAT -j ACCEPT"],
    },
    Firewall {
        what: "ufw",
        made: "iptables -N ufw-before-forward
               iptables -N ufw-user-forward
               iptables -N ufw-reject-forward
               iptables -A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
               iptables -A ufw-before-forward -p icmp --icmp-type 8 -j ACCEPT
               iptables -A ufw-before-forward -j ufw-user-forward
               iptables -A FORWARD -j ufw-before-forward
               iptables -A FORWARD -j ufw-reject-forward
               iptables -P FORWARD DROP",
        family: V4,
        loses: [true, true],
        words: &["iptables -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT"],
    },
    Firewall {
        what: "a queue that decides about some",
        made: "nft 'table inet fw { chain forward { type filter hook forward priority 0; policy drop;
                   tcp dport 443 accept; }; }'",
        family: V4,
        loses: [true, true],
        words: &["nft 'insert rule inet fw forward ct status dnat,snat accept'"],
    },
];

#[test]
fn a_firewall_that_drops_what_is_forwarded() {
    for firewall in FIREWALLS {
        let Firewall {
            what,
            made,
            family,
            loses: [inward, outward],
            words,
        } = firewall;
        let clinic = Clinic::new();
        clinic.lacks("forward-drop");
        clinic.shell(made);
        if inward {
            clinic.is_closed(family);
        } else {
            let Clinic { lab, .. } = &clinic;
            let answer = lab.far.ask(Udp, floating(family, 10));
            assert_eq!(answer, saw(&lab.host_a, lab.far.address(family)), "{what}");
        }
        if outward {
            clinic.is_closed_out(family);
        }
        let found = clinic.all("forward-drop");
        let of_family = format!("({family})");
        let found = found
            .iter()
            .find(|found| text(found, "what").contains(&of_family))
            .unwrap_or_else(|| panic!("{what}: {found:?}"));
        let said = match (inward, outward) {
            (true, false) => "what comes from outside",
            (false, true) => "what hosts send",
            (true, true) | (false, false) => "what is forwarded",
        };
        assert!(text(found, "what").contains(said), "{what}: {found}");
        let remedy = text(found, "remedy");
        for words in words {
            assert!(remedy.contains(words), "{what}: {remedy}");
        }
        for found in clinic.all("forward-drop") {
            clinic.shell(text(&found, "remedy"));
        }
        clinic.lacks("forward-drop");
        for family in Family::BOTH {
            clinic.passes(family);
        }
    }
}

/// Some packets pass there: it is said that this cannot be told.
#[test]
fn a_firewall_of_which_it_cannot_be_told() {
    let clinic = Clinic::new();
    let finding = clinic.ail("forward-drop", |lab| {
        lab.router.nft(
            "table ip fw { chain forward { type filter hook forward priority 0; policy drop
                 meta mark 7 accept; }; }",
        );
    });
    assert_eq!(finding["severity"], "warning");
    assert!(text(&finding, "what").contains("may drop what is forwarded"));
    clinic.is_closed(V4);
    clinic.mend("forward-drop");
    clinic.passes(V4);
}

/// firewalld owns its table, and is spoken to by its own program, which is not
/// here: the chain is as firewalld 1.3 makes it, and so is the rule that its policy
/// would become.
#[test]
fn firewalld_lets_nothing_out() {
    let clinic = Clinic::new();
    clinic.lacks("forward-drop");
    clinic.shell(
        "nft 'table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; policy accept;
             ct state { established, related } accept; ct status dnat accept; iifname lo accept;
             ct state invalid drop; jump filter_FORWARD_POLICIES;
             reject with icmpx type admin-prohibited; };
           chain filter_FORWARD_POLICIES { }; }'",
    );
    for family in Family::BOTH {
        clinic.is_closed_out(family);
    }
    let found = clinic.all("forward-drop");
    assert_eq!(found.len(), 2, "{found:?}");
    for found in &found {
        assert!(text(found, "what").contains("drops what hosts send"));
        let remedy = text(found, "remedy");
        let commands: Vec<_> = remedy.split("; ").collect();
        assert!(
            commands
                .iter()
                .all(|each| each.starts_with("firewall-cmd "))
        );
        let begins = "firewall-cmd --permanent --policy=ipfloater --add-ingress-zone=";
        assert!(remedy.contains(begins), "{remedy}");
    }
    clinic.shell(
        "nft 'add rule inet firewalld filter_FORWARD_POLICIES iifname { lan0, lan1 } oifname wan0 accept'",
    );
    clinic.lacks("forward-drop");
    for family in Family::BOTH {
        clinic.passes(family);
    }
}

/// What other tables may do without harm to floating IPs.
#[test]
fn firewalls_that_let_them_pass() {
    let clinic = Clinic::new();
    clinic.shell(
        "nft 'table inet fw { set bad { type ipv4_addr; flags timeout; };
           chain forward { type filter hook forward priority 0; policy accept;
             ct state invalid drop; ip saddr @bad drop; tcp dport 25 drop; iifname docker0 drop;
             ip daddr 10.9.0.0/16 reject; oifname tun* drop; };
           chain input { type filter hook input priority 0; policy drop; icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; };
           chain last { type nat hook postrouting priority 100; oifname wan0 masquerade; };
           chain late { type nat hook prerouting priority -100; ip daddr 198.51.100.10 dnat ip to 10.0.1.12; }; }'",
    );
    clinic.lacks("forward-drop");
    clinic.lacks("nat-first");
    for family in Family::BOTH {
        clinic.passes(family);
    }
}

/// Tables that drop them elsewhere than where packets are forwarded: the commands
/// that make one, the chain, and the family.
const ELSEWHERE: [(&str, &str, Family); 8] = [
    (
        "nft 'table inet fw { chain early { type filter hook prerouting priority raw; policy accept;
             ip6 daddr 2001:db8::/64 meta mark 7 accept; ip6 daddr 2001:db8::10 drop; }; }'",
        "chain early of table inet fw may drop what comes from outside (IPv6)",
        V6,
    ),
    (
        "nft 'table ip fw { chain pre { type filter hook prerouting priority mangle; policy accept;
             iifname wan0 ct state new drop; }; }'",
        "chain pre of table ip fw drops what comes from outside (IPv4)",
        V4,
    ),
    (
        "iptables -t raw -A PREROUTING -d 198.51.100.0/24 -i wan0 -j DROP",
        "chain PREROUTING of table ip raw drops what comes from outside (IPv4)",
        V4,
    ),
    (
        "ip6tables -t mangle -A PREROUTING -m conntrack --ctstate NEW -j DROP",
        "chain PREROUTING of table ip6 mangle drops what is forwarded (IPv6)",
        V6,
    ),
    (
        "nft 'table inet fw { chain late { type filter hook postrouting priority 200; policy accept;
             oifname wan0 ip saddr { 198.51.100.10, 198.51.100.11 } drop; }; }'",
        "chain late of table inet fw drops what hosts send (IPv4)",
        V4,
    ),
    (
        "nft 'table inet fw { chain post { type filter hook postrouting priority srcnat - 1; policy drop;
             ip daddr 10.0.0.0/8 accept; meta nfproto ipv6 accept; ip saddr 198.51.100.0/24 accept; }; }'",
        "chain post of table inet fw may drop what hosts send (IPv4)",
        V4,
    ),
    (
        "nft 'table netdev fw { chain in { type filter hook ingress device wan0 priority 0; policy accept;
             ip6 daddr 2001:db8::/112 drop; }; }'",
        "chain in of table netdev fw drops what comes from outside (IPv6)",
        V6,
    ),
    (
        "nft 'table inet fw { chain in { type filter hook ingress devices = { lan0, wan0 } priority 0; policy accept;
             ip daddr 198.51.100.10 drop; }; }'",
        "chain in of table inet fw drops what comes from outside (IPv4)",
        V4,
    ),
];

#[test]
fn a_table_that_drops_elsewhere() {
    for (made, what, family) in ELSEWHERE {
        let clinic = Clinic::new();
        clinic.lacks("table-drop");
        clinic.shell(made);
        if what.contains("hosts send") {
            clinic.is_closed_out(family);
        } else {
            clinic.is_closed(family);
        }
        let found = clinic.all("table-drop");
        let said: BTreeSet<_> = found.iter().map(|found| text(found, "what")).collect();
        assert_eq!(said, BTreeSet::from([what]), "{made}");
        for found in &found {
            clinic.shell(text(found, "remedy"));
        }
        clinic.lacks("table-drop");
        for family in Family::BOTH {
            clinic.passes(family);
        }
    }
}

#[test]
fn a_table_that_keeps_packets_from_conntrack() {
    for (made, family) in [
        (
            "nft 'table inet fast { chain pre { type filter hook prerouting priority raw; policy accept;
                 meta nfproto ipv6 iifname { lan0, lan1, wan0 } notrack; }; }'",
            V6,
        ),
        (
            "iptables -t raw -A PREROUTING -i wan0 -j CT --notrack
             iptables -t raw -A PREROUTING -i lan0 -j CT --notrack",
            V4,
        ),
    ] {
        let clinic = Clinic::new();
        let finding = clinic.ail("untracked", |_| {
            clinic.shell(made);
        });
        assert_eq!(finding["severity"], "error");
        clinic.is_closed(family);
        clinic.mend("untracked");
        for family in Family::BOTH {
            clinic.passes(family);
        }
    }
}

/// Some packets only, and none of floating IPs.
#[test]
fn tables_that_keep_others_from_conntrack() {
    let clinic = Clinic::new();
    clinic.shell("iptables -t raw -A PREROUTING -s 192.0.2.0/24 -d 192.0.2.0/24 -j CT --notrack");
    clinic.shell("iptables -t raw -A PREROUTING -i docker0 -j NOTRACK");
    clinic.lacks("untracked");
    clinic.shell("iptables -t raw -A PREROUTING -p udp --dport 53 -j NOTRACK");
    assert_eq!(clinic.finding("untracked")["severity"], "note");
    clinic.passes(V4);
}

#[test]
fn a_table_that_drops_arp() {
    for made in [
        "nft 'table arp fw { chain in { type filter hook input priority 0; policy accept; arp daddr ip 198.51.100.10 drop; }; }'",
        "nft 'table arp fw { chain out { type filter hook output priority 0; policy drop; arp saddr ip != 198.51.100.10 accept; }; }'",
    ] {
        let clinic = Clinic::new();
        let Clinic { lab, .. } = &clinic;
        let finding = clinic.ail("table-drop", |_| {
            clinic.shell(made);
        });
        assert!(text(&finding, "what").ends_with("of ARP for floating IPs"));
        // Until then it is announced.
        eventually("nobody answers", || {
            lab.outside.hardware_address_of(floating(V4, 10)).is_none()
        });
        let shown = clinic.shell(text(&finding, "remedy"));
        assert!(shown.contains("198.51.100.10"), "{shown}");
        clinic.shell("nft delete table arp fw");
        clinic.lacks("table-drop");
        clinic.passes(V4);
    }
}

#[test]
fn a_table_that_translates_first() {
    let clinic = Clinic::new();
    let (lab, v4, v6) = (&clinic.lab, floating(V4, 10), floating(V6, 10));
    clinic.lacks("nat-first");
    clinic.shell(
        "nft 'table inet early { chain out { type nat hook postrouting priority 50; oifname wan0 masquerade; };
                                 chain in { type nat hook prerouting priority -150;
                                            ip6 daddr 2001:db8::10 dnat ip6 to fd00:1::12; }; }'",
    );
    let answer = lab.host_a.ask(Udp, lab.far.v4.into());
    assert_eq!(answer, saw(&lab.far, lab.router.v4.into()));
    let answer = lab.far.ask(Udp, v6);
    assert_eq!(answer, saw(&lab.host_b, lab.far.v6.into()));
    let found = clinic.all("nat-first");
    let of = |address: std::net::IpAddr| {
        let address = address.to_string();
        let found = found.iter().filter(|found| found["address"] == *address);
        found.map(|found| text(found, "what")).collect::<Vec<_>>()
    };
    let out = "chain out of table inet early translates what";
    assert_eq!(of(v4), [format!("{out} 10.0.1.11 sends before us")]);
    let into = "chain in of table inet early translates what is for 2001:db8::10 before us";
    assert_eq!(of(v6), [into, &format!("{out} fd00:1::11 sends before us")]);
    assert!(found.iter().all(|found| found["severity"] == "error"));
    for found in &found {
        clinic.shell(text(found, "remedy"));
    }
    clinic.lacks("nat-first");
    for family in Family::BOTH {
        clinic.passes(family);
    }
    clinic.shell("nft add rule inet early in tcp dport 80 redirect");
    clinic.shell("nft insert rule inet early in tcp dport 80 redirect");
    let found = clinic.all("nat-first");
    assert!(!found.is_empty());
    assert!(found.iter().all(|found| found["severity"] == "warning"));
}
