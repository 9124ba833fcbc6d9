//! What each operation reads: rows of other taps, and a tensor of the file.

use std::ops::Range;

use super::kept::Kept;
use crate::sides::question::OperationInputs;

/// An input by its name in [`OperationInputs`], and the tap and layer whose rows it is.
type Source = (&'static str, &'static str, Option<usize>);

/// Taps whose columns are heads.
const HEADS: [&str; 8] = ["q", "k", "v", "q_rope", "k_rope", "keys", "values", "attn_out"];

/// Whether the columns of a tap are heads.
pub fn has_heads(tap: &str) -> bool {
    HEADS.contains(&tap)
}

/// The rows that the operation of a tap reads, and those that a launch reads which does it together
/// with its neighbours.
fn sources(tap: &str, layer: Option<usize>, layers: usize) -> Vec<Source> {
    let index = layer.unwrap_or(layers.saturating_sub(1));
    let before = index.checked_sub(1);
    // The stream at the start of a layer.
    let stream = match before {
        Some(before) => ("ffn_residual", Some(before)),
        None => ("embed", None),
    };
    let own = |name: &'static str| (name, name, layer);
    let mut found: Vec<Source> = match tap {
        "attn_norm" | "q" | "k" | "v" => {
            let mut found = vec![("stream", stream.0, stream.1), own("attn_norm")];
            if before.is_some() {
                found.push(("before", "attn_residual", before));
                found.push(("branch", "down", before));
            }
            found
        }
        "q_rope" | "k_rope" => vec![own("q"), own("k"), own("v")],
        "keys" | "values" => vec![own("q"), own("k"), own("v"), own("k_rope")],
        "attn_out" => vec![own("q_rope")],
        "wo" => vec![own("q_rope"), own("attn_out")],
        "attn_residual" => vec![("before", stream.0, stream.1), ("branch", "wo", layer)],
        "ffn_norm" | "gate" | "up" => vec![
            ("before", stream.0, stream.1),
            ("branch", "wo", layer),
            ("stream", "attn_residual", layer),
            own("ffn_norm"),
        ],
        "swiglu" | "down" => vec![own("gate"), own("up"), own("swiglu")],
        "ffn_residual" => vec![("before", "attn_residual", layer), ("branch", "down", layer)],
        "final_norm" => vec![("stream", "ffn_residual", Some(index))],
        "logits" => vec![("stream", "ffn_residual", Some(index)), own("final_norm")],
        _ => Vec::new(),
    };
    // Nothing reads itself, nor what comes after it.
    found.retain(|(name, ..)| *name != tap);
    found
}

/// Collects the inputs of an operation from the reference's rows.
pub fn inputs(
    kept: &Kept,
    (tap, layer): (&str, Option<usize>),
    layers: usize,
    (positions, tokens): (Range<usize>, &[u32]),
) -> OperationInputs {
    let mut inputs = OperationInputs {
        first_position: positions.start,
        tokens: tokens.to_vec(),
        ..OperationInputs::default()
    };
    for (name, source, layer) in sources(tap, layer, layers) {
        // One that was not kept is missed by the operation that needs it, by name.
        if let Some(rows) = kept.rows(source, layer, positions.clone()) {
            inputs.tensors.insert(name.to_owned(), rows);
        }
    }
    if matches!(tap, "attn_out" | "wo") {
        for (name, source) in [("keys", "k_rope"), ("values", "v")] {
            if let Some(rows) = kept.rows(source, layer, 0..positions.end) {
                inputs.tensors.insert(name.to_owned(), rows);
            }
        }
    }
    inputs
}

/// The tensor of the file that an operation reads.
pub fn weight(tap: &str, layer: Option<usize>, tied: bool) -> Option<String> {
    let stem = match tap {
        "embed" => return Some("token_embd.weight".to_owned()),
        "final_norm" => return Some("output_norm.weight".to_owned()),
        "logits" if tied => return Some("token_embd.weight".to_owned()),
        "logits" => return Some("output.weight".to_owned()),
        "attn_norm" | "ffn_norm" => tap,
        "q" => "attn_q",
        "k" => "attn_k",
        "v" => "attn_v",
        "wo" => "attn_output",
        "gate" => "ffn_gate",
        "up" => "ffn_up",
        "down" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{}.{stem}.weight", layer?))
}

/// The kernel that computes a tap, for those who have to look at it.
pub fn kernel(tap: &str) -> &'static str {
    match tap {
        "embed" => "engine/kernels/embed.hip",
        "attn_norm" | "ffn_norm" | "final_norm" => "engine/kernels/rms_norm.hip",
        "q_rope" | "k_rope" => "engine/kernels/rope.hip",
        "keys" | "values" => "engine/kernels/kv_write.hip",
        "attn_out" => "engine/kernels/attention.hip",
        "attn_residual" | "ffn_residual" => "engine/kernels/residual.hip",
        "swiglu" => "engine/kernels/swiglu.hip",
        _ => "engine/kernels/product.hip",
    }
}
