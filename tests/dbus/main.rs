//! The D-Bus front on a real bus, as `busctl` and a zbus client see it.
//!
//! Each test starts a dbus-daemon of its own. What needs a caller of another
//! user is left out, and says so, when the tests are not run by root.

mod bus;
mod introspection;
mod responder;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::{Command, Output};
use std::time::Duration;

use futures_util::StreamExt;
use ipfloater::api::dbus::{BUS_NAME, Bus, INTERFACE, OBJECT_PATH, serve};
use ipfloater::authority::Authority;
use ipfloater::control::{Handle, Message, Rejection};
use ipfloater::kernel::Noticed;
use ipfloater::model::{FixedIp, FloatingIp, NotAHost};
use ipfloater::request::Refusal;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zbus::{Connection, DBusError, OwnedVariant, Proxy, Variant};

use bus::PrivateBus;
use responder::Answers;

const CONTRACT: &str = include_str!("../../interfaces/org.ipfloater.Manager.xml");

/// Long enough for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(20);

/// uid 65534 is `nobody` everywhere.
const NOBODY: u32 = 65_534;

type Row = BTreeMap<String, OwnedVariant>;

/// The front at work on a bus of its own.
struct Service {
    bus: PrivateBus,
    handle: Handle,
    answers: Answers,
    problem: watch::Receiver<Option<String>>,
    task: JoinHandle<()>,
}

impl Service {
    async fn start() -> Self {
        let mut service = Self::start_on(PrivateBus::start());
        service.problem_is(|problem| problem.is_none()).await;
        service
    }

    fn start_on(bus: PrivateBus) -> Self {
        let (handle, answers) = responder::start();
        let (tell, problem) = watch::channel(Some("not started".to_owned()));
        let address = Bus::At(bus.address());
        let authority = Authority::of_this_process();
        let served = handle.clone();
        let task = tokio::spawn(async move {
            serve(address, served, authority, tell).await;
        });
        Service {
            bus,
            handle,
            answers,
            problem,
            task,
        }
    }

    async fn problem_is(&mut self, wanted: impl Fn(&Option<String>) -> bool) -> Option<String> {
        let last = self.problem.clone();
        let problem = timeout(PATIENCE, self.problem.wait_for(|problem| wanted(problem)));
        match problem.await {
            Ok(problem) => problem.expect("the front still runs").clone(),
            Err(_) => panic!("the problem stays {:?}", *last.borrow()),
        }
    }

    async fn client(&self) -> Proxy<'static> {
        let connection = connect(&self.bus).await;
        Proxy::new(&connection, BUS_NAME, OBJECT_PATH, INTERFACE)
            .await
            .unwrap()
    }

    fn busctl(&self, arguments: &[&str]) -> Output {
        let address = format!("--address={}", self.bus.address());
        let busctl = Command::new("busctl").arg(address).args(arguments).output();
        busctl.expect("busctl is installed")
    }

    /// Calls a method as `busctl` does, and returns what it prints.
    fn call(&self, method: &str, arguments: &[&str]) -> Result<String, String> {
        said(self.busctl(&call_of(method, arguments)))
    }

    /// The same, by another user.
    fn call_as(&self, uid: u32, method: &str, arguments: &[&str]) -> Result<String, String> {
        let user = [format!("--reuid={uid}"), format!("--regid={uid}")];
        let setpriv = Command::new("setpriv")
            .args(user)
            .args(["--clear-groups", "busctl"])
            .arg(format!("--address={}", self.bus.address()))
            .args(call_of(method, arguments))
            .output();
        said(setpriv.expect("setpriv is installed"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
        if let Ok(stop) = tokio::runtime::Handle::try_current() {
            let handle = self.handle.clone();
            stop.spawn_blocking(move || handle.tell(Message::Stop));
        }
    }
}

async fn connect(bus: &PrivateBus) -> Connection {
    let address = bus.address();
    let builder = zbus::connection::Builder::address(address.as_str());
    builder.build().await.expect("the bus lets us in")
}

fn call_of<'a>(method: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    let call = ["call", BUS_NAME, OBJECT_PATH, INTERFACE, method];
    [&call, arguments].concat()
}

fn said(output: Output) -> Result<String, String> {
    let text = |bytes| String::from_utf8(bytes).expect("busctl prints UTF-8");
    if output.status.success() {
        Ok(text(output.stdout).trim_end().to_owned())
    } else {
        Err(text(output.stderr).trim_end().to_owned())
    }
}

/// Options for a call by zbus.
fn options<const N: usize>(
    given: [(&'static str, Variant<'static>); N],
) -> BTreeMap<&'static str, Variant<'static>> {
    given.into()
}

/// The name and the text of the error that a call of the interface ends in.
async fn refused<B>(client: &Proxy<'_>, method: &str, body: &B) -> (String, String)
where
    B: serde::Serialize + zbus::DynamicType,
{
    failure(client.call_method(method, body).await)
}

fn failure<T: std::fmt::Debug>(answer: zbus::Result<T>) -> (String, String) {
    match answer {
        Err(zbus::Error::MethodError(name, text, _)) => {
            (name.to_string(), text.unwrap_or_default())
        }
        // zbus has a type for the errors that every service has.
        Err(zbus::Error::FDO(error)) => {
            let text = error.description().unwrap_or_default();
            (error.name().to_string(), text.to_owned())
        }
        other => panic!("this was to be refused: {other:?}"),
    }
}

fn texts(row: &Row) -> BTreeMap<&str, String> {
    let text = |value: &OwnedVariant| match &**value {
        Variant::Str(text) => text.to_string(),
        Variant::U32(number) => number.to_string(),
        Variant::U64(number) => number.to_string(),
        other => other.to_string(),
    };
    row.iter()
        .map(|(key, value)| (key.as_str(), text(value)))
        .collect()
}

fn is_root() -> bool {
    let root = nix::unistd::getuid().is_root();
    if !root {
        eprintln!("left out: only root can call as another user");
    }
    root
}

#[tokio::test(flavor = "multi_thread")]
async fn running_introspection_keeps_what_the_interface_file_promises() {
    let service = Service::start().await;
    let running = service.busctl(&["introspect", "--xml-interface", BUS_NAME, OBJECT_PATH]);
    let running = said(running).unwrap();

    let promised = introspection::promises(CONTRACT, INTERFACE);
    assert_eq!(introspection::promises(&running, INTERFACE), promised);
    assert_eq!(promised.len(), 9 + 1 + 4, "{promised:#?}");
}

#[test]
fn every_member_of_the_interface_file_is_described() {
    assert_eq!(introspection::undocumented(CONTRACT), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn busctl_calls_every_method() {
    let service = Service::start().await;
    let call = |method: &str, arguments: &[&str]| service.call(method, arguments).unwrap();
    let uid = nix::unistd::getuid();

    assert_eq!(
        call("Allocate", &["a{sv}", "1", "pool", "s", "default"]),
        format!(
            "a{{sv}} 8 \"floating_ip\" s \"192.0.2.10\" \"pool\" s \"default\" \
             \"state\" s \"allocated\" \"owner\" u {uid} \"allocated_at\" x 1700000000 \
             \"changed\" b true \"revision\" t 1 \"sequence\" t 1"
        )
    );
    assert_eq!(
        call("Associate", &["ssa{sv}", "192.0.2.10", "10.0.0.5", "0"]),
        format!(
            "a{{sv}} 10 \"floating_ip\" s \"192.0.2.10\" \"pool\" s \"default\" \
             \"state\" s \"active\" \"fixed_address\" s \"10.0.0.5\" \"owner\" u {uid} \
             \"allocated_at\" x 1700000000 \"associated_at\" x 1700000000 \
             \"changed\" b true \"revision\" t 2 \"sequence\" t 2"
        )
    );
    assert_eq!(
        call("List", &["a{sv}", "1", "owner", "u", &uid.to_string()]),
        format!(
            "aa{{sv}}s 1 7 \"floating_ip\" s \"192.0.2.10\" \"pool\" s \"default\" \
             \"state\" s \"active\" \"fixed_address\" s \"10.0.0.5\" \"owner\" u {uid} \
             \"allocated_at\" x 1700000000 \"associated_at\" x 1700000000 \"\""
        )
    );
    assert_eq!(
        call("Describe", &["sa{sv}", "192.0.2.11", "0"]),
        "a{sv} 3 \"floating_ip\" s \"192.0.2.11\" \"pool\" s \"default\" \"state\" s \"free\""
    );
    assert_eq!(
        call("Disassociate", &["sa{sv}", "10.0.0.5", "0"]),
        format!(
            "a{{sv}} 9 \"floating_ip\" s \"192.0.2.10\" \"pool\" s \"default\" \
             \"state\" s \"allocated\" \"owner\" u {uid} \"allocated_at\" x 1700000000 \
             \"changed\" b true \"previous_fixed_address\" s \"10.0.0.5\" \
             \"revision\" t 3 \"sequence\" t 3"
        )
    );
    assert_eq!(
        call("Release", &["sa{sv}", "192.0.2.10", "0"]),
        "a{sv} 6 \"floating_ip\" s \"192.0.2.10\" \"pool\" s \"default\" \"state\" s \"free\" \
         \"changed\" b true \"revision\" t 4 \"sequence\" t 4"
    );
    assert_eq!(
        call("ListPools", &["a{sv}", "0"]),
        "aa{sv} 2 \
         7 \"name\" s \"default\" \"addresses\" as 1 \"192.0.2.10-192.0.2.19\" \
         \"interface\" s \"eth0\" \"routed\" b false \
         \"size\" t 10 \"allocated\" t 0 \"associated\" t 0 \
         6 \"name\" s \"six\" \"addresses\" as 1 \"2001:db8::10-2001:db8::1f\" \
         \"routed\" b true \"size\" t 16 \"allocated\" t 0 \"associated\" t 0"
    );
    assert_eq!(
        call("GetStatus", &["a{sv}", "0"]),
        format!(
            "a{{sv}} 13 \"state\" s \"running\" \"version\" s \"{}\" \
             \"revision\" t 4 \"sequence\" t 4 \"size\" t 26 \"allocated\" t 0 \
             \"associated\" t 0 \"pending\" t 0 \"outside\" as 1 \"eth0\" \
             \"problems\" as 0 \"warnings\" as 0 \"repairs\" t 0 \"simulated\" b true",
            env!("CARGO_PKG_VERSION")
        )
    );
    assert_eq!(
        call("History", &["a{sv}", "1", "limit", "u", "1"]),
        format!(
            "aa{{sv}} 1 7 \"sequence\" t 4 \"revision\" t 4 \"at\" x 1700000000 \
             \"uid\" u {uid} \"via\" s \"dbus\" \"verb\" s \"release\" \
             \"floating_ip\" s \"192.0.2.10\""
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_floating_ip_takes_a_free_one() {
    let service = Service::start().await;
    let client = service.client().await;
    let nothing = options([]);

    let row: Row = client
        .call("Associate", &("", "10.0.0.5", nothing))
        .await
        .unwrap();
    let texts = texts(&row);
    assert_eq!(texts["floating_ip"], "192.0.2.10");
    assert_eq!(texts["fixed_address"], "10.0.0.5");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_comes_in_pages_by_cursor() {
    let service = Service::start().await;
    let client = service.client().await;
    for _ in 0..5 {
        let _: Row = client.call("Allocate", &(options([]),)).await.unwrap();
    }

    let mut pages = Vec::new();
    let mut after = String::new();
    loop {
        let mut wanted = options([("limit", 2_u32.into())]);
        if !after.is_empty() {
            wanted.insert("after", after.into());
        }
        let (rows, next): (Vec<Row>, String) = client.call("List", &(wanted,)).await.unwrap();
        let page = rows.iter().map(|row| texts(row)["floating_ip"].clone());
        pages.push(page.collect::<Vec<_>>().join(" "));
        if next.is_empty() {
            break;
        }
        after = next;
    }
    assert_eq!(
        pages,
        [
            "192.0.2.10 192.0.2.11",
            "192.0.2.12 192.0.2.13",
            "192.0.2.14"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_read_page_by_page_and_by_address() {
    let service = Service::start().await;
    let client = service.client().await;
    for floating in ["192.0.2.10", "192.0.2.11", "192.0.2.12"] {
        let wanted = options([("floating_ip", floating.into())]);
        let _: Row = client.call("Allocate", &(wanted,)).await.unwrap();
    }

    let before = options([("before", 3_u64.into()), ("limit", 1_u32.into())]);
    let rows: Vec<Row> = client.call("History", &(before,)).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(texts(&rows[0])["floating_ip"], "192.0.2.11");

    let about = options([("address", "192.0.2.10".into())]);
    let rows: Vec<Row> = client.call("History", &(about,)).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(texts(&rows[0])["sequence"], "1");

    let tie = ("192.0.2.12", "10.0.0.5", options([]));
    let _: Row = client.call("Associate", &tie).await.unwrap();
    let by_host = options([("address", "10.0.0.5".into())]);
    let rows: Vec<Row> = client.call("History", &(by_host,)).await.unwrap();
    let verbs = rows.iter().map(|row| texts(row)["verb"].clone());
    assert_eq!(verbs.collect::<Vec<_>>(), ["associate", "allocate"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_option_is_refused_by_its_name() {
    let service = Service::start().await;
    let client = service.client().await;
    let unknown = || options([("colour", "red".into())]);
    for method in ["Allocate", "List", "ListPools", "GetStatus", "History"] {
        let (name, text) = refused(&client, method, &(unknown(),)).await;
        assert_eq!(name, "org.freedesktop.DBus.Error.InvalidArgs", "{method}");
        assert!(text.starts_with("unknown option \"colour\"; "), "{text}");
    }
    for method in ["Disassociate", "Release", "Describe"] {
        let (name, text) = refused(&client, method, &("10.0.0.5", unknown())).await;
        assert_eq!(name, "org.freedesktop.DBus.Error.InvalidArgs", "{method}");
        assert_eq!(text, "unknown option \"colour\"; this method has none yet");
    }
    let arguments = ("", "10.0.0.5", unknown());
    assert_eq!(
        refused(&client, "Associate", &arguments).await.1,
        "unknown option \"colour\"; this method knows pool, reassociate"
    );

    let error = service.call("Allocate", &["a{sv}", "1", "pool", "u", "7"]);
    assert_eq!(
        error.unwrap_err(),
        "Call failed: option \"pool\" is of type s, not u"
    );
    assert_eq!(service.handle.snapshot().state.allocated(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_cannot_be_is_refused_with_its_field() {
    let service = Service::start().await;
    let client = service.client().await;
    for (option, value, name, text) in [
        (
            "floating_ip",
            Variant::from("010.0.0.1"),
            "InvalidAddress",
            "floating_ip: ",
        ),
        ("floating_ip", "".into(), "InvalidAddress", "floating_ip: "),
        ("pool", "a b".into(), "InvalidArgument", "pool: "),
    ] {
        let arguments = (options([(option, value)]),);
        let (found, said) = refused(&client, "Allocate", &arguments).await;
        assert_eq!(found, format!("org.ipfloater.Error.{name}"));
        assert!(said.starts_with(text), "{said}");
    }
    for (option, value) in [
        ("limit", Variant::from(0_u32)),
        ("limit", 1_001_u32.into()),
        ("state", "free".into()),
    ] {
        let arguments = (options([(option, value)]),);
        let (found, said) = refused(&client, "List", &arguments).await;
        assert_eq!(found, "org.ipfloater.Error.InvalidArgument");
        assert!(said.starts_with(option), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_refused_as_every_service_does() {
    let service = Service::start().await;
    let client = service.client().await;

    let wrong = refused(&client, "Allocate", &("text",)).await;
    assert_eq!(wrong.0, "org.freedesktop.DBus.Error.InvalidArgs");

    let at = |path, interface, method| {
        client.connection().call_method(
            Some(BUS_NAME),
            path,
            Some(interface),
            method,
            &(INTERFACE, "Colour"),
        )
    };
    for (path, interface, method, name) in [
        (OBJECT_PATH, INTERFACE, "Paint", "UnknownMethod"),
        (
            OBJECT_PATH,
            "org.ipfloater.Painter",
            "Paint",
            "UnknownInterface",
        ),
        ("/org/ipfloater/address", INTERFACE, "List", "UnknownObject"),
        (
            OBJECT_PATH,
            "org.freedesktop.DBus.Properties",
            "Get",
            "UnknownProperty",
        ),
    ] {
        let found = failure(at(path, interface, method).await).0;
        assert_eq!(found, format!("org.freedesktop.DBus.Error.{name}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_properties_can_be_read_and_not_set() {
    let service = Service::start().await;
    let get = |name| {
        said(service.busctl(&["get-property", BUS_NAME, OBJECT_PATH, INTERFACE, name])).unwrap()
    };
    let version = format!("s \"{}\"", env!("CARGO_PKG_VERSION"));
    assert_eq!(get("Version"), version);
    assert_eq!(get("ApiVersion"), "u 1");
    assert_eq!(get("Revision"), "t 0");
    assert_eq!(get("State"), "s \"running\"");

    let set = ["set-property", BUS_NAME, OBJECT_PATH, INTERFACE];
    assert!(said(service.busctl(&[&set[..], &["State", "s", "x"]].concat())).is_err());
    assert_eq!(get("State"), "s \"running\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_not_root_may_read_and_not_change() {
    if !is_root() {
        return;
    }
    let service = Service::start().await;
    let denied = |method: &str, arguments: &[&str], verb: &str| {
        assert_eq!(
            service.call_as(NOBODY, method, arguments).unwrap_err(),
            "Call failed: Access denied",
            "{verb}"
        );
    };
    denied("Allocate", &["a{sv}", "0"], "allocate");
    denied("Associate", &["ssa{sv}", "", "10.0.0.5", "0"], "associate");
    denied("Disassociate", &["sa{sv}", "10.0.0.5", "0"], "disassociate");
    denied("Release", &["sa{sv}", "10.0.0.5", "0"], "release");
    denied("History", &["a{sv}", "0"], "read the history");
    assert_eq!(service.handle.snapshot().state.revision().0, 0);

    for (method, arguments) in [
        ("List", &["a{sv}", "0"][..]),
        ("ListPools", &["a{sv}", "0"]),
        ("GetStatus", &["a{sv}", "0"]),
        ("Describe", &["sa{sv}", "192.0.2.10", "0"]),
    ] {
        let answer = service.call_as(NOBODY, method, arguments);
        assert!(answer.is_ok(), "{method}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rejection_has_its_name_on_the_bus_and_in_the_interface_file() {
    let service = Service::start().await;
    let client = service.client().await;
    for rejection in rejections() {
        service.answers.reject_next(rejection.clone());
        let (name, text) = refused(&client, "Allocate", &(options([]),)).await;
        assert_eq!(name, format!("org.ipfloater.Error.{}", rejection.name()));
        assert_eq!(text, rejection.to_string());
        let documented = CONTRACT.split_whitespace().any(|word| word == name);
        assert!(documented, "{name} is missing in interfaces/");
    }
}

/// One of each. A new one does not compile until it has its place here.
fn rejections() -> Vec<Rejection> {
    let floating: FloatingIp = "192.0.2.10".parse().unwrap();
    let fixed: FixedIp = "10.0.0.5".parse().unwrap();
    let address: IpAddr = fixed.ip();
    let family = "IPv4".to_owned();
    let pool = None;
    let refusals = vec![
        Refusal::invalid_address("floating_ip", "x", "it is none"),
        Refusal::InvalidArgument {
            field: "pool".to_owned(),
            why: "it is empty".to_owned(),
        },
        Refusal::NoSuchPool("a".parse().unwrap()),
        Refusal::NotInPool {
            address,
            pool: pool.clone(),
        },
        Refusal::AlreadyAllocated { floating },
        Refusal::PoolExhausted {
            family: family.clone(),
            pool,
        },
        Refusal::WrongFamily { floating, fixed },
        Refusal::OutsidePrivateRanges { fixed },
        Refusal::NotAHost {
            fixed,
            why: NotAHost::Router,
        },
        Refusal::RouterAddress { floating },
        Refusal::AlreadyAssociated { floating, fixed },
        Refusal::TargetInUse { fixed, floating },
        Refusal::NotAssociated { address },
        Refusal::LimitReached { limit: 1, family },
    ];
    for refusal in &refusals {
        match refusal {
            Refusal::InvalidAddress { .. }
            | Refusal::InvalidArgument { .. }
            | Refusal::NoSuchPool(_)
            | Refusal::NotInPool { .. }
            | Refusal::AlreadyAllocated { .. }
            | Refusal::PoolExhausted { .. }
            | Refusal::WrongFamily { .. }
            | Refusal::OutsidePrivateRanges { .. }
            | Refusal::NotAHost { .. }
            | Refusal::RouterAddress { .. }
            | Refusal::AlreadyAssociated { .. }
            | Refusal::TargetInUse { .. }
            | Refusal::NotAssociated { .. }
            | Refusal::LimitReached { .. } => {}
        }
    }
    let mut rejections: Vec<_> = refusals.into_iter().map(Rejection::from).collect();
    rejections.extend([
        Rejection::Busy,
        Rejection::StoreFailed("the disk is full".to_owned()),
        Rejection::Stopping,
    ]);
    for rejection in &rejections {
        match rejection {
            Rejection::Refused(_)
            | Rejection::Busy
            | Rejection::StoreFailed(_)
            | Rejection::Stopping => {}
        }
    }
    rejections
}

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
