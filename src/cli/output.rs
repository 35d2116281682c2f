//! Where answers go: lines and tables for people, JSON for programs.

use std::io::{self, IsTerminal, Write};

use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Table, TableStyle, Width};
use serde_json::Value;

use super::text::{harmless, harmless_json, user};
use crate::wire::Address;

/// How wide a line is under the original's headings.
const RULE: usize = 40;

/// What stands between a floating IP and its host.
const ARROW: &str = " -> ";

/// How narrow a column of words may become: an IPv4 address and an arrow.
const NARROWEST: u16 = 20;

/// Where answers go.
pub(super) struct Output<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    /// Whether answers are printed as they came.
    pub(super) json: bool,
    /// Whether there are headings.
    pub(super) legend: bool,
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
        }
    }

    /// A line of text, made harmless.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", harmless(text))
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

    /// Begins a view anew, where it is a terminal that is written to.
    pub(super) fn clear_screen(&mut self) -> io::Result<()> {
        if io::stdout().is_terminal() {
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
    /// narrow terminal.
    pub(super) fn table<const N: usize>(
        &mut self,
        headings: [&str; N],
        whole: usize,
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> io::Result<()> {
        let mut table = Table::new();
        table
            .load_style(TableStyle::new())
            .set_content_arrangement(ContentArrangement::Dynamic);
        if self.legend {
            table.set_header(headings);
        }
        // https://no-color.org. Whether it is a terminal the table itself looks.
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let mut arrows = [0; N];
        let state = headings
            .iter()
            .position(|heading| *heading == "STATE" && !plain);
        for row in rows {
            for (most, text) in arrows.iter_mut().zip(&row) {
                *most = longest_end(text).max(*most);
            }
            let cells = row.iter().enumerate().map(|(place, text)| {
                let cell = Cell::new(harmless(text));
                match color(text).filter(|_| Some(place) == state) {
                    Some(color) => cell.fg(color),
                    None => cell,
                }
            });
            table.add_row(cells);
        }
        for (place, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            column.set_constraint(match arrows[place] {
                _ if place >= whole => ColumnConstraint::LowerBoundary(Width::Fixed(NARROWEST)),
                0 => ColumnConstraint::ContentWidth,
                end => ColumnConstraint::LowerBoundary(Width::Fixed(end)),
            });
        }
        if self.legend || !table.is_empty() {
            writeln!(self.out, "{}", table.trim_fmt())?;
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

/// How wide the longer end of `A -> B` is, with the arrow: a line may end after it.
/// 0 for what has no arrow.
fn longest_end(text: &str) -> u16 {
    let Some((from, to)) = text.split_once(ARROW) else {
        return 0;
    };
    let width = (from.len() + ARROW.len()).max(to.len());
    // As much as an address with its port has, and the padding.
    u16::try_from(width).unwrap_or(u16::MAX).saturating_add(2)
}

/// What a state is shown in.
fn color(state: &str) -> Option<Color> {
    match state.split(' ').next()? {
        "active" => Some(Color::Green),
        "pending" => Some(Color::Yellow),
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
