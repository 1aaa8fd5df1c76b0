//! What a record may hold.

pub mod formats;
