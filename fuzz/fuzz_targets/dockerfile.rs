//! Any bytes are read or refused, with places that lie in the file.
#![no_main]

#[path = "../../parser/tests/spans/mod.rs"]
mod spans;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| spans::check(bytes));
