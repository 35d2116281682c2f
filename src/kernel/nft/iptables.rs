//! The chains of iptables-nft, as far as their names and what leads to them.
//!
//! iptables with the nf_tables backend keeps its chains in tables `ip nat`,
//! `ip filter` and so on, like any other program, and anybody may alter them.

use std::fmt;

use crate::dataplane::ruleset::{Expr, Verdict};
use crate::kernel::socket::Message;

use super::decode::Fields;
use super::expr::read_rule;
use super::message::{ChainAttr, NFGENMSG, NftMsg, RuleAttr};

/// A chain of a table of iptables'.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IptablesChain {
    /// The name of the table: `nat`, `filter`.
    pub table: String,
    /// Its own name.
    pub name: String,
}

impl fmt::Display for IptablesChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of table {}", self.name, self.table)
    }
}

/// A rule that leads to another chain of its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Jump {
    /// Where the rule is.
    pub(crate) from: IptablesChain,
    /// By which the kernel knows the rule.
    pub(crate) handle: u64,
    /// The name of the chain that it leads to.
    pub(crate) to: String,
}

/// The chains and jumps of the tables of family `ip`, gathered message by
/// message.
#[derive(Debug, Default)]
pub(crate) struct IptablesListing {
    pub(crate) chains: Vec<IptablesChain>,
    pub(crate) jumps: Vec<Jump>,
}

impl IptablesListing {
    /// Takes in what one message says. What is not understood leads nowhere.
    pub(crate) fn take(&mut self, message: &Message<'_>) {
        let Some(attributes) = message.payload.get(NFGENMSG..) else {
            return;
        };
        let fields = Fields::new(attributes);
        match NftMsg::from(message.kind) {
            NftMsg::NewChain => self.chains.extend(chain(&fields, ChainAttr::Name)),
            NftMsg::NewRule => self.jumps.extend(jumps(&fields).into_iter().flatten()),
            _ => {}
        }
    }
}

/// The chain that the attributes name. The table is attribute 1 of all objects.
fn chain(fields: &Fields<'_>, name: impl Into<u16>) -> Option<IptablesChain> {
    Some(IptablesChain {
        table: fields.text(ChainAttr::Table)?.to_owned(),
        name: fields.text(name)?.to_owned(),
    })
}

fn jumps(fields: &Fields<'_>) -> Option<Vec<Jump>> {
    let from = chain(fields, RuleAttr::Chain)?;
    let handle = fields.long(RuleAttr::Handle)?;
    let rule = read_rule(fields.bytes(RuleAttr::Expressions)?);
    let leads = rule.into_iter().filter_map(|expression| {
        let Expr::Verdict(Verdict::Jump(to) | Verdict::Goto(to)) = expression else {
            return None;
        };
        Some(Jump {
            from: from.clone(),
            handle,
            to,
        })
    });
    Some(leads.collect())
}
