//! Ends: when an allocation or an association is over by itself.

use std::fmt;
use std::str::FromStr;

use super::Timestamp;

/// What can have an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lease {
    /// That somebody owns an address: it is released at the end.
    Allocation,
    /// That a host has it: it is untied at the end, and stays allocated.
    Association,
}

impl Lease {
    /// The word that the store and the log use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Lease::Allocation => "allocation",
            Lease::Association => "association",
        }
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The word is none that a [`Lease`] has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is allocation or association")]
pub struct LeaseError;

impl FromStr for Lease {
    type Err = LeaseError;
    fn from_str(text: &str) -> Result<Self, LeaseError> {
        let leases = [Lease::Allocation, Lease::Association];
        let found = leases.into_iter().find(|lease| lease.as_str() == text);
        found.ok_or(LeaseError)
    }
}

impl Timestamp {
    /// The moment so many seconds later.
    #[must_use]
    pub fn later_by(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}

/// A moment as people read it, in UTC: `2026-11-23 05:29:42Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, rest) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        let (year, month, day) = date(days);
        let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

/// Year, month and day of the days since 1970-01-01, in the Gregorian calendar.
/// Years are counted from March, so that the leap day is the last one; 400 of
/// them have 146,097 days, and day 0 is 719,468 days after 0000-03-01.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_399, "2000-02-28 23:59:59Z"),
            (951_782_400, "2000-02-29 00:00:00Z"),
            (951_868_800, "2000-03-01 00:00:00Z"),
            (1_795_411_782, "2026-11-23 05:29:42Z"),
            (4_107_542_400, "2100-03-01 00:00:00Z"),
            (-1, "1969-12-31 23:59:59Z"),
        ] {
            assert_eq!(Timestamp(seconds).to_string(), text);
        }
    }
}
