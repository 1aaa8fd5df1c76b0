//! `litekeep usage`: what a replica takes up, how it grows, and what it costs at list prices.
//!
//! The numbers are the engine's, the prices those of `prices.json`; here they are multiplied and told.

use super::{named_or_only, open};
use crate::flags::{self, Parsed};
use crate::output;
use crate::text::{size, table, time};
use crate::trouble::{Exit, Trouble};
use crate::world::World;
use litekeep::inspect::{self, Requests, Usage};
use litekeep::restore::PARALLELISM;
use litekeep_formats::TimestampMs;
use serde::{Deserialize, Serialize};

/// The prices, with their sources and dates.
const PRICES: &str = include_str!("prices.json");

/// A month of the bill, days.
const MONTH: f64 = 30.0;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Prices {
    currency: String,
    looked_up: String,
    note: String,
    providers: Vec<Price>,
}

/// One provider's list prices.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Price {
    name: String,
    source: String,
    as_of: String,
    /// Where the figures were seen, if not on the provider's own page.
    seen_in: String,
    /// Bytes of what it calls a GB.
    gb_bytes: u64,
    storage_per_gb_month: f64,
    included_gb: f64,
    minimum_per_month: f64,
    /// Puts and listings; `null` where that is not known, 0 only where the provider says that they are free.
    puts_per_1000: Option<f64>,
    /// Gets and heads, likewise.
    gets_per_1000: Option<f64>,
    /// A month.
    included_puts: f64,
    /// A month.
    included_gets: f64,
}

#[derive(Serialize)]
struct Report<'a> {
    replica: &'a str,
    objects: usize,
    bytes: u64,
    levels: Vec<LevelRow>,
    v3_snapshots: usize,
    v3_segments: usize,
    v3_bytes: u64,
    slots_per_day: Option<u64>,
    database_bytes_per_day: Option<i64>,
    retention: bool,
    retention_frees_bytes: u64,
    requests_per_day: Option<RequestsRow>,
    costs: Costs,
    asked: Asked,
}

#[derive(Serialize)]
struct LevelRow {
    level: u8,
    objects: usize,
    bytes: u64,
    oldest: String,
    newest: String,
    bytes_per_day: Option<u64>,
    objects_per_day: Option<u64>,
    retention_frees_objects: usize,
    retention_frees_bytes: u64,
}

#[derive(Serialize)]
struct RequestsRow {
    slot_puts: u64,
    level_puts: u64,
    looks: u64,
    reads: u64,
    listings: u64,
    deletes: u64,
}

#[derive(Serialize)]
struct Costs {
    currency: String,
    prices_looked_up: String,
    note: String,
    per_month: Vec<CostRow>,
}

#[derive(Debug, PartialEq, Serialize)]
struct CostRow {
    provider: String,
    storage: f64,
    /// None where the price or the number of requests is not known.
    requests: Option<f64>,
    /// With the requests.
    total: Option<f64>,
    /// Without them.
    at_least: f64,
    prices_as_of: String,
    source: String,
    seen_in: String,
}

#[derive(Serialize)]
struct Asked {
    requests: u64,
}

/// Looks and tells.
pub(crate) fn run(world: &World, parsed: &Parsed) -> Result<Exit, Trouble> {
    let named = named_or_only(world, parsed)?;
    let store = open(world, &named.replica)?;
    let settings = named.database.map(|database| database.settings).unwrap_or_default();
    let usage = inspect::usage(store, &*world.clock, &settings, PARALLELISM)
        .map_err(|error| super::restore::trouble(&error))?;
    let report = report(&usage, prices()?);
    match parsed.on(&flags::JSON) {
        true => output::json(&report)?,
        false => output::text(&text(&report, world.clock.wall()))?,
    }
    Ok(Exit::OK)
}

fn prices() -> Result<Prices, Trouble> {
    serde_json::from_str(PRICES).map_err(|error| Trouble::new("the prices can't be read").because(&error))
}

fn report(usage: &Usage, prices: Prices) -> Report<'_> {
    let per_month = prices.providers.iter().map(|price| cost(price, usage)).collect();
    let level = |level: &inspect::LevelUsage| LevelRow {
        level: level.level.get(),
        objects: level.objects,
        bytes: level.bytes,
        oldest: time::format(level.oldest),
        newest: time::format(level.newest),
        bytes_per_day: level.bytes_per_day.map(whole),
        objects_per_day: level.objects_per_day.map(whole),
        retention_frees_objects: level.freed_objects,
        retention_frees_bytes: level.freed_bytes,
    };
    Report {
        replica: &usage.location,
        objects: usage.objects(),
        bytes: usage.bytes(),
        levels: usage.levels.iter().map(level).collect(),
        v3_snapshots: usage.v3.snapshots,
        v3_segments: usage.v3.segments,
        v3_bytes: usage.v3.bytes,
        slots_per_day: usage.slots_per_day.map(whole),
        database_bytes_per_day: usage.database_bytes_per_day.map(signed),
        retention: usage.retention,
        retention_frees_bytes: usage.freed_bytes(),
        requests_per_day: usage.requests.map(|requests| requests_row(&requests)),
        costs: Costs {
            currency: prices.currency,
            prices_looked_up: prices.looked_up,
            note: prices.note,
            per_month,
        },
        asked: Asked { requests: usage.counted.requests },
    }
}

/// Estimates are told in whole numbers: more digits would promise what nobody knows.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and saturating is right"
)]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

#[allow(clippy::cast_possible_truncation, reason = "saturating is right")]
fn signed(number: f64) -> i64 {
    number.round() as i64
}

fn requests_row(requests: &Requests) -> RequestsRow {
    RequestsRow {
        slot_puts: whole(requests.slot_puts),
        level_puts: whole(requests.level_puts),
        looks: whole(requests.looks),
        reads: whole(requests.reads),
        listings: whole(requests.listings),
        deletes: whole(requests.deletes),
    }
}

/// A month at one provider, at the size that the replica has once retention was here, to the cent.
fn cost(price: &Price, usage: &Usage) -> CostRow {
    let bytes = usage.bytes().saturating_sub(usage.freed_bytes());
    let stored = bytes as f64 / price.gb_bytes as f64;
    let storage = (stored - price.included_gb).max(0.0) * price.storage_per_gb_month;
    let requests = requests_cost(price, usage.requests);
    // A minimum buys what is included; what goes past that comes on top.
    let at_least = price.minimum_per_month + storage;
    CostRow {
        provider: price.name.clone(),
        storage: cents(storage),
        requests: requests.map(cents),
        total: requests.map(|requests| cents(at_least + requests)),
        at_least: cents(at_least),
        prices_as_of: price.as_of.clone(),
        source: price.source.clone(),
        seen_in: price.seen_in.clone(),
    }
}

/// A month of requests. What is not known is no 0: neither a price nor how many there are, unless they are free.
fn requests_cost(price: &Price, requests: Option<Requests>) -> Option<f64> {
    let of = |count: Option<f64>, included: f64, per_1000: Option<f64>| match (count, per_1000?) {
        (_, 0.0) => Some(0.0),
        (None, _) => None,
        (Some(count), per_1000) => Some((count * MONTH - included).max(0.0) / 1000.0 * per_1000),
    };
    let puts = requests.map(|requests| requests.puts() + requests.listings);
    let gets = requests.map(|requests| requests.gets());
    Some(
        of(puts, price.included_puts, price.puts_per_1000)?
            + of(gets, price.included_gets, price.gets_per_1000)?,
    )
}

fn cents(amount: f64) -> f64 {
    (amount * 100.0).round() / 100.0
}

fn text(report: &Report<'_>, now: TimestampMs) -> String {
    let mut out = String::new();
    if !report.levels.is_empty() {
        out.push_str(&levels_text(report, now));
        out.push('\n');
    }
    out.push_str(&format!("{}: {} objects, {}\n", report.replica, report.objects, size::human(report.bytes)));
    if report.objects == 0 {
        out.push_str("nothing is there: is this the right path?\n");
    }
    if report.v3_snapshots > 0 {
        out.push_str(&format!(
            "of that v0.3: {} snapshots and {} WAL segments, {}\n",
            report.v3_snapshots,
            report.v3_segments,
            size::human(report.v3_bytes)
        ));
    }
    out.push_str(&match report.retention {
        true => {
            format!("retention frees {} with its next round\n", size::human(report.retention_frees_bytes))
        }
        false => "retention is switched off: nothing is ever freed\n".to_owned(),
    });
    if let Some(bytes) = report.database_bytes_per_day {
        let sign = if bytes < 0 { "-" } else { "" };
        out.push_str(&format!("a snapshot grows by {sign}{} a day\n", size::human(bytes.unsigned_abs())));
    }
    match &report.requests_per_day {
        Some(requests) => out.push_str(&requests_text(requests)),
        None => out.push_str("too young to tell how many requests a day it takes\n"),
    }
    out.push_str(&costs_text(&report.costs));
    out
}

fn levels_text(report: &Report<'_>, now: TimestampMs) -> String {
    let head =
        ["level", "objects", "bytes", "oldest", "newest", "bytes/day", "objects/day", "retention frees"];
    let age = |text: &str| {
        time::parse(text).map_or_else(|| "-".to_owned(), |then| age(now.0.saturating_sub(then.0)))
    };
    let rows = report.levels.iter().map(|level| {
        [
            level.level.to_string(),
            level.objects.to_string(),
            size::human(level.bytes),
            age(&level.oldest),
            age(&level.newest),
            level.bytes_per_day.map_or_else(|| "-".to_owned(), size::human),
            level.objects_per_day.map_or_else(|| "-".to_owned(), |objects| objects.to_string()),
            match level.retention_frees_objects {
                0 => "-".to_owned(),
                objects => format!("{objects} ({})", size::human(level.retention_frees_bytes)),
            },
        ]
    });
    table::columns(&std::iter::once(head.map(str::to_owned)).chain(rows).collect::<Vec<_>>())
}

/// The two greatest units of an age.
fn age(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

fn requests_text(requests: &RequestsRow) -> String {
    let head = ["requests a day", "about", "how"].map(str::to_owned);
    let rows = [
        ("puts of slots", requests.slot_puts, "as many as came a day so far"),
        ("puts of levels", requests.level_puts, "one for each interval of a level and of snapshots, at most"),
        ("looks", requests.looks, "one for a higher claim with each put, or as often as the settings say"),
        ("reads", requests.reads, "each file once to be merged, snapshots from the one before"),
        (
            "listings",
            requests.listings,
            "one for each round of retention, when slots have gathered; for a put after a minute's pause",
        ),
        ("deletes", requests.deletes, "what is put is deleted one day"),
    ];
    let rows = rows.map(|(name, count, how)| [name.to_owned(), count.to_string(), how.to_owned()]);
    let mut out = String::from("\n");
    out.push_str(&table::columns(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
    out
}

fn costs_text(costs: &Costs) -> String {
    let head = [
        format!("{} a month", costs.currency),
        "storage".into(),
        "requests".into(),
        "total".into(),
        "prices of".into(),
    ];
    let rows = costs.per_month.iter().map(|row| {
        let money = |amount: f64| format!("{amount:.2}");
        [
            row.provider.clone(),
            money(row.storage),
            row.requests.map_or_else(|| "not known".to_owned(), money),
            row.total.map_or_else(|| format!("at least {}", money(row.at_least)), money),
            row.prices_as_of.clone(),
        ]
    });
    let mut out = String::from("\n");
    out.push_str(&table::columns(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
    out.push_str(&format!("{} Looked up on {}:\n", costs.note, costs.prices_looked_up));
    for CostRow { provider, source, seen_in, prices_as_of, .. } in &costs.per_month {
        out.push_str(&format!("- {provider}: {source}, as of {prices_as_of}, seen in {seen_in}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use litekeep::inspect::{Counted, LevelUsage, V3Usage};
    use litekeep_formats::Level;

    fn usage(bytes: u64, requests: Option<Requests>) -> Usage {
        Usage {
            location: "s3://b/p".into(),
            levels: vec![LevelUsage {
                level: Level::SLOTS,
                objects: 1,
                bytes,
                oldest: TimestampMs(0),
                newest: TimestampMs(0),
                bytes_per_day: None,
                objects_per_day: None,
                freed_objects: 0,
                freed_bytes: 0,
            }],
            v3: V3Usage::default(),
            slots_per_day: None,
            database_bytes_per_day: None,
            retention: true,
            requests,
            counted: Counted::default(),
        }
    }

    fn priced(provider: &str) -> Price {
        let providers = prices().expect("the file is JSON").providers;
        providers.into_iter().find(|price| price.name.starts_with(provider)).expect(provider)
    }

    #[test]
    fn every_price_has_a_source_and_a_date() {
        let prices = prices().expect("the file is JSON");
        assert!(prices.providers.len() >= 6 && prices.currency == "USD", "{prices:?}");
        for price in &prices.providers {
            assert!(price.source.starts_with("https://") && price.as_of.starts_with("20"), "{price:?}");
            assert!(!price.seen_in.is_empty(), "{price:?}");
            // A 0 is somebody's word that they are free.
            let free = [price.puts_per_1000, price.gets_per_1000].contains(&Some(0.0));
            assert!(!free || price.seen_in.contains("free"), "{price:?}");
            assert!(price.storage_per_gb_month > 0.0 && price.storage_per_gb_month < 1.0, "{price:?}");
            assert!([1_000_000_000, 1 << 30].contains(&price.gb_bytes), "{price:?}");
        }
    }

    #[test]
    fn a_bill_is_storage_and_requests_past_what_is_included() {
        // 1,000 slots and looks a day, no levels.
        let requests = Requests { slot_puts: 1000.0, looks: 1000.0, ..Requests::default() };
        for (provider, gib, requests, expected) in [
            ("AWS", 100, Some(requests), 2.30 + 0.15 + 0.012),
            ("Cloudflare", 5, Some(requests), 0.0),
            ("DigitalOcean", 1, Some(requests), 5.0),
            ("DigitalOcean", 250, Some(requests), 5.0),
            ("DigitalOcean", 350, Some(requests), 7.0),
            ("Tigris", 0, Some(requests), 0.10),
            ("Google", 105, Some(requests), 2.0 + 0.125),
            ("Backblaze", 0, Some(requests), 0.0),
        ] {
            let seen = cost(&priced(provider), &usage(gib << 30, requests)).total.expect("a total");
            assert!((seen - expected).abs() < 0.006, "{provider} {gib}: {seen}, not {expected}");
        }
    }

    #[test]
    fn what_nobody_knows_is_not_billed_as_nothing() {
        let requests = Some(Requests { slot_puts: 1000.0, looks: 1000.0, ..Requests::default() });
        let unpriced = |puts_per_1000, gets_per_1000| Price { puts_per_1000, gets_per_1000, ..priced("AWS") };
        for (price, requests, known) in [
            (priced("AWS"), requests, true),
            (priced("AWS"), None, false),
            (unpriced(None, Some(0.0004)), requests, false),
            (unpriced(Some(0.005), None), requests, false),
            (unpriced(Some(0.0), Some(0.0)), None, true),
        ] {
            let row = cost(&price, &usage(100 << 30, requests));
            assert_eq!((row.requests.is_some(), row.total.is_some()), (known, known), "{row:?}");
            assert!((row.at_least - 2.30).abs() < 0.006, "{row:?}");
            let costs = Costs {
                currency: "USD".to_owned(),
                prices_looked_up: String::new(),
                note: String::new(),
                per_month: vec![row],
            };
            let text = costs_text(&costs);
            assert_eq!(text.contains("not known") && text.contains("at least 2.30"), !known, "{text}");
            assert!(
                text.contains(&format!("{}, as of {}, seen in {}", price.source, price.as_of, price.seen_in))
            );
        }
    }

    #[test]
    fn an_age_has_two_units_at_most() {
        for (ms, text) in [
            (0, "0s"),
            (-5, "0s"),
            (59_999, "59s"),
            (61_000, "1m1s"),
            (3_600_000, "1h0m"),
            (86_400_000 * 3 + 3_600_000 * 4, "3d4h"),
        ] {
            assert_eq!(age(ms), text);
        }
    }
}
