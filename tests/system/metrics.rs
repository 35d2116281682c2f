//! The timer that writes for the Prometheus node exporter, the real exporter that
//! reads it, and promtool's opinion.

use super::machine::{As, Suite};
use super::package::Router;

const FILE: &str = "/var/lib/prometheus/node-exporter/ipfloater.prom";

/// What the node exporter serves of ours.
const SERVED: &str = "
    prometheus-node-exporter --web.listen-address=127.0.0.1:9100 \\
        --collector.disable-defaults --collector.textfile 2>/tmp/exporter.log &
    for try in $(seq 100); do
        bash -c 'exec 3<>/dev/tcp/127.0.0.1/9100 &&
            printf \"GET /metrics HTTP/1.0\\r\\n\\r\\n\" >&3 && cat <&3' 2>/dev/null && break
        sleep 0.1
    done
    kill $! || cat /tmp/exporter.log";

fn is_written_and_read(suite: Suite) {
    let router = Router::new(suite);
    assert_eq!(
        router.run("systemctl is-enabled ipfloater-metrics.timer || true"),
        "disabled\n"
    );
    router.run(
        "busctl --quiet call org.ipfloater /org/ipfloater org.ipfloater.Manager Allocate 'a{sv}' \
         2 floating_ip s 203.0.113.21 owner u $(id -u bob)",
    );
    router.run("ipfloater associate 203.0.113.20 10.66.0.11");
    router.run("ip netns exec client ping -c 3 -i 0.2 203.0.113.20");
    if suite == Suite::Bookworm {
        // polkit cannot tell there who calls by varlink; docs/metrics.md says so.
        router.write(
            "/etc/systemd/system/ipfloater-metrics.service.d/all.conf",
            "[Service]\nUser=ipfloater\nGroup=ipfloater\n",
        );
        router.run("systemctl daemon-reload");
    }
    router.run("systemctl enable --now ipfloater-metrics.timer");
    router.eventually("it is written", &format!("test -s {FILE}"));

    let served = router.run(SERVED);
    let has = |line: &str| {
        assert!(
            served.lines().any(|served| served == line),
            "{line}: {served}"
        );
    };
    has("node_textfile_scrape_error 0");
    has("# TYPE ipfloater_operations_total counter");
    has("ipfloater_operations_total{outcome=\"granted\",verb=\"associate\"} 1");
    for direction in ["in", "out"] {
        has(&format!(
            "ipfloater_address_packets_total{{direction=\"{direction}\",floating_ip=\"203.0.113.20\"}} 3"
        ));
        has(&format!(
            "ipfloater_address_bytes_total{{direction=\"{direction}\",floating_ip=\"203.0.113.20\"}} 252"
        ));
    }
    // Somebody else's address is there as well.
    has("ipfloater_address_packets_total{direction=\"in\",floating_ip=\"203.0.113.21\"} 0");

    // It is written again, and promtool has nothing to say to it, nor to the rules.
    router.run("ipfloater associate 203.0.113.22 10.66.0.12");
    router.eventually(
        "it is written again",
        &format!("grep -q 'verb=\"associate\",outcome=\"granted\"}} 2' {FILE}"),
    );
    assert_eq!(
        router.run(&format!("promtool check metrics <{FILE} 2>&1")),
        ""
    );
    router.run("cd /usr/share/doc/ipfloater/examples/prometheus && promtool check rules ipfloater-rules.yml && promtool test rules ipfloater-rules-test.yml");

    // Nor to the queries of the page, each as a rule.
    let page = include_str!("../../docs/metrics.md");
    let (_, queries) = page.split_once("## Queries\n").expect("it has some");
    let (queries, _) = queries.split_once("\n## ").expect("others follow");
    let queries = queries.lines().filter_map(|line| line.strip_prefix("    "));
    let rules: Vec<_> = queries
        .map(|query| format!("      - record: a:query\n        expr: '{query}'\n"))
        .collect();
    assert!(rules.len() >= 7, "{rules:?}");
    let groups = rules.iter().enumerate();
    let groups: String = groups
        .map(|(number, rule)| format!("  - name: query{number}\n    rules:\n{rule}"))
        .collect();
    router.write("/srv/queries.yml", format!("groups:\n{groups}"));
    router.run("promtool check rules /srv/queries.yml");

    // It comes and goes with the daemon, and starts none.
    let runs = "systemctl is-active --quiet ipfloater-metrics.timer";
    router.run("systemctl restart ipfloaterd");
    router.eventually("the timer runs on", runs);
    router.run("systemctl stop ipfloaterd.service");
    router.eventually(
        "the timer goes",
        "! systemctl is-active --quiet ipfloater-metrics.timer",
    );
    assert_eq!(
        router.run("systemctl is-active ipfloaterd || true"),
        "inactive\n"
    );
    router.run("systemctl start ipfloaterd");
    router.eventually("the timer runs again", runs);
    router.eventually(
        "the service has done its work",
        "systemctl show -p ActiveState,Result ipfloater-metrics.service | sort | tr '\\n' ' ' |
         grep -qx 'ActiveState=inactive Result=success '",
    );
    let verified =
        router.run("systemd-analyze verify ipfloater-metrics.service ipfloater-metrics.timer 2>&1 | grep -i ipfloat; true");
    assert_eq!(verified, "");
    router.run("systemd-analyze security --threshold=14 ipfloater-metrics.service");
}

#[test]
fn on_trixie_the_node_exporter_serves_what_the_timer_writes() {
    is_written_and_read(Suite::Trixie);
}

#[test]
fn on_bookworm_the_node_exporter_serves_what_the_timer_writes() {
    is_written_and_read(Suite::Bookworm);
}

/// Whoever may read the status reads the daemon's numbers; traffic of addresses is
/// for their owners and those who may inspect all. The user of the service may
/// inspect, and nothing else.
#[test]
fn of_the_addresses_of_others_nothing_is_told() {
    let router = Router::new(Suite::Trixie);
    router.run(
        "for user in alice bob; do \
         busctl --quiet call org.ipfloater /org/ipfloater org.ipfloater.Manager Allocate 'a{sv}' \
         1 owner u $(id -u $user); done",
    );
    let addresses = |told: String| -> Vec<String> {
        let samples = told.lines().filter(|line| line.contains("floating_ip="));
        let addresses = samples.filter_map(|line| Some(line.split('"').nth(1)?.to_owned()));
        let mut addresses: Vec<_> = addresses.collect();
        addresses.dedup();
        addresses.sort();
        addresses.dedup();
        addresses
    };
    let told = |user| router.run_as(As::User(user), "ipfloater metrics");
    assert_eq!(addresses(told("alice")), ["203.0.113.20"]);
    assert_eq!(addresses(told("bob")), ["203.0.113.21"]);
    assert!(told("alice").contains("state=\"allocated\"} 2\n"));
    let all = ["203.0.113.20", "203.0.113.21"];
    assert_eq!(addresses(router.run("ipfloater metrics")), all);

    let as_service = |command: &str| {
        router.attempt(&format!(
            "setpriv --reuid=ipfloater-metrics --regid=ipfloater-metrics --clear-groups \
             --inh-caps=-all {command}"
        ))
    };
    let read = as_service("ipfloater metrics");
    assert_eq!(
        addresses(String::from_utf8_lossy(&read.stdout).into_owned()),
        all
    );
    for refused in ["allocate", "release 203.0.113.20", "reload"] {
        let done = as_service(&format!("ipfloater --no-ask-password {refused}"));
        assert_eq!(done.status.code(), Some(4), "{refused}: {done:?}");
    }
    // That is counted, too.
    let told = told("alice");
    for verb in ["allocate", "release", "reload"] {
        let denied = format!("ipfloater_operations_total{{verb=\"{verb}\",outcome=\"denied\"}} 1");
        assert!(told.lines().any(|line| line == denied), "{denied}: {told}");
    }
}
