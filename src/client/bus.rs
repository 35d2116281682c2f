//! The same calls over the system bus, where the daemon cannot tell polkit
//! safely who calls by varlink.
//!
//! A call is given and answered as varlink gives and answers it: the fields have
//! the same names on both, and only their places differ.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::timeout;
use zbus::fdo::DBusProxy;
use zbus::names::BusName;
use zbus::proxy::MethodFlags;
use zbus::wire::DynamicDeserialize;
use zbus::{Connection, DBusError, OwnedVariant, Proxy, Variant};

use super::{ClientError, INTERACTION_REQUIRED, PATIENCE, Refused};

/// The daemon of the system, on the bus.
const NAME: &str = "org.ipfloater";

/// How long the bus may take to say who is on it.
const GLANCE: Duration = Duration::from_secs(5);

/// Values by name.
type Row = BTreeMap<String, OwnedVariant>;

/// Calls a method by its varlink name and parameters, and returns what varlink
/// would answer. An `interactive` call waits while somebody authenticates. With
/// `daemon`, only that process is called.
pub(super) fn call(
    method: &str,
    parameters: &Map<String, Value>,
    interactive: bool,
    daemon: Option<u32>,
) -> Result<Value, ClientError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ClientError::Bus(Box::new(zbus::Error::InputOutput(error.into()))))?;
    let limit = if interactive { Duration::MAX } else { PATIENCE };
    let answer = async {
        let connection = Connection::system().await?;
        if let Some(daemon) = daemon {
            let name = BusName::try_from(NAME)?;
            let bus = DBusProxy::new(&connection).await?;
            if bus.get_connection_unix_process_id(name).await? != daemon {
                return Err(ClientError::OtherDaemon);
            }
        }
        Ok(ask(&connection, method, parameters, interactive).await?)
    };
    runtime.block_on(async {
        timeout(limit, answer)
            .await
            .unwrap_or(Err(ClientError::BusSilent))
    })
}

/// Who is on the system bus, or would be started by a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The daemon.
    pub daemon: bool,
    /// polkit.
    pub polkit: bool,
}

/// Looks who is on the system bus; the error is why it is not reached.
pub fn presence() -> Result<Presence, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let looked = async {
        let connection = Connection::system().await?;
        let bus = DBusProxy::new(&connection).await?;
        let mut names = bus.list_names().await?;
        names.extend(bus.list_activatable_names().await?);
        let has = |name: &str| names.iter().any(|each| each.as_str() == name);
        Ok(Presence {
            daemon: has(NAME),
            polkit: has("org.freedesktop.PolicyKit1"),
        })
    };
    runtime.block_on(async {
        match timeout(GLANCE, looked).await {
            Ok(Ok(presence)) => Ok(presence),
            Ok(Err::<_, zbus::Error>(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", GLANCE.as_secs())),
        }
    })
}

impl From<zbus::fdo::Error> for ClientError {
    fn from(error: zbus::fdo::Error) -> Self {
        zbus::Error::from(error).into()
    }
}

impl From<zbus::Error> for ClientError {
    fn from(error: zbus::Error) -> Self {
        let (name, text) = match &error {
            zbus::Error::MethodError(name, text, _) => {
                (name.as_str(), text.clone().unwrap_or_default())
            }
            // Errors that every service may give have a type of their own.
            zbus::Error::FDO(error) => {
                let text = error.description().unwrap_or_default();
                (&*error.name().to_string(), text.to_owned())
            }
            _ => return ClientError::Bus(Box::new(error)),
        };
        match refused(name, text) {
            Some(refused) => ClientError::Refused(refused),
            None => ClientError::Bus(Box::new(error)),
        }
    }
}

async fn ask(
    connection: &Connection,
    method: &str,
    parameters: &Map<String, Value>,
    interactive: bool,
) -> zbus::Result<Value> {
    let manager = Manager {
        proxy: Proxy::new(connection, NAME, "/org/ipfloater", "org.ipfloater.Manager").await?,
        flags: if interactive {
            MethodFlags::ALLOW_INTERACTIVE_AUTH
        } else {
            MethodFlags::empty()
        },
    };
    Ok(match method {
        "Allocate" | "Associate" | "Disassociate" | "Forward" | "Unforward" | "Update"
        | "Release" => {
            // The row of the address and what became of it are one here.
            let mut result = object(manager.call(method, parameters).await?);
            let rest = [
                "addresses",
                "changed",
                "previous_fixed_address",
                "displaced_floating_ip",
                "revision",
                "sequence",
                "dry_run",
                "effects",
            ];
            let mut answer = Map::new();
            for name in rest {
                if let Some(value) = result.remove(name) {
                    answer.insert(name.to_owned(), value);
                }
            }
            answer.insert("address".to_owned(), result.into());
            answer.into()
        }
        "GetCounters" => {
            let (rows, next): (Vec<Row>, String) = manager.call(method, parameters).await?;
            let mut answer = Map::from_iter([("counters".to_owned(), objects(rows).into())]);
            if !next.is_empty() {
                answer.insert("next".to_owned(), next.into());
            }
            answer.into()
        }
        "Confirm" | "Revert" => {
            let mut result = object(manager.call(method, parameters).await?);
            let mut answer = Map::new();
            for name in [
                "changed",
                "previous_fixed_address",
                "news",
                "revision",
                "sequence",
                "dry_run",
                "effects",
            ] {
                if let Some(value) = result.remove(name) {
                    answer.insert(name.to_owned(), value);
                }
            }
            if !result.is_empty() {
                answer.insert("address".to_owned(), result.into());
            }
            answer.into()
        }
        "GetMetrics" => {
            let text: String = manager.call(method, parameters).await?;
            json!({ "text": text })
        }
        "Describe" => json!({"address": object(manager.call(method, parameters).await?)}),
        "History" => json!({"events": objects(manager.call(method, parameters).await?)}),
        "GetPermissions" => {
            let (rows, limits): (Vec<Row>, Row) = manager.call(method, parameters).await?;
            let mut answer = object(limits);
            answer.insert("permissions".to_owned(), objects(rows).into());
            answer.into()
        }
        _ => object(manager.call(method, parameters).await?).into(),
    })
}

/// The object on the bus.
struct Manager<'a> {
    proxy: Proxy<'a>,
    flags: MethodFlags,
}

impl Manager<'_> {
    /// Calls a method, with those of its parameters that are no options in their
    /// places. What is absent there is an empty text.
    async fn call<R: for<'d> DynamicDeserialize<'d>>(
        &self,
        method: &str,
        parameters: &Map<String, Value>,
    ) -> zbus::Result<R> {
        let mut options = parameters.clone();
        let mut place = |name| match options.remove(name) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let answer = match method {
            "Associate" => {
                let places = (place("floating_ip"), place("fixed_address"));
                let body = (places.0, places.1, variants(options));
                self.proxy.call_with_flags(method, self.flags, &body).await
            }
            "Forward" | "Unforward" => {
                let (floating, protocol, ports) =
                    (place("floating_ip"), place("protocol"), place("ports"));
                if method == "Forward" {
                    let fixed = place("fixed_address");
                    let body = (floating, protocol, ports, fixed, variants(options));
                    self.proxy.call_with_flags(method, self.flags, &body).await
                } else {
                    let body = (floating, protocol, ports, variants(options));
                    self.proxy.call_with_flags(method, self.flags, &body).await
                }
            }
            "Disassociate" | "Update" | "Release" | "Confirm" | "Revert" | "Describe" => {
                let body = (place("address"), variants(options));
                self.proxy.call_with_flags(method, self.flags, &body).await
            }
            _ => {
                let body = (variants(options),);
                self.proxy.call_with_flags(method, self.flags, &body).await
            }
        };
        Ok(answer?.expect("a reply is asked for"))
    }
}

/// Options, in types that the daemon takes.
fn variants(options: Map<String, Value>) -> BTreeMap<String, Variant<'static>> {
    let variant = |value: Value| match value {
        Value::Bool(flag) => Some(flag.into()),
        Value::Number(number) => number.as_i64().map(Into::into),
        Value::String(text) => Some(text.into()),
        Value::Array(items) => {
            let texts: Option<Vec<String>> = items
                .into_iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect();
            texts.map(Into::into)
        }
        // No parameter of ours is one of these.
        Value::Null | Value::Object(_) => None,
    };
    let given = options.into_iter();
    given
        .filter_map(|(name, value)| Some((name, variant(value)?)))
        .collect()
}

fn objects(rows: Vec<Row>) -> Vec<Value> {
    rows.into_iter().map(|row| object(row).into()).collect()
}

fn object(row: Row) -> Map<String, Value> {
    row.into_iter()
        .map(|(name, value)| (name, plain(&value)))
        .collect()
}

/// A value without its D-Bus type. Types that no row has are null.
fn plain(value: &Variant<'_>) -> Value {
    match value {
        Variant::U8(number) => (*number).into(),
        Variant::Bool(flag) => (*flag).into(),
        Variant::I16(number) => (*number).into(),
        Variant::U16(number) => (*number).into(),
        Variant::I32(number) => (*number).into(),
        Variant::U32(number) => (*number).into(),
        Variant::I64(number) => (*number).into(),
        Variant::U64(number) => (*number).into(),
        Variant::F64(number) => (*number).into(),
        Variant::Str(text) => text.as_str().into(),
        Variant::Variant(inner) => plain(inner),
        Variant::Array(array) => array.iter().map(plain).collect(),
        Variant::Dict(dictionary) => dictionary
            .iter()
            .filter_map(|(name, value)| match name {
                Variant::Str(name) => Some((name.as_str().to_owned(), plain(value))),
                _ => None,
            })
            .collect::<Map<_, _>>()
            .into(),
        Variant::Signature(_) | Variant::ObjectPath(_) | Variant::Structure(_) | Variant::Fd(_) => {
            Value::Null
        }
    }
}

/// An error of the daemon's by the name that varlink has for it; others are the
/// bus's own.
fn refused(error: &str, message: String) -> Option<Refused> {
    let name = match error.strip_prefix("org.freedesktop.DBus.Error.") {
        Some("InteractiveAuthorizationRequired") => INTERACTION_REQUIRED,
        Some("AccessDenied") => "PermissionDenied",
        Some("InvalidArgs") => "InvalidParameter",
        Some("UnknownMethod") => "MethodNotFound",
        Some("LimitsExceeded") => "Busy",
        Some(_) => return None,
        None => error,
    };
    let parameters = if message.is_empty() {
        json!({})
    } else {
        json!({ "message": message })
    };
    Some(Refused::new(name, parameters))
}
