//! Introspection data, reduced to what two descriptions must agree on.

use std::collections::{BTreeMap, BTreeSet};

/// What an interface promises: one line for each member, and the arguments in
/// their order within it.
pub(crate) type Promises = BTreeSet<String>;

/// The promises of one interface in introspection data.
pub(crate) fn promises(xml: &str, interface: &str) -> Promises {
    let mut promises = Promises::new();
    let mut inside = false;
    let mut member = String::new();
    for tag in tags(xml) {
        let of = |key: &str| tag.attributes.get(key).cloned().unwrap_or_default();
        match tag.name.as_str() {
            "interface" => inside = of("name") == interface,
            "/interface" => inside = false,
            _ if !inside => {}
            "method" | "signal" => member = format!("{} {}", tag.name, of("name")),
            "property" => {
                member = format!("property {} {} {}", of("name"), of("type"), of("access"));
            }
            "arg" => {
                let direction = of("direction");
                let direction = match (direction.as_str(), member.starts_with("signal")) {
                    // What a signal's arguments and a method's default to.
                    ("", true) => "out",
                    ("", false) => "in",
                    (given, _) => given,
                };
                member += &format!(" {direction}:{}:{}", of("name"), of("type"));
            }
            // The default says the same as nothing.
            "annotation" if of("name").ends_with("EmitsChangedSignal") && of("value") == "true" => {
            }
            "annotation" => member += &format!(" {}={}", of("name"), of("value")),
            "/method" | "/signal" | "/property" => {
                promises.insert(std::mem::take(&mut member));
            }
            other => panic!("introspection data has no {other:?} here"),
        }
        let closes_itself = tag.empty && matches!(tag.name.as_str(), "method" | "property");
        if inside && closes_itself {
            promises.insert(std::mem::take(&mut member));
        }
    }
    promises
}

/// The members that no comment stands before.
pub(crate) fn undocumented(xml: &str) -> Vec<String> {
    let mut bare = Vec::new();
    let mut previous = "";
    for line in xml.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let member = ["<method ", "<signal ", "<property "]
            .iter()
            .any(|start| line.starts_with(start));
        if member && !previous.ends_with("-->") {
            bare.push(line.to_owned());
        }
        previous = line;
    }
    bare
}

struct Tag {
    name: String,
    attributes: BTreeMap<String, String>,
    empty: bool,
}

/// The tags of a document whose attributes hold no `<` or `>`, which is all that
/// introspection data is.
fn tags(xml: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut rest = xml;
    while let Some(start) = rest.find('<') {
        rest = &rest[start..];
        let end = if rest.starts_with("<!--") { "-->" } else { ">" };
        let (tag, after) = rest.split_once(end).expect("tags and comments are closed");
        rest = after;
        if !tag.starts_with("<!") && !tag.starts_with("<?") {
            tags.push(parse(&tag[1..]));
        }
    }
    tags
}

fn parse(tag: &str) -> Tag {
    let empty = tag.ends_with('/');
    let tag = tag.strip_suffix('/').unwrap_or(tag);
    let (name, mut rest) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
    let mut attributes = BTreeMap::new();
    while let Some((key, after)) = rest.split_once("=\"") {
        let (value, after) = after.split_once('"').expect("values are quoted");
        attributes.insert(key.trim().to_owned(), value.to_owned());
        rest = after;
    }
    Tag {
        name: name.to_owned(),
        attributes,
        empty,
    }
}
