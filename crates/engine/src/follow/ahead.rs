//! Reads slots before their turn: a follower that is behind asks for several names at once, so that a distant store
//! is not asked once for each slot that it has.
//!
//! Never: asks for more than one name where the last look found the end, keeps what lies behind a missing name, or
//! judges a slot.

use crate::restore::{CHUNK_BYTES, each};
use litekeep_formats::Txid;
use litekeep_store::{Chunk, ErrorKind, Store, StoreError};
use std::collections::VecDeque;
use std::time::Duration;

/// Names asked for at once at most. The fronts of all of them lie in memory, [`CHUNK_BYTES`] each at most.
const WIDTH_MAX: usize = 8;

/// What the last look found, as far as it was not taken yet.
pub(super) struct Ahead {
    /// The name that is taken next.
    next: Txid,
    /// The first bytes of the slots from there on.
    fronts: VecDeque<Chunk>,
    /// The name behind the last of them was not there.
    ended: bool,
    /// When the look was sent.
    sent: Duration,
    /// How many names the next look asks for.
    width: usize,
}

/// What a look says of a name.
pub(super) enum Seen {
    /// The slot's first bytes.
    Front(Chunk),
    /// Nothing was there.
    Nothing,
}

impl Default for Ahead {
    fn default() -> Self {
        Self { next: Txid::FIRST, fronts: VecDeque::new(), ended: false, sent: Duration::ZERO, width: 1 }
    }
}

impl Ahead {
    /// Whether the last look tells of this name.
    pub(super) fn knows(&self, txid: Txid) -> bool {
        self.next == txid && (self.ended || !self.fronts.is_empty())
    }

    /// What it tells, once, and when it was sent.
    pub(super) fn take(&mut self, txid: Txid) -> Option<(Seen, Duration)> {
        if !self.knows(txid) {
            return None;
        }
        let seen = match self.fronts.pop_front() {
            Some(front) => Seen::Front(front),
            None => {
                self.ended = false;
                Seen::Nothing
            }
        };
        self.next = txid.next();
        Some((seen, self.sent))
    }

    /// Forgets what was read.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Looks at `next`, and at as many names behind it as the looks before give reason to; `sent` is now. Afterwards
    /// `next` is known, unless it was missing while one behind it was there: it must be asked again, since it may have come
    /// between the two answers. Returns whether a name was missing so: the chain does not end there.
    pub(super) fn look(
        &mut self,
        store: &dyn Store,
        next: Txid,
        parallelism: usize,
        sent: Duration,
    ) -> Result<bool, StoreError> {
        let width = self.width.min(parallelism).max(1);
        self.clear();
        (self.next, self.sent) = (next, sent);
        let mut names = vec![next];
        while names.len() < width {
            names.push(names[names.len() - 1].next());
        }
        let mut answers = each(width, &names, |txid| {
            Ok(match store.read(&super::slot_key(*txid), Some(0..CHUNK_BYTES)) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                answer => answer.map(Some),
            })
        })?
        .into_iter();
        for answer in answers.by_ref() {
            match answer {
                Ok(Some(front)) => self.fronts.push_back(front),
                Ok(None) => {
                    self.ended = !answers.any(|answer| matches!(answer, Ok(Some(_))));
                    return Ok(!self.ended);
                }
                // What came before it is good.
                Err(_) if !self.fronts.is_empty() => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.width = (width * 2).min(WIDTH_MAX);
        Ok(false)
    }
}
