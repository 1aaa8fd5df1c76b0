//! HTTP: routes, bodies, answers, limits. Decides nothing about records.

pub mod client_address;
pub mod error;
pub mod rate_limit;
