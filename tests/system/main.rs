//! The package on really booted Debian systems.
//!
//! Each test boots a box: systemd-nspawn with a Debian of its own, in which
//! process 1 is systemd, with a system bus, polkit, journal, users and network.
//! The package is built from the programs of this run, installed there with apt,
//! and used as a user uses it.
//!
//! | file | what |
//! | --- | --- |
//! | `rootfs.sh`, `boot.sh` | makes a Debian once, boots it |
//! | `machine`, `conversation` | a booted box, and programs in it |
//! | `package` | the package, the router that has it, the hosts around it |
//! | the others | the scenarios |
//!
//! They need root, mmdebstrap, systemd-nspawn and a Debian mirror, and fail
//! without. Boxes have random names, everything that they mount or link is in
//! namespaces of their own, and their end is that of the test process.
#![allow(clippy::disallowed_types, reason = "tests start programs")]

mod conversation;
mod machine;
mod package;

mod authorization;
mod buses;
mod completion;
mod documents;
mod examples;
mod harness;
mod install;
mod journal;
mod manual;
mod matrix;
mod metrics;
mod moving;
mod pages;
mod privileges;
mod reload;
mod remote;
mod sandbox;
mod ssh;
mod traffic;
