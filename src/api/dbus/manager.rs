//! The interface itself: each method takes its options, has them decoded, and
//! asks the controller or reads a snapshot.
//!
//! Its documentation is `interfaces/org.ipfloater.Manager.xml`; a test holds the
//! two against each other. Every method takes `&self`: zbus keeps one lock for
//! the object, and a writer that waits for it would hold up every reader.

use std::collections::BTreeMap;

use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, OwnedVariant, interface};

use crate::api::decode;
use crate::api::log::{denial, denial_of_history};
use crate::authority::{Authority, Subject};
use crate::control::{Handle, Snapshot};
use crate::model::{FloatingIp, PoolName, Sequence, Uid, Via};
use crate::request::{Allocate, Associate, Disassociate, Refusal, Release, Request};
use crate::wire::{API_VERSION, Changed, EventInfo, PoolInfo, Status};

use super::admission::{Admission, Admitted};
use super::error::ErrorReply;
use super::options::Options;
use super::row::Row;

/// zbus knows what can fail by the name `Result`.
type Result<T> = std::result::Result<T, ErrorReply>;

/// Options as they come over the bus.
type Given = BTreeMap<String, OwnedVariant>;

/// The object that is on the bus.
#[derive(Debug)]
pub(super) struct Manager {
    handle: Handle,
    authority: Authority,
    admission: Admission,
}

impl Manager {
    /// An object that speaks for this controller.
    pub(super) fn new(handle: Handle, authority: Authority) -> Self {
        Self {
            handle,
            authority,
            admission: Admission::default(),
        }
    }

    /// Who calls, counted in for as long as the call lasts.
    async fn admit(&self, bus: &Connection, call: &Header<'_>) -> Result<(Subject, Admitted)> {
        let uid = uid_of(bus, call).await?;
        let admitted = self.admission.enter(uid)?;
        let subject = Subject {
            uid,
            via: Via::Dbus,
        };
        Ok((subject, admitted))
    }

    /// Has a request carried out, if its caller may make it.
    async fn change(&self, subject: Subject, request: Request) -> Result<Row> {
        let authorized = self.authority.authorize(subject, request.clone());
        let request = authorized
            .inspect_err(|denied| denial(&self.handle.snapshot(), subject, &request, denied))?;
        let outcome = self.handle.submit(request).await?;
        Ok(Changed::new(&self.handle.snapshot(), outcome).into())
    }
}

#[interface(name = "org.ipfloater.Manager", introspection_docs = false)]
impl Manager {
    #[zbus(out_args("result"))]
    async fn allocate(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        options: Given,
    ) -> Result<Row> {
        let (caller, _admitted) = self.admit(bus, &call).await?;
        let mut options = Options::new(options);
        let floating = options.text("floating_ip")?;
        let pool = options.text("pool")?;
        options.finish()?;
        let request = Request::Allocate(Allocate {
            floating: floating_ip(floating.as_deref())?,
            pool: pool_name(pool.as_deref())?,
        });
        self.change(caller, request).await
    }

    #[zbus(out_args("result"))]
    async fn associate(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        floating_ip: &str,
        fixed_address: &str,
        options: Given,
    ) -> Result<Row> {
        let (caller, _admitted) = self.admit(bus, &call).await?;
        let mut options = Options::new(options);
        let pool = options.text("pool")?;
        let reassociate = options.flag("reassociate")?.unwrap_or_default();
        options.finish()?;
        let request = Request::Associate(Associate {
            floating: self::floating_ip(Some(floating_ip).filter(|text| !text.is_empty()))?,
            fixed: decode::fixed("fixed_address", fixed_address)?,
            pool: pool_name(pool.as_deref())?,
            reassociate,
        });
        self.change(caller, request).await
    }

    #[zbus(out_args("result"))]
    async fn disassociate(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        address: &str,
        options: Given,
    ) -> Result<Row> {
        let (caller, _admitted) = self.admit(bus, &call).await?;
        Options::new(options).finish()?;
        let address = decode::address("address", address)?;
        let request = Request::Disassociate(Disassociate { address });
        self.change(caller, request).await
    }

    #[zbus(out_args("result"))]
    async fn release(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        address: &str,
        options: Given,
    ) -> Result<Row> {
        let (caller, _admitted) = self.admit(bus, &call).await?;
        Options::new(options).finish()?;
        let address = decode::address("address", address)?;
        let request = Request::Release(Release { address });
        self.change(caller, request).await
    }

    #[zbus(out_args("addresses", "next"))]
    async fn list(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        options: Given,
    ) -> Result<(Vec<Row>, String)> {
        let (_, _admitted) = self.admit(bus, &call).await?;
        let mut options = Options::new(options);
        let pool = options.text("pool")?;
        let state = options.text("state")?;
        let owner = options.number32("owner")?;
        let fixed = options.text("fixed_address")?;
        let limit = options.number32("limit")?;
        let after = options.text("after")?;
        options.finish()?;
        let filter = decode::filter(pool.as_deref(), state.as_deref(), owner, fixed.as_deref())?;
        let page = decode::Page::new(limit.map(i64::from), after.as_deref())?;
        let (addresses, next) = decode::list(&self.handle.snapshot(), &filter, page);
        let next = next.map(|next| next.to_string()).unwrap_or_default();
        Ok((rows(addresses), next))
    }

    #[zbus(out_args("row"))]
    async fn describe(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        address: &str,
        options: Given,
    ) -> Result<Row> {
        let (_, _admitted) = self.admit(bus, &call).await?;
        Options::new(options).finish()?;
        let address = decode::address("address", address)?;
        Ok(decode::describe(&self.handle.snapshot(), address)?.into())
    }

    #[zbus(out_args("pools"))]
    async fn list_pools(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        options: Given,
    ) -> Result<Vec<Row>> {
        let (_, _admitted) = self.admit(bus, &call).await?;
        Options::new(options).finish()?;
        Ok(rows(PoolInfo::all(&self.handle.snapshot())))
    }

    #[zbus(out_args("status"))]
    async fn get_status(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        options: Given,
    ) -> Result<Row> {
        let (_, _admitted) = self.admit(bus, &call).await?;
        Options::new(options).finish()?;
        Ok(Status::new(&self.handle.snapshot()).into())
    }

    #[zbus(out_args("events"))]
    async fn history(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        options: Given,
    ) -> Result<Vec<Row>> {
        let (caller, _admitted) = self.admit(bus, &call).await?;
        let mut options = Options::new(options);
        let address = options.text("address")?;
        let limit = options.number32("limit")?;
        let before = options.number64("before")?;
        options.finish()?;
        let address = address
            .map(|text| decode::floating("address", &text))
            .transpose()?;
        let limit = decode::limit("limit", limit.map(i64::from))?;
        self.authority
            .may_read_history(caller)
            .inspect_err(|denied| denial_of_history(caller, denied))?;
        let snapshot = self.handle.snapshot();
        let about = address.map(|address| decode::subject_of_history(&snapshot, address));
        let before = before.map(Sequence);
        let events = self.handle.history(about, before, limit).await?;
        Ok(rows(events.iter().map(EventInfo::from)))
    }

    #[zbus(signal)]
    async fn changed(
        emitter: &SignalEmitter<'_>,
        floating_ip: &str,
        state: &str,
        revision: u64,
        sequence: u64,
    ) -> zbus::Result<()>;

    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn api_version(&self) -> u32 {
        API_VERSION
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn revision(&self) -> u64 {
        self.handle.snapshot().state.revision().0
    }

    #[zbus(property)]
    fn state(&self) -> String {
        state(&self.handle.snapshot())
    }
}

/// The state of the daemon, as the property has it.
pub(super) fn state(snapshot: &Snapshot) -> String {
    Status::new(snapshot).state
}

fn floating_ip(text: Option<&str>) -> std::result::Result<Option<FloatingIp>, Refusal> {
    text.map(|text| decode::floating("floating_ip", text))
        .transpose()
}

fn pool_name(text: Option<&str>) -> std::result::Result<Option<PoolName>, Refusal> {
    text.map(|text| decode::pool_name("pool", text)).transpose()
}

fn rows(messages: impl IntoIterator<Item = impl Into<Row>>) -> Vec<Row> {
    messages.into_iter().map(Into::into).collect()
}

/// The uid that the bus vouches for. Never what a message says: its sender is
/// put there by the bus.
pub(super) async fn uid_of(bus: &Connection, call: &Header<'_>) -> zbus::Result<Uid> {
    let sender = call.sender().ok_or(zbus::Error::MissingField)?;
    bus.call_method(
        Some("org.freedesktop.DBus"),
        "/org/freedesktop/DBus",
        Some("org.freedesktop.DBus"),
        "GetConnectionUnixUser",
        &(sender.as_str(),),
    )
    .await?
    .body()
    .deserialize()
}
