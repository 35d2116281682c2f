//! On what terms a change is asked for: what every verb that alters something
//! has in common.

/// On what terms a change is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Whether to tell what would happen, and to do nothing.
    pub dry_run: bool,
    /// In how many seconds what is allocated or associated is over by itself: 0
    /// is never, `None` as it is.
    pub expires_in: Option<u32>,
}

/// The longest that may be asked for: ten years of 365 days.
pub const LONGEST: u32 = 10 * 365 * 86_400;

/// One thing that a change would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// To what.
    pub kind: EffectKind,
    /// What, in a line.
    pub text: String,
}

/// What a change does something to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EffectKind {
    /// The store: an event that would be committed.
    Store,
    /// The table in the kernel: an order to nft(8).
    Kernel,
    /// An address that the router answers for, or does not any more.
    Address,
    /// Flows that conntrack holds, which would end.
    Flows,
}

impl EffectKind {
    /// The word that all fronts use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            EffectKind::Store => "store",
            EffectKind::Kernel => "kernel",
            EffectKind::Address => "address",
            EffectKind::Flows => "flows",
        }
    }
}
