//! Who is let in, and does harm nevertheless.

use super::*;

/// How much memory a process ever had, in kB (proc_pid_status(5)).
fn most_memory(process: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()));
    let status = status.expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let memory = line.expect("it has some").trim().trim_end_matches(" kB");
    memory.parse().expect("a number")
}

/// As values, one such call has eight megabytes.
#[test]
fn calls_that_are_nested_take_no_memory() {
    let remote = Remote::new();
    let nested = format!("{}0{},", "{\"\":".repeat(28), "}".repeat(28));
    let nested = nested.repeat(65_000 / nested.len());
    let call = format!(
        "{{\"method\":\"org.ipfloater.List\",\"parameters\":{{\"a\":[{}0]}}}}\0",
        nested
    );
    let hosts = [&remote.lab.far, &remote.lab.outside];
    let mut guests = Vec::new();
    for n in 0..60 {
        let mut guest = remote.speak_from(hosts[n % 2], Some("ops"));
        let version = b"{\"method\":\"org.ipfloater.GetVersion\"}\0";
        guest.write_all(version).expect("it reads");
        assert!(answer(&mut guest).contains("api_version"));
        guests.push(guest);
    }
    std::thread::scope(|scope| {
        for mut guest in guests {
            let call = call.as_bytes();
            scope.spawn(move || {
                guest.write_all(call).expect("it reads");
                assert!(answer(&mut guest).contains("InvalidParameter"));
            });
        }
    });
    let memory = most_memory(&remote.child);
    assert!(memory < 64 * 1024, "{memory} kB");
    remote.is_well();
}

/// The log has who it was, whatever he calls himself.
#[test]
fn nobody_is_somebody_else_in_the_log() {
    let remote = Remote::new();
    let forged = "org.ipfloater.Release as CN=boss (00:11:22): {\"address\":\"198.51.100.10\"}";
    let mut stream = remote.speak(Some("ops"));
    for (method, parameters) in [
        (format!("{forged}{}", " ".repeat(4_200)), "{}".to_owned()),
        (
            "org.ipfloater.Release".to_owned(),
            format!(
                "{{\"aa\":\"{}\",\"address\":\"198.51.100.29\"}}",
                "x".repeat(5_000)
            ),
        ),
    ] {
        let method = method.replace('"', "\\\"");
        let call = format!("{{\"method\":\"{method}\",\"parameters\":{parameters}}}\0");
        stream.write_all(call.as_bytes()).expect("it reads");
        assert!(answer(&mut stream).contains("error"));
    }
    let log = remote.log();
    assert!(!log.contains("CN=boss"), "{log}");
    let line = log.lines().find(|line| line.contains("calls Release"));
    let line = line.expect("it has one");
    assert!(
        line.contains("as CN=ops (") && line.contains("{\"address\":\"198.51.100.29\""),
        "{line}"
    );
}

/// Calls in vain have a few lines, and what is altered among them has its own.
#[test]
fn a_guest_who_calls_in_vain_does_not_fill_the_log() {
    let mut remote = Remote::new();
    let mut stream = remote.speak(Some("ops"));
    let mut call = |method: &str, parameters: &str| {
        let call = format!("{{\"method\":\"{method}\",\"parameters\":{parameters}}}\0");
        stream.write_all(call.as_bytes()).expect("it reads");
        answer(&mut stream)
    };
    let label = |label: &str| format!("{{\"address\":\"198.51.100.12\",\"label\":\"{label}\"}}");
    call(
        "org.ipfloater.Allocate",
        "{\"floating_ip\":\"198.51.100.12\"}",
    );
    for n in 0..300 {
        let said = call("org.ipfloater.Nothing", "{}");
        assert!(said.contains("MethodNotFound"), "{said}");
        let said = call("org.ipfloater.Release", "{\"address\":\"192.0.2.1\"}");
        assert!(said.contains("error"), "{said}");
        if n % 100 == 0 {
            call("org.ipfloater.Update", &label(&format!("web{n}")));
        }
        call("org.ipfloater.Update", &label("web200"));
    }
    let pid = i32::try_from(remote.child.id()).expect("a pid is positive");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it runs");
    remote.child.wait().expect("it stops");
    let log = remote.log();
    let lines = log.lines().count();
    assert!((10..60).contains(&lines), "{lines} lines: {log}");
    for label in ["web0", "web100", "web200"] {
        let line =
            format!(") calls Update: {{\"address\":\"198.51.100.12\",\"label\":\"{label}\"}}");
        assert!(log.contains(&line), "{label}: {log}");
    }
    assert!(log.contains(") came or called in vain "), "{log}");
    assert!(log.contains("refused by org.ipfloater."), "{log}");
    assert!(!log.contains("Nothing"), "{log}");
}

#[test]
fn what_is_for_the_router_s_own_users_is_not_for_guests() {
    let remote = Remote::new();
    let mut stream = remote.speak(Some("ops"));
    for (call, said) in [
        (
            "{\"method\":\"io.systemd.service.SetLogLevel\",\"parameters\":{\"level\":0}}\0",
            "org.varlink.service.InterfaceNotFound",
        ),
        (
            "{\"method\":\"org.ipfloater.Allocate\",\"parameters\":{\"allowInteractiveAuthentication\":true}}\0",
            "org.varlink.service.InvalidParameter",
        ),
        (
            "{\"method\":\"org.varlink.service.GetInfo\"}\0",
            "ipfloaterd",
        ),
    ] {
        stream.write_all(call.as_bytes()).expect("it reads");
        let answer = answer(&mut stream);
        assert!(answer.contains(said), "{answer}");
    }
}

/// A change whose answer nobody wants, or waits for, is in the log as others are.
#[test]
fn a_change_is_logged_whoever_waits_for_it() {
    let remote = Remote::new();
    let mut stream = remote.speak(Some("ops"));
    let call = "{\"method\":\"org.ipfloater.Allocate\",\"oneway\":true,\"parameters\":{\"floating_ip\":\"198.51.100.12\"}}\0\
                {\"method\":\"org.ipfloater.GetVersion\"}\0";
    stream.write_all(call.as_bytes()).expect("it reads");
    let said = answer(&mut stream);
    assert!(said.contains("api_version"), "{said}");
    let call = "{\"method\":\"org.ipfloater.Allocate\",\"parameters\":{\"floating_ip\":\"198.51.100.13\"}}\0";
    stream.write_all(call.as_bytes()).expect("it reads");
    drop(stream);
    for floating in ["198.51.100.12", "198.51.100.13"] {
        let line = format!(") calls Allocate: {{\"floating_ip\":\"{floating}\"}}");
        eventually(floating, || remote.log().contains(&line));
        assert!(remote.order("list").contains(floating));
    }
}
