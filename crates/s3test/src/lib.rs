//! An S3 server inside a test: real HTTP, real signatures, one bucket in memory behind one lock.
//!
//! It answers as the provider of its [`Profile`] does, keeps a log of every request, and fails on demand ([`Rule`]):
//! errors, answers that never come, bodies cut short, listings of the past, a wrong clock. Signatures are checked by
//! the `s3s` crate, which never lets an unsigned or wrongly signed request through.

mod bucket;
mod fault;
mod server;

pub use fault::{Fault, Rule};
pub use server::{AUTHORITY, Request, Server};

/// The one bucket.
pub const BUCKET: &str = "test";
/// The one access key id.
pub const ACCESS_KEY: &str = "testaccesskey000001";
/// Its secret.
pub const SECRET_KEY: &str = "testsecretkey00000000000000000000001";
/// The region it claims to be.
pub const REGION: &str = "us-east-1";

/// Whose habits the server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Amazon: conditions on puts, completions and deletes are all kept.
    Aws,
    /// Ceph, DigitalOcean Spaces, Hetzner: `If-None-Match: *` works on single puts only, `If-Match` wants the ETag
    /// without its quotes, and a conditional delete deletes whatever the condition.
    Ceph,
    /// Garage and others: conditions are ignored without a word.
    IgnoresConditions,
    /// Backblaze B2: a condition on a put is answered with 501.
    RefusesConditions,
    /// Cloudflare R2: all parts of an upload but the last must be of one size.
    EqualParts,
}
