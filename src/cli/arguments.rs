//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::import::Source;
use super::terms::{DryRun, Lasting, Trial};
use super::{complete, examples, exit, forward, metrics, set};
use crate::client::DEFAULT_SOCKET;

/// Gives public addresses to private hosts, and moves them from one to another.
///
/// A floating IP is free, allocated (somebody's) or associated with a host: then
/// what comes in for it reaches the host, and what the host sends out leaves as it.
#[derive(Debug, Parser)]
#[command(
    name = "ipfloater",
    version,
    after_help = exit::HELP,
    subcommand_required = true,
    arg_required_else_help = true,
    args_override_self = true,
    max_term_width = 100
)]
pub struct Arguments {
    /// What every verb understands.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What every verb understands.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// The socket of the daemon
    #[arg(long, global = true, value_name = "PATH", env = "IPFLOATER_SOCKET", hide_env_values = true, default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// Print the daemon's answer, or the error, as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Do not ask on the terminal for an administrator's password
    #[arg(long, global = true)]
    pub no_ask_password: bool,
    /// Do not wait until it is known that no other machine has an address
    #[arg(long, global = true)]
    pub no_wait: bool,
    /// Print tables without headings
    #[arg(long, global = true)]
    pub no_legend: bool,
    /// Print nothing but errors
    #[arg(short = 'q', long, global = true)]
    pub quiet: bool,
    /// Do it on another router, as the user that ssh(1) logs in there; all paths are that router's
    #[arg(short = 'H', long, global = true, value_name = "[USER@]HOST")]
    pub host: Option<String>,
    /// Said by the near side of --host to the far one: it is this host
    #[arg(long, global = true, hide = true)]
    pub here: bool,
    /// Ask the ipfloater-remote of another host, over TLS
    #[arg(short = 'i', long, global = true, value_name = "HOST")]
    pub server_ip: Option<String>,
    /// Its port
    #[arg(
        short = 'p',
        long,
        global = true,
        value_name = "PORT",
        default_value_t = crate::remote::PORT
    )]
    pub server_port: u16,
    /// Where client.pem, client.key and ca.pem are [default: ~/.config/ipfloater, then /etc/ipfloater]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "IPFLOATER_CERTIFICATES",
        hide_env_values = true
    )]
    pub certificates: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Give a host a floating IP, or tell the one it has
    #[command(after_help = examples::GETIP)]
    Getip {
        /// The private address of the host
        #[arg(add = complete::hosts())]
        private: String,
        /// Whether to do it at all
        #[command(flatten)]
        dry_run: DryRun,
        /// Whether it is undone
        #[command(flatten)]
        trial: Trial,
    },
    /// Give a host this floating IP
    #[command(after_help = examples::REDIRECT)]
    Redirect {
        /// The floating IP
        #[arg(add = complete::any_floating())]
        floating: String,
        /// The private address of the host
        #[arg(add = complete::hosts())]
        private: String,
        /// Take the address from the host that has it, and the host's own from it
        #[arg(long)]
        reassociate: bool,
        /// Whether to do it at all
        #[command(flatten)]
        dry_run: DryRun,
        /// Whether it is undone
        #[command(flatten)]
        trial: Trial,
    },
    /// Take a floating IP from its host and give it back to its pool
    #[command(after_help = examples::RELEASEIP)]
    Releaseip {
        /// The floating IP; or the private address that has it, or that ports lead to,
        /// which end then
        #[arg(add = complete::either())]
        address: String,
        /// Whether to do it at all
        #[command(flatten)]
        dry_run: DryRun,
        /// Whether it is undone
        #[command(flatten)]
        trial: Trial,
    },
    /// Tell how the daemon is, and which host has which address
    #[command(after_help = examples::STATUS)]
    Status,
    /// Tell the versions of this program and of the daemon
    #[command(after_help = examples::VERSION)]
    Version,
    /// List the addresses of the pools
    #[command(after_help = examples::IPPOOL)]
    Ippool,
    /// Tell the address that IP_POOL_FILE gives to a hardware address
    #[command(after_help = examples::ARP)]
    Arp {
        /// The hardware address, such as 60:60:00:00:00:01
        mac: String,
    },
    /// Take an address from a pool, for later
    #[command(after_help = examples::ALLOCATE)]
    Allocate {
        /// This address, instead of a free one
        #[arg(add = complete::free())]
        address: Option<String>,
        /// Take so many free ones at once, or none, at most 64
        #[arg(long, value_name = "N", conflicts_with = "address")]
        count: Option<u32>,
        /// A name for it
        #[arg(long, value_name = "NAME")]
        label: Option<String>,
        /// What it is for, in words
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// What to find it by; can be given several times
        #[arg(long = "tag", value_name = "NAME")]
        tags: Vec<String>,
        /// Refuse to release it
        #[arg(long)]
        protect: bool,
        /// Of this pool
        #[arg(long, add = complete::pools())]
        pool: Option<String>,
        /// For this user, by name or number, instead of the one who asks
        #[arg(long, value_name = "USER")]
        owner: Option<String>,
        /// Whether to do it at all
        #[command(flatten)]
        dry_run: DryRun,
        /// When it ends
        #[command(flatten)]
        lasting: Lasting,
    },
    /// Tie a floating IP to a host
    #[command(override_usage = "ipfloater associate [OPTIONS] [FLOATING] FIXED", after_help = examples::ASSOCIATE)]
    Associate {
        /// The floating IP, instead of a free one; and the fixed address of the host
        #[arg(num_args = 1..=2, required = true, value_name = "ADDRESS", add = complete::ends())]
        addresses: Vec<String>,
        /// Take a free address from this pool
        #[arg(long, add = complete::pools())]
        pool: Option<String>,
        /// Whose a free address becomes, by name or number
        #[arg(long, value_name = "USER")]
        owner: Option<String>,
        /// Take the address from the host that has it, and displace the host's own
        #[arg(long)]
        reassociate: bool,
        /// Let established flows go on where they are; only new ones follow
        #[arg(long)]
        keep_established: bool,
        /// Whether to do it at all
        #[command(flatten)]
        dry_run: DryRun,
        /// Whether it is undone
        #[command(flatten)]
        trial: Trial,
        /// When it ends
        #[command(flatten)]
        lasting: Lasting,
    },
    /// Untie a floating IP from its host; it stays allocated
    #[command(after_help = examples::DISASSOCIATE)]
    Disassociate {
        /// The floating IP, or the fixed address that has it
        #[arg(add = complete::either())]
        address: String,
        /// Whether to do it at all
        #[command(flatten)]
        dry_run: DryRun,
        /// Whether it is undone
        #[command(flatten)]
        trial: Trial,
    },
    /// Lead ports of a floating IP to a host
    #[command(after_help = examples::FORWARD)]
    Forward {
        /// The floating IP with its ports: ADDRESS:PORT or ADDRESS:FIRST-LAST,
        /// with /PROTOCOL when it is not tcp; an IPv6 address stands in brackets
        #[arg(value_name = "FLOATING:PORTS", value_parser = forward::floating, add = complete::before_ports())]
        floating: forward::End,
        /// The fixed address of the host, and the port that the first one leads
        /// to when it is another
        #[arg(value_name = "FIXED[:PORT]", value_parser = forward::fixed, add = complete::hosts())]
        fixed: forward::End,
        /// As what the host leaves when it begins a flow itself: "router" leaves
        /// it to the router, "floating" is the floating IP
        #[arg(long, value_name = "SOURCE", add = complete::words(&["router", "floating"]))]
        outbound: Option<String>,
        /// Take the ports from the host that they lead to
        #[arg(long)]
        reassociate: bool,
        /// Whether to do it at all
        #[command(flatten)]
        dry_run: DryRun,
        /// Whether it is undone
        #[command(flatten)]
        trial: Trial,
    },
    /// Lead ports of a floating IP to a host no longer
    #[command(after_help = examples::UNFORWARD)]
    Unforward {
        /// The floating IP with its ports, as they were forwarded
        #[arg(value_name = "FLOATING:PORTS", value_parser = forward::floating, add = complete::forwarded())]
        floating: forward::End,
        /// Whether to do it at all
        #[command(flatten)]
        dry_run: DryRun,
        /// Whether it is undone
        #[command(flatten)]
        trial: Trial,
    },
    /// Alter what a floating IP has: label, tags, protection, rates, allowed sources
    #[command(after_help = examples::SET)]
    Set {
        /// The floating IP, or the fixed address that has it
        #[arg(add = complete::either())]
        address: String,
        /// What is to be noted
        #[command(flatten)]
        attributes: set::Attributes,
        /// Whether to do it at all
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Give an address back to its pool, untied
    #[command(after_help = examples::RELEASE)]
    Release {
        /// The floating IP, or the fixed address that has it
        #[arg(add = complete::either())]
        address: String,
        /// Whether to do it at all
        #[command(flatten)]
        dry_run: DryRun,
        /// Whether it is undone
        #[command(flatten)]
        trial: Trial,
    },
    /// Let a change that was made with --confirm stay
    #[command(after_help = examples::CONFIRM)]
    Confirm {
        /// The floating IP, or the fixed address that has it or had it; none for the configuration
        #[arg(add = complete::unconfirmed())]
        address: Option<String>,
        /// Whether to do it at all
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Undo a change that was made with --confirm, now
    #[command(after_help = examples::REVERT)]
    Revert {
        /// The floating IP, or the fixed address that has it or had it; none for the configuration
        #[arg(add = complete::unconfirmed())]
        address: Option<String>,
        /// Whether to do it at all
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// List the addresses that are not free
    #[command(after_help = examples::LIST)]
    List {
        /// Of this pool
        #[arg(long, add = complete::pools())]
        pool: Option<String>,
        /// In this state: allocated, pending or active
        #[arg(long, add = complete::words(&["allocated", "pending", "active"]))]
        state: Option<String>,
        /// Of this user, by name or number
        #[arg(long, value_name = "USER")]
        owner: Option<String>,
        /// Of the host with this fixed address, or with ports that lead to it
        #[arg(long, value_name = "ADDRESS", add = complete::hosts())]
        fixed: Option<String>,
        /// With this label
        #[arg(long, add = complete::labels())]
        label: Option<String>,
        /// With this tag
        #[arg(long, add = complete::tags())]
        tag: Option<String>,
    },
    /// Tell everything about an address
    #[command(after_help = examples::SHOW)]
    Show {
        /// The floating IP, or the fixed address that has one
        #[arg(add = complete::either())]
        address: String,
    },
    /// Tell how much went through addresses, between the outside and hosts
    #[command(after_help = examples::COUNTERS)]
    Counters {
        /// Only of this floating IP, or of that of the host with this fixed address
        #[arg(add = complete::either())]
        address: Option<String>,
    },
    /// Watch what goes through addresses, busiest first, until it is interrupted
    #[command(after_help = examples::TOP)]
    Top {
        /// Count for so many seconds for each view
        #[arg(short = 'd', long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=3600))]
        interval: u32,
        /// End after so many views
        #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        views: Option<u32>,
        /// Show so many addresses [default: as many as fit the terminal, else 20]
        #[arg(long, value_name = "N")]
        rows: Option<usize>,
    },
    /// Tell the daemon's numbers, and those of addresses, as Prometheus reads them
    #[command(after_help = examples::METRICS)]
    Metrics(metrics::Wanted),
    /// Tell what you may do, and which polkit action decides
    #[command(after_help = examples::PERMISSIONS)]
    Permissions {
        /// With this floating IP, or that of the host with this fixed address
        #[arg(add = complete::either())]
        address: Option<String>,
    },
    /// Have the daemon read its configuration again
    #[command(after_help = examples::RELOAD)]
    Reload {
        /// Whether to do it at all
        #[command(flatten)]
        dry_run: DryRun,
        /// Whether it is undone
        #[command(flatten)]
        trial: Trial,
    },
    /// Tell what is so, and then everything that happens
    #[command(after_help = examples::MONITOR)]
    Monitor {
        /// Tell what happened since this event, instead of what is so
        #[arg(long, value_name = "SEQUENCE")]
        since: Option<u64>,
    },
    /// Tell what happened, latest first
    #[command(after_help = examples::HISTORY)]
    History {
        /// Only to this floating IP, or the one that this host has
        #[arg(add = complete::either())]
        address: Option<String>,
        /// So many events, 1 to 1000
        #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 20)]
        lines: u32,
    },
    /// Find out what stops traffic, and tell how it is mended
    #[command(after_help = examples::DOCTOR)]
    Doctor {
        /// Only of this floating IP, or of that of the host with this fixed address
        #[arg(add = complete::either())]
        address: Option<String>,
    },
    /// Take over what the original IP Floater had, and clear what it left; tells first
    #[command(after_help = examples::IMPORT)]
    Import {
        /// What is to be taken over, and whether it is
        #[command(flatten)]
        source: Source,
    },
    /// Print what completes this command line in a shell
    #[command(hide = true)]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}
