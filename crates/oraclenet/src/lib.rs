//! Placeholder: the crate is built on another branch.
