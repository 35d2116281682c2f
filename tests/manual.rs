//! docs/man/org.ipfloater.5 has the methods and errors of the interface, in the
//! words of that. `IPFLOATER_BLESS=1` writes them anew.

use std::collections::BTreeSet;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use ipfloater::cli::Arguments;

const INTERFACE: &str = include_str!("../interfaces/org.ipfloater.varlink");
const MANUAL: &str = "docs/man/org.ipfloater.5";

/// A method or an error.
struct Described {
    name: &'static str,
    /// The first sentence that is said of it.
    says: String,
    /// What a method is given, and whether it may be left out.
    parameters: Vec<(&'static str, bool)>,
}

/// The methods or errors of the interface.
fn described(kind: &str) -> Vec<Described> {
    let mut comment = Vec::new();
    let mut described = Vec::new();
    let mut lines = INTERFACE.lines();
    while let Some(line) = lines.next() {
        if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
            continue;
        }
        if let Some(rest) = line
            .strip_prefix(kind)
            .and_then(|rest| rest.strip_prefix(' '))
        {
            let name = rest.split([' ', '(']).next().expect("it has a name");
            let says = first_sentence(&comment.join(" "));
            let mut parameters = Vec::new();
            if kind == "method" && !rest.contains(')') {
                let fields = lines.by_ref().take_while(|line| !line.starts_with(')'));
                let fields = fields.filter_map(|line| line.trim_start().split_once(": "));
                let fields = fields.filter(|(name, _)| !name.starts_with('#'));
                parameters.extend(fields.map(|(name, kind)| (name, kind.starts_with('?'))));
            }
            described.push(Described {
                name,
                says,
                parameters,
            });
        }
        comment.clear();
    }
    described
}

fn first_sentence(text: &str) -> String {
    let ends = [". ", ": "].map(|end| text.find(end));
    let end = ends.into_iter().flatten().min();
    let sentence = end.map_or(text, |end| &text[..end]);
    format!("{}.", sentence.trim_end_matches(['.', ':']))
}

/// As a list in mdoc(7).
fn listed(kind: &str) -> String {
    let items = described(kind).into_iter().map(|item| {
        let parameters = item.parameters.iter();
        // Every method has it, and the page says so once.
        let parameters = parameters.filter(|(name, _)| *name != "allowInteractiveAuthentication");
        let parameters = parameters.map(|(name, may_be_absent)| match may_be_absent {
            true => format!(" Oo Ar {name} Oc"),
            false => format!(" Ar {name}"),
        });
        let parameters: String = parameters.collect();
        format!(".It Li {}{parameters}\n{}\n", item.name, item.says)
    });
    format!(".Bl -tag -width Ds\n{}.El\n", items.collect::<String>())
}

/// The page with that list between its two marks.
fn with_list(page: &str, kind: &str) -> String {
    let begin = format!(".\\\" generated from interfaces/org.ipfloater.varlink: {kind}s\n");
    let (before, rest) = page.split_once(&begin).expect("the page has the mark");
    let (_, after) = rest
        .split_once(".\\\" end\n")
        .expect("the page has its end");
    format!("{before}{begin}{}.\\\" end\n{after}", listed(kind))
}

#[test]
fn the_page_has_every_method_and_error_of_the_interface() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(MANUAL);
    let page = std::fs::read_to_string(&path).unwrap();
    let right = with_list(&with_list(&page, "method"), "error");
    assert!(described("method").len() > 10 && described("error").len() > 20);
    if std::env::var_os("IPFLOATER_BLESS").is_some() {
        std::fs::write(&path, &right).unwrap();
    } else {
        assert_eq!(page, right, "IPFLOATER_BLESS=1 writes {MANUAL} anew");
    }
}

#[test]
fn the_page_says_what_only_one_of_the_buses_has() {
    let bus = include_str!("../interfaces/org.ipfloater.Manager.xml");
    let page = read(MANUAL);
    let (_, says) = page.split_once("What only one of them has:").unwrap();
    let (says, _) = says.split_once(".Pp").unwrap();
    let is_named = |name: &str| {
        let mut words = says.split([' ', ',', '\n']);
        assert!(words.any(|word| word == name), "{name}: {says}");
    };
    let method = |name: &str| bus.contains(&format!("<method name=\"{name}\">"));
    for Described { name, .. } in described("method") {
        if !method(name) {
            is_named(name);
        }
    }
    for kind in ["<property name=\"", "<signal name=\""] {
        for rest in bus.split(kind).skip(1) {
            is_named(rest.split('"').next().unwrap());
        }
    }
}

/// A page as it reads, without what mdoc(7) writes around the words.
fn read(page: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{page}: {error}"))
}

#[test]
fn the_page_of_the_command_line_has_every_verb_and_option() {
    let page = read("docs/man/ipfloater.1");
    let command = Arguments::command();
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    let (mut options, mut missing) = (0, Vec::new());
    for verb in verbs {
        let name = verb.get_name();
        assert!(
            page.contains(&format!(".It Cm {name}\n")) || page.contains(&format!(".It Cm {name} ")),
            "{name}"
        );
        for option in verb.get_arguments().chain(command.get_arguments()) {
            let Some(long) = option.get_long().filter(|_| !option.is_hide_set()) else {
                continue;
            };
            // `Fl` gives a dash to each, and the pages one more.
            let shown =
                page.contains(&format!("Fl -{long}")) || page.contains(&format!(", -{long}"));
            if !shown {
                missing.push(format!("{name} --{long}"));
            }
            options += 1;
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
    assert!(options > 100, "{options}");
}

/// The verbs of events, as the code has them.
fn event_verbs() -> Vec<&'static str> {
    let source = include_str!("../src/model/change.rs");
    let (_, verbs) = source
        .split_once("pub fn verb(&self) -> &'static str {")
        .expect("it has it");
    let (verbs, _) = verbs.split_once("\n    }\n").expect("it ends");
    verbs.split('"').skip(1).step_by(2).collect()
}

/// The tags of the lists in a part of a page, which stand one a line or with commas
/// between them.
fn tags(part: &str) -> Vec<&str> {
    let items = part.lines().filter_map(|line| line.strip_prefix(".It "));
    let words = items.flat_map(|item| item.split([' ', ',']));
    words
        .filter(|word| !["", "Cm", "Li"].contains(word))
        .collect()
}

#[test]
fn the_page_of_the_command_line_says_before_which_verbs_an_option_stands_and_behind_which() {
    let page = read("docs/man/ipfloater.1");
    let command = Arguments::command();
    let (_, synopsis) = page.split_once(".Sh SYNOPSIS\n").unwrap();
    let (synopsis, _) = synopsis.split_once(".Sh ").unwrap();
    let global = command
        .get_arguments()
        .filter(|option| !option.is_hide_set());
    let mut options = 0;
    for option in global {
        let short = option.get_short().map(|short| format!("Fl {short}"));
        let long = option.get_long().map(|long| format!("Fl -{long}"));
        let shown = [short, long].into_iter().flatten();
        let mut shown = shown.filter(|option| {
            let mut lines = synopsis.lines();
            lines.any(|line| {
                line.split("Op ")
                    .nth(1)
                    .is_some_and(|is| is.starts_with(option))
            })
        });
        assert!(shown.next().is_some(), "{}", option.get_id());
        options += 1;
    }
    assert!(options > 9, "{options}");

    let with = |name: &str| {
        let verbs = command.get_subcommands();
        let verbs = verbs.filter(|verb| verb.get_arguments().any(|option| option.get_id() == name));
        let mut verbs: Vec<_> = verbs.map(clap::Command::get_name).collect();
        verbs.sort_unstable();
        verbs
    };
    let (before, _) = page.split_once(".It Fl -confirm Ar time\n").unwrap();
    let (_, told) = before.rsplit_once(".Pp\nWith\n").unwrap();
    let told = told.split([' ', ',', '\n']);
    let mut told: Vec<_> = told.filter(|word| with("confirm").contains(word)).collect();
    told.sort_unstable();
    assert_eq!(told, with("confirm"));
    // All that alter something.
    assert_eq!(
        with("dry_run"),
        [
            "allocate",
            "associate",
            "confirm",
            "disassociate",
            "forward",
            "getip",
            "import",
            "redirect",
            "release",
            "releaseip",
            "reload",
            "revert",
            "set",
            "unforward"
        ]
    );
}

#[test]
fn the_page_of_the_daemon_has_every_field_and_verb_of_the_journal() {
    let page = read("docs/man/ipfloaterd.8");
    let journal = include_str!("../src/logging/journal.rs");
    let (journal, _) = journal.split_once("#[cfg(test)]").unwrap();
    let fields = journal.split("IPFLOATER_").skip(1);
    let mut count = 0;
    for field in fields {
        let field = field.split(' ').next().unwrap();
        assert!(page.contains(&format!("IPFLOATER_{field}")), "{field}");
        count += 1;
    }
    assert!(count > 12, "{count}");

    let (_, told) = page.split_once(".It Li IPFLOATER_VERB\n").unwrap();
    let (told, _) = told.split_once(".Xr ").unwrap();
    let told = told.lines().filter_map(|line| line.strip_prefix(".Cm "));
    let words = told.flat_map(|line| line.split([' ', ',', '.']));
    let told: BTreeSet<_> = words.filter(|word| !word.is_empty()).collect();
    let requests = ipfloater::authority::Verb::ALL.map(ipfloater::authority::Verb::as_str);
    // Others happen, and leave no audit record.
    let source = include_str!("../src/model/change.rs");
    let changes = source
        .lines()
        .filter(|line| line.contains("EventKind::Changed(Change::"));
    let changes = changes.filter_map(|line| line.split('"').nth(1));
    let verbs: BTreeSet<_> = changes.chain(requests).chain(["get-environment"]).collect();
    assert_eq!(told, verbs);
}

/// What is typed in the examples of the pages, after a prompt.
#[test]
fn the_examples_of_the_pages_are_understood() {
    let mut tried = 0;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for page in std::fs::read_dir(root.join("docs/man")).unwrap() {
        let path = page.unwrap().path();
        let page = std::fs::read_to_string(&path).unwrap();
        for line in page.lines() {
            let line = line.strip_prefix(".Dl ").unwrap_or(line);
            let typed = line.strip_prefix("# ").or(line.strip_prefix("$ "));
            let Some(typed) = typed.filter(|typed| typed.starts_with("ipfloater ")) else {
                continue;
            };
            let (typed, _) = typed.split_once(" >").unwrap_or((typed, ""));
            let parsed = Arguments::try_parse_from(words(typed));
            assert!(parsed.is_ok(), "{}: {line}", path.display());
            tried += 1;
        }
    }
    assert!(tried > 5, "{tried}");
}

#[test]
fn the_page_of_the_command_line_explains_every_verb_of_the_history() {
    let page = read("docs/man/ipfloater.1");
    let (_, table) = page.split_once("In the column VERB stand\n").unwrap();
    let (table, _) = table.split_once(".El\n").unwrap();
    let [mut told, mut verbs] = [tags(table), event_verbs()];
    told.sort_unstable();
    verbs.sort_unstable();
    assert!(verbs.len() > 15);
    assert_eq!(told, verbs);
}

/// The words of a line, as a shell takes them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quote) = (vec![String::new()], None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, ' ') => words.push(String::new()),
            (_, c) => words.last_mut().expect("there is one").push(c),
        }
    }
    words
}

/// Every command line of ours that stands within the text of a page.
#[test]
fn what_the_pages_say_in_passing_is_understood() {
    let mut tried = 0;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).unwrap();
    let docs = docs.map(|entry| entry.unwrap().path());
    let docs = docs.filter(|path| path.extension().is_some_and(|end| end == "md"));
    for path in docs.chain([root.join("README.md"), root.join("examples/README.md")]) {
        let text = std::fs::read_to_string(&path).unwrap();
        let inline = text.split('`').skip(1).step_by(2);
        for line in inline.filter(|code| code.starts_with("ipfloater ") && !code.contains('\n')) {
            let words = words(line);
            // What stands for something else: ADDRESS, VERB, …
            let whole = |word: &str| word != "…" && word != "VERB";
            if !words.iter().all(|word| whole(word)) {
                continue;
            }
            let parsed = Arguments::try_parse_from(words);
            // A verb may be named without what it takes.
            let wrong = parsed.err().filter(|error| {
                error.use_stderr() && error.kind() != ErrorKind::MissingRequiredArgument
            });
            assert!(
                wrong.is_none(),
                "{}: {line}: {}",
                path.display(),
                wrong.unwrap()
            );
            tried += 1;
        }
    }
    assert!(tried > 60, "{tried}");
}
