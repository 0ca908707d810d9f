//! What METHODS 1.8 says of a whole step: where gradients go, and the way of the loss.

use reelflow_api::pretext::Nets;

use super::tests::{BATCH, batch, context, loss, plan};
use super::*;
use crate::train::encoder::EncoderSettings;

/// Large enough that the last stage sees more than one place of a clip: batch norm over one place a clip
/// would spread the clips of a batch apart whatever they show.
const LARGE: [usize; 4] = [3, 4, 32, 32];

/// Clips of the same noise, each with a faint colour of its own; the positive is the anchor's copy.
fn faint(step: u64) -> Batch {
    let mut batch = batch(step);
    let mut noise = Key::new(9).rng();
    let clip: Vec<f32> = (0..LARGE.iter().product()).map(|_| noise.normal() as f32).collect();
    let place = clip.len() / LARGE[0];
    for view in &mut batch.views {
        let mut rng = Key::new(step).part(&view.name).rng();
        let mut tinted = || {
            let channels = clip.chunks(place).map(|channel| (channel, 0.015 * rng.normal() as f32));
            channels.flat_map(|(channel, tint)| channel.iter().map(move |x| x + tint)).collect::<Vec<_>>()
        };
        view.pixels = (0..BATCH).flat_map(|_| tinted()).collect::<Vec<_>>().into();
        view.shape = LARGE;
    }
    batch.views[1].pixels = batch.views[0].pixels.clone();
    batch
}

/// Nearly nothing changes until the bank has been filled once with keys that are nearly equal; then the
/// rate rises.
#[test]
fn the_loss_starts_at_ln_2_climbs_to_ln_k_plus_2_and_falls() {
    const ROWS: u32 = 64;
    let dir = tempfile::tempdir().unwrap();
    let text = "encoder = { name = \"r3d\", width = 4 }
        pretext = { type = \"vtdl\", bank = \"keys\" }
        optimizer = { lr = 0.0001 }
        schedule = { type = \"multi_step\", milestones = [20, 28, 36, 44], gamma = 3.0 }
        momentum = 0.98";
    let mut context = context(dir.path(), ROWS);
    context.banks.get_mut("keys").unwrap().dim = 128;
    context.views.iter_mut().for_each(|(_, shape)| *shape = LARGE);
    let mut sink = plan(text).open(context).unwrap();
    let curve: Vec<f64> = (0..160).map(|step| loss(&sink.consume(&faint(step)).unwrap())).collect();
    println!("{curve:.2?}");
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let full = ROWS as usize / BATCH;
    let (start, top, end) = (curve[0], mean(&curve[full..20]), mean(&curve[140..]));
    // Two equal classes, and random rows that hardly count. A colour of its own keeps a key a little nearer
    // to its query than equal ones would be.
    assert!((start - 2f64.ln()).abs() < 0.12, "starts at {start}");
    assert!((top - f64::from(ROWS + 2).ln()).abs() < 0.5, "climbs to {top}");
    assert!(end < top - 1.0, "falls to {end} from {top}");
}

/// A pair of networks of which the query network's `stopped`-th use passes no gradient on.
struct Stopped<'a> {
    pair: Pair<'a>,
    uses: u32,
    stopped: u32,
}

impl Nets for Stopped<'_> {
    fn query(&mut self, head: &str, clips: &Tensor) -> Tensor {
        let found = self.pair.query(head, clips);
        self.uses += 1;
        if self.uses == self.stopped { found.detach() } else { found }
    }

    fn key(&mut self, head: &str, clips: &Tensor) -> Tensor {
        self.pair.key(head, clips)
    }
}

#[test]
fn the_query_network_learns_through_anchor_and_negative_and_nothing_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let task = crate::pretext::find("vtdl").unwrap();
    let text = "bank = \"keys\"\ndim = 16";
    let table = reelflow_api::spec::Table {
        path: "pretext".to_owned(),
        span: 0..text.len(),
        entries: toml::de::DeTable::parse(text).unwrap().into_inner(),
    };
    let Ok(task) = (task.build)(&table) else { panic!("{text} must build") };
    let encoder: EncoderSettings = toml::from_str("name = \"r3d\"\nwidth = 4").unwrap();
    let views: BTreeMap<String, Tensor> = batch(0)
        .views
        .iter()
        .map(|view| (view.name.to_string(), to_tensor(view, Device::Cpu).unwrap()))
        .collect();
    let settings = &context(dir.path(), 10).banks["keys"];
    let mut bank = Memory::open("keys", settings, Key::new(1), Device::Cpu).unwrap();
    let rows = bank.read(0, &[], Key::new(0)).unwrap();
    for stopped in [0, 1, 2] {
        let network =
            |seed| Network::new(&encoder.architecture(), &task.heads(), Key::new(seed), Device::Cpu);
        // The key network is not frozen here: that no gradient comes is the step's doing.
        let (query, key) = (network(1), network(1));
        let values = rows.rows.copy().set_requires_grad(true);
        let seen = BankRows {
            rows: values.shallow_clone(),
            ids: rows.ids.shallow_clone(),
            own: None,
            total: rows.total,
        };
        let banks = BTreeMap::from([("keys".to_owned(), seen)]);
        let ids = Tensor::from_slice(&[1i64, 2, 3, 4]);
        let step = Step {
            step: 0,
            views: &views,
            ids: &ids,
            labels: &[],
            banks: &banks,
            frozen: &BTreeMap::new(),
            key: Key::new(2),
        };
        let pair = Pair { query: &query, key: &key, chance: Key::new(3), queries: 0, calls: 0, bn_groups: 1 };
        let found = task.loss(&mut Stopped { pair, uses: 0, stopped }, &step).unwrap();
        found.loss.backward();
        assert!(Optimizer::grad_norm(&query.store) > 0.0, "without use {stopped}");
        assert!(key.store.weights().all(|entry| !entry.tensor.grad().defined()), "key network");
        assert!(!values.grad().defined() && !found.keys[0].1.requires_grad(), "bank and keys");
    }
}
