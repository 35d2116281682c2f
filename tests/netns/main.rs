//! The whole program on a real kernel, with real packets.
//!
//! Each test builds a small internet of network namespaces, starts `ipfloaterd`
//! in the router's as a user starts it, gives orders with `ipfloater`, and then
//! looks at nothing but what hosts send, receive and hear:
//!
//! ```text
//!                 far      203.0.113.9        2001:db8:f::9
//!                  │
//!                  │ far0  203.0.113.1        2001:db8:f::1
//!               outside                       the provider's gateway, and a
//!                  │ eth0  198.51.100.1       2001:db8::1      client on the link
//!                  │
//!                  │ wan0  198.51.100.2       2001:db8::2
//!               router     ipfloaterd; the pool is 198.51.100.10-29
//!             lan0 │ lan1                     and 2001:db8::10-29
//!   10.0.1.1   ┌───┴───┐   10.0.2.1
//!   fd00:1::1  │       │   fd00:2::1
//!           switch   host_c  10.0.2.13        fd00:2::13
//!           ┌──┴──┐
//!        host_a  host_b
//!     10.0.1.11  10.0.1.12
//!     fd00:1::11 fd00:1::12
//! ```
//!
//! The namespaces have no names: they exist as long as the test process holds
//! them, so that nothing can be left over and any number of runs go at once.
//! Outside knows routes to the private networks; a packet that should have been
//! translated and was not therefore arrives, and is seen.
//!
//! On port 7 of every host but the router is a service, over UDP and TCP, that
//! answers with its own name, the address that it saw, and what was said:
//! `host_a saw 198.51.100.1`. What a test asserts is mostly such a sentence.
//!
//! | file | what |
//! | --- | --- |
//! | `lab` | the small internet |
//! | `namespace` | one network namespace, and programs in it |
//! | `daemon` | ipfloaterd and ipfloater |
//! | `service`, `talk` | who answers, who asks |
//! | `sniffer`, `craft` | packets seen, packets made by hand |
//! | `original` | what another program leaves on the router |
//! | the others | the scenarios |
//!
//! They need root, ip(8), nft(8), iptables(8), conntrack(8), setpriv(1) and strace(1), and
//! fail without.
#![allow(clippy::disallowed_types, reason = "tests start programs")]

#[path = "../dbus/bus.rs"]
mod bus;
mod craft;
mod daemon;
mod lab;
mod namespace;
#[path = "../common/nobody.rs"]
mod nobody;
mod service;
mod sniffer;
mod talk;

mod allocation;
mod bypass;
mod capabilities;
mod closed;
mod complaints;
mod doctor;
mod dry_run;
mod errors;
mod expiry;
mod forwards;
mod hairpin;
mod import;
mod json;
mod moves;
mod neighbours;
mod original;
mod privileges;
mod probes;
mod processes;
mod reach;
mod refusals;
mod reload;
mod remote;
mod repair;
mod restart;
mod teardown;
mod terminal;
mod traffic;
mod trial;
mod untranslated;
mod uplinks;
