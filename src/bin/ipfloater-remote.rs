//! The varlink interface for other hosts: options, logging, exit code.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ipfloater::client::DEFAULT_SOCKET;
use ipfloater::remote::{self, DEFAULT_DIRECTORY, Options};

/// Lets other hosts reach ipfloaterd over TLS, with certificates
///
/// Who connects has the rights that polkit gives to the user this runs as. See
/// ipfloater-remote(8).
#[derive(Debug, Parser)]
#[command(name = "ipfloater-remote", version)]
struct Arguments {
    /// Where server.pem, server.key, clients.pem and revoked.pem are
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DIRECTORY)]
    directory: PathBuf,

    /// What to listen on [default: the socket that systemd gives]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    /// The socket of the daemon
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,

    /// Say what the certificates say, or what is wrong with them, and exit
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let Arguments {
        directory,
        listen,
        socket,
        check,
    } = Arguments::parse();
    let options = Options {
        directory,
        listen,
        socket,
    };
    if check {
        return match remote::check(&options) {
            Ok(text) => {
                println!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("ipfloater-remote: {error}");
                ExitCode::FAILURE
            }
        };
    }
    ipfloater::logging::start("ipfloater-remote");
    let code = match remote::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    };
    ipfloater::logging::finish();
    code
}
