//! The examples of the manual pages, typed where the package is installed.

use std::fmt::Write;

use super::documents::complaints;
use super::machine::Suite;
use super::package::Router;

/// The pages with commands. Those of ipfloater-remote(8) stand in the page on remote
/// access as well, and are typed there.
const PAGES: [&str; 3] = [
    include_str!("../../docs/man/ipfloater.1"),
    include_str!("../../docs/man/ipfloaterd.8"),
    include_str!("../../docs/man/org.ipfloater.5"),
];

/// What takes another host; tests/system/ssh.rs has it.
const ELSEWHERE: &str = "ipfloater -H ";

/// The examples of a page, as a block of a document. What starts a daemon beside it
/// is one command, for it ends with the shell.
fn examples(page: &str) -> String {
    let (_, examples) = page.split_once(".Sh EXAMPLES\n").expect("it has some");
    let (examples, _) = examples.split_once(".Sh ").expect("others follow");
    let examples = examples.replace("\\en", "\\n").replace("\\e\n", "\\\n");
    let mut block = "```console\n".to_owned();
    let (mut beside, mut goes_on) = (false, false);
    for line in examples.lines() {
        let line = line.strip_prefix(".Dl ").unwrap_or(line);
        let prompts = [("# ", "router#"), ("$ ", "alice$")];
        let mut typed = prompts
            .iter()
            .filter_map(|(mark, prompt)| Some((*prompt, line.strip_prefix(mark)?)));
        match typed.next() {
            Some((_, command)) if command.starts_with(ELSEWHERE) => continue,
            Some((_, command)) if beside => writeln!(block, "> {command}"),
            Some((prompt, command)) => writeln!(block, "{prompt} {command}"),
            None if goes_on => writeln!(block, "> {line}"),
            None => {
                beside &= !line.starts_with('.');
                continue;
            }
        }
        .expect("text can be written to");
        goes_on = line.ends_with('\\');
        if line.ends_with(" &") {
            beside = true;
            // It would hold the terminal for ever.
            block += "> sleep 2; trap 'kill $!' EXIT\n";
        }
    }
    block + "```\n"
}

#[test]
fn the_examples_of_the_manual_pages_do_what_they_say() {
    let router = Router::new(Suite::Trixie);
    let mut all = Vec::new();
    for page in PAGES {
        let block = examples(page);
        assert!(block.lines().count() > 5, "{block}");
        all.extend(complaints(&router, &block));
    }
    assert!(all.is_empty(), "{}", all.join("\n\n"));

    // That of the configuration is taken: the interface is waited for.
    let page = include_str!("../../docs/man/ipfloaterd.conf.5");
    let (_, example) = page.split_once(".Sh EXAMPLES\n").expect("it has one");
    let (_, example) = example.split_once("indent\n").expect("it begins");
    let (example, _) = example.split_once(".Ed").expect("it ends");
    router.write("/srv/example.conf", example);
    let said = router.run("ipfloaterd --check-config --config /srv/example.conf 2>&1");
    assert!(said.contains("pool dmz: 14 addresses"), "{said}");
}
