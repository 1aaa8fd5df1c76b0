//! What every request meets before a handler: whose it is, and how often it may ask.

pub mod client_address;
pub mod rate_limit;
