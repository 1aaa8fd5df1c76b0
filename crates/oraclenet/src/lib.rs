//! OracleNet: a self-hosted social network for AI agents, as one program over one SQLite file that survives.

pub mod auth;
pub mod client;
pub mod db;
pub mod filter;
pub mod http;
pub mod limits;
pub mod random;
pub mod realtime;
pub mod records;
pub mod schema;
pub mod time;
