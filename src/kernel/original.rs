//! What the original IP Floater left in the kernel: its chains of iptables, and
//! pool addresses that its manual had administrators put on the interface.
//!
//! Recognised by name alone: the original marked nothing. In table nat it had
//! `ipfloater-PREROUTING`, `-OUTPUT`, `-POSTROUTING`, and three chains for each
//! redirection, `ipfl-rule-` with six characters of a UUID; in table filter
//! `ipfloater-INPUT` and `-FORWARD`. An older release called the three `rule-` with
//! eight characters, which are taken for its own only together. The chains of iptables
//! itself stay, with every rule in them that does not lead to one of these.

use std::collections::BTreeSet;

use ipnet::IpNet;
use neli::consts::socket::NlFamily;

use crate::dataplane::Observed;
use crate::model::{FloatingIp, InterfaceName, RouterAddress};

use super::nft::{Batch, IptablesChain, IptablesListing, Jump, Named, NftMsg};
use super::rtnl::{Rtnl, SourceRoute};
use super::socket::Socket;
use super::{KernelError, Operation, xtables};

/// The chains that there were in each table, whatever was redirected.
const FIXED: [(&str, &[&str]); 2] = [
    (
        "nat",
        &[
            "ipfloater-PREROUTING",
            "ipfloater-OUTPUT",
            "ipfloater-POSTROUTING",
        ],
    ),
    ("filter", &["ipfloater-INPUT", "ipfloater-FORWARD"]),
];

/// The beginning of the name of a chain of table nat that was made for one
/// redirection, how long the id behind it is, and the ends: first as the last
/// release had it, then as an older one did.
const RULE: (&str, usize) = ("ipfl-rule-", 6);
const OLD_RULE: (&str, usize) = ("rule-", 8);
const RULE_ENDS: [&str; 3] = ["-PREROUTING", "-OUTPUT", "-POSTROUTING"];

/// The chains of iptables itself.
const BUILT_IN: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

/// What the original left.
#[derive(Clone, Debug, Default)]
pub struct Leftovers {
    /// Chains that iptables-nft shows.
    pub chains: Vec<IptablesChain>,
    /// Chains that iptables-legacy shows.
    pub legacy: Vec<IptablesChain>,
    /// Addresses of pools that are on an outside interface as a /32, beside another.
    pub addresses: Vec<RouterAddress>,
    /// The routes that would go with these.
    pub routes: Vec<SourceRoute>,
    /// The rules that lead to the chains from elsewhere.
    jumps: Vec<Jump>,
    /// Those of iptables-legacy, by the chain that has one; `None` is one of iptables
    /// itself.
    legacy_jumps: Vec<Option<IptablesChain>>,
}

/// A redirection of the original's that is in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Redirected {
    /// By which the original's database has it.
    pub id: String,
    /// What the names of its chains begin with.
    pub chains: String,
    /// Whether iptables-legacy shows them.
    pub legacy: bool,
}

impl Leftovers {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.legacy.is_empty() && self.addresses.is_empty()
    }

    /// The redirections that the chains are of.
    #[must_use]
    pub fn redirections(&self) -> BTreeSet<Redirected> {
        let of = |chains: &[IptablesChain], legacy| -> Vec<Redirected> {
            let ids = chains.iter().filter_map(|chain| {
                [RULE, OLD_RULE].into_iter().find_map(|rule| {
                    let (id, _) = id_and_end(chain, rule)?;
                    Some(Redirected {
                        id: id.to_owned(),
                        chains: format!("{}{id}", rule.0),
                        legacy,
                    })
                })
            });
            ids.collect()
        };
        let nft = of(&self.chains, false);
        nft.into_iter().chain(of(&self.legacy, true)).collect()
    }

    /// How many rules lead to the chains from elsewhere.
    #[must_use]
    pub fn jumps(&self) -> usize {
        self.jumps.len() + self.legacy_jumps.len()
    }

    /// The chains of others that such rules are in.
    #[must_use]
    pub fn of_others(&self) -> BTreeSet<&IptablesChain> {
        let nft = self.jumps.iter().map(|jump| &jump.from);
        let all = nft.chain(self.legacy_jumps.iter().flatten());
        all.filter(|chain| !BUILT_IN.contains(&chain.name.as_str()))
            .collect()
    }
}

/// Looks for what the original left, and removes it.
pub struct OriginalTraces {
    nft: Socket,
    rtnl: Rtnl,
    observed: Observed,
}

impl OriginalTraces {
    /// Opens the sockets. Needs CAP_NET_ADMIN in the network namespace.
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self {
            nft: Socket::open(NlFamily::Netfilter, "nf_tables")?,
            rtnl: Rtnl::open()?,
            observed: Observed::default(),
        })
    }

    /// Looks at what there is. `outside` are the outside interfaces; `of_a_pool`
    /// tells the addresses of pools.
    pub fn look(
        &mut self,
        outside: &[InterfaceName],
        of_a_pool: impl Fn(FloatingIp) -> bool,
    ) -> Result<Leftovers, KernelError> {
        let IptablesListing { chains, .. } = self.list(NftMsg::GetChain)?;
        let chains = of_the_original(chains);
        let leads_there = |jump: &Jump| {
            let to = IptablesChain {
                table: jump.from.table.clone(),
                name: jump.to.clone(),
            };
            chains.contains(&to) && !chains.contains(&jump.from)
        };
        let mut jumps = Vec::new();
        if !chains.is_empty() {
            let listing = self.list(NftMsg::GetRule)?;
            jumps.extend(listing.jumps.into_iter().filter(leads_there));
        }
        let (mut legacy, mut legacy_jumps) = (Vec::new(), Vec::new());
        for table in xtables::tables()? {
            let chain = |name| IptablesChain {
                table: table.name.clone(),
                name,
            };
            let chains = of_the_original(table.chains().into_iter().map(chain).collect());
            let jumps = table.jumps(|name| chains.contains(&chain(name.to_owned())));
            legacy_jumps.extend(jumps.into_iter().map(|from| from.map(chain)));
            legacy.extend(chains);
        }
        self.observed = self.rtnl.observe()?;
        let addresses = put_there(&self.observed.surroundings.addresses, outside, of_a_pool);
        let sources: BTreeSet<_> = addresses.iter().map(|own| own.net.addr()).collect();
        let mut routes = match sources.is_empty() {
            true => Vec::new(),
            false => self.rtnl.routes_from(&sources, &self.observed.links)?,
        };
        routes.sort_by_key(|SourceRoute { route, .. }| !route.starts_with("default"));
        Ok(Leftovers {
            addresses,
            routes,
            chains,
            legacy,
            jumps,
            legacy_jumps,
        })
    }

    fn list(&mut self, kind: NftMsg) -> Result<IptablesListing, KernelError> {
        let gather = |listing: &mut IptablesListing, message: super::socket::Message<'_>| {
            listing.take(&message);
        };
        self.nft.dump(kind, &Named::of_iptables(), gather)
    }

    /// Removes the chains and what leads to them: those of iptables-nft in one
    /// transaction, those of iptables-legacy in one for each table.
    pub fn remove_chains(&mut self, leftovers: &Leftovers) -> Result<(), KernelError> {
        if !leftovers.chains.is_empty() {
            self.remove_from_nft(leftovers)?;
        }
        if !leftovers.legacy.is_empty() {
            xtables::remove(|table, name| {
                leftovers.legacy.contains(&IptablesChain {
                    table: table.to_owned(),
                    name: name.to_owned(),
                })
            })?;
        }
        Ok(())
    }

    fn remove_from_nft(&mut self, leftovers: &Leftovers) -> Result<(), KernelError> {
        let Leftovers { chains, jumps, .. } = leftovers;
        let batch = Batch::without_chains(self.nft.next_sequence(), chains, jumps);
        self.nft.skip_to(batch.next_sequence());
        let all = || Operation::Clear("the chains of the original".to_owned());
        let answers = self
            .nft
            .exchange(batch.bytes(), |_| {})
            .map_err(|error| KernelError::new(all(), error))?;
        match answers.refusals.into_iter().next() {
            None => Ok(()),
            Some(refusal) => {
                let object = batch.object(refusal.sequence, None);
                Err(refusal.of(Operation::Clear(object)))
            }
        }
    }

    /// Takes one of the addresses off its interface.
    pub fn remove_address(&mut self, address: &RouterAddress) -> Result<(), KernelError> {
        let RouterAddress { net, interface, .. } = address;
        match self.observed.links.get(interface) {
            Some(link) => self
                .rtnl
                .remove_address(IpNet::from(net.addr()), link.index),
            // With its interface it is gone.
            None => Ok(()),
        }
    }
}

/// The addresses that were put on an outside interface for the original. Where
/// nothing else would be left of IPv4, one of them may be the router's own, by
/// which it is reached: those stay.
fn put_there(
    addresses: &[RouterAddress],
    outside: &[InterfaceName],
    of_a_pool: impl Fn(FloatingIp) -> bool,
) -> Vec<RouterAddress> {
    let is_one = |own: &&RouterAddress| {
        let is_host = own.net.addr().is_ipv4() && own.net.prefix_len() == 32;
        let is_of_a_pool = FloatingIp::new(own.net.addr()).is_ok_and(&of_a_pool);
        is_host && is_of_a_pool && outside.contains(&own.interface)
    };
    let has_another = |interface: &InterfaceName| {
        let mut others = addresses.iter().filter(|own| !is_one(own));
        others.any(|own| own.interface == *interface && own.net.addr().is_ipv4())
    };
    let put_there = addresses.iter().filter(is_one);
    put_there
        .filter(|own| has_another(&own.interface))
        .cloned()
        .collect()
}

/// Those of the chains that the original made, in the order of their names.
fn of_the_original(chains: Vec<IptablesChain>) -> Vec<IptablesChain> {
    let all: BTreeSet<_> = chains.into_iter().collect();
    let is_one = |chain: &&IptablesChain| {
        let IptablesChain { table, name } = chain;
        let fixed = |(of, names): &(&str, &[&str])| of == table && names.contains(&name.as_str());
        let is_of_old = || {
            let has = |id: &str, end: &&str| {
                all.contains(&IptablesChain {
                    table: table.clone(),
                    name: format!("{}{id}{end}", OLD_RULE.0),
                })
            };
            id_and_end(chain, OLD_RULE)
                .is_some_and(|(id, _)| RULE_ENDS.iter().all(|end| has(id, end)))
        };
        FIXED.iter().any(fixed) || id_and_end(chain, RULE).is_some() || is_of_old()
    };
    all.iter().filter(is_one).cloned().collect()
}

/// The id and the end of the name of a chain that was made for a redirection.
fn id_and_end<'a>(
    chain: &'a IptablesChain,
    (begin, length): (&str, usize),
) -> Option<(&'a str, &'a str)> {
    let IptablesChain { table, name } = chain;
    let (id, end) = name.strip_prefix(begin)?.split_at_checked(length)?;
    let is_id = id.bytes().all(|digit| digit.is_ascii_hexdigit());
    (table == "nat" && is_id && RULE_ENDS.contains(&end)).then_some((id, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_keeps_an_address_by_which_the_router_is_reached() {
        let addresses = |all: &str| -> Vec<RouterAddress> {
            let own = |text: &str| {
                let (interface, net) = text.split_once(' ').unwrap();
                RouterAddress {
                    net: net.parse().unwrap(),
                    interface: interface.parse().unwrap(),
                    secondary: false,
                }
            };
            all.split(", ").map(own).collect()
        };
        let outside = ["eth0", "eth1"].map(|name| name.parse().unwrap());
        let of_a_pool = |floating: FloatingIp| floating.to_string().starts_with("203.0.113.");
        for (all, expected) in [
            (
                "eth0 198.51.100.2/24, eth0 203.0.113.7/32, eth0 203.0.113.8/32",
                "203.0.113.7/32 203.0.113.8/32",
            ),
            // As a provider gives a router its only address, within the pool.
            ("eth0 203.0.113.2/32", ""),
            (
                "eth0 203.0.113.2/32, eth0 2001:db8::2/64, eth0 203.0.113.7/32",
                "",
            ),
            (
                "eth0 203.0.113.2/32, eth1 198.51.100.2/32, eth1 203.0.113.7/32",
                "203.0.113.7/32",
            ),
            // Of no pool, of a network, inside.
            (
                "eth0 198.51.100.2/24, eth0 198.51.100.7/32, eth0 203.0.113.9/24, eth2 203.0.113.7/32",
                "",
            ),
        ] {
            let told = put_there(&addresses(all), &outside, of_a_pool);
            let told: Vec<_> = told.iter().map(|own| own.net.to_string()).collect();
            assert_eq!(told.join(" "), expected, "{all}");
        }
    }

    #[test]
    fn the_originals_chains_are_known_by_their_names_and_tables() {
        for (table, name, expected) in [
            ("nat", "ipfloater-PREROUTING", true),
            ("nat", "ipfloater-POSTROUTING", true),
            ("filter", "ipfloater-INPUT", true),
            ("filter", "ipfloater-PREROUTING", false),
            ("mangle", "ipfloater-OUTPUT", false),
            ("nat", "ipfl-rule-ab12ef-OUTPUT", true),
            ("filter", "ipfl-rule-ab12ef-OUTPUT", false),
            ("nat", "ipfl-rule-ab12ef-INPUT", false),
            ("nat", "ipfl-rule-ab12e-OUTPUT", false),
            ("nat", "ipfl-rule-äb12e-OUTPUT", false),
            ("nat", "ipfl-rule-mine!!-OUTPUT", false),
            ("nat", "ipfloater", false),
            ("nat", "ipfloater-mine", false),
            ("nat", "PREROUTING", false),
            ("nat", "rule-ab12ef34-OUTPUT", false),
        ] {
            let chain = IptablesChain {
                table: table.to_owned(),
                name: name.to_owned(),
            };
            let known = of_the_original(vec![chain.clone()]);
            assert_eq!(known.contains(&chain), expected, "{chain}");
        }
    }

    #[test]
    fn chains_of_the_older_release_are_known_when_all_three_are_there() {
        let chains = |names: &[&str]| -> Vec<_> {
            let chain = |name: &&str| IptablesChain {
                table: "nat".to_owned(),
                name: (*name).to_owned(),
            };
            names.iter().map(chain).collect()
        };
        let of_old = [
            "rule-ab12ef34-OUTPUT",
            "rule-ab12ef34-POSTROUTING",
            "rule-ab12ef34-PREROUTING",
        ];
        assert_eq!(of_the_original(chains(&of_old)), chains(&of_old));
        assert_eq!(of_the_original(chains(&of_old[1..])), []);
        let left = Leftovers {
            chains: chains(&of_old),
            legacy: chains(&["ipfl-rule-ab12ef-OUTPUT"]),
            ..Leftovers::default()
        };
        let told = left.redirections();
        let told = told.iter().map(|one| (&*one.id, &*one.chains, one.legacy));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                ("ab12ef", "ipfl-rule-ab12ef", true),
                ("ab12ef34", "rule-ab12ef34", false)
            ]
        );
    }
}
