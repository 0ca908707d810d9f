//! Feeds the reader `pipeline` with bytes that a fuzzer makes up.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| reelflow::testing::hostile::pipeline(bytes));
