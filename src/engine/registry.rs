//! Every stage there is, from the lists of the folders.

use reelflow_api::spec::{Kind, Spec};

/// Stages that only some builds have, with the feature that brings them.
const FEATURED: &[(Kind, &str, &str)] = &[
    (Kind::Source, "files", "gst"),
    (Kind::Source, "rtsp", "gst"),
    (Kind::Source, "camera", "gst"),
    (Kind::Source, "http", "gst"),
    (Kind::Source, "hls", "gst"),
    (Kind::Source, "srt", "gst"),
    (Kind::Source, "replay", "gst"),
    (Kind::Sink, "train", "torch"),
];

/// All specs in flow order.
#[must_use]
pub fn all() -> Vec<&'static Spec> {
    let lists = [
        crate::source::ALL,
        crate::sample::ALL,
        crate::augment::ALL,
        crate::batch::ALL,
        crate::bank::ALL,
        #[cfg(feature = "torch")]
        crate::train::ALL,
    ];
    lists.concat()
}

/// The spec called `name` among those of `kind`.
#[must_use]
pub fn find(kind: Kind, name: &str) -> Option<&'static Spec> {
    all().into_iter().find(|spec| spec.kind == kind && spec.name == name)
}

/// The feature that would bring the stage `name`, if this build lacks it for that reason.
#[must_use]
pub fn missing_feature(kind: Kind, name: &str) -> Option<&'static str> {
    let known = FEATURED.iter().find(|(k, n, _)| *k == kind && *n == name)?;
    find(kind, name).is_none().then_some(known.2)
}

#[cfg(test)]
mod tests {
    use reelflow_api::spec::Table;
    use reelflow_api::stage::Stage;
    use toml::de::DeTable;

    use super::*;

    fn table(path: &str, example: &'static str) -> Table<'static> {
        let entries = DeTable::parse(example).unwrap_or_else(|error| panic!("{path}: {error}")).into_inner();
        Table { path: path.to_owned(), span: 0..example.len(), entries }
    }

    #[test]
    fn every_example_parses_and_builds_a_stage_of_its_kind() {
        for spec in all() {
            let stage = match (spec.build)(&table(spec.name, spec.example)) {
                Ok(stage) => stage,
                Err(problems) => panic!("{}: {problems:?}", spec.name),
            };
            let kind = match stage {
                Stage::Source(_) => Kind::Source,
                Stage::Bank(_) => Kind::Bank,
                Stage::Sink(_) => Kind::Sink,
                Stage::Sampler(_) | Stage::Augment(_) | Stage::Views(_) | Stage::Batch(_) => Kind::Operator,
            };
            assert_eq!(kind, spec.kind, "{}", spec.name);
        }
        for task in crate::pretext::ALL {
            if let Err(problems) = (task.build)(&table(task.name, task.example)) {
                panic!("{}: {problems:?}", task.name);
            }
        }
    }

    #[test]
    fn a_name_is_used_once_a_kind_and_a_full_build_has_all() {
        let all = all();
        for (index, spec) in all.iter().enumerate() {
            let twice = all[..index].iter().any(|other| other.kind == spec.kind && other.name == spec.name);
            assert!(!twice, "{} is used twice", spec.name);
        }
        let built = [("gst", cfg!(feature = "gst")), ("torch", cfg!(feature = "torch"))];
        for (kind, name, feature) in FEATURED {
            assert!(
                !built.contains(&(*feature, true)) || find(*kind, name).is_some(),
                "{name} is not in a build with {feature}"
            );
        }
    }
}
