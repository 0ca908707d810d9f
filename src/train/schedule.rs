//! The learning rate over the steps of a run.

use reelflow_api::spec::Invalid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the learning rate moves.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleSettings {
    /// `constant`, `cosine` (down to `floor` at the end of the run), `step` (every so many steps) or
    /// `multi_step` (at given steps).
    #[serde(rename = "type")]
    pub kind: ScheduleKind,
    /// Steps over which the rate rises linearly to its top.
    pub warmup_steps: u64,
    /// Share of the top rate from which it rises.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub warmup_from: f64,
    /// Step: steps after which the rate is multiplied by `gamma`, again and again.
    pub every: u64,
    /// Multi-step: steps at which the rate is multiplied by `gamma`, increasing.
    pub milestones: Vec<u64>,
    /// Step, multi-step: factor each time.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub gamma: f64,
    /// Cosine: share of the top rate at the end.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub floor: f64,
}

impl Default for ScheduleSettings {
    fn default() -> Self {
        Self {
            kind: ScheduleKind::Constant,
            warmup_steps: 0,
            warmup_from: 0.0,
            every: 0,
            milestones: Vec::new(),
            gamma: 0.1,
            floor: 0.0,
        }
    }
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

impl ScheduleSettings {
    /// What is wrong with the settings; paths start with `schedule.`.
    #[must_use]
    pub fn check(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        if !self.milestones.is_sorted_by(|a, b| a < b) {
            found.push(Invalid::new("schedule.milestones", "steps must increase"));
        }
        if self.kind == ScheduleKind::Step && self.every == 0 {
            found.push(
                Invalid::new("schedule.every", "a step schedule needs a number of steps")
                    .help("add `every = 1000`, or choose `constant`"),
            );
        }
        if self.kind == ScheduleKind::MultiStep && self.milestones.is_empty() {
            found.push(
                Invalid::new("schedule.milestones", "a multi_step schedule needs at least one step")
                    .help("add `milestones = [1000]`, or choose `constant`"),
            );
        }
        found
    }

    /// The learning rate of `step` (from 0) in a run of `steps`, as a share of the top rate.
    #[must_use]
    pub fn share(&self, step: u64, steps: u64) -> f64 {
        if step < self.warmup_steps {
            let done = (step + 1) as f64 / self.warmup_steps as f64;
            return self.warmup_from + (1.0 - self.warmup_from) * done;
        }
        match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Cosine => {
                let length = steps.saturating_sub(self.warmup_steps).max(1) as f64;
                let done = ((step - self.warmup_steps) as f64 / length).min(1.0);
                self.floor + (1.0 - self.floor) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
            // Without a number of steps, which `check` refuses, it stays at the top.
            ScheduleKind::Step => self.gamma.powi(step.checked_div(self.every).unwrap_or(0) as i32),
            ScheduleKind::MultiStep => {
                let passed = self.milestones.iter().filter(|&&milestone| step >= milestone).count();
                self.gamma.powi(passed as i32)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(schedule: &ScheduleSettings, steps: u64) -> Vec<f64> {
        (0..=steps).map(|step| (schedule.share(step, steps) * 1e6).round() / 1e6).collect()
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
}
