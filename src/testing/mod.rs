//! Clips with known content, and archives, for our tests, for plugin authors and for the demo.

pub mod archives;
pub mod synth;
