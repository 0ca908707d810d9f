//! The closing words of a run: what was read, skipped and learnt, where it lies, what to type next.

use std::collections::BTreeMap;
use std::path::PathBuf;

use reelflow_api::error::SkipReason;
use reelflow_api::feed::FeedCounts;
use serde::Serialize;
use serde_json::{Value, json};

use super::loss::SMOOTHED_OVER;
use super::progress::clock;
use super::quarantine::escaped;
use super::recorder::Learnt;

/// What a run read and made; every input is counted exactly once.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counters {
    /// Inputs the sources listed.
    pub inputs_seen: u64,
    /// Inputs with at least one segment in the catalogue, and no window that could not be decoded.
    pub inputs_ok: u64,
    /// Inputs in the catalogue of which a window could not be decoded.
    pub inputs_partial: u64,
    /// Inputs left out, by reason.
    pub inputs_skipped: BTreeMap<SkipReason, u64>,
    /// Of the inputs seen, those that came or were changed while the run went on and are used.
    pub inputs_added: u64,
    /// Inputs that were used and were removed, or changed, while the run went on.
    pub inputs_removed: u64,
    /// Segments in the first catalogue.
    pub segments: u64,
    /// Versions of the catalogue; 0 if it could not change.
    pub catalogue_versions: u64,
    /// Rows of memory banks that were forgotten because their segments were removed.
    pub rows_forgotten: u64,
    /// What each live source has counted, by its id.
    pub feeds: BTreeMap<String, FeedCounts>,
    /// Clips (one a view of every slot) that reached the sinks.
    pub clips: u64,
    /// Pictures decoded.
    pub frames_decoded: u64,
    /// Slots drawn again because a segment could not be decoded.
    pub redrawn: u64,
    /// Batches that reached the sinks.
    pub batches: u64,
}

impl Counters {
    /// Whether `inputs_seen = inputs_ok + inputs_partial + inputs_skipped`, and the frames of every live source add up.
    ///
    /// # Errors
    /// With the numbers, for a warning: something was lost or counted twice, which is a bug.
    pub fn reconcile(&self) -> Result<(), String> {
        let skipped: u64 = self.inputs_skipped.values().sum();
        if self.inputs_seen != self.inputs_ok + self.inputs_partial + skipped {
            return Err(format!(
                "inputs do not add up: {} seen, {} used, {} partly used, {skipped} skipped; please report this",
                self.inputs_seen, self.inputs_ok, self.inputs_partial
            ));
        }
        match self.feeds.iter().find(|(_, counts)| !counts.is_reconciled()) {
            Some((id, counts)) => {
                Err(format!("frames of `{id}` do not add up: {}; please report this", frames(counts)))
            }
            None => Ok(()),
        }
    }
}

/// `1200 frames received, 1000 used, …`.
fn frames(counts: &FeedCounts) -> String {
    let left_out: u64 = counts.frames_left_out.values().sum();
    format!(
        "{} frames received, {} used, {} dropped, {left_out} left out, {} kept",
        counts.frames_received, counts.frames_used, counts.frames_dropped, counts.frames_kept
    )
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// All steps done.
    Finished,
    /// A signal asked it to stop; it can go on.
    Stopped,
    /// An error ended it.
    Failed,
}

/// Everything the closing words are made of.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The pipeline file, as typed.
    pub pipeline: PathBuf,
    /// Folder of the run.
    pub run_dir: PathBuf,
    /// How it ended.
    pub ending: Ending,
    /// What was read.
    pub counters: Counters,
    /// What was learnt.
    pub learnt: Learnt,
    /// A line each `[[eval]]`: what was measured last.
    pub evals: Vec<String>,
    /// Newest complete checkpoint.
    pub checkpoint: Option<PathBuf>,
    /// Folders of contact sheets.
    pub contact_sheets: Vec<PathBuf>,
}

impl Summary {
    /// Several lines for standard error, the last without a line end.
    #[must_use]
    pub fn to_text(&self) -> String {
        let ending = match self.ending {
            Ending::Finished => "finished",
            Ending::Stopped => "stopped on request",
            Ending::Failed => "failed",
        };
        let mut lines = vec![format!("{ending} after {} steps", self.learnt.steps)];
        let mut row = |name: &str, text: String| lines.push(format!("  {name:<9} {text}"));
        row("read", self.read());
        if !self.counters.inputs_skipped.is_empty() {
            let reasons = self.counters.inputs_skipped.iter();
            let reasons: Vec<_> = reasons.map(|(why, count)| format!("{count} {}", why.as_str())).collect();
            row("skipped", format!("{} ({})", reasons.join(", "), self.path("quarantine.jsonl")));
        }
        for (id, counts) in &self.counters.feeds {
            row("live", format!("{id}: {}, {} reconnects", frames(counts), counts.reconnects));
        }
        if let Some(changed) = self.changed() {
            row("changed", changed);
        }
        if let Err(message) = self.counters.reconcile() {
            row("warning", message);
        }
        row("made", self.made());
        if let Some(learnt) = self.loss() {
            row("learnt", learnt);
        }
        for line in &self.evals {
            row("eval", line.clone());
        }
        for (name, place) in self.places() {
            row(name, place);
        }
        for command in self.next() {
            row("next", command);
        }
        lines.join("\n")
    }

    /// The same facts for a program; goes to standard output with `--summary json`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "ending": self.ending,
            "run_dir": self.run_dir.to_string_lossy(),
            "counters": self.counters,
            "reconciled": self.counters.reconcile().is_ok(),
            "steps": self.learnt.steps,
            "first_loss": self.learnt.first_loss,
            "last_loss": self.learnt.last_loss,
            "best_loss": self.learnt.best_loss,
            "loss_smoothed_over": SMOOTHED_OVER,
            "evals": self.evals,
            "data_wait_share": self.learnt.data_wait_share,
            "secs": self.learnt.secs,
            "checkpoint": self.checkpoint.as_ref().map(|path| path.to_string_lossy()),
        })
    }

    fn read(&self) -> String {
        let counters = &self.counters;
        let partial = match counters.inputs_partial {
            0 => String::new(),
            count => format!(" ({count} of them in part)"),
        };
        format!(
            "{} of {} inputs{partial}, {} segments, {} frames decoded",
            counters.inputs_ok + counters.inputs_partial,
            counters.inputs_seen,
            counters.segments,
            counters.frames_decoded
        )
    }

    fn changed(&self) -> Option<String> {
        let Counters { inputs_added, inputs_removed, rows_forgotten, catalogue_versions, .. } =
            &self.counters;
        (*catalogue_versions > 0).then(|| {
            format!(
                "{inputs_added} inputs added, {inputs_removed} removed, {rows_forgotten} rows forgotten, \
                 {catalogue_versions} versions of the catalogue"
            )
        })
    }

    fn made(&self) -> String {
        let (counters, learnt) = (&self.counters, &self.learnt);
        let rate = if learnt.secs > 0.0 { learnt.clips as f64 / learnt.secs } else { 0.0 };
        let redrawn = match counters.redrawn {
            0 => String::new(),
            count => format!(", {count} slots redrawn"),
        };
        format!(
            "{} clips in {} batches{redrawn}, {} ({rate:.1} samples/s, {:.0} % of it waiting for data)",
            counters.clips,
            counters.batches,
            clock(learnt.secs),
            learnt.data_wait_share * 100.0
        )
    }

    fn loss(&self) -> Option<String> {
        let learnt = &self.learnt;
        let (first, last, best) = (learnt.first_loss?, learnt.last_loss?, learnt.best_loss?);
        Some(format!("loss {first:.4} -> {last:.4}, best {best:.4} (means of {SMOOTHED_OVER} steps)"))
    }

    fn places(&self) -> Vec<(&'static str, String)> {
        let mut places = vec![("metrics", self.path("metrics.jsonl"))];
        if let Some(checkpoint) = &self.checkpoint {
            places.push(("saved", escaped(&checkpoint.to_string_lossy())));
        }
        for folder in &self.contact_sheets {
            places.push(("sheets", escaped(&folder.to_string_lossy())));
        }
        places
    }

    fn next(&self) -> Vec<String> {
        let (pipeline, run_dir) = (quoted(&self.pipeline), quoted(&self.run_dir));
        let mut next = Vec::new();
        match self.ending {
            Ending::Finished => {}
            Ending::Stopped if self.checkpoint.is_none() => {}
            Ending::Stopped | Ending::Failed => {
                next.push(format!("reelflow run {pipeline} --out {run_dir} --resume"));
            }
        }
        if self.learnt.first_loss.is_some() {
            if self.checkpoint.is_some() {
                next.push(format!("reelflow eval {run_dir} --data FOLDER_OF_LABELLED_CLIPS"));
            }
            next.push(format!("tensorboard --logdir {run_dir}"));
        }
        next
    }

    fn path(&self, name: &str) -> String {
        escaped(&self.run_dir.join(name).to_string_lossy())
    }
}

/// A path as it can be pasted into a shell.
fn quoted(path: &std::path::Path) -> String {
    let text = escaped(&path.to_string_lossy());
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:,@".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        Summary {
            pipeline: "pipelines/demo.toml".into(),
            run_dir: "runs/my demo".into(),
            ending: Ending::Finished,
            counters: Counters {
                inputs_seen: 7,
                inputs_ok: 3,
                inputs_partial: 0,
                inputs_skipped: BTreeMap::from([(SkipReason::Empty, 1), (SkipReason::NotMedia, 3)]),
                inputs_added: 0,
                inputs_removed: 0,
                segments: 5,
                catalogue_versions: 0,
                rows_forgotten: 0,
                feeds: BTreeMap::new(),
                clips: 1200,
                frames_decoded: 9600,
                redrawn: 2,
                batches: 50,
            },
            learnt: Learnt {
                steps: 50,
                first_loss: Some(6.25),
                last_loss: Some(4.5),
                best_loss: Some(4.25),
                data_wait_share: 0.25,
                clips: 400,
                secs: 80.0,
            },
            evals: vec!["labelled after 50 steps: kNN 45.3 % (guessing 6.2 %)".to_owned()],
            checkpoint: Some("runs/my demo/checkpoints/step=000050".into()),
            contact_sheets: vec!["runs/my demo/preview".into()],
        }
    }

    #[test]
    fn it_says_what_was_read_learnt_and_what_to_type_next() {
        assert_eq!(
            summary().to_text(),
            "finished after 50 steps\n  \
             read      3 of 7 inputs, 5 segments, 9600 frames decoded\n  \
             skipped   1 empty, 3 not_media (runs/my demo/quarantine.jsonl)\n  \
             made      1200 clips in 50 batches, 2 slots redrawn, 1:20 (5.0 samples/s, 25 % of it waiting for data)\n  \
             learnt    loss 6.2500 -> 4.5000, best 4.2500 (means of 20 steps)\n  \
             eval      labelled after 50 steps: kNN 45.3 % (guessing 6.2 %)\n  \
             metrics   runs/my demo/metrics.jsonl\n  \
             saved     runs/my demo/checkpoints/step=000050\n  \
             sheets    runs/my demo/preview\n  \
             next      reelflow eval 'runs/my demo' --data FOLDER_OF_LABELLED_CLIPS\n  \
             next      tensorboard --logdir 'runs/my demo'"
        );
    }

    #[test]
    fn a_run_that_can_go_on_says_how() {
        let stopped = Summary { ending: Ending::Stopped, ..summary() };
        assert!(
            stopped
                .to_text()
                .contains("next      reelflow run pipelines/demo.toml --out 'runs/my demo' --resume\n")
        );
        assert!(!summary().to_text().contains("--resume"));
    }

    #[test]
    fn inputs_must_add_up() {
        assert_eq!(summary().counters.reconcile(), Ok(()));
        let mut lost = summary();
        lost.counters.inputs_seen = 8;
        let message = lost.counters.reconcile().unwrap_err();
        assert!(message.contains("8 seen, 3 used, 0 partly used, 4 skipped"), "{message}");
        assert!(lost.to_text().contains(&message));
        assert_eq!(lost.to_json()["reconciled"], false);
    }

    #[test]
    fn what_changed_and_what_was_live_is_told_and_must_add_up() {
        let mut changed = summary();
        let counters = &mut changed.counters;
        (counters.inputs_added, counters.inputs_removed) = (1, 2);
        (counters.rows_forgotten, counters.catalogue_versions) = (7, 3);
        let counts = FeedCounts {
            frames_received: 100,
            frames_used: 60,
            frames_dropped: 20,
            frames_left_out: BTreeMap::from([("too_short", 5), ("damaged", 5)]),
            frames_kept: 10,
            reconnects: 1,
            ..FeedCounts::default()
        };
        counters.feeds.insert("cam".to_owned(), counts);
        let text = changed.to_text();
        assert!(text.contains(
            "live      cam: 100 frames received, 60 used, 20 dropped, 10 left out, 10 kept, 1 reconnects\n"
        ));
        assert!(text.contains(
            "changed   1 inputs added, 2 removed, 7 rows forgotten, 3 versions of the catalogue\n"
        ));
        assert_eq!(changed.to_json()["counters"]["feeds"]["cam"]["frames_kept"], 10);
        assert_eq!(changed.to_json()["reconciled"], true);
        changed.counters.feeds.get_mut("cam").unwrap().frames_kept = 9;
        assert_eq!(changed.to_json()["reconciled"], false);
        assert!(changed.to_text().contains("frames of `cam` do not add up: 100 frames received"));
    }

    #[test]
    fn a_program_gets_the_same_facts() {
        let json = summary().to_json();
        assert_eq!(json["counters"]["inputs_skipped"]["not_media"], 3);
        assert_eq!((&json["ending"], &json["last_loss"]), (&json!("finished"), &json!(4.5)));
    }
}
