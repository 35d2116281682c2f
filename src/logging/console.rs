//! stderr: a line a record.

use std::io::{ErrorKind, IsTerminal, Write, stderr};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::outlet::{Offer, Sink};
use super::record::Record;

/// As much as a pipe takes at once or not at all (PIPE_BUF, pipe(7)).
const PIECE: usize = 4_096;

/// What stderr is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Console {
    /// A terminal.
    Terminal,
    /// The journal, which puts time and name to each line, and understands the
    /// prefixes of sd-daemon(3).
    Journal,
    /// A file, a pipe, or somebody else's socket.
    Plain,
}

impl Console {
    pub(super) fn of(is_journal: bool) -> Self {
        if is_journal {
            Console::Journal
        } else if stderr().is_terminal() {
            Console::Terminal
        } else {
            Console::Plain
        }
    }

    /// A record as a line, in pieces that go out without waiting.
    pub(super) fn pieces(self, record: &Record) -> Vec<Vec<u8>> {
        let line = self.line(record.priority, &record.line());
        line.as_bytes().chunks(PIECE).map(<[u8]>::to_vec).collect()
    }

    fn line(self, priority: u8, text: &str) -> String {
        let (word, colour) = match priority {
            ..=3 => ("ERROR", 31),
            4 => (" WARN", 33),
            5 | 6 => (" INFO", 32),
            7.. => ("DEBUG", 34),
        };
        match self {
            Console::Journal => format!("<{priority}>{text}\n"),
            Console::Plain => format!("{} {word} {text}\n", time()),
            Console::Terminal => {
                format!(
                    "\u{1b}[2m{}\u{1b}[0m \u{1b}[{colour}m{word}\u{1b}[0m {text}\n",
                    time()
                )
            }
        }
    }
}

/// The time in UTC, to the microsecond.
fn time() -> String {
    let mut time = String::new();
    // It fails for a clock that cannot be read; the line is worth more.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    time
}

impl Sink for Console {
    fn offer(&self, record: &[u8]) -> Offer {
        let mut stderr = stderr().lock();
        let mut room = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut room, PollTimeout::ZERO) {
            Ok(0) | Err(_) => return Offer::Later,
            Ok(_) => {}
        }
        match stderr.write_all(record) {
            Ok(()) => Offer::Taken,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Offer::Later,
            Err(_) => Offer::Never,
        }
    }

    fn gap(&self, lost: u64) -> Vec<u8> {
        let text = format!("{lost} lines of the log are missing here: nobody read them");
        self.line(4, &text).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::record::tests::records;

    #[test]
    fn a_line_says_when_how_bad_and_what() {
        let records = records(|| tracing::warn!(uid = 7, "stopped"));
        let text = |console: Console| String::from_utf8(console.pieces(&records[0]).concat());
        let plain = text(Console::Plain).unwrap();
        let (time, rest) = plain.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.len() == 27, "{time}");
        assert_eq!(rest, " WARN stopped uid=7\n");
        assert_eq!(text(Console::Journal).unwrap(), "<4>stopped uid=7\n");
        let colourful = text(Console::Terminal).unwrap();
        assert!(colourful.contains("\u{1b}[33m WARN\u{1b}[0m stopped"));
    }

    #[test]
    fn a_long_line_goes_out_in_pieces() {
        let records = records(|| tracing::warn!(name = "x".repeat(5_000), "stopped"));
        let pieces = Console::Journal.pieces(&records[0]);
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[0].len(), PIECE);
    }
}
