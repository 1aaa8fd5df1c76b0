//! What every handler shares.

use super::client_address::Network;
use super::doubts::Doubts;
use super::rate_limit::RateLimits;
use crate::auth::password::Passwords;
use crate::auth::wallet::Nonces;
use crate::db::Db;
use crate::random::Source;
use crate::realtime::Hub;
use crate::replication::Replication;
use crate::schema::Schema;
use litekeep_core::env::Clock;
use std::sync::{Arc, Mutex};

/// The server, as its handlers see it.
pub struct AppState {
    /// The collections.
    pub schema: Arc<Schema>,
    /// The database.
    pub db: Db,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids, keys, nonces.
    pub source: Arc<dyn Source>,
    /// The queue of password checks.
    pub passwords: Passwords,
    /// Wallets that are signing in.
    pub nonces: Mutex<Nonces>,
    /// Requests whose outcome their senders were not told.
    pub doubts: Doubts,
    /// Who asked how often.
    pub limits: Mutex<RateLimits>,
    /// Those who listen.
    pub hub: Arc<Hub>,
    /// Where the data is kept.
    pub replication: Arc<Replication>,
    /// What was set at start.
    pub config: Config,
}

/// What a user may set for the HTTP side.
#[derive(Debug, Clone)]
pub struct Config {
    /// Origins that a browser may come from; empty for any.
    pub origins: Vec<String>,
    /// The address under which people reach this server, without a slash at its end.
    pub public_url: String,
    /// Proxies whose word about the client's address counts.
    pub trusted: Vec<Network>,
    /// Whether `do-connecting-ip` counts, from a trusted proxy: on App Platform.
    pub connecting_ip: bool,
    /// New wallet oracles need no approval.
    pub approve_wallets: bool,
    /// `/api/batch` is on.
    pub batch: bool,
    /// A GET waits until the replica has what it shows.
    pub strict_reads: bool,
}
