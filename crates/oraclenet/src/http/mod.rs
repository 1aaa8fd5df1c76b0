//! HTTP: routes, bodies, answers, limits. Decides nothing about records.

pub mod accounts;
pub mod answer;
pub mod body;
pub mod client_address;
pub mod doubts;
pub mod error;
pub mod live;
pub mod own;
pub mod query;
pub mod rate_limit;
pub mod records;
pub mod request;
pub mod router;
#[cfg(test)]
mod standby_tests;
pub mod state;
