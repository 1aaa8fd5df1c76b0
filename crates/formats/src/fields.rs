//! Fixed-width fields of a header, read front to back without an index that could be out of bounds.

/// A cursor over the bytes of a header.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `N` bytes, `None` when fewer are left.
    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16_be(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    pub(crate) fn u32_be(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    pub(crate) fn u64_be(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    /// In the byte order of this machine, as shared memory holds it.
    pub(crate) fn u32_native(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    /// In the byte order of this machine, as shared memory holds it.
    pub(crate) fn u16_native(&mut self) -> Option<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    /// Passes over `count` bytes.
    pub(crate) fn skip(&mut self, count: usize) -> Option<()> {
        self.0 = self.0.get(count..)?;
        Some(())
    }
}

/// Writes fields front to back into a header of a fixed length; what does not fit is dropped, which the callers'
/// round-trip tests would show.
pub(crate) struct Writer<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Writer<N> {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; N], at: 0 }
    }

    pub(crate) fn put(mut self, field: &[u8]) -> Self {
        let end = self.at.saturating_add(field.len());
        debug_assert!(end <= N, "BUG: a header field past its end");
        if let Some(place) = self.bytes.get_mut(self.at..end) {
            place.copy_from_slice(field);
            self.at = end;
        }
        self
    }

    pub(crate) fn u32_be(self, field: u32) -> Self {
        self.put(&field.to_be_bytes())
    }

    pub(crate) fn u64_be(self, field: u64) -> Self {
        self.put(&field.to_be_bytes())
    }

    pub(crate) fn finish(self) -> [u8; N] {
        debug_assert_eq!(self.at, N, "BUG: a header that is not full");
        self.bytes
    }
}
