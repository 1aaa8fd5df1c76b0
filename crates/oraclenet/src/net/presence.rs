//! Who is here: each approved oracle's newest heartbeat of the last five minutes.
//!
//! Heartbeats that are not written down yet come as an overlay. The newest decides, not the oldest in the window as
//! in the original, where somebody who went away stayed online for five minutes.

use std::collections::HashMap;

use litekeep_formats::TimestampMs;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::dates;

/// How long a heartbeat counts, milliseconds.
pub const WINDOW_MS: i64 = 5 * 60 * 1000;

/// What an oracle's newest heartbeat says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// At work.
    Online,
    /// There, but busy.
    Away,
    /// No heartbeat within the window.
    Offline,
}

impl Status {
    /// The word that heartbeats and answers use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Away => "away",
            Self::Offline => "offline",
        }
    }

    fn parse(word: &str) -> Self {
        match word {
            "online" => Self::Online,
            "away" => Self::Away,
            _ => Self::Offline,
        }
    }
}

/// A heartbeat that may not be in the database yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// What it says.
    pub status: Status,
    /// When it was made, in PocketBase's form.
    pub created: String,
}

/// Newest heartbeats by oracle id.
pub type Overlay = HashMap<String, Heartbeat>;

/// One oracle of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// The oracle's id.
    pub id: String,
    /// The oracle's name.
    pub name: String,
    /// What its newest heartbeat says.
    pub status: Status,
    /// When that was; empty when offline.
    pub last_seen: String,
}

/// All approved oracles, by name (byte order) and then id.
pub fn presence(connection: &Connection, now: TimestampMs, overlay: &Overlay) -> rusqlite::Result<Vec<Here>> {
    let since = window_start(now);
    let mut statement = connection.prepare_cached(PRESENCE)?;
    let rows = statement.query_map([&since], |row| {
        let written = Heartbeat { status: Status::parse(&row.get::<_, String>(2)?), created: row.get(3)? };
        let id: String = row.get(0)?;
        let (status, last_seen) = decide(written, overlay.get(&id), &since);
        Ok(Here { id, name: row.get(1)?, status, last_seen })
    })?;
    rows.collect()
}

/// One oracle's status, approved or not.
pub fn status_of(
    connection: &Connection,
    oracle: &str,
    now: TimestampMs,
    overlay: &Overlay,
) -> rusqlite::Result<(Status, String)> {
    let since = window_start(now);
    let mut statement = connection.prepare_cached(ONE)?;
    let mut rows = statement.query([oracle, &since])?;
    let written = match rows.next()? {
        Some(row) => Heartbeat { status: Status::parse(&row.get::<_, String>(0)?), created: row.get(1)? },
        None => Heartbeat { status: Status::Offline, created: String::new() },
    };
    Ok(decide(written, overlay.get(oracle), &since))
}

/// The answer to `GET /api/oracles/presence`.
pub fn presence_json(here: &[Here]) -> Value {
    let total = |status| here.iter().filter(|it| it.status == status).count();
    let items: Vec<Value> = here
        .iter()
        .map(|it| json!({ "id": it.id, "name": it.name, "status": it.status.word(), "lastSeen": it.last_seen }))
        .collect();
    json!({
        "items": items, "totalOnline": total(Status::Online), "totalAway": total(Status::Away),
        "totalOffline": total(Status::Offline),
    })
}

fn window_start(now: TimestampMs) -> String {
    dates::format(TimestampMs(now.0.saturating_sub(WINDOW_MS)))
}

fn decide(written: Heartbeat, held: Option<&Heartbeat>, since: &str) -> (Status, String) {
    let newest = match held {
        Some(held) if held.created >= written.created => held.clone(),
        _ => written,
    };
    if newest.status == Status::Offline || newest.created.as_str() < since {
        return (Status::Offline, String::new());
    }
    (newest.status, newest.created)
}

const PRESENCE: &str = "SELECT o.id, o.name, coalesce(h.status, ''), coalesce(h.created, '')
    FROM oracles o LEFT JOIN heartbeats h ON h.rowid = (
        SELECT rowid FROM heartbeats WHERE oracle = o.id AND created >= ?1 ORDER BY created DESC, rowid DESC LIMIT 1)
    WHERE o.approved = 1 ORDER BY o.name, o.id";
const ONE: &str = "SELECT status, created FROM heartbeats WHERE oracle = ?1 AND created >= ?2
    ORDER BY created DESC, rowid DESC LIMIT 1";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::sample::{self, NOON};

    /// The statuses of all, in the order of the list, as `name status lastSeen`.
    fn lines(connection: &Connection, overlay: &Overlay) -> Vec<String> {
        let here = presence(connection, NOON, overlay).unwrap();
        here.iter().map(|it| format!("{} {} {}", it.name, it.status.word(), it.last_seen)).collect()
    }

    fn held(oracle: &str, status: Status, seconds: i64) -> (String, Heartbeat) {
        let created = dates::format(TimestampMs(NOON.0 - seconds * 1000));
        (oracle.to_owned(), Heartbeat { status, created })
    }

    #[test]
    fn the_newest_heartbeat_within_five_minutes_decides() {
        type Row = (&'static [(&'static str, i64)], Option<(Status, i64)>, &'static str);
        let rows: [Row; 10] = [
            (&[], None, "ada offline "),
            (&[("online", 10)], None, "ada online 2026-02-01 11:59:50.000Z"),
            (&[("online", 200), ("away", 10)], None, "ada away 2026-02-01 11:59:50.000Z"),
            (&[("away", 10), ("online", 200)], None, "ada away 2026-02-01 11:59:50.000Z"),
            (&[("online", 300)], None, "ada online 2026-02-01 11:55:00.000Z"),
            (&[("online", 301)], None, "ada offline "),
            (&[("online", 100)], Some((Status::Away, 5)), "ada away 2026-02-01 11:59:55.000Z"),
            (&[("online", 5)], Some((Status::Away, 100)), "ada online 2026-02-01 11:59:55.000Z"),
            (&[], Some((Status::Online, 5)), "ada online 2026-02-01 11:59:55.000Z"),
            (&[], Some((Status::Online, 301)), "ada offline "),
        ];
        for (written, overlay, expected) in rows {
            let connection = sample::database();
            sample::oracle(&connection, "ada", true);
            for (status, seconds) in written {
                sample::heartbeat(&connection, "ada", status, *seconds);
            }
            let overlay: Overlay =
                overlay.map(|(status, seconds)| held("ada", status, seconds)).into_iter().collect();
            assert_eq!(lines(&connection, &overlay), [expected], "{written:?}");
            let (status, seen) = status_of(&connection, "ada", NOON, &overlay).unwrap();
            assert_eq!(format!("ada {} {seen}", status.word()), expected, "{written:?}");
        }
    }

    #[test]
    fn only_the_approved_are_listed_in_byte_order_of_their_names() {
        let connection = sample::database();
        for (name, approved) in [("zoe", true), ("Zed", true), ("ada", true), ("eve", false), ("Éva", true)]
        {
            sample::oracle(&connection, name, approved);
            sample::heartbeat(&connection, name, "online", 1);
        }
        let names: Vec<_> = presence(&connection, NOON, &Overlay::new()).unwrap();
        let names: Vec<_> = names.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["Zed", "ada", "zoe", "Éva"]);
    }

    #[test]
    fn the_answer_has_the_keys_and_types_of_the_original() {
        let connection = sample::database();
        for (name, status) in [("ada", "online"), ("bob", "away"), ("cy", ""), ("dee", "online")] {
            sample::oracle(&connection, name, true);
            if !status.is_empty() {
                sample::heartbeat(&connection, name, status, 60);
            }
        }
        let here = presence(&connection, NOON, &Overlay::new()).unwrap();
        let seen = "2026-02-01 11:59:00.000Z";
        let expected = json!({
            "items": [
                { "id": "ada", "name": "ada", "status": "online", "lastSeen": seen },
                { "id": "bob", "name": "bob", "status": "away", "lastSeen": seen },
                { "id": "cy", "name": "cy", "status": "offline", "lastSeen": "" },
                { "id": "dee", "name": "dee", "status": "online", "lastSeen": seen },
            ],
            "totalOnline": 2, "totalAway": 1, "totalOffline": 1,
        });
        assert_eq!(presence_json(&here), expected);
    }

    #[test]
    fn heartbeats_are_found_by_their_index() {
        let connection = sample::database();
        for sql in [PRESENCE, ONE] {
            let plan = sample::plan(&connection, sql);
            assert!(plan.iter().any(|step| step.contains("idx_heartbeats_oracle")), "{plan:?}");
            assert!(!plan.iter().any(|step| step.contains("SCAN heartbeats")), "{plan:?}");
        }
    }
}
