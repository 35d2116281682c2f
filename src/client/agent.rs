//! The agent that asks for a password on the terminal: pkttyagent(1), which
//! comes with polkit.
#![allow(
    clippy::disallowed_types,
    reason = "the command line may start programs; the daemon may not"
)]

use std::io::{IsTerminal, Read, pipe, stdin};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

/// An agent that asks on behalf of this process, for as long as the value lives.
#[derive(Debug)]
pub(super) struct Agent(Child);

impl Agent {
    /// Starts one, when there is a terminal to ask on and a program that asks.
    /// polkit knows it when this returns.
    pub(super) fn start() -> Option<Self> {
        // Root is not asked. Whoever has no terminal cannot answer; that is
        // about input, so it is standard input that counts.
        if geteuid().is_root() || !stdin().is_terminal() {
            return None;
        }
        let (mut registered, tell) = pipe().ok()?;
        // It closes the descriptor once polkit knows it. As standard input the
        // descriptor needs no handing over; the password comes from /dev/tty.
        let mut command = Command::new("pkttyagent");
        command
            .args(["--process", &std::process::id().to_string()])
            .args(["--notify-fd", "0", "--fallback"])
            .stdin(Stdio::from(tell));
        let child = ends_with_us(&mut command).spawn().ok()?;
        // It holds our end of the pipe, too.
        drop(command);
        let mut agent = Agent(child);
        // Nothing is written; it ends when the descriptor is closed, or the
        // agent has.
        let _ = registered.read(&mut [0]);
        let ended = agent.0.try_wait().is_ok_and(|status| status.is_some());
        (!ended).then_some(agent)
    }
}

/// Has a program end when this one does, however that ends: an agent that stays
/// would hold the terminal.
#[allow(unsafe_code)]
fn ends_with_us(command: &mut Command) -> &mut Command {
    // SAFETY: the child does one system call between fork and exec, prctl(2),
    // and allocates nothing.
    unsafe { command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGTERM)?)) }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It restores the terminal on SIGTERM.
        if let Ok(pid) = i32::try_from(self.0.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.0.wait();
    }
}
