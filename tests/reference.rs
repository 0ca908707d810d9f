//! Twenty steps of our trainer equal twenty steps of VTDL in plain PyTorch, `tests/reference/vtdl.py`.
//!
//! Both start from the same weights and bank rows and see the same random views. Compared are the loss
//! and learning rate of every step, the gradients of the first, and after the last the weights with batch
//! norm's statistics, the key network's, and the bank with its segment ids. A tensor `a` equals `b` if
//! `|a - b| <= 1e-4 |b|` in the Euclidean norm; counters and ids must be identical.
//!
//! One thing no two programs can agree on: where rounding puts an activation on the other side of a ReLU's
//! kink, the gradient jumps and the later steps part by 1e-4 and more, with no mistake on either side. In
//! a larger setting two sides 4e-4 apart were 2e-6 apart once one activation of 2.7 million was turned
//! over by force. So networks and clips are small, which leaves fewer activations to meet it (2 of 32
//! starts tried were more than 1e-4 apart), and there are up to three starts: a mistake shows in each of
//! them, a kink hardly ever.
//!
//! Runs where `python3`, or the program named by `REELFLOW_PYTHON`, has torch; says loudly where not.

use std::collections::BTreeMap;
use std::path::Path;

use reelflow::api::bank::BankSettings;
use reelflow::api::item::{Batch, SegmentId, SlotInfo, View};
use reelflow::api::rng::Key;
use reelflow::api::spec::Table;
use reelflow::api::stage::{Parts, Scalars, Sink, SinkContext, Stage};
use reelflow::bank::sealed::{Block, Blocks, from_safetensors, to_safetensors};
use reelflow::bank::{Bank, Rows};
use serde_json::{Value, json};

#[path = "support/python.rs"]
mod python;

const STEPS: u64 = 20;
const BATCH: usize = 12;
const SHAPE: [usize; 4] = [3, 4, 8, 8];
const VIEWS: [&str; 3] = ["anchor", "positive", "negative"];
/// Fewer segments than keys in the bank, so that the mask has something to do in every step.
const SEGMENTS: u64 = 17;
const TOLERANCE: f64 = 1e-4;
/// Seeds of the first weights and bank rows; the next is tried only if one did not agree.
const STARTS: [u64; 3] = [1, 2, 3];

/// What is not written here has the values of the released code: temperature, momentum, SGD.
const SGD: &str = r#"
encoder = { name = "r3d", width = 4 }
pretext = { type = "vtdl", bank = "keys", dim = 16, same_segment_mask = true }
schedule = { type = "multi_step", warmup_steps = 3, milestones = [12, 17] }
"#;

/// The other choice wherever there is one, and a key network that follows fast.
const ADAMW: &str = r#"
encoder = { name = "r3d", width = 4, stem = "video", blocks = [1, 2, 1, 1] }
pretext = { type = "vtdl", bank = "keys", dim = 16, hidden = 24, temperature = 0.1, same_segment_mask = true }
optimizer = { type = "adamw", lr = 0.001, weight_decay = 0.05 }
schedule = { type = "cosine", warmup_steps = 4, floor = 0.1 }
momentum = 0.9
"#;

/// Every choice that the other two leave at its default.
const CHOICES: &str = r#"
encoder = { name = "r3d", width = 4 }
pretext = { type = "vtdl", bank = "keys", dim = 16, margin_weight = 0.5 }
optimizer = { lr = 0.01, clip_norm = 1.0, head_lr = 5.0, weight_decay = 0.01, decay_norm_and_bias = false }
schedule = { type = "step", every = 7, gamma = 0.5, warmup_steps = 3, warmup_from = 0.1 }
momentum = 0.9
momentum_schedule = "cosine"
accumulate = 2
"#;

/// 240 keys go through 50 rows: four times around, and never at the end of a batch.
fn bank(init: &str) -> BankSettings {
    let bank = json!({ "dim": 16, "rows": 50, "shards": 3, "staleness": 1, "init": init });
    serde_json::from_value(bank).unwrap()
}

fn open(train: &str, bank: &BankSettings, start: u64, dir: &Path) -> Box<dyn Sink> {
    let entries = toml::de::DeTable::parse(train).unwrap().into_inner();
    let table = Table { path: "sinks.train".to_owned(), span: 0..train.len(), entries };
    let Ok(Stage::Sink(plan)) = (reelflow::train::ALL[0].build)(&table) else { panic!("{train}") };
    plan.open(SinkContext {
        id: "train".to_owned(),
        run_dir: dir.to_owned(),
        key: Key::new(start),
        steps: Some(STEPS),
        batch_size: BATCH as u32,
        epoch_clips: None,
        views: VIEWS.map(|name| (name.into(), SHAPE)).to_vec(),
        banks: BTreeMap::from([("keys".to_owned(), bank.clone())]),
        labels: std::sync::Arc::default(),
        device: "cpu".to_owned(),
        threads: 1,
    })
    .unwrap()
}

/// Views of noise. Ids use all 64 bits, as hashes do, so half of them are negative when read with a sign.
fn batch(step: u64) -> Batch {
    let slot = |slot: u64| SlotInfo {
        slot: slot as u32,
        attempt: 0,
        segment: SegmentId((step * BATCH as u64 + slot) * 4 % SEGMENTS * (u64::MAX / SEGMENTS)),
        frames: Vec::new(),
    };
    let view = |name: &str| {
        let mut rng = Key::new(step).part(name).rng();
        let values = BATCH * SHAPE.iter().product::<usize>();
        let pixels: Vec<f32> = (0..values).map(|_| rng.normal() as f32).collect();
        View { name: name.into(), shape: SHAPE, pixels: pixels.into(), normalize: None }
    };
    Batch { step, slots: (0..BATCH as u64).map(slot).collect(), views: VIEWS.map(view).to_vec() }
}

/// The tensors of a saved file, their names behind `prefix`.
fn tensors(parts: &Parts, file: &str, prefix: &str) -> Blocks {
    let blocks = from_safetensors(file, &parts[file]).unwrap();
    blocks.into_iter().map(|(name, block)| (format!("{prefix}{name}"), block)).collect()
}

/// The bank as `step` sees it, named as the script names it.
fn bank_rows(parts: &Parts, settings: &BankSettings, step: u64) -> Blocks {
    let mut bank = Bank::open("keys", settings, Key::new(0)).unwrap();
    bank.restore(parts).unwrap();
    let mut rows = Rows::empty(settings);
    rows.apply(&bank.read(step).unwrap());
    let Rows { values, ids, .. } = rows;
    let shape = [settings.rows as usize, settings.dim as usize];
    Blocks::from([
        ("bank.rows".to_owned(), Block::f32(&shape, &values)),
        ("bank.ids".to_owned(), Block::i64(&shape[..1], &ids)),
    ])
}

fn values(block: &Block) -> Vec<f32> {
    block.to_f32(&block.shape).unwrap()
}

/// The gradients of the first step, out of what the optimiser remembers of it: SGD the gradient with the
/// decay's share, AdamW a tenth of it.
fn gradients(parts: &Parts, first: &Blocks, train: &Value) -> Blocks {
    let chosen = |name: &str| train.get("optimizer").and_then(|optimizer| optimizer.get(name));
    let adamw = chosen("type").is_some_and(|kind| kind == "adamw");
    let decay = chosen("weight_decay").and_then(Value::as_f64).unwrap_or(1e-4) as f32;
    let spares = chosen("decay_norm_and_bias").is_some_and(|decays| decays == false);
    let memory = tensors(parts, "optimizer.safetensors", "");
    let memory = memory.iter().filter_map(|(name, block)| Some((name.strip_prefix("first.")?, block)));
    let gradient = |(name, block): (&str, &Block)| {
        let weights = values(&first[&format!("weights.{name}")]);
        let pairs = values(block).into_iter().zip(weights);
        let decay = if spares && block.shape.len() <= 1 { 0.0 } else { decay };
        let of = |(kept, weight)| if adamw { kept / 0.1 } else { kept - decay * weight };
        let values: Vec<f32> = pairs.map(of).collect();
        (format!("gradients.{name}"), Block::f32(&block.shape, &values))
    };
    memory.map(gradient).collect()
}

fn scalar(scalars: &Scalars, name: &str) -> f32 {
    scalars.iter().find(|(found, _)| *found == name).unwrap().1 as f32
}

/// Runs our trainer. What the script is to start from, and what it must come to.
fn ours(train: &str, bank: &BankSettings, start: u64, dir: &Path) -> (Blocks, Blocks) {
    let mut sink = open(train, bank, start, dir);
    let fresh = sink.save().unwrap();
    let mut inputs = tensors(&fresh, "query.safetensors", "weights.");
    inputs.extend(bank_rows(&fresh, bank, 0));
    let mut result = Blocks::new();
    let (mut losses, mut rates) = (Vec::new(), Vec::new());
    for step in 0..STEPS {
        let batch = batch(step);
        let scalars = sink.consume(&batch).unwrap();
        losses.push(scalar(&scalars, "loss"));
        rates.push(scalar(&scalars, "lr"));
        if step == 0 {
            result.extend(gradients(&sink.save().unwrap(), &inputs, &toml::from_str(train).unwrap()));
        }
        let ids: Vec<i64> = batch.slots.iter().map(|slot| slot.segment.0 as i64).collect();
        inputs.insert(format!("{step}.ids"), Block::i64(&[BATCH], &ids));
        let [c, t, h, w] = SHAPE;
        for view in &batch.views {
            let block = Block::f32(&[BATCH, c, t, h, w], view.pixels.f32());
            inputs.insert(format!("{step}.{}", view.name), block);
        }
    }
    let last = sink.save().unwrap();
    result.insert("loss".to_owned(), Block::f32(&[losses.len()], &losses));
    result.insert("lr".to_owned(), Block::f32(&[rates.len()], &rates));
    result.extend(tensors(&last, "query.safetensors", "weights."));
    result.extend(tensors(&last, "key.safetensors", "key_weights."));
    result.extend(bank_rows(&last, bank, STEPS));
    (inputs, result)
}

/// How far `ours` is from `theirs`, as a share of the length of `theirs`. Losses and rates count each for
/// itself: over 20 steps a wrong one would drown among the others.
fn difference(name: &str, ours: &Block, theirs: &Block) -> f64 {
    assert_eq!((ours.dtype, &ours.shape), (theirs.dtype, &theirs.shape), "{name}");
    if ours.to_i64(&ours.shape).is_some() {
        return if ours == theirs { 0.0 } else { f64::INFINITY };
    }
    let (ours, theirs) = (values(ours), values(theirs));
    let part = if ["loss", "lr"].contains(&name) { 1 } else { theirs.len() };
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let shares = ours.chunks(part).zip(theirs.chunks(part)).map(|(ours, theirs)| {
        let apart = length(&mut ours.iter().zip(theirs).map(|(a, b)| f64::from(*a) - f64::from(*b)));
        let size = length(&mut theirs.iter().map(|b| f64::from(*b)));
        // No number is near to nothing.
        if apart == 0.0 {
            0.0
        } else if apart.is_nan() {
            f64::INFINITY
        } else {
            apart / size
        }
    });
    shares.fold(0.0, f64::max)
}

/// The largest difference of each quantity (`loss`, `gradients`, `weights`, …) and the tensor that has it.
fn differences(ours: &Blocks, folder: &Path, name: &str) -> BTreeMap<String, (f64, String)> {
    let file = format!("{name}.result.safetensors");
    let theirs = from_safetensors(&file, &std::fs::read(folder.join(&file)).unwrap()).unwrap();
    assert!(ours.keys().eq(theirs.keys()), "both must have the same tensors");
    let mut largest = BTreeMap::new();
    for (name, block) in ours {
        let quantity = name.split('.').next().unwrap().to_owned();
        let found = difference(name, block, &theirs[name]);
        let most = largest.entry(quantity).or_insert((0.0, String::new()));
        if found >= most.0 {
            *most = (found, name.clone());
        }
    }
    largest
}

/// Writes what the script needs for both the right settings and those with one mistake each.
fn write_settings(train: &str, bank: &BankSettings, mistakes: &[(&str, Value)], folder: &Path) {
    let train: Value = toml::from_str(train).unwrap();
    let right = json!({ "train": train, "bank": bank, "steps": STEPS });
    let write = |name: &str, settings: &Value| {
        std::fs::write(folder.join(format!("{name}.settings.json")), settings.to_string()).unwrap();
    };
    write("right", &right);
    for (i, (path, value)) in mistakes.iter().enumerate() {
        let mut wrong = right.clone();
        let (table, key) = path.rsplit_once('/').unwrap();
        let place = wrong.pointer_mut(table).unwrap_or_else(|| panic!("{table} is not among the settings"));
        place[key] = value.clone();
        write(&format!("wrong{i}"), &wrong);
    }
}

/// Runs both sides. The script also gets settings with one mistake each, which must be noticed: a
/// comparison that forgives them would prove nothing.
fn compare(name: &str, train: &str, bank: &BankSettings, mistakes: &[(&str, Value)]) {
    for start in STARTS {
        let dir = tempfile::tempdir().unwrap();
        let (inputs, result) = ours(train, bank, start, dir.path());
        let inputs = to_safetensors(name, &inputs).unwrap();
        std::fs::write(dir.path().join("inputs.safetensors"), inputs).unwrap();
        write_settings(train, bank, mistakes, dir.path());
        if !python::run("vtdl.py", dir.path(), "torch") {
            return;
        }
        let found = differences(&result, dir.path(), "right");
        for (quantity, (most, tensor)) in &found {
            println!("{name}, start {start}: {quantity}: at most {most:.1e} apart, {tensor}");
        }
        if found.values().any(|(most, _)| *most > TOLERANCE) {
            continue;
        }
        for (i, (path, value)) in mistakes.iter().enumerate() {
            let found = differences(&result, dir.path(), &format!("wrong{i}"));
            let noticed = found.iter().filter(|(_, (most, _))| *most > TOLERANCE);
            let noticed: Vec<String> =
                noticed.map(|(quantity, (most, _))| format!("{quantity} {most:.0e}")).collect();
            assert!(!noticed.is_empty(), "{name}: nobody notices {path} = {value}");
            println!("{name}: {path} = {value} noticed by {}", noticed.join(", "));
        }
        return;
    }
    panic!("{name}: no start agrees; the figures stand above");
}

#[test]
fn twenty_steps_with_sgd_equal_those_of_plain_pytorch() {
    let mistakes = [
        ("/train/pretext/temperature", json!(0.0701)),
        ("/train/momentum", json!(0.99)),
        ("/bank/staleness", json!(2)),
        ("/train/pretext/same_segment_mask", json!(false)),
        ("/train/pretext/temporal_negative", json!(false)),
        ("/train/schedule/milestones", json!([13, 17])),
    ];
    compare("sgd", SGD, &bank("uniform"), &mistakes);
}

#[test]
fn twenty_steps_with_adamw_equal_those_of_plain_pytorch() {
    let mistakes = [
        ("/train/momentum", json!(0.901)),
        ("/train/optimizer/weight_decay", json!(0.1)),
        ("/train/optimizer/type", json!("sgd")),
        ("/train/schedule/floor", json!(0.2)),
    ];
    compare("adamw", ADAMW, &bank("sphere"), &mistakes);
}

#[test]
fn twenty_steps_with_every_other_choice_equal_those_of_plain_pytorch() {
    let mistakes = [
        ("/train/accumulate", json!(1)),
        ("/train/momentum_schedule", json!("constant")),
        ("/train/pretext/margin_weight", json!(0.51)),
        ("/train/optimizer/clip_norm", json!(1.01)),
        ("/train/optimizer/head_lr", json!(4.9)),
        ("/train/optimizer/decay_norm_and_bias", json!(true)),
        ("/train/schedule/every", json!(8)),
        ("/train/schedule/warmup_from", json!(0.11)),
    ];
    compare("choices", CHOICES, &bank("uniform"), &mistakes);
}
