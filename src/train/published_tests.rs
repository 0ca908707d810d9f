//! The schedules of plugins/classify/README.md are what was published: lengths, rates at given epochs, dropout.

use reelflow_api::pretext::Pretext;
use reelflow_api::spec::Table;
use toml::Value;

use super::schedule::Moment;
use super::settings::{SPEC, TrainSettings};
use crate::config::RunSettings;

const README: &str = include_str!("../../plugins/classify/README.md");

/// A schedule of the page with the data it is for.
struct Published {
    train: TrainSettings,
    task: reelflow_classify::Classify,
    run: RunSettings,
    batch: u64,
    videos: u64,
}

impl Published {
    /// The block below the heading that begins with `heading`, for so many videos.
    fn of(heading: &str, videos: u64) -> Self {
        let below = README.split("\n## ").find(|part| part.starts_with(heading)).unwrap();
        let block = below.split("```").nth(1).unwrap().strip_prefix("toml\n").unwrap();
        let mut table: toml::Table = block.parse().unwrap();
        let mut sink = table["sinks"]["train"].as_table().unwrap().clone();
        // The folder is the reader's.
        assert!(sink["encoder"].as_table_mut().unwrap().remove("weights").is_some());
        // As a pipeline file is read, ranges and unknown names included.
        let text = toml::to_string(&sink).unwrap();
        let entries = toml::de::DeTable::parse(&text).unwrap().into_inner();
        let span = 0..text.len();
        let built = (SPEC.build)(&Table { path: "sinks.train".to_owned(), span, entries });
        assert!(built.is_ok(), "{heading}: {:?}", built.err());
        let mut task = sink.remove("pretext").unwrap();
        task.as_table_mut().unwrap().remove("type");
        Self {
            train: Value::Table(sink).try_into().unwrap(),
            task: task.try_into().unwrap(),
            run: table.remove("run").unwrap().try_into().unwrap(),
            batch: table["operators"]["batch"]["size"].as_integer().unwrap() as u64,
            videos,
        }
    }

    fn steps(&self) -> u64 {
        (self.run.epochs * self.videos).div_ceil(self.batch)
    }

    /// The learning rate of a step.
    fn rate(&self, step: u64) -> f64 {
        let now = Moment { step, steps: self.steps(), batch: self.batch, epoch: self.videos };
        self.train.optimizer.lr * self.train.schedule.share(&now)
    }

    /// The rate of the first step of an epoch, counted from 0.
    fn at_epoch(&self, epoch: u64) -> f64 {
        self.rate((epoch * self.videos).div_ceil(self.batch))
    }

    /// Rates at epochs, within `tolerance` of the top rate.
    #[track_caller]
    fn check(&self, tolerance: f64, expected: &[(u64, f64)]) {
        for (epoch, rate) in expected {
            let found = self.at_epoch(*epoch);
            let far = (found - rate).abs() / self.train.optimizer.lr;
            assert!(far <= tolerance, "epoch {epoch}: {found}, published {rate}");
        }
    }

    fn optimizer(&self) -> [f64; 3] {
        let optimizer = &self.train.optimizer;
        [optimizer.lr, optimizer.momentum, optimizer.weight_decay]
    }
}

/// `lr * 0.3 ** sum(epoch >= [10, 20, 25, 30, 35, 40])`, epochs from 0.
#[test]
fn vtdl_falls_by_three_tenths_at_six_epochs() {
    let hmdb = Published::of("VTDL", 3570);
    assert_eq!((hmdb.run.epochs, hmdb.batch, hmdb.task.heads()[0].dropout), (45, 4, 0.5));
    assert_eq!(hmdb.optimizer(), [1e-3, 0.9, 1e-8]);
    hmdb.check(
        1e-12,
        &[
            (0, 1e-3),
            (9, 1e-3),
            (10, 3e-4),
            (19, 3e-4),
            (20, 9e-5),
            (25, 2.7e-5),
            (30, 8.1e-6),
            (35, 2.43e-6),
            (40, 7.29e-7),
            (44, 7.29e-7),
        ],
    );
    // 10 epochs are 8,925 steps: the step before still has the first rate.
    assert_eq!((hmdb.rate(8_924), hmdb.rate(8_925)), (1e-3, 1e-3 * 0.3));
    assert_eq!(hmdb.steps(), 40_163);
}

#[test]
fn vcop_stays_at_its_rate() {
    let vcop = Published::of("VCOP", 9537);
    assert_eq!((vcop.run.epochs, vcop.optimizer()), (150, [1e-3, 0.9, 5e-4]));
    vcop.check(0.0, &[(0, 1e-3), (75, 1e-3), (149, 1e-3)]);
}

/// `0.01 * (cos(pi * epoch / 200) + 1) / 2`. The end of the run is a whole step, at most one off.
#[test]
fn slowfast_falls_along_half_a_cosine() {
    let ucf = Published::of("SlowFast, UCF101", 9537);
    assert_eq!((ucf.run.epochs, ucf.batch, ucf.task.heads()[0].dropout), (200, 64, 0.8));
    assert_eq!(ucf.optimizer(), [0.01, 0.9, 0.0]);
    ucf.check(
        1e-4,
        &[(0, 0.01), (50, 0.008_535_533_9), (100, 0.005), (150, 0.001_464_466_1), (199, 6.168_375e-7)],
    );
}

/// `lr = epoch * (0.5 * (cos(pi * 8 / 60) + 1) / 2) / 8` up to epoch 8, then `0.5 * (cos(pi * epoch / 60) + 1) / 2`.
#[test]
fn the_linear_probe_rises_for_eight_epochs_into_a_cosine() {
    let linear = Published::of("SlowFast, linear", 240_000);
    assert_eq!((linear.run.epochs, linear.batch, linear.task.heads()[0].dropout), (60, 64, 0.0));
    assert_eq!((linear.optimizer(), linear.train.encoder.frozen), ([0.5, 0.9, 0.0], true));
    linear.check(
        1e-9,
        &[(0, 0.0), (4, 0.239_193_182_2), (8, 0.478_386_364_4), (30, 0.25), (59, 0.000_342_616_3)],
    );
}
