//! The daemon: options, logging, exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ipfloater::daemon::{self, Options};
use ipfloater::teardown;

/// Floating IP addresses for a plain Linux router
///
/// Ties public addresses to private ones, 1:1, at run time. Stopping it
/// interrupts no traffic. See ipfloaterd(8).
#[derive(Debug, Parser)]
#[command(name = "ipfloaterd", version)]
struct Arguments {
    /// The configuration [default: /etc/ipfloaterd.conf, then /etc/ipfloaterd.conf.d/*.conf]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where the desired state is kept
    #[arg(
        long,
        value_name = "DIR",
        env = "STATE_DIRECTORY",
        default_value = "/var/lib/ipfloater"
    )]
    state_directory: PathBuf,

    /// Where the varlink socket org.ipfloater is
    #[arg(
        long,
        value_name = "DIR",
        env = "RUNTIME_DIRECTORY",
        default_value = "/run/ipfloater"
    )]
    runtime_directory: PathBuf,

    /// Whom to run as, when root starts it: a name, UID or UID:GID [default: ipfloater]
    #[arg(long, value_name = "USER")]
    user: Option<String>,

    /// Do not serve on the system bus ($DBUS_SYSTEM_BUS_ADDRESS)
    #[arg(long)]
    no_dbus: bool,

    /// Run on a kernel in memory: needs no privileges and carries no packet
    #[arg(long)]
    simulate: bool,

    /// Say what the configuration means, or what is wrong with it, and exit
    #[arg(long, conflicts_with = "teardown")]
    check_config: bool,

    /// Remove everything of ours from the kernel, and exit; no daemon may run
    #[arg(long)]
    teardown: bool,

    /// Have systemd keep packet sockets for the daemon, and exit; for its unit
    #[arg(long, hide = true)]
    store_packet_socket: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.check_config {
        return check_config(&arguments);
    }
    if arguments.teardown {
        return tear_down(arguments);
    }
    if arguments.store_packet_socket {
        return store_packet_socket();
    }
    ipfloater::logging::start(ipfloater::logging::IDENTIFIER);
    let options = Options {
        config: arguments.config,
        state_directory: arguments.state_directory,
        runtime_directory: arguments.runtime_directory,
        user: arguments.user,
        dbus: !arguments.no_dbus,
        simulate: arguments.simulate,
    };
    let code = match daemon::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", ipfloater::chain(&error));
            ExitCode::FAILURE
        }
    };
    ipfloater::logging::finish();
    code
}

fn check_config(arguments: &Arguments) -> ExitCode {
    match daemon::check_config(arguments.config.as_deref()) {
        Ok((settings, problems)) => {
            print!("{settings}");
            for problem in &problems {
                eprintln!("ipfloaterd: {problem}");
            }
            if problems.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("ipfloaterd: {}", ipfloater::chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn store_packet_socket() -> ExitCode {
    match daemon::store_packet_socket() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ipfloaterd: {}", ipfloater::chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn tear_down(arguments: Arguments) -> ExitCode {
    let options = teardown::Options {
        config: arguments.config,
        state_directory: arguments.state_directory,
        runtime_directory: arguments.runtime_directory,
    };
    match teardown::run(&options) {
        Ok(report) => {
            print!("{report}");
            for failure in &report.failures {
                eprintln!("ipfloaterd: could not be done: {failure}");
            }
            if report.failures.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("ipfloaterd: {}", ipfloater::chain(&error));
            ExitCode::FAILURE
        }
    }
}
