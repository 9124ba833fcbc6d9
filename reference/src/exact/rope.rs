//! Section 8: the rotary embedding of one row.

use super::simd::{Kernel, Lanes};

/// Cosines and sines of each pair for consecutive positions, from `first_position`.
#[derive(Default)]
pub(super) struct Rotations {
    first_position: usize,
    pairs: usize,
    table: Vec<[f32; 2]>,
}

impl Rotations {
    /// Computes the table for `rows` positions.
    pub(super) fn new(frequencies: &[f64], first_position: usize, rows: usize) -> Self {
        let mut table = Vec::with_capacity(rows * frequencies.len());
        for position in first_position..first_position + rows {
            for frequency in frequencies {
                let angle = position as f64 * frequency;
                table.push([libm::cos(angle) as f32, libm::sin(angle) as f32]);
            }
        }
        Self { first_position, pairs: frequencies.len(), table }
    }

    /// The cosines and sines of a position, pair by pair.
    pub(super) fn position(&self, position: usize) -> &[[f32; 2]] {
        &self.table[(position - self.first_position) * self.pairs..][..self.pairs]
    }
}

/// Rotates every head of a row in place.
pub(super) struct Rotate<'a> {
    pub(super) row: &'a mut [f32],
    pub(super) head_size: usize,
    pub(super) rotations: &'a [[f32; 2]],
}

impl Kernel for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) {
        for head in self.row.chunks_exact_mut(self.head_size) {
            let pairs = head.as_chunks_mut().0.iter_mut();
            for (pair, [cosine, sine]) in pairs.zip(self.rotations) {
                let [x0, x1]: [f32; 2] = *pair;
                *pair = [x0.mul_add(*cosine, -(x1 * sine)), x0.mul_add(*sine, x1 * cosine)];
            }
        }
    }
}
