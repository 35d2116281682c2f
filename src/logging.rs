//! Where the daemon's words go: the journal when systemd started it, else
//! stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging. `IPFLOATER_LOG` takes the filter syntax of
/// tracing-subscriber's EnvFilter; the default is `info`.
pub fn start() {
    let filter = EnvFilter::try_from_env("IPFLOATER_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,zbus=warn"));
    let registry = tracing_subscriber::registry().with(filter);
    // systemd.exec(5): set when stdout or stderr is connected to the journal.
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    match journal {
        Some(layer) => registry
            .with(layer.with_syslog_identifier("ipfloaterd".into()))
            .init(),
        None => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_writer(std::io::stderr)
                    .with_ansi(std::io::stderr().is_terminal())
                    .with_target(false),
            )
            .init(),
    }
}
