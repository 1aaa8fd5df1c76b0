//! HTTP: routes, bodies, answers, limits. Decides nothing about records.

pub mod error;
