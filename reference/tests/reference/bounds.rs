//! Every element of every operation of `exact` lies within its derived bound of `wide`.
//!
//! The largest share of each bound that an error took is printed and held between a fiftieth and
//! the whole: a bound that nothing comes near could not fail.

use std::collections::BTreeMap;

use candle_core::Device;
use candle_core::quantized::ggml_file::qtensor_from_ggml;
use fixtures::values::{Family, Scales, Stream};
use reference::exact::{Level, ops};
use reference::{Activations, KvType, WeightType, bounds, wide};

/// No bound is looser than this many times the largest error seen.
const LOOSEST: f64 = 50.0;

const ACTIVATIONS: [Activations; 3] = [Activations::I24, Activations::I16, Activations::I8];

/// The largest share of each bound.
#[derive(Default)]
struct Shares(BTreeMap<String, f64>);

impl Shares {
    /// A share counts where the arithmetic is the ordinary one: where a block is zero because its
    /// values are below 2^-100, the bound is the value itself.
    fn add(&mut self, name: &str, actual: f32, expected: f64, bound: f64, case: &str) {
        // An overflow has its own answer, and no distance; nothing else is not a number.
        if expected.abs() + bound > f64::from(f32::MAX) {
            assert!(!actual.is_nan(), "{name} {case}: NaN, {expected:e} is due");
            return;
        }
        assert!(actual.is_finite(), "{name} {case}: {actual}, {expected:e} is due");
        let error = (f64::from(actual) - expected).abs();
        assert!(
            error <= bound,
            "{name} {case}: {actual:e} is {error:e} from {expected:e}: {bound:e}"
        );
        let share = if error == 0.0 { 0.0 } else { error / bound };
        let largest = self.0.entry(name.to_owned()).or_default();
        if !case.starts_with("Denormal") {
            *largest = largest.max(share);
        }
    }

    fn add_row(
        &mut self,
        name: &str,
        actual: &[f32],
        expected: &[f64],
        bounds: &[f64],
        case: &str,
    ) {
        assert_eq!(actual.len(), expected.len());
        assert_eq!(actual.len(), bounds.len());
        for (index, ((actual, expected), bound)) in
            actual.iter().zip(expected).zip(bounds).enumerate()
        {
            self.add(name, *actual, *expected, *bound, &format!("{case} [{index}]"));
        }
    }

    fn check(self, count: usize) {
        assert_eq!(self.0.len(), count);
        for (name, share) in self.0 {
            eprintln!("{name:<24} {share:.3} of its bound");
            assert!(share * LOOSEST >= 1.0, "{name}: {share} of its bound, which cannot fail");
        }
    }
}

#[test]
#[should_panic(expected = "rms_norm row 3 [1]: 2.000001e0 is")]
fn an_element_outside_its_bound_is_named() {
    let expected = [1.0, 2.0];
    let inside = [1.0_f32, 2.000_000_2];
    let bounds = [3e-7; 2];
    Shares::default().add_row("rms_norm", &inside, &expected, &bounds, "row 3");
    let outside = [1.0_f32, 2.000_001];
    Shares::default().add_row("rms_norm", &outside, &expected, &bounds, "row 3");
}

#[test]
#[should_panic(expected = "rope head 1 [0]: NaN, 1e0 is due")]
fn a_nan_is_outside_every_bound() {
    Shares::default().add_row("rope", &[f32::NAN], &[1.0], &[f64::MAX / 2.0], "head 1");
}

#[test]
#[should_panic(expected = "cannot fail")]
fn a_bound_that_nothing_comes_near_is_refused() {
    let mut shares = Shares::default();
    shares.add_row("swiglu", &[1.000_001], &[1.0], &[1e-3], "");
    shares.check(1);
}

/// The blocks' integers and scales, taken apart here, against candle's own reading of them.
#[test]
fn dequantised_blocks_are_candles_to_a_rounding() {
    let mut stream = Stream::new(29);
    for kind in WeightType::ALL {
        let count = 64 * 256;
        let blocks = count / kind.block_values();
        let bytes = stream.blocks(kind.to_candle(), Scales::Ordinary, blocks);
        let dims = vec![64, 256];
        let tensor = qtensor_from_ggml(kind.to_candle(), &bytes, dims, &Device::Cpu).unwrap();
        let theirs = tensor.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap();
        let theirs: Vec<f32> = theirs.to_vec1().unwrap();
        let mut ours = vec![0.0; count];
        wide::ops::dequantise(kind, &bytes, &mut ours);
        for (index, (theirs, ours)) in theirs.iter().zip(&ours).enumerate() {
            // candle rounds the product and the minimum too, where the contract has one fma.
            let parts = 4.0 * bounds::embed(*ours) + 2.0 * bounds::embed(LARGEST_PART);
            let difference = (f64::from(*theirs) - ours).abs();
            assert!(difference <= parts, "{} [{index}]: {theirs} and {ours}", kind.name());
        }
    }
}

/// d times the largest scale and integer, for scales of 1/64 at most.
const LARGEST_PART: f64 = 63.0 * 31.0 / 64.0;

fn wide_of(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// Values whose sums stay finite.
const FAMILIES: [Family; 5] =
    [Family::Ordinary, Family::Outlier, Family::Integers, Family::Denormal, Family::Zero];

#[test]
fn products_lie_within_their_bounds() {
    let mut shares = Shares::default();
    let mut stream = Stream::new(21);
    for kind in WeightType::ALL {
        for blocks in [1, 1, 1, 2, 3, 9, 20] {
            let columns = if kind.block_values() == 1 {
                64 * blocks - 7
            } else {
                kind.block_values() * blocks
            };
            for (family, scales) in FAMILIES
                .into_iter()
                .flat_map(|family| [(family, Scales::Ordinary), (family, Scales::Denormal)])
            {
                let rows = 24;
                let count = rows * columns / kind.block_values();
                let weights = stream.blocks(kind.to_candle(), scales, count);
                let x = stream.rows(family, 2 * columns, columns);
                let expected = wide::ops::product(kind, &weights, rows, &wide_of(&x));
                let matrix = ops::MatrixBytes { kind, bytes: &weights, rows, columns };
                for activations in ACTIVATIONS {
                    let actual = ops::product(Level::best(true), activations, matrix, &x);
                    let of = |x| {
                        let rows = weights.chunks(weights.len() / rows);
                        rows.map(move |row| bounds::product(kind, activations, row, x))
                    };
                    let limits: Vec<f64> = x.chunks(columns).flat_map(of).collect();
                    let digits = if kind.block_values() == 1 { "" } else { activations.name() };
                    let name = format!("product {} {digits}", kind.name());
                    let case = format!("{family:?} {scales:?} {blocks} blocks");
                    shares.add_row(name.trim_end(), &actual, &expected, &limits, &case);
                }
            }
        }
    }
    shares.check(3 + 10 * 3);
}

#[test]
fn activations_lie_within_their_bounds() {
    let mut shares = Shares::default();
    let mut stream = Stream::new(22);
    for family in FAMILIES {
        for block in [32, 256] {
            let x = stream.rows(family, 40 * block, block);
            for activations in ACTIVATIONS {
                let fixed = ops::quantise_activations(Level::best(true), activations, &x, block);
                let q = fixed.q();
                for (index, x) in x.chunks(block).enumerate() {
                    for (at, bound) in bounds::quantise(activations, x).into_iter().enumerate() {
                        // s q in f64: the product is exact there, and rounds nowhere.
                        let stood =
                            f64::from(fixed.scales[index]) * f64::from(q[index * block + at]);
                        let error = (stood - f64::from(x[at])).abs();
                        let name = format!("quantise {}", activations.name());
                        let case = format!("{family:?} {block} [{at}]");
                        assert!(error <= bound, "{name} {case}: {error:e} of {bound:e}");
                        let share = if error == 0.0 { 0.0 } else { error / bound };
                        let largest = shares.0.entry(name).or_default();
                        // A block below 2^-100 is zero by definition, and its bound is itself.
                        if family != Family::Denormal {
                            *largest = largest.max(share);
                        }
                    }
                }
            }
        }
    }
    shares.check(3);
}

#[test]
fn embeddings_lie_within_their_bounds() {
    let mut shares = Shares::default();
    let mut stream = Stream::new(23);
    for kind in WeightType::ALL {
        for scales in [Scales::Ordinary, Scales::AnyFinite, Scales::Denormal] {
            let columns = 4 * 256;
            let table = stream.blocks(kind.to_candle(), scales, 64 * columns / kind.block_values());
            let tokens: Vec<u32> = (0..64).collect();
            let matrix = ops::MatrixBytes { kind, bytes: &table, rows: 64, columns };
            let actual = ops::embed(matrix, &tokens);
            let expected = wide::ops::embed(kind, &table, columns, &tokens);
            let limits: Vec<f64> = expected.iter().map(|value| bounds::embed(*value)).collect();
            if kind.block_values() == 1 {
                assert_eq!(wide_of(&actual), expected, "{}: widening is exact", kind.name());
                continue;
            }
            let name = format!("embed {}", kind.name());
            shares.add_row(&name, &actual, &expected, &limits, &format!("{scales:?}"));
        }
    }
    // d times a small integer is exact in these types.
    for exact in ["embed Q4_0", "embed Q5_0", "embed Q8_0", "embed Q3_K", "embed Q6_K"] {
        assert_eq!(shares.0.remove(exact), Some(0.0), "{exact}");
    }
    shares.check(5);
}

#[test]
fn norms_lie_within_their_bounds() {
    let mut shares = Shares::default();
    let mut stream = Stream::new(24);
    for family in FAMILIES {
        for width in [1, 2, 3, 64, 256, 257, 576, 4096] {
            for eps in [1e-5_f32, 1e-6] {
                let x = stream.rows(family, 4 * width, width);
                let weight = stream.rows(Family::Ordinary, width, width);
                let actual = ops::rms_norm(Level::best(true), &x, &weight, eps);
                let expected = wide::ops::rms_norm(&wide_of(&x), &wide_of(&weight), eps);
                let rows = x.chunks(width).flat_map(|x| bounds::rms_norm(x, &weight, eps));
                let limits: Vec<f64> = rows.collect();
                let case = format!("{family:?} {width}");
                shares.add_row("rms_norm", &actual, &expected, &limits, &case);
            }
        }
    }
    shares.check(1);
}

#[test]
fn rotations_lie_within_their_bounds() {
    let mut shares = Shares::default();
    let mut stream = Stream::new(25);
    for family in FAMILIES {
        for position in [0, 1, 63, 64, 4095, 100_000] {
            for dimensions in [64, 48] {
                let rope = ops::Rope { head_size: 64, dimensions, base: 1e5, factors: None };
                let x = stream.rows(family, 4 * 64, 64);
                let actual = ops::rope(Level::best(true), rope, &x, 4 * 64, position);
                let frequencies = rope.frequencies();
                let expected = wide::ops::rope(&wide_of(&x), 64, &frequencies, position);
                let limits = bounds::rope(&x, 64, &frequencies, position);
                let case = format!("{family:?} at {position}");
                shares.add_row("rope", &actual, &expected, &limits, &case);
            }
        }
    }
    shares.check(1);
}

#[test]
fn attention_lies_within_its_bounds() {
    let mut shares = Shares::default();
    let mut stream = Stream::new(26);
    for (positions, repeats) in [(1, 40), (2, 40), (3, 40), (64, 8), (65, 8), (200, 4), (1000, 1)] {
        for spread in [0.01_f32, 1.0, 4.0, 20.0] {
            for (family, head_size) in FAMILIES.into_iter().flat_map(|f| [(f, 4), (f, 64)]) {
                for _ in 0..repeats {
                    let mut query = stream.rows(family, head_size, head_size);
                    query.iter_mut().for_each(|q| *q *= spread);
                    let count = positions * head_size;
                    let keys = stream.rows(Family::Ordinary, count, head_size);
                    let values = stream.rows(family, count, head_size);
                    check_attention(&mut shares, &query, &keys, &values);
                }
            }
        }
    }
    shares.check(1);
}

fn check_attention(shares: &mut Shares, query: &[f32], keys: &[f32], values: &[f32]) {
    let attention = ops::Attention {
        heads: 1,
        kv_heads: 1,
        head_size: query.len(),
        kv: KvType::F32,
        queries: query,
        keys,
        values,
    };
    let actual = ops::attention(Level::best(true), attention);
    let expected = wide::ops::attention(&wide_of(query), &wide_of(keys), &wide_of(values));
    let limits = bounds::attention(query, keys, values);
    let case = format!("{} keys of {}", keys.len() / query.len(), query.len());
    shares.add_row("attention", &actual, &expected, &limits, &case);
}

/// One key has weight 1, so attention gives its value back as the cache has it.
#[test]
fn a_cache_in_f16_lies_within_its_bound() {
    let mut shares = Shares::default();
    let mut stream = Stream::new(28);
    for family in [Family::Ordinary, Family::Integers, Family::Denormal] {
        let values = stream.rows(family, 4096, 4096);
        let ones = vec![1.0; values.len()];
        let attention = ops::Attention {
            heads: 1,
            kv_heads: 1,
            head_size: values.len(),
            kv: KvType::F16,
            queries: &ones,
            keys: &ones,
            values: &values,
        };
        let actual = ops::attention(Level::best(true), attention);
        let expected = wide_of(&values);
        let limits: Vec<f64> = expected.iter().map(|value| bounds::kv_f16(*value)).collect();
        shares.add_row("kv_write f16", &actual, &expected, &limits, &format!("{family:?}"));
    }
    shares.check(1);
}

#[test]
fn gates_sums_and_exponentials_lie_within_their_bounds() {
    let mut shares = Shares::default();
    let mut stream = Stream::new(27);
    for (one, two) in FAMILIES.into_iter().flat_map(|one| FAMILIES.map(|two| (one, two))) {
        let (gate, up) = (stream.rows(one, 5000, 5000), stream.rows(two, 5000, 5000));
        let (gates, ups) = (wide_of(&gate), wide_of(&up));
        let pairs = || gates.iter().zip(&ups);
        let case = format!("{one:?} {two:?}");
        let limits: Vec<f64> = pairs().map(|(gate, up)| bounds::swiglu(*gate, *up)).collect();
        let actual = ops::swiglu(Level::best(true), &gate, &up);
        for (index, expected) in wide::ops::swiglu(&gates, &ups).into_iter().enumerate() {
            // Where exp32(-gate) is infinite the result is 0, and the bound the value itself: that
            // share is 1 by definition, and left out.
            let vanished = gates[index] < -88.722_83;
            let case = if vanished { "Denormal" } else { &*case };
            shares.add("swiglu", actual[index], expected, limits[index], case);
        }
        let limits: Vec<f64> = pairs().map(|(one, two)| bounds::add(*one, *two)).collect();
        let actual = ops::add(&gate, &up);
        shares.add_row("residual", &actual, &wide::ops::add(&gates, &ups), &limits, &case);
    }
    let x: Vec<f32> = (0..200_000).map(|step| step as f32 * 1e-3 - 110.0).collect();
    let x: Vec<f32> = x.into_iter().filter(|x| *x <= 88.722_83).collect();
    let expected: Vec<f64> = x.iter().map(|x| f64::from(*x).exp()).collect();
    let limits: Vec<f64> = x.iter().map(|x| bounds::exp32(f64::from(*x))).collect();
    shares.add_row("exp32", &ops::exp32(Level::best(true), &x), &expected, &limits, "");
    shares.check(3);
}
