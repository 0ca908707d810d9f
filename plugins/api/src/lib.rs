//! The contract between reelflow and its stages: what flows, what a stage is, how it describes itself.
//!
//! * [`item`] - the nouns on the edges: segment, plan, frame, clip, batch.
//! * [`origin`] - where the bytes or pictures of a medium come from.
//! * [`pixels`] - the values of views, in blocks that are lent out in parts.
//! * [`track`] - where a file keeps its access units.
//! * [`stage`] - the shapes a stage can have, from source to sink.
//! * [`spec`] - how a stage names itself, lists its parameters and is built from a TOML table.
//! * [`schema`] - what a schema of parameters allows.
//! * [`rng`] - chance, derived from (seed, stage, step, slot) and from nothing else.
//! * [`error`] - why an input was left out, why a stage gave up.
//! * [`bank`] - what a pipeline file says about a memory bank.
//! * [`feed`] - segments that come and go while a run goes on.
//! * [`pretext`] - what is to be learnt from a batch; its loss needs the feature `torch`.
//!
//! A stage knows no engine, no clock, no thread and no neighbour. It sees items and a key for chance.

pub mod bank;
pub mod error;
pub mod feed;
pub mod item;
pub mod origin;
pub mod pixels;
pub mod pretext;
mod read;
pub mod rng;
pub mod schema;
pub mod spec;
pub mod stage;
mod table;
pub mod track;
