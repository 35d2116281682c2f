//! The interface itself: each method takes its options, has them decoded, and
//! asks the controller or reads a snapshot.
//!
//! Its documentation is `interfaces/org.ipfloater.Manager.xml`; a test holds the
//! two against each other. Every method takes `&self`: zbus keeps one lock for
//! the object, and a writer that waits for it would hold up every reader.

use zbus::message::{Flags, Header};
use zbus::object_server::SignalEmitter;
use zbus::{Connection, interface};

use crate::api::Service;
use crate::api::decode::{self, AttributeFields};
use crate::api::metrics;
use crate::api::permissions::{Named, permissions};
use crate::api::terms::{self, Takes};
use crate::authority::{Authority, Caller, Origin, Sight, Subject, Verb};
use crate::control::{Clock, Counters, Handle, Snapshot, SystemClock};
use crate::model::{FloatingIp, PoolName, Sequence, Uid};
use crate::reload::Reloader;
use crate::request::{
    Allocate, Associate, Disassociate, Outcome, Refusal, Release, Request, Terms, Update,
};
use crate::wire::{API_VERSION, Changed, EventInfo, PoolInfo, Reloaded, Settled, Status};

use super::admission::{Admission, Admitted};
use super::error::ErrorReply;
use super::given::Given;
use super::options::Options;
use super::row::{Row, permission_rows};

/// zbus knows what can fail by the name `Result`.
type Result<T> = std::result::Result<T, ErrorReply>;

/// The object that is on the bus.
#[derive(Debug)]
pub(super) struct Manager {
    handle: Handle,
    counters: Counters,
    authority: Authority,
    reloader: Reloader,
    admission: Admission,
}

impl Manager {
    /// An object that speaks for this controller.
    pub(super) fn new(service: Service) -> Self {
        let Service {
            handle,
            counters,
            authority,
            reloader,
        } = service;
        Self {
            handle,
            counters,
            authority,
            reloader,
            admission: Admission::default(),
        }
    }

    /// Who calls, counted in for as long as the call lasts.
    async fn admit(&self, bus: &Connection, call: &Header<'_>) -> Result<(Caller, Admitted)> {
        let caller = caller(bus, call).await?;
        let admitted = self.admission.enter(caller.subject.uid)?;
        Ok((caller, admitted))
    }

    /// The same for one who reads, and what he may see.
    async fn admit_reader(&self, bus: &Connection, call: &Header<'_>) -> Result<(Sight, Admitted)> {
        let (caller, admitted) = self.admit(bus, call).await?;
        Ok((self.authority.sight(&caller).await?, admitted))
    }

    /// Has a request carried out, if its caller may make it.
    async fn change(&self, caller: &Caller, request: Request, terms: Terms) -> Result<Row> {
        let outcome = self.submit(caller, request, terms).await?;
        Ok(Changed::new(&self.handle.snapshot(), outcome).into())
    }

    /// Lets those pass who may have the configuration read again, and counts who
    /// wanted this of it and may not.
    async fn may_reload(&self, caller: &Caller, verb: Verb) -> Result<()> {
        let may = self.authority.may(caller, Verb::Reload).await;
        Ok(may.inspect_err(|_| self.handle.statistics().denied(verb.as_str()))?)
    }

    async fn submit(&self, caller: &Caller, request: Request, terms: Terms) -> Result<Outcome> {
        let Snapshot { state, site, .. } = &*self.handle.snapshot();
        let verb = request.verb();
        let request = self.authority.authorize(caller, request, state, site);
        let request = request
            .await
            .inspect_err(|_| self.handle.statistics().denied(verb))?;
        Ok(self.handle.submit(request, terms).await?)
    }

    /// Has a change that is on trial stay, or undone.
    async fn settle(
        &self,
        caller: &Caller,
        address: &str,
        options: Given,
        keep: bool,
    ) -> Result<Row> {
        let mut options = Options::new(options);
        let terms = terms(&mut options, Takes::NONE)?;
        options.finish()?;
        let Some(request) = decode::settle(address, keep)? else {
            let verb = if keep { Verb::Confirm } else { Verb::Revert };
            self.may_reload(caller, verb).await?;
            let settled = self
                .reloader
                .settle(&caller.subject.who(), keep, terms)
                .await?;
            return Ok(Settled::configuration(&self.handle.snapshot(), settled).into());
        };
        let outcome = self.submit(caller, request, terms).await?;
        Ok(Settled::address(&self.handle.snapshot(), outcome).into())
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
        let count = options.number32("count")?;
        let pool = options.text("pool")?;
        let owner = options.number32("owner")?;
        let noted = noted(&mut options)?;
        let terms = terms(&mut options, Takes::END)?;
        options.finish()?;
        let request = Request::Allocate(Allocate {
            floating: floating_ip(floating.as_deref())?,
            count: decode::count("count", count.map(i64::from))?,
            pool: pool_name(pool.as_deref())?,
            owner,
            alteration: decode::alteration(noted)?.into(),
        });
        self.change(&caller, request, terms).await
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
        let owner = options.number32("owner")?;
        let reassociate = options.flag("reassociate")?.unwrap_or_default();
        let keep_established = options.flag("keep_established")?.unwrap_or_default();
        let terms = terms(&mut options, Takes::ALL)?;
        options.finish()?;
        let request = Request::Associate(Associate {
            floating: self::floating_ip(Some(floating_ip).filter(|text| !text.is_empty()))?,
            fixed: decode::fixed("fixed_address", fixed_address)?,
            pool: pool_name(pool.as_deref())?,
            owner,
            reassociate,
            keep_established,
        });
        self.change(&caller, request, terms).await
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
        let mut options = Options::new(options);
        let terms = terms(&mut options, Takes::TRIAL)?;
        options.finish()?;
        let address = decode::address("address", address)?;
        let request = Request::Disassociate(Disassociate { address });
        self.change(&caller, request, terms).await
    }

    #[zbus(out_args("result"))]
    #[allow(
        clippy::too_many_arguments,
        reason = "the arguments of the method, as interfaces/ has them"
    )]
    async fn forward(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        floating_ip: &str,
        protocol: &str,
        ports: &str,
        fixed_address: &str,
        options: Given,
    ) -> Result<Row> {
        let (caller, _admitted) = self.admit(bus, &call).await?;
        let mut options = Options::new(options);
        let fixed_port = options.number32("fixed_port")?;
        let outbound = options.text("outbound")?;
        let reassociate = options.flag("reassociate")?.unwrap_or_default();
        let terms = terms(&mut options, Takes::TRIAL)?;
        options.finish()?;
        let request = decode::forward(&decode::ForwardFields {
            floating_ip,
            protocol,
            ports,
            fixed_address,
            fixed_port,
            outbound: outbound.as_deref(),
            reassociate,
        })?;
        self.change(&caller, Request::Forward(request), terms).await
    }

    #[zbus(out_args("result"))]
    async fn unforward(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        floating_ip: &str,
        protocol: &str,
        ports: &str,
        options: Given,
    ) -> Result<Row> {
        let (caller, _admitted) = self.admit(bus, &call).await?;
        let mut options = Options::new(options);
        let terms = terms(&mut options, Takes::TRIAL)?;
        options.finish()?;
        let request = decode::unforward(floating_ip, protocol, ports)?;
        self.change(&caller, Request::Unforward(request), terms)
            .await
    }

    #[zbus(out_args("result"))]
    async fn update(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        address: &str,
        options: Given,
    ) -> Result<Row> {
        let (caller, _admitted) = self.admit(bus, &call).await?;
        let mut options = Options::new(options);
        let fields = attributes(&mut options)?;
        let terms = terms(&mut options, Takes::NONE)?;
        options.finish()?;
        let request = Request::Update(Update {
            address: decode::address("address", address)?,
            alteration: decode::alteration(fields)?.into(),
        });
        self.change(&caller, request, terms).await
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
        let mut options = Options::new(options);
        let terms = terms(&mut options, Takes::TRIAL)?;
        options.finish()?;
        let address = decode::address("address", address)?;
        let request = Request::Release(Release { address });
        self.change(&caller, request, terms).await
    }

    #[zbus(out_args("result"))]
    async fn confirm(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        address: &str,
        options: Given,
    ) -> Result<Row> {
        let (caller, _admitted) = self.admit(bus, &call).await?;
        self.settle(&caller, address, options, true).await
    }

    #[zbus(out_args("result"))]
    async fn revert(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        address: &str,
        options: Given,
    ) -> Result<Row> {
        let (caller, _admitted) = self.admit(bus, &call).await?;
        self.settle(&caller, address, options, false).await
    }

    #[zbus(out_args("addresses", "next"))]
    async fn list(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        options: Given,
    ) -> Result<(Vec<Row>, String)> {
        let (sight, _admitted) = self.admit_reader(bus, &call).await?;
        let mut options = Options::new(options);
        let pool = options.text("pool")?;
        let state = options.text("state")?;
        let owner = options.number32("owner")?;
        let fixed = options.text("fixed_address")?;
        let label = options.text("label")?;
        let tag = options.text("tag")?;
        let limit = options.number32("limit")?;
        let after = options.text("after")?;
        options.finish()?;
        let filter = decode::filter(
            pool.as_deref(),
            state.as_deref(),
            owner,
            fixed.as_deref(),
            label.as_deref(),
            tag.as_deref(),
        )?;
        let page = decode::Page::new(limit.map(i64::from), after.as_deref())?;
        let snapshot = self.handle.snapshot();
        let filter = decode::listed_by(&snapshot, filter)?;
        let (addresses, next) = decode::list(&snapshot, sight, &filter, page);
        let next = next.map(|next| next.to_string()).unwrap_or_default();
        Ok((rows(addresses), next))
    }

    #[zbus(out_args("counters", "next"))]
    async fn get_counters(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        options: Given,
    ) -> Result<(Vec<Row>, String)> {
        let (sight, _admitted) = self.admit_reader(bus, &call).await?;
        let mut options = Options::new(options);
        let address = options.text("address")?;
        let limit = options.number32("limit")?;
        let after = options.text("after")?;
        options.finish()?;
        let address = address
            .map(|text| decode::address("address", &text))
            .transpose()?;
        let page = decode::Page::new(limit.map(i64::from), after.as_deref())?;
        let snapshot = self.handle.snapshot();
        let (counters, next) =
            decode::counted(&self.counters, &snapshot, sight, address, page).await?;
        let next = next.map(|next| next.to_string()).unwrap_or_default();
        Ok((rows(counters), next))
    }

    #[zbus(out_args("text"))]
    async fn get_metrics(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        options: Given,
    ) -> Result<String> {
        let _admitted = self.admit_reader(bus, &call).await?;
        let mut options = Options::new(options);
        let format = options.text("format")?;
        options.finish()?;
        let format = metrics::format("format", format.as_deref())?;
        Ok(metrics::metrics(&self.handle, format, SystemClock.now()))
    }

    #[zbus(out_args("row"))]
    async fn describe(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        address: &str,
        options: Given,
    ) -> Result<Row> {
        let (sight, _admitted) = self.admit_reader(bus, &call).await?;
        Options::new(options).finish()?;
        let address = decode::address("address", address)?;
        Ok(decode::describe(&self.handle.snapshot(), sight, address, SystemClock.now())?.into())
    }

    #[zbus(out_args("pools"))]
    async fn list_pools(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        options: Given,
    ) -> Result<Vec<Row>> {
        let _admitted = self.admit_reader(bus, &call).await?;
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
        let _admitted = self.admit_reader(bus, &call).await?;
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
        let after = options.number64("after")?;
        options.finish()?;
        let address = address
            .map(|text| decode::floating("address", &text))
            .transpose()?;
        let limit = decode::limit("limit", limit.map(i64::from))?;
        self.authority.may(&caller, Verb::History).await?;
        let snapshot = self.handle.snapshot();
        let about = address.map(|address| decode::subject_of_history(&snapshot, address));
        let (before, after) = (before.map(Sequence), after.map(Sequence));
        let events = decode::history(&self.handle, about, after, before, limit).await?;
        Ok(rows(events.iter().map(EventInfo::from)))
    }

    #[zbus(out_args("result"))]
    async fn reload(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        options: Given,
    ) -> Result<Row> {
        let (caller, _admitted) = self.admit(bus, &call).await?;
        let mut options = Options::new(options);
        let terms = terms(&mut options, Takes::TRIAL)?;
        options.finish()?;
        self.may_reload(&caller, Verb::Reload).await?;
        let reread = self.reloader.reload(&caller.subject.who(), terms).await?;
        Ok(Reloaded::from(reread).into())
    }

    #[zbus(out_args("permissions", "limits"))]
    async fn get_permissions(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
        options: Given,
    ) -> Result<(Vec<Row>, Row)> {
        let (caller, _admitted) = self.admit(bus, &call).await?;
        let mut options = Options::new(options);
        let address = options.text("address")?;
        options.finish()?;
        let address = address
            .map(|text| decode::address("address", &text))
            .transpose()?;
        let snapshot = self.handle.snapshot();
        let named = address.map(|address| Named::new(&snapshot, address));
        let named = named.transpose()?;
        let permissions = permissions(&self.authority, &caller.subject, &snapshot, named).await?;
        Ok(permission_rows(permissions))
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

/// On what terms a change is asked for.
fn terms(options: &mut Options, takes: Takes) -> Result<Terms> {
    let dry_run = options.flag("dry_run")?.unwrap_or_default();
    let mut seconds = |taken, name| match taken {
        true => options.number32(name),
        false => Ok(None),
    };
    let confirm = seconds(takes.confirm, "confirm")?.map(i64::from);
    let expires_in = seconds(takes.expires_in, "expires_in")?.map(i64::from);
    Ok(terms::terms(dry_run, confirm, expires_in)?)
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

/// The options that are noted of an address which is new.
fn noted(options: &mut Options) -> Result<AttributeFields> {
    Ok(AttributeFields {
        label: options.text("label")?,
        description: options.text("description")?,
        tags: options.texts("tags")?,
        protected: options.flag("protected")?,
        ..AttributeFields::default()
    })
}

/// The same of one that may have others.
fn attributes(options: &mut Options) -> Result<AttributeFields> {
    Ok(AttributeFields {
        add_tags: options.texts("add_tags")?,
        remove_tags: options.texts("remove_tags")?,
        rate_in: options.number64("rate_in")?,
        rate_out: options.number64("rate_out")?,
        allowed_sources: options.texts("allowed_sources")?,
        ..noted(options)?
    })
}

/// Who calls: the uid that the bus vouches for, and the name that the bus put
/// into the message. Never what the message itself says.
pub(super) async fn caller(bus: &Connection, call: &Header<'_>) -> zbus::Result<Caller> {
    let sender = call.sender().ok_or(zbus::Error::MissingField)?;
    let uid: Uid = bus
        .call_method(
            Some("org.freedesktop.DBus"),
            "/org/freedesktop/DBus",
            Some("org.freedesktop.DBus"),
            "GetConnectionUnixUser",
            &(sender.as_str(),),
        )
        .await?
        .body()
        .deserialize()?;
    let flags = call.primary().flags();
    Ok(Caller {
        subject: Subject {
            uid,
            origin: Origin::Bus {
                name: sender.to_owned().into(),
                bus: bus.server_guid().as_str().into(),
            },
        },
        interactive: flags.contains(Flags::ALLOW_INTERACTIVE_AUTH),
    })
}
