//! Cases of exp32, each step of CONTRACT.md section 2 as it is written there.

use super::case::Case;
use super::operation::Operation;

/// CONTRACT.md section 2, evaluated by the compiler.
pub(super) const fn exp32(x: f32) -> f32 {
    if x.is_nan() {
        return f32::NAN;
    }
    if x > f32::from_bits(0x42b1_7217) {
        return f32::INFINITY;
    }
    if x < -104.0 {
        return 0.0;
    }
    let n = (x * f32::from_bits(0x3fb8_aa3b)).round_ties_even();
    let r = n.mul_add(f32::from_bits(0xbf31_8000), x);
    let r = n.mul_add(f32::from_bits(0x395e_8083), r);
    let coefficients = [0x3ab7_43ce, 0x3c08_8908, 0x3d2a_a9c1, 0x3e2a_aaaa, 0x3f00_0000];
    let mut p = f32::from_bits(0x3950_6967);
    let mut index = 0;
    while index < coefficients.len() {
        p = p.mul_add(r, f32::from_bits(coefficients[index]));
        index += 1;
    }
    let y = p.mul_add(r * r, r) + 1.0;
    let whole = n as i32;
    let half = whole >> 1;
    y * power_of_two(half) * power_of_two(whole - half)
}

const fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

const fn exponential(x: f32) -> Case {
    Case::float(Operation::Exponential, [x, 0.0, 0.0], exp32(x))
}

pub(super) static EXPONENTIAL: [Case; 20] = [
    exponential(0.0),
    exponential(-0.0),
    exponential(1.0),
    exponential(-1.0),
    exponential(0.5),
    exponential(-0.346_573_6),
    exponential(0.346_573_6),
    exponential(-2.718_281_8),
    exponential(3.141_592_7),
    exponential(10.1),
    exponential(-20.3),
    exponential(-50.7),
    exponential(88.7),
    // The last finite result and the first infinite one.
    exponential(f32::from_bits(0x42b1_7217)),
    exponential(f32::from_bits(0x42b1_7218)),
    // Denormal results, the least of them, and zero.
    exponential(-87.9),
    exponential(-95.3),
    exponential(-103.2),
    exponential(-104.1),
    exponential(f32::NEG_INFINITY),
];
