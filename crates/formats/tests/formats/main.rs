//! The byte formats against files that other programs wrote, against damage, and against themselves.

mod golden;
mod ltx;
mod lz4;
mod names;
mod restored;
mod seeded;
mod support;
mod wal;
mod wal_index;

#[path = "../../../../fuzz/targets/mod.rs"]
mod targets;
