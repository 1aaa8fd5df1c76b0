//! May the engine go on from where it was in this WAL? Facts and a position in, a verdict out.
//!
//! This is the most valuable decision of the whole engine: a wrong "yes" is a commit that never reaches the bucket.
//! It knows nothing of files or SQLite; `litekeep::sqlite` gathers the facts.

use core::fmt;
use litekeep_formats::{PageSize, Salts, WalChecksum};

/// How far the WAL has been captured: always at a commit frame, or before the first frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The database's page size when this was recorded.
    pub page_size: PageSize,
    /// The life of the WAL; [`Position::UNBORN`] where that life had no frame yet.
    pub salts: Salts,
    /// The last captured frame, 1-based; 0 before the first.
    pub frame: u32,
    /// The running checksum stored in that frame (or in the WAL header for frame 0).
    pub checksum: WalChecksum,
}

impl Position {
    /// Salts of a WAL without frames. The salts that its index shows are *not* those its first frame will carry, so
    /// nothing may be concluded from them; no real WAL is expected to carry a pair of zeros, and if one does the
    /// first frame's checksum chain still decides.
    pub const UNBORN: Salts = Salts(0, 0);

    /// A position before the first frame of whatever WAL comes next.
    pub const fn before_any_frame(page_size: PageSize) -> Self {
        Self { page_size, salts: Self::UNBORN, frame: 0, checksum: WalChecksum(0, 0) }
    }

    /// The position right behind a state that was read as a whole.
    pub const fn behind(facts: &Facts) -> Self {
        if facts.mx_frame == 0 {
            return Self::before_any_frame(facts.page_size);
        }
        Self {
            page_size: facts.page_size,
            salts: facts.salts,
            frame: facts.mx_frame,
            checksum: facts.checksum,
        }
    }
}

/// What the WAL index says, read in one consistent piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The page size; from the database header where an empty WAL's index says nothing.
    pub page_size: PageSize,
    /// Frames that are committed and visible.
    pub mx_frame: u32,
    /// The database's size in pages after them.
    pub pages: u32,
    /// Frames already copied back into the database file.
    pub backfilled: u32,
    /// The running checksum of frame `mx_frame`.
    pub checksum: WalChecksum,
    /// The life of the WAL.
    pub salts: Salts,
    /// Counts commits since the index was made; two equal readings around another reading bracket it.
    pub change: u32,
}

impl Facts {
    /// Whether everything committed is in the database file too, so that the next writer may restart the WAL unless
    /// a reader on a numbered read mark forbids it.
    pub const fn all_backfilled(&self) -> bool {
        self.backfilled >= self.mx_frame
    }
}

/// The next thing to do while our protection of the WAL has never lapsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advance {
    /// Nothing new is committed.
    Nothing,
    /// Frames `from..=to` of the same life are new.
    Append {
        /// First new frame.
        from: u32,
        /// Last visible frame.
        to: u32,
    },
    /// The WAL began a new life; frames `1..=to` are new.
    Restarted {
        /// Last visible frame.
        to: u32,
    },
    /// The chain is broken: what is missing must be found by comparing pages.
    Break(BreakReason),
}

/// After a time without protection (a start): may the position be trusted?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Our last frame is still in its place: go on from it.
    Intact,
    /// See [`Advance::Break`].
    Break(BreakReason),
}

/// Why a chain is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakReason {
    /// There is no position to go on from.
    NoPosition,
    /// The page size is another one.
    PageSize,
    /// The WAL has another life: it was restarted, truncated or deleted while nobody watched.
    OtherLife,
    /// Fewer frames are visible than were captured: a phantom was overwritten, or a crash cut the tail.
    Shorter,
    /// Our last frame is no longer the one we captured.
    FrameChanged,
    /// Frames that the index calls committed do not verify.
    BadFrames,
    /// Captured frames were written over while they were copied into the tail.
    WrittenOver,
    /// The database file is another file.
    FileReplaced,
    /// What SQLite keeps beside the database, the WAL or its index, is another file.
    WalReplaced,
    /// Staged changes were let go, for want of disk space or of an answer from the store.
    LetGo,
    /// A transaction needs a larger slot than one put carries.
    TooLarge,
}

impl fmt::Display for BreakReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPosition => "no position is known",
            Self::PageSize => "the page size changed",
            Self::OtherLife => "the WAL was restarted, truncated or deleted while it was not watched",
            Self::Shorter => "the WAL holds less than was captured from it",
            Self::FrameChanged => "the last captured frame was overwritten",
            Self::BadFrames => "committed frames do not verify",
            Self::WrittenOver => "captured frames were written over before they were copied",
            Self::FileReplaced => "the database file was replaced",
            Self::WalReplaced => "the -wal or the -shm was removed or replaced",
            Self::TooLarge => "a transaction is too large for one put",
            Self::LetGo => "staged changes were let go for want of space",
        })
    }
}

/// Decides what is new while the WAL was protected without a gap since `position` was recorded.
///
/// Salts that differ are a new life only here: protection makes sure that the old one was captured to its end. The
/// index may show new salts before the new life has a frame; then there is nothing to do yet.
pub fn advance(facts: &Facts, position: &Position) -> Advance {
    if facts.page_size != position.page_size {
        return Advance::Break(BreakReason::PageSize);
    }
    if facts.mx_frame == 0 {
        return Advance::Nothing;
    }
    if facts.salts != position.salts || position.salts == Position::UNBORN {
        return Advance::Restarted { to: facts.mx_frame };
    }
    match facts.mx_frame.cmp(&position.frame) {
        core::cmp::Ordering::Less => Advance::Break(BreakReason::Shorter),
        core::cmp::Ordering::Equal if facts.checksum != position.checksum => {
            Advance::Break(BreakReason::FrameChanged)
        }
        core::cmp::Ordering::Equal => Advance::Nothing,
        core::cmp::Ordering::Greater => Advance::Append { from: position.frame + 1, to: facts.mx_frame },
    }
}

/// What stands in the WAL at a recorded position now: that frame's salts and stored checksum.
pub type FrameAt = Option<(Salts, WalChecksum)>;

/// Decides after a gap in protection. Intact means: same page size and life, at least as many frames as were
/// captured, and our last frame unchanged. "Salts one higher" proves nothing, and a WAL without frames may have lost
/// any number of them.
pub fn resume(facts: &Facts, at_position: FrameAt, position: &Position) -> Resume {
    if facts.page_size != position.page_size {
        return Resume::Break(BreakReason::PageSize);
    }
    if position.frame == 0 || facts.mx_frame == 0 || facts.salts != position.salts {
        return Resume::Break(BreakReason::OtherLife);
    }
    if facts.mx_frame < position.frame {
        return Resume::Break(BreakReason::Shorter);
    }
    if at_position != Some((position.salts, position.checksum)) {
        return Resume::Break(BreakReason::FrameChanged);
    }
    Resume::Intact
}

/// How far ahead of a recorded salt another one may lie and still be of a later life of the same WAL: each life adds one.
const LIVES: u32 = 1 << 16;

/// Whether captured frames are gone from the database, asked where the power may have gone since: the WAL lacks them, and
/// they were not back-filled either. A WAL of a later life had its frames back-filled and synced before it began; a position
/// before any frame speaks of none.
pub fn fell_back(facts: &Facts, at_position: FrameAt, position: &Position) -> bool {
    if position.frame == 0 || facts.page_size != position.page_size {
        return false;
    }
    let lives = facts.salts.0.wrapping_sub(position.salts.0);
    match resume(facts, at_position, position) {
        Resume::Intact => false,
        Resume::Break(BreakReason::OtherLife) => facts.mx_frame == 0 || !(1..=LIVES).contains(&lives),
        Resume::Break(_) => true,
    }
}

/// Whether frames up to `facts.mx_frame` may still be read from the WAL after the *older* read transaction ends,
/// with `facts` read after the newer one began. As long as something is not back-filled, no writer can restart the
/// WAL under the newer one: on a numbered read mark it never can, and on mark 0 nobody can back-fill the rest.
pub fn survives_release(facts: &Facts, position: &Position) -> bool {
    facts.mx_frame > 0
        && !facts.all_backfilled()
        && facts.salts == position.salts
        && facts.mx_frame >= position.frame
}

/// Whether the WAL as it is now holds everything that was committed after `before`, when protection ended with all that
/// stood there taken; `commits` are those of the present life, `None` where they could not be counted.
///
/// Each commit counts the index's changes on by one; a checkpoint and the beginning of a new life do not. So a life that
/// holds as many commits as were made holds each of them, and every life between was empty.
///
/// Recovery, after a writer was killed within the few instructions that write the index, begins to count from nought. So
/// from nought nothing is concluded, and who has seen the count fall has to pass nought. What is left: a recovery that no
/// look saw, and after it as many commits missed as `before` counts.
pub fn nothing_missed(before: &Facts, now: &Facts, commits: Option<u32>) -> bool {
    if before.change == 0 || now.page_size != before.page_size || now.salts == before.salts {
        return false;
    }
    if now.mx_frame == 0 {
        // Cut to nothing by a checkpoint, which lets the next life's salts follow from those of the last.
        let follows = now.salts.0 == before.salts.0.wrapping_add(1) && now.pages == before.pages;
        return follows && now.change == before.change;
    }
    commits.is_some() && now.change.checked_sub(before.change) == commits
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: PageSize = PageSize::MAX;
    const OURS: Salts = Salts(7, 9);
    const SUM: WalChecksum = WalChecksum(3, 4);

    fn facts(salts: Salts, mx_frame: u32, backfilled: u32) -> Facts {
        Facts { page_size: SIZE, mx_frame, pages: 10, backfilled, checksum: SUM, salts, change: 1 }
    }

    fn at(frame: u32) -> Position {
        Position { page_size: SIZE, salts: OURS, frame, checksum: SUM }
    }

    #[test]
    fn a_file_fell_back_only_where_captured_frames_are_gone() {
        let later = Salts(OURS.0 + 1, 77);
        let rows = [
            ("as it was", facts(OURS, 5, 0), Some((OURS, SUM)), 5, false),
            ("appended", facts(OURS, 9, 0), Some((OURS, SUM)), 5, false),
            ("shorter", facts(OURS, 3, 0), None, 5, true),
            ("other frames in their place", facts(OURS, 9, 0), Some((OURS, WalChecksum(0, 0))), 5, true),
            ("the WAL is gone, or empty", facts(OURS, 0, 0), None, 5, true),
            ("a life before", facts(Salts(OURS.0 - 1, 5), 8, 0), None, 5, true),
            ("the next life: ours was back-filled", facts(later, 2, 0), None, 5, false),
            ("another WAL altogether", facts(Salts(OURS.0 + 1_000_000, 5), 8, 0), None, 5, true),
            ("nothing was captured of this life", facts(OURS, 0, 0), None, 0, false),
        ];
        for (name, facts, frame, position, expected) in rows {
            assert_eq!(fell_back(&facts, frame, &at(position)), expected, "{name}");
        }
    }

    #[test]
    fn protected_progress() {
        let other = Salts(8, 1);
        let rows: [(&str, Facts, Position, Advance); 7] = [
            ("nothing new", facts(OURS, 5, 0), at(5), Advance::Nothing),
            ("two more frames", facts(OURS, 7, 0), at(5), Advance::Append { from: 6, to: 7 }),
            ("R04: a restart with as many frames", facts(other, 5, 0), at(5), Advance::Restarted { to: 5 }),
            ("new salts, no frame yet", facts(other, 0, 0), at(5), Advance::Nothing),
            (
                "frames vanished under protection",
                facts(OURS, 4, 0),
                at(5),
                Advance::Break(BreakReason::Shorter),
            ),
            (
                "the first frame after an empty WAL, whatever its salts",
                facts(other, 1, 0),
                Position::before_any_frame(SIZE),
                Advance::Restarted { to: 1 },
            ),
            (
                "another page size",
                Facts { page_size: PageSize::new(512).expect("legal"), ..facts(OURS, 5, 0) },
                at(5),
                Advance::Break(BreakReason::PageSize),
            ),
        ];
        for (name, facts, position, expected) in rows {
            assert_eq!(advance(&facts, &position), expected, "{name}");
        }
        let phantom = Facts { checksum: WalChecksum(0, 1), ..facts(OURS, 5, 0) };
        assert_eq!(advance(&phantom, &at(5)), Advance::Break(BreakReason::FrameChanged));
    }

    #[test]
    fn trust_after_a_gap() {
        let here = Some((OURS, SUM));
        let rows: [(&str, Facts, FrameAt, Position, Resume); 7] = [
            ("R18: the last frame is in place", facts(OURS, 5, 0), here, at(5), Resume::Intact),
            ("more was appended", facts(OURS, 9, 9), here, at(5), Resume::Intact),
            (
                "R01: restarted by a foreign checkpoint",
                facts(Salts(8, 9), 5, 0),
                here,
                at(5),
                Resume::Break(BreakReason::OtherLife),
            ),
            ("truncated", facts(OURS, 0, 0), None, at(5), Resume::Break(BreakReason::OtherLife)),
            ("cut by a crash", facts(OURS, 4, 0), here, at(5), Resume::Break(BreakReason::Shorter)),
            (
                "a phantom was overwritten by a longer commit",
                facts(OURS, 6, 0),
                Some((OURS, WalChecksum(1, 1))),
                at(5),
                Resume::Break(BreakReason::FrameChanged),
            ),
            (
                "nothing of any WAL was captured",
                facts(OURS, 5, 0),
                None,
                Position::before_any_frame(SIZE),
                Resume::Break(BreakReason::OtherLife),
            ),
        ];
        for (name, facts, frame, position, expected) in rows {
            assert_eq!(resume(&facts, frame, &position), expected, "{name}");
        }
    }

    #[test]
    fn a_new_life_holds_everything_only_if_it_holds_as_many_commits_as_were_made() {
        let before = Facts { change: 7, ..facts(OURS, 5, 2) };
        let later = |mx_frame, change| Facts { change, ..facts(Salts(OURS.0 + 1, 3), mx_frame, 0) };
        let rows = [
            ("three commits, and three there", before, later(4, 10), Some(3), true),
            ("one more, at the old life's end", before, later(4, 11), Some(3), false),
            ("more there than were made", before, later(4, 9), Some(3), false),
            ("fewer changes than before", before, later(4, 3), Some(3), false),
            ("not counted", before, later(4, 10), None, false),
            (
                "no new life: a frame of ours was changed",
                before,
                Facts { salts: OURS, ..later(5, 10) },
                Some(3),
                false,
            ),
            ("from nought", Facts { change: 0, ..before }, later(4, 3), Some(3), false),
            ("from nought, and cut to nothing", Facts { change: 0, ..before }, later(0, 0), Some(0), false),
            ("a checkpoint cut it to nothing", before, later(0, 7), Some(0), true),
            ("and a commit came before", before, later(0, 8), Some(0), false),
            (
                "another page size",
                before,
                Facts { page_size: PageSize::new(512).expect("legal"), ..later(4, 10) },
                Some(3),
                false,
            ),
        ];
        for (name, before, now, commits, expected) in rows {
            assert_eq!(nothing_missed(&before, &now, commits), expected, "{name}");
        }
        // A writer that begins with a WAL of no frames draws its salts.
        let drawn = Facts { salts: Salts(99, 99), ..later(4, 10) };
        assert!(nothing_missed(&before, &drawn, Some(3)));
    }

    #[test]
    fn frames_survive_a_release_only_while_something_is_not_backfilled() {
        assert!(survives_release(&facts(OURS, 5, 4), &at(3)));
        assert!(!survives_release(&facts(OURS, 5, 5), &at(3)), "the next writer may restart the WAL");
        assert!(!survives_release(&facts(Salts(1, 1), 5, 4), &at(3)), "it was restarted already");
        assert!(!survives_release(&facts(OURS, 0, 0), &at(0)));
    }
}
