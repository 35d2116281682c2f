//! docs/man/org.ipfloater.5 has the methods and errors of the interface, in the
//! words of that. `IPFLOATER_BLESS=1` writes them anew.

use std::path::Path;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use ipfloater::cli::Arguments;

const INTERFACE: &str = include_str!("../interfaces/org.ipfloater.varlink");
const MANUAL: &str = "docs/man/org.ipfloater.5";

/// The methods or errors, each with the first sentence that is said of it.
fn described(kind: &str) -> Vec<(&str, String)> {
    let mut comment = Vec::new();
    let mut described = Vec::new();
    for line in INTERFACE.lines() {
        if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
            continue;
        }
        if let Some(rest) = line
            .strip_prefix(kind)
            .and_then(|rest| rest.strip_prefix(' '))
        {
            let name = rest.split([' ', '(']).next().expect("it has a name");
            described.push((name, first_sentence(&comment.join(" "))));
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
    let items = described(kind).into_iter();
    let items = items.map(|(name, says)| format!(".It Li {name}\n{says}\n"));
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
