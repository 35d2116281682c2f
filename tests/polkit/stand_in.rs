//! A polkit that says what it is told to say, and remembers what it was asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use zbus::{Connection, OwnedVariant, Type, connection, fdo, interface};

use crate::bus::PrivateBus;

/// Long enough for a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What it says to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    Yes,
    No,
    Challenge,
    /// It gives an error.
    Error,
    /// It says yes once it is told to go on.
    Later,
}

/// A question.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) kind: String,
    pub(crate) subject: Vec<String>,
    pub(crate) action: String,
    pub(crate) details: HashMap<String, String>,
    pub(crate) interactive: bool,
    pub(crate) id: String,
}

#[derive(Debug)]
struct Memory {
    version: &'static str,
    quietly: Says,
    prompted: Says,
    asked: Vec<Asked>,
    cancelled: Vec<String>,
    agents: Vec<u32>,
}

/// A polkit on the bus, until it is dropped.
pub(crate) struct StandIn {
    memory: Arc<Mutex<Memory>>,
    go_on: Arc<Notify>,
    connection: Option<Connection>,
    pub(crate) runtime: Runtime,
}

impl StandIn {
    /// One that says this without a prompt, and that with one.
    pub(crate) fn start(bus: &PrivateBus, quietly: Says, prompted: Says) -> Self {
        Self::start_as("126", bus, quietly, prompted)
    }

    /// The same of another version.
    pub(crate) fn start_as(
        version: &'static str,
        bus: &PrivateBus,
        quietly: Says,
        prompted: Says,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let memory = Arc::new(Mutex::new(Memory {
            version,
            quietly,
            prompted,
            asked: Vec::new(),
            cancelled: Vec::new(),
            agents: Vec::new(),
        }));
        let mut stand_in = StandIn {
            memory,
            go_on: Arc::default(),
            connection: None,
            runtime,
        };
        stand_in.appear(bus);
        stand_in
    }

    /// Takes the name, as a polkitd does that was started.
    pub(crate) fn appear(&mut self, bus: &PrivateBus) {
        let authority = Authority {
            memory: Arc::clone(&self.memory),
            go_on: Arc::clone(&self.go_on),
        };
        let address = bus.address();
        let connection = self.runtime.block_on(async {
            connection::Builder::address(address.as_str())
                .serve_at("/org/freedesktop/PolicyKit1/Authority", authority)
                .name("org.freedesktop.PolicyKit1")
                .allow_name_replacements(true)
                .replace_existing_names(true)
                .build()
                .await
        });
        self.connection = Some(connection.expect("the bus lets root have the name"));
    }

    /// Leaves the bus, as a polkitd does that was killed.
    pub(crate) fn vanish(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = self.runtime.block_on(connection.close());
        }
    }

    /// Gives way to another one, which says this. A bus that starts polkit has
    /// no moment without it, either.
    pub(crate) fn restart(&mut self, bus: &PrivateBus, quietly: Says, prompted: Says) {
        let former = self.connection.take();
        self.say(quietly, prompted);
        self.appear(bus);
        if let Some(former) = former {
            let _ = self.runtime.block_on(former.close());
        }
    }

    /// Says this from now on.
    pub(crate) fn say(&self, quietly: Says, prompted: Says) {
        let mut memory = self.memory();
        (memory.quietly, memory.prompted) = (quietly, prompted);
    }

    /// Answers those who wait.
    pub(crate) fn go_on(&self) {
        self.go_on.notify_waiters();
    }

    /// Everything it was asked.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.memory().asked.clone()
    }

    /// Waits for the question that opens a prompt.
    pub(crate) fn prompt(&self) -> Asked {
        self.wait("nobody was prompted", |memory| {
            memory.asked.iter().find(|asked| asked.interactive).cloned()
        })
    }

    /// Waits until this question is taken back.
    pub(crate) fn is_cancelled(&self, question: &Asked) {
        self.wait("the question was not taken back", |memory| {
            memory.cancelled.contains(&question.id).then_some(())
        });
    }

    /// The processes that agents were registered for.
    pub(crate) fn agents(&self) -> Vec<u32> {
        self.memory().agents.clone()
    }

    #[track_caller]
    fn wait<T>(&self, what: &str, look: impl Fn(&Memory) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(seen) = look(&self.memory()) {
                return seen;
            }
            assert!(Instant::now() < deadline, "{what}: {:?}", self.memory());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap()
    }
}

struct Authority {
    memory: Arc<Mutex<Memory>>,
    go_on: Arc<Notify>,
}

/// polkit's answer, `(bba{ss})`.
#[derive(Debug, Serialize, Type)]
struct Authorization {
    is_authorized: bool,
    is_challenge: bool,
    details: HashMap<String, String>,
}

type Subject = (String, HashMap<String, OwnedVariant>);

#[interface(name = "org.freedesktop.PolicyKit1.Authority")]
impl Authority {
    async fn check_authorization(
        &self,
        subject: Subject,
        action_id: String,
        details: HashMap<String, String>,
        flags: u32,
        cancellation_id: String,
    ) -> fdo::Result<(Authorization,)> {
        let interactive = flags & 1 == 1;
        // Who comes after this is told to go on, too.
        let told = self.go_on.notified();
        let says = {
            let mut memory = self.memory.lock().unwrap();
            let mut about: Vec<_> = subject.1.into_keys().collect();
            about.sort();
            memory.asked.push(Asked {
                kind: subject.0,
                subject: about,
                action: action_id,
                details,
                interactive,
                id: cancellation_id,
            });
            if interactive {
                memory.prompted
            } else {
                memory.quietly
            }
        };
        let (is_authorized, is_challenge) = match says {
            Says::Yes => (true, false),
            Says::No => (false, false),
            Says::Challenge => (false, true),
            Says::Error => return Err(fdo::Error::Failed("no such action".into())),
            Says::Later => {
                told.await;
                (true, false)
            }
        };
        Ok((Authorization {
            is_authorized,
            is_challenge,
            details: HashMap::new(),
        },))
    }

    async fn cancel_check_authorization(&self, cancellation_id: String) {
        self.memory.lock().unwrap().cancelled.push(cancellation_id);
    }

    async fn register_authentication_agent_with_options(
        &self,
        subject: Subject,
        _locale: String,
        _object_path: String,
        _options: HashMap<String, OwnedVariant>,
    ) {
        if let Some(zbus::Variant::U32(pid)) = subject.1.get("pid").map(|pid| &**pid) {
            self.memory.lock().unwrap().agents.push(*pid);
        }
    }

    async fn unregister_authentication_agent(&self, _subject: Subject, _object_path: String) {}

    #[zbus(property)]
    fn backend_name(&self) -> String {
        "stand-in".to_owned()
    }

    #[zbus(property)]
    fn backend_version(&self) -> String {
        self.memory.lock().unwrap().version.to_owned()
    }

    #[zbus(property)]
    fn backend_features(&self) -> u32 {
        1
    }
}
