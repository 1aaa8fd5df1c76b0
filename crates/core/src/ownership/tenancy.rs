//! An owner's side: which creates count, and when to leave.

use super::{Look, Moment, Times};
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
}

impl Tenancy {
    /// An epoch that was opened with a proof whose question was sent at `proof`.
    pub fn new(times: Times, epoch: Epoch, proof: Moment) -> Self {
        Self { times, epoch, proof, successor: None }
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
            return Counted::Unproven;
        }
        // A create that counts says itself that the name was the chain's next.
        if sent.boot > self.proof.boot {
            self.proof = sent;
        }
        Counted::Yes
    }

    /// A look about slot `n` whose question was sent at `sent`; `mine` if `n` is there and known to be ours. Returns
    /// whether it proves that we are at the chain's end. One that does not prove nothing loses nothing yet: whatever
    /// waits for it stays uncounted.
    pub fn proved(&mut self, look: &Look, n: Txid, mine: bool, sent: Moment, now: &Moment) -> bool {
        if let Some(higher) = look.higher {
            self.saw_claim(higher);
        }
        let proves = look.proves(n, mine) && sent.age(now) < self.times.horizon;
        if proves && sent.boot > self.proof.boot {
            self.proof = sent;
        }
        proves
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
    use core::time::Duration;
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
}
