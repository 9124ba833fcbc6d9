//! Weights through shared memory against the plain kernels: equal bits.

use super::super::{Kernels, Product, RmsNorm, activation_group};
use super::product_stream::Ends;
use super::tests::{
    ALL_ACTIVATIONS, Fixed, Numbers, bits, compare_products, plain, quantised, waves,
};
use super::*;
use crate::device::Device;
use crate::options::{HostBuild, KvType};

/// The builds of waves that have pools of shared memory.
pub(super) fn pools() -> Vec<Device> {
    let mut devices = waves();
    devices.retain(|device| device.attributes().pool.is_some());
    devices
}

/// Threads of the host stand for multiprocessors: with two a block of threads has many tiles.
#[test]
fn product_stream_is_product() {
    let devices = pools();
    let mut runs = 0;
    for (kind, every) in [(TensorType::Q4K, 1), (TensorType::Q5K, 1), (TensorType::Q6K, 8)] {
        for (activations, blocks, outputs) in [
            // One block, a chunk that ends early, outputs that are no whole tiles.
            (Activations::I24, 1, [1, 0, 0]),
            (Activations::I24, 7, [33, 16, 5]),
            (Activations::I16, 9, [17, 0, 0]),
            (Activations::I8, 2, [2, 15, 31]),
            (Activations::I16, 4, [16, 64, 0]),
            (Activations::I24, 3, [200, 0, 0]),
        ] {
            let shape = (activations, blocks * every, outputs, 1);
            runs += compare_products(kind, shape, &devices, Kernels::product_stream);
        }
    }
    assert_eq!(runs, 18 * devices.len());
    assert!(!devices.is_empty() || !Device::usable_host_builds().contains(&HostBuild::Waves32));
}

/// The largest sums there are: every digit 127 or -127, every weight at one end of its range, with
/// the scale that makes most of it.
#[test]
fn product_stream_holds_the_largest_sums() {
    let (blocks, outputs) = (8, 16);
    let width = blocks * 256;
    for (kind, halves) in
        [(TensorType::Q4K, &[0, 2][..]), (TensorType::Q5K, &[0, 2]), (TensorType::Q6K, &[208])]
    {
        for (byte, value) in [(0x00, 1.0), (0x00, -1.0), (0xff, 1.0), (0xff, -1.0)] {
            let mut weights = vec![byte; outputs * row_bytes(kind, width)];
            for block in weights.chunks_exact_mut(kind.block_bytes() as usize) {
                if kind == TensorType::Q6K {
                    block[192..208].fill(0x80);
                }
                for half in halves {
                    block[*half..half + 2].copy_from_slice(&[0x00, 0x3c]);
                }
            }
            let product = |device: &Device, stream: bool| {
                let kernels = Kernels::load(device, Activations::I24, KvType::F32).unwrap();
                let group = activation_group(kind);
                let fixed = quantised(&kernels, &vec![value; width], width, 256, group);
                let matrix = device.upload("w", &weights).unwrap();
                let out = device.upload("out", &vec![0.0_f32; outputs]).unwrap();
                let (weights, x, width) = (matrix.all(), fixed.view(), width as u32);
                if stream {
                    let wave = WaveMatrix { weights, outputs: outputs as u32, out: out.all() };
                    let input = ProductWave { kind, x, width, rows: 1 };
                    kernels.product_stream(input, &[wave]).unwrap();
                } else {
                    let outputs = outputs as u32;
                    let input = Product { weights, kind, x, outputs, width, rows: 1 };
                    kernels.product(input, out.all()).unwrap();
                }
                bits(&out, outputs)
            };
            let expected = product(&plain(), false);
            for device in pools() {
                assert_eq!(product(&device, true), expected, "{kind} {byte:#x} {value}");
            }
        }
    }
}

/// Norm, fixed point and product, each by its plain kernel: bits of norm and product, and the bytes
/// of the fixed point.
pub(super) fn norm_and_product(
    kernels: &Kernels,
    kind: TensorType,
    [x, branch, weight]: [&[f32]; 3],
    weights: &[u8],
) -> (Vec<u32>, Vec<Vec<u8>>, Vec<u32>) {
    let (width, outputs) = (x.len(), weights.len() / row_bytes(kind, x.len()));
    let sum = match branch {
        [] => x.to_vec(),
        _ => x.iter().zip(branch).map(|(x, branch)| x + branch).collect(),
    };
    let upload = |values: &[f32]| kernels.device().upload("values", values).unwrap();
    let (stream, weight, norm) = (upload(&sum), upload(weight), upload(x));
    let (width_32, epsilon) = (width as u32, 1e-5);
    let input =
        RmsNorm { x: stream.all(), weight: weight.all(), width: width_32, rows: 1, epsilon };
    kernels.rms_norm(input, norm.all()).unwrap();
    let norm = bits(&norm, width);
    let values: Vec<f32> = norm.iter().map(|bits| f32::from_bits(*bits)).collect();
    let fixed = quantised(kernels, &values, width, 256, activation_group(kind));
    let (matrix, out) =
        (kernels.device().upload("w", weights).unwrap(), upload(&vec![0.0; outputs]));
    let (weights, outputs_32) = (matrix.all(), outputs as u32);
    let x = fixed.view();
    let input = Product { weights, kind, x, outputs: outputs_32, width: width_32, rows: 1 };
    kernels.product(input, out.all()).unwrap();
    (norm, fixed.bytes(), bits(&out, outputs))
}

pub(super) fn row_bytes(kind: TensorType, width: usize) -> usize {
    width / kind.block_values() as usize * kind.block_bytes() as usize
}

/// The same by the one kernel.
fn streamed(
    kernels: &Kernels,
    kind: TensorType,
    [x, branch, weight]: [&[f32]; 3],
    weights: &[u8],
) -> (Vec<u32>, Vec<Vec<u8>>, Vec<u32>, Vec<u32>) {
    let (width, outputs) = (x.len(), weights.len() / row_bytes(kind, x.len()));
    let upload = |values: &[f32]| kernels.device().upload("values", values).unwrap();
    let adds = !branch.is_empty();
    let [x_buffer, branch_buffer, weight] = [x, if adds { branch } else { x }, weight].map(upload);
    let [stream, norm, out] = [width, width, outputs].map(|count| upload(&vec![0.0; count]));
    let fixed = Fixed::allocate(kernels, width, 256, activation_group(kind));
    let matrix = kernels.device().upload("w", weights).unwrap();
    let added = Branch { branch: branch_buffer.all(), stream: stream.all() };
    let width_32 = width as u32;
    let normalised = NormQuantise {
        x: x_buffer.all(),
        branch: adds.then_some(added),
        weight: weight.all(),
        width: width_32,
        rows: 1,
        epsilon: 1e-5,
    };
    let input = ProductWave { kind, x: fixed.view(), width: width_32, rows: 1 };
    let wave = WaveMatrix { weights: matrix.all(), outputs: outputs as u32, out: out.all() };
    kernels.norm_product_stream(normalised, norm.all(), input, &[wave]).unwrap();
    (bits(&norm, width), fixed.bytes(), bits(&out, outputs), bits(&stream, width))
}

/// Equal bits, or a NaN on both sides, whose payload is open.
pub(super) fn same(a: &[u32], b: &[u32]) -> bool {
    let is_nan = |bits: u32| f32::from_bits(bits).is_nan();
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b || is_nan(*a) && is_nan(*b))
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

#[test]
fn norm_product_stream_is_residual_norm_quantise_and_product() {
    let mut numbers = Numbers(5);
    let devices = pools();
    for (kind, blocks) in [(TensorType::Q4K, 1), (TensorType::Q5K, 13), (TensorType::Q6K, 16)] {
        for (activations, adds) in ALL_ACTIVATIONS
            .into_iter()
            .flat_map(|activations| [(activations, false), (activations, true)])
        {
            let (width, outputs) = (blocks * 256, 37);
            let mut x = numbers.floats(width);
            // A block that vanishes, and once one that spoils every product.
            x[..256].iter_mut().for_each(|x| *x *= 1e-33);
            if blocks == 16 && adds && activations == Activations::I8 {
                x[700] = f32::INFINITY;
            }
            let mut branch = if adds { numbers.floats(width) } else { Vec::new() };
            branch.iter_mut().take(256).for_each(|x| *x = 0.0);
            let weight = numbers.floats(width);
            let weights = numbers.blocks(kind, outputs * blocks);
            let oracle = Kernels::load(&plain(), activations, KvType::F32).unwrap();
            let row = [&x[..], &branch, &weight];
            let (norm, fixed, out) = norm_and_product(&oracle, kind, row, &weights);
            for device in &devices {
                let kernels = Kernels::load(device, activations, KvType::F32).unwrap();
                let actual = streamed(&kernels, kind, row, &weights);
                let what = format!("{kind} {activations:?} {adds}");
                assert!(same(&actual.0, &norm), "norm, {what}");
                for (part, right) in actual.1.iter().zip(&fixed) {
                    assert!(same(&words(part), &words(right)), "fixed point, {what}");
                }
                assert!(same(&actual.2, &out), "product, {what}");
                let sum = x.iter().zip(&branch).map(|(x, branch)| (x + branch).to_bits());
                assert!(!adds || actual.3 == sum.collect::<Vec<u32>>(), "stream, {what}");
            }
        }
    }
}

/// Gate, up, SwiGLU and its fixed point, each by its plain kernel.
fn gate_apart(
    kernels: &Kernels,
    kind: TensorType,
    row: [&[f32]; 3],
    weights: [&[u8]; 2],
) -> ([Vec<u32>; 3], Vec<Vec<u8>>) {
    let [gate, up] = weights.map(|weights| norm_and_product(kernels, kind, row, weights).2);
    let floats = |bits: &[u32]| bits.iter().map(|bits| f32::from_bits(*bits)).collect::<Vec<_>>();
    let upload = |bits: &[u32]| kernels.device().upload("values", &floats(bits)).unwrap();
    let (gates, ups, out) = (upload(&gate), upload(&up), upload(&gate));
    kernels.swiglu(gates.all(), ups.all(), out.all(), gate.len() as u32).unwrap();
    let gated = bits(&out, gate.len());
    let fixed = quantised(kernels, &floats(&gated), gated.len(), 256, 32).bytes();
    ([gate, up, gated], fixed)
}

/// The same by the one kernel, twice, as the counters of arrivals have to come back to zero.
fn gate_streamed(
    kernels: &Kernels,
    kind: TensorType,
    [x, branch, weight]: [&[f32]; 3],
    weights: [&[u8]; 2],
) -> ([Vec<u32>; 3], Vec<Vec<u8>>) {
    let (width, outputs) = (x.len(), weights[0].len() / row_bytes(kind, x.len()));
    let device = kernels.device();
    let upload = |values: &[f32]| device.upload("values", values).unwrap();
    let [x, branch, weight] = [x, branch, weight].map(upload);
    let [stream, norm] = [width, width].map(|count| upload(&vec![0.0; count]));
    let [gate, up, gated] = [outputs; 3].map(|count| upload(&vec![0.0; count]));
    let row = Fixed::allocate(kernels, width, 256, activation_group(kind));
    let fixed = Fixed::allocate(kernels, outputs, 256, 32);
    let matrices = weights.map(|weights| device.upload("w", weights).unwrap());
    let counters = vec![0_u32; gate_arrivals_count(outputs as u32) as usize];
    let arrivals = device.upload("arrivals", &counters).unwrap();
    for _ in 0..2 {
        let normalised = NormQuantise {
            x: x.all(),
            branch: Some(Branch { branch: branch.all(), stream: stream.all() }),
            weight: weight.all(),
            width: width as u32,
            rows: 1,
            epsilon: 1e-5,
        };
        let input = ProductWave { kind, x: row.view(), width: width as u32, rows: 1 };
        let pair = [(&matrices[0], &gate), (&matrices[1], &up)].map(|(matrix, out)| WaveMatrix {
            weights: matrix.all(),
            outputs: outputs as u32,
            out: out.all(),
        });
        let into = Gated { out: gated.all(), fixed: fixed.view(), arrivals: arrivals.all() };
        kernels.norm_gate_stream(normalised, norm.all(), input, &pair, into).unwrap();
        assert_eq!(bits(&arrivals, counters.len()), counters, "arrivals");
    }
    ([&gate, &up, &gated].map(|buffer| bits(buffer, outputs)), fixed.bytes())
}

/// Threads of the host stand for multiprocessors: blocks of threads share blocks of 256 values.
#[test]
fn norm_gate_stream_is_norm_products_swiglu_and_quantise() {
    let mut numbers = Numbers(11);
    let devices = pools();
    for (kind, blocks, outputs) in
        [(TensorType::Q4K, 2, 256), (TensorType::Q5K, 5, 768), (TensorType::Q6K, 8, 512)]
    {
        for activations in ALL_ACTIVATIONS {
            let width = blocks * 256;
            let row = [(); 3].map(|()| numbers.floats(width));
            let row = row.each_ref().map(Vec::as_slice);
            let weights = [(); 2].map(|()| numbers.blocks(kind, outputs * blocks));
            let weights = weights.each_ref().map(Vec::as_slice);
            let oracle = Kernels::load(&plain(), activations, KvType::F32).unwrap();
            let (apart, fixed) = gate_apart(&oracle, kind, row, weights);
            for device in &devices {
                let kernels = Kernels::load(device, activations, KvType::F32).unwrap();
                let (actual, actual_fixed) = gate_streamed(&kernels, kind, row, weights);
                for (name, (a, b)) in ["gate", "up", "swiglu"].iter().zip(actual.iter().zip(&apart))
                {
                    assert!(same(a, b), "{name}, {kind} {activations:?}");
                }
                assert_eq!(actual_fixed, fixed, "{kind} {activations:?}");
            }
        }
    }
}

#[test]
fn product_stream_serves_what_fits() {
    for device in pools() {
        let kernels = Kernels::load(&device, Activations::I24, KvType::F32).unwrap();
        let serves = |kind, width, rows| kernels.serves_product_stream(kind, width, rows);
        assert!(serves(TensorType::Q4K, 4096, 1));
        assert!(serves(TensorType::Q6K, 14336, 1));
        assert!(kernels.serves_norm_product_stream(TensorType::Q6K, 8192, 1));
        let gates = |outputs| kernels.serves_norm_gate_stream(TensorType::Q4K, (4096, outputs), 1);
        assert!(gates(14336));
        assert!(!gates(14336 + 32), "no whole blocks of 256");
        assert!(!serves(TensorType::Q4K, 4096, 2), "one row");
        assert!(!serves(TensorType::Q8_0, 4096, 1), "no such kernel");
        assert!(!serves(TensorType::Q6K, 256, 1), "rows are no whole pieces of 16 bytes");
        assert!(!serves(TensorType::Q4K, 1 << 17, 1), "more than shared memory holds");
    }
}

/// What is served is served with any number of outputs: the chunks that a block of threads keeps
/// take the more memory the more tiles it has.
#[test]
fn product_stream_has_a_plan_for_all_outputs() {
    for device in pools() {
        let kernels = Kernels::load(&device, Activations::I24, KvType::F32).unwrap();
        let mut served = 0;
        for kind in [TensorType::Q4K, TensorType::Q5K, TensorType::Q6K] {
            for width in (1024..32768).step_by(256) {
                for (has_norm, is_gated) in [(false, false), (true, false), (true, true)] {
                    let ends = Ends { has_norm, is_gated };
                    if !kernels.serves_stream((kind, width, 1), ends) {
                        continue;
                    }
                    served += 1;
                    for outputs in (32..6400).step_by(32) {
                        let plan = kernels.stream_plan(kind, width, [outputs].into_iter(), ends);
                        assert!(plan.is_some(), "{kind} {width} {outputs} {ends:?}");
                    }
                }
            }
        }
        assert!(served > 30, "{served}");
    }
}
