//! interfaces/ipfloater.schema.json says what `ipfloater --json` prints, in the
//! words of the interface that most of it comes from. `IPFLOATER_BLESS=1` writes
//! it anew. `--test netns json` holds every verb's real answers against it.

use std::path::Path;

use clap::CommandFactory;
use ipfloater::cli::Arguments;
use ipfloater::doctor::Id;
use serde_json::{Map, Value, json};

const INTERFACE: &str = include_str!("../interfaces/org.ipfloater.varlink");
const SCHEMA: &str = "interfaces/ipfloater.schema.json";

/// Which method's results a verb prints.
const METHODS: [(&str, &str); 18] = [
    ("allocate", "Allocate"),
    ("associate", "Associate"),
    ("confirm", "Confirm"),
    ("disassociate", "Disassociate"),
    ("forward", "Forward"),
    ("getip", "Associate"),
    ("history", "History"),
    ("ippool", "ListPools"),
    ("monitor", "Monitor"),
    ("permissions", "GetPermissions"),
    ("redirect", "Associate"),
    ("release", "Release"),
    ("releaseip", "Release"),
    ("reload", "Reload"),
    ("revert", "Revert"),
    ("set", "Update"),
    ("show", "Describe"),
    ("unforward", "Unforward"),
];

/// What this program makes itself, or of several answers.
fn ours(of_method: impl Fn(&str) -> Value) -> Value {
    let list = |item: &str| json!({"type": "array", "items": {"$ref": format!("#/$defs/{item}")}});
    let text = |says: &str| json!({"description": says, "type": "string"});
    let number = |says: &str| json!({"description": says, "type": "integer"});
    let with = |mut object: Value, name: &str, schema: Value| {
        object["properties"][name] = schema;
        object["required"]
            .as_array_mut()
            .expect("it requires something")
            .push(name.into());
        object
    };
    let status = with(of_method("GetStatus"), "addresses", list("Address"));
    let chains = json!({
        "description": "The names of chains, by their tables.",
        "type": "object",
        "additionalProperties": {"type": "array", "items": {"type": "string"}},
    });
    json!({
        "error": object("Instead of an answer.", &[], json!({
            "error": object("Why it failed.", &[], json!({
                "name": text("The name of the error: of the interface, or of this program."),
                "message": text("One line for a person."),
                "exit_code": json!({
                    "description": "What the program ends with; ipfloater(1) has the list.",
                    "type": "integer", "minimum": 1, "maximum": 8,
                }),
            })),
        })),
        "verb-arp": object("", &[], json!({
            "hardware_address": text("As it was asked for, in lower case."),
            "floating_ip": text("The address that goes with it."),
        })),
        "verb-counters": object("", &[], json!({"counters": list("Counters")})),
        "verb-doctor": object("", &[], json!({
            "findings": list("Finding"),
            "errors": number("How many findings stop traffic."),
            "warnings": number("How many may stop some of it, or will before long."),
            "notes": number("How many should be known."),
        })),
        "Finding": object("What `ipfloater doctor` found.", &["address", "why", "remedy"], json!({
            "severity": {"enum": ["error", "warning", "note"]},
            "id": {
                "description": "Which fault it is.",
                "enum": Id::ALL.iter().map(|id| id.as_str()).collect::<Vec<_>>(),
            },
            "address": text("The floating IP, or the host, that it is about. Absent for the router as a whole."),
            "what": text("What it is, in a line."),
            "why": text("What it does, or where it comes from."),
            "remedy": text("A command that mends it."),
        })),
        "verb-import": object("", &["original_process", "database", "error"], json!({
            "error": {
                "description": "What stands in the way, as where there is no answer. Absent when nothing does.",
                "$ref": "#/$defs/error/properties/error",
            },
            "applied": {"description": "Whether it was done.", "type": "boolean"},
            "database": text("The original's database. Absent when none was looked at."),
            "redirections": {"type": "array", "items": object("A redirection in it.", &["reason"], json!({
                "redirection": text("As the original wrote it."),
                "fate": {
                    "description": "Whether it is to be taken over, is there already, or cannot be.",
                    "enum": ["new", "there", "bad"],
                },
                "reason": text("Why it cannot be, or what it waits for."),
            }))},
            "chains": chains,
            "legacy_chains": chains,
            "rules": number("How many rules lead to these."),
            "addresses": {"type": "array", "items": object("A pool address on an interface.", &[], json!({
                "address": text("The address."),
                "interface": text("The name of the interface."),
            }))},
            "original_process": number("The process of the original, if it runs."),
        })),
        "verb-list": object("", &[], json!({"addresses": list("Address")})),
        "verb-metrics": object("", &[], json!({"text": text("What Prometheus reads.")})),
        "verb-status": with(status, "counters", json!({
            "description": "Empty where packets are not counted.",
            "type": "array", "items": {"$ref": "#/$defs/Counters"},
        })),
        "verb-top": object("A view, each on a line.", &["seconds"], json!({
            "seconds": {"description": "How long was counted.", "type": "number"},
            "addresses": {"description": "Those with traffic, busiest first.", "type": "array", "items": object("", &[], json!({
                "floating_ip": text("The address."),
                "bits_in": number("How many bits a second came in."),
                "bits_out": number("How many went out."),
                "packets_in": number("How many packets a second came in."),
                "packets_out": number("How many went out."),
            }))},
        })),
        "verb-version": with(of_method("GetVersion"), "client_version", text("The version of this program.")),
    })
}

/// An object with these properties, all of which it has but for some.
fn object(says: &str, optional: &[&str], properties: Value) -> Value {
    let names = properties.as_object().expect("properties are an object");
    let required = names
        .keys()
        .filter(|name| !optional.contains(&name.as_str()));
    let required: Vec<_> = required.collect();
    let mut object = json!({"type": "object", "required": required});
    object["properties"] = properties;
    if !says.is_empty() {
        object["description"] = says.into();
    }
    object
}

/// What is left of an interface definition (varlink.org/Interface-Definition).
struct Reader<'a> {
    tokens: std::iter::Peekable<std::vec::IntoIter<&'a str>>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        let mut tokens = Vec::new();
        for line in text.lines() {
            let mut rest = line.trim();
            while !rest.is_empty() {
                let end = match rest.chars().next().expect("it is not empty") {
                    '#' => rest.len(),
                    first if first.is_alphanumeric() => rest
                        .find(|c: char| !(c.is_alphanumeric() || "_.".contains(c)))
                        .unwrap_or(rest.len()),
                    _ => 1,
                };
                tokens.push(&rest[..end]);
                rest = rest[end..].trim_start();
            }
        }
        Reader {
            tokens: tokens.into_iter().peekable(),
        }
    }

    /// The comment that stands here, in a line.
    fn comment(&mut self) -> String {
        let mut lines = Vec::new();
        while let Some(line) = self.tokens.next_if(|token| token.starts_with('#')) {
            lines.push(line.trim_start_matches('#').trim());
        }
        lines.join(" ").trim().to_owned()
    }

    fn next(&mut self) -> &'a str {
        self.tokens.next().expect("the interface goes on")
    }

    fn has(&mut self, token: &str) -> bool {
        self.tokens.next_if_eq(&token).is_some()
    }

    /// A type, and whether it may be absent.
    fn value(&mut self) -> (Value, bool) {
        if self.has("?") {
            return (self.value().0, true);
        }
        if self.has("[") {
            let is_map = self.has("string");
            assert!(self.has("]"));
            let items = self.value().0;
            let schema = if is_map {
                json!({"type": "object", "additionalProperties": items})
            } else {
                json!({"type": "array", "items": items})
            };
            return (schema, false);
        }
        if self.tokens.peek() == Some(&"(") {
            return (self.fields(), false);
        }
        let schema = match self.next() {
            "bool" => json!({"type": "boolean"}),
            "int" => json!({"type": "integer"}),
            "float" => json!({"type": "number"}),
            "string" => json!({"type": "string"}),
            "object" => json!({}),
            name => json!({"$ref": format!("#/$defs/{name}")}),
        };
        (schema, false)
    }

    /// A structure, or an enumeration.
    fn fields(&mut self) -> Value {
        assert!(self.has("("));
        let (mut properties, mut required, mut names) = (Map::new(), Vec::new(), Vec::new());
        loop {
            let says = self.comment();
            if self.has(")") {
                break;
            }
            let name = self.next();
            if self.has(":") {
                let (mut schema, absent) = self.value();
                if !says.is_empty() {
                    schema["description"] = says.into();
                }
                properties.insert(name.to_owned(), schema);
                if !absent {
                    required.push(name);
                }
            } else {
                names.push(name);
            }
            self.has(",");
        }
        if names.is_empty() {
            json!({"type": "object", "required": required, "properties": properties})
        } else {
            json!({"enum": names})
        }
    }
}

/// The types of the interface, and what its methods answer.
fn interface() -> (Map<String, Value>, Map<String, Value>) {
    let (mut types, mut answers) = (Map::new(), Map::new());
    let mut reader = Reader::new(INTERFACE);
    reader.comment();
    assert_eq!(
        (reader.next(), reader.next()),
        ("interface", "org.ipfloater")
    );
    loop {
        let says = reader.comment();
        let Some(kind) = reader.tokens.next() else {
            return (types, answers);
        };
        let name = reader.next().to_owned();
        let mut schema = reader.fields();
        match kind {
            "type" => {
                schema["description"] = says.into();
                types.insert(name, schema);
            }
            "method" => {
                assert!(reader.has("-") && reader.has(">"));
                answers.insert(name, reader.fields());
            }
            "error" => {}
            other => panic!("{other} {name}"),
        }
    }
}

fn schema() -> Value {
    let (types, answers) = interface();
    let of_method = |name: &str| answers[name].clone();
    let Value::Object(mut defs) = ours(of_method) else {
        panic!("it is an object");
    };
    // What only requests have is left out.
    let asked = ["Filter"];
    defs.extend(
        types
            .into_iter()
            .filter(|(name, _)| !asked.contains(&&**name)),
    );
    for (verb, method) in METHODS {
        defs.insert(format!("verb-{verb}"), of_method(method));
    }
    let mut verbs: Vec<_> = defs
        .keys()
        .filter(|name| name.starts_with("verb-"))
        .collect();
    verbs.sort();
    let any: Vec<_> = ["error"]
        .into_iter()
        .chain(verbs.into_iter().map(String::as_str))
        .map(|name| json!({"$ref": format!("#/$defs/{name}")}))
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What `ipfloater --json` prints",
        "description": "One JSON value a line. What a verb prints is in $defs under `verb-` and its name, \
            and `error` is what it prints when it fails. Properties and values of enumerations are added \
            and never taken away, nor do they change their meaning or become absent where they are \
            required: pass over what you do not know. Times are seconds since 1970 UTC.",
        "anyOf": any,
        "$defs": defs,
    })
}

#[test]
fn the_schema_has_every_verb_in_the_words_of_the_interface() {
    let right = format!("{:#}\n", schema());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(SCHEMA);
    if std::env::var_os("IPFLOATER_BLESS").is_some() {
        std::fs::write(&path, &right).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == right,
        "IPFLOATER_BLESS=1 writes {SCHEMA} anew; look at what is altered: nothing may be taken away"
    );
    for verb in Arguments::command().get_subcommands() {
        let name = format!("verb-{}", verb.get_name());
        assert!(
            verb.is_hide_set() || schema()["$defs"][&name].is_object(),
            "{name} is not in {SCHEMA}"
        );
    }
}

#[test]
fn the_schema_is_one_and_refuses_what_is_not_like_it() {
    let schema = schema();
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    let mut of_arp = schema.clone();
    of_arp["anyOf"] = json!([{"$ref": "#/$defs/verb-arp"}]);
    let validator = jsonschema::validator_for(&of_arp).unwrap();
    let right = json!({"hardware_address": "60:60:00:00:00:01", "floating_ip": "203.0.113.7"});
    assert!(validator.is_valid(&right));
    assert!(!validator.is_valid(&json!({"hardware_address": 1, "floating_ip": "203.0.113.7"})));
    assert!(!validator.is_valid(&json!({"floating_ip": "203.0.113.7"})));
}
