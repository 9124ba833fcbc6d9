//! `product_stream`: products of one row with up to three matrices, whose weights come through
//! shared memory.

use super::super::product::load_named;
use super::super::quantise::{FixedPoint, FixedPointOut};
use super::super::{Kernels, grid};
use super::norm_quantise::{self, NormQuantise};
use super::product_wave::{MATRICES as WAVE_MATRICES, ProductWave, Products, WaveMatrix};
use crate::device::{Access, Device, DeviceError, Kernel, Pool, Span, View};
use crate::gguf::TensorType;
use crate::options::Activations;
use bytemuck::{Pod, Zeroable};

/// Outputs of a tile; `STREAM_OUTPUTS` in `streamed.h`.
const OUTPUTS: u64 = 16;
/// Blocks of a chunk; `STREAM_BLOCKS` there.
const CHUNK_BLOCKS: u64 = 4;
/// Lanes of a wave where this kernel is served.
const LANES: u32 = 32;
/// With less shared memory a multiprocessor may get two blocks of threads of a launch that begins
/// early, while another has none.
const EXCLUSIVE_BYTES: u64 = 116 << 10;
/// Threads of a block where more leave a long row too little memory.
const FEWER_THREADS: u32 = 384;
/// Values of a block of SwiGLU in fixed point.
const GATED_BLOCK: u32 = 256;
/// Sums of squares that a norm adds up at the end; `BLOCK_THREADS` in `platform.h`.
const PARTIAL_SUMS: u64 = 256;
/// A block of threads keeps the chunks' sums of its tiles up to here, and more blocks share them
/// beyond.
const CHUNK_SUMS_BYTES: u64 = 16 << 10;

/// `ProductStreamArguments` in `stream_row.h`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Arguments {
    weights: [Span; WAVE_MATRICES],
    out: [Span; WAVE_MATRICES],
    digits: Span,
    scales: Span,
    sums: Span,
    x: Span,
    branch: Span,
    weight: Span,
    stream: Span,
    norm: Span,
    gated: Span,
    arrivals: Span,
    fixed: FixedPointOut,
    gated_fixed: FixedPointOut,
    outputs: [u32; WAVE_MATRICES],
    width: u32,
    stride: u32,
    pool_bytes: u32,
    threads: u32,
    epsilon: f32,
}

/// A norm in front of a product, and where it goes.
pub(super) type Norm<'a> = (NormQuantise<'a>, View<'a, f32>);

/// Where SwiGLU of two products goes.
#[derive(Clone, Copy, Debug)]
pub struct Gated<'a> {
    /// `[outputs]`.
    pub out: View<'a, f32>,
    /// The same in blocks of 256 and groups of 32.
    pub fixed: FixedPoint<'a>,
    /// As many as [`gate_arrivals_count`] says: zeros, before a launch and after it.
    pub arrivals: View<'a, u32>,
}

/// Counters of arrivals for SwiGLU of `outputs` values.
pub fn gate_arrivals_count(outputs: u32) -> u32 {
    outputs.div_ceil(GATED_BLOCK)
}

/// What a launch does beside products.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ends {
    pub(super) has_norm: bool,
    /// Two matrices of as many outputs, whose tiles take turns.
    pub(super) is_gated: bool,
}

impl Ends {
    /// Tiles that a block of threads takes at a time.
    fn each(self) -> u64 {
        if self.is_gated { 2 } else { 1 }
    }
}

const NAMES: [(TensorType, [&str; 3]); 3] =
    names!("product_stream": Q4K "q4_k", Q5K "q5_k", Q6K "q6_k");

pub(super) fn load(
    device: &Device,
    activations: Activations,
) -> Result<Vec<(TensorType, Kernel)>, DeviceError> {
    load_where_pools::<Arguments>(device, activations, &NAMES)
}

/// Kernels that need a pool of shared memory: none where the device has no pools.
pub(super) fn load_where_pools<A: Pod>(
    device: &Device,
    activations: Activations,
    names: &[(TensorType, [&'static str; 3])],
) -> Result<Vec<(TensorType, Kernel)>, DeviceError> {
    if device.attributes().pool.is_none() {
        return Ok(Vec::new());
    }
    load_named::<A>(device, activations, names)
}

/// A launch's blocks of threads, and bytes of shared memory in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) stride: u32,
    pub(super) pool: Pool,
}

/// How many tiles, or pairs of them, a block of threads keeps the chunks' sums of at most, and the
/// bytes of one.
fn kept(blocks: u64, ends: Ends) -> (u64, u64) {
    let bytes = blocks.div_ceil(CHUNK_BLOCKS) * OUTPUTS * 4 * ends.each();
    ((CHUNK_SUMS_BYTES / bytes.max(1)).max(1), bytes)
}

/// Tiles of matrices of so many outputs.
pub(super) fn tiles(outputs: impl Iterator<Item = u32>) -> u64 {
    outputs.map(|outputs| u64::from(outputs).div_ceil(OUTPUTS)).sum()
}

/// `StreamShared` in `stream_row.h`, or `None` where rows are no whole pieces of 16 bytes.
pub(super) fn plan(
    kind: TensorType,
    digit_count: u64,
    width: u32,
    outputs: impl Iterator<Item = u32>,
    (multiprocessors, threads): (u32, u32),
    ends: Ends,
) -> Option<Plan> {
    let width = u64::from(width);
    let blocks = width / kind.block_values();
    // `Streamed<Format>`: STRIDE, STAGES; then what a block of the activation has beside digits.
    let (row, stages, block_bytes) = match kind {
        TensorType::Q4K => (288, 2, 32),
        TensorType::Q5K => (352, 2, 32),
        TensorType::Q6K => (224, 2, 0),
        _ => return None,
    };
    if !(blocks * kind.block_bytes()).is_multiple_of(16) {
        return None;
    }
    let tiles = tiles(outputs) / ends.each();
    let (most, tile_bytes) = kept(blocks, ends);
    // Every multiprocessor has one block, or as many as keep few enough tiles, one after another.
    let together = u64::from(multiprocessors).min(tiles).max(1);
    let stride = together * tiles.div_ceil(together).div_ceil(most);
    let stride = stride.min(tiles).max(1);
    let bytes = u64::from(threads / LANES) * stages * OUTPUTS * row
        + digit_count * (width + 32)
        + blocks.next_multiple_of(4) * 4
        + blocks * block_bytes
        + if ends.has_norm { (2 * width + PARTIAL_SUMS) * 4 } else { 0 }
        + tiles.div_ceil(stride) * tile_bytes;
    let bytes = u32::try_from(bytes.max(EXCLUSIVE_BYTES)).ok()?;
    Some(Plan { stride: u32::try_from(stride).ok()?, pool: Pool { bytes, threads } })
}

impl Kernels {
    /// Whether [`Kernels::product_stream`] serves this shape on this device.
    pub fn serves_product_stream(&self, kind: TensorType, width: u32, rows: u32) -> bool {
        self.serves_stream((kind, width, rows), Ends::default())
    }

    /// Whether [`Kernels::norm_product_stream`] does.
    pub fn serves_norm_product_stream(&self, kind: TensorType, width: u32, rows: u32) -> bool {
        self.serves_stream((kind, width, rows), Ends { has_norm: true, is_gated: false })
    }

    /// Whether [`Kernels::norm_gate_stream`] does, for gate and up of `outputs` each.
    pub fn serves_norm_gate_stream(
        &self,
        kind: TensorType,
        (width, outputs): (u32, u32),
        rows: u32,
    ) -> bool {
        let ends = Ends { has_norm: true, is_gated: true };
        outputs.is_multiple_of(GATED_BLOCK) && self.serves_stream((kind, width, rows), ends)
    }

    pub(super) fn serves_stream(
        &self,
        (kind, width, rows): (TensorType, u32, u32),
        ends: Ends,
    ) -> bool {
        let has = self.tuned().product_stream.iter().any(|(candidate, _)| *candidate == kind);
        let fits = |outputs| self.stream_plan(kind, width, [outputs].into_iter(), ends).is_some();
        // As many tiles as a block of threads ever keeps: no other outputs take more memory.
        let (most, _) = kept(u64::from(width) / kind.block_values(), ends);
        let tiles = u64::from(self.multiprocessors) * most * ends.each();
        rows == 1 && has && u32::try_from(tiles * OUTPUTS).is_ok_and(fits)
    }

    pub(super) fn stream_plan(
        &self,
        kind: TensorType,
        width: u32,
        outputs: impl Iterator<Item = u32> + Clone,
        ends: Ends,
    ) -> Option<Plan> {
        let digit_count = self.activations().digit_count() as u64;
        let [plan] = self.plans_that_fit(|threads| {
            let here = (self.multiprocessors, threads);
            plan(kind, digit_count, width, outputs.clone(), here, ends).map(|plan| [plan])
        })?;
        Some(plan)
    }

    /// The plans of a launch, which share a pool, with as many threads as leave memory enough.
    pub(super) fn plans_that_fit<const N: usize>(
        &self,
        plans: impl Fn(u32) -> Option<[Plan; N]>,
    ) -> Option<[Plan; N]> {
        let pool = self.pool?;
        [pool.threads, FEWER_THREADS]
            .into_iter()
            .filter(|threads| *threads <= pool.threads)
            .filter_map(plans)
            .find(|plans| plans[0].pool.bytes <= pool.bytes)
    }

    /// As [`Kernels::product_wave`], of one row, where [`Kernels::serves_product_stream`] says so.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short for the shape.
    ///
    /// # Panics
    /// With no matrix, more than three, or a shape that is not served.
    pub fn product_stream(
        &self,
        input: ProductWave<'_>,
        matrices: &[WaveMatrix<'_>],
    ) -> Result<(), DeviceError> {
        self.stream(None, input, matrices, None)
    }

    /// [`Kernels::norm_quantise`] into `norm` and `input.x`, and the products of what it writes.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short for the shape.
    ///
    /// # Panics
    /// With no matrix, more than three, a norm of another shape, or one that
    /// [`Kernels::serves_norm_product_stream`] does not name.
    pub fn norm_product_stream(
        &self,
        normalised: NormQuantise<'_>,
        norm: View<'_, f32>,
        input: ProductWave<'_>,
        matrices: &[WaveMatrix<'_>],
    ) -> Result<(), DeviceError> {
        self.stream(Some((normalised, norm)), input, matrices, None)
    }

    /// The same for gate and up, and SwiGLU of their products.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short for the shape.
    ///
    /// # Panics
    /// With a norm of another shape, matrices of unlike outputs, a layout of `gated.fixed` that
    /// its field does not name, or what [`Kernels::serves_norm_gate_stream`] does not.
    pub fn norm_gate_stream(
        &self,
        normalised: NormQuantise<'_>,
        norm: View<'_, f32>,
        input: ProductWave<'_>,
        matrices: &[WaveMatrix<'_>; 2],
        gated: Gated<'_>,
    ) -> Result<(), DeviceError> {
        let [gate, up] = matrices.each_ref().map(|matrix| matrix.outputs);
        assert!(gate == up && gate.is_multiple_of(GATED_BLOCK), "{gate} and {up} outputs");
        let layout = (gated.fixed.block, gated.fixed.group);
        assert_eq!(layout, (GATED_BLOCK, 32), "block and group of SwiGLU");
        self.stream(Some((normalised, norm)), input, matrices, Some(gated))
    }

    fn stream(
        &self,
        norm: Option<Norm<'_>>,
        input: ProductWave<'_>,
        matrices: &[WaveMatrix<'_>],
        gated: Option<Gated<'_>>,
    ) -> Result<(), DeviceError> {
        let ProductWave { kind, width, rows, .. } = input;
        let ends = Ends { has_norm: norm.is_some(), is_gated: gated.is_some() };
        let served = self.serves_stream((kind, width, rows), ends);
        assert!(served, "{kind}, {width} values in {rows} rows");
        let outputs = matrices.iter().map(|matrix| matrix.outputs);
        let plan = self.stream_plan(kind, width, outputs, ends).expect("it is served");
        let kernel = super::super::of_type(&self.tuned().product_stream, kind);
        let kernel = &kernel.with_pool(plan.pool);
        let what = (input, [kind; WAVE_MATRICES], matrices);
        let (accesses, arguments) = self.stream_arguments(kernel, plan, norm, what, gated)?;
        let grid = grid(kernel, u64::from(plan.stride), 1)?;
        self.device.launch(kernel, grid, &accesses, &arguments)
    }

    /// What a launch reaches, and its arguments.
    pub(super) fn stream_arguments(
        &self,
        kernel: &Kernel,
        plan: Plan,
        norm: Option<Norm<'_>>,
        (input, kinds, matrices): Products<'_>,
        gated: Option<Gated<'_>>,
    ) -> Result<(Vec<Access>, Arguments), DeviceError> {
        let ProductWave { width, rows, .. } = input;
        let (mut accesses, outputs) =
            self.few_rows(kernel, (input, kinds, matrices), norm.is_none())?;
        let mut arguments = Arguments {
            outputs,
            width,
            stride: plan.stride,
            pool_bytes: plan.pool.bytes,
            threads: plan.pool.threads,
            fixed: FixedPointOut::none(),
            gated_fixed: FixedPointOut::none(),
            ..Arguments::zeroed()
        };
        if let Some((normalised, norm)) = norm {
            let shape = (normalised.width, normalised.rows);
            assert_eq!(shape, (width, rows), "width and rows of the norm");
            accesses.extend(norm_quantise::accesses(&normalised, norm));
            arguments.epsilon = normalised.epsilon;
        }
        if let Some(Gated { out, arrivals, .. }) = gated {
            accesses.push(Access::write("gated", out, u64::from(outputs[0])));
            let count = u64::from(gate_arrivals_count(outputs[0]));
            accesses.push(Access::update("arrivals", arrivals, count));
        }
        let span = |index: usize| accesses.get(index).map_or(Span::zeroed(), Access::span);
        let (weights, out) = ([0, 1, 2].map(span), [3, 4, 5].map(span));
        let [digits, scales, sums, x, branch, weight, stream, norm_span, gated_span, arrivals] =
            [6, 7, 8, 9, 10, 11, 12, 13, 14, 15].map(span);
        if norm.is_some() {
            (accesses, arguments.fixed) =
                self.with_fixed(kernel, accesses, Some(input.x), width, rows)?;
        }
        if let Some(Gated { fixed, .. }) = gated {
            (accesses, arguments.gated_fixed) =
                self.with_fixed(kernel, accesses, Some(fixed), outputs[0], rows)?;
        }
        let spans = Arguments { weights, out, digits, scales, sums, ..arguments };
        let spans = Arguments { x, branch, weight, stream, norm: norm_span, ..spans };
        Ok((accesses, Arguments { gated: gated_span, arrivals, ..spans }))
    }
}
