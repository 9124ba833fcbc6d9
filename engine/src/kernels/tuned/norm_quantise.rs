//! `norm_quantise`: residual, norm and fixed point in one launch.

use super::super::quantise::{FixedPoint, FixedPointOut};
use super::super::{Kernels, grid};
use super::{SLICE, aligned};
use crate::device::{Access, Device, DeviceError, Kernel, Span, View};
use bytemuck::{Pod, Zeroable};

/// From this many rows on there are blocks enough without cutting rows.
const WHOLE_ROWS: u32 = 64;

/// `NormQuantiseArguments` in `norm_quantise.hip`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    x: Span,
    branch: Span,
    weight: Span,
    stream: Span,
    norm: Span,
    fixed: FixedPointOut,
    width: u32,
    rows: u32,
    slices: u32,
    epsilon: f32,
}

/// A branch and where its sum with the stream goes.
#[derive(Clone, Copy, Debug)]
pub struct Branch<'a> {
    /// `[rows][width]`: what is added.
    pub branch: View<'a, f32>,
    /// `[rows][width]`: the sum.
    pub stream: View<'a, f32>,
}

/// Inputs of [`Kernels::norm_quantise`].
#[derive(Clone, Copy, Debug)]
pub struct NormQuantise<'a> {
    /// `[rows][width]`.
    pub x: View<'a, f32>,
    /// What is added to `x` before the norm, if anything is.
    pub branch: Option<Branch<'a>>,
    /// `[width]`.
    pub weight: View<'a, f32>,
    /// Values in a row.
    pub width: u32,
    /// Number of rows.
    pub rows: u32,
    /// Added to the mean of squares.
    pub epsilon: f32,
}

pub(super) fn load(device: &Device) -> Result<Kernel, DeviceError> {
    device.kernel::<Arguments>("norm_quantise")
}

/// What a norm into `norm` reaches, but for its fixed point.
pub(super) fn accesses(input: &NormQuantise<'_>, norm: View<'_, f32>) -> [Access; 5] {
    let NormQuantise { x, branch, weight, width, rows, .. } = *input;
    let count = u64::from(rows) * u64::from(width);
    let branch_count = if branch.is_some() { count } else { 0 };
    let Branch { branch, stream } = branch.unwrap_or(Branch { branch: x, stream: norm });
    [
        Access::read("x", x, count),
        Access::read("branch", branch, branch_count),
        Access::read("weight", weight, u64::from(width)),
        Access::write("stream", stream, branch_count),
        Access::write("norm", norm, count),
    ]
}

impl Kernels {
    /// `norm[rows][width]`, and the same in fixed point where `fixed` is given.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short for the shape.
    pub fn norm_quantise(
        &self,
        input: NormQuantise<'_>,
        norm: View<'_, f32>,
        fixed: Option<FixedPoint<'_>>,
    ) -> Result<(), DeviceError> {
        let NormQuantise { x, branch, weight, width, rows, epsilon } = input;
        let kernel = &self.tuned().norm_quantise;
        let added = branch.map_or([x, x], |Branch { branch, stream }| [branch, stream]);
        // Other rows are read value by value.
        if width.is_multiple_of(4) {
            for view in [x, weight, norm].into_iter().chain(added) {
                aligned(kernel, view)?;
            }
        }
        let accesses = accesses(&input, norm).to_vec();
        let (accesses, fixed) = self.with_fixed(kernel, accesses, fixed, width, rows)?;
        let [x, branch, weight, stream, norm] =
            [0, 1, 2, 3, 4].map(|index: usize| accesses[index].span());
        let all = u64::from(width).div_ceil(SLICE);
        let slices = if rows < WHOLE_ROWS { 1 } else { all };
        let arguments = Arguments {
            x,
            branch,
            weight,
            stream,
            norm,
            fixed,
            width,
            rows,
            slices: u32::try_from(slices).expect("a row has fewer than 2^32 slices"),
            epsilon,
        };
        let grid = grid(kernel, all.div_ceil(slices), u64::from(rows))?;
        self.device.launch(kernel, grid, &accesses, &arguments)
    }
}
