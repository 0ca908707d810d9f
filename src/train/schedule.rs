//! The learning rate over the steps of a run.

use reelflow_api::spec::Invalid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the learning rate moves. Lengths and places are in steps or in epochs (passes over the data); an epoch
/// need not be a whole number of steps.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleSettings {
    /// `constant`, `cosine` (down to `floor` at the end of the run), `step` (every so many steps) or
    /// `multi_step` (at given steps).
    #[serde(rename = "type")]
    pub kind: ScheduleKind,
    /// Steps over which the rate rises linearly to its top.
    pub warmup_steps: u64,
    /// Instead, epochs over which it rises; unlike a warm-up in steps, the first step has `warmup_from` itself.
    #[schemars(range(min = 0.0))]
    pub warmup_epochs: f64,
    /// Share of the top rate from which it rises.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub warmup_from: f64,
    /// Step: steps after which the rate is multiplied by `gamma`, again and again.
    pub every: u64,
    /// Step: instead, epochs.
    #[schemars(range(min = 0.0))]
    pub every_epochs: f64,
    /// Multi-step: steps at which the rate is multiplied by `gamma`, increasing.
    pub milestones: Vec<u64>,
    /// Multi-step: instead, epochs: 10 is where ten passes over the data are done.
    #[schemars(inner(range(min = 0.0)))]
    pub milestone_epochs: Vec<f64>,
    /// Step, multi-step: factor each time.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub gamma: f64,
    /// Cosine: share of the top rate at the end.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub floor: f64,
    /// Cosine: it falls from the end of the `warmup`, or from the `start` of the run, so that the warm-up rises
    /// into it, as in SlowFast.
    pub cosine_from: CosineFrom,
}

impl Default for ScheduleSettings {
    fn default() -> Self {
        Self {
            kind: ScheduleKind::Constant,
            warmup_steps: 0,
            warmup_epochs: 0.0,
            warmup_from: 0.0,
            every: 0,
            every_epochs: 0.0,
            milestones: Vec::new(),
            milestone_epochs: Vec::new(),
            gamma: 0.1,
            floor: 0.0,
            cosine_from: CosineFrom::Warmup,
        }
    }
}

/// Where a cosine is at its top.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CosineFrom {
    /// At the end of the warm-up.
    Warmup,
    /// At the first step; what the warm-up does not reach is cut off.
    Start,
}

/// The schedules there are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Always the top rate.
    Constant,
    /// Half a cosine from the top rate to `floor` (Loshchilov and Hutter 2017, without restarts).
    Cosine,
    /// Down by `gamma` every so many steps.
    Step,
    /// Down by `gamma` at each milestone.
    MultiStep,
}

/// A step and the run it lies in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// From 0.
    pub step: u64,
    /// Steps of the run; `u64::MAX` if it has no end.
    pub steps: u64,
    /// Clips of a step.
    pub batch: u64,
    /// Clips of an epoch; 0 if the data has no end.
    pub epoch: u64,
}

impl Moment {
    /// Clips before this step.
    fn clips(&self) -> f64 {
        // Whole numbers below 2^53 are exact, so a milestone is met at its step and not one later.
        (self.step * self.batch) as f64
    }

    /// Clips in `epochs` epochs.
    fn clips_in(&self, epochs: f64) -> f64 {
        epochs * self.epoch as f64
    }
}

impl ScheduleSettings {
    /// Whether a length is given in epochs.
    #[must_use]
    pub fn needs_epochs(&self) -> bool {
        self.warmup_epochs > 0.0 || self.every_epochs > 0.0 || !self.milestone_epochs.is_empty()
    }

    /// What is wrong with the settings; paths start with `schedule.`.
    #[must_use]
    pub fn check(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        if !self.milestones.is_sorted_by(|a, b| a < b) {
            found.push(Invalid::new("schedule.milestones", "steps must increase"));
        }
        if !self.milestone_epochs.is_sorted_by(|a, b| a < b) {
            found.push(Invalid::new("schedule.milestone_epochs", "epochs must increase"));
        }
        let twice = [
            ("warmup_steps", "warmup_epochs", self.warmup_steps > 0 && self.warmup_epochs > 0.0),
            ("every", "every_epochs", self.every > 0 && self.every_epochs > 0.0),
            (
                "milestones",
                "milestone_epochs",
                !self.milestones.is_empty() && !self.milestone_epochs.is_empty(),
            ),
        ];
        for (steps, epochs, _) in twice.into_iter().filter(|(.., both)| *both) {
            found.push(
                Invalid::new(format!("schedule.{epochs}"), format!("contradicts `{steps}`"))
                    .help(format!("keep `{steps}` (steps) or `{epochs}` (epochs), not both")),
            );
        }
        if self.kind == ScheduleKind::Step && self.every == 0 && self.every_epochs == 0.0 {
            found.push(
                Invalid::new("schedule.every", "a step schedule needs a number of steps")
                    .help("add `every = 1000` or `every_epochs = 30`, or choose `constant`"),
            );
        }
        let none = self.milestones.is_empty() && self.milestone_epochs.is_empty();
        if self.kind == ScheduleKind::MultiStep && none {
            found.push(
                Invalid::new("schedule.milestones", "a multi_step schedule needs at least one step")
                    .help("add `milestones = [1000]` or `milestone_epochs = [30]`, or choose `constant`"),
            );
        }
        found
    }

    /// The learning rate at `now`, as a share of the top rate.
    #[must_use]
    pub fn share(&self, now: &Moment) -> f64 {
        let risen = self.risen(now);
        if risen < 1.0 {
            let top = match (self.kind, self.cosine_from) {
                (ScheduleKind::Cosine, CosineFrom::Start) => self.cosine(self.warmup(now), now),
                _ => 1.0,
            };
            return self.warmup_from + (top - self.warmup_from) * risen;
        }
        match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Cosine => self.cosine(now.step as f64, now),
            ScheduleKind::Step => self.gamma.powi(self.periods(now) as i32),
            ScheduleKind::MultiStep => {
                let steps = self.milestones.iter().filter(|&&milestone| now.step >= milestone).count();
                let is_passed = |epochs: &&f64| now.clips() >= now.clips_in(**epochs);
                let epochs = self.milestone_epochs.iter().filter(is_passed).count();
                self.gamma.powi((steps + epochs) as i32)
            }
        }
    }

    /// How much of the warm-up is done, 1 or more behind it.
    fn risen(&self, now: &Moment) -> f64 {
        if self.warmup_epochs > 0.0 {
            return now.clips() / now.clips_in(self.warmup_epochs);
        }
        if now.step < self.warmup_steps { (now.step + 1) as f64 / self.warmup_steps as f64 } else { 1.0 }
    }

    /// Steps of the warm-up.
    fn warmup(&self, now: &Moment) -> f64 {
        if self.warmup_epochs > 0.0 {
            return now.clips_in(self.warmup_epochs) / now.batch.max(1) as f64;
        }
        self.warmup_steps as f64
    }

    /// Half a cosine from 1 to the floor; `step` need not be whole.
    fn cosine(&self, step: f64, now: &Moment) -> f64 {
        let start = match self.cosine_from {
            CosineFrom::Warmup => self.warmup(now),
            CosineFrom::Start => 0.0,
        };
        // The last step of a warm-up is at the top already.
        let done = ((step - start) / (now.steps as f64 - start).max(1.0)).clamp(0.0, 1.0);
        self.floor + (1.0 - self.floor) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
    }

    /// Periods of a step schedule that are over. Without a length, which `check` refuses, none ever is.
    fn periods(&self, now: &Moment) -> u64 {
        if self.every_epochs > 0.0 {
            return (now.clips() / now.clips_in(self.every_epochs)) as u64;
        }
        now.step.checked_div(self.every).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of all steps of a run; an epoch is two and a half steps.
    fn shares(schedule: &ScheduleSettings, steps: u64) -> Vec<f64> {
        let share = |step| schedule.share(&Moment { step, steps, batch: 4, epoch: 10 });
        (0..=steps).map(|step| (share(step) * 1e6).round() / 1e6).collect()
    }

    #[test]
    fn warm_up_rises_to_the_top_and_cosine_falls_to_the_floor() {
        let schedule = ScheduleSettings {
            kind: ScheduleKind::Cosine,
            warmup_steps: 2,
            floor: 0.1,
            ..Default::default()
        };
        assert_eq!(shares(&schedule, 6), [0.5, 1.0, 1.0, 0.868_198, 0.55, 0.231_802, 0.1]);
    }

    #[test]
    fn multi_step_falls_at_its_milestones() {
        let schedule =
            ScheduleSettings { kind: ScheduleKind::MultiStep, milestones: vec![2, 4], ..Default::default() };
        assert_eq!(shares(&schedule, 4), [1.0, 1.0, 0.1, 0.1, 0.01]);
        assert_eq!(shares(&ScheduleSettings::default(), 2), [1.0; 3]);
    }

    #[test]
    fn step_falls_again_and_again_and_warm_up_may_start_above_0() {
        let schedule = ScheduleSettings {
            kind: ScheduleKind::Step,
            every: 3,
            gamma: 0.5,
            warmup_steps: 2,
            warmup_from: 0.2,
            ..Default::default()
        };
        assert_eq!(shares(&schedule, 6), [0.6, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25]);
        let endless = ScheduleSettings { every: 0, ..schedule };
        assert_eq!(endless.check()[0].path, "schedule.every");
    }

    #[test]
    fn milestones_must_increase_and_exist() {
        let paths = |milestones: Vec<u64>| {
            let schedule =
                ScheduleSettings { kind: ScheduleKind::MultiStep, milestones, ..Default::default() };
            schedule.check().into_iter().map(|invalid| invalid.path).collect::<Vec<_>>()
        };
        assert_eq!(paths(vec![4, 4]), ["schedule.milestones"]);
        assert_eq!(paths(vec![]), ["schedule.milestones"]);
        assert!(paths(vec![4, 5]).is_empty());
    }

    #[test]
    fn epochs_need_not_be_whole_numbers_of_steps() {
        let step = ScheduleSettings {
            kind: ScheduleKind::Step,
            every_epochs: 1.0,
            gamma: 0.5,
            ..Default::default()
        };
        // Epochs end after 2.5, 5 and 7.5 steps: the step that begins in the next epoch has its rate.
        assert_eq!(shares(&step, 8), [1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]);
        let milestones = ScheduleSettings {
            kind: ScheduleKind::MultiStep,
            milestone_epochs: vec![1.0, 2.0],
            ..Default::default()
        };
        assert_eq!(shares(&milestones, 6), [1.0, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01]);
        let warmup = ScheduleSettings { warmup_epochs: 2.0, warmup_from: 0.5, ..Default::default() };
        assert_eq!(shares(&warmup, 6), [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0]);
        assert!(step.needs_epochs() && milestones.needs_epochs() && warmup.needs_epochs());
        assert!(!ScheduleSettings::default().needs_epochs());
    }

    #[test]
    fn a_warm_up_may_rise_into_a_cosine_from_the_start() {
        let schedule = ScheduleSettings {
            kind: ScheduleKind::Cosine,
            warmup_epochs: 0.8,
            cosine_from: CosineFrom::Start,
            ..Default::default()
        };
        // Two steps of eight; the cosine is at (1 + cos(pi / 4)) / 2 then.
        assert_eq!(shares(&schedule, 8)[..4], [0.0, 0.426_777, 0.853_553, 0.691_342]);
    }

    #[test]
    fn a_length_is_in_steps_or_in_epochs() {
        let schedule = ScheduleSettings {
            warmup_steps: 1,
            warmup_epochs: 1.0,
            every: 1,
            every_epochs: 1.0,
            milestones: vec![1],
            milestone_epochs: vec![2.0, 1.0],
            ..Default::default()
        };
        let paths: Vec<String> = schedule.check().into_iter().map(|invalid| invalid.path).collect();
        let names = ["milestone_epochs", "warmup_epochs", "every_epochs", "milestone_epochs"];
        assert_eq!(paths, names.map(|name| format!("schedule.{name}")));
    }
}
