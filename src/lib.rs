//! Learns video representations without labels, as a streaming dataflow.
//!
//! The folders, in the order a clip passes them:
//!
//! ```text
//! source ─▶ sample ─▶ decode ─▶ augment ─▶ batch ─▶ train ◀─▶ bank
//! ```
//!
//! * [`source`] finds media and keeps the catalogue of segments.
//! * [`sample`] chooses windows: a pure function of (catalogue, seed, step, slot).
//! * [`decode`] gives exactly the frames a window wants.
//! * [`augment`] turns clips into views with one draw of parameters a clip.
//! * [`batch`] collects the slots of a step, and holds the sinks that need no tensors.
//! * [`pretext`] lists what can be learnt from a batch.
//! * [`bank`] remembers keys in shards with an owner each.
//! * `train` owns the networks and learns (feature `torch`).
//!
//! The machinery: [`config`] (text of a pipeline into a plan), [`engine`] (a plan into a running
//! dataflow), [`eval`] (what an encoder knows), [`observe`] (what a person sees), [`cli`], [`edge`]
//! (everything that is not repeatable), [`testing`] (clips with known content).
//!
//! A stage is a pure kernel and a `SPEC`; read `reelflow_api` first, then one stage, then
//! `src/engine/`.

pub mod archive;
pub mod augment;
pub mod bank;
pub mod batch;
pub mod decode;
pub mod pretext;
pub mod sample;
pub mod source;
#[cfg(feature = "torch")]
pub mod train;

pub mod cli;
pub mod config;
pub mod edge;
pub mod engine;
pub mod eval;
pub mod observe;
pub mod testing;

pub use reelflow_api as api;
