//! A plan into a running dataflow; the only folder that names timely.

pub mod registry;
