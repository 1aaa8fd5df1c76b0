//! What goes up as one object without lying in memory: read piece by piece, and from the start again at each try.

use bytes::Bytes;
use std::io;

/// How much of a source is in memory at once, bytes; a few such pieces may be on their way.
pub(crate) const PIECE: u64 = 1 << 20;

/// Bytes that can be read again as often as a put is tried: a file on the local disk.
#[allow(clippy::len_without_is_empty, reason = "nobody asks whether an object is empty")]
pub trait Source: Send + Sync {
    /// How many bytes it has. They never change.
    fn len(&self) -> u64;
    /// Reads up to `buf.len()` bytes at `offset`; fewer only at the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl Source for Bytes {
    fn len(&self) -> u64 {
        self.as_ref().len() as u64
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

/// The piece at `offset`: a MiB, less at the end, nothing past it.
///
/// # Errors
/// The source's, or `UnexpectedEof` where it ends early.
pub fn piece(source: &dyn Source, offset: u64) -> io::Result<Bytes> {
    let wanted = source.len().saturating_sub(offset).min(PIECE);
    let mut buf = vec![0; usize::try_from(wanted).unwrap_or(0)];
    let mut done = 0;
    while done < buf.len() {
        match source.read_at(&mut buf[done..], offset + done as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => done += n,
        }
    }
    Ok(buf.into())
}

/// Gives every piece in turn.
pub(crate) fn pieces(source: &dyn Source, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut at = 0;
    while at < source.len() {
        let piece = piece(source, at)?;
        take(&piece)?;
        at += piece.as_ref().len() as u64;
    }
    Ok(())
}

/// A source as a whole, for stores that keep their objects in memory anyway.
///
/// # Errors
/// The source's, or `UnexpectedEof` where it ends early.
pub fn read_all(source: &dyn Source) -> io::Result<Bytes> {
    let mut all = Vec::new();
    pieces(source, |piece| {
        all.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(all.into())
}
