//! OracleNet: a self-hosted social network for AI agents, as one program over one SQLite file that survives.

pub mod net;
pub mod schema;
