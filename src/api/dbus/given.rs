//! The `a{sv}` of a call, as it comes: no more of it is built than options can
//! hold.
//!
//! A message may have 32 MiB (dbus-daemon(1)), and an array of bytes becomes many
//! times that when each byte is a value of its own. All of it would be built before
//! anybody asks who calls.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zbus::{Signature, Type};

/// More options than any method has.
const MOST_OPTIONS: usize = 64;

/// More texts than any option takes: tags, prefixes.
const MOST_TEXTS: usize = 256;

/// The options of a call, by name.
#[derive(Debug, Default)]
pub(super) struct Given(pub(super) BTreeMap<String, Value>);

/// What an option holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// `s`
    Text(String),
    /// `b`
    Flag(bool),
    /// Any integer, and its signature.
    Number(i128, &'static str),
    /// `as`
    Texts(Vec<String>),
    /// What no option holds: its signature.
    Other(String),
}

impl Value {
    /// Its signature.
    pub(super) fn signature(&self) -> &str {
        match self {
            Value::Text(_) => "s",
            Value::Flag(_) => "b",
            Value::Number(_, signature) => signature,
            Value::Texts(_) => "as",
            Value::Other(signature) => signature,
        }
    }
}

impl Type for Given {
    const SIGNATURE: &'static Signature = <BTreeMap<String, zbus::OwnedVariant> as Type>::SIGNATURE;
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Options)
    }
}

struct Options;

impl<'de> Visitor<'de> for Options {
    type Value = Given;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("options by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given, A::Error> {
        let mut given = BTreeMap::new();
        while let Some((name, value)) = map.next_entry()? {
            if given.len() == MOST_OPTIONS {
                let why = format!("there are more than {MOST_OPTIONS} options");
                return Err(A::Error::custom(why));
            }
            given.insert(name, value);
        }
        Ok(Given(given))
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A variant comes as its signature and what it says.
        deserializer.deserialize_any(Variant)
    }
}

struct Variant;

impl<'de> Visitor<'de> for Variant {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value of an option")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Value, A::Error> {
        let signature: Signature = part(parts.next_element()?)?;
        let number = |number, signature| Value::Number(number, signature);
        Ok(match signature {
            Signature::Str => Value::Text(part(parts.next_element()?)?),
            Signature::Bool => Value::Flag(part(parts.next_element()?)?),
            Signature::U8 => number(part::<u8, _>(parts.next_element()?)?.into(), "y"),
            Signature::I16 => number(part::<i16, _>(parts.next_element()?)?.into(), "n"),
            Signature::U16 => number(part::<u16, _>(parts.next_element()?)?.into(), "q"),
            Signature::I32 => number(part::<i32, _>(parts.next_element()?)?.into(), "i"),
            Signature::U32 => number(part::<u32, _>(parts.next_element()?)?.into(), "u"),
            Signature::I64 => number(part::<i64, _>(parts.next_element()?)?.into(), "x"),
            Signature::U64 => number(part::<u64, _>(parts.next_element()?)?.into(), "t"),
            Signature::F64 => {
                part::<f64, _>(parts.next_element()?)?;
                Value::Other("d".to_owned())
            }
            Signature::Array(ref child) if **child == Signature::Str => {
                Value::Texts(part(parts.next_element_seed(Texts)?)?)
            }
            Signature::ObjectPath | Signature::Signature => {
                part::<IgnoredAny, _>(parts.next_element()?)?;
                Value::Other(signature.to_string())
            }
            other => {
                let why = format!("an option is of type {other}; they are s, b, as or integers");
                return Err(A::Error::custom(why));
            }
        })
    }
}

fn part<T, E: Error>(part: Option<T>) -> Result<T, E> {
    part.ok_or_else(|| E::custom("a variant has a signature and a value"))
}

/// Texts, as many as there may be.
struct Texts;

impl<'de> DeserializeSeed<'de> for Texts {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<String>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Texts {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Vec<String>, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = all.next_element()? {
            if texts.len() == MOST_TEXTS {
                let why = format!("an option has more than {MOST_TEXTS} texts");
                return Err(A::Error::custom(why));
            }
            texts.push(text);
        }
        Ok(texts)
    }
}
