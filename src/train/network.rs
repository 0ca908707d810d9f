//! An encoder with the heads a pretext task wants, and the pair of networks a step works with.

use reelflow_api::pretext::{Head, Nets};
use reelflow_api::rng::Key;
use tch::{Device, Kind, Tensor};

use super::encoder::{Architecture, Encoder};
use super::layers::{Linear, Maker, NormRule, unit_rows};
use super::store::Store;

/// An encoder, its heads and all their tensors.
pub struct Network {
    /// The tensors by name; those of heads start with `heads.`.
    pub store: Store,
    /// Kind in which the encoder's convolutions are computed: f32, or bf16. Weights, statistics, heads and
    /// embeddings are f32 in either case.
    pub compute: Kind,
    /// Whether the encoder stays as it is: no gradient reaches it, and its batch norm goes by the running
    /// statistics, in training too.
    pub frozen: bool,
    encoder: Encoder,
    heads: Vec<HeadNet>,
}

/// Prefix of everything that is not the encoder.
pub const HEADS: &str = "heads.";

struct HeadNet {
    name: &'static str,
    hidden: Option<Linear>,
    last: Linear,
    unit: bool,
    dropout: f64,
}

impl Network {
    /// A network whose first weights are drawn from `key`. The encoder's do not depend on the heads.
    #[must_use]
    pub fn new(architecture: &Architecture, heads: &[Head], key: Key, device: Device) -> Self {
        let mut store = Store::new(device);
        let mut make = Maker {
            store: &mut store,
            init: architecture.init,
            key,
            norm: NormRule::default(),
            fan_in: false,
        };
        let encoder = Encoder::new(&mut make, architecture);
        let features = architecture.features();
        let heads = heads
            .iter()
            .map(|head| {
                let name = format!("{HEADS}{}", head.name);
                // Numbered like the layers of a sequence: linear, ReLU, linear.
                let hidden =
                    head.hidden.map(|width| Linear::new(&mut make, &format!("{name}.0"), features, width));
                let (place, input) = head.hidden.map_or((0, features), |width| (2, width));
                let last = Linear::new(&mut make, &format!("{name}.{place}"), input, head.dim);
                HeadNet { name: head.name, hidden, last, unit: head.unit, dropout: head.dropout }
            })
            .collect();
        Self { store, compute: Kind::Float, frozen: false, encoder, heads }
    }

    /// `[B, 3, T, H, W]` f32 to `[B, features]`.
    pub fn features(&self, clips: &Tensor, train: bool) -> Tensor {
        match self.frozen {
            true => tch::no_grad(|| self.encoder.forward(clips, self.compute, false)),
            false => self.encoder.forward(clips, self.compute, train),
        }
    }

    /// `[B, 3, T, H, W]` f32 to `[B, dim]` of the head called `name`, without dropout.
    ///
    /// # Panics
    /// As [`Network::head`].
    pub fn embed(&self, name: &str, clips: &Tensor, train: bool) -> Tensor {
        self.head(name, &self.features(clips, train), None)
    }

    /// `[B, features]` to `[B, dim]` of the head called `name`; `chance` draws what is dropped.
    ///
    /// # Panics
    /// If there is no such head; a task names only heads that it asked for.
    pub fn head(&self, name: &str, features: &Tensor, chance: Option<Key>) -> Tensor {
        let head = self.heads.iter().find(|head| head.name == name);
        let head = head.unwrap_or_else(|| panic!("the pretext uses head `{name}` without asking for it"));
        let mut x = features.shallow_clone();
        if let Some(hidden) = &head.hidden {
            x = hidden.forward(&x).relu();
        }
        if let Some(chance) = chance.filter(|_| head.dropout > 0.0) {
            x = dropped(&x, head.dropout, chance);
        }
        let x = head.last.forward(&x);
        if head.unit { unit_rows(&x) } else { x }
    }
}

/// `x` with a `share` of its values set to 0 and the others scaled by `1 / (1 - share)`. Drawn here because the
/// state of libtorch's generator is in no checkpoint.
fn dropped(x: &Tensor, share: f64, chance: Key) -> Tensor {
    let (mut rng, kept) = (chance.rng(), (1.0 / (1.0 - share)) as f32);
    let mask: Vec<f32> = (0..x.numel()).map(|_| if rng.chance(share) { 0.0 } else { kept }).collect();
    x * Tensor::from_slice(&mask).reshape(x.size()).to_device(x.device())
}

/// The two networks of one step.
pub struct Pair<'a> {
    /// Trained.
    pub query: &'a Network,
    /// Follows the query network.
    pub key: &'a Network,
    /// Chance of this step.
    pub chance: Key,
    /// How many times the query network was used in this step.
    pub queries: u64,
    /// How many times the key network was used in this step.
    pub calls: u64,
    /// Parts of a batch of keys that have batch statistics of their own; divides the batch.
    pub bn_groups: i64,
}

impl Nets for Pair<'_> {
    fn query(&mut self, head: &str, clips: &Tensor) -> Tensor {
        let chance = self.chance.part("dropout").number(self.queries);
        self.queries += 1;
        self.query.head(head, &self.query.features(clips, true), Some(chance))
    }

    /// ShuffleBN (He et al. 2020, "Momentum Contrast", section 3.3): the clips in a random order, cut into
    /// `bn_groups` parts that go through the network one after the other, and the keys back in the order of
    /// their clips. The parts stand for the devices of the paper: a key's statistics come from other clips
    /// than its query's, so they cannot tell which key belongs to which query.
    fn key(&mut self, head: &str, clips: &Tensor) -> Tensor {
        let count = clips.size()[0];
        let (order, back) = shuffle(count, self.chance.part("shuffle_bn").number(self.calls));
        self.calls += 1;
        let (order, back) = (order.to_device(clips.device()), back.to_device(clips.device()));
        tch::no_grad(|| {
            let clips = clips.index_select(0, &order);
            let part = count / self.bn_groups;
            let keys = |i| self.key.embed(head, &clips.narrow(0, i * part, part), true);
            let keys: Vec<Tensor> = (0..self.bn_groups).map(keys).collect();
            Tensor::cat(&keys, 0).index_select(0, &back)
        })
    }
}

/// A random order of `count` places and the way back.
fn shuffle(count: i64, key: Key) -> (Tensor, Tensor) {
    let mut order: Vec<i64> = (0..count).collect();
    key.rng().shuffle(&mut order);
    let mut back = vec![0i64; order.len()];
    for (place, &from) in order.iter().enumerate() {
        back[from as usize] = place as i64;
    }
    (Tensor::from_slice(&order), Tensor::from_slice(&back))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::train::encoder::resnet::Shape;
    use crate::train::encoder::{Family, Input, Stem};
    use crate::train::layers::Init;

    fn shaped(split: bool, width: u32, stem: Stem, init: Init) -> Architecture {
        Architecture {
            family: Family::Resnet(Shape { split, width, blocks: [1, 1, 2, 1], stem }),
            input: Input::Frames,
            init,
        }
    }

    fn small(split: bool, init: Init) -> Architecture {
        shaped(split, 4, Stem::Small, init)
    }

    fn head() -> Head {
        Head { name: "embedding", dim: 6, hidden: Some(10), unit: true, dropout: 0.0 }
    }

    fn network(seed: u64) -> Network {
        Network::new(&small(false, Init::Torchvision), &[head()], Key::new(seed), Device::Cpu)
    }

    fn clips(seed: u64) -> Tensor {
        let mut rng = Key::new(seed).rng();
        let values: Vec<f32> = (0..5 * 3 * 4 * 16 * 16).map(|_| rng.normal() as f32).collect();
        Tensor::from_slice(&values).reshape([5, 3, 4, 16, 16])
    }

    fn distance(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn first_weights_depend_on_key_and_name_only() {
        let (a, b, other) = (network(1), network(1), network(2));
        assert!(a.store.blocks().unwrap() == b.store.blocks().unwrap());
        assert!(a.store.blocks().unwrap() != other.store.blocks().unwrap());
        let bare = Network::new(&small(false, Init::Torchvision), &[], Key::new(1), Device::Cpu);
        for (name, block) in bare.store.blocks().unwrap() {
            assert!(a.store.blocks().unwrap()[&name] == block, "{name}");
        }
    }

    #[test]
    fn first_weights_have_the_spread_of_their_rule() {
        let spread = |init| {
            let architecture = shaped(false, 32, Stem::Small, init);
            let network = Network::new(&architecture, &[], Key::new(1), Device::Cpu);
            let entry = network.store.weights().find(|entry| entry.name == "layer4.0.conv2.0.weight");
            entry.unwrap().tensor.std(false).double_value(&[])
        };
        // Kaiming fan-out: sqrt(2 / (256 * 27)). Xavier, gain sqrt 2: sqrt(2 * 2 / (512 * 27)).
        assert!((spread(Init::Torchvision) / 0.017_010 - 1.0).abs() < 0.01);
        assert!((spread(Init::Vtdl) / 0.017_010 - 1.0).abs() < 0.01);
        let network = Network::new(&small(false, Init::Vtdl), &[], Key::new(1), Device::Cpu);
        let scale = network.store.weights().find(|entry| entry.name == "layer4.0.conv2.1.weight").unwrap();
        let scale = &scale.tensor;
        assert!((scale.mean(Kind::Float).double_value(&[]) - 1.0).abs() < 0.02);
        assert!((scale.std(false).double_value(&[]) - 0.02).abs() < 0.01);
    }

    #[test]
    fn the_momentum_network_follows_weights_and_never_statistics() {
        let (query, key) = (network(1), network(2));
        key.store.freeze();
        drop(query.features(&clips(1), true));
        let before = key.store.blocks().unwrap();
        key.store.follow(&query.store, 1.0);
        assert!(key.store.blocks().unwrap() == before, "1 freezes");
        key.store.follow(&query.store, 0.75);
        let name = "layer1.0.conv1.0.weight";
        let get = |network: &Network| {
            let entry = network.store.entries.iter().find(|entry| entry.name == name).unwrap();
            entry.tensor.detach().copy()
        };
        let first =
            crate::train::store::from_block("", name, &get(&key).size(), Kind::Float, &before).unwrap();
        assert!(distance(&get(&key), &(first * 0.75 + get(&query) * 0.25)) < 1e-7);
        key.store.follow(&query.store, 0.0);
        let (query, key) = (query.store.blocks().unwrap(), key.store.blocks().unwrap());
        let buffers: BTreeMap<_, _> =
            before.iter().filter(|(name, _)| name.contains("running") || name.contains("batches")).collect();
        assert!(!buffers.is_empty());
        for (name, block) in &key {
            let expected = buffers.get(name).copied().unwrap_or(&query[name]);
            assert!(block == expected, "{name}");
        }
    }

    #[test]
    fn shuffled_keys_come_back_in_the_order_of_their_clips() {
        let (query, key) = (network(1), network(1));
        let clips = clips(3);
        let straight = query.embed("embedding", &clips, true);
        let mut pair =
            Pair { query: &query, key: &key, chance: Key::new(4), queries: 0, calls: 0, bn_groups: 1 };
        let shuffled = pair.key("embedding", &clips);
        assert!(!shuffled.requires_grad());
        assert!(distance(&straight, &shuffled) < 1e-5);
        let lengths = shuffled.square().sum_dim_intlist([1i64].as_slice(), false, None::<Kind>);
        assert!((lengths - 1.0).abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn groups_of_keys_have_statistics_of_their_own_and_come_back_in_order() {
        let clips = clips(3).narrow(0, 0, 4);
        let keys = |bn_groups| {
            let (query, key) = (network(1), network(1));
            Pair { query: &query, key: &key, chance: Key::new(4), queries: 0, calls: 0, bn_groups }
                .key("embedding", &clips)
        };
        let (whole, halves) = (keys(1), keys(2));
        assert!(distance(&whole, &halves) > 1e-3, "the halves' statistics are not the whole's");
        // By hand, from the order that the step's chance gives.
        let (order, _) = shuffle(4, Key::new(4).part("shuffle_bn").number(0));
        let order = Vec::<i64>::try_from(order).unwrap();
        assert!(order != [0, 1, 2, 3], "an order that is none would prove nothing");
        for half in order.chunks(2) {
            let half = Tensor::from_slice(half);
            let expected = network(1).embed("embedding", &clips.index_select(0, &half), true);
            assert!(distance(&halves.index_select(0, &half), &expected) < 1e-6);
        }
        // The running statistics move once a part.
        let (query, key) = (network(1), network(1));
        drop(
            Pair { query: &query, key: &key, chance: Key::new(4), queries: 0, calls: 0, bn_groups: 2 }
                .key("embedding", &clips),
        );
        assert_eq!(batches(&key), 2);
    }

    #[test]
    fn a_share_of_the_features_is_dropped_and_the_mean_stays() {
        let x = Tensor::ones([100, 200], (Kind::Float, Device::Cpu));
        let half = dropped(&x, 0.5, Key::new(1));
        let values = Vec::<f32>::try_from(half.flatten(0, -1)).unwrap();
        assert!(values.iter().all(|&value| value == 0.0 || value == 2.0));
        // Four standard deviations of the mean of 20,000 draws.
        assert!((values.iter().sum::<f32>() / 20_000.0 - 1.0).abs() < 0.03);
        assert_eq!(dropped(&x, 0.5, Key::new(1)), half);
        assert_ne!(dropped(&x, 0.5, Key::new(2)), half);
        // Only a training step drops: the task's query, not what evaluates.
        let head = Head { dropout: 0.9, ..head() };
        let network = Network::new(&small(false, Init::Torchvision), &[head], Key::new(1), Device::Cpu);
        let features = network.features(&clips(1), false);
        let whole = network.head("embedding", &features, None);
        assert!(distance(&whole, &network.head("embedding", &features, Some(Key::new(1)))) > 1e-3);
        let (query, key) = (&network, &network);
        let mut pair = Pair { query, key, chance: Key::new(4), queries: 0, calls: 0, bn_groups: 1 };
        let (first, second) = (pair.query("embedding", &clips(1)), pair.query("embedding", &clips(1)));
        assert!(distance(&first, &second) > 1e-3, "each pass has a draw of its own");
    }

    #[test]
    fn a_frozen_encoder_has_no_gradient_and_keeps_its_statistics() {
        let mut network = network(1);
        let before = network.store.blocks().unwrap();
        let used = network.embed("embedding", &clips(1), false);
        network.frozen = true;
        let trained = network.embed("embedding", &clips(1), true);
        assert!(distance(&used, &trained) == 0.0, "it goes by its running statistics");
        assert!(network.store.blocks().unwrap() == before, "and they stay");
        trained.sum(Kind::Float).backward();
        for entry in network.store.weights() {
            assert_eq!(entry.tensor.grad().defined(), entry.name.starts_with(HEADS), "{}", entry.name);
        }
    }

    fn batches(network: &Network) -> i64 {
        let entry = network.store.buffers().find(|entry| entry.name == "stem.1.num_batches_tracked");
        entry.unwrap().tensor.int64_value(&[])
    }

    #[test]
    fn each_train_pass_moves_statistics_once_and_using_moves_none() {
        let network = network(1);
        drop((network.features(&clips(1), true), network.features(&clips(2), true)));
        assert_eq!(batches(&network), 2);
        let before = network.store.blocks().unwrap();
        drop(network.features(&clips(1), false));
        assert!(network.store.blocks().unwrap() == before);
    }

    #[test]
    fn both_families_and_all_stems_give_features_of_eight_times_the_width() {
        for split in [false, true] {
            for stem in [Stem::Video, Stem::Small, Stem::Patch] {
                let architecture = shaped(split, 4, stem, Init::Torchvision);
                let network = Network::new(&architecture, &[], Key::new(1), Device::Cpu);
                assert_eq!(network.features(&clips(1), false).size(), [5, 32], "{architecture:?}");
            }
        }
    }
}
