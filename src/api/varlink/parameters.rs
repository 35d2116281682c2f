//! The parameters of a call, taken out one by one.
//!
//! A wrong type is found where a parameter is taken, and one that nobody took
//! is unknown. Either is refused by the parameter's name.

use serde_json::{Map, Value};

use super::fault::Fault;

/// What has not been taken out yet.
#[derive(Debug)]
pub(super) struct Parameters {
    /// The parameter that these are inside of.
    outer: Option<&'static str>,
    left: Map<String, Value>,
}

impl Parameters {
    /// The parameters of a call; absent, null and `{}` are the same.
    pub(super) fn of(call: Option<Value>) -> Self {
        let left = match call {
            Some(Value::Object(left)) => left,
            _ => Map::new(),
        };
        Self { outer: None, left }
    }

    /// A text that must be there.
    pub(super) fn text(&mut self, name: &'static str) -> Result<String, Fault> {
        self.optional_text(name)?.ok_or_else(|| self.invalid(name))
    }

    /// A text.
    pub(super) fn optional_text(&mut self, name: &'static str) -> Result<Option<String>, Fault> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.invalid(name)),
        }
    }

    /// An array of texts.
    pub(super) fn optional_texts(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Vec<String>>, Fault> {
        let texts = match self.take(name) {
            None => return Ok(None),
            Some(Value::Array(items)) => items.into_iter().map(|item| match item {
                Value::String(text) => Some(text),
                _ => None,
            }),
            Some(_) => return Err(self.invalid(name)),
        };
        let texts: Option<_> = texts.collect();
        texts.map(Some).ok_or_else(|| self.invalid(name))
    }

    /// A flag, false when it is absent.
    pub(super) fn flag(&mut self, name: &'static str) -> Result<bool, Fault> {
        self.optional_flag(name).map(Option::unwrap_or_default)
    }

    /// A flag that may be absent.
    pub(super) fn optional_flag(&mut self, name: &'static str) -> Result<Option<bool>, Fault> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(set)) => Ok(Some(set)),
            Some(_) => Err(self.invalid(name)),
        }
    }

    /// A number without a fraction that the wanted type can hold.
    pub(super) fn optional_int<T: TryFrom<i64>>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>, Fault> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let number = value.as_i64().and_then(|number| T::try_from(number).ok());
        number.map(Some).ok_or_else(|| self.invalid(name))
    }

    /// An object, whose members are then taken in turn; empty when it is absent.
    pub(super) fn object(&mut self, name: &'static str) -> Result<Parameters, Fault> {
        match self.take(name) {
            None => Ok(Map::new()),
            Some(Value::Object(left)) => Ok(left),
            Some(_) => Err(self.invalid(name)),
        }
        .map(|left| Parameters {
            outer: Some(name),
            left,
        })
    }

    /// There are no others.
    pub(super) fn end(self) -> Result<(), Fault> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(unknown) => Err(self.invalid(unknown)),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name).filter(|value| !value.is_null())
    }

    fn invalid(&self, name: &str) -> Fault {
        Fault::InvalidParameter(match self.outer {
            None => name.to_owned(),
            Some(outer) => format!("{outer}.{name}"),
        })
    }
}
