//! One instance: the real state machines, and what it has under way. It knows only what it was told.

use super::bucket::{Created, Piece};
use core::time::Duration;
use litekeep_core::ownership::{Acquire, Counted, Look, Moment, Tenancy, Times};
use litekeep_formats::TimestampMs;

/// The model's unit of time: as long as the pause between two looks at the records.
pub(crate) const TICK_MS: u8 = 100;

/// A look is so many requests: a higher claim by name, the slot by name, the list of the higher levels.
pub(crate) const REQUESTS: u8 = 3;

/// A moment, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    pub(crate) boot: u8,
    pub(crate) store: Option<u8>,
}

impl Stamp {
    pub(crate) fn moment(self) -> Moment {
        let ms = |ticks: u8| u64::from(ticks) * u64::from(TICK_MS);
        Moment {
            boot: Duration::from_millis(ms(self.boot)),
            store: self.store.map(|ticks| TimestampMs(ms(ticks).cast_signed())),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// The network has it.
    Sent,
    /// The bucket has answered, then; the network has the answer.
    Answered(Created, u8),
    /// It is there and ours, and the proof was too old.
    Uncounted,
}

/// What is only this instance's (its sending, an answer's arrival) can be told apart from what others do in the same tick
/// only by which tick it falls in. So it is decided at once: now, or not in this tick. That loses no behaviour and leaves
/// a fraction of the states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Pace {
    /// To be decided before anything else happens.
    Fresh,
    /// Not in this tick.
    Held,
    /// At any time.
    Loose,
}

/// A create of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Put {
    pub(crate) n: u8,
    pub(crate) piece: Piece,
    pub(crate) sent: Stamp,
    pub(crate) phase: Phase,
    pub(crate) pace: Pace,
}

/// A look at slot `n`, and which of its requests are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    pub(crate) n: u8,
    pub(crate) sent: Stamp,
    pub(crate) requests: u8,
    pub(crate) found: Look,
    pub(crate) date: u8,
    pub(crate) pace: Pace,
}

/// How far an owner's epoch has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Opened {
    Not,
    /// A slot of it counts.
    Counted,
    /// And the record says so.
    Recorded,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(clippy::large_enum_variant, reason = "boxes would make a search slower")]
pub(crate) enum Role {
    Standby(Acquire),
    Owner { tenancy: Tenancy, opened: Opened, lost: bool },
    Retired,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Instance {
    /// Ticks since boot, as this machine counts them.
    pub(crate) boot: u8,
    /// What the store's answers have shown this machine to have slept without counting.
    pub(crate) slept: u8,
    /// How many writes it still wants to make.
    pub(crate) writes: u8,
    pub(crate) made: u8,
    /// The end of the chain that it stands at, with its content.
    pub(crate) tip: u8,
    pub(crate) content: u8,
    pub(crate) put: Option<Put>,
    pub(crate) look: Option<Asked>,
    /// A fence that was created and does not count yet.
    pub(crate) fence: bool,
    pub(crate) role: Role,
}

impl Instance {
    pub(crate) fn new(times: Times, boot: u8, writes: u8) -> Self {
        let now = Stamp { boot, store: Some(boot) }.moment();
        Self {
            boot,
            slept: 0,
            writes,
            made: 0,
            tip: 0,
            content: 0,
            put: None,
            look: None,
            fence: false,
            role: Role::Standby(Acquire::new(times, now.boot)),
        }
    }

    /// What it believes the time to be: the store's clock goes on from what it told last.
    pub(crate) fn now(&self) -> Stamp {
        Stamp { boot: self.boot, store: Some(self.boot + self.slept) }
    }

    /// An answer says when the store made it.
    pub(crate) fn told(&mut self, date: u8) -> Stamp {
        self.slept = self.slept.max(date.saturating_sub(self.boot));
        self.now()
    }

    /// A tick passed, and this machine may have slept through it.
    pub(crate) fn tick(&mut self, counted: bool) {
        self.boot += u8::from(counted);
        let answer = self.answer_pace();
        if let Some(put) = &mut self.put {
            put.pace = if matches!(put.phase, Phase::Answered(..)) { answer } else { Pace::Loose };
        }
        if let Some(look) = &mut self.look {
            look.pace = if look.requests == REQUESTS { answer } else { Pace::Loose };
        }
    }

    /// In which order the answers to a create and to a look arrive is not decided at once.
    pub(crate) fn answer_pace(&self) -> Pace {
        if self.put.is_some() && self.look.is_some() { Pace::Loose } else { Pace::Fresh }
    }

    /// Two ages past the horizon are the same.
    pub(crate) fn forget_ages(&mut self, times: Times, horizon: u8) {
        let now = self.now();
        let old = |stamp: Stamp| {
            let by = |now: u8, then: u8| now.saturating_sub(then) >= horizon;
            by(now.boot, stamp.boot)
        };
        let limit = Stamp {
            boot: now.boot.saturating_sub(horizon),
            store: now.store.map(|store| store.saturating_sub(horizon)),
        };
        if let Some(put) = self.put.as_mut().filter(|put| old(put.sent)) {
            put.sent = limit;
        }
        if let Some(look) = self.look.as_mut().filter(|look| old(look.sent)) {
            look.sent = limit;
        }
        if let Role::Owner { tenancy, .. } = &mut self.role {
            let now = now.moment();
            if tenancy.clone().created(now, &now) == Counted::Unproven && now.boot.as_millis() >= 100 {
                let mut aged = Tenancy::new(times, tenancy.epoch(), limit.moment());
                tenancy.successor().into_iter().for_each(|epoch| aged.saw_claim(epoch));
                *tenancy = aged;
            }
        }
    }

    pub(crate) fn hold(&mut self) {
        if let Some(put) = self.put.as_mut().filter(|put| put.pace == Pace::Fresh) {
            put.pace = Pace::Held;
        } else if let Some(look) = &mut self.look {
            look.pace = Pace::Held;
        }
    }

    pub(crate) fn stand_by(&mut self, times: Times) {
        self.put = None;
        self.look = None;
        self.fence = false;
        self.role = if self.writes == 0 {
            Role::Retired
        } else {
            Role::Standby(Acquire::new(times, self.now().moment().boot))
        };
    }
}
