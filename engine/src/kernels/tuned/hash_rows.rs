//! `hash_rows`: digests of rows that stay on the device.

use super::super::{Kernels, grid};
use crate::device::{Access, Device, DeviceError, Kernel, Span, View};
use bytemuck::{Pod, Zeroable};

/// Tensors of one launch; `HASH_TENSORS` in `hash_rows.hip`.
pub(crate) const TENSORS: usize = 64;

/// What a tap says of one row without the row; `RowDigest` in `hash_rows.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct RowDigest {
    /// The hash of CONTRACT.md section 13.
    pub hash: u64,
    /// How many values are NaN.
    pub nan_count: u32,
    /// How many are infinite.
    pub infinity_count: u32,
    /// The least value that is no NaN.
    pub least: f32,
    /// The greatest value that is no NaN.
    pub greatest: f32,
    /// Values in the row.
    pub width: u32,
    /// 1 when the digest was taken.
    pub written: u32,
}

const _: () = assert!(size_of::<RowDigest>() == 32);

/// `HashRowsArguments` in `hash_rows.hip`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    values: [Span; TENSORS],
    out: Span,
    widths: [u32; TENSORS],
    rows: [u32; TENSORS],
    records: [u32; TENSORS],
    firsts: [u32; TENSORS],
}

/// A tensor whose rows are digested.
#[derive(Clone, Copy, Debug)]
pub struct HashTensor<'a> {
    /// `[rows][width]`.
    pub values: View<'a, f32>,
    /// Values in a row.
    pub width: u32,
    /// Number of rows.
    pub rows: u32,
    /// Where the digest of row 0 goes; those of the other rows follow.
    pub record: u32,
    /// Where in its row the first value is: 0, but for the later pieces of a row.
    pub first: u32,
}

impl RowDigest {
    /// The digest of a row from those of its pieces.
    ///
    /// # Panics
    /// With no piece.
    pub fn joined(pieces: &[Self]) -> Self {
        let join = |a: Self, b: &Self| Self {
            hash: a.hash.wrapping_add(b.hash),
            nan_count: a.nan_count + b.nan_count,
            infinity_count: a.infinity_count + b.infinity_count,
            least: a.least.min(b.least),
            greatest: a.greatest.max(b.greatest),
            width: a.width + b.width,
            // One that is missing is missing from the whole.
            written: if a.written == 1 { b.written } else { a.written },
        };
        let (first, rest) = pieces.split_first().expect("a row has a piece");
        rest.iter().fold(*first, join)
    }
}

pub(super) fn load(device: &Device) -> Result<Kernel, DeviceError> {
    device.kernel::<Arguments>("hash_rows")
}

impl Kernels {
    /// Writes one digest a row into `out`.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short.
    ///
    /// # Panics
    /// With no tensor, or more than sixty-four.
    pub fn hash_rows(
        &self,
        tensors: &[HashTensor<'_>],
        out: View<'_, RowDigest>,
    ) -> Result<(), DeviceError> {
        assert!((1..=TENSORS).contains(&tensors.len()), "{} tensors", tensors.len());
        let kernel = &self.tuned().hash_rows;
        let place = |index: usize| {
            let tensor = tensors[index.min(tensors.len() - 1)];
            HashTensor { rows: if index < tensors.len() { tensor.rows } else { 0 }, ..tensor }
        };
        let mut accesses = Vec::with_capacity(TENSORS + 1);
        for tensor in (0..TENSORS).map(place) {
            let count = u64::from(tensor.rows) * u64::from(tensor.width);
            accesses.push(Access::read("values", tensor.values, count));
        }
        let last = |tensor: &HashTensor<'_>| u64::from(tensor.record) + u64::from(tensor.rows);
        let records = tensors.iter().map(last).max().unwrap_or(0);
        accesses.push(Access::update("out", out, records));
        let places: [usize; TENSORS] = std::array::from_fn(|index| index);
        let arguments = Arguments {
            values: places.map(|index| accesses[index].span()),
            out: accesses[TENSORS].span(),
            widths: places.map(|index| place(index).width),
            rows: places.map(|index| place(index).rows),
            records: places.map(|index| place(index).record),
            firsts: places.map(|index| place(index).first),
        };
        let rows = tensors.iter().map(|tensor| tensor.rows).max().unwrap_or(0);
        let grid = grid(kernel, tensors.len() as u64, u64::from(rows))?;
        self.device.launch(kernel, grid, &accesses, &arguments)
    }
}
