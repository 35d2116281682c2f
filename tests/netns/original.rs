//! What the original IP Floater leaves on a router.

use std::net::SocketAddr;

use super::lab::Lab;

/// The two kinds of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    Nft,
    Legacy,
}

impl Backend {
    pub(super) fn name(self) -> &'static str {
        match self {
            Backend::Nft => "iptables-nft",
            Backend::Legacy => "iptables-legacy",
        }
    }

    /// Whether the kernel knows it; iptables-legacy can be left out of one.
    pub(super) fn is_there(self, lab: &Lab) -> bool {
        let listed = lab.router.try_program(&format!("{} -S", self.name()), "");
        listed
            .inspect_err(|error| eprintln!("not tried: {error}"))
            .is_ok()
    }

    /// All rules, without the counters and comments that alter by themselves.
    pub(super) fn rules(self, lab: &Lab) -> Vec<String> {
        let saved = lab.router.program(&format!("{}-save", self.name()));
        let lines = saved.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.split(" [").next().unwrap_or(line).to_owned())
            .collect()
    }

    /// The rules that are not the original's.
    pub(super) fn others(self, lab: &Lab) -> Vec<String> {
        let mut rules = self.rules(lab);
        rules.retain(|rule| !is_the_originals(rule));
        rules
    }
}

pub(super) fn is_the_originals(rule: &str) -> bool {
    let is_like_one = rule.contains("ipfloater-") || rule.contains("ipfl-rule-");
    is_like_one && !rule.contains("ipfl-rule-mine")
}

/// A host behind a public address, as the original kept it in its database.
pub(super) const ROWS: &str = "
    ('ab12ef', '198.51.100.10', 0, '10.0.1.11', 0, 1500000000),
    ('cd34aa', '198.51.100.11', '8080', '10.0.1.12', 7.0, '1500000001')";

/// What the original leaves in the kernel for these rows, with rules and chains
/// of others before, behind and beside them.
const LEFT: &str = "\
*nat
:mine - [0:0]
:ipfl-rule-mine - [0:0]
:ipfloater-PREROUTING - [0:0]
:ipfloater-OUTPUT - [0:0]
:ipfloater-POSTROUTING - [0:0]
:ipfl-rule-ab12ef-PREROUTING - [0:0]
:ipfl-rule-ab12ef-OUTPUT - [0:0]
:ipfl-rule-ab12ef-POSTROUTING - [0:0]
:ipfl-rule-cd34aa-PREROUTING - [0:0]
:ipfl-rule-cd34aa-OUTPUT - [0:0]
:ipfl-rule-cd34aa-POSTROUTING - [0:0]
-A PREROUTING -d 192.0.2.1/32 -j mine
-A PREROUTING -j ipfloater-PREROUTING
-A PREROUTING -d 192.0.2.2/32 -j DNAT --to-destination 10.0.2.13
-A OUTPUT -j ipfloater-OUTPUT
-A POSTROUTING -o nowhere -j MASQUERADE
-A POSTROUTING -j ipfloater-POSTROUTING
-A mine -c 5 300 -j RETURN
-A ipfloater-POSTROUTING -m conntrack ! --ctstate DNAT -j ACCEPT
-A ipfloater-PREROUTING -j ipfl-rule-ab12ef-PREROUTING
-A ipfloater-PREROUTING -j ipfl-rule-cd34aa-PREROUTING
-A ipfloater-OUTPUT -j ipfl-rule-ab12ef-OUTPUT
-A ipfloater-OUTPUT -j ipfl-rule-cd34aa-OUTPUT
-A ipfloater-POSTROUTING -j ipfl-rule-ab12ef-POSTROUTING
-A ipfloater-POSTROUTING -j ipfl-rule-cd34aa-POSTROUTING
-A ipfl-rule-ab12ef-PREROUTING -d 198.51.100.10/32 -j DNAT --to-destination 10.0.1.11
-A ipfl-rule-ab12ef-OUTPUT -d 198.51.100.10/32 -j DNAT --to-destination 10.0.1.11
-A ipfl-rule-ab12ef-POSTROUTING -s 10.0.1.11/32 -j SNAT --to-source 198.51.100.10
-A ipfl-rule-cd34aa-PREROUTING -d 198.51.100.11/32 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.0.1.12:7
-A ipfl-rule-cd34aa-OUTPUT -d 198.51.100.11/32 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.0.1.12:7
COMMIT
*filter
:ipfloater-INPUT - [0:0]
:ipfloater-FORWARD - [0:0]
-A INPUT -p tcp -m tcp --dport 2222 -j DROP
-A INPUT -j ipfloater-INPUT
-A FORWARD -d 192.0.2.3/32 -j DROP
-A FORWARD -j ipfloater-FORWARD
-A ipfloater-INPUT -d 198.51.100.10/32 -j DROP
-A ipfloater-INPUT -d 198.51.100.12/32 -j DROP
-A ipfloater-FORWARD -d 198.51.100.10/32 -j ACCEPT
COMMIT
";

/// Makes what the original leaves, on a router: its rules, and the addresses that
/// its manual had people put on the interface. Three others stay: one of no pool,
/// one with a network, one on another interface.
pub(super) fn leave(lab: &Lab, backend: Backend) {
    let restore = format!("{}-restore --noflush", backend.name());
    let restored = lab.router.try_program(&restore, LEFT);
    restored.unwrap_or_else(|error| panic!("{error}"));
    lab.router.ip("address add 198.51.100.10/32 dev wan0
         address add 198.51.100.11/32 dev wan0
         address add 198.51.100.12/32 dev wan0
         address add 198.51.100.40/32 dev wan0
         address add 198.51.100.14/24 dev wan0
         address add 198.51.100.15/32 dev lan1");
}

/// The IPv4 addresses of the router, as INTERFACE ADDRESS.
pub(super) fn addresses(lab: &Lab) -> Vec<String> {
    let shown = lab.router.program("ip -oneline -4 address show");
    let address = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        format!("{} {}", words[1], words[3])
    };
    shown.lines().map(address).collect()
}

/// By what conntrack tells the flow that this end began from all others: one that
/// was ended and begins anew has another.
pub(super) fn id_of(lab: &Lab, local: SocketAddr) -> Option<String> {
    let (source, port) = (local.ip(), local.port());
    let flows = lab.router.program("conntrack -L -f ipv4 -o id");
    let began = |flow: &&str| {
        let end = flow.find(&format!("src={source} "));
        let port = flow.find(&format!("sport={port} "));
        // The one that began is told first.
        end.zip(port)
            .is_some_and(|(end, port)| end < port && flow.find("src=") == Some(end))
    };
    let flow = flows.lines().find(began)?;
    let id = flow.split(' ').find(|word| word.starts_with("id="))?;
    Some(id.to_owned())
}
