//! `@now` and its kin: dates and numbers from the time that the compiler was given. Never the machine's clock.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, Timelike, Utc};
use rusqlite::types::Value;

/// The value of a macro at `now`; `None` where `name` is none.
pub(super) fn value(name: &str, now: DateTime<Utc>) -> Option<Value> {
    let today = now.date_naive();
    let value = match name {
        "@now" => date(now),
        "@yesterday" => date(now.checked_sub_days(Days::new(1))?),
        "@tomorrow" => date(now.checked_add_days(Days::new(1))?),
        "@second" => number(now.second()),
        "@minute" => number(now.minute()),
        "@hour" => number(now.hour()),
        "@day" => number(now.day()),
        "@month" => number(now.month()),
        "@weekday" => number(now.weekday().num_days_from_sunday()),
        "@year" => Value::Integer(now.year().into()),
        "@todayStart" => start(today),
        "@todayEnd" => end(today),
        "@monthStart" => start(today.with_day(1)?),
        "@monthEnd" => end(today.with_day(1)?.checked_add_months(Months::new(1))?.pred_opt()?),
        "@yearStart" => start(NaiveDate::from_ymd_opt(now.year(), 1, 1)?),
        "@yearEnd" => end(NaiveDate::from_ymd_opt(now.year(), 12, 31)?),
        _ => return None,
    };
    Some(value)
}

/// A date as PocketBase keeps it: milliseconds, a blank for the `T`.
fn date(at: DateTime<Utc>) -> Value {
    Value::Text(at.format("%Y-%m-%d %H:%M:%S%.3fZ").to_string())
}

fn number(number: u32) -> Value {
    Value::Integer(number.into())
}

fn start(day: NaiveDate) -> Value {
    date(day.and_time(NaiveTime::MIN).and_utc())
}

fn end(day: NaiveDate) -> Value {
    Value::Text(day.format("%Y-%m-%d 23:59:59.999Z").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macros_follow_the_given_time() {
        let at = |text: &str| DateTime::parse_from_rfc3339(text).expect("a date").to_utc();
        let leap = at("2024-02-29T23:59:58.123456Z");
        let sunday = at("2026-12-27T00:00:00Z");
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        for (name, now, expected) in [
            ("@now", leap, text("2024-02-29 23:59:58.123Z")),
            ("@yesterday", leap, text("2024-02-28 23:59:58.123Z")),
            ("@tomorrow", leap, text("2024-03-01 23:59:58.123Z")),
            ("@second", leap, Some(Value::Integer(58))),
            ("@minute", leap, Some(Value::Integer(59))),
            ("@hour", leap, Some(Value::Integer(23))),
            ("@day", leap, Some(Value::Integer(29))),
            ("@month", leap, Some(Value::Integer(2))),
            ("@weekday", leap, Some(Value::Integer(4))),
            ("@weekday", sunday, Some(Value::Integer(0))),
            ("@year", leap, Some(Value::Integer(2024))),
            ("@todayStart", leap, text("2024-02-29 00:00:00.000Z")),
            ("@todayEnd", leap, text("2024-02-29 23:59:59.999Z")),
            ("@monthStart", leap, text("2024-02-01 00:00:00.000Z")),
            ("@monthEnd", leap, text("2024-02-29 23:59:59.999Z")),
            ("@monthEnd", sunday, text("2026-12-31 23:59:59.999Z")),
            ("@yearStart", leap, text("2024-01-01 00:00:00.000Z")),
            ("@yearEnd", leap, text("2024-12-31 23:59:59.999Z")),
            ("@NOW", leap, None),
            ("now", leap, None),
            ("@rowid", leap, None),
        ] {
            assert_eq!(value(name, now), expected, "{name} at {now}");
        }
    }
}
