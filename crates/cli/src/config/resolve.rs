//! From the file as it is written to what it means: defaults, inheritance, limits.

use super::notes::{Notes, said};
use super::origin::{Origin, Origins};
use super::remark::Place;
use super::yaml::{Db, File, ReplicaSettings, Snapshot, Text};
use super::{
    Config, Database, Directory, EngineSettings, FOR_EVER, Heartbeat, Logging, Pick, SHUTDOWN_TIMEOUT,
    Socket, elsewhere, legacy, replica, unknown,
};
use crate::text::duration;
use crate::text::glob::Glob;
use crate::world::World;
use litekeep_formats::ltx::PageEncoding;
use litekeep_store::location::Settings;
use serde_saphyr::Spanned;
use std::time::Duration;

/// Levels that may be configured.
const MAX_LEVELS: usize = 8;

/// How often a heartbeat goes where nobody says how often.
const HEARTBEAT: Duration = Duration::from_secs(5 * 60);

/// Judges a file: what must be mended and what has no effect goes into the notes.
///
/// `theirs` is the file as Litestream expands it, where that may be another one.
pub(super) fn resolve(
    world: &World,
    file: &File,
    theirs: Option<&File>,
    pick: Pick<'_>,
    notes: &mut Notes,
) -> Config {
    unknown::judge(file, notes);
    let mut config = top(world, file, notes);
    replica::foreign(&file.replica, notes);
    let shared = Shared::of(file, notes);
    let mut places = Vec::new();
    for (at, db) in file.dbs.iter().flatten().enumerate() {
        vain(&db.value, notes);
        let Some(mut database) = database(world, file, &shared, db, pick, notes) else { continue };
        if let Some((theirs, their_db)) = theirs.and_then(|it| Some((it, it.dbs.as_ref()?.get(at)?))) {
            database.elsewhere = elsewhere::find(world, (file, db), (theirs, their_db), pick, notes);
        }
        match (notes.path("path", db.value.path.as_ref()), notes.path("dir", db.value.dir.as_ref())) {
            (Some(path), None) => {
                database.path = world.path(&path);
                if path.contains(['*', '?']) && !database.path.exists() {
                    let text = "path: it is no pattern, and no file has this name: for all that match use `dir` and `pattern`";
                    notes.warn(db.value.path.as_ref().map_or(Place::of(db), Place::of), text);
                }
                config.databases.push(database);
                places.push(Place::of(db));
            }
            (None, Some(dir)) => {
                database.path = world.path(&dir);
                config.directories.extend(directory(world, db, database, notes));
            }
            (Some(_), Some(_)) => notes.problem(Place::of(db), "give a `path` or a `dir`, not both"),
            (None, None) => notes.problem(Place::of(db), "a database needs a `path`"),
        }
    }
    twice(&config.databases, &places, notes);
    config
}

/// What belongs to no database.
fn top(world: &World, file: &File, notes: &mut Notes) -> Config {
    if let Some(mcp) = file.mcp_addr.as_ref().filter(|addr| !addr.value.is_empty()) {
        notes.problem(Place::of(mcp), "mcp-addr: there is no MCP server in litekeep: remove it");
    }
    let mut config = Config { exec: said(file.exec.as_ref()), ..Config::default() };
    let origins = &mut config.origins;
    from_file(origins, "exec", file.exec.as_ref());
    from_file(origins, "single-writer", file.single_writer.as_ref());
    config.single_writer = notes.switch("single-writer", file.single_writer.as_ref()).unwrap_or(false);
    from_file(origins, "addr", file.addr.as_ref());
    from_file(origins, "heartbeat-url", file.heartbeat_url.as_ref());
    from_file(origins, "heartbeat-interval", file.heartbeat_interval.as_ref());
    config.logging = logging(file, origins, notes);
    if let Some(level) = world.env.get("LOG_LEVEL") {
        config.logging.level = Some(level.to_owned());
        origins.set("logging: level", Origin::Environment("LOG_LEVEL".to_owned()));
    }
    config.socket = socket(world, file, origins, notes);
    config.heartbeat = heartbeat(file, notes);
    config.addr = said(file.addr.as_ref());
    if let (Some(addr), Some(field)) = (&config.addr, &file.addr)
        && let Some(why) = no_address(addr)
    {
        notes.problem(Place::of(field), format!("addr: `{addr}` {why}: write :9090 or 127.0.0.1:9090"));
    }
    notes.switch("verify-compaction", file.verify_compaction.as_ref());
    without_effect(&file.replica, notes);
    config
}

/// Why nothing can listen there, as far as the words tell. An IPv6 address has brackets.
fn no_address(addr: &str) -> Option<&'static str> {
    if addr.contains('/') {
        return Some("is a URL, not an address");
    }
    let Some((host, _)) = addr.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) else {
        return Some("has no port");
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    (bare.is_none() && host.contains(':'))
        .then_some("needs brackets around the IPv6 address, such as [::1]:9090")
}

fn logging(file: &File, origins: &mut Origins, notes: &mut Notes) -> Logging {
    let Some(section) = &file.logging else { return Logging::default() };
    from_file(origins, "logging: level", section.level.as_ref());
    from_file(origins, "logging: type", section.kind.as_ref());
    from_file(origins, "logging: stderr", section.stderr.as_ref());
    from_file(origins, "logging: source", section.source.as_ref());
    let source = notes.switch("logging: source", section.source.as_ref()).unwrap_or(false);
    let kind = said(section.kind.as_ref());
    if let (Some(kind), Some(field)) = (&kind, &section.kind) {
        match kind.as_str() {
            "text" | "json" => {}
            "pretty" => notes.warn(Place::of(field), "logging: type: pretty is taken as text"),
            other => {
                notes.problem(Place::of(field), format!("logging: type: `{other}` is neither text nor json"))
            }
        }
    }
    let level = said(section.level.as_ref());
    if let (Some(level), Some(field)) = (&level, &section.level)
        && !crate::log::is_level(level)
    {
        let text =
            format!("logging: level: `{level}` is none of trace, debug, info, warn, error; info is taken");
        notes.warn(Place::of(field), text);
    }
    let stderr = notes.switch("logging: stderr", section.stderr.as_ref()).unwrap_or(false);
    Logging { level, json: kind.as_deref() == Some("json"), stderr, source }
}

fn socket(world: &World, file: &File, origins: &mut Origins, notes: &mut Notes) -> Socket {
    let mut socket = Socket::default();
    let Some(section) = &file.socket else { return socket };
    from_file(origins, "socket: enabled", section.enabled.as_ref());
    from_file(origins, "socket: path", section.path.as_ref());
    from_file(origins, "socket: permissions", section.permissions.as_ref());
    let enabled = notes.switch("socket: enabled", section.enabled.as_ref());
    socket.enabled = enabled.unwrap_or(socket.enabled);
    socket.path =
        notes.path("socket: path", section.path.as_ref()).map_or(socket.path, |path| world.path(&path));
    let mode = notes.mode("socket: permissions", section.permissions.as_ref());
    socket.permissions = mode.unwrap_or(socket.permissions);
    socket
}

fn heartbeat(file: &File, notes: &mut Notes) -> Option<Heartbeat> {
    const LEAST: Duration = Duration::from_secs(60);
    let every = file.heartbeat_interval.as_ref();
    let interval = notes.zero_is_wrong("heartbeat-interval", every);
    if let (Some(Some(time)), Some(field)) = (interval, every)
        && time < LEAST
    {
        notes.problem(Place::of(field), "heartbeat-interval: it takes 1m at least");
    }
    let url = file.heartbeat_url.as_ref().filter(|url| !url.value.0.expose().is_empty());
    let Some(url) = url else {
        notes.in_vain("heartbeat-interval", every, "there is no heartbeat-url");
        return None;
    };
    let text = url.value.0.expose();
    if !text.starts_with("http://") && !text.starts_with("https://") {
        notes.problem(Place::of(url), "heartbeat-url: it must begin with http:// or https://");
        return None;
    }
    let interval = interval.unwrap_or(Some(HEARTBEAT))?;
    Some(Heartbeat { url: url.value.0.clone(), interval })
}

/// What the top of the file gives to all databases.
struct Shared {
    settings: EngineSettings,
    shutdown_timeout: Duration,
    validation: Option<Duration>,
    origins: Origins,
}

impl Shared {
    fn of(file: &File, notes: &mut Notes) -> Self {
        let mut shared = Self {
            settings: EngineSettings::default(),
            shutdown_timeout: SHUTDOWN_TIMEOUT,
            validation: None,
            origins: Origins::default(),
        };
        shared.levels(file, notes);
        let (engine, origins) = (&mut shared.settings, &mut shared.origins);
        if let Some(section) = &file.snapshot {
            snapshot_interval(engine, origins, section.interval.as_ref(), Origin::File, notes);
            snapshot_retention(engine, origins, section.retention.as_ref(), Origin::File, notes);
        }
        let l0 = file.l0_retention.as_ref();
        keep(
            &mut engine.l0_retention,
            notes.zero_is_off("l0-retention", l0, "slots are kept for ever"),
            origins,
            "l0-retention",
            l0,
        );
        let check = file.l0_retention_check_interval.as_ref();
        let key = "l0-retention-check-interval";
        keep(&mut engine.gather, notes.positive(key, check), origins, key, check);
        let enabled = file.retention.as_ref().and_then(|retention| retention.enabled.as_ref());
        let on = notes.switch("retention: enabled", enabled);
        keep(&mut engine.retention, on, origins, "retention: enabled", enabled);
        let limit = file.shutdown_sync_timeout.as_ref();
        let time = notes.zero_is("shutdown-sync-timeout", limit, "one try");
        keep(&mut shared.shutdown_timeout, time, origins, "shutdown-sync-timeout", limit);
        let (key, pause) = ("shutdown-sync-interval", file.shutdown_sync_interval.as_ref());
        keep(&mut engine.shutdown_retry, notes.positive(key, pause), origins, key, pause);
        let every = file.validation.as_ref().and_then(|validation| validation.interval.as_ref());
        let time = notes.zero_is_off("validation: interval", every, "nothing is verified by itself");
        keep(&mut shared.validation, time, origins, "validation: interval", every);
        shared
    }

    fn levels(&mut self, file: &File, notes: &mut Notes) {
        let Some(levels) = &file.levels else { return };
        if let Some(ninth) = levels.get(MAX_LEVELS) {
            let text = format!("{} levels are configured; {MAX_LEVELS} is the limit", levels.len());
            notes.problem(Place::of(ninth), text);
        }
        self.settings.levels.clear();
        for level in levels {
            let interval = level.value.interval.as_ref();
            if interval.is_none() {
                notes.problem(Place::of(level), "levels: a level needs an `interval`");
            }
            self.settings.levels.extend(notes.positive("levels: interval", interval));
        }
        if let Some(first) = levels.first() {
            self.origins.set("levels", Origin::File(Place::of(first)));
        }
    }
}

/// Everything of a database but its path.
fn database(
    world: &World,
    file: &File,
    shared: &Shared,
    db: &Spanned<Db>,
    pick: Pick<'_>,
    notes: &mut Notes,
) -> Option<Database> {
    let mut origins = shared.origins.clone();
    from_file(&mut origins, "path", db.value.path.as_ref());
    let replica = replica::chosen(db, pick, notes)?;
    from_file(&mut origins, "name", replica.value.name.as_ref());
    let located = replica::locate(world, replica, &file.replica, &mut origins, notes)?;
    let mut database = Database {
        replica_name: replica::name(&replica.value),
        settings: shared.settings.clone(),
        shutdown_timeout: shared.shutdown_timeout,
        validation: shared.validation,
        origins,
        ..Database::of(Default::default(), located)
    };
    let own = &replica.value.settings;
    let sync = own.sync_interval.as_ref().or(file.replica.sync_interval.as_ref());
    let encoding = own.page_encoding.as_ref().or(file.replica.page_encoding.as_ref());
    tune(&mut database, &db.value, sync, encoding, notes);
    snapshots(file, &db.value, &mut database, notes);
    let validation = own.validation_interval.as_ref().or(file.replica.validation_interval.as_ref());
    legacy::apply(&replica.value, &db.value, validation, &mut database, notes);
    without_effect(own, notes);
    let restore = db.value.restore_if_db_not_exists.as_ref();
    let (on, key) = (notes.switch("restore-if-db-not-exists", restore), "restore-if-db-not-exists");
    keep(&mut database.restore_if_missing, on, &mut database.origins, key, restore);
    if let Some(path) = notes.path("meta-path", db.value.meta_path.as_ref()) {
        database.settings.meta_path = Some(world.path(&path));
        from_file(&mut database.origins, "meta-path", db.value.meta_path.as_ref());
    }
    Some(database)
}

fn tune(database: &mut Database, db: &Db, sync: Option<&Text>, encoding: Option<&Text>, notes: &mut Notes) {
    let (engine, origins) = (&mut database.settings, &mut database.origins);
    let time = notes.positive("sync-interval", sync);
    keep(&mut engine.sync_interval, time, origins, "sync-interval", sync);
    let pages = encoding.and_then(|field| match field.value.as_str() {
        "block" => Some(PageEncoding::Block),
        "frame" => Some(PageEncoding::Frame),
        other => {
            notes.problem(Place::of(field), format!("page-encoding: `{other}` is neither block nor frame"));
            None
        }
    });
    keep(&mut engine.encoding, pages, origins, "page-encoding", encoding);
    let field = db.monitor_interval.as_ref();
    let time = notes.positive("monitor-interval", field);
    keep(&mut engine.monitor_interval, time, origins, "monitor-interval", field);
    let field = db.checkpoint_interval.as_ref();
    let meaning = "the size of the WAL alone decides";
    let time = notes.zero_is_off("checkpoint-interval", field, meaning);
    keep(&mut engine.checkpoint_interval, time, origins, "checkpoint-interval", field);
    let field = db.min_checkpoint_page_count.as_ref();
    let pages = notes.count("min-checkpoint-page-count", field);
    if let (Some(0), Some(field)) = (pages, field) {
        notes.problem(Place::of(field), "min-checkpoint-page-count: it must be 1 or more");
    }
    keep(&mut engine.min_checkpoint_pages, pages, origins, "min-checkpoint-page-count", field);
    let (key, field) = ("max-sync-wal-bytes", db.max_sync_wal_bytes.as_ref());
    let most = notes.bytes(key, field).map(|size| if size == 0 { u64::MAX } else { size });
    keep(&mut engine.max_sync_wal_bytes, most, origins, key, field);
    // 0 keeps the default: a WAL without any bound is nothing that anybody wants.
    let field = db.truncate_page_n.as_ref();
    let pages = notes.count("truncate-page-n", field).filter(|pages| *pages > 0);
    keep(&mut engine.truncate_pages, pages, origins, "truncate-page-n", field);
}

/// What one database says of snapshots. As in Litestream, what the whole file says goes before, and what databases say
/// counts for all of them, as long as they don't contradict each other; where they do, for each its own.
fn snapshots(file: &File, db: &Db, database: &mut Database, notes: &mut Notes) {
    let (engine, origins) = (&mut database.settings, &mut database.origins);
    let (top, own) = (file.snapshot.as_ref(), db.snapshot.as_ref());
    let interval = |section: &'_ Snapshot| section.interval.clone();
    let retention = |section: &'_ Snapshot| section.retention.clone();
    match (top.and_then(interval), own.and_then(interval), agreed(file, interval)) {
        (Some(_), Some(own), _) => beaten("snapshot: interval", &own, notes),
        (None, Some(own), _) => snapshot_interval(engine, origins, Some(&own), Origin::File, notes),
        (None, None, shared) => snapshot_interval(engine, origins, shared.as_ref(), Origin::Shared, notes),
        (Some(_), None, _) => {}
    }
    match (top.and_then(retention), own.and_then(retention), agreed(file, retention)) {
        (Some(_), Some(own), _) => beaten("snapshot: retention", &own, notes),
        (None, Some(own), _) => snapshot_retention(engine, origins, Some(&own), Origin::File, notes),
        (None, None, shared) => snapshot_retention(engine, origins, shared.as_ref(), Origin::Shared, notes),
        (Some(_), None, _) => {}
    }
}

fn beaten(key: &str, own: &Text, notes: &mut Notes) {
    let why = "the `snapshot` of the whole file goes before a database's, as in Litestream";
    notes.no_effect(key, Place::of(own), why);
}

/// What databases say of a setting, if all that say something say the same.
fn agreed(file: &File, field: impl Fn(&Snapshot) -> Option<Text>) -> Option<Text> {
    let mut said = file.dbs.iter().flatten().filter_map(|db| db.value.snapshot.as_ref().and_then(&field));
    let first = said.next()?;
    let time = |text: &Text| duration::parse(&text.value).ok();
    let wanted = time(&first)?;
    said.all(|other| time(&other) == Some(wanted)).then_some(first)
}

fn snapshot_interval(
    engine: &mut EngineSettings,
    origins: &mut Origins,
    field: Option<&Text>,
    origin: impl Fn(Place) -> Origin,
    notes: &mut Notes,
) {
    if let (Some(time), Some(field)) = (notes.positive("snapshot: interval", field), field) {
        engine.snapshot_interval = time;
        origins.set("snapshot: interval", origin(Place::of(field)));
    }
}

fn snapshot_retention(
    engine: &mut EngineSettings,
    origins: &mut Origins,
    field: Option<&Text>,
    origin: impl Fn(Place) -> Origin,
    notes: &mut Notes,
) {
    if let (Some(time), Some(field)) = (notes.zero_is_wrong("snapshot: retention", field), field) {
        engine.snapshot_retention = time.unwrap_or(FOR_EVER);
        origins.set("snapshot: retention", origin(Place::of(field)));
    }
}

/// Why no database of a directory is restored before it is replicated.
pub(crate) const NOT_RESTORED: &str = "what databases a `dir` should hold nobody knows, so that on an empty disk the application starts \
                            fresh; restore them before it starts, or list each with its `path`";

/// A directory, with what holds for each of its databases.
fn directory(
    world: &World,
    db: &Spanned<Db>,
    mut template: Database,
    notes: &mut Notes,
) -> Option<Directory> {
    let section = &db.value;
    if let Some(meta) = &section.meta_path {
        notes.problem(
            Place::of(meta),
            "meta-path: with a `dir` it is `meta-dir`, below which each database has its own",
        );
    }
    let Some(pattern) = said(section.pattern.as_ref()) else {
        notes.problem(Place::of(db), "a `dir` needs a `pattern`, such as '*.db'");
        return None;
    };
    if let (Err(why), Some(field)) = (Glob::parse(&pattern), &section.pattern) {
        notes.problem(Place::of(field), format!("pattern: `{pattern}`: {why}; such as '*.db'"));
    }
    if let (true, Some(field)) = (template.restore_if_missing, &section.restore_if_db_not_exists) {
        notes.no_effect("restore-if-db-not-exists", Place::of(field), NOT_RESTORED);
    }
    // it is the directory's, below which each database's lies
    if let Some(elsewhere) = &mut template.elsewhere {
        elsewhere.replica = None;
    }
    let meta_dir = notes.path("meta-dir", section.meta_dir.as_ref()).map(|dir| world.path(&dir));
    for (key, field) in [
        ("dir", &section.dir),
        ("pattern", &section.pattern),
        ("recursive", &section.recursive),
        ("watch", &section.watch),
        ("meta-dir", &section.meta_dir),
    ] {
        from_file(&mut template.origins, key, field.as_ref());
    }
    Some(Directory {
        path: template.path.clone(),
        pattern,
        recursive: notes.switch("recursive", section.recursive.as_ref()).unwrap_or(false),
        watch: notes.switch("watch", section.watch.as_ref()).unwrap_or(false),
        meta_dir,
        template,
    })
}

/// Keys of a replica that change nothing here: a value that is none is told all the same.
fn without_effect(settings: &ReplicaSettings, notes: &mut Notes) {
    notes.switch("auto-recover", settings.auto_recover.as_ref());
    notes.switch("require-content-md5", settings.require_content_md5.as_ref());
    notes.count("max-sync-ltx-files", settings.max_sync_ltx_files.as_ref());
}

/// Keys of a database that change nothing.
fn vain(db: &Db, notes: &mut Notes) {
    // no lock is ever waited for while another one is held, so there is nothing to time out
    notes.zero_is_off("busy-timeout", db.busy_timeout.as_ref(), "no lock is ever waited for");
    if db.dir.is_some() {
        return;
    }
    if let Some(meta) = &db.meta_dir {
        notes.problem(Place::of(meta), "meta-dir: it belongs to a `dir`; for a `path` it is `meta-path`");
    }
    for (key, field) in [("pattern", &db.pattern), ("recursive", &db.recursive), ("watch", &db.watch)] {
        notes.in_vain(key, field.as_ref(), "it belongs to a `dir`");
    }
}

/// Databases that would write over each other.
fn twice(databases: &[Database], places: &[Place], notes: &mut Notes) {
    for (at, (database, place)) in databases.iter().zip(places).enumerate() {
        let before = &databases[..at];
        if before.iter().any(|other| other.path == database.path) {
            let path = database.path.display();
            let text = format!(
                "{path} is listed twice: keep one entry for it, with one replica; several of one database are not supported"
            );
            notes.problem(*place, text);
        } else if let Some(other) = before.iter().find(|it| same_place(&it.replica, &database.replica)) {
            let location = database.replica.location();
            let spelling = if other.replica.location() == location { "" } else { " but for its spelling" };
            let text =
                format!("another database has the same replica{spelling}, {location}: give each its own");
            notes.problem(*place, text);
        }
        let meta = database.settings.meta_path.as_ref();
        if meta.is_some() && before.iter().any(|other| other.settings.meta_path.as_ref() == meta) {
            notes.problem(*place, "another database has the same meta-path: give each its own");
        }
    }
}

/// Whether two replicas lie in one place, however each is reached and its path is spelled: v0.3's backup would be that of both.
pub(crate) fn same_place(a: &Settings, b: &Settings) -> bool {
    match (a, b) {
        (Settings::Directory(a), Settings::Directory(b)) => a == b,
        (Settings::S3(a), Settings::S3(b)) => {
            (&a.bucket, a.v3_path(), &a.endpoint) == (&b.bucket, b.v3_path(), &b.endpoint)
        }
        _ => false,
    }
}

/// Takes a value that was read, and notes that the file gave it.
fn keep<T>(slot: &mut T, value: Option<T>, origins: &mut Origins, key: &'static str, field: Option<&Text>) {
    if let Some(value) = value {
        *slot = value;
        from_file(origins, key, field);
    }
}

fn from_file<T>(origins: &mut Origins, key: &'static str, field: Option<&Spanned<T>>) {
    if let Some(field) = field {
        origins.set(key, Origin::File(Place::of(field)));
    }
}
