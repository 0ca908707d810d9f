//! Measures what an encoder knows: nearest neighbours and retrieval over labelled clips.
