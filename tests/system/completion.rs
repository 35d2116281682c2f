//! The Tab key, in the shells that people have, with the addresses of the daemon.

use super::machine::Suite;
use super::package::Router;

/// `tab.py SHELL LINE`: types the line, in which `^` is Tab, into that shell on a
/// terminal of its own, and prints what the line printed when it was run.
const TYPIST: &str = r#"
import os, pty, re, select, sys, time

shell, line = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    os.environ.update(TERM="xterm", PS1="ready> ", HISTFILE="/dev/null", fish_greeting="")
    os.execvp(shell, {"bash": ["bash", "--norc", "-i"], "zsh": ["zsh", "-f", "-i"], "fish": ["fish", "-i"]}[shell])

heard = ""

def hear(until, patience=20):
    global heard
    end = time.time() + patience
    while not re.search(until, heard):
        if not select.select([terminal], [], [], max(0, end - time.time()))[0]:
            return
        text = os.read(terminal, 65536).decode(errors="replace")
        # fish asks a terminal what it is before it goes on.
        if "\x1b[c" in text or "\x1b[0c" in text:
            os.write(terminal, b"\x1b[?1;2c")
        if "\x1b[6n" in text:
            os.write(terminal, b"\x1b[1;1R")
        heard += text

def say(text):
    os.write(terminal, text.encode())

prepare = {
    "bash": "bind 'set bell-style none'; bind 'set enable-bracketed-paste off'; . /usr/share/bash-completion/bash_completion",
    "zsh": "unsetopt zle_bracketed_paste prompt_cr prompt_sp; autoload -Uz compinit; compinit -u -D",
    "fish": "function fish_prompt; echo 'ready> '; end; set -g fish_autosuggestion_enabled 0",
}[shell]
hear("[$#%>] ", 5)
say(prepare + "; echo prep''ared\n")
hear("prepared")
time.sleep(0.5)
for piece in re.split(r"(\^)", line):
    say("\t" if piece == "^" else piece)
    time.sleep(1.0 if piece == "^" else 0.1)
heard = ""
say("; echo 'do''ne:'$?\n" if shell != "fish" else "; echo do''ne:$status\n")
hear(r"done:\d")
print(heard)
"#;

fn completes(suite: Suite) {
    let router = Router::new(suite);
    router.write("/root/tab.py", TYPIST);
    router.run(
        "ipfloater associate 203.0.113.20 10.66.0.11; ipfloater associate 2001:db8::20 fd66::11; \
         ipfloater forward 203.0.113.21:53/udp 10.66.0.12; \
         ipfloater forward [2001:db8::21]:443 fd66::12",
    );
    for shell in ["bash", "zsh", "fish"] {
        for (typed, printed) in [
            ("ipfloater show 203^0", "Floating IP: 203.0.113.20"),
            ("ipfloater sho^ 2001:d^0", "Floating IP: 2001:db8::20"),
            ("ipfloater show fd^", "Floating IP: 2001:db8::20"),
            ("ipfloater allocate --dry-run --pool def^", "203.0.113.2"),
            (
                "ipfloater forward 203.0.113.21^8080 10.66.0.12 --dry-run",
                "8080/tcp",
            ),
            ("ipfloater unforward 203.0.113.21^ --dry-run", "53/udp"),
        ] {
            let said = router.run(&format!("python3 /root/tab.py {shell} \"{typed}\""));
            assert!(said.contains(printed), "{shell}: {typed}: {said}");
        }
    }
}

#[test]
fn on_trixie_tab_completes_what_the_daemon_has() {
    completes(Suite::Trixie);
}

#[test]
fn on_bookworm_tab_completes_what_the_daemon_has() {
    completes(Suite::Bookworm);
}
