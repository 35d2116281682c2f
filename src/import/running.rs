//! Whether the original still runs on this router.

use std::path::Path;

/// What its program is called.
const PROGRAM: &str = "ipfloaterdaemon";

/// The process that it is, in this network namespace.
pub(super) fn original() -> Option<u32> {
    let here = std::fs::read_link("/proc/thread-self/ns/net").ok()?;
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    // Who ends meanwhile has no files any more, and is not it.
    processes.into_iter().find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let arguments = std::fs::read(process.path().join("cmdline")).ok()?;
        let is_here = std::fs::read_link(process.path().join("ns/net")).is_ok_and(|at| at == here);
        (is_it(&arguments) && is_here).then_some(pid)
    })
}

/// Whether a process with these arguments, each with a NUL behind it, is the
/// original: the program itself, or a Python that runs it.
fn is_it(arguments: &[u8]) -> bool {
    let mut arguments = arguments
        .split(|byte| *byte == 0)
        .map(|argument| std::str::from_utf8(argument).unwrap_or_default());
    let first = arguments.next().unwrap_or_default();
    if is_program(first) {
        return true;
    }
    let is_python = name(first).is_some_and(|name| name.starts_with("python"));
    // Of the options of python(1) these two take another argument.
    while let Some(argument) = arguments.next().filter(|_| is_python) {
        match argument {
            "-W" | "-X" => drop(arguments.next()),
            // A module, or a program in the line.
            "-c" | "-m" => return false,
            option if option.starts_with('-') => {}
            program => return is_program(program),
        }
    }
    false
}

fn is_program(argument: &str) -> bool {
    name(argument).is_some_and(|name| name.strip_suffix(".py").unwrap_or(name) == PROGRAM)
}

fn name(argument: &str) -> Option<&str> {
    Path::new(argument).file_name()?.to_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_original_is_known_by_its_program() {
        for (arguments, expected) in [
            ("python\0/usr/local/bin/ipfloaterdaemon\0", true),
            ("/usr/bin/python2.7\0./ipfloaterdaemon\0--db\0x\0", true),
            ("/usr/local/bin/ipfloaterdaemon\0", true),
            ("python3\0-u\0/usr/local/bin/ipfloaterdaemon\0", true),
            ("python\0-O\0-W\0ignore\0./ipfloaterdaemon.py\0", true),
            ("python3\0-m\0ipfloaterdaemon\0", false),
            ("python3\0-u\0other.py\0ipfloaterdaemon\0", false),
            ("/usr/sbin/ipfloaterd\0", false),
            ("vim\0/usr/local/bin/ipfloaterdaemon\0", false),
            ("pkill\0-KILL\0-f\0ipfloaterdaemon\0", false),
            ("python\0", false),
            ("", false),
        ] {
            assert_eq!(is_it(arguments.as_bytes()), expected, "{arguments:?}");
        }
        assert!(!is_it(b"\xff\0\xff"));
    }
}
