//! The `a{sv}` of options that every method ends in.
//!
//! Each option is taken by name and type; what is left over at the end is
//! refused by name, so that a misspelt option never passes unnoticed.

use std::collections::BTreeMap;

use super::given::{Given, Value};

/// Why options are refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OptionError {
    /// The method has no option of that name.
    #[error("unknown option {name:?}; {}", those(.known))]
    Unknown {
        /// The name, cut to a length fit for a message.
        name: String,
        /// What the method knows.
        known: Vec<&'static str>,
    },
    /// The option holds a value of another type.
    #[error("option {name:?} is of type {wanted}, not {found}")]
    WrongType {
        /// The name.
        name: &'static str,
        /// The signature that it should have.
        wanted: &'static str,
        /// The signature that it has.
        found: String,
    },
    /// The number is too large, or negative.
    #[error("option {name:?} is a number from 0 to {most}")]
    OutOfRange {
        /// The name.
        name: &'static str,
        /// The largest that can be.
        most: u64,
    },
}

fn those(known: &[&str]) -> String {
    if known.is_empty() {
        "this method has none yet".to_owned()
    } else {
        format!("this method knows {}", known.join(", "))
    }
}

/// The options of one call, as they are taken out one by one.
#[derive(Debug)]
pub(super) struct Options {
    given: BTreeMap<String, Value>,
    known: Vec<&'static str>,
}

impl Options {
    /// The options as they came.
    pub(super) fn new(Given(given): Given) -> Self {
        Self {
            given,
            known: Vec::new(),
        }
    }

    /// Takes an option of type `s`.
    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>, OptionError> {
        self.take(name, "s", |value| match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        })
    }

    /// Takes an option of type `as`.
    pub(super) fn texts(&mut self, name: &'static str) -> Result<Option<Vec<String>>, OptionError> {
        self.take(name, "as", |value| match value {
            Value::Texts(texts) => Some(texts.clone()),
            _ => None,
        })
    }

    /// Takes an option of type `b`.
    pub(super) fn flag(&mut self, name: &'static str) -> Result<Option<bool>, OptionError> {
        self.take(name, "b", |value| match value {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        })
    }

    /// Takes an option of type `u`.
    pub(super) fn number32(&mut self, name: &'static str) -> Result<Option<u32>, OptionError> {
        let number = self.number(name, "u")?;
        within(name, number, u64::from(u32::MAX), |number| {
            u32::try_from(number).ok()
        })
    }

    /// Takes an option of type `t`.
    pub(super) fn number64(&mut self, name: &'static str) -> Result<Option<u64>, OptionError> {
        let number = self.number(name, "t")?;
        within(name, number, u64::MAX, |number| u64::try_from(number).ok())
    }

    /// Refuses what was not taken.
    pub(super) fn finish(self) -> Result<(), OptionError> {
        match self.given.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(OptionError::Unknown {
                // Long enough for any option; a longer name is not echoed.
                name: name.chars().take(64).collect(),
                known: self.known,
            }),
        }
    }

    /// Languages without unsigned integers send what they have, so any integer
    /// type will do as long as the number fits.
    fn number(
        &mut self,
        name: &'static str,
        wanted: &'static str,
    ) -> Result<Option<i128>, OptionError> {
        self.take(name, wanted, |value| match value {
            Value::Number(number, _) => Some(*number),
            _ => None,
        })
    }

    fn take<T>(
        &mut self,
        name: &'static str,
        wanted: &'static str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, OptionError> {
        self.known.push(name);
        let Some(value) = self.given.remove(name) else {
            return Ok(None);
        };
        match read(&value) {
            Some(value) => Ok(Some(value)),
            None => Err(OptionError::WrongType {
                name,
                wanted,
                found: value.signature().to_owned(),
            }),
        }
    }
}

fn within<T>(
    name: &'static str,
    number: Option<i128>,
    most: u64,
    fit: impl Fn(i128) -> Option<T>,
) -> Result<Option<T>, OptionError> {
    number
        .map(|number| fit(number).ok_or(OptionError::OutOfRange { name, most }))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options<const N: usize>(given: [(&str, Value); N]) -> Options {
        let given = given.map(|(name, value)| (name.to_owned(), value));
        Options::new(Given(given.into()))
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn an_option_that_nobody_took_is_refused_with_those_that_are_known() {
        let mut given = options([("pool", text("a")), ("poool", text("b"))]);
        assert_eq!(given.text("pool").unwrap().as_deref(), Some("a"));
        assert_eq!(given.flag("reassociate"), Ok(None));
        assert_eq!(
            given.finish().unwrap_err().to_string(),
            "unknown option \"poool\"; this method knows pool, reassociate"
        );
    }

    #[test]
    fn any_integer_type_will_do_as_long_as_the_number_fits() {
        for (signature, number) in [("y", 9), ("i", 9), ("t", 9)] {
            let mut given = options([("limit", Value::Number(number, signature))]);
            assert_eq!(given.number32("limit"), Ok(Some(9)));
        }
        for number in [-1, 1 << 32] {
            let error = options([("limit", Value::Number(number, "x"))])
                .number32("limit")
                .unwrap_err();
            assert_eq!(
                error.to_string(),
                "option \"limit\" is a number from 0 to 4294967295"
            );
        }
    }

    #[test]
    fn an_option_of_another_type_is_refused_with_both_types() {
        let error = options([("pool", Value::Number(1, "u"))])
            .text("pool")
            .unwrap_err();
        assert_eq!(error.to_string(), "option \"pool\" is of type s, not u");
    }
}
