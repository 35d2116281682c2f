//! The verb `set`: what is noted of a floating IP.

use clap::Args;
use serde_json::{Map, Value, json};

use super::Failure;
use super::complete;
use super::output::Output;
use super::terms::Terms;
use super::verbs::changed;
use crate::client::Client;
use crate::model::{Rate, RateError};
use crate::wire::Address;

/// What is to be noted of a floating IP.
#[derive(Clone, Debug, Default, Args)]
#[group(id = "attributes", required = true, multiple = true)]
pub struct Attributes {
    /// Its name; an empty one takes the name away
    #[arg(long, value_name = "NAME")]
    pub label: Option<String>,
    /// What it is for, in words; an empty text takes them away
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// Add a tag; can be given several times
    #[arg(long = "tag", value_name = "NAME", add = complete::tags())]
    pub tags: Vec<String>,
    /// Take a tag away; can be given several times
    #[arg(long = "untag", value_name = "NAME", add = complete::tags())]
    pub untags: Vec<String>,
    /// Take all tags away but those that are added
    #[arg(long)]
    pub clear_tags: bool,
    /// Refuse to release it
    #[arg(long, conflicts_with = "unprotect")]
    pub protect: bool,
    /// Let it be released again
    #[arg(long)]
    pub unprotect: bool,
    /// So many bits a second may come in, as 10M or 1G; 0 or "none" is no limit
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub rate_in: Option<u64>,
    /// So many bits a second may go out
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub rate_out: Option<u64>,
    /// Only this prefix may reach it from outside, in place of those before; can be given
    /// several times
    #[arg(long, value_name = "PREFIX")]
    pub allow: Vec<String>,
    /// Everybody may reach it from outside
    #[arg(long, conflicts_with = "allow")]
    pub allow_all: bool,
}

impl Attributes {
    /// As the interface takes them.
    fn parameters(self) -> Map<String, Value> {
        let Attributes {
            label,
            description,
            tags,
            untags,
            clear_tags,
            protect,
            unprotect,
            rate_in,
            rate_out,
            allow,
            allow_all,
        } = self;
        let some = |names: Vec<String>| (!names.is_empty()).then_some(names);
        let parameters = json!({
            "label": label,
            "description": description,
            "tags": clear_tags.then(Vec::<String>::new),
            "add_tags": some(tags),
            "remove_tags": some(untags),
            "protected": (protect || unprotect).then_some(protect),
            "rate_in": rate_in,
            "rate_out": rate_out,
            "allowed_sources": (allow_all || !allow.is_empty()).then_some(allow),
        });
        match parameters {
            Value::Object(parameters) => parameters,
            _ => Map::new(),
        }
    }
}

/// Bits a second, as people write them.
fn rate(text: &str) -> Result<u64, RateError> {
    match text {
        "0" | "none" => Ok(0),
        text => text.parse().map(Rate::bits),
    }
}

pub(super) fn set(
    mut client: Client,
    output: &mut Output<'_>,
    address: &str,
    attributes: Attributes,
    terms: Terms,
) -> Result<(), Failure> {
    let mut parameters = attributes.parameters();
    parameters.insert("address".to_owned(), address.into());
    let answer = client.call("Update", terms.with(parameters.into()))?;
    changed(output, &answer, |message| {
        let floating = message.address.floating_ip;
        if message.changed {
            format!("{floating} {}", words(&message.address))
        } else {
            format!("{floating} is noted so already")
        }
    })
}

/// What is noted of an address, in a line.
fn words(address: &Address) -> String {
    let mut words: Vec<_> = lines(address)
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{}: {}", name.to_lowercase(), value?)))
        .collect();
    if words.is_empty() {
        words.push("has nothing noted of it any more".to_owned());
    }
    words.join(", ")
}

/// What is noted of an address, by name.
pub(super) fn lines(address: &Address) -> [(&'static str, Option<String>); 7] {
    let Address {
        label,
        description,
        tags,
        protected,
        rate_in,
        rate_out,
        allowed_sources,
        ..
    } = address;
    let rate = |rate: &Option<Rate>| rate.map(|rate| format!("{rate}bit/s"));
    let sources: Vec<_> = allowed_sources.iter().map(|net| net.to_string()).collect();
    let tags: Vec<_> = tags.iter().map(ToString::to_string).collect();
    [
        ("Label", label.as_ref().map(ToString::to_string)),
        (
            "Description",
            description.as_ref().map(|text| text.as_str().to_owned()),
        ),
        ("Tags", (!tags.is_empty()).then(|| tags.join(" "))),
        (
            "Protected",
            protected.then(|| "from being released".to_owned()),
        ),
        ("Rate in", rate(rate_in)),
        ("Rate out", rate(rate_out)),
        (
            "Only for",
            (!sources.is_empty()).then(|| sources.join(", ")),
        ),
    ]
}
