//! Chooses windows: a pure function of (catalogue, seed, step, slot).
//!
//! A sampler keeps no position and no generator. It turns a place in the run into a plan, so a run can
//! start at any step and any worker can compute any slot.

pub mod order;
pub mod plan;
pub mod plan_file;
pub mod sweep;
pub mod triplet;
pub mod uniform;
pub mod window;

use reelflow_api::spec::Spec;

/// In the order the manual lists them.
pub const ALL: &[&Spec] = &[&triplet::SPEC, &uniform::SPEC, &sweep::SPEC, &plan::SPEC];

#[cfg(test)]
pub(crate) mod fixture {
    //! Catalogues of made-up segments.

    use std::sync::Arc;

    use reelflow_api::item::{Catalogue, Media, Orientation, Origin, Part, Segment, SegmentId};
    use reelflow_api::spec::{Settings, Spec, Table, read};
    use reelflow_api::stage::{Place, Sampler, Stage};
    use toml::de::DeTable;

    /// One segment a length, 25 frames a second.
    pub fn catalogue(lengths: &[u32]) -> Catalogue {
        let segments = lengths.iter().enumerate().map(|(i, &n)| segment(i as u64, steady(n))).collect();
        Catalogue { segments, version: 1 }
    }

    /// Times of `n` frames, 40 ms apart.
    pub fn steady(n: u32) -> Vec<u64> {
        (0..u64::from(n)).map(|i| i * 40_000_000).collect()
    }

    pub fn segment(id: u64, times: Vec<u64>) -> Arc<Segment> {
        let count = times.len() as u32;
        let media = Media {
            origin: Origin::Pattern { number: id as u32 },
            name: format!("pattern:{id}"),
            width: 32,
            height: 24,
            orientation: Orientation::default(),
            times: times.into(),
            keys: [].into(),
            codec: "pattern".into(),
            bytes: 0,
            track: None,
            part: Part::default(),
        };
        Arc::new(Segment {
            id: SegmentId(id),
            media: Arc::new(media),
            first: 0,
            count,
            label: None,
            group: None,
            split: None,
        })
    }

    pub fn place(step: u64, slot: u32, batch_size: u32, attempt: u32) -> Place {
        Place { step, slot, batch_size, attempt }
    }

    pub fn table(text: &str) -> Table<'_> {
        let entries = DeTable::parse(text).expect("test text is TOML").into_inner();
        Table { path: "operators.clip".into(), span: 0..text.len(), entries }
    }

    /// The sampler that `spec` builds from TOML lines.
    #[track_caller]
    pub fn build(spec: &Spec, text: &str) -> Box<dyn Sampler> {
        match (spec.build)(&table(text)) {
            Ok(Stage::Sampler(sampler)) => sampler,
            Ok(_) => panic!("{} is no sampler", spec.name),
            Err(problems) => panic!("{problems:?}"),
        }
    }

    /// Messages of the problems that `text` has.
    #[track_caller]
    pub fn refused<S: Settings>(text: &str) -> Vec<String> {
        let Err(problems) = read::<S>(&table(text)) else { panic!("accepted: {text}") };
        problems.into_iter().map(|problem| problem.message).collect()
    }
}
