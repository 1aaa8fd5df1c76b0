//! The model's bucket: every operation is atomic and seen at once. It has no clock; who asks says what time it is.

/// The longest chain, and the highest epoch, that any run needs.
pub(crate) const ROOM: usize = 12;

/// What a slot says. Content 0 is "nothing"; no two writes have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Piece {
    pub(crate) epoch: u8,
    pub(crate) content: u8,
    /// The content that its writer believed to be before it.
    pub(crate) base: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub(crate) piece: Piece,
    /// By the store's clock.
    pub(crate) at: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) at: u8,
    pub(crate) opened: bool,
    pub(crate) closed: Option<u8>,
}

/// What came of a create; a refused one has been read back in the same step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Created {
    Now,
    Before,
    ByOthers,
}

/// Index `i` is the slot, or the epoch, `i + 1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Bucket {
    /// How far a higher level reaches.
    pub(crate) covered: u8,
    merged: [Piece; ROOM],
    pub(crate) slots: [Option<Slot>; ROOM],
    pub(crate) epochs: [Option<Record>; ROOM],
}

impl Bucket {
    pub(crate) fn slot(&self, n: u8) -> Option<Slot> {
        self.slots[usize::from(n - 1)]
    }

    pub(crate) fn create(&mut self, n: u8, piece: Piece, at: u8) -> Created {
        match &mut self.slots[usize::from(n - 1)] {
            Some(there) if there.piece.content == piece.content => Created::Before,
            Some(_) => Created::ByOthers,
            free => {
                *free = Some(Slot { piece, at });
                Created::Now
            }
        }
    }

    /// What a restore reads in this place: a higher level first, then slots by name without a gap.
    pub(crate) fn piece(&self, n: u8) -> Option<Piece> {
        if n <= self.covered {
            Some(self.merged[usize::from(n - 1)])
        } else {
            self.slot(n).map(|slot| slot.piece)
        }
    }

    pub(crate) fn tip(&self) -> u8 {
        let mut tip = self.covered;
        while usize::from(tip) < ROOM && self.slot(tip + 1).is_some() {
            tip += 1;
        }
        tip
    }

    pub(crate) fn chain(&self) -> impl Iterator<Item = (u8, Piece)> + '_ {
        (1..=self.tip()).map(|n| (n, self.piece(n).expect("up to the tip")))
    }

    /// Merges what exists, up to `to`, into a higher level.
    pub(crate) fn compact(&mut self, to: u8) {
        for n in self.covered + 1..=to {
            self.merged[usize::from(n - 1)] = self.slot(n).expect("merged is what exists").piece;
        }
        self.covered = to;
    }

    /// Two ages past the one that matters are the same: of claims only the newest one has any, a slot's least age ends at `old`.
    pub(crate) fn forget_ages(&mut self, old: u8) {
        for slot in self.slots.iter_mut().flatten() {
            slot.at = slot.at.max(old);
        }
        let mut newest = true;
        for record in self.epochs.iter_mut().rev().flatten() {
            record.at = if newest { record.at } else { 0 };
            newest = false;
        }
    }

    pub(crate) fn newest_epoch(&self) -> u8 {
        (1..=ROOM).rev().find(|e| self.epochs[e - 1].is_some()).map_or(0, |e| u8::try_from(e).expect("small"))
    }
}
