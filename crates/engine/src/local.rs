//! The local state of one database: `.<file>-litekeep/`, a lock, one small state file, the tail, staged slots and
//! page checksums.
//!
//! The state file is the one switch: what is kept of the file counts only as far as it says. It is replaced
//! atomically, after what it speaks of is durable. A directory without a readable state file is a directory without
//! a record, never a reason to guess.

mod lock;
mod spelled;

use crate::files::{self, FileId, Files, Open};
use crate::noted;
use crate::sums;
use litekeep_core::assess::Position;
use litekeep_core::limits;
use litekeep_formats::crc::page_checksum;
use litekeep_formats::{Checksum, PageNo, PageSize, TimestampMs, Txid};
use lock::{Lock, guard, take_lock};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What counts: everything else counts only as far as it says.
pub const STATE: &str = "state";

/// Whoever works with the directory holds it. It stays: a lock that is removed while somebody waits for it protects from nobody.
pub const LOCK: &str = "lock";

const OWNER: &str = "owner";
const TAIL: &str = "tail";

/// The newest slot that the replica was heard to have: its number and its file checksum.
const HELD: &str = "held";

/// The machine's life in which an engine last worked on the file and did not leave it at rest.
const AT_WORK: &str = "at-work";

/// What a follower is about to make of the file, spelled like the state.
const NEXT: &str = "next";

/// How the names of staged slots and of page checksums begin, and how those of drafts end.
const SLOT: &str = "slot-";
const DRAFT: &str = ".tmp";

/// Whether a file of this name in a local state's directory is the state's.
pub fn is_ours(name: &str) -> bool {
    is_record(name) || matches!(name, LOCK | OWNER | AT_WORK)
}

/// Whether it says anything of the file and the chain, so that it goes when those are to be looked at anew. Who had the
/// directory stays known.
pub fn is_record(name: &str) -> bool {
    is_of_the_state(name) || matches!(name, NEXT | HELD | noted::CREATE_ONLY | noted::RESTORED)
}

/// Whether it counts only as far as the state speaks of it, or is the state.
fn is_of_the_state(name: &str) -> bool {
    let numbered = [SLOT, sums::PREFIX].iter().any(|prefix| name.starts_with(prefix));
    matches!(name, STATE | TAIL) || numbered || name.ends_with(DRAFT)
}

/// What is known about the local file and the chain, durably.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The database file that all this is about.
    pub file: FileId,
    /// The replica that all this is about, without secrets.
    pub replica: String,
    /// The last slot that was built from the file or restored into it.
    pub txid: Txid,
    /// That slot's file checksum, where known.
    pub slot: Option<Checksum>,
    /// The rolling database checksum after it, where known.
    pub database: Option<Checksum>,
    /// Pages of the database after it.
    pub commit: u32,
    /// Bytes of a page.
    pub page_size: PageSize,
    /// That slot's time; no later one may lie before it.
    pub timestamp: TimestampMs,
    /// How far the WAL is captured in slots. The tail says how far it was captured behind that.
    pub position: Position,
    /// How far it was, where the position was given up since: what slots hold of the WAL is told by this.
    pub captured: Option<Position>,
    /// The tail's life: a random number, and a new one whenever the tail begins anew.
    pub tail: u64,
    /// An earlier state than the replica's newest was restored on purpose, when the newest was this one (R21).
    pub rewound_from: Option<Txid>,
    /// What the file holds as this state, where SQLite was made to write it: its pages but for what SQLite counts in page
    /// 1, so that `database` does not tell it. See `content`.
    pub content: Option<Checksum>,
    /// The file may have been brought forward to one of these contents, each of a later state of the chain: written
    /// before that is committed, and void with the next state.
    pub forward: Vec<Checksum>,
    /// The page checksum array: for which slot it was begun, up to which slot it counts, for how many pages.
    pub sums: Option<SumsRecord>,
}

/// See [`State::sums`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SumsRecord {
    /// Part of the array's file name.
    #[serde(with = "spelled::hex_txid")]
    pub begun: Txid,
    /// The slot that the array stands for.
    #[serde(with = "spelled::hex_txid")]
    pub flushed: Txid,
    /// Pages of the database after that slot.
    pub commit: u32,
}

impl State {
    /// The last place in the WAL up to which slots hold everything.
    pub(crate) fn captured(&self) -> Position {
        self.captured.unwrap_or(self.position)
    }

    /// Whether this content is that of this state, or of one that the file was on its way to.
    pub(crate) fn may_hold(&self, content: Checksum) -> bool {
        self.content == Some(content) || self.forward.contains(&content)
    }

    /// Nothing of the WAL counts as captured any more: the next slot is made by comparing pages.
    pub(crate) fn give_up_position(&mut self, tail: u64) {
        self.captured = Some(self.captured()).filter(|position| position.frame > 0);
        (self.position, self.tail) = (Position::before_any_frame(self.page_size), tail);
    }

    /// The file is known to stand here.
    pub(crate) fn stands_at(&mut self, position: Position) {
        (self.position, self.captured) = (position, None);
    }
}

/// The newest slot that was built from the file or restored into it, as it is recorded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Newest {
    pub(crate) txid: Txid,
    pub(crate) slot: Option<Checksum>,
    pub(crate) database: Option<Checksum>,
    /// It was built here, and nobody heard that the replica has it.
    pub(crate) unheard: bool,
}

/// The directory and its lock.
pub(crate) struct Local {
    files: Arc<dyn Files>,
    dir: PathBuf,
    /// The id of the engine that had the directory before: it is gone, since the lock is ours.
    former: Option<String>,
    /// The machine may have lost its power since an engine last worked here: commits that were captured, and not synced
    /// by their writer, may be gone from the file.
    power_lost: Cell<bool>,
    /// A state was put in place, and whether it stands was not heard: the disk says that one or the one before.
    doubt: Cell<bool>,
    /// Held for as long as this engine runs: two engines on one file would undo each other's work. The directory's, and that
    /// of the file by its real name where the state lies elsewhere; none before the directory is taken.
    locks: Vec<Lock>,
}

/// Why the local directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Somebody else has it.
    #[error("another litekeep replicates this database already (lock {0})")]
    Locked(PathBuf),
    /// The file system's answer.
    #[error("{path}: {error}")]
    Io {
        /// Which path.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

/// The directory for a database's local state: `meta` if given, else `.<file>-litekeep` beside it.
pub fn directory(database: &Path, meta: Option<&Path>) -> PathBuf {
    if let Some(meta) = meta {
        return meta.to_owned();
    }
    let mut name = std::ffi::OsString::from(".");
    name.push(database.file_name().unwrap_or(database.as_os_str()));
    name.push("-litekeep");
    database.with_file_name(name)
}

/// The last state that was saved in a directory, without its lock: for showing, not for acting on. `None` if there is
/// none that this version can read.
///
/// # Errors
/// The file system's.
pub fn peek(files: &dyn Files, dir: &Path) -> io::Result<Option<State>> {
    read_state(files, &dir.join(STATE))
}

/// The same of what the file was about to become, by following a replica.
///
/// # Errors
/// The file system's.
pub fn peek_next(files: &dyn Files, dir: &Path) -> io::Result<Option<State>> {
    read_state(files, &dir.join(NEXT))
}

fn read_state(files: &dyn Files, path: &Path) -> io::Result<Option<State>> {
    match files::read_small(files, path, limits::STATE_BYTES) {
        Ok(text) => Ok(text.and_then(|text| State::read(&text))),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(error),
    }
}

impl Local {
    /// A directory that is not taken yet, because the database's own folder is not there. Nothing is to be written to it.
    pub(crate) fn untaken(files: &Arc<dyn Files>, dir: PathBuf) -> Self {
        let (power_lost, doubt) = (Cell::new(false), Cell::new(false));
        Self { files: Arc::clone(files), dir, former: None, power_lost, doubt, locks: Vec::new() }
    }

    /// Whether it is taken.
    pub(crate) fn is_taken(&self) -> bool {
        !self.locks.is_empty()
    }

    /// Whether its locks still lie where the next engine would look for them.
    pub(crate) fn is_in_place(&self) -> io::Result<bool> {
        for lock in &self.locks {
            if !lock.is_in_place(&*self.files)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes the directory (0700) and takes its lock; and the database's own, if that is another one.
    pub(crate) fn open(files: &Arc<dyn Files>, database: &Path, dir: PathBuf) -> Result<Self, LocalError> {
        files.create_dir(&dir).map_err(at(&dir))?;
        // Its name as well must outlive the power, or everything in it does not. A directory above that cannot be synced
        // is no reason not to replicate.
        if let Err(error) = files.sync_dir(files::parent(&dir)) {
            tracing::warn!(path = %dir.display(), %error, "the state directory's name could not be made durable");
        }
        let lock = take_lock(&**files, &dir)?;
        let locks = std::iter::once(lock).chain(guard(&**files, database, &dir)?).collect();
        let owner = dir.join(OWNER);
        let former = match files::read_small(&**files, &owner, limits::STATE_BYTES) {
            Err(error) if error.kind() != io::ErrorKind::InvalidData => return Err(at(&owner)(error)),
            other => other.ok().flatten().and_then(|text| String::from_utf8(text).ok()),
        };
        let at_work = dir.join(AT_WORK);
        let then = match files::read_small(&**files, &at_work, limits::STATE_BYTES) {
            Err(error) if error.kind() != io::ErrorKind::InvalidData => return Err(at(&at_work)(error)),
            other => other.ok().flatten(),
        };
        let power_lost = match (then, files.boot_id()) {
            (Some(then), Some(now)) => then != now.as_bytes(),
            _ => false,
        };
        let power_lost = Cell::new(power_lost);
        Ok(Self { files: Arc::clone(files), dir, former, power_lost, doubt: Cell::new(false), locks })
    }

    /// See the field.
    pub(crate) fn power_lost(&self) -> bool {
        self.power_lost.get()
    }

    /// The file was looked at, and its application is about to commit in this life of the machine. Durable before
    /// anything is.
    pub(crate) fn begin_work(&self) -> io::Result<()> {
        let Some(now) = self.files.boot_id() else { return Ok(()) };
        let path = self.dir.join(AT_WORK);
        if files::read_small(&*self.files, &path, limits::STATE_BYTES)?.as_deref() != Some(now.as_bytes()) {
            files::replace(&*self.files, &path, now.as_bytes())?;
        }
        self.power_lost.set(false);
        Ok(())
    }

    /// The file is known to hold what was captured of it, and only synced commits come: nothing can fall back.
    pub(crate) fn forget_work(&self) -> io::Result<()> {
        self.files.remove(&self.dir.join(AT_WORK))?;
        self.files.sync_dir(&self.dir)?;
        self.power_lost.set(false);
        Ok(())
    }

    /// This engine's work is over, and everything of the database is durable, the WAL's last frames among it: whatever
    /// becomes of the machine, what was captured stays in the file.
    pub(crate) fn end_work(&self, database: &Path) -> io::Result<()> {
        match self.files.open(&files::with_suffix(database, "-wal"), Open::Read) {
            Ok(wal) => wal.sync()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.forget_work()
    }

    /// The id of the engine that had this directory before, and cannot run any more.
    pub(crate) fn former(&self) -> Option<&str> {
        self.former.as_deref()
    }

    /// Writes down who has it now: before that id is in any claim.
    pub(crate) fn set_owner(&self, id: &str) -> io::Result<()> {
        files::replace(&*self.files, &self.dir.join(OWNER), id.as_bytes())
    }

    /// The directory itself.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The last state that was saved; `None` if there is none that this version can read. A content that a follower
    /// was about to commit is among those that the file may have been brought forward to.
    pub(crate) fn load(&self) -> io::Result<Option<State>> {
        let Some(mut state) = peek(&*self.files, &self.dir)? else { return Ok(None) };
        if let Some(next) = self.intended()?
            && next.file == state.file
            && next.replica == state.replica
        {
            let more = next.content.filter(|content| !state.may_hold(*content));
            state.forward.extend(more);
        }
        Ok(Some(state))
    }

    /// Writes down, durably, which state of the chain the file is about to become, and with which content. It is no
    /// more than that: whether the file has become it, only the file can tell. So a note that nobody acted on does no
    /// harm, however old.
    pub(crate) fn intend(&self, next: &State) -> io::Result<()> {
        files::replace(&*self.files, &self.dir.join(NEXT), &next.spell())
    }

    /// See [`Local::intend`].
    pub(crate) fn intended(&self) -> io::Result<Option<State>> {
        peek_next(&*self.files, &self.dir)
    }

    /// Replaces the state, durably. If that fails, the disk may say the new state all the same: see
    /// [`Local::in_doubt`].
    pub(crate) fn save(&self, state: &State) -> io::Result<()> {
        let path = self.dir.join(STATE);
        let temporary = files::write_beside(&*self.files, &path, &state.spell())?;
        self.doubt.set(true);
        files::put_in_place(&*self.files, &temporary, &path)?;
        self.doubt.set(false);
        Ok(())
    }

    /// Whether the disk may say a state that memory has given up. What that state speaks of must stay as it is until
    /// [`Local::settle`], or the next start finds a state whose slot is gone, or is another one.
    pub(crate) fn in_doubt(&self) -> bool {
        self.doubt.get()
    }

    /// Makes the disk say `known` again, if it may say something else; `None` for no state at all.
    pub(crate) fn settle(&self, known: Option<&State>) -> io::Result<()> {
        match known {
            _ if !self.in_doubt() => Ok(()),
            Some(state) => self.save(state),
            None => self.forget(),
        }
    }

    /// Forgets what is known of the file; what lies beside that counts for nothing then.
    pub(crate) fn forget(&self) -> io::Result<()> {
        self.files.remove(&self.dir.join(STATE))?;
        self.files.sync_dir(&self.dir)?;
        self.doubt.set(false);
        Ok(())
    }

    /// Forgets what is known of the file, and what it lacks; not who had it, and in which life of the machine.
    pub(crate) fn clear(&self) -> io::Result<()> {
        self.forget()?;
        self.sweep(|_| false)
    }

    /// A staged slot's path.
    pub(crate) fn slot(&self, txid: Txid) -> PathBuf {
        self.dir.join(format!("{SLOT}{txid}"))
    }

    /// The tail's path.
    pub(crate) fn tail(&self) -> PathBuf {
        self.dir.join(TAIL)
    }

    /// The staged slots, ascending.
    pub(crate) fn staged(&self) -> io::Result<Vec<Txid>> {
        let names = self.files.list(&self.dir)?;
        Ok(names.iter().filter_map(|name| Txid::parse_hex(name.strip_prefix(SLOT)?)).collect())
    }

    /// The slot that the state speaks of, if that is about this replica and this file.
    pub(crate) fn newest(&self, about: &str, id: Option<FileId>) -> io::Result<Option<Newest>> {
        let Some(State { txid, slot, database, replica, file, .. }) = peek(&*self.files, &self.dir)? else {
            return Ok(None);
        };
        if replica != about || id != Some(file) {
            return Ok(None);
        }
        Ok(Some(Newest { txid, slot, database, unheard: self.is_unheard(txid, slot)? }))
    }

    /// Whether a slot was built here, is still kept, and was never heard to be in the replica.
    pub(crate) fn is_unheard(&self, txid: Txid, slot: Option<Checksum>) -> io::Result<bool> {
        if self.files.id(&self.slot(txid))?.is_none() {
            return Ok(false);
        }
        let held = files::read_small(&*self.files, &self.dir.join(HELD), limits::STATE_BYTES);
        match held {
            Ok(held) => Ok(slot.is_none_or(|slot| held.as_deref() != Some(held_text(txid, slot).as_bytes()))),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Notes that the replica was heard to have a slot. Not synced: a note that is lost, or half of one, only says less,
    /// and a slot is put many times a second.
    pub(crate) fn note_held(&self, txid: Txid, slot: Checksum) -> io::Result<()> {
        let file = self.files.open(&self.dir.join(HELD), Open::CreateOrKeep)?;
        file.write_at(held_text(txid, slot).as_bytes(), 0)
    }

    /// Removes all staged slots.
    pub(crate) fn forget_slots(&self) -> io::Result<()> {
        self.staged()?.into_iter().try_for_each(|txid| self.files.remove(&self.slot(txid)))
    }

    /// Removes what the state does not speak of: slots past it, other checksum arrays, half-written files.
    pub(crate) fn tidy(&self, state: &State) -> io::Result<()> {
        let array = state.sums.map(|record| sums::path(Path::new(""), record.begun));
        self.sweep(|name| {
            let slot = name.strip_prefix(SLOT).and_then(Txid::parse_hex);
            name == TAIL
                || name == STATE
                || slot.is_some_and(|txid| txid <= state.txid)
                || array.as_deref() == Some(Path::new(name))
        })
    }

    fn sweep(&self, keep: impl Fn(&str) -> bool) -> io::Result<()> {
        for name in self.files.list(&self.dir)? {
            if is_of_the_state(&name) && !keep(&name) {
                self.files.remove(&self.dir.join(name))?;
            }
        }
        Ok(())
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> LocalError + use<> {
    let path = path.to_owned();
    move |error| LocalError::Io { path, error }
}

/// Always as long, so that each takes the place of the one before.
fn held_text(txid: Txid, slot: Checksum) -> String {
    format!("{txid} {:016x}\n", slot.get())
}

/// Bytes of page 1 that SQLite writes anew by itself when a transaction touches that page: the change counter, and
/// behind it the copy of that and the version of the library (file format, 1.3.7 and 1.3.22).
const COUNTERS: [Range<usize>; 2] = [24..28, 92..100];

/// A page's part of a database's *content*: its checksum, but for what SQLite writes by itself.
pub(crate) fn content(page: PageNo, data: &[u8]) -> Checksum {
    if page != PageNo::FIRST {
        return page_checksum(page, data);
    }
    let mut data = data.to_vec();
    for range in COUNTERS {
        data[range].fill(0);
    }
    page_checksum(page, &data)
}

/// What a verified restore knows, recorded so that replication goes on with the same chain and uploads nothing that
/// is there.
#[derive(Debug, Clone)]
pub struct RestoredRecord {
    /// The replica that it came from, without secrets.
    pub replica: String,
    /// The last transaction in it.
    pub txid: Txid,
    /// The newest transaction of the replica then.
    pub newest: Txid,
    /// The file checksum of slot `txid`, where that slot was read.
    pub slot: Option<Checksum>,
    /// The rolling database checksum.
    pub database: Checksum,
    /// The time of the last file.
    pub timestamp: TimestampMs,
    /// Pages of the database.
    pub commit: u32,
    /// Bytes of a page.
    pub page_size: PageSize,
    /// The page checksums: a file of 8-byte little-endian entries, page `n` at `(n - 1) * 8`, in the state directory.
    /// It is renamed.
    pub sums: PathBuf,
}

/// Records a restore beside its output, once the database stands under its final name. Without this record the next
/// start would have to compare content.
///
/// # Errors
/// The directory is locked by a running engine, or the file system's.
pub fn record_restored(
    files: &Arc<dyn Files>,
    database: &Path,
    meta: Option<&Path>,
    record: &RestoredRecord,
) -> Result<(), LocalError> {
    let dir = directory(database, meta);
    let local = Local::open(files, database, dir.clone())?;
    let record = || {
        // What they say is about the file that stood here before.
        files.remove(&dir.join(STATE))?;
        files.remove(&local.tail())?;
        local.forget_work()?;
        record_state(&local, &**files, database, record, 0, None)
    };
    record().map(drop).map_err(|error| LocalError::Io { path: dir, error })
}

/// The same with the directory's lock already taken; the state that is there counts until the new one takes its place.
/// `tail` is the life of a tail that has not begun; `content` what SQLite was made to write, which differs from the
/// record's by what it counts in page 1: until the next slot says so, only this does.
pub(crate) fn record_state(
    local: &Local,
    files: &dyn Files,
    database: &Path,
    record: &RestoredRecord,
    tail: u64,
    content: Option<Checksum>,
) -> io::Result<State> {
    let dir = local.dir();
    files.rename(&record.sums, &sums::path(dir, record.txid))?;
    files.sync_dir(dir)?;
    let state = State {
        file: files.id(database)?.ok_or(io::ErrorKind::NotFound)?,
        replica: record.replica.clone(),
        txid: record.txid,
        slot: record.slot,
        database: Some(record.database),
        commit: record.commit,
        page_size: record.page_size,
        timestamp: record.timestamp,
        position: Position::before_any_frame(record.page_size),
        captured: None,
        tail,
        content,
        forward: Vec::new(),
        rewound_from: (record.newest > record.txid).then_some(record.newest),
        sums: Some(SumsRecord { begun: record.txid, flushed: record.txid, commit: record.commit }),
    };
    local.forget_slots()?;
    local.tidy(&state)?;
    local.save(&state)?;
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::RealFiles;
    use litekeep_formats::{Salts, WalChecksum};

    fn state() -> State {
        let page_size = PageSize::MAX;
        State {
            file: FileId { device: 1, inode: u64::MAX },
            replica: "file:///x".into(),
            txid: Txid::FIRST,
            slot: Some(Checksum::from_crc(5)),
            database: None,
            commit: 3,
            page_size,
            timestamp: TimestampMs(-1),
            position: Position {
                page_size,
                salts: Salts(1, u32::MAX),
                frame: 9,
                checksum: WalChecksum(4, 5),
            },
            captured: Some(Position { page_size, salts: Salts(2, 3), frame: 8, checksum: WalChecksum(6, 7) }),
            tail: 7,
            rewound_from: Txid::new(9),
            content: Some(Checksum::from_crc(8)),
            forward: vec![Checksum::from_crc(6), Checksum::from_crc(7)],
            sums: Some(SumsRecord { begun: Txid::FIRST, flushed: Txid::FIRST, commit: 3 }),
        }
    }

    #[test]
    fn a_state_comes_back_as_it_was_and_damage_is_no_record() {
        let root = tempfile::tempdir().expect("a directory");
        let files: Arc<dyn Files> = Arc::new(RealFiles);
        let local =
            Local::open(&files, &root.path().join("app.db"), root.path().join("meta")).expect("opened");
        assert_eq!(local.load().expect("read"), None);
        local.save(&state()).expect("saved");
        assert_eq!(local.load().expect("read"), Some(state()));
        for damaged in [&b"{}"[..], b"", b"\xff", &vec![b' '; 70_000]] {
            std::fs::write(local.dir().join(STATE), damaged).expect("written");
            assert_eq!(local.load().expect("read"), None);
        }
    }

    #[test]
    fn r19_a_second_engine_on_the_same_file_is_refused() {
        let root = tempfile::tempdir().expect("a directory");
        let files: Arc<dyn Files> = Arc::new(RealFiles);
        let dir = directory(&root.path().join("app.db"), None);
        assert_eq!(dir, root.path().join(".app.db-litekeep"));
        let first = Local::open(&files, &root.path().join("app.db"), dir.clone()).expect("opened");
        let second = Local::open(&files, &root.path().join("app.db"), dir.clone());
        assert!(matches!(second, Err(LocalError::Locked(_))));
        drop(first);
        Local::open(&files, &root.path().join("app.db"), dir).expect("free again");
    }

    #[test]
    fn r19_whatever_name_a_file_has_and_wherever_its_state_lies_a_second_engine_is_refused() {
        let root = tempfile::tempdir().expect("a directory");
        let at = |name: &str| root.path().join(name);
        std::os::unix::fs::symlink(at("app.db"), at("link.db")).expect("linked");
        std::os::unix::fs::symlink(root.path(), at("here")).expect("linked");
        let files: Arc<dyn Files> = Arc::new(RealFiles);
        let open = |(name, meta): (&str, Option<&str>)| {
            let meta = meta.map(at);
            Local::open(&files, &at(name), directory(&at(name), meta.as_deref()))
        };
        let ways = [
            ("app.db", None),
            ("app.db", Some("meta")),
            ("app.db", Some("other-meta")),
            // The usual one by name.
            ("app.db", Some(".app.db-litekeep")),
            ("app.db", Some("here/.app.db-litekeep")),
            ("here/app.db", None),
            ("here/app.db", Some("meta")),
            ("link.db", None),
            ("link.db", Some("third-meta")),
        ];
        // It need not be there yet; a link to nothing has a name of its own until then.
        for (there, ways) in [(false, &ways[..7]), (true, &ways[..])] {
            if there {
                std::fs::write(at("app.db"), "").expect("written");
            }
            for first in ways {
                let held = open(*first).expect("free");
                for second in ways {
                    let refused = open(*second);
                    assert!(matches!(refused, Err(LocalError::Locked(_))), "{first:?}, {second:?}, {there}");
                }
                drop(held);
            }
        }
        let held = open(("app.db", Some("meta"))).expect("free");
        open(("other.db", Some("other-meta"))).expect("another database");
        drop(held);
    }

    #[test]
    fn a_lock_beside_the_database_that_cannot_be_had_stops_nobody() {
        let root = tempfile::tempdir().expect("a directory");
        let files: Arc<dyn Files> = Arc::new(RealFiles);
        let database = root.path().join("app.db");
        // An earlier life as another user left a directory where this one may open nothing: here, no file can be opened.
        std::fs::create_dir_all(root.path().join(".app.db-litekeep/lock")).expect("made");
        let meta = root.path().join("meta");
        let local = Local::open(&files, &database, directory(&database, Some(&meta))).expect("opened");
        assert_eq!(local.locks.len(), 1);
    }

    #[test]
    fn tidying_removes_only_what_the_state_does_not_speak_of() {
        let root = tempfile::tempdir().expect("a directory");
        let files: Arc<dyn Files> = Arc::new(RealFiles);
        let dir = root.path().join(".app.db-litekeep");
        let local = Local::open(&files, &root.path().join("app.db"), dir.clone()).expect("opened");
        let one = Txid::FIRST;
        for path in [
            local.slot(one),
            local.slot(one.next()),
            local.tail(),
            sums::path(local.dir(), one),
            sums::path(local.dir(), one.next()),
        ] {
            std::fs::write(path, "").expect("written");
        }
        std::fs::write(dir.join("somebody-elses"), "").expect("written");
        local.tidy(&state()).expect("tidied");
        assert_eq!(
            files.list(&dir).expect("listed"),
            ["lock", "slot-0000000000000001", "somebody-elses", "sums-0000000000000001", "tail"]
        );
        assert_eq!(local.staged().expect("listed"), [one]);
    }
}
