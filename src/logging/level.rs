//! How much is logged, in the words of syslog(3) and of tracing.

use tracing::level_filters::LevelFilter;

/// A level of syslog(3): what is of this importance or higher is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Number 0.
    Emergency,
    /// Number 1.
    Alert,
    /// Number 2. Nothing of ours is this important or more: with these three
    /// the daemon is silent.
    Critical,
    /// Number 3: something broke.
    Error,
    /// Number 4: something is to be looked at; what was denied.
    Warning,
    /// Number 5: what was asked for, and what became of it.
    Notice,
    /// Number 6: what the daemon does.
    Info,
    /// Number 7: how.
    Debug,
}

impl Level {
    /// All of them, by number.
    pub const ALL: [Level; 8] = [
        Level::Emergency,
        Level::Alert,
        Level::Critical,
        Level::Error,
        Level::Warning,
        Level::Notice,
        Level::Info,
        Level::Debug,
    ];

    /// The word for it in org.freedesktop.LogControl1(5).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Emergency => "emerg",
            Level::Alert => "alert",
            Level::Critical => "crit",
            Level::Error => "err",
            Level::Warning => "warning",
            Level::Notice => "notice",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }

    /// The level with this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.as_str() == word)
    }

    /// The level with this number of syslog(3).
    #[must_use]
    pub fn from_number(number: i64) -> Option<Level> {
        let index = usize::try_from(number).ok()?;
        Level::ALL.get(index).copied()
    }

    /// The same for EnvFilter. The bus library's own messages are of use to
    /// whoever works on it, and are asked for by IPFLOATER_LOG.
    pub(super) fn directives(self) -> &'static str {
        match self {
            Level::Emergency | Level::Alert | Level::Critical => "off",
            Level::Error => "error",
            Level::Warning => "warn",
            Level::Notice => "warn,ipfloater::audit=info",
            Level::Info => "info,zbus=warn",
            Level::Debug => "debug,zbus=warn",
        }
    }
}

/// What comes nearest to a filter by modules.
impl From<LevelFilter> for Level {
    fn from(filter: LevelFilter) -> Self {
        match filter {
            LevelFilter::OFF => Level::Emergency,
            LevelFilter::ERROR => Level::Error,
            LevelFilter::WARN => Level::Warning,
            LevelFilter::INFO => Level::Info,
            LevelFilter::DEBUG | LevelFilter::TRACE => Level::Debug,
        }
    }
}

/// Where the log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To journald, with fields.
    Journal,
    /// To stderr, a line each.
    Console,
}

impl Target {
    /// The word for it in org.freedesktop.LogControl1(5).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Target::Journal => "journal",
            Target::Console => "console",
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::EnvFilter;

    use super::*;

    #[test]
    fn words_and_numbers_are_those_of_syslog() {
        for (number, level) in (0..).zip(Level::ALL) {
            assert_eq!(Level::from_number(number), Some(level));
            assert_eq!(Level::from_word(level.as_str()), Some(level));
        }
        for wrong in [-1, 8, i64::MAX] {
            assert_eq!(Level::from_number(wrong), None);
        }
        for wrong in ["", "Debug", "warn", "error", "trace", "7", "debug "] {
            assert_eq!(Level::from_word(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn every_level_is_a_filter_that_means_the_same() {
        for level in Level::ALL {
            let filter = EnvFilter::try_new(level.directives()).expect("a filter");
            let nearest = Level::from(filter.max_level_hint().expect("no spans are filtered"));
            let same = match level {
                Level::Emergency | Level::Alert | Level::Critical => Level::Emergency,
                // The changes are logged with tracing's `info`.
                Level::Notice => Level::Info,
                Level::Error | Level::Warning | Level::Info | Level::Debug => level,
            };
            assert_eq!(nearest, same);
        }
    }
}
