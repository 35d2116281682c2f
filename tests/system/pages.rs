//! What the README and the pages of docs/ say is done, line by line.

use std::time::Instant;

use super::documents::{complaints, has_steps};
use super::machine::{Machine, Suite};
use super::package::{DEB, Router, bring_package, install, surround};

/// A page, what its reader has before, and what happens to him before a section.
struct Page {
    name: &'static str,
    text: &'static str,
    before: &'static str,
    between: &'static [(&'static str, &'static str)],
}

macro_rules! page {
    ($name:literal, $before:expr) => {
        page!($name, $before, &[])
    };
    ($name:literal, $before:expr, $between:expr) => {
        Page {
            name: $name,
            text: include_str!(concat!("../../", $name)),
            before: $before,
            between: $between,
        }
    };
}

/// The pages that one machine follows, one after the other.
const PAGES: &[Page] = &[
    page!("README.md", "rm -f /etc/ipfloaterd.conf"),
    page!("docs/first-session.md", "rm -f /etc/ipfloaterd.conf"),
    page!("docs/several-pools.md", IPV4_ALONE),
    page!("docs/users.md", NO_GROUP),
    page!("docs/docker-and-firewalld.md", WITH_WEB, FIREWALLS),
    page!("docs/troubleshooting.md", WITH_WEB, BROKEN),
    page!("docs/allocation.md", STARTED),
    page!("docs/announcing.md", WITH_WEB),
    page!("docs/safe-changes.md", WITH_WEB),
    page!("docs/store.md", WITH_WEB),
    page!("docs/traffic.md", WITH_WEB),
    page!("docs/metrics.md", WITH_WEB),
    page!("docs/uplinks.md", SECOND_UPLINK),
    page!("docs/upgrading.md", AN_OLDER_ONE),
    page!("docs/backing-up.md", WITH_WEB),
];

const STARTED: &str = "systemctl start ipfloaterd.socket ipfloaterd";

const WITH_WEB: &str = "systemctl start ipfloaterd.socket ipfloaterd; \
     ipfloater associate 203.0.113.20 10.66.0.11; ipfloater associate 2001:db8::20 fd66::11";

/// The README has made the group already.
const NO_GROUP: &str = "groupdel ipfloater-users; systemctl start ipfloaterd.socket ipfloaterd";

const IPV4_ALONE: &str = "set -e
    sed -i 's/^IP_POOL = .*/IP_POOL = 203.0.113.20-203.0.113.29/' /etc/ipfloaterd.conf
    systemctl start ipfloaterd.socket ipfloaterd";

/// The same programs under an older version, so that there is something to upgrade.
const AN_OLDER_ONE: &str = "set -e
    rm -rf /root/older && mkdir /root/older
    dpkg-deb --raw-extract /root/ipfloater_new.deb /root/older/package
    sed -i 's/^Version: .*/Version: 0.0.1-1/' /root/older/package/DEBIAN/control
    dpkg-deb --build /root/older/package /root/older/ipfloater_0.0.1-1.deb
    apt-get -qq --yes --allow-downgrades install /root/older/ipfloater_0.0.1-1.deb
    systemctl start ipfloaterd.socket ipfloaterd
    ipfloater associate 203.0.113.20 10.66.0.11
    ipfloater associate 2001:db8::20 fd66::11";

/// Firewalls that drop everything, as the reader has one, and nobody else's rules.
const FIREWALLS: &[(&str, &str)] = &[
    (
        "## A firewall of your own",
        r#"set -e
        nft 'add table inet fw; add chain inet fw forward { type filter hook forward priority 0; policy drop; }'
        nft 'add rule inet fw forward counter drop'
        for address in 203.0.113.20 [2001:db8::20]; do
            ip netns exec client curl -sm 2 http://$address/ && exit 1
        done
        for address in 203.0.113.9 2001:db8::9; do
            ip netns exec web ping -c 1 -W 1 $address && exit 1
        done
        ipfloater doctor 203.0.113.20 | grep forward-drop"#,
    ),
    (
        "## Docker",
        r#"set -e
        nft delete table inet fw
        for tool in iptables ip6tables; do
            $tool -N DOCKER-USER
            $tool -A FORWARD -j DOCKER-USER
            $tool -P FORWARD DROP
        done
        for address in 203.0.113.20 [2001:db8::20]; do
            ip netns exec client curl -sm 2 http://$address/ && exit 1
        done
        for address in 203.0.113.9 2001:db8::9; do
            ip netns exec web ping -c 1 -W 1 $address && exit 1
        done
        true"#,
    ),
    (
        "## ufw",
        "set -e
        for tool in iptables ip6tables; do
            $tool -P FORWARD ACCEPT
            $tool -F
            $tool -X
        done",
    ),
];

/// A configuration that keeps the daemon from starting, until systemd gives up.
const BROKEN: &[(&str, &str)] = &[(
    "## The daemon does not start",
    "sed -i 's/^IP_POOL /IP_POOOL /' /etc/ipfloaterd.conf
    systemctl restart ipfloaterd
    for try in $(seq 300); do
        systemctl is-failed --quiet ipfloaterd && exit
        sleep 0.1
    done
    exit 1",
)];

const SECOND_UPLINK: &str = "set -e
    ip link add wan1 type veth peer name eth1 netns client
    ip -n client link set eth1 up
    ip -n client address add 192.0.2.1/24 dev eth1
    ip -n client address add fe80::1/64 dev eth1
    ip link set wan1 up
    ip address add 192.0.2.2/24 dev wan1
    systemctl start ipfloaterd.socket ipfloaterd";

/// A second web server, services that tell who answers, and a way to the outside.
const FURTHER: &str = r#"
    set -e
    ip netns add web2
    ip link add lan2 type veth peer name eth0 netns web2
    ip link set lan2 up
    ip -n web2 link set lo up
    ip -n web2 link set eth0 up
    ip -n web2 address add 10.66.0.12/32 dev eth0
    ip -n web2 route add 10.66.0.1 dev eth0
    ip -n web2 route add default via 10.66.0.1
    ip route add 10.66.0.12 dev lan2
    ip route add default via 203.0.113.9
    ip -6 route add default via 2001:db8::9
    for host in web web2; do
        systemd-run --quiet --unit service-$host ip netns exec $host python3 -c "
import socket
server = socket.create_server(('::', 80), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    client, _ = server.accept()
    client.recv(4096)
    client.sendall(b'HTTP/1.0 200 OK\r\n\r\nI am $host\n')
    client.close()
"
    done
    ip netns exec web ss -ltn >/dev/null
"#;

/// As after the installation, with a configuration that most pages begin with.
const AFRESH: &str = "
    systemctl stop ipfloaterd.socket ipfloaterd 2>/dev/null
    ipfloaterd --teardown >/dev/null 2>&1
    rm -rf /var/lib/ipfloater/* /etc/ipfloaterd.conf.d /etc/polkit-1/rules.d/*ipfloater* /run/steps
    mkdir /etc/ipfloaterd.conf.d
    printf '%s\\n' '[IPFLOATER]' 'IP_POOL = 203.0.113.20-203.0.113.29, 2001:db8::20-2001:db8::29' \
        'PRIVATE_IP_RANGES = 10.66.0.0/24, fd66::/64' 'PROBE = no' >/etc/ipfloaterd.conf
    systemctl reset-failed
    true";

/// Pages that another test follows, and what it is.
const ELSEWHERE: [(&str, &str); 2] = [
    ("docs/moving-from-ipfloater.md", "moving"),
    ("docs/remote.md", "remote"),
];

/// Commands that no machine of this test runs, and why. Of those that stand within a
/// sentence alone, `install` does `apt purge`, and netns/complaints the hairpin mode
/// of a bridge's port.
const NOT_HERE: [(&str, &str); 17] = [
    (
        "make demo",
        "the demonstration, which builds all of it once more",
    ),
    ("make test", "it runs this"),
    ("make deb", "the package of these tests is built so"),
    (
        "apt install ./target/",
        "the package is installed from elsewhere",
    ),
    (
        "firewall-cmd --permanent",
        "it is not on these machines; tests/netns/doctor has its table",
    ),
    ("firewall-cmd --reload", "as above"),
    ("make build", "for whoever writes code"),
    ("make lint", "as above"),
    ("ipfloater getip 10.66.0.11", "the same is done below it"),
    ("make install", "`install` does so"),
    ("systemd-sysusers && systemd-tmpfiles", "`install` types it"),
    ("systemctl daemon-reload && systemctl reload", "as above"),
    ("systemctl disable --now ipfloaterd.socket", "as above"),
    ("ipfloaterd --teardown", "as above"),
    ("(cd /tmp/installed && find", "as above"),
    ("rm -rf /var/lib/ipfloater", "as above"),
    ("for user in ipfloater", "as above"),
];

#[test]
fn no_command_of_a_page_escapes() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).expect("it is a directory");
    let docs = docs.map(|entry| entry.expect("it can be read").file_name());
    let docs = docs.filter_map(|name| name.into_string().ok());
    let mut pages: Vec<_> = docs
        .filter(|name| name.ends_with(".md"))
        .map(|name| format!("docs/{name}"))
        .collect();
    let others = [
        "README.md",
        "examples/README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
    ];
    pages.extend(others.map(str::to_owned));
    assert!(pages.len() > 20, "{pages:?}");
    for page in pages {
        if ELSEWHERE.iter().any(|(name, _)| *name == page) {
            continue;
        }
        let followed = PAGES.iter().any(|Page { name, .. }| *name == page);
        let text = std::fs::read_to_string(root.join(&page)).expect("it is text");
        let mut fence = None;
        for line in text.lines() {
            if let Some(mark) = line.strip_prefix("```") {
                fence = match fence {
                    None => Some(mark),
                    Some(_) => None,
                };
                assert!(mark != "console" || followed, "nobody follows {page}");
                let known = ["", "console", "ini", "js", "sh", "text"];
                assert!(known.contains(&mark), "{page}: {mark}");
                continue;
            }
            let code = match fence {
                Some("console") => continue,
                Some(_) => line,
                None => match line.strip_prefix("    ") {
                    Some(code) => code,
                    None => continue,
                },
            };
            let code = without_prompt(code);
            assert!(
                !is_command(code) || NOT_HERE.iter().any(|(known, _)| code.starts_with(known)),
                "{page}: nobody runs this: {line}"
            );
        }
    }
}

/// What is typed behind `#`, `$`, `router#` or `alice$`.
fn without_prompt(line: &str) -> &str {
    let prompt = line.trim_start().split_once(' ').filter(|(prompt, _)| {
        let name = prompt.strip_suffix(['#', '$']);
        name.is_some_and(|name| name.chars().all(char::is_alphanumeric))
    });
    prompt.map_or(line.trim_start(), |(_, typed)| typed)
}

/// Whether somebody would type that.
fn is_command(line: &str) -> bool {
    let known = "adduser apt apt-get bridge busctl cargo cat cd chmod chown conntrack cp curl deluser dig \
        docker dpkg echo editor firewall-cmd for git gpasswd grep groupadd groupdel install ip ip6tables \
        ipfloater ipfloater-remote ipfloaterd iptables journalctl jq kill ln ls make mkdir mv nano nft \
        openssl ping printf promtool rm rsync scp sed service sqlite3 ssh ssh-keygen sudo sysctl systemctl \
        systemd-analyze systemd-run systemd-sysusers systemd-tmpfiles tar tcpdump tee timeout touch ufw \
        useradd userdel usermod varlinkctl vi wget";
    let first = line.trim_start_matches('(').split(' ').next();
    known.split(' ').any(|word| Some(word) == first)
}

#[test]
fn what_is_typed_is_known_behind_any_prompt() {
    for typed in [
        "rm -rf /srv",
        "router# rm -rf /srv",
        "    alice$ ping host",
        "# sed -i s/a/b/ file",
        "(cd /srv && ls)",
    ] {
        assert!(is_command(without_prompt(typed)), "{typed}");
    }
    for other in ["203.0.113.20 -> 10.66.0.11", "# a comment", "[Service]"] {
        assert!(!is_command(without_prompt(other)), "{other}");
    }
}

/// The sections of a page, each with the line that is its heading.
fn sections(text: &str) -> Vec<(&str, &str)> {
    let ends = text.match_indices("\n## ").map(|(at, _)| at + 1);
    let ends: Vec<_> = ends.chain([text.len()]).collect();
    let begins = [0].into_iter().chain(ends.iter().copied());
    let sections = begins.zip(&ends).map(|(begin, end)| &text[begin..*end]);
    sections
        .map(|section| (section.lines().next().unwrap_or_default(), section))
        .collect()
}

#[test]
fn what_happens_before_a_section_names_one() {
    for page in PAGES {
        let sections = sections(page.text);
        for (before, _) in page.between {
            assert!(
                sections.iter().any(|(heading, _)| heading == before),
                "{}: {before}",
                page.name
            );
        }
    }
}

/// All pages, or those that `IPFLOATER_PAGES` has a part of the name of, for whoever
/// writes one.
fn is_wanted(page: &&Page) -> bool {
    let wanted = std::env::var("IPFLOATER_PAGES");
    wanted.map_or(true, |wanted| {
        wanted.split(' ').any(|part| page.name.contains(part))
    })
}

fn follows(suite: Suite) {
    let machine = Machine::boot(suite);
    surround(&machine);
    machine.run(FURTHER);
    bring_package(&machine);
    install(&machine);
    machine.run(&format!("cp {DEB} /root/ipfloater_new.deb"));
    let mut all = Vec::new();
    for page in PAGES.iter().filter(is_wanted) {
        let name = page.name;
        machine.run(AFRESH);
        machine.run(page.before);
        let begun = Instant::now();
        assert!(has_steps(page.text), "{name}");
        for (heading, section) in sections(page.text) {
            let between = page.between.iter().filter(|(before, _)| *before == heading);
            for (_, script) in between {
                machine.run(script);
            }
            let complaints = complaints(&machine, section);
            all.extend(complaints.iter().map(|what| format!("{name}: {what}")));
        }
        let took = begun.elapsed().as_secs_f32();
        println!("{suite:?}: {name} took {took:.1} s");
    }
    assert!(all.is_empty(), "{suite:?}:\n{}", all.join("\n\n"));
}

#[test]
fn on_trixie_every_command_of_the_pages_does_what_they_say() {
    follows(Suite::Trixie);
}

#[test]
fn on_bookworm_every_command_of_the_pages_does_what_they_say() {
    follows(Suite::Bookworm);
}

/// The lines that go to the files of ufw, in a chain as ufw has it.
#[test]
fn the_lines_for_ufw_let_packets_pass() {
    let router = Router::new(Suite::Trixie);
    router.run(WITH_WEB);
    let page = include_str!("../../docs/docker-and-firewalld.md");
    for (tool, chain, outside, client) in [
        (
            "iptables",
            "ufw-before-forward",
            "203.0.113.20",
            "203.0.113.9",
        ),
        (
            "ip6tables",
            "ufw6-before-forward",
            "2001:db8::20",
            "2001:db8::9",
        ),
    ] {
        let answered = |netns: &str, address: &str| {
            let ping = format!("ip netns exec {netns} ping -c 1 -W 1 {address}");
            router.attempt(&ping).status.success()
        };
        // Its `before.rules` has that before what is added.
        let ufw = format!(
            "*filter\n:FORWARD DROP\n:{chain} -\n-A FORWARD -j {chain}\n\
             -A {chain} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
        );
        let restore = |lines: &str| {
            router.write("/run/ufw", format!("{ufw}{lines}COMMIT\n"));
            router.run(&format!("{tool}-restore </run/ufw"));
        };
        restore("");
        assert!(!answered("client", outside) && !answered("web", client));
        let lines = page.lines().map(str::trim_start);
        let lines: Vec<_> = lines
            .filter(|line| line.starts_with(&format!("-A {chain} ")))
            .collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        restore(&(lines.join("\n") + "\n"));
        assert!(answered("client", outside) && answered("web", client));
    }
}
