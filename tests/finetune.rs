//! An encoder that a pretext has trained is fine-tuned, or has a linear probe trained on it, and the classifier itself
//! is tested on videos it never saw.

#[expect(dead_code, reason = "each test binary uses its own part of the support module")]
mod support;
#[path = "support/training.rs"]
mod training;

use std::path::Path;

use serde_json::Value;
use training::{DATA, Folder};

/// Four passes over 24 media in batches of 8 are 12 steps.
const FINETUNING: &str = r#"
[operators.windows]
type = "uniform"
inputs = ["patterns"]
frames = 8
stride = 2

[[eval]]
source = "held_out"
clips = 3
probe = false

[sources.held_out]
type = "pattern"
media = 32
frames = 24
width = 64
height = 48
labels = "direction"

[sinks.train]
type = "train"
inputs = ["batch"]
encoder = { name = "r3d", width = 4, input = "differences", weights = "WEIGHTS" }
schedule = { type = "multi_step", milestone_epochs = [1, 3], gamma = 0.3 }
optimizer = { type = "sgd", lr = 0.01, weight_decay = 1e-8 }

[sinks.train.pretext]
type = "classify"
classes = ["right", "left", "down", "up", "right_down", "left_up", "right_up", "left_down"]
dropout = 0.5
"#;

fn finetune(folder: &Folder, name: &str, weights: &Path, args: &[&str]) -> support::Trace {
    let text = format!("{DATA}{FINETUNING}").replace("WEIGHTS", weights.to_str().unwrap());
    folder.run(name, &text, &[&["--set=run.epochs=4"], args].concat())
}

fn metrics(folder: &Folder, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.path(name).join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_runs_encoder_is_fine_tuned_for_whole_epochs_with_the_rates_of_its_schedule() {
    let folder = Folder::pretrained();
    let run = finetune(&folder, "a", &folder.path("before"), &[]);
    let rates: Vec<f64> = metrics(&folder, "a").iter().filter_map(|line| line["lr"].as_f64()).collect();
    let expected = [[0.01; 3], [0.003; 3], [0.003; 3], [0.0009; 3]].concat();
    assert_eq!(rates.len(), 12);
    assert!(rates.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "{rates:?}");
    // The run's folder, its exported file and its checkpoint are the same encoder.
    let checkpoint = support::newest_checkpoint(&folder.path("before")).unwrap().1;
    let file = folder.path("before").join("exported/encoder.safetensors");
    for (name, weights) in [("b", checkpoint), ("c", file)] {
        assert_eq!(finetune(&folder, name, &weights, &["--workers=2"]).losses, run.losses, "{name}");
    }
    // The classifier is measured, and the whole encoder has moved.
    let last = metrics(&folder, "a").pop().unwrap();
    let accuracy = last["eval.held_out.classifier"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&accuracy) && last.get("eval.held_out.probe").is_none());
    let encoder = |name: &str| std::fs::read(folder.path(name).join("exported/encoder.safetensors")).unwrap();
    assert!(encoder("before") != encoder("a"));
}

#[test]
fn a_frozen_encoder_is_the_same_after_training_and_dropout_goes_on_after_a_stop() {
    let folder = Folder::pretrained();
    let (weights, frozen) = (folder.path("before"), "--set=sinks.train.encoder.frozen=true");
    let whole = finetune(&folder, "whole", &weights, &[frozen]);
    let encoder = |name: &str| std::fs::read(folder.path(name).join("exported/encoder.safetensors")).unwrap();
    assert!(encoder("before") == encoder("whole"), "every weight and every statistic");
    finetune(&folder, "parted", &weights, &[frozen, "--steps=5"]);
    assert_eq!(finetune(&folder, "parted", &weights, &[frozen, "--resume"]), whole);
    // Other draws of what is dropped are another run.
    let other = finetune(&folder, "other", &weights, &[frozen, "--set=sinks.train.pretext.dropout=0.0"]);
    assert_ne!(other.losses, whole.losses);
}

#[test]
fn a_classifier_learns_to_tell_directions() {
    let folder = Folder::pretrained();
    let more = [
        "--set=run.epochs=60",
        "--set=sinks.train.schedule.milestone_epochs=[40]",
        "--set=sinks.train.optimizer.lr=0.05",
        "--set=sinks.train.encoder.width=8",
    ];
    let text = format!("{DATA}{FINETUNING}").replace(", weights = \"WEIGHTS\"", "");
    folder.run("long", &text, &more);
    let steps = metrics(&folder, "long");
    let mean = |name: &str| {
        steps[steps.len() - 10..].iter().map(|step| step[name].as_f64().unwrap()).sum::<f64>() / 10.0
    };
    // Eight directions: ln 8 = 2.08 and 12.5 % by chance, on the 24 media it learns from and on 8 it never sees.
    assert!(mean("loss") < 1.0 && mean("top1") > 0.8, "{} {}", mean("loss"), mean("top1"));
    let accuracy = steps.last().unwrap()["eval.held_out.classifier"].as_f64().unwrap();
    assert!(accuracy > 0.125, "{accuracy}");
}

/// Over files, with ten clips each, as the command does it.
#[cfg(feature = "gst")]
#[test]
fn eval_tells_top_1_mean_class_accuracy_and_who_was_taken_for_whom() {
    let folder = Folder::pretrained();
    finetune(&folder, "tuned", &folder.path("before"), &[]);
    let list = folder.path("list.csv");
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let names = ["bframes.mp4,right", "trimmed.mp4,left", "variable.mkv,right", "odd_size.webm,other"];
    let rows: Vec<String> = names.iter().map(|name| format!("{}/{name}", data.display())).collect();
    std::fs::write(&list, format!("path,label\n{}\n", rows.join("\n"))).unwrap();
    let picture = folder.path("confusion.png");
    let eval = |format: &str| {
        let mut command = support::reelflow();
        command.arg("eval").arg(folder.path("tuned")).arg("--data").arg(&list).arg("--no-probe");
        let output = command.args(["--format", format]).arg("--confusion").arg(&picture).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let report: Value = serde_json::from_str(&eval("json")).unwrap();
    let classifier = &report["step 12"]["classifier"];
    let classes = classifier["by_class"].as_array().unwrap();
    let right: u64 = classes.iter().map(|class| class["right"].as_u64().unwrap()).sum();
    assert_eq!(classes.len(), 3);
    assert_eq!(classifier["accuracy"].as_f64().unwrap(), right as f64 / 4.0);
    // The classifier knows no `other`.
    assert_eq!(classes[1]["name"], "other");
    assert_eq!(classes[1]["right"], 0);
    let text = eval("text");
    assert!(text.contains("classifier top-1") && text.contains("classifier mean class"), "{text}");
    assert!(std::fs::read(&picture).unwrap().starts_with(b"\x89PNG"));
}
