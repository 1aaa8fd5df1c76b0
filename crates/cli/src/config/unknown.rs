//! Keys that no Litestream had. Litestream drops them in silence, and with them what their writer relied on (#1403);
//! here each is an error that names the key that was meant, or the section that it belongs to.

use super::notes::Notes;
use super::yaml::{
    Age, Db, File, LevelSection, Logging, Replica, ReplicaSettings, Retention, Snapshot, Socket, Unknown,
    Validation,
};

/// What is said of the file's top.
const TOP: &str = "the file's top";

/// Keys of other programs and of people's guesses, and what is meant.
const MEANT: &[(&str, &str)] = &[
    ("metrics-addr", "this is `addr`"),
    ("metrics", "this is `addr`"),
    ("prometheus", "this is `addr`"),
    ("max-wal-size", "the WAL's size is bounded by `truncate-page-n`, in pages"),
];

/// Finds them in the whole file.
pub(super) fn judge(file: &File, notes: &mut Notes) {
    let holds = |unknown: &&Unknown| unknown.key.starts_with("x-") || unknown.holds;
    let own: Vec<_> = file.unknown.iter().filter(|unknown| !holds(unknown)).cloned().collect();
    keys(&own, TOP, notes);
    settings(&file.replica, notes);
    if let Some(section) = &file.socket {
        keys(&section.unknown, "socket", notes);
    }
    if let Some(section) = &file.logging {
        keys(&section.unknown, "logging", notes);
    }
    for level in file.levels.iter().flatten() {
        keys(&level.value.unknown, "levels", notes);
    }
    if let Some(section) = &file.snapshot {
        keys(&section.unknown, "snapshot", notes);
    }
    if let Some(section) = &file.retention {
        keys(&section.unknown, "retention", notes);
    }
    if let Some(section) = &file.validation {
        keys(&section.unknown, "validation", notes);
    }
    for db in file.dbs.iter().flatten().map(|db| &db.value) {
        keys(&db.unknown, "a database", notes);
        if let Some(section) = &db.snapshot {
            keys(&section.unknown, "snapshot", notes);
        }
        for replica in db.replica.iter().chain(db.replicas.iter().flatten()) {
            keys(&replica.value.unknown, "a replica", notes);
            settings(&replica.value.settings, notes);
        }
    }
}

fn settings(settings: &ReplicaSettings, notes: &mut Notes) {
    keys(&settings.unknown, "a replica", notes);
    if let Some(age) = &settings.age {
        keys(&age.value.unknown, "age", notes);
    }
}

fn keys(unknown: &[Unknown], here: &str, notes: &mut Notes) {
    for Unknown { key, place, near, .. } in unknown {
        let meant = MEANT.iter().find(|(known, _)| known == key).map(|(_, meant)| *meant);
        let advice = match (home(key), meant, near) {
            (Some(home), _, _) => format!("it is a key of {home}"),
            (None, Some(meant), _) => meant.to_owned(),
            (None, None, Some(near)) => format!("did you mean {near}?"),
            (None, None, None) if here == TOP => format!(
                "`litekeep man config` lists the keys; remove it, or if it holds an anchor, name it x-{key}"
            ),
            (None, None, None) => "`litekeep man config` lists the keys; remove it".to_owned(),
        };
        notes.problem(*place, format!("{key} is no key of {here}: {advice}"));
    }
}

/// A section that has this key. The file's top comes last: what a replica may say may be said there as well, and its
/// `retention` is a section, not 0.3's time.
fn home(key: &str) -> Option<&'static str> {
    let mut sections = sections();
    sections.rotate_left(1);
    sections.into_iter().find(|(_, keys)| keys.contains(&key)).map(|(name, _)| name)
}

/// Every section of the file and its keys.
pub(crate) fn sections() -> [(&'static str, Vec<&'static str>); 10] {
    [
        ("the file's top", File::keys()),
        ("a database (below `dbs:`)", Db::keys()),
        ("a replica (below `replica:`)", Replica::keys()),
        ("socket", Socket::keys()),
        ("logging", Logging::keys()),
        ("levels", LevelSection::keys()),
        ("snapshot", Snapshot::keys()),
        ("retention", Retention::keys()),
        ("validation", Validation::keys()),
        ("age", Age::keys()),
    ]
}
