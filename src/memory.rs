//! Giving memory back to the system.
//!
//! A look at a hundred thousand addresses takes tens of megabytes for a moment.
//! The allocator keeps what is freed below what is not, for ever; the daemon
//! would stay as large as it was once.

/// Gives back what is free (malloc_trim(3), of the GNU C library; elsewhere
/// nothing). Takes a few milliseconds: for after something large.
#[allow(unsafe_code)]
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time, from any thread.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
