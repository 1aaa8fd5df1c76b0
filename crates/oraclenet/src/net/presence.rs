//! Who is here: each approved oracle's newest heartbeat of the last five minutes.
//!
//! The newest decides, not the oldest in the window as in the original, where somebody who went away stayed online for
//! five minutes. Heartbeats that are not written down yet count as well: a reading connection shows them in its
//! `heartbeats` (`db::open`).

use litekeep_formats::TimestampMs;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::time;

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
pub fn presence(connection: &Connection, now: TimestampMs) -> rusqlite::Result<Vec<Here>> {
    let mut statement = connection.prepare_cached(PRESENCE)?;
    let rows = statement.query_map([window_start(now)], |row| {
        let (status, last_seen) = read_heartbeat(row.get(2)?);
        Ok(Here { id: row.get(0)?, name: row.get(1)?, status, last_seen })
    })?;
    rows.collect()
}

/// One oracle's status and when it was last seen, approved or not.
pub fn status_of(
    connection: &Connection,
    oracle: &str,
    now: TimestampMs,
) -> rusqlite::Result<(Status, String)> {
    let mut statement = connection.prepare_cached(ONE)?;
    statement.query_row([window_start(now).as_str(), oracle], |row| Ok(read_heartbeat(row.get(0)?)))
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
    time::format(time::at(TimestampMs(now.0.saturating_sub(WINDOW_MS))))
}

/// Status and date, as the queries puts them together.
fn read_heartbeat(newest: Option<String>) -> (Status, String) {
    match newest.as_deref().and_then(|text| text.split_once(' ')) {
        Some((word, created)) => match Status::parse(word) {
            Status::Offline => (Status::Offline, String::new()),
            status => (status, created.to_owned()),
        },
        None => (Status::Offline, String::new()),
    }
}

/// A scalar and not a join. On the table it is a search of the index for each oracle; through the view of a reading
/// connection SQLite reads the heartbeats (one for each oracle) once for the list, and searches for a single oracle.
macro_rules! newest {
    ($oracle:literal) => {
        concat!(
            "(SELECT status || ' ' || created FROM heartbeats WHERE oracle = ",
            $oracle,
            " AND created >= ?1 ORDER BY created DESC, rowid DESC LIMIT 1)"
        )
    };
}

const PRESENCE: &str = concat!(
    "SELECT o.id, o.name, ",
    newest!("o.id"),
    " FROM oracles o WHERE o.approved = 1 ORDER BY o.name, o.id"
);
const ONE: &str = concat!("SELECT ", newest!("?2"));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::sample::{self, NOON};

    /// The statuses of all, in the order of the list, as `name status lastSeen`.
    fn lines(connection: &Connection) -> Vec<String> {
        let here = presence(connection, NOON).unwrap();
        here.iter().map(|it| format!("{} {} {}", it.name, it.status.word(), it.last_seen)).collect()
    }

    #[test]
    fn the_newest_heartbeat_within_five_minutes_decides() {
        type Row = (&'static [(&'static str, i64)], &'static str);
        let rows: [Row; 7] = [
            (&[], "ada offline "),
            (&[("online", 10)], "ada online 2026-02-01 11:59:50.000Z"),
            (&[("online", 200), ("away", 10)], "ada away 2026-02-01 11:59:50.000Z"),
            (&[("away", 10), ("online", 200)], "ada away 2026-02-01 11:59:50.000Z"),
            (&[("online", 300)], "ada online 2026-02-01 11:55:00.000Z"),
            (&[("online", 301)], "ada offline "),
            (&[("busy", 1)], "ada offline "),
        ];
        for (beats, expected) in rows {
            let connection = sample::database();
            sample::oracle(&connection, "ada", true);
            for (status, seconds) in beats {
                sample::heartbeat(&connection, "ada", status, *seconds);
            }
            assert_eq!(lines(&connection), [expected], "{beats:?}");
            let (status, seen) = status_of(&connection, "ada", NOON).unwrap();
            assert_eq!(format!("ada {} {seen}", status.word()), expected, "{beats:?}");
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
        let names: Vec<_> = presence(&connection, NOON).unwrap();
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
        let here = presence(&connection, NOON).unwrap();
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
