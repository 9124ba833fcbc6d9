//! Kernels of whole rows against the plain ones they replace, on waves of 32 and of 64 lanes: equal
//! bits.

use super::super::{Kernels, Quantise, RmsNorm};
use super::tests::{ALL_ACTIVATIONS, Fixed, Numbers, bits, plain, quantised, waves};
use super::*;
use crate::options::KvType;

/// Width, rows, block and group: less than a slice, slices with an end, several.
const SLICES: [(usize, usize, u32, u32); 5] =
    [(512, 2, 256, 32), (256, 1, 256, 16), (608, 3, 32, 32), (2304, 2, 256, 32), (1056, 1, 32, 32)];

#[test]
fn norm_quantise_is_residual_norm_and_quantise() {
    let mut numbers = Numbers(2);
    for (width, rows, block, group) in [
        (256, 1, 256, 32),
        (1024, 3, 256, 16),
        (576, 2, 32, 32),
        (96, 70, 32, 32),
        (768, 65, 256, 32),
        (2304, 64, 256, 16),
    ] {
        for (activations, adds) in ALL_ACTIVATIONS
            .into_iter()
            .flat_map(|activations| [(activations, false), (activations, true)])
        {
            let mut x = numbers.floats(rows * width);
            // One row of small ones, whose blocks vanish.
            x[..width].iter_mut().for_each(|x| *x *= 1e-20);
            let (branch, weight) = (numbers.floats(rows * width), numbers.floats(width));
            let oracle = Kernels::load(&plain(), activations, KvType::F32).unwrap();
            let upload = |name, values: &[f32]| oracle.device().upload(name, values).unwrap();
            let stream = upload("stream", &vec![0.0; rows * width]);
            let (x_buffer, branch_buffer) = (upload("x", &x), upload("branch", &branch));
            let count = (rows * width) as u32;
            let source = if adds {
                oracle.residual(x_buffer.all(), branch_buffer.all(), stream.all(), count).unwrap();
                &stream
            } else {
                &x_buffer
            };
            let weights = upload("weight", &weight);
            let norm = upload("norm", &x);
            let input = RmsNorm {
                x: source.all(),
                weight: weights.all(),
                width: width as u32,
                rows: rows as u32,
                epsilon: 1e-5,
            };
            oracle.rms_norm(input, norm.all()).unwrap();
            let expected = bits(&norm, rows * width);
            let values: Vec<f32> = expected.iter().map(|bits| f32::from_bits(*bits)).collect();
            let fixed = quantised(&oracle, &values, width, block, group).bytes();
            for device in waves() {
                let kernels = Kernels::load(&device, activations, KvType::F32).unwrap();
                let upload = |name, values: &[f32]| device.upload(name, values).unwrap();
                let (x_buffer, branch_buffer) = (upload("x", &x), upload("branch", &branch));
                let sum = device.allocate::<f32>("stream", u64::from(count)).unwrap();
                let (weights, norm) = (upload("weight", &weight), upload("norm", &x));
                let out = Fixed::allocate(&kernels, rows * width, block, group);
                let branch = Branch { branch: branch_buffer.all(), stream: sum.all() };
                let input = NormQuantise {
                    x: x_buffer.all(),
                    branch: adds.then_some(branch),
                    weight: weights.all(),
                    width: width as u32,
                    rows: rows as u32,
                    epsilon: 1e-5,
                };
                kernels.norm_quantise(input, norm.all(), Some(out.view())).unwrap();
                assert_eq!(bits(&norm, rows * width), expected, "{width} {rows} {adds}");
                assert_eq!(out.bytes(), fixed, "{width} {rows} {block} {group} {activations:?}");
                if adds {
                    assert_eq!(bits(&sum, rows * width), bits(&stream, rows * width));
                }
            }
        }
    }
}

#[test]
fn swiglu_quantise_is_swiglu_and_quantise() {
    let mut numbers = Numbers(3);
    for (width, rows, block, group) in SLICES {
        let activations = Activations::I24;
        let mut gate = numbers.floats(rows * width);
        gate[3] = f32::INFINITY;
        gate[width - 1] = f32::NAN;
        let up = numbers.floats(rows * width);
        let oracle = Kernels::load(&plain(), activations, KvType::F32).unwrap();
        let upload = |name, values: &[f32]| oracle.device().upload(name, values).unwrap();
        let (gates, ups, out) = (upload("gate", &gate), upload("up", &up), upload("out", &up));
        oracle.swiglu(gates.all(), ups.all(), out.all(), (rows * width) as u32).unwrap();
        let expected = bits(&out, rows * width);
        let values: Vec<f32> = expected.iter().map(|bits| f32::from_bits(*bits)).collect();
        let fixed = quantised(&oracle, &values, width, block, group).bytes();
        for device in waves() {
            let kernels = Kernels::load(&device, activations, KvType::F32).unwrap();
            let upload = |name, values: &[f32]| device.upload(name, values).unwrap();
            let (gates, ups, out) = (upload("gate", &gate), upload("up", &up), upload("out", &up));
            let result = Fixed::allocate(&kernels, rows * width, block, group);
            let (width, rows) = (width as u32, rows as u32);
            let input = SwigluQuantise { gate: gates.all(), up: ups.all(), width, rows };
            kernels.swiglu_quantise(input, out.all(), result.view()).unwrap();
            let same = |(a, b): (u32, u32)| {
                a == b || f32::from_bits(a).is_nan() && f32::from_bits(b).is_nan()
            };
            let actual = bits(&out, expected.len());
            assert!(actual.into_iter().zip(expected.iter().copied()).all(same));
            // NaN have any payload; scales of spoiled blocks are the only ones here.
            let canonical = |bytes: &[u8]| -> Vec<u32> {
                bytes
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                    .map(|x| if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() })
                    .collect()
            };
            let bytes = result.bytes();
            assert_eq!(bytes[0], fixed[0]);
            assert_eq!(canonical(&bytes[1]), canonical(&fixed[1]));
            assert_eq!(canonical(&bytes[2]), canonical(&fixed[2]));
        }
    }
}

/// Rows that are not brought into fixed point need not end at a multiple of four.
#[test]
fn norm_quantise_serves_rows_of_any_width() {
    let mut numbers = Numbers(8);
    for (width, rows) in [(1, 1), (1030, 2), (2051, 65)] {
        let count = rows * width;
        let [x, branch] = [0, 1].map(|_| numbers.floats(count));
        let weight = numbers.floats(width);
        // The sum and its norm.
        let by = |device: &Device, tuned: bool| {
            let kernels = Kernels::load(device, Activations::I24, KvType::F32).unwrap();
            let [x, branch, weight] =
                [&x, &branch, &weight].map(|values| device.upload("input", values).unwrap());
            let [stream, norm] =
                ["stream", "norm"].map(|name| device.allocate::<f32>(name, count as u64).unwrap());
            let (weight, width, rows, epsilon) = (weight.all(), width as u32, rows as u32, 1e-5);
            if tuned {
                let branch = Some(Branch { branch: branch.all(), stream: stream.all() });
                let input = NormQuantise { x: x.all(), branch, weight, width, rows, epsilon };
                kernels.norm_quantise(input, norm.all(), None).unwrap();
            } else {
                kernels.residual(x.all(), branch.all(), stream.all(), width * rows).unwrap();
                let input = RmsNorm { x: stream.all(), weight, width, rows, epsilon };
                kernels.rms_norm(input, norm.all()).unwrap();
            }
            [stream, norm].map(|buffer| bits(&buffer, count))
        };
        let expected = by(&plain(), false);
        for device in waves() {
            assert_eq!(by(&device, true), expected, "{width} {rows}");
        }
    }
}

#[test]
fn quantise_rows_is_quantise() {
    let mut numbers = Numbers(9);
    for ((width, rows, block, group), activations) in
        SLICES.into_iter().flat_map(|slice| ALL_ACTIVATIONS.map(|activations| (slice, activations)))
    {
        let mut x = numbers.floats(rows * width);
        x[5] = f32::NEG_INFINITY;
        let oracle = Kernels::load(&plain(), activations, KvType::F32).unwrap();
        let expected = quantised(&oracle, &x, width, block, group).bytes();
        for device in waves() {
            let kernels = Kernels::load(&device, activations, KvType::F32).unwrap();
            let x = device.upload("x", &x).unwrap();
            let out = Fixed::allocate(&kernels, rows * width, block, group);
            let input = Quantise { x: x.all(), width: width as u32, rows: rows as u32 };
            kernels.quantise_rows(input, out.view()).unwrap();
            assert_eq!(out.bytes(), expected, "{width} {rows} {block} {group} {activations:?}");
        }
    }
}

/// Four values come at once, which need an address for four.
#[test]
fn views_that_begin_between_fours_are_refused() {
    for device in waves() {
        let kernels = Kernels::load(&device, Activations::I24, KvType::F32).unwrap();
        let x = device.upload("x", &[1.0; 512]).unwrap();
        let out = Fixed::allocate(&kernels, 256, 256, 32);
        let input = Quantise { x: x.view(2, 256).unwrap(), width: 256, rows: 1 };
        let refusal = kernels.quantise_rows(input, out.view()).unwrap_err().to_string();
        assert!(refusal.contains("a multiple of 16 is"), "{refusal}");
    }
}
