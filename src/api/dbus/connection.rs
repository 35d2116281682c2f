//! Being on the bus: connecting, owning the name, and coming back.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};
use zbus::connection::Builder;
use zbus::fdo::{DBusProxy, RequestNameFlags};
use zbus::names::BusName;
use zbus::{Connection, fdo};

use crate::api::Service;
use crate::control::Handle;
use crate::logging::logging;

use super::log_control::LogControl;
use super::manager::Manager;
use super::{BUS_NAME, OBJECT_PATH, log_control, signals};

/// The first wait before another attempt, and the longest; it doubles between.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How long the bus may take to let us in and to answer. A bus that is alive
/// answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bus {
    /// The one of `$DBUS_SYSTEM_BUS_ADDRESS`, or of the well-known socket.
    System,
    /// The one at this address, as the D-Bus specification writes it.
    At(String),
}

/// Why we are not on the bus.
#[derive(Debug, thiserror::Error)]
enum Absence {
    /// Nobody answers at the address, or we are not let in.
    #[error("the system bus cannot be reached: {0}")]
    Unreachable(zbus::Error),
    /// Somebody answers, but does not go on.
    #[error("the system bus does not answer within {} s", PATIENCE.as_secs())]
    Silent,
    /// Another process has the name.
    #[error("the bus name {BUS_NAME} belongs to another process ({owner}); stop it")]
    NameTaken {
        /// Who that is, as far as the bus tells.
        owner: String,
    },
    /// The bus has no policy that lets us have the name.
    #[error(
        "the system bus refuses the name {BUS_NAME}; its policy {BUS_NAME}.conf belongs in \
         /usr/share/dbus-1/system.d, and the bus reads it on reload: {0}"
    )]
    NameRefused(fdo::Error),
    /// We were on it, and it went away.
    #[error("the system bus has closed the connection")]
    Closed,
}

/// Serves the interface on the bus for as long as the daemon lives.
///
/// While it cannot, `problem` holds one line that says why; requests by varlink
/// are not concerned. Dropping the future leaves the bus.
pub async fn serve(
    bus: Bus,
    service: Service,
    problem: watch::Sender<Option<String>>,
) -> Infallible {
    let mut wait = FIRST_WAIT;
    loop {
        let absence = match enter(&bus, &service).await {
            Ok(connection) => {
                info!(name = BUS_NAME, "on the system bus");
                problem.send_replace(None);
                wait = FIRST_WAIT;
                stay(&connection, &service.handle).await
            }
            Err(absence) => absence,
        };
        tell(&problem, &absence, wait);
        sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Logs a new reason for being absent once, however often it is met.
fn tell(problem: &watch::Sender<Option<String>>, absence: &Absence, wait: Duration) {
    let line = format!("{absence}; trying again, and varlink still works");
    let is_new = problem.send_if_modified(|told| {
        let is_new = told.as_ref() != Some(&line);
        *told = Some(line);
        is_new
    });
    if is_new {
        warn!("{absence}; will try again in {} s", wait.as_secs());
    } else {
        debug!("{absence}; will try again in {} s", wait.as_secs());
    }
}

/// Connects, then puts up the object, and only then takes the name: nobody who
/// waited for the name finds it without its object.
async fn enter(bus: &Bus, service: &Service) -> Result<Connection, Absence> {
    let builder = match bus {
        Bus::System => Builder::system(),
        Bus::At(address) => Builder::address(address.as_str()),
    };
    let builder = builder
        .method_timeout(PATIENCE)
        .serve_at(OBJECT_PATH, Manager::new(service.clone()));
    let builder = match logging() {
        Some(logging) => builder.serve_at(
            log_control::PATH,
            LogControl::new(logging, service.authority.clone()),
        ),
        None => builder,
    };
    let connection = timeout(PATIENCE, builder.build())
        .await
        .map_err(|_| Absence::Silent)?
        .map_err(Absence::Unreachable)?;
    own_name(&connection).await?;
    Ok(connection)
}

/// Takes the name, unless somebody has it; then nothing is taken from anybody,
/// and nobody can take it from us.
async fn own_name(connection: &Connection) -> Result<(), Absence> {
    let flags = RequestNameFlags::DO_NOT_QUEUE;
    match connection.request_name_with_flags(BUS_NAME, flags).await {
        Ok(_) => Ok(()),
        Err(zbus::Error::NameTaken) => Err(Absence::NameTaken {
            owner: owner(connection).await,
        }),
        Err(zbus::Error::FDO(error)) if matches!(*error, fdo::Error::AccessDenied(_)) => {
            Err(Absence::NameRefused(*error))
        }
        Err(error) => Err(Absence::Unreachable(error)),
    }
}

/// Who has the name, in words. It may be gone again by now.
async fn owner(connection: &Connection) -> String {
    match credentials(connection).await {
        Ok((process, user)) => format!("process {process} of user {user}"),
        Err(error) => format!("the bus does not tell which: {error}"),
    }
}

async fn credentials(connection: &Connection) -> fdo::Result<(u32, u32)> {
    let name = BusName::from_static_str(BUS_NAME).expect("the name is well-formed");
    let bus = DBusProxy::new(connection).await?;
    let credentials = bus.get_connection_credentials(name).await?;
    let unknown = || fdo::Error::UnixProcessIdUnknown("no credentials".to_owned());
    Ok((
        credentials.process_id().ok_or_else(unknown)?,
        credentials.unix_user_id().ok_or_else(unknown)?,
    ))
}

/// Tells what happens, until the bus goes away.
async fn stay(connection: &Connection, handle: &Handle) -> Absence {
    tokio::select! {
        () = connection.closed() => Absence::Closed,
        error = signals::forward(connection, handle) => Absence::Unreachable(error),
    }
}
