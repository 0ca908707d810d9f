//! An encoder with the heads a pretext task wants, and the pair of networks a step works with.

use reelflow_api::pretext::{Head, Nets};
use reelflow_api::rng::Key;
use tch::{Device, Tensor};

use super::encoder::{Architecture, Encoder};
use super::layers::{Linear, Maker, unit_rows};
use super::store::Store;

/// An encoder, its heads and all their tensors.
pub struct Network {
    /// The tensors by name; those of heads start with `heads.`.
    pub store: Store,
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
}

impl Network {
    /// A network whose first weights are drawn from `key`. The encoder's do not depend on the heads.
    #[must_use]
    pub fn new(architecture: &Architecture, heads: &[Head], key: Key, device: Device) -> Self {
        let mut store = Store::new(device);
        let mut make = Maker { store: &mut store, init: architecture.init, key };
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
                HeadNet { name: head.name, hidden, last, unit: head.unit }
            })
            .collect();
        Self { store, encoder, heads }
    }

    /// `[B, 3, T, H, W]` f32 to `[B, features]`.
    pub fn features(&self, clips: &Tensor, train: bool) -> Tensor {
        self.encoder.forward(clips, train)
    }

    /// `[B, 3, T, H, W]` f32 to `[B, dim]` of the head called `name`.
    ///
    /// # Panics
    /// If there is no such head; a task names only heads that it asked for.
    pub fn embed(&self, name: &str, clips: &Tensor, train: bool) -> Tensor {
        let head = self.heads.iter().find(|head| head.name == name);
        let head = head.unwrap_or_else(|| panic!("the pretext uses head `{name}` without asking for it"));
        let mut x = self.features(clips, train);
        if let Some(hidden) = &head.hidden {
            x = hidden.forward(&x).relu();
        }
        let x = head.last.forward(&x);
        if head.unit { unit_rows(&x) } else { x }
    }
}

/// The two networks of one step.
pub struct Pair<'a> {
    /// Trained.
    pub query: &'a Network,
    /// Follows the query network.
    pub key: &'a Network,
    /// Chance of this step.
    pub chance: Key,
    /// How many times the key network was used in this step.
    pub calls: u64,
}

impl Nets for Pair<'_> {
    fn query(&mut self, head: &str, clips: &Tensor) -> Tensor {
        self.query.embed(head, clips, true)
    }

    fn key(&mut self, head: &str, clips: &Tensor) -> Tensor {
        let (order, back) = shuffle(clips.size()[0], self.chance.part("shuffle_bn").number(self.calls));
        self.calls += 1;
        let (order, back) = (order.to_device(clips.device()), back.to_device(clips.device()));
        tch::no_grad(|| self.key.embed(head, &clips.index_select(0, &order), true).index_select(0, &back))
    }
}

/// ShuffleBN (He et al. 2020, "Momentum Contrast", section 3.3): a random order of the batch and the way
/// back. With the batch on one device it changes nothing but rounding; spread over devices it keeps batch
/// statistics from telling which key belongs to which query.
fn shuffle(count: i64, key: Key) -> (Tensor, Tensor) {
    let mut order: Vec<i64> = (0..count).collect();
    key.rng().shuffle(&mut order);
    let mut back = vec![0i64; order.len()];
    for (place, &from) in order.iter().enumerate() {
        back[from as usize] = place as i64;
    }
    (Tensor::from_slice(&order), Tensor::from_slice(&back))
}
