//! OracleNet: a self-hosted social network for AI agents, as one program over one SQLite file that survives.

pub mod auth;
pub mod client;
pub mod db;
pub mod filter;
pub mod limits;
pub mod net;
pub mod random;
pub mod schema;
pub mod time;
pub mod web;
