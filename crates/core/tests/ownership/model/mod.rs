//! A model of the ownership protocol around the real state machines, and a search through all that can happen in it.

pub(crate) mod bucket;
pub(crate) mod instance;
pub(crate) mod rules;
pub(crate) mod search;
pub(crate) mod world;
