//! Section 4: the RMS norm of one row.

use super::simd::{Kernel, LANES, Lanes};

/// How many partial sums the squares go into.
const PARTIALS: usize = 256;
/// The vectors that hold them.
const VECTORS: usize = PARTIALS / LANES;

/// `out = norm(x) * weight`.
pub(super) struct RmsNorm<'a> {
    pub(super) x: &'a [f32],
    pub(super) weight: &'a [f32],
    pub(super) eps: f32,
    pub(super) out: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let mut sums = [lanes.splat(0.0); VECTORS];
        for stripe in self.x.chunks(PARTIALS) {
            for (sum, values) in sums.iter_mut().zip(stripe.chunks(LANES)) {
                // A zero adds nothing to a partial sum, which is never negative zero.
                let mut padded = [0.0; LANES];
                padded[..values.len()].copy_from_slice(values);
                let x = lanes.load(&padded);
                *sum = lanes.fma(x, x, *sum);
            }
        }
        let mut half = VECTORS / 2;
        while half > 0 {
            for index in 0..half {
                sums[index] = lanes.add(sums[index], sums[index + half]);
            }
            half /= 2;
        }
        let mut sums = lanes.store(sums[0]);
        let mut half = LANES / 2;
        while half > 0 {
            for index in 0..half {
                sums[index] += sums[index + half];
            }
            half /= 2;
        }
        let r = 1.0 / (sums[0] / self.x.len() as f32 + self.eps).sqrt();
        for ((out, x), weight) in self.out.iter_mut().zip(self.x).zip(self.weight) {
            *out = (x * r) * weight;
        }
    }
}
