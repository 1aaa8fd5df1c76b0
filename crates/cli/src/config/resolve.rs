//! From the file as it is written to what it means: defaults, inheritance, limits, and a judgement on every key.

use super::yaml::{Db, File, Hidden, Interval, Replica, ReplicaSettings, Size, Snapshot, Unknown};
use super::{Config, Database, EngineSettings, Logging, SHUTDOWN_TIMEOUT};
use crate::world::World;
use litekeep_core::limits;
use litekeep_formats::ltx::PageEncoding;
use litekeep_store::location::{ReplicaUrl, S3Settings, Secret, Settings};
use serde_saphyr::Spanned;
use std::path::PathBuf;
use std::time::Duration;

/// Levels that may be configured.
const MAX_LEVELS: usize = 8;

/// The least size of a part that S3 takes, bytes.
const MIN_PART: u64 = 5 << 20;

/// Judges a file. `warnings` come first in the result's.
///
/// # Errors
/// What is wrong or not supported, with its line.
pub(super) fn resolve(world: &World, file: File, warnings: Vec<String>) -> Result<Config, String> {
    let mut notes = Notes(warnings);
    notes.top_level(&file);
    let shared = shared(&file)?;
    let logging = Logging {
        level: file.logging.as_ref().and_then(|logging| text(logging.level.as_ref())),
        json: file.logging.as_ref().and_then(|logging| text(logging.kind.as_ref())).as_deref()
            == Some("json"),
        stderr: file.logging.as_ref().and_then(|logging| value(logging.stderr.as_ref())).unwrap_or(false),
    };
    let mut databases: Vec<Database> = Vec::new();
    for db in file.dbs.iter().flatten() {
        let database = database(world, &file, &shared, db, &mut notes)
            .map_err(|reason| format!("{reason} (the database of line {})", db.referenced.line()))?;
        if databases.iter().any(|other| other.path == database.path) {
            return Err(format!("{} is listed twice", database.path.display()));
        }
        if databases.iter().any(|other| other.replica == database.replica) {
            return Err(format!("two databases have the same replica, {}", database.replica.location()));
        }
        databases.push(database);
    }
    Ok(Config { exec: text(file.exec.as_ref()), logging, databases, warnings: notes.0 })
}

/// The settings that the top of the file gives to all databases.
fn shared(file: &File) -> Result<EngineSettings, String> {
    let mut engine = EngineSettings::default();
    if let Some(levels) = &file.levels {
        if levels.len() > MAX_LEVELS {
            return Err(format!("{} levels are configured; {MAX_LEVELS} is the limit", levels.len()));
        }
        engine.levels = Vec::new();
        for level in levels {
            let interval = positive("levels: interval", level.interval.as_ref())?;
            engine.levels.push(interval.ok_or("a level without interval")?);
        }
    }
    snapshot(&mut engine, file.snapshot.as_ref())?;
    // 0 switches the deletion of slots off; it is no retention of no time at all (R39).
    if let Some(interval) = time(file.l0_retention.as_ref()) {
        engine.l0_retention = (!interval.is_zero()).then_some(interval);
    }
    positive("l0-retention-check-interval", file.l0_retention_check_interval.as_ref())?;
    if let Some(enabled) = file.retention.as_ref().and_then(|retention| value(retention.enabled.as_ref())) {
        engine.retention = enabled;
    }
    positive("shutdown-sync-interval", file.shutdown_sync_interval.as_ref())?;
    Ok(engine)
}

fn snapshot(engine: &mut EngineSettings, section: Option<&Snapshot>) -> Result<(), String> {
    let Some(section) = section else { return Ok(()) };
    if let Some(interval) = positive("snapshot: interval", section.interval.as_ref())? {
        engine.snapshot_interval = interval;
    }
    if let Some(retention) = positive("snapshot: retention", section.retention.as_ref())? {
        engine.snapshot_retention = retention;
    }
    Ok(())
}

fn database(
    world: &World,
    file: &File,
    shared: &EngineSettings,
    db: &Spanned<Db>,
    notes: &mut Notes,
) -> Result<Database, String> {
    let (line, db) = (db.referenced.line(), &db.value);
    notes.database(db, line, file);
    if db.dir.is_some() || db.meta_dir.is_some() {
        return Err("`dir` is not supported: list each database by its `path`".to_owned());
    }
    let path = match text(db.path.as_ref()) {
        Some(path) => world.path(&path),
        None => return Err("a database needs a `path`".to_owned()),
    };
    let replica = the_replica(db)?;
    notes.replica(&replica.value, replica.referenced.line());
    let settings = inherited(&replica.value.settings, &file.replica);
    let mut engine = shared.clone();
    tune(&mut engine, db, &settings)?;
    if file.snapshot.is_none() {
        snapshot(&mut engine, db.snapshot.as_ref())?;
    }
    engine.meta_path = text(db.meta_path.as_ref()).map(|path| world.path(&path));
    Ok(Database {
        replica: locate(world, &replica.value, settings)?,
        restore_if_missing: value(db.restore_if_db_not_exists.as_ref()).unwrap_or(false),
        path,
        settings: engine,
        shutdown_timeout: time(file.shutdown_sync_timeout.as_ref()).unwrap_or(SHUTDOWN_TIMEOUT),
    })
}

fn tune(engine: &mut EngineSettings, db: &Db, settings: &ReplicaSettings) -> Result<(), String> {
    if let Some(interval) = positive("sync-interval", settings.sync_interval.as_ref())? {
        engine.sync_interval = interval;
    }
    if let Some(encoding) = text(settings.page_encoding.as_ref()) {
        engine.encoding = match encoding.as_str() {
            "block" => PageEncoding::Block,
            "frame" => PageEncoding::Frame,
            other => return Err(format!("page-encoding is block or frame, not {other}")),
        };
    }
    if let Some(interval) = positive("monitor-interval", db.monitor_interval.as_ref())? {
        engine.monitor_interval = interval;
    }
    if let Some(interval) = time(db.checkpoint_interval.as_ref()) {
        engine.checkpoint_interval = (!interval.is_zero()).then_some(interval);
    }
    if let Some(pages) = count("min-checkpoint-page-count", db.min_checkpoint_page_count.as_ref())? {
        if pages == 0 {
            return Err("min-checkpoint-page-count must be 1 or more".to_owned());
        }
        engine.min_checkpoint_pages = pages;
    }
    // 0 keeps the default: a WAL without any bound is nothing that anybody wants.
    if let Some(pages) = count("truncate-page-n", db.truncate_page_n.as_ref())?.filter(|pages| *pages > 0) {
        engine.truncate_pages = pages;
    }
    Ok(())
}

/// The one replica of a database.
fn the_replica(db: &Db) -> Result<&Spanned<Replica>, String> {
    match (&db.replica, db.replicas.as_deref()) {
        (Some(_), Some([_, ..])) => Err("give `replica` or `replicas`, not both".to_owned()),
        (Some(replica), _) => Ok(replica),
        (None, Some([replica])) => Ok(replica),
        (None, Some([_, _, ..])) => {
            Err("several replicas of one database are not supported: keep one of them".to_owned())
        }
        (None, _) => Err("a database needs a `replica`".to_owned()),
    }
}

/// A replica's own settings, and those of the whole file where it says nothing.
fn inherited(own: &ReplicaSettings, file: &ReplicaSettings) -> ReplicaSettings {
    macro_rules! either {
        ($($field:ident),* $(,)?) => {
            ReplicaSettings { $($field: own.$field.clone().or_else(|| file.$field.clone()),)* ..own.clone() }
        };
    }
    either!(
        sync_interval,
        access_key_id,
        secret_access_key,
        region,
        bucket,
        endpoint,
        force_path_style,
        sign_payload,
        skip_verify,
        storage_class,
        part_size,
        concurrency,
        sse_customer_algorithm,
        sse_customer_key,
        sse_customer_key_path,
        sse_kms_key_id,
        age,
    )
}

/// Where a replica lies. What is asked for and cannot be done is refused here, not after the first upload.
fn locate(world: &World, replica: &Replica, settings: ReplicaSettings) -> Result<Settings, String> {
    refuse_encryption(&settings)?;
    let url = replica.url.as_ref().map(|url| url.value.0.expose()).filter(|url| !url.is_empty());
    let path = text(replica.path.as_ref());
    let kind = text(replica.kind.as_ref());
    if url.is_some() && path.is_some() {
        return Err("give the replica's `url` or its `path`, not both".to_owned());
    }
    if url.is_some() && replica.settings.bucket.is_some() {
        return Err("give the replica's `url` or its `bucket`, not both".to_owned());
    }
    let base = match (url, kind.as_deref()) {
        (Some(url), _) => ReplicaUrl::parse(url).map_err(|error| error.to_string())?.into_settings(),
        (None, None | Some("file")) => match path {
            Some(path) => Settings::Directory(PathBuf::from(path)),
            None => return Err("a replica of type file needs a `path` or a `url`".to_owned()),
        },
        (None, Some("s3")) => match text(settings.bucket.as_ref()) {
            Some(bucket) => Settings::S3(Box::new(S3Settings::new(bucket, path.unwrap_or_default()))),
            None => return Err("a replica of type s3 needs a `bucket` or a `url`".to_owned()),
        },
        (None, Some(other @ ("gs" | "abs" | "sftp" | "webdav" | "nats" | "oss"))) => {
            return Err(format!("replicas of type {other} are not supported; s3 and file are"));
        }
        (None, Some(other)) => return Err(format!("`{other}` is no type of replica; s3 and file are")),
    };
    match base {
        Settings::Directory(path) => Ok(Settings::Directory(world.path(&path.to_string_lossy()))),
        Settings::S3(s3) => s3_settings(world, *s3, settings),
    }
}

fn s3_settings(world: &World, mut s3: S3Settings, settings: ReplicaSettings) -> Result<Settings, String> {
    let secret = |hidden: Hidden| Some(hidden.0).filter(|secret: &Secret| !secret.expose().is_empty());
    let said = |text: Option<String>| text.filter(|text| !text.is_empty());
    if let Some(size) = &settings.part_size
        && size.value.0 < MIN_PART
    {
        let line = size.referenced.line();
        return Err(format!("part-size in line {line} is below the {MIN_PART} bytes that S3 takes"));
    }
    s3.access_key_id = settings.access_key_id.and_then(secret).map(|id| id.expose().to_owned());
    s3.secret_access_key = settings.secret_access_key.and_then(secret);
    s3.region = said(settings.region).or(s3.region);
    s3.endpoint = said(settings.endpoint).or(s3.endpoint);
    s3.force_path_style = settings.force_path_style.or(s3.force_path_style);
    s3.sign_payload = settings.sign_payload.unwrap_or(s3.sign_payload);
    s3.skip_verify = settings.skip_verify.unwrap_or(s3.skip_verify);
    s3.storage_class = said(settings.storage_class).or(s3.storage_class);
    s3.sse_kms_key_id = said(settings.sse_kms_key_id).or(s3.sse_kms_key_id);
    s3.part_size = settings.part_size.map(|size| size.value.0).or(s3.part_size);
    s3.concurrency = settings.concurrency.map(|count| count.value.clamp(1, 64) as usize).or(s3.concurrency);
    Settings::S3(Box::new(s3))
        .with_environment(&|name| world.env.get(name).map(str::to_owned))
        .map_err(|error| error.to_string())
}

/// Encryption that was asked for and would not happen is no matter for a warning.
fn refuse_encryption(settings: &ReplicaSettings) -> Result<(), String> {
    let customer = [
        settings.sse_customer_algorithm.as_ref(),
        settings.sse_customer_key.as_ref(),
        settings.sse_customer_key_path.as_ref(),
    ];
    if let Some(key) = customer.into_iter().flatten().next() {
        let line = key.referenced.line();
        return Err(format!(
            "encryption by sse-customer keys (line {line}) is not supported; sse-kms-key-id or the bucket's own is"
        ));
    }
    let filled = |age: &&Spanned<super::yaml::Age>| {
        let count = |keys: Option<&Vec<_>>| keys.map_or(0, Vec::len);
        count(age.value.identities.as_ref()) + count(age.value.recipients.as_ref()) > 0
    };
    match settings.age.as_ref().filter(filled) {
        Some(age) => Err(format!(
            "age encryption (line {}) is not supported, as in Litestream 0.5",
            age.referenced.line()
        )),
        None => Ok(()),
    }
}

/// Warnings in the order of the file.
struct Notes(Vec<String>);

impl Notes {
    fn unknown(&mut self, keys: &[Unknown], place: &str) {
        for Unknown { key, line, near } in keys {
            let near = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
            self.0.push(format!("{key} in line {line} is not known{place} and has no effect{near}"));
        }
    }

    fn no_effect(&mut self, name: &str, line: u64, why: &str) {
        self.0.push(format!("{name} in line {line} has no effect: {why}"));
    }

    fn given<T>(&mut self, name: &str, value: Option<&Spanned<T>>, why: &str) {
        if let Some(value) = value {
            self.no_effect(name, value.referenced.line(), why);
        }
    }

    fn top_level(&mut self, file: &File) {
        self.unknown(&file.unknown, "");
        self.given("addr", file.addr.as_ref(), "metrics are not served yet");
        self.given("mcp-addr", file.mcp_addr.as_ref(), "there is no MCP server");
        self.given("heartbeat-url", file.heartbeat_url.as_ref(), "no heartbeat is sent");
        self.given("heartbeat-interval", file.heartbeat_interval.as_ref(), "no heartbeat is sent");
        if let Some(socket) = &file.socket {
            self.unknown(&socket.unknown, " in socket");
            let enabled = socket.enabled.as_ref().filter(|enabled| enabled.value);
            self.given("socket", enabled, "there is no control socket yet");
        }
        if let Some(logging) = &file.logging {
            self.unknown(&logging.unknown, " in logging");
            let source = logging.source.as_ref().filter(|source| source.value);
            self.given("logging: source", source, "log lines carry no source lines");
        }
        let why = "what is due is decided from the replica's state";
        self.given("l0-retention-check-interval", file.l0_retention_check_interval.as_ref(), why);
        let why = "the last sync is tried again at growing intervals";
        self.given("shutdown-sync-interval", file.shutdown_sync_interval.as_ref(), why);
        if let Some(validation) = &file.validation {
            self.unknown(&validation.unknown, " in validation");
            self.given(
                "validation: interval",
                validation.interval.as_ref(),
                "levels are not listed for checking yet",
            );
        }
        for level in file.levels.iter().flatten() {
            self.unknown(&level.unknown, " in levels");
        }
        if let Some(snapshot) = &file.snapshot {
            self.unknown(&snapshot.unknown, " in snapshot");
        }
        if let Some(retention) = &file.retention {
            self.unknown(&retention.unknown, " in retention");
        }
        self.settings(&file.replica);
    }

    fn database(&mut self, db: &Db, line: u64, file: &File) {
        self.unknown(&db.unknown, " in a database");
        let why = "checkpoints that block writers are never made";
        self.given("max-checkpoint-page-count", db.max_checkpoint_page_count.as_ref(), why);
        let bounded =
            db.max_sync_wal_bytes.as_ref().filter(|size| size.value != Size(limits::SYNC_WAL_BYTES));
        let why = format!(
            "{} MiB of WAL go into one slot at most, however that is set",
            limits::SYNC_WAL_BYTES >> 20
        );
        self.given("max-sync-wal-bytes", bounded, &why);
        if let Some(snapshot) = &db.snapshot {
            self.unknown(&snapshot.unknown, " in snapshot");
            if file.snapshot.is_some() {
                self.no_effect("snapshot", line, "the `snapshot` of the whole file goes before a database's");
            }
        }
    }

    fn replica(&mut self, replica: &Replica, line: u64) {
        self.unknown(&replica.unknown, " in a replica");
        self.unknown(&replica.settings.unknown, " in a replica");
        let url = replica.url.as_ref().map(|url| url.value.0.expose());
        let by_url = url.is_some_and(|url| !url.starts_with("s3://"));
        let by_type = url.is_none() && matches!(text(replica.kind.as_ref()).as_deref(), None | Some("file"));
        if (by_url || by_type) && replica.settings.bucket.is_some() {
            self.no_effect("bucket", line, "the replica's type is file");
        }
        self.settings(&replica.settings);
    }

    /// What a replica's settings, of its own or of the whole file, ask for in vain.
    fn settings(&mut self, s: &ReplicaSettings) {
        let v3 =
            "it is of Litestream 0.3; give `snapshot: interval` and `snapshot: retention` at the file's top";
        self.given("retention", s.retention.as_ref(), v3);
        self.given("retention-check-interval", s.retention_check_interval.as_ref(), v3);
        self.given("snapshot-interval", s.snapshot_interval.as_ref(), v3);
        self.given(
            "validation-interval",
            s.validation_interval.as_ref(),
            "replicas are not validated by interval",
        );
        let why = "as in Litestream, it belongs to a type of replica that is not supported";
        for (name, value) in [
            ("account-name", &s.account_name),
            ("account-key", &s.account_key),
            ("sas-token", &s.sas_token),
            ("host", &s.host),
            ("user", &s.user),
            ("password", &s.password),
            ("key-path", &s.key_path),
            ("host-key", &s.host_key),
            ("concurrent-writes", &s.concurrent_writes),
            ("webdav-url", &s.webdav_url),
            ("webdav-username", &s.webdav_username),
            ("webdav-password", &s.webdav_password),
            ("jwt", &s.jwt),
            ("seed", &s.seed),
            ("creds", &s.creds),
            ("nkey", &s.nkey),
            ("username", &s.username),
            ("token", &s.token),
            ("tls", &s.tls),
            ("root-cas", &s.root_cas),
            ("client-cert", &s.client_cert),
            ("client-key", &s.client_key),
            ("max-reconnects", &s.max_reconnects),
            ("reconnect-wait", &s.reconnect_wait),
            ("timeout", &s.timeout),
        ] {
            self.given(name, value.as_ref(), why);
        }
    }
}

fn value<T: Copy>(field: Option<&Spanned<T>>) -> Option<T> {
    field.map(|field| field.value)
}

/// A text that says something.
fn text(field: Option<&Spanned<String>>) -> Option<String> {
    field.map(|field| field.value.clone()).filter(|text| !text.is_empty())
}

fn time(field: Option<&Spanned<Interval>>) -> Option<Duration> {
    field.map(|field| field.value.0)
}

/// A duration that must not be zero: zero would fire all the time (R39).
fn positive(name: &str, field: Option<&Spanned<Interval>>) -> Result<Option<Duration>, String> {
    match field {
        Some(field) if field.value.0.is_zero() => {
            Err(format!("{name} in line {} must be greater than 0", field.referenced.line()))
        }
        field => Ok(time(field)),
    }
}

fn count(name: &str, field: Option<&Spanned<i64>>) -> Result<Option<u32>, String> {
    field
        .map(|field| {
            u32::try_from(field.value).map_err(|_| {
                format!("{name} in line {} must be 0 or more, and below 2^32", field.referenced.line())
            })
        })
        .transpose()
}
