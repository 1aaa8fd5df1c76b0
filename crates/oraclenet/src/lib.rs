//! OracleNet: the client half.

#![forbid(unsafe_code)]

pub mod client;
