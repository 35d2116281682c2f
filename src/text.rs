//! Text from elsewhere, made harmless: for the log, for terminals and for shells.

use std::borrow::Cow;

/// What a terminal would obey, or a reader take for the end of a line: control
/// characters, and those that turn the direction of writing (Unicode
/// Bidi_Control).
#[must_use]
pub fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text from elsewhere without what a terminal would obey.
#[must_use]
pub fn harmless(text: &str) -> Cow<'_, str> {
    escape(text, |c, clean| clean.extend(c.escape_default()))
}

/// Text with its harmful characters written otherwise.
#[must_use]
pub fn escape(text: &str, write: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmful(c) {
            write(c, &mut clean);
        } else {
            clean.push(c);
        }
    }
    Cow::Owned(clean)
}

/// A word for a shell, in quotes where it would take it for something else. fish
/// knows `\'` and `\\` inside of single quotes and others do not, so that both
/// stand outside of them.
#[must_use]
pub fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:=,@%+-".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    let mut word = String::new();
    for piece in text.split_inclusive(['\'', '\\']) {
        let plain = piece.trim_end_matches(['\'', '\\']);
        if !plain.is_empty() {
            word += &format!("'{plain}'");
        }
        if let Some(special) = piece[plain.len()..].chars().next() {
            word.extend(['\\', special]);
        }
    }
    match word.is_empty() {
        true => "''".to_owned(),
        false => word,
    }
}

#[cfg(test)]
mod tests {
    use super::shell_word;

    #[test]
    fn a_shell_reads_a_word_as_it_was() {
        for (text, written) in [
            ("wan0", "wan0"),
            ("eth0.5", "eth0.5"),
            (
                "net/ipv4/conf/eth0.5/rp_filter=2",
                "net/ipv4/conf/eth0.5/rp_filter=2",
            ),
            ("a b", "'a b'"),
            ("$(reboot)", "'$(reboot)'"),
            ("it's", r"'it'\''s'"),
            (r"a\", r"'a'\\"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(text), written);
        }
    }

    /// Also the login shell of the other host, whichever it is.
    #[test]
    #[allow(clippy::disallowed_types)]
    fn every_shell_reads_a_word_as_it_was() {
        use std::process::Command;
        let words = [
            r"x\'; touch here; '\",
            r#"it's $(id) "x" `id` \ * ~ {a,b} #; exit 9"#,
            r"\\'\\''\'",
            "two\nlines\tand !1",
            "",
        ];
        for shell in ["sh", "bash", "dash", "fish"] {
            for word in words {
                let script = format!("printf %s {}", shell_word(word));
                match Command::new(shell).arg("-c").arg(script).output() {
                    Ok(output) => assert_eq!(
                        String::from_utf8_lossy(&output.stdout),
                        word,
                        "{shell}: {output:?}"
                    ),
                    // Not all are on every host.
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
                }
            }
        }
    }
}
