//! The `litekeep` command from outside: processes, signals, wiped disks, applications in another language, the real
//! Litestreams and a real S3 gateway as witnesses. Nothing of ours is linked in that decides anything.

mod checkpoints;
mod dropin;
mod exec;
mod follow;
mod harness;
mod lineage;
#[cfg(target_os = "linux")]
mod memory;
mod ownership;
mod peers;
mod redeploy;
mod replicate;
mod restore;
mod s3;
mod spellings;
