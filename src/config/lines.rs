//! What Python's ConfigParser takes and the INI crate does not: comments inside
//! and behind values, values that go on in further lines, a byte order mark.
//!
//! [`plain`] writes the same text with each value in one line. The lines keep
//! their numbers, so that an error of whoever reads on names the right one.

use std::borrow::Cow;

/// A text in which each line is empty, a section, or `KEY = value`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plain {
    /// The text.
    pub(super) text: String,
    /// The line of each key, in their order, counted from 1.
    pub(super) keys: Vec<usize>,
}

/// A line that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadLine {
    /// Which, counted from 1.
    pub(super) line: usize,
    /// What would be right.
    pub(super) why: String,
}

/// Brings a text into the plain form. A line that is indented more than the key
/// above it goes on with its value, as another item of a list.
pub(super) fn plain(text: &str) -> Result<Plain, BadLine> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines: Vec<String> = Vec::new();
    let mut keys = Vec::new();
    // The last key: where it is, and how far it is indented.
    let mut last: Option<(usize, usize)> = None;
    let mut in_section = false;
    for (index, raw) in text.lines().enumerate() {
        let line = index + 1;
        let bad = |why: String| BadLine { line, why };
        let words = without_comment(raw);
        let indent = raw.len() - raw.trim_start().len();
        lines.push(String::new());
        match last {
            _ if words.is_empty() => {}
            Some((key, at)) if indent > at => go_on(&mut lines[key], words),
            _ if words.starts_with('[') => {
                if words.find(']') != Some(words.len() - 1) {
                    let why = "is no section; write [NAME] and nothing behind it";
                    return Err(bad(format!("{} {why}", quoted(words))));
                }
                (last, in_section) = (None, true);
                words.clone_into(&mut lines[index]);
            }
            _ if !in_section => {
                let why = "stands before the first section; write [IPFLOATER] above it";
                return Err(bad(format!("{} {why}", quoted(words))));
            }
            _ => match words.find(['=', ':']) {
                None => return Err(bad(format!("{} is no KEY = value", quoted(words)))),
                Some(0) => return Err(bad(format!("{} has no key before it", quoted(words)))),
                Some(_) => {
                    last = Some((index, indent));
                    keys.push(line);
                    words.clone_into(&mut lines[index]);
                }
            },
        }
    }
    let text = lines.join("\n") + "\n";
    Ok(Plain { text, keys })
}

/// Adds what a further line says to the line of its key.
fn go_on(line: &mut String, words: &str) {
    line.push_str(if line.ends_with([',', '=', ':']) {
        " "
    } else {
        ", "
    });
    line.push_str(words);
}

/// A line without its comment: what stands behind `#`, or behind `;` that stands
/// alone or behind white space. To Python, a line that begins with the word `rem`
/// is one, too.
fn without_comment(line: &str) -> &str {
    line[..comment(line).unwrap_or(line.len())].trim()
}

/// Where the comment of a line begins.
pub(super) fn comment(line: &str) -> Option<usize> {
    let is_indented = line.starts_with(char::is_whitespace);
    let first = line.split_whitespace().next();
    if !is_indented && first.is_some_and(|word| word.eq_ignore_ascii_case("rem")) {
        return Some(0);
    }
    line.char_indices()
        .zip(std::iter::once(' ').chain(line.chars()))
        .find(|((_, c), before)| *c == '#' || *c == ';' && before.is_whitespace())
        .map(|((at, _), _)| at)
}

/// A text of a file fit for a message: short, in one line, nothing raw.
pub(super) fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}

/// A name of a file fit for a message, without quotation marks.
pub(super) fn shown(name: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_graphic() || c == ' ';
    if name.len() <= 80 && name.chars().all(plain) {
        Cow::Borrowed(name)
    } else {
        let escaped = name.chars().take(80).flat_map(char::escape_debug);
        Cow::Owned(escaped.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_in_one_line_and_lines_keep_their_numbers() {
        for (text, expected, keys) in [
            ("[A]\nK = 1\n", "[A]\nK = 1\n", vec![2]),
            ("\u{feff}[A]\r\nK: 1\r\n", "[A]\nK: 1\n", vec![2]),
            (
                "# one\n[A] ; two\nK = 1 # three\n",
                "\n[A]\nK = 1\n",
                vec![3],
            ),
            (
                "[A]\nK = 1,\n  # no\n  2\n# no\n\n\t3\nL=4",
                "[A]\nK = 1, 2, 3\n\n\n\n\n\nL=4\n",
                vec![2, 8],
            ),
            ("[A]\nK =\n  1\n  2\n", "[A]\nK = 1, 2\n\n\n", vec![2]),
            // Python, too, tells by the indentation what goes on.
            ("[A]\n  K = 1\n  L = 2\n", "[A]\nK = 1\nL = 2\n", vec![2, 3]),
            ("[A]\nK = a;c#b\n", "[A]\nK = a;c\n", vec![2]),
            ("rem one\n[A]\nREM two\n", "\n[A]\n\n", vec![]),
        ] {
            let plain = plain(text).unwrap();
            assert_eq!(
                (plain.text.as_str(), plain.keys),
                (expected, keys),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_line_that_says_nothing_is_named() {
        for (text, line, why) in [
            ("[A]\n\nK\n", 3, "\"K\" is no KEY = value"),
            ("[A]\n= 1\n", 2, "no key before it"),
            ("[A]\nK = 1\n[B\n", 3, "\"[B\" is no section"),
            ("[A] K = 1\n", 1, "is no section"),
            ("K = 1\n", 1, "before the first section"),
            ("[A]\n\u{1b}[31m\n", 2, "\\u{1b}"),
        ] {
            let bad = plain(text).unwrap_err();
            assert_eq!(bad.line, line, "{text:?}");
            assert!(bad.why.contains(why), "{text:?}: {}", bad.why);
        }
    }
}
