//! The status page: what is known about the replica, in words that claim no more than that.
//!
//! It takes a plain value and a ring of measurements; it asks nobody. A replica on the same disk is called exactly
//! that, whatever else is well.

use std::collections::VecDeque;
use std::fmt::Write as _;

use litekeep::node::Role;
use litekeep_formats::TimestampMs;

use super::pages::{Chrome, Figure, count};
use crate::time;

/// What the status page knows.
#[derive(Debug, Clone)]
pub struct ReplicationView {
    /// What this process is to the replica.
    pub role: Role,
    /// What it is doing, as its log says it: `replicating`, `following`, `restoring`.
    pub state: String,
    /// Where the replica is.
    pub place: Place,
    /// When a write is answered.
    pub durability: Durability,
    /// How long the oldest commit that the replica lacks has been waiting; `None` when that is not known.
    pub lag_ms: Option<u64>,
    /// The newest transaction that the replica has.
    pub txid: Option<u64>,
    /// The epoch that is owned.
    pub epoch: Option<u64>,
    /// What the database came from when this process started.
    pub restore: Option<LastRestore>,
    /// The first and the last moment that can be restored.
    pub range: Option<(TimestampMs, TimestampMs)>,
    /// Why it is not well, in a sentence.
    pub trouble: Option<String>,
}

/// Where the replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Not on the disk of the database.
    Elsewhere,
    /// On the file system of the database.
    SameDisk,
    /// There is none.
    Nowhere,
}

/// When a write is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Once the replica has it.
    Replicated,
    /// Once the local disk has it.
    Local,
}

/// A restore that went well.
#[derive(Debug, Clone)]
pub struct LastRestore {
    /// From where: scheme, bucket and path, never a key.
    pub from: String,
    /// Up to which transaction.
    pub txid: u64,
    /// How many bytes were fetched.
    pub bytes: u64,
    /// How long it took.
    pub millis: u64,
    /// When it ended.
    pub at: TimestampMs,
}

/// How many measurements are kept: ten minutes, one every two seconds.
pub const LAG_SAMPLES: usize = 300;
/// What the plot shows.
const PLOT_MS: i64 = 10 * 60 * 1000;
/// A line is not drawn across a longer silence.
const GAP_MS: i64 = 15_000;

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LagSample {
    /// When.
    pub at: TimestampMs,
    /// How far behind, milliseconds.
    pub lag_ms: u64,
}

/// The newest measurements.
#[derive(Debug, Clone, Default)]
pub struct LagRing {
    samples: VecDeque<LagSample>,
}

impl LagRing {
    /// Takes one; the oldest goes when there are [`LAG_SAMPLES`].
    pub fn push(&mut self, sample: LagSample) {
        if self.samples.len() >= LAG_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// What is kept, the oldest first.
    pub fn samples(&self) -> impl Iterator<Item = LagSample> + '_ {
        self.samples.iter().copied()
    }
}

/// How it stands, in a word and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) tone: &'static str,
    pub(crate) headline: &'static str,
    pub(crate) sentence: String,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) facts: Vec<Figure>,
}

#[derive(askama::Template)]
#[template(path = "status.html")]
struct StatusPage {
    chrome: Chrome,
    verdict: Verdict,
    figures: Vec<Figure>,
    plot: Plot,
    groups: Vec<Group>,
}

/// The page.
pub fn page(view: &ReplicationView, lag: &LagRing, now: TimestampMs) -> askama::Result<String> {
    askama::Template::render(&StatusPage {
        chrome: Chrome::new("status"),
        verdict: verdict(view),
        figures: vec![
            Figure::new("state", &view.state),
            Figure::new("role", crate::replication::role(view.role)),
            Figure::new("lag", view.lag_ms.map_or_else(|| "unknown".to_owned(), duration)),
        ],
        plot: plot(lag, now),
        groups: groups(view),
    })
}

fn verdict(view: &ReplicationView) -> Verdict {
    let (tone, headline, sentence) = match (view.place, view.durability) {
        _ if view.trouble.is_some() => ("bad", "Trouble", view.trouble.as_deref().unwrap_or_default()),
        (Place::Nowhere, _) => (
            "bad",
            "No replica",
            "This data lives on one disk only. If that disk is lost, so is everything here.",
        ),
        (Place::SameDisk, _) => (
            "warn",
            "Same disk",
            "The replica is on the disk of the database. It helps against a damaged file; if the disk is lost, both are.",
        ),
        (Place::Elsewhere, Durability::Local) => (
            "warn",
            "Replicated after the answer",
            "A write is answered before the replica has it. The last moments before a crash may be lost.",
        ),
        (Place::Elsewhere, Durability::Replicated) if view.lag_ms.is_none() => {
            ("warn", "Not known", "How far the replica is behind has not been measured yet.")
        }
        (Place::Elsewhere, Durability::Replicated) => {
            ("good", "Replicated", "Every write that was answered with success is in the replica.")
        }
    };
    Verdict { tone, headline, sentence: sentence.to_owned() }
}

fn groups(view: &ReplicationView) -> Vec<Group> {
    let mut replica = vec![
        Figure::new(
            "Place",
            match view.place {
                Place::Elsewhere => "another machine or disk",
                Place::SameDisk => "same disk",
                Place::Nowhere => "none",
            },
        ),
        Figure::new(
            "A write is answered",
            match (view.place, view.durability) {
                (Place::Elsewhere | Place::SameDisk, Durability::Replicated) => "once the replica has it",
                (Place::Nowhere, _) | (_, Durability::Local) => "once the local disk has it",
            },
        ),
    ];
    replica.push(Figure::new("This server", role(view)));
    replica.extend(view.txid.map(|txid| Figure::new("Newest transaction", count(txid))));
    if let Some((first, last)) = view.range {
        replica.push(Figure::new(
            "Can be restored to",
            format!("any time from {} to {}", date(first), date(last)),
        ));
    }
    let restore = match &view.restore {
        Some(it) => vec![
            Figure::new("From", &it.from),
            Figure::new("When", date(it.at)),
            Figure::new("Up to transaction", count(it.txid)),
            Figure::new("Fetched", format!("{} in {}", size(it.bytes), duration(it.millis))),
        ],
        None => vec![Figure::new(
            "From",
            "nothing: this process started with the file that was there, or a new one",
        )],
    };
    vec![Group { name: "Replica", facts: replica }, Group { name: "Last restore", facts: restore }]
}

/// The role and the epoch in words.
fn role(view: &ReplicationView) -> String {
    let text = match view.role {
        _ if view.place == Place::Nowhere => "writes, and nobody else can",
        Role::Starting => "is starting",
        Role::Standby => "follows what another one writes; its first write makes it the owner",
        Role::Acquiring => "is about to become the owner",
        Role::Owner => "owns the data: what is written is written here",
        Role::Leaving => "is handing the data over to another one",
        Role::Returning => "was overtaken by another one, and returns to what is in the replica",
        Role::Ended => "has ended",
    };
    match view.epoch {
        Some(epoch) => format!("{text} (epoch {})", count(epoch)),
        None => text.to_owned(),
    }
}

// ---- The plot.

#[derive(Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) line: String,
    pub(crate) area: String,
}

#[derive(Debug)]
pub(crate) struct Plot {
    pub(crate) minutes: i64,
    pub(crate) summary: String,
    pub(crate) top: String,
    pub(crate) half: String,
    pub(crate) lines: Vec<Line>,
}

const WIDTH: i64 = 640;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 120.0;

fn plot(lag: &LagRing, now: TimestampMs) -> Plot {
    let start = now.0.saturating_sub(PLOT_MS);
    let shown: Vec<LagSample> = lag.samples().filter(|it| it.at.0 >= start && it.at.0 <= now.0).collect();
    let greatest = shown.iter().map(|it| it.lag_ms).max().unwrap_or(0);
    let top = round_up(greatest);
    let pieces = shown.chunk_by(|a, b| b.at.0 - a.at.0 <= GAP_MS);
    let newest = shown.last().map_or(0, |it| it.lag_ms);
    Plot {
        minutes: PLOT_MS / 60_000,
        summary: format!("Now {}, at most {}.", duration(newest), duration(greatest)),
        top: duration(top),
        half: duration(top / 2),
        lines: pieces.map(|piece| line(piece, start, top)).collect(),
    }
}

fn line(piece: &[LagSample], start: i64, top: u64) -> Line {
    #[expect(clippy::cast_precision_loss, reason = "pixels")]
    let point = |it: &LagSample| {
        let x = (it.at.0 - start) as f64 * WIDTH as f64 / PLOT_MS as f64;
        let y = BOTTOM - (BOTTOM - TOP) * (it.lag_ms as f64 / top as f64).min(1.0);
        (x, y)
    };
    let mut line = String::new();
    for (number, (x, y)) in piece.iter().map(point).enumerate() {
        let _ = write!(line, "{}{x:.1} {y:.1}", if number == 0 { "M" } else { "L" });
    }
    let ends = piece.first().zip(piece.last()).map(|(first, last)| (point(first).0, point(last).0));
    let (left, right) = ends.unwrap_or_default();
    Line { area: format!("{line}L{right:.1} {BOTTOM}L{left:.1} {BOTTOM}Z"), line }
}

/// The end of the scale: 1, 2 or 5 times a power of ten, at least 100 ms.
fn round_up(greatest: u64) -> u64 {
    let mut step: u64 = 100;
    loop {
        for factor in [1, 2, 5] {
            if step.saturating_mul(factor) >= greatest {
                return step.saturating_mul(factor);
            }
        }
        step = step.saturating_mul(10);
    }
}

// ---- Figures as text.

/// `40 ms`, `1.5 s`, `3 min 20 s`, `2 h 5 min`.
fn duration(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", millis / 60_000, millis / 1_000 % 60),
        _ => format!("{} h {} min", count(millis / 3_600_000), millis / 60_000 % 60),
    }
}

/// `17 B`, `1.5 KiB`, `3.0 GiB`.
fn size(bytes: u64) -> String {
    let mut unit = (1, "B");
    for next in [(1 << 10, "KiB"), (1 << 20, "MiB"), (1 << 30, "GiB"), (1 << 40, "TiB")] {
        if bytes >= next.0 {
            unit = next;
        }
    }
    if unit.0 == 1 {
        return format!("{bytes} B");
    }
    let tenths = u128::from(bytes) * 10 / u128::from(unit.0);
    format!("{}.{} {}", tenths / 10, tenths % 10, unit.1)
}

fn date(at: TimestampMs) -> String {
    let text = time::format(time::at(at));
    format!("{} UTC", text.get(..19).unwrap_or(&text))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::net::sample::NOON;

    pub(crate) fn view() -> ReplicationView {
        ReplicationView {
            role: Role::Owner,
            state: "replicating".to_owned(),
            place: Place::Elsewhere,
            durability: Durability::Replicated,
            lag_ms: Some(42),
            txid: Some(12_345),
            epoch: Some(7),
            restore: Some(LastRestore {
                from: "s3://bucket/oraclenet".to_owned(),
                txid: 12_000,
                bytes: 3_500_000,
                millis: 840,
                at: TimestampMs(NOON.0 - 600_000),
            }),
            range: Some((TimestampMs(NOON.0 - 86_400_000), NOON)),
            trouble: None,
        }
    }

    #[test]
    fn the_verdict_claims_no_more_than_what_is_known() {
        let elsewhere = Place::Elsewhere;
        let replicated = Durability::Replicated;
        for (place, durability, lag, trouble, headline, tone) in [
            (elsewhere, replicated, Some(5), None, "Replicated", "good"),
            (elsewhere, replicated, None, None, "Not known", "warn"),
            (elsewhere, Durability::Local, Some(5), None, "Replicated after the answer", "warn"),
            (Place::SameDisk, replicated, Some(5), None, "Same disk", "warn"),
            (Place::SameDisk, Durability::Local, None, None, "Same disk", "warn"),
            (Place::Nowhere, Durability::Local, None, None, "No replica", "bad"),
            (Place::Nowhere, replicated, None, None, "No replica", "bad"),
            (elsewhere, replicated, Some(5), Some("The bucket says 403."), "Trouble", "bad"),
        ] {
            let trouble = trouble.map(str::to_owned);
            let view = ReplicationView { place, durability, lag_ms: lag, trouble, ..view() };
            let found = verdict(&view);
            assert_eq!((found.headline, found.tone), (headline, tone), "{view:?}");
            let page = page(&view, &LagRing::default(), NOON).unwrap();
            assert!(!page.to_lowercase().contains("safe"), "{headline}");
            assert_eq!(page.contains("same disk"), place == Place::SameDisk, "{headline}");
            let waits = place != Place::Nowhere && durability == replicated;
            assert_eq!(page.contains("once the replica has it"), waits, "{headline}");
        }
    }

    #[test]
    fn the_page_shows_what_the_view_says() {
        let page = page(&view(), &LagRing::default(), NOON).unwrap();
        for text in [
            "replicating",
            "owns the data: what is written is written here (epoch 7)",
            "42 ms",
            "12,345",
            "s3://bucket/oraclenet",
            "12,000",
            "3.3 MiB in 840 ms",
            "from 2026-01-31 12:00:00 UTC to 2026-02-01 12:00:00 UTC",
            "Nothing measured yet.",
        ] {
            assert!(page.contains(text), "{text}");
        }
    }

    #[test]
    fn each_role_has_words_of_its_own() {
        let mut told = std::collections::HashSet::new();
        for role in [
            Role::Starting,
            Role::Standby,
            Role::Acquiring,
            Role::Owner,
            Role::Leaving,
            Role::Returning,
            Role::Ended,
        ] {
            let view = ReplicationView { role, epoch: None, ..view() };
            let words = super::role(&view);
            assert!(page(&view, &LagRing::default(), NOON).unwrap().contains(&words), "{role:?}");
            assert!(told.insert(words), "{role:?}");
        }
    }

    #[test]
    fn the_plot_is_broken_where_nothing_was_measured() {
        let mut ring = LagRing::default();
        for (seconds, lag_ms) in [(700, 9_000), (600, 0), (590, 100), (300, 50), (0, 200)] {
            ring.push(LagSample { at: TimestampMs(NOON.0 - seconds * 1000), lag_ms });
        }
        let plot = plot(&ring, NOON);
        let lines: Vec<&str> = plot.lines.iter().map(|it| it.line.as_str()).collect();
        assert_eq!(lines, ["M0.0 120.0L10.7 65.0", "M320.0 92.5", "M640.0 10.0"]);
        assert_eq!(plot.lines[0].area, "M0.0 120.0L10.7 65.0L10.7 120L0.0 120Z");
        assert_eq!((plot.top.as_str(), plot.half.as_str()), ("200 ms", "100 ms"));
        assert_eq!(plot.summary, "Now 200 ms, at most 200 ms.");
    }

    #[test]
    fn the_ring_keeps_the_newest() {
        let mut ring = LagRing::default();
        for number in 0..=LAG_SAMPLES as u64 {
            ring.push(LagSample { at: NOON, lag_ms: number });
        }
        let kept: Vec<u64> = ring.samples().map(|it| it.lag_ms).collect();
        assert_eq!((kept.len(), kept[0], kept[kept.len() - 1]), (LAG_SAMPLES, 1, LAG_SAMPLES as u64));
    }

    #[test]
    fn figures_are_short() {
        for (millis, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_549, "1.5 s"),
            (59_999, "59.9 s"),
            (200_000, "3 min 20 s"),
            (7_500_000, "2 h 5 min"),
        ] {
            assert_eq!(duration(millis), text);
        }
        for (bytes, text) in
            [(17, "17 B"), (1_536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (u64::MAX, "16777215.9 TiB")]
        {
            assert_eq!(size(bytes), text);
        }
        for (greatest, top) in
            [(0, 100), (100, 100), (101, 200), (450, 500), (3_000, 5_000), (u64::MAX, u64::MAX)]
        {
            assert_eq!(round_up(greatest), top);
        }
    }
}
