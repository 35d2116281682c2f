//! The command line of IP Floater.

use std::process::ExitCode;

fn main() -> ExitCode {
    ipfloater::cli::run().into()
}
