//! Products of activation rows with whole matrices: tiles of tokens, panels in parallel.

use std::marker::PhantomData;

use rayon::prelude::*;

use super::panels::{self, FloatPanels, Format, Panels};
use super::product::PanelProduct;
use super::product_float::FloatPanelProduct;
use super::quantise::FixedPoint;
use super::simd::{LANES, Level};
use crate::{Activations, WeightType};

/// Tokens that share one pass over a panel.
const TILE: usize = 4;

/// A matrix ready for products.
pub(crate) struct Matrix {
    pub(super) rows: usize,
    pub(super) columns: usize,
    weights: Weights,
}

enum Weights {
    Quantised(Panels),
    Float(FloatPanels),
}

impl Matrix {
    /// Takes the bytes of a GGUF tensor of `rows` rows with `columns` values.
    pub(super) fn new(kind: WeightType, bytes: &[u8], rows: usize, columns: usize) -> Self {
        let weights = match kind.block_values() {
            1 => Weights::Float(FloatPanels::pack(kind, bytes, rows, columns)),
            _ => Weights::Quantised(Panels::pack(kind, bytes, rows, columns)),
        };
        Self { rows, columns, weights }
    }

    /// How many activations share a scale; 1 where they stay floats.
    fn block(&self) -> usize {
        match &self.weights {
            Weights::Quantised(panels) => panels.kind.block_values(),
            Weights::Float(_) => 1,
        }
    }

    fn panels(&self) -> usize {
        self.rows.div_ceil(LANES)
    }
}

/// The activations of a product in every form that its matrices read.
struct Inputs<'a, const D: usize> {
    x: &'a [f32],
    columns: usize,
    tokens: usize,
    by_32: Option<FixedPoint<D>>,
    by_256: Option<FixedPoint<D>>,
}

impl<'a, const D: usize> Inputs<'a, D> {
    fn new(level: Level, x: &'a [f32], matrices: &[&Matrix]) -> Self {
        let columns = matrices[0].columns;
        let fixed = |block| {
            let wanted = matrices.iter().any(|matrix| matrix.block() == block);
            wanted.then(|| FixedPoint::new(level, x, columns, block))
        };
        let tokens = x.len() / columns;
        Self { x, columns, tokens, by_32: fixed(32), by_256: fixed(256) }
    }

    fn row(&self, token: usize) -> &'a [f32] {
        &self.x[token * self.columns..][..self.columns]
    }
}

/// `matrix · x` for every row of `x` and every matrix: one result a matrix, row after row.
///
/// The results come in one buffer, one after the other.
pub(super) fn products(
    level: Level,
    activations: Activations,
    x: &[f32],
    matrices: &[&Matrix],
) -> Vec<f32> {
    match activations {
        Activations::I24 => products_of::<3>(level, x, matrices),
        Activations::I16 => products_of::<2>(level, x, matrices),
        Activations::I8 => products_of::<1>(level, x, matrices),
    }
}

fn products_of<const D: usize>(level: Level, x: &[f32], matrices: &[&Matrix]) -> Vec<f32> {
    let inputs = Inputs::<D>::new(level, x, matrices);
    let panels: usize = matrices.iter().map(|matrix| matrix.panels()).sum();
    // Panel after panel, so that each can be written by another thread.
    let mut by_panel = vec![[0.0; LANES]; panels * inputs.tokens];
    by_panel.par_chunks_mut(inputs.tokens).enumerate().for_each(|(mut index, out)| {
        for matrix in matrices {
            if index < matrix.panels() {
                return panel_product(level, &inputs, matrix, index, out);
            }
            index -= matrix.panels();
        }
    });
    in_rows(&by_panel, inputs.tokens, matrices)
}

/// Brings results from panel order into row order.
fn in_rows(by_panel: &[[f32; LANES]], tokens: usize, matrices: &[&Matrix]) -> Vec<f32> {
    let rows: usize = matrices.iter().map(|matrix| matrix.rows).sum();
    let mut out = vec![0.0; rows * tokens];
    let (mut rest, mut source) = (out.as_mut_slice(), by_panel);
    for matrix in matrices {
        let (segment, after) = rest.split_at_mut(matrix.rows * tokens);
        let (panels, others) = source.split_at(matrix.panels() * tokens);
        segment.par_chunks_mut(matrix.rows).enumerate().for_each(|(token, row)| {
            for (panel, values) in row.chunks_mut(LANES).enumerate() {
                values.copy_from_slice(&panels[panel * tokens + token][..values.len()]);
            }
        });
        (rest, source) = (after, others);
    }
    out
}

/// One panel times every token.
fn panel_product<const D: usize>(
    level: Level,
    inputs: &Inputs<'_, D>,
    matrix: &Matrix,
    panel: usize,
    out: &mut [[f32; LANES]],
) {
    let panels = match &matrix.weights {
        Weights::Float(panels) => return float_panel(level, inputs, panels, panel, out),
        Weights::Quantised(panels) => panels,
    };
    match panels.kind {
        WeightType::Q4_0 => quantised_panel::<panels::Q4_0, D>(level, inputs, panels, panel, out),
        WeightType::Q4_1 => quantised_panel::<panels::Q4_1, D>(level, inputs, panels, panel, out),
        WeightType::Q5_0 => quantised_panel::<panels::Q5_0, D>(level, inputs, panels, panel, out),
        WeightType::Q5_1 => quantised_panel::<panels::Q5_1, D>(level, inputs, panels, panel, out),
        WeightType::Q8_0 => quantised_panel::<panels::Q8_0, D>(level, inputs, panels, panel, out),
        WeightType::Q2K => quantised_panel::<panels::Q2K, D>(level, inputs, panels, panel, out),
        WeightType::Q3K => quantised_panel::<panels::Q3K, D>(level, inputs, panels, panel, out),
        WeightType::Q4K => quantised_panel::<panels::Q4K, D>(level, inputs, panels, panel, out),
        WeightType::Q5K => quantised_panel::<panels::Q5K, D>(level, inputs, panels, panel, out),
        WeightType::Q6K => quantised_panel::<panels::Q6K, D>(level, inputs, panels, panel, out),
        WeightType::F32 | WeightType::F16 | WeightType::Bf16 => {
            unreachable!("float matrices have float panels")
        }
    }
}

fn quantised_panel<F: Format, const D: usize>(
    level: Level,
    inputs: &Inputs<'_, D>,
    panels: &Panels,
    panel: usize,
    out: &mut [[f32; LANES]],
) {
    let fixed = if F::VALUES == 32 { &inputs.by_32 } else { &inputs.by_256 };
    let fixed = fixed.as_ref().expect("converted for every block size of the matrices");
    let (lines, format) = (panels.panel(panel), PhantomData::<F>);
    let (tiles, rest) = out.as_chunks_mut::<TILE>();
    let rest_at = tiles.len() * TILE;
    for (tile, out) in tiles.iter_mut().enumerate() {
        let rows = std::array::from_fn(|index| fixed.row(tile * TILE + index));
        *out = level.run(PanelProduct { lines, rows, format });
    }
    for (index, out) in rest.iter_mut().enumerate() {
        let rows = [fixed.row(rest_at + index)];
        [*out] = level.run(PanelProduct { lines, rows, format });
    }
}

fn float_panel<const D: usize>(
    level: Level,
    inputs: &Inputs<'_, D>,
    panels: &FloatPanels,
    panel: usize,
    out: &mut [[f32; LANES]],
) {
    let (lines, kind) = (panels.panel(panel), panels.kind);
    let (tiles, rest) = out.as_chunks_mut::<TILE>();
    let rest_at = tiles.len() * TILE;
    for (tile, out) in tiles.iter_mut().enumerate() {
        let rows = std::array::from_fn(|index| inputs.row(tile * TILE + index));
        *out = level.run(FloatPanelProduct { kind, lines, rows });
    }
    for (index, out) in rest.iter_mut().enumerate() {
        let rows = [inputs.row(rest_at + index)];
        [*out] = level.run(FloatPanelProduct { kind, lines, rows });
    }
}
