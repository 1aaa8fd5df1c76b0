//! May this be tried again, and when: a function from what happened to a wait. Knows no request by name.

use super::http::{Answer, NoAnswer};
use serde_json::Value;
use std::time::Duration;

/// How long a verb is tried in all, without `--wait`.
pub(crate) const USUAL: Duration = Duration::from_secs(30);
/// The first wait, before jitter; it doubles.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait that is chosen here; a server may ask for more.
const LONGEST: Duration = Duration::from_secs(5);

/// What a failed try says about the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setback {
    /// What happened, for the reader.
    pub(crate) text: String,
    /// How long the server asked to be left alone.
    pub(crate) after: Option<Duration>,
    /// Whether it may have been done all the same.
    pub(crate) doubt: bool,
    /// Whether the server was there at all.
    pub(crate) contact: bool,
}

/// What one try came to.
#[derive(Debug)]
pub(crate) enum Seen {
    /// An answer that another try would not change.
    Answer(Answer),
    /// Something that passes.
    Setback(Setback),
    /// A signal came.
    Stopped,
}

impl Seen {
    /// Sorts an answer, or the lack of one.
    pub(crate) fn of(result: Result<Answer, NoAnswer>) -> Self {
        match result {
            Ok(answer) if matches!(answer.status, 502..=504) => Self::Setback(Setback {
                text: said(&answer),
                after: answer.retry_after,
                // Only a server that knows can say that nothing happened; a proxy before it can't.
                doubt: outcome(&answer) != Some("not_applied"),
                contact: true,
            }),
            Ok(answer) => Self::Answer(answer),
            Err(NoAnswer::Lost(text)) => {
                Self::Setback(Setback { text, after: None, doubt: true, contact: true })
            }
            Err(NoAnswer::NotSent(text)) => {
                Self::Setback(Setback { text, after: None, doubt: false, contact: false })
            }
            Err(NoAnswer::Stopped) => Self::Stopped,
        }
    }
}

/// What a 503 says about the write.
fn outcome(answer: &Answer) -> Option<&str> {
    answer.body.as_ref().ok()?.get("data")?.get("outcome")?.as_str()
}

fn said(answer: &Answer) -> String {
    let message = answer.body.as_ref().ok().and_then(|body| body.get("message")).and_then(Value::as_str);
    let message = message.unwrap_or("it is out of order at the moment");
    match outcome(answer) {
        Some(outcome) => format!("{message} (HTTP {}, outcome {outcome})", answer.status),
        None => format!("{message} (HTTP {})", answer.status),
    }
}

/// How patient a verb is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// No try begins later than this after the first.
    pub(crate) total: Duration,
    /// Whether a server that was never reached is waited for as well: a wrong address is likelier.
    pub(crate) insist: bool,
}

impl Patience {
    /// How long to wait before the next try, the `tries`-th having failed; `None` to give up.
    pub(crate) fn next(
        &self,
        setback: &Setback,
        met: bool,
        tries: u32,
        spent: Duration,
        random: u64,
    ) -> Option<Duration> {
        if !(setback.contact || met || self.insist) {
            return None;
        }
        let own = FIRST.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(LONGEST);
        let least = setback.after.unwrap_or(own / 2).max(FIRST / 2);
        // Half of the own wait is chance, so that a crowd that was sent away together does not come back together.
        let chance = (own / 2).mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64);
        let wait = least + chance;
        (spent + wait < self.total).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(status: u16, retry_after: Option<u64>, body: Value) -> Result<Answer, NoAnswer> {
        let retry_after = retry_after.map(Duration::from_secs);
        Ok(Answer { status, retry_after, location: None, body: Ok(body) })
    }

    #[test]
    fn only_what_passes_is_tried_again_and_doubt_is_kept() {
        let lost = || Err(NoAnswer::Lost("reset".to_owned()));
        let rows = [
            (answer(503, Some(2), json!({"data": {"outcome": "unknown"}})), Some((true, Some(2)))),
            (answer(503, None, json!({"data": {"outcome": "not_applied"}})), Some((false, None))),
            (answer(503, None, Value::Null), Some((true, None))),
            (answer(502, None, Value::Null), Some((true, None))),
            (answer(504, None, Value::Null), Some((true, None))),
            (lost(), Some((true, None))),
            (Err(NoAnswer::NotSent("refused".to_owned())), Some((false, None))),
            (Err(NoAnswer::Stopped), None),
            (answer(200, None, Value::Null), None),
            (answer(400, None, Value::Null), None),
            (answer(401, Some(1), Value::Null), None),
            (answer(429, Some(1), Value::Null), None),
            (answer(500, None, Value::Null), None),
        ];
        for (result, expected) in rows {
            let shown = format!("{result:?}");
            let seen = match Seen::of(result) {
                Seen::Setback(setback) => Some((setback.doubt, setback.after.map(|it| it.as_secs()))),
                Seen::Answer(_) | Seen::Stopped => None,
            };
            assert_eq!(seen, expected, "{shown}");
        }
    }

    #[test]
    fn waits_grow_honour_the_server_and_end() {
        let patience = Patience { total: USUAL, insist: false };
        let busy = |after: Option<u64>| Setback {
            text: String::new(),
            after: after.map(Duration::from_secs),
            doubt: true,
            contact: true,
        };
        let millis = Duration::from_millis;
        for (setback, tries, spent, random, wait) in [
            (busy(None), 1, 0, 0, Some(50)),
            (busy(None), 1, 0, u64::MAX, Some(100)),
            (busy(None), 3, 0, 0, Some(200)),
            (busy(None), 40, 0, 0, Some(2500)),
            (busy(Some(2)), 1, 0, 0, Some(2000)),
            (busy(Some(0)), 1, 0, 0, Some(50)),
            (busy(Some(60)), 1, 0, 0, None),
            (busy(None), 9, 29_000, 0, None),
        ] {
            let seen = patience.next(&setback, false, tries, millis(spent), random);
            assert_eq!(seen.map(|it| it.as_millis()), wait, "{setback:?} {tries} {spent}");
        }
    }

    #[test]
    fn a_server_that_never_answered_is_waited_for_only_on_request() {
        let setback = Setback { text: String::new(), after: None, doubt: false, contact: false };
        for (insist, met, tried) in [(false, false, false), (false, true, true), (true, false, true)] {
            let patience = Patience { total: USUAL, insist };
            let seen = patience.next(&setback, met, 1, Duration::ZERO, 0);
            assert_eq!(seen.is_some(), tried, "insist {insist}, met {met}");
        }
    }
}
