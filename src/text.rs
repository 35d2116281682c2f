//! Text from elsewhere, made harmless: for the log and for terminals.

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
