//! Section 11: the gate of the feed-forward part.

use super::exponential::exp32_lanes;
use super::simd::{Kernel, LANES, Lanes};

/// `out = swiglu(gate, up)`.
pub(super) struct Swiglu<'a> {
    pub(super) gate: &'a [f32],
    pub(super) up: &'a [f32],
    pub(super) out: &'a mut [f32],
}

impl Kernel for Swiglu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let inputs = self.gate.chunks(LANES).zip(self.up.chunks(LANES));
        for (out, (gate, up)) in self.out.chunks_mut(LANES).zip(inputs) {
            let [gate, up] = [gate, up].map(|values| {
                let mut padded = [0.0; LANES];
                padded[..values.len()].copy_from_slice(values);
                lanes.load(&padded)
            });
            let power = exp32_lanes(lanes, lanes.mul(gate, lanes.splat(-1.0)));
            let gated = lanes.div(gate, lanes.add(lanes.splat(1.0), power));
            out.copy_from_slice(&lanes.store(lanes.mul(gated, up))[..out.len()]);
        }
    }
}
