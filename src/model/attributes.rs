//! What people and programs note of a floating IP, and what guards it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Direction, Rate, Sources};
use crate::text::is_harmful;

/// As many tags may an address have.
pub const MOST_TAGS: usize = 32;

/// As many bytes may a description have.
const LONGEST_DESCRIPTION: usize = 255;

/// Why an attribute is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// Not a label.
    #[error("a label is 1 to 63 of A-Z, a-z, 0-9, '.', '_' and '-'")]
    Label,
    /// Not a description.
    #[error("it is at most {LONGEST_DESCRIPTION} bytes of text on one line")]
    Description,
    /// Too many tags.
    #[error("an address has at most {MOST_TAGS} tags")]
    TooManyTags,
}

/// A name that is given to floating IPs: the label of one, or a tag. Several may
/// have the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(Arc<str>);

impl FromStr for Label {
    type Err = AttributeError;
    fn from_str(text: &str) -> Result<Self, AttributeError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if (1..=63).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(AttributeError::Label)
        }
    }
}

impl TryFrom<String> for Label {
    type Error = AttributeError;
    fn try_from(text: String) -> Result<Self, AttributeError> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> String {
        label.0.as_ref().to_owned()
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A line for people. It holds nothing that a terminal would obey, and is still
/// somebody's words: where it stands among ours, it is quoted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Description(Arc<str>);

impl Description {
    /// The line as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Description {
    type Err = AttributeError;
    fn from_str(text: &str) -> Result<Self, AttributeError> {
        if (1..=LONGEST_DESCRIPTION).contains(&text.len()) && !text.contains(is_harmful) {
            Ok(Self(text.into()))
        } else {
            Err(AttributeError::Description)
        }
    }
}

impl TryFrom<String> for Description {
    type Error = AttributeError;
    fn try_from(text: String) -> Result<Self, AttributeError> {
        text.parse()
    }
}

impl From<Description> for String {
    fn from(description: Description) -> String {
        description.0.as_ref().to_owned()
    }
}

/// What is noted of an allocated address. It goes when the address is released.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Attributes {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
    /// What it is for, in words for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Description>,
    /// What it is found by.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<Label>,
    /// Whether it may not be released.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub protected: bool,
    /// How fast packets may come in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_in: Option<Rate>,
    /// How fast packets may go out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_out: Option<Rate>,
    /// Who may reach it from outside.
    #[serde(skip_serializing_if = "Sources::is_everybody")]
    pub allowed_sources: Sources,
}

impl Attributes {
    /// How fast packets may go in a direction.
    #[must_use]
    pub fn rate(&self, direction: Direction) -> Option<Rate> {
        match direction {
            Direction::In => self.rate_in,
            Direction::Out => self.rate_out,
        }
    }

    /// What these say otherwise than the ones before, in words for a person.
    #[must_use]
    pub fn news(&self, before: &Attributes) -> String {
        let Attributes {
            label,
            description,
            tags,
            protected,
            rate_in: _,
            rate_out: _,
            allowed_sources,
        } = self;
        let mut news = Vec::new();
        if *label != before.label {
            news.push(match label {
                Some(label) => format!("label {label}"),
                None => "no label".to_owned(),
            });
        }
        if *description != before.description {
            news.push(match description {
                Some(description) => format!("description {:?}", description.as_str()),
                None => "no description".to_owned(),
            });
        }
        let added = tags.difference(&before.tags);
        news.extend(added.map(|tag| format!("tag {tag}")));
        let gone = before.tags.difference(tags);
        news.extend(gone.map(|tag| format!("no tag {tag}")));
        if *protected != before.protected {
            news.push(
                if *protected {
                    "protected"
                } else {
                    "unprotected"
                }
                .to_owned(),
            );
        }
        for direction in Direction::BOTH {
            let rate = self.rate(direction);
            if rate != before.rate(direction) {
                news.push(match rate {
                    Some(rate) => format!("rate {direction} {rate}bit/s"),
                    None => format!("no rate {direction}"),
                });
            }
        }
        if *allowed_sources != before.allowed_sources {
            news.push(if allowed_sources.is_everybody() {
                "for everybody".to_owned()
            } else {
                let sources: Vec<_> = allowed_sources.iter().map(|net| net.to_string()).collect();
                format!("only for {}", sources.join(" "))
            });
        }
        news.join(", ")
    }
}

/// What is to be noted otherwise. What is `None`, or empty, stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alteration {
    /// The name from now on; `Some(None)` takes it away.
    pub label: Option<Option<Label>>,
    /// The description from now on; `Some(None)` takes it away.
    pub description: Option<Option<Description>>,
    /// All tags from now on, but for those below.
    pub tags: Option<BTreeSet<Label>>,
    /// Tags to add.
    pub add_tags: BTreeSet<Label>,
    /// Tags to take away.
    pub remove_tags: BTreeSet<Label>,
    /// Whether it may not be released from now on.
    pub protected: Option<bool>,
    /// How fast packets may come in from now on; `Some(None)` as fast as they do.
    pub rate_in: Option<Option<Rate>>,
    /// How fast packets may go out from now on; `Some(None)` as fast as they do.
    pub rate_out: Option<Option<Rate>>,
    /// Who may reach it from outside from now on.
    pub allowed_sources: Option<Sources>,
}

impl Alteration {
    /// What is noted after it.
    pub fn of(&self, before: &Attributes) -> Result<Attributes, AttributeError> {
        let Alteration {
            label,
            description,
            tags,
            add_tags,
            remove_tags,
            protected,
            rate_in,
            rate_out,
            allowed_sources,
        } = self;
        let mut tags = tags.as_ref().unwrap_or(&before.tags).clone();
        tags.extend(add_tags.iter().cloned());
        tags.retain(|tag| !remove_tags.contains(tag));
        if tags.len() > MOST_TAGS {
            return Err(AttributeError::TooManyTags);
        }
        Ok(Attributes {
            label: label.as_ref().unwrap_or(&before.label).clone(),
            description: description.as_ref().unwrap_or(&before.description).clone(),
            tags,
            protected: protected.unwrap_or(before.protected),
            rate_in: rate_in.unwrap_or(before.rate_in),
            rate_out: rate_out.unwrap_or(before.rate_out),
            allowed_sources: allowed_sources
                .as_ref()
                .unwrap_or(&before.allowed_sources)
                .clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(names: &[&str]) -> BTreeSet<Label> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn labels_are_short_words_and_descriptions_single_lines() {
        for text in ["web", "a.b_c-9", &"x".repeat(63)] {
            assert!(text.parse::<Label>().is_ok(), "{text}");
        }
        for text in ["", "two words", "ä", "a/b", &"x".repeat(64)] {
            assert_eq!(text.parse::<Label>(), Err(AttributeError::Label), "{text}");
        }
        for text in ["Büro, 2. Stock; \"web\"", &"x".repeat(255)] {
            assert!(text.parse::<Description>().is_ok(), "{text}");
        }
        let too_long = "ä".repeat(128);
        for text in ["", "a\nb", "\u{1b}[2J", "\u{202e}abc", "\u{9b}", &too_long] {
            let refused = text.parse::<Description>();
            assert_eq!(refused, Err(AttributeError::Description), "{text:?}");
        }
    }

    #[test]
    fn an_alteration_leaves_what_it_does_not_name() {
        let before = Attributes {
            label: Some("web".parse().unwrap()),
            description: Some("the \"old\" one".parse().unwrap()),
            tags: labels(&["a", "b"]),
            rate_out: Rate::new(1_000_000).ok(),
            ..Attributes::default()
        };
        assert_eq!(Alteration::default().of(&before).unwrap(), before);
        let alteration = Alteration {
            label: Some(None),
            add_tags: labels(&["c"]),
            remove_tags: labels(&["a", "z"]),
            protected: Some(true),
            rate_in: Some(Rate::new(8_000).ok()),
            rate_out: Some(None),
            allowed_sources: Sources::new(["192.0.2.0/24".parse().unwrap()]).ok(),
            ..Alteration::default()
        };
        let after = alteration.of(&before).unwrap();
        assert_eq!(after.tags, labels(&["b", "c"]));
        assert_eq!(after.description, before.description);
        assert_eq!(
            after.news(&before),
            "no label, tag c, no tag a, protected, \
             rate in 8kbit/s, no rate out, only for 192.0.2.0/24"
        );
        assert_eq!(
            before.news(&Attributes::default()),
            "label web, description \"the \\\"old\\\" one\", tag a, tag b, \
             rate out 1Mbit/s"
        );
        let alteration = Alteration {
            tags: Some(BTreeSet::new()),
            add_tags: labels(&["only"]),
            ..Alteration::default()
        };
        assert_eq!(alteration.of(&before).unwrap().tags, labels(&["only"]));
    }

    #[test]
    fn an_address_has_so_many_tags_and_no_more() {
        let many = |count: usize| -> BTreeSet<Label> {
            (0..count)
                .map(|number| format!("t{number}").parse().unwrap())
                .collect()
        };
        let with = |tags| Alteration {
            tags: Some(tags),
            ..Alteration::default()
        };
        let before = Attributes::default();
        assert!(with(many(MOST_TAGS)).of(&before).is_ok());
        let refused = with(many(MOST_TAGS + 1)).of(&before);
        assert_eq!(refused, Err(AttributeError::TooManyTags));
    }
}
