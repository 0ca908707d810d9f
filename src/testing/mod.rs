//! Clips with known content, for our tests, for plugin authors and for the demo; and bytes without any.

pub mod hostile;
pub mod synth;
