//! The pages of the manual, command by command, as a reader would do what they say.
//!
//! A block that is marked `console` has prompts, `router#` for root on the router,
//! `alice$` for a user there, `client#` and `web#` for the hosts around it; `>`
//! goes on with what was begun. What follows a command until the next is what it
//! prints: `...` stands for anything in a line, and alone for any lines. Nothing
//! there means that it does not matter. Every command has to succeed.

use std::fmt::Write;

use super::machine::{Machine, Suite};

/// A command, and what the page shows that it prints.
#[derive(Debug, Default)]
struct Step {
    host: String,
    command: String,
    shown: Vec<String>,
}

/// The commands of a page, in their order.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if let Some(mark) = line.strip_prefix("```") {
            inside = mark == "console";
            continue;
        }
        if !inside {
            continue;
        }
        let prompt = line.split_once(' ').filter(|(prompt, _)| {
            let name = prompt.strip_suffix(['#', '$']);
            name.is_some_and(|name| name.chars().all(char::is_alphanumeric) && !name.is_empty())
        });
        match (prompt, steps.last_mut()) {
            (Some((prompt, command)), _) => steps.push(Step {
                host: prompt.to_owned(),
                command: command.to_owned(),
                shown: Vec::new(),
            }),
            (None, Some(step)) if step.shown.is_empty() && line.starts_with('>') => {
                let more = line.strip_prefix("> ").unwrap_or(&line[1..]);
                let _ = write!(step.command, "\n{more}");
            }
            (None, Some(step)) => step.shown.push(line.trim_end().to_owned()),
            (None, None) => panic!("output before any command: {line}"),
        }
    }
    steps
}

/// Whether a line is as the page shows it.
fn is_like(line: &str, shown: &str) -> bool {
    let mut rest = line;
    let mut pieces = shown.split("...");
    let first = pieces.next().unwrap_or_default();
    let Some(after) = rest.strip_prefix(first) else {
        return false;
    };
    rest = after;
    let pieces: Vec<_> = pieces.collect();
    let Some((last, between)) = pieces.split_last() else {
        return rest.is_empty();
    };
    for piece in between {
        let Some(at) = rest.find(piece) else {
            return false;
        };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

/// Whether all lines are as the page shows them.
fn are_like(lines: &[&str], shown: &[String]) -> bool {
    match shown.split_first() {
        None => lines.is_empty(),
        Some((first, others)) if first == "..." => {
            (0..=lines.len()).any(|skipped| are_like(&lines[skipped..], others))
        }
        Some((first, others)) => match lines.split_first() {
            Some((line, rest)) => is_like(line, first) && are_like(rest, others),
            None => false,
        },
    }
}

/// What goes on until somebody interrupts it.
const ENDLESS: [&str; 4] = [
    "busctl monitor",
    "ipfloater monitor",
    "ipfloater top",
    "varlinkctl call --more",
];

/// Does what a page says. All commands of a host are typed into one shell. On a
/// system without varlinkctl (before systemd 255) those with it are passed over.
pub(super) fn follow(machine: &Machine, page: &str) {
    assert!(has_steps(page), "there is nothing to do");
    let complaints = complaints(machine, page);
    assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
}

/// Whether a page has anything to type.
pub(super) fn has_steps(page: &str) -> bool {
    !steps(page).is_empty()
}

/// Does what a page says, to its end, and returns what was not as it says.
pub(super) fn complaints(machine: &Machine, page: &str) -> Vec<String> {
    let steps = steps(page);
    let mut complaints = Vec::new();
    let varlinkctl = machine.suite() != Suite::Bookworm;
    for Step {
        host,
        command,
        shown,
    } in steps
    {
        if command.starts_with("varlinkctl") && !varlinkctl {
            continue;
        }
        let goes_on = ENDLESS.iter().any(|endless| command.starts_with(endless));
        let typed = match goes_on {
            true => format!("timeout 2 {command} || test $? = 124"),
            false => command.clone(),
        };
        machine.write("/run/step", &typed);
        let (name, kind) = host.split_at(host.len() - 1);
        // Where the last command left the shell.
        let shell = format!(
            "mkdir -p /run/steps; cd $(cat /run/steps/{name} 2>/dev/null || echo ~); \
             set -a; . /run/step; status=$?; pwd >/run/steps/{name}; exit $status"
        );
        machine.write("/run/shell", &shell);
        let line = match (name, kind) {
            ("router", _) => "bash /run/shell".to_owned(),
            (user, "$") => format!(
                "install -d -m 1777 /run/steps; chmod a+r /run/step /run/shell; runuser -l {user} -c 'bash /run/shell'"
            ),
            (host, _) => format!("ip netns exec {host} bash /run/shell"),
        };
        let output = machine.attempt(&format!("{line} 2>&1"));
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<_> = printed.lines().map(str::trim_end).collect();
        if !output.status.success() {
            let code = output.status.code();
            complaints.push(format!("{host} {command}\nends with {code:?}:\n{printed}"));
        } else if !shown.is_empty() && !are_like(&lines, &shown) {
            let shown = shown.join("\n");
            complaints.push(format!(
                "{host} {command}\nthe page shows:\n{shown}\nit prints:\n{printed}"
            ));
        }
    }
    complaints
}

#[test]
fn a_page_is_read_as_it_is_written() {
    let page = "text\n```console\nrouter# cat <<END\n> a\n>\n> END\na\n\nalice$ id\n...\nuid=... gid=...\n```\n    # more\n";
    let steps = steps(page);
    let commands: Vec<_> = steps
        .iter()
        .map(|step| (step.host.as_str(), step.command.as_str(), step.shown.len()))
        .collect();
    assert_eq!(
        commands,
        [("router#", "cat <<END\na\n\nEND", 2), ("alice$", "id", 2)]
    );
    for (line, shown, is) in [
        ("uid=7 gid=8", "uid=... gid=...", true),
        ("uid=7 gid=8", "uid=... gid=", false),
        ("uid=7 gid=8", "...", true),
        ("uid=7 gid=8", "uid=7 gid=8", true),
        ("uid=7 gid=88", "uid=7 gid=8", false),
        ("aXbYb", "a...b", true),
    ] {
        assert_eq!(is_like(line, shown), is, "{line} {shown}");
    }
    let shown = ["...".to_owned(), "b".to_owned(), "...".to_owned()];
    assert!(are_like(&["a", "b"], &shown));
    assert!(!are_like(&["a", "c"], &shown));
}
