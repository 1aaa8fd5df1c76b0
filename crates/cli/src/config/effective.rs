//! What a configuration comes to: every setting, its value as the file would spell it, and where it came from. Secrets
//! are never among the values.

use super::local_state;
use super::{Config, Database, Directory, FOR_EVER, Origin, Origins};
use crate::text::duration;
use litekeep_formats::ltx::PageEncoding;
use litekeep_store::location::{CredentialSource, S3Settings, Settings};
use serde::Serialize;
use std::time::Duration;

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Setting {
    /// Its key; a key in a section follows the section's name.
    pub(crate) name: &'static str,
    /// Its value; empty where there is none.
    pub(crate) value: String,
    /// Where it came from.
    pub(crate) from: String,
}

/// In place of a secret that is set.
const HIDDEN: &str = "(hidden)";

type Row = (&'static str, String);

/// What belongs to no database.
pub(crate) fn global_settings(config: &Config) -> Vec<Setting> {
    let kind = if config.logging.json { "json" } else { "text" };
    let heartbeat = config.heartbeat.as_ref();
    let every = heartbeat.map(|heartbeat| duration::format(heartbeat.interval));
    let hidden = || HIDDEN.to_owned();
    let exec = config.exec.as_ref().map(|_| config.exec_as_written.clone().unwrap_or_else(hidden));
    let rows = vec![
        ("exec", exec.unwrap_or_default()),
        ("single-writer", config.single_writer.to_string()),
        ("addr", config.addr.clone().unwrap_or_default()),
        ("socket: enabled", config.socket.enabled.to_string()),
        ("socket: path", config.socket.path.display().to_string()),
        ("socket: permissions", format!("0{:o}", config.socket.permissions)),
        ("heartbeat-url", heartbeat.map(|_| hidden()).unwrap_or_default()),
        ("heartbeat-interval", every.unwrap_or_default()),
        ("logging: level", level(config.logging.level.as_deref())),
        ("logging: type", kind.to_owned()),
        ("logging: stderr", config.logging.stderr.to_string()),
        ("logging: source", config.logging.source.to_string()),
    ];
    settings(rows, &config.origins, config)
}

/// The level that is taken: a name that is none means `info`.
fn level(name: Option<&str>) -> String {
    crate::log::level(name.unwrap_or_default()).as_str().to_ascii_lowercase()
}

/// What holds for a database.
pub(crate) fn settings_of(database: &Database, config: &Config) -> Vec<Setting> {
    let mut rows = vec![("path", database.path.display().to_string())];
    rows.extend(replica_rows(database));
    rows.extend(engine_rows(database));
    let meta = local_state(&database.path, database.settings.meta_path.as_deref());
    rows.push(("meta-path", meta.display().to_string()));
    settings(rows, &database.origins, config)
}

/// What holds for each database of a directory.
pub(crate) fn settings_of_directory(directory: &Directory, config: &Config) -> Vec<Setting> {
    let meta = directory.meta_dir.as_ref().map(|dir| dir.display().to_string());
    let mut rows = vec![
        ("dir", directory.path.display().to_string()),
        ("pattern", directory.pattern.clone()),
        ("recursive", directory.recursive.to_string()),
        ("watch", directory.watch.to_string()),
        ("meta-dir", meta.unwrap_or_default()),
    ];
    rows.extend(replica_rows(&directory.template));
    rows.extend(engine_rows(&directory.template));
    settings(rows, &directory.template.origins, config)
}

fn settings(rows: Vec<Row>, origins: &Origins, config: &Config) -> Vec<Setting> {
    let told = |(name, value): Row| Setting { name, value, from: from(origins.get(name), config) };
    rows.into_iter().map(told).collect()
}

fn from(origin: Option<&Origin>, config: &Config) -> String {
    let line = |line: u64| {
        let names: Vec<String> = config
            .variables
            .iter()
            .filter(|(_, used)| *used == line)
            .map(|(name, _)| format!("${name}"))
            .collect();
        match &names[..] {
            [] => format!("line {line}"),
            names => format!("line {line} ({})", names.join(", ")),
        }
    };
    match origin {
        None => "default".to_owned(),
        Some(Origin::File(place)) => line(place.line),
        Some(Origin::Mapped(key, place)) => format!("mapped from {key}, {}", line(place.line)),
        Some(Origin::Shared(place)) => format!("{}, of another database", line(place.line)),
        Some(Origin::Environment(name)) => format!("environment: {name}"),
    }
}

fn replica_rows(database: &Database) -> Vec<Row> {
    let mut rows = vec![("replica", database.replica.location()), ("name", database.replica_name.clone())];
    if let Settings::S3(s3) = &database.replica {
        rows.extend(s3_rows(s3));
    }
    rows
}

fn s3_rows(s3: &S3Settings) -> Vec<Row> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let hidden = |there: bool| if there { HIDDEN.to_owned() } else { String::new() };
    let keys = match &s3.credentials {
        CredentialSource::Given => s3.access_key_id.is_some(),
        CredentialSource::Found(_) | CredentialSource::Role(_) => true,
    };
    let path_style = s3.force_path_style.map(|on| on.to_string());
    vec![
        ("endpoint", text(&s3.endpoint)),
        ("region", text(&s3.region)),
        ("force-path-style", path_style.unwrap_or_else(|| "auto".to_owned())),
        ("access-key-id", hidden(keys)),
        ("secret-access-key", hidden(keys)),
        ("skip-verify", s3.skip_verify.to_string()),
        ("sign-payload", s3.sign_payload.to_string()),
        ("storage-class", text(&s3.storage_class)),
        ("sse-kms-key-id", text(&s3.sse_kms_key_id)),
        ("part-size", s3.part_size.map_or_else(|| "auto".to_owned(), |size| size.to_string())),
        ("concurrency", s3.concurrency.map_or_else(|| "auto".to_owned(), |count| count.to_string())),
    ]
}

fn engine_rows(database: &Database) -> Vec<Row> {
    let settings = &database.settings;
    let off = |time: Option<Duration>| time.map_or_else(|| "off".to_owned(), duration::format);
    let levels: Vec<String> = settings.levels.iter().copied().map(duration::format).collect();
    let kept = Some(settings.snapshot_retention).filter(|time| *time < FOR_EVER);
    let encoding = match settings.encoding {
        PageEncoding::Block => "block",
        PageEncoding::Frame => "frame",
    };
    vec![
        ("restore-if-db-not-exists", database.restore_if_missing.to_string()),
        ("sync-interval", duration::format(settings.sync_interval)),
        ("monitor-interval", duration::format(settings.monitor_interval)),
        ("max-sync-wal-bytes", most(settings.max_sync_wal_bytes)),
        ("checkpoint-interval", off(settings.checkpoint_interval)),
        ("min-checkpoint-page-count", settings.min_checkpoint_pages.to_string()),
        ("truncate-page-n", settings.truncate_pages.to_string()),
        ("page-encoding", encoding.to_owned()),
        ("levels", levels.join(", ")),
        ("snapshot: interval", duration::format(settings.snapshot_interval)),
        ("snapshot: retention", off(kept)),
        ("l0-retention", off(settings.l0_retention)),
        ("l0-retention-check-interval", duration::format(settings.gather)),
        ("retention: enabled", settings.retention.to_string()),
        ("validation: interval", off(database.validation)),
        ("shutdown-sync-timeout", last_sync(database.shutdown_timeout)),
        ("shutdown-sync-interval", duration::format(settings.shutdown_retry)),
    ]
}

fn most(bytes: u64) -> String {
    if bytes == u64::MAX { "unlimited".to_owned() } else { bytes.to_string() }
}

fn last_sync(limit: Duration) -> String {
    if limit.is_zero() { "0s (one try)".to_owned() } else { duration::format(limit) }
}
