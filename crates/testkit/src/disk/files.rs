//! The disk as [`Files`]: one open file and the calls that change names.

use super::fault::{Call, Dead, Stop};
use super::locks::Level;
use super::state::{Door, HandleId, Node, State};
use super::{Ino, Process, gone};
use litekeep::files::{File, FileId, Files, Open};
use std::io;
use std::path::Path;
use std::sync::{Arc, MutexGuard};

const DEVICE: u64 = 1;

/// An open file of a process. Dropping it closes it.
pub(super) struct Handle {
    pub(super) process: Process,
    pub(super) id: HandleId,
    pub(super) ino: Ino,
    pub(super) path: Arc<str>,
    door: Door,
    writable: bool,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.process.disk.state().close(self.id, &self.path);
    }
}

fn node(state: &mut State, ino: Ino) -> io::Result<&mut Node> {
    state.nodes.get_mut(&ino).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl Process {
    /// Lets others work, then counts a call, lets planned trouble happen, and gives the disk if the call may go on.
    pub(super) fn enter(&self, call: Call, path: &str) -> io::Result<MutexGuard<'_, State>> {
        self.give_way();
        match self.go_on(call, path) {
            // Only reading bytes can end early.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(io::ErrorKind::Other.into()),
            other => other,
        }
    }

    /// A further step of a call that nobody else can come between.
    fn go_on(&self, call: Call, path: &str) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.disk.state();
        if !state.powered() || !state.alive(self.pid) {
            return Err(gone());
        }
        match state.faults.enter(call, self.pid, path) {
            Ok(()) => Ok(state),
            Err(Stop::Error(kind)) => Err(kind.into()),
            Err(Stop::Dies(Dead::Machine)) => {
                state.power_off();
                Err(gone())
            }
            Err(Stop::Dies(Dead::Process(pid))) => {
                state.kill(pid);
                Err(gone())
            }
        }
    }

    pub(super) fn open_handle(&self, path: &Path, how: Open, door: Door) -> io::Result<Handle> {
        let shown: Arc<str> = path.to_string_lossy().into();
        let found = self.enter(Call::Read, &shown)?.find(path)?;
        let mut state = match (found, how) {
            (Some(_), Open::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, Open::Read | Open::Write) => return Err(io::ErrorKind::NotFound.into()),
            (None, _) => self.go_on(Call::Create, &shown)?,
            (Some(_), Open::CreateOrTruncate) => self.go_on(Call::Truncate, &shown)?,
            (Some(_), _) => self.go_on(Call::Read, &shown)?,
        };
        let ino = match found {
            Some(ino) if state.is_directory(ino) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(ino) => ino,
            None => {
                let slot = state.slot(path)?;
                state.history.note(format!("create {shown}"), &[]);
                state.make(Some(slot), false)
            }
        };
        if found.is_some() && how == Open::CreateOrTruncate {
            state.history.note(format!("truncate {shown} to 0"), &[]);
            node(&mut state, ino)?.content.set_len(0);
        }
        let id = state.open(ino, self.pid, door);
        drop(state);
        Ok(Handle { process: self.clone(), id, ino, path: shown, door, writable: how != Open::Read })
    }

    /// Removes a name as `unlink` does: one call, which says itself that nothing is there, and fails as a whole.
    pub(super) fn unlink(&self, path: &Path) -> io::Result<()> {
        self.give_way();
        let there = {
            let state = self.disk.state();
            if !state.powered() || !state.alive(self.pid) {
                return Err(gone());
            }
            state.find(path)?.is_some()
        };
        if !there {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut state = self.go_on(Call::Remove, &path.to_string_lossy())?;
        state.history.note(format!("remove {}", path.display()), &[]);
        let slot = state.slot(path)?;
        state.unlink(slot)
    }

    /// A file without a name.
    pub(super) fn open_anonymous(&self) -> io::Result<Handle> {
        let shown: Arc<str> = "(temporary)".into();
        let mut state = self.enter(Call::Create, &shown)?;
        let ino = state.make(None, false);
        let id = state.open(ino, self.pid, Door::Sqlite);
        drop(state);
        Ok(Handle { process: self.clone(), id, ino, path: shown, door: Door::Sqlite, writable: true })
    }
}

impl Handle {
    fn enter(&self, call: Call) -> io::Result<MutexGuard<'_, State>> {
        if !self.writable && matches!(call, Call::Write | Call::Truncate) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.process.enter(call, &self.path)
    }

    pub(super) fn lock(&self, want: Level) -> io::Result<bool> {
        Ok(node(&mut *self.enter(Call::Lock)?, self.ino)?.locks.lock(self.id, want))
    }

    pub(super) fn unlock(&self, to: Level) -> io::Result<()> {
        node(&mut *self.enter(Call::Lock)?, self.ino)?.locks.unlock(self.id, to);
        Ok(())
    }

    pub(super) fn level(&self) -> io::Result<Level> {
        Ok(node(&mut *self.enter(Call::Lock)?, self.ino)?.locks.level(self.id))
    }

    pub(super) fn reserved(&self) -> io::Result<bool> {
        Ok(node(&mut *self.enter(Call::Lock)?, self.ino)?.locks.reserved())
    }
}

impl File for Handle {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.process.give_way();
        let (mut state, asked) = match self.process.go_on(Call::Read, &self.path) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && self.door == Door::Raw => {
                (self.process.disk.state(), buf.len() / 2)
            }
            other => (other?, buf.len()),
        };
        let buf = &mut buf[..asked];
        Ok(node(&mut state, self.ino)?.content.read(buf, position(offset)?))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.enter(Call::Write)?;
        let len = node(&mut state, self.ino)?.content.len() as u64;
        state.room_for(self.process.pid, (offset + buf.len() as u64).saturating_sub(len))?;
        state.history.note(format!("write {} bytes to {} at {offset}", buf.len(), self.path), buf);
        node(&mut state, self.ino)?.content.write(buf, position(offset)?);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(node(&mut *self.enter(Call::Read)?, self.ino)?.content.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.enter(Call::Truncate)?;
        let old = node(&mut state, self.ino)?.content.len() as u64;
        state.room_for(self.process.pid, len.saturating_sub(old))?;
        state.history.note(format!("truncate {} to {len}", self.path), &[]);
        node(&mut state, self.ino)?.content.set_len(position(len)?);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        match self.enter(Call::Sync) {
            Ok(mut state) => {
                state.history.note(format!("sync {}", self.path), &[]);
                node(&mut state, self.ino)?.content.sync();
                Ok(())
            }
            Err(error) => {
                // What no later sync brings to the disk is lost to SQLite for good, as everybody knows since 2018; the
                // engine's own files are to survive it, and SQLite's keep their bytes for the next sync.
                if self.process.alive() && self.door == Door::Raw {
                    node(&mut self.process.disk.state(), self.ino)?.content.fail_sync();
                }
                Err(error)
            }
        }
    }

    fn id(&self) -> io::Result<FileId> {
        drop(self.enter(Call::Read)?);
        Ok(FileId { device: DEVICE, inode: self.ino.0 })
    }

    fn try_lock(&self) -> io::Result<bool> {
        Ok(node(&mut *self.enter(Call::Lock)?, self.ino)?.locks.try_advisory(self.id))
    }
}

impl Files for Process {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(self.open_handle(path, how, Door::Raw)?))
    }

    fn id(&self, path: &Path) -> io::Result<Option<FileId>> {
        let found = self.enter(Call::Read, &path.to_string_lossy())?.find(path)?;
        Ok(found.map(|ino| FileId { device: DEVICE, inode: ino.0 }))
    }

    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        let mut state = self.enter(Call::Read, &path.to_string_lossy())?;
        let Some(ino) = state.find(path)? else { return Ok(None) };
        Ok(Some(node(&mut state, ino)?.content.len() as u64))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.enter(Call::Rename, &to.to_string_lossy())?;
        state.history.note(format!("rename {} to {}", from.display(), to.display()), &[]);
        let (from, to) = (state.slot(from)?, state.slot(to)?);
        state.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if self.enter(Call::Read, &path.to_string_lossy())?.find(path)?.is_none() {
            return Ok(());
        }
        let mut state = self.go_on(Call::Remove, &path.to_string_lossy())?;
        state.history.note(format!("remove {}", path.display()), &[]);
        let slot = state.slot(path)?;
        state.unlink(slot)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut above: Vec<&Path> = path.ancestors().collect();
        above.reverse();
        for dir in above {
            let shown = dir.to_string_lossy();
            let found = {
                let state = self.enter(Call::Read, &shown)?;
                state.find(dir)?.map(|ino| state.is_directory(ino))
            };
            match found {
                Some(true) => {}
                Some(false) => return Err(io::ErrorKind::AlreadyExists.into()),
                None => {
                    let mut state = self.go_on(Call::Create, &shown)?;
                    state.history.note(format!("make directory {shown}"), &[]);
                    let slot = state.slot(dir)?;
                    state.make(Some(slot), true);
                }
            }
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.enter(Call::Read, &path.to_string_lossy())?;
        match state.find(path)? {
            Some(ino) if state.is_directory(ino) => Ok(state.list(ino)),
            Some(_) => Err(io::ErrorKind::NotADirectory.into()),
            None => Ok(Vec::new()),
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.enter(Call::SyncDir, &path.to_string_lossy())?;
        let ino = state.find(path)?.ok_or(io::ErrorKind::NotFound)?;
        state.history.note(format!("sync directory {}", path.display()), &[]);
        state.sync_names(ino);
        Ok(())
    }

    fn boot_id(&self) -> Option<String> {
        Some(format!("life {}", self.disk().state().lives))
    }
}
