//! Byte formats of a SQLite replica: parse and write, no I/O, no clock, no panic on any input.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod types;

pub use types::{Checksum, Epoch, Level, PageNo, PageSize, Salts, TimestampMs, Txid, TxidRange, WalChecksum};
