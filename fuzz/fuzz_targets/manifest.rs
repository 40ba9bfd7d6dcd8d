//! See `lightning_db::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| lightning_db::fuzzing::run("manifest", input));
