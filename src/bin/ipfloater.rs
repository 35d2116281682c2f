//! The command line of IP Floater.

use std::process::ExitCode;

fn main() -> ExitCode {
    ipfloater::cli::answer_shell();
    ipfloater::cli::run().into()
}
