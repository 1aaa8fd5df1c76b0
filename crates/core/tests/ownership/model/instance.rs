//! One instance: the real state machines, and what it has under way. It knows only what it was told.

use super::bucket::{Created, Piece};
use core::time::Duration;
use litekeep_core::ownership::{Acquire, Look, Moment, Tenancy, Times};
use litekeep_formats::TimestampMs;

/// The model's unit of time: as long as the pause between two looks at the records.
pub(crate) const TICK_MS: u8 = 100;

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

/// A create of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Put {
    pub(crate) n: u8,
    pub(crate) piece: Piece,
    pub(crate) sent: Stamp,
    pub(crate) phase: Phase,
}

/// A look is three requests: a higher claim by name, the slot by name, the list of the higher levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    pub(crate) n: u8,
    pub(crate) sent: Stamp,
    pub(crate) requests: u8,
    pub(crate) found: Look,
    pub(crate) date: u8,
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
