//! An owner's side: which creates count, and when to leave.

use super::{Look, Moment, Times};
use core::time::Duration;
use litekeep_formats::{Epoch, Txid};

/// Whether an answered create counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counted {
    /// The slot is the chain's next, and durable.
    Yes,
    /// The last proof is too old for that: look again, and tell [`Tenancy::proved`].
    Unproven,
}

/// An epoch that is owned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tenancy {
    times: Times,
    epoch: Epoch,
    /// When the question was sent that proved last that we are at the chain's end.
    proof: Moment,
    /// A claim above ours that was seen.
    successor: Option<Epoch>,
    /// When a slot was found to be there and ours, and did not count (since boot).
    uncounted: Option<Duration>,
}

impl Tenancy {
    /// An epoch that was opened with a proof whose question was sent at `proof`.
    pub fn new(times: Times, epoch: Epoch, proof: Moment) -> Self {
        Self { times, epoch, proof, successor: None, uncounted: None }
    }

    /// Its number.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The claim above ours, once it was seen: take no new writes, put what there is, close.
    pub fn successor(&self) -> Option<Epoch> {
        self.successor
    }

    /// Whether it is time to send a look along with the next put, so that its answer finds a fresh proof.
    pub fn wants_proof(&self, now: &Moment) -> bool {
        self.successor.is_none() && self.proof.age(now) >= self.times.horizon / 2
    }

    /// A claim above ours was seen.
    pub fn saw_claim(&mut self, epoch: Epoch) {
        if epoch > self.epoch {
            self.successor = self.successor.max(Some(epoch));
        }
    }

    /// A create whose question was sent at `sent` is answered now: the slot is there and ours. It is judged by the proof
    /// that came before it, at this moment and not when it was sent: the network may have held it back.
    pub fn created(&mut self, sent: Moment, now: &Moment) -> Counted {
        if self.proof.age(now) >= self.times.horizon {
            self.uncounted = Some(now.boot);
            return Counted::Unproven;
        }
        // A create that counts says itself that the name was the chain's next.
        self.prove(sent);
        Counted::Yes
    }

    /// The answer to a look about slot `n` arrives now, whose question was sent at `sent`; `mine` if `n` is there and known
    /// to be ours. Returns whether it proves that we are at the chain's end, and with it whether an uncounted slot `n`
    /// counts. One that does not prove loses nothing yet: whatever waits for it stays uncounted, look again.
    pub fn proved(&mut self, look: &Look, n: Txid, mine: bool, sent: Moment, now: &Moment) -> bool {
        if let Some(higher) = look.higher {
            self.saw_claim(higher);
        }
        // A look from before we knew may have seen another's slot in this name, and ours be there because that was deleted.
        let mine = mine && self.uncounted.is_none_or(|since| sent.boot > since);
        // And an answer that took too long says nothing of what was deleted meanwhile.
        let proves = look.proves(n, mine) && sent.age(now) < self.times.horizon;
        if proves {
            self.prove(sent);
            self.uncounted = None;
        }
        proves
    }

    fn prove(&mut self, sent: Moment) {
        if (sent.boot, sent.store) > (self.proof.boot, self.proof.store) {
            self.proof = sent;
        }
    }

    /// Whether a slot that is there, is ours and was not counted can never be: somebody else has claimed, or the name
    /// was used before.
    pub fn is_lost(&self, look: &Look, n: Txid) -> bool {
        self.successor.is_some() || look.covered.is_some_and(|covered| covered >= n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use litekeep_formats::TimestampMs;

    fn at(seconds: u64) -> Moment {
        let store = i64::try_from(seconds).expect("small") * 1000;
        Moment { boot: Duration::from_secs(seconds), store: Some(TimestampMs(store)) }
    }

    fn tenancy() -> Tenancy {
        Tenancy::new(Times::USUAL, Epoch::FIRST, at(100))
    }

    #[test]
    fn a_create_counts_by_the_age_of_the_proof_when_its_answer_arrives() {
        for (name, sent, answered, counted) in [
            ("at once", at(101), at(102), Counted::Yes),
            ("just inside", at(101), at(159), Counted::Yes),
            ("the network held it", at(101), at(160), Counted::Unproven),
            (
                "the machine slept, and only the store's clock tells",
                at(101),
                Moment { store: at(161).store, ..at(103) },
                Counted::Unproven,
            ),
        ] {
            assert_eq!(tenancy().created(sent, &answered), counted, "{name}");
        }
    }

    #[test]
    fn a_proof_is_dated_by_its_question() {
        let mut tenancy = tenancy();
        assert!(tenancy.proved(&Look::default(), Txid::FIRST, false, at(130), &at(131)));
        assert_eq!(tenancy.created(at(185), &at(189)), Counted::Yes);
        assert_eq!(
            tenancy.created(at(190), &at(244)),
            Counted::Yes,
            "the create before it is a proof, dated 185"
        );
        assert_eq!(tenancy.created(at(245), &at(250)), Counted::Unproven, "dated 190, asked at 250");
        assert!(tenancy.wants_proof(&at(250)));
    }

    #[test]
    fn a_claim_above_ends_proofs_but_not_what_is_proved() {
        let mut tenancy = tenancy();
        tenancy.saw_claim(Epoch::FIRST);
        assert_eq!(tenancy.successor(), None, "our own");
        let look = Look { higher: Some(Epoch::FIRST.next()), ..Look::default() };
        assert!(!tenancy.proved(&look, Txid::FIRST, true, at(150), &at(151)));
        assert_eq!(tenancy.successor(), Some(Epoch::FIRST.next()));
        assert_eq!(tenancy.created(at(151), &at(152)), Counted::Yes, "the tail still goes up");
        assert!(tenancy.is_lost(&look, Txid::FIRST));
    }

    #[test]
    fn an_uncounted_slot_counts_by_a_look_that_was_sent_after_and_answered_in_time() {
        let (free, taken) = (Look::default(), Look { taken: true, ..Look::default() });
        let covered = Look { covered: Some(Txid::FIRST), ..taken };
        let higher = Look { higher: Some(Epoch::FIRST.next()), ..taken };
        for (name, look, sent, answered, proves) in [
            ("sent after", taken, at(201), at(202), true),
            ("just inside the horizon", taken, at(201), at(260), true),
            ("answered too late", taken, at(201), at(261), false),
            ("sent along with the create: it may have seen another's", taken, at(190), at(202), false),
            ("sent along with the create, and nobody was there", free, at(190), at(202), true),
            ("that too is answered too late", free, at(190), at(250), false),
            ("the name was used before", covered, at(201), at(202), false),
            ("somebody claims", higher, at(201), at(202), false),
        ] {
            let mut tenancy = tenancy();
            assert_eq!(tenancy.created(at(190), &at(200)), Counted::Unproven, "{name}");
            assert_eq!(tenancy.proved(&look, Txid::FIRST, true, sent, &answered), proves, "{name}");
            let next = if proves { Counted::Yes } else { Counted::Unproven };
            assert_eq!(tenancy.created(answered, &answered), next, "{name}, and the next create");
        }
    }
}
