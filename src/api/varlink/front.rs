//! From a call to its answer: the methods of all interfaces.

use serde::Serialize;
use serde_json::Value;

use super::INTERFACE;
use super::fault::Fault;
use super::message::Mode;
use super::parameters::Parameters;
use super::service::{self, SERVICE};
use super::stream::{Monitor, Pages, Stream};
use super::systemd_service::{self, SYSTEMD};
use crate::api::decode::{self, Page};
use crate::api::log::{denial, denial_of_history};
use crate::authority::{Authority, Subject};
use crate::control::Handle;
use crate::model::{FloatingIp, PoolName, Sequence};
use crate::request::{Allocate, Associate, Disassociate, Refusal, Release, Request};
use crate::wire::{
    API_VERSION, Changed, Described, EventInfo, Events, Listed, PoolInfo, Pools, Status, Version,
};

/// What answers calls.
#[derive(Debug)]
pub(super) struct Front {
    handle: Handle,
    authority: Authority,
}

/// How a call is answered.
#[derive(Debug)]
pub(super) enum Answer {
    /// By one reply.
    Once(Value),
    /// By as many as it takes.
    Stream(Stream),
}

/// A call, and who makes it.
#[derive(Debug)]
pub(super) struct Call {
    /// Who.
    pub(super) subject: Subject,
    /// The full name of the method.
    pub(super) method: String,
    /// How it is to be answered.
    pub(super) mode: Mode,
    /// Its parameters.
    pub(super) parameters: Parameters,
}

impl Front {
    pub(super) fn new(handle: Handle, authority: Authority) -> Self {
        Self { handle, authority }
    }

    /// Answers a call.
    pub(super) async fn answer(&self, call: Call) -> Result<Answer, Fault> {
        let Call {
            subject,
            method,
            mode,
            parameters,
        } = call;
        let (interface, name) = method.rsplit_once('.').unwrap_or(("", &method));
        match (interface, name) {
            // Nothing of ours turns into another protocol.
            (SERVICE | INTERFACE | SYSTEMD, _) if mode == Mode::Upgrade => {
                Err(Fault::MethodNotImplemented(method))
            }
            (SERVICE, "GetInfo") => service::info(parameters).map(Answer::Once),
            (SERVICE, "GetInterfaceDescription") => {
                service::description(parameters).map(Answer::Once)
            }
            (INTERFACE, "Allocate") => self.change(subject, allocate(parameters)?).await,
            (INTERFACE, "Associate") => self.change(subject, associate(parameters)?).await,
            (INTERFACE, "Disassociate") => {
                let address = address(parameters)?;
                let request = Request::Disassociate(Disassociate { address });
                self.change(subject, request).await
            }
            (INTERFACE, "Release") => {
                let address = address(parameters)?;
                let request = Request::Release(Release { address });
                self.change(subject, request).await
            }
            (INTERFACE, "List") => self.list(parameters, mode),
            (INTERFACE, "Describe") => self.describe(parameters),
            (INTERFACE, "ListPools") => self.pools(parameters),
            (INTERFACE, "GetStatus") => self.status(parameters),
            (INTERFACE, "GetVersion") => version(parameters),
            (INTERFACE, "History") => self.history(subject, parameters).await,
            (INTERFACE, "Monitor") => self.monitor(subject, parameters, mode),
            (SYSTEMD, _) => systemd_service::answer(&self.authority, subject, method, parameters)
                .map(Answer::Once),
            (SERVICE | INTERFACE, _) => Err(Fault::MethodNotFound(method)),
            (interface, _) => Err(Fault::InterfaceNotFound(interface.to_owned())),
        }
    }

    async fn change(&self, subject: Subject, request: Request) -> Result<Answer, Fault> {
        let request = self
            .authority
            .authorize(subject, request.clone())
            .inspect_err(|denied| denial(&self.handle.snapshot(), subject, &request, denied))
            .map_err(|_| Fault::PermissionDenied)?;
        let outcome = self.handle.submit(request).await?;
        once(&Changed::new(&self.handle.snapshot(), outcome))
    }

    fn list(&self, mut parameters: Parameters, mode: Mode) -> Result<Answer, Fault> {
        let mut filter = parameters.object("filter")?;
        let (pool, state, owner, fixed) = (
            filter.optional_text("pool")?,
            filter.optional_text("state")?,
            filter.optional_int("owner")?,
            filter.optional_text("fixed_address")?,
        );
        filter.end()?;
        let limit = parameters.optional_int("limit")?;
        let after = parameters.optional_text("after")?;
        parameters.end()?;

        let filter = decode::filter(pool.as_deref(), state.as_deref(), owner, fixed.as_deref())?;
        let page = Page::new(limit, after.as_deref())?;
        let snapshot = self.handle.snapshot();
        if mode == Mode::More {
            return Ok(Answer::Stream(Stream::Pages(Pages::new(
                snapshot, filter, page,
            ))));
        }
        let (addresses, next) = decode::list(&snapshot, &filter, page);
        once(&Listed { addresses, next })
    }

    fn describe(&self, parameters: Parameters) -> Result<Answer, Fault> {
        let address = decode::describe(&self.handle.snapshot(), address(parameters)?)?;
        once(&Described { address })
    }

    fn pools(&self, parameters: Parameters) -> Result<Answer, Fault> {
        parameters.end()?;
        once(&Pools {
            pools: PoolInfo::all(&self.handle.snapshot()),
        })
    }

    fn status(&self, parameters: Parameters) -> Result<Answer, Fault> {
        parameters.end()?;
        once(&Status::new(&self.handle.snapshot()))
    }

    async fn history(&self, subject: Subject, mut parameters: Parameters) -> Result<Answer, Fault> {
        let address = parameters.optional_text("address")?;
        let limit = parameters.optional_int("limit")?;
        let before: Option<u64> = parameters.optional_int("before")?;
        parameters.end()?;
        let floating = floating("address", address)?;
        let limit = decode::limit("limit", limit)?;
        self.authority
            .may_read_history(subject)
            .inspect_err(|denied| denial_of_history(subject, denied))
            .map_err(|_| Fault::PermissionDenied)?;

        let snapshot = self.handle.snapshot();
        let floating = floating.map(|address| decode::subject_of_history(&snapshot, address));
        let before = before.map(Sequence);
        let events = self.handle.history(floating, before, limit).await?;
        once(&Events {
            events: events.iter().map(EventInfo::from).collect(),
        })
    }

    fn monitor(
        &self,
        subject: Subject,
        parameters: Parameters,
        mode: Mode,
    ) -> Result<Answer, Fault> {
        parameters.end()?;
        if mode != Mode::More {
            return Err(Fault::ExpectedMore);
        }
        let everything = self.authority.may_read_history(subject).is_ok();
        let (snapshot, events) = self.handle.subscribe();
        Ok(Answer::Stream(Stream::Monitor(Monitor::new(
            snapshot, events, everything,
        ))))
    }
}

fn allocate(mut parameters: Parameters) -> Result<Request, Fault> {
    let address = parameters.optional_text("floating_ip")?;
    let pool = parameters.optional_text("pool")?;
    parameters.end()?;
    Ok(Request::Allocate(Allocate {
        floating: floating("floating_ip", address)?,
        pool: pool_name(pool)?,
    }))
}

fn associate(mut parameters: Parameters) -> Result<Request, Fault> {
    let fixed = parameters.text("fixed_address")?;
    let address = parameters.optional_text("floating_ip")?;
    let pool = parameters.optional_text("pool")?;
    let reassociate = parameters.flag("reassociate")?;
    parameters.end()?;
    Ok(Request::Associate(Associate {
        floating: floating("floating_ip", address)?,
        fixed: decode::fixed("fixed_address", &fixed)?,
        pool: pool_name(pool)?,
        reassociate,
    }))
}

fn version(parameters: Parameters) -> Result<Answer, Fault> {
    parameters.end()?;
    once(&Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api_version: API_VERSION,
    })
}

fn address(mut parameters: Parameters) -> Result<std::net::IpAddr, Fault> {
    let address = parameters.text("address")?;
    parameters.end()?;
    Ok(decode::address("address", &address)?)
}

fn floating(field: &'static str, text: Option<String>) -> Result<Option<FloatingIp>, Refusal> {
    text.map(|text| decode::floating(field, &text)).transpose()
}

fn pool_name(text: Option<String>) -> Result<Option<PoolName>, Refusal> {
    text.map(|text| decode::pool_name("pool", &text))
        .transpose()
}

fn once(message: &impl Serialize) -> Result<Answer, Fault> {
    Ok(Answer::Once(value(message)))
}

/// A message as JSON.
pub(super) fn value(message: &impl Serialize) -> Value {
    serde_json::to_value(message).expect("messages are structs, which JSON can hold")
}
