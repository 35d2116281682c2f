//! Whether a message is a call at all.
//!
//! UAPI.20 demands that a connection is closed on what cannot be answered:
//! invalid JSON, no method, an unknown header member, a flag that is no
//! boolean, two flags at once. Nesting is bounded while parsing, and a member
//! given twice is found, which a plain parser would pass over.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::DEPTH;

/// How a call wants to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Once.
    Once,
    /// Not at all.
    Oneway,
    /// Once or more often.
    More,
    /// Once, and then in another protocol.
    Upgrade,
}

/// What is known of a message that is a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The full name of the method.
    pub(super) method: String,
    /// How it wants to be answered.
    pub(super) mode: Mode,
    /// The parameter that is given twice, if one is.
    pub(super) twice: Option<String>,
}

/// The message is no call; its connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// Invalid JSON, invalid UTF-8, or nested too deep.
    #[error("not JSON, or nested too deep")]
    Json,
    /// Not an object.
    #[error("not an object")]
    NotAnObject,
    /// No method, or one that is no text.
    #[error("no method")]
    NoMethod,
    /// A member that the protocol does not know, or one given twice.
    #[error("an unknown header member, or one given twice")]
    Member,
    /// Parameters that are no object.
    #[error("parameters that are no object")]
    Parameters,
    /// A flag that is neither true nor false, or two that are true.
    #[error("flags that are no booleans or contradict each other")]
    Flags,
}

/// Judges a message, its end mark left out.
pub(super) fn header(message: &[u8]) -> Result<Header, Malformed> {
    let twice = RefCell::new(Twice::default());
    let seed = Strict {
        depth: DEPTH,
        twice: &twice,
    };
    let mut json = serde_json::Deserializer::from_slice(message);
    let value = seed.deserialize(&mut json).map_err(|_| Malformed::Json)?;
    json.end().map_err(|_| Malformed::Json)?;
    let Value::Object(members) = value else {
        return Err(Malformed::NotAnObject);
    };
    let Twice {
        header, parameter, ..
    } = twice.into_inner();
    if header {
        return Err(Malformed::Member);
    }
    let method = method(&members)?;
    Ok(Header {
        method,
        mode: mode(&members)?,
        twice: parameter,
    })
}

fn method(members: &Map<String, Value>) -> Result<String, Malformed> {
    for (name, value) in members {
        match name.as_str() {
            "method" | "oneway" | "more" | "upgrade" => {}
            "parameters" if value.is_object() || value.is_null() => {}
            "parameters" => return Err(Malformed::Parameters),
            // An extension of somebody's has a name with a dot, and is passed over.
            extension if extension.contains('.') => {}
            _ => return Err(Malformed::Member),
        }
    }
    let method = members.get("method").and_then(Value::as_str);
    method.map(str::to_owned).ok_or(Malformed::NoMethod)
}

fn mode(members: &Map<String, Value>) -> Result<Mode, Malformed> {
    let flag = |name| match members.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(set)) => Ok(*set),
        Some(_) => Err(Malformed::Flags),
    };
    match (flag("oneway")?, flag("more")?, flag("upgrade")?) {
        (false, false, false) => Ok(Mode::Once),
        (true, false, false) => Ok(Mode::Oneway),
        (false, true, false) => Ok(Mode::More),
        (false, false, true) => Ok(Mode::Upgrade),
        _ => Err(Malformed::Flags),
    }
}

/// What was found twice, and the path of the member that is being read.
#[derive(Debug, Default)]
struct Twice {
    path: Vec<String>,
    header: bool,
    parameter: Option<String>,
}

impl Twice {
    fn enter(&mut self, name: &str) {
        self.path.push(name.to_owned());
    }

    fn leave(&mut self, twice: bool) {
        match self.path.as_slice() {
            [_] if twice => self.header = true,
            // The first name is that of the member `parameters`.
            [_, path @ ..] if twice && self.parameter.is_none() => {
                self.parameter = Some(path.join("."));
            }
            _ => {}
        }
        self.path.pop();
    }
}

/// Reads a value, nested at most so deep.
struct Strict<'a> {
    depth: usize,
    twice: &'a RefCell<Twice>,
}

impl Strict<'_> {
    fn inside<E: Error>(&self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1);
        Ok(Strict {
            depth: depth.ok_or_else(|| E::custom("nested too deep"))?,
            twice: self.twice,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self.inside()?)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            self.twice.borrow_mut().enter(&name);
            let value = members.next_value_seed(self.inside()?)?;
            let twice = object.insert(name, value).is_some();
            self.twice.borrow_mut().leave(twice);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_call_is_told_apart_from_what_can_be_answered() {
        for (text, expected) in [
            (r#"{"method":"a.B"}"#, Ok(Mode::Once)),
            (" \n{\"method\" : \"a.B\" } ", Ok(Mode::Once)),
            (r#"{"method":"a.B","parameters":null}"#, Ok(Mode::Once)),
            (
                r#"{"method":"a.B","parameters":{"x":[1.5]}}"#,
                Ok(Mode::Once),
            ),
            (
                r#"{"method":"a.B","more":true,"oneway":false}"#,
                Ok(Mode::More),
            ),
            (
                r#"{"method":"a.B","oneway":true,"more":null}"#,
                Ok(Mode::Oneway),
            ),
            (r#"{"method":"a.B","upgrade":true}"#, Ok(Mode::Upgrade)),
            (r#"{"method":"a.B","org.example":{"x":1}}"#, Ok(Mode::Once)),
            (
                r#"{"method":"a.B","more":true,"oneway":true}"#,
                Err(Malformed::Flags),
            ),
            (r#"{"method":"a.B","more":1}"#, Err(Malformed::Flags)),
            (r#"{"method":"a.B","oneway":"true"}"#, Err(Malformed::Flags)),
            (r#"{"method":"a.B","id":1}"#, Err(Malformed::Member)),
            (r#"{"method":"a.B","method":"a.C"}"#, Err(Malformed::Member)),
            (
                r#"{"method":"a.B","parameters":[]}"#,
                Err(Malformed::Parameters),
            ),
            (r#"{"method":7}"#, Err(Malformed::NoMethod)),
            (r#"{"parameters":{}}"#, Err(Malformed::NoMethod)),
            (r#"["method"]"#, Err(Malformed::NotAnObject)),
            (r#"{"method":"a.B"} x"#, Err(Malformed::Json)),
            (
                r#"{"method":"a.B","parameters":{"x":1e400}}"#,
                Err(Malformed::Json),
            ),
            (r#"{"method":"\ud800"}"#, Err(Malformed::Json)),
            ("\u{feff}{\"method\":\"a.B\"}", Err(Malformed::Json)),
            ("", Err(Malformed::Json)),
        ] {
            let seen = header(text.as_bytes()).map(|header| header.mode);
            assert_eq!(seen, expected, "{text}");
        }
        assert_eq!(header(b"{\"method\":\"\xff\"}"), Err(Malformed::Json));
    }

    #[test]
    fn a_parameter_given_twice_is_named() {
        for (text, twice) in [
            (r#"{"method":"a.B","parameters":{"x":1,"y":2}}"#, None),
            (r#"{"method":"a.B","parameters":{"x":1,"x":2}}"#, Some("x")),
            (
                r#"{"method":"a.B","parameters":{"f":{"x":1,"x":2}}}"#,
                Some("f.x"),
            ),
        ] {
            let seen = header(text.as_bytes()).unwrap().twice;
            assert_eq!(seen.as_deref(), twice, "{text}");
        }
    }

    #[test]
    fn nesting_ends_at_the_limit_and_not_at_the_end_of_the_stack() {
        // The message and its parameters are two levels themselves.
        let nested = |levels: usize| {
            let (open, close) = ("[".repeat(levels), "]".repeat(levels));
            format!(r#"{{"method":"a.B","parameters":{{"x":{open}{close}}}}}"#)
        };
        assert!(header(nested(DEPTH - 2).as_bytes()).is_ok());
        assert_eq!(header(nested(DEPTH - 1).as_bytes()), Err(Malformed::Json));
        assert_eq!(header(nested(100_000).as_bytes()), Err(Malformed::Json));
    }

    proptest::proptest! {
        #[test]
        fn whatever_passes_is_a_call_to_the_protocol_as_well(
            text in r#"[ ]?\{("(method|more|oneway|parameters|a\.b)":("a\.B"|true|false|null|\{\}|\{"x":[0-9eE.+-]{1,6}\}),?){0,4}\}?"#
        ) {
            let ours = header(text.as_bytes());
            let parsed = serde_json::from_str::<varlink::Request<'_>>(&text);
            if let Ok(header) = ours {
                let parsed = parsed.unwrap();
                proptest::prop_assert_eq!(header.method, parsed.method);
            }
        }

        #[test]
        fn no_bytes_bring_it_down(bytes: Vec<u8>) {
            let _ = header(&bytes);
        }
    }
}
