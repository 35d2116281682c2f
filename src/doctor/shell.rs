//! Commands that can be copied into a shell, whatever somebody called his
//! interface or his table.

pub(super) use crate::text::shell_word as word;

/// A command of nft(8), which reads all of it as one.
pub(super) fn nft(command: &str) -> String {
    format!("nft {}", word(command))
}
