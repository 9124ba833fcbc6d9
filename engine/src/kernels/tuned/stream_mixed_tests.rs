//! Matrices of two types behind one norm against the plain kernels: equal bits.

use super::super::{Kernels, activation_group};
use super::stream_tests::{norm_and_product, pools, row_bytes, same};
use super::tests::{ALL_ACTIVATIONS, Fixed, Numbers, bits, plain};
use super::*;
use crate::device::Buffer;
use crate::options::KvType;

fn matrix((weights, outputs, out): &(Buffer, usize, Buffer)) -> WaveMatrix<'_> {
    WaveMatrix { weights: weights.all(), outputs: *outputs as u32, out: out.all() }
}

/// Products of one norm with matrices of `kind`, and then of Q6_K, by the one kernel: bits of the
/// norm and of each product, and the stream.
fn mixed(
    kernels: &Kernels,
    kind: TensorType,
    [x, branch, weight]: [&[f32]; 3],
    weights: [&[Vec<u8>]; 2],
) -> (Vec<u32>, Vec<Vec<u32>>, Vec<u32>) {
    let width = x.len();
    let device = kernels.device();
    let upload = |values: &[f32]| device.upload("values", values).unwrap();
    let [x, branch, weight] = [x, branch, weight].map(upload);
    let [stream, norm] = [width, width].map(|count| upload(&vec![0.0; count]));
    let fixed = Fixed::allocate(kernels, width, 256, activation_group(kind));
    let place = |kind: TensorType, weights: &Vec<u8>| {
        let outputs = weights.len() / row_bytes(kind, width);
        (device.upload("w", weights).unwrap(), outputs, upload(&vec![0.0; outputs]))
    };
    let places = [(kind, weights[0]), (TensorType::Q6K, weights[1])]
        .map(|(kind, all)| all.iter().map(|one| place(kind, one)).collect::<Vec<_>>());
    let matrices = places.each_ref().map(|places| places.iter().map(matrix).collect::<Vec<_>>());
    let normalised = NormQuantise {
        x: x.all(),
        branch: Some(Branch { branch: branch.all(), stream: stream.all() }),
        weight: weight.all(),
        width: width as u32,
        rows: 1,
        epsilon: 1e-5,
    };
    let input = ProductWave { kind, x: fixed.view(), width: width as u32, rows: 1 };
    let matrices = matrices.each_ref().map(Vec::as_slice);
    kernels.norm_product_stream_mixed(normalised, norm.all(), input, matrices).unwrap();
    let products = places.iter().flatten().map(|(_, outputs, out)| bits(out, *outputs)).collect();
    (bits(&norm, width), products, bits(&stream, width))
}

/// Two multiprocessors: a type has one block of threads, or as many as keep few enough tiles.
#[test]
fn norm_product_stream_mixed_is_residual_norm_quantise_and_products_of_two_types() {
    let mut numbers = Numbers(17);
    let devices = pools();
    for (kind, blocks, outputs) in [
        (TensorType::Q4K, 8, [&[33, 5][..], &[37]]),
        (TensorType::Q5K, 16, [&[16], &[17, 300]]),
        (TensorType::Q4K, 24, [&[700, 3], &[1]]),
    ] {
        for activations in ALL_ACTIVATIONS {
            let width = blocks * 256;
            let row = [(); 3].map(|()| numbers.floats(width));
            let row = row.each_ref().map(Vec::as_slice);
            let kinds = [kind, TensorType::Q6K];
            let weights = [0, 1].map(|index| {
                let of = |outputs: &usize| numbers.blocks(kinds[index], outputs * blocks);
                outputs[index].iter().map(of).collect::<Vec<_>>()
            });
            let oracle = Kernels::load(&plain(), activations, KvType::F32).unwrap();
            let all = kinds.into_iter().zip(&weights);
            let all = all.flat_map(|(kind, some)| some.iter().map(move |one| (kind, one)));
            let apart: Vec<_> =
                all.map(|(kind, one)| norm_and_product(&oracle, kind, row, one)).collect();
            let sum = row[0].iter().zip(row[1]).map(|(x, branch)| (x + branch).to_bits());
            let sum: Vec<u32> = sum.collect();
            for device in &devices {
                let kernels = Kernels::load(device, activations, KvType::F32).unwrap();
                let weights = weights.each_ref().map(Vec::as_slice);
                let (norm, products, stream) = mixed(&kernels, kind, row, weights);
                let what = format!("{kind} {activations:?}");
                assert!(same(&norm, &apart[0].0), "norm, {what}");
                assert_eq!(products.len(), apart.len());
                for (index, (product, (_, _, right))) in products.iter().zip(&apart).enumerate() {
                    assert!(same(product, right), "product {index}, {what}");
                }
                assert_eq!(stream, sum, "stream, {what}");
            }
        }
    }
}

#[test]
fn product_stream_mixed_serves_two_types() {
    for device in pools() {
        let kernels = Kernels::load(&device, Activations::I24, KvType::F32).unwrap();
        let serves = |kind, outputs: [&[u32]; 2]| {
            kernels.serves_norm_product_stream_mixed((kind, 4096, 1), outputs)
        };
        assert!(serves(TensorType::Q4K, [&[4096, 1024], &[1024]]));
        assert!(serves(TensorType::Q5K, [&[4096], &[1024, 1024]]));
        assert!(!serves(TensorType::Q6K, [&[4096], &[1024]]), "one type");
        assert!(!serves(TensorType::Q4K, [&[4096, 1024], &[]]), "one type");
        assert!(!serves(TensorType::Q4K, [&[4096, 1024], &[1024, 1024]]), "four matrices");
    }
}
