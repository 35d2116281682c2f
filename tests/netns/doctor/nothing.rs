//! A router in which nothing is wrong.

use std::process::{Child, Command, Stdio};

use super::super::bus::PrivateBus;
use super::super::daemon::Start;
use super::super::lab::Plan;
use super::{Clinic, report};

/// The polkit of the distribution, on a bus of our own.
pub(super) struct Polkit(Child);

impl Polkit {
    pub(super) fn start(bus: &str) -> Self {
        let mut command = Command::new("/usr/lib/polkit-1/polkitd");
        command
            .arg("--no-debug")
            .env("DBUS_SYSTEM_BUS_ADDRESS", bus);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("polkitd is installed"))
    }
}

impl Drop for Polkit {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_healthy_router_has_no_finding() {
    let bus = PrivateBus::start_with_real_polkit();
    let address: &'static str = bus.address().leak();
    let _polkit = Polkit::start(address);
    // A bus takes nobody who is in no list of users.
    let start = Start {
        user: "root",
        bus: Some(address),
        configuration: "OUTSIDE_INTERFACE = wan0",
        ..Start::PLAIN
    };
    let clinic = Clinic::with(Plan::default(), start);
    clinic.daemon.order("forward 198.51.100.12:80 10.0.1.12:7");
    let run = |arguments: &str| {
        let mut command = clinic.command("", arguments);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", address);
        let router = &clinic.lab.router;
        router.run(|| command.output().expect("it was built"))
    };
    for address in [
        "",
        "198.51.100.10",
        "10.0.2.13",
        "2001:db8::10",
        "198.51.100.12",
    ] {
        let output = run(address);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said, "Nothing is wrong.\n", "{address}");
        assert_eq!(output.status.code(), Some(0), "{address}: {output:?}");
    }
    let output = run("--json");
    let nothing = serde_json::json!({"findings": [], "errors": 0, "warnings": 0, "notes": 0});
    assert_eq!(report(&output), nothing);
    assert_eq!(output.status.code(), Some(0));
}
