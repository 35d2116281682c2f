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
use crate::api::Service;
use crate::api::decode::{self, AttributeFields, ForwardFields, Page};
use crate::api::metrics;
use crate::api::permissions::{Named, permissions};
use crate::api::terms::{self, Takes};
use crate::authority::{Authority, Caller, Subject, Verb};
use crate::control::{Clock, Counters, Handle, Snapshot, SystemClock};
use crate::model::{FloatingIp, PoolName, Sequence};
use crate::reload::Reloader;
use crate::request::{
    Allocate, Associate, Disassociate, Outcome, Refusal, Release, Request, Terms, Update,
};
use crate::wire::{
    API_VERSION, Changed, Counted, Described, EventInfo, Events, Listed, Metrics, PoolInfo, Pools,
    Reloaded, Settled, Status, Version,
};

/// The parameter by which a call says that it waits while somebody
/// authenticates. Its name is systemd's, which callers know.
pub(super) const INTERACTIVE: &str = "allowInteractiveAuthentication";

/// What answers calls.
#[derive(Debug)]
pub(super) struct Front {
    handle: Handle,
    counters: Counters,
    authority: Authority,
    reloader: Reloader,
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
        }
    }

    /// Answers a call.
    pub(super) async fn answer(&self, call: Call) -> Result<Answer, Fault> {
        let Call {
            subject,
            method,
            mode,
            mut parameters,
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
            (INTERFACE, "GetVersion") => version(parameters),
            (SYSTEMD, _) => {
                systemd_service::answer(&self.authority, subject, mode, method, parameters)
                    .await
                    .map(Answer::Once)
            }
            (INTERFACE, name) => {
                let caller = Caller {
                    subject,
                    // Nobody waits for what is not answered.
                    interactive: parameters.flag(INTERACTIVE)? && mode != Mode::Oneway,
                };
                match self.judged(caller, name, mode, parameters).await {
                    None => Err(Fault::MethodNotFound(method)),
                    Some(answer) => answer,
                }
            }
            (SERVICE, _) => Err(Fault::MethodNotFound(method)),
            (interface, _) => Err(Fault::InterfaceNotFound(interface.to_owned())),
        }
    }

    /// Answers a call that not everybody may make, when there is such a method.
    async fn judged(
        &self,
        caller: Caller,
        method: &str,
        mode: Mode,
        parameters: Parameters,
    ) -> Option<Result<Answer, Fault>> {
        Some(match method {
            "Allocate" => self.change(&caller, parameters, Takes::END, allocate).await,
            "Associate" => {
                self.change(&caller, parameters, Takes::ALL, associate)
                    .await
            }
            "Disassociate" => {
                self.change(&caller, parameters, Takes::TRIAL, disassociate)
                    .await
            }
            "Forward" => {
                self.change(&caller, parameters, Takes::TRIAL, forward)
                    .await
            }
            "Unforward" => {
                self.change(&caller, parameters, Takes::TRIAL, unforward)
                    .await
            }
            "Update" => self.change(&caller, parameters, Takes::NONE, update).await,
            "Release" => {
                self.change(&caller, parameters, Takes::TRIAL, release)
                    .await
            }
            "Confirm" => self.settle(&caller, parameters, true).await,
            "Revert" => self.settle(&caller, parameters, false).await,
            "List" => self.list(&caller, parameters, mode).await,
            "Describe" => self.describe(&caller, parameters).await,
            "GetCounters" => self.counters(&caller, parameters).await,
            "GetMetrics" => self.metrics(&caller, parameters).await,
            "ListPools" => self.pools(&caller, parameters).await,
            "GetStatus" => self.status(&caller, parameters).await,
            "GetPermissions" => self.permissions(&caller, parameters).await,
            "Reload" => self.reload(&caller, parameters).await,
            "History" => self.history(&caller, parameters).await,
            "Monitor" => self.monitor(&caller, parameters, mode).await,
            _ => return None,
        })
    }

    async fn change(
        &self,
        caller: &Caller,
        mut parameters: Parameters,
        takes: Takes,
        decode: fn(Parameters) -> Result<Request, Fault>,
    ) -> Result<Answer, Fault> {
        let terms = terms(&mut parameters, takes)?;
        let request = decode(parameters)?;
        let outcome = self.submit(caller, request, terms).await?;
        once(&Changed::new(&self.handle.snapshot(), outcome))
    }

    /// Lets those pass who may have the configuration read again, and counts who
    /// wanted this of it and may not.
    async fn may_reload(&self, caller: &Caller, verb: Verb) -> Result<(), Fault> {
        let may = self.authority.may(caller, Verb::Reload).await;
        Ok(may.inspect_err(|_| self.handle.statistics().denied(verb.as_str()))?)
    }

    async fn submit(
        &self,
        caller: &Caller,
        request: Request,
        terms: Terms,
    ) -> Result<Outcome, Fault> {
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
        mut parameters: Parameters,
        keep: bool,
    ) -> Result<Answer, Fault> {
        let terms = terms(&mut parameters, Takes::NONE)?;
        let address = parameters.optional_text("address")?;
        parameters.end()?;
        let Some(request) = decode::settle(address.as_deref().unwrap_or_default(), keep)? else {
            let verb = if keep { Verb::Confirm } else { Verb::Revert };
            self.may_reload(caller, verb).await?;
            let settled = self
                .reloader
                .settle(&caller.subject.who(), keep, terms)
                .await?;
            return once(&Settled::configuration(&self.handle.snapshot(), settled));
        };
        let outcome = self.submit(caller, request, terms).await?;
        once(&Settled::address(&self.handle.snapshot(), outcome))
    }

    async fn list(
        &self,
        caller: &Caller,
        mut parameters: Parameters,
        mode: Mode,
    ) -> Result<Answer, Fault> {
        let mut filter = parameters.object("filter")?;
        let (pool, state, owner, fixed, label, tag) = (
            filter.optional_text("pool")?,
            filter.optional_text("state")?,
            filter.optional_int("owner")?,
            filter.optional_text("fixed_address")?,
            filter.optional_text("label")?,
            filter.optional_text("tag")?,
        );
        filter.end()?;
        let limit = parameters.optional_int("limit")?;
        let after = parameters.optional_text("after")?;
        parameters.end()?;

        let filter = decode::filter(
            pool.as_deref(),
            state.as_deref(),
            owner,
            fixed.as_deref(),
            label.as_deref(),
            tag.as_deref(),
        )?;
        let page = Page::new(limit, after.as_deref())?;
        let sight = self.authority.sight(caller).await?;
        let snapshot = self.handle.snapshot();
        let filter = decode::listed_by(&snapshot, filter)?;
        if mode == Mode::More {
            return Ok(Answer::Stream(Stream::Pages(Pages::new(
                snapshot, sight, filter, page,
            ))));
        }
        let (addresses, next) = decode::list(&snapshot, sight, &filter, page);
        once(&Listed { addresses, next })
    }

    async fn describe(&self, caller: &Caller, parameters: Parameters) -> Result<Answer, Fault> {
        let address = address(parameters)?;
        let sight = self.authority.sight(caller).await?;
        let address = decode::describe(&self.handle.snapshot(), sight, address, SystemClock.now())?;
        once(&Described { address })
    }

    async fn counters(&self, caller: &Caller, mut parameters: Parameters) -> Result<Answer, Fault> {
        let address = parameters.optional_text("address")?;
        let limit = parameters.optional_int("limit")?;
        let after = parameters.optional_text("after")?;
        parameters.end()?;
        let address = address
            .map(|text| decode::address("address", &text))
            .transpose()?;
        let page = Page::new(limit, after.as_deref())?;
        let sight = self.authority.sight(caller).await?;
        let snapshot = self.handle.snapshot();
        let (counters, next) =
            decode::counted(&self.counters, &snapshot, sight, address, page).await?;
        once(&Counted { counters, next })
    }

    async fn metrics(&self, caller: &Caller, mut parameters: Parameters) -> Result<Answer, Fault> {
        let format = parameters.optional_text("format")?;
        parameters.end()?;
        let format = metrics::format("format", format.as_deref())?;
        self.authority.sight(caller).await?;
        once(&Metrics {
            text: metrics::metrics(&self.handle, format, SystemClock.now()),
        })
    }

    async fn pools(&self, caller: &Caller, parameters: Parameters) -> Result<Answer, Fault> {
        parameters.end()?;
        self.authority.sight(caller).await?;
        once(&Pools {
            pools: PoolInfo::all(&self.handle.snapshot()),
        })
    }

    async fn status(&self, caller: &Caller, parameters: Parameters) -> Result<Answer, Fault> {
        parameters.end()?;
        self.authority.sight(caller).await?;
        once(&Status::new(&self.handle.snapshot()))
    }

    async fn permissions(
        &self,
        caller: &Caller,
        mut parameters: Parameters,
    ) -> Result<Answer, Fault> {
        let address = parameters.optional_text("address")?;
        parameters.end()?;
        let address = address
            .map(|text| decode::address("address", &text))
            .transpose()?;
        let snapshot = self.handle.snapshot();
        let named = address.map(|address| Named::new(&snapshot, address));
        let named = named.transpose()?;
        let answer = permissions(&self.authority, &caller.subject, &snapshot, named).await?;
        once(&answer)
    }

    async fn reload(&self, caller: &Caller, mut parameters: Parameters) -> Result<Answer, Fault> {
        let terms = terms(&mut parameters, Takes::TRIAL)?;
        parameters.end()?;
        self.may_reload(caller, Verb::Reload).await?;
        let reread = self.reloader.reload(&caller.subject.who(), terms).await?;
        once(&Reloaded::from(reread))
    }

    async fn history(&self, caller: &Caller, mut parameters: Parameters) -> Result<Answer, Fault> {
        let address = parameters.optional_text("address")?;
        let limit = parameters.optional_int("limit")?;
        let before: Option<u64> = parameters.optional_int("before")?;
        let after: Option<u64> = parameters.optional_int("after")?;
        parameters.end()?;
        let floating = floating("address", address)?;
        let limit = decode::limit("limit", limit)?;
        self.authority.may(caller, Verb::History).await?;

        let snapshot = self.handle.snapshot();
        let floating = floating.map(|address| decode::subject_of_history(&snapshot, address));
        let (before, after) = (before.map(Sequence), after.map(Sequence));
        let events = decode::history(&self.handle, floating, after, before, limit).await?;
        once(&Events {
            events: events.iter().map(EventInfo::from).collect(),
        })
    }

    async fn monitor(
        &self,
        caller: &Caller,
        mut parameters: Parameters,
        mode: Mode,
    ) -> Result<Answer, Fault> {
        let after: Option<u64> = parameters.optional_int("after")?;
        parameters.end()?;
        if mode != Mode::More {
            return Err(Fault::ExpectedMore);
        }
        let sight = self.authority.sight(caller).await?;
        if let Some(after) = after {
            let monitor = Monitor::resume(self.handle.clone(), Sequence(after), sight).await?;
            return Ok(Answer::Stream(Stream::Monitor(monitor)));
        }
        let (snapshot, events) = self.handle.subscribe();
        Ok(Answer::Stream(Stream::Monitor(Monitor::new(
            snapshot, events, sight,
        ))))
    }
}

/// On what terms a change is asked for.
fn terms(parameters: &mut Parameters, takes: Takes) -> Result<Terms, Fault> {
    let dry_run = parameters.flag("dry_run")?;
    let mut seconds = |taken, name| match taken {
        true => parameters.optional_int(name),
        false => Ok(None),
    };
    let confirm = seconds(takes.confirm, "confirm")?;
    let expires_in = seconds(takes.expires_in, "expires_in")?;
    Ok(terms::terms(dry_run, confirm, expires_in)?)
}

fn allocate(mut parameters: Parameters) -> Result<Request, Fault> {
    let address = parameters.optional_text("floating_ip")?;
    let pool = parameters.optional_text("pool")?;
    let owner = parameters.optional_int("owner")?;
    let count = parameters.optional_int("count")?;
    let noted = noted(&mut parameters)?;
    parameters.end()?;
    Ok(Request::Allocate(Allocate {
        floating: floating("floating_ip", address)?,
        count: decode::count("count", count)?,
        pool: pool_name(pool)?,
        owner,
        alteration: decode::alteration(noted)?.into(),
    }))
}

fn associate(mut parameters: Parameters) -> Result<Request, Fault> {
    let fixed = parameters.text("fixed_address")?;
    let address = parameters.optional_text("floating_ip")?;
    let pool = parameters.optional_text("pool")?;
    let owner = parameters.optional_int("owner")?;
    let reassociate = parameters.flag("reassociate")?;
    let keep_established = parameters.flag("keep_established")?;
    parameters.end()?;
    Ok(Request::Associate(Associate {
        floating: floating("floating_ip", address)?,
        fixed: decode::fixed("fixed_address", &fixed)?,
        pool: pool_name(pool)?,
        owner,
        reassociate,
        keep_established,
    }))
}

fn disassociate(parameters: Parameters) -> Result<Request, Fault> {
    let address = address(parameters)?;
    Ok(Request::Disassociate(Disassociate { address }))
}

fn release(parameters: Parameters) -> Result<Request, Fault> {
    let address = address(parameters)?;
    Ok(Request::Release(Release { address }))
}

fn forward(mut parameters: Parameters) -> Result<Request, Fault> {
    let floating_ip = parameters.text("floating_ip")?;
    let protocol = parameters.text("protocol")?;
    let ports = parameters.text("ports")?;
    let fixed_address = parameters.text("fixed_address")?;
    let fixed_port = parameters.optional_int("fixed_port")?;
    let outbound = parameters.optional_text("outbound")?;
    let reassociate = parameters.flag("reassociate")?;
    parameters.end()?;
    Ok(Request::Forward(decode::forward(&ForwardFields {
        floating_ip: &floating_ip,
        protocol: &protocol,
        ports: &ports,
        fixed_address: &fixed_address,
        fixed_port,
        outbound: outbound.as_deref(),
        reassociate,
    })?))
}

fn unforward(mut parameters: Parameters) -> Result<Request, Fault> {
    let floating_ip = parameters.text("floating_ip")?;
    let protocol = parameters.text("protocol")?;
    let ports = parameters.text("ports")?;
    parameters.end()?;
    let request = decode::unforward(&floating_ip, &protocol, &ports)?;
    Ok(Request::Unforward(request))
}

fn update(mut parameters: Parameters) -> Result<Request, Fault> {
    let address = parameters.text("address")?;
    let fields = attributes(&mut parameters)?;
    parameters.end()?;
    Ok(Request::Update(Update {
        address: decode::address("address", &address)?,
        alteration: decode::alteration(fields)?.into(),
    }))
}

/// The parameters that are noted of an address which is new.
fn noted(parameters: &mut Parameters) -> Result<AttributeFields, Fault> {
    Ok(AttributeFields {
        label: parameters.optional_text("label")?,
        description: parameters.optional_text("description")?,
        tags: parameters.optional_texts("tags")?,
        protected: parameters.optional_flag("protected")?,
        ..AttributeFields::default()
    })
}

/// The same of one that may have others.
fn attributes(parameters: &mut Parameters) -> Result<AttributeFields, Fault> {
    Ok(AttributeFields {
        add_tags: parameters.optional_texts("add_tags")?,
        remove_tags: parameters.optional_texts("remove_tags")?,
        rate_in: parameters.optional_int("rate_in")?,
        rate_out: parameters.optional_int("rate_out")?,
        allowed_sources: parameters.optional_texts("allowed_sources")?,
        ..noted(parameters)?
    })
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
