//! What the table has counted, read beside the controller.
//!
//! By a socket of its own: reading takes no lock of nf_tables, and anybody may
//! read a table that belongs to another socket. Each address is asked for by
//! itself. A dump of the sets is the quicker the more of them is wanted, but a
//! page of a thousand among a hundred thousand would read all of them.

use neli::consts::nl::NlmF;
use neli::consts::socket::NlFamily;
use nix::errno::Errno;

use crate::dataplane::ruleset::{counted, named};
use crate::model::{Count, Direction, FloatingIp};

use super::nft::{self, Elements, NftMsg};
use super::socket::{self, Socket};
use super::{KernelError, Meter, Operation, Traffic};

/// So many addresses are asked for at once: each is answered by a message that
/// takes some kB of the receive buffer.
const AT_ONCE: usize = 500;

/// The counters of our table.
pub struct TableMeter {
    socket: Socket,
}

impl TableMeter {
    /// Opens the socket.
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self {
            socket: Socket::open(NlFamily::Netfilter, "nf_tables")?,
        })
    }

    /// What was counted of these addresses in a direction, in their order.
    fn read_some(
        &mut self,
        direction: Direction,
        addresses: &[FloatingIp],
    ) -> Result<Vec<Option<Count>>, KernelError> {
        let mut messages = Vec::new();
        let mut sequences = Vec::new();
        for floating in addresses {
            let sequence = self.socket.next_sequence();
            let set = named(counted(direction), floating.family());
            messages.extend(socket::message(
                NftMsg::GetSetElem,
                NlmF::REQUEST,
                sequence,
                nft::element_of(&set, *floating),
            ));
            sequences.push(sequence);
        }
        let mut counts = vec![None; addresses.len()];
        let failed = |error| KernelError::new(Operation::Dump("counters"), error);
        let first = sequences.first().copied().unwrap_or_default();
        let answers = self
            .socket
            .exchange(&messages, |message| {
                let mut elements = Elements::default();
                elements.take(&message);
                let place = message.sequence.wrapping_sub(first) as usize;
                let read = elements.counts().unwrap_or_default().pop();
                if let (Some(count), Some((_, read))) = (counts.get_mut(place), read) {
                    *count = Some(read);
                }
            })
            .map_err(failed)?;
        // Nobody has been counted where there is no table, set or element.
        let absent = Errno::ENOENT as i32;
        match answers
            .refusals
            .into_iter()
            .find(|refusal| refusal.errno != absent)
        {
            Some(refusal) => Err(refusal.of(Operation::Dump("counters"))),
            None => Ok(counts),
        }
    }
}

impl Meter for TableMeter {
    fn read(
        &mut self,
        addresses: &[FloatingIp],
    ) -> Result<Vec<(FloatingIp, Traffic)>, KernelError> {
        let mut traffic = Vec::with_capacity(addresses.len());
        for some in addresses.chunks(AT_ONCE) {
            let incoming = self.read_some(Direction::In, some)?;
            let outgoing = self.read_some(Direction::Out, some)?;
            let counts = incoming.into_iter().zip(outgoing);
            let counted = some.iter().zip(counts).filter_map(|(floating, counts)| {
                let (incoming, outgoing) = (counts.0?, counts.1?);
                Some((*floating, Traffic { incoming, outgoing }))
            });
            traffic.extend(counted);
        }
        Ok(traffic)
    }
}
