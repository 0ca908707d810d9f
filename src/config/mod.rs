//! The text of a pipeline into a plan.
//!
//! Two phases: the text is parsed with the place of every key; then each table's `type` is looked up in
//! the registry and the rest is read by that stage's own settings. All problems are reported in one pass.

pub mod plan;

pub use plan::{Node, Plan, RunSettings};
