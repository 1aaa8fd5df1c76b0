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
    /// A look lists the higher levels before it asks for the name.
    LevelsFirst,
    /// Ages are by this machine's clock alone.
    OneClock,
}

impl Wrong {
    pub(crate) const ALL: [Self; 11] = [
        Self::AckBeforeCreate,
        Self::RefusedIsMine,
        Self::KeepLowerClaim,
        Self::NoLook,
        Self::NoHorizon,
        Self::JudgedWhenSent,
        Self::DatedByAnswer,
        Self::DeletedAtOnce,
        Self::OldLook,
        Self::LevelsFirst,
        Self::OneClock,
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
    /// Ticks in which the first instance's own clock stands still.
    pub(crate) sleeps: u8,
    /// The three requests of a look are one.
    pub(crate) atomic_look: bool,
    /// The reuse horizon, in ticks; a slot's least age is three of them.
    pub(crate) horizon: u8,
}

impl Bounds {
    pub(crate) const SMALL: Self = Self {
        instances: 2,
        writes: 1,
        slots: 3,
        epochs: 2,
        time: 6,
        crashes: 0,
        losses: 0,
        sleeps: 0,
        atomic_look: true,
        horizon: 1,
    };
}
