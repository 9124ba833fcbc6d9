//! Products of the tuned pass, and what stands in front of them: norm, SwiGLU, fixed point.

use super::engine::Engine;
use super::layer::Pass;
use super::tuned::WAVE_ROWS;
use super::weights::Matrix;
use super::workspace::{Activation, FixedBuffers};
use crate::device::{Buffer, DeviceError, View};
use crate::gguf::TensorType;
use crate::kernels::{
    Branch, Gated, NormQuantise, Product, ProductWave, Quantise, SwigluQuantise, WAVE_MATRICES,
    WaveMatrix, split_chunks, split_values,
};

impl Engine {
    /// The norm, which is first completed with a branch, and the products of its result.
    pub(super) fn norm_products_into(
        &self,
        pass: Pass,
        (x, branch): (&Buffer, Option<(&Buffer, &Buffer)>),
        norm: (&Buffer, &Activation),
        matrices: &[(&Matrix, &Buffer)],
    ) -> Result<(), DeviceError> {
        self.norm_products_view_into(pass, (x.all(), branch.map(to_branch)), norm, matrices)
    }

    /// One launch for the norm and the products behind it, as far as they are of one type, or of
    /// two that share a launch, where there is such a kernel.
    pub(super) fn norm_products_view_into(
        &self,
        pass: Pass,
        (x, branch): (View<'_, f32>, Option<Branch<'_>>),
        (weight, norm): (&Buffer, &Activation),
        matrices: &[(&Matrix, &Buffer)],
    ) -> Result<(), DeviceError> {
        let input = self.norm_of(pass, (x, branch), weight);
        let NormQuantise { width, rows, .. } = input;
        let streamed = matrices.first().and_then(|(first, _)| {
            let serves = self.kernels.serves_norm_product_stream(first.kind, width, rows);
            norm.fixed.iter().find(|fixed| serves && fixed.serves(first)).zip(Some(first.kind))
        });
        let Some((fixed, kind)) = streamed else {
            let fixed = layouts(norm, matrices).next();
            let into = fixed.map(FixedBuffers::fixed_point);
            self.kernels.norm_quantise(input, norm.values.all(), into)?;
            self.quantise_for(pass, norm, matrices, fixed)?;
            return self.products_into(pass, norm, matrices);
        };
        let (now, later) = matrices.split_at(same_type(matrices));
        let product = ProductWave { kind, x: fixed.fixed_point(), width, rows };
        let is_q6_k = later.iter().all(|(matrix, _)| matrix.kind == TensorType::Q6K);
        let outputs = [now, later].map(outputs_of);
        let outputs = outputs.each_ref().map(Vec::as_slice);
        let shape = (kind, width, rows);
        if is_q6_k && self.kernels.serves_norm_product_stream_mixed(shape, outputs) {
            let both = [now, later].map(wave_matrices);
            let both = both.each_ref().map(Vec::as_slice);
            self.kernels.norm_product_stream_mixed(input, norm.values.all(), product, both)?;
            return self.quantise_for(pass, norm, matrices, Some(fixed));
        }
        let waves = wave_matrices(now);
        self.kernels.norm_product_stream(input, norm.values.all(), product, &waves)?;
        self.quantise_for(pass, norm, matrices, Some(fixed))?;
        self.products_into(pass, norm, later)
    }

    /// The norm, gate and up, and `swiglu` of them in every layout that the matrices `behind` read:
    /// one launch, where there is such a kernel.
    pub(super) fn norm_gate_into(
        &self,
        pass: Pass,
        x: (&Buffer, Option<(&Buffer, &Buffer)>),
        norm: (&Buffer, &Activation),
        matrices: &[(&Matrix, &Buffer); 2],
        (out, behind): (&Activation, &[(&Matrix, &Buffer)]),
    ) -> Result<(), DeviceError> {
        let [(gate, gate_out), (up, up_out)] = *matrices;
        let shape = (gate.width, gate.outputs);
        let alike = gate.kind == up.kind && shape == (up.width, up.outputs);
        let serves = alike && self.kernels.serves_norm_gate_stream(gate.kind, shape, pass.rows);
        let row = norm.1.fixed.iter().find(|fixed| serves && fixed.serves(gate));
        let whole = |fixed: &&FixedBuffers| (fixed.block, fixed.group) == (256, 32);
        let first = layouts(out, behind).find(whole);
        let Some((row, first)) = row.zip(first) else {
            self.norm_products_into(pass, x, norm, matrices)?;
            return self.gate_into(pass, (gate_out, up_out), out, behind);
        };
        let normalised = self.norm_of(pass, (x.0.all(), x.1.map(to_branch)), norm.0);
        let NormQuantise { width, rows, .. } = normalised;
        let product = ProductWave { kind: gate.kind, x: row.fixed_point(), width, rows };
        let gated = Gated {
            out: out.values.all(),
            fixed: first.fixed_point(),
            arrivals: self.workspace.arrivals.all(),
        };
        let now = matrices.map(wave_matrix);
        self.kernels.norm_gate_stream(normalised, norm.1.values.all(), product, &now, gated)?;
        self.quantise_for(pass, norm.1, matrices, Some(row))?;
        self.quantise_for(pass, out, behind, Some(first))
    }

    fn norm_of<'a>(
        &self,
        pass: Pass,
        (x, branch): (View<'a, f32>, Option<Branch<'a>>),
        weight: &'a Buffer,
    ) -> NormQuantise<'a> {
        let width = u32::try_from(self.config.hidden).expect("sizes were compared with 2^24");
        let (rows, epsilon) = (pass.rows, self.config.epsilon);
        NormQuantise { x, branch, weight: weight.all(), width, rows, epsilon }
    }

    /// `swiglu`, and the same in fixed point in every layout that the matrices read.
    pub(super) fn gate_into(
        &self,
        pass: Pass,
        (gate, up): (&Buffer, &Buffer),
        out: &Activation,
        matrices: &[(&Matrix, &Buffer)],
    ) -> Result<(), DeviceError> {
        let (gate, up, rows) = (gate.all(), up.all(), pass.rows);
        let width = matrices[0].0.width;
        let Some(first) = layouts(out, matrices).next() else {
            return self.kernels.swiglu(gate, up, out.values.all(), rows * width);
        };
        let input = SwigluQuantise { gate, up, width, rows };
        self.kernels.swiglu_quantise(input, out.values.all(), first.fixed_point())?;
        self.quantise_for(pass, out, matrices, Some(first))
    }

    /// Fixed point in the layouts of the matrices but the one that is `done`.
    pub(super) fn quantise_for(
        &self,
        pass: Pass,
        x: &Activation,
        matrices: &[(&Matrix, &Buffer)],
        done: Option<&FixedBuffers>,
    ) -> Result<(), DeviceError> {
        let left = |fixed: &&FixedBuffers| !done.is_some_and(|done| std::ptr::eq(done, *fixed));
        for fixed in layouts(x, matrices).filter(left) {
            let input = Quantise { x: x.values.all(), width: matrices[0].0.width, rows: pass.rows };
            self.kernels.quantise_rows(input, fixed.fixed_point())?;
        }
        Ok(())
    }

    /// Products of one activation, which is there in fixed point, with several matrices.
    pub(super) fn products_into(
        &self,
        pass: Pass,
        x: &Activation,
        matrices: &[(&Matrix, &Buffer)],
    ) -> Result<(), DeviceError> {
        let mut rest = matrices;
        while let Some(((first, _), _)) = rest.split_first() {
            let (now, later) = rest.split_at(same_type(rest));
            match x.fixed.iter().find(|fixed| fixed.serves(first)) {
                None => {
                    for (matrix, out) in now {
                        self.product(pass, x, matrix, out.all())?;
                    }
                }
                Some(fixed) if pass.rows <= WAVE_ROWS => self.wave_products(pass, fixed, now)?,
                Some(fixed) => self.many_products(pass, fixed, now)?,
            }
            rest = later;
        }
        Ok(())
    }

    fn wave_products(
        &self,
        pass: Pass,
        fixed: &FixedBuffers,
        matrices: &[(&Matrix, &Buffer)],
    ) -> Result<(), DeviceError> {
        let Matrix { kind, width, .. } = matrices[0].0;
        let x = fixed.fixed_point();
        let input = ProductWave { kind: *kind, x, width: *width, rows: pass.rows };
        let matrices = wave_matrices(matrices);
        if self.kernels.serves_product_stream(*kind, *width, pass.rows) {
            return self.kernels.product_stream(input, &matrices);
        }
        self.kernels.product_wave(input, &matrices)
    }

    fn many_products(
        &self,
        pass: Pass,
        fixed: &FixedBuffers,
        matrices: &[(&Matrix, &Buffer)],
    ) -> Result<(), DeviceError> {
        for (matrix, out) in matrices {
            let Matrix { buffer, kind, outputs, width } = matrix;
            let (weights, x, rows) = (buffer.all(), fixed.fixed_point(), pass.rows);
            let (kind, outputs, width) = (*kind, *outputs, *width);
            let input = Product { weights, kind, x, outputs, width, rows };
            let workspace = self.workspace.split.all::<f32>();
            let split = split_chunks(&input, self.kernels.multiprocessors());
            match split.filter(|_| split_values(&input) <= workspace.count()) {
                Some(chunks) => {
                    self.kernels.product_tiles_split(input, chunks, workspace, out.all())?;
                }
                None => self.kernels.product_tiles(input, out.all())?,
            }
        }
        Ok(())
    }
}

/// How many of the first matrices are of one type and share a launch.
fn same_type(matrices: &[(&Matrix, &Buffer)]) -> usize {
    let kind = matrices[0].0.kind;
    let same = matrices.iter().take_while(|(matrix, _)| matrix.kind == kind);
    same.count().min(WAVE_MATRICES)
}

/// A branch, and where its sum with the stream goes.
fn to_branch<'a>((branch, stream): (&'a Buffer, &'a Buffer)) -> Branch<'a> {
    Branch { branch: branch.all(), stream: stream.all() }
}

fn wave_matrix<'a>((matrix, out): (&'a Matrix, &'a Buffer)) -> WaveMatrix<'a> {
    WaveMatrix { weights: matrix.buffer.all(), outputs: matrix.outputs, out: out.all() }
}

fn outputs_of(matrices: &[(&Matrix, &Buffer)]) -> Vec<u32> {
    matrices.iter().map(|(matrix, _)| matrix.outputs).collect()
}

fn wave_matrices<'a>(matrices: &[(&'a Matrix, &'a Buffer)]) -> Vec<WaveMatrix<'a>> {
    matrices.iter().copied().map(wave_matrix).collect()
}

/// The layouts of fixed point that these matrices read an activation in, each once.
pub(super) fn layouts<'a>(
    x: &'a Activation,
    matrices: &[(&Matrix, &Buffer)],
) -> impl Iterator<Item = &'a FixedBuffers> + use<'a> {
    let serves = |fixed: &&FixedBuffers| matrices.iter().any(|(matrix, _)| fixed.serves(matrix));
    x.fixed.iter().filter(serves).collect::<Vec<_>>().into_iter()
}
