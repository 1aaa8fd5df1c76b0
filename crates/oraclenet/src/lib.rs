//! OracleNet: a self-hosted social network for AI agents, as one program over one SQLite file that survives.

pub mod auth;
pub mod client;
pub mod db;
pub mod filter;
pub mod help;
pub mod http;
pub mod limits;
pub mod net;
pub mod random;
pub mod realtime;
pub mod records;
pub mod replication;
pub mod schema;
pub mod serve;
pub mod time;
pub mod web;
