//! Numbers as text for Prometheus, in its two formats.
//!
//! [`Format::OpenMetrics`] is the standard (version 1.0.0). In
//! [`Format::Prometheus`], the older text format (version 0.0.4), the type and the
//! help of a counter belong to the name with `_total`. A reader of the older
//! format, as that of the node exporter's textfile collector is, takes the
//! standard's text as well, but loses both of every counter; of the standard's type
//! `info` it refuses the whole text (seen with node exporter 1.5.0), so there is none.

use std::fmt::{self, Display, Write};
use std::str::FromStr;

/// Which text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.0.
    #[default]
    OpenMetrics,
    /// The text format of Prometheus, 0.0.4.
    Prometheus,
}

impl Format {
    /// The word for it, on both buses and the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Format::OpenMetrics => "openmetrics",
            Format::Prometheus => "prometheus",
        }
    }

    /// The last line of a text that is complete.
    #[must_use]
    pub fn end(self) -> &'static str {
        match self {
            Format::OpenMetrics => "# EOF\n",
            Format::Prometheus => "",
        }
    }
}

/// A word that is no format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is openmetrics or prometheus")]
pub struct NoFormat;

impl FromStr for Format {
    type Err = NoFormat;

    fn from_str(text: &str) -> Result<Self, NoFormat> {
        [Format::OpenMetrics, Format::Prometheus]
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or(NoFormat)
    }
}

/// What kind of number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It goes up, and begins at nothing when the daemon starts.
    Counter,
    /// How many were at most so large.
    Histogram,
}

/// How many were at most so large.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Of each of [`Histogram::BOUNDS`], and of all above; not yet summed up.
    counts: [u64; Histogram::BOUNDS.len() + 1],
    sum: f64,
}

impl Histogram {
    /// The upper bounds in seconds: a commit on a good disk takes about 1 ms, a look
    /// at a kernel with 100,000 addresses about 1 s.
    pub const BOUNDS: [f64; 14] = [
        0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
        30.0,
    ];

    /// Counts one in that took so many seconds.
    pub fn count(&mut self, seconds: f64) {
        let place = Self::BOUNDS.iter().position(|bound| seconds <= *bound);
        self.counts[place.unwrap_or(Self::BOUNDS.len())] += 1;
        self.sum += seconds;
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: [0; Self::BOUNDS.len() + 1],
            sum: 0.0,
        }
    }
}

/// A text that is being written.
#[derive(Debug)]
pub struct Exposition {
    format: Format,
    text: String,
    name: String,
    kind: Kind,
}

impl Exposition {
    /// One without any number.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self {
            format,
            text: String::new(),
            name: String::new(),
            kind: Kind::Gauge,
        }
    }

    /// Begins a family; what is told next belongs to it. A name that has a unit
    /// ends in it.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let (of_old, word) = match kind {
            Kind::Gauge => ("", "gauge"),
            Kind::Counter => ("_total", "counter"),
            Kind::Histogram => ("", "histogram"),
        };
        self.name = format!("ipfloater_{name}");
        self.kind = kind;
        let units = ["seconds", "bytes"];
        let unit = units.iter().find(|unit| name.ends_with(*unit));
        let known_as = match self.format {
            Format::OpenMetrics => self.name.clone(),
            Format::Prometheus => format!("{}{of_old}", self.name),
        };
        self.line(format_args!("# TYPE {known_as} {word}"));
        if let (Format::OpenMetrics, Some(unit)) = (self.format, unit) {
            self.line(format_args!("# UNIT {known_as} {unit}"));
        }
        self.line(format_args!("# HELP {known_as} {}", Escaped(help)));
    }

    /// One number of the family.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.tell(suffix, labels, value);
    }

    /// One histogram of the family.
    pub fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        let Histogram { counts, sum } = histogram;
        let mut below = 0;
        // As Debug has them, 1.0 is not 1: the standard wants it so.
        let bounds = Histogram::BOUNDS.iter().map(|bound| format!("{bound:?}"));
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(counts) {
            below += count;
            let labels = [labels, &[("le", &*bound)]].concat();
            self.tell("_bucket", &labels, below);
        }
        self.tell("_sum", labels, sum);
        self.tell("_count", labels, below);
    }

    /// What was written, without the line that ends it.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }

    fn tell(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let told = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", Escaped(value)));
        let told = told.collect::<Vec<_>>().join(",");
        let name = std::mem::take(&mut self.name);
        if told.is_empty() {
            self.line(format_args!("{name}{suffix} {value}"));
        } else {
            self.line(format_args!("{name}{suffix}{{{told}}} {value}"));
        }
        self.name = name;
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

/// A text inside a line: both formats escape these three.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            other => f.write_char(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything(format: Format) -> String {
        let mut text = Exposition::new(format);
        text.family("build_info", Kind::Gauge, "What runs.");
        text.sample(&[("version", "1.2.3")], 1);
        text.family("uptime_seconds", Kind::Gauge, "For how long.");
        text.sample(&[], 1.5);
        text.family("address_bytes", Kind::Counter, "How \\ much.");
        text.sample(&[("floating_ip", "a\"\\\nb"), ("direction", "in")], 7);
        text.into_text() + format.end()
    }

    #[test]
    fn the_standard_has_units_and_an_end_and_the_names_of_families() {
        assert_eq!(
            everything(Format::OpenMetrics),
            r#"# TYPE ipfloater_build_info gauge
# HELP ipfloater_build_info What runs.
ipfloater_build_info{version="1.2.3"} 1
# TYPE ipfloater_uptime_seconds gauge
# UNIT ipfloater_uptime_seconds seconds
# HELP ipfloater_uptime_seconds For how long.
ipfloater_uptime_seconds 1.5
# TYPE ipfloater_address_bytes counter
# UNIT ipfloater_address_bytes bytes
# HELP ipfloater_address_bytes How \\ much.
ipfloater_address_bytes_total{floating_ip="a\"\\\nb",direction="in"} 7
# EOF
"#
        );
    }

    #[test]
    fn the_older_text_has_the_names_of_samples_and_neither_unit_nor_end() {
        assert_eq!(
            everything(Format::Prometheus),
            r#"# TYPE ipfloater_build_info gauge
# HELP ipfloater_build_info What runs.
ipfloater_build_info{version="1.2.3"} 1
# TYPE ipfloater_uptime_seconds gauge
# HELP ipfloater_uptime_seconds For how long.
ipfloater_uptime_seconds 1.5
# TYPE ipfloater_address_bytes_total counter
# HELP ipfloater_address_bytes_total How \\ much.
ipfloater_address_bytes_total{floating_ip="a\"\\\nb",direction="in"} 7
"#
        );
    }

    #[test]
    fn a_bucket_has_what_is_at_most_so_large_and_all_below() {
        let mut histogram = Histogram::default();
        // On a bound is within it.
        for seconds in [0.001, 0.001_1, 2.0, 31.0] {
            histogram.count(seconds);
        }
        let mut text = Exposition::new(Format::OpenMetrics);
        text.family("wait_seconds", Kind::Histogram, "How long.");
        text.histogram(&[("operation", "cut")], &histogram);
        let text = text.into_text();
        let bucket = |bound, count| {
            let line = format!(
                "ipfloater_wait_seconds_bucket{{operation=\"cut\",le=\"{bound}\"}} {count}\n"
            );
            assert!(text.contains(&line), "{line}{text}");
        };
        bucket("0.0005", 0);
        bucket("0.001", 1);
        bucket("0.0025", 2);
        bucket("1.0", 2);
        bucket("5.0", 3);
        bucket("30.0", 3);
        bucket("+Inf", 4);
        assert!(text.ends_with(
            "ipfloater_wait_seconds_sum{operation=\"cut\"} 33.0021\n\
             ipfloater_wait_seconds_count{operation=\"cut\"} 4\n"
        ));
    }

    #[test]
    fn a_format_has_one_word() {
        for format in [Format::OpenMetrics, Format::Prometheus] {
            assert_eq!(format.as_str().parse(), Ok(format));
        }
        assert_eq!("OpenMetrics".parse::<Format>(), Err(NoFormat));
    }
}
