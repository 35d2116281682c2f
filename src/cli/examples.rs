//! What help shows: the idea on a screen, and an example or two of each verb.
//! A test gives every line to the parser.

/// What `ipfloater -h` says: the whole idea, on a screen of 24 lines of 80 columns.
/// A test looks that every verb is in it.
pub(super) const SCREEN: &str = "\
Gives public addresses to private hosts, and moves them from one to another.

A floating IP of a pool is free, allocated (somebody's), or associated with a
host: then what comes in for it reaches the host, and what the host sends leaves
as it.

  ipfloater associate 10.0.0.5                     a free one for this host
  ipfloater associate 203.0.113.7 10.0.0.6 --reassociate    move it to another
  ipfloater forward 203.0.113.8:443 10.0.0.5       only a port of one
  ipfloater status                                 who has what, and how it is
  ipfloater release 203.0.113.7                    give it back

Addresses     allocate associate disassociate forward unforward set release
Looking       status list show ippool history monitor counters top metrics
On trial      confirm revert
The router    doctor reload permissions version import
The original  getip redirect releaseip arp

Every verb    --json  -q  --no-legend  --no-wait  -H USER@ROUTER  -i HOST
Changes       --dry-run  --confirm 60s (not allocate, set)

ipfloater VERB --help has examples; ipfloater --help has all of it.
";

pub(super) const GETIP: &str = "\
Examples:
  ipfloater getip 10.0.0.5";

pub(super) const REDIRECT: &str = "\
Examples:
  ipfloater redirect 203.0.113.7 10.0.0.5";

pub(super) const RELEASEIP: &str = "\
Examples:
  ipfloater releaseip 203.0.113.7
  ipfloater releaseip 10.0.0.5";

pub(super) const STATUS: &str = "\
Examples:
  ipfloater status
  ipfloater status --json";

pub(super) const VERSION: &str = "\
Examples:
  ipfloater version";

pub(super) const IPPOOL: &str = "\
Examples:
  ipfloater ippool";

pub(super) const ARP: &str = "\
Examples:
  ipfloater arp 60:60:00:00:00:01";

pub(super) const ALLOCATE: &str = "\
Examples:
  ipfloater allocate                                    a free one
  ipfloater allocate 203.0.113.7 --label web --protect
  ipfloater allocate --count 4 --pool dmz --for 30d";

pub(super) const ASSOCIATE: &str = "\
Examples:
  ipfloater associate 10.0.0.5                          a free one
  ipfloater associate 203.0.113.7 10.0.0.5
  ipfloater associate 203.0.113.7 10.0.0.6 --reassociate --confirm 60s
  ipfloater associate 10.0.0.5 --pool dmz --for 2h";

pub(super) const DISASSOCIATE: &str = "\
Examples:
  ipfloater disassociate 203.0.113.7
  ipfloater disassociate 10.0.0.5 --dry-run";

pub(super) const FORWARD: &str = "\
Examples:
  ipfloater forward 203.0.113.8:443 10.0.0.5            the same port
  ipfloater forward 203.0.113.8:8080 10.0.0.5:80
  ipfloater forward 203.0.113.8:5000-5199/udp 10.0.0.6
  ipfloater forward [2001:db8::8]:443 fd00::5 --outbound floating";

pub(super) const UNFORWARD: &str = "\
Examples:
  ipfloater unforward 203.0.113.8:443
  ipfloater unforward 203.0.113.8:5000-5199/udp";

pub(super) const SET: &str = "\
Examples:
  ipfloater set 203.0.113.7 --label web --tag production
  ipfloater set 203.0.113.7 --rate-in 100M --rate-out 20M
  ipfloater set 203.0.113.7 --allow 198.51.100.0/24";

pub(super) const RELEASE: &str = "\
Examples:
  ipfloater release 203.0.113.7
  ipfloater release 203.0.113.7 --confirm 60s";

pub(super) const CONFIRM: &str = "\
Examples:
  ipfloater confirm 203.0.113.7                         the move stays
  ipfloater confirm                                     the configuration stays";

pub(super) const REVERT: &str = "\
Examples:
  ipfloater revert 203.0.113.7";

pub(super) const LIST: &str = "\
Examples:
  ipfloater list --state pending
  ipfloater list --pool dmz --tag production --json";

pub(super) const SHOW: &str = "\
Examples:
  ipfloater show 203.0.113.7
  ipfloater show 10.0.0.5                               the one that it has";

pub(super) const COUNTERS: &str = "\
Examples:
  ipfloater counters
  ipfloater counters 203.0.113.7 --json";

pub(super) const TOP: &str = "\
Examples:
  ipfloater top
  ipfloater top -d 10 -n 1 --json";

pub(super) const DOCTOR: &str = "\
Examples:
  ipfloater doctor                                      all that may stop traffic
  ipfloater doctor 203.0.113.7 --json";

pub(super) const IMPORT: &str = "\
Examples:
  ipfloater import                                      what would be done
  ipfloater import --apply
  ipfloater import --database /root/old.db --apply --skip-bad";

pub(super) const METRICS: &str = "\
Examples:
  ipfloater metrics
  ipfloater metrics --format prometheus --output /var/lib/prometheus/node-exporter/ipfloater.prom";

pub(super) const PERMISSIONS: &str = "\
Examples:
  ipfloater permissions 203.0.113.7";

pub(super) const RELOAD: &str = "\
Examples:
  ipfloater reload --dry-run
  ipfloater reload --confirm 2m";

pub(super) const MONITOR: &str = "\
Examples:
  ipfloater monitor
  ipfloater monitor --since 1042 --json";

pub(super) const HISTORY: &str = "\
Examples:
  ipfloater history 203.0.113.7 -n 100";

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use crate::cli::Arguments;

    /// The examples in a help text, without what is said of them.
    fn examples(text: &str) -> Vec<Vec<&str>> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("  "));
        let lines = lines.filter(|line| line.starts_with("ipfloater "));
        lines
            .map(|line| {
                let command = line.split("   ").next().unwrap_or(line);
                command.split(' ').filter(|word| !word.is_empty()).collect()
            })
            .collect()
    }

    #[test]
    fn every_verb_has_examples_that_the_parser_takes() {
        let command = Arguments::command();
        let mut tried = examples(super::SCREEN);
        assert!(tried.len() > 3);
        for verb in command.get_subcommands() {
            let name = verb.get_name();
            let text = verb.get_after_help().map(ToString::to_string);
            let these = text.unwrap_or_default();
            let these: Vec<Vec<String>> = examples(&these)
                .into_iter()
                .map(|words| words.into_iter().map(str::to_owned).collect())
                .collect();
            let needs = !verb.is_hide_set() && verb.get_arguments().next().is_some();
            assert!(!needs || !these.is_empty(), "{name} has no example");
            for words in these {
                assert_eq!(words[1], name, "{words:?}");
                let parsed = Arguments::try_parse_from(&words);
                assert!(parsed.is_ok(), "{words:?}: {}", parsed.unwrap_err());
            }
        }
        for words in tried.drain(..) {
            let parsed = Arguments::try_parse_from(&words);
            assert!(parsed.is_ok(), "{words:?}: {}", parsed.unwrap_err());
        }
    }
}
