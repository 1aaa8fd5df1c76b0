//! Reading an object from front to end in bounded pieces that all belong to one version of it.
//!
//! A download that breaks off goes on where it was (R43); an object that changes meanwhile, or ends before its
//! announced size, is an error and never a mixture or a shorter file (R44).

use crate::{Chunk, ErrorKind, Failure, Key, Store, StoreError, Version};
use bytes::{Buf as _, Bytes};
use std::io;
use std::ops::Range;

/// Bytes asked for at once.
pub const PIECE: u64 = 4 << 20;

/// A range of an object as [`io::Read`]. Holds one piece at a time.
pub struct RangeReader<'a> {
    store: &'a dyn Store,
    key: Key,
    /// What is still to be asked for; its end is known with the first answer.
    rest: Range<u64>,
    /// Size and version of the first answer.
    pinned: Option<(u64, Version)>,
    piece: u64,
    buffer: Bytes,
}

impl<'a> RangeReader<'a> {
    /// Reads the whole object.
    pub fn new(store: &'a dyn Store, key: Key) -> Self {
        Self::range(store, key, 0..u64::MAX)
    }

    /// Reads a range, cut at the object's end.
    pub fn range(store: &'a dyn Store, key: Key, range: Range<u64>) -> Self {
        Self { store, key, rest: range, pinned: None, piece: PIECE, buffer: Bytes::new() }
    }

    /// The same with other pieces, bytes; at least one.
    #[must_use]
    pub fn with_piece(mut self, bytes: u64) -> Self {
        self.piece = bytes.max(1);
        self
    }

    /// The same, for an object whose size and version are known from elsewhere: anything else is refused.
    #[must_use]
    pub fn pinned(mut self, size: u64, version: Version) -> Self {
        self.rest.end = self.rest.end.min(size);
        self.pinned = Some((size, version));
        self
    }

    /// Size and version of what is read, once the first piece has come.
    pub fn version(&self) -> Option<&(u64, Version)> {
        self.pinned.as_ref()
    }

    /// The next bytes, at most one piece; empty at the end.
    pub fn next_piece(&mut self) -> Result<Bytes, StoreError> {
        if self.buffer.is_empty() && !self.rest.is_empty() {
            let end = self.rest.end.min(self.rest.start.saturating_add(self.piece));
            let chunk = self.store.read(&self.key, Some(self.rest.start..end))?;
            self.check(&chunk, end)?;
            self.rest.start += chunk.bytes.len() as u64;
            self.buffer = chunk.bytes;
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    fn check(&mut self, chunk: &Chunk, end: u64) -> Result<(), StoreError> {
        let (size, version) = self.pinned.get_or_insert_with(|| (chunk.total, chunk.version.clone()));
        if *size != chunk.total || *version != chunk.version {
            let text = format!("the object changed while it was read ({size} bytes, then {})", chunk.total);
            return Err(self.fault(ErrorKind::Retry, text));
        }
        self.rest.end = self.rest.end.min(chunk.total);
        let promised = end.min(chunk.total).saturating_sub(self.rest.start);
        if chunk.bytes.len() as u64 != promised {
            let text = format!("{} bytes came where {promised} were announced", chunk.bytes.len());
            return Err(self.fault(ErrorKind::DataDamaged, text));
        }
        Ok(())
    }

    fn fault(&self, kind: ErrorKind, text: String) -> StoreError {
        let object = format!("{} {}", self.store.location(), self.key);
        StoreError::new(kind, "read", object, Failure::Text(text))
    }
}

impl io::Read for RangeReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.buffer.is_empty() {
            self.buffer = self.next_piece().map_err(io::Error::other)?;
        }
        let count = self.buffer.len().min(out.len());
        self.buffer.copy_to_slice(&mut out[..count]);
        Ok(count)
    }
}

/// Gets the store's own error back out of what [`RangeReader`] gave as an [`io::Error`].
pub fn store_error(error: io::Error) -> Result<StoreError, io::Error> {
    error.downcast::<StoreError>()
}
