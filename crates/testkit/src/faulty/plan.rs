//! Which operation meets which fault.

use crate::random::SeededRandom;
use litekeep_store::ErrorKind;
use std::time::Duration;

/// A verb of the store; `upload` counts as `put` when it is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// List a scope.
    List,
    /// Ask for properties.
    Head,
    /// Read bytes.
    Read,
    /// Create what must not exist.
    Create,
    /// Write or replace.
    Put,
    /// Delete.
    Delete,
}

impl Verb {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Head => "head",
            Self::Read => "read",
            Self::Create => "create",
            Self::Put => "put",
            Self::Delete => "delete",
        }
    }

    fn writes(self) -> bool {
        matches!(self, Self::Create | Self::Put)
    }
}

/// Trouble for one operation. One that does not fit the verb changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happened, and an error of this kind says so: `Retry` for a broken connection, `Wait` for 429 and 503,
    /// `FixConfig` for 403.
    Refused(ErrorKind),
    /// It happened, and the answer was lost.
    LostAnswer,
    /// No answer; the write arrives this much later, if its name is still free then.
    HeldBack(Duration),
    /// It takes this long, and is answered.
    Slow(Duration),
    /// A listing from before the last change.
    Stale,
    /// Fewer bytes than were asked for.
    Truncated,
    /// One bit is wrong.
    Flipped,
    /// The write is answered with success, and the object is gone.
    Vanishes,
    /// The write is answered, and arrives once more this much later.
    Twice(Duration),
    /// A create happens, and is answered with 412 all the same: the network repeated it.
    Repeated,
    /// The power of the machine that asks goes ([`super::FaultyStore::powered_by`]): before the request is sent, or, if
    /// `happens`, before a request that changes something is answered.
    PowerGoes {
        /// Whether the request still happens.
        happens: bool,
    },
}

/// A fault for chosen operations.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Which verb; `None` for any.
    pub verb: Option<Verb>,
    /// Only of objects whose text contains this.
    pub object: String,
    /// How many of them go well first.
    pub skip: u64,
    /// How many then fail; `u64::MAX` for all.
    pub times: u64,
    /// What they meet.
    pub fault: Fault,
}

/// How often trouble comes by itself: so many in a thousand operations of a fitting verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// Errors after which nothing happened.
    pub refused: u64,
    /// 429 and 503.
    pub busy: u64,
    /// Lost answers.
    pub lost: u64,
    /// Writes that arrive late, by up to 50 s.
    pub held_back: u64,
    /// Slow answers, up to 5 s.
    pub slow: u64,
    /// Lagging listings.
    pub stale: u64,
    /// Short reads.
    pub truncated: u64,
    /// Writes that arrive twice.
    pub twice: u64,
    /// Creates that are answered with 412 although they happened.
    pub repeated: u64,
}

impl Weather {
    /// No trouble.
    pub const CLEAR: Self = Self {
        refused: 0,
        busy: 0,
        lost: 0,
        held_back: 0,
        slow: 0,
        stale: 0,
        truncated: 0,
        twice: 0,
        repeated: 0,
    };

    /// Much of everything that a store may do and still be a store.
    pub const STORM: Self = Self {
        refused: 60,
        busy: 40,
        lost: 60,
        held_back: 20,
        slow: 100,
        stale: 100,
        truncated: 0,
        twice: 40,
        repeated: 40,
    };
}

#[derive(Debug)]
pub(super) struct Planner {
    pub(super) weather: Weather,
    pub(super) plans: Vec<Plan>,
    pub(super) random: SeededRandom,
}

impl Planner {
    pub(super) fn new(random: SeededRandom) -> Self {
        Self { weather: Weather::CLEAR, plans: Vec::new(), random }
    }

    pub(super) fn draw(&mut self, verb: Verb, object: &str) -> Option<Fault> {
        self.planned(verb, object).or_else(|| self.by_weather(verb))
    }

    fn planned(&mut self, verb: Verb, object: &str) -> Option<Fault> {
        let plan = self.plans.iter_mut().find(|plan| {
            plan.times > 0 && plan.verb.is_none_or(|of| of == verb) && object.contains(&plan.object)
        })?;
        if plan.skip > 0 {
            plan.skip -= 1;
            return None;
        }
        plan.times = if plan.times == u64::MAX { u64::MAX } else { plan.times - 1 };
        Some(plan.fault)
    }

    fn by_weather(&mut self, verb: Verb) -> Option<Fault> {
        let weather = self.weather;
        if weather == Weather::CLEAR {
            return None;
        }
        let delay = Duration::from_millis(self.random.between(1, 5000));
        let drawn = self.random.below(1000);
        let faults = [
            (weather.refused, true, Fault::Refused(ErrorKind::Retry)),
            (weather.busy, true, Fault::Refused(ErrorKind::Wait)),
            (weather.lost, true, Fault::LostAnswer),
            (weather.slow, true, Fault::Slow(delay)),
            (weather.held_back, verb.writes(), Fault::HeldBack(delay * 10)),
            (weather.stale, verb == Verb::List, Fault::Stale),
            (weather.truncated, verb == Verb::Read, Fault::Truncated),
            (weather.twice, verb.writes(), Fault::Twice(delay * 10)),
            (weather.repeated, verb == Verb::Create, Fault::Repeated),
        ];
        let mut bound = 0;
        for (rate, fits, fault) in faults {
            bound += if fits { rate } else { 0 };
            if drawn < bound {
                return Some(fault);
            }
        }
        None
    }
}
