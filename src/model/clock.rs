//! How the wall clock stood.

/// How the wall clock stood during a run of the system: with it a clock that was
/// set is told from time that has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockAnchor {
    /// Which run: `/proc/sys/kernel/random/boot_id` (random(4)).
    pub boot: String,
    /// By how many seconds the wall clock was ahead of the uptime.
    pub ahead: i64,
}
