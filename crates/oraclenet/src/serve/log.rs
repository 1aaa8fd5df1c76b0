//! The server's log: one line an event, on stderr.

use super::Trouble;
use tracing::Level;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;

/// A level by its name.
pub(super) fn level(name: &str) -> Result<Level, Trouble> {
    Ok(match name {
        "debug" => Level::DEBUG,
        "info" => Level::INFO,
        "warn" => Level::WARN,
        "error" => Level::ERROR,
        other => return Err(Trouble::usage(format!("--log is {other:?}, not debug, info, warn or error"))),
    })
}

/// Sends the log of this process to stderr. Lines of our own crates show from `level` on, those of others from WARN on:
/// a client library's debug output may hold what must not be shown.
pub(super) fn install(level: Level) {
    let ours = ["oraclenet", "litekeep", "litekeep_store", "litekeep_core"];
    let targets = Targets::new().with_default(Level::WARN).with_targets(ours.map(|name| (name, level)));
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_filter(targets);
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines));
}
