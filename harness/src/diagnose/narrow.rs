//! The ways to make a float narrower, shared by all that may have been kept in fewer bits.

use half::{bf16, f16};

/// Its name in reports, and what is left of a value.
pub(super) type Narrowing = (&'static str, fn(f32) -> f32);

/// From the likely to the strange.
pub(super) const NARROWINGS: [Narrowing; 5] = [
    ("f16 by truncation", f16_towards_zero),
    ("f16 by nearest even", |value| f16::from_f32(value).to_f32()),
    ("bf16 by nearest even", |value| bf16::from_f32(value).to_f32()),
    ("bf16 by truncation", |value| f32::from_bits(value.to_bits() & 0xffff_0000)),
    ("19 bits by truncation", |value| f32::from_bits(value.to_bits() & 0xffff_e000)),
];

/// The nearest f16 towards zero.
fn f16_towards_zero(value: f32) -> f32 {
    let near = f16::from_f32(value);
    if near.to_f32().abs() > value.abs() {
        f16::from_bits(near.to_bits() - 1).to_f32()
    } else {
        near.to_f32()
    }
}
