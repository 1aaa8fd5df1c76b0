//! What an owner asks the store beside its puts: is there a claim above ours, do we still stand at the chain's end.

use super::{Phase, Replicator, Report, Stopping};
use crate::error::{KeepError, KeepErrorKind};
use crate::ownership;
use litekeep_core::limits;
use litekeep_core::ownership::{Alone, Counted, Look, Moment};
use litekeep_formats::{Epoch, TimestampMs, Txid};
use std::sync::Arc;
use std::time::Duration;

/// A look for a proof.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    n: Txid,
    /// Slot `n` was known to be there, and ours, before the question was sent: what it finds there may be somebody else's
    /// otherwise, from before that name was freed.
    mine: bool,
    sent: Moment,
}

/// Questions under way.
#[derive(Debug, Default)]
pub(super) struct Looking {
    /// For a claim above ours: whether one is asked for, and when the last was (since boot, and by the wall clock).
    asking: bool,
    asked: Option<(Duration, TimestampMs)>,
    /// Somebody waits for one that is sent from now on.
    wanted: bool,
    /// When the last one was sent (since boot) that was answered, or could not be; and whether it was.
    told: Option<(Duration, bool)>,
    /// For a proof.
    proving: bool,
    prove_not_before: Duration,
    failures: u32,
    /// The slot that is there, is ours, and waits for a proof to count.
    unproven: Option<Txid>,
    /// When the oldest slot was sent for the first time.
    first_sent: Option<(Txid, Moment)>,
}

impl Replicator {
    /// The claim above ours, once it was seen.
    pub(crate) fn successor(&self) -> Option<Epoch> {
        self.term.tenancy.and_then(|tenancy| tenancy.successor())
    }

    /// The oldest slot is about to be sent: looks go along with it.
    pub(super) fn sending(&mut self, txid: Txid) {
        let now = self.moment();
        let looking = &mut self.term.looking;
        if looking.first_sent.is_none_or(|(known, _)| known != txid) {
            looking.first_sent = Some((txid, now));
        }
        if looking.asked.is_none_or(|(asked, _)| now.boot.saturating_sub(asked) >= limits::LOOK_PAUSE) {
            self.ask_for_claims(now.boot);
        }
        if self.term.tenancy.is_some_and(|tenancy| tenancy.wants_proof(&now)) {
            self.prove(txid, now);
        }
    }

    /// What was asked about the oldest slot is nobody's question any more.
    pub(super) fn forget_questions(&mut self) {
        (self.term.looking.unproven, self.term.looking.first_sent) = (None, None);
    }

    /// What is due without a put; returns when the next thing is.
    pub(super) fn look_round(&mut self) -> Duration {
        let now = self.moment();
        let opening = self.open_round(now.boot);
        opening.min(self.claims_round(now))
    }

    fn claims_round(&mut self, now: Moment) -> Duration {
        if self.term.tenancy.is_none() {
            return Duration::MAX;
        }
        if let Some(txid) = self.term.looking.unproven {
            let due = self.term.looking.prove_not_before;
            if now.boot < due {
                return due - now.boot;
            }
            self.prove(txid, now);
        }
        let Some(every) = self.settings.look_every else { return Duration::MAX };
        let every = if self.term.looking.wanted { every.min(limits::LOOK_PAUSE) } else { every };
        let due = self.term.looking.asked.map_or(Duration::ZERO, |(asked, _)| asked + every);
        if now.boot >= due {
            self.ask_for_claims(now.boot);
            return every;
        }
        due - now.boot
    }

    /// Somebody needs to know whether anybody else may have written: a look for a claim is sent soon.
    pub(crate) fn want_look(&mut self) {
        self.term.looking.wanted = true;
    }

    /// What came of the last look for a claim that was sent at `since` or later: `true` if it found none, `false` if the
    /// store did not answer. `None` as long as there is no such look, or no fence yet, and for good when a look finds a claim.
    pub(crate) fn looked_since(&self, since: Duration) -> Option<bool> {
        let told = self.term.looking.told.filter(|_| !self.term.unfenced);
        told.filter(|(sent, _)| *sent >= since).map(|(_, found_none)| found_none)
    }

    /// A look that was sent then found no claim: nobody else writes for a while, which those who read may know. Not while
    /// the closing record is on its way: others may write from then on; and not before a fence keeps out whoever wrote before.
    fn saw_no_claim(&mut self, boot: Duration, wall: TimestampMs) {
        let closing = matches!(self.stopping, Stopping::Closing(_));
        if self.phase == Phase::Running && !self.term.unfenced && !closing {
            let lasts = (self.env.decisions.alone_for)(self.settings.times.hand_over);
            self.shared.update(|status| status.alone = Alone::Since { boot, wall, lasts });
        }
    }

    fn ask_for_claims(&mut self, now: Duration) {
        let Some(tenancy) = self.term.tenancy else { return };
        if self.term.looking.asking || tenancy.successor().is_some() {
            return;
        }
        (self.term.looking.asking, self.term.looking.asked) = (true, Some((now, self.env.clock.wall())));
        self.term.looking.wanted = false;
        let (store, epoch) = (Arc::clone(&self.env.store), tenancy.epoch());
        self.spawn(
            "look",
            move |reporter| {
                let claim = ownership::higher_claim(&*store, epoch);
                reporter.report(Report::ClaimAbove(claim.map_err(KeepError::from)));
            },
            Report::ClaimAbove(Err(KeepError::JobLost("look"))),
        );
    }

    pub(super) fn claim_above(&mut self, result: Result<Option<Epoch>, KeepError>) -> Result<(), KeepError> {
        self.term.looking.asking = false;
        if let Some((sent, wall)) = self.term.looking.asked {
            match &result {
                Ok(None) => {
                    self.term.looking.told = Some((sent, true));
                    self.saw_no_claim(sent, wall);
                }
                Ok(Some(_)) => {}
                Err(_) => self.term.looking.told = Some((sent, false)),
            }
        }
        match result {
            Ok(None) => Ok(()),
            Ok(Some(epoch)) => self.saw_claim(epoch),
            // Puts meet the same store, and say what is wrong with it.
            Err(error) if error.kind() == KeepErrorKind::Retry => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn saw_claim(&mut self, epoch: Epoch) -> Result<(), KeepError> {
        let Some(tenancy) = self.term.tenancy.as_mut().filter(|_| self.phase == Phase::Running) else {
            return Ok(());
        };
        tenancy.saw_claim(epoch);
        if tenancy.successor().is_none() || self.term.leaving {
            return Ok(());
        }
        self.term.leaving = true;
        tracing::warn!(db = %self.path.display(), theirs = %epoch, "another instance has claimed the replica; handing over");
        if self.settings.look_every.is_none() && self.stopping == Stopping::No {
            // Nobody here can make the application stop: what there is goes up, and then it is over.
            self.stop(self.settings.times.hand_over);
        }
        Ok(())
    }

    fn prove(&mut self, n: Txid, sent: Moment) {
        let Some(tenancy) = self.term.tenancy.filter(|_| !self.term.looking.proving) else { return };
        self.term.looking.proving = true;
        let (store, epoch) = (Arc::clone(&self.env.store), tenancy.epoch());
        let mine = self.term.looking.unproven == Some(n);
        let asked = Asked { n, mine, sent };
        self.spawn(
            "prove",
            move |reporter| {
                let look = ownership::look(&*store, epoch, n);
                reporter.report(Report::Proved(asked, look.map_err(KeepError::from)));
            },
            Report::Proved(asked, Err(KeepError::JobLost("prove"))),
        );
    }

    pub(super) fn proved(&mut self, asked: Asked, result: Result<Look, KeepError>) -> Result<(), KeepError> {
        let Asked { n, mine, sent } = asked;
        let moment = self.moment();
        let now = moment.boot;
        self.term.looking.proving = false;
        let oldest = self.staged.front().map(|slot| slot.built.txid);
        let waits = self.term.looking.unproven == Some(n) && oldest == Some(n);
        let look = match result {
            Ok(look) => look,
            Err(error) => {
                self.term.looking.failures = self.term.looking.failures.saturating_add(1);
                self.term.looking.prove_not_before = now + self.backoff(self.term.looking.failures);
                return if waits { Err(error) } else { Ok(()) };
            }
        };
        self.term.looking.failures = 0;
        let Some(tenancy) = &mut self.term.tenancy else { return Ok(()) };
        let proves = tenancy.proved(&look, n, mine, sent, &moment);
        let lost = waits && !proves && tenancy.is_lost(&look, n);
        if let Some(higher) = look.higher {
            self.saw_claim(higher)?;
        }
        match (waits, proves) {
            (true, true) => {
                self.term.looking.unproven = None;
                self.slot_is_up(n)
            }
            (true, false) if lost => Err(self.superseded(look.higher)),
            (true, false) => {
                // A look that was on its way before the slot was known to be ours says nothing of it.
                let pause = if mine { self.backoff(0) } else { Duration::ZERO };
                self.term.looking.prove_not_before = now + pause;
                Ok(())
            }
            (false, _) => Ok(()),
        }
    }

    /// Slot `txid` is in the replica and ours. Whether that counts depends on how fresh the last proof is.
    pub(super) fn slot_is_ours(&mut self, txid: Txid) -> Result<(), KeepError> {
        let now = self.moment();
        // Kept until the slot counts: a put that is repeated says nothing of the time after the first one.
        let sent = self.term.looking.first_sent.filter(|(known, _)| *known == txid);
        let counted = match &mut self.term.tenancy {
            Some(tenancy) => tenancy.created(sent.map_or(now, |(_, sent)| sent), &now),
            None => Counted::Yes,
        };
        match counted {
            Counted::Yes => self.slot_is_up(txid),
            Counted::Unproven => {
                tracing::debug!(db = %self.path.display(), %txid, "the last look at the chain's end is too old; looking again");
                self.term.looking.unproven = Some(txid);
                self.term.looking.prove_not_before = now.boot;
                Ok(())
            }
        }
    }
}
