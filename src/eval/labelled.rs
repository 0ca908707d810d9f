//! Decides who may find whom: which segments are queries, and which each query may find.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use reelflow_api::error::StageError;
use reelflow_api::item::{Segment, SegmentId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Embedded, EvalOptions};

/// Who may find whom.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Segments of split `test` search among those of split `train`; others are left out.
    Split,
    /// Every segment searches among those of all other groups (source recordings, persons). A segment
    /// without a group is in the group of its file.
    LeaveGroupOut,
    /// Every segment searches among those of all other files.
    LeaveOneOut,
}

impl Protocol {
    /// The name on the command line and in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::LeaveGroupOut => "leave_group_out",
            Self::LeaveOneOut => "leave_one_out",
        }
    }
}

/// One unit vector a labelled segment, and who may find whom among them.
#[derive(Clone, Debug)]
pub struct LabelledSet {
    /// The protocol in use.
    pub protocol: Protocol,
    /// Names of the classes, sorted.
    pub classes: Vec<Arc<str>>,
    /// Every segment.
    pub ids: Vec<SegmentId>,
    /// Class of every segment, an index into [`Self::classes`].
    pub class: Vec<usize>,
    /// Group of every segment: two of the same number never find each other.
    pub group: Vec<usize>,
    /// Length of a vector.
    pub dim: usize,
    /// `[segments, dim]`, means over the clips of each segment, neither centred nor scaled.
    pub features: Vec<f32>,
    /// `[segments, dim]`, each row of unit length, or zero.
    pub vectors: Vec<f32>,
    /// Indices of the segments that search.
    pub queries: Vec<usize>,
    /// Indices of the segments that may be found, increasing.
    pub gallery: Vec<usize>,
    /// Segments that were left out for want of a label or a split.
    pub left_out: usize,
}

impl LabelledSet {
    /// Averages the clips of each segment, scales to unit length and applies the protocol.
    ///
    /// # Errors
    /// Refused, as [`super::evaluate`].
    pub fn new(items: &[Embedded], options: &EvalOptions) -> Result<Self, StageError> {
        let (mut segments, mut vectors, dim) = mean_by_segment(items)?;
        let protocol = choose(&segments, options.protocol)?;
        let total = segments.len();
        let keep: Vec<bool> = segments.iter().map(|segment| takes_part(segment, protocol)).collect();
        retain(&mut vectors, dim, &keep);
        segments = segments.into_iter().zip(&keep).filter(|(_, keep)| **keep).map(|(one, _)| one).collect();
        let (classes, class) = numbered(segments.iter().map(|one| one.label.clone().unwrap_or_default()));
        let group = numbered(segments.iter().map(|segment| group_name(segment, protocol))).1;
        let all = 0..segments.len();
        let has_split = |index: &usize, name: &str| segments[*index].split.as_deref() == Some(name);
        let (queries, gallery): (Vec<_>, Vec<_>) = match protocol {
            Protocol::Split => (
                all.clone().filter(|index| has_split(index, "test")).collect(),
                all.filter(|index| has_split(index, "train")).collect(),
            ),
            _ => (all.clone().collect(), all.collect()),
        };
        let features = vectors.clone();
        if options.centre {
            // Each set by its own mean, as CoCLR does; with one set there is one mean.
            subtract_mean(&mut vectors, dim, &gallery);
            if protocol == Protocol::Split {
                subtract_mean(&mut vectors, dim, &queries);
            }
        }
        vectors.chunks_exact_mut(dim).for_each(unit_length);
        let left_out = total - segments.len();
        let ids = segments.iter().map(|segment| segment.id).collect();
        let set =
            Self { protocol, classes, ids, class, group, dim, features, vectors, queries, gallery, left_out };
        set.check(&segments)?;
        Ok(set)
    }

    /// The unit vector of segment `index`.
    #[must_use]
    pub fn vector(&self, index: usize) -> &[f32] {
        &self.vectors[index * self.dim..(index + 1) * self.dim]
    }

    /// Whether the segment `query` may find the segment `other`.
    #[must_use]
    pub fn may_find(&self, query: usize, other: usize) -> bool {
        self.group[query] != self.group[other]
    }

    fn check(&self, segments: &[Arc<Segment>]) -> Result<(), StageError> {
        if self.classes.len() < 2 {
            let only = self.classes.first().map_or("", |name| name);
            return Err(refused(format!(
                "all {} labelled segments are of the class `{only}`; a measure needs two classes",
                segments.len()
            )));
        }
        let distinct: BTreeSet<usize> = self.group.iter().copied().collect();
        if distinct.len() < 2 {
            return Err(refused(format!(
                "all {} segments are of one group, so none may find another; use more recordings, or `{}`",
                segments.len(),
                Protocol::LeaveOneOut.as_str()
            )));
        }
        if self.protocol == Protocol::Split {
            let trained: BTreeSet<usize> = self.gallery.iter().map(|index| self.group[*index]).collect();
            let both = self.queries.iter().find(|index| trained.contains(&self.group[**index]));
            if let Some(index) = both {
                return Err(refused(format!(
                    "`{}` of split `test` is of the same group as a segment of split `train`; a group must stay \
                     on one side, or use `{}`",
                    segments[*index].media.name,
                    Protocol::LeaveGroupOut.as_str()
                )));
            }
        }
        Ok(())
    }
}

/// The protocol for these segments: what was asked for, if it fits them; else the strictest that does.
///
/// # Errors
/// Refused, if nothing has a label or the protocol asked for lacks its splits or groups.
pub fn choose(segments: &[Arc<Segment>], asked: Option<Protocol>) -> Result<Protocol, StageError> {
    let labelled: Vec<_> = segments.iter().filter(|segment| segment.label.is_some()).collect();
    if labelled.is_empty() {
        return Err(refused(format!(
            "none of {} segments has a label; put the clips of each class in a folder of its name and set \
             `label` of the source, or use a list file with a label column",
            segments.len()
        )));
    }
    let has_split = |name: &str| labelled.iter().any(|segment| segment.split.as_deref() == Some(name));
    let has_groups = labelled.iter().any(|segment| segment.group.is_some());
    let splits = has_split("train") && has_split("test");
    match asked {
        Some(Protocol::Split) if !splits => Err(refused(
            "protocol `split` needs labelled segments of the splits `train` and `test`; name them in folders or \
             the list file, or leave the protocol out",
        )),
        Some(Protocol::LeaveGroupOut) if !has_groups => Err(refused(
            "protocol `leave_group_out` needs groups; name them in the list file, or use `leave_one_out`",
        )),
        Some(asked) => Ok(asked),
        None if splits => Ok(Protocol::Split),
        None if has_groups => Ok(Protocol::LeaveGroupOut),
        None => Ok(Protocol::LeaveOneOut),
    }
}

fn takes_part(segment: &Segment, protocol: Protocol) -> bool {
    let in_split = matches!(segment.split.as_deref(), Some("train" | "test"));
    segment.label.is_some() && (protocol != Protocol::Split || in_split)
}

/// Pieces of one file always share a group: they show the same scene.
fn group_name(segment: &Segment, protocol: Protocol) -> Arc<str> {
    match &segment.group {
        Some(group) if protocol != Protocol::LeaveOneOut => format!("group {group}").into(),
        _ => format!("file {}", segment.media.name).into(),
    }
}

/// The mean vector of each segment, in the order in which segments first appear.
fn mean_by_segment(items: &[Embedded]) -> Result<(Vec<Arc<Segment>>, Vec<f32>, usize), StageError> {
    let dim = items.first().map_or(0, |item| item.vector.len());
    let mut place_of = BTreeMap::new();
    let (mut segments, mut counts) = (Vec::new(), Vec::new());
    let mut sums: Vec<f64> = Vec::new();
    for item in items {
        let name = &item.segment.media.name;
        if item.vector.len() != dim || dim == 0 {
            let found = item.vector.len();
            return Err(refused(format!("`{name}`: an embedding of {found} numbers among those of {dim}")));
        }
        if !item.vector.iter().all(|value| value.is_finite()) {
            return Err(refused(format!(
                "`{name}`: its embedding is not finite; the weights may be damaged"
            )));
        }
        let place = *place_of.entry(item.segment.id).or_insert_with(|| {
            segments.push(Arc::clone(&item.segment));
            counts.push(0_u32);
            sums.resize(sums.len() + dim, 0.0);
            segments.len() - 1
        });
        counts[place] += 1;
        for (sum, value) in sums[place * dim..].iter_mut().zip(&item.vector) {
            *sum += f64::from(*value);
        }
    }
    let means = sums.iter().enumerate().map(|(at, sum)| (sum / f64::from(counts[at / dim])) as f32).collect();
    Ok((segments, means, dim))
}

fn retain(vectors: &mut Vec<f32>, dim: usize, keep: &[bool]) {
    let mut at = 0;
    vectors.retain(|_| {
        at += 1;
        keep[(at - 1) / dim]
    });
}

/// Sorted distinct names, and the position of each name among them.
fn numbered(names: impl Iterator<Item = Arc<str>> + Clone) -> (Vec<Arc<str>>, Vec<usize>) {
    let distinct: Vec<Arc<str>> = names.clone().collect::<BTreeSet<_>>().into_iter().collect();
    let place =
        |name: Arc<str>| distinct.binary_search(&name).expect("every name is among the distinct ones");
    let places = names.map(place).collect();
    (distinct, places)
}

fn subtract_mean(vectors: &mut [f32], dim: usize, members: &[usize]) {
    for column in 0..dim {
        let sum: f64 = members.iter().map(|row| f64::from(vectors[row * dim + column])).sum();
        let mean = (sum / members.len().max(1) as f64) as f32;
        members.iter().for_each(|row| vectors[row * dim + column] -= mean);
    }
}

fn unit_length(vector: &mut [f32]) {
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    // A zero vector has no direction: it stays, and is equally far from everything.
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    }
}

fn refused(message: impl Into<String>) -> StageError {
    StageError::refused("eval", message)
}
