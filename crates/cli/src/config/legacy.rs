//! Keys of v0.3 that go by another name today. Litestream 0.5 drops them in silence; here each has the effect that its
//! writer wanted, and a line that says which.

use super::notes::{Notes, said};
use super::origin::Origin;
use super::remark::Place;
use super::yaml::{Db, Replica, Text};
use super::{Database, FOR_EVER};
use crate::text::duration;

/// Applies what a replica and its database say in v0.3's words. A setting in today's words goes before.
///
/// `validation` is the replica's own or, as with all of a replica's settings, that of the file's top.
pub(super) fn apply(
    replica: &Replica,
    db: &Db,
    validation: Option<&Text>,
    database: &mut Database,
    notes: &mut Notes,
) {
    if let (Some(field), Some(name)) = (&replica.name, said(replica.name.as_ref())) {
        notes.map(Place::of(field), format!("name: `-replica {name}` selects this replica"));
    }
    retention(replica, database, notes);
    snapshot_interval(replica, database, notes);
    if let Some(field) = &replica.retention_check_interval
        && notes.positive("retention-check-interval", Some(field)).is_some()
    {
        let text =
            "retention-check-interval needs no setting: what retention lets go is deleted when it is due";
        notes.map(Place::of(field), text);
    }
    validated(validation, database, notes);
    max_checkpoint_page_count(db, database, notes);
}

/// Whether today's key for it is in the file; then v0.3's has no effect, and that is told.
fn beaten(old: &str, field: &Text, new: &'static str, database: &Database, notes: &mut Notes) -> bool {
    let beaten = matches!(database.origins.get(new), Some(Origin::File(_)));
    if beaten {
        notes.no_effect(old, Place::of(field), &format!("{new} is given and goes before"));
    }
    beaten
}

fn retention(replica: &Replica, database: &mut Database, notes: &mut Notes) {
    let Some(field) = &replica.retention else { return };
    let Some((said, time)) = notes.mapped_zero_is_off("retention", Some(field)) else { return };
    if beaten("retention", field, "snapshot: retention", database, notes) {
        return;
    }
    let place = Place::of(field);
    let shown = time.map_or_else(|| format!("{}: for ever", said.shown_off()), duration::format);
    notes.map(place, format!("retention is taken as this database's `snapshot: retention`, {shown}"));
    database.settings.snapshot_retention = time.unwrap_or(FOR_EVER);
    database.origins.set("snapshot: retention", Origin::Mapped("retention", place));
}

fn snapshot_interval(replica: &Replica, database: &mut Database, notes: &mut Notes) {
    let Some(field) = &replica.snapshot_interval else { return };
    let Some((said, time)) = notes.mapped_zero_is_off("snapshot-interval", Some(field)) else { return };
    if beaten("snapshot-interval", field, "snapshot: interval", database, notes) {
        return;
    }
    let place = Place::of(field);
    let Some(time) = time else {
        let usual = duration::format(database.settings.snapshot_interval);
        notes.map(
            place,
            format!("snapshot-interval is {}; one is taken every {usual} all the same", said.shown_off()),
        );
        return;
    };
    let shown = duration::format(time);
    notes.map(place, format!("snapshot-interval is taken as this database's `snapshot: interval`, {shown}"));
    database.settings.snapshot_interval = time;
    database.origins.set("snapshot: interval", Origin::Mapped("snapshot-interval", place));
}

fn validated(field: Option<&Text>, database: &mut Database, notes: &mut Notes) {
    let Some(field) = field else { return };
    let Some((said, time)) = notes.mapped_zero_is_off("validation-interval", Some(field)) else { return };
    if beaten("validation-interval", field, "validation: interval", database, notes) {
        return;
    }
    let place = Place::of(field);
    let shown = time.map_or_else(|| said.shown_off().to_owned(), duration::format);
    let text = format!("validation-interval is taken as this database's `validation: interval`, {shown}");
    notes.map(place, text);
    database.validation = time;
    database.origins.set("validation: interval", Origin::Mapped("validation-interval", place));
}

/// 0.3 blocked writers for it; here the WAL is cut at the same size, once nobody is in the way.
fn max_checkpoint_page_count(db: &Db, database: &mut Database, notes: &mut Notes) {
    let key = "max-checkpoint-page-count";
    let Some(field) = &db.max_checkpoint_page_count else { return };
    let Some(pages) = notes.count(key, Some(field)) else { return };
    if beaten(key, field, "truncate-page-n", database, notes) {
        return;
    }
    let place = Place::of(field);
    if pages == 0 {
        let usual = database.settings.truncate_pages;
        notes.map(place, format!("{key} is off; the WAL is cut from {usual} pages on, as by default"));
        return;
    }
    notes.map(place, format!("{key} is taken as truncate-page-n, {pages}: no writer is blocked for it"));
    database.settings.truncate_pages = pages;
    database.origins.set("truncate-page-n", Origin::Mapped(key, place));
}
