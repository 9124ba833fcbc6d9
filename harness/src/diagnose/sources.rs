//! Where in the engine a fault of each kind would stand.

use super::operation::{Source, source};
use super::{Evidence, Label};

/// The sources of the engine to read first, from the root of the repository.
pub fn look_at(evidence: &Evidence<'_>, label: Label) -> Vec<&'static str> {
    let operation: &[&str] = match source(evidence) {
        Ok(Source::Embed) => &["engine/kernels/embed.hip", "engine/src/kernels/embed.rs"],
        Ok(Source::Norm { .. }) => &[
            "engine/kernels/rms_norm.hip",
            "engine/src/kernels/rms_norm.rs",
            "engine/kernels/tuned/norm_quantise.hip",
            "engine/kernels/tuned/stream_row.h",
        ],
        Ok(Source::Product { .. }) => &[
            "engine/kernels/product.hip",
            "engine/kernels/product_float.hip",
            "engine/src/kernels/product.rs",
            "engine/kernels/tuned/product_wave.hip",
            "engine/kernels/tuned/product_tiles.hip",
        ],
        Ok(Source::Rope { .. }) => &[
            "engine/kernels/rope.hip",
            "engine/src/llama/rotary.rs",
            "engine/kernels/tuned/rope_kv_write.hip",
        ],
        Ok(Source::Attention { .. }) => &[
            "engine/kernels/attention.hip",
            "engine/src/kernels/attention.rs",
            "engine/kernels/tuned/attention_split.hip",
            "engine/kernels/tuned/attention_tiles.hip",
        ],
        Ok(Source::Swiglu { .. }) => &[
            "engine/kernels/swiglu.hip",
            "engine/src/kernels/swiglu.rs",
            "engine/kernels/tuned/swiglu_quantise.hip",
            "engine/kernels/tuned/stream_gate.h",
        ],
        Ok(Source::Residual { .. }) => {
            &["engine/kernels/residual.hip", "engine/src/kernels/residual.rs"]
        }
        Err(_) => &[],
    };
    let cause = of_cause(evidence, label);
    let special = [Label::Race, Label::MemoryCorruption, Label::WrongEpsilon, Label::WrongMatrix];
    let order = if special.contains(&label) { [cause, operation] } else { [operation, cause] };
    order.concat()
}

/// The sources behind a cause, whatever the operation.
fn of_cause(evidence: &Evidence<'_>, label: Label) -> &'static [&'static str] {
    match label {
        Label::Race => &["engine/src/device/backend.rs", "engine/src/device/buffer.rs"],
        Label::MemoryCorruption | Label::Overlap => {
            &["engine/src/device/buffer.rs", "engine/src/device/launch.rs"]
        }
        Label::NotWritten | Label::Uninitialised => {
            &["engine/src/llama/layer.rs", "engine/src/llama/tuned.rs"]
        }
        Label::WrongLayer | Label::MissingContext => {
            &["engine/src/llama/cache.rs", "engine/src/llama/layer.rs", "engine/src/llama/tuned.rs"]
        }
        Label::Stale => &["engine/src/llama/step.rs", "engine/src/device/graph.rs"],
        Label::WrongInput | Label::MissingTerm | Label::DoubleTerm => {
            &["engine/src/llama/layer.rs", "engine/src/llama/tuned.rs"]
        }
        Label::WrongMatrix => &["engine/src/llama/weights.rs", "engine/src/llama/layer.rs"],
        Label::WrongEpsilon => &["engine/src/llama/config.rs"],
        Label::RotaryPosition | Label::OffByOneLength => &["engine/src/llama/step.rs"],
        Label::Dequantisation => {
            &["engine/kernels/formats.h", "engine/kernels/tuned/tile_formats.h"]
        }
        Label::WeightType => &["engine/src/gguf/types.rs", "engine/src/llama/weights.rs"],
        Label::Rounding | Label::NonFinite => &["engine/kernels/arithmetic.h"],
        Label::WrongRow if evidence.pass_positions.len() > evidence.rows() => {
            &["engine/src/llama/readout.rs", "engine/src/llama/step.rs"]
        }
        Label::ContractionIndex => {
            &["engine/kernels/tuned/tile_steps.h", "engine/kernels/tuned/quantise_rows.hip"]
        }
        Label::Transposed => {
            &["engine/kernels/tuned/tile_sums.h", "engine/kernels/tuned/tile_ends.h"]
        }
        _ => &[],
    }
}
