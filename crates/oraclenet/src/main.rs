//! The `oraclenet` command.

fn main() {}
