//! The encoders' names, shapes and sizes; their arithmetic is compared in `tests/encoders.rs`.

use reelflow_api::rng::Key;
use tch::Device;

use super::*;
use crate::train::network::Network;

/// Every encoder of a fixed shape with the number of its weights, and some of its names with their shapes.
const PUBLISHED: [(EncoderName, i64, &[(&str, &[i64])]); 7] = [
    // As torchvision counts without classifiers.
    (EncoderName::R3d18, 33_166_272, &[("layer4.1.conv2.0.weight", &[512, 512, 3, 3, 3])]),
    (EncoderName::R2plus1d18, 31_300_125, &[("stem.3.weight", &[64, 45, 3, 1, 1])]),
    // Weights of the convolutions of Tran et al. 2015: 27 * (in * out) + out.
    (EncoderName::C3d, 27_655_936, &[("conv1.bias", &[64]), ("conv3a.weight", &[256, 128, 3, 3, 3])]),
    (EncoderName::C3dBn, 27_661_440, &[("bn5b.running_var", &[512])]),
    (
        EncoderName::I3d,
        12_287_264,
        &[
            ("Conv3d_1a_7x7.conv3d.weight", &[64, 3, 7, 7, 7]),
            ("Mixed_3b.b0.conv3d.weight", &[64, 192, 1, 1, 1]),
            ("Mixed_5c.b2b.bn.running_mean", &[128]),
        ],
    ),
    (EncoderName::S3d, 7_910_048, &[("features.5.branch1.1.1.0.weight", &[128, 128, 3, 1, 1])]),
    (EncoderName::S3dG, 7_910_048 + 1_225_008, &[("features.15.gating_b1.fc.weight", &[384, 384])]),
];

fn settings(name: EncoderName) -> EncoderSettings {
    EncoderSettings {
        name,
        width: None,
        blocks: None,
        stem: None,
        input: Input::Frames,
        init: Init::Vtdl,
        weights: None,
        frozen: false,
    }
}

#[test]
fn published_encoders_have_the_published_names_and_sizes() {
    for (name, count, shapes) in PUBLISHED {
        let network = Network::new(&settings(name).architecture(), &[], Key::new(1), Device::Cpu);
        let found: i64 = network.store.weights().map(|entry| entry.tensor.numel() as i64).sum();
        assert_eq!(found, count, "{name:?}");
        for (tensor, shape) in shapes {
            let entry = network.store.entries.iter().find(|entry| entry.name == *tensor);
            assert_eq!(entry.map(|entry| entry.tensor.size()).as_deref(), Some(*shape), "{name:?}: {tensor}");
        }
    }
}

fn clips([frames, side]: [usize; 2]) -> Tensor {
    let mut rng = Key::new(2).rng();
    let values: Vec<f32> = (0..2 * 3 * frames * side * side).map(|_| rng.normal() as f32).collect();
    Tensor::from_slice(&values).reshape([2, 3, frames as i64, side as i64, side as i64])
}

#[test]
fn the_least_clip_is_the_least_that_works() {
    for (name, _, _) in PUBLISHED {
        let architecture = settings(name).architecture();
        let network = Network::new(&architecture, &[], Key::new(1), Device::Cpu);
        let (frames, side) = architecture.least_clip();
        let features = network.features(&clips([frames, side]), false);
        assert_eq!(features.size(), [2, architecture.features()], "{name:?}");
        for smaller in [[frames - 1, side], [frames, side - 1]].into_iter().filter(|[t, s]| t * s > 0) {
            let works = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                network.features(&clips(smaller), false).size()
            }));
            assert!(works.is_err(), "{name:?} takes {smaller:?}");
        }
    }
}

/// Features of `c x + g`, `g` a still picture, are those of `x` where `c` is 1: exactly what TCA may add.
#[test]
fn differences_see_no_still_picture() {
    let features = |input, clips: &Tensor| {
        let architecture = EncoderSettings { input, ..settings(EncoderName::R3d) }.architecture();
        Network::new(&architecture, &[], Key::new(1), Device::Cpu).features(clips, false)
    };
    let plain = clips([6, 24]);
    let still = clips([1, 24]).multiply_scalar(3.0);
    let apart = |input| {
        let [a, b] = [&plain, &(&plain + &still)].map(|clips| features(input, clips));
        (&a - &b).norm().double_value(&[]) / a.norm().double_value(&[])
    };
    assert!(apart(Input::Differences) < 1e-5, "{}", apart(Input::Differences));
    assert!(apart(Input::Frames) > 0.1, "{}", apart(Input::Frames));
    let frozen = still.expand([2, 3, 6, 24, 24], false);
    assert_eq!(
        features(Input::Differences, &frozen).get(0),
        features(Input::Differences, &frozen.zeros_like()).get(0)
    );
    let architecture =
        EncoderSettings { input: Input::Differences, ..settings(EncoderName::C3d) }.architecture();
    assert_eq!(architecture.least_clip(), (9, 16));
}

/// Before the first step batch norm has no statistics to go by; features must be numbers all the same.
#[test]
fn untrained_features_are_neither_vanishing_nor_huge() {
    for name in [EncoderName::C3dBn, EncoderName::I3d, EncoderName::S3d, EncoderName::S3dG] {
        for init in [Init::Torchvision, Init::Vtdl] {
            let architecture = EncoderSettings { init, ..settings(name) }.architecture();
            let network = Network::new(&architecture, &[], Key::new(1), Device::Cpu);
            let largest = network.features(&clips([8, 32]), false).abs().max().double_value(&[]);
            assert!((1e-6..1e6).contains(&largest), "{name:?} {init:?}: {largest}");
        }
    }
}

#[test]
fn bf16_features_are_f32_and_near_those_of_f32() {
    for name in [EncoderName::C3dBn, EncoderName::I3d, EncoderName::S3dG, EncoderName::R3d] {
        let mut network = Network::new(&settings(name).architecture(), &[], Key::new(1), Device::Cpu);
        let clips = clips([8, 32]);
        let exact = network.features(&clips, false);
        network.compute = Kind::BFloat16;
        let rounded = network.features(&clips, false);
        assert_eq!(rounded.kind(), Kind::Float);
        let apart = (&rounded - &exact).norm().double_value(&[]) / exact.norm().double_value(&[]);
        // bf16 keeps 8 bits, and errors of a dozen layers add up.
        assert!(apart > 1e-5 && apart < 0.05, "{name:?}: {apart}");
    }
}

#[test]
fn padding_is_that_of_tensorflow() {
    let padded = |size: i64, kernel: i64, stride: i64| {
        let x = Tensor::ones([1, 1, size, 1, 1], (Kind::Float, Device::Cpu));
        let x = super::super::layers::pad_same(&x, [kernel, 1, 1], [stride, 1, 1]);
        Vec::<f32>::try_from(x.flatten(0, -1)).unwrap().iter().map(|&x| x as u8).collect::<Vec<_>>()
    };
    assert_eq!(padded(4, 7, 2), [0, 0, 1, 1, 1, 1, 0, 0, 0]);
    assert_eq!(padded(3, 7, 2), [0, 0, 0, 1, 1, 1, 0, 0, 0]);
    assert_eq!(padded(4, 3, 2), [1, 1, 1, 1, 0]);
    assert_eq!((padded(3, 2, 2), padded(4, 2, 2)), (vec![1, 1, 1, 0], vec![1, 1, 1, 1]));
}
