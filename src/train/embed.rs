//! Clips into features with a trained encoder, or with the same encoder before training.

use reelflow_api::error::StageError;
use reelflow_api::item::View;
use reelflow_api::pixels::Dtype;
use reelflow_api::pretext::Head;
use reelflow_api::stage::Parts;
use reelflow_classify::HEAD;
use tch::{Device, Kind, Tensor};

use super::network::Network;
use super::sink::{MANIFEST, QUERY};
use super::state::{About, FORMAT};
use super::{device, pretrained};
use crate::bank::sealed;

/// An encoder that is only used. Batch norm goes by its running statistics, so a clip's features do not
/// depend on the clips beside it.
pub struct Embedder {
    network: Network,
    device: Device,
    about: About,
    /// Whether the network has the head of a classifier.
    classifies: bool,
}

/// What an encoder makes of one clip.
pub struct Seen {
    /// Pooled features.
    pub features: Vec<f32>,
    /// Probability of each output of its classifier, if it has learnt one.
    pub scores: Option<Vec<f32>>,
}

/// The encoder of a checkpoint, from the parts that the `train` sink saved.
///
/// `trained = false` gives the encoder as it was before the first step, with exactly the weights that
/// run started from; those of a file are read from there once more. `device` is `cpu`, `cuda`, `cuda:N` or
/// `auto`; `threads` is for the CPU.
///
/// # Errors
/// If a part is missing or damaged (it is named), the file of first weights is gone or another, or the device
/// is not there.
pub fn embedder(parts: &Parts, threads: usize, device: &str, trained: bool) -> Result<Embedder, StageError> {
    let about: About = sealed::open(MANIFEST, FORMAT, parts)?;
    let device = device::find("eval", device)?;
    tch::set_num_threads(threads.max(1) as i32);
    let of = |(name, dim, hidden, unit): &(String, i64, Option<i64>, bool)| {
        let head = Head { name: HEAD, dim: *dim, hidden: *hidden, unit: *unit, dropout: 0.0 };
        (name == HEAD && trained).then_some(head)
    };
    let heads: Vec<Head> = about.heads.iter().filter_map(of).collect();
    let network = Network::new(&about.architecture, &heads, about.first_weights, device);
    if trained {
        let bytes =
            parts.get(QUERY).ok_or_else(|| StageError::storage(QUERY, "is missing from the checkpoint"))?;
        network.store.load(QUERY, &sealed::from_safetensors(QUERY, bytes)?)?;
    } else if let Some(source) = &about.pretrained {
        pretrained::load_again(&network.store, source)?;
    }
    network.store.freeze();
    Ok(Embedder { network, device, about, classifies: !heads.is_empty() })
}

impl Embedder {
    /// Length of the features.
    #[must_use]
    pub fn features(&self) -> usize {
        self.about.architecture.features() as usize
    }

    /// A name of its weights: the same weights have the same, others another.
    ///
    /// # Errors
    /// If the device cannot be read.
    pub fn fingerprint(&self) -> Result<String, StageError> {
        Ok(sealed::checksum(&sealed::to_safetensors("encoder", &self.network.store.blocks()?)?))
    }

    /// Steps the checkpoint's run had made.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.about.next_step
    }

    /// Channels, frames, rows and columns `[C, T, H, W]` of the clips it was trained on.
    #[must_use]
    pub fn clip_shape(&self) -> [usize; 4] {
        self.about.clip_shape
    }

    /// What it makes of every clip of `view`, `[B]`. It does not depend on how clips are grouped into batches, up
    /// to rounding.
    ///
    /// # Errors
    /// If the view's values do not fit its shape, or the device gives up (out of memory).
    pub fn look(&self, view: &View) -> Result<Vec<Seen>, StageError> {
        let clips = to_tensor(view, self.device)?;
        let (features, scores) = guarded("eval", || {
            tch::no_grad(|| {
                let features = self.network.features(&clips, false);
                let scores = self
                    .classifies
                    .then(|| self.network.head(HEAD, &features, None).softmax(-1, Kind::Float));
                (features, scores)
            })
        })?;
        let mut scores = scores.map(|scores| rows(&scores).into_iter());
        let seen = |features| Seen { features, scores: scores.as_mut().and_then(Iterator::next) };
        Ok(rows(&features).into_iter().map(seen).collect())
    }
}

/// The rows of an f32 matrix.
fn rows(matrix: &Tensor) -> Vec<Vec<f32>> {
    let width = matrix.size()[1].max(1) as usize;
    let matrix = matrix.to_device(Device::Cpu).contiguous();
    let mut values = vec![0f32; matrix.numel()];
    matrix.copy_data(&mut values, matrix.numel());
    values.chunks_exact(width).map(<[f32]>::to_vec).collect()
}

/// The clips of a view as `[B, C, T, H, W]`, f32, on `device`, normalised there if the view leaves it to us.
///
/// # Errors
/// If the values do not fit the shape.
pub(super) fn to_tensor(view: &View, device: Device) -> Result<Tensor, StageError> {
    let clip = view.clip_len();
    if clip == 0 || !view.pixels.len().is_multiple_of(clip) {
        return Err(StageError::failed(
            "train",
            format!("view `{}` has {} values, no multiple of {:?}", view.name, view.pixels.len(), view.shape),
        ));
    }
    let [c, t, h, w] = view.shape.map(|size| size as i64);
    let count = (view.pixels.len() / clip) as i64;
    let kind = match view.pixels.dtype() {
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::Bf16 => Kind::BFloat16,
        Dtype::U8 => Kind::Uint8,
    };
    // Narrow values cross to the device as they are and become f32 there; bytes are spread over 0 to 1.
    let clips = Tensor::f_from_data_size(view.pixels.bytes(), &[count, c, t, h, w], kind)
        .map_err(|error| StageError::failed("train", error.to_string()))?
        .to_device(device)
        .to_kind(Kind::Float);
    let clips = if kind == Kind::Uint8 { clips / 255.0 } else { clips };
    Ok(match view.normalize {
        Some((mean, std)) => {
            let channels =
                |values: [f32; 3]| Tensor::from_slice(&values).view([1, 3, 1, 1, 1]).to_device(device);
            (clips - channels(mean)) / channels(std)
        }
        None => clips,
    })
}

/// Runs tensor code and turns its panic into an error: tch panics when libtorch throws, above all when
/// memory runs out, and a run must end with a message and its last checkpoint.
pub(super) fn guarded<T>(stage: &str, work: impl FnOnce() -> T) -> Result<T, StageError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("unknown panic");
        let first = text.lines().next().unwrap_or_default();
        if text.contains("out of memory") || text.contains("allocate memory") {
            let help = "use a smaller batch, clip or encoder";
            return StageError::transient(stage, format!("libtorch is out of memory: {first}; {help}"));
        }
        // The variants of `TchError`; any other panic is our own mistake.
        if ["Torch(", "Convert(", "Shape("].iter().any(|kind| text.contains(kind)) {
            return StageError::failed(stage, format!("libtorch gave up: {first}"));
        }
        StageError {
            stage: stage.to_owned(),
            message: format!("panicked: {first}; this is a bug"),
            code: 101,
        }
    })
}

#[cfg(test)]
mod tests {
    use reelflow_api::pixels::Pixels;

    use super::*;

    fn values(view: &View) -> Vec<f32> {
        let tensor = to_tensor(view, Device::Cpu).unwrap();
        assert_eq!(tensor.size(), [1, 3, 1, 1, 1]);
        Vec::<f32>::try_from(tensor.flatten(0, -1)).unwrap()
    }

    #[test]
    fn every_type_arrives_as_f32_and_bytes_are_normalised() {
        let view = |pixels| View { name: "clip".into(), shape: [3, 1, 1, 1], pixels, normalize: None };
        assert_eq!(values(&view(vec![0.5, -1.0, 2.0].into())), [0.5, -1.0, 2.0]);
        let mut half = Pixels::zeroed(Dtype::Bf16, 3);
        half.bits_mut().copy_from_slice(&[0x3F00, 0xBF80, 0x4000]);
        assert_eq!(values(&view(half)), [0.5, -1.0, 2.0]);
        let mut bytes = Pixels::zeroed(Dtype::U8, 3);
        bytes.bytes_mut().copy_from_slice(&[51, 0, 255]);
        assert_eq!(values(&view(bytes.clone())), [0.2, 0.0, 1.0]);
        let normalize = Some(([0.1, 0.5, 0.0], [0.1, 0.5, 2.0]));
        let found = values(&View { normalize, ..view(bytes) });
        assert!(
            found.iter().zip([1.0, -1.0, 0.5]).all(|(found, wanted)| (found - wanted).abs() < 1e-6),
            "{found:?}"
        );
    }
}
