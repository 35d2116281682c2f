//! SQLite.
/// Placeholder until merged.
#[derive(Debug)]
pub struct SqliteStore;
