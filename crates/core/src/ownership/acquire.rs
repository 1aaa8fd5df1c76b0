//! A newcomer's side: claim, wait for those before it, catch up, prove, open.

use super::{Epochs, Look, Moment, NextEpoch, Times, next_epoch};
use core::time::Duration;
use litekeep_formats::{Epoch, Txid};

/// How often the records are read while a closing record is waited for.
const POLL: Duration = Duration::from_millis(100);

/// How often a claim is looked at that has its tenure yet: its owner may leave before that is over.
const LOOK: Duration = Duration::from_secs(2);

/// How often a claim that has had its tenure is looked at, at most, in the time that it is given to open.
const MOST_LOOKS: u32 = 50;

/// What a newcomer does next; what came of it goes to [`Acquire::hear`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Do {
    /// List the epoch records, and read the closing ones that matter.
    ListEpochs,
    /// Nothing, for so long; then ask again.
    Wait(Duration),
    /// Create this epoch's claim, twice.
    Claim(Epoch),
    /// Follow the chain to its end.
    CatchUp,
    /// Look whether this name is the chain's next.
    Prove(Txid),
    /// Create this slot, without pages, in our epoch.
    Fence(Epoch, Txid),
    /// The epoch is ours: write. The proof is dated.
    Own(Epoch, Moment),
    /// Somebody else has claimed above us. Our claim is given up; one that never opened closes with the TXID reached.
    GiveUp {
        /// Ours, if we had made a claim.
        ours: Option<Epoch>,
        /// Theirs, where it is known.
        theirs: Option<Epoch>,
    },
    /// A record lies absurdly far above every seal.
    Damaged(Epoch),
    /// A closing record speaks of a transaction that the bucket does not hold.
    Lost {
        /// The record's epoch.
        epoch: Epoch,
        /// What it says was last.
        closed: u64,
        /// What there is.
        tip: u64,
    },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Heard {
    /// The records, as listed.
    Epochs(Epochs),
    /// Whether the claim was created by us.
    Claimed(bool),
    /// The end of the chain that we stand at, and the epoch of its last slot.
    CaughtUp {
        /// `None`: the bucket holds nothing.
        tip: Option<Txid>,
        /// `None`: without a seal.
        epoch: Option<Epoch>,
    },
    /// The look at a name.
    Looked(Look),
    /// The fence: created by us (also when that was found out by reading it back), or somebody else's slot.
    Fenced(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    /// Not claimed yet; the time of the next look at the records.
    Claiming(Duration),
    /// Creating this claim.
    Creating(Epoch),
    /// Claimed; the time of the next look at the records.
    Waiting(Duration),
    /// All below have closed, or their time is over: prove that we stand at the end.
    Proving { fence: bool },
    /// The proof stands: create the fence.
    Fencing { proof: Moment },
    /// The fence was created when the proof had become too old: only a look that does not cover it makes it count.
    Late,
    /// Over, one way or the other.
    Done(Do),
}

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Acquire {
    times: Times,
    stage: Stage,
    epoch: Option<Epoch>,
    /// When those before us must have closed (since boot).
    deadline: Duration,
    /// The newest claim that had not closed, and when we saw it first (since boot).
    seen: Option<(Epoch, Duration)>,
    /// The end of the chain that we stand at; `None` until heard, and whenever it is known to have moved.
    tip: Option<Option<Txid>>,
    /// The greatest TXID that a closing record speaks of, with its epoch.
    closed: Option<(u64, Epoch)>,
    /// The name whose proof failed last.
    failed: Option<Txid>,
    /// When that must be in the bucket (since boot).
    closed_by: Duration,
}

impl Acquire {
    /// A newcomer that has not claimed. `now` is this machine's time since boot.
    pub fn new(times: Times, now: Duration) -> Self {
        Self {
            times,
            stage: Stage::Claiming(now),
            epoch: None,
            deadline: Duration::MAX,
            seen: None,
            tip: None,
            closed: None,
            closed_by: Duration::MAX,
            failed: None,
        }
    }

    /// The claim, once it is made.
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// While [`Do::Fence`] is to be done: when the question was sent that proved the end of the chain. Who has a slot of his
    /// own to create there needs no other fence.
    pub fn proof(&self) -> Option<Moment> {
        match self.stage {
            Stage::Fencing { proof } => Some(proof),
            _ => None,
        }
    }

    /// Whether a fence of ours may stand that is not counted: what was reached is not known then, and nothing is closed.
    pub fn is_fencing(&self) -> bool {
        matches!(self.stage, Stage::Fencing { .. } | Stage::Late)
    }

    /// Says where the newcomer stands without being asked.
    pub fn stands_at(&mut self, tip: Option<Txid>) {
        self.tip = Some(tip);
    }

    /// What to do now.
    pub fn next(&self, now: &Moment) -> Do {
        let until = |at: Duration| at.checked_sub(now.boot).filter(|wait| !wait.is_zero());
        match self.stage {
            Stage::Done(done) => done,
            _ if self.tip.is_none() => Do::CatchUp,
            Stage::Claiming(at) | Stage::Waiting(at) => until(at).map_or(Do::ListEpochs, Do::Wait),
            Stage::Creating(epoch) => Do::Claim(epoch),
            Stage::Proving { .. } | Stage::Late => Do::Prove(self.next_name()),
            Stage::Fencing { .. } => Do::Fence(self.ours(), self.next_name()),
        }
    }

    /// What came of the last thing that was to be done; its question was sent at `sent`.
    pub fn hear(&mut self, heard: Heard, sent: Moment, now: &Moment) {
        match heard {
            Heard::CaughtUp { tip, epoch } => self.caught_up(tip, epoch),
            Heard::Epochs(epochs) => self.listed(&epochs, now),
            Heard::Claimed(created) => self.claimed(created, now),
            Heard::Looked(look) => self.looked(&look, sent, now),
            Heard::Fenced(ours) => self.fenced(ours, sent, now),
        }
    }

    fn ours(&self) -> Epoch {
        self.epoch.expect("BUG: only who has claimed gets here")
    }

    fn next_name(&self) -> Txid {
        self.tip.flatten().map_or(Txid::FIRST, Txid::next)
    }

    fn give_up(&mut self, theirs: Option<Epoch>) {
        self.stage = Stage::Done(Do::GiveUp { ours: self.epoch, theirs });
    }

    fn caught_up(&mut self, tip: Option<Txid>, epoch: Option<Epoch>) {
        self.tip = Some(tip);
        if let (Some(ours), Some(theirs)) = (self.epoch, epoch)
            && theirs > ours
        {
            self.give_up(Some(theirs));
        }
    }

    fn listed(&mut self, epochs: &Epochs, now: &Moment) {
        match (self.stage, self.epoch) {
            (Stage::Claiming(_), _) => self.before_claim(epochs, now),
            (Stage::Waiting(_), Some(ours)) => self.after_claim(ours, epochs, now),
            _ => {}
        }
    }

    /// A claim is made once the newest one has had its tenure: by the store's clock, or since we saw it, which is less than
    /// its age whatever that clock says or was set to.
    fn before_claim(&mut self, epochs: &Epochs, now: &Moment) {
        // Whoever closed has left by himself, or for the claim above his.
        let newest = epochs.records.last().filter(|record| !record.gone && record.closed.is_none());
        if let Some((record, at)) = newest.and_then(|record| Some((record, record.at?))) {
            let first = self.seen.filter(|(seen, _)| *seen == record.epoch).map_or(now.boot, |(_, at)| at);
            self.seen = Some((record.epoch, first));
            let age = Moment { boot: first, store: Some(at) }.age(now);
            if let Some(pause) = self.not_yet(record.opened, age) {
                self.stage = Stage::Claiming(now.boot + pause);
                return;
            }
        }
        self.seen = None;
        self.stage = match next_epoch(&epochs.facts()) {
            NextEpoch::Claim(epoch) => Stage::Creating(epoch),
            NextEpoch::Damaged(epoch) => Stage::Done(Do::Damaged(epoch)),
        };
    }

    /// When to look again at a claim of this age before another may be made.
    fn not_yet(&self, opened: bool, age: Duration) -> Option<Duration> {
        let left = |until: Duration| until.checked_sub(age).filter(|left| !left.is_zero());
        if let Some(left) = left(self.times.tenure) {
            return Some(left.min(LOOK));
        }
        // Who has not opened yet may be waiting for closing records; were he overtaken then, everybody would be. But he may
        // open at any moment, and his tenure is over: the loser of a hand-over begins to look just before the winner opens.
        let left = left(self.times.tenure + self.times.hand_over).filter(|_| !opened)?;
        Some(left.min(POLL.max(self.times.hand_over / MOST_LOOKS)))
    }

    fn claimed(&mut self, created: bool, now: &Moment) {
        let Stage::Creating(epoch) = self.stage else { return };
        if !created {
            // Somebody was faster: their claim has its tenure first.
            self.stage = Stage::Claiming(now.boot + POLL);
            return;
        }
        self.epoch = Some(epoch);
        self.deadline = now.boot + self.times.hand_over;
        self.stage = Stage::Waiting(now.boot);
    }

    fn after_claim(&mut self, ours: Epoch, epochs: &Epochs, now: &Moment) {
        let above =
            epochs.records.last().map(|record| record.epoch).max(epochs.sealed).filter(|it| *it > ours);
        if above.is_some() {
            return self.give_up(above);
        }
        let late = now.boot >= self.deadline;
        let (mut open, mut gone, before) = (false, false, self.closed);
        for record in epochs.unfinished(ours) {
            match record.closed {
                Some(txid) => self.closed = self.closed.max(Some((txid, record.epoch))),
                None if record.gone => gone = true,
                None => open = true,
            }
        }
        let news = self.closed != before;
        if news {
            self.closed_by = now.boot + self.times.hand_over;
        }
        let tip = self.tip.flatten().map_or(0, Txid::get);
        match self.closed {
            // We stood there before we read the record, or what it speaks of is there in a moment: it is written last.
            Some((closed, _)) if closed > tip && (news || now.boot < self.closed_by) => {
                let pause = if news { Duration::ZERO } else { POLL };
                self.wait(now.boot + pause);
            }
            Some((closed, epoch)) if closed > tip => {
                self.stage = Stage::Done(Do::Lost { epoch, closed, tip })
            }
            _ if open && !late => self.wait(now.boot + POLL),
            _ => self.stage = Stage::Proving { fence: open || gone },
        }
    }

    /// Looks again then, and whether the chain has gone on before that.
    fn wait(&mut self, until: Duration) {
        self.stage = Stage::Waiting(until);
        self.tip = None;
    }

    fn looked(&mut self, look: &Look, sent: Moment, now: &Moment) {
        if look.higher.is_some() {
            return self.give_up(look.higher);
        }
        match self.stage {
            Stage::Proving { fence } if look.proves(self.next_name(), false) => {
                // An empty chain has nothing that a slot without pages could stand on: its first slot is the fence.
                if fence && self.tip.flatten().is_some() {
                    self.stage = Stage::Fencing { proof: sent };
                } else {
                    self.stage = Stage::Done(Do::Own(self.ours(), sent));
                }
            }
            // The chain went on.
            // Once at once; the same name again only after a pause: what stands there cannot be followed yet.
            Stage::Proving { .. } if self.failed != Some(self.next_name()) => {
                self.failed = Some(self.next_name());
                self.tip = None;
            }
            Stage::Proving { .. } => self.wait(now.boot + POLL),
            Stage::Late if look.proves(self.next_name(), true) => {
                self.stage = Stage::Done(Do::Own(self.ours(), sent));
            }
            // It stands in a name that was used before.
            Stage::Late => self.give_up(None),
            _ => {}
        }
    }

    fn fenced(&mut self, ours: bool, sent: Moment, now: &Moment) {
        let Stage::Fencing { proof } = self.stage else { return };
        if !ours {
            // A late write stands there: it is part of the chain.
            self.stage = Stage::Proving { fence: true };
            self.tip = None;
        } else if proof.age(now) < self.times.horizon {
            self.stage = Stage::Done(Do::Own(self.ours(), sent));
        } else {
            self.stage = Stage::Late;
        }
    }
}

#[cfg(test)]
mod tests;
