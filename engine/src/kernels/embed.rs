//! embed: rows of the token table as f32, `out[row] = table[tokens[row]]`.

use super::{Kernels, grid, of_type};
use crate::device::{Access, Device, DeviceError, Kernel, Span, View};
use crate::gguf::TensorType;
use bytemuck::{Pod, Zeroable};

/// Columns one block of threads writes; `EMBED_COLUMNS` in embed.hip.
const COLUMNS: u64 = 256;

const NAMES: [(TensorType, &str); 13] = [
    (TensorType::F32, "embed_f32"),
    (TensorType::F16, "embed_f16"),
    (TensorType::Bf16, "embed_bf16"),
    (TensorType::Q4_0, "embed_q4_0"),
    (TensorType::Q4_1, "embed_q4_1"),
    (TensorType::Q5_0, "embed_q5_0"),
    (TensorType::Q5_1, "embed_q5_1"),
    (TensorType::Q8_0, "embed_q8_0"),
    (TensorType::Q2K, "embed_q2_k"),
    (TensorType::Q3K, "embed_q3_k"),
    (TensorType::Q4K, "embed_q4_k"),
    (TensorType::Q5K, "embed_q5_k"),
    (TensorType::Q6K, "embed_q6_k"),
];

/// `EmbedArguments` in arguments.h.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    table: Span,
    tokens: Span,
    out: Span,
    hidden: u32,
    rows: u32,
}

/// Inputs of [`Kernels::embed`].
#[derive(Clone, Copy, Debug)]
pub struct Embed<'a> {
    /// `[vocabulary]` rows of `kind`, as in the file.
    pub table: View<'a, u8>,
    /// Type of the table.
    pub kind: TensorType,
    /// `[rows]`, each below `vocabulary`.
    pub tokens: View<'a, u32>,
    /// Rows of the table.
    pub vocabulary: u32,
    /// Values in a row.
    pub hidden: u32,
    /// Tokens to look up.
    pub rows: u32,
}

pub(super) fn load(device: &Device) -> Result<Vec<(TensorType, Kernel)>, DeviceError> {
    NAMES.iter().map(|(kind, name)| Ok((*kind, device.kernel::<Arguments>(name)?))).collect()
}

impl Kernels {
    /// `out[rows][hidden]`. The caller has compared every token with `vocabulary`.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short for the shape.
    pub fn embed(&self, input: Embed<'_>, out: View<'_, f32>) -> Result<(), DeviceError> {
        let Embed { table, kind, tokens, vocabulary, hidden, rows } = input;
        let kernel = of_type(&self.embed, kind);
        let row_bytes = u64::from(hidden) / kind.block_values() * kind.block_bytes();
        let accesses = [
            Access::read("table", table, u64::from(vocabulary) * row_bytes),
            Access::read("tokens", tokens, u64::from(rows)),
            Access::write("out", out, u64::from(rows) * u64::from(hidden)),
        ];
        let [table, tokens, out] = [0, 1, 2].map(|index: usize| accesses[index].span());
        let arguments = Arguments { table, tokens, out, hidden, rows };
        let grid = grid(kernel, u64::from(hidden).div_ceil(COLUMNS), u64::from(rows))?;
        self.device.launch(kernel, grid, &accesses, &arguments)
    }
}
