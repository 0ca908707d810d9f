//! What a bench measured, as a table for people and as one line for programs.

use reelflow_api::error::Skip;
use serde_json::{Value, json};

/// A measured run of the data path.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Name of the pipeline.
    pub name: String,
    /// Worker threads.
    pub workers: usize,
    /// Whether the pictures were thrown away as they left the decoder.
    pub decode_only: bool,
    /// Whether all steps were done; not so if it was asked to stop.
    pub finished: bool,
    /// Seconds from the first job handed out to the last batch used, without scan, start and warm-up.
    pub wall_s: f64,
    /// Processor seconds of this process in that time, user and system.
    pub cpu_s: f64,
    /// Seconds that the scan of the sources took, before that time.
    pub scan_s: f64,
    /// The most memory that was resident at once, scan included.
    pub peak_bytes: Option<u64>,
    /// Steps measured.
    pub steps: u64,
    /// Steps before those.
    pub warmup_steps: u64,
    /// Clips in the batches: a view of a slot each.
    pub clips: u64,
    /// Frames of those clips.
    pub frames: u64,
    /// Different pictures that had to leave the decoder for them, pass by pass.
    pub frames_wanted: u64,
    /// Pictures that decoders made, wanted or not.
    pub pictures: u64,
    /// Slots that could not be filled.
    pub slots_empty: u64,
    /// In the order of the flow.
    pub stages: Vec<StageRow>,
    /// Inputs and windows that could not be used.
    pub skipped: Vec<Skip>,
}

/// What one stage did, all its threads together.
#[derive(Clone, Debug)]
pub struct StageRow {
    /// The stage's kind.
    pub name: &'static str,
    /// What is counted.
    pub of: &'static str,
    /// How many.
    pub items: u64,
    /// Items a second of wall time.
    pub items_per_s: f64,
    /// Wall seconds that its threads worked; on busy cores a thread that waits for a core works too.
    pub busy_s: f64,
    /// Share of its threads' time in which they had nothing to do or nowhere to put it, 0 to 1.
    pub waiting: Option<f64>,
    /// The queue in front of it.
    pub queue: Option<Queue>,
}

/// Length of a queue as those found it who took from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Queue {
    /// Mean.
    pub mean: f64,
    /// Greatest.
    pub max: u64,
}

impl Measured {
    /// One line of JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let stage = |row: &StageRow| {
            let queue = row.queue.map(|queue| json!({ "mean": round(queue.mean), "max": queue.max }));
            json!({
                "name": row.name, "of": row.of, "items": row.items, "items_per_s": round(row.items_per_s),
                "busy_s": round(row.busy_s), "waiting": row.waiting.map(round), "queue": queue,
            })
        };
        json!({
            "pipeline": self.name, "workers": self.workers, "decode_only": self.decode_only,
            "finished": self.finished, "wall_s": round(self.wall_s), "cpu_s": round(self.cpu_s),
            "scan_s": round(self.scan_s), "steps": self.steps, "warmup_steps": self.warmup_steps,
            "clips": self.clips, "clips_per_s": round(self.clips_per_s()),
            "cpu_ms_per_clip": round(self.cpu_ms_per_clip()), "frames": self.frames,
            "frames_wanted": self.frames_wanted, "pictures": self.pictures,
            "pictures_per_clip": round(self.pictures_per_clip()), "slots_empty": self.slots_empty,
            "peak_mb": self.peak_bytes.map(|bytes| round(mebibytes(bytes))),
            "skipped": self.skipped.len(), "stages": self.stages.iter().map(stage).collect::<Vec<_>>(),
        })
    }

    /// Several lines, the last without a line end.
    #[must_use]
    pub fn to_text(&self) -> String {
        let what = if self.decode_only { ", decoding only" } else { "" };
        let stopped = if self.finished { "" } else { ", stopped before the end" };
        let mut lines = vec![
            format!("{}: {} workers{what}, {} steps{stopped}", self.name, self.workers, self.steps),
            format!(
                "  {:.1} clips/s: {} clips in {:.2} s, {:.2} ms of processor time a clip",
                self.clips_per_s(),
                self.clips,
                self.wall_s,
                self.cpu_ms_per_clip()
            ),
            format!(
                "  {} frames used, {} pictures decoded, {:.1} a clip",
                self.frames,
                self.pictures,
                self.pictures_per_clip()
            ),
            format!("  scan {:.2} s before that{}", self.scan_s, self.memory()),
        ];
        if self.slots_empty > 0 {
            lines.push(format!("  {} slots could not be filled", self.slots_empty));
        }
        lines.push(format!(
            "  {:<8} {:>9} {:<9} {:>10} {:>8} {:>8}  {}",
            "stage", "items", "", "items/s", "busy s", "waiting", "queue before it, mean (greatest)"
        ));
        lines.extend(self.stages.iter().map(StageRow::to_text));
        lines.join("\n")
    }

    fn memory(&self) -> String {
        self.peak_bytes.map_or_else(String::new, |bytes| format!(", at most {:.0} MB", mebibytes(bytes)))
    }

    fn clips_per_s(&self) -> f64 {
        per(self.clips as f64, self.wall_s)
    }

    fn cpu_ms_per_clip(&self) -> f64 {
        per(self.cpu_s * 1e3, self.clips as f64)
    }

    fn pictures_per_clip(&self) -> f64 {
        per(self.pictures as f64, self.clips as f64)
    }
}

impl StageRow {
    fn to_text(&self) -> String {
        let waiting = self.waiting.map_or_else(String::new, |share| format!("{:.0} %", share * 100.0));
        let queue = self.queue.map(|queue| format!("{:.1} ({})", queue.mean, queue.max)).unwrap_or_default();
        let line = format!(
            "  {:<8} {:>9} {:<9} {:>10.1} {:>8.2} {:>8}  {}",
            self.name, self.items, self.of, self.items_per_s, self.busy_s, waiting, queue
        );
        line.trim_end().to_owned()
    }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// 0 rather than a number that JSON does not have.
fn per(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// To a thousandth.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Measured {
        let queue = Some(Queue { mean: 1.25, max: 4 });
        let row = StageRow {
            name: "decode",
            of: "pictures",
            items: 500,
            items_per_s: 250.0,
            busy_s: 1.5,
            waiting: Some(0.25),
            queue,
        };
        Measured {
            name: "job".into(),
            workers: 2,
            finished: true,
            wall_s: 2.0,
            cpu_s: 3.0,
            scan_s: 0.5,
            peak_bytes: Some(300 << 20),
            steps: 2,
            clips: 30,
            frames: 480,
            frames_wanted: 470,
            pictures: 500,
            stages: vec![row.clone(), StageRow { name: "batch", waiting: None, queue: None, ..row }],
            ..Measured::default()
        }
    }

    #[test]
    fn the_line_for_programs_has_totals_rates_and_stages() {
        let line = measured().to_json();
        assert_eq!((&line["wall_s"], &line["cpu_s"], &line["clips"]), (&json!(2.0), &json!(3.0), &json!(30)));
        assert_eq!(
            (&line["clips_per_s"], &line["cpu_ms_per_clip"], &line["pictures_per_clip"], &line["peak_mb"]),
            (&json!(15.0), &json!(100.0), &json!(16.667), &json!(300.0))
        );
        assert_eq!(line["stages"][0]["queue"], json!({ "mean": 1.25, "max": 4 }));
        assert!(line["stages"][1]["waiting"].is_null());
    }

    #[test]
    fn the_table_says_the_same() {
        let expected = "\
job: 2 workers, 2 steps
  15.0 clips/s: 30 clips in 2.00 s, 100.00 ms of processor time a clip
  480 frames used, 500 pictures decoded, 16.7 a clip
  scan 0.50 s before that, at most 300 MB
  stage        items              items/s   busy s  waiting  queue before it, mean (greatest)
  decode         500 pictures       250.0     1.50     25 %  1.2 (4)
  batch          500 pictures       250.0     1.50";
        assert_eq!(measured().to_text(), expected);
    }

    #[test]
    fn nothing_measured_gives_no_infinite_number() {
        assert_eq!(Measured::default().to_json()["clips_per_s"], json!(0.0));
    }
}
