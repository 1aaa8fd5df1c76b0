//! The files of an engine that is wrong about the WAL: what they once showed of a frame is what they show of it for
//! as long as the WAL lives, although SQLite writes over frames that are not committed.
//!
//! Only single pages are kept. Whoever verifies a chain of frames reads what is really there, so that nothing but the
//! judgement of a restore can notice.

use crate::disk::Process;
use litekeep::files::{File, FileId, Files, Open};
use litekeep_formats::Salts;
use litekeep_formats::wal::{FrameHeader, WalHeader, frame_offset};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

type Frames = HashMap<(Salts, u64), Vec<u8>>;

/// See the module's text.
#[derive(Clone)]
pub(super) struct KeepsFrames {
    process: Process,
    frames: Arc<Mutex<Frames>>,
}

impl KeepsFrames {
    pub(super) fn new(process: Process) -> Self {
        Self { process, frames: Arc::default() }
    }

    /// Keeps every frame of this life of the WAL that was not there before.
    fn look(&self, file: &dyn File) -> io::Result<()> {
        let Some(header) = header(file)? else { return Ok(()) };
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        for number in 1.. {
            let at = frame_offset(number, header.page_size);
            let mut frame = vec![0; FrameHeader::LEN + header.page_size.bytes()];
            if file.read_at(&mut frame, at)? < frame.len() {
                break;
            }
            if FrameHeader::parse(&frame).is_ok_and(|frame| frame.salts == header.salts) {
                let page = frame.split_off(FrameHeader::LEN);
                frames.entry((header.salts, at + FrameHeader::LEN as u64)).or_insert(page);
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

/// The WAL, with old pages in it.
struct KeptFile {
    inner: Arc<dyn File>,
    frames: Arc<Mutex<Frames>>,
}

impl File for KeptFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let kept = header(&*self.inner)?.and_then(|header| {
            let frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
            frames.get(&(header.salts, offset)).filter(|page| page.len() == buf.len()).cloned()
        });
        match kept {
            Some(page) => {
                buf.copy_from_slice(&page);
                Ok(page.len())
            }
            None => self.inner.read_at(buf, offset),
        }
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_at(buf, offset)
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }
    fn id(&self) -> io::Result<FileId> {
        self.inner.id()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.inner.try_lock()
    }
}

impl Files for KeepsFrames {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let inner = self.process.open(path, how)?;
        Ok(if is_wal(path) { Arc::new(KeptFile { inner, frames: Arc::clone(&self.frames) }) } else { inner })
    }
    fn id(&self, path: &Path) -> io::Result<Option<FileId>> {
        // Every look at the WAL begins by asking whether it is still the same file.
        if is_wal(path)
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
        self.process.rename(from, to)
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
}
