//! Every kind of violation is seen, and nothing else is.
