//! Products in tiles against the plain ones, bit for bit, in the builds of waves.

use crate::device::{Buffer, Device};
use crate::gguf::TensorType;
use crate::kernels::{
    FixedPoint, Kernels, Product, Quantise, activation_block, activation_group, split_chunks,
    split_values,
};
use crate::options::{Activations, DeviceChoice, HostBuild, KvType};

const WAVES: [HostBuild; 2] = [HostBuild::Waves32, HostBuild::Waves64];
const DIGITS: [Activations; 3] = [Activations::I8, Activations::I16, Activations::I24];

/// Type, and where the f16 fields of its blocks lie.
const KINDS: [(TensorType, &[usize]); 10] = [
    (TensorType::Q4_0, &[0]),
    (TensorType::Q4_1, &[0, 2]),
    (TensorType::Q5_0, &[0]),
    (TensorType::Q5_1, &[0, 2]),
    (TensorType::Q8_0, &[0]),
    (TensorType::Q2K, &[80, 82]),
    (TensorType::Q3K, &[108]),
    (TensorType::Q4K, &[0, 2]),
    (TensorType::Q5K, &[0, 2]),
    (TensorType::Q6K, &[208]),
];

/// Outputs, rows, blocks of the width.
#[derive(Clone, Copy, Debug)]
struct Shape {
    outputs: u32,
    rows: u32,
    blocks: u32,
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    /// Magnitudes of a few orders, some zeros.
    fn values(&mut self, count: usize) -> Vec<f32> {
        let value = |bits: u64| {
            let fraction = f32::from(u16::try_from(bits & 0xffff).unwrap()) / 65536.0 - 0.5;
            let power = i32::try_from(bits >> 16 & 7).unwrap() - 4;
            if bits >> 20 & 31 == 0 { 0.0 } else { fraction * 2.0_f32.powi(power) }
        };
        (0..count).map(|_| value(self.next())).collect()
    }
}

fn open(build: HostBuild, activations: Activations) -> Kernels {
    let device = Device::open(DeviceChoice::Host, Some(build), 2).unwrap();
    Kernels::load(&device, activations, KvType::F32).unwrap()
}

/// The inputs of a product, on the host.
struct Inputs {
    kind: TensorType,
    shape: Shape,
    weights: Vec<u8>,
    digits: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<f32>,
}

impl Inputs {
    fn width(kind: TensorType, shape: Shape) -> u32 {
        shape.blocks * activation_block(kind).unwrap()
    }

    /// Blocks of any bytes, but for f16 fields that are not finite.
    fn random(plain: &Kernels, kind: TensorType, halves: &[usize], shape: Shape) -> Self {
        let mut random = Random(u64::from(shape.outputs * shape.rows + shape.blocks));
        let bytes = usize::try_from(kind.block_bytes()).unwrap();
        let blocks = shape.outputs as usize * shape.blocks as usize;
        let mut weights = random.bytes(blocks * bytes);
        for block in weights.chunks_exact_mut(bytes) {
            for half in halves {
                if block[half + 1] & 0x7c == 0x7c {
                    block[half + 1] ^= 0x40;
                }
            }
        }
        let width = Self::width(kind, shape);
        let x = random.values(shape.rows as usize * width as usize);
        let parts = Parts::new(plain, kind, shape);
        let device = plain.device();
        let x = device.upload("x", &x).unwrap();
        let input = Quantise { x: x.all(), width, rows: shape.rows };
        plain.quantise(input, parts.fixed_point(kind)).unwrap();
        let mut inputs = Self {
            kind,
            shape,
            weights,
            digits: vec![0; usize::try_from(parts.counts[0]).unwrap()],
            scales: vec![0.0; usize::try_from(parts.counts[1]).unwrap()],
            sums: vec![0.0; usize::try_from(parts.counts[2]).unwrap()],
        };
        parts.digits.all().read(&mut inputs.digits).unwrap();
        parts.scales.all().read(&mut inputs.scales).unwrap();
        parts.sums.all().read(&mut inputs.sums).unwrap();
        inputs
    }

    /// The bits of the product.
    fn product(&self, kernels: &Kernels, way: Way) -> Vec<u32> {
        let Shape { outputs, rows, .. } = self.shape;
        let device = kernels.device();
        let weights = device.upload("weights", &self.weights).unwrap();
        let parts = Parts::new(kernels, self.kind, self.shape);
        parts.digits.all().write(&self.digits).unwrap();
        parts.scales.all().write(&self.scales).unwrap();
        parts.sums.all().write(&self.sums).unwrap();
        let count = u64::from(outputs) * u64::from(rows);
        let out = device.allocate::<f32>("out", count).unwrap();
        let input = Product {
            weights: weights.all(),
            kind: self.kind,
            x: parts.fixed_point(self.kind),
            outputs,
            width: Self::width(self.kind, self.shape),
            rows,
        };
        match way {
            Way::Plain => kernels.product(input, out.all()).unwrap(),
            Way::Tiles => kernels.product_tiles(input, out.all()).unwrap(),
            Way::Split(chunks) => {
                let workspace = device.allocate::<f32>("chunks", split_values(&input)).unwrap();
                let (chunk_sums, out) = (workspace.all(), out.all());
                kernels.product_tiles_split(input, chunks, chunk_sums, out).unwrap();
            }
        }
        let mut values = vec![0.0_f32; usize::try_from(count).unwrap()];
        out.all().read(&mut values).unwrap();
        assert!(values.iter().all(|value| !value.is_nan()), "an output that nobody wrote");
        values.into_iter().map(f32::to_bits).collect()
    }
}

/// Which kernels compute a product.
#[derive(Clone, Copy, Debug)]
enum Way {
    Plain,
    Tiles,
    /// Chunks of one block of threads.
    Split(u32),
}

/// Memory of activations in fixed point.
struct Parts {
    digits: Buffer,
    scales: Buffer,
    sums: Buffer,
    counts: [u64; 3],
}

impl Parts {
    fn new(kernels: &Kernels, kind: TensorType, shape: Shape) -> Self {
        let count = u64::from(shape.rows) * u64::from(Inputs::width(kind, shape));
        let counts = [
            count * kernels.activations().digit_count() as u64,
            count / u64::from(activation_block(kind).unwrap()),
            count / u64::from(activation_group(kind)),
        ];
        let device = kernels.device();
        Self {
            digits: device.allocate::<i8>("digits", counts[0]).unwrap(),
            scales: device.allocate::<f32>("scales", counts[1]).unwrap(),
            sums: device.allocate::<f32>("sums", counts[2]).unwrap(),
            counts,
        }
    }

    fn fixed_point(&self, kind: TensorType) -> FixedPoint<'_> {
        FixedPoint {
            digits: self.digits.all(),
            scales: self.scales.all(),
            sums: self.sums.all(),
            block: activation_block(kind).unwrap(),
            group: activation_group(kind),
        }
    }
}

fn usable() -> bool {
    let all = Device::usable_host_builds();
    let usable = WAVES.iter().all(|build| all.contains(build));
    if !usable {
        eprintln!("SKIPPED tuned kernels: this CPU cannot run the builds of waves");
    }
    usable
}

fn check_tiles(way: Way, shapes: &[(Activations, Shape)]) {
    for activations in DIGITS {
        let plain = open(HostBuild::Avx2, activations);
        let waves = WAVES.map(|build| open(build, activations));
        for (_, shape) in shapes.iter().filter(|(digits, _)| *digits == activations) {
            for (kind, halves) in KINDS {
                let inputs = Inputs::random(&plain, kind, halves, *shape);
                let expected = inputs.product(&plain, Way::Plain);
                for kernels in &waves {
                    let name = kernels.device().describe().name;
                    let actual = inputs.product(kernels, way);
                    let first = expected.iter().zip(&actual).position(|(e, a)| e != a);
                    let kind = kind.name();
                    assert_eq!(first, None, "{kind} {activations:?} {name} {shape:?} {way:?}");
                }
            }
        }
    }
}

#[test]
fn tiles_have_the_bits_of_the_plain_product() {
    if !usable() {
        return;
    }
    let shape = |outputs, rows, blocks| Shape { outputs, rows, blocks };
    let way = Way::Tiles;
    check_tiles(
        way,
        &[
            (Activations::I24, shape(1, 1, 1)),
            (Activations::I24, shape(129, 33, 9)),
            (Activations::I24, shape(15, 2, 5)),
            (Activations::I24, shape(70, 17, 3)),
            (Activations::I24, shape(17, 65, 1)),
            (Activations::I16, shape(15, 16, 3)),
            (Activations::I16, shape(70, 33, 1)),
            (Activations::I16, shape(1, 64, 5)),
            (Activations::I8, shape(129, 64, 9)),
            (Activations::I8, shape(70, 65, 1)),
            (Activations::I8, shape(16, 17, 5)),
        ],
    );
}

#[test]
fn tiles_split_in_chunks_have_the_bits_of_the_plain_product() {
    if !usable() {
        return;
    }
    for (chunks, blocks) in [(1, 1), (1, 9), (2, 13), (3, 33)] {
        let shape = Shape { outputs: 19, rows: 18, blocks };
        check_tiles(Way::Split(chunks), &[(Activations::I8, shape)]);
    }
    let shape = Shape { outputs: 130, rows: 65, blocks: 9 };
    check_tiles(Way::Split(2), &[(Activations::I16, shape)]);
}

#[test]
fn few_rows_are_split_so_that_they_fill_a_device() {
    let device = Device::open(DeviceChoice::Host, Some(HostBuild::Baseline), 1).unwrap();
    let (weights, x) = (device.upload("w", &[0_u8]).unwrap(), device.upload("x", &[0_u8]).unwrap());
    let chunks = |outputs, width, rows| {
        let x = FixedPoint {
            digits: x.view(0, 0).unwrap(),
            scales: x.view(0, 0).unwrap(),
            sums: x.view(0, 0).unwrap(),
            block: 256,
            group: 32,
        };
        let kind = TensorType::Q4K;
        split_chunks(&Product { weights: weights.all(), kind, x, outputs, width, rows }, 132)
    };
    // 32 tiles of 4 and of 14 chunks, 224 tiles, 256 tiles.
    assert_eq!(chunks(4096, 4096, 32), Some(1));
    assert_eq!(chunks(4096, 14336, 32), Some(4));
    assert_eq!(chunks(28672, 4096, 32), None);
    assert_eq!(chunks(4096, 4096, 512), None);
}

/// The largest sums of digits there are: every product of a byte at its limit.
#[test]
fn tiles_hold_the_largest_sums() {
    if !usable() {
        return;
    }
    let shape = Shape { outputs: 5, rows: 3, blocks: 2 };
    let plain = open(HostBuild::Avx2, Activations::I8);
    let waves = WAVES.map(|build| open(build, Activations::I8));
    for (kind, halves) in KINDS {
        for byte in [0x00, 0x11, 0x80, 0xff] {
            for digit in [-128, 127] {
                let mut inputs = Inputs::random(&plain, kind, halves, shape);
                inputs.digits.fill(digit);
                let bytes = usize::try_from(kind.block_bytes()).unwrap();
                for block in inputs.weights.chunks_exact_mut(bytes) {
                    block.fill(byte);
                    if kind == TensorType::Q6K && byte == 0x11 {
                        // Scale -128 times weight -31: the low byte of each product is -128.
                        block[128..192].fill(0);
                        block[192..208].fill(0x80);
                    }
                    for half in halves {
                        block[*half..half + 2].copy_from_slice(&[0x00, 0x3c]);
                    }
                }
                let expected = inputs.product(&plain, Way::Plain);
                for kernels in &waves {
                    let actual = inputs.product(kernels, Way::Tiles);
                    assert_eq!(expected, actual, "{} {byte:#x} {digit}", kind.name());
                }
            }
        }
    }
}
