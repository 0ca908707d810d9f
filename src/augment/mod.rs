//! Turns clips into views: one draw of parameters a clip, shared by all its frames.
//!
//! The way of a clip through this folder: [`steps`] are what the pipeline file says, [`draw`] turns them
//! and a key into a recipe, [`kernel`] cooks it in one pass from the decoder's planes to the view: [`oven`]
//! resamples, [`pan`] colours, [`plate`] holds what is not finished and rounds it to the view's type.
//! [`tca`] works later, on views.

pub mod colour;
pub mod draw;
pub mod geometry;
pub mod kernel;
pub mod lanes;
pub mod oven;
pub mod pan;
pub mod plate;
pub mod rotated;
pub mod samples;
pub mod stage;
pub mod steps;
pub mod tca;
pub mod weights;
pub mod wide;

#[cfg(test)]
mod plain;
#[cfg(test)]
mod tests;

use reelflow_api::spec::Spec;

/// In the order the manual lists them.
pub const ALL: &[&Spec] = &[&stage::SPEC, &tca::SPEC];
