//! A labelled corpus whose classes only time tells apart: real textures, moved by known laws.
//!
//! Every frame of every class is a draw from one distribution, a real texture under a random shift,
//! rotation, scale and change of colour. A class is only a law of change from frame to frame ([`laws`]).
//! Video number `i` of every class is a matched twin: the same textures, colours, place, angle and scale
//! ([`scene`]), and up to the grain the same first frame. An encoder that looks at single frames stays at
//! chance here; one that sees "how much changes" gets a little further; only order and direction give all.
//!
//! What monotone motions would give away is closed: zooms are saw-tooths in log scale, ramps and events
//! repeat with a random phase, sprites wrap round, and the camera looks at an endless mirrored texture.

#[cfg(feature = "gst")]
pub mod corpus;
pub mod footage;
pub mod laws;
pub mod scene;
pub mod texture;
