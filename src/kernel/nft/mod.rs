//! nf_tables messages: structs to bytes and bytes to structs, without a socket.
//!
//! [`Batch`] turns a [`Transaction`](crate::dataplane::Transaction) into the
//! bytes of one nfnetlink batch, `Listing` and `Elements` turn what the
//! kernel dumps back into the same types, so that what is there can be compared
//! with what should be. Sending and receiving is left to
//! [`LinuxKernel`](super::LinuxKernel).

mod batch;
mod decode;
mod element;
mod expr;
mod foreign;
mod iptables;
mod message;

pub use batch::{Batch, Dialect};
pub use foreign::{
    Clause, Comparison, ForeignBase, ForeignChain, ForeignElement, ForeignSet, ForeignVerdict,
    Property, TableName, Tables,
};

pub(crate) use decode::{Listing, concerns_us, generation};
pub(crate) use element::{Elements, element_of};
pub use iptables::IptablesChain;
pub(crate) use iptables::{IptablesListing, Jump};
pub(crate) use message::{
    GROUP, Named, NftMsg, OWNER_AND_PERSIST, PERSIST, PLAIN, SetAttr, TableAttr, named,
};
