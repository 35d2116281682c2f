//! What has to be known of a call.
//!
//! It stays text, as it came: 64 kB of it become eight megabytes when they are
//! read as values, and every guest can have one that waits.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::bridge::End;
use crate::api::varlink::{DEPTH, INTERFACE};

/// The other interface that is let through, by which a service tells what it is.
/// `io.systemd.service` alters the daemon's log, and is for its own host.
const SERVICE: &str = "org.varlink.service";

/// Methods that alter something.
const ALTERING: [&str; 10] = [
    "Allocate",
    "Associate",
    "Disassociate",
    "Forward",
    "Unforward",
    "Update",
    "Release",
    "Confirm",
    "Revert",
    "Reload",
];

/// What is logged before the other parameters: whose address it is about.
const FIRST: [&str; 5] = [
    "address",
    "floating_ip",
    "fixed_address",
    "protocol",
    "ports",
];

/// How much of a parameter is logged, and of all of them, in characters. No
/// address and no name is longer.
const LOGGED: (usize, usize) = (80, 400);

/// A call, out of its message.
#[derive(Debug, Deserialize)]
pub(super) struct Call<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
    oneway: Option<bool>,
    more: Option<bool>,
}

/// The parameter that this program looks at.
#[derive(Debug, Deserialize)]
struct Asks {
    #[serde(rename = "allowInteractiveAuthentication")]
    interactive: Option<bool>,
}

impl<'a> Call<'a> {
    /// Reads a message, its end mark left out.
    pub(super) fn read(message: &'a [u8]) -> Result<Self, End> {
        if depth(message) > DEPTH {
            return Err(End::TooDeep);
        }
        serde_json::from_slice(message).map_err(End::NoCall)
    }

    /// Whether it may be answered more than once, for ever.
    pub(super) fn is_endless(&self) -> bool {
        self.more == Some(true)
    }

    /// Whether its caller wants no answer.
    pub(super) fn is_oneway(&self) -> bool {
        self.oneway == Some(true) && !self.is_endless()
    }

    /// The same as a message that is answered: what became of it is logged, and it
    /// may have to go over the bus.
    pub(super) fn answered(&self) -> Vec<u8> {
        let parameters = self.parameters.map_or("null", RawValue::get);
        let method = Value::from(self.method.as_ref());
        format!("{{\"method\":{method},\"parameters\":{parameters}}}\0").into_bytes()
    }

    /// The name of a method of ours without that of the interface.
    pub(super) fn method(&self) -> Option<&str> {
        self.method.strip_prefix(INTERFACE)?.strip_prefix('.')
    }

    /// The same when it alters something.
    pub(super) fn alters(&self) -> Option<&'static str> {
        let method = self.method()?;
        ALTERING.into_iter().find(|altering| *altering == method)
    }

    /// Why it is not passed on, as an error and its parameters.
    pub(super) fn refused(&self) -> Option<(String, Value)> {
        let interface = self.method.rsplit_once('.').map(|(interface, _)| interface);
        if let Some(interface) = interface
            && ![INTERFACE, SERVICE].contains(&interface)
        {
            let parameters = json!({ "interface": interface });
            return Some((format!("{SERVICE}.InterfaceNotFound"), parameters));
        }
        // There is nobody on this host to be asked for a password.
        let asks = self
            .parameters
            .and_then(|parameters| serde_json::from_str::<Asks>(parameters.get()).ok());
        if asks.is_some_and(|asks| asks.interactive == Some(true)) {
            let parameters = json!({ "parameter": "allowInteractiveAuthentication" });
            return Some((format!("{SERVICE}.InvalidParameter"), parameters));
        }
        None
    }

    /// The parameters as values. The daemon has found them to be those of a call
    /// of ours, which are few.
    pub(super) fn values(&self) -> Map<String, Value> {
        self.parameters
            .and_then(|parameters| serde_json::from_str(parameters.get()).ok())
            .unwrap_or_default()
    }

    /// The parameters for the log: addresses first, and of each so much.
    pub(super) fn told(&self) -> String {
        let parameters = self.parameters.map(RawValue::get).unwrap_or_default();
        let Ok(parameters) = serde_json::from_str::<BTreeMap<String, &RawValue>>(parameters) else {
            return cut(parameters, LOGGED.1);
        };
        let (first, rest): (Vec<_>, Vec<_>) = parameters
            .iter()
            .partition(|(name, _)| FIRST.contains(&name.as_str()));
        let told = first.into_iter().chain(rest).map(|(name, value)| {
            let name = Value::from(cut(name, LOGGED.0));
            format!("{name}:{}", cut(value.get(), LOGGED.0))
        });
        let told: Vec<_> = told.collect();
        cut(&format!("{{{}}}", told.join(",")), LOGGED.1)
    }
}

/// The beginning of a text.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// How deep objects and arrays are nested.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest): (usize, usize) = (0, 0);
    let (mut in_text, mut is_escaped) = (false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_text => is_escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::varlink::DESCRIPTION;

    /// Methods that alter nothing.
    const READING: [&str; 10] = [
        "List",
        "ListPools",
        "Describe",
        "History",
        "Monitor",
        "GetStatus",
        "GetVersion",
        "GetPermissions",
        "GetCounters",
        "GetMetrics",
    ];

    fn call(text: &str) -> Call<'_> {
        Call::read(text.as_bytes()).expect("it is a call")
    }

    #[test]
    fn of_every_method_it_is_known_whether_it_alters_something() {
        let methods = DESCRIPTION
            .lines()
            .filter_map(|line| Some(line.strip_prefix("method ")?.split_once('(')?.0));
        let mut declared: Vec<_> = methods.collect();
        let mut known = [ALTERING, READING].concat();
        declared.sort_unstable();
        known.sort_unstable();
        assert_eq!(known, declared);
    }

    #[test]
    fn a_log_has_the_address_and_no_end_of_a_long_call() {
        let text = format!(
            r#"{{"method":"org.ipfloater.Update","parameters":{{"description":"{}","tags":["x"],"address":"198.51.100.7"}}}}"#,
            "x".repeat(255)
        );
        assert_eq!(
            call(&text).told(),
            format!(
                r#"{{"address":"198.51.100.7","description":"{}…,"tags":["x"]}}"#,
                "x".repeat(79)
            )
        );
        let many: Vec<_> = (0..6_000).map(|n| format!("\"{n}\":0")).collect();
        let text = format!(r#"{{"method":"a.B","parameters":{{{}}}}}"#, many.join(","));
        assert_eq!(call(&text).told().chars().count(), LOGGED.1 + 1);
    }

    #[test]
    fn who_wants_no_answer_has_his_call_carried_out_as_others() {
        let text = r#"{"oneway":true,"method":"a.B","parameters":{"x" : [1]}}"#;
        assert!(call(text).is_oneway());
        assert_eq!(
            call(text).answered(),
            b"{\"method\":\"a.B\",\"parameters\":{\"x\" : [1]}}\0"
        );
    }

    #[test]
    fn what_is_for_the_daemon_s_own_host_goes_no_further() {
        for (text, error) in [
            (r#"{"method":"org.ipfloater.List"}"#, None),
            (r#"{"method":"org.varlink.service.GetInfo"}"#, None),
            (r#"{"method":"nothing"}"#, None),
            (
                r#"{"method":"io.systemd.service.SetLogLevel","parameters":{"level":7}}"#,
                Some("org.varlink.service.InterfaceNotFound"),
            ),
            (
                r#"{"method":"org.ipfloater.Reload","parameters":{"allowInteractiveAuthentication":false}}"#,
                None,
            ),
            (
                r#"{"method":"org.ipfloater.Reload","parameters":{"allowInteractiveAuthentication":true}}"#,
                Some("org.varlink.service.InvalidParameter"),
            ),
        ] {
            let refused = call(text).refused().map(|(error, _)| error);
            assert_eq!(refused.as_deref(), error, "{text}");
        }
    }

    #[test]
    fn brackets_count_outside_of_texts() {
        for (json, deep) in [
            ("7", 0),
            (r#"{"a":[{}],"b":{}}"#, 3),
            (r#"{"a":"[[[{\"[["}"#, 1),
            (r#"{"a\\":[]}"#, 2),
            ("]]]}[[", 2),
        ] {
            assert_eq!(depth(json.as_bytes()), deep, "{json}");
        }
    }
}
