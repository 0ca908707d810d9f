//! Clips with known content, for our tests, for plugin authors and for the demo.

pub mod synth;
