//! Section 2: `exp32`, on every lane.

use super::simd::{Kernel, LANES, Lanes, Level};

/// The largest argument with a finite result.
const ARGUMENT_MAX: f32 = f32::from_bits(0x42b1_7217);
/// Below it the result is zero.
const ARGUMENT_MIN: f32 = -104.0;
const LOG2_E: f32 = f32::from_bits(0x3fb8_aa3b);
const MINUS_LN2_HIGH: f32 = f32::from_bits(0xbf31_8000);
const MINUS_LN2_LOW: f32 = f32::from_bits(0x395e_8083);
const POLYNOMIAL: [f32; 6] = [
    f32::from_bits(0x3950_6967),
    f32::from_bits(0x3ab7_43ce),
    f32::from_bits(0x3c08_8908),
    f32::from_bits(0x3d2a_a9c1),
    f32::from_bits(0x3e2a_aaaa),
    f32::from_bits(0x3f00_0000),
];

/// `exp32` of sixteen values. Lanes out of range compute nonsense and are replaced at the end.
#[inline(always)]
pub(super) fn exp32_lanes<L: Lanes>(lanes: L, x: L::F32) -> L::F32 {
    let n = lanes.rint(lanes.mul(x, lanes.splat(LOG2_E)));
    let r = lanes.fma(n, lanes.splat(MINUS_LN2_HIGH), x);
    let r = lanes.fma(n, lanes.splat(MINUS_LN2_LOW), r);
    let mut p = lanes.splat(POLYNOMIAL[0]);
    for coefficient in &POLYNOMIAL[1..] {
        p = lanes.fma(p, r, lanes.splat(*coefficient));
    }
    let y = lanes.fma(p, lanes.mul(r, r), r);
    let y = lanes.add(y, lanes.splat(1.0));
    let n = lanes.to_i32(n);
    let n1 = lanes.shift_right(n, 1);
    let n2 = lanes.sub_i32(n, n1);
    let scaled = lanes.mul(y, lanes.power_of_two(n1));
    let result = lanes.mul(scaled, lanes.power_of_two(n2));
    let infinity = lanes.splat(f32::INFINITY);
    let result = lanes.select_greater(x, lanes.splat(ARGUMENT_MAX), infinity, result);
    let result = lanes.select_greater(lanes.splat(ARGUMENT_MIN), x, lanes.splat(0.0), result);
    lanes.select_nan(x, x, result)
}

struct Exp32<'a> {
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Exp32<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        for (x, out) in self.x.chunks(LANES).zip(self.out.chunks_mut(LANES)) {
            let mut padded = [0.0; LANES];
            padded[..x.len()].copy_from_slice(x);
            let y = lanes.store(exp32_lanes(lanes, lanes.load(&padded)));
            out.copy_from_slice(&y[..x.len()]);
        }
    }
}

/// `exp32` of every value.
pub(super) fn exp32(level: Level, x: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    level.run(Exp32 { x, out: &mut out });
    out
}
