//! docs/man/org.ipfloater.5 has the methods and errors of the interface, in the
//! words of that. `IPFLOATER_BLESS=1` writes them anew.

use std::path::Path;

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
