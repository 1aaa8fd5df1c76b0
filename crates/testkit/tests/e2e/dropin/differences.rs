//! What may differ between Litestream 0.3.13 and litekeep in the scenario, and the row of COMPAT.md that says so.

/// Who has a fact that the other lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Theirs,
    Ours,
}

/// One difference.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) side: Side,
    /// The steps in which it shows, one space apart; all of them if empty.
    steps: &'static str,
    /// How the fact begins.
    fact: &'static str,
    /// The first cell of its row.
    pub(super) compat: &'static str,
}

impl Difference {
    pub(super) fn covers(&self, step: &str, fact: &str) -> bool {
        (self.steps.is_empty() || self.steps.split(' ').any(|it| it == step)) && fact.starts_with(self.fact)
    }
}

pub(super) const DIFFERENCES: &[Difference] = &[];
pub(super) const GENERATIONS: &str = "Log lines of generations, snapshots and WAL segments";
pub(super) const LINES_OF_GENERATIONS: &[&str] = &[];
