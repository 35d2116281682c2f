//! The running system, as the controller sees it.
//!
//! One socket for nf_tables lives as long as the value: where the kernel can,
//! the table belongs to that socket and nobody else alters it; when the daemon
//! ends the table stays and the next daemon adopts it. Interfaces, routes and
//! addresses are left to `Rtnl`.

use neli::consts::nl::NlmF;
use neli::consts::socket::NlFamily;
use nix::errno::Errno;

use crate::dataplane::ruleset::{TABLE, counted, limited, named, names};
use crate::dataplane::{IfIndex, Observed, Rerouting, Transaction};
use crate::model::{AddressRange, Direction, Family, FixedIp, FloatingIp};

use super::conntrack;
use super::nft::{
    self, Batch, Dialect, Elements, Listing, NftMsg, OWNER_AND_PERSIST, PERSIST, PLAIN, SetAttr,
    TableAttr,
};
use super::rtnl::Rtnl;
use super::socket::{self, Answers, Socket};
use super::{Features, Hidden, Kernel, KernelError, Operation, Ports};

/// A table that is never made: a batch with it is checked and dropped.
const PROBE: &str = "ipfloater_probe";

/// The running system.
pub struct LinuxKernel {
    nft: Socket,
    rtnl: Rtnl,
    features: Features,
    dialect: Dialect,
    /// Whether the table is ours alone, or cannot be.
    possessed: bool,
}

impl LinuxKernel {
    /// Opens the sockets and finds out what the kernel can do, without altering
    /// anything. Needs CAP_NET_ADMIN in the network namespace.
    pub fn open(hidden: Hidden) -> Result<Self, KernelError> {
        let mut nft = Socket::open(NlFamily::Netfilter, "nf_tables")?;
        let table_owner = !hidden.table_owner && knows_owner(&mut nft)?;
        let conntrack_filter = !hidden.conntrack_filter && conntrack::deletes_by_filter(&mut nft)?;
        Ok(Self {
            nft,
            rtnl: Rtnl::open()?,
            features: Features {
                table_owner,
                conntrack_filter,
            },
            dialect: Dialect {
                table_owner,
                // Found out with the first table that is built.
                map_keys: !hidden.map_keys,
            },
            possessed: !table_owner,
        })
    }

    /// The ports by which notifications tell what we did ourselves.
    #[must_use]
    pub fn ports(&self) -> Ports {
        Ports {
            nft: self.nft.port(),
            rtnl: self.rtnl.port(),
        }
    }

    /// The flags with which the table can be ours as it is. The kernel takes the
    /// flag `owner` away when the owner's socket is closed.
    fn acceptable_flags(&self) -> &'static [u32] {
        match (self.dialect.table_owner, self.possessed) {
            (false, _) => &[PLAIN],
            (true, true) => &[OWNER_AND_PERSIST],
            (true, false) => &[OWNER_AND_PERSIST, PERSIST],
        }
    }

    fn send(&mut self, transaction: &Transaction) -> Result<(), KernelError> {
        let first = self.nft.next_sequence();
        let batch = Batch::new(first, self.dialect, !self.possessed, transaction);
        self.nft.skip_to(batch.next_sequence());
        let lost = |error| KernelError::new(Operation::Transact("the batch".into()), error);
        let Answers { refusals, .. } = self.nft.exchange(batch.bytes(), |_| {}).map_err(lost)?;
        let Some(refusal) = refusals.into_iter().min_by_key(|refusal| refusal.sequence) else {
            self.possessed = true;
            return Ok(());
        };
        let object = batch.object(refusal.sequence, refusal.offset);
        Err(explain_owned(refusal.of(Operation::Transact(object))))
    }

    /// Whether our table is there, and could be removed. Alters nothing.
    pub fn may_remove_table(&mut self) -> Result<bool, KernelError> {
        self.removal(false)
    }

    /// Removes our table, with all that is in it. Says whether it was there.
    pub fn remove_table(&mut self) -> Result<bool, KernelError> {
        self.removal(true)
    }

    fn removal(&mut self, carry_out: bool) -> Result<bool, KernelError> {
        let batch = Batch::removal(self.nft.next_sequence(), self.dialect, carry_out);
        self.nft.skip_to(batch.next_sequence());
        let operation = || Operation::Transact("removing it".into());
        let answers = self
            .nft
            .exchange(batch.bytes(), |_| {})
            .map_err(|error| KernelError::new(operation(), error))?;
        match answers.refusals.into_iter().next() {
            None => Ok(true),
            Some(refusal) if refusal.errno == Errno::ENOENT as i32 => Ok(false),
            Some(refusal) => Err(explain_owned(refusal.of(operation()))),
        }
    }

    /// Looks at the table. One that cannot be made ours as it is, because
    /// something about it is odd, is as good as none: it has to be rebuilt.
    fn observe_table(&mut self, observed: &mut Observed) -> Result<(), KernelError> {
        let mut listing = Listing::default();
        for (kind, request) in [
            (NftMsg::GetTable, nft::named::<TableAttr>(&[])),
            (NftMsg::GetSet, nft::named(&[(SetAttr::Table, TABLE)])),
            (NftMsg::GetChain, nft::named::<TableAttr>(&[])),
            (NftMsg::GetRule, nft::named(&[(TableAttr::Name, TABLE)])),
        ] {
            let part = self
                .nft
                .dump(kind, &request, |part: &mut Listing, message| {
                    part.take(&message);
                })?;
            listing.append(part);
            if !listing.is_there() {
                return Ok(());
            }
        }
        let understood = self.observe_elements(&listing, observed)?;
        observed.table = listing
            .ruleset(self.acceptable_flags())
            .filter(|_| understood);
        Ok(())
    }

    /// Looks at the elements, and says whether all of them could be ours.
    fn observe_elements(
        &mut self,
        listing: &Listing,
        observed: &mut Observed,
    ) -> Result<bool, KernelError> {
        let mut understood = true;
        let mut keep = |known: Option<()>| understood &= known.is_some();
        for family in Family::BOTH {
            let map = named(names::FLOATING_TO_FIXED, family);
            let pairs = self.elements(listing, &map)?.pairs::<FloatingIp, FixedIp>();
            keep(pairs.map(|pairs| observed.floating_to_fixed.extend(pairs)));
            let map = named(names::FIXED_TO_FLOATING, family);
            let pairs = self.elements(listing, &map)?.pairs::<FixedIp, FloatingIp>();
            keep(pairs.map(|pairs| observed.fixed_to_floating.extend(pairs)));
            let map = named(names::REST_TO_FIXED, family);
            let pairs = self.elements(listing, &map)?.pairs::<FloatingIp, FixedIp>();
            keep(pairs.map(|pairs| observed.rest_to_fixed.extend(pairs)));
            for map in [names::FORWARD, names::FORWARD_RANGE] {
                let ports = self.elements(listing, &named(map, family))?.ports();
                keep(ports.map(|ports| observed.forwards.extend(ports)));
            }
            let set = named(names::FORWARDED_TO, family);
            let keys = self.elements(listing, &set)?.keys::<FixedIp>();
            keep(keys.map(|keys| observed.forwarded_to.extend(keys)));
            let set = named(names::FORWARDING, family);
            let keys = self.elements(listing, &set)?.keys::<FloatingIp>();
            keep(keys.map(|keys| observed.forwarding.extend(keys)));
            for direction in Direction::BOTH {
                let set = named(counted(direction), family);
                let counts = self.elements(listing, &set)?.counts();
                keep(counts.map(|counts| observed.counted[direction.place()].extend(counts)));
            }
            for direction in Direction::BOTH {
                let set = named(limited(direction), family);
                let rates = self.elements(listing, &set)?.rates();
                keep(rates.map(|rates| observed.limited[direction.place()].extend(rates)));
            }
            let set = named(names::FILTERED, family);
            let keys = self.elements(listing, &set)?.keys::<FloatingIp>();
            keep(keys.map(|keys| observed.filtered.extend(keys)));
            let set = named(names::ALLOWED, family);
            let prefixes = self.elements(listing, &set)?.prefixes();
            keep(prefixes.map(|prefixes| {
                for (floating, net) in prefixes {
                    observed.allowed.entry(floating).or_default().insert(net);
                }
            }));
            let map = named(names::UPLINKS, family);
            let uplinks = self.elements(listing, &map)?.uplinks(family);
            keep(uplinks.map(|uplinks| observed.uplinks.extend(uplinks)));
            let map = named(names::FIXED_TO_UPLINK, family);
            let hosts = self.elements(listing, &map)?.uplinks_of_hosts();
            keep(hosts.map(|hosts| observed.fixed_to_uplink.extend(hosts)));
            let pool = named(names::POOL, family);
            let ranges = self.elements(listing, &pool)?.ranges(family);
            keep(ranges.map(|ranges| observed.pool.extend(ranges)));
        }
        let names = self.elements(listing, names::OUTSIDE)?.names();
        keep(names.map(|names| observed.outside.extend(names)));
        observed.pool = AddressRange::merge(std::mem::take(&mut observed.pool));
        Ok(understood)
    }

    fn elements(&mut self, listing: &Listing, set: &str) -> Result<Elements, KernelError> {
        if !listing.has_set(set) {
            return Ok(Elements::default());
        }
        // NFTA_SET_ELEM_LIST_TABLE and _SET are 1 and 2, like those of a set.
        let request = nft::named(&[(SetAttr::Table, TABLE), (SetAttr::Name, set)]);
        self.nft.dump(
            NftMsg::GetSetElem,
            &request,
            |elements: &mut Elements, message| elements.take(&message),
        )
    }
}

/// The kernel has no words for a table of another socket.
fn explain_owned(mut error: KernelError) -> KernelError {
    if error.errno() == Some(Errno::EPERM as i32) {
        error.message.get_or_insert_with(|| OWNED.into());
    }
    error
}

fn is_einval(error: &KernelError) -> bool {
    error.errno() == Some(Errno::EINVAL as i32)
}

/// Whether the kernel knows tables that belong to a socket and outlive it
/// (Linux 6.9).
fn knows_owner(nft: &mut Socket) -> Result<bool, KernelError> {
    let dialect = Dialect {
        table_owner: true,
        map_keys: false,
    };
    let batch = Batch::probe(nft.next_sequence(), PROBE, dialect);
    nft.skip_to(batch.next_sequence());
    let answers = nft
        .exchange(batch.bytes(), |_| {})
        .map_err(|error| KernelError::new(Operation::Open("nf_tables"), error))?;
    match answers.refusals.into_iter().next() {
        None => Ok(true),
        Some(refusal) if refusal.errno == Errno::EOPNOTSUPP as i32 => Ok(false),
        Some(refusal) => Err(refusal.of(Operation::Open("nf_tables"))),
    }
}

impl Kernel for LinuxKernel {
    fn observe(&mut self) -> Result<Observed, KernelError> {
        let mut observed = self.rtnl.observe()?;
        self.observe_table(&mut observed)?;
        Ok(observed)
    }

    fn observe_links(&mut self) -> Result<Observed, KernelError> {
        self.rtnl.observe()
    }

    fn transact(&mut self, transaction: &Transaction) -> Result<(), KernelError> {
        if self.possessed && transaction.is_empty() {
            return Ok(());
        }
        let mut outcome = self.send(transaction);
        // EINVAL is how a kernel before 6.5 refuses to look up only the key of a
        // map; nothing of the batch was taken.
        if self.dialect.map_keys
            && transaction.rebuild.is_some()
            && outcome.as_ref().is_err_and(is_einval)
        {
            self.dialect.map_keys = false;
            outcome = self.send(transaction);
        }
        outcome
    }

    fn generation(&mut self) -> Result<u32, KernelError> {
        let failed = |error| KernelError::new(Operation::Dump("nf_tables generation"), error);
        let sequence = self.nft.next_sequence();
        let nothing = nft::named::<TableAttr>(&[]);
        let message = socket::message(NftMsg::GetGen, NlmF::REQUEST, sequence, nothing);
        let mut generation = None;
        self.nft
            .exchange(&message, |reply| generation = nft::generation(&reply))
            .map_err(failed)?;
        generation.ok_or_else(|| failed(Errno::ENODATA.into()))
    }

    fn present(&mut self, addresses: &[(FloatingIp, IfIndex)]) -> Vec<(FloatingIp, KernelError)> {
        self.rtnl.present(addresses)
    }

    fn withdraw(&mut self, addresses: &[(FloatingIp, IfIndex)]) -> Vec<(FloatingIp, KernelError)> {
        self.rtnl.withdraw(addresses)
    }

    fn reroute(&mut self, rerouting: &Rerouting) -> Vec<KernelError> {
        self.rtnl.reroute(rerouting)
    }

    fn features(&self) -> Features {
        self.features
    }
}

/// What a live owner of the table means, and the remedy.
const OWNED: &str = "another ipfloaterd is running in this network namespace; stop that one first";
