//! Which of conntrack's flows a cut ends.

use ipfloater::dataplane::{Cut, Tenants};
use ipfloater::kernel::{ConntrackFlows, Features, Flows, Hidden, Kernel};
use ipfloater::model::{AddressRange, FixedIp, FloatingIp};

use super::Lab;

/// The addresses of a site, by family.
struct Site {
    floating: &'static str,
    host: &'static str,
    other_host: &'static str,
    other_floating: &'static str,
    router: &'static str,
    client: &'static str,
    server: &'static str,
    echo: &'static str,
}

const SITES: [Site; 2] = [
    Site {
        floating: "198.51.100.10",
        host: "10.0.1.11",
        other_host: "10.0.2.13",
        other_floating: "198.51.100.13",
        router: "198.51.100.2",
        client: "203.0.113.9",
        server: "203.0.113.77",
        echo: "-p icmp --icmp-type 8 --icmp-code 0 --icmp-id 5",
    },
    Site {
        floating: "2001:db8::10",
        host: "fd00:1::11",
        other_host: "fd00:2::13",
        other_floating: "2001:db8::13",
        router: "2001:db8::2",
        client: "2001:db8:f::9",
        server: "2001:db8:f::77",
        echo: "-p icmpv6 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 5",
    },
];

const UDP: &str = "-p udp --sport 1001 --dport 7 --reply-port-src 7 --reply-port-dst 1001";

/// Every protocol that conntrack(8) makes entries of.
fn protocols(site: &Site) -> [&str; 6] {
    [
        UDP,
        "-p tcp --sport 1001 --dport 7 --reply-port-src 7 --reply-port-dst 1001 --state ESTABLISHED",
        "-p sctp --sport 1001 --dport 7 --reply-port-src 7 --reply-port-dst 1001 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2",
        "-p gre --srckey 1 --dstkey 2 --reply-key-src 2 --reply-key-dst 1",
        "-p 50",
        site.echo,
    ]
}

/// A flow: from, to, who answers, to whom.
type Ends<'a> = [&'a str; 4];

impl Lab {
    fn begin(&self, [from, to, answered_by, answered_to]: Ends<'_>, protocol: &str) {
        self.router.program(&format!(
            "conntrack -I -t 300 -s {from} -d {to} -r {answered_by} -q {answered_to} {protocol}"
        ));
    }

    /// How many flows there are from one address to another, as first seen.
    fn flows(&self, [from, to, ..]: Ends<'_>) -> usize {
        let family = if from.contains(':') { "ipv6" } else { "ipv4" };
        let listing = self
            .router
            .program(&format!("conntrack -L -f {family} -s {from} -d {to}"));
        listing.lines().count()
    }

    fn conntrack(&self, hide_filter: bool) -> ConntrackFlows {
        let private = ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().expect("a constant"));
        let pools = [
            ("198.51.100.10", "198.51.100.29"),
            ("2001:db8::10", "2001:db8::29"),
        ];
        let pools = pools.map(|(first, last)| {
            let ends = [first, last].map(|text| text.parse().expect("a constant"));
            AddressRange::new(ends[0], ends[1]).expect("a constant")
        });
        self.router
            .run(|| ConntrackFlows::open(private.into(), pools.into(), hide_filter))
            .expect("the socket can be opened")
    }
}

fn floating(site: &Site) -> Cut {
    let floating: FloatingIp = site.floating.parse().expect("a constant");
    Cut::Floating {
        floating,
        keep: Tenants::default(),
    }
}

fn outbound(site: &Site) -> Cut {
    let fixed: FixedIp = site.host.parse().expect("a constant");
    Cut::Outbound(fixed)
}

/// Cuts that concern nobody: with so many, one dump serves for all.
fn bystanders(cut: Cut) -> Vec<Cut> {
    let others = (1..=9).map(|last| Cut::Outbound(format!("10.9.9.{last}").parse().expect("fits")));
    others.chain([cut]).collect()
}

/// The ways by which cuts are made: whether the filter is hidden, and how many
/// cuts there are at once.
fn ways(cut: Cut) -> [(&'static str, bool, Vec<Cut>); 3] {
    [
        ("by filter", false, vec![cut.clone()]),
        ("without filter", true, vec![cut.clone()]),
        ("many at once", false, bystanders(cut)),
    ]
}

#[test]
fn the_flows_of_a_floating_ip_end_in_both_directions_and_no_others() {
    for site in &SITES {
        let inbound = [site.client, site.floating, site.host, site.client];
        let outbound = [site.host, site.server, site.server, site.floating];
        let among_hosts = [site.host, site.other_host, site.other_host, site.host];
        let of_another = [
            site.client,
            site.other_floating,
            site.other_host,
            site.client,
        ];
        for (way, hidden, cuts) in ways(floating(site)) {
            let lab = Lab::new();
            let protocols = protocols(site);
            for protocol in protocols {
                for ends in [inbound, outbound, among_hosts, of_another] {
                    lab.begin(ends, protocol);
                }
            }
            let ended = lab.conntrack(hidden).cut(&cuts).expect("flows can be cut");

            let what = format!("{way}, {}", site.floating);
            assert_eq!(lab.flows(inbound), 0, "inbound, {what}");
            assert_eq!(lab.flows(outbound), 0, "outbound, {what}");
            assert_eq!(
                lab.flows(among_hosts),
                protocols.len(),
                "among hosts, {what}"
            );
            assert_eq!(lab.flows(of_another), protocols.len(), "another's, {what}");
            // A kernel that looks for itself does not say how many it found.
            // It does so for IPv4 only.
            let known = if way == "by filter" && !site.floating.contains(':') {
                0
            } else {
                2 * protocols.len()
            };
            assert_eq!(ended, known, "{what}");
        }
    }
}

#[test]
fn flows_to_the_outside_from_before_the_association_end_and_no_others() {
    for site in &SITES {
        let before = [site.host, site.client, site.client, site.router];
        let since = [site.host, site.server, site.server, site.floating];
        let among_hosts = [site.host, site.other_host, site.other_host, site.host];
        let hairpin = [site.host, site.other_floating, site.other_host, site.router];
        let of_another = [site.other_host, site.client, site.client, site.router];
        for (way, hidden, cuts) in ways(outbound(site)) {
            let lab = Lab::new();
            for ends in [before, since, among_hosts, hairpin, of_another] {
                // Those of another host would have the same reply tuple.
                let other = UDP.replace("1001", "1002");
                lab.begin(ends, if ends == of_another { &other } else { UDP });
            }
            let ended = lab.conntrack(hidden).cut(&cuts).expect("flows can be cut");

            let what = format!("{way}, {}", site.host);
            assert_eq!(lab.flows(before), 0, "from before, {what}");
            assert_eq!(lab.flows(since), 1, "with the floating IP, {what}");
            assert_eq!(lab.flows(among_hosts), 1, "among hosts, {what}");
            assert_eq!(lab.flows(hairpin), 1, "hairpin, {what}");
            assert_eq!(lab.flows(of_another), 1, "of another host, {what}");
            assert_eq!(ended, 1, "{what}");
        }
    }
}

#[test]
fn what_a_late_answer_begins_ends_until_none_can_be_under_way() {
    const ANSWER: &str = "-p udp --sport 7 --dport 1001 --reply-port-src 1001 --reply-port-dst 7";
    for site in &SITES {
        let before = [site.host, site.client, site.client, site.host];
        let answer = [site.client, site.host, site.host, site.client];
        let other_answer = [site.server, site.host, site.host, site.server];
        for (way, hidden, cuts) in ways(outbound(site)) {
            let lab = Lab::new();
            lab.begin(before, UDP);
            let mut conntrack = lab.conntrack(hidden);
            conntrack.cut(&cuts).expect("flows can be cut");
            let what = format!("{way}, {}", site.host);
            assert_eq!(lab.flows(before), 0, "from before, {what}");

            lab.begin(other_answer, ANSWER);
            for _ in 0..2 {
                lab.begin(answer, ANSWER);
                assert!(conntrack.cut_late().expect("flows can be cut"), "{what}");
                assert_eq!(lab.flows(answer), 0, "the answer, {what}");
                assert_eq!(lab.flows(other_answer), 1, "who was never asked, {what}");
            }
        }
    }
}

#[test]
fn status_tells_whether_the_kernel_deletes_by_a_filter() {
    let lab = Lab::new();
    let hidden = Hidden {
        conntrack_filter: true,
        ..Hidden::default()
    };
    let untouched = [
        SITES[0].client,
        SITES[0].floating,
        SITES[0].host,
        SITES[0].client,
    ];
    lab.begin(untouched, UDP);
    let Features {
        conntrack_filter, ..
    } = lab.kernel_without(hidden).features();
    assert!(!conntrack_filter, "it is hidden");
    lab.kernel();
    assert_eq!(lab.flows(untouched), 1, "asking ends nothing");
}
