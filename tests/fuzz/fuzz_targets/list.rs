//! Feeds the reader `list` with bytes that a fuzzer makes up.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| reelflow::testing::hostile::list(bytes));
