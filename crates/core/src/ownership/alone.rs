//! How long an owner knows that nobody else has written, without asking: what it may say to a reader.

use core::time::Duration;

/// What an owner's looks for a claim above its own have shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Alone {
    /// When the last question was sent that found none (since boot).
    since: Option<Duration>,
}

impl Alone {
    /// A question that was sent at `sent` (since boot) found no claim above ours.
    pub fn saw_no_claim(&mut self, sent: Duration) {
        self.since = self.since.max(Some(sent));
    }

    /// Until when (since boot) nobody else can have written, if we do not close before: whoever claims after the question
    /// that found no claim waits for our closing record for `hand_over` at least. `None` before the first such question:
    /// whoever opened may have been followed by a claim at once. It holds where nobody's hand-over takes less time than
    /// ours.
    pub fn until(&self, hand_over: Duration) -> Option<Duration> {
        self.since.map(|sent| sent.saturating_add(hand_over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_writes_before_the_hand_over_time_after_a_look_that_found_no_claim() {
        let seconds = Duration::from_secs;
        let mut alone = Alone::default();
        assert_eq!(alone.until(seconds(5)), None);
        alone.saw_no_claim(seconds(110));
        assert_eq!(alone.until(seconds(5)), Some(seconds(115)));
        alone.saw_no_claim(seconds(105));
        assert_eq!(alone.until(seconds(5)), Some(seconds(115)), "an older question tells less");
        alone.saw_no_claim(seconds(120));
        assert_eq!(alone.until(Duration::MAX), Some(Duration::MAX));
    }
}
