//! Measures what an encoder knows: nearest neighbours, a linear probe and retrieval over labelled clips.
//!
//! ```text
//! embeddings of clips ─▶ one a segment ─▶ who may find whom ─▶ ranking ─▶ votes (kNN), hits (retrieval)
//!                        [labelled]       [labelled]           [neighbours] [knn]      [retrieval]
//!                                                └─▶ linear classifier on frozen features
//!                                                    [folds] [probe] [logistic]
//! probabilities of clips ─▶ summed a segment ─▶ the class that fine-tuning gives it [classifier]
//! ```
//!
//! Nothing is trained here but the linear classifier, so the figures say what the embeddings hold.

#[cfg(feature = "parquet")]
pub mod archive;
pub mod classifier;
#[cfg(feature = "torch")]
pub mod during;
#[cfg(feature = "torch")]
pub mod embed;
pub mod figures;
pub mod folds;
pub mod knn;
pub mod labelled;
pub mod logistic;
pub mod moments;
pub mod neighbours;
pub mod plane;
pub mod probe;
#[cfg(feature = "torch")]
pub mod recipe;
pub mod report;
pub mod retrieval;

use std::sync::Arc;

use reelflow_api::error::StageError;
use reelflow_api::item::Segment;

pub use figures::Figures;
pub use knn::Voting;
pub use labelled::Protocol;
use report::Classified;
pub use report::{Report, side_by_side};

/// The embedding of one clip.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// The segment the clip was cut from; clips of one segment are averaged.
    pub segment: Arc<Segment>,
    /// Media time of the clip's first and last frame, seconds.
    pub span_secs: (f64, f64),
    /// The embedding; of one length for all.
    pub vector: Vec<f32>,
    /// Probability of each output, if the encoder has a classifier.
    pub scores: Option<Vec<f32>>,
}

/// What to measure.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalOptions {
    /// Who may find whom; chosen from the labels if `None`.
    pub protocol: Option<Protocol>,
    /// How neighbours vote.
    pub voting: Voting,
    /// Subtract the mean of the set before scaling to unit length (as CoCLR does for retrieval).
    pub centre: bool,
    /// The k of hit@k, increasing.
    pub ranks: Vec<usize>,
    /// Whether a linear classifier is fitted as well.
    pub probe: bool,
    /// Labels that the outputs of the encoder's own classifier stand for; empty if it has none.
    pub outputs: Vec<String>,
}

impl Default for EvalOptions {
    fn default() -> Self {
        let ranks = vec![1, 5, 10, 20, 50];
        Self { protocol: None, voting: Voting::DINO, centre: false, ranks, probe: true, outputs: Vec::new() }
    }
}

/// Classifies and retrieves every query among those it may find.
///
/// # Errors
/// Refused, if there are no labels to measure against, the protocol does not fit them, or an embedding
/// is not finite or of another length than the others.
pub fn evaluate(items: &[Embedded], options: &EvalOptions) -> Result<Report, StageError> {
    let set = labelled::LabelledSet::new(items, options)?;
    let deepest = options.ranks.iter().copied().max().unwrap_or(1).max(options.voting.k());
    let ranked = neighbours::rank(&set, deepest);
    let found: Vec<Vec<knn::Vote>> = ranked
        .iter()
        .map(|near| {
            let vote =
                |near: &neighbours::Near| knn::Vote { class: set.class[near.index], cosine: near.cosine };
            near.iter().map(vote).collect()
        })
        .collect();
    let probed = if options.probe { Some(probe::probe(&set)?) } else { None };
    let classified = match options.outputs.as_slice() {
        [] => None,
        outputs => classifier::classify(items, &set, outputs),
    };
    Ok(Report::new(&set, &found, Classified { probed, classified }, options))
}

#[cfg(test)]
pub(crate) mod tests;
