//! Signals, and being on the bus: its restarts, its policy, the name.

use std::process::Command;

use futures_util::StreamExt;
use ipfloater::api::dbus::BUS_NAME;
use ipfloater::control::Message;
use ipfloater::kernel::Noticed;
use tokio::time::timeout;

use crate::bus::PrivateBus;
use crate::service::{PATIENCE, Row, Service, connect, is_root, options, said};

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_tells_every_change_with_its_sequence() {
    let service = Service::start().await;
    let client = service.client().await;
    let mut signals = client.receive_signal("Changed").await.unwrap();

    let _: Row = client
        .call("Associate", &("192.0.2.12", "10.0.0.5", options([])))
        .await
        .unwrap();
    let handle = service.handle.clone();
    tokio::task::spawn_blocking(move || handle.tell(Message::Noticed(Noticed::Table)));
    let mut told = Vec::new();
    for _ in 0..3 {
        let signal = timeout(PATIENCE, signals.next()).await.unwrap().unwrap();
        let body: (String, String, u64, u64) = signal.body().deserialize().unwrap();
        told.push(body);
    }
    assert_eq!(
        told,
        [
            ("192.0.2.12".to_owned(), "allocated".to_owned(), 1, 1),
            ("192.0.2.12".to_owned(), "active".to_owned(), 2, 2),
            // A repair concerns no single address, and follows no commit.
            (String::new(), String::new(), 0, 3),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_property_state_tells_when_it_turns() {
    let service = Service::start().await;
    let client = service.client().await;
    let mut changes = client.receive_property_changed::<String>("State").await;
    let first = timeout(PATIENCE, changes.next()).await.unwrap().unwrap();
    assert_eq!(first.get().await.unwrap(), "running");

    let handle = service.handle.clone();
    tokio::task::spawn_blocking(move || handle.tell(Message::Noticed(Noticed::Table)));
    let turned = timeout(PATIENCE, changes.next()).await.unwrap().unwrap();
    assert_eq!(turned.get().await.unwrap(), "degraded");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_bus_the_name_is_owned_again() {
    let mut service = Service::start().await;
    service.bus.stop();
    let problem = service.problem_is(Option::is_some).await.unwrap();
    assert!(problem.contains("system bus"), "{problem}");
    assert!(problem.contains("varlink still works"), "{problem}");

    service.bus.restart();
    service.problem_is(|problem| problem.is_none()).await;
    assert!(service.call("GetStatus", &["a{sv}", "0"]).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_comes_later_is_found() {
    let mut bus = PrivateBus::start();
    bus.stop();
    let mut service = Service::start_on(bus);
    let absent = |problem: &Option<String>| {
        problem
            .as_ref()
            .is_some_and(|problem| problem.starts_with("the system bus cannot be reached: "))
    };
    service.problem_is(absent).await;

    service.bus.restart();
    service.problem_is(|problem| problem.is_none()).await;
    assert!(service.call("GetStatus", &["a{sv}", "0"]).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_another_process_has_is_waited_for_and_its_owner_named() {
    let bus = PrivateBus::start();
    let other = connect(&bus).await;
    other.request_name(BUS_NAME).await.unwrap();

    let mut service = Service::start_on(bus);
    let pid = std::process::id();
    let taken = format!(
        "the bus name org.ipfloater belongs to another process (process {pid} of user {}); \
         stop it; trying again, and varlink still works",
        nix::unistd::getuid()
    );
    service
        .problem_is(|problem| problem.as_deref() == Some(&taken))
        .await;

    other.close().await.unwrap();
    service.problem_is(|problem| problem.is_none()).await;
    assert!(service.call("GetStatus", &["a{sv}", "0"]).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_without_our_policy_is_a_problem_that_names_the_file() {
    let mut service = Service::start_on(PrivateBus::start_without_policy());
    let refused = |problem: &Option<String>| {
        let line = problem.as_deref().unwrap_or_default();
        line.starts_with("the system bus refuses the name org.ipfloater; its policy ")
            && line.contains("/usr/share/dbus-1/system.d")
    };
    service.problem_is(refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_take_the_name_away() {
    let service = Service::start().await;
    let thief = connect(&service.bus).await;
    // zbus asks to replace the owner.
    assert_eq!(
        thief.request_name(BUS_NAME).await,
        Err(zbus::Error::NameTaken)
    );
    assert!(service.call("GetStatus", &["a{sv}", "0"]).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_gives_the_name_to_root_only() {
    if !is_root() {
        return;
    }
    let bus = PrivateBus::start();
    let taken = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "busctl"])
        .arg(format!("--address={}", bus.address()))
        .args(["call", "org.freedesktop.DBus", "/org/freedesktop/DBus"])
        .args(["org.freedesktop.DBus", "RequestName", "su", BUS_NAME, "4"])
        .output()
        .unwrap();
    let refused = said(taken).unwrap_err();
    assert_eq!(refused, "Call failed: Access denied");
}
