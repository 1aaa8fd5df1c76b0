//! The callbacks: each turns SQLite's arguments into a call on the disk, and the answer into SQLite's code.

use super::App;
use super::Live;
use crate::disk::fault::Call;
use crate::disk::files::Handle;
use crate::disk::locks::{ByteLock, Level, Shared};
use crate::disk::state::Door;
use crate::disk::{Disk, Process};
use litekeep::files::{File, Files, Open};
use litekeep_core::env::Clock;
use rusqlite::ffi;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
use std::sync::PoisonError;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(x_close),
    xRead: Some(x_read),
    xWrite: Some(x_write),
    xTruncate: Some(x_truncate),
    xSync: Some(x_sync),
    xFileSize: Some(x_file_size),
    xLock: Some(x_lock),
    xUnlock: Some(x_unlock),
    xCheckReservedLock: Some(x_check_reserved_lock),
    xFileControl: Some(x_file_control),
    xSectorSize: Some(x_sector_size),
    xDeviceCharacteristics: Some(x_device_characteristics),
    xShmMap: Some(x_shm_map),
    xShmLock: Some(x_shm_lock),
    xShmBarrier: Some(x_shm_barrier),
    xShmUnmap: Some(x_shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// What SQLite allocates for each open file: its own part, then ours.
#[repr(C)]
pub(super) struct SimFile {
    base: ffi::sqlite3_file,
    inner: *mut Inner,
}

struct Inner {
    handle: Handle,
    shared: Option<Shared>,
    /// The directory is synced with the first sync of a journal or WAL that was just made, as on Unix.
    sync_dir: bool,
    persist_wal: bool,
}

impl Inner {
    fn process(&self) -> &Process {
        &self.handle.process
    }
}

/// SQLite's view of an error, with `other` for what has no code of its own.
fn code(error: &io::Error, other: c_int) -> c_int {
    match error.kind() {
        io::ErrorKind::StorageFull => ffi::SQLITE_FULL,
        io::ErrorKind::PermissionDenied => ffi::SQLITE_READONLY,
        _ => other,
    }
}

fn done(result: io::Result<()>, other: c_int) -> c_int {
    result.map_or_else(|error| code(&error, other), |()| ffi::SQLITE_OK)
}

/// # Safety
/// `file` was opened by `x_open` and not closed since; SQLite makes one call at a time on a file.
unsafe fn inner<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Inner {
    // SAFETY: by the contract above the allocation is a `SimFile` whose `inner` came from a `Box`.
    unsafe { &mut *(*file.cast::<SimFile>()).inner }
}

/// # Safety
/// `vfs` was made by `Vfs::new`.
unsafe fn live<T>(vfs: *mut ffi::sqlite3_vfs, use_it: impl FnOnce(&Live) -> T) -> Option<T> {
    // SAFETY: `pAppData` points at a leaked `App`.
    let app = unsafe { &*(*vfs).pAppData.cast::<App>() };
    app.live.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(use_it)
}

/// # Safety
/// `name` is a C string or null.
unsafe fn path(name: *const c_char) -> Option<PathBuf> {
    if name.is_null() {
        return None;
    }
    // SAFETY: not null, and a C string by contract.
    Some(PathBuf::from(unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()))
}

pub(super) unsafe extern "C" fn x_open(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let sim = file.cast::<SimFile>();
    // SAFETY: SQLite passes `szOsFile` bytes; without methods it won't close what did not open.
    unsafe { (*sim).base.pMethods = null() };
    // SAFETY: `vfs` is ours, `name` a C string or null.
    let opened = unsafe { live(vfs, |live| open(&live.process, path(name), flags)) };
    match opened {
        Some(Ok(inner)) => {
            // SAFETY: as above; `out_flags` may be null.
            unsafe {
                (*sim).inner = Box::into_raw(Box::new(inner));
                (*sim).base.pMethods = &raw const METHODS;
                if !out_flags.is_null() {
                    *out_flags = flags;
                }
            }
            ffi::SQLITE_OK
        }
        Some(Err(error)) if error.kind() == io::ErrorKind::StorageFull => ffi::SQLITE_FULL,
        Some(Err(_)) | None => ffi::SQLITE_CANTOPEN,
    }
}

fn open(process: &Process, path: Option<PathBuf>, flags: c_int) -> io::Result<Inner> {
    let has = |flag| flags & flag != 0;
    let journal = has(ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL | ffi::SQLITE_OPEN_WAL);
    let create = has(ffi::SQLITE_OPEN_CREATE);
    let handle = match &path {
        None => process.open_anonymous()?,
        Some(path) => {
            let how = match (create, has(ffi::SQLITE_OPEN_EXCLUSIVE), has(ffi::SQLITE_OPEN_READONLY)) {
                (true, true, _) => Open::CreateNew,
                (true, false, _) => Open::CreateOrKeep,
                (false, _, true) => Open::Read,
                (false, _, false) => Open::Write,
            };
            let door = if has(ffi::SQLITE_OPEN_MAIN_DB) { Door::Database } else { Door::Sqlite };
            process.open_handle(path, how, door)?
        }
    };
    if let Some(path) = &path
        && has(ffi::SQLITE_OPEN_DELETEONCLOSE)
    {
        process.remove(path)?;
    }
    Ok(Inner { handle, shared: None, sync_dir: journal && create, persist_wal: false })
}

pub(super) unsafe extern "C" fn x_delete(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    sync_dir: c_int,
) -> c_int {
    // SAFETY: `vfs` is ours and `name` a C string.
    let result = unsafe {
        live(vfs, |live| {
            let path = path(name).unwrap_or_default();
            live.process.unlink(&path)?;
            if sync_dir != 0 { live.process.sync_dir(litekeep::files::parent(&path)) } else { Ok(()) }
        })
    };
    match result {
        Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => ffi::SQLITE_IOERR_DELETE_NOENT,
        Some(result) => done(result, ffi::SQLITE_IOERR_DELETE),
        None => ffi::SQLITE_IOERR_DELETE,
    }
}

pub(super) unsafe extern "C" fn x_access(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: `vfs` is ours and `name` a C string.
    let len = unsafe { live(vfs, |live| Files::len(&live.process, &path(name).unwrap_or_default())) };
    match len {
        Some(Ok(len)) => {
            // As on Unix an empty file does not count as existing: it is a journal that was not begun.
            let there = if flags == ffi::SQLITE_ACCESS_EXISTS { len > Some(0) } else { len.is_some() };
            // SAFETY: SQLite passes a valid pointer.
            unsafe { *out = c_int::from(there) };
            ffi::SQLITE_OK
        }
        Some(Err(_)) | None => ffi::SQLITE_IOERR_ACCESS,
    }
}

pub(super) unsafe extern "C" fn x_full_pathname(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    room: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: `name` is a C string.
    let given = unsafe { path(name) }.unwrap_or_default();
    let full = Path::new("/").join(given);
    let Ok(full) = CString::new(full.to_string_lossy().as_bytes()) else { return ffi::SQLITE_CANTOPEN };
    let bytes = full.as_bytes_with_nul();
    if bytes.len() > usize::try_from(room).unwrap_or(0) {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: `out` has `room` bytes, and these are no more.
    unsafe { out.copy_from_nonoverlapping(bytes.as_ptr().cast(), bytes.len()) };
    ffi::SQLITE_OK
}

pub(super) unsafe extern "C" fn x_randomness(
    vfs: *mut ffi::sqlite3_vfs,
    len: c_int,
    out: *mut c_char,
) -> c_int {
    let len = usize::try_from(len).unwrap_or(0);
    // SAFETY: `vfs` is ours; `out` has `len` bytes.
    unsafe {
        live(vfs, |live| live.random.fill(std::slice::from_raw_parts_mut(out.cast(), len)));
    }
    c_int::try_from(len).unwrap_or(0)
}

pub(super) unsafe extern "C" fn x_sleep(vfs: *mut ffi::sqlite3_vfs, micros: c_int) -> c_int {
    let duration = Duration::from_micros(u64::try_from(micros).unwrap_or(0));
    // SAFETY: `vfs` is ours.
    unsafe { live(vfs, |live| live.process.disk.clock.sleep(duration)) };
    micros
}

/// Milliseconds of the Julian day number at the Unix epoch.
const JULIAN_EPOCH_MS: i64 = 210_866_760_000_000;

pub(super) unsafe extern "C" fn x_current_time_int64(
    vfs: *mut ffi::sqlite3_vfs,
    out: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: `vfs` is ours and `out` valid.
    unsafe {
        let now = live(vfs, |live| live.process.disk.clock.wall().0).unwrap_or(0);
        *out = JULIAN_EPOCH_MS + now;
    }
    ffi::SQLITE_OK
}

pub(super) unsafe extern "C" fn x_current_time(vfs: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    let mut millis = 0;
    // SAFETY: `vfs` is ours and `out` valid.
    unsafe {
        x_current_time_int64(vfs, &raw mut millis);
        *out = millis as f64 / 86_400_000.0;
    }
    ffi::SQLITE_OK
}

pub(super) unsafe extern "C" fn x_get_last_error(
    _: *mut ffi::sqlite3_vfs,
    _: c_int,
    _: *mut c_char,
) -> c_int {
    0
}

unsafe extern "C" fn x_close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: open until now; SQLite does not use it again.
    drop(unsafe { Box::from_raw((*file.cast::<SimFile>()).inner) });
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_read(
    file: *mut ffi::sqlite3_file,
    to: *mut c_void,
    amount: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: `file` is open and `to` has `amount` bytes.
    let (inner, buf) = unsafe {
        (inner(file), std::slice::from_raw_parts_mut(to.cast::<u8>(), usize::try_from(amount).unwrap_or(0)))
    };
    match inner.handle.read_at(buf, offset.unsigned_abs()) {
        Ok(n) if n == buf.len() => ffi::SQLITE_OK,
        Ok(n) => {
            buf[n..].fill(0);
            ffi::SQLITE_IOERR_SHORT_READ
        }
        Err(_) => ffi::SQLITE_IOERR_READ,
    }
}

unsafe extern "C" fn x_write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    amount: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: `file` is open and `from` has `amount` bytes.
    let (inner, buf) = unsafe {
        (inner(file), std::slice::from_raw_parts(from.cast::<u8>(), usize::try_from(amount).unwrap_or(0)))
    };
    done(inner.handle.write_at(buf, offset.unsigned_abs()), ffi::SQLITE_IOERR_WRITE)
}

unsafe extern "C" fn x_truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    // SAFETY: `file` is open.
    let inner = unsafe { inner(file) };
    done(inner.handle.set_len(size.unsigned_abs()), ffi::SQLITE_IOERR_TRUNCATE)
}

unsafe extern "C" fn x_sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: `file` is open.
    let inner = unsafe { inner(file) };
    let mut result = inner.handle.sync();
    if result.is_ok() && inner.sync_dir {
        result = inner.process().sync_dir(litekeep::files::parent(Path::new(&*inner.handle.path)));
        inner.sync_dir = false;
    }
    done(result, ffi::SQLITE_IOERR_FSYNC)
}

unsafe extern "C" fn x_file_size(file: *mut ffi::sqlite3_file, out: *mut ffi::sqlite3_int64) -> c_int {
    // SAFETY: `file` is open and `out` valid.
    match unsafe { inner(file) }.handle.len() {
        Ok(len) => {
            // SAFETY: as above.
            unsafe { *out = ffi::sqlite3_int64::try_from(len).unwrap_or(ffi::sqlite3_int64::MAX) };
            ffi::SQLITE_OK
        }
        Err(_) => ffi::SQLITE_IOERR_FSTAT,
    }
}

unsafe extern "C" fn x_lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: `file` is open.
    match unsafe { inner(file) }.handle.lock(Level::from_sqlite(level)) {
        Ok(true) => ffi::SQLITE_OK,
        Ok(false) => ffi::SQLITE_BUSY,
        Err(_) => ffi::SQLITE_IOERR_LOCK,
    }
}

unsafe extern "C" fn x_unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: `file` is open.
    done(unsafe { inner(file) }.handle.unlock(Level::from_sqlite(level)), ffi::SQLITE_IOERR_UNLOCK)
}

unsafe extern "C" fn x_check_reserved_lock(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: `file` is open and `out` valid.
    match unsafe { inner(file) }.handle.reserved() {
        Ok(reserved) => {
            // SAFETY: as above.
            unsafe { *out = c_int::from(reserved) };
            ffi::SQLITE_OK
        }
        Err(_) => ffi::SQLITE_IOERR_CHECKRESERVEDLOCK,
    }
}

unsafe extern "C" fn x_file_control(file: *mut ffi::sqlite3_file, verb: c_int, arg: *mut c_void) -> c_int {
    // SAFETY: `file` is open.
    let inner = unsafe { inner(file) };
    let number = arg.cast::<c_int>();
    match verb {
        ffi::SQLITE_FCNTL_LOCKSTATE => {
            let level = inner.handle.level().map_or(0, |level| level as c_int);
            // SAFETY: this verb's argument is an int.
            unsafe { *number = level };
        }
        ffi::SQLITE_FCNTL_PERSIST_WAL => {
            // SAFETY: this verb's argument is an int; a negative one asks.
            unsafe {
                match *number {
                    asked if asked < 0 => *number = c_int::from(inner.persist_wal),
                    set => inner.persist_wal = set != 0,
                }
            }
        }
        ffi::SQLITE_FCNTL_HAS_MOVED => {
            let there = Files::id(inner.process(), Path::new(&*inner.handle.path)).ok().flatten();
            let moved = there.map(|id| id.inode) != Some(inner.handle.ino.0);
            // SAFETY: this verb's argument is an int.
            unsafe { *number = c_int::from(moved) };
        }
        ffi::SQLITE_FCNTL_SIZE_HINT | ffi::SQLITE_FCNTL_CHUNK_SIZE => {}
        _ => return ffi::SQLITE_NOTFOUND,
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_sector_size(_file: *mut ffi::sqlite3_file) -> c_int {
    4096
}

unsafe extern "C" fn x_device_characteristics(_file: *mut ffi::sqlite3_file) -> c_int {
    // What SQLite assumes of any disk on Unix.
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE | ffi::SQLITE_IOCAP_SUBPAGE_READ
}

unsafe extern "C" fn x_shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: `out` is valid and `file` open.
    let inner = unsafe {
        *out = null_mut();
        inner(file)
    };
    let Ok(mut state) = inner.process().enter(Call::Lock, &inner.handle.path) else {
        return ffi::SQLITE_IOERR_SHMMAP;
    };
    let Some(node) = state.nodes.get_mut(&inner.handle.ino) else { return ffi::SQLITE_IOERR_SHMMAP };
    let shared = match &inner.shared {
        Some(mine) => mine.clone(),
        None => node.shared.get_or_insert_default().clone(),
    };
    shared.join(inner.handle.id);
    let size = usize::try_from(size).unwrap_or(0);
    if let Some(region) = shared.region(usize::try_from(region).unwrap_or(0), size, extend != 0) {
        // SAFETY: `out` is valid. The region lives as long as `inner.shared`, which `x_shm_unmap` ends.
        unsafe { *out = region.start.cast() };
    }
    drop(state);
    inner.shared = Some(shared);
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_shm_lock(
    file: *mut ffi::sqlite3_file,
    first: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: `file` is open.
    let inner = unsafe { inner(file) };
    if inner.process().enter(Call::Lock, &inner.handle.path).is_err() {
        return ffi::SQLITE_IOERR_SHMLOCK;
    }
    let Some(shared) = &inner.shared else { return ffi::SQLITE_IOERR_SHMLOCK };
    let mask = u8::try_from(((1_u32 << count) - 1) << first).unwrap_or(u8::MAX);
    let how = if flags & ffi::SQLITE_SHM_SHARED != 0 { ByteLock::Shared } else { ByteLock::Exclusive };
    if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
        shared.unlock(inner.handle.id, mask);
        return ffi::SQLITE_OK;
    }
    if shared.lock(inner.handle.id, mask, how) { ffi::SQLITE_OK } else { ffi::SQLITE_BUSY }
}

unsafe extern "C" fn x_shm_barrier(file: *mut ffi::sqlite3_file) {
    // SAFETY: `file` is open.
    let inner = unsafe { inner(file) };
    fence(Ordering::SeqCst);
    // A process may be killed between two writes to shared memory; SQLite has no way to hear of it here.
    drop(inner.process().enter(Call::Barrier, &inner.handle.path));
}

unsafe extern "C" fn x_shm_unmap(file: *mut ffi::sqlite3_file, _delete: c_int) -> c_int {
    // SAFETY: `file` is open.
    let inner = unsafe { inner(file) };
    unmap(&inner.process().disk, &inner.handle);
    inner.shared = None;
    ffi::SQLITE_OK
}

fn unmap(disk: &Disk, handle: &Handle) {
    let mut state = disk.state();
    if let Some(opened) = state.opened.get(&handle.id).copied() {
        state.leave_shared(handle.id, opened);
    }
}
