//! Commands that can be copied into a shell, whatever somebody called his
//! interface or his table.

/// A word, in quotes where a shell would take it for something else.
pub(super) fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:=,@%+-".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A command of nft(8), which reads all of it as one.
pub(super) fn nft(command: &str) -> String {
    format!("nft {}", word(command))
}

#[cfg(test)]
mod tests {
    use super::word;

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
            ("", "''"),
        ] {
            assert_eq!(word(text), written);
        }
    }
}
