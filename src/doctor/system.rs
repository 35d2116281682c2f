//! What else of the system has to do with it: the conntrack table, the kernel's
//! features, legacy iptables, the clock, the bus, the configuration.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::client::Presence;
use crate::config::{DEFAULT_PATH, ORIGINAL_PATH, Settings, check_against};
use crate::kernel::{Features, Leftovers, observe_links};

use super::finding::{Finding, Id};

/// From this share of the table on, in percent, it is nearly full.
const NEARLY: u64 = 90;

/// How far the clock may be behind the latest event: they have whole seconds.
const SECOND: i64 = 1;

/// How many flows conntrack keeps, and how many it may.
pub(super) fn conntrack() -> Option<(u64, u64)> {
    let number = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/netfilter/nf_conntrack_{name}"));
        text.ok()?.trim().parse().ok()
    };
    Some((number("count")?, number("max")?))
}

/// Whether there is room for more.
pub(super) fn conntrack_full((count, most): (u64, u64)) -> Option<Finding> {
    // 0 is no limit.
    if most == 0 || count.saturating_mul(100) < most.saturating_mul(NEARLY) {
        return None;
    }
    let what = format!("the conntrack table has {count} flows of {most}");
    let finding = if count >= most {
        Finding::error(Id::ConntrackFull, what).because("packets that begin another are dropped")
    } else {
        let why = "when it is full, packets that begin another flow are dropped";
        Finding::warning(Id::ConntrackFull, what).because(why)
    };
    let more = most.saturating_mul(2);
    Some(finding.mend(format!("sysctl -w net.netfilter.nf_conntrack_max={more}")))
}

/// The tables that legacy iptables has; `None` when that may not be known.
pub(super) fn legacy() -> Option<Vec<String>> {
    let mut tables = Vec::new();
    for (program, file) in [
        ("iptables", "/proc/net/ip_tables_names"),
        ("ip6tables", "/proc/net/ip6_tables_names"),
    ] {
        match fs::read_to_string(file) {
            Ok(names) => {
                let mut names: Vec<_> = names.lines().collect();
                names.sort_unstable();
                if !names.is_empty() {
                    tables.push(format!("{program}-legacy ({})", names.join(", ")));
                }
            }
            // The module is not loaded.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(_) => return None,
        }
    }
    Some(tables)
}

/// What nf_tables does not show.
pub(super) fn legacy_tables(tables: &[String]) -> Option<Finding> {
    (!tables.is_empty()).then(|| {
        let what = format!("there are tables of {}", tables.join(" and "));
        Finding::note(Id::IptablesLegacy, what)
            .because("what they drop and translate is not seen here")
            .mend("iptables-legacy-save; ip6tables-legacy-save")
    })
}

/// What the original IP Floater left, which may be back after a boot.
pub(super) fn original_left(left: &Leftovers) -> Option<Finding> {
    let redirected = left.redirections().into_iter();
    let chains = redirected.map(|one| format!("{}-*", one.chains));
    let fixed = left.chains.iter().chain(&left.legacy);
    let fixed = fixed.filter(|chain| chain.name.starts_with("ipfloater-"));
    let names: BTreeSet<_> = chains
        .chain(fixed.map(|chain| chain.name.clone()))
        .collect();
    let addresses = left.addresses.iter();
    let addresses = addresses.map(|own| format!("{} on {}", own.net.addr(), own.interface));
    let all: Vec<_> = names.into_iter().chain(addresses).collect();
    (!left.is_empty()).then(|| {
        let what = format!("the original IP Floater left {}", all.join(", "));
        Finding::warning(Id::OriginalLeft, what)
            .because(
                "they may lead elsewhere what has no host here; what is not taken over yet \
                 `ipfloater import` takes over",
            )
            .mend("ipfloater import --clear-only --apply")
    })
}

/// What the kernel lacks.
pub(super) fn features(features: Features) -> Option<Finding> {
    let Features {
        table_owner,
        conntrack_filter,
    } = features;
    let mut lacks = Vec::new();
    if !table_owner {
        lacks.push("tables that only their owner may alter (Linux 6.9)");
    }
    if !conntrack_filter {
        lacks.push("deleting flows by a filter");
    }
    (!lacks.is_empty()).then(|| {
        let what = format!("this kernel lacks {}", lacks.join(" and "));
        Finding::note(Id::OldKernel, what)
            .because("what others do to our table is put right afterwards; moves take longer")
            .mend("uname -r")
    })
}

/// Whether the clock went back. Events have whole seconds.
pub(super) fn clock(now: i64, latest: i64) -> Option<Finding> {
    let behind = latest - now;
    (behind > SECOND).then(|| {
        let what = format!("the clock is {behind} seconds behind the latest event");
        Finding::warning(Id::Clock, what)
            .because("what ends at a time ends late, and the history is out of order")
            .mend("timedatectl set-ntp true")
    })
}

/// Whether there is a configuration, and one that `ipfloaterd` starts with.
pub(super) fn configuration() -> Vec<Finding> {
    match missing_configuration() {
        Some(finding) => vec![finding],
        None => invalid_configuration(),
    }
}

fn invalid_configuration() -> Vec<Finding> {
    let denied = |error: std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
    if fs::File::open(DEFAULT_PATH).is_err_and(denied) {
        return Vec::new();
    }
    let complaints = match Settings::load(None) {
        Err(error) => vec![crate::chain(&error)],
        Ok(settings) => match observe_links() {
            Ok(observed) => check_against(&settings.site, &observed)
                .iter()
                .map(ToString::to_string)
                .collect(),
            // That was said of interfaces and routes.
            Err(_) => Vec::new(),
        },
    };
    let finding = |complaint: String| {
        Finding::error(Id::ConfigurationInvalid, complaint)
            .because("ipfloaterd does not start with it")
            .mend("ipfloaterd --check-config")
    };
    complaints.into_iter().map(finding).collect()
}

fn missing_configuration() -> Option<Finding> {
    // Who may not look does not know.
    let file = Path::new(DEFAULT_PATH).try_exists().unwrap_or(true);
    let fragments = fs::read_dir(format!("{DEFAULT_PATH}.d"));
    if !file && Path::new(ORIGINAL_PATH).exists() {
        let what = format!("there is no {DEFAULT_PATH}");
        return Some(
            Finding::error(Id::NoConfiguration, what)
                .because(format!(
                    "{ORIGINAL_PATH}, which the original read, is not read"
                ))
                .mend(format!("cp {ORIGINAL_PATH} {DEFAULT_PATH}")),
        );
    }
    let there = file || fragments.is_ok_and(|mut entries| entries.next().is_some());
    (!there).then(|| {
        let what = format!("there is no {DEFAULT_PATH}");
        Finding::error(Id::NoConfiguration, what)
            .because("ipfloaterd does not start without one")
            .mend(format!("cp /etc/default/ipfloaterd.conf {DEFAULT_PATH}"))
    })
}

/// Who is on the system bus.
pub(super) fn bus(presence: Result<Presence, String>) -> Option<Finding> {
    let why = "only root can have anything altered";
    match presence {
        Err(error) => Some(
            Finding::warning(
                Id::BusAbsent,
                format!("the system bus is not reached: {error}"),
            )
            .because(format!("D-Bus clients and polkit are not reached: {why}"))
            .mend("systemctl start dbus"),
        ),
        Ok(Presence {
            polkit: false,
            daemon: _,
        }) => Some(
            Finding::warning(Id::PolkitAbsent, "there is no polkit on the system bus")
                .because(why)
                .mend("apt install polkitd"),
        ),
        Ok(Presence {
            polkit: true,
            daemon: false,
        }) => Some(
            Finding::note(Id::NotOnBus, "org.ipfloater is not on the system bus")
                .because("ipfloaterd was started with --no-dbus, or the bus has not its policy")
                .mend("systemctl reload dbus; systemctl restart ipfloaterd"),
        ),
        Ok(Presence {
            polkit: true,
            daemon: true,
        }) => None,
    }
}
