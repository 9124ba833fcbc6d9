//! Tuned kernels against the plain ones they replace, on waves of 32 and of 64 lanes: equal bits.

use super::super::quantise::FixedPoint;
use super::super::{Kernels, Product, Quantise, activation_block, activation_group};
use super::*;
use crate::device::{Buffer, Device};
use crate::options::{DeviceChoice, HostBuild, KvType};

pub(super) const ALL_ACTIVATIONS: [Activations; 3] =
    [Activations::I8, Activations::I16, Activations::I24];

/// Waves of both sizes, where this CPU can run them.
pub(super) fn waves() -> Vec<Device> {
    let builds = [HostBuild::Waves32, HostBuild::Waves64];
    let usable = Device::usable_host_builds();
    let builds = builds.into_iter().filter(|build| usable.contains(build));
    builds.map(|build| Device::open(DeviceChoice::Host, Some(build), 2).unwrap()).collect()
}

pub(super) fn plain() -> Device {
    Device::open(DeviceChoice::Host, Some(HostBuild::Baseline), 2).unwrap()
}

/// A stream of numbers from a seed (splitmix64).
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn floats(&mut self, count: usize) -> Vec<f32> {
        let float = |word: u64| (word >> 40) as f32 / 8_388_608.0 - 1.0;
        (0..count)
            .map(|_| {
                let word = self.word();
                // A few are large, a few are very small.
                let factor = match word & 63 {
                    0 => 300.0,
                    1 => 1e-33,
                    _ => 1.0,
                };
                float(word) * factor
            })
            .collect()
    }

    /// Blocks of any bytes, whose float fields are finite.
    pub(super) fn blocks(&mut self, kind: TensorType, count: usize) -> Vec<u8> {
        let bytes = kind.block_bytes() as usize;
        let mut all: Vec<u8> = (0..count * bytes).map(|_| self.word() as u8).collect();
        let halves: &[usize] = match kind {
            TensorType::Q4_0 | TensorType::Q5_0 | TensorType::Q8_0 => &[0],
            TensorType::Q2K => &[80, 82],
            TensorType::Q3K => &[108],
            TensorType::Q6K => &[208],
            _ => &[0, 2],
        };
        for block in all.chunks_mut(bytes) {
            for &offset in halves {
                let value = half::f16::from_f32(self.floats(1)[0].clamp(-1.0, 1.0) * 0.01);
                block[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
            }
        }
        all
    }
}

pub(super) fn bits(buffer: &Buffer, count: usize) -> Vec<u32> {
    let mut values = vec![0.0_f32; count];
    buffer.view(0, count as u64).unwrap().read(&mut values).unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

/// Digits, scales and sums of rows, and what was read of them.
pub(super) struct Fixed {
    buffers: [Buffer; 3],
    block: u32,
    group: u32,
}

impl Fixed {
    pub(super) fn allocate(kernels: &Kernels, count: usize, block: u32, group: u32) -> Self {
        let device = kernels.device();
        let digits = (count * kernels.activations().digit_count()) as u64;
        let buffers = [
            device.allocate::<i8>("digits", digits).unwrap(),
            device.allocate::<f32>("scales", count as u64 / u64::from(block)).unwrap(),
            device.allocate::<f32>("sums", count as u64 / u64::from(group)).unwrap(),
        ];
        Self { buffers, block, group }
    }

    pub(super) fn view(&self) -> FixedPoint<'_> {
        let [digits, scales, sums] = &self.buffers;
        let (block, group) = (self.block, self.group);
        FixedPoint { digits: digits.all(), scales: scales.all(), sums: sums.all(), block, group }
    }

    pub(super) fn bytes(&self) -> Vec<Vec<u8>> {
        self.buffers
            .iter()
            .map(|buffer| {
                let mut bytes = vec![0; buffer.bytes() as usize];
                buffer.all().read(&mut bytes).unwrap();
                bytes
            })
            .collect()
    }
}

pub(super) fn quantised(
    kernels: &Kernels,
    x: &[f32],
    width: usize,
    block: u32,
    group: u32,
) -> Fixed {
    let fixed = Fixed::allocate(kernels, x.len(), block, group);
    let x_buffer = kernels.device().upload("x", x).unwrap();
    let (width, rows) = (width as u32, (x.len() / width) as u32);
    kernels.quantise(Quantise { x: x_buffer.all(), width, rows }, fixed.view()).unwrap();
    fixed
}

const QUANTISED: [TensorType; 10] = [
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q5_0,
    TensorType::Q5_1,
    TensorType::Q8_0,
    TensorType::Q2K,
    TensorType::Q3K,
    TensorType::Q4K,
    TensorType::Q5K,
    TensorType::Q6K,
];

/// A shape of a product: blocks of a row, outputs of up to three matrices, rows.
pub(super) type Shape = (Activations, usize, [usize; 3], usize);

/// A matrix of a test: its weights and its outputs.
type Weights = Vec<(Vec<u8>, usize)>;

/// The products of every matrix by the plain kernel.
fn products(
    kind: TensorType,
    (activations, blocks, rows): (Activations, usize, usize),
    x: &[f32],
    weights: &Weights,
) -> Vec<Vec<u32>> {
    let (block, group) = (activation_block(kind).unwrap(), activation_group(kind));
    let width = blocks * block as usize;
    let oracle = Kernels::load(&plain(), activations, KvType::F32).unwrap();
    let fixed = quantised(&oracle, x, width, block, group);
    let product = |(weights, outputs): &(Vec<u8>, usize)| {
        let matrix = oracle.device().upload("w", weights).unwrap();
        let out = oracle.device().allocate::<f32>("out", (rows * outputs) as u64).unwrap();
        let input = Product {
            weights: matrix.all(),
            kind,
            x: fixed.view(),
            outputs: *outputs as u32,
            width: width as u32,
            rows: rows as u32,
        };
        oracle.product(input, out.all()).unwrap();
        bits(&out, rows * outputs)
    };
    weights.iter().map(product).collect()
}

/// A launcher of products of few rows.
pub(super) type Launch =
    fn(&Kernels, ProductWave<'_>, &[WaveMatrix<'_>]) -> Result<(), DeviceError>;

/// Compares a launcher with the plain kernel on every device that has it; how often it was run.
pub(super) fn compare_products(
    kind: TensorType,
    shape: Shape,
    devices: &[Device],
    launch: Launch,
) -> usize {
    let (activations, blocks, outputs, rows) = shape;
    let mut numbers = Numbers(1 + blocks as u64);
    let (block, group) = (activation_block(kind).unwrap(), activation_group(kind));
    let width = blocks * block as usize;
    let x = numbers.floats(rows * width);
    let outputs = outputs.into_iter().filter(|outputs| *outputs > 0);
    let weights: Weights =
        outputs.map(|outputs| (numbers.blocks(kind, outputs * blocks), outputs)).collect();
    let expected = products(kind, (activations, blocks, rows), &x, &weights);
    for device in devices {
        let kernels = Kernels::load(device, activations, KvType::F32).unwrap();
        let fixed = quantised(&kernels, &x, width, block, group);
        let buffers: Vec<(Buffer, Buffer, usize)> = weights
            .iter()
            .map(|(weights, outputs)| {
                let out = device.allocate::<f32>("out", (rows * outputs) as u64).unwrap();
                (device.upload("w", weights).unwrap(), out, *outputs)
            })
            .collect();
        let matrices: Vec<WaveMatrix<'_>> = buffers
            .iter()
            .map(|(weights, out, outputs)| {
                let (weights, out, outputs) = (weights.all(), out.all(), *outputs as u32);
                WaveMatrix { weights, outputs, out }
            })
            .collect();
        let (width, rows_32) = (width as u32, rows as u32);
        let input = ProductWave { kind, x: fixed.view(), width, rows: rows_32 };
        launch(&kernels, input, &matrices).unwrap();
        for ((_, out, outputs), expected) in buffers.iter().zip(&expected) {
            let actual = bits(out, rows * outputs);
            assert_eq!(actual, *expected, "{kind} {activations:?} {blocks} blocks");
        }
    }
    devices.len()
}

#[test]
fn product_wave_is_product() {
    let devices = waves();
    for kind in QUANTISED {
        for shape in [
            (Activations::I24, 1, [1, 0, 0], 1),
            (Activations::I24, 17, [33, 16, 5], 1),
            (Activations::I24, 36, [18, 7, 0], 2),
            (Activations::I16, 9, [17, 0, 0], 3),
            (Activations::I8, 21, [2, 15, 31], 1),
            // More than is laid out at once.
            (Activations::I24, 500, [3, 0, 0], 1),
        ] {
            compare_products(kind, shape, &devices, Kernels::product_wave);
        }
    }
}

#[test]
fn hash_rows_is_the_hash_of_the_host() {
    let mut numbers = Numbers(4);
    let mut first = numbers.floats(3 * 700);
    first[5] = f32::NAN;
    first[6] = -f32::NAN;
    first[705] = f32::NEG_INFINITY;
    let second = numbers.floats(31);
    for device in waves() {
        let kernels = Kernels::load(&device, Activations::I24, KvType::F32).unwrap();
        let (a, b) = (device.upload("a", &first).unwrap(), device.upload("b", &second).unwrap());
        let records = device.allocate::<RowDigest>("digests", 8).unwrap();
        // The first row of the first tensor in two pieces.
        let piece = |first: u32, width: u32, record: u32| {
            let values = a.view(u64::from(first), u64::from(width)).unwrap();
            HashTensor { values, width, rows: 1, record, first }
        };
        let tensors = [
            HashTensor { values: a.all(), width: 700, rows: 3, record: 1, first: 0 },
            HashTensor { values: b.all(), width: 31, rows: 1, record: 5, first: 0 },
            piece(0, 256, 6),
            piece(256, 444, 7),
        ];
        kernels.hash_rows(&tensors, records.all()).unwrap();
        let mut digests = [bytemuck::Zeroable::zeroed(); 8];
        records.all::<RowDigest>().read(&mut digests).unwrap();
        for (index, row) in first.chunks(700).enumerate() {
            let digest = digests[1 + index];
            assert_eq!(digest.hash, crate::hash_row(row));
            assert_eq!((digest.width, digest.written), (700, 1));
            assert_eq!(digest.nan_count, row.iter().filter(|x| x.is_nan()).count() as u32);
            let infinite = row.iter().filter(|x| x.is_infinite()).count();
            assert_eq!(digest.infinity_count, infinite as u32);
            assert_eq!(digest.greatest, row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            assert_eq!(digest.least, row.iter().copied().fold(f32::INFINITY, f32::min));
        }
        assert_eq!(digests[5].hash, crate::hash_row(&second));
        assert_eq!(RowDigest::joined(&digests[6..8]), digests[1]);
        // Where no record belongs nothing was written.
        assert_ne!(digests[0].written, 1);
        assert_ne!(digests[4].written, 1);
    }
}
