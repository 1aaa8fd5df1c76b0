//! Reads the `-wal` file: verifies committed frames and finds the last version of each page.
//!
//! Never reads past the frame that the WAL index calls committed: a writer killed at its COMMIT leaves a valid
//! checksum chain to a commit that never happened. The `-wal` carries no locks, so it may be opened freely.

use crate::files::{self, File, FileId, Files, Open};
use litekeep_core::assess::{Advance, BreakReason, Facts, FrameAt, Position};
use litekeep_formats::wal::{FrameChain, FrameHeader, WalHeader, frame_len, frame_offset};
use litekeep_formats::{PageNo, PageSize, Salts};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// How much is read at once, bytes.
const BATCH: usize = 1 << 20;

/// Committed frames that were read and verified.
#[derive(Debug)]
pub(crate) struct Captured {
    /// Behind the last of them; always a commit.
    pub(crate) position: Position,
    /// Pages of the database after it.
    pub(crate) commit: u32,
    /// The smallest size that any commit of the range left, pages.
    pub(crate) lowest: u32,
    /// The frame that holds the last version of each page.
    pub(crate) pages: BTreeMap<PageNo, u32>,
}

/// Why frames could not be captured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    /// The chain is broken: compare pages instead.
    #[error("{0}")]
    Break(BreakReason),
    /// The file system's answer.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The `-wal` file of one database.
pub(crate) struct Wal {
    files: Arc<dyn Files>,
    path: PathBuf,
    open: Option<(FileId, Arc<dyn File>)>,
}

impl Wal {
    pub(crate) fn new(files: Arc<dyn Files>, path: PathBuf) -> Self {
        Self { files, path, open: None }
    }

    /// The file that the path means now.
    fn file(&mut self) -> io::Result<Option<Arc<dyn File>>> {
        let Some(id) = self.files.id(&self.path)? else {
            self.open = None;
            return Ok(None);
        };
        match &self.open {
            Some((open, file)) if *open == id => Ok(Some(Arc::clone(file))),
            _ => {
                let file = match self.files.open(&self.path, Open::Read) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    other => other?,
                };
                self.open = Some((file.id()?, Arc::clone(&file)));
                Ok(Some(file))
            }
        }
    }

    /// Closes the file until it is needed again.
    pub(crate) fn close(&mut self) {
        self.open = None;
    }

    /// Salts and stored checksum of a frame, whatever they are; `None` where the file ends before it.
    pub(crate) fn frame_at(&mut self, frame: u32, page_size: PageSize) -> io::Result<FrameAt> {
        let Some(file) = self.file()?.filter(|_| frame > 0) else { return Ok(None) };
        let mut header = [0; FrameHeader::LEN];
        if file.read_at(&mut header, frame_offset(frame, page_size))? < header.len() {
            return Ok(None);
        }
        Ok(FrameHeader::parse(&header).ok().map(|header| (header.salts, header.checksum)))
    }

    /// Reads and verifies what `advance` says is new, up to `facts.mx_frame`, stopping at the first commit past
    /// `limit` bytes.
    pub(crate) fn capture(
        &mut self,
        advance: Advance,
        facts: &Facts,
        position: &Position,
        limit: u64,
    ) -> Result<Captured, CaptureError> {
        let (from, salts) = match advance {
            Advance::Append { from, .. } => (from, position.salts),
            Advance::Restarted { .. } => (1, facts.salts),
            Advance::Nothing => return Err(CaptureError::Break(BreakReason::BadFrames)),
            Advance::Break(reason) => return Err(CaptureError::Break(reason)),
        };
        let broken = || CaptureError::Break(BreakReason::BadFrames);
        let file = self.file()?.ok_or_else(broken)?;
        let mut header = [0; WalHeader::LEN];
        files::read_exact_at(&*file, &mut header, 0).map_err(|error| cut(error, broken))?;
        let header = WalHeader::parse(&header).map_err(|_| broken())?;
        if header.salts != salts || header.page_size != facts.page_size {
            return Err(broken());
        }
        let seed = if from == 1 { header.checksum } else { position.checksum };
        let chain = FrameChain::resume(header.big_endian_checksum, header.page_size, salts, seed);
        let captured = read_frames(&*file, chain, from, facts.mx_frame, limit)
            .map_err(|error| cut(error, broken))?
            .ok_or_else(broken)?;
        let reached_end = captured.position.frame == facts.mx_frame;
        if reached_end && (captured.commit, captured.position.checksum) != (facts.pages, facts.checksum) {
            return Err(broken());
        }
        Ok(captured)
    }

    /// The file's header; `None` where it is missing or no header.
    fn header(&mut self) -> io::Result<Option<WalHeader>> {
        let Some(file) = self.file()? else { return Ok(None) };
        let mut header = [0; WalHeader::LEN];
        let whole = file.read_at(&mut header, 0)? == header.len();
        Ok(WalHeader::parse(&header).ok().filter(|_| whole))
    }

    /// What `facts` would be if the chain of checksums decided: up to the last commit that it reaches behind
    /// `position`. For [`Decisions::committed`](litekeep_core::decisions::Decisions); the right one never asks.
    pub(crate) fn chain_end(&mut self, facts: &Facts, position: &Position) -> io::Result<Facts> {
        let (Some(header), Some(file)) = (self.header()?, self.file()?) else { return Ok(*facts) };
        let (mut at, seed) = match header.salts == position.salts {
            true => (position.frame, position.checksum),
            false => (0, header.checksum),
        };
        let mut end = Facts { mx_frame: at, checksum: seed, salts: header.salts, ..*facts };
        let mut chain = FrameChain::resume(header.big_endian_checksum, header.page_size, header.salts, seed);
        let mut frame = vec![0; frame_len(header.page_size)];
        while file.read_at(&mut frame, frame_offset(at + 1, header.page_size))? == frame.len() {
            let Ok(next) = chain.next(&frame) else { break };
            at += 1;
            if next.is_commit() {
                (end.mx_frame, end.pages, end.checksum) = (at, next.commit, next.checksum);
            }
        }
        Ok(end)
    }

    /// How many commits the present life of the WAL holds up to `facts.mx_frame`, at least; `None` where it does not
    /// verify, or is longer than `limit` bytes.
    ///
    /// On a disk that may tear what was not written (`psow=0`) SQLite repeats a commit's last frame up to the end of
    /// the sector: that is no further commit.
    pub(crate) fn commits(&mut self, facts: &Facts, limit: u64) -> io::Result<Option<u32>> {
        let (Some(header), Some(file)) = (self.header()?, self.file()?) else { return Ok(None) };
        let (page_size, mut frame) = (header.page_size, vec![0; frame_len(header.page_size)]);
        let end = frame_offset(facts.mx_frame, page_size) + frame.len() as u64;
        if (header.salts, page_size) != (facts.salts, facts.page_size) || end > limit {
            return Ok(None);
        }
        let mut chain =
            FrameChain::resume(header.big_endian_checksum, page_size, header.salts, header.checksum);
        let (mut commits, mut last) = (0, vec![0; frame.len()]);
        for number in 1..=facts.mx_frame {
            let whole = file.read_at(&mut frame, frame_offset(number, page_size))? == frame.len();
            let Some(header) = chain.next(&frame).ok().filter(|_| whole) else { return Ok(None) };
            // All but the salts and the checksum.
            let repeated = frame[..8] == last[..8] && frame[FrameHeader::LEN..] == last[FrameHeader::LEN..];
            commits += u32::from(header.is_commit() && !repeated);
            std::mem::swap(&mut frame, &mut last);
        }
        Ok(Some(commits))
    }

    /// Whether the file goes on past frame `frame` with a frame of the same life: a commit that is on its way
    /// (a slow fsync), or one that never became visible.
    pub(crate) fn continues_past(
        &mut self,
        frame: u32,
        salts: Salts,
        page_size: PageSize,
    ) -> io::Result<bool> {
        // The first frame of a WAL may bring salts with it that the index shows only once it is committed.
        let salts = if frame == 0 { self.header()?.map(|header| header.salts) } else { Some(salts) };
        let next = self.frame_at(frame + 1, page_size)?;
        Ok(next.is_some_and(|(at, _)| Some(at) == salts && at != Position::UNBORN))
    }

    /// One page's bytes out of a captured frame.
    pub(crate) fn page(&mut self, frame: u32, page_size: PageSize, buf: &mut [u8]) -> io::Result<()> {
        let file = self.file()?.ok_or(io::ErrorKind::NotFound)?;
        files::read_exact_at(&*file, buf, frame_offset(frame, page_size) + FrameHeader::LEN as u64)
    }
}

/// A file that ends early is a broken chain, any other trouble is the file system's.
fn cut(error: io::Error, broken: impl Fn() -> CaptureError) -> CaptureError {
    if error.kind() == io::ErrorKind::UnexpectedEof { broken() } else { CaptureError::Io(error) }
}

/// `None` where a frame does not verify, or no commit ends the range.
fn read_frames(
    file: &dyn File,
    mut chain: FrameChain,
    from: u32,
    last: u32,
    limit: u64,
) -> io::Result<Option<Captured>> {
    let page_size = chain.page_size();
    let frame_bytes = frame_len(page_size);
    let batch = (BATCH / frame_bytes).max(1);
    let mut buffer = vec![0; batch * frame_bytes];
    let mut uncommitted: Vec<(PageNo, u32)> = Vec::new();
    let mut captured: Option<Captured> = None;
    let mut at = from;
    while at <= last {
        let count = batch.min((last - at) as usize + 1);
        let bytes = &mut buffer[..count * frame_bytes];
        files::read_exact_at(file, bytes, frame_offset(at, page_size))?;
        for frame in bytes.chunks_exact(frame_bytes) {
            let Ok(header) = chain.next(frame) else { return Ok(None) };
            uncommitted.push((header.page, at));
            if header.is_commit() {
                let position =
                    Position { page_size, salts: chain.salts(), frame: at, checksum: header.checksum };
                let captured = captured.get_or_insert_with(|| Captured {
                    position,
                    commit: 0,
                    lowest: u32::MAX,
                    pages: BTreeMap::new(),
                });
                captured.position = position;
                captured.commit = header.commit;
                captured.lowest = captured.lowest.min(header.commit);
                captured.pages.extend(uncommitted.drain(..));
                if (u64::from(at - from) + 1) * frame_bytes as u64 >= limit {
                    return Ok(Some(finished(captured)));
                }
            }
            at += 1;
        }
    }
    Ok(captured.filter(|_| uncommitted.is_empty()).map(|mut captured| finished(&mut captured)))
}

/// Pages past the last commit's size were cut off again and belong to nobody.
fn finished(captured: &mut Captured) -> Captured {
    let commit = captured.commit;
    let mut pages = std::mem::take(&mut captured.pages);
    pages.retain(|page, _| page.get() <= commit);
    Captured { position: captured.position, commit, lowest: captured.lowest, pages }
}

#[cfg(test)]
mod tests;
