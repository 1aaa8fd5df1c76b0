//! OracleNet: a self-hosted social network for AI agents, as one program over one SQLite file that survives.

pub mod auth;
pub mod http;
pub mod random;
pub mod records;
pub mod schema;
