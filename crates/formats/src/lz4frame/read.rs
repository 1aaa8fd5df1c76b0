//! The streaming reader: any number of frames one after another, one block in memory.

use super::{Descriptor, Failure, Lz4Error, MAGIC, Xxh32, decode_block, tail};
use crate::source::{Buffered, ByteSource, Fault, Input};
use alloc::vec::Vec;

/// The last four bytes of the magic of a skippable frame, whose first one is 0x50 to 0x5f.
const SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];
const LEGACY: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];

/// The source failed, or the bytes are no frame.
#[derive(Debug, thiserror::Error)]
pub enum ReadError<E> {
    /// The source's own error.
    #[error("reading an LZ4 frame: {0}")]
    Source(E),
    /// See [`Lz4Error`].
    #[error(transparent)]
    Format(#[from] Lz4Error),
}

impl<E> From<Failure<E>> for ReadError<E> {
    fn from(failure: Failure<E>) -> Self {
        match failure {
            Failure::Source(error) => Self::Source(error),
            Failure::Frame(error) => Self::Format(error),
        }
    }
}

impl<E> From<Fault<E>> for ReadError<E> {
    fn from(fault: Fault<E>) -> Self {
        Failure::from(fault).into()
    }
}

#[derive(Debug)]
enum State {
    /// Before a frame; `first` until one was read.
    Between { first: bool },
    /// Inside a frame.
    Frame(Descriptor),
    /// At the end, or behind an error.
    Done,
}

/// Decompresses a stream of LZ4 frames (at least one; skippable ones are passed over).
///
/// What it hands out has passed its block's checksum where there is one, and the frame's only once the end was
/// reached: do not use the content before `None` or 0 came back.
pub struct FrameReader<S> {
    input: Buffered<S>,
    state: State,
    /// The last 64 KiB of a linked frame, then the current block.
    out: Vec<u8>,
    /// The part of `out` that `read` has not handed out yet.
    ready: core::ops::Range<usize>,
    content: Xxh32,
    length: u64,
}

/// Without the content: it is somebody's database.
impl<S> core::fmt::Debug for FrameReader<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("FrameReader")
            .field("state", &self.state)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl<S: ByteSource> FrameReader<S> {
    /// Reads nothing yet.
    pub fn new(source: S) -> Self {
        Self {
            input: Buffered::new(source),
            state: State::Between { first: true },
            out: Vec::new(),
            ready: 0..0,
            content: Xxh32::new(),
            length: 0,
        }
    }

    /// The content of the next block, at most 4 MiB and possibly empty; `None` at the end of the stream.
    ///
    /// # Errors
    /// The source's, or [`Lz4Error`]; after one the reader is at its end.
    pub fn next_block(&mut self) -> Result<Option<&[u8]>, ReadError<S::Error>> {
        match self.advance() {
            Ok(true) => Ok(Some(self.out.get(self.ready.clone()).unwrap_or(&[]))),
            Ok(false) => Ok(None),
            Err(error) => {
                self.state = State::Done;
                Err(error)
            }
        }
    }

    /// Moves to the next block; false at the end.
    fn advance(&mut self) -> Result<bool, ReadError<S::Error>> {
        loop {
            match &self.state {
                State::Done => return Ok(false),
                State::Between { first } => {
                    let first = *first;
                    if !first && self.input.at_end().map_err(ReadError::Source)? {
                        self.state = State::Done;
                        return Ok(false);
                    }
                    self.begin(first)?;
                }
                State::Frame(descriptor) => {
                    let descriptor = *descriptor;
                    if self.block(&descriptor)? {
                        return Ok(true);
                    }
                    self.state = State::Between { first: false };
                }
            }
        }
    }

    /// Reads a frame's header, or passes over a skippable frame.
    fn begin(&mut self, first: bool) -> Result<(), ReadError<S::Error>> {
        let magic = self.input.array::<4>()?;
        if magic == MAGIC {
            self.state = State::Frame(Descriptor::read(&mut self.input)?);
            self.content = Xxh32::new();
            self.length = 0;
            self.out.clear();
            return Ok(());
        }
        let [kind, rest @ ..] = magic;
        if kind & 0xf0 == 0x50 && rest == SKIPPABLE {
            let mut left = u32::from_le_bytes(self.input.array::<4>()?) as usize;
            while left > 0 {
                let step = left.min(16 * 1024);
                self.input.take(step)?;
                left -= step;
            }
            self.state = State::Between { first };
            return Ok(());
        }
        Err(match &magic {
            b"age-" => Lz4Error::AgeEncrypted,
            magic if *magic == LEGACY => Lz4Error::LegacyFrame,
            magic => Lz4Error::Magic(u32::from_be_bytes(*magic)),
        }
        .into())
    }

    /// Decompresses one block into `out`; false at the end mark, whose checks have passed.
    fn block(&mut self, descriptor: &Descriptor) -> Result<bool, ReadError<S::Error>> {
        let Some(block) = descriptor.next_block(&mut self.input)? else {
            descriptor.check_end(&mut self.input, &self.content, self.length)?;
            return Ok(false);
        };
        let kept = if descriptor.linked { tail(&self.out).len() } else { 0 };
        let gone = self.out.len() - kept;
        self.out.copy_within(gone.., 0);
        let bytes = self.input.take(block.len)?;
        let hash = if descriptor.block_checksums { Xxh32::of(bytes) } else { 0 };
        // LZ4 makes at most 255 bytes of one, so a short block never asks for the whole of a large buffer.
        let room = bytes.len().saturating_mul(255).min(descriptor.block_max);
        self.out.resize(kept + room, 0);
        let (before, place) = self.out.split_at_mut_checked(kept).ok_or(Lz4Error::Block)?;
        let count = decode_block(&block, bytes, before, place)?;
        descriptor.check_block(&mut self.input, hash)?;
        self.out.truncate(kept + count);
        self.ready = kept..kept + count;
        if descriptor.content_checksum {
            self.content.update(self.out.get(self.ready.clone()).unwrap_or(&[]));
        }
        self.length = self.length.saturating_add(count as u64);
        Ok(true)
    }
}

impl<S: ByteSource> ByteSource for FrameReader<S> {
    type Error = ReadError<S::Error>;

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Self::Error> {
        while self.ready.is_empty() && !buf.is_empty() {
            if self.next_block()?.is_none() {
                return Ok(0);
            }
        }
        let count = self.ready.len().min(buf.len());
        let from = self.ready.start;
        if let (Some(piece), Some(place)) = (self.out.get(from..from + count), buf.get_mut(..count)) {
            place.copy_from_slice(piece);
        }
        self.ready.start += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_stream_that_promises_large_blocks_does_not_allocate_them() {
        // Blocks of up to 4 MiB, then one stored byte, or a size of 4 MiB with nothing behind it.
        let header = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73];
        let one = [header.as_slice(), &[1, 0, 0, 0x80, 42]].concat();
        let mut reader = FrameReader::new(one.as_slice());
        assert_eq!(reader.next_block().expect("a good block"), Some([42].as_slice()));
        assert!(reader.out.capacity() < 1024);
        for stored in [0, 0x80] {
            let promise = [header.as_slice(), &[0, 0, 0x40, stored, 1, 2, 3]].concat();
            let mut reader = FrameReader::new(promise.as_slice());
            assert!(matches!(reader.next_block(), Err(ReadError::Format(Lz4Error::Short))));
            assert!(reader.out.capacity() < 1024 && reader.input.allocated() <= 64 * 1024);
        }
    }
}
