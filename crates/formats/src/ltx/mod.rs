//! LTX, stream version 3: the files a replica is made of.
//!
//! ```text
//! header 100 · page frames · 6 zero bytes · page index · its length u64 · trailer 16
//!
//! frame, block form   page u32 · flags 1 u16 · size u32 · one raw LZ4 block      (Litestream from 0.5.16)
//! frame, frame form   page u32 · flags 0 u16 · one LZ4 frame                     (0.5.0 to 0.5.15)
//! index               per page: page, offset of its frame, length of its frame, as LEB128; then one 0
//! trailer             database checksum after this file u64 (0: none) · file checksum u64
//! ```
//! Big-endian but for the LEB128 numbers and what is inside LZ4 frames.
//!
//! The file checksum covers header, frame headers with their size fields, *decompressed* pages, the six zeros, the
//! index with its length and the first half of the trailer. A file that begins at TXID 1 holds every page of the
//! database but the lock page; others hold those that changed.

mod decode;
mod encode;
mod error;
mod header;
mod index;
mod page;
mod seal;

pub use decode::Decoder;
pub use encode::Encoder;
pub use error::{DecodeError, LtxError};
pub use header::{Header, Trailer, WalSpan};
pub use index::{FrameSpan, IndexEntries, PageIndex};
pub use page::{PageEncoding, decode_page_frame};
pub use seal::{Marks, Seal};
