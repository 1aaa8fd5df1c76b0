//! The files of an engine that is wrong about them.
//!
//! Of the WAL only single pages are shown otherwise. Whoever verifies a chain of frames reads what is really there, so
//! that nothing but the judgement of a restore can notice.

use super::FilesFlaw;
use crate::disk::Process;
use litekeep::files::{File, FileId, Files, Open};
use litekeep_formats::Salts;
use litekeep_formats::wal::{FrameHeader, WalHeader, frame_offset};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// A process's files with a mistake in front of them.
pub(crate) fn files(process: Process, flaw: FilesFlaw) -> Arc<dyn Files> {
    match flaw {
        FilesFlaw::None => Arc::new(process),
        flaw => Arc::new(Mistaken { process, flaw, frames: Arc::default() }),
    }
}

/// By the life of the WAL and the place in it: of the frame, or (as a page number) of its page.
type Frames = HashMap<(Salts, u64), Vec<u8>>;

#[derive(Clone)]
struct Mistaken {
    process: Process,
    flaw: FilesFlaw,
    frames: Arc<Mutex<Frames>>,
}

impl Mistaken {
    /// Keeps every frame, or page, of this life of the WAL that was not there before.
    fn look(&self, file: &dyn File) -> io::Result<()> {
        let Some(header) = header(file)? else { return Ok(()) };
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        for number in 1.. {
            let at = frame_offset(number, header.page_size);
            let mut frame = vec![0; FrameHeader::LEN + header.page_size.bytes()];
            if file.read_at(&mut frame, at)? < frame.len() {
                break;
            }
            let Ok(of) = FrameHeader::parse(&frame) else { break };
            if of.salts == header.salts {
                let page = frame.split_off(FrameHeader::LEN);
                let place = match self.flaw {
                    FilesFlaw::FirstVersion => u64::from(of.page.get()),
                    _ => at + FrameHeader::LEN as u64,
                };
                frames.entry((header.salts, place)).or_insert(page);
            }
        }
        Ok(())
    }
}

fn header(file: &dyn File) -> io::Result<Option<WalHeader>> {
    let mut bytes = [0; WalHeader::LEN];
    let whole = file.read_at(&mut bytes, 0)? == bytes.len();
    Ok(WalHeader::parse(&bytes).ok().filter(|_| whole))
}

fn is_wal(path: &Path) -> bool {
    path.to_string_lossy().ends_with("-wal")
}

struct MistakenFile {
    inner: Arc<dyn File>,
    flaw: FilesFlaw,
    /// For the WAL: what is shown instead of what is there.
    frames: Option<Arc<Mutex<Frames>>>,
}

impl MistakenFile {
    /// The page that is shown where a single page is read.
    fn shown(&self, len: usize, offset: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(frames) = &self.frames else { return Ok(None) };
        let Some(header) = header(&*self.inner)?.filter(|header| header.page_size.bytes() == len) else {
            return Ok(None);
        };
        let mut place = offset;
        if self.flaw == FilesFlaw::FirstVersion {
            let mut frame = [0; FrameHeader::LEN];
            let Some(at) = offset.checked_sub(frame.len() as u64) else { return Ok(None) };
            self.inner.read_at(&mut frame, at)?;
            place = FrameHeader::parse(&frame).map_or(0, |frame| u64::from(frame.page.get()));
        }
        let frames = frames.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(frames.get(&(header.salts, place)).cloned())
    }
}

impl File for MistakenFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.shown(buf.len(), offset)? {
            Some(page) => {
                buf.copy_from_slice(&page);
                Ok(page.len())
            }
            None => self.inner.read_at(buf, offset),
        }
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        match self.inner.write_at(buf, offset) {
            Err(error)
                if error.kind() == io::ErrorKind::StorageFull && self.flaw == FilesFlaw::FullIsWritten =>
            {
                Ok(())
            }
            result => result,
        }
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        if self.flaw == FilesFlaw::NeverSyncs { Ok(()) } else { self.inner.sync() }
    }
    fn id(&self) -> io::Result<FileId> {
        self.inner.id()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.inner.try_lock()
    }
}

impl Files for Mistaken {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let inner = self.process.open(path, how)?;
        let frames = is_wal(path).then(|| Arc::clone(&self.frames));
        Ok(Arc::new(MistakenFile { inner, flaw: self.flaw, frames }))
    }
    fn id(&self, path: &Path) -> io::Result<Option<FileId>> {
        // Every look at the WAL begins by asking whether it is still the same file.
        if matches!(self.flaw, FilesFlaw::KeepsFrames | FilesFlaw::FirstVersion)
            && is_wal(path)
            && let Ok(file) = self.process.open(path, Open::Read)
        {
            self.look(&*file)?;
        }
        self.process.id(path)
    }
    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        self.process.len(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.process.rename(from, to)?;
        match self.flaw {
            FilesFlaw::DropsAsides if to.to_string_lossy().contains("-aside-") => self.process.remove(to),
            _ => Ok(()),
        }
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.process.remove(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.process.create_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.process.list(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.process.sync_dir(path)
    }
    fn boot_id(&self) -> Option<String> {
        self.process.boot_id()
    }
}
