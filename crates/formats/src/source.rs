//! Where bytes come from: a pull interface without `std::io`, and the buffer the decoders read through.

use alloc::vec;
use alloc::vec::Vec;
use core::convert::Infallible;

/// A stream of bytes, pulled.
pub trait ByteSource {
    /// Why bytes could not be had.
    type Error;

    /// Fills the front of `buf` and says how many bytes; 0 means the end (for a `buf` that is not empty).
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Self::Error>;
}

impl ByteSource for &[u8] {
    type Error = Infallible;

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Infallible> {
        let count = self.len().min(buf.len());
        if let (Some((head, rest)), Some(place)) = (self.split_at_checked(count), buf.get_mut(..count)) {
            place.copy_from_slice(head);
            *self = rest;
        }
        Ok(count)
    }
}

impl<S: ByteSource + ?Sized> ByteSource for &mut S {
    type Error = S::Error;

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, S::Error> {
        (**self).read(buf)
    }
}

impl<S: ByteSource + ?Sized> ByteSource for alloc::boxed::Box<S> {
    type Error = S::Error;

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, S::Error> {
        (**self).read(buf)
    }
}

/// Why the next bytes are not there.
#[derive(Debug)]
pub(crate) enum Fault<E> {
    /// The source failed.
    Source(E),
    /// The stream ended before them.
    Short,
}

/// What a parser reads from: a slice that is all there, or a stream through a buffer.
pub(crate) trait Input {
    type Error;

    /// Exactly the next `count` bytes. The caller bounds `count`.
    fn take(&mut self, count: usize) -> Result<&[u8], Fault<Self::Error>>;

    /// Exactly the next `N` bytes.
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault<Self::Error>> {
        let bytes = self.take(N)?;
        bytes.first_chunk::<N>().copied().ok_or(Fault::Short)
    }
}

impl Input for &[u8] {
    type Error = Infallible;

    fn take(&mut self, count: usize) -> Result<&[u8], Fault<Infallible>> {
        let (head, rest) = self.split_at_checked(count).ok_or(Fault::Short)?;
        *self = rest;
        Ok(head)
    }
}

/// A buffer over a source that grows only with bytes that have arrived, never with a number read from them.
pub(crate) struct Buffered<S> {
    source: S,
    buf: Vec<u8>,
    start: usize,
    end: usize,
    consumed: u64,
}

/// Without the bytes: they are somebody's database.
impl<S> core::fmt::Debug for Buffered<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Buffered").field("consumed", &self.consumed).finish_non_exhaustive()
    }
}

impl<S> Buffered<S> {
    /// Bytes that are allocated.
    #[cfg(test)]
    pub(crate) fn allocated(&self) -> usize {
        self.buf.capacity()
    }
}

impl<S: ByteSource> Buffered<S> {
    const FIRST: usize = 32 * 1024;

    pub(crate) fn new(source: S) -> Self {
        Self { source, buf: Vec::new(), start: 0, end: 0, consumed: 0 }
    }

    /// Bytes taken since the beginning.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Whether the stream ends here.
    pub(crate) fn at_end(&mut self) -> Result<bool, S::Error> {
        if self.start < self.end {
            return Ok(false);
        }
        self.fill(1)?;
        Ok(self.start == self.end)
    }

    /// Reads until `count` bytes are buffered or the source ends.
    fn fill(&mut self, count: usize) -> Result<(), S::Error> {
        self.buf.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        while self.end < count {
            if self.end == self.buf.len() {
                let size = self.buf.len().saturating_mul(2).max(Self::FIRST);
                self.buf.resize(size, 0);
            }
            let Some(room) = self.buf.get_mut(self.end..) else { return Ok(()) };
            let space = room.len();
            match self.source.read(room)? {
                0 => return Ok(()),
                got => self.end += got.min(space),
            }
        }
        Ok(())
    }
}

impl<S: ByteSource> Input for Buffered<S> {
    type Error = S::Error;

    fn take(&mut self, count: usize) -> Result<&[u8], Fault<S::Error>> {
        if self.end - self.start < count {
            self.fill(count).map_err(Fault::Source)?;
            if self.end < count {
                return Err(Fault::Short);
            }
        }
        let from = self.start;
        self.start += count;
        self.consumed += count as u64;
        self.buf.get(from..self.start).ok_or(Fault::Short)
    }
}

/// The bytes of a source as a whole; for tests and small objects. Stops with `None` past `limit` bytes.
pub fn read_all<S: ByteSource>(mut source: S, limit: usize) -> Result<Option<Vec<u8>>, S::Error> {
    let mut all = Vec::new();
    let mut piece = vec![0; 16 * 1024];
    loop {
        let got = source.read(&mut piece)?;
        if got == 0 {
            return Ok(Some(all));
        }
        if all.len().saturating_add(got) > limit {
            return Ok(None);
        }
        all.extend_from_slice(piece.get(..got).unwrap_or(&[]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out at most `step` bytes a call.
    struct Drip<'a>(&'a [u8], usize);

    impl ByteSource for Drip<'_> {
        type Error = Infallible;

        fn read(&mut self, buf: &mut [u8]) -> Result<usize, Infallible> {
            let count = buf.len().min(self.1);
            self.0.read(&mut buf[..count])
        }
    }

    #[test]
    fn a_buffer_gives_the_same_bytes_however_they_arrive() {
        let bytes: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
        for step in [1, 7, 4096, 1 << 20] {
            let mut input = Buffered::new(Drip(&bytes, step));
            let mut seen = Vec::new();
            for count in [1, 0, 39_999, 60_000].into_iter() {
                seen.extend_from_slice(input.take(count).expect("there"));
            }
            assert_eq!(seen, bytes, "step {step}");
            assert!(input.at_end().expect("no failure"));
            assert!(matches!(input.take(1), Err(Fault::Short)));
            assert_eq!(input.consumed(), 100_000);
        }
    }

    #[test]
    fn asking_for_more_than_there_is_does_not_allocate_it() {
        let mut input = Buffered::new([1u8, 2, 3].as_slice());
        assert!(matches!(input.take(1 << 30), Err(Fault::Short)));
        assert!(input.allocated() <= Buffered::<&[u8]>::FIRST);
    }
}
