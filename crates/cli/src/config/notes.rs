//! What is found while a file is judged, and the reading of single values, which finds most of it.

use super::address::no_path;
use super::remark::{Place, Remark};
use super::yaml::Text;
use crate::text::{duration, size, whole};
use litekeep_store::location::LocationError;
use serde_saphyr::Spanned;
use std::collections::BTreeSet;
use std::time::Duration;

/// What is to be said about a file.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// What must be mended.
    pub(super) problems: Vec<Remark>,
    /// What has no effect.
    pub(super) warnings: Vec<Remark>,
    /// What was taken as something else.
    pub(super) mapped: Vec<Remark>,
    /// Which of the problems are keys that are missing or can't be used.
    pub(super) keys: BTreeSet<String>,
}

/// A duration that may be switched off. Zero is no such thing (R39): what it means is the key's own affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Time {
    /// `off`
    Off,
    /// Anything else, also zero.
    Every(Duration),
}

impl Time {
    /// Where zero is off.
    fn or_off(self) -> Option<Duration> {
        match self {
            Self::Off | Self::Every(Duration::ZERO) => None,
            Self::Every(time) => Some(time),
        }
    }

    /// Off, and by which of the two words.
    pub(super) fn shown_off(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Every(_) => "off (0 is off, as in Litestream)",
        }
    }
}

impl Notes {
    /// Something that must be mended.
    pub(super) fn problem(&mut self, place: Place, text: impl Into<String>) {
        self.problems.push(Remark { place: Some(place), text: text.into() });
    }

    /// A replica that can't be used: whether it is a matter of keys decides what the process ends with.
    pub(super) fn unusable(&mut self, place: Place, error: &LocationError) {
        self.problem(place, error.to_string());
        if error.is_about_keys() {
            self.keys.insert(error.to_string());
        }
    }

    /// Whether nothing but keys is in the way.
    pub(super) fn lacks_keys(&self) -> bool {
        !self.problems.is_empty() && self.problems.iter().all(|it| self.keys.contains(&it.text))
    }

    /// Something that has no effect, and why.
    pub(super) fn no_effect(&mut self, key: &str, place: Place, why: &str) {
        self.warn(place, format!("{key} has no effect: {why}"));
    }

    /// Something to know.
    pub(super) fn warn(&mut self, place: Place, text: impl Into<String>) {
        self.warnings.push(Remark { place: Some(place), text: text.into() });
    }

    /// A key of v0.3 and what it was taken as.
    pub(super) fn map(&mut self, place: Place, text: impl Into<String>) {
        self.mapped.push(Remark { place: Some(place), text: text.into() });
    }

    /// A key that has no effect wherever it is given.
    pub(super) fn in_vain<T>(&mut self, key: &str, field: Option<&Spanned<T>>, why: &str) {
        if let Some(field) = field {
            self.no_effect(key, Place::of(field), why);
        }
    }

    /// A path as it is written; one that cannot be meant as such is told.
    pub(super) fn path(&mut self, key: &str, field: Option<&Text>) -> Option<String> {
        let text = said(field)?;
        if let (Some(why), Some(field)) = (no_path(&text), field) {
            self.problem(Place::of(field), format!("{key}: {why}"));
        }
        Some(text)
    }

    /// Changes every place.
    pub(super) fn places(&mut self, change: impl Fn(Place) -> Place) {
        for remark in self.problems.iter_mut().chain(&mut self.warnings).chain(&mut self.mapped) {
            remark.place = remark.place.map(&change);
        }
    }

    fn read<T>(
        &mut self,
        key: &str,
        field: Option<&Text>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let field = field?;
        match read(field.value.trim()) {
            Ok(value) => Some(value),
            Err(why) => {
                self.problem(Place::of(field), format!("{key}: {why}"));
                None
            }
        }
    }

    /// A duration that is neither zero nor off: zero would fire all the time (R39).
    pub(super) fn positive(&mut self, key: &str, field: Option<&Text>) -> Option<Duration> {
        self.read(key, field, |text| match time(text)? {
            Time::Off => Err("it can't be off: give a duration such as 30s or 24h".to_owned()),
            Time::Every(Duration::ZERO) => Err("it must be greater than 0".to_owned()),
            Time::Every(time) => Ok(time),
        })
    }

    /// A duration that may be off. Zero is off too, as in Litestream, and that and what it means is told: somebody may
    /// have wanted no pause at all.
    pub(super) fn zero_is_off(
        &mut self,
        key: &str,
        field: Option<&Text>,
        meaning: &str,
    ) -> Option<Option<Duration>> {
        let read = self.read(key, field, time)?;
        if let (Time::Every(Duration::ZERO), Some(field)) = (read, field) {
            self.map(Place::of(field), format!("{key}: 0 is taken as off, as in Litestream: {meaning}"));
        }
        Some(read.or_off())
    }

    /// The same of a key that is taken as another, which is told anyway.
    pub(super) fn mapped_zero_is_off(
        &mut self,
        key: &str,
        field: Option<&Text>,
    ) -> Option<(Time, Option<Duration>)> {
        let read = self.read(key, field, time)?;
        Some((read, read.or_off()))
    }

    /// A duration that may be off, and of which zero might mean two things, so that it is refused.
    pub(super) fn zero_is_wrong(&mut self, key: &str, field: Option<&Text>) -> Option<Option<Duration>> {
        self.read(key, field, |text| match time(text)? {
            Time::Off => Ok(None),
            Time::Every(Duration::ZERO) => {
                Err("it must be greater than 0, or `off` to switch it off".to_owned())
            }
            Time::Every(time) => Ok(Some(time)),
        })
    }

    /// A duration where zero means this much, as in Litestream, which is told.
    pub(super) fn zero_is(&mut self, key: &str, field: Option<&Text>, meaning: &str) -> Option<Duration> {
        let time = self.read(key, field, |text| match time(text)? {
            Time::Off => Err(format!("it can't be off: 0s is {meaning}")),
            Time::Every(time) => Ok(time),
        })?;
        if let (Duration::ZERO, Some(field)) = (time, field) {
            self.map(Place::of(field), format!("{key}: 0 is {meaning}, as in Litestream"));
        }
        Some(time)
    }

    /// A count of something.
    pub(super) fn count(&mut self, key: &str, field: Option<&Text>) -> Option<u32> {
        self.read(key, field, |text| {
            number(text)?
                .and_then(|number| number.try_into().ok())
                .ok_or_else(|| format!("`{text}` is no whole number from 0 to {}", u32::MAX))
        })
    }

    /// A count of bytes that is a text to Litestream, so that a leading 0 says nothing.
    pub(super) fn size(&mut self, key: &str, field: Option<&Text>) -> Option<u64> {
        self.read(key, field, size::parse)
    }

    /// A count of bytes that is a number to Litestream; here it may have a unit.
    pub(super) fn bytes(&mut self, key: &str, field: Option<&Text>) -> Option<u64> {
        self.read(key, field, |text| match number(text)? {
            Some(bytes) => Ok(bytes),
            None => size::parse(text),
        })
    }

    /// Yes or no, in the spellings of YAML 1.1.
    pub(super) fn switch(&mut self, key: &str, field: Option<&Text>) -> Option<bool> {
        self.read(key, field, |text| match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => Ok(true),
            "false" | "no" | "off" | "n" => Ok(false),
            _ => Err(format!("`{text}` is neither true nor false")),
        })
    }

    /// A file's mode: octal with a leading 0, else the decimal number that YAML makes of it.
    pub(super) fn mode(&mut self, key: &str, field: Option<&Text>) -> Option<u32> {
        self.read(key, field, |text| {
            let octal = text.strip_prefix('0').filter(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
            let mode = match octal {
                Some("") => Some(0),
                Some(octal) => u32::from_str_radix(octal, 8).ok(),
                None => number(text)?.and_then(|mode| mode.try_into().ok()),
            };
            mode.filter(|mode| *mode <= 0o777)
                .ok_or_else(|| format!("`{text}` is no mode: write it with a leading 0, such as 0600"))
        })
    }
}

fn time(text: &str) -> Result<Time, String> {
    match text {
        "off" | "OFF" | "Off" => Ok(Time::Off),
        text => duration::parse(text).map(Time::Every),
    }
}

/// A whole number in the spellings of YAML 1.1, `1e6` and `1000.0` among them; `None` if it is none.
///
/// # Errors
/// It has two readings.
fn number(text: &str) -> Result<Option<u64>, String> {
    /// The least that is not exact any more.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if let Some(number) = whole::parse(text)? {
        return Ok(Some(number));
    }
    let spelled =
        text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'_'));
    let float = text.replace('_', "").parse::<f64>().ok().filter(|float| {
        spelled && text.contains(['e', 'E', '.']) && float.fract() == 0.0 && (0.0..EXACT).contains(float)
    });
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and within both")]
    Ok(float.map(|float| float as u64))
}

/// A text that says something.
pub(super) fn said(field: Option<&Text>) -> Option<String> {
    field.map(|field| field.value.clone()).filter(|text| !text.is_empty())
}
