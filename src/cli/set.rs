//! The verb `set`: what is noted of a floating IP.

use clap::Args;
use serde_json::{Map, Value, json};

use super::Failure;
use super::output::Output;
use super::terms::Terms;
use super::verbs::changed;
use crate::client::Client;
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
    #[arg(long = "tag", value_name = "NAME")]
    pub tags: Vec<String>,
    /// Take a tag away; can be given several times
    #[arg(long = "untag", value_name = "NAME")]
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
        } = self;
        let some = |names: Vec<String>| (!names.is_empty()).then_some(names);
        let parameters = json!({
            "label": label,
            "description": description,
            "tags": clear_tags.then(Vec::<String>::new),
            "add_tags": some(tags),
            "remove_tags": some(untags),
            "protected": (protect || unprotect).then_some(protect),
        });
        match parameters {
            Value::Object(parameters) => parameters,
            _ => Map::new(),
        }
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
pub(super) fn lines(address: &Address) -> [(&'static str, Option<String>); 4] {
    let Address {
        label,
        description,
        tags,
        protected,
        ..
    } = address;
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
    ]
}
