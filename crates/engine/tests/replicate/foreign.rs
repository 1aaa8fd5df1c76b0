//! What other processes do to the WAL.
