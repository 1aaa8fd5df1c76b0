//! Byte formats of a SQLite replica: parse and write, no I/O, no clock, no panic on any input.
//!
//! | module | bytes |
//! |---|---|
//! | [`ltx`] | LTX stream version 3, as Litestream 0.5 writes and reads it, and our seal in its spare header room |
//! | [`wal`] | SQLite's write-ahead log: header, frames, running checksum |
//! | [`walindex`] | the header of SQLite's shared WAL index (`-shm`) |
//! | [`sqlite`] | the first 100 bytes of a database file |
//! | [`lz4frame`] | LZ4 frames, read as a stream; written for the older page form of LTX |
//! | [`v3`] | names of Litestream 0.3 backups |
//! | [`crc`] | CRC-64/GO-ISO and the page checksum made of it |
//!
//! Never: trusts a length it has read for an allocation, opens anything, keeps more of a stream than one page or
//! one LZ4 block.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod crc;
mod fields;
pub mod ltx;
pub mod lz4frame;
pub mod source;
pub mod sqlite;
pub mod types;
pub mod v3;
pub mod wal;
pub mod walindex;

pub use source::ByteSource;
pub use types::{Checksum, Epoch, Level, PageNo, PageSize, Salts, TimestampMs, Txid, TxidRange, WalChecksum};
