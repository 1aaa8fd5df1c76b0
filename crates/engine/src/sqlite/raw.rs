//! The unsafe edge: SQLite's own mapping of the WAL index and two of its locks, and nothing else.
//!
//! The index (`-shm`) is never opened as a file: closing any descriptor of it would drop this process's locks. It is
//! read where SQLite has it mapped, through the file object that `SQLITE_FCNTL_FILE_POINTER` hands out.
#![allow(unsafe_code, reason = "the only door to the WAL index is SQLite's C interface")]

use litekeep_formats::walindex::WalIndex;
use rusqlite::{Connection, ffi};
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{Ordering, fence};

/// Bytes of the first block of the WAL index, as SQLite maps it.
const BLOCK: i32 = 32 * 1024;

/// A copy of the front of the WAL index, taken from SQLite's mapping, or the SQLite error code that forbade it.
///
/// The copy may be torn; `litekeep_formats::walindex` detects that by the index's two headers and its checksum.
/// The connection must have read from a database in WAL mode before.
pub(crate) fn wal_index(connection: &Connection) -> Result<[u8; WalIndex::LEN], i32> {
    let file = file_of(connection)?;
    let block = map_first_block(file)?;
    let mut copy = [0u8; WalIndex::LEN];
    for (at, word) in copy.chunks_exact_mut(4).enumerate() {
        if at == 12 || at == 24 {
            fence(Ordering::SeqCst); // between the two headers, and before the back-fill counter
        }
        // SAFETY: `block` maps at least 32 KiB, 136 of which are read here, as aligned 32-bit words (the mapping
        // begins on a page). Other processes write it at any time, hence the volatile reads.
        let value = unsafe { ptr::read_volatile(block.cast::<u32>().add(at)) };
        word.copy_from_slice(&value.to_ne_bytes());
    }
    Ok(copy)
}

/// Locks of the WAL index, by their place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    /// Whoever checkpoints has it exclusively (`WAL_CKPT_LOCK`).
    Checkpoint,
    /// Whoever back-fills has it exclusively, readers of the database file alone share it (`WAL_READ_LOCK(0)`).
    BackFill,
}

/// Whether nobody else has a lock exclusively. It is asked by taking the lock and giving it back at once, so a checkpoint
/// that wants it in that moment is told that it is taken. The SQLite error code if that cannot be done.
///
/// The connection must be in no transaction.
pub(crate) fn is_free(connection: &Connection, lock: Lock) -> Result<bool, i32> {
    let file = file_of(connection)?;
    let methods = methods_of(file)?;
    let (at, kind) = match lock {
        Lock::Checkpoint => (1, ffi::SQLITE_SHM_EXCLUSIVE),
        Lock::BackFill => (3, ffi::SQLITE_SHM_SHARED),
    };
    // SAFETY: `methods` is the live table of `file`; xShmLock exists from version 2 of the table on, which is checked.
    let ask = match unsafe { ((*methods).iVersion, (*methods).xShmLock) } {
        (2.., Some(ask)) => ask,
        _ => return Err(ffi::SQLITE_NOTFOUND),
    };
    // SAFETY: a connection in no transaction has none of these locks, and has none after the second call, which gives
    // back what the first one took and so cannot fail.
    unsafe {
        match ask(file, at, 1, ffi::SQLITE_SHM_LOCK | kind) {
            ffi::SQLITE_OK => {
                let _ = ask(file, at, 1, ffi::SQLITE_SHM_UNLOCK | kind);
                Ok(true)
            }
            ffi::SQLITE_BUSY => Ok(false),
            code => Err(code),
        }
    }
}

fn file_of(connection: &Connection) -> Result<*mut ffi::sqlite3_file, i32> {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    // SAFETY: the handle is live for as long as `connection` is borrowed, and used on this thread only
    // (`Connection` is not `Sync`). FILE_POINTER writes one pointer to the database's file object, which SQLite
    // keeps until the connection closes.
    let code = unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_FILE_POINTER,
            (&raw mut file).cast::<c_void>(),
        )
    };
    match code {
        ffi::SQLITE_OK if !file.is_null() => Ok(file),
        ffi::SQLITE_OK => Err(ffi::SQLITE_NOTFOUND),
        code => Err(code),
    }
}

fn methods_of(file: *mut ffi::sqlite3_file) -> Result<*const ffi::sqlite3_io_methods, i32> {
    // SAFETY: `file` came from SQLite and is open; its method table, where there is one, is a static of its VFS.
    let methods = unsafe { (*file).pMethods };
    if methods.is_null() { Err(ffi::SQLITE_NOTFOUND) } else { Ok(methods) }
}

fn map_first_block(file: *mut ffi::sqlite3_file) -> Result<*const u8, i32> {
    let methods = methods_of(file)?;
    // SAFETY: the table is live; xShmMap exists from version 2 of the table on.
    let map = match unsafe { ((*methods).iVersion, (*methods).xShmMap) } {
        (2.., Some(map)) => map,
        _ => return Err(ffi::SQLITE_NOTFOUND),
    };
    let mut block: *mut c_void = ptr::null_mut();
    // SAFETY: asks for block 0 without extending the file (last argument 0): SQLite answers with its own mapping of
    // that block, or with null where nobody has made it yet. It stays mapped until the connection closes its file
    // or SQLite unmaps it, neither of which happens before we return to this connection.
    let code = unsafe { map(file, 0, BLOCK, 0, &raw mut block) };
    match code {
        ffi::SQLITE_OK if !block.is_null() => Ok(block.cast_const().cast()),
        ffi::SQLITE_OK => Err(ffi::SQLITE_NOTFOUND),
        code => Err(code),
    }
}
