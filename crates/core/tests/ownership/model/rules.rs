//! The rules that a run leaves out. None of this is in the state machines: the shell around them does it wrong.

/// A rule broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// A write is acknowledged when its create is sent.
    AckBeforeCreate,
    /// A refused create is taken for our own slot without a look at what is there.
    RefusedIsMine,
    /// A higher claim, or a slot of a higher epoch, changes nothing.
    KeepLowerClaim,
    /// Opens, and fences, as if a look had found the name free.
    NoLook,
    /// Every answered create counts.
    NoHorizon,
    /// The proof's age is judged when the create is sent.
    JudgedWhenSent,
    /// A proof is as old as its answer.
    DatedByAnswer,
    /// A slot is deleted as soon as a higher level has it.
    DeletedAtOnce,
    /// An uncounted slot counts by any look whose answer comes, however old its question is.
    OldLook,
    /// A look that found the name taken before we knew it to be ours says that it is.
    EarlyLook,
    /// A look lists the higher levels before it asks for the name.
    LevelsFirst,
    /// Ages are by this machine's clock alone.
    OneClock,
}

const TWICE: &str = "is acknowledged twice";
const OTHER: &str = "was acknowledged with another content";

impl Wrong {
    /// The smallest worlds known in which the rule matters, and which property breaks there first. Where a name is used again,
    /// three ticks must pass for the slot and two for the claims before it.
    pub(crate) const ALL: [(Self, Bounds, &'static str); 12] = [
        (
            Self::AckBeforeCreate,
            Bounds { slots: 1, time: 0, ..Bounds::BASE },
            "past slot 0 is not in the chain",
        ),
        (Self::RefusedIsMine, Bounds { slots: 1, time: 2, ..Bounds::BASE }, OTHER),
        (Self::KeepLowerClaim, Bounds { time: 2, ..Bounds::BASE }, "epochs go back"),
        (Self::NoLook, Bounds { slots: 1, ..Bounds::BASE }, TWICE),
        (Self::NoHorizon, Bounds { slots: 1, time: 5, ..Bounds::BASE }, TWICE),
        (Self::JudgedWhenSent, Bounds { slots: 1, time: 5, ..Bounds::BASE }, TWICE),
        (Self::DatedByAnswer, Bounds { slots: 1, time: 5, ..Bounds::BASE }, OTHER),
        (Self::DeletedAtOnce, Bounds { slots: 1, time: 2, ..Bounds::BASE }, OTHER),
        (Self::OldLook, Bounds { slots: 1, time: 5, ..Bounds::BASE }, TWICE),
        (Self::EarlyLook, Bounds { slots: 1, time: 5, ..Bounds::BASE }, OTHER),
        (Self::LevelsFirst, Bounds { slots: 1, atomic_look: false, ..Bounds::BASE }, TWICE),
        (Self::OneClock, Bounds { slots: 1, time: 5, sleeps_from: Some(0), ..Bounds::BASE }, TWICE),
    ];
}

/// How large the searched world is. Everything outside it is not decided by the search.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) instances: u8,
    /// How many writes each makes, over all of its lives.
    pub(crate) writes: u8,
    /// The longest chain.
    pub(crate) slots: u8,
    /// The greatest claim.
    pub(crate) epochs: u8,
    /// The last tick.
    pub(crate) time: u8,
    pub(crate) crashes: u8,
    /// Answers, or requests, that are lost.
    pub(crate) losses: u8,
    /// From this tick on the first instance's own clock stands still, until faults stop.
    pub(crate) sleeps_from: Option<u8>,
    /// The three requests of a look are one.
    pub(crate) atomic_look: bool,
    /// The reuse horizon, in ticks; a slot's least age is three of them.
    pub(crate) horizon: u8,
    /// How long a claim has to open, and a newcomer waits for closing records, in ticks.
    pub(crate) hand_over: u8,
}

impl Bounds {
    pub(crate) const BASE: Self = Self {
        instances: 2,
        writes: 1,
        slots: 2,
        epochs: 2,
        time: 4,
        crashes: 0,
        losses: 0,
        sleeps_from: None,
        atomic_look: true,
        horizon: 1,
        hand_over: 1,
    };
}
