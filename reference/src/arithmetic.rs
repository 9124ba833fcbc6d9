//! What a mode has to know: the operations of the contract's section 12, over candle tensors.

use std::marker::PhantomData;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, WithDType};
use rayon::prelude::*;

use crate::file::{Loaded, Stored};

/// One arithmetic for the forward pass. Activations are tensors of `[1, rows, width]`.
pub(crate) trait Arithmetic: Send {
    /// A vector of weights: a norm's.
    type Vector: Send;
    /// A matrix of weights.
    type Matrix: Send;
    /// The embedding.
    type Table: Send;

    fn vector(&self, stored: Stored) -> Loaded<Self::Vector>;
    fn matrix(&self, stored: Stored) -> Loaded<Self::Matrix>;
    /// The embedding, and the same weights as a matrix when it is `tied` to the output.
    fn table(&self, stored: Stored, tied: bool) -> Loaded<(Self::Table, Option<Self::Matrix>)>;

    /// Called before the operations of a chunk.
    fn begin(&mut self, first_position: usize, rows: usize) -> Result<()>;
    fn embed(&self, table: &Self::Table, tokens: &[u32]) -> Result<Tensor>;
    fn rms_norm(&self, x: &Tensor, weight: &Self::Vector) -> Result<Tensor>;
    /// The products of one input with several matrices.
    fn products<const N: usize>(
        &self,
        x: &Tensor,
        matrices: [&Self::Matrix; N],
    ) -> Result<[Tensor; N]>;
    fn rope(&self, x: &Tensor, first_position: usize) -> Result<Tensor>;
    /// Appends `k` and `v` to the layer's cache, then attends from `q`.
    fn attention(
        &mut self,
        layer: usize,
        rotated: [&Tensor; 2],
        v: &Tensor,
        first_position: usize,
    ) -> Result<Tensor>;
    fn swiglu(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor>;
    fn add(&self, stream: &Tensor, branch: &Tensor) -> Result<Tensor>;
    /// Forgets every position.
    fn reset(&mut self);
}

/// A custom operation of candle made of a function from values to values.
pub(crate) struct Operation<T, F> {
    name: &'static str,
    function: F,
    values: PhantomData<T>,
}

impl<T, F> Operation<T, F> {
    pub(crate) const fn new(name: &'static str, function: F) -> Self {
        Self { name, function, values: PhantomData }
    }
}

impl<T: WithDType, F: Fn(&[T]) -> (Vec<T>, Shape)> CustomOp1 for Operation<T, F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (out, shape) = (self.function)(contiguous(storage, layout)?);
        Ok((T::to_cpu_storage_owned(out), shape))
    }
}

impl<T: WithDType, F: Fn(&[T], &[T]) -> (Vec<T>, Shape)> CustomOp2 for Operation<T, F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (out, shape) = (self.function)(contiguous(s1, l1)?, contiguous(s2, l2)?);
        Ok((T::to_cpu_storage_owned(out), shape))
    }
}

fn contiguous<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("the input is not contiguous")
    };
    Ok(&storage.as_slice::<T>()?[start..end])
}

/// Cuts the results of several products, one after the other in one tensor, into a tensor each.
pub(crate) fn cut<const N: usize>(
    joined: &Tensor,
    rows: usize,
    widths: [usize; N],
) -> Result<[Tensor; N]> {
    let mut parts = Vec::with_capacity(N);
    let mut start = 0;
    for width in widths {
        parts.push(joined.narrow(0, start, rows * width)?.reshape((1, rows, width))?);
        start += rows * width;
    }
    Ok(parts.try_into().expect("one part a width"))
}

/// Below this many values a loop over rows stays on its thread.
const PARALLEL_VALUES_MIN: usize = 8192;

/// Runs `function` on every row of `out`, in parallel when there is enough to do.
pub(crate) fn for_each_row<T: Send>(
    out: &mut [T],
    width: usize,
    function: impl Fn(usize, &mut [T]) + Sync,
) {
    if out.len() < PARALLEL_VALUES_MIN {
        out.chunks_mut(width).enumerate().for_each(|(index, row)| function(index, row));
    } else {
        out.par_chunks_mut(width).enumerate().for_each(|(index, row)| function(index, row));
    }
}
