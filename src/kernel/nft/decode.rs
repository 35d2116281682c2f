//! What the kernel dumps, back into the types of the data path.
//!
//! Whatever we never write must show: it becomes a foreign expression or type,
//! an object more, or it makes the whole table odd, and then only building it
//! anew makes it ours. Handles, counters and comments alter nothing and are
//! passed over.

use crate::dataplane::Ruleset;
use crate::dataplane::ruleset::{Base, BaseKind, Chain, Hook, Rule, Set, TABLE};
use crate::kernel::socket::{Attributes, Message};

use super::batch::{
    POLICY_ACCEPT, SET_CONCAT, SET_INTERVAL, SET_MAP, hook_number, kind_name, range_fields, type_of,
};
use super::expr::{read_rule, stateful};
use super::message::{
    ChainAttr, DataAttr, GenerationAttr, HookAttr, NFGENMSG, NFPROTO_INET, NftMsg, PLAIN, RuleAttr,
    SetAttr, SetDescriptionAttr, TableAttr,
};

/// More than any attribute type that is read here.
const FIELDS: usize = 24;

/// The attributes of an object, by type.
pub(super) struct Fields<'a> {
    values: [Option<&'a [u8]>; FIELDS],
    /// Whether there is one of a type beyond [`FIELDS`].
    more: bool,
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let mut fields = Self {
            values: [None; FIELDS],
            more: false,
        };
        for (kind, value) in Attributes::new(bytes) {
            match fields.values.get_mut(usize::from(kind)) {
                Some(place) => *place = Some(value),
                None => fields.more = true,
            }
        }
        fields
    }

    /// Whether there is nothing but these.
    pub(super) fn only<A: Copy + Into<u16>>(&self, known: &[A]) -> bool {
        let is_known = |kind: usize| known.iter().any(|&known| usize::from(known.into()) == kind);
        let all = self.values.iter().enumerate();
        !self.more
            && all
                .filter(|(_, value)| value.is_some())
                .all(|(kind, _)| is_known(kind))
    }

    pub(super) fn bytes(&self, kind: impl Into<u16>) -> Option<&'a [u8]> {
        *self.values.get(usize::from(kind.into()))?
    }

    pub(super) fn number(&self, kind: impl Into<u16>) -> Option<u32> {
        let bytes = self.bytes(kind)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    }

    pub(super) fn text(&self, kind: impl Into<u16>) -> Option<&'a str> {
        let bytes = self.bytes(kind)?;
        std::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)).ok()
    }

    pub(super) fn long(&self, kind: impl Into<u16>) -> Option<u64> {
        let bytes = self.bytes(kind)?;
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    }

    /// The value in a `struct nft_data`.
    pub(super) fn value(&self, kind: impl Into<u16>) -> Option<&'a [u8]> {
        data_value(self.bytes(kind)?)
    }
}

/// The value in the attributes of a `struct nft_data`.
pub(super) fn data_value(data: &[u8]) -> Option<&[u8]> {
    let value = u16::from(DataAttr::Value);
    Attributes::new(data)
        .find(|(kind, _)| *kind == value)
        .map(|(_, bytes)| bytes)
}

/// The attributes of a message about our table; `None` for another's. In all
/// messages of nf_tables the first attribute is the name of the table.
pub(super) fn of_our_table<'a>(message: &Message<'a>) -> Option<Fields<'a>> {
    let (general, attributes) = message.payload.split_at_checked(NFGENMSG)?;
    let fields = Fields::new(attributes);
    let ours = general[0] == NFPROTO_INET && fields.text(TableAttr::Name) == Some(TABLE);
    ours.then_some(fields)
}

/// Whether a notification says that somebody else altered our table. What the
/// socket with `our_port` did itself does not concern us.
pub(crate) fn concerns_us(message: &Message<'_>, our_port: u32) -> bool {
    const NFNL_SUBSYS_NFTABLES: u16 = 10;
    message.kind >> 8 == NFNL_SUBSYS_NFTABLES
        && message.port != our_port
        && of_our_table(message).is_some()
}

/// The generation in an answer to `NFT_MSG_GETGEN`.
pub(crate) fn generation(message: &Message<'_>) -> Option<u32> {
    let attributes = message.payload.get(NFGENMSG..)?;
    Fields::new(attributes).number(GenerationAttr::Id)
}

/// What is there of our table, gathered message by message.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    table_flags: Option<u32>,
    sets: Vec<Set>,
    chains: Vec<Chain>,
    rules: Vec<(String, Rule)>,
    odd: bool,
}

impl Listing {
    /// Takes in what one message says; passes over other tables.
    pub(crate) fn take(&mut self, message: &Message<'_>) {
        let Some(fields) = of_our_table(message) else {
            return;
        };
        let understood = match NftMsg::from(message.kind) {
            NftMsg::NewTable => self.table(&fields),
            NftMsg::NewSet => read_set(&fields).map(|set| self.sets.push(set)),
            NftMsg::NewChain => read_chain(&fields).map(|chain| self.chains.push(chain)),
            NftMsg::NewRule => self.rule(&fields),
            _ => None,
        };
        self.odd |= understood.is_none();
    }

    fn table(&mut self, fields: &Fields<'_>) -> Option<()> {
        self.table_flags = Some(fields.number(TableAttr::Flags).unwrap_or(PLAIN));
        Some(())
    }

    fn rule(&mut self, fields: &Fields<'_>) -> Option<()> {
        let chain = fields.text(RuleAttr::Chain)?.to_owned();
        let list = fields.bytes(RuleAttr::Expressions).unwrap_or_default();
        self.rules.push((chain, read_rule(list)));
        Some(())
    }

    /// Adds what another dump gave.
    pub(crate) fn append(&mut self, mut other: Listing) {
        self.table_flags = self.table_flags.or(other.table_flags);
        self.sets.append(&mut other.sets);
        self.chains.append(&mut other.chains);
        self.rules.append(&mut other.rules);
        self.odd |= other.odd;
    }

    /// Whether there is a table.
    pub(crate) fn is_there(&self) -> bool {
        self.table_flags.is_some()
    }

    /// Whether there is a set of that name.
    pub(crate) fn has_set(&self, name: &str) -> bool {
        self.sets.iter().any(|set| set.name == name)
    }

    /// The table, when it has one of these flags and nothing in it is odd.
    pub(crate) fn ruleset(self, table_flags: &[u32]) -> Option<Ruleset> {
        let Listing {
            mut sets,
            mut chains,
            ..
        } = self;
        if self.odd || !table_flags.contains(&self.table_flags?) {
            return None;
        }
        sets.sort_by(|a, b| a.name.cmp(&b.name));
        chains.sort_by(|a, b| a.name.cmp(&b.name));
        // The rules of a chain are dumped in their order.
        for (name, rule) in self.rules {
            let chain = chains.iter_mut().find(|chain| chain.name == name)?;
            chain.rules.push(rule);
        }
        Some(Ruleset { sets, chains })
    }
}

fn read_set(fields: &Fields<'_>) -> Option<Set> {
    let flags = fields.number(SetAttr::Flags).unwrap_or(0);
    let map = flags & SET_MAP != 0;
    // Timeouts, dynamic elements, several expressions and objects in elements.
    let alike = flags & !(SET_INTERVAL | SET_MAP | SET_CONCAT) == 0
        && [11_u16, 12, 15, 18]
            .iter()
            .all(|&kind| fields.bytes(kind).is_none());
    let value = || {
        let number = fields.number(SetAttr::DataType)?;
        Some(type_of(number, fields.number(SetAttr::DataLength)?))
    };
    let description = Fields::new(fields.bytes(SetAttr::Description).unwrap_or_default());
    let set = Set {
        name: fields.text(SetAttr::Name)?.to_owned(),
        key: type_of(
            fields.number(SetAttr::KeyType).unwrap_or(0),
            fields.number(SetAttr::KeyLength)?,
        ),
        value: if map { Some(value()?) } else { None },
        interval: flags & SET_INTERVAL != 0,
        size: description.number(SetDescriptionAttr::Size),
        each: match fields.bytes(SetAttr::Expression) {
            Some(expression) => Some(stateful(expression)?),
            None => None,
        },
    };
    let joined = flags & SET_CONCAT != 0;
    (alike && joined != range_fields(&set).is_empty()).then_some(set)
}

fn read_chain(fields: &Fields<'_>) -> Option<Chain> {
    let base = match fields.bytes(ChainAttr::Hook) {
        Some(hook) => Some(read_base(fields, &Fields::new(hook))?),
        None => None,
    };
    Some(Chain {
        name: fields.text(ChainAttr::Name)?.to_owned(),
        base,
        rules: Vec::new(),
    })
}

fn read_base(chain: &Fields<'_>, hook: &Fields<'_>) -> Option<Base> {
    const HOOKS: [Hook; 5] = [
        Hook::Prerouting,
        Hook::Input,
        Hook::Forward,
        Hook::Output,
        Hook::Postrouting,
    ];
    let number = hook.number(HookAttr::Number)?;
    let kind = chain.text(ChainAttr::Type)?;
    // NFT_CHAIN_HW_OFFLOAD and NFT_CHAIN_BINDING are none of ours.
    const NFT_CHAIN_BASE: u32 = 1;
    let flags = chain.number(ChainAttr::Flags).unwrap_or(0);
    let alike = chain.number(ChainAttr::Policy)? == POLICY_ACCEPT
        && flags & !NFT_CHAIN_BASE == 0
        && hook.only(&[HookAttr::Number, HookAttr::Priority]);
    let base = Base {
        kind: [BaseKind::Filter, BaseKind::Route, BaseKind::Nat]
            .into_iter()
            .find(|ours| kind_name(*ours) == kind)?,
        hook: HOOKS
            .into_iter()
            .find(|ours| hook_number(*ours) == number)?,
        priority: hook.number(HookAttr::Priority)?.cast_signed(),
    };
    alike.then_some(base)
}

#[cfg(test)]
mod tests {
    use super::super::batch::{Batch, Dialect, messages};
    use super::*;
    use crate::dataplane::ruleset::{Expr, Verdict};
    use crate::dataplane::{Element, Transaction};
    use crate::kernel::socket::HEADER;
    use crate::model::Site;
    use neli::consts::nl::NlmF;

    const DIALECTS: [Dialect; 2] = [
        Dialect {
            table_owner: true,
            map_keys: true,
        },
        Dialect {
            table_owner: false,
            map_keys: false,
        },
    ];

    fn rulesets() -> impl Iterator<Item = Ruleset> {
        let switches = [(false, false), (false, true), (true, false), (true, true)];
        switches.into_iter().map(|(guard, block_free)| {
            let site = Site {
                pools: Vec::new(),
                private: Vec::new(),
                guard,
                block_free,
                counters: true,
                untranslated: Default::default(),
                uplink_numbers: Default::default(),
                rest: std::time::Duration::ZERO,
                limits: Default::default(),
            };
            Ruleset::new(&site, |_| 1_024)
        })
    }

    fn rebuild(ruleset: &Ruleset, dialect: Dialect) -> Batch {
        let transaction = Transaction {
            rebuild: Some(ruleset.clone()),
            ..Transaction::default()
        };
        Batch::new(1, dialect, false, &transaction)
    }

    /// What a dump would say of what the batch makes.
    fn listing(batch: &Batch) -> Listing {
        let mut listing = Listing::default();
        for (sequence, kind, bytes) in messages(batch.bytes()) {
            if kind != NftMsg::DelTable {
                listing.take(&message(sequence, kind, bytes, 0));
            }
        }
        listing
    }

    fn message(sequence: u32, kind: NftMsg, bytes: &[u8], port: u32) -> Message<'_> {
        Message {
            kind: kind.into(),
            flags: NlmF::empty(),
            sequence,
            port,
            payload: &bytes[HEADER..],
        }
    }

    #[test]
    fn a_ruleset_is_read_back_as_it_was_written() {
        for ruleset in rulesets() {
            for dialect in DIALECTS {
                let read = listing(&rebuild(&ruleset, dialect));
                let flags = [dialect.table_flags()];
                assert_eq!(read.ruleset(&flags), Some(ruleset.clone()), "{dialect:?}");
            }
        }
    }

    #[test]
    fn a_table_with_other_flags_is_none() {
        for ruleset in rulesets() {
            let read = listing(&rebuild(&ruleset, DIALECTS[0]));
            assert_eq!(read.ruleset(&[PLAIN]), None);
        }
    }

    #[test]
    fn an_expression_that_we_never_use_stays_foreign() {
        let mut ruleset = rulesets().next().unwrap();
        let foreign = vec![
            Expr::Foreign("counter".into()),
            Expr::Verdict(Verdict::Drop),
        ];
        ruleset.chains[0].rules.push(foreign);
        let read = listing(&rebuild(&ruleset, DIALECTS[0]));
        let flags = [DIALECTS[0].table_flags()];
        assert_eq!(read.ruleset(&flags), Some(ruleset));
    }

    #[test]
    fn only_what_others_do_to_our_table_concerns_us() {
        let transaction = Transaction {
            add: vec![Element::Outside("wan0".parse().unwrap())],
            ..Transaction::default()
        };
        let ours = Batch::new(1, DIALECTS[0], false, &transaction);
        let other = Batch::probe(1, "other", DIALECTS[0]);
        let told = |batch: &Batch, port| {
            messages(batch.bytes())
                .filter(|(sequence, kind, bytes)| {
                    concerns_us(&message(*sequence, *kind, bytes, port), 77)
                })
                .count()
        };
        assert_eq!(told(&ours, 78), 1, "the element, not the ends of the batch");
        assert_eq!(told(&ours, 77), 0, "our own");
        assert_eq!(told(&other, 78), 0, "another table");
    }
}
