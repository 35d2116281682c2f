//! Where answers go: lines and tables for people, JSON for programs.

use std::io::{self, IsTerminal, Write};

use comfy_table::{
    Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, TableStyle, Width,
};
use serde_json::Value;

use super::text::{harmless, harmless_json, user};
use crate::wire::Address;

/// How wide a line is under the original's headings.
const RULE: usize = 40;

/// What stands between a floating IP and its host.
const ARROW: &str = " -> ";

/// How far columns stand apart.
const GAP: u16 = 2;

/// What the further lines of a row begin with.
const INDENT: &str = "    ";

/// The columns of numbers, which stand to the right.
const NUMBERS: [&str; 14] = [
    "IN",
    "OUT",
    "AGE",
    "BIT/S IN",
    "BIT/S OUT",
    "PACKETS/S IN",
    "PACKETS/S OUT",
    "PACKETS IN",
    "BYTES IN",
    "PACKETS OUT",
    "BYTES OUT",
    "SIZE",
    "ALLOCATED",
    "ASSOCIATED",
];

/// Where answers go.
pub(super) struct Output<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    /// Whether answers are printed as they came.
    pub(super) json: bool,
    /// Whether there are headings.
    pub(super) legend: bool,
    /// Whether somebody sits at a terminal and sees what goes on.
    pub(super) is_watched: bool,
}

impl<'a> Output<'a> {
    pub(super) fn new(
        out: &'a mut dyn Write,
        err: &'a mut dyn Write,
        json: bool,
        legend: bool,
    ) -> Self {
        Self {
            out,
            err,
            json,
            legend,
            is_watched: false,
        }
    }

    /// A line of text, made harmless.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", harmless(text))
    }

    /// Items on a line with commas between them, which a terminal breaks behind one.
    pub(super) fn items(&mut self, items: &[impl AsRef<str>]) -> io::Result<()> {
        let items = items
            .iter()
            .map(|item| harmless(item.as_ref()).into_owned());
        for line in filled(
            with_commas(items),
            "",
            terminal().map_or(usize::MAX, usize::from),
        ) {
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }

    /// A line of JSON.
    pub(super) fn json(&mut self, value: &Value) -> io::Result<()> {
        writeln!(self.out, "{}", harmless_json(&value.to_string()))
    }

    /// A script of our own making, as it is.
    pub(super) fn script(&mut self, script: &[u8]) -> io::Result<()> {
        self.out.write_all(script)
    }

    /// A line that is no part of the answer, where errors go.
    pub(super) fn remark(&mut self, text: &str) -> io::Result<()> {
        self.out.flush()?;
        writeln!(self.err, "{}", harmless(text))
    }

    /// Tells somebody who waits what for.
    pub(super) fn progress(&mut self, text: &str) {
        if self.is_watched {
            // Who cannot be told waits all the same.
            let _ = self.remark(text);
        }
    }

    /// A sentence, with an indent, which a terminal breaks between words.
    pub(super) fn sentence(&mut self, indent: &str, text: &str) -> io::Result<()> {
        let columns = terminal().map_or(usize::MAX, usize::from);
        let words = harmless(text).split(' ').map(str::to_owned).collect();
        for line in filled(words, indent, columns) {
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }

    /// Begins a view anew, where it is a terminal that is written to.
    pub(super) fn clear_screen(&mut self) -> io::Result<()> {
        if io::stdout().is_terminal() && obeys() {
            // Home, and erase what follows (ECMA-48 8.3.21 and 8.3.39).
            self.out.write_all(b"\x1b[H\x1b[2J")?;
        }
        Ok(())
    }

    /// One of the original's headings.
    pub(super) fn heading(&mut self, text: &str) -> io::Result<()> {
        if !self.legend {
            return Ok(());
        }
        self.line(text)?;
        self.line(&"-".repeat(RULE))
    }

    /// Columns. The first `whole` are not wrapped, unless behind an arrow, because
    /// an address in two pieces cannot be copied; those after them make room on a
    /// narrow terminal, between words. On one that is too narrow for that, each row
    /// takes some lines.
    pub(super) fn table<const N: usize>(
        &mut self,
        headings: [&str; N],
        whole: usize,
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> io::Result<()> {
        let rows: Vec<[String; N]> = rows
            .into_iter()
            .map(|row| row.map(|text| harmless(&text).into_owned()))
            .collect();
        let least: [u16; N] = std::array::from_fn(|place| {
            let texts = rows.iter().map(|row| row[place].as_str());
            let texts = texts.chain(self.legend.then_some(headings[place]));
            let width = texts.map(|text| match longest_end(text) {
                _ if place >= whole => text.split(' ').map(width).max().unwrap_or_default(),
                0 => width(text),
                end => end,
            });
            width.max().unwrap_or_default()
        });
        let mut table = Table::new();
        table
            .load_style(TableStyle::new())
            .set_content_arrangement(ContentArrangement::Dynamic);
        let gaps = least.iter().skip(1).map(|_| usize::from(GAP));
        let needed = least.iter().map(|width| usize::from(*width)).chain(gaps);
        let needed: usize = needed.sum();
        if let Some(columns) = terminal().filter(|columns| needed > usize::from(*columns)) {
            return self.records(&headings, &rows, columns);
        }
        if self.legend {
            table.set_header(headings.iter().map(|heading| aligned(heading, heading)));
        }
        // https://no-color.org. Whether it is a terminal the table itself looks.
        let plain = !obeys() || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        for row in &rows {
            table.add_row(row.iter().zip(headings).map(|(text, heading)| {
                let cell = aligned(heading, text);
                match color(text).filter(|_| heading == "STATE" && !plain) {
                    Some(color) => cell.fg(color),
                    None => cell,
                }
            }));
        }
        // What stands behind the whole columns makes room first.
        let unbroken = self.unbroken(&headings, &rows, &least, whole);
        let fits = terminal().is_none_or(|columns| unbroken <= usize::from(columns));
        for (place, column) in table.column_iter_mut().enumerate() {
            let gap = if place + 1 == N { 0 } else { GAP };
            column.set_padding((0, gap));
            let arrow = !fits && rows.iter().any(|row| longest_end(&row[place]) > 0);
            let wraps = place >= whole || arrow;
            column.set_constraint(match wraps {
                true => ColumnConstraint::LowerBoundary(Width::Fixed(least[place] + gap)),
                false => ColumnConstraint::ContentWidth,
            });
        }
        if self.legend || !table.is_empty() {
            writeln!(self.out, "{}", table.trim_fmt())?;
        }
        Ok(())
    }

    /// How wide the table is when no line of its whole columns is broken.
    fn unbroken<const N: usize>(
        &self,
        headings: &[&str; N],
        rows: &[[String; N]],
        least: &[u16; N],
        whole: usize,
    ) -> usize {
        let widths = (0..N).map(|place| {
            if place >= whole {
                return usize::from(least[place]);
            }
            let texts = rows.iter().map(|row| row[place].as_str());
            let texts = texts.chain(self.legend.then_some(headings[place]));
            texts
                .map(|text| usize::from(width(text)))
                .max()
                .unwrap_or(0)
        });
        widths.sum::<usize>() + N.saturating_sub(1) * usize::from(GAP)
    }

    /// The first column of each row on a line, and below it what the others say.
    fn records<const N: usize>(
        &mut self,
        headings: &[&str; N],
        rows: &[[String; N]],
        columns: u16,
    ) -> io::Result<()> {
        for row in rows {
            let (first, others) = row.split_first().expect("a table has columns");
            match first.split_once(ARROW) {
                Some((from, to)) if width(first) > columns => {
                    writeln!(self.out, "{from}{}\n{to}", ARROW.trim_end())?;
                }
                Some(_) | None => writeln!(self.out, "{first}")?,
            }
            let said = headings[1..].iter().zip(others);
            let said = said.filter(|(_, text)| !text.is_empty() && *text != "-");
            let said = said.map(|(heading, text)| format!("{} {text}", heading.to_lowercase()));
            for line in filled(with_commas(said), INDENT, columns.into()) {
                writeln!(self.out, "{line}")?;
            }
        }
        Ok(())
    }

    /// A table of addresses.
    pub(super) fn addresses(&mut self, addresses: &[Address]) -> io::Result<()> {
        let row = |address: &Address| {
            let fixed = match (address.fixed_address, address.forwards.len()) {
                (fixed, 0) => or_dash(fixed),
                (None, 1) => "1 forward".to_owned(),
                (None, several) => format!("{several} forwards"),
                (Some(fixed), several) => format!("{fixed} +{several}"),
            };
            [
                address.floating_ip.to_string(),
                fixed,
                state(address),
                or_dash(address.pool.as_ref()),
                address.owner.map_or_else(dash, user),
            ]
        };
        let headings = ["FLOATING IP", "FIXED ADDRESS", "STATE", "POOL", "OWNER"];
        if addresses.iter().all(|address| address.label.is_none()) {
            return self.table(headings, 5, addresses.iter().map(row));
        }
        let [floating, fixed, state, pool, owner] = headings;
        let rows = addresses.iter().map(|address| {
            let [floating, fixed, state, pool, owner] = row(address);
            let label = or_dash(address.label.as_ref());
            [floating, fixed, state, pool, owner, label]
        });
        self.table([floating, fixed, state, pool, owner, "LABEL"], 6, rows)
    }

    /// What was written is seen now.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Each with a comma but the last.
fn with_commas(items: impl Iterator<Item = String>) -> Vec<String> {
    let mut items: Vec<_> = items.map(|item| item + ",").collect();
    if let Some(last) = items.last_mut() {
        last.pop();
    }
    items
}

/// Lines of so many columns with as many pieces as fit; a piece that is longer
/// than a line is broken between words.
fn filled(pieces: Vec<String>, indent: &str, columns: usize) -> Vec<String> {
    let long = |text: &str| text.chars().count();
    let mut lines: Vec<String> = Vec::new();
    let mut used: usize = 0;
    for piece in pieces {
        let words: Vec<_> = match indent.len() + long(&piece) > columns {
            true => piece.split(' ').collect(),
            false => vec![piece.as_str()],
        };
        for word in words {
            let with_it = used.saturating_add(1 + long(word));
            match lines.last_mut() {
                Some(line) if with_it <= columns => {
                    *line += " ";
                    *line += word;
                    used = with_it;
                }
                Some(_) | None => {
                    lines.push(format!("{indent}{word}"));
                    used = indent.len() + long(word);
                }
            }
        }
    }
    lines
}

/// How many columns the terminal has, if it is one that is written to. A serial
/// console says 0, and does not know.
fn terminal() -> Option<u16> {
    Table::new().width().filter(|columns| *columns > 0)
}

/// How many lines it has.
pub(super) fn lines() -> Option<usize> {
    let size = terminal_size::terminal_size_of(io::stdout())?;
    Some(usize::from(size.1.0)).filter(|lines| *lines > 0)
}

/// Whether the terminal obeys more than the end of a line (term(7)).
fn obeys() -> bool {
    std::env::var_os("TERM").is_some_and(|name| !name.is_empty() && name != "dumb")
}

/// A cell of the column with this heading.
fn aligned(heading: &str, text: &str) -> Cell {
    let cell = Cell::new(text);
    if NUMBERS.contains(&heading) {
        cell.set_alignment(CellAlignment::Right)
    } else {
        cell
    }
}

/// How many columns of a terminal a text takes. Names, addresses and numbers are
/// ASCII; what else may be in a reason takes one each, or a line is broken early.
fn width(text: &str) -> u16 {
    u16::try_from(text.chars().count()).unwrap_or(u16::MAX)
}

/// How wide the longer end of `A -> B` is, with the arrow: a line may end after it.
/// 0 for what has no arrow.
fn longest_end(text: &str) -> u16 {
    let Some((from, to)) = text.split_once(ARROW) else {
        return 0;
    };
    width(from)
        .saturating_add(width(ARROW.trim_end()))
        .max(width(to))
}

/// What a state is shown in.
fn color(state: &str) -> Option<Color> {
    match state.split(' ').next()? {
        // Those of every terminal, which its user has chosen to be read.
        "active" => Some(Color::DarkGreen),
        "pending" => Some(Color::DarkYellow),
        _ => None,
    }
}

/// The state of an address in a word or two.
pub(super) fn state(address: &Address) -> String {
    if address.orphaned {
        format!("{} (in no pool)", address.state)
    } else {
        address.state.clone()
    }
}

/// The size of a pool. The largest that an int of the interface holds stands for
/// more, as a pool of IPv6 has.
pub(super) fn size(addresses: u64) -> String {
    if addresses >= i64::MAX as u64 {
        "countless".to_owned()
    } else {
        addresses.to_string()
    }
}

/// What there is, or a dash.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(dash, |value| value.to_string())
}

fn dash() -> String {
    "-".to_owned()
}
