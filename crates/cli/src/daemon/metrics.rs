//! `/metrics`: Litestream's names with Litestream's meaning, and ours for what it does not tell.
//!
//! Everything is read when it is asked for, from the engine's status and from the books; nothing is asked of a replica.

use super::book::{BOUNDS, Book, Operation, Slots, Tally};
use super::fleet::Fleet;
use super::health;
use super::member::{Member, View};
use super::page::{Family, Kind, Page, float};
use litekeep::files::{Files as _, RealFiles};
use litekeep::replicator::Work;
use litekeep_core::env::Clock;
use litekeep_formats::{TimestampMs, Txid};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Declares families, and the list of all of them in this order.
macro_rules! families {
    ($($id:ident = $kind:ident $name:literal [$labels:literal] $help:literal;)*) => {
        $(static $id: Family = Family { name: $name, kind: Kind::$kind, labels: $labels, help: $help };)*
        /// Every metric, in the order of the page.
        pub(crate) static FAMILIES: &[&Family] = &[$(&$id),*];
    };
}

families! {
    DB_SIZE = Gauge "litestream_db_size" ["db"] "Size of the database file, bytes";
    WAL_SIZE = Gauge "litestream_wal_size" ["db"] "Size of the WAL up to its newest commit, bytes";
    WAL_BYTES = Counter "litestream_total_wal_bytes" ["db"] "Bytes of WAL that were taken";
    TXID = Gauge "litestream_txid" ["db"] "Newest transaction that was taken from the database";
    DISK_FULL = Gauge "litestream_disk_full" ["db"] "1 while a local disk has no room for what is to be replicated";
    SYNCS = Counter "litestream_sync_count" ["db"] "Syncs: looks at the WAL, with what was taken and built into slots; those that found nothing and those that failed count as well";
    SYNC_ERRORS = Counter "litestream_sync_error_count" ["db"] "Syncs that failed";
    SYNC_SECONDS = Counter "litestream_sync_seconds" ["db"] "Time that was spent on syncs, seconds";
    CHECKPOINTS = Counter "litestream_checkpoint_count" ["db,mode"] "How often a checkpoint was tried";
    CHECKPOINT_ERRORS = Counter "litestream_checkpoint_error_count" ["db,mode"] "Checkpoints that ended with an error";
    CHECKPOINT_SECONDS = Counter "litestream_checkpoint_seconds" ["db,mode"] "Time that was spent on checkpoints, seconds";
    VERIFY_ERRORS = Counter "litestream_compaction_verify_error_count" ["db"]
        "How often compaction, or the making of a snapshot, found a hole in the replica or a file that is no good";
    SLOTS = Gauge "litestream_l0_retention_files_total" ["db,status"]
        "Files of level 0 that retention may take, that are not compacted, and that are kept for a while";
    OPERATIONS = Counter "litestream_replica_operation_total" ["replica_type,operation"]
        "Requests to the replicas that succeeded";
    OPERATION_BYTES = Counter "litestream_replica_operation_bytes" ["replica_type,operation"]
        "Bytes that these requests moved";
    OPERATION_SECONDS = Histogram "litestream_replica_operation_duration_seconds" ["replica_type,operation"]
        "How long requests to the replicas took, repeated tries and waits among them, seconds";
    OPERATION_ERRORS = Counter "litestream_replica_operation_errors_total" ["replica_type,operation,code"]
        "Requests to the replicas that failed";
    VALIDATIONS = Counter "litestream_replica_validation_total" ["db,name,status"]
        "Verifications of a replica by a restore (validation: interval)";

    BUILD = Gauge "litekeep_build_info" ["version"] "Always 1; which litekeep this is";
    DATABASES = Gauge "litekeep_databases" ["state"] "Databases that are replicating, open (no file yet), stopped or standby (another instance replicates)";
    HEALTHY = Gauge "litekeep_healthy" ["db"] "1 while /health has nothing against the database, 0 else";
    REPLICA_TXID = Gauge "litekeep_replica_txid" ["db"] "Newest transaction that the replica has taken";
    LAG = Gauge "litekeep_replica_lag_seconds" ["db"]
        "For how long the oldest change has waited that the replica lacks, seconds; up to `sync-interval` is usual";
    SUCCESS = Gauge "litekeep_last_success_timestamp_seconds" ["db"]
        "When the replica last took something, or was seen to hold the newest transaction";
    TROUBLES = Counter "litekeep_troubles_total" ["db"] "How often replication met with trouble: each try counts, those of puts as well";
    READ_BACK = Gauge "litekeep_last_read_back_timestamp_seconds" ["db"]
        "When the newest transaction was last seen in the replica; 0 if it never was; not there while stopped or standby";
    READ_BACK_TXID = Gauge "litekeep_read_back_txid" ["db"] "Which transaction that was";
    SNAPSHOT = Gauge "litekeep_last_snapshot_timestamp_seconds" ["db"] "Time of the newest snapshot; 0 if there is none; not there while stopped or standby";
    VERIFIED = Gauge "litekeep_last_verified_restore_timestamp_seconds" ["db"]
        "When a restore from the replica was last verified (validation: interval, or a restore before the start or by the node itself); 0 if none was; not there while stopped or standby";
    OLDEST = Gauge "litekeep_restorable_oldest_timestamp_seconds" ["db"] "Time of the oldest state that can be restored";
    NEWEST = Gauge "litekeep_restorable_newest_timestamp_seconds" ["db"] "Time of the newest state that can be restored";
    OBJECTS = Gauge "litekeep_replica_objects" ["db,level"] "Objects of a level of the replica";
    BYTES = Gauge "litekeep_replica_bytes" ["db,level"] "Bytes of a level of the replica";
    REQUESTS = Counter "litekeep_replica_requests_total" ["db,operation,result"]
        "Requests to the replica by what they came to; one may stand for several tries or parts";
    CREATE_ONLY = Gauge "litekeep_create_only" ["db"]
        "1 if the store refuses to replace what is to be created only, which is what protects from a second writer";
    RETENTION = Gauge "litekeep_retention_failing" ["db"] "1 while the last round of retention could not delete, 0 else";
    POLLING = Gauge "litekeep_polling" ["db"] "1 if changes are found by polling, because file notification does not work";
    MISSED = Counter "litekeep_missed_notifications_total" ["db"] "Changes that came without a file notification";
    BREAKS = Counter "litekeep_chain_breaks_total" ["db"]
        "How often frames were missing from the WAL, and the pages were compared";
    IMAGES = Counter "litekeep_images_total" ["db"] "How often a whole image of the database was sent";

    STARTED = Gauge "process_start_time_seconds" [""] "When the process started";
    MEMORY = Gauge "process_resident_memory_bytes" [""] "Memory that the process holds, bytes";
    DESCRIPTORS = Gauge "process_open_fds" [""] "Files and connections that the process has open";
}

/// A database as a page tells of it: its files and requests are of one moment, and no older than its state.
struct Now {
    member: Arc<Member>,
    view: View,
    book: Book,
}

impl Now {
    fn of(member: Arc<Member>, clock: &dyn Clock) -> Self {
        // In this order: what the view tells came of answers that are in the book.
        let view = member.view(clock);
        let book = member.book.copy();
        Self { member, view, book }
    }
}

/// The page as it is now; the process started at this time.
pub(crate) fn text(fleet: &Fleet, started: TimestampMs) -> String {
    let mut page = Page::default();
    let clock = &**fleet.clock();
    let mut states = BTreeMap::from([("replicating", 0), ("open", 0), ("stopped", 0), ("standby", 0)]);
    let mut operations: BTreeMap<(&str, Operation), Tally> = BTreeMap::new();
    let mut by_name: BTreeMap<String, Slots> = BTreeMap::new();
    for member in fleet.members() {
        let now = Now::of(member, clock);
        let Now { member, view, book } = &now;
        *states.entry(view.state()).or_default() += 1;
        database(&mut page, &now, clock);
        count_slots(&mut by_name, &now, clock.wall());
        for (operation, tally) in book.tallies() {
            merge(operations.entry((member.database.replica_type(), operation)).or_default(), &tally);
        }
    }
    slots(&mut page, &by_name);
    for path in fleet.missing().keys() {
        page.add(&HEALTHY, &[("db", &path.display().to_string())], 0.0);
    }
    for (state, count) in states {
        page.add(&DATABASES, &[("state", state)], float(count));
    }
    for ((replica, operation), tally) in &operations {
        requests(&mut page, replica, *operation, tally);
    }
    page.add(&BUILD, &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    page.add(&STARTED, &[], seconds(started));
    process(&mut page);
    page.text(FAMILIES)
}

fn database(page: &mut Page, Now { member, view, book }: &Now, clock: &dyn Clock) {
    let path = member.database.path.display().to_string();
    let db = &[("db", path.as_str())];
    let status = &view.status;
    let size = RealFiles.len(&member.database.path).ok().flatten().unwrap_or(0);
    let full = status.trouble.as_ref().is_some_and(|trouble| trouble.is_disk_full());
    for (family, value) in [
        (&DB_SIZE, float(size)),
        (&WAL_SIZE, float(status.wal_size)),
        (&WAL_BYTES, float(status.captured_bytes)),
        (&TXID, number(status.built)),
        (&DISK_FULL, flag(full)),
        (&SYNCS, float(status.syncs.count)),
        (&SYNC_ERRORS, float(status.syncs.failures)),
        (&SYNC_SECONDS, status.syncs.time.as_secs_f64()),
        (&VERIFY_ERRORS, float(status.bad_sources)),
        (&TROUBLES, float(status.troubles)),
        (&HEALTHY, flag(health::reasons(member, view, health::BEHIND, clock).is_empty())),
        (&REPLICA_TXID, number(status.durable)),
        (&RETENTION, flag(status.retention.is_some())),
        (&POLLING, flag(status.polling)),
        (&MISSED, float(status.missed_notifications)),
        (&BREAKS, float(status.breaks)),
        (&IMAGES, float(status.images)),
    ] {
        page.add(family, db, value);
    }
    if let Some(lag) = view.lag {
        page.add(&LAG, db, lag.as_secs_f64());
    }
    // Before the first look at the replica nobody knows.
    if status.durable.is_some() && !view.standby {
        page.add(&CREATE_ONLY, db, flag(status.create_only));
    }
    let mode = &[("db", path.as_str()), ("mode", "PASSIVE")];
    let Work { count, failures, time } = status.checkpoints;
    page.add(&CHECKPOINTS, mode, float(count));
    page.add(&CHECKPOINT_ERRORS, mode, float(failures));
    page.add(&CHECKPOINT_SECONDS, mode, time.as_secs_f64());
    if member.database.validation.is_some() {
        let counts = book.verifications();
        for (result, count) in [("ok", counts.ok), ("error", counts.error), ("undone", counts.undone)] {
            let labels = [("db", &*path), ("name", &*member.database.replica_name), ("status", result)];
            page.add(&VALIDATIONS, &labels, float(count));
        }
    }
    replica(page, book, &path);
    // One that was stopped, or that another instance replicates, is not looked at: its ages say nothing.
    if !view.stopped && !view.standby {
        ages(page, book, &path);
    }
}

/// When what was last seen of a replica.
fn ages(page: &mut Page, book: &Book, path: &str) {
    let db = &[("db", path)];
    let or_never = |time: Option<TimestampMs>| time.map_or(0.0, seconds);
    page.add(&READ_BACK, db, or_never(book.last_read_back().map(|seen| seen.wall)));
    page.add(&SNAPSHOT, db, or_never(book.last_snapshot()));
    page.add(&VERIFIED, db, or_never(book.verdict().and_then(|verdict| verdict.good).map(|(_, at)| at)));
}

/// What the replica holds and has answered.
fn replica(page: &mut Page, book: &Book, path: &str) {
    let db = &[("db", path)];
    let or_never = |time: Option<TimestampMs>| time.map_or(0.0, seconds);
    let seen = book.last_read_back();
    page.add(&SUCCESS, db, or_never(book.last_success()));
    page.add(&READ_BACK_TXID, db, number(seen.map(|seen| seen.txid)));
    if let Some((oldest, newest)) = book.restorable() {
        page.add(&OLDEST, db, seconds(oldest));
        page.add(&NEWEST, db, seconds(newest));
    }
    for (level, size) in book.levels() {
        let level = level.get().to_string();
        let labels = &[("db", path), ("level", level.as_str())];
        page.add(&OBJECTS, labels, float(size.objects));
        page.add(&BYTES, labels, float(size.bytes));
    }
    for (operation, tally) in book.tallies() {
        for (result, count) in &tally.results {
            let labels = &[("db", path), ("operation", operation.name()), ("result", result)];
            page.add(&REQUESTS, labels, float(*count));
        }
    }
}

/// The files of level 0, by the databases' file names: files of one name in several directories are told together, as
/// Litestream's labels have it.
fn count_slots(by_name: &mut BTreeMap<String, Slots>, Now { member, book, .. }: &Now, wall: TimestampMs) {
    let name = member.database.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let slots = book.slots(member.database.settings.l0_retention, wall);
    let sum = by_name.entry(name).or_default();
    sum.eligible += slots.eligible;
    sum.not_compacted += slots.not_compacted;
    sum.too_recent += slots.too_recent;
}

fn slots(page: &mut Page, by_name: &BTreeMap<String, Slots>) {
    for (name, slots) in by_name {
        for (status, count) in [
            ("eligible", slots.eligible),
            ("not_compacted", slots.not_compacted),
            ("too_recent", slots.too_recent),
        ] {
            page.add(&SLOTS, &[("db", name), ("status", status)], float(count));
        }
    }
}

fn requests(page: &mut Page, replica: &str, operation: Operation, tally: &Tally) {
    let labels = &[("replica_type", replica), ("operation", operation.name())];
    // That an object is not there is an answer, and the usual one of a look.
    let good = |result: &str| matches!(result, "ok" | "exists" | "not-found");
    let bad = tally.results.iter().filter(|(result, _)| !good(result));
    let errors: u64 = bad.clone().map(|(_, count)| *count).sum();
    page.add(&OPERATIONS, labels, float(tally.count() - errors));
    page.add(&OPERATION_BYTES, labels, float(tally.bytes));
    let bounds = BOUNDS.map(|(_, name)| name);
    page.histogram(&OPERATION_SECONDS, labels, &bounds, &tally.buckets, tally.time.as_secs_f64());
    for (code, count) in bad {
        let labels = &[("replica_type", replica), ("operation", operation.name()), ("code", code)];
        page.add(&OPERATION_ERRORS, labels, float(*count));
    }
}

fn merge(into: &mut Tally, from: &Tally) {
    for (result, count) in &from.results {
        *into.results.entry(result).or_default() += count;
    }
    for (into, from) in into.buckets.iter_mut().zip(from.buckets) {
        *into += from;
    }
    into.bytes += from.bytes;
    into.time += from.time;
}

/// What Linux tells of the process; elsewhere nothing is told.
fn process(page: &mut Page) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let held = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
    if let Some(kib) = held.and_then(|kib| kib.trim().parse::<u64>().ok()) {
        page.add(&MEMORY, &[], float(kib << 10));
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        page.add(&DESCRIPTORS, &[], float(open.count() as u64));
    }
}

fn flag(on: bool) -> f64 {
    f64::from(u8::from(on))
}

fn number(txid: Option<Txid>) -> f64 {
    float(txid.map_or(0, Txid::get))
}

/// Seconds since 1970.
#[allow(clippy::cast_precision_loss, reason = "milliseconds of this age are exact")]
fn seconds(time: TimestampMs) -> f64 {
    time.0 as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a text that look like metrics of ours.
    fn named(text: &str) -> Vec<&str> {
        let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        text.split(word)
            .filter(|it| ["litestream_", "litekeep_", "process_"].iter().any(|start| it.starts_with(start)))
            .collect()
    }

    fn is_known(name: &str) -> bool {
        FAMILIES.iter().any(|family| match family.kind {
            Kind::Histogram => name
                .strip_prefix(family.name)
                .is_some_and(|rest| matches!(rest, "_bucket" | "_sum" | "_count")),
            _ => family.name == name,
        })
    }

    #[test]
    fn the_document_of_metrics_is_the_table() {
        let document = include_str!("../../../../docs/metrics.md");
        let mut wanted = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
        for Family { name, kind, labels, help } in FAMILIES {
            let labels = labels.replace(',', ", ");
            wanted.push_str(&format!("| `{name}` | {} | {labels} | {help} |\n", kind.name()));
        }
        assert!(document.contains(&wanted), "docs/metrics.md should hold:\n{wanted}");
    }

    #[test]
    fn the_dashboard_and_the_alerts_use_only_metrics_that_exist() {
        for (file, text) in [
            ("dashboard", include_str!("../../../../deploy/grafana/litekeep.json")),
            ("alerts", include_str!("../../../../deploy/prometheus/alerts.yml")),
        ] {
            let names = named(text);
            assert!(names.len() > 5, "{file}: {names:?}");
            for name in names {
                assert!(is_known(name), "{file} uses {name}, which does not exist");
            }
        }
    }

    #[test]
    fn an_alert_tells_the_value_that_it_is_about() {
        // Of `A and B` the value is A's.
        let alerts = include_str!("../../../../deploy/prometheus/alerts.yml");
        for rule in alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: ")) {
            let guard = rule.split_once(" and ").is_some_and(|(left, _)| left.ends_with("> 0"));
            assert!(!guard, "{rule}");
        }
    }

    #[test]
    fn no_metric_is_declared_twice() {
        let mut names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}
