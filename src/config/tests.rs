//! The configuration, by files as people write them.

use std::fs;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::dataplane::Observed;
use crate::model::RouterAddress;

/// The settings that a file of this text has.
fn load(text: &str) -> Result<Settings, String> {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ipfloaterd.conf");
    fs::write(&path, text).unwrap();
    let shown = |text: String| text.replace(&path.display().to_string(), "FILE");
    Settings::load(Some(&path)).map_err(|error| shown(crate::chain(&error)))
}

fn pool(text: &str) -> Vec<String> {
    let settings = load(&format!("[IPFLOATER]\nIP_POOL = {text}\n")).unwrap();
    settings.site.pools[0]
        .ranges
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn the_originals_own_file_works_unchanged_and_its_dead_keys_are_named() {
    let settings = load(
        "[IPFLOATER]\n# ip addresses\nIP_POOL=158.42.1.10,158.42.1.11\nPRIVATE_IP_RANGES=192.168.1.1/24\n\
         BLOCK_PUBLIC_IPS=True\nLISTEN_IP=127.0.0.1\nLISTEN_PORT=7000\nREST_IP=127.0.0.1\nREST_PORT=7003\n\
         DB=sqlite:///var/lib/ipfloater.db\nREMOVE_AT_BOOT=True\nIP_POOL_FILE=\n",
    )
    .unwrap();
    assert_eq!(
        settings.site.pools[0].ranges[0].to_string(),
        "158.42.1.10-158.42.1.11"
    );
    assert_eq!(
        settings.site.private,
        ["192.168.1.0/24".parse::<IpNet>().unwrap()]
    );
    assert!(settings.site.block_free && settings.site.guard);
    let named: Vec<_> = settings.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(named.len(), 6, "{named:?}");
    for key in [
        "LISTEN_IP",
        "LISTEN_PORT",
        "REST_IP",
        "REST_PORT",
        "DB",
        "REMOVE_AT_BOOT",
    ] {
        assert!(
            named
                .iter()
                .any(|warning| warning.contains(&format!(": {key} no longer applies: "))),
            "{key}"
        );
    }
}

#[test]
fn the_template_works_with_a_pool_and_warns_without_one() {
    let template = include_str!("../../etc/default/ipfloaterd.conf");
    assert_eq!(load(template).unwrap().warnings, [Warning::NoAddresses]);
    let with_pool = load(&template.replace("\nIP_POOL =\n", "\nIP_POOL = 203.0.113.10\n")).unwrap();
    assert_eq!(with_pool.warnings, []);
    // Every key that is commented out is one that works.
    let all: String = template
        .lines()
        .map(|line| line.strip_prefix("# ").unwrap_or(line).to_owned() + "\n")
        .collect();
    let examples: Vec<_> = all
        .lines()
        .filter(|line| {
            line.starts_with('[')
                || line
                    .split_once(" = ")
                    .is_some_and(|(key, _)| !key.contains(' '))
        })
        .filter(|line| !line.starts_with("IP_POOL_FILE"))
        .collect();
    let settings = load(&examples.join("\n")).unwrap();
    assert_eq!(settings.site.pools.len(), 2);
    assert_eq!(
        settings.site.pools[1].interface,
        Some("eth2".parse().unwrap())
    );
}

#[test]
fn pools_take_addresses_ranges_and_prefixes_of_both_families() {
    assert_eq!(pool("198.51.100.7"), ["198.51.100.7"]);
    assert_eq!(
        pool("198.51.100.7, 198.51.100.9 - 198.51.100.12"),
        ["198.51.100.7", "198.51.100.9-198.51.100.12"]
    );
    assert_eq!(pool("203.0.113.8/29"), ["203.0.113.9-203.0.113.14"]);
    assert_eq!(pool("203.0.113.8/31"), ["203.0.113.8-203.0.113.9"]);
    assert_eq!(
        pool("2001:db8::/64"),
        ["2001:db8::1-2001:db8::ffff:ffff:ffff:ffff"]
    );
    assert_eq!(pool("198.51.100.7 # comment\n"), ["198.51.100.7"]);
    assert_eq!(
        pool("198.51.100.7,\n    198.51.100.9"),
        ["198.51.100.7", "198.51.100.9"]
    );
}

#[test]
fn what_is_wrong_is_named_with_its_place_and_what_would_be_right() {
    for (text, parts) in [
        (
            "[IPFLOATER]\nIP_POOL = 198.51.100.300",
            vec!["FILE, line 2, section [IPFLOATER], IP_POOL: \"198.51.100.300\""],
        ),
        (
            "[IPFLOATER]\nIP_POOL = 010.0.0.1",
            vec!["\"010.0.0.1\"", "leading zeros"],
        ),
        ("[IPFLOATER]\nIP_POOL = 127.0.0.1", vec!["loopback"]),
        ("[IPFLOATER]\nIP_POOL = 224.0.0.0/24", vec!["multicast"]),
        (
            "[IPFLOATER]\nIP_POOL = 203.0.113.9/29",
            vec!["203.0.113.8/29"],
        ),
        (
            "[IPFLOATER]\nIP_POOL = 198.51.100.9-198.51.100.7",
            vec!["comes after"],
        ),
        (
            "[IPFLOATER]\nIP_POOL = 198.51.100.9-2001:db8::1",
            vec!["families"],
        ),
        (
            "[IPFLOATER]\nIP_POL = 1.2.3.4",
            vec!["no key IP_POL", "did you mean IP_POOL?"],
        ),
        (
            "[IPFLOATER]\nIP_POOL = 198.51.100.1\nIP_POOL = 198.51.100.2",
            vec!["IP_POOL is there twice", "the last is the one that counted"],
        ),
        (
            "[IPFLOATR]\nIP_POOL = 198.51.100.1",
            vec!["no section [IPFLOATR]"],
        ),
        ("IP_POOL = 198.51.100.1", vec!["before the first section"]),
        (
            "[IPFLOATER]\nBLOCK_PUBLIC_IPS = perhaps",
            vec!["BLOCK_PUBLIC_IPS", "yes or no"],
        ),
        (
            "[IPFLOATER]\nPRIVATE_IP_RANGES = 10.0.0.0/33",
            vec!["PRIVATE_IP_RANGES", "\"10.0.0.0/33\""],
        ),
        (
            "[IPFLOATER]\nOUTSIDE_INTERFACE = eth0, eth1",
            vec!["[POOL name]"],
        ),
        (
            "[IPFLOATER]\nGATEWAY = 203.0.113.1",
            vec!["GATEWAY", "203.0.113.1", "OUTSIDE_INTERFACE"],
        ),
        (
            "[POOL a]\nOUTSIDE_INTERFACE = eth1\nGATEWAY = 203.0.113.1, 203.0.113.2",
            vec!["GATEWAY", "203.0.113.2", "one of a family"],
        ),
        (
            "[POOL a]\nOUTSIDE_INTERFACE = eth1\nGATEWAY = eth1",
            vec!["GATEWAY", "eth1", "write an address such as"],
        ),
        (
            "[POOL a]\nOUTSIDE_INTERFACE = eth1\nGATEWAY = 224.0.0.1",
            vec!["GATEWAY", "224.0.0.1", "no router has"],
        ),
        (
            "[IPFLOATER]\nUPLINK_MARKS = 0xff00ff00",
            vec!["UPLINK_MARKS", "0xff00ff00", "next to each other"],
        ),
        (
            "[IPFLOATER]\nUPLINK_MARKS = many",
            vec!["UPLINK_MARKS", "many", "0xff000000"],
        ),
        (
            "[IPFLOATER]\nUPLINK_TABLES = 254",
            vec!["UPLINK_TABLES", "254", "256 to 32000"],
        ),
        (
            "[IPFLOATER]\nUPLINK_MARKS = 1\n\
             [POOL a]\nIP_POOL = 192.0.2.1\nOUTSIDE_INTERFACE = eth1\n\
             [POOL b]\nIP_POOL = 192.0.2.2\nOUTSIDE_INTERFACE = eth2",
            vec!["UPLINK_MARKS", "0x1", "tells 1 uplinks apart", "have 2"],
        ),
        (
            "[IPFLOATER]\nOUTSIDE_INTERFACE = much-too-long-a-name",
            vec!["1 to 15"],
        ),
        (
            "[IPFLOATER]\nIP_POOL = 10.0.0.9\nPRIVATE_IP_RANGES = 10.0.0.0/24",
            vec!["10.0.0.9", "10.0.0.0/24"],
        ),
        (
            "[IPFLOATER]\nIP_POOL = 198.51.100.0/24\n[POOL b]\nIP_POOL = 198.51.100.7",
            vec!["default and b", "198.51.100.7"],
        ),
        (
            "[POOL a b]\nIP_POOL = 198.51.100.7",
            vec!["FILE, section [POOL a b]", "\"a b\"", "1 to 63"],
        ),
        (
            "[POOL default]\nIP_POOL = 198.51.100.7",
            vec!["FILE, section [POOL default]", "choose another name"],
        ),
        (
            "[IPFLOATER]\nIP_POOL_FILE = /nonexistent/pool",
            vec!["IP_POOL_FILE", "/nonexistent/pool", "there is no such file"],
        ),
        (
            "[IPFLOATER]\nIP_POOL_FILE = ~/pool",
            vec!["IP_POOL_FILE", "~/pool", "write its whole path"],
        ),
        (
            "[IPFLOATER\nIP_POOL = 198.51.100.7",
            vec!["FILE, line 1: \"[IPFLOATER\" is no section"],
        ),
        (
            "[IPFLOATER]\n\nIP_POOL\nROUTED = yes",
            vec!["FILE, line 3: \"IP_POOL\" is no KEY = value"],
        ),
        // The line is that of the key, in whichever section and fragment.
        (
            "[IPFLOATER]\nIP_POOL = 198.51.100.7,\n  198.51.100.8\n[POOL a]\n# no\nROUTED = often",
            vec!["FILE, line 6, section [POOL a], ROUTED: \"often\""],
        ),
        // The ends of a range can be good, and what is between them not.
        (
            "[IPFLOATER]\nIP_POOL = 126.255.255.250-128.0.0.5",
            vec!["contains 127.0.0.0", "loopback"],
        ),
        (
            "[IPFLOATER]\nIP_POOL = 169.253.0.0-169.255.0.0",
            vec!["contains 169.254.0.0", "link-local"],
        ),
        (
            "[IPFLOATER]\nIP_POOL = fe00::/8",
            vec!["contains fe80::", "link-local"],
        ),
        (
            "[IPFLOATER]\nIP_POOL = ::2-::1:0:0:0",
            vec!["contains ::ffff:0.0.0.0", "written as IPv6"],
        ),
        (
            "[IPFLOATER]\nIP_POOL = 1.0.0.0-3.0.0.0",
            vec!["more addresses than a /8"],
        ),
        (
            "[IPFLOATER]\nIP_POOL = 192.0.2.10-20",
            vec!["both ends of a range in full"],
        ),
        (
            "[POOL a]\nADDRESSES = 198.51.100.7",
            vec!["no key ADDRESSES", "it is called IP_POOL"],
        ),
        (
            "[POOL a]\nPRIVATE_IP_RANGES = 10.0.0.0/8",
            vec!["it belongs in the section [IPFLOATER]"],
        ),
        (
            "[POOL a]\nXYZ = 1",
            vec!["there are IP_POOL, IP_POOL_FILE, OUTSIDE_INTERFACE, GATEWAY, ROUTED, PROBE"],
        ),
        (
            "[POOL a]\nPROBE = 11",
            vec!["[POOL a], PROBE: \"11\": write yes, no, or 1 to 10 seconds"],
        ),
        (
            "[IPFLOATER]\nPROBE = perhaps",
            vec!["PROBE: \"perhaps\": write yes, no, or 1 to 10 seconds"],
        ),
        (
            "[IPFLOATER]\nANNOUNCE_REFRESH = 5",
            vec!["ANNOUNCE_REFRESH: \"5\": write 10 to 86400 seconds, or 0 for never"],
        ),
        ("[IPFLOATER]\nIP\u{1b}[31mPOOL = 1", vec!["\\u{1b}"]),
    ] {
        let error = load(text).expect_err(text);
        assert!(!error.contains(char::is_control), "one line: {error:?}");
        for part in parts {
            assert!(
                error.contains(part),
                "{text:?} says {error:?}, without {part:?}"
            );
        }
    }
}

#[test]
fn a_file_that_is_not_there_or_not_text_says_so() {
    let directory = TempDir::new().unwrap();
    let missing = Settings::load(Some(&directory.path().join("none.conf")))
        .unwrap_err()
        .to_string();
    assert!(
        missing.contains("copy /etc/default/ipfloaterd.conf"),
        "{missing}"
    );
    let is_directory = Settings::load(Some(directory.path())).unwrap_err();
    assert!(
        crate::chain(&is_directory).contains("directory"),
        "{is_directory}"
    );
    let path = directory.path().join("binary.conf");
    fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
    assert!(
        Settings::load(Some(&path))
            .unwrap_err()
            .to_string()
            .contains("UTF-8")
    );
    fs::write(&path, vec![b'#'; 2 << 20]).unwrap();
    assert!(
        Settings::load(Some(&path))
            .unwrap_err()
            .to_string()
            .contains("1 MiB")
    );
}

#[test]
fn fragments_replace_single_keys_in_the_order_of_their_names() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("c.conf");
    fs::create_dir(directory.path().join("c.conf.d")).unwrap();
    fs::write(&path, "[IPFLOATER]\nIP_POOL = 198.51.100.1\nROUTED = yes\n").unwrap();
    fs::write(
        directory.path().join("c.conf.d/20.conf"),
        "[ipfloater]\nip_pool: 198.51.100.3\n",
    )
    .unwrap();
    fs::write(
        directory.path().join("c.conf.d/10.conf"),
        "[IPFLOATER]\nIP_POOL = 198.51.100.2\n",
    )
    .unwrap();
    fs::write(directory.path().join("c.conf.d/ignored.txt"), "nonsense").unwrap();
    let settings = Settings::load(Some(&path)).unwrap();
    assert_eq!(settings.site.pools[0].ranges[0].to_string(), "198.51.100.3");
    assert!(settings.site.pools[0].routed);
    assert_eq!(settings.files.len(), 3);
}

#[test]
fn a_file_that_is_named_must_be_there_even_beside_fragments() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("c.conf");
    fs::create_dir(directory.path().join("c.conf.d")).unwrap();
    let fragment = directory.path().join("c.conf.d/10.conf");
    fs::write(&fragment, "[IPFLOATER]\nIP_POOL = 198.51.100.2\n").unwrap();
    let error = Settings::load(Some(&path)).unwrap_err();
    assert!(matches!(error, ConfigError::Missing(_)), "{error}");
    // The default file is not named: fragments alone will do.
    assert_eq!(file::with_fragments(&path, false).unwrap(), [fragment]);
}

#[test]
fn pools_keep_the_order_of_the_file_and_one_without_addresses_is_named() {
    let settings = load(
        "[IPFLOATER]\nIP_POOL = 198.51.100.1\n[POOL z]\nIP_POOL = 198.51.100.2\n\
         [POOL empty]\nROUTED = yes\n[POOL a]\nIP_POOL = 198.51.100.3\n",
    )
    .unwrap();
    let names: Vec<_> = settings
        .site
        .pools
        .iter()
        .map(|pool| pool.name.as_str())
        .collect();
    assert_eq!(names, ["default", "z", "a"]);
    assert_eq!(
        settings.warnings,
        [Warning::EmptyPool("empty".parse().unwrap())]
    );
}

#[test]
fn what_pythons_configparser_reads_is_read() {
    for text in [
        "\u{feff}[IPFLOATER]\r\nIP_POOL = 198.51.100.7, 198.51.100.9\r\n",
        "[ipfloater]\nip_pool: 198.51.100.7,\n  # one\n  198.51.100.9\n",
        "; one\n[IPFLOATER] # two\nIP_POOL =\n\t198.51.100.7\n\n# three\n\t198.51.100.9 ; four\n",
        "[IPFLOATER]\n  Ip_Pool = 198.51.100.7\n\t   ,198.51.100.9\n  ROUTED = Off\n",
        "[IPFLOATER]\nIP_POOL = 198.51.100.7,198.51.100.9,198.51.100.7,,\nBLOCK_PUBLIC_IPS=\n",
    ] {
        let settings = load(text).unwrap();
        let pool = &settings.site.pools[0];
        let ranges: Vec<_> = pool.ranges.iter().map(ToString::to_string).collect();
        assert_eq!(ranges, ["198.51.100.7", "198.51.100.9"], "{text:?}");
        assert!(!pool.routed && settings.site.block_free, "{text:?}");
        assert_eq!(settings.warnings, [], "{text:?}");
    }
}

#[test]
fn what_the_original_took_beyond_configparser_is_taken() {
    for text in [
        "IP_POOL = 203.0.113.1#web\nPRIVATE_IP_RANGES = 10.0.0.1/255.255.255.0\n",
        "rem old\nREM\nIP_POOL = 203.0.113.1\nPRIVATE_IP_RANGES = 10.0.0.1/24#lan\n",
    ] {
        let settings = load(&format!("[IPFLOATER]\n{text}")).unwrap();
        assert_eq!(settings.site.pools[0].ranges[0].to_string(), "203.0.113.1");
        assert_eq!(settings.site.private, ["10.0.0.0/24".parse().unwrap()]);
        assert_eq!(settings.warnings, []);
    }
    for mask in ["255.0.255.0", "ffff::", "255.255.255"] {
        let text = format!("[IPFLOATER]\nPRIVATE_IP_RANGES = 10.0.0.1/{mask}\n");
        assert!(load(&text).is_err(), "{mask}");
    }

    // What it did not look at.
    let text = "[DEFAULT]\nlog = x\n[IPFLOATER]\nIP_POOL = 203.0.113.1\n[General]\nDebug = 1\n";
    let told: Vec<_> = load(text).unwrap().warnings;
    let told: Vec<_> = told.iter().map(ToString::to_string).collect();
    assert!(
        told[0].ends_with("line 2, section [DEFAULT]: nobody reads LOG there"),
        "{told:?}"
    );
    assert!(
        told[1].ends_with("line 6, section [GENERAL]: nobody reads DEBUG there"),
        "{told:?}"
    );
    let error = load("[DEFAULT]\nIP_POOL = 203.0.113.1\n").unwrap_err();
    assert!(
        error.contains("line 2, section [DEFAULT]: there is no key IP_POOL; it belongs in the section [IPFLOATER]"),
        "{error}"
    );
}

#[test]
fn comments_may_be_of_another_character_set() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("c.conf");
    let load = |text: &[u8]| {
        fs::write(&path, text).unwrap();
        Settings::load(Some(&path)).map_err(|error| crate::chain(&error))
    };
    let text = b"# \xfcber\n[IPFLOATER] ; \xe9\nIP_POOL = 203.0.113.1, # f\xfcr uns\n 203.0.113.3\nrem \xfc\n";
    let settings = load(text).unwrap();
    assert_eq!(settings.site.pools[0].size(), 2);
    let error = load(b"[IPFLOATER]\n[USER j\xfcrgen]\n").unwrap_err();
    assert!(error.contains("line 2: it is not UTF-8 text"), "{error}");
}

#[test]
fn a_file_of_the_original_that_is_not_read_is_named() {
    let directory = TempDir::new().unwrap();
    let [path, other] = ["c.conf", "other.conf"].map(|name| directory.path().join(name));
    fs::write(&other, "[IPFLOATER]\nIP_POOL = 198.51.100.2\n").unwrap();
    let read = || Settings::read(&path, false, Some(&other));
    let error = read().unwrap_err();
    assert!(
        matches!(&error, ConfigError::Elsewhere(it) if *it == other),
        "{error}"
    );
    fs::create_dir(directory.path().join("c.conf.d")).unwrap();
    fs::write(
        directory.path().join("c.conf.d/moving.conf"),
        "[IPFLOATER]\nPROBE = no\n",
    )
    .unwrap();
    let warnings = read().unwrap().warnings;
    assert_eq!(
        warnings,
        [Warning::NotRead(other.clone()), Warning::NoAddresses]
    );
    fs::copy(&other, &path).unwrap();
    assert_eq!(read().unwrap().warnings, []);
}

#[test]
fn what_was_understood_is_told_in_words() {
    let settings = load(
        "[IPFLOATER]\nIP_POOL = 203.0.113.8/29\nPRIVATE_IP_RANGES = 192.168.1.1/24\nDB = x\n\
         [POOL dmz]\nIP_POOL = 198.51.100.1\nOUTSIDE_INTERFACE = eth2\nROUTED = yes\n",
    )
    .unwrap();
    let told = settings.to_string();
    for part in [
        "pool default: 6 addresses: 203.0.113.9-203.0.113.14; outside interface: that of the default route\n",
        "pool dmz: 1 address: 198.51.100.1; outside interface: eth2, routed to this router\n",
        "private ranges: 192.168.1.0/24\n",
        "line 4: DB no longer applies: the store is in the state directory",
    ] {
        assert!(told.contains(part), "{part:?} is missing:\n{told}");
    }
}

#[test]
fn the_originals_file_of_addresses_adds_to_the_pool() {
    let directory = TempDir::new().unwrap();
    let list = directory.path().join("pool");
    fs::write(
        &list,
        "# public\n198.51.100.7 02:00:00:00:00:07\n\n198.51.100.9\t# spare\n198.51.100.7\n",
    )
    .unwrap();
    let text = format!(
        "[IPFLOATER]\nIP_POOL = 198.51.100.8\nIP_POOL_FILE = {}\n",
        list.display()
    );
    let settings = load(&text).unwrap();
    let pool = &settings.site.pools[0];
    assert_eq!(pool.ranges[0].to_string(), "198.51.100.7-198.51.100.9");
    let mac = |text: &str| text.parse::<crate::model::HardwareAddress>().unwrap();
    assert_eq!(
        pool.hardware_addresses,
        [(mac("02:00:00:00:00:07"), "198.51.100.7".parse().unwrap())].into()
    );
    assert_eq!(settings.warnings, []);
    // One hardware address for two addresses, as in the original's own manual.
    fs::write(
        &list,
        "198.51.100.7\t60:00:00:00:00:01 web\n198.51.100.8  60:00:00:00:00:01\n198.51.100.9 web\n",
    )
    .unwrap();
    let settings = load(&text).unwrap();
    let known = &settings.site.pools[0].hardware_addresses;
    assert_eq!(
        known[&mac("60:00:00:00:00:01")],
        "198.51.100.7".parse().unwrap()
    );
    let named: Vec<_> = settings.warnings.iter().map(ToString::to_string).collect();
    assert_eq!((known.len(), named.len()), (1, 2), "{named:?}");
    assert!(
        named[0]
            .ends_with("line 2: \"60:00:00:00:00:01\" is passed over: 198.51.100.7 has it already"),
        "{named:?}"
    );
    assert!(
        named[1].contains("line 3: \"web\" is passed over: a hardware address is six"),
        "{named:?}"
    );
    fs::write(&list, "198.51.100.7\n198.51.100\n").unwrap();
    let error = load(&text).unwrap_err();
    assert!(
        error.contains("line 2") && error.contains("198.51.100"),
        "{error}"
    );
}

#[test]
fn a_pool_inside_the_ranges_that_nobody_wrote_is_not_private() {
    let site = load("[IPFLOATER]\nIP_POOL = 10.9.0.0/24\n").unwrap().site;
    assert!(site.is_private("10.1.0.1".parse().unwrap()));
    assert!(!site.is_private("10.9.0.1".parse().unwrap()));
}

#[test]
fn what_does_not_fit_the_router_is_named() {
    let site = |pool: &str| {
        load(&format!("[IPFLOATER]\nIP_POOL = {pool}\n"))
            .unwrap()
            .site
    };
    let link = |index| crate::dataplane::Link {
        index: crate::dataplane::IfIndex(index),
        up: true,
        carrier: true,
        mac: None,
    };
    let mut observed = Observed {
        links: [("eth0", 1), ("eth1", 2)]
            .map(|(name, index)| (name.parse().unwrap(), link(index)))
            .into(),
        default_route4: Some("eth0".parse().unwrap()),
        ..Observed::default()
    };
    observed.surroundings.gateways = vec!["203.0.113.1".parse().unwrap()];
    observed.surroundings.addresses = [
        ("203.0.113.2/24", "eth0"),
        ("203.0.113.9/32", "eth0"),
        ("172.31.0.1/24", "eth1"),
    ]
    .map(|(net, interface)| RouterAddress {
        net: net.parse().unwrap(),
        interface: interface.parse().unwrap(),
        secondary: false,
    })
    .to_vec();
    for (pool, expected) in [
        ("203.0.113.10-203.0.113.20", vec![]),
        ("203.0.113.9", vec![]),
        ("203.0.113.2", vec!["the router itself uses on eth0"]),
        ("203.0.113.1", vec!["gateway"]),
        ("203.0.113.255", vec!["broadcast"]),
        ("172.31.0.5", vec!["172.31.0.0/24 on eth1"]),
    ] {
        let misfits: Vec<_> = check_against(&site(pool), &observed)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(misfits.len(), expected.len(), "{pool}: {misfits:?}");
        for (misfit, part) in misfits.iter().zip(expected) {
            assert!(misfit.contains(part), "{pool}: {misfit}");
        }
    }
}

#[test]
fn limits_are_those_of_users_groups_and_everybody_else() {
    let limits = |text: &str| load(text).map(|settings| settings.site.limits);
    let conf = "[IPFLOATER]\nIP_POOL=192.0.2.1\nPRIVATE_IP_RANGES=10.0.0.0/8,fd00::/64\n";
    assert_eq!(limits(conf).unwrap(), Limits::default());

    let found = limits(&format!(
        "{conf}QUOTA=2\nPERMITTED_IP_RANGES=10.1.0.0/16, fd00::/64\n\
         [user root]\nquota=7\n[USER 4242]\nPERMITTED_IP_RANGES=10.2.3.4\n[Group 77]\nQUOTA=0\n"
    ))
    .unwrap();
    let only =
        |nets: &[&str]| Permitted::Only(nets.iter().map(|net| net.parse().unwrap()).collect());
    assert_eq!(
        found.default,
        Limit {
            quota: 2,
            permitted: only(&["10.1.0.0/16", "fd00::/64"])
        }
    );
    assert_eq!(found.users[&0].quota, Some(7));
    assert_eq!(found.users[&4242].permitted, Some(only(&["10.2.3.4/32"])));
    assert_eq!(found.groups[&77].quota, Some(0));

    for (text, complaint) in [
        ("QUOTA=many\n", "QUOTA: \"many\": write how many"),
        ("QUOTA=-1\n", "QUOTA: \"-1\": write how many"),
        (
            "PERMITTED_IP_RANGES=10.0.0.0/8,x\n",
            "\"x\": write a prefix",
        ),
        (
            "PERMITTED_IP_RANGES=192.168.0.0/16\n",
            "no range of PRIVATE_IP_RANGES has it",
        ),
        ("[USER]\nQUOTA=1\n", "there is no section [USER]"),
        ("[USER a b]\nQUOTA=1\n", "write the name or number"),
        (
            "[USER 0]\nQUOTA=1\n[USER root]\nQUOTA=2\n",
            "another section describes the same, 0",
        ),
        (
            "[GROUP 5]\nIP_POOL=192.0.2.1\n",
            "there is no key IP_POOL; it belongs in the section [IPFLOATER]",
        ),
    ] {
        let error = limits(&format!("{conf}{text}")).unwrap_err();
        assert!(error.contains(complaint), "{text}: {error}");
        assert!(error.contains("FILE"), "{text}: {error}");
    }

    let settings = load(&format!("{conf}[USER no-such-user]\nQUOTA=1\n")).unwrap();
    assert!(settings.site.limits.users.is_empty());
    let warning = settings.warnings[0].to_string();
    assert!(
        warning.contains("there is no user no-such-user"),
        "{warning}"
    );
    assert!(
        settings
            .to_string()
            .contains("each user: at most 50 addresses, for any private host")
    );
}

#[test]
fn what_the_neighbours_are_asked_and_told_is_said_for_each_pool() {
    let seconds = Duration::from_secs;
    for (text, probe, refresh) in [
        ("", Some(seconds(1)), None),
        ("PROBE = yes\nANNOUNCE_REFRESH = 0", Some(seconds(1)), None),
        ("PROBE = No", None, None),
        ("PROBE = 0", None, None),
        (
            "PROBE = 5\nANNOUNCE_REFRESH = 240",
            Some(seconds(5)),
            Some(seconds(240)),
        ),
    ] {
        let text = format!("[IPFLOATER]\nPROBE = 3\n[POOL a]\nIP_POOL = 203.0.113.1\n{text}\n");
        let settings = load(&text).unwrap();
        assert_eq!(
            settings.site.pools[0].announcing,
            Announcing { probe, refresh },
            "{text}"
        );
    }
    let told = load("[IPFLOATER]\nIP_POOL = 203.0.113.1\nPROBE = no\nANNOUNCE_REFRESH = 60\n");
    let told = told.unwrap().to_string();
    assert!(
        told.contains(", neighbours not asked, announced every 60 s\n"),
        "{told}"
    );
}

#[test]
fn released_addresses_rest_for_an_hour_or_as_long_as_is_said() {
    let rest = |line: &str| {
        let text = format!("[IPFLOATER]\nIP_POOL = 192.0.2.1\n{line}\n");
        load(&text).map(|settings| settings.site.rest.as_secs())
    };
    for (line, seconds) in [
        ("", 3_600),
        ("RELEASED_ADDRESS_REST = 0", 0),
        ("RELEASED_ADDRESS_REST = 90", 90),
        ("RELEASED_ADDRESS_REST = 90s", 90),
        ("RELEASED_ADDRESS_REST = 30m", 1_800),
        ("RELEASED_ADDRESS_REST = 24h", 86_400),
        ("RELEASED_ADDRESS_REST = 365d", 31_536_000),
    ] {
        assert_eq!(rest(line), Ok(seconds), "{line}");
    }
    for value in [
        "-1",
        "+5",
        "1w",
        "h",
        "1 h",
        "1.5h",
        "366d",
        "99999999999999999999d",
    ] {
        let error = rest(&format!("RELEASED_ADDRESS_REST = {value}")).unwrap_err();
        let expected = "line 3, section [IPFLOATER], RELEASED_ADDRESS_REST";
        assert!(error.contains(expected) && error.contains("30m"), "{error}");
    }
}

#[test]
fn the_manual_page_and_the_template_have_every_key() {
    let page = include_str!("../../docs/man/ipfloaterd.conf.5");
    let template = include_str!("../../etc/default/ipfloaterd.conf");
    let gone = super::keys::GONE.iter().map(|(key, _)| *key);
    for key in super::keys::MAIN.into_iter().chain(gone.clone()) {
        let words = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        assert!(page.split(words).any(|word| word == key), "{key}");
        assert!(
            template.split(words).any(|word| word == key) || gone.clone().any(|gone| gone == key),
            "{key} is not in the template"
        );
    }
    for key in super::keys::MAIN {
        assert!(
            page.contains(&format!(".It Cm {key}\n")),
            "{key} is not explained"
        );
    }
}
