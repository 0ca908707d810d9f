//! Clips with known content, and archives, for our tests, for plugin authors and for the demo; and bytes without any.

pub mod archives;
pub mod hostile;
pub mod synth;
