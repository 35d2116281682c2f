//! `-H`: the same command line on another router, over ssh(1).
//!
//! All of it happens there: the far `ipfloater` asks its own daemon as the user
//! that ssh logs in, with that user's rights, and looks at its own router; its
//! prompts appear here. Nothing but the package is needed there.
#![allow(
    clippy::disallowed_types,
    reason = "the command line may start programs; the daemon may not"
)]

use std::ffi::OsString;
use std::io::{IsTerminal, stderr, stdin, stdout};
use std::process::{Command, Stdio};

use super::{Common, Exit, Failure};
use crate::text::shell_word;

/// What ssh(1) ends with when it did not get there.
const NOT_THERE: i32 = 255;

/// What a shell ends with when there is no such program, and when it cannot be
/// run (POSIX, Shell Command Language, 2.8.2).
const NO_PROGRAM: [i32; 2] = [126, 127];

/// Has the far side do what these arguments say, the name of the program first.
pub(super) fn elsewhere(
    host: &str,
    common: &Common,
    arguments: &[OsString],
) -> Result<Exit, Failure> {
    if host.is_empty() || host.starts_with('-') {
        return Err(Failure::NoHost(host.to_owned()));
    }
    let words = arguments.iter().skip(1).map(|argument| {
        let word = argument.to_str().map(shell_word);
        word.ok_or_else(|| Failure::NotText(argument.clone()))
    });
    let words = words.collect::<Result<Vec<_>, _>>()?;
    let color = match std::env::var("NO_COLOR") {
        Ok(value) if !value.is_empty() => "NO_COLOR=1 ",
        Ok(_) | Err(_) => "",
    };
    // It finds -H among its arguments once more, and is told that it is there.
    let command = format!("env {color}ipfloater --here {}", words.join(" "));

    let mut ssh = Command::new("ssh");
    ssh.args(["-x", "-a", "-e", "none"]);
    // A terminal there is for tables, colours and prompts. With one, errors come
    // with the output, so that there is none as long as one of them goes elsewhere.
    let on_terminal = stdin().is_terminal() && stdout().is_terminal() && stderr().is_terminal();
    // Without the line at the end of a session, and with the alarm at its beginning
    // (ssh_config(5), LogLevel).
    match on_terminal {
        true => ssh.args(["-t", "-o", "LogLevel=ERROR"]),
        false => ssh.arg("-T"),
    };
    // No verb reads what a loop in a shell still wants to read itself.
    if !stdin().is_terminal() {
        ssh.stdin(Stdio::null());
    }
    if common.no_ask_password {
        ssh.args(["-o", "BatchMode=yes"]);
    }
    let status = ssh.args(["--", host, &command]).status();
    let status = status.map_err(Failure::NoSsh)?;
    match status.code() {
        Some(NOT_THERE) | None => Err(Failure::NotThere(host.to_owned())),
        Some(code) if NO_PROGRAM.contains(&code) => Err(Failure::NotInstalled(host.to_owned())),
        Some(code) => Ok(Exit::from_code(code)),
    }
}
