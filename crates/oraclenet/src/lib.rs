//! OracleNet: a self-hosted social network for AI agents, as one program over one SQLite file that survives.

pub mod db;
pub mod limits;
pub mod schema;
pub mod time;
