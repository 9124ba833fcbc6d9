//! The tuned kernels of attention against the plain ones, on waves of 32 and of 64 lanes: equal
//! bits, with ordinary values and with denormals, zeros of both signs, huge scores, inf and NaN.

use super::tests::{Fixed, Numbers, plain, quantised, waves};
use crate::device::{Buffer, Device};
use crate::kernels::{
    Attention, Chunks, Kernels, KvWrite, Position, Rope, RopeKvWrite, Rotated, arrivals_count,
    chunks_count,
};
use crate::options::{Activations, KvType};
use bytemuck::Pod;

/// How far replays of a captured launch may go beyond the position of the test.
const AHEAD: u32 = 70;
const CONTEXT: u32 = 1280;
const ANGLES: u32 = 1280;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Inputs {
    Ordinary,
    /// Scores beyond the range of exp, denormals, zeros of both signs.
    Extreme,
    /// The same, with NaN and infinities.
    Wild,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    heads: u32,
    kv_heads: u32,
    head_size: u32,
    rotated: u32,
    /// Position of row 0; what is before it was written by an earlier pass.
    first: u32,
    rows: u32,
    inputs: Inputs,
}

impl Case {
    fn new(heads: [u32; 2], head_size: u32, first: u32, rows: u32, inputs: Inputs) -> Self {
        let [heads, kv_heads] = heads;
        Self { heads, kv_heads, head_size, rotated: head_size, first, rows, inputs }
    }

    fn q_count(&self) -> usize {
        (self.rows * self.heads * self.head_size) as usize
    }

    fn kv_count(&self, rows: u32) -> usize {
        (rows * self.kv_heads * self.head_size) as usize
    }

    fn cache_count(&self) -> u64 {
        u64::from(CONTEXT * self.kv_heads * self.head_size)
    }
}

fn values(numbers: &mut Numbers, count: usize, inputs: Inputs) -> Vec<f32> {
    let mut values = numbers.floats(count);
    for value in &mut values {
        let word = numbers.word();
        *value = match (inputs, word % 97) {
            (Inputs::Ordinary, _) => *value,
            (_, 0) => -0.0,
            (_, 1) => 0.0,
            (_, 2) => f32::from_bits(word as u32 >> 10 & 0x807f_ffff),
            (_, 3) => *value * 1e18,
            (Inputs::Wild, 4) if word >> 60 == 0 => f32::INFINITY,
            (Inputs::Wild, 5) if word >> 60 == 0 => f32::NEG_INFINITY,
            (Inputs::Wild, 6) if word >> 60 == 0 => f32::NAN,
            _ => *value * 4.0,
        };
    }
    values
}

/// All NaN are one (CONTRACT.md section 13), in memory of f32 and of f16.
fn canonical<E: Pod>(buffer: &Buffer) -> Vec<u32> {
    let mut elements = vec![E::zeroed(); buffer.bytes() as usize / size_of::<E>()];
    buffer.all::<E>().read(&mut elements).unwrap();
    let (size, bytes) = (size_of::<E>(), bytemuck::cast_slice::<E, u8>(&elements));
    let infinity = if size == 2 { 0x7c00 } else { 0x7f80_0000 };
    let sign = 1_u32 << (size * 8 - 1);
    bytes
        .chunks(size)
        .map(|bytes| {
            let word = bytes.iter().rev().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
            if word & (sign - 1) > infinity { u32::MAX } else { word }
        })
        .collect()
}

/// What one device is given, and where it writes.
struct Side {
    kernels: Kernels,
    inputs: [Buffer; 5],
    q_rope: Buffer,
    k_rope: Buffer,
    keys: Buffer,
    values: Buffer,
    out: Buffer,
    position: Buffer,
}

impl Side {
    /// `inputs` are q, k, v, cosine, sine; `before` is k and v of the earlier positions.
    fn new<E: Pod>(
        device: &Device,
        case: Case,
        activations: Activations,
        kv: KvType,
        inputs: &[Vec<f32>; 5],
        before: &[Vec<f32>; 2],
    ) -> Self {
        let kernels = Kernels::load(device, activations, kv).unwrap();
        let count = |count: usize| device.allocate::<f32>("out", count as u64).unwrap();
        let cache = || device.allocate::<E>("cache", case.cache_count()).unwrap();
        let side = Self {
            inputs: [0, 1, 2, 3, 4].map(|index| device.upload("input", &inputs[index]).unwrap()),
            q_rope: count(case.q_count()),
            k_rope: count(case.kv_count(case.rows)),
            keys: cache(),
            values: cache(),
            out: count(case.q_count()),
            position: device.upload("position", &[0_u32]).unwrap(),
            kernels,
        };
        if case.first > 0 {
            let [k, v] = [0, 1].map(|index| device.upload("before", &before[index]).unwrap());
            side.kv_write::<E>(case, &k, &v, 0, case.first);
        }
        side.position.all().write(&[case.first]).unwrap();
        side
    }

    fn at(&self, largest: u32) -> Position<'_> {
        Position { first: self.position.all(), largest }
    }

    fn kv_write<E: Pod>(&self, case: Case, k: &Buffer, v: &Buffer, largest: u32, rows: u32) {
        let Case { kv_heads, head_size, .. } = case;
        let (k, v, position) = (k.all(), v.all(), self.at(largest));
        let input = KvWrite { k, v, kv_heads, head_size, rows, position, context: CONTEXT };
        self.kernels.kv_write::<E>(input, self.keys.all(), self.values.all()).unwrap();
    }

    fn attention<E: Pod>(&self, case: Case, largest: u32) -> Attention<'_, E> {
        let Case { heads, kv_heads, head_size, rows, .. } = case;
        let (q, keys, values) = (self.q_rope.all(), self.keys.all(), self.values.all());
        let position = self.at(largest);
        Attention { q, keys, values, heads, kv_heads, head_size, rows, position, context: CONTEXT }
    }

    /// rope, rope, `kv_write`, attention.
    fn plain<E: Pod>(&self, case: Case) {
        let [q, k, v, cosine, sine] = &self.inputs;
        let Case { head_size, rotated, rows, .. } = case;
        for (x, heads, out) in [(q, case.heads, &self.q_rope), (k, case.kv_heads, &self.k_rope)] {
            let (x, cosine, sine) = (x.all(), cosine.all(), sine.all());
            let position = self.at(case.first);
            let input = Rope { x, cosine, sine, heads, head_size, rotated, rows, position };
            self.kernels.rope(input, out.all()).unwrap();
        }
        self.kv_write::<E>(case, &self.k_rope, v, case.first, rows);
        self.kernels.attention(self.attention::<E>(case, case.first), self.out.all()).unwrap();
    }

    fn front<E: Pod>(&self, case: Case, largest: u32) -> (RopeKvWrite<'_>, Rotated<'_, E>) {
        let [q, k, v, cosine, sine] = &self.inputs;
        let Case { heads, kv_heads, head_size, rotated, rows, .. } = case;
        let input = RopeKvWrite {
            q: q.all(),
            k: k.all(),
            v: v.all(),
            cosine: cosine.all(),
            sine: sine.all(),
            heads,
            kv_heads,
            head_size,
            rotated,
            rows,
            position: self.at(largest),
            context: CONTEXT,
        };
        let (q_rope, k_rope) = (self.q_rope.all(), self.k_rope.all());
        (input, Rotated { q_rope, k_rope, keys: self.keys.all(), values: self.values.all() })
    }

    fn rope_kv_write<E: Pod>(&self, case: Case) {
        let (input, out) = self.front::<E>(case, case.first);
        self.kernels.rope_kv_write(input, out).unwrap();
    }

    /// `attention_split`, with what stands in front of attention and in fixed point as well where
    /// that is wanted.
    fn split<E: Pod>(&self, case: Case, has_front: bool, fixed: Option<&Fixed>) {
        let largest = case.first + AHEAD;
        let Case { heads, head_size, rows, .. } = case;
        let count = u64::from(rows * heads * chunks_count(largest, rows));
        let device = self.kernels.device();
        let allocate = |count: u64| device.allocate::<f32>("chunks", count).unwrap();
        let space = [count, count, count * u64::from(head_size)].map(allocate);
        let [maxima, totals, sums] = [0, 1, 2].map(|index: usize| space[index].all());
        let counters = vec![0_u32; arrivals_count(heads * head_size, rows) as usize];
        let arrivals = device.upload("arrivals", &counters).unwrap();
        let chunks = Chunks { maxima, totals, sums, arrivals: arrivals.all() };
        self.out.all().write(&vec![f32::NAN; case.q_count()]).unwrap();
        let front = has_front.then(|| self.front::<E>(case, largest));
        let (input, fixed) = (self.attention::<E>(case, largest), fixed.map(Fixed::view));
        self.kernels.attention_split(input, front, chunks, self.out.all(), fixed).unwrap();
        let mut after = vec![1_u32; counters.len()];
        arrivals.read(0, &mut after).unwrap();
        assert_eq!(after, counters, "counters behind a launch");
    }
}

/// What is compared in a case.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kinds {
    Rope,
    Tiles,
    Split { block: u32, group: u32, activations: Activations },
}

fn check<E: Pod>(seed: u64, case: Case, kv: KvType, kinds: Kinds) {
    let mut numbers = Numbers(seed);
    let mut make = |count: usize| values(&mut numbers, count, case.inputs);
    let inputs =
        [case.q_count(), case.kv_count(case.rows), case.kv_count(case.rows)].map(&mut make);
    let before = [case.kv_count(case.first), case.kv_count(case.first)].map(&mut make);
    let angles = [0, 1].map(|_| numbers.floats((ANGLES * case.rotated / 2) as usize));
    let ([q, k, v], [cosine, sine]) = (inputs, angles);
    let inputs = [q, k, v, cosine, sine];
    let activations = match kinds {
        Kinds::Split { activations, .. } => activations,
        Kinds::Rope | Kinds::Tiles => Activations::I24,
    };
    let oracle = Side::new::<E>(&plain(), case, activations, kv, &inputs, &before);
    oracle.plain::<E>(case);
    let width = (case.heads * case.head_size) as usize;
    for device in waves() {
        let side = Side::new::<E>(&device, case, activations, kv, &inputs, &before);
        let lanes = device.describe().wave_lanes;
        let said = format!("{case:?} {kv:?} {kinds:?}, waves of {lanes}, seed {seed}");
        let rotated = |side: &Side, said: &str| {
            assert!(canonical::<f32>(&side.q_rope) == canonical::<f32>(&oracle.q_rope), "q {said}");
            assert!(canonical::<f32>(&side.k_rope) == canonical::<f32>(&oracle.k_rope), "k {said}");
            assert!(canonical::<E>(&side.keys) == canonical::<E>(&oracle.keys), "keys {said}");
            let values = canonical::<E>(&side.values) == canonical::<E>(&oracle.values);
            assert!(values, "values {said}");
        };
        side.rope_kv_write::<E>(case);
        rotated(&side, &said);
        let expected = canonical::<f32>(&oracle.out);
        if kinds == Kinds::Tiles {
            let input = side.attention::<E>(case, case.first + AHEAD);
            side.kernels.attention_tiles(input, side.out.all()).unwrap();
            assert!(canonical::<f32>(&side.out) == expected, "tiles {said}");
        }
        let Kinds::Split { block, group, .. } = kinds else { continue };
        side.split::<E>(case, false, None);
        assert!(canonical::<f32>(&side.out) == expected, "split {said}");
        let side = Side::new::<E>(&device, case, activations, kv, &inputs, &before);
        side.split::<E>(case, true, None);
        rotated(&side, &format!("in the same launch, {said}"));
        assert!(canonical::<f32>(&side.out) == expected, "rope and split {said}");
        if !width.is_multiple_of(block as usize) {
            continue;
        }
        let fixed = Fixed::allocate(&side.kernels, case.q_count(), block, group);
        side.split::<E>(case, true, Some(&fixed));
        assert!(canonical::<f32>(&side.out) == expected, "split and quantise {said}");
        let mut out = vec![0.0_f32; case.q_count()];
        oracle.out.all().read(&mut out).unwrap();
        let due = quantised(&oracle.kernels, &out, width, block, group);
        assert!(fixed.bytes() == due.bytes(), "fixed point {said}");
    }
}

fn check_both(seed: u64, case: Case, kinds: Kinds) {
    check::<f32>(seed, case, KvType::F32, kinds);
    check::<u16>(seed, case, KvType::F16, kinds);
}

#[test]
fn rope_kv_write_is_rope_and_kv_write() {
    use Inputs::{Extreme, Ordinary, Wild};
    for (seed, case) in [
        Case::new([1, 1], 2, 0, 1, Ordinary),
        Case::new([9, 3], 16, 63, 2, Extreme),
        Case { rotated: 64, ..Case::new([3, 1], 80, 1, 130, Wild) },
        Case::new([4, 4], 64, 130, 33, Ordinary),
        Case::new([8, 1], 128, 64, 1, Extreme),
        Case { rotated: 0, ..Case::new([1, 1], 256, 65, 65, Wild) },
    ]
    .into_iter()
    .enumerate()
    {
        check_both(seed as u64, case, Kinds::Rope);
    }
}

#[test]
fn attention_split_is_rope_kv_write_attention_and_quantise() {
    use Inputs::{Extreme, Ordinary, Wild};
    let fixed = |block, group, activations| Kinds::Split { block, group, activations };
    let (i8, i16, i24) = (Activations::I8, Activations::I16, Activations::I24);
    for (seed, (case, kinds)) in [
        (Case::new([1, 1], 2, 0, 1, Ordinary), fixed(32, 32, i24)),
        (Case::new([16, 16], 2, 300, 2, Extreme), fixed(32, 16, i8)),
        (Case::new([9, 3], 16, 63, 2, Extreme), fixed(32, 32, i16)),
        (Case::new([9, 3], 64, 64, 1, Wild), fixed(32, 16, i24)),
        (Case { rotated: 64, ..Case::new([3, 1], 80, 63, 2, Wild) }, fixed(256, 16, i24)),
        (Case::new([4, 4], 64, 130, 1, Ordinary), fixed(256, 32, i24)),
        (Case::new([8, 1], 128, 300, 1, Extreme), fixed(256, 16, i16)),
        (Case::new([8, 2], 128, 65, 2, Wild), fixed(256, 32, i8)),
        (Case::new([8, 1], 128, 62, 2, Ordinary), fixed(32, 32, i24)),
        (Case::new([4, 4], 256, 130, 1, Extreme), fixed(256, 16, i24)),
        (Case::new([9, 1], 256, 300, 1, Wild), fixed(256, 32, i24)),
        (Case::new([20, 2], 130, 65, 1, Extreme), fixed(32, 32, i24)),
        (Case { rotated: 0, ..Case::new([1, 1], 128, 0, 2, Extreme) }, fixed(32, 16, i24)),
        (Case::new([32, 8], 128, 200, 1, Ordinary), fixed(256, 32, i24)),
        (Case::new([12, 4], 192, 191, 2, Ordinary), fixed(256, 32, i8)),
        // More chunks than a block has under way when it joins them, and with so many heads more
        // than it has factors of.
        (Case::new([32, 1], 64, 1151, 1, Ordinary), fixed(256, 32, i24)),
        (Case::new([256, 1], 2, 1100, 1, Extreme), fixed(256, 32, i8)),
    ]
    .into_iter()
    .enumerate()
    {
        check_both(seed as u64, case, kinds);
    }
}

#[test]
fn attention_in_tiles_is_attention() {
    use Inputs::{Extreme, Ordinary, Wild};
    for (seed, case) in [
        Case::new([1, 1], 64, 0, 1, Ordinary),
        Case::new([9, 3], 64, 63, 2, Extreme),
        Case::new([3, 1], 128, 1, 130, Ordinary),
        Case::new([3, 1], 64, 65, 130, Wild),
        Case::new([4, 4], 128, 0, 65, Extreme),
        Case::new([4, 4], 64, 130, 33, Ordinary),
        Case::new([8, 1], 64, 300, 64, Extreme),
        Case::new([8, 1], 128, 64, 1, Wild),
        Case::new([1, 1], 128, 62, 65, Wild),
        Case::new([1, 1], 128, 0, 300, Extreme),
    ]
    .into_iter()
    .enumerate()
    {
        check_both(seed as u64, case, Kinds::Tiles);
    }
}
