//! One record: what a tracing event says, with nothing raw in it.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use crate::text::is_harmful;

/// How long a value may be, in bytes. With the dozen fields of a record it stays
/// far below what one datagram carries (212,992 bytes by default).
const VALUE: usize = 4_096;

/// The module whose records are about what somebody asked for.
const AUDIT: &str = "ipfloater::audit";

/// A tracing event, read out.
#[derive(Debug)]
pub(super) struct Record {
    /// Its importance, as syslog(3) counts.
    pub(super) priority: u8,
    /// What happened, in words.
    pub(super) message: String,
    /// The kind of record, for `journalctl MESSAGE_ID=`.
    pub(super) message_id: Option<String>,
    /// What it is about.
    pub(super) fields: Vec<(&'static str, String)>,
    /// Whether the fields have public names: not those of other crates.
    pub(super) is_ours: bool,
    /// Whether the message says by itself what is in the fields.
    pub(super) is_audit: bool,
}

impl Record {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let target = metadata.target();
        let is_audit = target == AUDIT;
        let mut record = Record {
            priority: priority(*metadata.level(), is_audit),
            message: String::new(),
            message_id: None,
            fields: Vec::new(),
            is_ours: target == "ipfloater" || target.starts_with("ipfloater"),
            is_audit,
        };
        event.record(&mut record);
        record
    }

    /// How much room it takes, in bytes, near enough.
    pub(super) fn size(&self) -> usize {
        let fields = self.fields.iter().map(|(_, value)| value.len());
        size_of::<Self>() + self.message.len() + fields.sum::<usize>()
    }

    /// The message with the fields behind it, as one line.
    pub(super) fn line(&self) -> String {
        let mut line = self.message.clone();
        for (name, value) in &self.fields {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(name);
            line.push('=');
            let ambiguous = |c: char| c.is_whitespace() || c == '"' || c == '=';
            if value.is_empty() || value.contains(ambiguous) {
                write!(line, "{value:?}").expect("a String takes everything");
            } else {
                line.push_str(value);
            }
        }
        line
    }

    fn take(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let mut clean = Clean::default();
        // It fails when the rest is cut off.
        let _ = clean.write_fmt(value);
        match field.name() {
            "message" => self.message = clean.0,
            "message_id" => self.message_id = Some(clean.0),
            name => self.fields.push((name, clean.0)),
        }
    }
}

impl Visit for Record {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format_args!("{value:?}"));
    }
}

/// Records of the same importance for tracing are told apart by what they are
/// about: what was asked for is worth more than what the daemon does.
fn priority(level: Level, is_audit: bool) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO if is_audit => 5,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// Takes text, and keeps it short and harmless.
#[derive(Default)]
struct Clean(String);

impl Write for Clean {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.0.len() >= VALUE {
                self.0.push('…');
                return Err(fmt::Error);
            }
            if is_harmful(c) {
                self.0.extend(c.escape_default());
            } else {
                self.0.push(c);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::subscriber::with_default;
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt};

    use super::*;

    struct Keep(Arc<Mutex<Vec<Record>>>);

    impl<S: tracing::Subscriber> Layer<S> for Keep {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().unwrap().push(Record::of(event));
        }
    }

    /// The records of what is logged meanwhile.
    pub(crate) fn records(work: impl FnOnce()) -> Vec<Record> {
        let kept = Arc::default();
        let subscriber = tracing_subscriber::registry().with(Keep(Arc::clone(&kept)));
        with_default(subscriber, work);
        let mut kept = kept.lock().unwrap();
        std::mem::take(&mut *kept)
    }

    #[test]
    fn what_would_move_a_cursor_end_a_line_or_forge_a_field_is_written_out() {
        let hostile = "a\nPRIORITY=0\r\u{1b}[2J\u{9b}1m\u{202e}b\0\u{7f}";
        let records = records(|| {
            tracing::info!(plain = hostile, shown = %hostile, debug = ?hostile, "{hostile}");
        });
        let clean = r"a\nPRIORITY=0\r\u{1b}[2J\u{9b}1m\u{202e}b\u{0}\u{7f}";
        let [record] = &records[..] else {
            panic!("{records:?}")
        };
        assert_eq!(record.message, clean);
        assert_eq!(record.fields[0], ("plain", clean.to_owned()));
        assert_eq!(record.fields[1], ("shown", clean.to_owned()));
        assert!(!record.line().contains(is_harmful), "{}", record.line());
    }

    #[test]
    fn a_value_cannot_pass_itself_off_as_another_field() {
        let records = records(|| {
            tracing::info!(
                error = "no such file",
                name = "x uid=0",
                empty = "",
                uid = 7,
                gone = None::<u32>,
                "no"
            );
        });
        assert_eq!(
            records[0].line(),
            r#"no error="no such file" name="x uid=0" empty="" uid=7"#
        );
    }

    #[test]
    fn a_long_value_is_cut() {
        let long = "\u{1b}ä".repeat(100_000);
        let records = records(|| tracing::warn!(name = long, "{long}"));
        for text in [&records[0].message, &records[0].fields[0].1] {
            assert!((VALUE..VALUE + 16).contains(&text.len()), "{}", text.len());
            assert!(text.ends_with('…'));
        }
    }
}
