//! SQLite on the crash disk: one VFS for each process, and SQLite's randomness on a seed.
//!
//! Locks between connections follow SQLite's own Unix rules; the index of a WAL lives in this program's heap and ends
//! with the last living process that maps it, so that the next one recovers it from the WAL. Memory-mapped reading is
//! not offered. All unsafe code of the disk is in this folder.
//!
//! One thread drives all connections of a disk; nothing here waits for anything.
#![allow(unsafe_code, reason = "a VFS is a table of C callbacks")]

mod calls;
mod region;

pub(super) use region::Region;

use super::Process;
use crate::random::SeededRandom;
use rusqlite::{Connection, OpenFlags, ffi};
use std::ffi::{CString, c_char, c_int};
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// SQLite draws its random numbers from a seed while this lives. SQLite keeps one source for the whole program, so
/// whoever simulates holds this, and waits for others that do.
#[derive(Debug)]
pub struct SeededSqlite {
    _alone: MutexGuard<'static, ()>,
}

impl SeededSqlite {
    /// Waits for its turn, then seeds.
    pub fn new(seed: u64) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // 0 would mean the operating system's randomness.
        seed_sqlite(i32::try_from(seed % 0x7fff_ffff).unwrap_or(0) + 1);
        Self { _alone: alone }
    }
}

impl Drop for SeededSqlite {
    fn drop(&mut self) {
        seed_sqlite(0);
    }
}

/// 0 gives the operating system's randomness back.
fn seed_sqlite(seed: c_int) {
    // SAFETY: the arguments of this verb are an int and a connection, which may be null; the library is initialised.
    unsafe {
        ffi::sqlite3_initialize();
        ffi::sqlite3_test_control(ffi::SQLITE_TESTCTRL_PRNG_SEED, seed, null_mut::<ffi::sqlite3>());
    }
}

/// A process's VFS, registered while this lives.
pub struct Vfs {
    raw: *mut ffi::sqlite3_vfs,
    app: &'static App,
    name: String,
}

// SAFETY: the pointer is only given back to SQLite, which registers and unregisters under its own lock.
unsafe impl Send for Vfs {}

/// What the callbacks find behind the VFS. It outlives the registration, since a connection that is closed late still
/// points at it; its content does not.
struct App {
    live: Mutex<Option<Live>>,
}

struct Live {
    process: Process,
    random: SeededRandom,
}

impl Vfs {
    /// Registers a VFS for a process, under a name that nobody else has.
    pub fn new(process: &Process) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("crash-disk-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let random = SeededRandom::new(process.disk.state().seed() ^ process.pid.0);
        let app: &'static App =
            Box::leak(Box::new(App { live: Mutex::new(Some(Live { process: process.clone(), random })) }));
        let c_name = CString::new(name.clone()).expect("BUG: the name is made of letters and digits");
        let raw = Box::into_raw(Box::new(table(c_name.into_raw(), app)));
        // SAFETY: `raw`, its name and its `pAppData` are never freed, as SQLite demands of a registered VFS.
        unsafe { ffi::sqlite3_vfs_register(raw, 0) };
        Self { raw, app, name }
    }

    /// Its name, for `sqlite3_open_v2`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens a database, made if missing.
    ///
    /// # Errors
    /// SQLite's.
    pub fn open(&self, path: impl AsRef<Path>) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags_and_vfs(path, flags, self.name.as_str())
    }
}

impl Drop for Vfs {
    fn drop(&mut self) {
        // SAFETY: registered in `new`. Its memory is kept (a few hundred bytes for each process of a simulation),
        // because connections that are still open point at it.
        unsafe { ffi::sqlite3_vfs_unregister(self.raw) };
        self.app.live.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

fn table(name: *const c_char, app: &'static App) -> ffi::sqlite3_vfs {
    ffi::sqlite3_vfs {
        iVersion: 2,
        szOsFile: c_int::try_from(size_of::<calls::SimFile>()).expect("BUG: two pointers"),
        mxPathname: 1024,
        pNext: null_mut(),
        zName: name,
        pAppData: std::ptr::from_ref(app).cast_mut().cast(),
        xOpen: Some(calls::x_open),
        xDelete: Some(calls::x_delete),
        xAccess: Some(calls::x_access),
        xFullPathname: Some(calls::x_full_pathname),
        xDlOpen: None,
        xDlError: None,
        xDlSym: None,
        xDlClose: None,
        xRandomness: Some(calls::x_randomness),
        xSleep: Some(calls::x_sleep),
        xCurrentTime: Some(calls::x_current_time),
        xGetLastError: Some(calls::x_get_last_error),
        xCurrentTimeInt64: Some(calls::x_current_time_int64),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }
}
