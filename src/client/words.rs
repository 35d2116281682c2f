//! What the daemon says, in the command line's words.
//!
//! Its messages are for both buses, and name what is theirs: fields and methods.
//! Who sits at a terminal has options and verbs. It is done by text, because D-Bus
//! carries nothing else; what is not known here stays as it was said.

/// A field, what it is called on the command line, and what that does.
const FIELDS: [(&str, &str, &str); 21] = [
    ("limit", "--lines", "takes"),
    ("after", "--since", "takes"),
    ("count", "--count", "takes"),
    ("confirm", "--confirm", "takes"),
    ("expires_in", "--for", "takes"),
    ("pool", "--pool", "takes"),
    ("owner", "--owner", "takes"),
    ("state", "--state", "takes"),
    ("label", "--label", "takes"),
    ("description", "--description", "takes"),
    ("tag", "--tag", "takes"),
    ("tags", "--tag", "takes"),
    ("add_tags", "--tag", "takes"),
    ("remove_tags", "--untag", "takes"),
    ("allowed_sources", "--allow", "takes"),
    ("rate_in", "--rate-in", "takes"),
    ("rate_out", "--rate-out", "takes"),
    ("outbound", "--outbound", "takes"),
    ("ports", "the port", "is"),
    ("fixed_port", "the host's port", "is"),
    ("protocol", "the protocol", "is"),
];

/// The message of the error of this name.
pub(super) fn reworded(name: &str, message: &str) -> String {
    let instead = |what: &str, by: &str| message.replace(what, by);
    match name {
        "InvalidArgument" => argument(message),
        // What was given is told; the field that held it has no name here.
        "InvalidAddress" => {
            let said = message.split_once(": ");
            said.map_or(message, |(_, what)| what).to_owned()
        }
        "AlreadyAssociated" | "TargetInUse" | "ForwardClash" => {
            instead("; reassociate ", "; --reassociate ")
        }
        "Protected" => {
            let floating = message.split(' ').next().unwrap_or_default();
            let unprotect = format!("`ipfloater set {floating} --unprotect` alters that");
            instead("unprotect it first", &unprotect)
        }
        "Unconfirmed" => instead("confirm it, revert it,", &settling(message)),
        "SequenceGone" => instead(
            "read the state of now instead",
            "leave out --since to begin with the state of now",
        ),
        _ => message.to_owned(),
    }
}

/// `count: it is 1 to 64` as `--count takes 1 to 64`.
fn argument(message: &str) -> String {
    let of = |field: &str| FIELDS.iter().find(|(name, ..)| *name == field);
    let said = message.split_once(": ");
    match said.and_then(|(field, why)| Some((of(field)?, why))) {
        Some(((_, name, does), why)) => match why.strip_prefix("it is ") {
            Some(right) => format!("{name} {does} {right}"),
            None => format!("{name}: {why}"),
        },
        None => message.to_owned(),
    }
}

/// How the change of `the last change of 203.0.113.7 is not confirmed` is settled;
/// that of the configuration without an address.
fn settling(message: &str) -> String {
    let of = message.strip_prefix("the last change of ");
    let of = of.and_then(|of| of.split(' ').next()).unwrap_or_default();
    let address = match of {
        "the" => String::new(),
        address => format!(" {address}"),
    };
    format!("`ipfloater confirm{address}`, `ipfloater revert{address}`,")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use crate::request::Refusal;

    #[test]
    fn remedies_are_options_and_verbs() {
        let floating = "203.0.113.7".parse().unwrap();
        let fixed = "10.0.0.5".parse().unwrap();
        let argument = |field: &str, why: &str| Refusal::InvalidArgument {
            field: field.to_owned(),
            why: why.to_owned(),
        };
        let until = Timestamp(1_800_000_000);
        for (refusal, words) in [
            (
                Refusal::AlreadyAssociated { floating, fixed },
                "203.0.113.7 is associated with 10.0.0.5; --reassociate moves it",
            ),
            (
                Refusal::TargetInUse { fixed, floating },
                "10.0.0.5 already has the floating IP 203.0.113.7; --reassociate displaces it",
            ),
            (
                Refusal::ForwardClash {
                    floating,
                    other: "80/tcp -> 10.0.0.5:80".parse().unwrap(),
                    same: true,
                },
                "203.0.113.7 forwards 80/tcp -> 10.0.0.5:80 already; --reassociate moves these ports",
            ),
            (
                Refusal::Protected { floating },
                "203.0.113.7 is protected from being released; \
                 `ipfloater set 203.0.113.7 --unprotect` alters that",
            ),
            (
                Refusal::Unconfirmed {
                    floating: Some(floating),
                    until,
                },
                "the last change of 203.0.113.7 is not confirmed: `ipfloater confirm 203.0.113.7`, \
                 `ipfloater revert 203.0.113.7`, or wait until 2027-01-15 08:00:00Z",
            ),
            (
                Refusal::Unconfirmed {
                    floating: None,
                    until,
                },
                "the last change of the configuration is not confirmed: `ipfloater confirm`, \
                 `ipfloater revert`, or wait until 2027-01-15 08:00:00Z",
            ),
            (
                Refusal::invalid_address("fixed_address", "a: b", "it is none"),
                "\"a: b\" cannot be used: it is none",
            ),
            (
                argument("limit", "it is 1 to 1000"),
                "--lines takes 1 to 1000",
            ),
            (
                argument("add_tags", "a label is short"),
                "--tag: a label is short",
            ),
            (
                argument("protocol", "it is tcp, udp or sctp"),
                "the protocol is tcp, udp or sctp",
            ),
            (argument("new_one", "it is 1: 2"), "new_one: it is 1: 2"),
        ] {
            assert_eq!(reworded(refusal.name(), &refusal.to_string()), words);
        }
    }
}
