//! What time it is: handed in, so that tests can set it.

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

use crate::model::Timestamp;

/// What time it is.
pub trait Clock: Send {
    /// The wall clock, which can be set.
    fn now(&self) -> Timestamp;

    /// How long the system has been up, times asleep included.
    fn uptime(&self) -> Duration;

    /// Which run of the system this is; empty where that cannot be told.
    fn boot(&self) -> String;
}

/// The clocks of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }

    fn uptime(&self) -> Duration {
        clock_gettime(ClockId::CLOCK_BOOTTIME)
            .expect("Linux has had this clock since 2.6.39")
            .into()
    }

    fn boot(&self) -> String {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        id.unwrap_or_default().trim().to_owned()
    }
}
