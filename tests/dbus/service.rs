//! The front at work on a bus of its own, and how the tests talk to it.

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::time::Duration;

use ipfloater::api::dbus::{BUS_NAME, Bus, INTERFACE, OBJECT_PATH, serve};
use ipfloater::authority::Authority;
use ipfloater::control::{Counters, Handle};
use ipfloater::kernel::FakeKernel;
use ipfloater::reload::Reloader;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zbus::{Connection, DBusError, OwnedVariant, Proxy, Variant};

use crate::bus::PrivateBus;
use crate::policy::Defaults;
use crate::responder::{self, Answers};

pub(crate) const CONTRACT: &str = include_str!("../../interfaces/org.ipfloater.Manager.xml");

/// Long enough for a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// uid 65534 is `nobody` everywhere.
pub(crate) const NOBODY: u32 = 65_534;

pub(crate) type Row = BTreeMap<String, OwnedVariant>;

/// The front at work on a bus of its own.
pub(crate) struct Service {
    pub(crate) bus: PrivateBus,
    pub(crate) handle: Handle,
    pub(crate) answers: Answers,
    problem: watch::Receiver<Option<String>>,
    task: JoinHandle<()>,
}

impl Service {
    pub(crate) async fn start() -> Self {
        let mut service = Self::start_on(PrivateBus::start());
        service.problem_is(|problem| problem.is_none()).await;
        service
    }

    pub(crate) fn start_on(bus: PrivateBus) -> Self {
        let (handle, answers) = responder::start();
        let (tell, problem) = watch::channel(Some("not started".to_owned()));
        let address = Bus::At(bus.address());
        let authority = Authority::new(Defaults::default());
        let service = ipfloater::api::Service {
            handle: handle.clone(),
            counters: Counters::start(FakeKernel::simulated().meter()).unwrap(),
            authority,
            reloader: Reloader::new(handle.clone(), None, true),
        };
        let task = tokio::spawn(async move {
            serve(address, service, tell).await;
        });
        Service {
            bus,
            handle,
            answers,
            problem,
            task,
        }
    }

    pub(crate) async fn problem_is(
        &mut self,
        wanted: impl Fn(&Option<String>) -> bool,
    ) -> Option<String> {
        let last = self.problem.clone();
        let problem = timeout(PATIENCE, self.problem.wait_for(|problem| wanted(problem)));
        match problem.await {
            Ok(problem) => problem.expect("the front still runs").clone(),
            Err(_) => panic!("the problem stays {:?}", *last.borrow()),
        }
    }

    pub(crate) async fn client(&self) -> Proxy<'static> {
        let connection = connect(&self.bus).await;
        Proxy::new(&connection, BUS_NAME, OBJECT_PATH, INTERFACE)
            .await
            .unwrap()
    }

    pub(crate) fn busctl(&self, arguments: &[&str]) -> Output {
        let address = format!("--address={}", self.bus.address());
        let busctl = Command::new("busctl").arg(address).args(arguments).output();
        busctl.expect("busctl is installed")
    }

    /// Calls a method as `busctl` does, and returns what it prints.
    pub(crate) fn call(&self, method: &str, arguments: &[&str]) -> Result<String, String> {
        said(self.busctl(&call_of(method, arguments)))
    }

    /// The same, by another user.
    pub(crate) fn call_as(
        &self,
        uid: u32,
        method: &str,
        arguments: &[&str],
    ) -> Result<String, String> {
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
    }
}

pub(crate) async fn connect(bus: &PrivateBus) -> Connection {
    let address = bus.address();
    let builder = zbus::connection::Builder::address(address.as_str());
    builder.build().await.expect("the bus lets us in")
}

fn call_of<'a>(method: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    let call = ["call", BUS_NAME, OBJECT_PATH, INTERFACE, method];
    [&call, arguments].concat()
}

pub(crate) fn said(output: Output) -> Result<String, String> {
    let text = |bytes| String::from_utf8(bytes).expect("busctl prints UTF-8");
    if output.status.success() {
        Ok(text(output.stdout).trim_end().to_owned())
    } else {
        Err(text(output.stderr).trim_end().to_owned())
    }
}

/// Options for a call by zbus.
pub(crate) fn options<const N: usize>(
    given: [(&'static str, Variant<'static>); N],
) -> BTreeMap<&'static str, Variant<'static>> {
    given.into()
}

/// The name and the text of the error that a call of the interface ends in.
pub(crate) async fn refused<B>(client: &Proxy<'_>, method: &str, body: &B) -> (String, String)
where
    B: serde::Serialize + zbus::DynamicType,
{
    failure(client.call_method(method, body).await)
}

pub(crate) fn failure<T: std::fmt::Debug>(answer: zbus::Result<T>) -> (String, String) {
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

pub(crate) fn texts(row: &Row) -> BTreeMap<&str, String> {
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

pub(crate) fn is_root() -> bool {
    let root = nix::unistd::getuid().is_root();
    if !root {
        eprintln!("left out: only root can call as another user");
    }
    root
}
