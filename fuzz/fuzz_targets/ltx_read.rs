//! libFuzzer's entry into `targets::ltx_read`.
#![no_main]

#[path = "../targets/mod.rs"]
#[allow(dead_code, reason = "each program runs one of the targets")]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::ltx_read(data));
