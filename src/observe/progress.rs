//! How fast the run goes and how long it will take, as one line of text.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Steps that the rates are taken over: those of the last ten seconds, at most so many.
const STEPS_MAX: usize = 1024;
const SPAN: Duration = Duration::from_secs(10);

/// One step as the meter sees it.
#[derive(Clone, Copy, Debug)]
struct Tick {
    at: Instant,
    clips: u32,
    wait: Duration,
    busy: Duration,
}

/// Rates over the last seconds. Reads no clock.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    recent: VecDeque<Tick>,
}

/// Steps and clips a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Steps a second.
    pub steps: f64,
    /// Slots (samples) a second.
    pub clips: f64,
    /// Share of the sinks' time in which they waited for data, 0 to 1.
    pub data_wait: f64,
}

impl Meter {
    /// Takes a step that ended `at`.
    pub fn push(&mut self, at: Instant, clips: u32, wait: Duration, busy: Duration) {
        self.recent.push_back(Tick { at, clips, wait, busy });
        let is_old = |tick: &Tick| at.duration_since(tick.at) > SPAN;
        // Two ticks make a rate, so a slow trainer always keeps two.
        while self.recent.len() > STEPS_MAX || (self.recent.len() > 2 && is_old(&self.recent[0])) {
            self.recent.pop_front();
        }
    }

    /// Rates of the last seconds; `None` before the second step.
    #[must_use]
    pub fn rates(&self) -> Option<Rates> {
        let (first, last) = (self.recent.front()?, self.recent.back()?);
        let secs = last.at.duration_since(first.at).as_secs_f64();
        if secs <= 0.0 {
            return None;
        }
        let after_first = self.recent.iter().skip(1);
        let clips: f64 = after_first.clone().map(|tick| f64::from(tick.clips)).sum();
        let wait: Duration = after_first.clone().map(|tick| tick.wait).sum();
        let busy: Duration = after_first.map(|tick| tick.busy).sum();
        let steps = (self.recent.len() - 1) as f64;
        Some(Rates { steps: steps / secs, clips: clips / secs, data_wait: share(wait, busy) })
    }
}

/// `wait / (wait + busy)`, 0 if both are nothing.
#[must_use]
pub fn share(wait: Duration, busy: Duration) -> f64 {
    let all = (wait + busy).as_secs_f64();
    if all > 0.0 { wait.as_secs_f64() / all } else { 0.0 }
}

/// `12.3 steps/s, 98 clips/s, loss 5.432, data wait 12 %, 3:20 left`; what is not known is left out.
#[must_use]
pub fn text(rates: Option<Rates>, loss: Option<f64>, steps_left: Option<u64>) -> String {
    let mut parts = Vec::new();
    if let Some(rates) = rates {
        parts.push(format!("{} steps/s", number(rates.steps)));
        parts.push(format!("{} clips/s", number(rates.clips)));
    }
    if let Some(loss) = loss {
        parts.push(format!("loss {loss:.4}"));
    }
    if let Some(rates) = rates {
        parts.push(format!("data wait {:.0} %", rates.data_wait * 100.0));
        if let Some(steps_left) = steps_left {
            parts.push(format!("{} left", clock(steps_left as f64 / rates.steps)));
        }
    }
    parts.join(", ")
}

/// Three digits or so, whatever the size.
fn number(value: f64) -> String {
    match value {
        _ if value >= 99.95 => format!("{value:.0}"),
        _ if value >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// `0:07`, `12:30`, `3:05:00`, `4 d 3 h`.
#[must_use]
pub fn clock(secs: f64) -> String {
    let secs = secs.max(0.0).round() as u64;
    let (minutes, hours, days) = (secs / 60, secs / 3600, secs / 86_400);
    match () {
        () if days >= 2 => format!("{days} d {} h", hours % 24),
        () if hours >= 1 => format!("{hours}:{:02}:{:02}", minutes % 60, secs % 60),
        () => format!("{minutes}:{:02}", secs % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A meter after steps of `millis` each, a quarter of it waiting, with 8 clips.
    fn meter(steps: usize, millis: u64) -> Meter {
        let (mut meter, start) = (Meter::default(), crate::edge::clock::now());
        let quarter = Duration::from_millis(millis / 4);
        for step in 1..=steps {
            meter.push(start + quarter * 4 * step as u32, 8, quarter, quarter * 3);
        }
        meter
    }

    #[test]
    fn rates_are_steps_over_time() {
        assert_eq!(meter(1, 200).rates(), None);
        let rates = meter(4, 200).rates().unwrap();
        assert!((rates.steps - 5.0).abs() < 1e-9, "{rates:?}");
        assert!((rates.clips - 40.0).abs() < 1e-9, "{rates:?}");
        assert!((rates.data_wait - 0.25).abs() < 1e-9, "{rates:?}");
    }

    #[test]
    fn the_meter_forgets_what_is_long_ago_but_keeps_a_slow_trainer_measurable() {
        assert!(meter(100_000, 4).recent.len() <= STEPS_MAX);
        assert_eq!(meter(100, 1000).recent.len(), 11);
        let slow = meter(5, 60_000);
        assert_eq!(slow.recent.len(), 2);
        assert!((slow.rates().unwrap().steps - 1.0 / 60.0).abs() < 1e-9);
    }

    #[test]
    fn the_line_says_what_is_known() {
        let rates = Some(Rates { steps: 12.34, clips: 98.7, data_wait: 0.123 });
        let all = text(rates, Some(5.43219), Some(2468));
        assert_eq!(all, "12.3 steps/s, 98.7 clips/s, loss 5.4322, data wait 12 %, 3:20 left");
        assert_eq!(text(None, Some(1.0), Some(9)), "loss 1.0000");
        assert_eq!(text(None, None, None), "");
    }

    #[test]
    fn durations_read_like_a_clock() {
        let all: Vec<_> = [6.6, 750.0, 11_100.0, 356_400.0].map(clock).into();
        assert_eq!(all, ["0:07", "12:30", "3:05:00", "4 d 3 h"]);
    }
}
