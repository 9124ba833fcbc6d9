//! Memory that is estimated before loading, and weights that are read back.

use super::*;
use crate::device::Device;
use crate::{Error, ErrorKind};

/// What a loaded engine holds, part by part, in the order of the estimate; guard zones are counted
/// with the workspace.
fn held(engine: &Engine) -> [u64; 4] {
    let weights = engine.weights.buffers().map(|buffer| buffer.bytes()).sum();
    let layers = (0..engine.config.layers).map(|layer| engine.cache.layer(layer));
    let cache = layers.map(|(keys, values)| keys.bytes() + values.bytes()).sum();
    let rotary = engine.cosine.bytes() + engine.sine.bytes();
    let all = engine.kernels.device().bytes_allocated();
    [weights, cache, all - weights - cache - rotary, rotary]
}

#[test]
fn the_estimate_is_what_is_allocated() {
    let file = tiny();
    let sizes = [(64, 512), (64, 5), (65, 1), (300, 70), (1, 1)];
    let kinds = [
        (Activations::I24, KvType::F32),
        (Activations::I16, KvType::F16),
        (Activations::I8, KvType::F32),
    ];
    let checks = engine(&file, HostBuild::Baseline, Options::default()).device().is_checking();
    for build in [HostBuild::Baseline].into_iter().chain(waves()) {
        for (context_tokens, ubatch) in sizes {
            for (activations, kv) in kinds {
                let options =
                    Options { activations, kv, context_tokens, ubatch, ..Options::default() };
                // One of the sizes without guard zones, all of them under a sanitizer.
                let options = Options { unchecked: !checks || ubatch == 5, ..options };
                let engine = engine(&file, build, options.clone());
                let estimate = Estimate::new(&file, &options, build.wave_lanes() > 1).unwrap();
                let Estimate {
                    weights_bytes,
                    cache_bytes,
                    workspace_bytes,
                    rotary_bytes,
                    guards_bytes,
                } = estimate;
                let workspace_bytes = workspace_bytes + guards_bytes;
                let parts = [weights_bytes, cache_bytes, workspace_bytes, rotary_bytes];
                assert_eq!(parts, held(&engine), "{build:?} {options:?}");
                assert_eq!(parts.iter().sum::<u64>(), estimate.total_bytes());
            }
        }
    }
}

#[test]
fn a_dropped_engine_holds_nothing() {
    let file = tiny();
    for build in [HostBuild::Baseline].into_iter().chain(waves()) {
        let mut engine = engine(&file, build, Options { context_tokens: 64, ..Options::default() });
        let device: Device = engine.kernels.device().clone();
        // With captured graphs, which hold shares of what their launches use.
        for token in 0..4 {
            engine.forward(&[token], &mut crate::taps::Silent).unwrap();
        }
        assert!(device.bytes_allocated() > 0);
        drop(engine);
        assert_eq!(device.bytes_allocated(), 0, "{build:?}");
    }
}

#[test]
fn a_model_that_does_not_fit_is_refused_with_what_would() {
    let file = tiny();
    let config = Config::from_gguf(&file).unwrap();
    let shapes = shapes::Shapes::check(&file, &config).unwrap();
    let refused = |options: &Options, free: u64| {
        let free = Some(free);
        let refused = estimate::refuse_too_large(shapes, options, true, "hip:0".to_owned(), free);
        refused.map_err(|error| {
            assert_eq!(error.kind(), ErrorKind::Memory);
            error.to_string()
        })
    };
    let options = Options { context_tokens: 500, ubatch: 64, ..Options::default() };
    let total = |options: &Options| Estimate::new(&file, options, true).unwrap().total_bytes();
    assert_eq!(refused(&options, total(&options)), Ok(()));
    let words = refused(&options, total(&options) - 1).unwrap_err();
    let head = "the model needs 5.4 MiB on hip:0, 5.4 MiB are free: weights 1.5 MiB, cache";
    assert!(words.starts_with(head), "{words}");
    // What it says would fit does, and one more does not.
    let fitting = words.rsplit("; ").next().unwrap();
    let most = fitting.strip_prefix("--context-tokens ").unwrap();
    let most: usize = most.strip_suffix(" would fit").unwrap().parse().unwrap();
    let with = |context_tokens| Options { context_tokens, ..options.clone() };
    assert!(total(&with(most)) < total(&options) && total(&with(most + 1)) >= total(&options));
    // A context of one token leaves no more than its ubatch of one.
    let one = Options { context_tokens: 1, ..options.clone() };
    let words = refused(&options, total(&one) - 1).unwrap_err();
    let remedy = "no --context-tokens would fit: take a model of fewer bits, or a device with more";
    assert!(words.contains(remedy), "{words}");
    // Where nobody knows what is free, the allocation itself decides.
    let device = "cuda:0".to_owned();
    assert!(estimate::refuse_too_large(shapes, &options, true, device, None).is_ok());
}

#[test]
fn every_weight_is_read_back_and_one_bit_is_found() {
    let file = tiny();
    for build in [HostBuild::Baseline].into_iter().chain(waves()) {
        let engine = engine(&file, build, Options { context_tokens: 8, ..Options::default() });
        let copies = engine.copies_total();
        let verified = engine.verify_weights(&file).unwrap();
        assert_eq!(verified.tensors, file.tensors().len());
        let bytes: u64 = file.tensors().iter().map(|tensor| tensor.size_bytes).sum();
        assert_eq!(verified.bytes, bytes);
        assert!(engine.copies_total() > copies, "copies of the gate");
        for tensor in file.tensors() {
            let last = tensor.size_bytes - 1;
            for (byte, bit) in [(0, 0), (last / 2, 5), (last, 7)] {
                engine.flip_weight_bit(&tensor.name, byte, bit).unwrap();
                let error = engine.verify_weights(&file).unwrap_err();
                let Error::Weight { tensor: name, block, byte: at, device, file: due, .. } = &error
                else {
                    panic!("{error}")
                };
                assert_eq!((name, *at), (&tensor.name, byte));
                assert_eq!(*block, byte / tensor.kind.block_bytes());
                assert_eq!(device ^ due, 1 << bit);
                assert_eq!(error.kind(), ErrorKind::Device);
                engine.flip_weight_bit(&tensor.name, byte, bit).unwrap();
            }
        }
        assert_eq!(engine.verify_weights(&file).unwrap(), verified);
    }
}

#[test]
fn a_file_that_changed_is_not_the_devices_fault() {
    let file = tiny();
    let options = Options { context_tokens: 8, ..Options::default() };
    let engine = engine(&file, HostBuild::Baseline, options);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/tiny.gguf");
    let mut bytes = std::fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let changed = File::from_bytes(bytes).unwrap();
    let error = engine.verify_weights(&changed).unwrap_err();
    assert!(error.to_string().ends_with("has changed since it was loaded; load it again"));
    assert_eq!(error.kind(), ErrorKind::Input);
}

#[test]
fn shapes_are_refused_before_memory_is_asked_for() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/tiny.gguf");
    let bytes = std::fs::read(path).unwrap();
    // Sizes of another model: metadata and tensors part.
    let key = b"llama.feed_forward_length\x04\0\0\0";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    let mut other = bytes.clone();
    other[at + 2] ^= 1;
    let file = File::from_bytes(other).unwrap();
    // No device is opened for it: this one does not exist.
    let options = Options { device: DeviceChoice::Cuda(99), ..Options::default() };
    let error = Engine::load(&file, &options).unwrap_err();
    assert!(error.to_string().starts_with("tensor `blk.0.ffn_"), "{error}");
}
